//! Seeded tests of a whole partition against a plain list of batches.

use alloc::vec::Vec;

use cutwater_model::batch::Header;
use cutwater_model::limits::BLOCK_BYTES;
use cutwater_model::{FileName, LeaderEpoch, Offset, ShardId, TimestampMs};

use crate::test_rig::{Rig, SLAB_BYTES};
use crate::test_support::{Random, partition_id, slab};
use crate::{
    BulkRef, NoRoom, Pages, Partition, ReadHint, ReadPlan, ReplayEntry, ReplayError, RestoreError, Run,
    SpacePlan, trim_cold,
};

const SEGMENT_BYTES: u32 = 1 << 20;

#[test]
fn what_was_appended_is_read_back_hot_and_cold() {
    for seed in 0..12 {
        let mut rig = Rig::new(seed, SEGMENT_BYTES);
        for _ in 0..6_000 {
            rig.step(0);
        }
        rig.check_all();
    }
}

#[test]
fn large_and_small_batches_mix() {
    for seed in 100..112 {
        let mut rig = Rig::new(seed, SEGMENT_BYTES);
        for _ in 0..3_000 {
            rig.step(4);
        }
        rig.check_all();
    }
}

#[test]
fn what_was_durable_survives_crashes_and_nothing_else_does() {
    let mut sealed = 0;
    for seed in 200..224 {
        let mut rig = Rig::new(seed, SEGMENT_BYTES);
        for _ in 0..6 {
            let steps = 300 + rig.random.below(1_200);
            for _ in 0..steps {
                rig.step(if seed % 2 == 0 { 0 } else { 3 });
            }
            rig.crash();
            rig.check_all();
        }
        sealed += rig.check_sealed();
    }
    assert!(sealed > 20, "only {sealed} sealed segments were seen");
}

#[test]
fn offsets_that_were_skipped_are_never_used_and_read_over() {
    let mut sealed = 0;
    for seed in 600..624 {
        let mut rig = Rig::new(seed, SEGMENT_BYTES);
        rig.skip_share = 70;
        for _ in 0..8 {
            // Some lives append nothing at all: the gap before is kept.
            let steps = if rig.random.below(4) == 0 { 0 } else { rig.random.below(900) };
            for _ in 0..steps {
                rig.step(if seed % 2 == 0 { 0 } else { 3 });
            }
            rig.check_all();
            rig.crash();
            rig.check_all();
        }
        sealed += rig.check_sealed();
    }
    assert!(sealed > 40, "only {sealed} sealed segments were seen");
}

#[test]
fn what_a_failed_segment_may_lack_is_read_from_memory() {
    for seed in 700..712 {
        let mut rig = Rig::new(seed, SEGMENT_BYTES);
        for _ in 0..1_000 {
            rig.step(0);
        }
        rig.fail_next_write();
        for _ in 0..500 {
            rig.step(0);
        }
        rig.check_all();
        rig.crash();
        rig.check_all();
    }
}

#[test]
fn indexes_grow_over_several_blocks() {
    let mut sealed = 0;
    for seed in 500..502 {
        let mut rig = Rig::new(seed, 24 * SEGMENT_BYTES);
        for _ in 0..4 {
            for _ in 0..60 {
                rig.append(180_000);
                for _ in 0..10 {
                    rig.step(10);
                }
                rig.settle();
            }
            rig.crash();
            rig.check_all();
        }
        sealed += rig.check_sealed();
    }
    assert!(sealed > 0, "only {sealed} sealed segments were seen");
}

#[test]
fn an_idle_partition_keeps_one_block() {
    for seed in 300..304 {
        let mut rig = Rig::new(seed, SEGMENT_BYTES);
        for _ in 0..1_500 {
            rig.step(3);
        }
        rig.crash();
        for _ in 0..300 {
            rig.append(50_000);
            rig.settle();
        }
        rig.check_all();
        assert!(rig.partition.resident_bytes() <= 4096, "seed {seed}: {}", rig.partition.resident_bytes());
        assert_eq!(rig.pages.used_bytes(), rig.partition.resident_bytes(), "seed {seed}: nothing leaks");
    }
}

#[test]
fn a_time_is_found_inside_batches() {
    let mut rig = Rig::new(400, SEGMENT_BYTES);
    for _ in 0..300 {
        rig.step(0);
    }
    for time in (1_000_000..1_002_000).step_by(37) {
        rig.check_time(TimestampMs(time));
    }
}

