//! What fetches of another shard's partitions may cost, whoever asks and however often.

use alloc::vec;
use alloc::vec::Vec;

use cutwater_api::{ConnectionId, Fetch, FetchPart, Request, RequiredAcks, Response, Subscribe};
use cutwater_api::{SubscriptionId, Ticket};
use cutwater_model::{Offset, PartitionId, limits};

use crate::Input;
use crate::test_rig::{Peer, Rig, batch_of};

const BATCH_BYTES: usize = 900_000;
/// What may be on the way between two shards, or be held by the one that asked.
const ROOM_BYTES: usize = (limits::COLLECTED_BYTES_MAX + limits::COLLECT_BYTES_IN_FLIGHT_MAX) as usize;
/// Three answers may be begun before any of them is known to be large.
const CONNECTION_BYTES: usize = 3 * BATCH_BYTES + limits::SEND_BYTES_PINNED_MAX as usize;

/// Two shards; the partition of shard 0 has some batches of so many bytes. And a peer of each.
fn rig_with(batches: usize, bytes: usize) -> (Rig, [Peer; 2]) {
    let mut rig = Rig::with(|plan| plan.make_large(2, 2));
    for _ in 0..batches {
        let ticket = rig.produce_with(rig.peer, rig.partition(0), RequiredAcks::All, &batch_of(bytes));
        rig.complete_all();
        assert!(rig.produced(ticket).is_some_and(|it| it.is_ok()));
    }
    rig.take_answers(0);
    let peers = [rig.peer, rig.connect(1)];
    (rig, peers)
}

/// Asks for partitions from their beginning on, at once; more follows in the same turn.
fn fetch(rig: &mut Rig, peer: Peer, partitions: &[PartitionId], bytes_max: u32) -> Ticket {
    let part = |&partition| FetchPart { partition, offset: Offset(0), bytes_max };
    let parts = partitions.iter().map(part).collect();
    let fetch = Fetch { wait_ms_max: 0, bytes_min: 0, bytes_max, parts };
    rig.ask_within_turn(peer, Request::Fetch(fetch))
}

fn assert_all_given_back(rig: &mut Rig, peers: &[Peer]) {
    for seat in &mut rig.seats {
        assert_eq!(seat.shard.room.used(), 0, "room");
        assert_eq!(seat.shard.pins_held(), 0);
        assert!(seat.shard.readers.ids().is_empty(), "readers");
    }
    for peer in peers {
        let charged = rig.seats[peer.shard].shard.connections.answer_bytes(peer.connection);
        assert_eq!(charged, 0, "charges");
    }
    assert_eq!(rig.message_bytes(), 0);
}

#[test]
fn fetches_that_nobody_takes_are_collected_up_to_the_bound_of_their_connection() {
    const FETCHES: usize = 1000;
    let (mut rig, peers) = rig_with(1, BATCH_BYTES);
    let partition = rig.partition(0);
    for peer in peers {
        for _ in 0..FETCHES {
            fetch(&mut rig, peer, &[partition], 1);
            assert!(rig.message_bytes() < ROOM_BYTES);
        }
        rig.complete_all();
        let untaken = rig.untaken_bytes(peer.shard);
        assert!(untaken <= CONNECTION_BYTES, "{peer:?}: {untaken} bytes");
        assert!(untaken >= BATCH_BYTES, "{peer:?}: something was answered");
        // As the peer takes its answers the others follow, all of them, and never more at once.
        let mut answered = 0;
        while answered < FETCHES {
            let taken = rig.take_answers(peer.shard);
            assert!(!taken.is_empty(), "stuck after {answered}");
            for (_, _, bytes) in &taken {
                assert!(bytes.len() > BATCH_BYTES, "the batch is larger than was asked, and comes whole");
            }
            answered += taken.len();
            rig.complete_all();
            assert!(rig.untaken_bytes(peer.shard) <= CONNECTION_BYTES);
        }
        assert_all_given_back(&mut rig, &peers);
    }
}

#[test]
fn a_shard_asks_for_no_more_than_it_has_room_for_whoever_asks() {
    let (mut rig, _) = rig_with(1, BATCH_BYTES);
    let partition = rig.partition(0);
    let mut peers = Vec::new();
    for _ in 1..400 {
        let peer = rig.connect(1);
        peers.push(peer);
        for _ in 0..3 {
            fetch(&mut rig, peer, &[partition], 1 << 20);
        }
        rig.turn();
        rig.step();
        assert!(rig.message_bytes() < ROOM_BYTES);
    }
    rig.complete_all();
    let untaken = rig.untaken_bytes(1);
    assert!(untaken <= limits::COLLECTED_BYTES_MAX as usize, "{untaken} bytes");
    assert!(untaken > limits::COLLECTED_BYTES_MAX as usize / 2, "{untaken} bytes");
    // They close one after the other; who waited in line gets what they had, and the last gets all it asked for.
    let last = peers.pop().unwrap();
    for &peer in &peers {
        rig.close_unsent(peer);
        rig.complete_all();
        assert!(rig.untaken_bytes(1) <= limits::COLLECTED_BYTES_MAX as usize);
    }
    let mut answered = 0;
    for _ in 0..3 {
        answered += rig.take_answers(1).len();
        rig.complete_all();
    }
    assert_eq!(answered, 3);
    rig.close_unsent(last);
    rig.complete_all();
    assert_all_given_back(&mut rig, &peers);
}

