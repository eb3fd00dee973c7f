//! Which files a start removes, and which it leaves.

use alloc::vec;
use alloc::vec::Vec;

use cutwater_model::{FileName, Offset, PartitionId, PartitionIndex, TopicId};

use crate::test_rig::{Rig, batch_of};

const LEFT_BYTES: usize = 8192;

/// Two shards; three of the four partitions have records.
fn rig_with_records() -> Rig {
    let mut rig = Rig::with(|plan| plan.make_large(2, 4));
    for _ in 0..2 {
        for index in 0..3 {
            rig.produce_to(rig.partition(index), &batch_of(1000));
        }
    }
    rig.complete_all();
    rig
}

fn segment(partition: PartitionId, base: i64) -> FileName {
    FileName::Segment { partition, base: Offset(base) }
}

fn index(partition: PartitionId, base: i64) -> FileName {
    FileName::Index { partition, base: Offset(base) }
}

#[test]
fn what_no_partition_names_is_told_at_the_next_start_and_goes_only_where_it_can_be_made_again() {
    let mut rig = rig_with_records();
    let before: Vec<FileName> = rig.disk.names().collect();
    let written = rig.partition(0);
    let never_written = rig.partition(3);
    let stray = index(written, 77);
    // It may be in the checkpoint of another shard that has not been asked yet.
    let elsewhere = index(never_written, 0);
    let unknown = PartitionId { topic: TopicId(0xbad), index: PartitionIndex(0) };
    let segments = [segment(written, 77), segment(never_written, 77), segment(unknown, 0)];
    for file in segments.into_iter().chain([stray, elsewhere]) {
        rig.disk.put(file, vec![1; LEFT_BYTES]);
    }
    rig.restart();
    let is_there = |file| rig.disk.names().any(|name| name == file);
    assert!(!is_there(stray), "{stray} can be made again");
    for file in segments.into_iter().chain([elsewhere]) {
        assert!(is_there(file), "{file} is left alone");
    }
    for file in before {
        assert!(is_there(file), "{file}");
    }
    let notes: Vec<_> = rig.seats.iter().flat_map(|seat| seat.report.notes.iter().cloned()).collect();
    let notes = notes.join("\n");
    assert!(notes.contains("removed"), "{notes}");
    assert!(notes.contains("topics/00000000000000000000000000000bad"), "{notes}");
    assert!(notes.contains(&alloc::format!("{}", segments[0])) && notes.contains("left alone"), "{notes}");
    for index in 0..3 {
        assert_eq!(rig.read_all(rig.partition(index)), [0, 1]);
    }
}

#[test]
fn a_deletion_that_a_crash_interrupted_is_carried_on() {
    let mut rig = rig_with_records();
    rig.delete_topic_untold(rig.topic);
    assert!(rig.disk.names().any(|file| matches!(file, FileName::Segment { .. })));
    rig.restart();
    let of_topic = |file: &FileName| matches!(file, FileName::Segment { .. } | FileName::Index { .. });
    let left: Vec<_> = rig.disk.names().filter(of_topic).collect();
    assert!(left.is_empty(), "{left:?}");
}
