//! Pumps turned by hand, over real rings and loopback sockets, with a core that only takes notes.

use core::time::Duration;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use cutwater_api::{
    Announced, CloseReason, ConnectionId, Fetched, FetchedPart, NodeFacts, Output, Request, Response, Step,
    Ticket,
};
use cutwater_broker::{Landing, Pin};
use cutwater_model::{MemoryRange, Offset, PartitionId, ShardId, TopicId};
use cutwater_ring::{Arena, DataFolder, FileThread, RingConfig, socket};

use super::*;
use crate::ports::{self, ToShard};

/// Frames are one byte. It names how many kibibytes of the slab are wanted; 255 asks for shard 1.
struct ByteSession {
    facts: NodeFacts,
}

const MOVE: u8 = 255;
/// The core pauses the connection that sends this, and resumes it when told to.
const PAUSE: u8 = 254;

impl Session for ByteSession {
    fn new(facts: NodeFacts) -> Self {
        Self { facts }
    }

    fn on_bytes<'a>(&mut self, bytes: &'a [u8], output: &mut Output) -> Step<'a> {
        match bytes {
            [] => Step::Incomplete { bytes_needed: 1 },
            [0, ..] => {
                output.bytes().extend_from_slice(b"wrong");
                Step::Close(CloseReason::Malformed)
            }
            [MOVE, ..] if self.facts.shard == ShardId(0) => Step::Move { consumed: 1, shard: ShardId(1) },
            [byte, ..] => {
                let request = Request::DeleteTopic { topic: TopicId(0) };
                Step::Request { consumed: 1, correlation: u32::from(*byte), request }
            }
        }
    }

    fn announced(&self, _: &[u8]) -> Option<Announced> {
        None
    }

    fn on_response(&mut self, _: Ticket, response: &Response, output: &mut Output) {
        if let Response::Fetched(fetched) = response {
            output.bytes().push(self.facts.shard.0 as u8);
            fetched.parts.iter().flat_map(|part| &part.memory).for_each(|range| output.push_memory(*range));
        }
    }

    fn moved(&mut self, facts: NodeFacts) {
        self.facts = facts;
    }
}

/// The core sends shard 1 a message of so many bytes, and answers nothing.
const FORWARD: u8 = 253;
const FORWARDED_BYTES: usize = 1 << 20;

struct NoteCore {
    slab: Slab,
    next_pin: u32,
    pinned: Vec<Pin>,
    opened: Vec<ConnectionId>,
    closed: Vec<ConnectionId>,
    requests: u32,
    messages: u32,
}

impl Core for NoteCore {
    fn handle(&mut self, input: Input<'_>, _: Now, effects: &mut Effects) {
        match input {
            Input::Opened(id) => self.opened.push(id),
            Input::Closed(id) => self.closed.push(id),
            Input::SendDone(pin) => {
                let at = self.pinned.iter().position(|pinned| *pinned == pin);
                self.pinned.swap_remove(at.expect("a pin comes back once"));
            }
            Input::Request { ticket, .. } | Input::Produce { ticket, .. }
                if ticket.correlation == u32::from(PAUSE) =>
            {
                self.requests += 1;
                effects.push(Effect::Pause(ticket.connection));
            }
            Input::Request { ticket, .. } if ticket.correlation == u32::from(FORWARD) => {
                self.requests += 1;
                let bytes = &mut effects.to_shards[1];
                bytes.extend_from_slice(&(FORWARDED_BYTES as u32).to_le_bytes());
                bytes.resize(bytes.len() + FORWARDED_BYTES, 0);
            }
            Input::ShardMessages { .. } => self.messages += 1,
            Input::Request { ticket, .. } | Input::Produce { ticket, .. } => {
                self.requests += 1;
                self.next_pin += 1;
                let pin = Pin(self.next_pin);
                self.pinned.push(pin);
                let part = FetchedPart {
                    partition: PartitionId::default(),
                    error: None,
                    high_watermark: Offset(0),
                    log_start: Offset(0),
                    memory: vec![MemoryRange { at: 4096, len: ticket.correlation * 1024 }],
                    bytes: Vec::new(),
                };
                let response = Box::new(Response::Fetched(Fetched { parts: vec![part] }));
                effects.push(Effect::Reply { ticket, response, pin: Some(pin) });
            }
            Input::Ended(id) => effects.push(Effect::Close(id, CloseReason::Peer)),
            Input::Stop => effects.push(Effect::Stopped),
            _ => {}
        }
    }

    fn land(&mut self, _: &Announced, _: &[u8]) -> Option<Landing> {
        None
    }

    fn slab(&mut self) -> &mut Slab {
        &mut self.slab
    }

    fn publish(&mut self, _: &ShardMeters, _: bool) {}
}

