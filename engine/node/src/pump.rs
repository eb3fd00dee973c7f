//! The loop of one core: reap, hand on what is done, take bounded input, carry out effects, enter the ring once.
//!
//! The pump owns the core (a broker's shard) by value, the ring, the sockets and the sessions. Everything it waits
//! for comes through the ring, so it sleeps in one place and nobody else touches its state.

mod accept;
mod close;
mod congestion;
mod effects;
mod idle;
mod input;
mod messages;
mod output;

use core::time::Duration;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use cutwater_api::{Announced, CloseReason, ConnectionId, NodeFacts, Produce, Session, Ticket, Upcoming};
use cutwater_broker::{Effect, Effects, Input, Landing};
use cutwater_model::{Now, Slab, limits};
use cutwater_ring::{Attachment, Clock, Completion, Ring, RingError, Token, Wait};

use crate::assembly::AssemblyPool;
use crate::connection::Connections;
use crate::disk::Disk;
use crate::meters::ShardMeters;
use crate::ports::ShardPorts;

use idle::Idle;
pub use idle::IdlePolicy;

/// What the pump drives: a pure machine that takes inputs and asks for effects.
pub trait Core {
    /// Takes one input and appends what is to be done.
    fn handle(&mut self, input: Input<'_>, now: Now, effects: &mut Effects);

    /// Takes a produce request, as [`Core::handle`] would.
    #[inline]
    fn produce(&mut self, ticket: Ticket, produce: &Produce<'_>, now: Now, effects: &mut Effects) {
        self.handle(Input::Produce { ticket, produce }, now, effects);
    }

    /// Makes room for the rest of a large batch of which `first` has come, where it will stay. `None`: it is to be handed
    /// in as a whole.
    fn land(&mut self, announced: &Announced, first: &[u8]) -> Option<Landing>;

    /// Whether it gains from being told what is about to be handed in.
    #[inline]
    fn looks_ahead(&self) -> bool {
        false
    }

    /// These batches are about to be handed in. It changes nothing.
    fn look_ahead(&self, _upcoming: &[Upcoming]) {}

    /// The payload memory that effects and answers name.
    fn slab(&mut self) -> &mut Slab;

    /// Copies what it has counted to where the control thread reads it; with `all`, histograms too.
    fn publish(&mut self, meters: &ShardMeters, all: bool);
}

/// What a pump is made of.
pub struct PumpParts<C, S> {
    /// The machine.
    pub core: C,
    /// The ring of this thread.
    pub ring: Ring,
    /// What sessions are told.
    pub facts: NodeFacts,
    /// Where connections are accepted, shared with the other pumps.
    pub listener: OwnedFd,
    /// The data folder's files.
    pub disk: Disk,
    /// The ways to the control thread and to the other pumps.
    pub ports: ShardPorts<S>,
    /// Where counts go.
    pub meters: Arc<ShardMeters>,
    /// What to do when there is nothing to do.
    pub idle: IdlePolicy,
    /// Bytes that frames which are not whole may take together.
    pub assembly_bytes_max: usize,
}

/// The loop of one core.
pub struct Pump<C, S> {
    core: C,
    ring: Ring,
    facts: NodeFacts,
    listener: OwnedFd,
    disk: Disk,
    ports: ShardPorts<S>,
    meters: Arc<ShardMeters>,
    idle: Idle,
    connections: Connections<S>,
    effects: Effects,
    /// The list of effects that is being carried out; kept for its room.
    executing: Vec<Effect>,
    completions: Vec<Completion>,
    /// Connections with input, in rotation.
    ready: VecDeque<u32>,
    /// Connections with output that no operation sends yet.
    dirty: Vec<u32>,
    /// Connections that the core has done with, to close when the turn's answers are in their output.
    done: Vec<(ConnectionId, CloseReason)>,
    /// Connections that found no receive buffer.
    starved: VecDeque<u32>,
    /// Connections whose last request needs a shard that takes nothing at present, and which.
    held: Vec<(u32, usize)>,
    /// Disk operations that ended on the file thread; kept for its room.
    ended: Vec<crate::disk::DiskResult>,
    /// The pieces of the send that is being put together; kept for its room.
    pieces: Vec<cutwater_ring::Piece>,
    assemblies: AssemblyPool,
    assembly_bytes_max: usize,
    now: Now,
    /// When the core is to be told the time.
    tick_us: u64,
    /// When connections are looked at for deadlines.
    sweep_us: u64,
    accepting: accept::Accepting,
    stopping: Stopping,
}

/// How far a stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopping {
    /// Not asked for.
    No,
    /// The core was told; it checkpoints.
    Draining,
    /// The core is done; the last answers leave until this moment.
    Flushing {
        /// Microseconds of the monotonic clock.
        until_us: u64,
    },
}

