//! One connection and the table of all connections of a shard. Lives on the shard's core.
//!
//! A slot is used again only after the kernel has let go of everything that was begun for its last life, so a
//! completion can be matched by slot alone.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use cutwater_api::{CloseReason, ConnectionId, Output};
use cutwater_broker::{LandingId, Pin};
use cutwater_model::{MemoryRange, ShardId};
use cutwater_ring::ReceivedBuffer;

use crate::assembly::Assembly;

/// Received bytes that wait for their turn.
#[derive(Debug)]
pub(crate) struct Received {
    /// The bytes, lent by the ring.
    pub(crate) buffer: ReceivedBuffer,
    /// How many of them are consumed.
    pub(crate) consumed: usize,
    /// When they were reaped, microseconds of the monotonic clock.
    pub(crate) at_us: u64,
}

/// An answer on its way.
#[derive(Debug, Default)]
pub(crate) struct Sending {
    /// What is being sent, or empty.
    pub(crate) output: Output,
    /// The memory that `output` names is held by these.
    pub(crate) pins: Vec<Pin>,
    /// Bytes of `output` the kernel has taken.
    pub(crate) sent: usize,
    /// Whether an operation is in flight.
    pub(crate) is_in_flight: bool,
    /// When that operation began.
    pub(crate) begun_us: u64,
}

/// A batch on its way into the core's memory.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) id: LandingId,
    /// The peer's number for the request.
    pub(crate) correlation: u32,
    /// What has not come.
    pub(crate) missing: MemoryRange,
    /// Whether the kernel fills it.
    pub(crate) is_receiving: bool,
}

impl Incoming {
    pub(crate) fn is_whole(&self) -> bool {
        self.missing.len == 0
    }

    /// The kernel has filled so many bytes, and no longer fills it.
    pub(crate) fn take(&mut self, bytes: u32) {
        let bytes = bytes.min(self.missing.len);
        self.missing.at += bytes;
        self.missing.len -= bytes;
        self.is_receiving = false;
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    pub(crate) id: ConnectionId,
    pub(crate) socket: OwnedFd,
    pub(crate) session: S,
    /// What comes next on the wire, after `sending`.
    pub(crate) output: Output,
    /// The memory that `output` names is held by these.
    pub(crate) pins: Vec<Pin>,
    pub(crate) sending: Sending,
    /// A buffer for the next send.
    pub(crate) spare: Vec<u8>,
    pub(crate) received: VecDeque<Received>,
    /// A frame that is not whole yet.
    pub(crate) assembly: Assembly,
    /// The rest of the frame goes to where the core wants its batch; the assembly has only its beginning.
    pub(crate) landing: Option<Incoming>,
    /// Its last frame was large: what comes is received straight into the assembly.
    pub(crate) is_bulky: bool,
    /// When the frame (or the greeting) began that is not whole yet.
    pub(crate) begun_us: Option<u64>,
    /// A receive is in flight.
    pub(crate) is_receiving: bool,
    /// Its cancellation was asked for.
    pub(crate) is_cancelling: bool,
    /// The shard takes nothing from it at present.
    pub(crate) is_paused: bool,
    /// Its last request needs a shard that takes nothing at present.
    pub(crate) is_held: bool,
    /// Its answers wait for room; nothing is read before they have left.
    pub(crate) is_blocked: bool,
    /// It stands in the rotation of connections with input.
    pub(crate) is_ready: bool,
    /// It stands in the list of connections with output.
    pub(crate) is_dirty: bool,
    /// The peer sends no more.
    pub(crate) has_ended: bool,
    /// When all that it had sent was taken, and only answers were left to come.
    pub(crate) finishing_us: Option<u64>,
    /// It goes to another shard as soon as nothing of it is in flight.
    pub(crate) moving: Option<ShardId>,
    /// Nothing is read any more; it closes once its output is sent.
    pub(crate) closing: Option<CloseReason>,
    /// It is closed; only the kernel still holds something of it.
    pub(crate) is_closed: bool,
}

impl<S> Connection<S> {
    pub(crate) fn new(id: ConnectionId, socket: OwnedFd, session: S, now_us: u64) -> Self {
        Self {
            id,
            socket,
            session,
            output: Output::default(),
            pins: Vec::new(),
            sending: Sending::default(),
            spare: Vec::new(),
            received: VecDeque::new(),
            assembly: Assembly::default(),
            landing: None,
            is_bulky: false,
            begun_us: Some(now_us),
            is_receiving: false,
            is_cancelling: false,
            is_paused: false,
            is_held: false,
            is_blocked: false,
            is_ready: false,
            is_dirty: false,
            has_ended: false,
            finishing_us: None,
            moving: None,
            closing: None,
            is_closed: false,
        }
    }

