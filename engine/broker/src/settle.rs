//! Settling: durable bytes go from memory to segments, segments are flushed, and written pages are given up (S1, C4).
//!
//! A partition with much to write is written back at once. The rest waits for the next checkpoint, which hurries
//! everybody. Flushes are few at a time, or one for all where many files wait, because each of them costs the
//! journal's own (STORAGE.md C4).

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt::Display;

use cutwater_log::{FlushPlan, Preread, WritePlan};
use cutwater_model::limits::{MEMORY_GROWTH_BYTES_PER_S, MEMORY_WARM_BYTES};
use cutwater_model::storage::StorageErrorKind;
use cutwater_model::{ErrorKind, MemoryRange, Now};

use crate::effect::{Effect, Effects};
use crate::partition::{Owned, Slot, Stage};
use crate::shard::{Purpose, Shard};

/// So many bytes of one partition at most are written by one operation.
const WRITE_BYTES_MAX: u32 = 256 * 1024;
/// From so many files on, one flush of everything is cheaper than one each.
const FLUSHES_EACH_MAX: usize = 32;
/// Partitions looked at for pages to give up, per turn.
const EVICTIONS_PER_TURN: u32 = 256;
/// After a look for pages to give up found none, the next one comes when so much more is used.
const EVICT_AGAIN_BYTES: u64 = 4 * 1024 * 1024;
/// What an evicted partition may keep in memory.
const KEEP_BYTES: u32 = 8 * 1024;
/// A partition that holds so much is flushed so that it can give pages up; the others wait for the next checkpoint.
const FLUSH_BYTES_LEAST: u32 = 4 * 1024 * 1024;
/// The share of its limit that memory is brought below when it is above, in percent.
const EVICT_TO_PERCENT: u64 = 75;

/// How much memory is used before pages are given up.
#[derive(Debug)]
struct Warm {
    bytes: u64,
    /// When it was looked at last.
    since_us: u64,
    is_used_up: bool,
}

impl Default for Warm {
    fn default() -> Self {
        Self { bytes: MEMORY_WARM_BYTES, since_us: 0, is_used_up: false }
    }
}

impl Warm {
    /// The limit now, where so much is used of at most `most`.
    fn limit(&mut self, used: u64, most: u64, now: Now) -> u64 {
        let elapsed_us = now.mono_us.saturating_sub(self.since_us).min(GROWTH_US_MAX);
        self.since_us = now.mono_us;
        if self.is_used_up {
            self.bytes = (self.bytes + MEMORY_GROWTH_BYTES_PER_S * elapsed_us / 1_000_000).min(most);
        }
        let limit = self.bytes.min(most);
        self.is_used_up = used > limit;
        limit
    }
}

/// Time without a look counts for so much growth at most, microseconds.
const GROWTH_US_MAX: u64 = 1_000_000;

/// What is being settled.
#[derive(Debug, Default)]
pub(crate) struct Settle {
    /// Partitions that have something to settle, oldest first.
    pub(crate) dirty: VecDeque<Slot>,
    /// Partitions to write back now.
    hurried: VecDeque<Slot>,
    /// Files that wait for a flush.
    unflushed: Vec<(Slot, FlushPlan)>,
    /// Files that the flush of everything under way covers.
    flushing: Vec<(Slot, FlushPlan)>,
    is_flushing_all: bool,
    writes_in_flight: usize,
    syncs_in_flight: usize,
    /// Plans under way, by their number in the operation's purpose.
    writes: Slots<(Slot, WritePlan)>,
    headers: Slots<(Slot, Preread, MemoryRange)>,
    syncs: Slots<(Slot, FlushPlan)>,
    /// Memory is short: whatever is written is flushed too, and given up.
    pub(crate) wants_memory: bool,
    /// More memory than this should not be used; it grows with time up to the configured share.
    memory: Warm,
    evict_next: u32,
    /// No look for pages to give up below this.
    evict_above: u64,
    retry_us: u64,
}

/// What an operation was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Write(u32),
    Header(u32),
    Sync(u32),
    SyncAll,
}

