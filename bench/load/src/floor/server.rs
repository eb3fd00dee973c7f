//! The server: one thread, one ring, frames in, durable groups out, answers back.

use core::sync::atomic::{AtomicBool, Ordering};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc::Sender;

use anyhow::{Context, Result, bail};
use cutwater_model::limits::BLOCK_BYTES;
use cutwater_model::{MemoryRange, Slab};
use cutwater_ring::{
    Arena, Attachment, Completion, ReceivedBuffer, Ring, RingConfig, Token, Wait, cores, socket,
};

use super::{ACK_BYTES, FRAME_HEADER_BYTES, FloorConfig, IDLE_TURNS};

/// The file that is written round and round.
const FILE_BYTES: u64 = 256 << 20;
/// A group buffer.
const GROUP_BYTES: u32 = 4 << 20;
/// A group of this size does not wait for the one before it to be durable.
const GROUP_LARGE_BYTES: u32 = 512 << 10;
/// Groups that may be written at once.
const WRITES_MAX: usize = 4;
/// Group buffers: those in flight, the one that fills, and one whose last frame is still coming in.
const GROUPS: usize = WRITES_MAX + 2;

/// Behind the groups: the headers that are received on their own, one for each connection.
pub(super) const HEADERS_AT: u32 = GROUPS as u32 * GROUP_BYTES;
/// Frames of this size are received straight into their group.
const DIRECT_BYTES_LEAST: u32 = 32 << 10;

const ACCEPT: u64 = 0;
pub(super) const RECEIVE: u64 = 1;
const SEND: u64 = 2;
const WRITE: u64 = 3;
const PREPARE: u64 = 4;
pub(super) const HEADER: u64 = 5;
pub(super) const PAYLOAD: u64 = 6;

pub(super) fn token(kind: u64, index: usize) -> Token {
    Token(kind << 32 | index as u64)
}

/// Serves until it is told to stop; how many groups were written.
pub(super) fn serve(
    config: &FloorConfig,
    path: &Path,
    ready: &Sender<SocketAddr>,
    stop: &AtomicBool,
) -> Result<u64> {
    if !cores::pin(config.server_core) {
        bail!("cannot run on core {}: choose one that this process may use", config.server_core);
    }
    let mut slab = Arena::leak(HEADERS_AT as usize + config.connections as usize * FRAME_HEADER_BYTES, true)?;
    let mut ring = Ring::new(&RingConfig {
        receive_buffers: 64,
        receive_buffer_bytes: 256 << 10,
        ..RingConfig::default()
    })?;
    ring.attach(&mut slab);
    let file = written_file(&mut ring, path)?;
    let listener = socket::listen(SocketAddr::from(([127, 0, 0, 1], 0)), 1024)?;
    ring.accept(token(ACCEPT, 0), &listener);
    let address = socket::local_address(&listener).context("the listener has no address")?;
    ready.send(address).context("nobody waits for the server")?;
    let mut server = Server {
        ring,
        slab,
        file,
        connections: Vec::new(),
        groups: (0..GROUPS).map(|_| Group::default()).collect(),
        free: (0..GROUPS).rev().collect(),
        filling: None,
        sealed: VecDeque::new(),
        writing: VecDeque::new(),
        at: 0,
        written: 0,
        waiting: VecDeque::new(),
        starved: VecDeque::new(),
        is_direct: config.payload_bytes >= DIRECT_BYTES_LEAST,
        answers_due: Vec::new(),
    };
    server.run(stop)?;
    Ok(server.written)
}

/// Makes the file and writes all of it, so that no later write changes anything but bytes.
fn written_file(ring: &mut Ring, path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(true).read(true).write(true).custom_flags(libc::O_DIRECT);
    let file = file.open(path).with_context(|| format!("cannot make {} for O_DIRECT", path.display()))?;
    let mut completions = Vec::new();
    let step = MemoryRange { at: 0, len: GROUP_BYTES };
    ring.reserve(token(PREPARE, 0), &file, 0, FILE_BYTES);
    finish(ring, &mut completions, 0)?;
    for at in (0..FILE_BYTES).step_by(GROUP_BYTES as usize) {
        ring.write(token(PREPARE, 0), &file, at, step, false);
        finish(ring, &mut completions, GROUP_BYTES)?;
    }
    ring.flush(token(PREPARE, 0), &file);
    finish(ring, &mut completions, 0)?;
    Ok(file)
}

