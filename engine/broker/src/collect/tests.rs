//! What fetches of another shard's partitions may cost, whoever asks and however often.

use alloc::vec;
use alloc::vec::Vec;

use cutwater_api::{ConnectionId, Fetch, FetchPart, RequiredAcks, Subscribe, SubscriptionId};
use cutwater_api::{Request, Response};
use cutwater_model::topic::TopicConfig;
use cutwater_model::{Offset, limits};

use crate::Input;
use crate::test_node::{CONNECTION, TestNode, batch_of, bytes_of, payload_of};

const BATCH_BYTES: usize = 900_000;
/// What may be on the way between two shards, or be held by the one that asked.
const ROOM_BYTES: usize = (limits::COLLECTED_BYTES_MAX + limits::COLLECT_BYTES_IN_FLIGHT_MAX) as usize;
/// Three answers may be begun before any of them is known to be large.
const CONNECTION_BYTES: usize = 3 * BATCH_BYTES + limits::SEND_BYTES_PINNED_MAX as usize;

/// Two shards; the partition of shard 0 has some batches of so many bytes.
fn node_with(batches: usize, bytes: usize) -> TestNode {
    let mut node = TestNode::new(2, TopicConfig::default());
    let partition = node.partition_of(0);
    for _ in 0..batches {
        node.produce(0, partition, RequiredAcks::All, &batch_of(bytes));
        node.settle();
    }
    assert_eq!(node.seats[0].acks.len(), batches);
    assert!(node.seats[0].acks.iter().all(|(_, produced)| produced.error.is_none()));
    node
}

fn assert_all_given_back(node: &mut TestNode) {
    for seat in &mut node.seats {
        assert_eq!(seat.shard.room.used(), 0, "room");
        assert_eq!(seat.shard.connections.answer_bytes(CONNECTION), 0, "charges");
        assert_eq!(seat.shard.pins_held(), 0);
        assert!(seat.shard.readers.ids().is_empty(), "readers");
    }
    assert_eq!(node.message_bytes(), 0);
}

#[test]
fn fetches_that_nobody_takes_are_collected_up_to_the_bound_of_their_connection() {
    let mut node = node_with(1, BATCH_BYTES);
    let partition = node.partition_of(0);
    for seat in [0, 1] {
        for _ in 0..2000 {
            node.fetch(seat, CONNECTION, &[partition], 1);
            assert!(node.message_bytes() < ROOM_BYTES);
        }
        node.settle();
        let unsent = node.unsent_bytes(seat);
        assert!(unsent <= CONNECTION_BYTES, "shard {seat}: {unsent} bytes");
        assert!(unsent >= BATCH_BYTES, "shard {seat}: something was answered");
        // As the peer takes its answers the others follow, all of them, and never more at once.
        let mut answered = 0;
        while answered < 2000 {
            let taken = node.take_replies(seat);
            assert!(!taken.is_empty(), "stuck after {answered}");
            for (_, response) in &taken {
                let Response::Fetched(fetched) = response else { panic!("{response:?}") };
                assert!(
                    bytes_of(fetched) > BATCH_BYTES,
                    "the batch is larger than was asked, and comes whole"
                );
            }
            answered += taken.len();
            node.settle();
            assert!(node.unsent_bytes(seat) <= CONNECTION_BYTES);
        }
        assert_all_given_back(&mut node);
    }
}

#[test]
fn a_shard_asks_for_no_more_than_it_has_room_for_whoever_asks() {
    let mut node = node_with(1, BATCH_BYTES);
    let partition = node.partition_of(0);
    let connections = |slot| ConnectionId { slot, generation: 9 };
    for slot in 1..400 {
        node.open(1, connections(slot));
        for _ in 0..3 {
            node.fetch(1, connections(slot), &[partition], 1 << 20);
        }
        node.turn();
        assert!(node.message_bytes() < ROOM_BYTES);
    }
    node.settle();
    let unsent = node.unsent_bytes(1);
    assert!(unsent <= limits::COLLECTED_BYTES_MAX as usize, "{unsent} bytes");
    assert!(unsent > limits::COLLECTED_BYTES_MAX as usize / 2, "{unsent} bytes");
    // They close one after the other; who waited in line gets what they had, and the last gets all it asked for.
    for slot in 1..399 {
        node.close(1, connections(slot));
        node.settle();
        assert!(node.unsent_bytes(1) <= limits::COLLECTED_BYTES_MAX as usize);
    }
    let mut answered = 0;
    for _ in 0..3 {
        answered += node.take_replies(1).len();
        node.settle();
    }
    assert_eq!(answered, 3);
    node.close(1, connections(399));
    node.settle();
    assert_all_given_back(&mut node);
}