/// A small table of things under way.
#[derive(Debug)]
struct Slots<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    fn add(&mut self, value: T) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        self.slots[slot as usize] = Some(value);
        slot
    }

    fn take(&mut self, slot: u32) -> Option<T> {
        let value = self.slots.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some(value)
    }
}

impl Settle {
    /// The partition has work for the disk.
    pub(crate) fn hurry(&mut self, slot: Slot) {
        if self.hurried.back() != Some(&slot) {
            self.hurried.push_back(slot);
        }
    }

    /// The partition is written back from now on, until nothing is left.
    pub(crate) fn write_back(&mut self, slot: Slot, owned: &mut Owned) {
        if !core::mem::replace(&mut owned.is_hurried, true) {
            self.hurried.push_back(slot);
        }
    }

    /// Nothing is on its way to the disk.
    pub(crate) fn is_idle(&self) -> bool {
        self.writes_in_flight == 0
            && self.syncs_in_flight == 0
            && !self.is_flushing_all
            && self.unflushed.is_empty()
            && self.hurried.is_empty()
    }
}

impl Shard {
    /// Longer work, a bounded piece of it each turn.
    pub(crate) fn tend(&mut self, now: Now, effects: &mut Effects) {
        self.tend_files(now, effects);
        self.tend_topics(now, effects);
        self.tend_memory(now, effects);
        self.tend_checkpoint(now, effects);
        self.write_back(now, effects);
        self.flush(effects);
    }

    /// A partition has bytes that are not in its segment yet.
    #[inline]
    pub(crate) fn note_dirty(&mut self, slot: Slot) {
        let Some(owned) = self.partitions.get_mut(slot) else { return };
        if !core::mem::replace(&mut owned.is_dirty, true) {
            // What is deleted is settled no more, and the next partition in its slot is not dirty because it was.
            if owned.stage != Stage::Deleting {
                self.settle.dirty.push_back(slot);
            }
        }
        if owned.log.dirty_bytes() >= self.config.writeback_bytes_least {
            self.settle.write_back(slot, owned);
        }
        if owned.log.is_space_wanted() || owned.log.is_file_wanted() {
            self.files.wants_space(slot);
        }
    }

    /// A checkpoint waits for the partition, and something that held it up is over.
    pub(crate) fn hurry_unsettled(&mut self, slot: Slot) {
        let Some(owned) = self.partitions.get_mut(slot) else { return };
        if owned.is_unsettled {
            self.settle.write_back(slot, owned);
        }
    }

    /// Whether written pages should be flushed at once: a checkpoint waits for them, or memory does.
    fn flushes_now(&self) -> bool {
        self.settle.wants_memory || self.is_settling()
    }

    fn write_back(&mut self, now: Now, effects: &mut Effects) {
        if now.mono_us < self.settle.retry_us {
            effects.wake_at(self.settle.retry_us);
            return;
        }
        let mut looked_at = self.settle.hurried.len();
        while self.settle.writes_in_flight < self.config.writebacks_in_flight_max && looked_at > 0 {
            looked_at -= 1;
            let Some(slot) = self.settle.hurried.pop_front() else { break };
            if self.write_partition(slot, effects) {
                // There may be more of it, and others wait too.
                self.settle.hurried.push_back(slot);
                looked_at += 1;
            }
        }
        effects.more |= looked_at > 0 && self.settle.writes_in_flight == 0;
    }

    /// Hands out one write of a partition. Where there is none left, its flushes follow.
    fn write_partition(&mut self, slot: Slot, effects: &mut Effects) -> bool {
        let flushes_now = self.flushes_now();
        let uses_up_memory = self.settle.memory.is_used_up;
        self.read_header(slot, effects);
        let Some(owned) = self.partitions.get_mut(slot) else { return false };
        if let Some(plan) = owned.log.next_write(&mut self.slab, &mut self.pages, WRITE_BYTES_MAX) {
            owned.ops += 1;
            self.settle.writes_in_flight += 1;
            self.counters.writeback_bytes += u64::from(plan.memory.len);
            let number = self.settle.writes.add((slot, plan));
            let op = self.ops.start(Purpose::Settle(Step::Write(number)));
            let (file, at, memory) = (plan.file, plan.at, plan.memory);
            effects.push(Effect::Write { op, file, at, memory, durable: false });
            return true;
        }
        owned.is_hurried = false;
        if flushes_now || (uses_up_memory && owned.log.resident_bytes() >= FLUSH_BYTES_LEAST) {
            self.collect_flushes(slot);
        }
        false
    }