/// Waits for the one operation in flight.
fn finish(ring: &mut Ring, completions: &mut Vec<Completion>, bytes: u32) -> Result<()> {
    while completions.is_empty() {
        ring.enter(Wait::Forever, completions)?;
    }
    for completion in completions.drain(..) {
        match completion.result {
            Ok(moved) if moved == bytes => {}
            Ok(moved) => bail!("preparing the file moved {moved} bytes instead of {bytes}"),
            Err(errno) => bail!("preparing the file failed: {errno}"),
        }
    }
    Ok(())
}

/// What one write makes durable.
#[derive(Default)]
struct Group {
    used: u32,
    /// Frames whose last bytes have not come yet.
    incomplete: u32,
    is_durable: bool,
    /// How many answers which connection is due, in the order of arrival.
    answers: Vec<(usize, u32)>,
}

pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    pub(super) header: [u8; FRAME_HEADER_BYTES],
    pub(super) header_len: usize,
    /// The frame that is coming in: its group, its place in the slab, how much of it is there.
    pub(super) frame: Option<(usize, MemoryRange, u32)>,
    /// Answers that wait for the send in flight.
    answers: Vec<u8>,
    spare: Vec<u8>,
    is_sending: bool,
    is_due: bool,
    answered: u64,
}

impl Connection {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            header: [0; FRAME_HEADER_BYTES],
            header_len: 0,
            frame: None,
            answers: Vec::new(),
            spare: Vec::new(),
            is_sending: false,
            is_due: false,
            answered: 0,
        }
    }
}

pub(super) struct Server {
    pub(super) ring: Ring,
    pub(super) slab: Slab,
    file: File,
    pub(super) connections: Vec<Option<Connection>>,
    groups: Vec<Group>,
    free: Vec<usize>,
    filling: Option<usize>,
    /// Full groups that wait for their frames or for a write to end, in order.
    sealed: VecDeque<usize>,
    writing: VecDeque<usize>,
    at: u64,
    written: u64,
    /// Received bytes that found no group, each with where to go on.
    pub(super) waiting: VecDeque<(usize, ReceivedBuffer, usize)>,
    /// Connections whose next payload found no group.
    pub(super) starved: VecDeque<usize>,
    /// Whether frames are received straight into their group.
    pub(super) is_direct: bool,
    /// Connections with answers to send.
    answers_due: Vec<usize>,
}

