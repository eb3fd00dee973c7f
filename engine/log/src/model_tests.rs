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
                rig.drain();
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
