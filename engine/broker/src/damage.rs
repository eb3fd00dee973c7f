//! Stored bytes that are not what was written: found by a read, told by file and place, refused from then on.

use alloc::format;

use cutwater_log::{ColdError, FormatError, Prelude, Preread};
use cutwater_model::storage::StorageErrorKind;
use cutwater_model::{MemoryRange, Offset, limits};

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

    /// What is read of a segment before its batches came back, or could not be read.
    pub(crate) fn take_preread(
        &mut self,
        slot: Slot,
        read: &Preread,
        buffer: MemoryRange,
        result: Result<u32, StorageErrorKind>,
        effects: &mut Effects,
    ) {
        let Some(owned) = self.partitions.get_mut(slot) else { return };
        let was_fenced = owned.log.is_fenced();
        let bytes = self.slab.get(MemoryRange { at: buffer.at, len: read.len });
        let error = match result {
            Ok(_) => owned.log.preread_done(read, bytes).err(),
            Err(_) => {
                owned.log.preread_failed(read);
                None
            }
        };
        let is_fenced = owned.log.is_fenced() && !was_fenced;
        if let Some(error) = error {
            self.counters.damaged_ranges += 1;
            let (file, at, follows) = (read.file, read.at, what_follows(read, &error));
            effects.push(Effect::Damage(format!("{file} at byte {at}: {error}; {follows}")));
            if is_fenced {
                self.fence_partition(slot, &format_args!("{} is not its own: {error}", read.file), effects);
            }
        }
    }
}

const fn what_follows(read: &Preread, error: &FormatError) -> &'static str {
    match (read.what, error) {
        (Prelude::Index, _) => "its segment is read without it",
        (Prelude::Header, FormatError::Damaged) => "its batches have checksums of their own",
        (Prelude::Header, FormatError::Stranger | FormatError::Version { .. }) => {
            "nothing is read from the file and nothing written to it; put the right one there and start again"
        }
    }
}
