//! Large batches on their way straight to their segment (STORAGE.md section 2).
//!
//! Written by the partition's own writes, durable, at full length. The reference to such a batch is journaled meanwhile;
//! the batch is acknowledged, and shown, when both are durable and so are those before it (B1). Several may be under way,
//! and their references enter the groups in the order of their offsets. Smaller batches, whose bytes the journal
//! carries, wait until those before them are whole, so that their entries prove it to a recovery (B2).

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use cutwater_journal::{EntryHead, EntryKind, Sequence};
use cutwater_log::{Appended, BulkPlan, BulkRef};
use cutwater_model::storage::StorageErrorKind;
use cutwater_model::{ErrorKind, Now};

use crate::effect::{Effect, Effects};
use crate::partition::{Slot, Stage};
use crate::produce::Pending;
use crate::shard::{Purpose, Shard};

/// A bulk batch of a partition.
#[derive(Debug)]
pub(crate) struct Bulk {
    number: u32,
    appended: Appended,
    pending: Pending,
    plan: Option<BulkPlan>,
    writes_left: usize,
    reference: Reference,
    begun_us: u64,
}

/// Where the journal's reference to a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reference {
    /// In no group yet.
    Due,
    /// In a group that is open or on its way.
    Journaled,
    /// In this durable group.
    Durable(Sequence),
}

impl Bulk {
    /// All of it is durable in the segment.
    fn is_whole(&self) -> bool {
        self.plan.is_some() && self.writes_left == 0
    }

    /// The durable group that the batch needs until it is done.
    pub(crate) fn needed_from(&self) -> Option<Sequence> {
        match self.reference {
            Reference::Durable(sequence) => Some(sequence),
            Reference::Due | Reference::Journaled => None,
        }
    }
}

