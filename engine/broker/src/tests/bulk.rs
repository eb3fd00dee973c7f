//! Large batches: straight to their segment, and only then into the journal (B1, B2).

use alloc::vec::Vec;

use cutwater_model::{DirName, ErrorKind};

use crate::test_rig::{Held, Rig, batch, batch_of};

pub(super) const LARGE_BYTES: usize = 40_000;

/// A rig whose partitions have their first segment and one small batch.
pub(super) fn rig(partitions: u32) -> Rig {
    let mut rig = Rig::with(|plan| plan.partitions = partitions);
    for index in 0..partitions {
        rig.produce_to(rig.partition(index), &batch(1));
    }
    rig.complete_all();
    rig
}

#[test]
fn a_large_batch_is_journaled_only_after_its_own_write_is_durable() {
    let mut rig = rig(1);
    let ticket = rig.produce(&batch_of(LARGE_BYTES));
    assert!(rig.count(Held::writes_bulk) > 0);
    while rig.count(Held::writes_bulk) > 0 {
        assert_eq!(rig.count(Held::writes_group), 0, "no reference before the data is durable (B1)");
        rig.complete(Held::writes_bulk);
    }
    assert_eq!(rig.count(Held::writes_group), 1);
    assert_eq!(rig.produced(ticket), None, "the reference is not durable");
    rig.complete(Held::writes_group);
    assert_eq!(rig.produced(ticket), Some(Ok(1)));
    rig.crash_and_restart();
    assert_eq!(rig.read_all(rig.partition(0)), [0, 1]);
}

#[test]
fn a_large_batch_without_a_reference_does_not_exist_after_a_crash() {
    let mut rig = rig(1);
    let ticket = rig.produce(&batch_of(LARGE_BYTES));
    while rig.count(Held::writes_bulk) > 0 {
        rig.complete(Held::writes_bulk);
    }
    assert_eq!(rig.produced(ticket), None);
    rig.crash_and_restart();
    assert_eq!(rig.read_all(rig.partition(0)), [0]);
    let next = rig.produce(&batch(1));
    rig.complete_all();
    assert_eq!(rig.produced(next), Some(Ok(1)));
}

#[test]
fn a_small_batch_behind_a_large_one_waits_for_it() {
    let mut rig = rig(2);
    let large = rig.produce(&batch_of(LARGE_BYTES));
    let small = rig.produce(&batch(1));
    let elsewhere = rig.produce_to(rig.partition(1), &batch(1));
    rig.complete_all_but(Held::writes_bulk);
    assert_eq!(rig.produced(small), None, "it waits (B2)");
    assert_eq!(rig.produced(elsewhere), Some(Ok(1)), "nobody else waits");
    rig.complete_all();
    assert_eq!(rig.answered()[2..], [elsewhere, large, small]);
    assert_eq!([large, small].map(|it| rig.produced(it)), [Some(Ok(1)), Some(Ok(2))]);
    assert_eq!(rig.read_all(rig.partition(0)), [0, 1, 2]);
}

#[test]
fn a_large_batch_of_a_deleted_topic_is_refused_once_its_write_came_back() {
    let mut rig = rig(1);
    let ticket = rig.produce(&batch_of(LARGE_BYTES));
    rig.delete_topic(rig.topic);
    rig.complete_all_but(Held::writes_bulk);
    let dir = DirName::Partition(rig.partition(0));
    assert!(rig.disk.names().any(|name| name.dir() == dir), "its file is being written");
    rig.complete_all();
    assert_eq!(rig.produced(ticket), Some(Err(ErrorKind::UnknownTopicOrPartition)));
}

#[test]
fn several_large_batches_are_under_way_at_once_and_journaled_and_answered_in_order() {
    let mut rig = rig(1);
    let large = [1, 2, 3].map(|_| rig.produce(&batch_of(LARGE_BYTES)));
    let small = rig.produce(&batch(1));
    assert!(rig.count(Held::writes_bulk) >= 2, "they are written side by side");
    while rig.count(Held::writes_bulk) > 1 {
        rig.complete_newest(Held::writes_bulk);
        assert_eq!(rig.count(Held::writes_group), 0, "no reference before that of the first one (B1, B2)");
    }
    rig.complete_all();
    assert_eq!(rig.answered()[1..], [large[0], large[1], large[2], small]);
    assert_eq!(large.map(|ticket| rig.produced(ticket)), [Some(Ok(1)), Some(Ok(2)), Some(Ok(3))]);
    rig.crash_and_restart();
    assert_eq!(rig.read_all(rig.partition(0)), [0, 1, 2, 3, 4]);
}

#[test]
fn a_large_batch_behind_one_that_is_not_durable_does_not_exist_after_a_crash() {
    let mut rig = rig(1);
    let large = [1, 2].map(|_| rig.produce(&batch_of(LARGE_BYTES)));
    while rig.count(Held::writes_bulk) > 1 {
        rig.complete_newest(Held::writes_bulk);
    }
    rig.complete_all_but(Held::writes_bulk);
    assert_eq!(large.map(|ticket| rig.produced(ticket)), [None, None]);
    rig.crash_and_restart();
    assert_eq!(rig.read_all(rig.partition(0)), [0]);
}

#[test]
fn a_large_batch_that_begins_a_segment_goes_on_as_soon_as_those_before_it_are_durable() {
    let mut rig = rig(1);
    // A segment of 1 MiB holds some twenty of them. The journal holds all references back.
    let large: Vec<_> = (0..30)
        .map(|_| {
            let ticket = rig.produce(&batch_of(LARGE_BYTES));
            rig.complete_all_but(Held::writes_group);
            ticket
        })
        .collect();
    rig.complete_all();
    let answers: Vec<_> = large.iter().map(|ticket| rig.produced(*ticket)).collect();
    let expected: Vec<_> = (1..=30).map(|offset| Some(Ok(offset))).collect();
    assert_eq!(answers, expected, "no checkpoint has to come to its help");
}
