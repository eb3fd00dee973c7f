use std::cell::RefCell;

use cutwater_api::{Announced, ConnectionId, NodeFacts, Output, Request, Response};
use cutwater_broker::Landing;
use cutwater_model::{Slab, TopicId};
use cutwater_ring::Arena;

use super::*;
use crate::meters::ShardMeters;

/// A door whose frames are a length, a number and some bytes; it asks for the deletion of the topic of that number.
struct LengthSession;

impl Session for LengthSession {
    fn new(_: NodeFacts) -> Self {
        Self
    }

    fn on_bytes<'a>(&mut self, bytes: &'a [u8], _: &mut Output) -> Step<'a> {
        let Some((length, rest)) = bytes.split_first_chunk::<4>() else {
            return Step::Incomplete { bytes_needed: 5 };
        };
        let length = u32::from_le_bytes(*length) as usize;
        if length == 0 {
            return Step::Close(CloseReason::FrameLength);
        }
        let Some(body) = rest.get(..length) else { return Step::Incomplete { bytes_needed: 4 + length } };
        let number = u32::from(body[0]);
        assert!(body.iter().all(|&byte| u32::from(byte) == number), "bytes of another frame");
        let request = Request::DeleteTopic { topic: TopicId(u128::from(number)) };
        Step::Request { consumed: 4 + length, correlation: number, request }
    }

    fn upcoming(&self, mut bytes: &[u8], into: &mut [Upcoming]) -> usize {
        let mut told = 0;
        for upcoming in into {
            let Some((length, rest)) = bytes.split_first_chunk::<4>() else { break };
            let length = u32::from_le_bytes(*length);
            let Some((body, rest)) =
                rest.split_at_checked(length as usize).filter(|(body, _)| !body.is_empty())
            else {
                break;
            };
            upcoming.partition.index.0 = u32::from(body[0]);
            upcoming.bytes = length;
            bytes = rest;
            told += 1;
        }
        told
    }

    fn announced(&self, _: &[u8]) -> Option<Announced> {
        None
    }

    fn on_response(&mut self, _: Ticket, _: &Response, _: &mut Output) {}

    fn moved(&mut self, _: NodeFacts) {}
}

/// Takes note of the requests it is handed.
struct Listener {
    heard: Vec<u32>,
    /// What it was told is about to come, and how many had come then.
    told: RefCell<Vec<(usize, Vec<u32>)>>,
    slab: Slab,
}

impl Core for Listener {
    fn handle(&mut self, input: Input<'_>, _: Now, _: &mut Effects) {
        if let Input::Request { ticket, .. } | Input::Produce { ticket, .. } = input {
            self.heard.push(ticket.correlation);
        }
    }

    fn looks_ahead(&self) -> bool {
        true
    }

    fn look_ahead(&self, upcoming: &[Upcoming]) {
        let numbers = upcoming.iter().map(|upcoming| upcoming.partition.index.0).collect();
        self.told.borrow_mut().push((self.heard.len(), numbers));
    }

    fn land(&mut self, _: &Announced, _: &[u8]) -> Option<Landing> {
        None
    }

    fn slab(&mut self) -> &mut Slab {
        &mut self.slab
    }

    fn publish(&mut self, _: &ShardMeters, _: bool) {}
}

struct Bench {
    core: Listener,
    effects: Effects,
    assemblies: AssemblyPool,
    connection: Connection<LengthSession>,
}

impl Bench {
    fn new() -> Self {
        let socket = std::fs::File::open("/dev/null").unwrap().into();
        let id = ConnectionId { slot: 0, generation: 1 };
        Self {
            core: Listener {
                heard: Vec::new(),
                told: RefCell::default(),
                slab: Arena::leak(4096, false).unwrap(),
            },
            effects: Effects::new(1),
            assemblies: AssemblyPool::new(1 << 20),
            connection: Connection::new(id, socket, LengthSession, 0),
        }
    }

    fn read(&mut self, bytes: &[u8], inputs: u32) -> (usize, Outcome) {
        let now = Now::default();
        let mut reader = Reader {
            core: &mut self.core,
            effects: &mut self.effects,
            assemblies: &mut self.assemblies,
            now,
            inputs_left: inputs,
        };
        reader.read(&mut self.connection, bytes)
    }
}

