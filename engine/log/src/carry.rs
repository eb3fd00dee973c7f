//! What a failed segment may lack, carried in the checkpoint (E2). Lives on the shard's core, does no I/O.
//!
//! Once a write or a flush of a segment has failed, nothing more is written there, and no flush vouches for what was.
//! The bytes between the last good flush and the durable end are in the tail, which keeps them; a checkpoint carries
//! them beside the partition's state, so the journal is not needed for them. The next start replays them like entries
//! of the journal.

use alloc::vec::Vec;

use cutwater_model::{Offset, Slab, TimestampMs};

use crate::bytes::{Reader, Writer};
use crate::partition::Partition;
use crate::replay::ReplayEntry;
use crate::segment::Segment;

impl Partition {
    /// Appends the batches between the last good flush and the durable end: for each segment its base offset, the place
    /// in it, an arrival time, the length, and the bytes. False, and nothing appended, where a byte is not in memory.
    pub fn carry(&self, slab: &Slab, out: &mut Vec<u8>) -> bool {
        if !self.can_carry() {
            return false;
        }
        for (segment, start, end) in self.unflushed() {
            let len = (end - start) as usize;
            let position = (start - segment.origin) as u32;
            Writer(out).i64(segment.base().0).u32(position).i64(segment.last_arrival.0).u32(len as u32);
            let at = out.len();
            out.resize(at + len, 0);
            let is_copied = self.tail.copy_out(slab, start, &mut out[at..]);
            debug_assert!(is_copied, "it was looked for before");
        }
        true
    }

    /// Whether all that [`Partition::carry`] would append is in memory.
    #[must_use]
    pub fn can_carry(&self) -> bool {
        self.unflushed().all(|(_, start, end)| self.tail.holds(start, end))
    }

    /// The tail positions of each segment between the last good flush and the durable end.
    fn unflushed(&self) -> impl Iterator<Item = (&Segment, u64, u64)> {
        let (from, to) = (self.flushed_end().end.position, self.durable().position);
        self.segments
            .iter()
            .map(move |segment| (segment, segment.start_position().max(from), segment.end_position().min(to)))
            .filter(|(_, start, end)| start < end)
    }
}

/// The entries that [`Partition::carry`] wrote, to be replayed in order. Ends early where the bytes make no sense.
pub fn carried(bytes: &[u8]) -> impl Iterator<Item = ReplayEntry<'_>> {
    let mut reader = Reader(bytes);
    core::iter::from_fn(move || {
        let segment = Offset(reader.i64()?);
        let position = reader.u32()?;
        let arrival = TimestampMs(reader.i64()?);
        let len = reader.u32()? as usize;
        Some(ReplayEntry::Data { segment, position, arrival, batches: reader.bytes(len)? })
    })
}