static FOLDERS: AtomicU32 = AtomicU32::new(0);

struct Bench {
    pumps: Vec<Pump<NoteCore, ByteSession>>,
    /// Those after so many do nothing.
    awake: usize,
    address: SocketAddr,
    path: PathBuf,
    _files: FileThread,
}

impl Bench {
    fn new(shards: u16) -> Self {
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("cutwater-pump-{}-{number}", std::process::id()));
        let folder = DataFolder::open(&path, Duration::ZERO).unwrap();
        let files = FileThread::start(folder).unwrap();
        let listener = socket::listen(SocketAddr::from(([127, 0, 0, 1], 0)), 512).unwrap();
        let address = socket::local_address(&listener).unwrap();
        let (ports, doors, _) = ports::connect(shards).unwrap();
        let mut pumps = Vec::new();
        for (ports, door) in ports.into_iter().zip(&doors) {
            let mut slab = Arena::leak(1 << 20, false).unwrap();
            let all = MemoryRange { at: 0, len: 1 << 20 };
            slab.get_mut(all).iter_mut().enumerate().for_each(|(at, byte)| *byte = pattern(at));
            let mut pump = Pump::new(PumpParts {
                core: NoteCore {
                    slab,
                    next_pin: 0,
                    pinned: Vec::new(),
                    opened: Vec::new(),
                    closed: Vec::new(),
                    requests: 0,
                    messages: 0,
                },
                ring: Ring::new(&RingConfig::small()).unwrap(),
                facts: NodeFacts { shard: ShardId(pumps.len() as u16), shards },
                listener: listener.try_clone().unwrap(),
                disk: Disk::new(files.client(door.bell()), 16),
                ports,
                meters: Arc::default(),
                idle: IdlePolicy::Park,
                assembly_bytes_max: 1 << 20,
            });
            pump.arm_doorbell();
            // Only the first one accepts, so that a test knows where a connection begins.
            if pumps.is_empty() {
                pump.accept_more();
            } else {
                pump.accepting = accept::Accepting::never();
            }
            pumps.push(pump);
        }
        Self { awake: pumps.len(), pumps, address, path, _files: files }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    }

    /// Turns all pumps until it is so. Generous: nothing depends on how long it takes.
    fn turn_until(&mut self, mut is_so: impl FnMut(&mut Self) -> bool) {
        for _ in 0..2_000 {
            if is_so(self) {
                return;
            }
            for pump in &mut self.pumps[..self.awake] {
                pump.tick_us = pump.tick_us.min(Clock.mono_us() + 2_000);
                pump.turn().unwrap();
            }
        }
        panic!("it never came to be");
    }

    /// Reads exactly so many bytes while the pumps turn.
    fn read(&mut self, stream: &mut TcpStream, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.turn_until(|_| {
            let mut chunk = vec![0; 1 << 20];
            match stream.read(&mut chunk) {
                Ok(count) => bytes.extend_from_slice(&chunk[..count]),
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            }
            bytes.len() >= count
        });
        assert_eq!(bytes.len(), count);
        bytes
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn pattern(at: usize) -> u8 {
    (at ^ (at >> 8)) as u8
}

fn answer(shard: u8, kibibytes: usize) -> Vec<u8> {
    core::iter::once(shard).chain((4096..4096 + kibibytes * 1024).map(pattern)).collect()
}

#[test]
fn answers_leave_in_order_from_where_they_lie_and_their_pins_come_back() {
    let mut bench = Bench::new(1);
    let mut peer = bench.connect();
    let sizes = [1, 200, 3, 17, 250, 16, 1];
    peer.write_all(&sizes).unwrap();
    let expected: Vec<u8> = sizes.iter().flat_map(|&size| answer(0, usize::from(size))).collect();
    assert!(bench.read(&mut peer, expected.len()) == expected);
    bench.turn_until(|bench| bench.pumps[0].core.pinned.is_empty());
    assert_eq!(bench.pumps[0].core.next_pin, 7);
}

#[test]
fn a_peer_that_vanishes_leaves_no_pin_and_no_slot_behind() {
    let mut bench = Bench::new(1);
    for round in 0..4 {
        let mut peer = bench.connect();
        let _ = peer.write(&[250; 100]);
        bench.turn_until(|bench| bench.pumps[0].core.requests > round * 100);
        drop(peer);
        bench.turn_until(|bench| bench.pumps[0].connections.len() == 0);
        assert!(bench.pumps[0].core.pinned.is_empty());
    }
    assert_eq!(bench.pumps[0].core.opened.len(), 4);
    assert_eq!(bench.pumps[0].core.opened, bench.pumps[0].core.closed);
}

#[test]
fn a_peer_that_takes_nothing_is_not_read_on_and_is_closed_at_its_deadline() {
    let mut bench = Bench::new(1);
    let mut peer = bench.connect();
    // Far more than the sockets of both sides hold.
    bench.turn_until(|bench| {
        let _ = peer.write(&[250; 4096]);
        bench.pumps[0].connections.at(0).is_some_and(|connection| connection.is_blocked)
    });
    let pinned = bench.pumps[0].core.pinned.len();
    assert!(pinned > 0 && pinned < 400, "{pinned} answers of 250 KiB are held");
    for _ in 0..20 {
        bench.pumps[0].turn().unwrap();
    }
    assert_eq!(bench.pumps[0].core.pinned.len(), pinned, "nothing more is read");
    bench.pumps[0].now.mono_us += limits::SEND_STALL_US_MAX + 1;
    bench.pumps[0].sweep();
    bench.turn_until(|bench| bench.pumps[0].connections.len() == 0);
    assert!(bench.pumps[0].core.pinned.is_empty());
}

#[test]
fn who_begins_and_does_not_end_is_closed_at_the_deadline() {
    let mut bench = Bench::new(1);
    let _silent = bench.connect();
    bench.turn_until(|bench| bench.pumps[0].connections.len() == 1);
    bench.pumps[0].sweep();
    assert_eq!(bench.pumps[0].core.closed.len(), 0);
    bench.pumps[0].now.mono_us += limits::FRAME_READ_US_MAX + 1;
    bench.pumps[0].sweep();
    assert_eq!(bench.pumps[0].core.closed.len(), 1);
}

#[test]
fn a_paused_connection_is_not_read_and_goes_on_where_it_was() {
    let mut bench = Bench::new(1);
    let mut peer = bench.connect();
    peer.write_all(&[1, PAUSE]).unwrap();
    bench.turn_until(|bench| bench.pumps[0].core.requests == 2);
    peer.write_all(&[2, 3]).unwrap();
    bench.turn_until(|bench| {
        bench.pumps[0].connections.at(0).is_some_and(|connection| connection.assembly.bytes().len() == 2)
    });
    peer.write_all(&[4]).unwrap();
    for _ in 0..10 {
        bench.pumps[0].turn().unwrap();
    }
    assert_eq!(bench.pumps[0].core.requests, 2);
    let id = bench.pumps[0].core.opened[0];
    bench.pumps[0].effects.push(Effect::Resume(id));
    bench.pumps[0].carry_out_effects();
    let expected: Vec<u8> = [1, 2, 3, 4].into_iter().flat_map(|size| answer(0, size)).collect();
    assert!(bench.read(&mut peer, expected.len()) == expected);
}

#[test]
fn many_paused_connections_leave_receive_buffers_for_the_others() {
    let mut bench = Bench::new(1);
    // The ring has 64 buffers.
    let mut paused: Vec<TcpStream> = (0..100).map(|_| bench.connect()).collect();
    for peer in &mut paused {
        peer.write_all(&[PAUSE]).unwrap();
    }
    bench.turn_until(|bench| bench.pumps[0].core.requests == 100);
    for peer in &mut paused {
        peer.write_all(&[7; 100]).unwrap();
    }
    let mut other = bench.connect();
    other.write_all(&[9]).unwrap();
    assert!(bench.read(&mut other, answer(0, 9).len()) == answer(0, 9));
    assert_eq!(bench.pumps[0].core.requests, 101);
}

#[test]
fn a_shard_that_takes_nothing_holds_up_only_those_whose_requests_need_it() {
    const FULL: u32 =
        (limits::SHARD_BACKLOG_BYTES_FULL + limits::SHARD_RING_BYTES) / FORWARDED_BYTES as u32 + 1;
    let mut bench = Bench::new(2);
    bench.awake = 1;
    let mut first = bench.connect();
    let mut requests = 0;
    while !bench.pumps[0].ports.is_congested() {
        first.write_all(&[FORWARD]).unwrap();
        requests += 1;
        bench.turn_until(|bench| bench.pumps[0].core.requests == requests);
    }
    // What it sends from now on is taken once, and then not before the shard goes on.
    first.write_all(&[FORWARD; 3]).unwrap();
    requests += 1;
    bench.turn_until(|bench| bench.pumps[0].held.len() == 1);
    let mut other = bench.connect();
    for size in 1..20 {
        other.write_all(&[size]).unwrap();
        let expected = answer(0, usize::from(size));
        assert!(bench.read(&mut other, expected.len()) == expected);
        requests += 1;
    }
    assert_eq!(bench.pumps[0].core.requests, requests);
    // However many there are, what waits is bounded: in the end nobody is served.
    let mut others: Vec<TcpStream> = (0..FULL).map(|_| bench.connect()).collect();
    for peer in &mut others {
        peer.write_all(&[FORWARD, FORWARD]).unwrap();
    }
    bench.turn_until(|bench| bench.pumps[0].is_full());
    other.write_all(&[9]).unwrap();
    for _ in 0..20 {
        bench.pumps[0].turn().unwrap();
    }
    let forwarded = bench.pumps[0].core.requests - 19;
    assert!(forwarded <= FULL + 1, "{forwarded} messages of a megabyte wait");
    // It goes on, and so do they all.
    bench.awake = 2;
    assert!(bench.read(&mut other, answer(0, 9).len()) == answer(0, 9));
    let all = requests - 19 + 2 + 2 * FULL;
    bench.turn_until(|bench| bench.pumps[1].core.messages == all);
    assert_eq!(bench.pumps[0].core.requests, all + 20);
}

#[test]
fn what_a_session_says_before_it_closes_is_sent() {
    let mut bench = Bench::new(1);
    let mut peer = bench.connect();
    peer.write_all(&[1]).unwrap();
    assert!(bench.read(&mut peer, answer(0, 1).len()) == answer(0, 1));
    peer.write_all(&[0]).unwrap();
    assert_eq!(bench.read(&mut peer, 5), b"wrong");
    bench.turn_until(|bench| bench.pumps[0].connections.len() == 0);
    assert_eq!(bench.pumps[0].core.requests, 1);
    assert!(bench.pumps[0].core.pinned.is_empty());
}

#[test]
fn a_connection_moves_to_another_shard_with_what_is_unread() {
    let mut bench = Bench::new(2);
    let mut peer = bench.connect();
    peer.write_all(&[1, MOVE, 2, 3]).unwrap();
    let expected = [answer(0, 1), answer(1, 2), answer(1, 3)].concat();
    assert!(bench.read(&mut peer, expected.len()) == expected);
    peer.write_all(&[4]).unwrap();
    assert!(bench.read(&mut peer, answer(1, 4).len()) == answer(1, 4));
    assert_eq!(bench.pumps[0].connections.len(), 0);
    assert_eq!(bench.pumps[0].core.closed.len(), 1);
    assert_eq!(bench.pumps[1].core.requests, 3);
}

#[test]
fn a_peer_that_sends_no_more_gets_its_answers_wherever_they_are_made() {
    for first in [&[][..], &[MOVE]] {
        let mut bench = Bench::new(2);
        let shard = first.len();
        let mut peer = bench.connect();
        peer.write_all(&[first, &[200, 3, 250]].concat()).unwrap();
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        let expected: Vec<u8> =
            [200, 3, 250].into_iter().flat_map(|size| answer(shard as u8, size)).collect();
        assert!(bench.read(&mut peer, expected.len()) == expected);
        bench.turn_until(|bench| bench.pumps[shard].connections.len() == 0);
        assert_eq!(bench.pumps[shard].core.requests, 3);
        assert!(bench.pumps[shard].core.pinned.is_empty());
        assert!(matches!(peer.read(&mut [0]), Ok(0)), "then it is closed");
    }
}

#[test]
fn a_connection_that_finds_no_room_on_its_way_is_closed() {
    let mut bench = Bench::new(2);
    assert!(
        bench.pumps[0].ports.make_way(ShardId(1), limits::HANDED_OVER_BYTES_MAX - limits::HAND_OVER_BYTES)
    );
    let mut peer = bench.connect();
    peer.write_all(&[MOVE, 2]).unwrap();
    bench.turn_until(|bench| bench.pumps[0].core.closed.len() == 1);
    bench.turn_until(|bench| bench.pumps[0].connections.len() == 0);
    assert!(bench.pumps[1].core.opened.is_empty());
    // Once the others have come in, the next finds its way again.
    bench.pumps[1].ports.came_over(limits::HANDED_OVER_BYTES_MAX - limits::HAND_OVER_BYTES);
    let mut peer = bench.connect();
    peer.write_all(&[MOVE, 2]).unwrap();
    assert!(bench.read(&mut peer, answer(1, 2).len()) == answer(1, 2));
}

#[test]
fn a_stop_takes_no_more_input_and_sends_what_is_there() {
    let mut bench = Bench::new(1);
    let mut peer = bench.connect();
    peer.write_all(&[100; 20]).unwrap();
    bench.turn_until(|bench| bench.pumps[0].core.requests == 20);
    bench.pumps[0].ports.door.send(ToShard::Stop);
    let expected: Vec<u8> = (0..20).flat_map(|_| answer(0, 100)).collect();
    assert!(bench.read(&mut peer, expected.len()) == expected);
    let _ = peer.write(&[1]);
    bench.turn_until(|bench| bench.pumps[0].is_finished());
    assert_eq!(bench.pumps[0].core.requests, 20);
    bench.pumps[0].close_all();
    assert!(bench.pumps[0].core.pinned.is_empty());
}
