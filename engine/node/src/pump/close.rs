//! The end of a connection, the deadlines that bring it about, and its passage to another shard.
//!
//! A close never leaves a pin behind: what was not sent is let go at once, what is in flight when the kernel says so.

use cutwater_api::{CloseReason, NodeFacts, Session};
use cutwater_broker::Input;
use cutwater_model::{ShardId, limits};

use super::{Core, Pump};
use crate::ports::HandOver;

impl<C: Core, S: Session> Pump<C, S> {
    /// Reads no more from a connection and closes it when its output has left.
    pub(super) fn close_after_output(&mut self, slot: u32, reason: CloseReason) {
        let Some(connection) = self.connections.at(slot) else { return };
        if connection.is_closed || connection.closing.is_some() {
            return;
        }
        connection.closing = Some(reason);
        for received in connection.received.drain(..) {
            self.ring.recycle(received.buffer);
        }
        if connection.has_sent_all() {
            self.close(slot, reason);
        } else if !connection.is_dirty {
            connection.is_dirty = true;
            self.dirty.push(slot);
        }
    }

    /// The peer sends no more and all it sent was taken: it is closed when the core has answered it.
    pub(super) fn finish(&mut self, slot: u32) {
        let Some(connection) = self.connections.at(slot) else { return };
        if connection.is_closed || connection.closing.is_some() || connection.finishing_us.is_some() {
            return;
        }
        connection.finishing_us = Some(self.now.mono_us);
        let id = connection.id;
        self.core.handle(Input::Ended(id), self.now, &mut self.effects);
    }

    /// Closes those that the core has done with, now that its last answers are in their output.
    pub(super) fn close_done(&mut self) {
        while let Some((id, reason)) = self.done.pop() {
            if self.connections.get(id).is_some() {
                self.close_after_output(id.slot, reason);
            }
        }
    }

    /// Closes a connection now.
    pub(super) fn close(&mut self, slot: u32, reason: CloseReason) {
        let Some(connection) = self.connections.at(slot) else { return };
        if connection.is_closed {
            return;
        }
        connection.is_closed = true;
        let id = connection.id;
        self.meters.add_close(reason);
        tracing::debug!(slot, ?reason, "connection closed");
        for received in connection.received.drain(..) {
            self.ring.recycle(received.buffer);
        }
        connection.assembly.release(&mut self.assemblies);
        connection.output.clear();
        let mut pins = core::mem::take(&mut connection.pins);
        if !connection.sending.is_in_flight {
            pins.append(&mut connection.sending.pins);
        }
        if connection.sending.is_in_flight || connection.is_receiving {
            self.ring.shutdown(&connection.socket);
        }
        self.core.handle(Input::Closed(id), self.now, &mut self.effects);
        for pin in pins {
            self.core.handle(Input::SendDone(pin), self.now, &mut self.effects);
        }
        self.free_if_idle(slot);
    }

    /// Frees the slot of a closed connection once the kernel holds nothing of it.
    pub(super) fn free_if_idle(&mut self, slot: u32) {
        let Some(connection) = self.connections.at(slot) else { return };
        if !connection.is_closed || connection.is_receiving || connection.sending.is_in_flight {
            return;
        }
        if let Some(connection) = self.connections.remove(slot) {
            if let Some(incoming) = connection.landing {
                self.core.handle(Input::Abandoned(incoming.id), self.now, &mut self.effects);
            }
            self.ring.close(connection.socket);
        }
        self.accept_more();
    }

    /// Closes what took too long: frames begun and not ended, answers not taken.
    pub(super) fn sweep(&mut self) {
        let now_us = self.now.mono_us;
        let is_late = |since_us: u64, us_max: u64| now_us.saturating_sub(since_us) > us_max;
        let mut late = Vec::new();
        for connection in self.connections.iter().filter(|connection| !connection.is_closed) {
            if connection.sending.is_in_flight
                && is_late(connection.sending.begun_us, limits::SEND_STALL_US_MAX)
            {
                late.push((connection.id.slot, CloseReason::WriteDeadline));
            } else if connection.finishing_us.is_some_and(|since_us| is_late(since_us, limits::FINISH_US_MAX))
            {
                late.push((connection.id.slot, CloseReason::Peer));
            } else if !connection.is_paused
                && !connection.is_held
                && !connection.is_blocked
                && connection.begun_us.is_some_and(|begun_us| is_late(begun_us, limits::FRAME_READ_US_MAX))
            {
                late.push((connection.id.slot, CloseReason::ReadDeadline));
            }
        }
        for (slot, reason) in late {
            self.close(slot, reason);
        }
    }

    /// The connection belongs to another shard: it goes there with all that is unread.
    pub(super) fn hand_over(&mut self, slot: u32, shard: ShardId) {
        if shard == self.facts.shard || shard.0 >= self.facts.shards {
            return self.close(slot, CloseReason::Malformed);
        }
        let Some(connection) = self.connections.at(slot) else { return };
        debug_assert!(connection.landing.is_none(), "it moves between two frames");
        connection.moving = Some(shard);
        self.set_received_aside(slot);
        self.cancel_receive(slot);
        self.hand_over_if_quiet(slot);
    }

    /// Hands it over once nothing of it is in flight: bytes that come before that go with it.
    pub(super) fn hand_over_if_quiet(&mut self, slot: u32) {
        let Some(connection) = self.connections.at(slot) else { return };
        let Some(shard) = connection.moving else { return };
        if connection.is_closed || connection.is_receiving || !connection.has_sent_all() {
            return;
        }
        let id = connection.id;
        if !self.ports.make_way(shard, connection.assembly.bytes().len()) {
            return self.close(slot, CloseReason::Crowded);
        }
        let unread = connection.assembly.bytes().to_vec();
        connection.assembly.release(&mut self.assemblies);
        self.core.handle(Input::Closed(id), self.now, &mut self.effects);
        if let Some(connection) = self.connections.remove(slot) {
            let passed = HandOver { socket: connection.socket, session: connection.session, unread };
            self.ports.hand_over(shard, passed);
        }
        self.accept_more();
    }

    /// Takes a connection that another shard handed over.
    pub(super) fn take_over(&mut self, passed: HandOver<S>) {
        let HandOver { socket, mut session, unread } = passed;
        self.ports.came_over(unread.len());
        session.moved(NodeFacts { ..self.facts });
        let Some(slot) = self.open(socket, session) else { return };
        let Some(connection) = self.connections.at(slot) else { return };
        if !unread.is_empty() {
            connection.assembly.put(&unread, &mut self.assemblies);
            connection.is_ready = true;
            self.ready.push_back(slot);
            if self.assemblies.held() > self.assembly_bytes_max {
                self.close(slot, CloseReason::Crowded);
            }
        }
    }

    /// Ends all connections: the node stops.
    pub(super) fn close_all(&mut self) {
        let open: Vec<u32> = self
            .connections
            .iter()
            .filter(|connection| !connection.is_closed)
            .map(|connection| connection.id.slot)
            .collect();
        for slot in open {
            self.close(slot, CloseReason::Stop);
        }
    }
}
