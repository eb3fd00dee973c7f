//! A node for tests: some shards on one thread, a disk that takes no time, and messages that go when a test says so.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use alloc::{format, vec};

use cutwater_api::{
    ConnectionId, Fetch, FetchPart, Fetched, Produce, Produced, Request, RequiredAcks, Response, Ticket,
};
use cutwater_metadata::{Command, Controller, Identity, Image};
use cutwater_model::builder::{BatchBuilder, Sequence};
use cutwater_model::limits::BLOCK_BYTES;
use cutwater_model::storage::{DirEntry, Storage, StorageError, StorageErrorKind};
use cutwater_model::topic::TopicConfig;
use cutwater_model::{
    DirName, FileName, Incarnation, MemoryRange, Now, Offset, PartitionId, PartitionIndex, ShardId, Slab,
    TimestampMs, TopicId,
};

use crate::effect::{Effect, Effects, OpId, Pin};
use crate::{Config, Input, Shard, start};

const SLAB_BYTES: usize = 32 << 20;
const TURNS_MAX: u32 = 20_000;

/// One shard, and what it asked for.
pub(crate) struct Seat {
    pub(crate) shard: Shard,
    pub(crate) effects: Effects,
    /// Answers not looked at yet.
    pub(crate) replies: VecDeque<(Ticket, Response, Option<Pin>)>,
    pub(crate) acks: Vec<(Ticket, Produced)>,
    pub(crate) paused: Vec<ConnectionId>,
    pub(crate) closed: Vec<ConnectionId>,
    /// Messages to it, by the shard they come from.
    inbox: Vec<VecDeque<Vec<u8>>>,
    /// It takes no messages.
    pub(crate) is_deaf: bool,
    pub(crate) fences: u32,
    pub(crate) has_stopped: bool,
    pub(crate) damages: Vec<String>,
}

/// Some shards with one disk.
pub(crate) struct TestNode {
    pub(crate) seats: Vec<Seat>,
    pub(crate) disk: MemoryDisk,
    pub(crate) now: Now,
    pub(crate) topic: TopicId,
    /// How the next operations of that kind of file end, instead of well.
    pub(crate) fails: Option<fn(&Effect) -> Option<StorageErrorKind>>,
    /// Disk operations that failed so.
    pub(crate) failures: u64,
    /// Folders of partitions that were to be removed and had something in them.
    pub(crate) dirs_not_empty: u32,
    correlation: u32,
}

pub(crate) const CONNECTION: ConnectionId = ConnectionId { slot: 0, generation: 1 };

impl TestNode {
    /// A fresh node with one topic of as many partitions as shards; connection [`CONNECTION`] is open on each shard.
    pub(crate) fn new(shards: u16, config: TopicConfig) -> Self {
        Self::with_partitions(shards, u32::from(shards), config)
    }

    /// The same with so many partitions.
    pub(crate) fn with_partitions(shards: u16, partitions: u32, config: TopicConfig) -> Self {
        let mut node = Self::begin(shards, partitions, config, None);
        node.settle();
        node
    }

    /// The same, at its first turn, with a disk on which some operations fail.
    pub(crate) fn begin(
        shards: u16,
        partitions: u32,
        config: TopicConfig,
        fails: Option<fn(&Effect) -> Option<StorageErrorKind>>,
    ) -> Self {
        let mut disk = MemoryDisk::default();
        let now = Now { mono_us: 1_000_000, wall: TimestampMs(1_700_000_000_000) };
        let (topic, image) = image_of(&mut disk, shards, partitions, config);
        let seats = (0..shards).map(|shard| Seat::start(&mut disk, ShardId(shard), shards, &image, now).0);
        let seats = seats.collect();
        let mut node =
            Self { seats, disk, now, topic, fails, failures: 0, dirs_not_empty: 0, correlation: 0 };
        for seat in 0..usize::from(shards) {
            node.hand(seat, Input::Metadata(Arc::clone(&image)));
            node.open(seat, CONNECTION);
        }
        node
    }

