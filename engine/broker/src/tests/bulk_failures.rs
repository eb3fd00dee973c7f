//! Large batches that can't be written, or whose reference can't: everybody is told, and nobody else is held up (E2).

use alloc::string::ToString;

use cutwater_model::storage::StorageErrorKind;
use cutwater_model::{ErrorKind, FileName, Offset};

use super::bulk::{LARGE_BYTES, rig};
use crate::start::StartError;
use crate::test_rig::{Held, Rig, batch, batch_of};

#[test]
fn a_large_write_that_fails_fences_its_partition_and_refuses_what_waits_there() {
    let mut rig = rig(2);
    let large = rig.produce(&batch_of(LARGE_BYTES));
    let behind = [rig.produce(&batch(1)), rig.produce(&batch_of(LARGE_BYTES))];
    rig.fail(Held::writes_bulk, StorageErrorKind::Device);
    rig.complete_all();
    for ticket in [large, behind[0], behind[1]] {
        assert_eq!(rig.produced(ticket), Some(Err(ErrorKind::StorageError)));
    }
    let late = rig.produce(&batch(1));
    assert_eq!(rig.produced(late), Some(Err(ErrorKind::StorageError)));
    assert_eq!(rig.seats[0].fences.len(), 1, "the operator is told, once");

    let elsewhere = rig.produce_to(rig.partition(1), &batch_of(LARGE_BYTES));
    rig.complete_all();
    assert_eq!(rig.produced(elsewhere), Some(Ok(1)));
    assert_eq!(rig.read_all(rig.partition(0)), [0], "what was acknowledged is read");
}

#[test]
fn a_large_write_that_fails_does_not_hold_up_a_checkpoint() {
    let mut rig = rig(1);
    // The write of the large batch takes these bytes along, which are in the journal already.
    rig.produce(&batch_of(10_000));
    rig.complete_all();
    rig.produce(&batch_of(LARGE_BYTES));
    rig.complete_all_but(Held::writes_bulk);
    rig.want_checkpoint(0);
    rig.complete_all_but(Held::writes_bulk);
    while rig.count(Held::writes_bulk) > 0 {
        rig.fail(Held::writes_bulk, StorageErrorKind::Device);
    }
    for _ in 0..20 {
        rig.complete_all();
        rig.wait_us(100_000);
    }
    assert_eq!(rig.seats[0].shard.counters().checkpoints, 1, "what the segment lacks is carried (E2)");
    rig.crash_and_restart();
    assert_eq!(rig.read_all(rig.partition(0)), [0, 1]);
}

#[test]
fn a_large_batch_whose_segment_can_not_be_opened_is_refused() {
    let mut rig = Rig::new();
    let large = rig.produce(&batch_of(LARGE_BYTES));
    let behind = rig.produce(&batch(1));
    rig.complete_all_but(Held::writes_header);
    rig.fail(Held::writes_header, StorageErrorKind::Device);
    rig.complete_all();
    for ticket in [large, behind] {
        assert_eq!(rig.produced(ticket), Some(Err(ErrorKind::StorageError)));
    }
}

#[test]
fn large_batches_behind_one_that_fails_are_refused_in_order_although_they_are_durable() {
    let mut rig = rig(1);
    let large = [1, 2].map(|_| rig.produce(&batch_of(LARGE_BYTES)));
    let small = rig.produce(&batch(1));
    while rig.count(Held::writes_bulk) > 1 {
        rig.complete_newest(Held::writes_bulk);
    }
    rig.fail(Held::writes_bulk, StorageErrorKind::Device);
    rig.complete_all();
    for ticket in [large[0], large[1], small] {
        assert_eq!(rig.produced(ticket), Some(Err(ErrorKind::StorageError)));
    }
    assert_eq!(rig.answered()[1..], [large[0], large[1], small]);
    assert_eq!(rig.seats[0].fences.len(), 1);
}

#[test]
fn large_batches_under_way_when_the_journal_fails_are_refused() {
    let mut rig = rig(2);
    let written = rig.produce_to(rig.partition(1), &batch_of(LARGE_BYTES));
    let group = rig.produce(&batch_of(10_000));
    rig.fail(Held::writes_group, StorageErrorKind::Device);
    rig.complete_all();
    for ticket in [written, group] {
        assert_eq!(rig.produced(ticket), Some(Err(ErrorKind::StorageError)));
    }
}

#[test]
fn large_batches_that_wait_for_room_in_a_group_are_refused_when_the_journal_fails() {
    let mut rig = Rig::with(|plan| {
        plan.partitions = 2;
        plan.config.group_buffers = 2;
        plan.config.groups_in_flight_max = 1;
    });
    for index in [0, 1] {
        rig.produce_to(rig.partition(index), &batch(1));
    }
    rig.complete_all();
    let mut groups = alloc::vec::Vec::new();
    while rig.seats[0].pauses.is_empty() {
        groups.push(rig.produce_to(rig.partition(1), &batch_of(1_000)));
        rig.complete_all_but(Held::writes_group);
    }
    let large = rig.produce(&batch_of(LARGE_BYTES));
    while rig.count(Held::writes_bulk) > 0 {
        rig.complete(Held::writes_bulk);
    }
    assert!(!rig.seats[0].shard.referring.is_empty(), "no buffer is free");
    rig.fail(Held::writes_group, StorageErrorKind::Device);
    rig.complete_all();
    for ticket in groups.into_iter().chain([large]) {
        assert_eq!(rig.produced(ticket), Some(Err(ErrorKind::StorageError)));
    }
}

#[test]
fn a_start_that_can_not_read_whether_a_large_batch_is_whole_is_refused_and_loses_nothing() {
    let mut rig = rig(1);
    let large = rig.produce(&batch_of(LARGE_BYTES));
    rig.complete_all();
    assert_eq!(rig.produced(large), Some(Ok(1)), "nothing in the journal vouches for it but its reference");
    rig.disk.crash();
    let file = FileName::Segment { partition: rig.partition(0), base: Offset(0) };
    rig.disk.unreadable = Some(file);
    for _ in 0..2 {
        let refused = rig.try_restart();
        let Err(StartError::Storage(error)) = refused else { panic!("{refused:?}") };
        assert_eq!((error.action, error.path), ("read", file.to_string()));
    }
    rig.disk.unreadable = None;
    rig.restart();
    assert_eq!(rig.read_all(rig.partition(0)), [0, 1]);
}
