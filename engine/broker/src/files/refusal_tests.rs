//! Files that can't be made, and those of topics that go.

use alloc::sync::Arc;

use cutwater_api::RequiredAcks;
use cutwater_metadata::{Command, Controller, Identity};
use cutwater_model::storage::StorageErrorKind;
use cutwater_model::topic::TopicConfig;
use cutwater_model::{DirName, FileName, TopicId};

use super::RETRY_US;
use crate::Input;
use crate::effect::Effect;
use crate::test_node::{TestNode, batch_of};

/// One second in short steps; how many operations failed.
fn failures_of_a_second(node: &mut TestNode) -> u64 {
    let before = node.failures;
    for _ in 0..1000 {
        node.pass(1000);
        node.turn();
    }
    node.failures - before
}

fn journal_fails(effect: &Effect) -> Option<StorageErrorKind> {
    let is_journal = matches!(effect, Effect::Create { file: FileName::Journal { .. }, .. });
    is_journal.then_some(StorageErrorKind::Device)
}

fn folder_fails(effect: &Effect) -> Option<StorageErrorKind> {
    matches!(effect, Effect::CreateDir { .. }).then_some(StorageErrorKind::Device)
}

#[test]
fn what_the_disk_refuses_is_asked_for_again_but_not_at_once() {
    let tries_max = 1_000_000 / RETRY_US + 2;
    let mut node = TestNode::begin(1, 1, TopicConfig::default(), Some(journal_fails));
    let tries = failures_of_a_second(&mut node);
    assert!((1..=tries_max).contains(&tries), "a journal file was tried {tries} times in a second");

    let mut node = TestNode::begin(1, 1, TopicConfig::default(), Some(folder_fails));
    node.fails = Some(folder_fails);
    for _ in 0..100 {
        node.turn();
    }
    let tries = failures_of_a_second(&mut node);
    assert!((1..=tries_max).contains(&tries), "a folder was tried {tries} times in a second");
    // When the disk takes it the partition opens, and appends that waited are answered.
    node.fails = None;
    let partition = node.partition(0);
    node.produce(0, partition, RequiredAcks::All, &batch_of(100));
    node.pass(RETRY_US);
    node.settle();
    assert_eq!(node.seats[0].acks.len(), 1);
}

#[test]
fn a_stop_waits_for_the_journal_file_that_it_needs() {
    const BATCHES: usize = 60;
    let mut node = TestNode::begin(1, 1, TopicConfig::default(), Some(journal_fails));
    for _ in 0..100 {
        node.turn();
    }
    // More than the one file there is can hold.
    let partition = node.partition(0);
    for _ in 0..BATCHES {
        node.produce(0, partition, RequiredAcks::All, &batch_of(50_000));
        node.turn();
    }
    node.fails = None;
    node.hand(0, Input::Stop);
    let mut waited_us = 0;
    while !node.seats[0].has_stopped {
        node.pass(RETRY_US / 10);
        node.turn();
        waited_us += RETRY_US / 10;
        assert!(waited_us < 20 * RETRY_US, "it does not stop");
    }
    assert_eq!(node.seats[0].acks.len(), BATCHES, "each was answered");
}

#[test]
fn a_deleted_topic_takes_its_folders_along_and_holds_up_nobody() {
    let mut node = TestNode::with_partitions(2, 5, TopicConfig::default());
    for seat in 0..2 {
        for index in 0..5 {
            let partition = node.partition(index);
            node.produce(seat, partition, RequiredAcks::All, &batch_of(200_000));
        }
    }
    node.settle();
    let identity = Identity { cluster: 1, node: 1 };
    let (mut controller, _) = Controller::open(&mut node.disk, None, identity, 2).unwrap();
    let topic = node.topic;
    controller.apply(&mut node.disk, &Command::DeleteTopic { topic }, TopicId(0)).unwrap();
    let create = Command::CreateTopic { name: "next", partitions: 2, config: TopicConfig::default() };
    for seat in 0..2 {
        node.hand(seat, Input::Metadata(Arc::clone(controller.image())));
    }
    for _ in 0..20 {
        node.pass(1_000_000);
        node.settle();
    }
    let left: alloc::vec::Vec<_> =
        node.disk.files.keys().filter(|file| matches!(file.dir(), DirName::Partition(_))).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(node.dirs_not_empty, 0, "the folder of a partition is empty when it goes");
    // Nothing waits because a folder had other partitions in it.
    controller.apply(&mut node.disk, &create, TopicId(43)).unwrap();
    node.topic = TopicId(43);
    for seat in 0..2 {
        node.seats[seat].acks.clear();
        node.hand(seat, Input::Metadata(Arc::clone(controller.image())));
        let partition = node.partition_of(seat);
        node.produce(seat, partition, RequiredAcks::All, &batch_of(100));
    }
    node.settle();
    assert!(node.seats.iter().all(|seat| seat.acks.len() == 1), "at once");
}