#[test]
fn what_a_closed_connection_asked_for_is_dropped_on_both_sides() {
    for close_after in 0..12 {
        let mut node = node_with(2, BATCH_BYTES);
        let partition = node.partition_of(0);
        node.seats[0].is_deaf = close_after > 6;
        for _ in 0..50 {
            node.fetch(1, CONNECTION, &[partition], 1 << 20);
        }
        for _ in 0..close_after {
            node.turn();
        }
        node.close(1, CONNECTION);
        let room = node.seats[1].shard.room.used();
        assert!(
            room <= u64::from(limits::COLLECT_BYTES_IN_FLIGHT_MAX),
            "only what is on its way keeps room: {room}"
        );
        node.seats[0].is_deaf = false;
        node.settle();
        assert_eq!(node.unsent_bytes(1), 0);
        assert_all_given_back(&mut node);
        // The next connection of the slot starts anew.
        let next = ConnectionId { generation: 2, ..CONNECTION };
        node.open(1, next);
        node.fetch(1, next, &[partition], 1 << 20);
        node.settle();
        assert_eq!(node.take_replies(1).len(), 1, "closed after {close_after} turns");
    }
}

#[test]
fn one_connection_that_takes_nothing_stops_no_other() {
    let mut node = node_with(1, BATCH_BYTES);
    let partition = node.partition_of(0);
    let other = ConnectionId { slot: 1, generation: 1 };
    node.open(1, other);
    for _ in 0..5000 {
        node.fetch(1, CONNECTION, &[partition], 1 << 20);
    }
    for _ in 0..20 {
        let ticket = node.fetch(1, other, &[partition], 1 << 20);
        for _ in 0..10 {
            node.turn();
        }
        let at = node.seats[1]
            .replies
            .iter()
            .position(|(of, ..)| *of == ticket)
            .expect("an answer in a few turns");
        let (_, response, pin) = node.seats[1].replies.remove(at).unwrap();
        let Response::Fetched(fetched) = &response else { panic!("{response:?}") };
        assert!(bytes_of(fetched) > BATCH_BYTES);
        node.hand(1, Input::SendDone(pin.expect("remote bytes are charged too")));
    }
}

#[test]
fn all_shards_together_keep_to_what_a_fetch_allows() {
    const SHARDS: usize = 4;
    const BYTES_MAX: u32 = 100_000;
    let mut node = TestNode::new(SHARDS as u16, TopicConfig::default());
    let partitions: Vec<_> = (0..SHARDS).map(|seat| node.partition_of(seat)).collect();
    for (seat, &partition) in partitions.iter().enumerate() {
        for _ in 0..6 {
            node.produce(seat, partition, RequiredAcks::All, &batch_of(20_000));
        }
    }
    node.settle();
    for seat in 0..SHARDS {
        node.fetch(seat, CONNECTION, &partitions, BYTES_MAX);
        node.settle();
        let taken = node.take_replies(seat);
        let [(_, Response::Fetched(fetched))] = &taken[..] else { panic!("{taken:?}") };
        let bytes = bytes_of(fetched);
        assert!(bytes <= BYTES_MAX as usize, "{bytes} bytes");
        assert!(bytes > BYTES_MAX as usize / 2, "{bytes} bytes");
        assert_eq!(fetched.parts.len(), SHARDS, "each says where it ends");
        node.settle();
    }
    assert_all_given_back(&mut node);
}

