//! A shard for the tests: a journal on a [`TestDisk`], with writes that stay pending until the test lets them land.
//!
//! Every entry carries a number that counts up, so a replay shows at a glance what was kept, lost or made up.

use alloc::{collections::BTreeMap, vec, vec::Vec};

use cutwater_model::storage::Storage;
use cutwater_model::{FileName, Incarnation, Offset, ShardId};

use crate::checkpoint::{self, CheckpointBody, CheckpointHead};
use crate::scan::{ScanError, Scanned, scan};
use crate::test_disk::TestDisk;
use crate::{EntryHead, GroupBuilder, Journal, JournalFull, JournalWrite, Sequence};

pub(crate) const SHARD: ShardId = ShardId(3);
pub(crate) const FILE_BYTES: u64 = 64 * 1024;

/// xorshift64*, for tests only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound
    }
}

#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) disk: TestDisk,
    pub(crate) journal: Journal,
    pub(crate) checkpoint: CheckpointHead,
    /// Writes that were issued and have not landed.
    pub(crate) pending: Vec<(JournalWrite, Vec<u8>)>,
    /// The number of the next entry.
    pub(crate) next: i64,
    /// The first number behind each group in flight or durable.
    pub(crate) next_after: BTreeMap<Sequence, i64>,
    next_copy: u8,
}

/// What a start found.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub(crate) scanned: Scanned,
    /// The number the checkpoint covers, exclusive.
    pub(crate) base: i64,
    pub(crate) numbers: Vec<i64>,
}

impl Rig {
    /// A new journal of that many files.
    pub(crate) fn create(files: u32) -> Self {
        let mut disk = TestDisk::default();
        checkpoint::create(&mut disk, SHARD, Incarnation(0xfeed), FILE_BYTES).unwrap();
        for number in 1..files {
            disk.create(FileName::Journal { shard: SHARD, number }, FILE_BYTES).unwrap();
        }
        Self::open(disk, 1).unwrap().0
    }

    /// Starts a life on what is on the disk, its start group durable.
    pub(crate) fn open(disk: TestDisk, incarnation: u128) -> Result<(Self, Replayed), ScanError> {
        let (mut rig, replayed) = Self::begin(disk, incarnation)?;
        rig.land_all();
        Ok((rig, replayed))
    }

    /// Starts a life on what is on the disk, its start group still on its way.
    pub(crate) fn begin(mut disk: TestDisk, incarnation: u128) -> Result<(Self, Replayed), ScanError> {
        let (found, replayed) = replay(&mut disk)?;
        checkpoint::repair(&mut disk, &found).unwrap();
        let next = replayed.numbers.last().map_or(replayed.base, |last| last + 1);
        let mut rig = Self {
            disk,
            journal: replayed.scanned.journal(Incarnation(incarnation)),
            checkpoint: found.head,
            pending: Vec::new(),
            next,
            next_after: BTreeMap::new(),
            next_copy: 0,
        };
        rig.start();
        Ok((rig, replayed))
    }

    fn start(&mut self) {
        let mut buffer = vec![0xee; 4096];
        let write = match self.journal.start(&mut buffer) {
            Ok(write) => write,
            Err(JournalFull { .. }) => {
                self.write_checkpoint();
                self.write_checkpoint();
                self.journal.start(&mut buffer).unwrap()
            }
        };
        self.next_after.insert(write.sequence, self.next);
        self.pending.push((write, buffer));
    }

    /// Submits a group of entries of those payload lengths.
    pub(crate) fn submit(&mut self, payloads: &[usize]) -> Result<Sequence, JournalFull> {
        let mut buffer = vec![0xee; 4096 + 32 * 1024];
        let mut group = GroupBuilder::default();
        group.begin(&buffer);
        let mut next = self.next;
        for &bytes in payloads {
            let head = EntryHead { base_offset: Offset(next), ..EntryHead::default() };
            let payload = vec![next as u8; bytes];
            let (left, right) = payload.split_at(bytes / 2);
            group.push(&mut buffer, &head, &[left, right]).unwrap();
            next += 1;
        }
        let submission = self.journal.submit(&mut group, &mut buffer)?;
        self.next = next;
        for write in submission.skip.into_iter().chain([submission.group]) {
            self.next_after.insert(write.sequence, next);
            let bytes = buffer[write.from as usize..][..write.bytes as usize].to_vec();
            self.pending.push((write, bytes));
        }
        if let Some(skip) = submission.skip {
            self.next_after.insert(skip.sequence, next - payloads.len() as i64);
        }
        Ok(submission.group.sequence)
    }

    /// Lets one pending write land whole and completes it.
    pub(crate) fn land(&mut self, index: usize) {
        let (write, bytes) = self.pending.remove(index);
        let file = FileName::Journal { shard: SHARD, number: write.place.file };
        self.disk.bytes(file)[write.place.at as usize..][..bytes.len()].copy_from_slice(&bytes);
        self.journal.complete(write.sequence);
    }

    pub(crate) fn land_all(&mut self) {
        while !self.pending.is_empty() {
            self.land(0);
        }
    }

    /// The first number that is not durable yet.
    pub(crate) fn durable_next(&self) -> i64 {
        self.next_after.get(&self.journal.durable()).copied().unwrap_or(self.next)
    }

    /// Writes one copy of a checkpoint that covers everything; nothing may be pending.
    pub(crate) fn write_checkpoint(&mut self) {
        assert!(self.pending.is_empty());
        self.checkpoint.generation += 1;
        self.checkpoint.from = self.journal.next_place();
        let mut records = vec![self.next.to_le_bytes()];
        let copy = self.next_copy;
        checkpoint::write_copy(&mut self.disk, copy, self.checkpoint, |record| {
            records.pop().is_some_and(|bytes| {
                record.extend_from_slice(&bytes);
                true
            })
        })
        .unwrap();
        self.next_copy = 1 - copy;
        self.journal.checkpointed(copy, self.checkpoint.from);
    }

    /// Lets a random part of the pending sectors land, and dies.
    pub(crate) fn crash(mut self, random: &mut Random) -> TestDisk {
        for (write, bytes) in &self.pending {
            let file = FileName::Journal { shard: SHARD, number: write.place.file };
            let mode = random.below(4);
            for (sector, chunk) in bytes.chunks(512).enumerate() {
                let lands = match mode {
                    0 => false,
                    1 => true,
                    2 => random.below(2) == 0,
                    _ => random.below(bytes.len() as u64 / 512) != 0,
                };
                if lands {
                    let at = write.place.at as usize + sector * 512;
                    self.disk.bytes(file)[at..at + 512].copy_from_slice(chunk);
                }
            }
        }
        self.disk
    }
}

/// Replays what is on the disk and changes nothing.
pub(crate) fn replay(disk: &mut TestDisk) -> Result<(checkpoint::FoundCheckpoint, Replayed), ScanError> {
    let found = checkpoint::read(disk, SHARD).unwrap().unwrap();
    let mut record = Vec::new();
    let mut body = CheckpointBody::new(&found);
    let mut base = 0;
    while body.next_record(disk, &mut record).unwrap() {
        base = i64::from_le_bytes(record.as_slice().try_into().unwrap());
    }
    let mut numbers = Vec::new();
    let head = found.head;
    let scanned = scan(disk, SHARD, head.from, head.journal_file_bytes, |_, entry| {
        let number = entry.head.base_offset.0;
        assert!(entry.payload.iter().all(|&byte| byte == number as u8), "payload of {number}");
        numbers.push(number);
    })?;
    Ok((found, Replayed { scanned, base, numbers }))
}