#[test]
fn an_append_waits_for_space_and_refuses_what_no_segment_holds() {
    let mut rig = Rig::new(401, SEGMENT_BYTES);
    let end = rig.partition.end();
    let small = rig.batch_of(1000);
    let large = rig.batch_of(SEGMENT_BYTES - 12_000);
    let arrival = TimestampMs(5);
    let append = |rig: &mut Rig, batch: &[u8]| {
        rig.partition
            .append(&mut rig.slab, &mut rig.pages, batch, arrival)
            .map(|appended| appended.base_offset)
    };
    assert_eq!(append(&mut rig, &small), Err(NoRoom::SegmentSpace));
    let bytes_max = SEGMENT_BYTES - 3 * BLOCK_BYTES as u32;
    assert_eq!(append(&mut rig, &large), Err(NoRoom::TooLarge { bytes_max }));
    assert_eq!(append(&mut rig, &small[..500]), Err(NoRoom::NotABatch));
    assert!(matches!(rig.partition.needs_space(), Some(SpacePlan::Spare { bytes: 65_536 })));
    assert_eq!(rig.partition.needs_space(), None, "a need is told once");
    rig.partition.space_refused();
    assert!(rig.partition.is_space_wanted(), "E3: and again after it was refused");
    rig.partition.spare(FileName::Pooled { shard: ShardId(0), number: 1 }, 65_536);
    assert_eq!(append(&mut rig, &small), Ok(end.offset));
    assert!(core::mem::size_of::<Partition>() <= 1024);
}

#[test]
fn a_failed_write_fences_the_partition_and_covers_nothing() {
    let mut rig = Rig::new(402, SEGMENT_BYTES);
    rig.drain();
    rig.append(5_000);
    rig.settle();
    for _ in 0..5 {
        rig.append(5_000);
    }
    rig.commit_all();
    let covered = rig.partition.covered();
    let plan = rig
        .partition
        .next_write(&mut rig.slab, &mut rig.pages, 1 << 20)
        .expect("there is something to write");
    rig.partition.write_failed(&mut rig.pages, &plan);
    assert!(rig.partition.is_fenced());
    assert!(rig.partition.next_write(&mut rig.slab, &mut rig.pages, 1 << 20).is_none());
    assert!(rig.partition.next_flush().is_none());
    assert_eq!(rig.partition.covered(), covered);
    rig.check_all();
}

#[test]
fn old_segments_expire_by_arrival_and_by_size() {
    let mut rig = Rig::new(403, SEGMENT_BYTES);
    while rig.partition.segments.len() < 4 {
        rig.append(30_000);
        rig.drain();
    }
    rig.settle();
    let bases: Vec<_> = rig.partition.segments.iter().map(|segment| segment.base()).collect();
    let third = rig.partition.segments[2].last_arrival;
    assert_eq!(rig.partition.expired(Some(third), None), Some(bases[2]));
    assert_eq!(
        rig.partition.expired(Some(TimestampMs(i64::MAX)), None),
        Some(bases[3]),
        "the last one stays"
    );
    assert_eq!(rig.partition.expired(None, Some(u64::MAX)), None);
    assert_eq!(rig.partition.expired(None, Some(rig.partition.bytes() - 1)), Some(bases[1]));
    let beyond = Offset(rig.partition.end().offset.0 + 1);
    assert!(rig.partition.set_log_start(beyond).is_err());
    assert_eq!(rig.partition.set_log_start(bases[2]), Ok(bases[2]));
    assert_eq!(rig.partition.next_removal(), None, "M3: not before the log start is durable");
    rig.partition.log_start_durable(bases[2]);
    assert_eq!(rig.partition.next_removal(), None, "S5: not before a checkpoint is past it");
    rig.drain();
    rig.write_checkpoint();
    let segment = |base| FileName::Segment { partition: partition_id(), base };
    assert_eq!(rig.partition.next_removal().unwrap().segment, segment(bases[0]));
    assert_eq!(rig.partition.next_removal().unwrap().segment, segment(bases[1]));
    assert_eq!(rig.partition.next_removal(), None);
    let plan = rig.partition.read(&rig.slab, bases[1], ReadHint::default(), 1, rig.partition.end());
    assert!(matches!(plan, ReadPlan::OutOfRange));
}

