//! The shell around the shards: it lets disk operations happen, passes time, ends turns and carries messages.

use alloc::boxed::Box;
use alloc::vec::Vec;

use cutwater_api::{CloseReason, Response, Ticket};
use cutwater_model::storage::StorageErrorKind;
use cutwater_model::{MemoryRange, ShardId};

use super::{Answer, Held, Rig};
use crate::{Effect, Input, Pin};

/// More turns in a row than any work needs: a shard that asks for another one for ever is at fault.
const TURNS_MAX: u32 = 1000;
/// So many turns in which nothing happens make sure that nothing more will.
const IDLE_TURNS: u32 = 3;
/// What was refused is tried again after so long at the latest, but for space.
const IDLE_TURN_US: u64 = 1000;
/// More operations than any test causes.
const OPERATIONS_MAX: u32 = 100_000;

impl Rig {
    /// Bytes on their way between shards.
    pub(crate) fn message_bytes(&self) -> usize {
        self.seats.iter().flat_map(|seat| seat.outbox.iter().flatten()).map(Vec::len).sum()
    }

    /// How many operations of a kind are under way.
    pub(crate) fn count(&self, is_meant: impl Fn(&Held) -> bool) -> usize {
        self.held.iter().filter(|held| is_meant(held)).count()
    }

    /// The oldest operation of a kind is done.
    pub(crate) fn complete(&mut self, is_meant: impl Fn(&Held) -> bool) {
        let index = self.held.iter().position(is_meant).expect("such an operation is under way");
        self.complete_at(index);
    }

    /// The newest operation of a kind is done.
    pub(crate) fn complete_newest(&mut self, is_meant: impl Fn(&Held) -> bool) {
        let index = self.held.iter().rposition(is_meant).expect("such an operation is under way");
        self.complete_at(index);
    }

    fn complete_at(&mut self, index: usize) {
        let mut held = self.held.remove(index);
        let slab = self.seats[held.shard].shard.slab();
        if let (Some(memory), Effect::Write { .. }) = (held.memory(), &held.effect) {
            assert_eq!(slab.get(memory), held.bytes, "memory stays as it is until it is written");
        }
        let bytes = match (&held.effect, held.memory()) {
            (Effect::Read { .. }, Some(memory)) => slab.get_mut(memory),
            _ => &mut held.bytes[..],
        };
        let result = self.disk.carry_out(&held.effect, bytes, held.asked_at);
        self.disk_done(&held, result);
    }

    /// The oldest operation of a kind fails and leaves nothing behind.
    pub(crate) fn fail(&mut self, is_meant: impl Fn(&Held) -> bool, kind: StorageErrorKind) {
        let index = self.held.iter().position(is_meant).expect("such an operation is under way");
        let held = self.held.remove(index);
        self.disk_done(&held, Err(kind));
    }

    fn disk_done(&mut self, held: &Held, result: Result<u32, StorageErrorKind>) {
        self.now.mono_us += 1;
        self.hand(held.shard, Input::DiskDone { op: held.op(), result });
        self.turn();
    }

    /// Everything under way is done, and what follows from it, messages between shards included.
    pub(crate) fn complete_all(&mut self) {
        self.complete_all_but(|_| false);
    }

    /// The same, but for operations of a kind.
    pub(crate) fn complete_all_but(&mut self, is_kept: impl Fn(&Held) -> bool) {
        let mut idle_turns = 0;
        for _ in 0..OPERATIONS_MAX {
            if self.deliver() {
                idle_turns = 0;
            } else if let Some(index) = self.held.iter().position(|held| !is_kept(held)) {
                self.complete_at(index);
                idle_turns = 0;
            } else if idle_turns < IDLE_TURNS {
                self.wait_us(IDLE_TURN_US);
                idle_turns += 1;
            } else {
                return;
            }
        }
        panic!("the work has no end");
    }

    /// The messages on their way arrive, then the operations that are under way are done; what follows from that is not.
    pub(crate) fn step(&mut self) {
        self.deliver();
        for _ in 0..self.held.len() {
            self.complete(Held::anything);
        }
    }

    /// Time passes; the shards are told at its end.
    pub(crate) fn wait_us(&mut self, us: u64) {
        self.now.mono_us += us;
        self.now.wall.0 += (us / 1000) as i64;
        for shard in 0..self.seats.len() {
            self.hand(shard, Input::Tick);
        }
        self.turn();
    }

    /// A checkpoint is asked for now.
    pub(crate) fn want_checkpoint(&mut self, shard: usize) {
        self.seats[shard].shard.checkpoints.wanted = 1;
        self.turn();
    }

    pub(crate) fn stop(&mut self) {
        for shard in 0..self.seats.len() {
            self.hand(shard, Input::Stop);
        }
        self.turn();
    }

