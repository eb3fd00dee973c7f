//! Checkpoints of a running shard (STORAGE.md section 4).
//!
//! One at a time: the place where replay would begin is taken; the journal becomes durable up to it; every partition
//! with entries before it is written and flushed; then one of the two copies is written and flushed. The copies take
//! turns, and a journal file is used again only when both are past it (C2).

use alloc::boxed::Box;
use alloc::vec::Vec;

use cutwater_journal::ReplayPlace;
use cutwater_journal::checkpoint::{
    CHECKPOINT_PIECE_BYTES, CheckpointHead, CheckpointWrite, CheckpointWriter, record_prefix,
};
use cutwater_log::{Covered, Partition as Log};
use cutwater_model::storage::StorageErrorKind;
use cutwater_model::topic::Durability;
use cutwater_model::{FileName, MemoryRange, Now, PartitionId, PartitionIndex, Slab, TopicId};

use crate::effect::{Effect, Effects};
use crate::partition::{Owned, Slot, Stage};
use crate::shard::{Purpose, Shard};

/// While a deleted topic waits for checkpoints, they come no closer together than this, microseconds.
const DEPARTURE_US: u64 = 1_000_000;
/// After a failure the next try waits so long, microseconds.
const RETRY_US: u64 = 1_000_000;

/// What one operation was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Extend(CheckpointWrite),
    Piece,
    Head,
    Sync,
}

/// The checkpoints of one shard.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    phase: Phase,
    generation: u64,
    /// The copy that is written next.
    copy: u8,
    /// How long the files are.
    file_bytes: [u64; 2],
    /// Memory for one piece.
    piece: MemoryRange,
    /// The journal's length when the last one began.
    last_sequence: u64,
    last_us: u64,
    /// How many bytes of large batches had been written when the last one began.
    last_bulk_bytes: u64,
    retry_us: u64,
    /// A flush of a copy failed: it is never trusted again, and the journal fills (E2).
    has_failed: bool,
    /// Checkpoints that a stop still waits for.
    pub(crate) wanted: u32,
}

#[derive(Debug)]
enum Phase {
    Idle,
    /// Until the journal is durable up to the place.
    Awaiting(ReplayPlace),
    /// Until so many partitions are settled.
    Settling(ReplayPlace, usize),
    Writing(Box<Writing>),
}

#[derive(Debug)]
struct Writing {
    from: ReplayPlace,
    writer: CheckpointWriter,
    /// The next partition to put in.
    next_slot: u32,
    record: Vec<u8>,
    /// How much of the record is in a piece already.
    record_done: usize,
    /// The partition whose state went in last, if its segment failed.
    carries: Option<Slot>,
    is_busy: bool,
}

impl Checkpoints {
    /// Both copies hold `head`.
    pub(crate) fn new(head: &CheckpointHead, file_bytes: [u64; 2], piece: MemoryRange, now: Now) -> Self {
        Self {
            phase: Phase::Idle,
            generation: head.generation,
            copy: 0,
            file_bytes,
            piece,
            last_sequence: head.from.after.sequence.0,
            last_us: now.mono_us,
            last_bulk_bytes: 0,
            retry_us: 0,
            has_failed: false,
            wanted: 0,
        }
    }

    /// Whether no checkpoint will be written any more.
    pub(crate) const fn has_failed(&self) -> bool {
        self.has_failed
    }

    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }
}

impl Shard {
    pub(crate) const fn is_settling(&self) -> bool {
        matches!(self.checkpoints.phase, Phase::Settling(..))
    }

    /// When the next checkpoint is due by time, if there is anything for it.
    pub(crate) fn checkpoint_due_us(&self) -> Option<u64> {
        let has_work = self.commit.journal.submitted().0 > self.checkpoints.last_sequence;
        let wait_us = match (self.departures.wait_for_checkpoint(), has_work) {
            (true, _) => DEPARTURE_US,
            (false, true) => self.config.checkpoint_us,
            (false, false) => return None,
        };
        (!self.checkpoints.has_failed).then(|| self.checkpoints.last_us + wait_us)
    }

    fn is_checkpoint_due(&self, now: Now) -> bool {
        let used_bytes = self.commit.journal.used_bytes();
        let by_time = self.checkpoint_due_us().is_some_and(|due_us| now.mono_us >= due_us);
        let since_bytes = self.commit.bytes_submitted - self.commit.bytes_at_checkpoint;
        let bulk_bytes = self.counters.bulk_bytes - self.checkpoints.last_bulk_bytes;
        let by_bytes = since_bytes >= self.config.checkpoint_bytes
            || bulk_bytes >= self.config.checkpoint_bulk_bytes
            || self.commit.is_full;
        used_bytes > 0 && (by_time || by_bytes) || self.checkpoints.wanted > 0
    }

