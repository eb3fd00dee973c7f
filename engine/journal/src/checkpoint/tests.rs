//! Every crash and every flipped bit leaves a checkpoint that counts, or a refusal.

use alloc::{vec, vec::Vec};

use cutwater_model::storage::Storage;
use cutwater_model::{FileName, Incarnation, ShardId};

use super::*;
use crate::place::{Place, ReplayPlace};
use crate::test_disk::TestDisk;
use crate::test_rig::Rig;

const SHARD: ShardId = ShardId(1);
const COPIES: [FileName; 2] =
    [FileName::Checkpoint { shard: SHARD, copy: 0 }, FileName::Checkpoint { shard: SHARD, copy: 1 }];

fn created() -> (TestDisk, CheckpointHead) {
    let mut disk = TestDisk::default();
    let head = create(&mut disk, SHARD, Incarnation(5), 65_536).unwrap();
    (disk, head)
}

fn write(disk: &mut TestDisk, copy: u8, generation: u64, records: &[Vec<u8>]) -> Result<(), CheckpointError> {
    let from = ReplayPlace { place: Place { file: 2, at: 8192 }, ..ReplayPlace::first(Incarnation(5)) };
    let head =
        CheckpointHead { shard: SHARD, generation, from, journal_file_bytes: 65_536, ..Default::default() };
    let mut rest = records.iter();
    write_copy(disk, copy, head, |record| {
        rest.next().is_some_and(|bytes| {
            record.extend_from_slice(bytes);
            true
        })
    })
}

fn records(disk: &mut TestDisk, found: &FoundCheckpoint) -> Vec<Vec<u8>> {
    let mut body = CheckpointBody::new(found);
    let (mut records, mut record) = (Vec::new(), Vec::new());
    while body.next_record(disk, &mut record).unwrap() {
        records.push(record.clone());
    }
    records
}

#[test]
fn a_shard_without_a_journal_has_no_checkpoint_until_one_is_made() {
    assert_eq!(read(&mut TestDisk::default(), SHARD), Ok(None));
    let (mut disk, head) = created();
    // The partitions it gets may have been another shard's, which showed more than became durable.
    assert!(!head.names_all);
    let found = read(&mut disk, SHARD).unwrap().unwrap();
    assert_eq!((found.head, found.other), (head, OtherCopy::Same));
    assert_eq!(records(&mut disk, &found), Vec::<Vec<u8>>::new());
}

#[test]
fn a_crash_at_any_write_of_the_making_is_made_good() {
    for writes in 0..8 {
        let mut disk = TestDisk { writes_left: Some(writes), ..TestDisk::default() };
        let is_whole = create(&mut disk, SHARD, Incarnation(5), 65_536).is_ok();
        disk.writes_left = None;
        match read(&mut disk, SHARD).unwrap() {
            Some(found) => repair(&mut disk, &found).unwrap(),
            None => {
                assert!(!is_whole);
                create(&mut disk, SHARD, Incarnation(6), 65_536).unwrap();
            }
        }
        assert_eq!(read(&mut disk, SHARD).unwrap().unwrap().other, OtherCopy::Same, "after {writes} writes");
    }
}

#[test]
fn records_of_any_size_come_back_across_pieces() {
    let (mut disk, _) = created();
    let sizes = [1, 4091, 4092, 4093, CHECKPOINT_PIECE_BYTES - 8, CHECKPOINT_PIECE_BYTES, 700_000, 3];
    let written: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(n, &size)| vec![n as u8 + 1; size]).collect();
    for count in 0..=written.len() {
        write(&mut disk, 1, 2 + count as u64, &written[..count]).unwrap();
        let found = read(&mut disk, SHARD).unwrap().unwrap();
        assert_eq!((found.copy, found.head.generation), (1, 2 + count as u64));
        assert_eq!(found.other, OtherCopy::Older);
        assert!(records(&mut disk, &found) == written[..count], "{count} records");
    }
}

#[test]
fn a_crash_at_any_write_of_a_copy_leaves_the_other_one() {
    let old = [vec![7; 5000]];
    let new = [vec![8; 300_000], vec![9; 300_000]];
    for writes in 0..12 {
        let (mut disk, _) = created();
        write(&mut disk, 0, 2, &old).unwrap();
        write(&mut disk, 1, 2, &old).unwrap();
        disk.writes_left = Some(writes);
        let is_whole = write(&mut disk, 0, 3, &new).is_ok();
        disk.writes_left = None;
        let found = read(&mut disk, SHARD).unwrap().unwrap();
        let expected: &[Vec<u8>] = if is_whole { &new } else { &old };
        assert!(records(&mut disk, &found) == expected, "after {writes} writes");
        repair(&mut disk, &found).unwrap();
        let repaired = read(&mut disk, SHARD).unwrap().unwrap();
        assert_eq!((repaired.head, repaired.other), (found.head, OtherCopy::Same));
    }
}

