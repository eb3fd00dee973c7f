//! Partitions move where the number of shards changes (R2).

use alloc::vec::Vec;

use cutwater_model::topic::Durability;
use cutwater_model::{FileName, ShardId};

use crate::start::StartError;
use crate::test_rig::{Rig, batch_of};

#[test]
fn shards_that_started_before_the_partitions_had_moved_took_nothing_from_them() {
    let mut rig = Rig::with(|plan| {
        plan.shards = 2;
        plan.partitions = 6;
        plan.topic.durability = Durability::Memory;
        plan.topic.segment_bytes = 256 * 1024;
    });
    let owner = |rig: &Rig, index| rig.controller.image().shard_of(rig.partition(index));
    let before: Vec<_> = (0..6).map(|index| owner(&rig, index)).collect();
    let mut next = Rig::with(|plan| {
        plan.shards = 2;
        plan.partitions = 6;
    });
    next.change_shards(3);
    // Only those that go from the second shard to the first have anything: so the first one finds nothing amiss.
    let moving: Vec<u32> = (0..6)
        .filter(|&index| {
            before[index as usize] == Some(ShardId(1)) && owner(&next, index) == Some(ShardId(0))
        })
        .collect();
    assert!(!moving.is_empty(), "{before:?}");
    for &index in &moving {
        for _ in 0..40 {
            rig.produce_to(rig.partition(index), &batch_of(10_000));
            rig.complete_all();
        }
    }
    rig.want_checkpoint(1);
    rig.complete_all();
    let indexes = |rig: &Rig| rig.disk.names().filter(|file| matches!(file, FileName::Index { .. })).count();
    let indexes_before = indexes(&rig);
    assert!(indexes_before > 0, "a segment is sealed");

    rig.disk.crash();
    rig.change_shards(3);
    let refused = rig.try_restart();
    assert!(matches!(refused, Err(StartError::Misplaced { shard: ShardId(1), .. })), "{refused:?}");
    assert_eq!(indexes(&rig), indexes_before, "they are another shard's");
    rig.disk.crash();
    rig.try_restart_with_shards(3).unwrap();
    for &index in &moving {
        assert_eq!(rig.read_all(rig.partition(index)).len(), 40);
    }
}
