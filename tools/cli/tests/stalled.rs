//! Peers that do not do their part: that promise and fall silent, that ask and do not read. Others do not notice, and
//! the node's memory follows what was received and sent, never what was promised.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::io::{ErrorKind as IoErrorKind, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use cutwater_api::{FetchPart, Request, Subscribe, SubscriptionId};
use cutwater_model::builder::Sequence;
use cutwater_model::limits::{FRAME_BYTES_MAX, FRAME_READ_US_MAX};
use cutwater_model::topic::TopicConfig;
use cutwater_model::{Offset, TopicId};

use support::node::{Node, Start};
use support::probe::Probe;
use support::raw::{PING, Raw, batch_of, encode, fetch_of, partition, preface};
use support::{Folder, say};

/// A deadline passes at most so much later than it says, however noisy the machine.
const LATE_MAX: Duration = Duration::from_secs(60);

fn start(folder: &Folder) -> Node {
    let data = folder.path().join("data");
    Node::start(&Start { data, log: folder.path().join("node.log"), port: 0, shards: 2 })
}

/// B4 to B6: promises of the largest frame, then silence; and a preface that comes in drops.
#[test]
fn promised_frames_take_no_memory_and_are_closed_at_their_deadline() {
    const CONNECTIONS: usize = 200;
    const BYTES_EACH_MAX: u64 = 32 << 10;
    let folder = Folder::new("promises");
    let node = start(&folder);
    let mut probe = Probe::new(node.address());
    for _ in 0..20 {
        probe.check("nothing");
    }
    let before = node.resident_bytes();
    let begun = Instant::now();
    let mut promising: Vec<Raw> = (0..CONNECTIONS).map(|_| Raw::connect(node.address())).collect();
    for raw in &mut promising {
        let mut frame = FRAME_BYTES_MAX.to_le_bytes().to_vec();
        frame.extend([2, 0, 1, 0, 7, 0, 0, 0]);
        frame.resize(200, 0);
        assert!(raw.send(&frame));
    }
    let mut dripping = Raw::dial(node.address());
    assert!(dripping.send(&preface()[..1]));
    // Both shards have seen it all once they have answered others for a while.
    for _ in 0..20 {
        probe.check("200 promises");
    }
    let grown = node.resident_bytes().saturating_sub(before);
    say(&format!("stalled: {CONNECTIONS} promises of {FRAME_BYTES_MAX} bytes cost {grown} bytes"));
    assert!(grown < BYTES_EACH_MAX * CONNECTIONS as u64, "{grown} bytes");

    for at in 1..4 {
        thread::sleep(Duration::from_secs(1));
        assert!(dripping.send(&preface()[at..=at]));
    }
    let deadline = Duration::from_micros(FRAME_READ_US_MAX);
    for raw in promising.iter_mut().chain([&mut dripping]) {
        raw.socket.set_read_timeout(Some(deadline + LATE_MAX)).unwrap();
        // What the kernel says of a closed connection depends on what was unread.
        match raw.socket.read(&mut [0; 100]) {
            Ok(0) => {}
            Ok(bytes) => panic!("{bytes} bytes were answered"),
            Err(error) => assert_eq!(error.kind(), IoErrorKind::ConnectionReset, "not closed"),
        }
    }
    assert!(begun.elapsed() + Duration::from_secs(2) > deadline, "closed before its deadline");
    say(&format!("stalled: closed after {} s", begun.elapsed().as_secs()));
    probe.check("the deadlines");
    probe.check_all();
    node.stop();
}