    /// The node is gone as by a kill, and starts again; also what the shards had to tell.
    pub(crate) fn restart(self) -> (Self, Vec<String>) {
        let Self { mut disk, now, topic, .. } = self;
        let shards = self.seats.len() as u16;
        let identity = Identity { cluster: 1, node: 1 };
        let (controller, _) = Controller::open(&mut disk, None, identity, shards).unwrap();
        let image = Arc::clone(controller.image());
        let mut notes = Vec::new();
        let mut seats = Vec::new();
        for shard in 0..shards {
            let (seat, told) = Seat::start(&mut disk, ShardId(shard), shards, &image, now);
            seats.push(seat);
            notes.extend(told);
        }
        let mut node =
            Self { seats, disk, now, topic, fails: None, failures: 0, dirs_not_empty: 0, correlation: 0 };
        for seat in 0..usize::from(shards) {
            node.hand(seat, Input::Metadata(Arc::clone(&image)));
            node.open(seat, CONNECTION);
        }
        node.settle();
        (node, notes)
    }

    pub(crate) fn hand(&mut self, seat: usize, input: Input<'_>) {
        let Seat { shard, effects, .. } = &mut self.seats[seat];
        shard.handle(input, self.now, effects);
    }

    pub(crate) fn open(&mut self, seat: usize, connection: ConnectionId) {
        self.hand(seat, Input::Opened(connection));
    }

    pub(crate) fn partition(&self, index: u32) -> PartitionId {
        PartitionId { topic: self.topic, index: PartitionIndex(index) }
    }

    /// The partition of the topic that a shard owns.
    pub(crate) fn partition_of(&self, seat: usize) -> PartitionId {
        let owned = (0..self.seats.len() as u32).map(|index| self.partition(index));
        let mut owned = owned.filter(|&id| self.seats[seat].shard.partitions.slot_of(id).is_some());
        owned.next().expect("a partition of each shard")
    }

    pub(crate) fn ask(&mut self, seat: usize, connection: ConnectionId, request: Request<'_>) -> Ticket {
        self.correlation += 1;
        let ticket = Ticket { connection, correlation: self.correlation };
        self.hand(seat, Input::Request { ticket, request });
        ticket
    }

    pub(crate) fn produce(
        &mut self,
        seat: usize,
        partition: PartitionId,
        acks: RequiredAcks,
        batch: &[u8],
    ) -> Ticket {
        self.ask(seat, CONNECTION, Request::Produce(Produce { partition, acks, batch }))
    }

    /// Asks for a partition from an offset on, at once.
    pub(crate) fn fetch(
        &mut self,
        seat: usize,
        connection: ConnectionId,
        partitions: &[PartitionId],
        bytes_max: u32,
    ) -> Ticket {
        let part = |&partition| FetchPart { partition, offset: Offset(0), bytes_max };
        let parts = partitions.iter().map(part).collect();
        self.ask(seat, connection, Request::Fetch(Fetch { wait_ms_max: 0, bytes_min: 0, bytes_max, parts }))
    }

    /// One turn of every shard: messages, then what is due, then what it asks for.
    pub(crate) fn turn(&mut self) -> bool {
        self.now.mono_us += 50;
        let mut any = false;
        for seat in 0..self.seats.len() {
            if !self.seats[seat].is_deaf {
                for from in 0..self.seats.len() {
                    let messages = core::mem::take(&mut self.seats[seat].inbox[from]);
                    any |= !messages.is_empty();
                    for message in messages {
                        let from = ShardId(from as u16);
                        self.hand(seat, Input::ShardMessages { from, message: &message });
                    }
                }
            }
            any |= core::mem::take(&mut self.seats[seat].effects.more);
            self.hand(seat, Input::Continue);
            any |= self.carry_out(seat);
        }
        any
    }

