//! Seeded tests of a whole partition against a plain list of batches.

use cutwater_model::TimestampMs;

use crate::test_rig::Rig;

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
    for seed in 200..230 {
        let mut rig = Rig::new(seed, SEGMENT_BYTES);
        for _ in 0..6 {
            let steps = 1 + rig.random.below(1_200);
            for _ in 0..steps {
                rig.step(if seed % 2 == 0 { 0 } else { 3 });
            }
            rig.crash();
            rig.check_all();
        }
    }
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
            rig.commit();
            rig.drain();
        }
        rig.commit();
        rig.commit();
        rig.drain();
        rig.drain();
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