/// B4 on connections that have sent a large batch before, whose next one is received where it stays: pieces come as slowly
/// and in whatever order they like, some never; each batch is whole, what is promised is bounded, and others go on.
#[test]
fn large_batches_that_come_in_pieces_are_whole_and_wait_for_nobody() {
    const CONNECTIONS: usize = 40;
    const VALUE_BYTES: usize = 900_000;
    const GROWTH_BYTES_MAX: u64 = 96 << 20;
    let folder = Folder::new("pieces");
    let (node, mut probe, topic) = flooded(&folder);
    let value = |number: usize| vec![number as u8; VALUE_BYTES];
    let mut peers: Vec<(Raw, Vec<u8>)> = (0..CONNECTIONS)
        .map(|number| {
            let mut raw = Raw::connect_to(node.address(), number as u16 % 2);
            let partition = partition(topic, number as u32 / 2 % 2);
            raw.produce(partition, &batch_of(&[b"large".repeat(20_000).as_slice()], Sequence::NONE)).unwrap();
            let batch = batch_of(&[value(number).as_slice()], Sequence::NONE);
            (raw, support::raw::produce_frame(partition, &batch))
        })
        .collect();
    let before = node.resident_bytes();
    for (raw, frame) in &mut peers {
        assert!(raw.send(&frame[..10_000]));
        probe.check("batches have begun to come");
    }
    let grown = node.resident_bytes().saturating_sub(before);
    say(&format!("stalled: {CONNECTIONS} batches that have begun to come cost {grown} bytes"));
    assert!(grown < GROWTH_BYTES_MAX, "{grown} bytes");
    // Every fourth peer leaves, and the others send the rest: those that began last come first.
    let mut number = 0;
    peers.retain(|_| {
        number += 1;
        number % 4 != 0
    });
    for (raw, frame) in peers.iter_mut().rev() {
        assert!(raw.send(&frame[10_000..500_000]));
        probe.check("batches are half there");
        assert!(raw.send(&frame[500_000..]));
    }
    for (raw, _) in &mut peers {
        let answer = raw.read().expect("an answer, not a closed connection");
        assert_eq!(answer.code, 0, "{:?}", answer.answer());
    }
    // Each shard has told what it counted once it has answered somebody later.
    let landed = || node.metric("cutwater_batches_landed_total") as usize;
    for _ in 0..100 {
        if landed() >= CONNECTIONS / 4 {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    assert!(landed() >= CONNECTIONS / 4, "{} of {} were received where they stay", landed(), peers.len());
    let mut found: Vec<u8> = Vec::new();
    let mut raw = Raw::connect(node.address());
    for index in 0..2 {
        for (_, value) in raw.records(partition(topic, index)) {
            if value.len() == VALUE_BYTES {
                assert!(value.iter().all(|byte| *byte == value[0]), "bytes of two batches");
                found.push(value[0]);
            }
        }
    }
    found.sort_unstable();
    let expected: Vec<u8> = (0..CONNECTIONS as u8).filter(|number| number % 4 != 3).collect();
    assert_eq!(found, expected);
    probe.check_all();
    node.stop();
}

/// B84: subscribers with endless credit that never read, while producers go on.
#[test]
fn consumers_that_never_read_bound_nobody_else() {
    const CONSUMERS: usize = 50;
    const APPENDS: i64 = 200;
    const VALUE_BYTES: usize = 100_000;
    /// The payload memory of 256 MiB, and what 50 connections may hold besides.
    const GROWTH_BYTES_MAX: u64 = 384 << 20;
    let folder = Folder::new("unread");
    let node = start(&folder);
    let mut probe = Probe::new(node.address());
    let mut raw = Raw::connect(node.address());
    let topic = raw.create_topic("unread", 2, TopicConfig::default());
    let before = node.resident_bytes();
    let stalled: Vec<Raw> = (0..CONSUMERS)
        .map(|number| {
            let mut consumer = Raw::connect(node.address());
            let part = |index| FetchPart {
                partition: partition(topic, index),
                offset: Offset(0),
                bytes_max: u32::MAX,
            };
            let subscribe = Subscribe {
                subscription: SubscriptionId(number as u32),
                credit_bytes: u32::MAX,
                parts: vec![part(0), part(1)],
            };
            assert!(consumer.send(&encode(&Request::Subscribe(subscribe))));
            consumer
        })
        .collect();
    let value = vec![5; VALUE_BYTES];
    for number in 0..APPENDS {
        for index in 0..2 {
            let offset = raw.produce(partition(topic, index), &batch_of(&[&value], Sequence::NONE));
            assert_eq!(offset, Ok(number), "producers go on");
        }
        if number % 20 == 0 {
            probe.check("50 consumers that don't read");
        }
    }
    let grown = node.resident_bytes().saturating_sub(before);
    say(&format!("stalled: {CONSUMERS} consumers that don't read cost {grown} bytes"));
    assert!(grown < GROWTH_BYTES_MAX, "{grown} bytes");
    assert_eq!(raw.records(partition(topic, 1)).len() as i64, APPENDS, "readers go on");
    drop(stalled);
    probe.check("they are gone");
    probe.check_all();
    node.stop();
}

/// B24: requests without end whose answers nobody reads.
#[test]
fn pipelined_requests_that_nobody_reads_are_not_taken_without_bound() {
    let folder = Folder::new("pipelined");
    let (node, mut probe, topic) = flooded(&folder);
    flood(&node, &mut probe, "pings", &PING.repeat(1000));
    flood(&node, &mut probe, "appends", &produce_small(topic));
    probe.check_all();
    node.stop();
}

/// The same with answers that are 10,000 times as large as their requests, of the connection's own shard and of the other
/// one; and what the peer has asked for is forgotten when it leaves.
#[test]
fn pipelined_fetches_that_nobody_reads_are_not_answered_without_bound() {
    let folder = Folder::new("pipelined-fetches");
    let (node, mut probe, topic) = flooded(&folder);
    let mut raw = Raw::connect(node.address());
    let value = vec![9; 900_000];
    for index in [0, 1] {
        raw.produce(partition(topic, index), &batch_of(&[&value], Sequence::NONE)).unwrap();
    }
    let before = node.resident_bytes();
    for shard in [0, 1] {
        for (index, bytes_max) in [(0, 1 << 20), (1, 1 << 20), (0, 1), (1, 1)] {
            let fetch = encode(&fetch_of(partition(topic, index), 0, bytes_max, bytes_max));
            let name = format!("fetches of {bytes_max} bytes of partition {index} by shard {shard}");
            flood_to(&node, &mut probe, &name, &fetch.repeat(100), Some(shard));
            probe.check("the flood is gone");
        }
    }
    shrinks_to(&node, before);
    probe.check_all();
    node.stop();
}

/// The memory of the floods is given back when their peers have gone: all of it, within a minute.
fn shrinks_to(node: &Node, before: u64) {
    const KEPT_BYTES_MAX: u64 = 64 << 20;
    let begun = Instant::now();
    loop {
        let kept = node.resident_bytes().saturating_sub(before);
        if kept < KEPT_BYTES_MAX {
            return say(&format!("stalled: {kept} bytes are kept after {} ms", begun.elapsed().as_millis()));
        }
        assert!(begun.elapsed() < LATE_MAX, "{kept} bytes are kept");
        thread::sleep(Duration::from_millis(100));
    }
}

fn flooded(folder: &Folder) -> (Node, Probe, TopicId) {
    let node = start(folder);
    let probe = Probe::new(node.address());
    let topic = Raw::connect(node.address()).create_topic("flooded", 2, TopicConfig::default());
    (node, probe, topic)
}

fn flood(node: &Node, probe: &mut Probe, name: &str, requests: &[u8]) {
    flood_to(node, probe, name, requests, None);
}

/// Sends until the node takes no more; that it stops, and what it costs meanwhile, is bounded. Somebody else is answered
/// all the while.
fn flood_to(node: &Node, probe: &mut Probe, name: &str, requests: &[u8], shard: Option<u16>) {
    const SENT_BYTES_MAX: usize = 512 << 20;
    const PROBE_BYTES: usize = 1 << 20;
    const GROWTH_BYTES_MAX: u64 = 256 << 20;
    let before = node.resident_bytes();
    let mut flood =
        shard.map_or_else(|| Raw::connect(node.address()), |shard| Raw::connect_to(node.address(), shard));
    flood.socket.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let (mut sent, mut probed) = (0, 0);
    let stopped = loop {
        if sent > SENT_BYTES_MAX {
            break false;
        }
        match flood.socket.write(&requests[sent % requests.len()..]) {
            Ok(bytes) => {
                // What was cut goes on where it was cut, so that the node sees whole requests.
                sent += bytes;
                if sent - probed > PROBE_BYTES {
                    probed = sent;
                    probe.check(name);
                }
            }
            // Not taken any more, or closed for not reading.
            Err(_) => break true,
        }
    };
    for _ in 0..5 {
        probe.check(name);
    }
    let grown = node.resident_bytes().saturating_sub(before);
    say(&format!("stalled: {sent} bytes of {name} were taken, and cost {grown} bytes"));
    assert!(stopped, "{name}: {sent} bytes were taken, and nobody reads");
    assert!(grown < GROWTH_BYTES_MAX, "{name}: {grown} bytes");
}

fn produce_small(topic: TopicId) -> Vec<u8> {
    let batch = batch_of(&[b"small"], Sequence::NONE);
    let frame = support::raw::produce_frame(partition(topic, 0), &batch);
    frame.repeat(500)
}
