//! Large batches that are received where they stay.

use cutwater_model::{ErrorKind, MemoryRange};

use super::bulk::{LARGE_BYTES, rig};
use crate::Input;
use crate::test_rig::{Held, Rig, batch, batch_of, numbered_of};

/// How many bytes of a batch have come when its memory is asked for.
const COME: usize = 3000;

fn memory_used(rig: &mut Rig) -> u64 {
    rig.seats[0].shard.counters().memory_used_bytes
}

fn holds(outer: MemoryRange, inner: MemoryRange) -> bool {
    outer.at <= inner.at && inner.end() <= outer.end()
}

#[test]
fn batches_that_come_in_order_are_written_from_where_they_were_received() {
    let mut rig = rig(1);
    let large = batch_of(LARGE_BYTES);
    let landings = [1, 2, 3].map(|_| rig.land(&large, COME).unwrap());
    let tickets = landings.map(|landing| rig.landed(landing, &large));
    rig.complete_all_but(Held::writes_bulk);
    for landing in landings {
        let is_its = |held: &Held| held.memory().is_some_and(|memory| holds(memory, middle(landing.missing)));
        assert!(rig.count(|held| held.writes_bulk() && is_its(held)) == 1, "{landing:?} was copied");
    }
    rig.complete_all();
    assert_eq!(tickets.map(|ticket| rig.produced(ticket)), [Some(Ok(1)), Some(Ok(2)), Some(Ok(3))]);
    assert_eq!(rig.read_all(rig.partition(0)), [0, 1, 2, 3]);
    rig.crash_and_restart();
    assert_eq!(rig.read_all(rig.partition(0)), [0, 1, 2, 3]);
}

/// The middle half, which lies in whole blocks of its own.
fn middle(range: MemoryRange) -> MemoryRange {
    MemoryRange { at: range.at + range.len / 4, len: range.len / 2 }
}

#[test]
fn one_that_overtakes_another_keeps_nobody_waiting_and_both_are_read_back() {
    let mut rig = rig(1);
    let (slow, fast) = (batch_of(LARGE_BYTES), batch_of(LARGE_BYTES + 1234));
    let landings = [rig.land(&slow, COME).unwrap(), rig.land(&fast, COME).unwrap()];
    let first = rig.landed(landings[1], &fast);
    rig.complete_all();
    assert_eq!(rig.produced(first), Some(Ok(1)));
    let small = rig.produce(&batch(3));
    let second = rig.landed(landings[0], &slow);
    rig.complete_all();
    assert_eq!([small, second].map(|ticket| rig.produced(ticket)), [Some(Ok(2)), Some(Ok(5))]);
    let ticket = rig.fetch(0);
    let read = rig.fetched(ticket).unwrap().remove(0);
    assert_eq!(read.offsets, [0, 1, 2, 5]);
    assert!(read.bytes.windows(LARGE_BYTES).any(|bytes| bytes == &fast[100..100 + LARGE_BYTES]));
    rig.crash_and_restart();
    assert_eq!(rig.read_all(rig.partition(0)), [0, 1, 2, 5]);
}

#[test]
fn memory_of_what_is_not_appended_comes_back() {
    let mut rig = rig(1);
    let large = batch_of(LARGE_BYTES);
    let mut damaged = large.clone();
    damaged[LARGE_BYTES / 2] ^= 1;
    let before = memory_used(&mut rig);
    let landing = rig.land(&damaged, COME).unwrap();
    assert!(memory_used(&mut rig) > before);
    let ticket = rig.landed(landing, &damaged);
    assert_eq!(rig.produced(ticket), Some(Err(ErrorKind::CorruptMessage)));
    assert_eq!(memory_used(&mut rig), before);

    let landing = rig.land(&large, COME).unwrap();
    rig.hand(0, Input::Abandoned(landing.id));
    assert_eq!(memory_used(&mut rig), before);

    let landing = rig.land(&large, COME).unwrap();
    rig.delete_topic(rig.topic);
    let ticket = rig.landed(landing, &large);
    assert_eq!(rig.produced(ticket), Some(Err(ErrorKind::UnknownTopicOrPartition)));
    rig.complete_all();
    assert!(memory_used(&mut rig) <= before);
}

#[test]
fn a_retry_of_a_batch_that_is_there_is_answered_and_its_memory_comes_back() {
    let mut rig = rig(1);
    let large = numbered_of(7, 0, LARGE_BYTES);
    let landing = rig.land(&large, COME).unwrap();
    let first = rig.landed(landing, &large);
    rig.complete_all();
    let before = memory_used(&mut rig);
    let landing = rig.land(&large, COME).unwrap();
    let again = rig.landed(landing, &large);
    rig.complete_all();
    assert_eq!([first, again].map(|ticket| rig.produced(ticket)), [Some(Ok(1)), Some(Ok(1))]);
    assert_eq!(memory_used(&mut rig), before);
}

#[test]
fn one_without_room_waits_in_its_memory() {
    let mut rig = rig(1);
    let large = batch_of(900_000);
    let landings = [1, 2].map(|_| rig.land(&batch_of(LARGE_BYTES), COME).unwrap());
    // No space is made for a batch of most of a segment, so those that follow it wait behind it.
    let first = rig.produce(&large);
    let waiting = landings.map(|landing| rig.landed(landing, &batch_of(LARGE_BYTES)));
    rig.complete_all_but(Held::makes_space);
    assert_eq!([first, waiting[0], waiting[1]].map(|ticket| rig.produced(ticket)), [None; 3]);
    rig.complete_all();
    assert_eq!(waiting.map(|ticket| rig.produced(ticket)), [Some(Ok(2)), Some(Ok(3))]);
    assert_eq!(rig.read_all(rig.partition(0)), [0, 1, 2, 3]);
}

#[test]
fn what_is_promised_takes_a_bounded_part_of_the_memory() {
    let mut rig = rig(1);
    let large = batch_of(LARGE_BYTES);
    let before = memory_used(&mut rig);
    let given = (0..100).filter(|_| rig.land(&large, COME).is_some()).count();
    let part = rig.plan.memory_bytes as u64 / 8;
    assert!(given > 2 && memory_used(&mut rig) <= before + part, "{given} of them");
    assert!(rig.land(&batch_of(100), 10).is_none(), "small ones are copied");
}