/// What an operation of the ring was for, packed into its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Purpose {
    Accept = 1,
    Receive = 2,
    Send = 3,
    Disk = 4,
    Doorbell = 5,
}

impl Purpose {
    /// The token of the operation with that number.
    pub(crate) const fn token(self, number: u32) -> Token {
        Token((self as u64) << 32 | number as u64)
    }

    fn of(token: Token) -> Option<Self> {
        [Self::Accept, Self::Receive, Self::Send, Self::Disk, Self::Doorbell]
            .into_iter()
            .find(|purpose| *purpose as u64 == token.0 >> 32)
    }
}

/// How often, at least, the core is told the time.
const TICK_US: u64 = 100_000;
/// How often connections are looked at for deadlines.
const SWEEP_US: u64 = 500_000;
/// How long the last answers may take to leave at a stop.
const FLUSH_US_MAX: u64 = 2_000_000;

impl<C: Core, S: Session> Pump<C, S> {
    /// A pump that has not begun.
    #[must_use]
    pub fn new(mut parts: PumpParts<C, S>) -> Self {
        parts.ring.attach(parts.core.slab());
        let now = Clock.now();
        Self {
            core: parts.core,
            ring: parts.ring,
            facts: parts.facts,
            listener: parts.listener,
            disk: parts.disk,
            ports: parts.ports,
            meters: parts.meters,
            idle: Idle::new(parts.idle),
            connections: Connections::new(limits::CONNECTIONS_PER_SHARD_MAX),
            effects: Effects::new(parts.facts.shards),
            executing: Vec::new(),
            completions: Vec::new(),
            ready: VecDeque::new(),
            dirty: Vec::new(),
            done: Vec::new(),
            starved: VecDeque::new(),
            held: Vec::new(),
            ended: Vec::new(),
            pieces: Vec::new(),
            assemblies: AssemblyPool::new(parts.assembly_bytes_max / 4),
            assembly_bytes_max: parts.assembly_bytes_max,
            now,
            tick_us: now.mono_us,
            sweep_us: now.mono_us + SWEEP_US,
            accepting: accept::Accepting::default(),
            stopping: Stopping::No,
        }
    }

    /// Runs until the core has stopped and the last answers have left.
    ///
    /// # Errors
    /// When the ring fails for good: then nothing can be submitted or reaped any more.
    pub fn run(mut self) -> Result<(), RingError> {
        self.arm_doorbell();
        self.accept_more();
        while !self.is_finished() {
            self.turn()?;
        }
        self.close_all();
        Ok(())
    }

    fn turn(&mut self) -> Result<(), RingError> {
        self.wait_for_work()?;
        self.now = Clock.now();
        let had_completions = self.reap();
        let had_messages = self.take_messages();
        let inputs = self.take_input();
        let is_due = self.now.mono_us >= self.tick_us;
        if is_due {
            self.tick();
        }
        let has_news = had_completions || had_messages || inputs > 0;
        if core::mem::take(&mut self.effects.more) || has_news || is_due {
            self.core.handle(Input::Continue, self.now, &mut self.effects);
        }
        self.carry_out_effects();
        self.send_acks();
        self.close_done();
        self.send_dirty();
        self.ports.push_messages(&mut self.effects.to_shards);
        self.rearm_starved();
        if has_news {
            self.idle.worked(self.now.mono_us);
        }
        self.publish();
        Ok(())
    }

    /// Hands on what the kernel has done: to the disk's waiters, to the senders, to the input queue.
    fn reap(&mut self) -> bool {
        let mut completions = core::mem::take(&mut self.completions);
        let any = !completions.is_empty();
        for completion in completions.drain(..) {
            let slot = completion.token.0 as u32;
            match Purpose::of(completion.token) {
                Some(Purpose::Disk) => self.on_disk(completion),
                Some(Purpose::Receive) => self.on_received(slot, completion),
                Some(Purpose::Send) => self.on_sent(slot, completion),
                Some(Purpose::Accept) => self.on_accepted(completion),
                Some(Purpose::Doorbell) => self.on_doorbell(),
                None => debug_assert!(false, "a completion of nothing: {completion:?}"),
            }
        }
        self.completions = completions;
        any
    }