    /// Turns until nobody has anything to do. Time goes on to the next tick where somebody waits for one.
    pub(crate) fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            if !self.turn() {
                return;
            }
        }
        panic!("it does not come to rest in {TURNS_MAX} turns");
    }

    /// Time passes.
    pub(crate) fn pass(&mut self, us: u64) {
        self.now.mono_us += us;
        for seat in 0..self.seats.len() {
            self.hand(seat, Input::Tick);
            self.carry_out(seat);
        }
    }

    /// The peers take all their answers.
    pub(crate) fn take_replies(&mut self, seat: usize) -> Vec<(Ticket, Response)> {
        let replies = core::mem::take(&mut self.seats[seat].replies);
        let mut taken = Vec::new();
        for (ticket, response, pin) in replies {
            if let Some(pin) = pin {
                self.hand(seat, Input::SendDone(pin));
            }
            taken.push((ticket, response));
        }
        taken
    }

    /// A connection ends; its answers were not sent.
    pub(crate) fn close(&mut self, seat: usize, connection: ConnectionId) {
        self.hand(seat, Input::Closed(connection));
        let replies = core::mem::take(&mut self.seats[seat].replies);
        for (ticket, response, pin) in replies {
            match pin {
                Some(pin) if ticket.connection == connection => self.hand(seat, Input::SendDone(pin)),
                pin => self.seats[seat].replies.push_back((ticket, response, pin)),
            }
        }
    }

    /// Batch bytes in answers that a shard made and no peer has taken.
    pub(crate) fn unsent_bytes(&self, seat: usize) -> usize {
        let bytes = |response: &Response| match response {
            Response::Fetched(fetched) | Response::Pushed { fetched, .. } => bytes_of(fetched),
            _ => 0,
        };
        self.seats[seat].replies.iter().map(|(_, response, _)| bytes(response)).sum()
    }

    /// Bytes on their way between shards.
    pub(crate) fn message_bytes(&self) -> usize {
        self.seats.iter().flat_map(|seat| seat.inbox.iter().flatten()).map(Vec::len).sum()
    }

    fn carry_out(&mut self, seat: usize) -> bool {
        let mut any = false;
        while !self.seats[seat].effects.list.is_empty() {
            any = true;
            for effect in core::mem::take(&mut self.seats[seat].effects.list) {
                self.carry_out_one(seat, effect);
            }
        }
        let acks = core::mem::take(&mut self.seats[seat].effects.acks);
        self.seats[seat].acks.extend(acks.into_iter().map(|ack| (ack.ticket, ack.produced)));
        for to in 0..self.seats.len() {
            let bytes = core::mem::take(&mut self.seats[seat].effects.to_shards[to]);
            any |= !bytes.is_empty();
            let mut rest = &bytes[..];
            while let Some((len, after)) = rest.split_first_chunk() {
                let (message, after) = after.split_at(u32::from_le_bytes(*len) as usize);
                self.seats[to].inbox[seat].push_back(message.to_vec());
                rest = after;
            }
        }
        any
    }

    fn carry_out_one(&mut self, seat: usize, effect: Effect) {
        let at = &mut self.seats[seat];
        match effect {
            Effect::Reply { ticket, response, pin } => at.replies.push_back((ticket, *response, pin)),
            Effect::Pause(connection) => at.paused.push(connection),
            Effect::Resume(connection) => at.paused.retain(|paused| *paused != connection),
            Effect::Fence(_) => at.fences += 1,
            Effect::Damage(range) => at.damages.push(range),
            Effect::Close(connection, _) => at.closed.push(connection),
            Effect::Stopped => at.has_stopped = true,
            Effect::Control { .. } => {}
            disk => {
                let dir = if let Effect::RemoveDir { dir, .. } = disk { Some(dir) } else { None };
                let failure = self.fails.and_then(|fails| fails(&disk));
                let (op, done) = self.disk.carry_out(disk, self.seats[seat].shard.slab());
                self.failures += u64::from(failure.is_some());
                let result = failure.map_or(done, Err);
                self.dirs_not_empty +=
                    u32::from(result.is_err() && matches!(dir, Some(DirName::Partition(_))));
                self.hand(seat, Input::DiskDone { op, result });
            }
        }
    }
}

