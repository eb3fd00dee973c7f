//! Batches that find no room wait in their order, and their connections are paused meanwhile.

use alloc::vec::Vec;

use cutwater_api::RequiredAcks;
use cutwater_model::limits::DEFERRED_BYTES_MAX;
use cutwater_model::storage::StorageErrorKind;
use cutwater_model::topic::TopicConfig;
use cutwater_model::{ErrorKind, PartitionId, PartitionIndex};

use crate::test_rig::{Held, Peer, Rig, batch, batch_of, numbered};

/// A rig with a topic whose folder is not made yet, so that its batches wait.
fn rig_with_opening_topic() -> (Rig, PartitionId) {
    let mut rig = Rig::new();
    let topic = rig.create_topic("opening", 1, TopicConfig::default());
    (rig, PartitionId { topic, index: PartitionIndex(0) })
}

#[test]
fn batches_wait_in_their_order_and_their_connections_are_paused_meanwhile() {
    let (mut rig, opening) = rig_with_opening_topic();
    let other = rig.connect(0);
    let peers = [rig.peer, other, rig.peer, other];
    let waiting = peers.map(|peer| rig.produce_with(peer, opening, RequiredAcks::Leader, &batch(2)));
    let (first, second) = (rig.peer.connection, other.connection);
    assert_eq!(rig.seats[0].pauses, [(first, true), (second, true)], "each once");
    let ready = rig.produce(&batch(1));
    rig.complete(Held::writes_group);
    assert_eq!(rig.produced(ready), Some(Ok(0)), "what came before the pause goes on elsewhere");

    rig.complete_all();
    assert_eq!(
        waiting.map(|ticket| rig.produced(ticket)),
        [Some(Ok(0)), Some(Ok(2)), Some(Ok(4)), Some(Ok(6))]
    );
    assert_eq!(rig.answered()[1..], waiting);
    assert_eq!(rig.seats[0].pauses[2..], [(first, false), (second, false)], "each once");
    assert_eq!(rig.read_all(opening), [0, 2, 4, 6]);
}

#[test]
fn a_batch_that_would_find_room_does_not_overtake_one_that_waits() {
    let mut rig = Rig::new();
    rig.produce(&batch(1));
    rig.complete_all();
    // No space is made, so that a batch of half a segment has no place, but a small one would have.
    let large = rig.produce(&batch_of(500_000));
    let small = rig.produce(&batch(1));
    rig.complete_all_but(Held::makes_space);
    assert_eq!([large, small].map(|ticket| rig.produced(ticket)), [None, None]);
    rig.complete_all();
    assert_eq!([large, small].map(|ticket| rig.produced(ticket)), [Some(Ok(1)), Some(Ok(2))]);
}

#[test]
fn a_deleted_topic_refuses_what_waits_and_the_connection_goes_on() {
    let (mut rig, opening) = rig_with_opening_topic();
    let waiting = [1, 2].map(|records| rig.produce_to(opening, &batch(records)));
    rig.delete_topic(opening.topic);
    for ticket in waiting {
        assert_eq!(rig.produced(ticket), Some(Err(ErrorKind::UnknownTopicOrPartition)));
    }
    let connection = rig.peer.connection;
    assert_eq!(rig.seats[0].pauses, [(connection, true), (connection, false)]);
    rig.complete_all();
    let late = rig.produce_to(opening, &batch(1));
    assert_eq!(rig.produced(late), Some(Err(ErrorKind::UnknownTopicOrPartition)));
}

#[test]
fn the_batch_of_a_closed_connection_keeps_its_place() {
    let (mut rig, opening) = rig_with_opening_topic();
    let other = rig.connect(0);
    rig.produce_with(other, opening, RequiredAcks::Leader, &batch(2));
    let after = rig.produce_to(opening, &batch(1));
    rig.close(other);
    rig.complete_all();
    assert_eq!(rig.produced(after), Some(Ok(2)));
    assert_eq!(rig.read_all(opening), [0, 2]);
}

