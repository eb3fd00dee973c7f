//! A partition with a disk, a journal and a checkpoint around it, for the tests of this crate.
//!
//! Everything is carried out in the order a seed draws. The disk keeps what was flushed apart from what was only
//! written, and a crash mixes the two block by block. What the partition should hold is a plain list of batches.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use cutwater_model::batch;
use cutwater_model::builder::Sequence;
use cutwater_model::checksum::digest64;
use cutwater_model::limits::{BLOCK_BYTES, BULK_BYTES_LEAST};
use cutwater_model::{FileName, LeaderEpoch, Offset, ProducerEpoch, ProducerId, ShardId, Slab, TimestampMs};

use crate::format::{self, Footer, INDEX_ENTRIES_PER_BLOCK};
use crate::test_support::{self, Random, partition_id};
use crate::{
    Appended, BulkPlan, BulkRef, ColdRead, Covered, FlushPlan, HotRead, IndexFilePlan, Landed, LogEnd,
    NoRoom, OpenPlan, Pages, Partition, Prelude, Preread, ReadHint, ReadPlan, ReplayEntry, Replayed, Run,
    SpacePlan, TimeLookup, Trimmed, WritePlan, find_time, trim_cold,
};

pub(crate) const SLAB_BYTES: usize = 32 << 20;

pub(crate) struct Stored {
    pub(crate) base: Offset,
    pub(crate) next: Offset,
    pub(crate) time: TimestampMs,
    pub(crate) bytes: Vec<u8>,
}

enum Record {
    Data { appended: Appended, bytes: Vec<u8> },
    Bulk { payload: Vec<u8>, end: LogEnd },
    LogStart(Offset),
}

struct Journaled {
    sequence: u64,
    record: Record,
}

enum Pending {
    Write(WritePlan, Vec<u8>),
    /// With the offset of its batch.
    BulkWrite(WritePlan, Vec<u8>, Offset),
    /// With the blocks that were written and not flushed when it was asked for.
    Flush(FlushPlan, Vec<(u64, Vec<u8>)>),
    Open(OpenPlan),
    IndexFile(IndexFilePlan),
    Space(SpacePlan),
}

pub(crate) struct Rig {
    pub(crate) seed: u64,
    pub(crate) random: Random,
    pub(crate) slab: Slab,
    pub(crate) pages: Pages,
    pub(crate) partition: Partition,
    pub(crate) segment_bytes: u32,
    /// What should be readable, durable or not.
    pub(crate) model: Vec<Stored>,
    written: BTreeMap<FileName, Vec<u8>>,
    flushed: BTreeMap<FileName, Vec<u8>>,
    pending: Vec<Pending>,
    journal: Vec<Journaled>,
    sequence: u64,
    durable_sequence: u64,
    /// Bulk batches on their way: each with its plan, once it has one, and how many of its writes are not done.
    bulks: VecDeque<(Appended, Option<BulkPlan>, usize)>,
    checkpoint: Option<Vec<u8>>,
    held: Vec<(HotRead, Vec<u8>)>,
    clock: i64,
    pooled: u32,
    next_sequence: i32,
    /// Offsets before this one are never used again.
    skipped: Offset,
    /// In a hundred crashes, after so many offsets are skipped.
    pub(crate) skip_share: u64,
}

impl Rig {
    pub(crate) fn new(seed: u64, segment_bytes: u32) -> Self {
        let partition = Partition::new(partition_id(), LeaderEpoch(1), segment_bytes);
        Self {
            seed,
            random: Random::new(seed),
            slab: test_support::slab(SLAB_BYTES),
            pages: Pages::new(SLAB_BYTES as u32, 1 << 20),
            partition,
            segment_bytes,
            model: Vec::new(),
            written: BTreeMap::new(),
            flushed: BTreeMap::new(),
            pending: Vec::new(),
            journal: Vec::new(),
            sequence: 0,
            durable_sequence: 0,
            bulks: VecDeque::new(),
            checkpoint: None,
            held: Vec::new(),
            clock: 1_000_000,
            pooled: 0,
            next_sequence: 0,
            skipped: Offset(0),
            skip_share: 0,
        }
    }

