//! Making files: the space of segments, new segments, index files, and the journal's own (J1, S4, S5).
//!
//! Names are made durable by one flush of everything for all that wait for one, so a thousand new segments cost a few
//! flushes and not several thousand.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use cutwater_log::{IndexFilePlan, OpenPlan, SpacePlan};
use cutwater_model::storage::StorageErrorKind;
use cutwater_model::{DirName, ErrorKind, FileName, Now, Offset, ShardId};

use crate::effect::{Effect, Effects};
use crate::partition::{Folder, Slot, Stage};
use crate::shard::{Purpose, Shard};

/// After a refusal, for want of space or for any other reason, files are asked for again no sooner than this,
/// microseconds.
const RETRY_US: u64 = 500_000;

/// What was asked of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A journal file is made.
    JournalFile { number: u32 },
    /// Its name is flushed.
    JournalName { number: u32 },
    /// A segment's file is lengthened.
    Extend { slot: Slot, base: Offset, to: u32 },
    /// A spare file for a segment is made.
    Spare { slot: Slot, file: FileName, bytes: u32 },
    /// The header block of a new segment is written.
    Header { slot: Slot, plan: OpenPlan },
    /// The file gets the segment's name.
    Rename { slot: Slot, plan: OpenPlan },
    /// An index file is made.
    Index { slot: Slot, plan: IndexFilePlan },
    /// A partition's folder is made.
    Folder { slot: Slot },
    /// A file is on its way into the pool.
    Recycle { number: u32, bytes: u32 },
    /// A file or a folder is removed; nobody waits for it.
    Remove,
    /// Everything is flushed.
    SyncAll,
}

/// What the files of a shard are doing.
#[derive(Debug)]
pub(crate) struct Files {
    shard: ShardId,
    /// Written files that wait for their next use: number, bytes.
    pub(crate) pool: Vec<(u32, u32)>,
    /// The next number in the pool.
    next_pooled: u32,
    /// Partitions to look at: they may need space, a segment, an index file.
    wanting: Vec<Slot>,
    /// New partitions, in the order in which they are made. One that somebody waits for may be made already.
    pub(crate) unmade: VecDeque<Slot>,
    /// Folders and spare files that are being made.
    pub(crate) making: usize,
    /// What waits for the next flush of everything.
    unflushed: Vec<Step>,
    /// What waits for the one under way.
    flushing: Vec<Step>,
    is_flushing: bool,
    /// Journal files that are still to be made, the next one last.
    missing_journal_files: Vec<u32>,
    is_making_journal_file: bool,
    /// The file system is full; appends that need space are refused until it isn't (E3).
    pub(crate) is_full: bool,
    retry_us: u64,
}

impl Files {
    /// The pool holds nothing yet; its files are numbered from `next_pooled` on.
    pub(crate) fn new(
        shard: ShardId,
        pool: Vec<(u32, u32)>,
        next_pooled: u32,
        mut missing: Vec<u32>,
    ) -> Self {
        missing.reverse();
        Self {
            shard,
            pool,
            next_pooled,
            wanting: Vec::new(),
            unmade: VecDeque::new(),
            making: 0,
            unflushed: Vec::new(),
            flushing: Vec::new(),
            is_flushing: false,
            missing_journal_files: missing,
            is_making_journal_file: false,
            is_full: false,
            retry_us: 0,
        }
    }

    /// The partition may need space.
    pub(crate) fn wants_space(&mut self, slot: Slot) {
        if self.wanting.last() != Some(&slot) {
            self.wanting.push(slot);
        }
    }

    /// Whether one more file may be kept.
    pub(crate) fn has_pool_room(&self, files_max: usize) -> bool {
        self.pool.len() < files_max
    }

    /// A name in the pool that was never used.
    pub(crate) fn pooled(&mut self) -> FileName {
        let number = self.next_pooled;
        self.next_pooled += 1;
        FileName::Pooled { shard: self.shard, number }
    }