#[test]
fn what_a_closed_connection_asked_for_is_dropped_on_both_sides() {
    for close_after in 0..12 {
        let (mut rig, peers) = rig_with(2, BATCH_BYTES);
        let (partition, peer) = (rig.partition(0), peers[1]);
        rig.seats[0].is_deaf = close_after > 6;
        for _ in 0..50 {
            fetch(&mut rig, peer, &[partition], 1 << 20);
        }
        rig.turn();
        for _ in 0..close_after {
            rig.step();
        }
        rig.close_unsent(peer);
        let room = rig.seats[1].shard.room.used();
        assert!(
            room <= u64::from(limits::COLLECT_BYTES_IN_FLIGHT_MAX),
            "only what is on its way keeps room: {room}"
        );
        rig.seats[0].is_deaf = false;
        rig.complete_all();
        assert_eq!(rig.untaken_bytes(1), 0);
        assert_all_given_back(&mut rig, &peers);
        // The next connection of the slot starts anew.
        let connection = ConnectionId { generation: 2, ..peer.connection };
        rig.hand(1, Input::Opened(connection));
        fetch(&mut rig, Peer { connection, ..peer }, &[partition], 1 << 20);
        rig.complete_all();
        assert_eq!(rig.take_answers(1).len(), 1, "closed after {close_after} steps");
    }
}

#[test]
fn what_one_shard_has_brought_is_given_back_though_another_one_was_asked_since() {
    for close_after in 0..12 {
        let mut rig = Rig::with(|plan| plan.make_large(3, 3));
        let partitions = [rig.partition(1), rig.partition(2)];
        for partition in partitions {
            rig.produce_to(partition, &batch_of(20_000));
        }
        rig.complete_all();
        let peer = rig.peer;
        fetch(&mut rig, peer, &partitions, 1 << 20);
        rig.turn();
        for _ in 0..close_after {
            rig.step();
        }
        rig.close_unsent(peer);
        rig.complete_all();
        assert_all_given_back(&mut rig, &[peer]);
    }
}

#[test]
fn a_subscription_that_ends_while_something_is_collected_for_it_costs_its_connection_nothing() {
    for end_after in 0..12 {
        let (mut rig, peers) = rig_with(2, BATCH_BYTES);
        let peer = peers[1];
        let part = FetchPart { partition: rig.partition(0), offset: Offset(0), bytes_max: u32::MAX };
        let subscription = SubscriptionId(1);
        let parts = vec![part];
        rig.ask(peer, Request::Subscribe(Subscribe { subscription, credit_bytes: u32::MAX, parts }));
        for _ in 0..end_after {
            rig.step();
        }
        rig.ask(peer, Request::Unsubscribe { subscription });
        rig.complete_all();
        rig.take_answers(1);
        assert_all_given_back(&mut rig, &peers);
    }
}

#[test]
fn one_connection_that_takes_nothing_stops_no_other() {
    let (mut rig, peers) = rig_with(1, BATCH_BYTES);
    let partition = rig.partition(0);
    let other = rig.connect(1);
    for _ in 0..5000 {
        fetch(&mut rig, peers[1], &[partition], 1 << 20);
    }
    for _ in 0..20 {
        let ticket = fetch(&mut rig, other, &[partition], 1 << 20);
        rig.turn();
        for _ in 0..10 {
            rig.step();
        }
        let read = rig.fetched(ticket).expect("an answer in a few turns").remove(0);
        assert!(read.bytes.len() > BATCH_BYTES);
        rig.sent(ticket);
    }
}

#[test]
fn all_shards_together_keep_to_what_a_fetch_allows() {
    const SHARDS: u32 = 4;
    const BYTES_MAX: u32 = 100_000;
    let mut rig = Rig::with(|plan| plan.make_large(SHARDS as u16, SHARDS));
    let partitions: Vec<_> = (0..SHARDS).map(|index| rig.partition(index)).collect();
    for &partition in &partitions {
        for _ in 0..6 {
            rig.produce_to(partition, &batch_of(20_000));
        }
    }
    rig.complete_all();
    let peers: Vec<Peer> = (0..SHARDS as usize).map(|shard| rig.connect(shard)).collect();
    for &peer in &peers {
        let ticket = fetch(&mut rig, peer, &partitions, BYTES_MAX);
        rig.complete_all();
        let reads = rig.fetched(ticket).expect("it doesn't wait");
        let bytes: usize = reads.iter().map(|read| read.bytes.len()).sum();
        assert!(bytes <= BYTES_MAX as usize, "{bytes} bytes");
        assert!(bytes > BYTES_MAX as usize / 2, "{bytes} bytes");
        assert_eq!(reads.len(), partitions.len(), "each says where it ends");
        rig.sent(ticket);
        rig.complete_all();
    }
    assert_all_given_back(&mut rig, &peers);
}