impl Seat {
    fn start(
        disk: &mut MemoryDisk,
        shard: ShardId,
        shards: u16,
        image: &Arc<Image>,
        now: Now,
    ) -> (Self, Vec<String>) {
        let memory = vec![0_u8; SLAB_BYTES + BLOCK_BYTES].leak();
        let skip = memory.as_ptr().align_offset(BLOCK_BYTES);
        let slab = Slab::new(&mut memory[skip..skip + SLAB_BYTES]);
        let config = Config {
            journal_file_bytes: 1 << 20,
            journal_files: 3,
            group_bytes_max: 128 << 10,
            checkpoint_bytes: 1 << 20,
            pool_files_max: 0,
            ..Config::new(shard, shards, 0)
        };
        let (shard, report) = start(disk, config, slab, Arc::clone(image), Incarnation(7), now).unwrap();
        let seat = Self {
            shard,
            effects: Effects::new(shards),
            replies: VecDeque::new(),
            acks: Vec::new(),
            paused: Vec::new(),
            closed: Vec::new(),
            inbox: (0..shards).map(|_| VecDeque::new()).collect(),
            is_deaf: false,
            fences: 0,
            has_stopped: false,
            damages: Vec::new(),
        };
        (seat, report.notes)
    }
}

/// A batch of one record with a value of so many bytes.
pub(crate) fn batch_of(value_bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(u32::MAX);
    let value = vec![7; value_bytes];
    builder.append(TimestampMs(1_700_000_000_000), None, Some(&value), &[]).unwrap();
    builder.finish(Sequence::NONE).to_vec()
}

/// Bytes of batches in an answer.
pub(crate) fn bytes_of(fetched: &Fetched) -> usize {
    fetched.parts.iter().map(cutwater_api::FetchedPart::len).sum()
}

fn image_of(
    disk: &mut MemoryDisk,
    shards: u16,
    partitions: u32,
    config: TopicConfig,
) -> (TopicId, Arc<Image>) {
    let identity = Identity { cluster: 1, node: 1 };
    let (mut controller, _) = Controller::open(disk, None, identity, shards).unwrap();
    let command = Command::CreateTopic { name: "tested", partitions, config };
    controller.apply(disk, &command, TopicId(42)).unwrap();
    (TopicId(42), Arc::clone(controller.image()))
}

/// Files in memory.
#[derive(Default)]
pub(crate) struct MemoryDisk {
    pub(crate) files: BTreeMap<FileName, Vec<u8>>,
}

impl MemoryDisk {
    fn carry_out(&mut self, effect: Effect, slab: &mut Slab) -> (OpId, Result<u32, StorageErrorKind>) {
        let nothing = |result: Result<(), StorageError>| result.map(|()| 0).map_err(|error| error.kind);
        match effect {
            Effect::Write { op, file, at, memory, .. } => {
                let written = self.write(file, at, slab.get(memory));
                (op, written.map(|()| memory.len).map_err(|error| error.kind))
            }
            Effect::Read { op, file, at, memory } => {
                let read = self.read(file, at, slab.get_mut(memory));
                (op, read.map(|_| memory.len).map_err(|error| error.kind))
            }
            Effect::Create { op, file, bytes, .. } => (op, nothing(self.create(file, bytes))),
            Effect::Extend { op, file, to, .. } => (op, nothing(self.extend(file, to))),
            Effect::Rename { op, from, to } => (op, nothing(self.rename(from, to))),
            Effect::Remove { op, file } => (op, nothing(self.remove(file))),
            Effect::RemoveDir { op, dir } => (op, nothing(self.remove_dir(dir))),
            Effect::Sync { op, .. }
            | Effect::SyncAll { op }
            | Effect::CreateDir { op, .. }
            | Effect::SyncDir { op, .. } => (op, Ok(0)),
            other => panic!("{other:?} is nothing for a disk"),
        }
    }

