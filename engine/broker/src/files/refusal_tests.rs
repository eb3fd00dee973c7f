//! Files that can't be made, and those of topics that go.

use alloc::vec::Vec;

use cutwater_model::DirName;
use cutwater_model::storage::StorageErrorKind;
use cutwater_model::topic::TopicConfig;
use cutwater_model::{PartitionId, PartitionIndex};

use super::RETRY_US;
use crate::Effect;
use crate::test_rig::{Held, Rig, batch_of};

/// What is under way comes back, of one kind as failed; what follows from that is not done yet. Says how many failed.
fn step_failing(rig: &mut Rig, is_refused: fn(&Held) -> bool) -> u64 {
    let mut failures = 0;
    rig.deliver();
    for _ in 0..rig.held.len() {
        let is_next_refused = rig.held.first().is_some_and(is_refused);
        if is_next_refused {
            rig.fail(Held::anything, StorageErrorKind::Device);
            failures += 1;
        } else {
            rig.complete(Held::anything);
        }
    }
    failures
}

/// One second in short steps; how many operations failed.
fn failures_of_a_second(rig: &mut Rig, is_refused: fn(&Held) -> bool) -> u64 {
    let one = |_| {
        rig.wait_us(1000);
        step_failing(rig, is_refused)
    };
    (0..1000).map(one).sum()
}

#[test]
fn what_the_disk_refuses_is_asked_for_again_but_not_at_once() {
    let tries_max = 1_000_000 / RETRY_US + 2;
    for (what, is_refused) in
        [("journal file", Held::makes_journal_file as fn(&Held) -> bool), ("folder", Held::makes_folder)]
    {
        let mut rig = Rig::begin(|plan| plan.make_large(1, 1));
        for _ in 0..100 {
            step_failing(&mut rig, is_refused);
            rig.turn();
        }
        let tries = failures_of_a_second(&mut rig, is_refused);
        assert!((1..=tries_max).contains(&tries), "a {what} was tried {tries} times in a second");
        // When the disk takes it the partition opens, and appends that waited are answered.
        let waiting = rig.produce(&batch_of(100));
        rig.wait_us(RETRY_US);
        rig.complete_all();
        assert_eq!(rig.produced(waiting), Some(Ok(0)));
    }
}

#[test]
fn a_stop_waits_for_the_journal_file_that_it_needs() {
    const BATCHES: usize = 60;
    let mut rig = Rig::begin(|plan| plan.make_large(1, 1));
    // The partition opens meanwhile.
    for _ in 0..100 {
        rig.wait_us(RETRY_US / 10);
        step_failing(&mut rig, Held::makes_journal_file);
    }
    // More than the one file there is can hold. What else the disk was asked for it was asked for again meanwhile.
    for _ in 0..BATCHES {
        rig.produce(&batch_of(50_000));
        rig.wait_us(RETRY_US);
        for _ in 0..10 {
            step_failing(&mut rig, Held::makes_journal_file);
        }
    }
    assert!(rig.seats[0].shard.commit.is_full && rig.held.is_empty());
    assert!((1..BATCHES).contains(&rig.answered().len()), "some found room");
    rig.stop();
    let mut waited_us = 0;
    while !rig.seats[0].has_stopped {
        rig.wait_us(RETRY_US / 10);
        rig.step();
        waited_us += RETRY_US / 10;
        assert!(waited_us < 20 * RETRY_US, "it does not stop");
    }
    assert_eq!(rig.answered().len(), BATCHES, "each was answered");
}

#[test]
fn a_deleted_topic_takes_its_folders_along_and_holds_up_nobody() {
    let mut rig = Rig::with(|plan| plan.make_large(2, 5));
    for _ in 0..2 {
        for index in 0..5 {
            rig.produce_to(rig.partition(index), &batch_of(200_000));
        }
    }
    rig.complete_all();
    // The second shard takes longer, so that the first one finds its partitions in the topic's folder.
    let is_late = |held: &Held| {
        held.shard == 1 && matches!(held.effect, Effect::Remove { .. } | Effect::RemoveDir { .. })
    };
    rig.delete_topic(rig.topic);
    for _ in 0..10 {
        rig.complete_all_but(is_late);
    }
    assert!(rig.disk.refused_removals.contains(&DirName::Topic(rig.topic)));
    // That is no reason to ask for other files later.
    let topic = rig.create_topic("next", 2, TopicConfig::default());
    let tickets = [0, 1]
        .map(|index| rig.produce_to(PartitionId { topic, index: PartitionIndex(index) }, &batch_of(100)));
    rig.complete_all_but(is_late);
    assert_eq!(tickets.map(|ticket| rig.produced(ticket)), [Some(Ok(0)); 2], "at once");

    for _ in 0..20 {
        rig.wait_us(1_000_000);
        rig.complete_all();
    }
    let deleted = rig.topic;
    let is_its = |dir: DirName| matches!(dir, DirName::Partition(id) if id.topic == deleted);
    let left: Vec<_> = rig.disk.names().filter(|file| is_its(file.dir())).collect();
    assert!(left.is_empty(), "{left:?}");
    let refused = rig.disk.refused_removals.iter().filter(|dir| is_its(**dir));
    assert_eq!(refused.count(), 0, "the folder of a partition is empty when it goes");
}
