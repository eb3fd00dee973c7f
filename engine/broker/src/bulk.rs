//! Large batches on their way straight to their segment (STORAGE.md section 2).
//!
//! Written by the partition's own writes, durable, at full length; only then does the reference enter a group (B1).
//! While one is under way the partition's later batches wait behind it (B2).

use alloc::vec::Vec;

use cutwater_journal::{EntryHead, EntryKind};
use cutwater_log::{Appended, BulkPlan, BulkRef};
use cutwater_model::storage::StorageErrorKind;
use cutwater_model::{ErrorKind, Now, Offset};

use crate::effect::{Effect, Effects};
use crate::partition::{Slot, Stage};
use crate::produce::Pending;
use crate::shard::{Purpose, Shard};

/// The bulk batch of one partition.
#[derive(Debug)]
pub(crate) struct Bulk {
    appended: Appended,
    pending: Pending,
    plan: Option<BulkPlan>,
    writes_left: usize,
    begun_us: u64,
}

impl Shard {
    /// A large batch was appended to the tail.
    pub(crate) fn start_bulk(
        &mut self,
        slot: Slot,
        appended: &Appended,
        pending: Pending,
        now: Now,
        effects: &mut Effects,
    ) {
        let bulk = Bulk { appended: *appended, pending, plan: None, writes_left: 0, begun_us: now.mono_us };
        if let Some(owned) = self.partitions.get_mut(slot) {
            owned.bulk = Some(bulk);
        }
        self.plan_bulk(slot, effects);
    }

    /// Hands out the writes of a bulk batch, once its segment is ready for it.
    pub(crate) fn plan_bulk(&mut self, slot: Slot, effects: &mut Effects) {
        let Some(owned) = self.partitions.get_mut(slot) else { return };
        let Some(bulk) = owned.bulk.as_mut().filter(|bulk| bulk.plan.is_none()) else { return };
        let Some(plan) = owned.log.begin_bulk(&self.slab, &bulk.appended) else {
            // Its segment is being opened, or an earlier one is still being written.
            self.files.wants_space(slot);
            self.settle.hurry(slot);
            return;
        };
        bulk.writes_left = plan.writes.len();
        self.counters.bulk_runs += 1;
        for (index, write) in plan.writes.iter().enumerate() {
            owned.ops += 1;
            self.counters.bulk_bytes += u64::from(write.memory.len);
            let op = self.ops.start(Purpose::Bulk(slot, index as u32));
            let (file, at, memory) = (write.file, write.at, write.memory);
            effects.push(Effect::Write { op, file, at, memory, durable: true });
        }
        let is_written = plan.writes.is_empty();
        bulk.plan = Some(plan);
        if is_written {
            self.refer_to_bulk(slot);
        }
    }

    /// One write of a bulk batch is durable, or failed.
    pub(crate) fn on_bulk_done(
        &mut self,
        slot: Slot,
        index: u32,
        result: Result<u32, StorageErrorKind>,
        now: Now,
        effects: &mut Effects,
    ) {
        let Some(owned) = self.partitions.get_mut(slot) else { return };
        owned.ops -= 1;
        let Some(bulk) = owned.bulk.as_mut() else { return };
        let Some(write) = bulk.plan.as_ref().and_then(|plan| plan.writes.get(index as usize)) else { return };
        bulk.writes_left -= 1;
        match result {
            Ok(_) => owned.log.written(&mut self.pages, write),
            Err(_) => owned.log.write_failed(&mut self.pages, write),
        }
        if bulk.writes_left > 0 {
            return;
        }
        self.stages.bulk.record(now.mono_us.saturating_sub(bulk.begun_us), 1);
        if owned.stage == Stage::Deleting {
            self.give_up_bulk(slot, ErrorKind::UnknownTopicOrPartition, effects);
            return;
        }
        if owned.log.is_fenced() {
            self.fence_partition(slot, result.err().unwrap_or(StorageErrorKind::Device), effects);
            return;
        }
        self.refer_to_bulk(slot);
    }

    /// A segment of the partition failed, or its topic is deleted: its large batch will not be journaled. One whose writes
    /// are under way is given up when they have come back.
    pub(crate) fn give_up_bulk(&mut self, slot: Slot, kind: ErrorKind, effects: &mut Effects) {
        let Some(owned) = self.partitions.get_mut(slot) else { return };
        let Some(failed) = owned.bulk.take_if(|bulk| bulk.writes_left == 0) else { return };
        owned.log.bulk_failed();
        if !failed.pending.is_answered {
            self.refuse(failed.pending.asker, kind, effects);
        }
    }

    /// The reference to a durable bulk batch enters the open group, or waits for room there.
    fn refer_to_bulk(&mut self, slot: Slot) {
        if !self.try_refer(slot) {
            self.referring.push(slot);
        }
    }

    /// References that found no room are tried again.
    pub(crate) fn retry_references(&mut self) {
        let mut waiting = core::mem::take(&mut self.referring);
        waiting.retain(|&slot| !self.try_refer(slot));
        self.referring = waiting;
    }

    fn try_refer(&mut self, slot: Slot) -> bool {
        let Some(owned) = self.partitions.get_mut(slot) else { return true };
        let Some(Bulk { appended, pending, plan: Some(plan), .. }) = &owned.bulk else { return true };
        let remainder = self.slab.get(plan.entry.remainder);
        if self.commit.has_failed {
            return true;
        }
        if !self.commit.make_room(&self.slab, BulkRef::BYTES + remainder.len(), self.now) {
            return false;
        }
        let remainder: Vec<u8> = remainder.to_vec();
        let head = EntryHead {
            kind: EntryKind::BulkRef,
            partition: owned.id,
            leader_epoch: owned.log.epoch(),
            base_offset: appended.base_offset,
            last_offset: Offset(appended.end.offset.0 - 1),
            segment_base: appended.segment,
            position: appended.position,
            bulk_bytes: appended.len,
            arrival: plan.entry.arrival,
        };
        let fixed = plan.entry.encode();
        let payload = [&fixed[..], &remainder];
        self.commit.push(&mut self.slab, &head, &payload, slot, &mut owned.mark, appended.end);
        self.commit.answer_later(*pending);
        owned.log.bulk_written(plan);
        owned.bulk = None;
        self.note_dirty(slot);
        self.hurry_unsettled(slot);
        true
    }
}
