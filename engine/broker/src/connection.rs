//! What a shard holds about each of its connections: budgets, subscriptions, and who is paused.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use cutwater_api::{CloseReason, ConnectionId, SubscriptionId};
use cutwater_model::limits;

use crate::effect::{Effect, Effects};
use crate::readers::ReaderId;

/// One connection.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    /// Requests that wait for their answer.
    requests_in_flight: u32,
    /// Bytes of requests that had to be copied and wait for room.
    deferred_bytes: u32,
    paused: bool,
    /// Its peer sends no more.
    has_ended: bool,
    /// What waiting requests are taken to cost.
    request_bytes: u64,
    /// Bytes of answers that are collected, or that the kernel may still read.
    answer_bytes: u64,
    /// Readers that wait until some of these have left.
    stalled: VecDeque<ReaderId>,
    /// Some have left, and it is on the list of those to look at.
    is_eased: bool,
    /// The readers of this connection: its waiting fetches and its subscriptions.
    pub(crate) readers: Vec<ReaderId>,
    /// Its subscriptions, with their readers.
    pub(crate) subscriptions: Vec<(SubscriptionId, ReaderId)>,
    /// Partitions that they name.
    pub(crate) subscribed_parts: usize,
}

/// All connections, by slot.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    slots: Vec<(u32, Option<Connection>)>,
    /// Those whose peers have taken something while readers wait in line.
    eased: Vec<ConnectionId>,
}