#[test]
fn a_subscription_to_another_shard_is_pushed_no_more_than_its_peer_takes() {
    let (mut rig, peers) = rig_with(40, 50_000);
    let peer = peers[1];
    let part = FetchPart { partition: rig.partition(0), offset: Offset(0), bytes_max: u32::MAX };
    let subscription = SubscriptionId(1);
    rig.ask(peer, Request::Subscribe(Subscribe { subscription, credit_bytes: u32::MAX, parts: vec![part] }));
    let (mut pushed, mut pushes) = (0, 0);
    loop {
        rig.complete_all();
        let untaken = rig.untaken_bytes(1);
        assert!(untaken <= limits::SEND_BYTES_PINNED_MAX as usize, "{untaken} bytes");
        let taken = rig.take_answers(1);
        if taken.is_empty() {
            break;
        }
        for (_, _, bytes) in taken.iter().filter(|taken| matches!(taken.1, Response::Pushed { .. })) {
            pushed += bytes.len();
            pushes += 1;
        }
    }
    assert!(pushes > 10, "{pushes}");
    assert_eq!(pushed, 40 * batch_of(50_000).len());
    rig.ask(peer, Request::Unsubscribe { subscription });
    rig.complete_all();
    rig.take_answers(1);
    assert_all_given_back(&mut rig, &peers);
}

#[test]
fn waiting_fetches_of_many_partitions_pause_their_connection_until_they_are_answered() {
    const PARTITIONS: u32 = 200;
    const WAIT_MS: u32 = 1000;
    let weight = PARTITIONS * limits::REQUEST_PART_BYTES;
    let fetches = limits::REQUEST_BYTES_IN_FLIGHT_MAX / weight + 1;
    let mut rig = Rig::with(|plan| plan.make_large(2, PARTITIONS));
    let peer = rig.peer;
    for number in 1..=fetches {
        assert!(!rig.is_paused(peer), "after {number}");
        let part = |index| FetchPart { partition: rig.partition(index), offset: Offset(0), bytes_max: 1 };
        let parts = (0..PARTITIONS).map(part).collect();
        rig.fetch_with(peer, Fetch { wait_ms_max: WAIT_MS, bytes_min: 1, bytes_max: 1, parts });
        while rig.deliver() {}
    }
    assert_eq!(rig.seats[0].pauses, [(peer.connection, true)]);
    rig.wait_us(u64::from(WAIT_MS) * 1000);
    rig.complete_all();
    assert_eq!(rig.take_answers(0).len(), fetches as usize);
    assert!(!rig.is_paused(peer), "it goes on");
    assert_all_given_back(&mut rig, &[peer]);
}

#[test]
fn a_peer_that_sends_no_more_is_answered_before_it_is_closed() {
    const FETCHES: usize = 59;
    let (mut rig, peers) = rig_with(1, 100);
    let partition = rig.partition(0);
    // Its own shard's and the other one's; a fetch for which there is not enough yet; one that is stalled.
    for peer in peers {
        for _ in 0..FETCHES {
            fetch(&mut rig, peer, &[partition], 1 << 20);
        }
        let part = FetchPart { partition, offset: Offset(0), bytes_max: 1 << 20 };
        let long = Fetch { wait_ms_max: 60_000, bytes_min: 1 << 20, bytes_max: 1 << 20, parts: vec![part] };
        rig.fetch_with(peer, long);
        rig.produce_with(peer, partition, RequiredAcks::All, &batch_of(100));
        rig.hand(peer.shard, Input::Ended(peer.connection));
        assert!(rig.seats[peer.shard].closed.is_empty());
        let mut answered = Vec::new();
        for _ in 0..100 {
            rig.complete_all();
            answered.append(&mut rig.take_answers(peer.shard));
        }
        let appended = answered.iter().filter(|answer| matches!(answer.1, Response::Produced(_))).count();
        assert_eq!((answered.len(), appended), (FETCHES + 2, 1));
        assert_eq!(rig.seats[peer.shard].closed, [peer.connection]);
    }
    let idle = rig.connect(0);
    rig.hand(0, Input::Ended(idle.connection));
    rig.complete_all();
    assert_eq!(rig.seats[0].closed, [peers[0].connection, idle.connection], "nothing is owed");
}
