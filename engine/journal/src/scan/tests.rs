//! Rot, imitations, old laps and old lives, each planted by hand.

use alloc::vec;

use cutwater_model::limits::BLOCK_BYTES;

use super::*;
use crate::group::{GroupKind, seal_empty};
use crate::place::{Life, Place};
use crate::test_disk::TestDisk;
use crate::test_rig::{FILE_BYTES, Rig, SHARD, replay};

const BLOCK: usize = BLOCK_BYTES;

fn name(number: u32) -> FileName {
    FileName::Journal { shard: SHARD, number }
}

/// A journal of groups of one entry each, every one durable before the next: group n holds number n - 2.
fn journal(groups: usize, payload_bytes: usize) -> Rig {
    let mut rig = Rig::create(3);
    for _ in 0..groups {
        rig.submit(&[payload_bytes]).unwrap();
        rig.land_all();
    }
    rig
}

fn header_at(disk: &TestDisk, place: Place) -> GroupHeader {
    GroupHeader::decode(&disk.files[&name(place.file)][place.at as usize..]).unwrap()
}

#[test]
fn a_flipped_bit_anywhere_is_found_and_reported_unless_it_is_in_the_last_group() {
    let rig = journal(3, 3000);
    let end = rig.journal.next_place().place.at as usize;
    assert_eq!(end, 4 * BLOCK);
    for byte in 0..end {
        let mut disk = rig.disk.clone();
        disk.bytes(name(0))[byte] ^= 1 << (byte % 8);
        let (_, replayed) = replay(&mut disk).unwrap();
        let hit = byte / BLOCK;
        let sequence = |group: usize| Sequence(group as u64 + 1);
        if hit == 3 {
            assert_eq!((replayed.numbers, replayed.scanned.gaps.len()), (vec![0, 1], 0), "byte {byte}");
            continue;
        }
        let kept: Vec<i64> = (0..3).filter(|&number| number + 1 != hit as i64).collect();
        assert_eq!(replayed.numbers, kept, "byte {byte}");
        let [gap] = replayed.scanned.gaps[..] else { panic!("byte {byte}: no gap") };
        assert_eq!(gap.from.place, Place { file: 0, at: (hit * BLOCK) as u64 }, "byte {byte}");
        assert_eq!((gap.from.sequence(), gap.next), (sequence(hit), sequence(hit + 1)), "byte {byte}");
        assert_eq!(replayed.scanned.end, rig.journal.next_place(), "byte {byte}");
    }
}

#[test]
fn a_group_torn_at_any_sector_is_cut() {
    let mut rig = journal(2, 3000);
    let end = rig.journal.next_place();
    rig.submit(&[10_000]).unwrap();
    let bytes = rig.pending[0].1.clone();
    let sectors = bytes.len() / 512;
    for torn in 0..sectors {
        for is_prefix in [true, false] {
            // Either the first sectors landed, or all but one.
            let mut disk = rig.disk.clone();
            for sector in
                (0..sectors).filter(|&sector| if is_prefix { sector < torn } else { sector != torn })
            {
                let at = end.place.at as usize + sector * 512;
                disk.bytes(name(0))[at..at + 512].copy_from_slice(&bytes[sector * 512..][..512]);
            }
            // Zeros where there were to be zeros are no tear.
            if disk.bytes(name(0))[end.place.at as usize..][..bytes.len()] == bytes {
                continue;
            }
            let (_, replayed) = replay(&mut disk).unwrap();
            assert_eq!(replayed.numbers, [0, 1], "sector {torn}");
            assert_eq!((replayed.scanned.end, replayed.scanned.gaps.len()), (end, 0), "sector {torn}");
        }
    }
}

#[test]
fn a_group_of_an_earlier_lap_is_not_taken() {
    let mut rig = Rig::create(3);
    for _ in 0..50 {
        if rig.submit(&[3000]).is_err() {
            rig.write_checkpoint();
            rig.write_checkpoint();
            rig.submit(&[3000]).unwrap();
        }
        rig.land_all();
    }
    let end = rig.journal.next_place();
    let old = header_at(&rig.disk, end.place);
    let mut bytes = rig.disk.files[&name(end.place.file)][end.place.at as usize..].to_vec();
    assert!(
        old.digest_fits(&mut bytes) && old.life == end.after.life,
        "a whole group of this life lies there"
    );
    let (_, replayed) = replay(&mut rig.disk).unwrap();
    assert_eq!((replayed.scanned.end, replayed.scanned.gaps.len()), (end, 0));
}

#[test]
fn a_group_of_an_earlier_life_is_not_taken_though_it_has_the_next_sequence() {
    let mut rig = journal(2, 3000);
    for _ in 0..3 {
        rig.submit(&[3000]).unwrap();
    }
    // Of three groups in flight the first never lands.
    rig.pending.remove(0);
    rig.land_all();
    let (rig, replayed) = Rig::open(rig.disk, 2).unwrap();
    assert_eq!((replayed.numbers.as_slice(), replayed.scanned.gaps.len()), ([0, 1].as_slice(), 0));
    // Behind the start group of this life lies the next group of the earlier one.
    let mut rig = rig;
    let end = rig.journal.next_place();
    let old = header_at(&rig.disk, end.place);
    assert_eq!((old.sequence, old.kind), (end.sequence(), GroupKind::Ordinary));
    let (_, replayed) = replay(&mut rig.disk).unwrap();
    assert_eq!((replayed.numbers.as_slice(), replayed.scanned.end), ([0, 1].as_slice(), end));
}

