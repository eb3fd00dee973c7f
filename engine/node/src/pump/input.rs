//! Bytes received become requests: a bounded number in each turn, connections in rotation.

use cutwater_api::{CloseReason, Request, Ticket};
use cutwater_api::{Session, Step, Upcoming};
use cutwater_broker::{Effects, Input, Landing};
use cutwater_model::{Now, ShardId, limits};
use cutwater_ring::{Attachment, Completion, Errno};

use super::{Core, Pump, Purpose, Stopping};
use crate::assembly::{AssemblyPool, FRONT_BYTES};
use crate::connection::{Connection, Incoming, Received};

/// Connections without a receive buffer that are served again in one turn.
const STARVED_PER_TURN: usize = 64;
/// From so many missing bytes on, the rest of a frame is received straight to where it is put together.
const BULKY_BYTES_LEAST: usize = 32 * 1024;

/// What is left of a turn's share.
pub(super) struct Budget {
    pub(super) inputs: u32,
    pub(super) bytes: usize,
}

/// Why reading from a connection paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Its bytes are used up.
    Drained,
    /// Its share is.
    Spent,
    /// It belongs elsewhere.
    Move(ShardId),
    /// It ends.
    Close(CloseReason),
}

/// What one look at the front of some bytes came to.
enum Look {
    Next(usize),
    Incomplete(usize),
    Move(usize, ShardId),
    Close(CloseReason),
}

/// A reader that borrows all of a pump but its connections.
macro_rules! reader {
    ($pump:expr, $inputs_left:expr) => {
        Reader {
            core: &mut $pump.core,
            effects: &mut $pump.effects,
            assemblies: &mut $pump.assemblies,
            now: $pump.now,
            inputs_left: $inputs_left,
        }
    };
}

impl<C: Core, S: Session> Pump<C, S> {
    /// Bytes came, or the receive ended.
    pub(super) fn on_received(&mut self, slot: u32, completion: Completion) {
        let Completion { result, more, attachment, .. } = completion;
        let at_us = self.now.mono_us;
        let buffer = match attachment {
            Attachment::Received(buffer) => Some(buffer),
            Attachment::Returned(lent) => return self.on_received_apart(slot, Some(lent), result),
            _ => None,
        };
        let Some(connection) = self.connections.at(slot) else {
            return buffer.into_iter().for_each(|buffer| self.ring.recycle(buffer));
        };
        if connection.landing.as_ref().is_some_and(|incoming| incoming.is_receiving) {
            return self.on_received_apart(slot, None, result);
        }
        if !more {
            connection.is_receiving = false;
            connection.is_cancelling = false;
        }
        if connection.is_closed {
            buffer.into_iter().for_each(|buffer| self.ring.recycle(buffer));
            return self.free_if_idle(slot);
        }
        match (result, buffer) {
            (Ok(0), buffer) => {
                buffer.into_iter().for_each(|buffer| self.ring.recycle(buffer));
                connection.has_ended = true;
                let is_used_up = !connection.has_input();
                // One that moves meets its end again where it goes, with all that it sent before.
                if is_used_up && connection.moving.is_none() {
                    self.finish(slot);
                }
            }
            (Ok(_), Some(buffer)) => self.take_received(slot, Received { buffer, consumed: 0, at_us }),
            (Err(Errno::NO_BUFFERS), _) => self.starved.push_back(slot),
            (Err(Errno::CANCELED), _) | (Ok(_), None) => self.receive_if_wanted(slot),
            (Err(errno), _) if errno.is_transient() => self.receive_if_wanted(slot),
            (Err(_), _) => self.close(slot, CloseReason::Peer),
        }
        self.hand_over_if_quiet(slot);
    }

    /// A receive of its own has ended: into the room that an assembly has lent, or into memory of the core.
    fn on_received_apart(&mut self, slot: u32, lent: Option<Vec<u8>>, result: Result<u32, Errno>) {
        let Some(connection) = self.connections.at(slot) else { return };
        connection.is_receiving = false;
        connection.is_cancelling = false;
        if connection.is_closed {
            return self.free_if_idle(slot);
        }
        let bytes = result.unwrap_or(0);
        if let Some(lent) = lent {
            connection.assembly.take_back(lent, bytes as usize);
        } else if let Some(incoming) = &mut connection.landing {
            incoming.take(bytes);
        }
        match result {
            Ok(0) => {
                connection.has_ended = true;
                if !connection.has_input() && connection.moving.is_none() {
                    self.finish(slot);
                }
            }
            Err(errno) if errno != Errno::CANCELED && !errno.is_transient() => {
                self.close(slot, CloseReason::Peer);
            }
            Ok(_) | Err(_) => self.read_on(slot),
        }
        self.hand_over_if_quiet(slot);
    }

