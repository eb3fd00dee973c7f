//! Large batches: straight to their segment, with a reference in the journal beside them (B1, B2).

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
fn a_large_batch_is_acknowledged_when_its_own_write_and_its_reference_are_durable_whichever_comes_last() {
    for writes_first in [true, false] {
        let mut rig = rig(1);
        let ticket = rig.produce(&batch_of(LARGE_BYTES));
        let (first, last) = if writes_first {
            (Held::writes_bulk as fn(&Held) -> bool, Held::writes_group as fn(&Held) -> bool)
        } else {
            (Held::writes_group as fn(&Held) -> bool, Held::writes_bulk as fn(&Held) -> bool)
        };
        assert!(rig.count(first) > 0 && rig.count(last) > 0, "both are on their way at once");
        while rig.count(first) > 0 {
            rig.complete(first);
        }
        let fetched = rig.fetch(1);
        assert_eq!(rig.produced(ticket), None, "one alone is not enough (B1)");
        let shown = rig.fetched(fetched).map(|reads| (reads[0].high_watermark, reads[0].offsets.clone()));
        assert_eq!(shown, Some((1, Vec::new())), "and nobody is shown it");
        while rig.count(last) > 0 {
            rig.complete(last);
        }
        assert_eq!(rig.produced(ticket), Some(Ok(1)));
        rig.crash_and_restart();
        assert_eq!(rig.read_all(rig.partition(0)), [0, 1]);
    }
}

#[test]
fn a_reference_without_its_large_batch_is_void_after_a_crash_and_for_good() {
    let mut rig = rig(1);
    let large = [1, 2].map(|_| rig.produce(&batch_of(LARGE_BYTES)));
    // Both references are durable, and parts of the batches.
    rig.complete_all_but(Held::writes_bulk);
    while rig.count(Held::writes_bulk) > 1 {
        rig.complete_newest(Held::writes_bulk);
    }
    assert_eq!((rig.count(Held::writes_bulk), rig.count(Held::writes_group)), (1, 0));
    assert_eq!(large.map(|ticket| rig.produced(ticket)), [None, None]);
    rig.crash_and_restart();
    assert_eq!(rig.read_all(rig.partition(0)), [0]);
    let next = [1, LARGE_BYTES].map(|bytes| rig.produce(&batch_of(bytes)));
    rig.complete_all();
    assert_eq!(next.map(|ticket| rig.produced(ticket)), [Some(Ok(1)), Some(Ok(2))]);
    rig.crash_and_restart();
    assert_eq!(rig.read_all(rig.partition(0)), [0, 1, 2]);
}

#[test]
fn no_checkpoint_passes_the_reference_to_a_large_batch_that_is_not_whole_yet() {
    let mut rig = rig(2);
    // The first group is under way, so the others gather in the next one: a small batch, and a reference behind it.
    let elsewhere = rig.produce_to(rig.partition(1), &batch(1));
    let small = rig.produce(&batch(1));
    let large = rig.produce(&batch_of(LARGE_BYTES));
    rig.complete_all_but(Held::writes_bulk);
    let answers = [elsewhere, small, large].map(|ticket| rig.produced(ticket));
    assert_eq!(answers, [Some(Ok(1)), Some(Ok(1)), None]);
    rig.want_checkpoint(0);
    rig.complete_all_but(Held::writes_bulk);
    assert_eq!(rig.seats[0].shard.counters().checkpoints, 0, "it would leave the reference behind");
    while rig.count(Held::writes_bulk) > 0 {
        rig.complete(Held::writes_bulk);
    }
    assert_eq!(rig.produced(large), Some(Ok(2)));
    rig.complete_all();
    assert_eq!(rig.seats[0].shard.counters().checkpoints, 1);
    rig.crash_and_restart();
    assert_eq!(rig.read_all(rig.partition(0)), [0, 1, 2]);
}

#[test]
fn a_large_batch_without_a_reference_does_not_exist_after_a_crash() {
    let mut rig = rig(1);
    let ticket = rig.produce(&batch_of(LARGE_BYTES));
    assert_eq!(rig.count(Held::writes_group), 1);
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
fn batches_of_one_group_are_answered_in_their_order_large_or_not() {
    let mut rig = rig(2);
    // The first group is under way, so the others gather in the next one.
    let elsewhere = rig.produce_to(rig.partition(1), &batch(1));
    let mut tickets = Vec::new();
    for bytes in [LARGE_BYTES, 1, LARGE_BYTES, 1, 1] {
        tickets.push(rig.produce(&batch_of(bytes)));
        while rig.count(Held::writes_bulk) > 0 {
            rig.complete(Held::writes_bulk);
        }
    }
    assert_eq!(rig.answered().len(), 2);
    rig.complete_all();
    assert_eq!(rig.answered()[2], elsewhere);
    assert_eq!(rig.answered()[3..], tickets);
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
fn several_large_batches_are_under_way_at_once_and_answered_in_order() {
    let mut rig = rig(1);
    let large = [1, 2, 3].map(|_| rig.produce(&batch_of(LARGE_BYTES)));
    let small = rig.produce(&batch(1));
    assert!(rig.count(Held::writes_bulk) >= 2, "they are written side by side");
    while rig.count(Held::writes_bulk) > 1 {
        rig.complete_newest(Held::writes_bulk);
    }
    rig.complete_all_but(Held::writes_bulk);
    assert_eq!(rig.answered().len(), 1, "the first one is not whole, and all others are behind it (B1, B2)");
    rig.complete_all();
    assert_eq!(rig.answered()[1..], [large[0], large[1], large[2], small]);
    assert_eq!(large.map(|ticket| rig.produced(ticket)), [Some(Ok(1)), Some(Ok(2)), Some(Ok(3))]);
    rig.crash_and_restart();
    assert_eq!(rig.read_all(rig.partition(0)), [0, 1, 2, 3, 4]);
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