    fn on_disk(&mut self, completion: Completion) {
        if let Some((op, result)) = self.disk.complete(completion, self.now.mono_us, &mut self.ring) {
            self.core.handle(Input::DiskDone { op, result }, self.now, &mut self.effects);
        }
    }

    /// Tells the core the time, and ends what took too long.
    #[cold]
    fn tick(&mut self) {
        self.tick_us = self.now.mono_us + TICK_US;
        self.effects.wake_us = None;
        self.core.handle(Input::Tick, self.now, &mut self.effects);
        self.disk.retry_due(self.now.mono_us, &mut self.ring);
        if self.now.mono_us >= self.sweep_us {
            self.sweep_us = self.now.mono_us + SWEEP_US;
            self.sweep();
            self.accept_more();
        }
        self.core.publish(&self.meters, true);
    }

    /// Enters the ring: at once while there is work, else as the idle policy says.
    fn wait_for_work(&mut self) -> Result<(), RingError> {
        if let Some(wake_us) = self.effects.wake_us.take() {
            self.tick_us = self.tick_us.min(wake_us);
        }
        if let Some(retry_us) = self.disk.next_retry_us() {
            self.tick_us = self.tick_us.min(retry_us);
        }
        let has_work = self.effects.more
            || !self.effects.list.is_empty()
            || !self.ready.is_empty()
            || !self.dirty.is_empty()
            || self.ports.has_messages()
            || self.disk.has_finished()
            || self.now.mono_us >= self.tick_us;
        if has_work {
            self.ring.enter(Wait::Never, &mut self.completions)?;
            self.idle.share(self.now.mono_us, self.disk.is_busy());
            return Ok(());
        }
        if self.spin()? || !self.idle.may_sleep() {
            return Ok(());
        }
        // A peer that puts a message in after this rings the bell; one that came before is seen here.
        self.ports.park();
        let has_news = self.ports.has_messages() || self.disk.has_finished();
        let sleep_us = self.tick_us.saturating_sub(Clock.mono_us());
        let wait = if has_news { Wait::Never } else { Wait::AtMost(Duration::from_micros(sleep_us)) };
        self.meters.add_park();
        let entered = self.ring.enter(wait, &mut self.completions);
        self.ports.unpark();
        self.idle.woke(Clock.mono_us());
        entered
    }

    /// Looks again and again for a while, as the idle policy says; returns whether something came.
    fn spin(&mut self) -> Result<bool, RingError> {
        let until_us = self.idle.spin_until_us(self.now.mono_us, self.tick_us, self.disk.is_busy());
        let mut now_us = self.now.mono_us;
        while now_us < until_us {
            self.ring.enter(Wait::Never, &mut self.completions)?;
            if !self.completions.is_empty() || self.ports.has_messages() {
                return Ok(true);
            }
            if let Some(time_us) = self.idle.round() {
                now_us = time_us;
                if self.disk.has_finished() {
                    return Ok(true);
                }
            }
        }
        self.idle.gave_up(now_us);
        Ok(false)
    }

    fn publish(&mut self) {
        self.meters.turn();
        if self.idle.should_publish(self.now.mono_us) {
            self.core.publish(&self.meters, false);
            self.meters.set_ring(&self.ring.stats());
            self.meters.set_connections(self.connections.len() as u64);
            self.meters.set_assembly_bytes(self.assemblies.held() as u64);
            self.meters.set_descriptors(self.disk.descriptors() as u64);
        }
    }

    fn is_finished(&self) -> bool {
        match self.stopping {
            Stopping::No | Stopping::Draining => false,
            Stopping::Flushing { until_us } => {
                self.now.mono_us >= until_us
                    || self
                        .connections
                        .iter()
                        .all(|connection| connection.is_closed || connection.has_sent_all())
            }
        }
    }
}

/// The descriptor that a completion carries.
fn descriptor_of(attachment: Attachment) -> Option<OwnedFd> {
    match attachment {
        Attachment::Descriptor(descriptor) => Some(descriptor),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