/// Very many connections send a large batch each to a partition of the first shard that has no room; then there is room.
/// Says how many were refused.
fn flood(rig: &mut Rig, opening: PartitionId, peers: &[Peer]) -> usize {
    let large = batch_of(1 << 20);
    let mut asked = Vec::new();
    for &peer in peers {
        asked.push((peer, rig.produce_with(peer, opening, RequiredAcks::Leader, &large)));
        while rig.deliver() {}
    }
    let held = rig.seats[0].shard.deferred_bytes;
    assert!((DEFERRED_BYTES_MAX - (2 << 20)..=DEFERRED_BYTES_MAX).contains(&held), "{held}");
    let is_waiting = |(_, ticket): &(Peer, _)| rig.produced(*ticket).is_none();
    let (waiting, refused): (Vec<_>, Vec<_>) = asked.iter().copied().partition(is_waiting);
    for (_, ticket) in &refused {
        assert_eq!(rig.produced(*ticket), Some(Err(ErrorKind::ThrottlingQuotaExceeded)));
        assert!(*ticket > waiting[waiting.len() - 1].1, "those that came first wait");
    }
    rig.complete_all();
    for (expected, (_, ticket)) in (0..).zip(&waiting) {
        assert_eq!(rig.produced(*ticket), Some(Ok(expected)), "in their order");
    }
    assert_eq!(rig.seats[0].shard.deferred_bytes, 0);
    // Who was refused may send again.
    let again = rig.produce_with(refused[0].0, opening, RequiredAcks::Leader, &large);
    rig.complete_all();
    assert_eq!(rig.produced(again), Some(Ok(waiting.len() as i64)));
    refused.len()
}

#[test]
fn what_very_many_connections_wait_with_is_bounded_and_more_is_to_be_sent_again() {
    let mut rig = Rig::with(|plan| plan.memory_bytes = 32 << 20);
    let topic = rig.create_topic("opening", 1, TopicConfig::default());
    let opening = PartitionId { topic, index: PartitionIndex(0) };
    let peers: Vec<Peer> = (0..1000).map(|_| rig.connect(0)).collect();
    let refused = flood(&mut rig, opening, &peers);
    assert!(refused >= 1000 - 128, "{refused}");
}

#[test]
fn what_connections_of_other_shards_wait_with_counts_too() {
    let mut rig = Rig::with(|plan| (plan.shards, plan.partitions, plan.memory_bytes) = (2, 2, 32 << 20));
    let topic = rig.create_topic("opening", 2, TopicConfig::default());
    let mut partitions = (0..2).map(|index| PartitionId { topic, index: PartitionIndex(index) });
    let opening = partitions.find(|id| rig.seats[0].shard.partitions.slot_of(*id).is_some()).unwrap();
    let peers: Vec<Peer> = (0..300).map(|number| rig.connect(number % 2)).collect();
    let refused = flood(&mut rig, opening, &peers);
    assert!(refused >= 300 - 128, "{refused}");
}

#[test]
fn a_full_disk_refuses_what_needs_space_and_not_a_retry_of_what_is_appended() {
    let mut rig = Rig::new();
    let first = rig.produce(&numbered(7, 0));
    // Its group is held, so that the retry has to wait, behind a batch for which there is no space.
    let large = rig.produce(&batch_of(500_000));
    let retry = rig.produce(&numbered(7, 0));
    rig.complete_all_but(|held| held.makes_space() || held.writes_group());
    rig.fail(Held::makes_space, StorageErrorKind::Full);
    assert_eq!(rig.produced(large), Some(Err(ErrorKind::DiskFull)));
    assert_eq!([first, retry].map(|ticket| rig.produced(ticket)), [None, None]);
    rig.complete(Held::writes_group);
    assert_eq!([first, retry].map(|ticket| rig.produced(ticket)), [Some(Ok(0)), Some(Ok(0))]);
}
