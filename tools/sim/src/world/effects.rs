//! The shell: carries out what a shard asks for, each thing in its own time.

use cutwater_api::{ConnectionId, Response, Ticket};
use cutwater_broker::{Ack, Effect, Effects, Input, OpId};
use cutwater_model::checksum::digest64;
use cutwater_model::{MemoryRange, ShardId};

use super::{Event, World};
use crate::disk::Op;
use crate::finding::{Checked, Finding};

impl World {
    /// Hands a shard an input and carries out what comes of it.
    pub(super) fn hand(&mut self, shard: ShardId, input: Input<'_>) -> Checked {
        let now = self.now();
        let Some(seat) = self.seats.get_mut(usize::from(shard.0)) else { return Ok(()) };
        let is_continue = matches!(input, Input::Continue | Input::Tick);
        seat.shard.handle(input, now, &mut seat.effects);
        if !is_continue && !seat.will_continue {
            seat.will_continue = true;
            let at_us = self.now_us + self.random.below(40);
            self.agenda.plan(at_us, Event::Continue { shard });
        }
        self.carry_out(shard)
    }

    fn carry_out(&mut self, shard: ShardId) -> Checked {
        let index = usize::from(shard.0);
        let mut effects = core::mem::replace(&mut self.seats[index].effects, Effects::new(0));
        for effect in effects.list.drain(..) {
            self.effect(shard, effect)?;
        }
        for ack in effects.acks.drain(..) {
            self.ack(shard, ack);
        }
        for (to, bytes) in effects.to_shards.iter_mut().enumerate() {
            if !bytes.is_empty() {
                let bytes = core::mem::take(bytes);
                self.send_messages(shard, ShardId(to as u16), bytes);
            }
        }
        if core::mem::take(&mut effects.more) && !self.seats[index].will_continue {
            self.seats[index].will_continue = true;
            self.agenda.plan(self.now_us, Event::Continue { shard });
        }
        if let Some(wake_us) = effects.wake_us.take() {
            let wake_us = wake_us.max(self.now_us + 1);
            if self.seats[index].tick_us.is_none_or(|tick_us| wake_us < tick_us) {
                self.seats[index].tick_us = Some(wake_us);
                self.agenda.plan(wake_us, Event::Tick { shard });
            }
        }
        self.seats[index].effects = effects;
        Ok(())
    }

    fn effect(&mut self, shard: ShardId, effect: Effect) -> Checked {
        match effect {
            Effect::Write { op, file, at, memory, durable } => {
                let bytes = self.memory(shard, memory)?.to_vec();
                let written = digest64(0, &bytes);
                self.note(shard.0, "write", [at, u64::from(memory.len), written]);
                self.say(shard.0, || format!("{op:?} write {file} at {at} {memory:?} durable {durable}"));
                self.operate(shard, op, Op::Write { file, at, bytes, durable }, Some(memory), Some(written));
            }
            Effect::Read { op, file, at, memory } => {
                self.note(shard.0, "read", [at, u64::from(memory.len), op.0]);
                self.say(shard.0, || format!("{op:?} read {file} at {at} {memory:?}"));
                let _ = self.memory(shard, memory)?;
                self.operate(shard, op, Op::Read { file, at, len: memory.len }, Some(memory), None);
            }
            Effect::Sync { op, file } => self.name_op(shard, op, Op::Sync { file }),
            Effect::SyncAll { op } => self.name_op(shard, op, Op::SyncAll),
            Effect::Create { op, file, bytes, written, .. } => {
                self.name_op(shard, op, Op::Create { file, bytes, written });
            }
            Effect::Extend { op, file, to, .. } => self.name_op(shard, op, Op::Extend { file, to }),
            Effect::Rename { op, from, to } => self.name_op(shard, op, Op::Rename { from, to }),
            Effect::CreateDir { op, dir } => self.name_op(shard, op, Op::CreateDir { dir }),
            Effect::SyncDir { op, dir } => self.name_op(shard, op, Op::SyncDir { dir }),
            Effect::Remove { op, file } => self.name_op(shard, op, Op::Remove { file }),
            Effect::RemoveDir { op, dir } => self.name_op(shard, op, Op::RemoveDir { dir }),
            Effect::Reply { ticket, response, pin } => return self.reply(shard, ticket, response, pin),
            Effect::Pause(connection) => self.pause(shard, connection, true),
            Effect::Resume(connection) => self.pause(shard, connection, false),
            Effect::Close(connection, reason) => {
                let seen = format!("{connection:?} for {reason:?}");
                self.note(shard.0, "close", [u64::from(connection.slot), 0, 0]);
                return Err(Finding::new("a peer that behaves is not closed", seen));
            }
            Effect::Control { ticket, command } => self.send_command(shard, ticket, command),
            Effect::Fence(why) => {
                self.note(shard.0, "fence", [0; 3]);
                self.say(shard.0, || why.clone());
                let fails = self.plan.habits.disk_fails || self.oracle.rotten;
                if !fails {
                    return Err(Finding::new("a shard is fenced only by its disk", why));
                }
            }
            Effect::Damage(range) => {
                self.note(shard.0, "damage", [0; 3]);
                self.say(shard.0, || range.clone());
            }
            Effect::Stopped => {
                self.note(shard.0, "stopped", [0; 3]);
                self.seats[usize::from(shard.0)].stopped = true;
            }
        }
        Ok(())
    }

