//! What must hold after a start that gives something up.

use alloc::vec::Vec;

use cutwater_journal::group::GroupHeader;
use cutwater_model::limits::BLOCK_BYTES;
use cutwater_model::{ErrorKind, FileName, Offset, ShardId, TopicId};

use super::StartError;
use crate::test_rig::{Rig, TestDisk, partition};

const TOPIC: TopicId = TopicId(1);

/// A disk whose journal has one group each for partition 0, 1, 0, 2; of the second one on, the groups named are rotten.
fn rotten(groups: &[usize]) -> TestDisk {
    let mut rig = Rig::new();
    rig.create_topic(TOPIC.0, 4);
    rig.settle(|_| true);
    for index in [0, 1, 0, 2] {
        let asked = rig.produce(partition(TOPIC, index), 3);
        rig.settle(|_| true);
        assert_eq!(rig.acks[&asked].error, None);
    }
    let file = FileName::Journal { shard: ShardId(0), number: 0 };
    let bytes = rig.disk.files.get_mut(&file).unwrap();
    let blocks: Vec<usize> = (0..bytes.len())
        .step_by(BLOCK_BYTES)
        .filter(|&at| GroupHeader::decode(&bytes[at..][..BLOCK_BYTES]).is_ok())
        .collect();
    for &group in groups {
        // The start group comes first.
        bytes[blocks[1 + group] + 200] ^= 1;
    }
    rig.disk
}

fn append(rig: &mut Rig, index: u32) -> Result<Offset, ErrorKind> {
    let asked = rig.produce(partition(TOPIC, index), 3);
    rig.settle(|_| true);
    let produced = rig.acks[&asked];
    produced.error.map_or(Ok(produced.base_offset), Err)
}

#[test]
fn what_was_lost_with_an_operators_word_is_remembered_by_every_later_start() {
    // Partition 0 misses its first batch and has the next one; partition 1 has lost all; partition 2 nothing.
    let disk = rotten(&[0, 1]);
    assert!(matches!(Rig::start(disk.clone(), false), Err(StartError::Damaged { .. })));
    let mut rig = Rig::start(disk, true).unwrap_or_else(|error| panic!("{error}"));
    let mut lives = 0;
    let mut end = Offset(0);
    loop {
        assert_eq!(append(&mut rig, 0), Err(ErrorKind::StorageError), "life {lives}");
        let appended = append(&mut rig, 1).unwrap();
        assert!(appended >= Offset(3), "life {lives}: {appended:?} was given out before");
        assert!(appended >= end, "life {lives}: {appended:?} after {end:?}");
        end = appended.after(3);
        assert_eq!(append(&mut rig, 2), Ok(Offset(3 + 3 * lives)), "life {lives}");
        // Of a partition that nobody wrote to, nobody knows.
        append(&mut rig, 3).unwrap();
        assert!(rig.report.notes.iter().any(|note| note.contains("takes no appends")), "{:?}", rig.report);
        lives += 1;
        if lives == 3 {
            return;
        }
        rig = Rig::start(rig.disk, false).unwrap_or_else(|error| panic!("{error}"));
    }
}