    /// Whether nothing is being made that a stop has to wait for.
    pub(crate) fn is_idle(&self) -> bool {
        self.unflushed.is_empty() && !self.is_flushing
    }
}

impl Shard {
    /// Starts what files need, and one flush for all that wait for one.
    pub(crate) fn tend_files(&mut self, now: Now, effects: &mut Effects) {
        if now.mono_us >= self.files.retry_us {
            self.make_partitions(effects);
            let mut wanting = core::mem::take(&mut self.files.wanting);
            for slot in wanting.drain(..) {
                self.tend_partition_files(slot, effects);
            }
            wanting.append(&mut self.files.wanting);
            self.files.wanting = wanting;
            self.make_journal_file(effects);
        } else {
            effects.wake_at(self.files.retry_us);
        }
        self.flush_names(effects);
    }

    pub(crate) fn tend_partition_files(&mut self, slot: Slot, effects: &mut Effects) {
        let Some(owned) = self.partitions.get_mut(slot) else { return };
        // The slot may be on the list because of the partition that had it before.
        if owned.stage == Stage::Deleting {
            return;
        }
        if owned.folder == Folder::Missing {
            return self.make_partition(slot, effects);
        }
        if let Some(plan) = owned.log.needs_space() {
            self.make_space(slot, plan, effects);
        }
        if self.partitions.get(slot).is_none_or(|owned| owned.folder != Folder::There) {
            return;
        }
        while let Some(plan) = self
            .partitions
            .get_mut(slot)
            .and_then(|owned| owned.log.next_opening(&mut self.slab, &mut self.pages))
        {
            self.open_segment(slot, plan, effects);
        }
        while let Some(plan) = self.partitions.get_mut(slot).and_then(|owned| owned.log.next_index_file()) {
            let step = Step::Index { slot, plan };
            self.begin_step(slot);
            let op = self.ops.start(Purpose::Files(step));
            let bytes = u64::from(plan.bytes);
            effects.push(Effect::Create { op, file: plan.file, bytes, written: true, background: false });
        }
    }

    fn make_space(&mut self, slot: Slot, plan: SpacePlan, effects: &mut Effects) {
        self.begin_step(slot);
        match plan {
            SpacePlan::Extend { file, base, from, to } => {
                let op = self.ops.start(Purpose::Files(Step::Extend { slot, base, to }));
                effects.push(Effect::Extend { op, file, from: u64::from(from), to: u64::from(to) });
            }
            SpacePlan::Spare { bytes } => {
                // A recycled file is written already; the smallest that is large enough is taken.
                let fitting = self.files.pool.iter().enumerate().filter(|(_, pooled)| pooled.1 >= bytes);
                if let Some((index, _)) = fitting.min_by_key(|(_, pooled)| pooled.1) {
                    let (number, bytes) = self.files.pool.swap_remove(index);
                    let file = FileName::Pooled { shard: self.config.shard, number };
                    self.spare_made(slot, file, bytes);
                    return;
                }
                self.files.making += 1;
                let file = self.files.pooled();
                let op = self.ops.start(Purpose::Files(Step::Spare { slot, file, bytes }));
                let bytes = u64::from(bytes);
                effects.push(Effect::Create { op, file, bytes, written: false, background: false });
            }
        }
    }

    fn spare_made(&mut self, slot: Slot, file: FileName, bytes: u32) {
        self.end_step(slot);
        if let Some(owned) = self.partitions.get_mut(slot) {
            owned.log.spare(file, bytes);
            owned.open_if_made();
        }
        self.files.wants_space(slot);
    }

    fn open_segment(&mut self, slot: Slot, plan: OpenPlan, effects: &mut Effects) {
        let Some(from) = plan.from else {
            // Only replay knows segments without a spare, and it opens them itself.
            debug_assert!(false, "a running shard opens segments from spares");
            return;
        };
        self.begin_step(slot);
        let op = self.ops.start(Purpose::Files(Step::Header { slot, plan }));
        effects.push(Effect::Write { op, file: from, at: 0, memory: plan.header, durable: true });
    }

