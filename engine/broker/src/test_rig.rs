//! One shard on a disk in memory, for the tests of this crate: every effect on the disk is carried out at once, but for
//! those that a test holds back or has fail.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use alloc::{format, vec};

use cutwater_api::{ConnectionId, Produce, Produced, Request, RequiredAcks, Ticket};
use cutwater_metadata::{Command, Controller, Identity, Image, Outcome};
use cutwater_model::builder::{BatchBuilder, Sequence};
use cutwater_model::limits::BLOCK_BYTES;
use cutwater_model::storage::{DirEntry, Storage, StorageError, StorageErrorKind};
use cutwater_model::topic::TopicConfig;
use cutwater_model::{
    DirName, FileName, Incarnation, Now, PartitionId, PartitionIndex, ShardId, Slab, TimestampMs, TopicId,
};

use crate::{Config, Effect, Effects, Input, OpId, Shard, StartError, StartReport};

/// Files and folders in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct TestDisk {
    pub(crate) files: BTreeMap<FileName, Vec<u8>>,
    dirs: BTreeSet<DirName>,
}

impl TestDisk {
    fn make_dirs(&mut self, dir: DirName) {
        let mut next = Some(dir);
        while let Some(dir) = next {
            self.dirs.insert(dir);
            next = dir.parent();
        }
    }
}

fn last_part(path: &str) -> alloc::string::String {
    path.rsplit('/').next().unwrap_or_default().to_string()
}

impl Storage for TestDisk {
    fn list(&mut self, dir: DirName) -> Result<Vec<DirEntry>, StorageError> {
        let files = self.files.keys().filter(|file| file.dir() == dir);
        let files = files.map(|file| DirEntry { name: last_part(&file.to_string()), is_dir: false });
        let dirs = self.dirs.iter().filter(|it| it.parent() == Some(dir));
        let dirs = dirs.map(|it| DirEntry { name: last_part(&it.to_string()), is_dir: true });
        let mut entries: Vec<_> = files.chain(dirs).collect();
        entries.sort();
        Ok(entries)
    }

    fn length(&mut self, file: FileName) -> Result<Option<u64>, StorageError> {
        Ok(self.files.get(&file).map(|bytes| bytes.len() as u64))
    }

