//! What a fetch may carry, from memory and from disk, and what it is told at the edges of a log.

use alloc::vec;
use alloc::vec::Vec;

use cutwater_api::{Fetch, FetchPart, Response};
use cutwater_model::storage::StorageErrorKind;
use cutwater_model::{ErrorKind, Offset};

use crate::test_rig::{Held, Read, Rig, batch, batch_of};

/// Four batches of a thousand bytes and some in each of two partitions.
fn rig() -> Rig {
    let mut rig = Rig::with(|plan| plan.partitions = 2);
    for index in [0, 1, 0, 1, 0, 1, 0, 1] {
        rig.produce_to(rig.partition(index), &batch_of(1000));
    }
    rig.complete_all();
    rig
}

fn read(rig: &mut Rig, bytes_max: u32, parts: Vec<FetchPart>) -> Vec<Read> {
    let fetch = Fetch { wait_ms_max: 0, bytes_min: 1, bytes_max, parts };
    let ticket = rig.fetch_with(rig.peer, fetch);
    rig.complete_all();
    let reads = rig.fetched(ticket).unwrap();
    rig.sent(ticket);
    reads
}

/// How many batches a fetch with those bounds brings of each partition.
fn counts(rig: &mut Rig, bytes_max: u32, each_max: [u32; 2]) -> Vec<usize> {
    let parts = [0, 1].map(|index| FetchPart { bytes_max: each_max[index as usize], ..rig.part(index, 0) });
    read(rig, bytes_max, parts.to_vec()).iter().map(|read| read.offsets.len()).collect()
}

/// Everything is written and flushed, and what was in memory is given up.
fn make_cold(rig: &mut Rig) {
    rig.want_checkpoint(0);
    rig.complete_all();
    let shard = &mut rig.seats[0].shard;
    for index in 0..2 {
        let owned = shard.partitions.get_mut(crate::partition::Slot(index)).unwrap();
        owned.log.evict(&mut shard.slab, &mut shard.pages, 0);
    }
}

#[test]
fn bounds_of_the_whole_and_of_each_partition_are_kept() {
    let mut rig = rig();
    for place in ["memory", "disk"] {
        assert_eq!(counts(&mut rig, 1 << 20, [1 << 20; 2]), [4, 4], "from {place}");
        assert_eq!(counts(&mut rig, 1 << 20, [2500, 3500]), [2, 3], "from {place}");
        assert_eq!(counts(&mut rig, 2500, [1 << 20; 2]), [2, 0], "from {place}");
        let both = counts(&mut rig, 3500, [1200, 1 << 20]);
        // A read from disk takes whole blocks, and their room, before it is known what of them is given.
        assert!(both == [1, 2] || place == "disk" && both == [1, 0], "{both:?} from {place}");
        make_cold(&mut rig);
    }
    assert!(rig.seats[0].shard.counters().bytes_read_cold > 0);
}

#[test]
fn the_first_batch_of_an_answer_comes_even_if_it_is_too_large_and_no_other_does() {
    let mut rig = rig();
    for place in ["memory", "disk"] {
        assert_eq!(counts(&mut rig, 100, [100, 100]), [1, 0], "from {place}");
        assert_eq!(counts(&mut rig, 1200, [1 << 20; 2]), [1, 0], "from {place}");
        make_cold(&mut rig);
    }
}

#[test]
fn outside_the_log_an_offset_is_out_of_range_and_at_its_end_there_is_nothing() {
    let mut rig = rig();
    let log = &mut rig.seats[0].shard.partitions.get_mut(crate::partition::Slot(0)).unwrap().log;
    log.set_log_start(Offset(2)).unwrap();
    let expected = [
        (-1, Some(ErrorKind::OffsetOutOfRange), 0),
        (1, Some(ErrorKind::OffsetOutOfRange), 0),
        (2, None, 2),
        (4, None, 0),
        (5, Some(ErrorKind::OffsetOutOfRange), 0),
    ];
    for (offset, error, count) in expected {
        let parts = vec![rig.part(0, offset)];
        let read = &read(&mut rig, 1 << 20, parts)[0];
        assert_eq!((read.error, read.offsets.len()), (error, count), "at {offset}");
        // One that waits is not kept waiting with an error.
        let poll = rig.poll(offset);
        assert_eq!(rig.fetched(poll).is_some(), error.is_some() || count > 0, "at {offset}");
    }
}