/// A whole group that a client might put into a payload for that place: everything right but what it can't know.
fn imitation(end: &ReplayPlace, place: Place, life: Life) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    let header = GroupHeader {
        shard: SHARD,
        place,
        sequence: end.sequence().next(),
        durable: end.sequence(),
        previous_digest: end.after.digest,
        life,
        ..GroupHeader::default()
    };
    seal_empty(&mut block, header);
    block
}

#[test]
fn a_payload_that_imitates_a_group_is_no_evidence() {
    let rig = journal(2, 3000);
    let end = rig.journal.next_place();
    let behind = Place { at: end.place.at + BLOCK as u64, ..end.place };
    let known = end.after.life;
    let guessed = Life { origin: Incarnation(7), incarnation: Incarnation(7), number: u32::MAX };
    let stranger = Life { origin: Incarnation(7), ..known };
    let earlier = Life { incarnation: Incarnation(8), number: known.number - 1, ..known };
    for (life, gaps) in [(guessed, 0), (stranger, 0), (earlier, 0), (known, 1)] {
        let mut disk = rig.disk.clone();
        disk.bytes(name(0))[behind.at as usize..][..BLOCK].copy_from_slice(&imitation(&end, behind, life));
        let (_, replayed) = replay(&mut disk).unwrap();
        assert_eq!(replayed.scanned.gaps.len(), gaps, "only this life or a later one is evidence: {life:?}");
        assert_eq!(replayed.numbers, [0, 1]);
    }
}

#[test]
fn a_start_group_of_a_life_that_never_was_is_not_taken() {
    let rig = journal(2, 3000);
    let end = rig.journal.next_place();
    let known = end.after.life;
    let guessed = Life { origin: Incarnation(7), incarnation: Incarnation(7), number: u32::MAX };
    let again = Life { incarnation: Incarnation(8), ..known };
    let next = Life { number: known.number + 1, ..again };
    for (life, is_taken) in [(guessed, false), (again, false), (next, true)] {
        let mut block = vec![0; BLOCK];
        let header = GroupHeader {
            kind: GroupKind::Start,
            shard: SHARD,
            place: end.place,
            sequence: end.sequence(),
            previous_digest: end.after.digest,
            life,
            ..GroupHeader::default()
        };
        seal_empty(&mut block, header);
        let mut disk = rig.disk.clone();
        disk.bytes(name(0))[end.place.at as usize..][..BLOCK].copy_from_slice(&block);
        assert_eq!(replay(&mut disk).unwrap().1.scanned.end != end, is_taken, "{life:?}");
    }
}

#[test]
fn rot_is_reported_again_by_every_later_start_and_all_files_are_kept() {
    let mut rig = journal(20, 6000);
    assert!(rig.journal.next_place().place.file > 0, "the journal goes over a file's end");
    let last_of_first_file = rig.disk.files[&name(0)].len() - 2 * BLOCK;
    // The last groups of the first file, the skip group with them: what follows is in the next file.
    rig.disk.bytes(name(0))[last_of_first_file - 2 * BLOCK..].fill(0x5a);
    let mut before = None;
    for life in 2..5 {
        let (opened, replayed) = Rig::open(rig.disk, life).unwrap();
        assert_eq!(replayed.scanned.gaps.len(), 1, "life {life}");
        assert_eq!(replayed.scanned.free, [], "life {life}: all files are kept");
        assert_eq!(replayed.scanned.used.len(), 3, "life {life}");
        let found = (replayed.scanned.gaps.clone(), replayed.numbers.clone());
        assert_eq!(*before.get_or_insert(found.clone()), found, "life {life}");
        assert!(replayed.numbers.contains(&0) && replayed.numbers.contains(&19), "both ends are there");
        rig = opened;
    }
}

#[test]
fn rot_keeps_files_that_replay_did_not_meet() {
    let mut rig = journal(12, 6000);
    rig.disk.bytes(name(0))[3 * BLOCK] ^= 1;
    let (_, replayed) = replay(&mut rig.disk).unwrap();
    assert_eq!((replayed.scanned.gaps.len(), replayed.scanned.free.as_slice()), (1, [].as_slice()));
    assert_eq!(replayed.scanned.used, [2, 0, 1], "what is kept goes first, and is free first");
}

#[test]
fn files_stay_until_both_copies_of_the_checkpoint_are_past_them() {
    let mut rig = Rig::create(4);
    for _ in 0..40 {
        // One copy at a time: the older one still begins further back.
        rig.write_checkpoint();
        while rig.submit(&[6000]).is_ok() {
            rig.land_all();
        }
        let mut disk = rig.disk.clone();
        let newest = crate::checkpoint::read(&mut disk, SHARD).unwrap().unwrap();
        disk.files.remove(&FileName::Checkpoint { shard: SHARD, copy: newest.copy });
        let (_, replayed) = replay(&mut disk).unwrap();
        assert_eq!(replayed.scanned.gaps.len(), 0);
        assert_eq!(replayed.base + replayed.numbers.len() as i64, rig.next, "nothing is missing");
    }
}