    /// One step of whatever kind the seed draws.
    pub(crate) fn step(&mut self, bulk_share: u64) {
        match self.random.below(100) {
            0..40 => self.append_drawn(bulk_share),
            40..55 => self.commit(),
            55..72 => self.issue(),
            72..88 => self.complete_one(),
            88..91 => self.evict(),
            91..94 => self.read_drawn(),
            94..95 => self.look_up_time(),
            95..98 => self.write_checkpoint(),
            98 => self.release_held(),
            _ => self.move_log_start(),
        }
    }

    fn append_drawn(&mut self, bulk_share: u64) {
        let bytes = match self.random.below(100) {
            share if share < bulk_share => 65_536 + self.random.below(300_000),
            share if share < bulk_share + 10 => 4_000 + self.random.below(30_000),
            _ => 100 + self.random.below(600),
        };
        self.append(bytes as u32);
    }

    pub(crate) fn append(&mut self, bytes: u32) -> Option<Appended> {
        self.clock += self.random.below(50) as i64;
        let records = 1 + self.random.below(5) as u32;
        let time = TimestampMs(self.clock - self.random.below(20) as i64);
        let sequence = Sequence {
            producer_id: ProducerId(7),
            producer_epoch: ProducerEpoch(0),
            base_sequence: self.next_sequence,
        };
        let batch = test_support::batch(&mut self.random, records, bytes, time, sequence);
        let arrival = TimestampMs(self.clock);
        let before = self.partition.end();
        if batch.len() < BULK_BYTES_LEAST as usize && !self.bulks.is_empty() {
            // The entries of a journal are in the order of their offsets (B2).
            return None;
        }
        let result = if self.random.below(4) == 0 {
            let expected = self.partition.next_in_block(0);
            let skip = if self.random.below(4) == 0 { self.random.below(4096) as u32 } else { expected };
            let len = batch.len() as u32;
            let landed = Landed { pages: self.pages.allocate_blocks(skip + len)?, skip, len };
            self.slab.get_mut(landed.batch()).copy_from_slice(&batch);
            let result = self.partition.append_landed(&mut self.slab, &mut self.pages, landed, arrival);
            if result.is_err() {
                self.pages.free(landed.pages);
            }
            result
        } else {
            self.partition.append(&mut self.slab, &mut self.pages, &batch, arrival)
        };
        let appended = match result {
            Ok(appended) => appended,
            Err(no_room) => {
                assert_ne!(no_room, NoRoom::NotABatch, "seed {}", self.seed);
                assert_eq!(self.partition.end().offset, before.offset, "seed {}", self.seed);
                return None;
            }
        };
        self.next_sequence += records as i32;
        assert_eq!(appended.base_offset, before.offset, "seed {}", self.seed);
        let mut stamped = batch;
        batch::stamp(&mut stamped, appended.base_offset, self.partition.epoch());
        let ranges = self.partition.ranges(appended.start, appended.end.position);
        let copied: Vec<u8> = ranges.iter().flat_map(|range| self.slab.get(*range).to_vec()).collect();
        assert_eq!(copied, stamped, "seed {}: the copy is stamped", self.seed);
        self.model.push(Stored {
            base: before.offset,
            next: appended.end.offset,
            time,
            bytes: stamped.clone(),
        });
        if stamped.len() >= BULK_BYTES_LEAST as usize {
            self.bulks.push_back((appended, None, 0));
            self.try_bulk();
        } else {
            self.journal_record(Record::Data { appended, bytes: stamped });
        }
        Some(appended)
    }

    /// A batch of one record, not appended.
    pub(crate) fn batch_of(&mut self, bytes: u32) -> Vec<u8> {
        test_support::batch(&mut self.random, 1, bytes, TimestampMs(1), Sequence::NONE)
    }

    /// The plan of a read of `usable` bytes from the first batch on, for checks of [`trim_cold`].
    pub(crate) fn cold_plan_of(&self, first: Offset, usable: u32) -> ColdRead {
        let file = FileName::Segment { partition: partition_id(), base: first };
        let start = LogEnd { offset: first, position: 4096 };
        let (len, suffix, suffix_pin) = (usable, None, None);
        ColdRead {
            file,
            generation: 0,
            at: 4096,
            len,
            skip: 0,
            usable,
            is_all: false,
            suffix,
            base: first,
            start,
            suffix_pin,
        }
    }