/// Whether all large batches under way are durable in the segment and have their references in groups.
pub(crate) fn are_whole(bulks: &VecDeque<Bulk>) -> bool {
    bulks.iter().all(|bulk| bulk.is_whole() && bulk.reference != Reference::Due)
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
        if let Some(owned) = self.partitions.get_mut(slot) {
            let number = owned.bulks.back().map_or(0, |last| last.number.wrapping_add(1));
            let (appended, begun_us) = (*appended, now.mono_us);
            let reference = Reference::Due;
            owned.bulks.push_back(Bulk {
                number,
                appended,
                pending,
                plan: None,
                writes_left: 0,
                reference,
                begun_us,
            });
        }
        self.plan_bulk(slot, effects);
    }

    /// Hands out the writes of the newest bulk batch, once its segment is ready for it.
    pub(crate) fn plan_bulk(&mut self, slot: Slot, effects: &mut Effects) {
        let Some(owned) = self.partitions.get_mut(slot) else { return };
        let Some(bulk) = owned.bulks.back_mut().filter(|bulk| bulk.plan.is_none()) else { return };
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
            let op = self.ops.start(Purpose::Bulk(slot, bulk.number, index as u32));
            let (file, at, memory) = (write.file, write.at, write.memory);
            effects.push(Effect::Write { op, file, at, memory, durable: true });
        }
        bulk.plan = Some(plan);
        self.refer_to_bulks(slot);
    }

    /// One write of a bulk batch is durable, or failed.
    pub(crate) fn on_bulk_done(
        &mut self,
        slot: Slot,
        number: u32,
        index: u32,
        result: Result<u32, StorageErrorKind>,
        now: Now,
        effects: &mut Effects,
    ) {
        let Some(owned) = self.partitions.get_mut(slot) else { return };
        owned.ops -= 1;
        let Some(bulk) = owned.bulks.iter_mut().find(|bulk| bulk.number == number) else { return };
        let Some(write) = bulk.plan.as_ref().and_then(|plan| plan.writes.get(index as usize)) else { return };
        bulk.writes_left -= 1;
        match result {
            Ok(_) => owned.log.written_durably(&mut self.pages, write),
            Err(_) => owned.log.write_failed(&mut self.pages, write),
        }
        if bulk.writes_left > 0 {
            return;
        }
        self.stages.bulk.record(now.mono_us.saturating_sub(bulk.begun_us), 1);
        if owned.stage == Stage::Deleting {
            self.give_up_bulks(slot, ErrorKind::UnknownTopicOrPartition, effects);
            return;
        }
        if owned.log.is_fenced() {
            self.fence_partition(slot, &result.err().unwrap_or(StorageErrorKind::Device), effects);
            return;
        }
        if self.commit.has_failed {
            self.give_up_bulks(slot, ErrorKind::StorageError, effects);
            return;
        }
        while self.end_bulk(slot, effects) {}
    }

    /// A segment of the partition failed, or its topic is deleted: its large batches will not be journaled. Those whose
    /// writes are under way are given up when they have come back.
    pub(crate) fn give_up_bulks(&mut self, slot: Slot, kind: ErrorKind, effects: &mut Effects) {
        let Some(owned) = self.partitions.get_mut(slot) else { return };
        let mut refused = Vec::new();
        owned.bulks.retain(|bulk| {
            if bulk.writes_left == 0 {
                owned.log.bulk_failed(bulk.plan.as_ref());
                refused.push(bulk.pending);
            }
            bulk.writes_left > 0
        });
        for pending in refused.iter().filter(|pending| !pending.is_answered) {
            self.refuse(pending.asker, kind, effects);
        }
    }

    /// References to bulk batches enter the open group, in the order of their offsets, or wait for room there.
    fn refer_to_bulks(&mut self, slot: Slot) {
        if !self.try_refer(slot) && !self.referring.contains(&slot) {
            self.referring.push(slot);
        }
    }

    /// References that found no room are tried again.
    pub(crate) fn retry_references(&mut self) {
        let mut waiting = core::mem::take(&mut self.referring);
        waiting.retain(|&slot| !self.try_refer(slot));
        self.referring = waiting;
    }

    /// False: there was no room for one of them.
    fn try_refer(&mut self, slot: Slot) -> bool {
        while let Some(owned) = self.partitions.get_mut(slot)
            && !self.commit.has_failed
            && let Some(index) = owned.bulks.iter().position(|bulk| bulk.reference == Reference::Due)
            && let Some(bulk) = owned.bulks.get(index)
            && let Some(plan) = &bulk.plan
        {
            let remainder = owned.log.bulk_remainder(plan);
            let payload_bytes = BulkRef::BYTES + remainder.len as usize;
            if !self.commit.make_room(&self.slab, payload_bytes, self.now) {
                return false;
            }
            self.scratch.clear();
            self.scratch.extend_from_slice(self.slab.get(remainder));
            let head = EntryHead {
                bulk_bytes: bulk.appended.len,
                arrival: plan.entry.arrival,
                ..owned.entry_head(EntryKind::BulkRef, &bulk.appended)
            };
            let earliest = owned.bulks.range(..index).find(|earlier| !earlier.is_whole()).unwrap_or(bulk);
            let fixed = BulkRef { whole_before: earliest.appended.base_offset, ..plan.entry }.encode();
            let payload = [&fixed[..], &self.scratch];
            owned.referred_in =
                self.commit.push_reference(&mut self.slab, &head, &payload, slot, bulk.number);
            if let Some(bulk) = owned.bulks.get_mut(index) {
                bulk.reference = Reference::Journaled;
            }
            self.note_dirty(slot);
        }
        true
    }

    /// The group with the reference to a bulk batch is durable.
    pub(crate) fn reference_durable(&mut self, slot: Slot, number: u32, sequence: Sequence) {
        let Some(owned) = self.partitions.get_mut(slot) else { return };
        if let Some(bulk) = owned.bulks.iter_mut().find(|bulk| bulk.number == number) {
            bulk.reference = Reference::Durable(sequence);
        }
    }

    /// Goes on with the batch of a durable reference, if it is the partition's next one.
    pub(crate) fn end_referred_bulk(&mut self, slot: Slot, number: u32, effects: &mut Effects) {
        let first = self.partitions.get(slot).and_then(|owned| owned.bulks.front());
        if first.is_some_and(|bulk| bulk.number == number) {
            self.end_bulk(slot, effects);
        }
    }

    /// Acknowledges the oldest bulk batch if it is whole and its reference durable; says whether it was.
    fn end_bulk(&mut self, slot: Slot, effects: &mut Effects) -> bool {
        if let Some(owned) = self.partitions.get_mut(slot)
            && let Some(bulk) = owned.bulks.front().filter(|bulk| bulk.is_whole())
            && let Reference::Durable(sequence) = bulk.reference
            && let Some(bulk) = owned.bulks.pop_front()
        {
            if let Some(plan) = &bulk.plan {
                owned.log.bulk_written(plan);
            }
            self.partition_durable(slot, bulk.appended.end, sequence);
            self.answer_produced(&bulk.pending, effects);
            self.hurry_unsettled(slot);
            return true;
        }
        false
    }
}