#[test]
fn a_subscription_to_another_shard_is_pushed_no_more_than_its_peer_takes() {
    let mut node = node_with(40, 50_000);
    let partition = node.partition_of(0);
    let part = FetchPart { partition, offset: Offset(0), bytes_max: u32::MAX };
    let subscribe = Subscribe { subscription: SubscriptionId(1), credit_bytes: u32::MAX, parts: vec![part] };
    node.ask(1, CONNECTION, Request::Subscribe(subscribe));
    let (mut pushed, mut pushes) = (Vec::new(), 0);
    loop {
        node.settle();
        let unsent = node.unsent_bytes(1);
        assert!(unsent <= limits::SEND_BYTES_PINNED_MAX as usize, "{unsent} bytes");
        let taken = node.take_replies(1);
        if taken.is_empty() {
            break;
        }
        for (_, response) in taken {
            if let Response::Pushed { fetched, .. } = response {
                pushed.extend(payload_of(&mut node, 1, &fetched));
                pushes += 1;
            }
        }
    }
    assert!(pushes > 10, "{pushes}");
    assert_eq!(pushed.len(), 40 * batch_of(50_000).len());
    node.ask(1, CONNECTION, Request::Unsubscribe { subscription: SubscriptionId(1) });
    node.settle();
    node.take_replies(1);
    assert_all_given_back(&mut node);
}

#[test]
fn waiting_fetches_of_many_partitions_pause_their_connection_until_they_are_answered() {
    const PARTITIONS: u32 = 200;
    const WAIT_MS: u32 = 1000;
    let weight = PARTITIONS * limits::REQUEST_PART_BYTES;
    let fetches = limits::REQUEST_BYTES_IN_FLIGHT_MAX / weight + 1;
    let mut node = TestNode::with_partitions(2, PARTITIONS, TopicConfig::default());
    for number in 1..=fetches {
        assert!(node.seats[0].paused.is_empty(), "after {number}");
        let part = |index| FetchPart { partition: node.partition(index), offset: Offset(0), bytes_max: 1 };
        let parts = (0..PARTITIONS).map(part).collect();
        let fetch = Fetch { wait_ms_max: WAIT_MS, bytes_min: 1, bytes_max: 1, parts };
        node.ask(0, CONNECTION, Request::Fetch(fetch));
        node.settle();
    }
    assert_eq!(node.seats[0].paused, [CONNECTION]);
    node.pass(u64::from(WAIT_MS) * 1000);
    node.settle();
    assert_eq!(node.take_replies(0).len(), fetches as usize);
    assert!(node.seats[0].paused.is_empty(), "it goes on");
    assert_all_given_back(&mut node);
}

#[test]
fn a_peer_that_sends_no_more_is_answered_before_it_is_closed() {
    let mut node = node_with(1, 100);
    let partition = node.partition_of(0);
    let batch = batch_of(100);
    // Its own shard's and the other one's; a fetch for which there is not enough yet; one that is stalled.
    for seat in [0, 1] {
        let (acks, replies) = (node.seats[seat].acks.len(), 60);
        for _ in 0..replies - 1 {
            node.fetch(seat, CONNECTION, &[partition], 1 << 20);
        }
        let part = FetchPart { partition, offset: Offset(0), bytes_max: 1 << 20 };
        let fetch = Fetch { wait_ms_max: 60_000, bytes_min: 1 << 20, bytes_max: 1 << 20, parts: vec![part] };
        node.ask(seat, CONNECTION, Request::Fetch(fetch));
        node.produce(seat, partition, RequiredAcks::All, &batch);
        node.hand(seat, Input::Ended(CONNECTION));
        assert!(node.seats[seat].closed.is_empty());
        let mut answered = 0;
        for _ in 0..100 {
            node.settle();
            answered += node.take_replies(seat).len();
        }
        assert_eq!((answered, node.seats[seat].acks.len()), (replies, acks + 1));
        assert_eq!(node.seats[seat].closed, [CONNECTION]);
    }
    let idle = ConnectionId { slot: 1, generation: 1 };
    node.open(0, idle);
    node.hand(0, Input::Ended(idle));
    node.settle();
    assert_eq!(node.seats[0].closed, [CONNECTION, idle], "nothing is owed");
}
