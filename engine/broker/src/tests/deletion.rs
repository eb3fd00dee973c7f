//! Deleted topics: their files go when nothing names them, and the metadata is told when no entry does (M2).

use alloc::string::ToString;

use cutwater_api::{Fetch, FetchPart, Response};
use cutwater_model::topic::TopicConfig;
use cutwater_model::{DirName, Offset, PartitionId, PartitionIndex};

use crate::test_rig::{Held, Rig, batch, batch_of};
use crate::{ControlCommand, Effect};

fn has_files(rig: &Rig, partition: PartitionId) -> bool {
    rig.disk.names().any(|name| name.dir() == DirName::Partition(partition))
}

fn is_gone(rig: &Rig) -> bool {
    rig.seats[0].commands.iter().any(|command| matches!(command, ControlCommand::TopicGone { .. }))
}

#[test]
fn a_deleted_topics_files_go_and_two_checkpoints_later_the_topic_is_gone() {
    let mut rig = Rig::new();
    let partition = rig.partition(0);
    rig.produce(&batch(1));
    rig.complete_all();
    assert!(has_files(&rig, partition));
    let used_bytes = rig.seats[0].shard.counters().memory_used_bytes;
    rig.delete_topic(rig.topic);
    rig.complete_all_but(Held::flushes_checkpoint);
    assert!(!has_files(&rig, partition));
    assert!(rig.seats[0].shard.counters().memory_used_bytes < used_bytes);
    for _ in 0..2 {
        assert!(!is_gone(&rig), "a copy of the checkpoint or the journal may still name it");
        rig.complete(Held::flushes_checkpoint);
        rig.complete_all_but(Held::flushes_checkpoint);
    }
    assert!(is_gone(&rig));
}

#[test]
fn nothing_goes_while_a_group_that_names_the_topic_is_in_flight() {
    let mut rig = Rig::new();
    rig.produce(&batch(1));
    rig.complete_all();
    let ticket = rig.produce(&batch(1));
    rig.delete_topic(rig.topic);
    rig.complete_all_but(Held::writes_group);
    assert!(has_files(&rig, rig.partition(0)), "a crash may bring the group's entries back");
    rig.complete_all();
    assert_eq!(rig.produced(ticket), Some(Ok(1)), "it was durable");
    assert!(!has_files(&rig, rig.partition(0)));
}

#[test]
fn nothing_goes_while_it_is_read() {
    let mut rig = Rig::new();
    rig.produce(&batch_of(6_000));
    rig.complete_all();
    rig.want_checkpoint(0);
    rig.complete_all();
    rig.restart();
    let ticket = rig.fetch(0);
    assert_eq!(rig.count(Held::reads), 1);
    rig.delete_topic(rig.topic);
    rig.complete_all_but(Held::reads);
    assert!(has_files(&rig, rig.partition(0)));
    rig.complete_all();
    rig.sent(ticket);
    rig.complete_all();
    assert!(!has_files(&rig, rig.partition(0)));
}

#[test]
fn a_topic_of_the_same_name_begins_empty_and_stays_so_after_a_crash() {
    let mut rig = Rig::new();
    for size in [100, 40_000, 100] {
        rig.produce(&batch_of(size));
        rig.complete_all();
    }
    rig.delete_topic(rig.topic);
    rig.complete_all();
    let topic = rig.create_topic("first", 1, TopicConfig::default());
    let partition = PartitionId { topic, index: PartitionIndex(0) };
    rig.complete_all();
    assert_eq!(rig.read_all(partition), []);
    let ticket = rig.produce_to(partition, &batch(1));
    rig.complete_all();
    assert_eq!(rig.produced(ticket), Some(Ok(0)));
    rig.crash_and_restart();
    assert_eq!(rig.read_all(partition), [0]);
}

#[test]
fn a_crash_at_any_step_of_a_deletion_leaves_the_other_topics_whole() {
    for steps in 0..60 {
        let mut rig = Rig::new();
        let topic = rig.create_topic("kept", 1, TopicConfig::default());
        let kept = PartitionId { topic, index: PartitionIndex(0) };
        for _ in 0..3 {
            rig.produce(&batch(1));
            rig.produce_to(kept, &batch(1));
        }
        rig.complete_all();
        rig.delete_topic(rig.topic);
        for _ in 0..steps {
            if !rig.held.is_empty() {
                rig.complete(Held::anything);
            }
        }
        rig.crash_and_restart();
        assert_eq!(rig.read_all(kept), [0, 1, 2], "after {steps} steps");
    }
}

#[test]
fn a_topic_of_many_partitions_goes_a_few_files_at_a_time_and_its_readers_look_once() {
    const PARTITIONS: u32 = 2000;
    let removes = |held: &Held| matches!(held.effect, Effect::Remove { .. } | Effect::RemoveDir { .. });
    let mut rig = Rig::with(|plan| plan.make_large(2, PARTITIONS));
    let of_first_shard = || (0..PARTITIONS).step_by(2);
    for index in of_first_shard() {
        rig.produce_to(rig.partition(index), &batch(1));
    }
    // Nothing gets to its segment yet.
    rig.complete_all_but(Held::writes_header);
    let reader = rig.connect(1);
    let part = |index| FetchPart { partition: rig.partition(index), offset: Offset(1), bytes_max: 1000 };
    let parts = of_first_shard().map(part).collect();
    let fetch = Fetch { wait_ms_max: 60_000, bytes_min: 1, bytes_max: 1000, parts };
    let ticket = rig.fetch_with(reader, fetch);
    while rig.deliver() {}
    assert_eq!(rig.seats[0].shard.settle.dirty.len(), PARTITIONS as usize / 2);

    rig.delete_topic(rig.topic);
    assert!(rig.seats[0].shard.settle.dirty.is_empty());
    assert_eq!(rig.messages(0, 1), 1, "it is told once, whatever it watches");
    rig.complete_all_but(removes);
    let mut most = 0;
    while rig.count(removes) > 0 {
        most = most.max(rig.count(|held| removes(held) && held.shard == 0));
        rig.step();
    }
    assert!((32..100).contains(&most), "{most} files and folders at a time");
    assert!(!rig.disk.names().any(|name| name.to_string().contains("topics")));
    rig.complete_all();
    let answer = rig.answer(ticket).expect("it doesn't wait for what is gone");
    let Response::Fetched(fetched) = answer else { panic!("{answer:?}") };
    assert!(fetched.parts.iter().all(|part| part.error.is_some()));
    assert_eq!(fetched.parts.len(), PARTITIONS as usize / 2);
}