impl Server {
    fn run(&mut self, stop: &AtomicBool) -> Result<()> {
        let mut completions = Vec::new();
        let mut idle = 0;
        while !stop.load(Ordering::Relaxed) {
            self.ring.enter(Wait::Never, &mut completions)?;
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
                self.complete(completion)?;
            }
            self.write_groups();
            self.send_answers();
        }
        Ok(())
    }

    fn complete(&mut self, completion: Completion) -> Result<()> {
        let (kind, index) = (completion.token.0 >> 32, completion.token.0 as u32 as usize);
        match (kind, completion.result) {
            (ACCEPT, Ok(_)) => {
                if let Attachment::Descriptor(socket) = completion.attachment {
                    self.accepted(socket)?;
                }
                Ok(())
            }
            (RECEIVE, result) => self.received(index, result, completion.more, completion.attachment),
            (HEADER, result) => self.direct_header(index, result),
            (PAYLOAD, result) => self.direct_framed(index, result),
            (SEND, Ok(_)) => {
                if let Some(connection) = &mut self.connections[index] {
                    connection.is_sending = false;
                    if let Attachment::Returned(mut buffer) = completion.attachment {
                        buffer.clear();
                        connection.spare = buffer;
                    }
                    self.due(index);
                }
                Ok(())
            }
            // The client closes its connections at its end, whatever is on the way to it.
            (SEND, Err(_)) => Ok(()),
            (WRITE, Ok(moved)) if moved == whole_blocks(self.groups[index].used) => {
                self.groups[index].is_durable = true;
                self.answer_durable()
            }
            (_, Ok(moved)) => bail!("a group was written short: {moved} bytes"),
            (_, Err(errno)) => bail!("the floor's server failed: {errno}"),
        }
    }

    /// Space for a frame in the group that fills, or in a new one.
    pub(super) fn space(&mut self, len: u32) -> Option<(usize, MemoryRange)> {
        if let Some(filling) = self.filling
            && self.groups[filling].used + len > GROUP_BYTES
        {
            self.sealed.push_back(filling);
            self.filling = None;
            self.write_groups();
        }
        if self.filling.is_none() {
            self.filling = Some(self.free.pop()?);
        }
        let filling = self.filling?;
        let group = &mut self.groups[filling];
        let space = MemoryRange { at: filling as u32 * GROUP_BYTES + group.used, len };
        group.used += len;
        group.incomplete += 1;
        Some((filling, space))
    }

    pub(super) fn framed(&mut self, group: usize, connection: usize) {
        let group = &mut self.groups[group];
        group.incomplete -= 1;
        match group.answers.last_mut() {
            Some((last, count)) if *last == connection => *count += 1,
            _ => group.answers.push((connection, 1)),
        }
    }

    /// Writes the groups that are whole: one at a time while they are small, so that each carries what came meanwhile.
    fn write_groups(&mut self) {
        if let Some(filling) = self.filling {
            let Group { used, incomplete, .. } = self.groups[filling];
            let is_idle = incomplete == 0 && self.writing.is_empty() && self.sealed.is_empty();
            let may_write = self.writing.len() + self.sealed.len() < WRITES_MAX;
            if used > 0 && (is_idle || (used >= GROUP_LARGE_BYTES && may_write)) {
                self.sealed.push_back(filling);
                self.filling = None;
            }
        }
        while let Some(&first) = self.sealed.front()
            && self.groups[first].incomplete == 0
            && self.writing.len() < WRITES_MAX
        {
            self.sealed.pop_front();
            self.write(first);
        }
    }

    fn write(&mut self, index: usize) {
        let begin = index as u32 * GROUP_BYTES;
        let used = self.groups[index].used;
        let whole = whole_blocks(used);
        self.slab.get_mut(MemoryRange { at: begin + used, len: whole - used }).fill(0);
        if self.at + u64::from(whole) > FILE_BYTES {
            self.at = 0;
        }
        let range = MemoryRange { at: begin, len: whole };
        self.ring.write(token(WRITE, index), &self.file, self.at, range, true);
        self.at += u64::from(whole);
        self.written += 1;
        self.writing.push_back(index);
    }

    /// Answers the frames of all groups that are durable with all before them.
    fn answer_durable(&mut self) -> Result<()> {
        while let Some(&first) = self.writing.front()
            && self.groups[first].is_durable
        {
            self.writing.pop_front();
            let mut group = core::mem::take(&mut self.groups[first]);
            for (index, count) in group.answers.drain(..) {
                let Some(connection) = &mut self.connections[index] else { continue };
                for _ in 0..count {
                    connection.answers.extend_from_slice(&connection.answered.to_le_bytes());
                    connection.answered += 1;
                }
                self.due(index);
            }
            self.groups[first].answers = group.answers;
            self.free.push(first);
        }
        self.resume()
    }

    fn due(&mut self, index: usize) {
        if let Some(connection) = &mut self.connections[index]
            && !connection.is_due
        {
            connection.is_due = true;
            self.answers_due.push(index);
        }
    }

    /// One send per connection and turn.
    fn send_answers(&mut self) {
        for index in self.answers_due.drain(..) {
            let Some(connection) = &mut self.connections[index] else { continue };
            connection.is_due = false;
            if connection.is_sending || connection.answers.is_empty() {
                continue;
            }
            debug_assert!(connection.answers.len().is_multiple_of(ACK_BYTES));
            let answers = core::mem::replace(&mut connection.answers, core::mem::take(&mut connection.spare));
            connection.is_sending = true;
            self.ring.send(token(SEND, index), &connection.socket, answers, 0);
        }
    }
}

fn whole_blocks(bytes: u32) -> u32 {
    bytes.next_multiple_of(BLOCK_BYTES as u32)
}
