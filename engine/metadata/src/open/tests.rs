//! Rot, loss and other nodes' folders: survived where one copy is good, refused otherwise, never deleted.

use alloc::vec;
use alloc::vec::Vec;

use cutwater_model::ShardId;
use cutwater_model::TopicId;
use cutwater_model::topic::TopicConfig;

use super::*;
use crate::command::Command;
use crate::test_disk::TestDisk;

const ME: Identity = Identity { cluster: 0x77, node: 1 };

/// Metadata of three topics, and the bytes that each copy uses.
fn metadata() -> (TestDisk, Controller, usize) {
    let mut disk = TestDisk::default();
    let (mut controller, report) = Controller::open(&mut disk, None, ME, 2).unwrap();
    assert!(report.is_new);
    for (id, name) in [(1, "one"), (2, "two"), (3, "three")] {
        let command = Command::CreateTopic { name, partitions: 2, config: TopicConfig::default() };
        controller.apply(&mut disk, &command, TopicId(id)).unwrap();
    }
    let used = disk.files[&file(0)].iter().rposition(|&byte| byte != 0).unwrap() + 1;
    (disk, controller, used)
}

fn used_journal() -> FileName {
    FileName::Journal { shard: ShardId(0), number: 0 }
}

#[test]
fn a_flipped_bit_in_one_copy_is_repaired_from_the_other() {
    let (disk, controller, used) = metadata();
    // Not every byte: the copies are a megabyte long. All of the frames, and some of the head.
    let bytes = (0..4096).step_by(61).chain(0..64).chain(4096..used);
    for (turn, byte) in bytes.enumerate() {
        let mut rotten = disk.clone();
        let copy = turn % 2;
        rotten.bytes(file(copy))[byte] ^= 1 << (turn % 8);
        let (opened, _) = Controller::open(&mut rotten, Some(ME), ME, 2).unwrap();
        assert_eq!(opened.image(), controller.image(), "byte {byte} of copy {copy}");
        let (_, again) = Controller::open(&mut rotten, Some(ME), ME, 2).unwrap();
        assert_eq!(again, OpenReport::default(), "byte {byte}: repaired");
    }
}

#[test]
fn rot_in_both_copies_is_refused_and_nothing_is_changed() {
    let (disk, _, used) = metadata();
    for byte in [3, 30, 4100, 4150, used - 200] {
        let mut rotten = disk.clone();
        for copy in [0, 1] {
            rotten.bytes(file(copy))[byte] ^= 4;
        }
        rotten.files.insert(used_journal(), vec![0; 4096]);
        let before = rotten.files.clone();
        let error = Controller::open(&mut rotten, Some(ME), ME, 2).unwrap_err();
        assert!(matches!(error, OpenError::BothLost { .. }), "byte {byte}: {error}");
        assert!(rotten.files == before, "byte {byte}: nothing was changed");
    }
}

#[test]
fn a_copy_that_lost_its_end_does_not_stand_in_for_one_that_is_rotten_before_it() {
    let (mut disk, _, used) = metadata();
    // Copy 0 loses its last record, copy 1 an earlier one: neither alone shows all, copy 1 shows that there was more.
    disk.bytes(file(0))[used - 4] ^= 1;
    disk.bytes(file(1))[used - 120] ^= 1;
    let error = Controller::open(&mut disk, Some(ME), ME, 2).unwrap_err();
    assert!(matches!(error, OpenError::BothLost { .. }), "{error}");
}

#[test]
fn data_without_metadata_is_refused() {
    for data in
        [used_journal(), FileName::Segment { partition: Default::default(), base: cutwater_model::Offset(0) }]
    {
        let mut disk = TestDisk::default();
        disk.files.insert(data, vec![1; 4096]);
        let error = Controller::open(&mut disk, None, ME, 2).unwrap_err();
        assert!(matches!(error, OpenError::Orphaned { .. }), "{error}");
        assert_eq!(disk.files.len(), 1, "nothing was made, nothing deleted");
        // Nor where one copy is there and is empty.
        disk.files.insert(file(1), vec![0; 1 << 20]);
        assert!(matches!(Controller::open(&mut disk, None, ME, 2), Err(OpenError::BothLost { .. })));
    }
}

#[test]
fn one_copy_is_enough_and_the_other_is_made_anew() {
    let (disk, controller, _) = metadata();
    for copy in [0, 1] {
        let mut lost = disk.clone();
        lost.files.remove(&file(copy));
        let (opened, report) = Controller::open(&mut lost, Some(ME), ME, 2).unwrap();
        assert_eq!(opened.image(), controller.image());
        assert_eq!(report.repaired, Some((file(copy), CopyFault::Missing)));
        let mut unreadable = disk.clone();
        unreadable.unreadable = Some(file(copy));
        let (_, report) = Controller::open(&mut unreadable, Some(ME), ME, 2).unwrap();
        assert_eq!(report.repaired, Some((file(copy), CopyFault::Unreadable)));
    }
}

#[test]
fn another_nodes_folder_is_refused() {
    let (mut disk, _, _) = metadata();
    for other in [Identity { node: 2, ..ME }, Identity { cluster: 0x78, ..ME }] {
        let error = Controller::open(&mut disk, Some(other), other, 2).unwrap_err();
        assert_eq!(error, OpenError::OtherNode { found: ME, expected: other });
    }
    let fresh = Identity { cluster: 1, node: 1 };
    let (opened, _) = Controller::open(&mut disk, None, fresh, 2).unwrap();
    assert_eq!(opened.identity(), ME, "a folder keeps its identity");
}

#[test]
fn a_newer_format_is_refused_by_file_and_version() {
    let (mut disk, _, _) = metadata();
    let block = &mut disk.bytes(file(1))[..4096];
    block[8] = 3;
    block[16..24].fill(0);
    let digest = xxhash_rust::xxh3::xxh3_64(block);
    block[16..24].copy_from_slice(&digest.to_le_bytes());
    let error = Controller::open(&mut disk, Some(ME), ME, 2).unwrap_err();
    assert_eq!(error, OpenError::Newer { file: file(1), version: 3 });
}

#[test]
fn a_crash_while_the_metadata_is_made_is_made_good() {
    let mut outcomes = Vec::new();
    for writes in 0..8 {
        let mut disk = TestDisk { writes_left: Some(writes), ..TestDisk::default() };
        outcomes.push(Controller::open(&mut disk, Some(ME), ME, 2).is_ok());
        disk.writes_left = None;
        let (controller, _) = Controller::open(&mut disk, Some(ME), ME, 2).unwrap();
        assert_eq!((controller.identity(), controller.image().shards()), (ME, 2), "after {writes} writes");
    }
    assert!(!outcomes[0] && outcomes[7]);
}
