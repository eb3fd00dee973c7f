//! Carrying out what the core asks for: one match.

use cutwater_api::{ConnectionId, Response, Session, Ticket};
use cutwater_broker::{Effect, Input, Pin};

use crate::ports::FromShard;

use super::{Core, FLUSH_US_MAX, Pump, Stopping};

impl<C: Core, S: Session> Pump<C, S> {
    /// Carries out all effects, those included that come up meanwhile.
    pub(super) fn carry_out_effects(&mut self) {
        while !self.effects.list.is_empty() {
            core::mem::swap(&mut self.effects.list, &mut self.executing);
            let mut executing = core::mem::take(&mut self.executing);
            for effect in executing.drain(..) {
                self.carry_out(effect);
            }
            self.executing = executing;
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Reply { ticket, response, pin } => self.reply(ticket, &response, pin),
            Effect::Pause(id) => self.pause(id),
            Effect::Resume(id) => self.resume(id),
            Effect::Close(id, reason) => self.done.push((id, reason)),
            Effect::Control { ticket, command } => {
                let shard = self.facts.shard;
                self.ports.tell_control(FromShard::Ask { shard, ticket, command: *command });
            }
            Effect::Fence(reason) => {
                tracing::error!(shard = self.facts.shard.0, %reason, "the shard takes no appends any more");
                self.meters.set_fenced();
            }
            Effect::Damage(range) => {
                tracing::error!(shard = self.facts.shard.0, %range, "stored bytes are damaged");
            }
            Effect::Stopped => {
                self.stopping = Stopping::Flushing { until_us: self.now.mono_us + FLUSH_US_MAX };
            }
            disk => self.disk.begin(disk, &mut self.ring),
        }
    }

    fn reply(&mut self, ticket: Ticket, response: &Response, pin: Option<Pin>) {
        let slot = ticket.connection.slot;
        let Some(connection) = self.connections.get(ticket.connection) else {
            if let Some(pin) = pin {
                self.core.handle(Input::SendDone(pin), self.now, &mut self.effects);
            }
            return;
        };
        connection.session.on_response(ticket, response, &mut connection.output);
        connection.pins.extend(pin);
        if let Response::Refused(kind) = response {
            self.meters.add_refusal(*kind);
        }
        if !connection.is_dirty {
            connection.is_dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Takes nothing more from a connection. Its receive is cancelled when more comes.
    fn pause(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get(id) {
            connection.is_paused = true;
            self.set_received_aside(id.slot);
        }
    }

    fn resume(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get(id) {
            connection.is_paused = false;
            self.go_on(id.slot);
        }
    }

    /// Reads again from a connection that was not read for a while: that time does not count against the peer.
    pub(super) fn go_on(&mut self, slot: u32) {
        if let Some(connection) = self.connections.at(slot)
            && let Some(begun_us) = &mut connection.begun_us
        {
            *begun_us = self.now.mono_us;
        }
        self.read_on(slot);
    }

    /// Puts a connection back into the rotation, and receives from it again.
    pub(super) fn read_on(&mut self, slot: u32) {
        let Some(connection) = self.connections.at(slot) else { return };
        let has_input = connection.has_input();
        if has_input && connection.may_read() && !connection.is_ready {
            connection.is_ready = true;
            self.ready.push_back(slot);
        } else if !has_input && connection.has_ended {
            return self.finish(slot);
        }
        self.receive_if_wanted(slot);
    }
}