    /// Puts bytes into the rotation. What may not be read now is copied, so that the ring has its buffer back.
    fn take_received(&mut self, slot: u32, received: Received) {
        let Some(connection) = self.connections.at(slot) else { return };
        if !connection.may_read() {
            if connection.closing.is_none() {
                connection.assembly.put(&received.buffer, &mut self.assemblies);
            }
            self.ring.recycle(received.buffer);
            self.cancel_receive(slot);
            if self.assemblies.held() > self.assembly_bytes_max {
                self.close(slot, CloseReason::Crowded);
            }
            return;
        }
        connection.received.push_back(received);
        if !connection.is_ready {
            connection.is_ready = true;
            self.ready.push_back(slot);
        }
        if connection.received.len() >= limits::RECEIVED_BUFFERS_MAX {
            self.cancel_receive(slot);
        }
        self.receive_if_wanted(slot);
    }

    /// Receives no more for the time being.
    pub(super) fn cancel_receive(&mut self, slot: u32) {
        if let Some(connection) = self.connections.at(slot)
            && connection.is_receiving
            && !connection.is_cancelling
        {
            connection.is_cancelling = true;
            self.ring.cancel(Purpose::Receive.token(slot));
        }
    }

    /// Copies what was received and may not be read now, behind what waits already.
    pub(super) fn set_received_aside(&mut self, slot: u32) {
        let Some(connection) = self.connections.at(slot) else { return };
        for received in connection.received.drain(..) {
            connection.assembly.put(&received.buffer[received.consumed..], &mut self.assemblies);
            self.ring.recycle(received.buffer);
        }
    }

    /// Receives again where that has ended and nothing speaks against it.
    pub(super) fn receive_if_wanted(&mut self, slot: u32) {
        let is_stopping = self.stopping != Stopping::No;
        let Some(connection) = self.connections.at(slot) else { return };
        let wanted = connection.may_read()
            && !connection.is_receiving
            && !connection.has_ended
            && !is_stopping
            && connection.received.len() < limits::RECEIVED_BUFFERS_MAX;
        if !wanted {
            return;
        }
        let token = Purpose::Receive.token(slot);
        if connection.is_bulky && connection.has_input() {
            // What has come says where the rest of it belongs: it is looked at first.
            return;
        }
        if connection.is_bulky && connection.landing.is_none() {
            connection.landing = land(&mut self.core, connection);
        }
        if let Some(incoming) = &mut connection.landing {
            if !incoming.is_whole() {
                incoming.is_receiving = true;
                connection.is_receiving = true;
                self.ring.receive_slab(token, &connection.socket, incoming.missing, true);
            }
            return;
        }
        let missing = connection.assembly.missing();
        let takes_frame = missing >= BULKY_BYTES_LEAST;
        let takes_front = connection.is_bulky && connection.assembly.is_empty();
        if !takes_frame && !takes_front {
            connection.is_receiving = true;
            self.ring.receive(token, &connection.socket);
        } else if connection.received.is_empty() {
            connection.is_receiving = true;
            let bytes = if takes_frame { missing } else { FRONT_BYTES };
            let (buffer, from, to) = connection.assembly.lend(bytes, &mut self.assemblies);
            self.ring.receive_owned(token, &connection.socket, buffer, from..to, takes_frame);
        }
    }

    /// Receives again for those that found no buffer, now that some have come back.
    pub(super) fn rearm_starved(&mut self) {
        for _ in 0..self.starved.len().min(STARVED_PER_TURN) {
            let Some(slot) = self.starved.pop_front() else { break };
            self.receive_if_wanted(slot);
        }
    }

    /// Hands the turn's share of input to the core and returns how many requests that were.
    pub(super) fn take_input(&mut self) -> u32 {
        if self.stopping != Stopping::No {
            return 0;
        }
        self.let_go();
        let mut budget = Budget { inputs: limits::TURN_INPUTS_MAX, bytes: limits::TURN_BYTES_MAX as usize };
        if self.ports.is_congested() {
            self.take_input_beside_congestion(&mut budget);
            return limits::TURN_INPUTS_MAX - budget.inputs;
        }
        while budget.inputs > 0 && budget.bytes > 0 {
            let Some(slot) = self.ready.pop_front() else { break };
            self.visit(slot, &mut budget);
        }
        limits::TURN_INPUTS_MAX - budget.inputs
    }