    pub(crate) fn tend_checkpoint(&mut self, now: Now, effects: &mut Effects) {
        match &self.checkpoints.phase {
            Phase::Idle => {
                let may_begin = !self.checkpoints.has_failed && now.mono_us >= self.checkpoints.retry_us;
                if may_begin && self.is_checkpoint_due(now) {
                    self.begin_checkpoint(now);
                }
            }
            Phase::Awaiting(from) => {
                if self.commit.journal.durable() >= from.after.sequence {
                    let from = *from;
                    self.hurry_all(from);
                }
            }
            Phase::Settling(from, 0) => {
                let from = *from;
                self.begin_writing(from);
            }
            Phase::Settling(..) => {}
            Phase::Writing(_) => {}
        }
        self.fill_piece(effects);
    }

    fn begin_checkpoint(&mut self, now: Now) {
        let from = self.commit.journal.next_place();
        self.checkpoints.last_sequence = from.after.sequence.0;
        self.checkpoints.last_us = now.mono_us;
        self.checkpoints.last_bulk_bytes = self.counters.bulk_bytes;
        self.commit.bytes_at_checkpoint = self.commit.bytes_submitted;
        self.checkpoints.phase = Phase::Awaiting(from);
        if self.commit.journal.durable() >= from.after.sequence {
            self.hurry_all(from);
        }
    }

    /// Every partition with entries before the place is written back and flushed.
    fn hurry_all(&mut self, from: ReplayPlace) {
        let dirty = core::mem::take(&mut self.settle.dirty);
        let mut unsettled = 0;
        for &slot in &dirty {
            let Some(owned) = self.partitions.get_mut(slot) else { continue };
            // What a failed segment may lack goes into the checkpoint; where it can't, the journal keeps it.
            if owned.log.is_fenced() && owned.log.can_carry() {
                continue;
            }
            owned.is_unsettled = true;
            unsettled += 1;
            self.settle.write_back(slot, owned);
        }
        self.settle.dirty = dirty;
        self.checkpoints.phase = Phase::Settling(from, unsettled);
    }

    /// Now and then, while a checkpoint waits and nothing is under way, everybody it waits for is looked at again.
    pub(crate) fn look_at_unsettled(&mut self) {
        if !self.is_settling() || !self.settle.is_idle() {
            return;
        }
        for slot in (0..self.partitions.slots()).map(Slot) {
            self.hurry_unsettled(slot);
        }
    }

    /// A partition may be settled now as far as the checkpoint under way asks.
    pub(crate) fn note_settled(&mut self, slot: Slot) {
        let Phase::Settling(from, unsettled) = &mut self.checkpoints.phase else { return };
        let Some(owned) = self.partitions.get_mut(slot) else { return };
        if !owned.is_unsettled {
            return;
        }
        let flushed = owned.log.flushed_end();
        // A reference before the place to a batch that is not whole yet is still needed.
        let needed = owned.needed_from();
        let is_all = flushed.end.offset >= owned.log.durable().offset
            && needed.is_none_or(|needed| needed > from.after.sequence);
        if is_all || flushed.sequence >= from.after.sequence.0 {
            owned.is_unsettled = false;
            *unsettled = unsettled.saturating_sub(1);
        }
    }

    /// A segment of the partition failed: its bytes are carried, and no checkpoint waits for them (E2).
    pub(crate) fn settle_by_carrying(&mut self, slot: Slot) {
        if self.partitions.get(slot).is_some_and(|owned| owned.log.can_carry()) {
            self.forget_unsettled(slot);
        }
    }

    /// A partition is deleted: no checkpoint waits for it.
    pub(crate) fn forget_unsettled(&mut self, slot: Slot) {
        let Some(owned) = self.partitions.get_mut(slot) else { return };
        if core::mem::take(&mut owned.is_unsettled)
            && let Phase::Settling(_, unsettled) = &mut self.checkpoints.phase
        {
            *unsettled = unsettled.saturating_sub(1);
        }
    }

    fn begin_writing(&mut self, from: ReplayPlace) {
        let mut dirty = core::mem::take(&mut self.settle.dirty);
        dirty.retain(|&slot| {
            let Some(owned) = self.partitions.get_mut(slot) else { return false };
            owned.is_dirty = owned.log.flushed_end().end.offset < owned.log.end().offset;
            owned.is_dirty
        });
        self.settle.dirty = dirty;
        let head = CheckpointHead {
            shard: self.config.shard,
            generation: self.checkpoints.generation + 1,
            from,
            journal_file_bytes: self.config.journal_file_bytes,
            names_all: self.has_settled_for_good(),
            ..CheckpointHead::default()
        };
        self.checkpoints.phase = Phase::Writing(Box::new(Writing {
            from,
            writer: CheckpointWriter::new(head),
            next_slot: 0,
            record: Vec::new(),
            record_done: 0,
            carries: None,
            is_busy: false,
        }));
    }

