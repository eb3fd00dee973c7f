//! The client: a closed loop over all connections on one thread, each answer followed by the next frame.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, bail};
use cutwater_model::{MemoryRange, checksum};
use cutwater_ring::{
    Arena, Attachment, Clock, Completion, Errno, Ring, RingConfig, Token, Wait, cores, socket,
};
use hdrhistogram::Histogram;

use super::{ACK_BYTES, FRAME_HEADER_BYTES, FloorConfig, IDLE_TURNS, PAYLOAD_BYTES_MAX};

const CONNECT: u64 = 0;
const RECEIVE: u64 = 1;
const SEND: u64 = 2;

fn token(kind: u64, index: usize) -> Token {
    Token(kind << 32 | index as u64)
}

/// What the client saw after its warm-up.
pub(super) struct Measured {
    pub(super) frames: u64,
    pub(super) seconds: f64,
    pub(super) latency_ns: Histogram<u64>,
}

struct Connection {
    socket: OwnedFd,
    /// When each frame that waits for its answer might first have been sent, in nanoseconds.
    asked_ns: VecDeque<u64>,
    /// Frames that may be sent but wait for the send in flight.
    allowed: u32,
    is_sending: bool,
    /// The part of an answer that has come.
    answer: [u8; ACK_BYTES],
    answer_len: usize,
    answered: u64,
}

struct Client {
    ring: Ring,
    connections: Vec<Connection>,
    frame_bytes: u32,
    frames_in_slab: u32,
    /// Answers before this moment are not counted.
    count_from_ns: u64,
    frames: u64,
    latency_ns: Histogram<u64>,
}

/// Drives the server for the warm-up and the time asked for.
pub(super) fn measure(config: &FloorConfig, server: SocketAddr) -> Result<Measured> {
    if !cores::pin(config.client_core) {
        bail!("cannot run on core {}: choose one that this process may use", config.client_core);
    }
    if config.payload_bytes > PAYLOAD_BYTES_MAX || config.payload_bytes == 0 {
        bail!("a payload has 1 to {PAYLOAD_BYTES_MAX} bytes");
    }
    let frame = frame(config.payload_bytes);
    let frames_in_slab = config.in_flight.clamp(1, 64);
    let mut slab = Arena::leak(frame.len() * frames_in_slab as usize, false)?;
    for number in 0..frames_in_slab {
        let len = frame.len() as u32;
        slab.get_mut(MemoryRange { at: number * len, len }).copy_from_slice(&frame);
    }
    let mut ring = Ring::new(&RingConfig::default())?;
    ring.attach(&mut slab);
    let connections = (0..config.connections).map(|_| connect(&mut ring, server)).collect::<Result<_>>()?;
    let warm_up_ns = config.duration.as_nanos() as u64 / 5;
    let begin_ns = Clock.mono_ns();
    let mut client = Client {
        ring,
        connections,
        frame_bytes: frame.len() as u32,
        frames_in_slab,
        count_from_ns: begin_ns + warm_up_ns,
        frames: 0,
        latency_ns: Histogram::new_with_bounds(1, 60_000_000_000, 3).context("the histogram's bounds")?,
    };
    client.run(config.in_flight, begin_ns + warm_up_ns + config.duration.as_nanos() as u64)?;
    let seconds = (Clock.mono_ns() - client.count_from_ns) as f64 / 1e9;
    Ok(Measured { frames: client.frames, seconds, latency_ns: client.latency_ns })
}

/// A frame with a payload that does not compress.
fn frame(payload_bytes: u32) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    let payload: Vec<u8> = (0..payload_bytes).map(|_| noise()).collect();
    let mut frame = Vec::with_capacity(FRAME_HEADER_BYTES + payload.len());
    frame.extend_from_slice(&payload_bytes.to_le_bytes());
    frame.extend_from_slice(&checksum::crc32c(&payload).to_le_bytes());
    frame.extend_from_slice(&payload);
    frame
}