    /// Hands in a batch that was received into the core's memory.
    fn hand_in_landed(&mut self, slot: u32, budget: &mut Budget) {
        let Some(connection) = self.connections.at(slot) else { return };
        let Some(incoming) = connection.landing.take() else { return };
        let ticket = Ticket { connection: connection.id, correlation: incoming.correlation };
        let (begun, all) = (connection.assembly.bytes().len(), connection.assembly.needed());
        connection.assembly.consume(begun, &mut self.assemblies);
        connection.begun_us = None;
        budget.inputs -= 1;
        budget.bytes = budget.bytes.saturating_sub(all);
        self.meters.add_requests(1, 0);
        let input = Input::Landed { ticket, landing: incoming.id };
        self.core.handle(input, self.now, &mut self.effects);
        self.read_on(slot);
    }

    /// Reads frames from one connection: alone, as many as the turn allows; among others, a few.
    pub(super) fn visit(&mut self, slot: u32, budget: &mut Budget) {
        let others_wait = !self.ready.is_empty();
        let Some(connection) = self.connections.at(slot) else { return };
        connection.is_ready = false;
        if !connection.may_read() {
            return;
        }
        if connection.has_landed() {
            return self.hand_in_landed(slot, budget);
        }
        let share = if others_wait { limits::VISIT_INPUTS_MAX.min(budget.inputs) } else { budget.inputs };
        let mut left = share;
        let mut outcome = Outcome::Drained;
        if connection.received.is_empty() {
            // What another shard had received already.
            let mut reader = reader!(self, left);
            (_, outcome) = reader.read(connection, &[]);
            left = reader.inputs_left;
        }
        while let Some(received) = connection.received.pop_front() {
            let mut reader = reader!(self, left);
            let at = received.consumed;
            let (consumed, seen) = reader.read(connection, &received.buffer[at..]);
            let inputs = left - reader.inputs_left;
            left = reader.inputs_left;
            budget.bytes = budget.bytes.saturating_sub(consumed);
            self.meters.add_requests(inputs, self.now.mono_us.saturating_sub(received.at_us));
            outcome = seen;
            let keeps_rest = matches!(outcome, Outcome::Spent | Outcome::Move(_));
            if keeps_rest && (at + consumed < received.buffer.len() || connection.assembly.is_whole()) {
                connection.received.push_front(Received { consumed: at + consumed, ..received });
            } else {
                self.ring.recycle(received.buffer);
            }
            if outcome != Outcome::Drained || budget.bytes == 0 {
                break;
            }
        }
        budget.inputs -= share - left;
        if !connection.output.is_empty() && !connection.is_dirty {
            connection.is_dirty = true;
            self.dirty.push(slot);
        }
        let is_over = self.assemblies.held() > self.assembly_bytes_max;
        let is_blocked = connection.sending.is_in_flight
            && connection.output.len() > limits::SEND_BYTES_PINNED_MAX as usize;
        connection.is_blocked |= is_blocked;
        let may_go_on = connection.has_input();
        let has_ended = connection.has_ended;
        let is_bulky = connection.is_receiving && connection.assembly.missing() >= BULKY_BYTES_LEAST;
        match outcome {
            Outcome::Drained if is_over && !connection.assembly.is_empty() => {
                self.close(slot, CloseReason::Crowded);
            }
            // What waits is taken up again when its answers have left.
            Outcome::Drained | Outcome::Spent if is_blocked => self.set_received_aside(slot),
            Outcome::Drained | Outcome::Spent if may_go_on => {
                connection.is_ready = true;
                self.ready.push_back(slot);
            }
            Outcome::Drained | Outcome::Spent if has_ended => self.finish(slot),
            // The rest of a large frame needs no copy out of the ring's buffers.
            Outcome::Drained | Outcome::Spent if is_bulky => self.cancel_receive(slot),
            Outcome::Drained | Outcome::Spent => self.receive_if_wanted(slot),
            Outcome::Move(shard) => self.hand_over(slot, shard),
            Outcome::Close(reason) => self.close_after_output(slot, reason),
        }
    }
}

/// Has the core make room for the batch that the assembled beginning of a frame announces.
fn land<C: Core, S: Session>(core: &mut C, connection: &Connection<S>) -> Option<Incoming> {
    if connection.assembly.missing() < BULKY_BYTES_LEAST {
        return None;
    }
    let begun = connection.assembly.bytes();
    let announced = connection.session.announced(begun)?;
    let Landing { id, missing } = core.land(&announced, begun.get(announced.batch_at..)?)?;
    let is_receiving = false;
    Some(Incoming { id, correlation: announced.correlation, missing, is_receiving })
}