    /// Whether this shard stops, and has shown nothing that the checkpoint begun now doesn't name: then the next start
    /// has no offsets to skip.
    fn has_settled_for_good(&self) -> bool {
        let is_named = |owned: &Owned| {
            let is_settled = owned.log.flushed_end().end.offset >= owned.log.end().offset;
            owned.config.durability != Durability::Memory
                || owned.stage == Stage::Deleting
                || owned.stage != Stage::Fenced && is_settled
        };
        // A shard that stops takes no appends.
        self.is_stopping
            && !self.commit.has_failed
            && self.commit.is_idle()
            && self.partitions.iter().all(|(_, owned)| is_named(owned))
    }

    /// Puts partitions into one piece and writes it; the next turn goes on. At the end the head follows.
    fn fill_piece(&mut self, effects: &mut Effects) {
        if !matches!(self.checkpoints.phase, Phase::Writing(_)) {
            return;
        }
        let Phase::Writing(mut writing) = core::mem::replace(&mut self.checkpoints.phase, Phase::Idle) else {
            return;
        };
        if writing.is_busy {
            self.checkpoints.phase = Phase::Writing(writing);
            return;
        }
        writing.is_busy = true;
        let copy = usize::from(self.checkpoints.copy);
        let memory = self.checkpoints.piece;
        let is_last = self.fill(&mut writing);
        let piece = self.slab.get_mut(memory);
        if let Some(write) = writing.writer.take(piece) {
            let _ = is_last;
            let end = write.at + u64::from(write.bytes);
            if end > self.checkpoints.file_bytes[copy] {
                let op = self.ops.start(Purpose::Checkpoint(Step::Extend(write)));
                let from = self.checkpoints.file_bytes[copy];
                let to = (end + end / 4).next_multiple_of(CHECKPOINT_PIECE_BYTES as u64);
                self.checkpoints.file_bytes[copy] = to;
                effects.push(Effect::Extend { op, file: self.checkpoint_file(), from, to });
            } else {
                self.write_piece(write, effects);
            }
        } else {
            // Nothing is left: the head makes the copy whole.
            let head =
                core::mem::replace(&mut writing.writer, CheckpointWriter::new(CheckpointHead::default()));
            let write = head.finish(piece);
            let op = self.ops.start(Purpose::Checkpoint(Step::Head));
            let memory = MemoryRange { at: memory.at, len: write.bytes };
            effects.push(Effect::Write {
                op,
                file: self.checkpoint_file(),
                at: write.at,
                memory,
                durable: false,
            });
        }
        self.checkpoints.phase = Phase::Writing(writing);
    }

    /// Copies records into the piece until it is full; says whether all are in.
    fn fill(&mut self, writing: &mut Writing) -> bool {
        loop {
            while writing.record_done < writing.record.len() {
                let rest = &writing.record[writing.record_done..];
                let taken = writing.writer.push(self.slab.get_mut(self.checkpoints.piece), rest);
                writing.record_done += taken;
                if taken < rest.len() {
                    return false;
                }
            }
            if !self.next_record(writing) {
                return true;
            }
        }
    }

    fn next_record(&mut self, writing: &mut Writing) -> bool {
        if let Some(slot) = writing.carries.take()
            && self.carry_record(writing, slot)
        {
            return true;
        }
        let copy = usize::from(self.checkpoints.copy);
        while writing.next_slot < self.partitions.slots() {
            let slot = Slot(writing.next_slot);
            writing.next_slot += 1;
            let Some(owned) = self.partitions.get_mut(slot) else { continue };
            // What is opening has nothing yet, not even a folder: the image brings it back.
            if matches!(owned.stage, Stage::Deleting | Stage::Opening) {
                continue;
            }
            writing.record.clear();
            writing.record_done = 0;
            writing.record.extend_from_slice(&[0; 4]);
            owned.log.snapshot(&self.slab, &mut writing.record);
            let prefix = record_prefix(writing.record.len() as u32 - 4);
            writing.record[..4].copy_from_slice(&prefix);
            owned.named[copy] = owned.log.flushed_end();
            writing.carries = owned.log.is_fenced().then_some(slot);
            return true;
        }
        false
    }

    /// What a failed partition's segment may lack follows its state, as a record of its own (E2).
    fn carry_record(&mut self, writing: &mut Writing, slot: Slot) -> bool {
        let Some(owned) = self.partitions.get_mut(slot) else { return false };
        writing.record.clear();
        writing.record_done = 0;
        writing.record.extend_from_slice(&[0; 4]);
        let carries = carry(&owned.log, &self.slab, &mut writing.record);
        let prefix = record_prefix(writing.record.len() as u32 - 4);
        writing.record[..4].copy_from_slice(&prefix);
        carries
    }