fn connect(ring: &mut Ring, server: SocketAddr) -> Result<Connection> {
    let socket = socket::stream(server)?;
    ring.connect(token(CONNECT, 0), &socket, server);
    let mut completions = Vec::new();
    while completions.is_empty() {
        ring.enter(Wait::Forever, &mut completions)?;
    }
    if let Some(Completion { result: Err(errno), .. }) = completions.first() {
        bail!("connecting to the floor's server failed: {errno}");
    }
    socket::set_no_delay(&socket).map_err(|errno| anyhow::anyhow!("setting TCP_NODELAY failed: {errno}"))?;
    Ok(Connection {
        socket,
        asked_ns: VecDeque::new(),
        allowed: 0,
        is_sending: false,
        answer: [0; ACK_BYTES],
        answer_len: 0,
        answered: 0,
    })
}

impl Client {
    fn run(&mut self, in_flight: u32, until_ns: u64) -> Result<()> {
        let now_ns = Clock.mono_ns();
        for index in 0..self.connections.len() {
            self.ring.receive(token(RECEIVE, index), &self.connections[index].socket);
            self.allow(index, in_flight, now_ns);
        }
        let mut completions = Vec::new();
        let mut idle = 0;
        loop {
            self.ring.enter(Wait::Never, &mut completions)?;
            let now_ns = Clock.mono_ns();
            if now_ns >= until_ns {
                return Ok(());
            }
            if completions.is_empty() {
                idle += 1;
                if idle >= IDLE_TURNS {
                    cores::yield_core();
                    idle = 0;
                }
                continue;
            }
            idle = 0;
            for completion in completions.drain(..) {
                let index = completion.token.0 as u32 as usize;
                match (completion.token.0 >> 32, completion.result) {
                    (SEND, Ok(_)) => {
                        self.connections[index].is_sending = false;
                        self.send(index);
                    }
                    (RECEIVE, Ok(0)) => bail!("the floor's server closed a connection"),
                    (RECEIVE, Ok(_) | Err(Errno::NO_BUFFERS)) => {
                        if let Attachment::Received(buffer) = completion.attachment {
                            let answers = self.answered(index, &buffer, now_ns)?;
                            self.ring.recycle(buffer);
                            self.allow(index, answers, now_ns);
                        }
                        if !completion.more {
                            self.ring.receive(token(RECEIVE, index), &self.connections[index].socket);
                        }
                    }
                    (_, result) => bail!("the floor's client failed: {result:?}"),
                }
            }
        }
    }

    /// Reads answers; how many there were.
    fn answered(&mut self, index: usize, bytes: &[u8], now_ns: u64) -> Result<u32> {
        let connection = &mut self.connections[index];
        let mut answers = 0;
        let mut rest = bytes;
        while !rest.is_empty() {
            let step = (ACK_BYTES - connection.answer_len).min(rest.len());
            connection.answer[connection.answer_len..][..step].copy_from_slice(&rest[..step]);
            connection.answer_len += step;
            rest = &rest[step..];
            if connection.answer_len < ACK_BYTES {
                break;
            }
            connection.answer_len = 0;
            let asked_ns = connection.asked_ns.pop_front();
            if u64::from_le_bytes(connection.answer) != connection.answered || asked_ns.is_none() {
                bail!("an answer out of order");
            }
            connection.answered += 1;
            answers += 1;
            if let Some(asked_ns) = asked_ns
                && now_ns >= self.count_from_ns
            {
                self.frames += 1;
                self.latency_ns.saturating_record(now_ns - asked_ns);
            }
        }
        Ok(answers)
    }

    /// Allows so many more frames, from now on.
    fn allow(&mut self, index: usize, frames: u32, now_ns: u64) {
        let connection = &mut self.connections[index];
        connection.allowed += frames;
        connection.asked_ns.extend((0..frames).map(|_| now_ns));
        self.send(index);
    }

    fn send(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if connection.is_sending || connection.allowed == 0 {
            return;
        }
        let frames = connection.allowed.min(self.frames_in_slab);
        connection.allowed -= frames;
        connection.is_sending = true;
        let range = MemoryRange { at: 0, len: frames * self.frame_bytes };
        self.ring.send_slab(token(SEND, index), &connection.socket, range);
    }
}
