//! Space on the file system: a full one refuses, and only where space is needed; when it returns, appends go on (E3).

use alloc::vec::Vec;

use cutwater_model::storage::StorageErrorKind;
use cutwater_model::topic::TopicConfig;
use cutwater_model::{ErrorKind, PartitionId, PartitionIndex};

use crate::test_rig::{Held, Rig, batch, batch_of};

/// Everything but the making of space goes on, and that fails.
fn go_on_without_space(rig: &mut Rig) {
    for _ in 0..10 {
        rig.complete_all_but(Held::makes_space);
        while rig.count(Held::makes_space) > 0 {
            rig.fail(Held::makes_space, StorageErrorKind::Full);
        }
    }
}

#[test]
fn a_full_disk_refuses_where_space_is_needed_and_appends_go_on_when_it_returns() {
    let mut rig = Rig::with(|plan| plan.partitions = 2);
    rig.produce_to(rig.partition(1), &batch(1));
    rig.complete_all();
    let mut accepted = 0;
    let refused = loop {
        let ticket = rig.produce(&batch_of(10_000));
        go_on_without_space(&mut rig);
        match rig.produced(ticket) {
            Some(Ok(offset)) => assert_eq!(offset, accepted),
            refused => break refused,
        }
        accepted += 1;
        assert!(accepted < 1000, "the segment can't grow");
    };
    assert_eq!(refused, Some(Err(ErrorKind::DiskFull)));
    let elsewhere = rig.produce_to(rig.partition(1), &batch(1));
    go_on_without_space(&mut rig);
    assert_eq!(rig.produced(elsewhere), Some(Ok(1)), "it has its space");
    assert_eq!(rig.read_all(rig.partition(0)).len(), accepted as usize);

    // Space returns.
    rig.wait_us(600_000);
    rig.complete_all();
    let again = rig.produce(&batch_of(10_000));
    rig.complete_all();
    assert_eq!(rig.produced(again), Some(Ok(accepted)));
    // More than there is space for now: what is over waits for it and is not refused.
    let more: Vec<_> = (1..=30).map(|_| rig.produce(&batch_of(10_000))).collect();
    rig.complete_all();
    assert!(more.iter().all(|ticket| rig.produced(*ticket).unwrap().is_ok()));
    rig.crash_and_restart();
    let all: Vec<i64> = (0..=accepted + 30).collect();
    assert_eq!(rig.read_all(rig.partition(0)), all);
}

#[test]
fn a_checkpoint_of_what_was_accepted_needs_no_more_space() {
    let mut rig = Rig::new();
    let mut accepted = 0;
    loop {
        let ticket = rig.produce(&batch_of(10_000));
        go_on_without_space(&mut rig);
        if rig.produced(ticket) != Some(Ok(accepted)) {
            break;
        }
        accepted += 1;
    }
    rig.want_checkpoint(0);
    go_on_without_space(&mut rig);
    assert_eq!(rig.seats[0].shard.counters().checkpoints, 1, "what was accepted has its space (S4)");
}

#[test]
fn the_first_file_of_a_topic_refused_for_space_is_made_later() {
    let mut rig = Rig::new();
    let topic = rig.create_topic("second", 1, TopicConfig::default());
    let partition = PartitionId { topic, index: PartitionIndex(0) };
    let waiting = rig.produce_to(partition, &batch(1));
    go_on_without_space(&mut rig);
    assert_eq!(rig.produced(waiting), Some(Err(ErrorKind::DiskFull)));
    rig.wait_us(600_000);
    rig.complete_all();
    let later = rig.produce_to(partition, &batch(1));
    rig.complete_all();
    assert_eq!(rig.produced(later), Some(Ok(0)));
}

