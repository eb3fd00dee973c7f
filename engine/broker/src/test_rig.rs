//! Shards with a disk in memory around them, for the tests of this crate.
//!
//! What a shard asks of the disk is held until the test lets it happen or fail, one operation after the other and in
//! whatever order; messages between shards are carried when the test says so; and a crash keeps what was flushed. The
//! rig itself watches over two things: bytes that are being written or sent don't change meanwhile, and nobody is
//! answered twice.

mod asking;
mod batches;
mod disk;
mod held;
mod shell;

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use cutwater_api::{ConnectionId, Response, Ticket};
use cutwater_metadata::{Command, Controller, Identity};
use cutwater_model::limits::BLOCK_BYTES;
use cutwater_model::topic::TopicConfig;
use cutwater_model::{
    ErrorKind, Incarnation, Now, PartitionId, PartitionIndex, ShardId, Slab, TimestampMs, TopicId,
};

pub(crate) use batches::{batch, batch_of, numbered, numbered_of, offsets_in};
pub(crate) use held::Held;

use self::disk::Disk;
use crate::{
    Config, ControlCommand, Effects, Input, Pin, Shard, StartError, StartReport, redistribute, start,
};

const KIB: u32 = 1024;
const IDENTITY: Identity = Identity { cluster: 1, node: 1 };

/// What a rig is made of.
pub(crate) struct Plan {
    pub(crate) shards: u16,
    pub(crate) memory_bytes: usize,
    /// How many partitions the first topic has, dealt out to the shards in turn.
    pub(crate) partitions: u32,
    pub(crate) topic: TopicConfig,
    pub(crate) config: Config,
}

impl Plan {
    /// So many shards and partitions, with memory and files for batches of a megabyte.
    pub(crate) fn make_large(&mut self, shards: u16, partitions: u32) {
        (self.shards, self.partitions, self.memory_bytes) = (shards, partitions, 32 << 20);
        self.topic = TopicConfig::default();
        self.config = Config {
            journal_file_bytes: u64::from(1024 * KIB),
            journal_files: 3,
            group_bytes_max: 128 * KIB,
            checkpoint_bytes: u64::from(1024 * KIB),
            pool_files_max: 0,
            ..Config::new(ShardId(0), shards, 0)
        };
    }

    /// One shard, one partition, everything small; checkpoints and write-backs only when they are asked for.
    fn small() -> Self {
        let config = Config {
            journal_file_bytes: u64::from(256 * KIB),
            journal_files: 3,
            group_bytes_max: 64 * KIB,
            group_buffers: 4,
            groups_in_flight_max: 2,
            group_bytes_eager: 8 * KIB,
            bulk_bytes_least: 16 * KIB,
            checkpoint_bytes: u64::MAX,
            checkpoint_us: 3_600_000_000,
            writeback_bytes_least: u32::MAX,
            ..Config::new(ShardId(0), 1, 0)
        };
        let topic = TopicConfig { segment_bytes: 1024 * KIB, ..TopicConfig::default() };
        Self { shards: 1, memory_bytes: 4 << 20, partitions: 1, topic, config }
    }
}

/// One connection of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) shard: usize,
    pub(crate) connection: ConnectionId,
}

/// One answer that left.
#[derive(Debug)]
pub(crate) struct Answer {
    shard: usize,
    pub(crate) ticket: Ticket,
    pub(crate) response: Response,
    /// What holds its memory, until it is sent, and what that memory held when the answer left.
    pin: Option<(Pin, Vec<u8>)>,
}

/// What was read of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) partition: PartitionId,
    pub(crate) error: Option<ErrorKind>,
    pub(crate) high_watermark: i64,
    /// The base offsets of the batches.
    pub(crate) offsets: Vec<i64>,
    pub(crate) bytes: Vec<u8>,
}

/// One shard and what it said to others than the disk.
pub(crate) struct Seat {
    pub(crate) shard: Shard,
    effects: Effects,
    /// Messages on their way, by shard, oldest first.
    outbox: Vec<Vec<Vec<u8>>>,
    /// Every pause and resume, in order; `true` for a pause.
    pub(crate) pauses: Vec<(ConnectionId, bool)>,
    pub(crate) fences: Vec<String>,
    pub(crate) damages: Vec<String>,
    pub(crate) closed: Vec<ConnectionId>,
    /// It takes no messages.
    pub(crate) is_deaf: bool,
    pub(crate) commands: Vec<ControlCommand>,
    pub(crate) has_stopped: bool,
    /// What its start came to.
    pub(crate) report: StartReport,
}

/// Everything.
pub(crate) struct Rig {
    pub(crate) plan: Plan,
    pub(crate) disk: Disk,
    pub(crate) controller: Controller,
    pub(crate) seats: Vec<Seat>,
    pub(crate) held: Vec<Held>,
    pub(crate) answers: Vec<Answer>,
    /// What was answered and taken.
    taken: BTreeSet<Ticket>,
    pub(crate) now: Now,
    /// A connection of the first shard.
    pub(crate) peer: Peer,
    /// The first topic.
    pub(crate) topic: TopicId,
    asked: u32,
    connections: u32,
    topics: u128,
    lives: u128,
}

impl Rig {
    /// One shard with one topic of one partition, nothing under way.
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// The same with another plan.
    pub(crate) fn with(change: impl FnOnce(&mut Plan)) -> Self {
        let mut rig = Self::begin(change);
        rig.complete_all();
        rig
    }

