//! Stored bytes that are not what was written: found by a read, told by file and place, refused from then on.

use alloc::format;

use cutwater_log::{ColdError, FormatError, IndexRead};
use cutwater_model::{Offset, limits};

use crate::effect::{Effect, Effects};
use crate::partition::Slot;
use crate::shard::Shard;

impl Shard {
    /// Batches of a segment are damaged. The range is never cut and never renumbered; reads of it get an error.
    #[cold]
    pub(crate) fn range_is_damaged(
        &mut self,
        slot: Slot,
        segment: Offset,
        error: &ColdError,
        effects: &mut Effects,
    ) {
        let Some(owned) = self.partitions.get_mut(slot) else { return };
        // How long the bad batch is can't be told; readers find a way on at the next entry of the index.
        if owned.log.mark_damaged(segment, error.at as u32, limits::BLOCK_BYTES as u32) {
            self.counters.damaged_ranges += 1;
            effects.push(Effect::Damage(format!("{error}; reads of that range are refused")));
        }
    }

    /// A block of an index is damaged: its segment is read without it.
    #[cold]
    pub(crate) fn index_is_damaged(&mut self, read: &IndexRead, error: &FormatError, effects: &mut Effects) {
        self.counters.damaged_ranges += 1;
        let (file, at) = (read.file, read.at);
        effects.push(Effect::Damage(format!("{file} at byte {at}: {error}; its segment is read without it")));
    }
}