    /// Before the first write to a file that this life didn't make, its header is looked at (S5).
    fn read_header(&mut self, slot: Slot, effects: &mut Effects) {
        let Some(owned) = self.partitions.get_mut(slot) else { return };
        let Some(read) = owned.log.next_header() else { return };
        let Some(memory) = self.pages.allocate_reserved(read.len) else {
            owned.log.preread_unneeded(&read);
            self.settle.wants_memory = true;
            self.settle.hurry(slot);
            return;
        };
        owned.ops += 1;
        self.settle.writes_in_flight += 1;
        let number = self.settle.headers.add((slot, read, memory));
        let op = self.ops.start(Purpose::Settle(Step::Header(number)));
        effects.push(Effect::Read { op, file: read.file, at: read.at, memory });
    }

    fn collect_flushes(&mut self, slot: Slot) {
        self.settle.evict_above = 0;
        let Some(owned) = self.partitions.get_mut(slot) else { return };
        while let Some(plan) = owned.log.next_flush() {
            owned.ops += 1;
            self.settle.unflushed.push((slot, plan));
        }
        self.note_settled(slot);
    }

    fn flush(&mut self, effects: &mut Effects) {
        if self.settle.unflushed.len() > FLUSHES_EACH_MAX && !self.settle.is_flushing_all {
            self.settle.is_flushing_all = true;
            core::mem::swap(&mut self.settle.unflushed, &mut self.settle.flushing);
            let op = self.ops.start(Purpose::Settle(Step::SyncAll));
            effects.push(Effect::SyncAll { op });
        }
        while self.settle.syncs_in_flight < self.config.syncs_in_flight_max
            && self.settle.unflushed.len() <= FLUSHES_EACH_MAX
            && let Some((slot, plan)) = self.settle.unflushed.pop()
        {
            self.settle.syncs_in_flight += 1;
            self.counters.segment_syncs += 1;
            let number = self.settle.syncs.add((slot, plan));
            let op = self.ops.start(Purpose::Settle(Step::Sync(number)));
            effects.push(Effect::Sync { op, file: plan.file });
        }
    }

    /// A write or a flush came back.
    pub(crate) fn on_settle_done(
        &mut self,
        step: Step,
        result: Result<u32, StorageErrorKind>,
        now: Now,
        effects: &mut Effects,
    ) {
        match step {
            Step::Write(number) => {
                self.settle.writes_in_flight -= 1;
                if let Some((slot, plan)) = self.settle.writes.take(number) {
                    self.on_written(slot, &plan, result, effects);
                }
            }
            Step::Header(number) => {
                self.settle.writes_in_flight -= 1;
                if let Some((slot, read, memory)) = self.settle.headers.take(number) {
                    self.on_header_read(slot, &read, memory, result, effects);
                }
            }
            Step::Sync(number) => {
                self.settle.syncs_in_flight -= 1;
                if let Some((slot, plan)) = self.settle.syncs.take(number) {
                    self.on_flushed(slot, &plan, result, effects);
                }
            }
            Step::SyncAll => {
                self.settle.is_flushing_all = false;
                let mut flushed = core::mem::take(&mut self.settle.flushing);
                for (slot, plan) in flushed.drain(..) {
                    self.on_flushed(slot, &plan, result, effects);
                }
                self.settle.flushing = flushed;
            }
        }
        if result.is_err() {
            self.settle.retry_us = now.mono_us + 1000;
        }
    }

    fn on_written(
        &mut self,
        slot: Slot,
        plan: &WritePlan,
        result: Result<u32, StorageErrorKind>,
        effects: &mut Effects,
    ) {
        let Some(owned) = self.partitions.get_mut(slot) else { return };
        owned.ops -= 1;
        match result {
            Ok(_) => owned.log.written(&mut self.pages, plan),
            Err(kind) => {
                owned.log.write_failed(&mut self.pages, plan);
                self.fence_partition(slot, &kind, effects);
                return;
            }
        }
        if owned.is_unsettled || !owned.bulks.is_empty() || self.settle.wants_memory {
            self.settle.write_back(slot, owned);
        }
        self.plan_bulk(slot, effects);
    }

