//! Which files a start removes, and which it leaves.

use alloc::vec::Vec;

use cutwater_api::{RequiredAcks, Response};
use cutwater_metadata::{Command, Controller, Identity};
use cutwater_model::topic::TopicConfig;
use cutwater_model::{FileName, Offset, PartitionId, PartitionIndex, TopicId};

use crate::test_node::{CONNECTION, TestNode, batch_of, bytes_of};

const LEFT_BYTES: usize = 8192;

fn node_with_records() -> TestNode {
    let mut node = TestNode::with_partitions(2, 4, TopicConfig::default());
    for seat in 0..2 {
        for index in 0..3 {
            let partition = node.partition(index);
            node.produce(seat, partition, RequiredAcks::All, &batch_of(1000));
        }
    }
    node.settle();
    node
}

fn segment(partition: PartitionId, base: i64) -> FileName {
    FileName::Segment { partition, base: Offset(base) }
}

fn index(partition: PartitionId, base: i64) -> FileName {
    FileName::Index { partition, base: Offset(base) }
}

#[test]
fn what_no_partition_names_is_told_at_the_next_start_and_goes_only_where_it_can_be_made_again() {
    let mut node = node_with_records();
    let before: Vec<FileName> = node.disk.files.keys().copied().collect();
    let written = node.partition(0);
    let never_written = node.partition(3);
    let stray = index(written, 77);
    // It may be in the checkpoint of another shard that has not been asked yet.
    let elsewhere = index(never_written, 0);
    let unknown = PartitionId { topic: TopicId(0xbad), index: PartitionIndex(0) };
    let segments = [segment(written, 77), segment(never_written, 77), segment(unknown, 0)];
    for file in segments.into_iter().chain([stray, elsewhere]) {
        node.disk.files.insert(file, alloc::vec![1; LEFT_BYTES]);
    }
    let (node, notes) = node.restart();
    let notes = notes.join("\n");
    assert!(!node.disk.files.contains_key(&stray), "{stray} can be made again");
    for file in segments.into_iter().chain([elsewhere]) {
        assert!(node.disk.files.contains_key(&file), "{file} is left alone");
    }
    for file in before {
        assert!(node.disk.files.contains_key(&file), "{file}");
    }
    assert!(notes.contains("removed"), "{notes}");
    assert!(notes.contains("topics/00000000000000000000000000000bad"), "{notes}");
    assert!(notes.contains(&alloc::format!("{}", segments[0])) && notes.contains("left alone"), "{notes}");
    reads_back(node);
}

#[test]
fn a_deletion_that_a_crash_interrupted_is_carried_on() {
    let mut node = node_with_records();
    let identity = Identity { cluster: 1, node: 1 };
    let (mut controller, _) = Controller::open(&mut node.disk, None, identity, 2).unwrap();
    let topic = node.topic;
    controller.apply(&mut node.disk, &Command::DeleteTopic { topic }, TopicId(0)).unwrap();
    assert!(node.disk.files.keys().any(|file| matches!(file, FileName::Segment { .. })));
    let (node, _) = node.restart();
    let of_topic = |file: &&FileName| matches!(file, FileName::Segment { .. } | FileName::Index { .. });
    let left: Vec<_> = node.disk.files.keys().filter(of_topic).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn reads_back(mut node: TestNode) {
    for seat in 0..2 {
        for partition in 0..3 {
            let partition = node.partition(partition);
            node.fetch(seat, CONNECTION, &[partition], 1 << 20);
            node.settle();
            let taken = node.take_replies(seat);
            let [(_, Response::Fetched(fetched))] = &taken[..] else { panic!("{taken:?}") };
            assert_eq!(bytes_of(fetched), 2 * batch_of(1000).len());
        }
    }
}