    fn file(&mut self, file: FileName) -> Result<&mut Vec<u8>, StorageError> {
        let path = file.to_string();
        let kind = StorageErrorKind::NotFound;
        self.files.get_mut(&file).ok_or(StorageError { action: "open", path, kind })
    }
}

impl Storage for MemoryDisk {
    fn list(&mut self, dir: DirName) -> Result<Vec<DirEntry>, StorageError> {
        let prefix = if dir == DirName::Root { "".to_string() } else { format!("{dir}/") };
        let mut entries = BTreeMap::new();
        for file in self.files.keys() {
            let path = file.to_string();
            let Some(below) = path.strip_prefix(&prefix) else { continue };
            let (name, is_dir) = below.split_once('/').map_or((below, false), |(dir, _)| (dir, true));
            entries.insert(name.to_string(), is_dir);
        }
        Ok(entries.into_iter().map(|(name, is_dir)| DirEntry { name, is_dir }).collect())
    }

    fn length(&mut self, file: FileName) -> Result<Option<u64>, StorageError> {
        Ok(self.files.get(&file).map(|bytes| bytes.len() as u64))
    }

    fn read(&mut self, file: FileName, at: u64, into: &mut [u8]) -> Result<usize, StorageError> {
        let bytes = self.file(file)?;
        let rest = bytes.get(at as usize..).unwrap_or_default();
        let len = into.len().min(rest.len());
        into[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write(&mut self, file: FileName, at: u64, new: &[u8]) -> Result<(), StorageError> {
        let (from, to) = (at as usize, at as usize + new.len());
        let bytes = self.file(file)?;
        bytes.resize(bytes.len().max(to), 0);
        bytes[from..to].copy_from_slice(new);
        Ok(())
    }

    fn create(&mut self, file: FileName, length: u64) -> Result<(), StorageError> {
        self.files.insert(file, vec![0; length as usize]);
        Ok(())
    }

    fn create_dir(&mut self, _: DirName) -> Result<(), StorageError> {
        Ok(())
    }

    fn extend(&mut self, file: FileName, length: u64) -> Result<(), StorageError> {
        self.file(file)?.resize(length as usize, 0);
        Ok(())
    }

    fn flush(&mut self, _: FileName) -> Result<(), StorageError> {
        Ok(())
    }

    fn flush_dir(&mut self, _: DirName) -> Result<(), StorageError> {
        Ok(())
    }

    fn flush_all(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    fn rename(&mut self, from: FileName, to: FileName) -> Result<(), StorageError> {
        let bytes = core::mem::take(self.file(from)?);
        self.files.remove(&from);
        self.files.insert(to, bytes);
        Ok(())
    }

    fn remove(&mut self, file: FileName) -> Result<(), StorageError> {
        self.file(file)?;
        self.files.remove(&file);
        Ok(())
    }

    fn remove_dir(&mut self, dir: DirName) -> Result<(), StorageError> {
        let path = dir.to_string();
        let is_empty = self.list(dir)?.is_empty();
        let kind = StorageErrorKind::Other(39);
        if is_empty { Ok(()) } else { Err(StorageError { action: "remove", path, kind }) }
    }
}

/// Reads what an answer names.
pub(crate) fn payload_of(node: &mut TestNode, seat: usize, fetched: &Fetched) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in &fetched.parts {
        for &range in &part.memory {
            let range: MemoryRange = range;
            bytes.extend_from_slice(node.seats[seat].shard.slab().get(range));
        }
        bytes.extend_from_slice(&part.bytes);
    }
    bytes
}
