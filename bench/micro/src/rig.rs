//! One shard with a shell that takes no time: what it asks of the disk is done by the end of the turn.
//!
//! A running shard never reads back what it wrote unless somebody fetches cold data, so the disk of a running rig keeps
//! nothing; only what start-up wrote and reads is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use cutwater_api::{ConnectionId, Produce, Request, RequiredAcks, Ticket};
use cutwater_broker::{Config, Effect, Effects, Input, OpId, Shard, start};
use cutwater_metadata::{Command, Controller, Identity, Image};
use cutwater_model::limits::{BLOCK_BYTES, JOURNAL_BYTES_DEFAULT};
use cutwater_model::storage::{DirEntry, Storage, StorageError, StorageErrorKind};
use cutwater_model::topic::TopicConfig;
use cutwater_model::{
    DirName, FileName, Incarnation, Now, PartitionId, PartitionIndex, ShardId, Slab, TimestampMs, TopicId,
};

const SHARD: ShardId = ShardId(0);
const SLAB_BYTES: usize = 256 << 20;
const TURN_US: u64 = 50;
/// A shard is given a tick at least this often.
const TICK_US: u64 = 100_000;
/// More turns than any request needs.
const TURNS_MAX: u32 = 100_000;

/// A shard, its shell, and one connection to it.
pub struct ShardRig {
    shard: Shard,
    effects: Effects,
    operations: Vec<(OpId, u32)>,
    now: Now,
    topic: TopicId,
    partitions: u32,
    asked: u64,
    acknowledged: u64,
    /// When the next tick is due.
    tick_us: u64,
}

impl ShardRig {
    /// A fresh shard with one topic of so many partitions.
    ///
    /// # Errors
    /// If it doesn't start; the text says why.
    pub fn new(partitions: u32) -> Result<Self, String> {
        let mut disk = MemoryDisk::default();
        let now = Now { mono_us: 1, wall: TimestampMs(1_700_000_000_000) };
        let (topic, image) = topic(&mut disk, partitions)?;
        let memory = vec![0_u8; SLAB_BYTES + BLOCK_BYTES].leak();
        let skip = memory.as_ptr().align_offset(BLOCK_BYTES);
        let slab = Slab::new(&mut memory[skip..skip + SLAB_BYTES]);
        let config = Config::new(SHARD, 1, JOURNAL_BYTES_DEFAULT);
        let (mut shard, _) = start(&mut disk, config, slab, Arc::clone(&image), Incarnation(7), now)
            .map_err(|error| error.to_string())?;
        let mut effects = Effects::new(1);
        shard.handle(Input::Metadata(image), now, &mut effects);
        shard.handle(Input::Opened(ConnectionId::default()), now, &mut effects);
        let mut rig = Self {
            shard,
            effects,
            operations: Vec::new(),
            now,
            topic,
            partitions,
            asked: 0,
            acknowledged: 0,
            tick_us: TICK_US,
        };
        rig.settle();
        Ok(rig)
    }

    /// One turn: a produce request for one partition after the other, then turns until all are acknowledged.
    pub fn produce(&mut self, batch: &[u8], requests: u32) {
        for _ in 0..requests {
            self.asked += 1;
            let correlation = self.asked as u32;
            let ticket = Ticket { connection: ConnectionId::default(), correlation };
            let index = PartitionIndex(correlation % self.partitions);
            let partition = PartitionId { topic: self.topic, index };
            let request = Request::Produce(Produce { partition, acks: RequiredAcks::Leader, batch });
            self.shard.handle(Input::Request { ticket, request }, self.now, &mut self.effects);
        }
        self.settle();
    }

