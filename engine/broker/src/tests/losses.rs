//! A start that gives something up on an operator's word (R3).

use alloc::vec::Vec;

use cutwater_journal::group::GroupHeader;
use cutwater_model::limits::BLOCK_BYTES;
use cutwater_model::{ErrorKind, FileName, ShardId};

use crate::StartError;
use crate::test_rig::{Rig, batch};

/// A rig whose journal has one group each for partition 0, 1, 0, 2; of the second one on, the groups named are rotten.
fn rotten(groups: &[usize]) -> Rig {
    let mut rig = Rig::with(|plan| plan.partitions = 4);
    for index in [0, 1, 0, 2] {
        let ticket = rig.produce_to(rig.partition(index), &batch(3));
        rig.complete_all();
        assert!(rig.produced(ticket).unwrap().is_ok());
    }
    let bytes = rig.disk.bytes_mut(FileName::Journal { shard: ShardId(0), number: 0 });
    let blocks: Vec<usize> = (0..bytes.len())
        .step_by(BLOCK_BYTES)
        .filter(|&at| GroupHeader::decode(&bytes[at..][..BLOCK_BYTES]).is_ok())
        .collect();
    for &group in groups {
        // The start group comes first.
        bytes[blocks[1 + group] + 200] ^= 1;
    }
    rig
}

fn append(rig: &mut Rig, index: u32) -> Result<i64, ErrorKind> {
    let ticket = rig.produce_to(rig.partition(index), &batch(3));
    rig.complete_all();
    rig.produced(ticket).unwrap()
}

#[test]
fn what_was_lost_with_an_operators_word_is_remembered_by_every_later_start() {
    // Partition 0 misses its first batch and has the next one; partition 1 has lost all; partition 2 nothing.
    let mut rig = rotten(&[0, 1]);
    assert!(matches!(rig.try_restart(), Err(StartError::Damaged { .. })));
    rig.plan.config.accepts_loss = true;
    rig.restart();
    rig.plan.config.accepts_loss = false;
    let mut end = 0;
    for life in 0..3 {
        assert_eq!(append(&mut rig, 0), Err(ErrorKind::StorageError), "life {life}");
        let appended = append(&mut rig, 1).unwrap();
        assert!(appended >= 3, "life {life}: {appended} was given out before");
        assert!(appended >= end, "life {life}: {appended} after {end}");
        end = appended + 3;
        assert_eq!(append(&mut rig, 2), Ok(3 + 3 * life), "life {life}");
        // Of a partition that nobody wrote to, nobody knows.
        append(&mut rig, 3).unwrap();
        let report = &rig.seats[0].report;
        assert!(report.notes.iter().any(|note| note.contains("takes no appends")), "{report:?}");
        rig.restart();
    }
}