    /// Whether that byte of all batches one behind the other belongs to a leader epoch.
    pub(crate) fn is_epoch_byte(&self, at: usize) -> bool {
        let mut start = 0;
        for stored in &self.model {
            if at < start + stored.bytes.len() {
                return (12..16).contains(&(at - start));
            }
            start += stored.bytes.len();
        }
        false
    }

    fn journal_record(&mut self, record: Record) {
        self.sequence += 1;
        self.journal.push(Journaled { sequence: self.sequence, record });
    }

    fn try_bulk(&mut self) {
        self.read_headers();
        let Some((appended, plan @ None, writes)) = self.bulks.back_mut() else { return };
        *plan = self.partition.begin_bulk(&self.slab, appended);
        if let Some(plan) = plan {
            *writes = plan.writes.len();
            for write in &plan.writes {
                let bytes = self.slab.get(write.memory).to_vec();
                self.pending.push(Pending::BulkWrite(*write, bytes, appended.base_offset));
            }
        }
        self.end_bulks();
    }

    /// Journals the bulk batches that are written, up to the first that is not.
    fn end_bulks(&mut self) {
        while matches!(self.bulks.front(), Some((_, Some(_), 0))) {
            self.end_bulk();
        }
    }

    fn end_bulk(&mut self) {
        let Some((appended, Some(plan), 0)) = self.bulks.pop_front() else { return };
        self.partition.bulk_written(&plan);
        let mut payload = plan.entry.encode().to_vec();
        payload.extend_from_slice(self.slab.get(self.partition.bulk_remainder(&plan)));
        assert!(BulkRef::decode(&payload).is_some());
        self.journal_record(Record::Bulk { payload, end: appended.end });
    }

    /// Some of the journal's groups become durable.
    fn commit(&mut self) {
        let open = self.sequence - self.durable_sequence;
        let count = self.random.below(open + 1).max(open / 2);
        self.commit_some(count);
    }

    /// All that was appended becomes durable and goes to the files.
    pub(crate) fn settle(&mut self) {
        // A bulk batch may wait for what is before it, so it takes rounds.
        for _ in 0..4 {
            self.drain();
            self.commit_all();
        }
        self.drain();
        assert_eq!(self.partition.durable(), self.partition.end(), "seed {}", self.seed);
    }

    pub(crate) fn commit_all(&mut self) {
        self.commit_some(self.sequence - self.durable_sequence);
    }

    fn commit_some(&mut self, count: u64) {
        self.durable_sequence += count;
        let durable = self.durable_sequence;
        for journaled in self.journal.iter().filter(|it| it.sequence <= durable) {
            match &journaled.record {
                Record::Data { appended, .. } => self.partition.set_durable(appended.end, journaled.sequence),
                Record::Bulk { end, .. } => self.partition.set_durable(*end, journaled.sequence),
                Record::LogStart(offset) => {
                    self.partition.log_start_durable(*offset);
                    self.partition.set_durable(self.partition.durable(), journaled.sequence);
                }
            }
        }
    }

    pub(crate) fn issue(&mut self) {
        self.read_headers();
        let (slab, pages) = (&mut self.slab, &mut self.pages);
        let is_wanted = self.partition.is_space_wanted();
        let plan = self.partition.needs_space();
        assert!(!is_wanted || plan.is_some(), "seed {}", self.seed);
        if let Some(plan) = plan {
            self.pending.push(Pending::Space(plan));
        }
        if let Some(plan) = self.partition.next_opening(slab, pages) {
            self.pending.push(Pending::Open(plan));
        }
        if let Some(plan) = self.partition.next_index_file() {
            self.pending.push(Pending::IndexFile(plan));
        }
        let bytes_max = 4096 << self.random.below(9);
        while let Some(plan) = self.partition.next_write(slab, pages, bytes_max) {
            let bytes = slab.get(plan.memory).to_vec();
            assert!(plan.at.is_multiple_of(4096) && bytes.len().is_multiple_of(4096), "whole blocks (S1)");
            self.pending.push(Pending::Write(plan, bytes));
        }
        if self.random.below(3) == 0 {
            while let Some(plan) = self.partition.next_flush() {
                let blocks = unflushed(&self.written, &self.flushed, plan.file);
                self.pending.push(Pending::Flush(plan, blocks));
            }
        }
        if let Some(removal) = self.partition.next_removal() {
            self.written.remove(&removal.segment);
            self.flushed.remove(&removal.segment);
            if let Some(index) = removal.index {
                self.written.remove(&index);
                self.flushed.remove(&index);
            }
        }
        self.try_bulk();
    }

