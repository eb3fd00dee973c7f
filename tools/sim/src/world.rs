//! One node and its clients in one thread: shards, control thread, disk, connections and clock, all from one seed.
//!
//! A run is a row of lives. In each the node starts from what the disk holds, clients come and work, things go
//! wrong, and it ends: told to stop, killed, or by a power cut. The last life is without faults: everything that
//! was asked is answered, everything that was acknowledged is read, and nothing is left over.

mod clock;
mod control;
mod effects;
mod events;
mod life;
mod peers;
mod slabs;
mod start;

use std::sync::Arc;

use cutwater_api::Ticket;
use cutwater_broker::{ControlCommand, OpId, Pin, Shard};
use cutwater_metadata::Image;
use cutwater_model::{MemoryRange, Now, ShardId, TimestampMs};

use crate::disk::{Disk, Token, Violation};
use crate::finding::{Checked, Finding};
use crate::oracle::Oracle;
use crate::plan::Plan;
use crate::random::Random;
use crate::trace::{Trace, WORLD};
use clock::Agenda;
use control::Control;
use peers::Peer;

/// What is planned to happen.
#[derive(Debug)]
enum Event {
    /// A disk operation ends. What a write was given must still be in its memory then.
    Disk { shard: ShardId, op: OpId, token: Token, memory: Option<MemoryRange>, written: Option<u64> },
    /// Messages of another shard arrive.
    Messages { from: ShardId, to: ShardId, bytes: Vec<u8> },
    /// A shard hears of new metadata.
    Metadata { shard: ShardId, image: Arc<Image> },
    /// The control thread gets to a command.
    Command { shard: ShardId, ticket: Ticket, command: Box<ControlCommand> },
    /// Its answer arrives.
    ControlDone { shard: ShardId, ticket: Ticket, response: cutwater_api::Response },
    /// A shard's turn has all its inputs.
    Continue { shard: ShardId },
    /// A deadline of a shard.
    Tick { shard: ShardId },
    /// An answer is sent: its memory is free, its reader has it.
    Answered {
        shard: ShardId,
        ticket: Ticket,
        response: Box<cutwater_api::Response>,
        pin: Option<Pin>,
        memory: u64,
    },
    /// A request arrives.
    Arrival { peer: usize, life: u32 },
    /// A client wants to do something.
    Wake { peer: usize, life: u32 },
    /// A client connects.
    Connect { peer: usize },
    /// The clients come.
    Clients,
    /// The disk gets all its space.
    Space,
}

/// One shard and what its shell keeps for it.
struct Seat {
    shard: Shard,
    effects: cutwater_broker::Effects,
    will_continue: bool,
    tick_us: Option<u64>,
    stopped: bool,
    /// Connections by slot: the generation, and whose it is.
    connections: Vec<(u32, Option<usize>)>,
    /// When what is on its way to each other shard arrives at the earliest.
    arrives_us: Vec<u64>,
    /// When the last image of the metadata arrives that is on its way to it.
    image_us: u64,
}

/// What a run has seen, for the summary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Lives that ended.
    pub lives: u64,
    /// Events that happened.
    pub events: u64,
    /// Batches acknowledged.
    pub acked: u64,
    /// Disk operations.
    pub operations: u64,
    /// Groups, bulk runs, checkpoints.
    pub groups: u64,
    /// Runs of batches written straight to their segment.
    pub bulk_runs: u64,
    /// Batches received into memory of their shard.
    pub landings: u64,
    /// Checkpoints completed.
    pub checkpoints: u64,
    /// Bytes read from disk for readers.
    pub cold_bytes: u64,
    /// Starts that were refused, as they had to be.
    pub refused_starts: u64,
}

/// Called with the disk, what is known, and the time in microseconds.
pub type Watcher = Box<dyn FnMut(&Disk, &Oracle, u64) -> Checked>;

/// See the module.
pub struct World {
    plan: Plan,
    random: Random,
    now_us: u64,
    life: u32,
    agenda: Agenda<Event>,
    disk: Disk,
    seats: Vec<Seat>,
    control: Option<Control>,
    peers: Vec<Peer>,
    oracle: Oracle,
    trace: Trace,
    winding_down: bool,
    /// The node was told to stop: nobody connects any more.
    is_stopping: bool,
    sample: Vec<u8>,
    /// An operator has said that the next start may go on without what can't be read.
    accepts_loss: bool,
    /// Planted: a deleted topic's id is given to the next one.
    reuses_topic_ids: bool,
    reusable_id: Option<cutwater_model::TopicId>,
    /// What was seen.
    pub tally: Tally,
    /// Called whenever the disk may have changed.
    watcher: Option<Watcher>,
    watched: u64,
}