    fn begin_step(&mut self, slot: Slot) {
        if let Some(owned) = self.partitions.get_mut(slot) {
            owned.ops += 1;
        }
    }

    fn end_step(&mut self, slot: Slot) {
        if let Some(owned) = self.partitions.get_mut(slot) {
            owned.ops -= 1;
        }
    }

    /// One of the journal's files that are still missing is made, slowly and out of the way (J1).
    fn make_journal_file(&mut self, effects: &mut Effects) {
        // A stop needs none, but for one without which what was accepted does not get into the journal.
        let is_needed = !self.is_stopping || self.commit.is_full;
        if self.files.is_making_journal_file || !is_needed {
            return;
        }
        let Some(&number) = self.files.missing_journal_files.last() else { return };
        self.files.is_making_journal_file = true;
        effects.push(Effect::Create {
            op: self.ops.start(Purpose::Files(Step::JournalFile { number })),
            file: FileName::Journal { shard: self.config.shard, number },
            bytes: self.config.journal_file_bytes,
            written: true,
            background: true,
        });
    }

    fn flush_names(&mut self, effects: &mut Effects) {
        if self.files.is_flushing || self.files.unflushed.is_empty() {
            return;
        }
        self.files.is_flushing = true;
        core::mem::swap(&mut self.files.unflushed, &mut self.files.flushing);
        let op = self.ops.start(Purpose::Files(Step::SyncAll));
        effects.push(Effect::SyncAll { op });
    }

    /// A step was taken, or was not.
    pub(crate) fn on_files_done(
        &mut self,
        step: Step,
        result: Result<u32, StorageErrorKind>,
        now: Now,
        effects: &mut Effects,
    ) {
        match result {
            Ok(_) => self.on_step_taken(step, effects),
            Err(kind) => self.on_step_failed(step, kind, now, effects),
        }
    }

    fn on_step_taken(&mut self, step: Step, effects: &mut Effects) {
        match step {
            Step::JournalFile { number } => {
                let op = self.ops.start(Purpose::Files(Step::JournalName { number }));
                effects.push(Effect::SyncDir { op, dir: DirName::Journal(self.config.shard) });
            }
            Step::JournalName { number } => {
                self.commit.journal.add_file(number);
                self.files.missing_journal_files.pop();
                self.files.is_making_journal_file = false;
            }
            Step::Extend { slot, base, to } => {
                self.end_step(slot);
                if let Some(owned) = self.partitions.get_mut(slot) {
                    owned.log.grown(base, to);
                }
                self.files.is_full = false;
                self.files.wants_space(slot);
            }
            Step::Header { slot, plan } => {
                let from = plan.from.unwrap_or(plan.to);
                let op = self.ops.start(Purpose::Files(Step::Rename { slot, plan }));
                effects.push(Effect::Rename { op, from, to: plan.to });
            }
            // It is durable before it is used: its header is written so, and then its name (S4, S5).
            Step::Spare { slot, file, bytes } => {
                self.files.making -= 1;
                self.files.is_full = false;
                self.spare_made(slot, file, bytes);
            }
            // Flushed with the first name in it.
            Step::Folder { slot } => {
                self.files.making -= 1;
                self.end_step(slot);
                if let Some(owned) = self.partitions.get_mut(slot) {
                    owned.folder = Folder::There;
                    owned.open_if_made();
                }
                self.files.wants_space(slot);
            }
            // These count once their names are flushed.
            Step::Rename { .. } | Step::Index { .. } | Step::Recycle { .. } => {
                self.files.unflushed.push(step)
            }
            Step::Remove => self.departures.removing -= 1,
            Step::SyncAll => {
                self.files.is_flushing = false;
                let mut flushed = core::mem::take(&mut self.files.flushing);
                for step in flushed.drain(..) {
                    self.on_name_flushed(step, effects);
                }
                self.files.flushing = flushed;
            }
        }
    }