    fn put(files: &mut BTreeMap<FileName, Vec<u8>>, file: FileName, at: u64, bytes: &[u8]) {
        let content = files.get_mut(&file).expect("the file was made before it is written");
        let at = at as usize;
        assert!(content.len() >= at + bytes.len(), "writes stay in written space (S4): {file}");
        content[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn complete_one(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let index = self.random.below(self.pending.len() as u64) as usize;
        let pending = self.pending.swap_remove(index);
        match pending {
            Pending::Write(plan, bytes) => {
                assert_eq!(self.slab.get(plan.memory), &bytes, "seed {}: memory of a write stays", self.seed);
                Self::put(&mut self.written, plan.file, plan.at, &bytes);
                self.partition.written(&mut self.pages, &plan);
            }
            Pending::BulkWrite(plan, bytes, offset) => {
                assert_eq!(self.slab.get(plan.memory), &bytes, "seed {}: memory of a write stays", self.seed);
                Self::put(&mut self.written, plan.file, plan.at, &bytes);
                Self::put(&mut self.flushed, plan.file, plan.at, &bytes);
                self.partition.written_durably(&mut self.pages, &plan);
                if let Some((_, _, writes)) = self.bulks.iter_mut().find(|bulk| bulk.0.base_offset == offset)
                {
                    *writes -= 1;
                }
                self.end_bulks();
            }
            Pending::Flush(plan, blocks) => {
                for (at, block) in blocks {
                    Self::put(&mut self.flushed, plan.file, at, &block);
                    if self.partition.is_fenced() {
                        Self::put(&mut self.written, plan.file, at, &block);
                    }
                }
                self.partition.flushed(&plan);
            }
            Pending::Open(plan) => {
                if let Some(from) = plan.from {
                    let content = self.written.remove(&from).expect("the spare is there");
                    self.flushed.remove(&from);
                    self.written.insert(plan.to, content);
                } else {
                    let content = self.written.entry(plan.to).or_default();
                    content.resize(content.len().max(plan.bytes as usize), 0);
                    let len = content.len() as u32;
                    self.partition.grown(plan.base, len);
                }
                let header = self.slab.get(plan.header).to_vec();
                Self::put(&mut self.written, plan.to, 0, &header);
                self.flushed.insert(plan.to, self.written[&plan.to].clone());
                self.partition.opened(&mut self.pages, &plan);
            }
            Pending::IndexFile(plan) => {
                for files in [&mut self.written, &mut self.flushed] {
                    files.entry(plan.file).or_insert_with(|| alloc::vec![0; plan.bytes as usize]);
                }
                self.partition.index_created(plan.base);
            }
            Pending::Space(_) if self.random.below(10) == 0 => self.partition.space_refused(),
            Pending::Space(SpacePlan::Extend { file, base, to, .. }) => {
                for files in [&mut self.written, &mut self.flushed] {
                    files.get_mut(&file).expect("the file is there").resize(to as usize, 0);
                }
                self.partition.grown(base, to);
            }
            Pending::Space(SpacePlan::Spare { bytes }) => {
                self.pooled += 1;
                let file = FileName::Pooled { shard: ShardId(0), number: self.pooled };
                // A recycled file has old bytes in it.
                let old = alloc::vec![0xa5; bytes as usize];
                self.written.insert(file, old.clone());
                self.flushed.insert(file, old);
                self.partition.spare(file, bytes);
            }
        }
    }

    /// The device fails a write: its bytes don't get to the file, and what was written there since the last flush is
    /// gone too.
    pub(crate) fn fail_next_write(&mut self) {
        for _ in 0..10_000 {
            self.append(2_000);
            self.commit();
            self.issue();
            let write = self.pending.iter().position(|it| matches!(it, Pending::Write(..)));
            if let Some(Pending::Write(plan, _)) = write.map(|index| self.pending.swap_remove(index)) {
                self.partition.write_failed(&mut self.pages, &plan);
                let lost = self.flushed[&plan.file].clone();
                self.written.insert(plan.file, lost);
                assert!(self.partition.is_fenced());
                return;
            }
        }
        panic!("seed {}: no write was asked for", self.seed);
    }

    fn evict(&mut self) {
        let keep = self.random.below(3) as u32 * 100_000;
        self.partition.evict(&mut self.slab, &mut self.pages, keep);
    }

    pub(crate) fn write_checkpoint(&mut self) {
        let covered = self.partition.flushed_end();
        if covered == Covered::default() {
            return;
        }
        let mut state = Vec::new();
        self.partition.snapshot(&self.slab, &mut state);
        self.checkpoint = Some(state);
        self.journal.retain(|journaled| journaled.sequence > covered.sequence);
        self.partition.checkpointed(covered);
    }

    fn move_log_start(&mut self) {
        let durable = self.partition.durable().offset;
        if durable.0 > self.partition.log_start().0 && self.random.below(12) == 0 {
            let span = (durable.0 - self.partition.log_start().0) as u64;
            let offset = Offset(self.partition.log_start().0 + self.random.below(span) as i64);
            let log_start = self.partition.set_log_start(offset).unwrap();
            self.journal_record(Record::LogStart(log_start));
        }
    }

    fn release_held(&mut self) {
        for (read, bytes) in self.held.drain(..) {
            let now: Vec<u8> = read.ranges.iter().flat_map(|range| self.slab.get(*range).to_vec()).collect();
            assert_eq!(now, bytes, "seed {}: pinned memory stays", self.seed);
            self.partition.unpin(read.pin);
        }
    }

    fn read_drawn(&mut self) {
        let Some(last) = self.model.last() else { return };
        let (low, high) = (self.partition.log_start().0, last.next.0);
        if low == high {
            return;
        }
        let from = Offset(low + self.random.below((high - low) as u64) as i64);
        let bytes_max = 1 << self.random.below(20);
        let visible = self.partition.end();
        let mut at = from;
        let mut hint = ReadHint::default();
        for _ in 0..1 + self.random.below(8) {
            if at >= visible.offset {
                break;
            }
            (at, hint) = self.read_once(at, hint, bytes_max, visible);
        }
    }

    /// Reads all there is and compares it.
    pub(crate) fn check_all(&mut self) {
        let visible = self.partition.end();
        assert_eq!(
            visible.offset,
            self.model.last().map_or(Offset(0), |stored| stored.next).max(self.skipped),
            "seed {}",
            self.seed
        );
        let mut at = self.partition.log_start();
        let mut hint = ReadHint::default();
        while at < visible.offset {
            (at, hint) = self.read_once(at, hint, 1 << 18, visible);
            self.release_held();
        }
        let plan = self.partition.read(&self.slab, at, hint, 1, visible);
        assert!(matches!(plan, ReadPlan::AtEnd), "seed {}", self.seed);
        let beyond = Offset(at.0 + 1);
        let plan = self.partition.read(&self.slab, beyond, hint, 1, visible);
        assert!(matches!(plan, ReadPlan::OutOfRange), "seed {}", self.seed);
    }

    /// Reads from `from` and compares with the model; where to go on.
    fn read_once(
        &mut self,
        from: Offset,
        hint: ReadHint,
        bytes_max: u32,
        visible: LogEnd,
    ) -> (Offset, ReadHint) {
        let seed = self.seed;
        let (mut hint, mut asked) = (hint, bytes_max);
        for _ in 0..10_000 {
            match self.partition.read(&self.slab, from, hint, asked, visible) {
                ReadPlan::Hot(read) => {
                    let bytes: Vec<u8> =
                        read.ranges.iter().flat_map(|range| self.slab.get(*range).to_vec()).collect();
                    assert_eq!(bytes.len(), read.bytes as usize, "seed {seed}");
                    self.check_read(from, bytes_max, read.first_offset, read.next, &bytes);
                    self.held.push((read, bytes));
                    return (read.next, read.hint);
                }
                ReadPlan::Cold(plan) => {
                    let bytes = self.read_cold(&plan);
                    let trimmed = trim_cold(&plan, &bytes, from, bytes_max, visible.offset)
                        .unwrap_or_else(|error| panic!("seed {seed}: {error} {plan:?}"));
                    self.partition.cold_done(&plan);
                    match trimmed {
                        Trimmed::Batches { skip, len, first_offset, next, hint } => {
                            let bytes = &bytes[skip as usize..][..len as usize];
                            self.check_read(from, bytes_max, first_offset, next, bytes);
                            return (next, hint);
                        }
                        Trimmed::NeedMore { bytes, hint: better } => (asked, hint) = (bytes, better),
                        Trimmed::Onward { hint: better } => hint = better,
                    }
                }
                ReadPlan::Needs(plan) => self.preread(&plan),
                ReadPlan::AtEnd if self.model.last().is_none_or(|last| last.next <= from) => {
                    assert!(from < self.skipped, "seed {seed}: only a gap holds nothing");
                    return (visible.offset, ReadHint::default());
                }
                other => panic!("seed {seed}: {other:?} for {from:?} below {visible:?}"),
            }
        }
        panic!("seed {seed}: reading {from:?} doesn't come to an end")
    }

    fn read_cold(&mut self, plan: &ColdRead) -> Vec<u8> {
        assert!(self.partition.is_current(plan));
        let file = &self.written[&plan.file];
        let mut bytes = file[plan.at as usize..][..plan.len as usize].to_vec();
        if let Some(suffix) = plan.suffix {
            bytes.extend_from_slice(self.slab.get(suffix));
        }
        bytes[plan.skip as usize..][..plan.usable as usize].to_vec()
    }

    /// Nothing is written to a file before it was seen to be the partition's.
    fn read_headers(&mut self) {
        while let Some(plan) = self.partition.next_header() {
            self.preread(&plan);
        }
    }

    fn preread(&mut self, plan: &Preread) {
        if plan.what == Prelude::Index && self.random.below(5) == 0 {
            self.partition.preread_failed(plan);
            return;
        }
        let bytes = self.written[&plan.file][plan.at as usize..][..plan.len as usize].to_vec();
        self.partition
            .preread_done(plan, &bytes)
            .unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
    }

    fn check_read(&self, from: Offset, bytes_max: u32, first: Offset, next: Offset, bytes: &[u8]) {
        let seed = self.seed;
        let index = self.model.partition_point(|stored| stored.next <= from);
        assert_eq!(self.model[index].base, first, "seed {seed}: the read begins at the batch of {from:?}");
        let mut rest = bytes;
        let mut offset = first;
        for stored in &self.model[index..] {
            if rest.is_empty() {
                break;
            }
            assert!(rest.len() >= stored.bytes.len(), "seed {seed}: whole batches");
            let (batch, later) = rest.split_at(stored.bytes.len());
            assert!(batch == stored.bytes, "seed {seed}: batch {:?} is as it was appended", stored.base);
            rest = later;
            offset = stored.next;
        }
        let behind =
            self.model.iter().find(|stored| stored.base >= offset).map_or(self.skipped, |it| it.base);
        assert!(next == offset || next == behind, "seed {seed}: {next:?} is not {offset:?} or {behind:?}");
        assert!(rest.is_empty(), "seed {seed}");
        let only_one = bytes.len() == self.model[index].bytes.len();
        assert!(only_one || bytes.len() <= bytes_max as usize, "seed {seed}: {} > {bytes_max}", bytes.len());
    }

    fn look_up_time(&mut self) {
        let target = TimestampMs(1_000_000 + self.random.below((self.clock - 999_990) as u64) as i64);
        let log_start = self.partition.log_start();
        let expected = self
            .model
            .iter()
            .find(|stored| stored.next > log_start && stored.time >= target)
            .map(|it| it.base);
        let visible = self.partition.end();
        loop {
            match self.partition.locate_time(target) {
                TimeLookup::Needs(plan) => self.preread(&plan),
                TimeLookup::None => {
                    assert_eq!(expected, None, "seed {}", self.seed);
                    return;
                }
                TimeLookup::ScanFrom { offset } => {
                    // Nothing before is late enough, and what is found from here on is the first.
                    let first = expected.map_or(visible.offset, |base| base.max(log_start));
                    assert!(offset <= first, "seed {}: {offset:?} {expected:?}", self.seed);
                    if expected.is_some_and(|base| base.0 - offset.0 > 20_000) {
                        panic!("seed {}: the search begins too early", self.seed);
                    }
                    return;
                }
            }
        }
    }

    /// What sealed segments say of themselves fits their bytes (S2, S3). Says how many there were.
    pub(crate) fn check_sealed(&self) -> usize {
        let seed = self.seed;
        // A checkpoint may still name a segment that went because the log starts behind it.
        let complete = self.partition.segments.iter().filter(|segment| {
            segment.is_complete()
                && (segment.base() >= self.partition.log_start()
                    || self.written.contains_key(&segment.file()))
        });
        let checked = complete.map(|segment| {
            let file = &self.written[&segment.file()];
            assert_eq!(segment.identity.check_header(&file[..BLOCK_BYTES]), Ok(()), "seed {seed}");
            let end = segment.end as usize;
            let data_end = end.next_multiple_of(BLOCK_BYTES);
            assert!(file[end..data_end].iter().all(|byte| *byte == 0), "seed {seed}: padded with zeros");
            let footer = Footer::read(&file[data_end..][..BLOCK_BYTES]).unwrap();
            let second = Footer::read(&file[data_end + BLOCK_BYTES..][..BLOCK_BYTES]).unwrap();
            assert_eq!(
                (footer, footer.identity, footer.end),
                (second, segment.identity, segment.end),
                "seed {seed}"
            );
            let blocks = self.written[&segment.index_name()].chunks(BLOCK_BYTES);
            let entries: Vec<_> = blocks
                .take((footer.index_entries as usize).div_ceil(INDEX_ENTRIES_PER_BLOCK))
                .flat_map(|block| format::read_index_block(&segment.identity, block).unwrap().1)
                .collect();
            assert_eq!(entries.len(), footer.index_entries as usize, "seed {seed}");
            let (mut at, mut folded) = (BLOCK_BYTES, 0);
            for entry in &entries {
                assert_eq!(entry.position as usize, at, "seed {seed}: ranges follow each other");
                let entry_end = at + entry.len as usize;
                let mut digest = segment.identity.digest_seed(entry.position);
                while at < entry_end {
                    let piece_end = ((at / BLOCK_BYTES + 1) * BLOCK_BYTES).min(entry_end);
                    digest = digest64(digest, &file[at..piece_end]);
                    at = piece_end;
                }
                assert_eq!(
                    entry.digest,
                    digest,
                    "seed {seed}: range {} of {}",
                    entry.position,
                    segment.file()
                );
                folded = digest64(folded, &digest.to_le_bytes());
            }
            assert_eq!((at, folded), (end, footer.digest), "seed {seed}: all bytes are covered");
        });
        checked.count()
    }

    /// The first record found by time is the model's.
    pub(crate) fn check_time(&mut self, target: TimestampMs) {
        let bytes: Vec<u8> = self.model.iter().flat_map(|stored| stored.bytes.clone()).collect();
        let expected = self.model.iter().find(|stored| stored.time >= target).map(|it| (it.base, it.time));
        assert_eq!(find_time(&bytes, target), expected, "seed {}", self.seed);
    }

    /// The power goes. What was journaled durably comes back, nothing else does.
    pub(crate) fn crash(&mut self) {
        self.held.clear();
        self.pending.clear();
        self.bulks.clear();
        let durable = self.durable_sequence;
        self.journal.retain(|journaled| journaled.sequence <= durable);
        let end = self.partition.durable().offset;
        self.model.retain(|stored| stored.next <= end);
        self.next_sequence = self.model.iter().map(|it| (it.next.0 - it.base.0) as i32).sum();
        for (file, flushed) in &mut self.flushed {
            let Some(written) = self.written.get(file) else { continue };
            for (old, new) in flushed.chunks_mut(BLOCK_BYTES).zip(written.chunks(BLOCK_BYTES)) {
                if self.random.below(2) == 0 {
                    old.copy_from_slice(new);
                }
            }
        }
        self.written = self.flushed.clone();
        self.sequence = durable;
        self.recover();
        // Recovering twice comes to the same (R5): the files may hold what the first attempt drained.
        if self.random.below(2) == 0 {
            self.recover();
        }
        self.finish_recovery();
    }

    fn recover(&mut self) {
        self.pending.clear();
        self.pages = Pages::new(SLAB_BYTES as u32, 1 << 20);
        self.partition = match &self.checkpoint {
            Some(state) => Partition::restore(&mut self.slab, &mut self.pages, state, self.segment_bytes)
                .unwrap_or_else(|error| panic!("seed {}: {error}", self.seed)),
            None => Partition::new(partition_id(), LeaderEpoch(1), self.segment_bytes),
        };
        if let Some((base, file)) = self.partition.active_segment() {
            let length = self.written[&file].len() as u32;
            self.partition.grown(base, length);
        }
        let journal = core::mem::take(&mut self.journal);
        for journaled in &journal {
            while self.replay(&journaled.record) == Replayed::Drain {
                self.drain();
            }
            // An entry given twice changes nothing (J5).
            assert_eq!(self.replay(&journaled.record), Replayed::Already, "seed {}", self.seed);
        }
        self.journal = journal;
        if self.random.below(2) == 0 {
            self.drain();
        }
    }

    fn replay(&mut self, record: &Record) -> Replayed {
        let entry = match record {
            Record::Data { appended, bytes } => ReplayEntry::Data {
                segment: appended.segment,
                position: appended.position,
                arrival: appended.arrival,
                batches: bytes,
            },
            Record::Bulk { payload, .. } => return self.replay_bulk(payload),
            Record::LogStart(offset) => ReplayEntry::LogStart { offset: *offset },
        };
        self.apply(entry)
    }

    /// With or without a look at the file. A byte that is another one there never passes (B1).
    fn replay_bulk(&mut self, payload: &[u8]) -> Replayed {
        if self.random.below(2) == 0 {
            return self.apply(ReplayEntry::BulkRef { payload, run: Run::Whole });
        }
        self.drain();
        let read = self.partition.run_to_read(payload).unwrap();
        let Some(read) = read else { return self.apply(ReplayEntry::BulkRef { payload, run: Run::Whole }) };
        let at = read.at as usize;
        let mut run = self.written[&read.file][at..at + read.len as usize].to_vec();
        let rotten = self.random.below(run.len() as u64) as usize;
        run[rotten] ^= 1;
        let torn = self.apply(ReplayEntry::BulkRef { payload, run: Run::Read(&run) });
        assert_eq!(torn, Replayed::Torn, "seed {}: byte {rotten} of {read:?}", self.seed);
        run[rotten] ^= 1;
        self.apply(ReplayEntry::BulkRef { payload, run: Run::Read(&run) })
    }

    fn apply(&mut self, entry: ReplayEntry<'_>) -> Replayed {
        self.partition
            .replay(&mut self.slab, &mut self.pages, entry)
            .unwrap_or_else(|error| panic!("seed {}: {error}", self.seed))
    }

    fn finish_recovery(&mut self) {
        let epoch = LeaderEpoch(self.partition.epoch().0 + 1);
        self.partition.end_replay(epoch);
        if self.random.below(100) < self.skip_share {
            for _ in 0..=self.random.below(2) {
                self.skipped = Offset(self.partition.next_offset().0 + 1 + self.random.below(3_000) as i64);
                self.partition.skip_to(self.skipped);
            }
            assert_eq!(self.partition.next_offset(), self.skipped, "seed {}", self.seed);
        }
        // The journal's entries of this life have other tail positions now; a checkpoint makes them dispensable.
        self.sequence += 1;
        self.durable_sequence = self.sequence;
        let end = self.partition.end();
        self.partition.set_durable(end, self.sequence);
        self.drain();
        self.write_checkpoint();
        assert!(self.journal.is_empty(), "seed {}: nothing is left to replay", self.seed);
    }

    /// Carries out everything until nothing is left to do.
    pub(crate) fn drain(&mut self) {
        loop {
            self.issue();
            while let Some(plan) = self.partition.next_flush() {
                let blocks = unflushed(&self.written, &self.flushed, plan.file);
                self.pending.push(Pending::Flush(plan, blocks));
            }
            if self.pending.is_empty() {
                break;
            }
            while !self.pending.is_empty() {
                self.complete_one();
            }
        }
        self.partition.evict(&mut self.slab, &mut self.pages, 0);
    }
}

fn unflushed(
    written: &BTreeMap<FileName, Vec<u8>>,
    flushed: &BTreeMap<FileName, Vec<u8>>,
    file: FileName,
) -> Vec<(u64, Vec<u8>)> {
    let blocks = written[&file].chunks(BLOCK_BYTES).zip(flushed[&file].chunks(BLOCK_BYTES));
    let differing = blocks.enumerate().filter(|(_, (new, old))| new != old);
    differing.map(|(index, (new, _))| ((index * BLOCK_BYTES) as u64, new.to_vec())).collect()
}