/// The wall clock when a run begins.
const WALL_BEGIN_MS: i64 = 1_700_000_000_000;

impl World {
    /// A world before its first life.
    #[must_use]
    pub fn new(plan: Plan, trace: Trace) -> Self {
        let mut random = Random::new(plan.seed ^ 0xc0ff_ee00);
        let disk = Disk::new(plan.device, crate::plan::ROOMY_BYTES, random.next());
        Self {
            plan,
            random,
            now_us: 1_000_000,
            life: 0,
            agenda: Agenda::default(),
            disk,
            seats: Vec::new(),
            control: None,
            peers: Vec::new(),
            oracle: Oracle::default(),
            trace,
            winding_down: false,
            is_stopping: false,
            sample: Vec::new(),
            accepts_loss: false,
            reuses_topic_ids: false,
            reusable_id: None,
            tally: Tally::default(),
            watcher: None,
            watched: 0,
        }
    }

    /// A world that goes on from an image of a disk.
    #[must_use]
    pub fn of_image(plan: Plan, disk: Disk, oracle: Oracle, now_us: u64) -> Self {
        Self { disk, oracle, now_us, ..Self::new(plan, Trace::default()) }
    }

    /// The disk, to plant weaknesses in.
    pub fn disk_mut(&mut self) -> &mut Disk {
        &mut self.disk
    }

    /// Gives deleted topics' ids to new ones: a planted bug.
    pub fn reuse_topic_ids(&mut self) {
        self.reuses_topic_ids = true;
    }

    /// Has something called whenever the disk may have changed.
    pub fn watch(&mut self, watcher: Watcher) {
        self.watcher = Some(watcher);
    }

    /// The trace so far.
    #[must_use]
    pub const fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Ends the world and keeps its trace.
    #[must_use]
    pub fn into_trace(mut self) -> Trace {
        self.bury();
        self.trace
    }

    fn now(&self) -> Now {
        Now { mono_us: self.now_us, wall: TimestampMs(WALL_BEGIN_MS + (self.now_us / 1000) as i64) }
    }

    fn note(&mut self, shard: u16, kind: &'static str, numbers: [u64; 3]) {
        self.trace.note(self.now_us, shard, kind, numbers);
        if self.trace.prints() {
            self.trace.say(self.now_us, shard, || format!("{kind} {numbers:?}"));
        }
    }

    fn say(&self, shard: u16, text: impl FnOnce() -> String) {
        self.trace.say(self.now_us, shard, text);
    }

    /// Everything that must hold after every event.
    fn check(&mut self) -> Checked {
        let violations = self.disk.take_violations();
        if let Some(violation) = violations.first() {
            let rule = match violation {
                Violation::OverlappingWrites(..) => "no two writes of one place are under way",
                Violation::NotWholeBlocks(..) => "whole blocks at whole blocks",
                Violation::BeyondSpace(..) => "writes stay in their file's space",
                Violation::DurableIntoReserved(..) => "durable writes go to written space",
            };
            return Err(Finding::new(rule, format!("{violation:?}")));
        }
        if self.watched != self.disk.count()
            && let Some(mut watcher) = self.watcher.take()
        {
            self.watched = self.disk.count();
            let checked = watcher(&self.disk, &self.oracle, self.now_us);
            self.watcher = Some(watcher);
            checked?;
        }
        Ok(())
    }

    /// Ends the process, whatever was under way.
    fn bury(&mut self) {
        for mut seat in self.seats.drain(..) {
            let counters = seat.shard.counters();
            self.tally.groups += counters.groups;
            self.tally.bulk_runs += counters.bulk_runs;
            self.tally.checkpoints += counters.checkpoints;
            self.tally.cold_bytes += counters.bytes_read_cold;
        }
        self.control = None;
        self.agenda.clear();
        for index in 0..self.peers.len() {
            self.lose_connection(index);
        }
        self.note(WORLD, "buried", [u64::from(self.life), 0, 0]);
    }
}