    fn on_header_read(
        &mut self,
        slot: Slot,
        read: &Preread,
        memory: MemoryRange,
        result: Result<u32, StorageErrorKind>,
        effects: &mut Effects,
    ) {
        self.take_preread(slot, read, memory, result, effects);
        self.pages.free(memory);
        let Some(owned) = self.partitions.get_mut(slot) else { return };
        owned.ops -= 1;
        self.settle.write_back(slot, owned);
        self.plan_bulk(slot, effects);
    }

    fn on_flushed(
        &mut self,
        slot: Slot,
        plan: &FlushPlan,
        result: Result<u32, StorageErrorKind>,
        effects: &mut Effects,
    ) {
        let Some(owned) = self.partitions.get_mut(slot) else { return };
        owned.ops -= 1;
        match result {
            Ok(_) => {
                owned.log.flushed(plan);
                self.settle.evict_above = 0;
            }
            Err(kind) => {
                owned.log.flush_failed(plan);
                self.fence_partition(slot, &kind, effects);
                return;
            }
        }
        if owned.is_unsettled {
            self.settle.write_back(slot, owned);
        }
        self.note_settled(slot);
    }

    /// A segment of a partition failed: it takes no appends any more, and is read as far as it can be (E2).
    pub(crate) fn fence_partition(&mut self, slot: Slot, why: &dyn Display, effects: &mut Effects) {
        let Some(owned) = self.partitions.get_mut(slot) else { return };
        if owned.stage == Stage::Open {
            owned.stage = Stage::Fenced;
            let id = owned.id;
            effects.push(Effect::Fence(alloc::format!(
                "partition {id} takes no appends: its segment could not be written: {why}"
            )));
        }
        self.give_up_bulks(slot, ErrorKind::StorageError, effects);
        self.refuse_deferred(slot, ErrorKind::StorageError, effects);
        self.settle_by_carrying(slot);
    }

    /// Gives up flushed pages, oldest first, while more memory is used than is good; while it is short, has more of
    /// them flushed.
    fn tend_memory(&mut self, now: Now, effects: &mut Effects) {
        let total = self.slab.len() as u64;
        let most = total * u64::from(self.config.memory_soft_percent) / 100;
        let high = total * u64::from(self.config.memory_high_percent) / 100;
        let used = u64::from(self.pages.used_bytes());
        let soft = self.settle.memory.limit(used, most, now);
        let is_short = used > high || self.settle.wants_memory;
        if used <= soft.max(self.settle.evict_above) && !is_short {
            return;
        }
        let slots = self.partitions.slots();
        let mut freed = 0;
        for _ in 0..slots.min(EVICTIONS_PER_TURN) {
            let slot = Slot(self.settle.evict_next % slots.max(1));
            self.settle.evict_next = (slot.0 + 1) % slots.max(1);
            let excess = u64::from(self.pages.used_bytes()).saturating_sub(soft * EVICT_TO_PERCENT / 100);
            if excess == 0 {
                break;
            }
            if let Some(owned) = self.partitions.get_mut(slot)
                && owned.log.resident_bytes() > KEEP_BYTES
            {
                let excess = u32::try_from(excess).unwrap_or(u32::MAX);
                let keep = owned.log.resident_bytes().saturating_sub(excess).max(KEEP_BYTES);
                freed += owned.log.evict(&mut self.slab, &mut self.pages, keep);
                let is_flushed_now = is_short || owned.log.resident_bytes() >= FLUSH_BYTES_LEAST;
                if is_flushed_now && owned.is_dirty {
                    self.settle.write_back(slot, owned);
                }
            }
        }
        // Where nothing could go, the next look is worth it only after more was used, or something was flushed.
        self.settle.evict_above = if freed == 0 { used + EVICT_AGAIN_BYTES } else { 0 };
        self.settle.wants_memory = used > high;
        if is_short && freed == 0 {
            effects.wake_at(now.mono_us + 1000);
        }
    }
}