/// What reading frames needs besides the connection.
struct Reader<'p, C> {
    core: &'p mut C,
    effects: &'p mut Effects,
    assemblies: &'p mut AssemblyPool,
    now: Now,
    inputs_left: u32,
}

impl<C: Core> Reader<'_, C> {
    /// Reads whole frames from `bytes`, which follow what is assembled; a rest goes to the assembly.
    fn read<S: Session>(&mut self, connection: &mut Connection<S>, bytes: &[u8]) -> (usize, Outcome) {
        let mut at = 0;
        let mut told = 0;
        while at < bytes.len() || connection.assembly.is_whole() {
            if self.inputs_left == 0 {
                return (at, Outcome::Spent);
            }
            let look = if connection.assembly.is_empty() {
                if told == 0 {
                    told = self.look_ahead(connection, &bytes[at..]);
                }
                told -= 1;
                let look = self.look_at(connection, &bytes[at..]);
                if let Look::Next(consumed) = look {
                    at += consumed;
                }
                look
            } else {
                at += connection.assembly.take(&bytes[at..], self.assemblies);
                if !connection.assembly.is_whole() {
                    break;
                }
                self.look_at_assembly(connection)
            };
            match look {
                Look::Next(consumed) => {
                    self.inputs_left -= 1;
                    connection.is_bulky = consumed >= BULKY_BYTES_LEAST;
                    connection.begun_us = None;
                }
                Look::Incomplete(needed) => {
                    connection.begun_us.get_or_insert(self.now.mono_us);
                    let rest = &bytes[at..];
                    let is_first = connection.assembly.is_empty();
                    connection.assembly.need(if is_first { needed.max(rest.len() + 1) } else { needed });
                    at += connection.assembly.take(rest, self.assemblies);
                }
                Look::Move(consumed, shard) => return (at + consumed, Outcome::Move(shard)),
                Look::Close(reason) => return (bytes.len(), Outcome::Close(reason)),
            }
        }
        (at, Outcome::Drained)
    }

    /// Tells the core which batches come next, and returns how many frames to take until it is told again.
    #[inline]
    fn look_ahead<S: Session>(&self, connection: &Connection<S>, bytes: &[u8]) -> usize {
        if !self.core.looks_ahead() {
            return usize::MAX;
        }
        let mut upcoming = [Upcoming::default(); limits::AHEAD_BATCHES_MAX];
        let most = limits::AHEAD_BATCHES_MAX.min(self.inputs_left as usize);
        let told = connection.session.upcoming(bytes, &mut upcoming[..most]);
        if told > 1 {
            self.core.look_ahead(&upcoming[..told]);
        }
        told.max(1)
    }

    #[inline]
    fn look_at<S: Session>(&mut self, connection: &mut Connection<S>, bytes: &[u8]) -> Look {
        let id = connection.id;
        match connection.session.on_bytes(bytes, &mut connection.output) {
            // Where it lies: to move it, the processor would wait for its parts to be written, behind all that misses its
            // caches.
            Step::Request { consumed, correlation, request: Request::Produce(ref produce) } => {
                let ticket = Ticket { connection: id, correlation };
                self.core.produce(ticket, produce, self.now, self.effects);
                Look::Next(consumed)
            }
            Step::Request { consumed, correlation, request } => {
                let ticket = Ticket { connection: id, correlation };
                self.core.handle(Input::Request { ticket, request }, self.now, self.effects);
                Look::Next(consumed)
            }
            Step::Done { consumed: 0 } => Look::Close(CloseReason::Malformed),
            Step::Done { consumed } => Look::Next(consumed),
            Step::Incomplete { bytes_needed } => Look::Incomplete(bytes_needed),
            Step::Move { consumed, shard } => Look::Move(consumed, shard),
            Step::Close(reason) => Look::Close(reason),
        }
    }

    /// The same for what is assembled, which is consumed here. A move leaves its rest there.
    fn look_at_assembly<S: Session>(&mut self, connection: &mut Connection<S>) -> Look {
        let mut assembly = core::mem::take(&mut connection.assembly);
        let look = self.look_at(connection, assembly.bytes());
        match look {
            Look::Next(consumed) => assembly.consume(consumed, self.assemblies),
            Look::Move(consumed, _) if consumed > 0 => assembly.consume(consumed, self.assemblies),
            Look::Incomplete(_) | Look::Move(..) | Look::Close(_) => {}
        }
        connection.assembly = assembly;
        match look {
            Look::Move(_, shard) => Look::Move(0, shard),
            look => look,
        }
    }
}

#[cfg(test)]
mod tests;
