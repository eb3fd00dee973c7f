//! What a shard holds about each of its connections: budgets, subscriptions, and who is paused.

use alloc::vec::Vec;

use cutwater_api::{ConnectionId, SubscriptionId};
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
    /// Bytes of answers that the kernel may still read.
    pub(crate) pinned_bytes: u32,
    /// The readers of this connection: its waiting fetches and its subscriptions.
    pub(crate) readers: Vec<ReaderId>,
    /// Its subscriptions, with their readers.
    pub(crate) subscriptions: Vec<(SubscriptionId, ReaderId)>,
}

/// All connections, by slot.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    slots: Vec<(u32, Option<Connection>)>,
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
            if connection.requests_in_flight >= limits::REQUESTS_IN_FLIGHT_MAX && !connection.paused {
                connection.paused = true;
                effects.push(Effect::Pause(id));
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
        }
    }

    /// A request of so many bytes was copied to wait for room: the connection is paused until it found it.
    pub(crate) fn deferred(&mut self, id: ConnectionId, bytes: usize, effects: &mut Effects) {
        if let Some(connection) = self.get_mut(id) {
            connection.deferred_bytes = connection.deferred_bytes.saturating_add(bytes as u32);
            if !connection.paused {
                connection.paused = true;
                effects.push(Effect::Pause(id));
            }
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
    fn resume_if_calm(&mut self, id: ConnectionId, effects: &mut Effects) {
        if self.deferred_bytes == 0 && self.requests_in_flight <= limits::REQUESTS_IN_FLIGHT_MAX / 2 {
            self.paused = false;
            effects.push(Effect::Resume(id));
        }
    }
}
