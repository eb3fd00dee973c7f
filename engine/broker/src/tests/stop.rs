//! A clean stop: everything is answered, a last checkpoint names it all, and nothing is written afterwards (C1).

use cutwater_api::{Request, Response};
use cutwater_model::topic::{Durability, TopicConfig};
use cutwater_model::{ErrorKind, PartitionId, PartitionIndex};

use crate::test_rig::{Held, Rig, batch, batch_of};

#[test]
fn a_stop_waits_for_what_is_under_way_and_leaves_nothing_to_replay() {
    let mut rig = Rig::new();
    let tickets = [50, 40_000, 50].map(|size| rig.produce(&batch_of(size)));
    rig.stop();
    rig.complete_all_but(Held::flushes_checkpoint);
    assert!(!rig.seats[0].has_stopped, "the last checkpoint is not durable");
    rig.complete_all();
    assert!(rig.seats[0].has_stopped);
    assert!(rig.held.is_empty());
    let produced = tickets.map(|ticket| rig.produced(ticket).expect("everybody is answered"));
    let accepted = produced.iter().filter(|it| it.is_ok()).count();
    assert_eq!(produced[0], Ok(0));

    rig.crash_and_restart();
    assert_eq!((rig.seats[0].report.groups, rig.seats[0].report.entries), (0, 0));
    assert_eq!(rig.read_all(rig.partition(0)).len(), accepted);
}

#[test]
fn nothing_is_appended_after_a_stop_began() {
    let mut rig = Rig::new();
    rig.produce(&batch(1));
    rig.complete_all();
    rig.stop();
    let during = rig.produce(&batch(1));
    assert_eq!(rig.produced(during), Some(Err(ErrorKind::NotReady)));
    let asked = rig.ask(rig.peer, Request::AllocateProducerId);
    assert_eq!(rig.answer(asked), Some(&Response::Refused(ErrorKind::NotReady)));
    rig.complete_all();
    assert!(rig.seats[0].has_stopped);
    let late = rig.produce(&batch(1));
    rig.wait_us(100_000);
    assert_eq!(rig.produced(late), Some(Err(ErrorKind::NotReady)));
    assert!(rig.held.is_empty(), "nothing is written after Stopped");
    rig.crash_and_restart();
    assert_eq!(rig.read_all(rig.partition(0)), [0]);
}

#[test]
fn batches_that_wait_for_room_are_refused_by_a_stop() {
    let mut rig = Rig::new();
    let topic = rig.create_topic("opening", 1, TopicConfig::default());
    let partition = PartitionId { topic, index: PartitionIndex(0) };
    let waiting = rig.produce_to(partition, &batch(1));
    rig.stop();
    rig.complete_all();
    assert_eq!(rig.produced(waiting), Some(Err(ErrorKind::NotReady)));
    assert!(rig.seats[0].has_stopped);
}

#[test]
fn a_clean_stop_of_a_memory_topic_skips_no_offsets() {
    let mut rig = Rig::with(|plan| {
        plan.topic = TopicConfig { durability: Durability::Memory, ..plan.topic };
    });
    rig.produce(&batch(2));
    rig.stop();
    rig.complete_all();
    assert!(rig.seats[0].has_stopped);
    rig.crash_and_restart();
    let next = rig.produce(&batch(1));
    rig.complete_all();
    assert_eq!(rig.produced(next), Some(Ok(2)));
}
