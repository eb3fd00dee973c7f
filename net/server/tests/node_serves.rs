//! A real node over loopback: what it acknowledges it keeps, and bad peers hurt nobody.
#![allow(clippy::unwrap_used, reason = "tests")]

mod node;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use cutwater_api::Request;
use cutwater_model::{ErrorKind, ShardId, TopicId};
use node::{Folder, Got, Node, Peer, batch, fetch, partition, produce, values};

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let folder = Folder::new("restart");
    let node = Node::start(&folder, 1);
    let mut peer = Peer::connect(node.addresses.native, None);
    let topic = peer.create_topic("letters", 2);
    let expected: Vec<Vec<u8>> = (0..50u32).map(|number| number.to_le_bytes().repeat(100)).collect();
    for (offset, value) in (0..).zip(&expected) {
        let got = peer.produce(partition(topic, 1), &batch(value));
        assert_eq!(got, Got::Produced { error: None, base: offset });
    }
    assert_eq!(values(&peer.read_all(partition(topic, 1))), expected);
    drop(peer);
    node.stop();

    let node = Node::start(&folder, 1);
    let mut peer = Peer::connect(node.addresses.native, None);
    assert_eq!(values(&peer.read_all(partition(topic, 1))), expected);
    let got = peer.produce(partition(topic, 1), &batch(b"after"));
    assert_eq!(got, Got::Produced { error: None, base: 50 });
    drop(peer);
    node.stop();
}

#[test]
fn batches_of_a_megabyte_go_in_and_come_out_whole() {
    let folder = Folder::new("large");
    let node = Node::start(&folder, 1);
    let mut peer = Peer::connect(node.addresses.native, None);
    let topic = peer.create_topic("large", 1);
    let expected: Vec<Vec<u8>> = (0..6u8).map(|number| vec![number; 1 << 20]).collect();
    for value in &expected {
        peer.send(&produce(partition(topic, 0), &batch(value)));
    }
    for offset in 0..6 {
        assert_eq!(peer.receive().unwrap().1, Got::Produced { error: None, base: offset });
    }
    assert!(values(&peer.read_all(partition(topic, 0))) == expected);
    drop(peer);
    node.stop();
}

#[test]
fn requests_cut_at_every_byte_are_answered_like_whole_ones() {
    let folder = Folder::new("cut");
    let node = Node::start(&folder, 1);
    let mut peer = Peer::connect(node.addresses.native, None);
    let topic = peer.create_topic("cut", 1);
    let batch = batch(b"value");
    let bytes = peer.encode(&produce(partition(topic, 0), &batch)).len();
    for (produced, cut) in (0..).zip(1..bytes) {
        let bytes = peer.encode(&produce(partition(topic, 0), &batch));
        peer.stream.write_all(&bytes[..cut]).unwrap();
        if cut % 16 == 0 {
            // Now and then the node surely sees the parts apart; all cuts are tried without a socket elsewhere.
            std::thread::sleep(Duration::from_millis(2));
        }
        peer.stream.write_all(&bytes[cut..]).unwrap();
        assert_eq!(peer.receive().unwrap().1, Got::Produced { error: None, base: produced }, "cut at {cut}");
    }
    node.stop();
}

#[test]
fn peers_that_vanish_reset_or_talk_nonsense_hurt_nobody() {
    let folder = Folder::new("nonsense");
    let node = Node::start(&folder, 1);
    let mut good = Peer::connect(node.addresses.native, None);
    let topic = good.create_topic("good", 1);
    let batch = batch(&[7; 5000]);
    for round in 0..20 {
        // Half a produce, then the end (B7); or a reset, by closing with an answer unread (B8).
        let mut peer = Peer::connect(node.addresses.native, None);
        let bytes = peer.encode(&produce(partition(topic, 0), &batch));
        if round % 2 == 0 {
            peer.stream.write_all(&bytes[..bytes.len() / 2]).unwrap();
            peer.stream.shutdown(Shutdown::Write).unwrap();
            assert!(peer.receive().is_err(), "half a request has no answer");
        } else {
            peer.send(&fetch(partition(topic, 0), 0));
            peer.stream.write_all(&bytes[..bytes.len() / 2]).unwrap();
        }
        drop(peer);
        // Another protocol (B9, B10).
        let mut http = TcpStream::connect(node.addresses.native).unwrap();
        http.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let mut rest = Vec::new();
        // The node closes, with a reset where it had not read everything; either way it says nothing.
        let _ = http.read_to_end(&mut rest);
        assert!(rest.is_empty());
        // A frame longer than any (B3), and one that is promised and never comes (B4).
        let mut peer = Peer::connect(node.addresses.native, None);
        peer.stream.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert!(peer.receive().is_err());
        let mut peer = Peer::connect(node.addresses.native, None);
        peer.stream.write_all(&8_000_000u32.to_le_bytes()).unwrap();
    }
    assert_eq!(good.produce(partition(topic, 0), &batch), Got::Produced { error: None, base: 0 });
    node.wait_for("cutwater_connections", "", |count| count <= 1.0);
    assert!(node.metric("cutwater_assembly_bytes", "") < 100_000.0);
    assert!(node.metric("cutwater_connections_closed_total", "not_our_protocol") >= 20.0);
    assert!(node.metric("cutwater_connections_closed_total", "frame_length") >= 20.0);
    node.stop();
}