    fn on_name_flushed(&mut self, step: Step, effects: &mut Effects) {
        match step {
            Step::Rename { slot, plan } => {
                self.end_step(slot);
                if let Some(owned) = self.partitions.get_mut(slot) {
                    owned.log.opened(&mut self.pages, &plan);
                }
                self.files.wants_space(slot);
                self.settle.hurry(slot);
                // A bulk batch may have waited for nothing but this segment.
                self.plan_bulk(slot, effects);
            }
            Step::Index { slot, plan } => {
                self.end_step(slot);
                if let Some(owned) = self.partitions.get_mut(slot) {
                    owned.log.index_created(plan.base);
                }
                self.settle.hurry(slot);
            }
            Step::Recycle { number, bytes } => self.files.pool.push((number, bytes)),
            _ => {}
        }
    }

    fn on_step_failed(&mut self, step: Step, kind: StorageErrorKind, now: Now, effects: &mut Effects) {
        if kind == StorageErrorKind::Full {
            self.files.is_full = true;
        }
        // Whatever was refused is asked for again, but not at once. What is on its way out is not asked for again, and
        // holds up nobody.
        if !matches!(step, Step::Recycle { .. } | Step::Remove) {
            self.files.retry_us = now.mono_us + RETRY_US;
        }
        match step {
            Step::JournalFile { .. } | Step::JournalName { .. } => self.files.is_making_journal_file = false,
            Step::Extend { slot, .. } | Step::Spare { slot, .. } => {
                self.files.making -= usize::from(matches!(step, Step::Spare { .. }));
                self.end_step(slot);
                if let Some(owned) = self.partitions.get_mut(slot) {
                    owned.log.space_refused();
                }
                self.refuse_if_unmade(slot, kind, effects);
                self.files.wants_space(slot);
            }
            Step::Header { slot, plan } | Step::Rename { slot, plan } => {
                self.end_step(slot);
                if let Some(owned) = self.partitions.get_mut(slot) {
                    owned.log.opening_failed(&mut self.pages, &plan);
                }
                self.fence_partition(slot, &kind, effects);
            }
            Step::Index { slot, plan } => {
                self.end_step(slot);
                if let Some(owned) = self.partitions.get_mut(slot) {
                    owned.log.index_refused(plan.base);
                }
                self.files.wants_space(slot);
            }
            Step::Folder { slot } => {
                self.files.making -= 1;
                self.end_step(slot);
                if let Some(owned) = self.partitions.get_mut(slot) {
                    owned.folder = Folder::Missing;
                }
                self.refuse_if_unmade(slot, kind, effects);
                self.files.wants_space(slot);
            }
            Step::Remove => self.departures.removing -= 1,
            Step::Recycle { .. } => {}
            Step::SyncAll => {
                // A flush that failed says nothing about what it covered; no name of this round is used (E1).
                let failed = core::mem::take(&mut self.files.flushing);
                self.files.is_flushing = false;
                for step in failed {
                    self.on_step_failed(step, kind, now, effects);
                }
            }
        }
    }

    /// The disk is full for a partition that is being made. Of the batches that wait for another one those are refused
    /// that need the space, when they are tried again: not the retry of one that is on its way to be durable.
    fn refuse_if_unmade(&mut self, slot: Slot, kind: StorageErrorKind, effects: &mut Effects) {
        let is_opening = self.partitions.get(slot).is_some_and(|owned| owned.stage == Stage::Opening);
        if is_opening && kind == StorageErrorKind::Full {
            self.refuse_deferred(slot, ErrorKind::DiskFull, effects);
        }
    }
}

#[cfg(test)]
mod refusal_tests;
