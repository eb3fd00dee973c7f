//! Places in a partition's log.
//!
//! A *tail position* counts the bytes of a partition's log over all its segments, each rounded up to whole blocks, so
//! it is congruent with the position in the segment's file modulo one block. It holds within one life of the process.

use cutwater_model::limits::BLOCK_BYTES;
use cutwater_model::{MemoryRange, Offset};

pub(crate) const BLOCK: u32 = BLOCK_BYTES as u32;

/// A boundary between two batches: which record comes next, and at which tail position its batch begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogEnd {
    /// The offset of the next record.
    pub offset: Offset,
    /// The tail position of its first byte.
    pub position: u64,
}

/// What the segments' files hold: whole blocks of everything below `end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Covered {
    /// Up to where.
    pub end: LogEnd,
    /// The journal sequence that was current when that end became durable: no group up to it is needed any more for
    /// this partition, once a checkpoint names this end.
    pub sequence: u64,
}

pub(crate) const fn block_floor(position: u64) -> u64 {
    position & !(BLOCK as u64 - 1)
}

pub(crate) const fn block_ceil(position: u64) -> u64 {
    block_floor(position + BLOCK as u64 - 1)
}

/// Pieces of memory that belong together, in order. Held inline: no heap is touched on the way of a record.
#[derive(Clone, Copy, Debug)]
pub struct RangeList {
    ranges: [MemoryRange; Self::LEN_MAX],
    len: u8,
}

impl RangeList {
    /// So many pieces at most. A batch never has more.
    pub const LEN_MAX: usize = 12;
    pub(crate) const EMPTY: Self = Self { ranges: [MemoryRange { at: 0, len: 0 }; Self::LEN_MAX], len: 0 };

    /// Appends a piece; false where the list is full.
    pub(crate) fn push(&mut self, range: MemoryRange) -> bool {
        let Some(slot) = self.ranges.get_mut(usize::from(self.len)) else { return false };
        *slot = range;
        self.len += 1;
        true
    }
}

impl core::ops::Deref for RangeList {
    type Target = [MemoryRange];

    fn deref(&self) -> &[MemoryRange] {
        &self.ranges[..usize::from(self.len)]
    }
}