#[test]
fn rot_in_a_start_group_is_found_by_what_its_life_wrote() {
    let rig = journal(2, 3000);
    let start = rig.journal.next_place().place;
    let (mut rig, _) = Rig::open(rig.disk, 2).unwrap();
    rig.submit(&[3000]).unwrap();
    rig.land_all();
    rig.disk.bytes(name(0))[start.at as usize + 200] ^= 1;
    let (_, replayed) = replay(&mut rig.disk).unwrap();
    assert_eq!((replayed.numbers.as_slice(), replayed.scanned.gaps.len()), ([0, 1, 2].as_slice(), 1));
}

#[test]
fn a_checkpoint_that_was_left_behind_by_the_ring_is_not_taken_for_an_empty_journal() {
    let mut rig = journal(1, 3000);
    let stale = rig.checkpoint;
    for _ in 0..60 {
        if rig.submit(&[6000]).is_err() {
            rig.write_checkpoint();
            rig.write_checkpoint();
        }
        rig.land_all();
    }
    let scanned = scan(&mut rig.disk, SHARD, stale.from, FILE_BYTES, |_, _| {}).unwrap();
    assert!(!scanned.gaps.is_empty());
}

#[test]
fn an_error_of_the_device_is_never_the_end() {
    let rig = journal(20, 6000);
    let end = rig.journal.next_place().place;
    for (file, at) in [(0, 0), (0, 5000), (1, 100), (end.file, end.at), (2, 0)] {
        let mut disk = rig.disk.clone();
        disk.unreadable.push((name(file), at));
        let error = replay(&mut disk).unwrap_err();
        let ScanError::Storage(error) = error else { panic!("{error}") };
        assert_eq!(error.path, alloc::format!("{}", name(file)));
    }
}

#[test]
fn a_missing_file_is_a_refusal_and_an_unfinished_one_is_made_again() {
    let mut rig = journal(12, 6000);
    rig.disk.bytes(name(2)).truncate(BLOCK);
    let (_, replayed) = replay(&mut rig.disk).unwrap();
    assert_eq!((replayed.scanned.unfinished.as_slice(), replayed.numbers.len()), ([2].as_slice(), 12));
    let mut disk = rig.disk.clone();
    disk.files.remove(&name(1));
    assert!(matches!(replay(&mut disk), Err(ScanError::MissingFile { bytes: FILE_BYTES, .. })));
}

#[test]
fn another_format_is_refused_but_only_where_the_group_is_whole() {
    let rig = journal(2, 3000);
    let mut disk = rig.disk.clone();
    let group = &mut disk.bytes(name(0))[2 * BLOCK..3 * BLOCK];
    group[8] = 1;
    // Another release's digest: over the changed bytes, by the same rule.
    group[48..56].fill(0);
    let incarnation = rig.journal.next_place().after.life.incarnation.0;
    let seed = (incarnation as u64) ^ ((incarnation >> 64) as u64).rotate_left(32);
    let digest = xxhash_rust::xxh3::xxh3_64_with_seed(group, seed);
    group[48..56].copy_from_slice(&digest.to_le_bytes());
    let error = replay(&mut disk).unwrap_err();
    assert_eq!(error, ScanError::Version { file: name(0), at: 2 * BLOCK as u64, version: 1 });

    let mut disk = rig.disk.clone();
    disk.bytes(name(0))[2 * BLOCK + 8] = 1;
    assert_eq!(replay(&mut disk).unwrap().1.numbers, [0], "a rotten version is rot");
}

#[test]
fn names_of_journal_files_are_exact() {
    assert_eq!(journal_number("0012.journal"), Some(12));
    assert_eq!(journal_number("12345.journal"), Some(12_345));
    for other in ["12.journal", "0012.journa", "+012.journal", "checkpoint-0", "00012.journal", ".journal"] {
        assert_eq!(journal_number(other), None, "{other}");
    }
}

#[test]
fn a_header_of_the_largest_numbers_is_read_without_overflow() {
    let mut block = vec![0; BLOCK];
    let place = Place { file: u32::MAX - 1, at: u64::MAX };
    let life = Life { number: u32::MAX, ..Life::default() };
    let largest = Sequence(u64::MAX);
    let header = GroupHeader { place, life, sequence: largest, durable: largest, ..GroupHeader::default() };
    seal_empty(&mut block, header);
    assert_eq!(GroupHeader::decode(&block).unwrap().next_place().at, u64::MAX);
    let mut rig = journal(1, 3000);
    let end = rig.journal.next_place();
    rig.disk.bytes(name(0))[end.place.at as usize..][..BLOCK].copy_from_slice(&block);
    assert_eq!(replay(&mut rig.disk).unwrap().1.scanned.end, end);
}