    /// The bytes of a shard's memory.
    pub(super) fn memory(&mut self, shard: ShardId, range: MemoryRange) -> Checked<&[u8]> {
        let slab = self.seats[usize::from(shard.0)].shard.slab();
        if range.at as usize + range.len as usize > slab.len() {
            return Err(Finding::new("memory is the slab's", format!("{range:?} of {}", slab.len())));
        }
        Ok(slab.get(range))
    }

    fn name_op(&mut self, shard: ShardId, op: OpId, what: Op) {
        self.say(shard.0, || format!("{op:?} {what:?}"));
        self.operate(shard, op, what, None, None);
    }

    fn operate(
        &mut self,
        shard: ShardId,
        op: OpId,
        what: Op,
        memory: Option<MemoryRange>,
        written: Option<u64>,
    ) {
        let [mostly_us, seldom_us] = self.plan.disk_us;
        let takes_us = if self.random.one_in(40) {
            self.random.between(mostly_us, seldom_us)
        } else {
            self.random.between(10, mostly_us)
        };
        let token = self.disk.submit(what);
        self.tally.operations += 1;
        self.note(shard.0, "submit", [op.0, token.0, takes_us]);
        self.agenda.plan(self.now_us + takes_us, Event::Disk { shard, op, token, memory, written });
    }

    fn send_messages(&mut self, from: ShardId, to: ShardId, bytes: Vec<u8>) {
        let takes_us = if self.random.one_in(20) { self.random.below(3_000) } else { self.random.below(30) };
        let Some(arrives_us) = self.seats[usize::from(from.0)].arrives_us.get_mut(usize::from(to.0)) else {
            return;
        };
        *arrives_us = (*arrives_us).max(self.now_us + takes_us);
        let at_us = *arrives_us;
        self.note(from.0, "messages", [u64::from(to.0), bytes.len() as u64, digest64(0, &bytes)]);
        self.agenda.plan(at_us, Event::Messages { from, to, bytes });
    }

    fn ack(&mut self, shard: ShardId, ack: Ack) {
        let takes_us = self.random.below(200);
        let response = Box::new(Response::Produced(ack.produced));
        self.note(shard.0, "ack", [u64::from(ack.ticket.correlation), ack.produced.base_offset.0 as u64, 0]);
        let answered = Event::Answered { shard, ticket: ack.ticket, response, pin: None, memory: 0 };
        // Acks leave in their own order, one after the other.
        let at_us = self.leaves_us(shard, ack.ticket.connection, self.now_us + takes_us);
        self.agenda.plan(at_us, answered);
    }

    fn reply(
        &mut self,
        shard: ShardId,
        ticket: Ticket,
        response: Box<Response>,
        pin: Option<cutwater_broker::Pin>,
    ) -> Checked {
        let memory = self.digest_of(shard, &response)?;
        if pin.is_none() && memory != 0 {
            let seen = format!("{ticket:?} names memory without a pin");
            return Err(Finding::new("memory of answers is held", seen));
        }
        let takes_us = match self.random.below(30) {
            0 => self.random.below(200_000),
            1..5 => self.random.below(5_000),
            _ => self.random.below(200),
        };
        self.note(shard.0, "reply", [u64::from(ticket.correlation), memory, takes_us]);
        // What is sent to one peer leaves in its order.
        let at_us = self.leaves_us(shard, ticket.connection, self.now_us + takes_us);
        self.agenda.plan(at_us, Event::Answered { shard, ticket, response, pin, memory });
        Ok(())
    }

    /// The digest of all memory that an answer names; 0 where it names none.
    pub(super) fn digest_of(&mut self, shard: ShardId, response: &Response) -> Checked<u64> {
        let (Response::Fetched(fetched) | Response::Pushed { fetched, .. }) = response else { return Ok(0) };
        let mut digest = 0;
        for range in fetched.parts.iter().flat_map(|part| &part.memory) {
            digest = digest64(digest, self.memory(shard, *range)?) | 1;
        }
        Ok(digest)
    }

    /// An answer as its reader gets it: with its bytes.
    pub(super) fn with_bytes(&mut self, shard: ShardId, mut response: Response) -> Checked<Response> {
        if let Response::Fetched(fetched) | Response::Pushed { fetched, .. } = &mut response {
            for part in &mut fetched.parts {
                if !part.memory.is_empty() && !part.bytes.is_empty() {
                    let seen = format!("{}: both", part.partition);
                    return Err(Finding::new("bytes of a part lie in one place", seen));
                }
                for range in core::mem::take(&mut part.memory) {
                    let bytes = self.memory(shard, range)?;
                    part.bytes.extend_from_slice(bytes);
                }
            }
        }
        Ok(response)
    }

    fn pause(&mut self, shard: ShardId, connection: ConnectionId, pauses: bool) {
        self.note(shard.0, "pause", [u64::from(connection.slot), u64::from(pauses), 0]);
        if let Some(peer) = self.peer_of(shard, connection) {
            self.peers[peer].paused = pauses;
            if !pauses {
                self.resume(peer);
            }
        }
    }
}