#[test]
fn what_is_appended_but_not_durable_is_beyond_the_end_only_for_readers_who_skip_it() {
    let mut rig = rig();
    rig.produce(&batch(3));
    let parts = vec![rig.part(0, 4)];
    let ticket = rig.fetch_with(rig.peer, Fetch { wait_ms_max: 0, bytes_min: 1, bytes_max: 1 << 20, parts });
    let read = &rig.fetched(ticket).unwrap()[0];
    assert_eq!((read.error, read.offsets.len(), read.high_watermark), (None, 0, 4));
}

#[test]
fn what_comes_from_disk_is_what_came_from_memory() {
    let mut rig = rig();
    let parts = vec![rig.part(0, 1), rig.part(1, 2)];
    let hot = read(&mut rig, 1 << 20, parts.clone());
    make_cold(&mut rig);
    let fetch = Fetch { wait_ms_max: 0, bytes_min: 1, bytes_max: 1 << 20, parts };
    let ticket = rig.fetch_with(rig.peer, fetch);
    assert_eq!(rig.count(Held::reads), 2);
    // In whichever order the reads come back.
    rig.complete_newest(Held::reads);
    assert_eq!(rig.fetched(ticket), None);
    rig.complete_all();
    assert_eq!(rig.fetched(ticket).unwrap(), hot);
}

#[test]
fn a_read_that_fails_is_the_fault_of_its_partition_alone() {
    let mut rig = rig();
    make_cold(&mut rig);
    let parts = vec![rig.part(0, 0), rig.part(1, 0)];
    let fetch = Fetch { wait_ms_max: 0, bytes_min: 1, bytes_max: 1 << 20, parts };
    let ticket = rig.fetch_with(rig.peer, fetch);
    rig.fail(Held::reads, StorageErrorKind::Device);
    rig.complete_all();
    let reads = rig.fetched(ticket).unwrap();
    assert_eq!((reads[0].error, reads[0].offsets.len()), (Some(ErrorKind::DamagedRange), 0));
    assert_eq!((reads[1].error, reads[1].offsets.len()), (None, 4));
}

#[test]
fn a_connection_that_closes_during_a_read_from_disk_gets_no_answer_and_leaks_nothing() {
    let mut rig = rig();
    make_cold(&mut rig);
    let used_bytes = rig.seats[0].shard.counters().memory_used_bytes;
    let ticket = rig.fetch(0);
    rig.close(rig.peer);
    rig.complete_all();
    assert_eq!(rig.fetched(ticket), None);
    let shard = &mut rig.seats[0].shard;
    assert_eq!((shard.pins_held(), shard.counters().memory_used_bytes), (0, used_bytes));
}

#[test]
fn a_fetch_that_asks_for_nothing_or_for_a_partition_twice_is_refused() {
    let mut rig = rig();
    let part = rig.part(0, 0);
    let cases = [
        (1 << 20, vec![], ErrorKind::InvalidRequest),
        (1 << 20, vec![part, part], ErrorKind::InvalidRequest),
        (0, vec![part], ErrorKind::InvalidFetchSize),
        (1 << 20, vec![FetchPart { bytes_max: 0, ..part }], ErrorKind::InvalidFetchSize),
    ];
    for (bytes_max, parts, kind) in cases {
        let fetch = Fetch { wait_ms_max: 10, bytes_min: 1, bytes_max, parts };
        let ticket = rig.fetch_with(rig.peer, fetch);
        assert_eq!(rig.answer(ticket), Some(&Response::Refused(kind)));
    }
}