fn frame(number: u8, length: u32) -> Vec<u8> {
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.resize(4 + length as usize, number);
    bytes
}

fn stream() -> (Vec<u8>, Vec<u32>) {
    let lengths = [1, 2, 3, 7, 40, 1, 1, 300, 5];
    let bytes = lengths.iter().enumerate().flat_map(|(at, &length)| frame(at as u8, length)).collect();
    (bytes, (0..lengths.len() as u32).collect())
}

#[test]
fn a_stream_cut_at_any_two_bytes_is_read_as_if_it_were_whole() {
    let (bytes, numbers) = stream();
    for first in 0..bytes.len() {
        for second in (first..bytes.len()).step_by(if first % 8 == 0 { 1 } else { 17 }) {
            let mut bench = Bench::new();
            for part in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                let (consumed, outcome) = bench.read(part, 100);
                assert_eq!((consumed, outcome), (part.len(), Outcome::Drained), "{first} {second}");
            }
            assert_eq!(bench.core.heard, numbers, "{first} {second}");
            assert!(bench.connection.assembly.is_empty());
            assert!(bench.connection.begun_us.is_none());
        }
    }
}

#[test]
fn a_stream_that_comes_byte_by_byte_is_read_as_if_it_were_whole() {
    let (bytes, numbers) = stream();
    let mut bench = Bench::new();
    for byte in bytes.chunks(1) {
        assert_eq!(bench.read(byte, 100), (1, Outcome::Drained));
    }
    assert_eq!(bench.core.heard, numbers);
}

#[test]
fn a_share_that_is_spent_leaves_the_rest_for_the_next_visit() {
    let (bytes, numbers) = stream();
    let mut bench = Bench::new();
    let mut at = 0;
    while at < bytes.len() {
        let (consumed, outcome) = bench.read(&bytes[at..], 2);
        at += consumed;
        assert!(outcome == Outcome::Spent || at == bytes.len());
    }
    assert_eq!(bench.core.heard, numbers);
}

#[test]
fn the_core_is_told_of_each_batch_once_before_any_of_them_is_handed_in() {
    let bytes: Vec<u8> = (0..100).flat_map(|number| frame(number, 20)).collect();
    let mut bench = Bench::new();
    let (consumed, outcome) = bench.read(&bytes, 70);
    assert_eq!(outcome, Outcome::Spent);
    assert_eq!(bench.read(&bytes[consumed..], 100).1, Outcome::Drained);
    let all: Vec<u32> = (0..100).collect();
    assert_eq!(bench.core.heard, all);
    let told = bench.core.told.borrow();
    assert!(told.iter().all(|(heard, numbers)| numbers.first() == Some(&(*heard as u32))));
    assert!(told.iter().all(|(_, numbers)| numbers.len() <= limits::AHEAD_BATCHES_MAX));
    assert_eq!(told.iter().flat_map(|(_, numbers)| numbers).copied().collect::<Vec<_>>(), all);
}

#[test]
fn what_another_shard_had_received_is_read_first() {
    let (bytes, numbers) = stream();
    let mut bench = Bench::new();
    bench.connection.assembly.put(&bytes[..60], &mut bench.assemblies);
    assert_eq!(bench.read(&[], 100).1, Outcome::Drained);
    assert_eq!(bench.read(&bytes[60..], 100), (bytes.len() - 60, Outcome::Drained));
    assert_eq!(bench.core.heard, numbers);
}

#[test]
fn a_promise_takes_no_memory_and_a_bad_length_ends_the_connection() {
    let mut bench = Bench::new();
    assert_eq!(bench.read(&u32::MAX.to_le_bytes(), 100).1, Outcome::Drained);
    assert!(bench.assemblies.held() < 1024);
    assert_eq!(bench.connection.begun_us, Some(0));
    let mut bench = Bench::new();
    let bytes = [frame(1, 3), 0u32.to_le_bytes().to_vec()].concat();
    assert_eq!(bench.read(&bytes, 100).1, Outcome::Close(CloseReason::FrameLength));
    assert_eq!(bench.core.heard, [1]);
}
