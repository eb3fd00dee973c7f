//! Looking ahead over the batches of one receive, so that the cache misses of their appends overlap.
//!
//! Where each batch is for another of a thousand partitions, an append waits for twenty cache lines, one after the other,
//! because each step needs what the one before has read, and because the processor can't go far beyond a store that
//! misses. But the batches of one receive do not depend on each other. So before the first of them is handed in, all of
//! them are gone through step by step: the partitions' places in the table, then their own lines, then what those point
//! to. In each step all reads are under way at once. It decides nothing and changes nothing; without it everything is the
//! same, but later.
//!
//! Lives on the shard's core, does no I/O.

use core::hint::black_box;

use cutwater_api::Upcoming;
use cutwater_model::limits::AHEAD_BATCHES_MAX;

use crate::partition::{Owned, Slot};
use crate::shard::Shard;

/// Fewer partitions than these stay in the core's cache by themselves.
const PARTITIONS_LEAST: usize = 64;

impl Shard {
    /// Whether there are so many partitions that looking ahead is worth its time.
    #[must_use]
    #[inline]
    pub fn looks_ahead(&self) -> bool {
        self.partitions.len() >= PARTITIONS_LEAST
    }

    /// Brings what the appends of these batches will touch into the core's cache.
    pub fn look_ahead(&self, upcoming: &[Upcoming]) {
        for batches in upcoming.chunks(AHEAD_BATCHES_MAX) {
            let mut slots = [None; AHEAD_BATCHES_MAX];
            for (slot, batch) in slots.iter_mut().zip(batches) {
                *slot = self.partitions.slot_of(batch.partition);
            }
            let slots = &slots[..batches.len()];
            self.look_at(slots, |owned, _| owned.look_at_self());
            self.look_at(slots, |owned, _| owned.log.look_at_last());
            self.look_at(slots, |owned, index| owned.log.look_at_next(&self.slab, batches[index].bytes));
        }
    }

    /// One step, for all partitions that there are.
    #[inline(always)]
    fn look_at(&self, slots: &[Option<Slot>], step: impl Fn(&Owned, usize) -> u64) {
        let mut sum = 0_u64;
        for (index, slot) in slots.iter().enumerate() {
            if let Some(owned) = slot.and_then(|slot| self.partitions.get(slot)) {
                sum = sum.wrapping_add(step(owned, index));
            }
        }
        black_box(sum);
    }
}