/// The flush of the newer copy may have failed in its own life, and what is read of it be in a cache alone (E1).
#[test]
fn the_copy_that_counts_is_made_durable_again_before_the_other_one_is_touched() {
    let (mut disk, _) = created();
    write(&mut disk, 1, 2, &[vec![7; 5000]]).unwrap();
    let found = read(&mut disk, SHARD).unwrap().unwrap();
    assert_eq!((found.copy, found.other), (1, OtherCopy::Older));
    disk.done.clear();
    repair(&mut disk, &found).unwrap();
    let [other, counts] = COPIES;
    let expected = [counts, other].map(|file| [("write", file), ("write", file), ("flush", file)]);
    assert_eq!(disk.done, expected.concat(), "body, head, flush");
}

#[test]
fn a_flipped_bit_in_one_copy_is_survived_and_in_both_refused() {
    let (mut disk, _) = created();
    for copy in [0, 1] {
        write(&mut disk, copy, 2, &[vec![1; 100], vec![2; 5000]]).unwrap();
    }
    let stored = 3 * 4096;
    for byte in 0..stored {
        let mut rotten = disk.clone();
        rotten.bytes(COPIES[0])[byte] ^= 1 << (byte % 8);
        let found = read(&mut rotten, SHARD).unwrap().unwrap();
        assert_eq!(found.copy, 1, "byte {byte}");
        let fault = if byte < 4096 { CopyFault::Head } else { CopyFault::Body };
        assert_eq!(found.other, OtherCopy::Damaged(fault), "byte {byte}");
        if byte % 97 == 0 {
            rotten.bytes(COPIES[1])[stored - 1 - byte] ^= 1;
            assert!(matches!(read(&mut rotten, SHARD), Err(CheckpointError::BothLost { .. })), "byte {byte}");
        }
    }
}

#[test]
fn a_copy_that_cannot_be_read_counts_as_lost_and_other_errors_refuse() {
    let (mut disk, _) = created();
    disk.unreadable.push((COPIES[1], 0));
    let found = read(&mut disk, SHARD).unwrap().unwrap();
    assert_eq!((found.copy, found.other), (0, OtherCopy::Damaged(CopyFault::Unreadable)));
    disk.unreadable.push((COPIES[0], 0));
    assert!(matches!(read(&mut disk, SHARD), Err(CheckpointError::BothLost { .. })));
}

#[test]
fn a_newer_format_and_another_shards_checkpoint_are_told_from_rot() {
    let (mut disk, _) = created();
    let mut block = disk.bytes(COPIES[1])[..4096].to_vec();
    block[8] = 9;
    block[40..48].fill(0);
    let digest = xxhash_rust::xxh3::xxh3_64(&block);
    block[40..48].copy_from_slice(&digest.to_le_bytes());
    disk.bytes(COPIES[1])[..4096].copy_from_slice(&block);
    assert_eq!(read(&mut disk, SHARD), Err(CheckpointError::Newer { file: COPIES[1], version: 9 }));

    let (mut disk, _) = created();
    let bytes = disk.bytes(COPIES[0]).clone();
    for copy in [0, 1] {
        disk.files.insert(FileName::Checkpoint { shard: ShardId(2), copy }, bytes.clone());
    }
    let error = read(&mut disk, ShardId(2)).unwrap_err();
    let fault = CopyFault::OtherShard(SHARD);
    assert_eq!(error, CheckpointError::BothLost { shard: ShardId(2), first: fault, second: fault });
}

#[test]
fn a_used_journal_without_a_checkpoint_is_refused() {
    let mut disk = Rig::create(3).disk;
    for copy in [0, 1] {
        disk.remove(FileName::Checkpoint { shard: crate::test_rig::SHARD, copy }).unwrap();
    }
    assert_eq!(read(&mut disk, crate::test_rig::SHARD), Ok(None));
    let before = disk.files.clone();
    let error = create(&mut disk, crate::test_rig::SHARD, Incarnation(9), 65_536).unwrap_err();
    assert!(matches!(error, CheckpointError::Orphaned { .. }));
    assert!(disk.files == before, "nothing was changed");
}