#[test]
fn a_peer_that_takes_nothing_holds_up_nobody_else() {
    let folder = Folder::new("stalled");
    let node = Node::start(&folder, 1);
    let mut good = Peer::connect(node.addresses.native, None);
    let topic = good.create_topic("stalled", 1);
    let value = vec![9; 100_000];
    for _ in 0..30 {
        good.produce(partition(topic, 0), &batch(&value));
    }
    let mut stalled = Peer::connect(node.addresses.native, None);
    for _ in 0..200 {
        stalled.send(&fetch(partition(topic, 0), 0));
    }
    for offset in 30..60 {
        let got = good.produce(partition(topic, 0), &batch(&value));
        assert_eq!(got, Got::Produced { error: None, base: offset });
    }
    assert_eq!(good.read_all(partition(topic, 0)).len(), 60 * batch(&value).len());
    // It closes with 200 answers unread; its pins come back, or the memory level would stay.
    drop(stalled);
    node.wait_for("cutwater_connections", "", |count| count <= 1.0);
    node.stop();
}

#[test]
fn a_stop_under_load_keeps_what_was_acknowledged() {
    let folder = Folder::new("stop");
    let node = Node::start(&folder, 1);
    let address = node.addresses.native;
    let topic = Peer::connect(address, None).create_topic("load", 3);
    let writers: Vec<_> = (0..3u32)
        .map(|index| {
            std::thread::spawn(move || {
                let mut peer = Peer::connect(address, None);
                let (mut sent, mut acknowledged) = (0u32, 0u32);
                loop {
                    while sent - acknowledged < 50 {
                        let batch = batch(&sent.to_le_bytes());
                        let bytes = peer.encode(&produce(partition(topic, index), &batch));
                        if peer.stream.write_all(&bytes).is_err() {
                            break;
                        }
                        sent += 1;
                    }
                    match peer.receive() {
                        Ok((_, Got::Produced { error: None, .. })) => acknowledged += 1,
                        Ok(_) | Err(_) => return acknowledged,
                    }
                }
            })
        })
        .collect();
    node.wait_for("cutwater_batches_appended_total", "", |count| count > 500.0);
    node.stopping();
    node.wait();
    let acknowledged: Vec<u32> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
    assert!(acknowledged.iter().sum::<u32>() > 300, "{acknowledged:?}");

    let node = Node::start(&folder, 1);
    let mut peer = Peer::connect(node.addresses.native, None);
    for (index, acknowledged) in (0u32..).zip(acknowledged) {
        let values = values(&peer.read_all(partition(topic, index)));
        assert!(values.len() as u32 >= acknowledged, "{} of {acknowledged}", values.len());
        for (number, value) in (0u32..).zip(values) {
            assert_eq!(value, number.to_le_bytes(), "partition {index}");
        }
    }
    node.stop();
}

#[test]
fn every_shard_serves_every_partition_and_the_preface_chooses_the_shard() {
    let folder = Folder::new("shards");
    let node = Node::start(&folder, 2);
    let topic = Peer::connect(node.addresses.native, None).create_topic("both", 4);
    for shard in [0, 1, 1, 0, 1] {
        let mut peer = Peer::connect(node.addresses.native, Some(ShardId(shard)));
        assert_eq!(peer.shard, ShardId(shard));
        for index in 0..4 {
            let value = vec![index as u8; 3000];
            let got = peer.produce(partition(topic, index), &batch(&value));
            assert!(matches!(got, Got::Produced { error: None, .. }), "{got:?}");
        }
    }
    for shard in [0, 1] {
        let mut peer = Peer::connect(node.addresses.native, Some(ShardId(shard)));
        for index in 0..4 {
            let values = values(&peer.read_all(partition(topic, index)));
            assert_eq!(values, vec![vec![index as u8; 3000]; 5], "partition {index} by shard {shard}");
        }
    }
    assert!(node.metric("cutwater_requests_forwarded_total", "") > 0.0);
    node.stop();

    // Another number of shards opens the same folder.
    let node = Node::start(&folder, 1);
    let mut peer = Peer::connect(node.addresses.native, None);
    for index in 0..4 {
        assert_eq!(values(&peer.read_all(partition(topic, index))).len(), 5);
    }
    node.stop();
}

#[test]
fn a_node_tells_that_it_is_well_and_refuses_what_it_does_not_know() {
    let folder = Folder::new("well");
    let node = Node::start(&folder, 1);
    assert!(node.get("/health").starts_with("HTTP/1.1 200"));
    assert!(node.get("/ready").starts_with("HTTP/1.1 200"));
    let mut peer = Peer::connect(node.addresses.native, None);
    let unknown = partition(TopicId(77), 0);
    let got = peer.produce(unknown, &batch(b"x"));
    assert!(
        matches!(got, Got::Produced { error: Some(code), .. } if ErrorKind::from_code(code).is_some()),
        "{got:?}"
    );
    assert_eq!(
        peer.ask(&Request::DeleteTopic { topic: TopicId(77) }),
        Got::Refused(ErrorKind::UnknownTopicId.code())
    );
    node.stop();
}
