//! Random crashes, life after life: what replay accepts is always what was durable, or that and some groups more.

use super::*;
use crate::test_rig::{Random, Rig};

#[test]
fn crashes_keep_what_was_durable_and_nothing_else() {
    for seed in 1..=400_u64 {
        let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let mut rig = Rig::create(3);
        for life in 0..8 {
            run(&mut rig, &mut random);
            let (durable, submitted) = (rig.durable_next(), rig.next);
            let mut disk = rig.crash(&mut random);
            // Sometimes it dies again and again before its start group is whole (R5).
            for again in 0..random.below(3) {
                let incarnation = u128::from(seed * 1000 + life * 10 + again) << 64;
                disk = Rig::begin(disk, incarnation).unwrap().0.crash(&mut random);
            }
            let (opened, replayed) = Rig::open(disk, u128::from(seed * 1000 + life + 2)).unwrap();
            let numbers: Vec<i64> = (replayed.base..opened.next).collect();
            assert_eq!(replayed.numbers, numbers, "seed {seed}, life {life}: dense, in order, not twice");
            assert!(opened.next >= durable, "seed {seed}, life {life}: {} < durable {durable}", opened.next);
            assert!(opened.next <= submitted, "seed {seed}, life {life}: {} is made up", opened.next);
            assert_eq!(replayed.scanned.gaps, [], "seed {seed}, life {life}: a torn tail is not rot");
            rig = opened;
        }
    }
}

/// Some groups of random sizes, some of which land, out of order; checkpoints when there is no room.
fn run(rig: &mut Rig, random: &mut Random) {
    for _ in 0..random.below(40) {
        while !rig.journal.can_submit() || (random.below(3) == 0 && !rig.pending.is_empty()) {
            let index = random.below(rig.pending.len() as u64) as usize;
            rig.land(index);
        }
        let entries = 1 + random.below(5);
        let payloads: Vec<usize> = (0..entries).map(|_| random.below(3000) as usize).collect();
        if rig.submit(&payloads).is_err() || random.below(25) == 0 {
            rig.land_all();
            rig.write_checkpoint();
            if random.below(2) == 0 {
                rig.write_checkpoint();
            }
        }
    }
}

#[test]
fn the_ring_laps_many_times_without_a_crash() {
    let mut rig = Rig::create(3);
    let mut places = Vec::new();
    for number in 0..2000 {
        if rig.submit(&[2000, 2000, 2000]).is_err() {
            rig.write_checkpoint();
            rig.write_checkpoint();
            rig.submit(&[2000]).unwrap();
        }
        rig.land_all();
        places.push(rig.journal.next_place().place.file);
        assert!(rig.journal.used_bytes() <= rig.journal.total_bytes(), "after {number} groups");
    }
    let laps = places.windows(2).filter(|pair| pair[0] != pair[1]).count() / 3;
    assert!(laps > 50, "{laps} laps");
    let next = rig.next;
    let (_, replayed) = Rig::open(rig.disk, 2).unwrap();
    assert_eq!(replayed.numbers, (replayed.base..next).collect::<Vec<_>>());
}

#[test]
fn crash_after_crash_with_nothing_in_between_still_starts() {
    let mut rig = Rig::create(3);
    for life in 2..200 {
        let next = rig.next;
        let (opened, replayed) = Rig::open(rig.disk, life).unwrap();
        assert_eq!((opened.next, replayed.scanned.gaps.len()), (next, 0), "life {life}");
        rig = opened;
        if life % 3 == 0 {
            let _ = rig.submit(&[10]);
            rig.land_all();
        }
    }
}