    /// The same at its first turn: whatever it asked of the disk is under way.
    pub(crate) fn begin(change: impl FnOnce(&mut Plan)) -> Self {
        let mut plan = Plan::small();
        change(&mut plan);
        plan.config.shards = plan.shards;
        let mut disk = Disk::default();
        let (controller, _) = Controller::open(&mut disk, None, IDENTITY, plan.shards).unwrap();
        let peer = Peer { shard: 0, connection: ConnectionId::default() };
        let now = Now { mono_us: 1_000_000, wall: TimestampMs(1_700_000_000_000) };
        let mut rig = Self {
            disk,
            controller,
            seats: Vec::new(),
            held: Vec::new(),
            answers: Vec::new(),
            taken: BTreeSet::new(),
            now,
            peer,
            topic: TopicId(0),
            asked: 0,
            connections: 0,
            topics: 0,
            lives: 0,
            plan,
        };
        rig.start().unwrap();
        let (partitions, topic) = (rig.plan.partitions, rig.plan.topic);
        rig.topic = rig.create_topic("first", partitions, topic);
        rig
    }

    fn start(&mut self) -> Result<(), StartError> {
        self.lives += 1;
        self.seats.clear();
        for number in 0..self.plan.shards {
            let slab = self.new_slab();
            let config = Config { shard: ShardId(number), ..self.plan.config };
            let (image, life) = (Arc::clone(self.controller.image()), Incarnation(self.lives));
            let (shard, report) = start(&mut self.disk, config, slab, image, life, self.now)?;
            self.seats.push(Seat {
                shard,
                effects: Effects::new(self.plan.shards),
                outbox: (0..self.plan.shards).map(|_| Vec::new()).collect(),
                pauses: Vec::new(),
                fences: Vec::new(),
                damages: Vec::new(),
                closed: Vec::new(),
                is_deaf: false,
                commands: Vec::new(),
                has_stopped: false,
                report,
            });
        }
        self.tell_image();
        self.peer = self.connect(0);
        Ok(())
    }

    fn new_slab(&self) -> Slab {
        let memory = vec![0_u8; self.plan.memory_bytes + BLOCK_BYTES].leak();
        let skip = memory.as_ptr().align_offset(BLOCK_BYTES);
        Slab::new(&mut memory[skip..skip + self.plan.memory_bytes])
    }

    /// Everything in memory is lost, and of the disk what was not flushed. Then the node starts again.
    pub(crate) fn crash_and_restart(&mut self) {
        self.disk.crash();
        self.restart();
    }

    /// The node starts again from what the disk holds now, as after a kill or a stop.
    pub(crate) fn restart(&mut self) {
        self.try_restart().unwrap();
    }

    /// The same where the start may be refused.
    pub(crate) fn try_restart(&mut self) -> Result<(), StartError> {
        self.held.clear();
        self.answers.clear();
        self.start()?;
        self.complete_all();
        Ok(())
    }

    /// From the next start on there are so many shards.
    pub(crate) fn change_shards(&mut self, shards: u16) {
        self.plan.shards = shards;
        self.plan.config.shards = shards;
        (self.controller, _) = Controller::open(&mut self.disk, None, IDENTITY, shards).unwrap();
    }

    /// The same with another number of shards: first every partition moves to the shard that owns it then.
    pub(crate) fn try_restart_with_shards(&mut self, shards: u16) -> Result<(), StartError> {
        self.change_shards(shards);
        self.lives += 1;
        let (slab, life) = (self.new_slab(), Incarnation(self.lives));
        redistribute(&mut self.disk, &self.plan.config, slab, self.controller.image(), life)?;
        self.try_restart()
    }

    /// Makes a topic; its files are still to be made.
    pub(crate) fn create_topic(&mut self, name: &str, partitions: u32, config: TopicConfig) -> TopicId {
        self.topics += 1;
        let command = Command::CreateTopic { name, partitions, config };
        self.controller.apply(&mut self.disk, &command, TopicId(self.topics)).unwrap();
        self.tell_image();
        TopicId(self.topics)
    }

    pub(crate) fn delete_topic(&mut self, topic: TopicId) {
        self.delete_topic_untold(topic);
        self.tell_image();
    }

    /// The topic is deleted, and the shards don't know yet.
    pub(crate) fn delete_topic_untold(&mut self, topic: TopicId) {
        self.controller.apply(&mut self.disk, &Command::DeleteTopic { topic }, TopicId(0)).unwrap();
    }

    fn tell_image(&mut self) {
        for shard in 0..self.seats.len() {
            let image = Arc::clone(self.controller.image());
            self.hand(shard, Input::Metadata(image));
        }
        self.turn();
    }

    /// A new connection to a shard.
    pub(crate) fn connect(&mut self, shard: usize) -> Peer {
        self.connections += 1;
        let connection = ConnectionId { slot: self.connections, generation: 1 };
        self.hand(shard, Input::Opened(connection));
        Peer { shard, connection }
    }

    /// Closes a connection whose answers were not sent.
    pub(crate) fn close_unsent(&mut self, peer: Peer) {
        self.close(peer);
        let is_its =
            |answer: &Answer| answer.shard == peer.shard && answer.ticket.connection == peer.connection;
        let (its, others) = core::mem::take(&mut self.answers).into_iter().partition(is_its);
        self.answers = others;
        self.release(its);
    }

    pub(crate) fn close(&mut self, peer: Peer) {
        self.hand(peer.shard, Input::Closed(peer.connection));
        self.turn();
    }

    /// The partition of the first topic with that number.
    pub(crate) fn partition(&self, index: u32) -> PartitionId {
        PartitionId { topic: self.topic, index: PartitionIndex(index) }
    }
}