#[test]
fn a_gap_in_the_journal_is_named() {
    let mut rig = Rig::new(404, SEGMENT_BYTES);
    rig.append(1000);
    rig.drain();
    let first = rig.append(1000).unwrap();
    let bytes = rig.model.last().unwrap().bytes.clone();
    let mut partition = Partition::new(partition_id(), LeaderEpoch(1), SEGMENT_BYTES);
    let entry = ReplayEntry::Data {
        segment: first.segment,
        position: first.position + 1000,
        arrival: TimestampMs(1),
        batches: &bytes,
    };
    let result = partition.replay(&mut rig.slab, &mut rig.pages, entry);
    assert!(matches!(result, Err(ReplayError::Gap { .. })), "{result:?}");
    let cut = ReplayEntry::BulkRef { payload: &bytes[..50], run: Run::Whole };
    let result = partition.replay(&mut rig.slab, &mut rig.pages, cut);
    assert_eq!(result, Err(ReplayError::Cut));
}

#[test]
fn damaged_bytes_never_panic() {
    let mut rig = Rig::new(405, SEGMENT_BYTES);
    for _ in 0..1_500 {
        rig.step(3);
    }
    rig.crash();
    let mut state = Vec::new();
    rig.partition.snapshot(&rig.slab, &mut state);
    let mut random = Random::new(406);
    let mut memory = slab(SLAB_BYTES);
    let mut pages = Pages::new(SLAB_BYTES as u32, 0);
    let newer = [&[9, 0], &state[2..]].concat();
    let result = Partition::restore(&mut memory, &mut pages, &newer, SEGMENT_BYTES);
    assert_eq!(result.err(), Some(RestoreError::Version { version: 9 }));
    for cut in 0..state.len() {
        let result = Partition::restore(&mut memory, &mut pages, &state[..cut], SEGMENT_BYTES);
        assert_eq!(result.err(), Some(RestoreError::Malformed), "cut at {cut}");
    }
    for _ in 0..2_000 {
        let mut rotten = state.clone();
        for _ in 0..1 + random.below(3) {
            let at = random.below(rotten.len() as u64) as usize;
            rotten[at] = random.next() as u8;
        }
        if let Ok(mut partition) = Partition::restore(&mut memory, &mut pages, &rotten, SEGMENT_BYTES) {
            partition.release(&mut pages);
        }
        assert_eq!(pages.used_bytes(), 0);
        let _ = BulkRef::decode(&rotten);
    }
    // A cold read of rotten bytes is refused, never given out.
    let run: Vec<u8> = rig.model.iter().flat_map(|stored| stored.bytes.clone()).take(200_000).collect();
    let plan = rig.cold_plan_of(rig.model[0].base, run.len() as u32);
    let whole = rig.model.iter().scan(0, |sum, stored| {
        *sum += stored.bytes.len();
        Some(*sum)
    });
    let whole = whole.take_while(|end| *end <= run.len()).last().unwrap();
    for _ in 0..300 {
        let at = random.below(whole as u64) as usize;
        let mut rotten = run.clone();
        rotten[at] ^= 1 << random.below(8);
        let first = rig.model[0].base;
        let result = trim_cold(&plan, &rotten[..whole], first, u32::MAX, Offset(i64::MAX));
        let is_epoch = Header::read(&rotten).is_ok() && result.is_ok();
        // The leader epoch lies outside the batch's checksum; the index's digest covers it (S3).
        assert!(result.is_err() || is_epoch && rig.is_epoch_byte(at), "byte {at}: {result:?}");
    }
}

/// Many more seeds, for a longer run: `cargo test -p cutwater-log --release -- --ignored`.
#[test]
#[ignore = "takes minutes"]
fn many_seeds() {
    for seed in 10_000..11_000 {
        let mut rig = Rig::new(seed, SEGMENT_BYTES << (seed % 3));
        for _ in 0..8 {
            let steps = 1 + rig.random.below(2_500);
            for _ in 0..steps {
                rig.step([0, 1, 5, 20][seed as usize % 4]);
            }
            rig.check_all();
            rig.crash();
            rig.check_all();
            rig.check_sealed();
        }
    }
}
