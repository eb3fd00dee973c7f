//! What happens when its time has come.

use cutwater_api::{Response, Ticket};
use cutwater_broker::{Input, OpId, Pin};
use cutwater_model::checksum::digest64;
use cutwater_model::{MemoryRange, ShardId};

use super::{Event, World};
use crate::disk::Token;
use crate::finding::{Checked, Finding};
use crate::trace::WORLD;

impl World {
    /// Lets the next thing happen; `false` where there is none.
    pub(super) fn step(&mut self) -> Checked<bool> {
        let Some((at_us, event)) = self.agenda.next() else { return Ok(false) };
        self.now_us = self.now_us.max(at_us);
        self.tally.events += 1;
        self.happen(event)?;
        self.check()?;
        Ok(true)
    }

    fn happen(&mut self, event: Event) -> Checked {
        match event {
            Event::Disk { shard, op, token, memory, written } => {
                self.on_disk(shard, op, token, memory, written)
            }
            Event::Messages { from, to, bytes } => self.on_messages(from, to, &bytes),
            Event::Metadata { shard, image } => {
                self.note(shard.0, "metadata", [image.version(), 0, 0]);
                self.hand(shard, Input::Metadata(image))
            }
            Event::Command { shard, ticket, command } => {
                self.on_command(shard, ticket, &command);
                Ok(())
            }
            Event::ControlDone { shard, ticket, response } => {
                self.hand(shard, Input::ControlDone { ticket, response })
            }
            Event::Continue { shard } => {
                self.seats[usize::from(shard.0)].will_continue = false;
                self.hand(shard, Input::Continue)
            }
            Event::Tick { shard } => {
                let seat = &mut self.seats[usize::from(shard.0)];
                if seat.tick_us.is_some_and(|tick_us| tick_us <= self.now_us) {
                    seat.tick_us = None;
                    // A shell ticks at least every 100 ms, asked or not.
                    seat.effects.wake_at(self.now_us + 100_000);
                    return self.hand(shard, Input::Tick);
                }
                Ok(())
            }
            Event::Answered { shard, ticket, response, pin, memory } => {
                self.on_answered(shard, ticket, *response, pin, memory)
            }
            Event::Arrival { peer, life } => self.on_arrival(peer, life),
            Event::Wake { peer, life } => self.wake(peer, life),
            Event::Connect { peer } => self.connect(peer),
            Event::Clients => {
                for peer in 0..self.peers.len() {
                    let at_us = self.now_us + self.random.below(1_000);
                    self.agenda.plan(at_us, Event::Connect { peer });
                }
                Ok(())
            }
            Event::Space => {
                self.note(WORLD, "space", [0; 3]);
                self.disk.set_capacity(crate::plan::ROOMY_BYTES);
                self.disk.set_faults(crate::disk::Faults { full_one_in: 0, ..*self.disk.faults() });
                Ok(())
            }
        }
    }

    fn on_disk(
        &mut self,
        shard: ShardId,
        op: OpId,
        token: Token,
        memory: Option<MemoryRange>,
        written: Option<u64>,
    ) -> Checked {
        if let (Some(memory), Some(written)) = (memory, written) {
            let now = digest64(0, self.memory(shard, memory)?);
            if now != written {
                let seen = format!("{op:?} {memory:?} changed under a write");
                return Err(Finding::new("memory under an operation is left alone", seen));
            }
        }
        let result = self.disk.finish(token);
        self.note(shard.0, "done", [op.0, token.0, u64::from(result.is_ok())]);
        let result = match result {
            Ok(done) => {
                if let (Some(memory), Some(read)) = (memory, &done.read) {
                    if self.sample.len() < 16_384 || self.random.one_in(8) {
                        self.sample.clone_from(read);
                    }
                    let filled = MemoryRange { len: read.len() as u32, ..memory };
                    self.seats[usize::from(shard.0)].shard.slab().get_mut(filled).copy_from_slice(read);
                }
                Ok(done.bytes)
            }
            Err(kind) => {
                self.say(shard.0, || format!("{op:?} fails: {kind}"));
                Err(kind)
            }
        };
        self.hand(shard, Input::DiskDone { op, result })
    }

    fn on_messages(&mut self, from: ShardId, to: ShardId, mut bytes: &[u8]) -> Checked {
        while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
            let length = u32::from_le_bytes(*length) as usize;
            let Some((message, rest)) = rest.split_at_checked(length) else {
                return Err(Finding::new("messages between shards are whole", format!("{length} bytes")));
            };
            self.hand(to, Input::ShardMessages { from, message })?;
            bytes = rest;
        }
        Ok(())
    }

    fn on_answered(
        &mut self,
        shard: ShardId,
        ticket: Ticket,
        response: Response,
        pin: Option<Pin>,
        memory: u64,
    ) -> Checked {
        if self.digest_of(shard, &response)? != memory {
            let seen = format!("the answer to {ticket:?} changed before it was sent");
            return Err(Finding::new("memory of answers is held", seen));
        }
        let response = self.with_bytes(shard, response)?;
        if let Some(pin) = pin {
            self.note(shard.0, "sent", [u64::from(pin.0), 0, 0]);
            self.hand(shard, Input::SendDone(pin))?;
        }
        self.deliver(shard, ticket, response)
    }
}