    /// The inputs of a turn are in, for every shard.
    pub(crate) fn turn(&mut self) {
        for shard in 0..self.seats.len() {
            let mut turns = 0;
            loop {
                self.hand(shard, Input::Continue);
                if !core::mem::take(&mut self.seats[shard].effects.more) {
                    break;
                }
                turns += 1;
                assert!(turns < TURNS_MAX, "shard {shard} asks for another turn for ever");
            }
        }
    }

    /// Messages on their way from one shard to another.
    pub(crate) fn messages(&self, from: usize, to: usize) -> usize {
        self.seats[from].outbox[to].len()
    }

    /// All messages on their way arrive; says whether there were any.
    pub(crate) fn deliver(&mut self) -> bool {
        let mut has_any = false;
        for from in 0..self.seats.len() {
            for to in 0..self.seats.len() {
                if self.seats[to].is_deaf {
                    continue;
                }
                for message in core::mem::take(&mut self.seats[from].outbox[to]) {
                    has_any = true;
                    self.hand(to, Input::ShardMessages { from: ShardId(from as u16), message: &message });
                }
            }
        }
        if has_any {
            self.turn();
        }
        has_any
    }

    /// Hands a shard an input and takes note of what it says.
    pub(crate) fn hand(&mut self, shard: usize, input: Input<'_>) {
        let seat = &mut self.seats[shard];
        seat.shard.handle(input, self.now, &mut seat.effects);
        for effect in core::mem::take(&mut seat.effects.list) {
            self.take_effect(shard, effect);
        }
        let seat = &mut self.seats[shard];
        let acks = core::mem::take(&mut seat.effects.acks);
        for to in 0..seat.outbox.len() {
            let bytes = core::mem::take(&mut seat.effects.to_shards[to]);
            let mut rest = &bytes[..];
            while let Some((len, after)) = rest.split_first_chunk() {
                let (message, after) = after.split_at(u32::from_le_bytes(*len) as usize);
                seat.outbox[to].push(message.to_vec());
                rest = after;
            }
        }
        for ack in acks {
            self.take_answer(Answer {
                shard,
                ticket: ack.ticket,
                response: Response::Produced(ack.produced),
                pin: None,
            });
        }
    }

    fn take_effect(&mut self, shard: usize, effect: Effect) {
        let seat = &mut self.seats[shard];
        match effect {
            Effect::Reply { ticket, response, pin } => self.take_reply(shard, ticket, response, pin),
            Effect::Pause(connection) => seat.pauses.push((connection, true)),
            Effect::Resume(connection) => seat.pauses.push((connection, false)),
            Effect::Close(connection, CloseReason::Peer) => seat.closed.push(connection),
            Effect::Close(connection, reason) => panic!("{connection:?} is closed: {reason:?}"),
            Effect::Control { command, .. } => seat.commands.push(*command),
            Effect::Fence(why) => seat.fences.push(why),
            Effect::Damage(what) => seat.damages.push(what),
            Effect::Stopped => seat.has_stopped = true,
            effect => {
                let bytes = match effect {
                    Effect::Write { memory, .. } => seat.shard.slab().get(memory).to_vec(),
                    _ => Vec::new(),
                };
                self.held.push(Held { shard, effect, bytes, asked_at: self.disk.moment() });
            }
        }
    }

    fn take_reply(&mut self, shard: usize, ticket: Ticket, response: Box<Response>, pin: Option<Pin>) {
        let ranges = memory_of(&response);
        assert!(pin.is_some() || ranges.is_empty(), "memory of an answer is held");
        let bytes = self.bytes_of(shard, &ranges);
        let pin = pin.map(|pin| (pin, bytes));
        self.take_answer(Answer { shard, ticket, response: *response, pin });
    }

    fn take_answer(&mut self, answer: Answer) {
        let is_push = matches!(answer.response, Response::Pushed { .. });
        let is_first = self.answer(answer.ticket).is_none() && !self.taken.contains(&answer.ticket);
        assert!(is_push || is_first, "{:?} is answered twice", answer.ticket);
        self.answers.push(answer);
    }

    pub(super) fn bytes_of(&mut self, shard: usize, ranges: &[MemoryRange]) -> Vec<u8> {
        let slab = self.seats[shard].shard.slab();
        ranges.iter().flat_map(|range| slab.get(*range)).copied().collect()
    }
}

/// All memory that an answer names.
pub(super) fn memory_of(response: &Response) -> Vec<MemoryRange> {
    match response {
        Response::Fetched(fetched) | Response::Pushed { fetched, .. } => {
            fetched.parts.iter().flat_map(|part| &part.memory).copied().collect()
        }
        _ => Vec::new(),
    }
}
