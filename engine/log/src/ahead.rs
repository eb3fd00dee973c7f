//! Looking ahead: what the next append of a partition will touch is read before, for many partitions side by side, so
//! that the processor waits for all their cache lines at once and not for one after the other. Lives on the shard's core,
//! does no I/O.
//!
//! Each step reads what the one before has brought the address of. The sums mean nothing: who asks for them keeps the
//! reads from being left out. Nothing is changed, and a partition that was looked at in vain has lost nothing.

use cutwater_model::{MemoryRange, Slab};

use crate::partition::Partition;

/// So much of a batch's place is brought; what follows the processor foresees itself.
const AHEAD_BYTES_MAX: u32 = 512;

impl Partition {
    /// First: a field of each cache line of its own that an append touches.
    #[inline]
    #[must_use]
    pub fn look_at_self(&self) -> u64 {
        (self.end.position)
            .wrapping_add(u64::from(self.tail.resident_bytes()))
            .wrapping_add(self.segments.len() as u64)
            .wrapping_add(u64::from(self.growth.step))
            .wrapping_add(self.writeback.planned)
    }

    /// Second: the last chunk of its tail, and its last segment.
    #[inline]
    #[must_use]
    pub fn look_at_last(&self) -> u64 {
        let segment = self.segments.back().map_or(0, |segment| {
            (segment.origin)
                .wrapping_add(segment.base().0 as u64)
                .wrapping_add(u64::from(segment.index.len()))
                .wrapping_add(u64::from(segment.needs_index_file()))
        });
        segment.wrapping_add(u64::from(self.place_of_next(1).at))
    }

    /// Third: where the next batch goes, of so many bytes, and its entry in the index.
    #[inline]
    #[must_use]
    pub fn look_at_next(&self, slab: &Slab, bytes: u32) -> u64 {
        slab.bring(self.place_of_next(bytes.min(AHEAD_BYTES_MAX)));
        self.segments.back().map_or(0, |segment| segment.index.look_at_open())
    }

    /// Where the next bytes go, as far as the last chunk has room.
    #[inline]
    fn place_of_next(&self, bytes: u32) -> MemoryRange {
        self.tail.place_of_next(bytes).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use crate::position::BLOCK;
    use crate::test_rig::Rig;

    #[test]
    fn the_place_that_is_brought_is_where_the_next_batch_goes() {
        let mut rig = Rig::new(1, 1 << 20);
        let mut found = 0;
        for _ in 0..2000 {
            rig.settle();
            let place = rig.partition.place_of_next(100);
            let segment = rig.partition.segments.back().map(crate::segment::Segment::base);
            let sums = [
                rig.partition.look_at_self(),
                rig.partition.look_at_last(),
                rig.partition.look_at_next(&rig.slab, 100),
            ];
            core::hint::black_box(sums);
            let Some(appended) = rig.append(100) else { continue };
            // A segment that has just begun begins with a block of its own, and a batch that was received into pages
            // stays in them.
            if Some(appended.segment) == segment && place.len > 0 {
                assert_eq!(place.at % BLOCK, appended.memory.at % BLOCK);
                found += usize::from(place.at == appended.memory.at);
            }
        }
        assert!(found > 1000, "{found} of 2000");
    }
}