    fn read(&mut self, file: FileName, at: u64, into: &mut [u8]) -> Result<usize, StorageError> {
        let Some(bytes) = self.files.get(&file) else {
            let kind = StorageErrorKind::NotFound;
            return Err(StorageError { action: "read", path: file.to_string(), kind });
        };
        let rest = bytes.get(at as usize..).unwrap_or(&[]);
        let read = rest.len().min(into.len());
        into[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn write(&mut self, file: FileName, at: u64, bytes: &[u8]) -> Result<(), StorageError> {
        let stored = self.files.get_mut(&file).unwrap();
        stored[at as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn create(&mut self, file: FileName, length: u64) -> Result<(), StorageError> {
        self.make_dirs(file.dir());
        self.files.insert(file, vec![0; length as usize]);
        Ok(())
    }

    fn create_dir(&mut self, dir: DirName) -> Result<(), StorageError> {
        self.make_dirs(dir);
        Ok(())
    }

    fn extend(&mut self, file: FileName, length: u64) -> Result<(), StorageError> {
        self.files.get_mut(&file).unwrap().resize(length as usize, 0);
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
        assert!(self.dirs.contains(&to.dir()), "{to} has no folder");
        let bytes = self.files.remove(&from).unwrap();
        self.files.insert(to, bytes);
        Ok(())
    }

    fn remove(&mut self, file: FileName) -> Result<(), StorageError> {
        self.files.remove(&file);
        Ok(())
    }

    fn remove_dir(&mut self, dir: DirName) -> Result<(), StorageError> {
        self.dirs.remove(&dir);
        Ok(())
    }
}

/// A node of one shard.
pub(crate) struct Rig {
    pub(crate) disk: TestDisk,
    pub(crate) controller: Controller,
    pub(crate) shard: Shard,
    pub(crate) report: StartReport,
    pub(crate) effects: Effects,
    pub(crate) now_us: u64,
    /// Acks that have left, by the number of their request.
    pub(crate) acks: BTreeMap<u32, Produced>,
    /// What the disk was asked for and has not been told to do.
    pub(crate) held: Vec<Effect>,
    correlation: u32,
}

const MEMORY_BYTES: usize = 4 * 1024 * 1024;
const PEER: ConnectionId = ConnectionId { slot: 0, generation: 1 };

impl Rig {
    /// A node on an empty disk.
    pub(crate) fn new() -> Self {
        Self::start(TestDisk::default(), false).unwrap()
    }

    /// A node on what another one left behind.
    pub(crate) fn start(mut disk: TestDisk, accepts_loss: bool) -> Result<Self, StartError> {
        let fresh = Identity { cluster: 7, node: 1 };
        let (controller, _) = Controller::open(&mut disk, None, fresh, 1).unwrap();
        let config = Config {
            journal_file_bytes: 64 * 1024,
            group_bytes_max: 16 * 1024,
            group_buffers: 3,
            bulk_bytes_least: 8 * 1024,
            accepts_loss,
            ..Config::new(ShardId(0), 1, 3)
        };
        let memory = vec![0; MEMORY_BYTES + BLOCK_BYTES].leak();
        let skip = memory.as_ptr().align_offset(BLOCK_BYTES);
        let slab = Slab::new(&mut memory[skip..][..MEMORY_BYTES]);
        let incarnation = Incarnation(disk.files.len() as u128 + 1);
        let now = Now { mono_us: 1_000_000, wall: TimestampMs(1_700_000_000_000) };
        let image = controller.image().clone();
        let (shard, report) = crate::start(&mut disk, config, slab, image.clone(), incarnation, now)?;
        let mut rig = Self {
            disk,
            controller,
            shard,
            report,
            effects: Effects::new(1),
            now_us: now.mono_us,
            acks: BTreeMap::new(),
            held: Vec::new(),
            correlation: 0,
        };
        rig.hand(Input::Opened(PEER));
        rig.hand(Input::Metadata(image));
        rig.settle(|_| true);
        Ok(rig)
    }

    fn now(&self) -> Now {
        Now { mono_us: self.now_us, wall: TimestampMs(1_700_000_000_000 + (self.now_us / 1000) as i64) }
    }

    pub(crate) fn hand(&mut self, input: Input<'_>) {
        let now = self.now();
        self.shard.handle(input, now, &mut self.effects);
    }

    /// Turns, until the shard has nothing more to do: with everything the disk is asked for, as far as the test lets it.
    pub(crate) fn settle(&mut self, may_happen: impl Fn(&Effect) -> bool) {
        for _ in 0..200 {
            self.hand(Input::Continue);
            for ack in core::mem::take(&mut self.effects.acks) {
                self.acks.insert(ack.ticket.correlation, ack.produced);
            }
            let list = core::mem::take(&mut self.effects.list);
            let is_quiet = list.is_empty();
            for effect in list {
                if op_of(&effect).is_none() || may_happen(&effect) {
                    self.carry_out(effect);
                } else {
                    self.held.push(effect);
                }
            }
            if is_quiet {
                return;
            }
        }
        panic!("the shard does not come to rest");
    }

    /// The disk refuses what it was asked for.
    pub(crate) fn refuse(&mut self, effect: &Effect, kind: StorageErrorKind) {
        let op = op_of(effect).unwrap();
        self.hand(Input::DiskDone { op, result: Err(kind) });
    }

    /// The disk does what it was asked for.
    pub(crate) fn carry_out(&mut self, effect: Effect) {
        let Some(op) = op_of(&effect) else { return };
        match effect {
            Effect::Write { file, at, memory, .. } => {
                let bytes = self.shard.slab().get(memory).to_vec();
                self.disk.write(file, at, &bytes).unwrap();
            }
            Effect::Read { file, at, memory, .. } => {
                let mut bytes = vec![0; memory.len as usize];
                self.disk.read(file, at, &mut bytes).unwrap();
                self.shard.slab().get_mut(memory).copy_from_slice(&bytes);
            }
            Effect::Create { file, bytes, .. } => self.disk.create(file, bytes).unwrap(),
            Effect::Extend { file, to, .. } => self.disk.extend(file, to).unwrap(),
            Effect::Rename { from, to, .. } => self.disk.rename(from, to).unwrap(),
            Effect::CreateDir { dir, .. } => self.disk.create_dir(dir).unwrap(),
            Effect::Remove { file, .. } => self.disk.remove(file).unwrap(),
            Effect::RemoveDir { dir, .. } => self.disk.remove_dir(dir).unwrap(),
            _ => {}
        }
        self.hand(Input::DiskDone { op, result: Ok(0) });
    }

    /// Makes a topic of so many partitions; its shard hears of it.
    pub(crate) fn create_topic(&mut self, id: u128, partitions: u32) -> TopicId {
        let (name, config) = (format!("topic-{id}"), TopicConfig::default());
        let command = Command::CreateTopic { name: &name, partitions, config };
        let made = self.controller.apply(&mut self.disk, &command, TopicId(id));
        assert_eq!(made, Ok(Outcome::TopicCreated(TopicId(id))));
        self.tell();
        TopicId(id)
    }

    /// Removes a topic; its shard hears of it.
    pub(crate) fn delete_topic(&mut self, topic: TopicId) {
        self.controller.apply(&mut self.disk, &Command::DeleteTopic { topic }, TopicId(0)).unwrap();
        self.tell();
    }

    fn tell(&mut self) {
        let image: Arc<Image> = self.controller.image().clone();
        self.hand(Input::Metadata(image));
    }

    /// Appends a batch of that many records and tells the number of the request.
    pub(crate) fn produce(&mut self, partition: PartitionId, records: u32) -> u32 {
        let mut builder = BatchBuilder::new(1 << 20);
        for _ in 0..records {
            builder.append(self.now().wall, None, Some(&[7; 100]), &[]).unwrap();
        }
        let batch = builder.finish(Sequence::NONE).to_vec();
        self.correlation += 1;
        let ticket = Ticket { connection: PEER, correlation: self.correlation };
        let request = Request::Produce(Produce { partition, acks: RequiredAcks::All, batch: &batch });
        self.hand(Input::Request { ticket, request });
        self.correlation
    }
}

/// The operation of the disk that an effect asks for.
fn op_of(effect: &Effect) -> Option<OpId> {
    match *effect {
        Effect::Write { op, .. }
        | Effect::Read { op, .. }
        | Effect::Sync { op, .. }
        | Effect::SyncAll { op }
        | Effect::Create { op, .. }
        | Effect::Extend { op, .. }
        | Effect::Rename { op, .. }
        | Effect::CreateDir { op, .. }
        | Effect::SyncDir { op, .. }
        | Effect::Remove { op, .. }
        | Effect::RemoveDir { op, .. } => Some(op),
        _ => None,
    }
}

/// A partition of a topic.
pub(crate) const fn partition(topic: TopicId, index: u32) -> PartitionId {
    PartitionId { topic, index: PartitionIndex(index) }
}