impl Connections {
    /// Takes note of a new connection.
    pub(crate) fn open(&mut self, id: ConnectionId) {
        let slot = id.slot as usize;
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || (0, None));
        }
        self.slots[slot] = (id.generation, Some(Connection::default()));
    }

    /// Forgets a connection and returns what it held.
    pub(crate) fn close(&mut self, id: ConnectionId) -> Option<Connection> {
        self.get_mut(id)?;
        self.slots[id.slot as usize].1.take()
    }

    /// Bytes charged to a connection.
    #[cfg(test)]
    pub(crate) fn answer_bytes(&mut self, id: ConnectionId) -> u64 {
        self.get_mut(id).map_or(0, |connection| connection.answer_bytes)
    }

    /// The connection, if it still lives.
    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        match self.slots.get_mut(id.slot as usize) {
            Some((generation, Some(connection))) if *generation == id.generation => Some(connection),
            _ => None,
        }
    }

    /// A request has come; over its bound the connection is paused.
    #[inline]
    pub(crate) fn request_begins(&mut self, id: ConnectionId, effects: &mut Effects) {
        if let Some(connection) = self.get_mut(id) {
            connection.requests_in_flight += 1;
            if connection.requests_in_flight >= limits::REQUESTS_IN_FLIGHT_MAX {
                connection.pause(id, effects);
            }
        }
    }

    /// A request has its answer.
    #[inline]
    pub(crate) fn request_ends(&mut self, id: ConnectionId, effects: &mut Effects) {
        if let Some(connection) = self.get_mut(id) {
            connection.requests_in_flight = connection.requests_in_flight.saturating_sub(1);
            if connection.paused {
                connection.resume_if_calm(id, effects);
            }
            if connection.has_ended {
                connection.close_if_done(id, effects);
            }
        }
    }

    /// A waiting request takes so many bytes; over their bound the connection is paused.
    pub(crate) fn weigh(&mut self, id: ConnectionId, bytes: u64, effects: &mut Effects) {
        if let Some(connection) = self.get_mut(id) {
            connection.request_bytes += bytes;
            if connection.request_bytes >= u64::from(limits::REQUEST_BYTES_IN_FLIGHT_MAX) {
                connection.pause(id, effects);
            }
        }
    }

    /// A request that waited is dealt with.
    pub(crate) fn unweigh(&mut self, id: ConnectionId, bytes: u64, effects: &mut Effects) {
        if let Some(connection) = self.get_mut(id) {
            connection.request_bytes = connection.request_bytes.saturating_sub(bytes);
            if connection.paused {
                connection.resume_if_calm(id, effects);
            }
        }
    }

    /// An answer of so many bytes, known or feared, is on its way.
    pub(crate) fn charge(&mut self, id: ConnectionId, bytes: u64) {
        if let Some(connection) = self.get_mut(id) {
            connection.answer_bytes += bytes;
        }
    }

    /// It has left, or does not come.
    pub(crate) fn uncharge(&mut self, id: ConnectionId, bytes: u64, effects: &mut Effects) {
        if let Some(connection) = self.get_mut(id) {
            connection.answer_bytes = connection.answer_bytes.saturating_sub(bytes);
            self.note_eased(id, false, effects);
        }
    }

    /// Whether something may be collected for the connection. In a crowd nobody has two answers on the way.
    pub(crate) fn may_collect(&mut self, id: ConnectionId, is_crowded: bool) -> bool {
        self.get_mut(id).is_some_and(|connection| connection.may_collect(is_crowded))
    }

    /// A reader waits in line.
    pub(crate) fn stall(&mut self, id: ConnectionId, reader: ReaderId) {
        if let Some(connection) = self.get_mut(id) {
            connection.stalled.push_back(reader);
        }
    }

    /// Has the connection looked at before the turn ends, if anybody waits in its line who need not.
    pub(crate) fn note_eased(&mut self, id: ConnectionId, is_crowded: bool, effects: &mut Effects) {
        let Some(connection) = self.get_mut(id) else { return };
        if !connection.is_eased && !connection.stalled.is_empty() && connection.may_collect(is_crowded) {
            connection.is_eased = true;
            self.eased.push(id);
            effects.more = true;
        }
    }

    /// The connections to look at.
    pub(crate) fn take_eased(&mut self) -> Vec<ConnectionId> {
        let eased = core::mem::take(&mut self.eased);
        for &id in &eased {
            if let Some(connection) = self.get_mut(id) {
                connection.is_eased = false;
            }
        }
        eased
    }

    /// The first in the line of a connection, if something may be collected for it.
    pub(crate) fn next_stalled(&mut self, id: ConnectionId, is_crowded: bool) -> Option<ReaderId> {
        let connection = self.get_mut(id)?;
        if connection.may_collect(is_crowded) { connection.stalled.pop_front() } else { None }
    }

    /// No request follows: the connection is closed when those that wait are answered.
    pub(crate) fn end_input(&mut self, id: ConnectionId, effects: &mut Effects) {
        if let Some(connection) = self.get_mut(id) {
            connection.has_ended = true;
            connection.close_if_done(id, effects);
        }
    }

    /// The readers of a connection.
    pub(crate) fn readers_of(&mut self, id: ConnectionId) -> Vec<ReaderId> {
        self.get_mut(id).map_or_else(Vec::new, |connection| connection.readers.clone())
    }

    /// A request of so many bytes was copied to wait for room: the connection is paused until it found it.
    pub(crate) fn deferred(&mut self, id: ConnectionId, bytes: usize, effects: &mut Effects) {
        if let Some(connection) = self.get_mut(id) {
            connection.deferred_bytes = connection.deferred_bytes.saturating_add(bytes as u32);
            connection.pause(id, effects);
        }
    }

    /// A copied request found room, or was refused.
    pub(crate) fn undeferred(&mut self, id: ConnectionId, bytes: usize, effects: &mut Effects) {
        if let Some(connection) = self.get_mut(id) {
            connection.deferred_bytes = connection.deferred_bytes.saturating_sub(bytes as u32);
            if connection.paused {
                connection.resume_if_calm(id, effects);
            }
        }
    }
}

impl Connection {
    const fn may_collect(&self, is_crowded: bool) -> bool {
        self.answer_bytes <= limits::SEND_BYTES_PINNED_MAX as u64 / 2
            && (self.answer_bytes == 0 || !is_crowded)
    }

    fn pause(&mut self, id: ConnectionId, effects: &mut Effects) {
        if !core::mem::replace(&mut self.paused, true) {
            effects.push(Effect::Pause(id));
        }
    }

    fn close_if_done(&self, id: ConnectionId, effects: &mut Effects) {
        if self.requests_in_flight == 0 {
            effects.push(Effect::Close(id, CloseReason::Peer));
        }
    }

    fn resume_if_calm(&mut self, id: ConnectionId, effects: &mut Effects) {
        if self.deferred_bytes == 0
            && self.requests_in_flight <= limits::REQUESTS_IN_FLIGHT_MAX / 2
            && self.request_bytes <= u64::from(limits::REQUEST_BYTES_IN_FLIGHT_MAX / 2)
        {
            self.paused = false;
            effects.push(Effect::Resume(id));
        }
    }
}