    /// Turns of the pump until every request is answered and the shard asks for nothing more.
    fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            self.now.mono_us += TURN_US;
            if self.tick_us <= self.now.mono_us {
                self.tick_us = self.now.mono_us + TICK_US;
                self.shard.handle(Input::Tick, self.now, &mut self.effects);
            }
            self.shard.handle(Input::Continue, self.now, &mut self.effects);
            self.carry_out();
            if core::mem::take(&mut self.effects.more) || !self.operations.is_empty() {
                for (op, bytes) in self.operations.split_off(0) {
                    self.shard.handle(Input::DiskDone { op, result: Ok(bytes) }, self.now, &mut self.effects);
                }
            } else if self.acknowledged == self.asked {
                return;
            } else {
                // Nothing happens before the next tick, so the clock goes there at once.
                self.now.mono_us = self.now.mono_us.max(self.tick_us);
            }
        }
        panic!("after {TURNS_MAX} turns {} of {} requests are answered", self.acknowledged, self.asked);
    }

    fn carry_out(&mut self) {
        for effect in self.effects.list.drain(..) {
            let done = match effect {
                Effect::Write { op, memory, .. } | Effect::Read { op, memory, .. } => (op, memory.len),
                Effect::Sync { op, .. }
                | Effect::SyncAll { op }
                | Effect::Create { op, .. }
                | Effect::Extend { op, .. }
                | Effect::Rename { op, .. }
                | Effect::CreateDir { op, .. }
                | Effect::SyncDir { op, .. }
                | Effect::Remove { op, .. }
                | Effect::RemoveDir { op, .. } => (op, 0),
                Effect::Fence(why) => panic!("the shard was fenced: {why}"),
                Effect::Damage(range) => panic!("{range}"),
                Effect::Close(_, reason) => panic!("the connection was closed: {reason:?}"),
                Effect::Reply { .. }
                | Effect::Pause(_)
                | Effect::Resume(_)
                | Effect::Control { .. }
                | Effect::Stopped => continue,
            };
            self.operations.push(done);
        }
        for ack in self.effects.acks.drain(..) {
            assert!(ack.produced.error.is_none(), "{:?}", ack.produced.error);
            self.acknowledged += 1;
        }
        if let Some(wake_us) = self.effects.wake_us.take() {
            self.tick_us = self.tick_us.min(wake_us);
        }
    }
}

fn topic(disk: &mut MemoryDisk, partitions: u32) -> Result<(TopicId, Arc<Image>), String> {
    let identity = Identity { cluster: 1, node: 1 };
    let (mut controller, _) = Controller::open(disk, None, identity, 1).map_err(|error| error.to_string())?;
    let command = Command::CreateTopic { name: "bench", partitions, config: TopicConfig::default() };
    let topic = TopicId(42);
    controller.apply(disk, &command, topic).map_err(|error| error.to_string())?;
    Ok((topic, Arc::clone(controller.image())))
}

/// Files in memory that never fail.
#[derive(Default)]
struct MemoryDisk {
    files: BTreeMap<FileName, Vec<u8>>,
}

impl MemoryDisk {
    fn file(&mut self, file: FileName) -> Result<&mut Vec<u8>, StorageError> {
        let missing =
            StorageError { action: "open", path: file.to_string(), kind: StorageErrorKind::NotFound };
        self.files.get_mut(&file).ok_or(missing)
    }
}

impl Storage for MemoryDisk {
    fn list(&mut self, dir: DirName) -> Result<Vec<DirEntry>, StorageError> {
        let name = |file: &FileName| file.to_string().rsplit('/').next().unwrap_or_default().to_owned();
        let inside = self.files.keys().filter(|file| file.dir() == dir);
        let mut entries: Vec<_> = inside.map(|file| DirEntry { name: name(file), is_dir: false }).collect();
        entries.sort();
        Ok(entries)
    }

    fn length(&mut self, file: FileName) -> Result<Option<u64>, StorageError> {
        Ok(self.files.get(&file).map(|bytes| bytes.len() as u64))
    }

    fn read(&mut self, file: FileName, at: u64, into: &mut [u8]) -> Result<usize, StorageError> {
        let bytes = self.file(file)?;
        let from = (at as usize).min(bytes.len());
        let len = into.len().min(bytes.len() - from);
        into[..len].copy_from_slice(&bytes[from..from + len]);
        Ok(len)
    }

    fn write(&mut self, file: FileName, at: u64, new: &[u8]) -> Result<(), StorageError> {
        let bytes = self.file(file)?;
        let end = at as usize + new.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[at as usize..end].copy_from_slice(new);
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
        self.files.remove(&file);
        Ok(())
    }

    fn remove_dir(&mut self, _: DirName) -> Result<(), StorageError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SHAPES, batch};

    #[test]
    fn large_batches_go_on_through_new_segments() {
        let batch = batch(SHAPES[2]).expect("the shape fits");
        let mut rig = ShardRig::new(2).expect("the shard starts");
        let segment_bytes = TopicConfig::default().segment_bytes as usize;
        for _ in 0..segment_bytes / batch.len() + 2 {
            rig.produce(&batch, 2);
        }
    }
}