    /// Whether something is there to look at.
    pub(crate) fn has_input(&self) -> bool {
        !self.received.is_empty() || self.assembly.is_whole() || self.has_landed()
    }

    /// Whether a batch is whole in the core's memory.
    pub(crate) fn has_landed(&self) -> bool {
        self.landing.as_ref().is_some_and(Incoming::is_whole)
    }

    /// Whether input may be taken from it now.
    pub(crate) fn may_read(&self) -> bool {
        !(self.is_paused
            || self.is_held
            || self.is_blocked
            || self.is_closed
            || self.closing.is_some()
            || self.moving.is_some())
    }

    /// Whether all that was to be sent is sent.
    pub(crate) fn has_sent_all(&self) -> bool {
        !self.sending.is_in_flight && self.output.is_empty()
    }
}

/// The connections of one shard.
#[derive(Debug)]
pub(crate) struct Connections<S> {
    slots: Vec<Slot<S>>,
    free: Vec<u32>,
    count: usize,
    count_max: usize,
}

#[derive(Debug)]
struct Slot<S> {
    generation: u32,
    connection: Option<Box<Connection<S>>>,
}

impl<S> Connections<S> {
    /// A table for at most so many.
    pub(crate) fn new(count_max: usize) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), count: 0, count_max }
    }

    /// How many there are, those that are closing included.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no room for another.
    pub(crate) fn is_full(&self) -> bool {
        self.count >= self.count_max
    }

    /// Takes a slot and fills it; `None` when there is none.
    pub(crate) fn open(
        &mut self,
        make: impl FnOnce(ConnectionId) -> Connection<S>,
    ) -> Option<&mut Connection<S>> {
        if self.is_full() {
            return None;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, connection: None });
            (self.slots.len() - 1) as u32
        });
        self.count += 1;
        let slot = &mut self.slots[number as usize];
        slot.generation = slot.generation.wrapping_add(1);
        let id = ConnectionId { slot: number, generation: slot.generation };
        Some(slot.connection.insert(Box::new(make(id))))
    }

    /// The connection in a slot, closed or not.
    #[inline]
    pub(crate) fn at(&mut self, slot: u32) -> Option<&mut Connection<S>> {
        self.slots.get_mut(slot as usize)?.connection.as_deref_mut()
    }

    /// The connection of that id, unless it is closed.
    #[inline]
    pub(crate) fn get(&mut self, id: ConnectionId) -> Option<&mut Connection<S>> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        let connection = slot.connection.as_deref_mut()?;
        (slot.generation == id.generation && !connection.is_closed).then_some(connection)
    }

    /// Empties a slot for its next life.
    pub(crate) fn remove(&mut self, slot: u32) -> Option<Box<Connection<S>>> {
        let connection = self.slots.get_mut(slot as usize)?.connection.take()?;
        self.free.push(slot);
        self.count -= 1;
        Some(connection)
    }

    /// All connections, closed ones included.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Connection<S>> {
        self.slots.iter().filter_map(|slot| slot.connection.as_deref())
    }
}