    fn checkpoint_file(&self) -> FileName {
        FileName::Checkpoint { shard: self.config.shard, copy: self.checkpoints.copy }
    }

    fn write_piece(&mut self, write: CheckpointWrite, effects: &mut Effects) {
        let op = self.ops.start(Purpose::Checkpoint(Step::Piece));
        let memory = MemoryRange { at: self.checkpoints.piece.at, len: write.bytes };
        effects.push(Effect::Write {
            op,
            file: self.checkpoint_file(),
            at: write.at,
            memory,
            durable: false,
        });
    }

    pub(crate) fn on_checkpoint_done(
        &mut self,
        step: Step,
        result: Result<u32, StorageErrorKind>,
        now: Now,
        effects: &mut Effects,
    ) {
        if let Err(kind) = result {
            self.on_checkpoint_failed(step, kind, now, effects);
            return;
        }
        match step {
            Step::Extend(write) => self.write_piece(write, effects),
            Step::Piece => {
                if let Phase::Writing(writing) = &mut self.checkpoints.phase {
                    writing.is_busy = false;
                }
                self.fill_piece(effects);
            }
            Step::Head => {
                let op = self.ops.start(Purpose::Checkpoint(Step::Sync));
                effects.push(Effect::Sync { op, file: self.checkpoint_file() });
            }
            Step::Sync => self.on_checkpointed(effects),
        }
    }

    fn on_checkpoint_failed(&mut self, step: Step, kind: StorageErrorKind, now: Now, effects: &mut Effects) {
        self.checkpoints.phase = Phase::Idle;
        self.checkpoints.retry_us = now.mono_us + RETRY_US;
        if let Step::Extend(_) = step {
            // The file is as long as it was, or longer; it is asked for anew.
            self.checkpoints.file_bytes[usize::from(self.checkpoints.copy)] = 0;
        }
        if kind != StorageErrorKind::Full {
            self.checkpoints.has_failed = true;
            effects.push(Effect::Fence(alloc::format!(
                "{} could not be written: {kind}; the journal fills until the node is restarted",
                self.checkpoint_file()
            )));
        }
    }

    /// One copy is durable.
    fn on_checkpointed(&mut self, effects: &mut Effects) {
        if !matches!(self.checkpoints.phase, Phase::Writing(_)) {
            return;
        }
        let Phase::Writing(writing) = core::mem::replace(&mut self.checkpoints.phase, Phase::Idle) else {
            return;
        };
        self.commit.journal.checkpointed(self.checkpoints.copy, writing.from);
        self.commit.is_full = false;
        self.checkpoints.generation += 1;
        self.checkpoints.copy = 1 - self.checkpoints.copy;
        self.checkpoints.wanted = self.checkpoints.wanted.saturating_sub(1);
        self.counters.checkpoints += 1;
        for slot in (0..self.partitions.slots()).map(Slot) {
            if let Some(owned) = self.partitions.get_mut(slot) {
                // Only what both copies are past is past for good.
                let [first, second] = owned.named;
                owned.log.checkpointed(earlier(first, second));
            }
        }
        self.gone_after_checkpoint(effects);
        effects.more = true;
    }
}

fn earlier(first: Covered, second: Covered) -> Covered {
    if first.end <= second.end { first } else { second }
}

/// The first two bytes of a record that is no partition's state, which begin with its version.
pub(crate) const CARRY_TAG: u16 = 0xca77;
/// A carry record begins with its tag, two zeros, and the partition's index and topic.
pub(crate) const CARRY_HEAD_BYTES: usize = 24;

/// Appends a carry record to `record`. False: there is nothing to carry.
pub(crate) fn carry(log: &Log, slab: &Slab, record: &mut Vec<u8>) -> bool {
    record.extend_from_slice(&carry_head(log.id()));
    let before = record.len();
    log.carry(slab, record);
    record.len() > before
}

fn carry_head(id: PartitionId) -> [u8; CARRY_HEAD_BYTES] {
    let mut head = [0; CARRY_HEAD_BYTES];
    head[..2].copy_from_slice(&CARRY_TAG.to_le_bytes());
    head[4..8].copy_from_slice(&id.index.0.to_le_bytes());
    head[8..].copy_from_slice(&id.topic.0.to_le_bytes());
    head
}

/// The partition of a carry record and the batches in it; `None` for a record of another kind.
pub(crate) fn carry_of(record: &[u8]) -> Option<(PartitionId, &[u8])> {
    let (head, batches) = record.split_first_chunk::<CARRY_HEAD_BYTES>()?;
    if head[..2] != CARRY_TAG.to_le_bytes() {
        return None;
    }
    let index = head[4..8].try_into().map(u32::from_le_bytes).ok()?;
    let topic = head[8..].try_into().map(u128::from_le_bytes).ok()?;
    Some((PartitionId { topic: TopicId(topic), index: PartitionIndex(index) }, batches))
}