#[test]
fn no_file_is_asked_for_in_a_folder_that_is_still_being_made() {
    let mut rig = Rig::new();
    let first = rig.create_topic("one", 1, TopicConfig::default());
    rig.complete_all_but(Held::makes_space);
    // The disk is full: the partition is to be looked at again, half a second later.
    rig.fail(Held::makes_space, StorageErrorKind::Full);
    rig.complete_all();
    rig.delete_topic(first);
    rig.complete_all();
    // The next partition gets its slot, and a folder that takes longer than that.
    let topic = rig.create_topic("two", 1, TopicConfig::default());
    rig.complete_all_but(Held::makes_folder);
    rig.wait_us(600_000);
    let ticket = rig.produce_to(PartitionId { topic, index: PartitionIndex(0) }, &batch(1));
    rig.complete_all_but(Held::makes_folder);
    assert_eq!(rig.count(Held::makes_folder), 1);
    assert_eq!(rig.produced(ticket), None, "it waits for its folder");
    rig.complete_all();
    assert_eq!(rig.produced(ticket), Some(Ok(0)));
}

#[test]
fn a_segment_that_can_not_be_opened_fences_its_partition_and_holds_nobody_up() {
    let mut rig = Rig::with(|plan| plan.partitions = 2);
    let first = rig.produce(&batch(1));
    rig.complete_all_but(Held::writes_header);
    assert_eq!(rig.produced(first), Some(Ok(0)), "the journal has it");
    rig.want_checkpoint(0);
    rig.complete_all_but(Held::writes_header);
    rig.fail(Held::writes_header, StorageErrorKind::Device);
    for _ in 0..20 {
        rig.complete_all();
        rig.wait_us(100_000);
    }
    let late = rig.produce(&batch(1));
    assert_eq!(rig.produced(late), Some(Err(ErrorKind::StorageError)));
    assert_eq!(rig.seats[0].fences.len(), 1, "the operator is told, once");
    assert_eq!(rig.seats[0].shard.counters().checkpoints, 1, "what the segment lacks is carried (E2)");
    rig.crash_and_restart();
    assert_eq!(rig.read_all(rig.partition(0)), [0], "what was acknowledged is there");
}

#[test]
fn a_topic_of_many_partitions_is_made_a_few_at_a_time_and_first_where_somebody_waits() {
    const PARTITIONS: u32 = 1000;
    let mut rig = Rig::with(|plan| plan.memory_bytes = 32 << 20);
    let topic = rig.create_topic("many", PARTITIONS, TopicConfig::default());
    let begun = rig.held.len();
    assert!(begun <= 64 + 1, "{begun} operations are in front of whatever somebody else asks for");
    let ticket = rig.produce_to(PartitionId { topic, index: PartitionIndex(PARTITIONS - 1) }, &batch(1));
    // Those that were begun, the folder and the file of this one, and its group; no flush.
    for _ in 0..3 {
        rig.step();
    }
    assert_eq!(rig.produced(ticket), Some(Ok(0)));
    for index in 0..PARTITIONS - 1 {
        rig.produce_to(PartitionId { topic, index: PartitionIndex(index) }, &batch(1));
    }
    rig.complete_all();
    rig.crash_and_restart();
    for index in 0..PARTITIONS {
        assert_eq!(rig.read_all(PartitionId { topic, index: PartitionIndex(index) }), [0]);
    }
}

#[test]
fn a_folder_that_nothing_was_in_is_made_again_after_a_crash() {
    let mut rig = Rig::new();
    for _ in 0..2 {
        rig.want_checkpoint(0);
        rig.complete_all();
    }
    // No flush has made the name of the folder durable, though both checkpoints name the partition.
    rig.crash_and_restart();
    let ticket = rig.produce(&batch(1));
    assert_eq!(rig.count(Held::makes_folder), 1);
    rig.complete_all_but(Held::makes_folder);
    assert_eq!(rig.count(Held::writes_header), 0, "what has no folder gets no name");
    rig.complete_all();
    assert_eq!(rig.produced(ticket), Some(Ok(0)));
    rig.crash_and_restart();
    rig.produce(&batch(1));
    assert_eq!(rig.count(Held::makes_folder), 0, "a segment's name was flushed, and its folder");
}
