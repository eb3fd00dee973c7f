//! One segment of a partition: what is known of its file. Lives on the shard's core, does no I/O.

use alloc::vec::Vec;

use cutwater_model::limits::{BLOCK_BYTES, INDEX_INTERVAL_BYTES};
use cutwater_model::{FileName, Offset, TimestampMs};

use crate::format::{Footer, INDEX_ENTRIES_PER_BLOCK, SegmentIdentity};
use crate::index::SegmentIndex;
use crate::position::{BLOCK, block_ceil};
use crate::preread::Owner;

/// A footer is two blocks: itself, twice (S2).
pub(crate) const FOOTER_BYTES: u32 = 2 * BLOCK_BYTES as u32;

/// Where the segment's file stands on its way into use (S5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// Written space under another name, or none at all on replay; the header block and the name are to come.
    Wanted(Option<FileName>),
    /// The broker is at it.
    UnderWay,
    /// Its name is durable; it may be written.
    Done,
}

/// A step that is taken once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Step {
    #[default]
    Due,
    UnderWay,
    Done,
}

/// What every append touches stands first (`repr(C)` keeps it so).
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Segment {
    /// The tail position of the file's first byte. Data begins one block later, behind the header.
    pub(crate) origin: u64,
    /// The file position after the last batch.
    pub(crate) end: u32,
    /// The file has written space up to here (S4).
    pub(crate) space: u32,
    /// The file may grow to this.
    pub(crate) bytes_max: u32,
    pub(crate) is_sealed: bool,
    pub(crate) index_file: Step,
    pub(crate) footer: Step,
    pub(crate) last_arrival: TimestampMs,
    pub(crate) max_timestamp: TimestampMs,
    pub(crate) identity: SegmentIdentity,
    pub(crate) index: SegmentIndex,
    pub(crate) opening: Opening,
    pub(crate) first_arrival: TimestampMs,
    /// The offset after its last record, where the next segment begins later than that.
    pub(crate) gap_from: Option<Offset>,
    pub(crate) owner: Owner,
    /// Bytes were written to the file since it was last flushed.
    pub(crate) is_data_dirty: bool,
    /// The same of its index file.
    pub(crate) is_index_dirty: bool,
    /// The flush of its file is due in the round of flushes under way.
    pub(crate) is_data_flush_due: bool,
    /// The same of its index file.
    pub(crate) is_index_flush_due: bool,
    /// Reads of its files under way.
    pub(crate) pins: u32,
    /// Ranges that are known to be damaged, by file position: where each begins and ends.
    pub(crate) damage: Vec<(u32, u32)>,
}

impl Segment {
    pub(crate) fn new(identity: SegmentIdentity, origin: u64, space: u32, bytes_max: u32) -> Self {
        Self {
            identity,
            origin,
            end: BLOCK,
            space,
            bytes_max,
            first_arrival: TimestampMs(i64::MIN),
            last_arrival: TimestampMs(i64::MIN),
            max_timestamp: TimestampMs(i64::MIN),
            index: SegmentIndex::new(identity),
            is_sealed: false,
            gap_from: None,
            opening: Opening::Done,
            owner: Owner::Itself,
            index_file: Step::Due,
            footer: Step::Due,
            is_data_dirty: false,
            is_index_dirty: false,
            is_data_flush_due: false,
            is_index_flush_due: false,
            pins: 0,
            damage: Vec::new(),
        }
    }

    pub(crate) const fn base(&self) -> Offset {
        self.identity.base
    }

    pub(crate) const fn file(&self) -> FileName {
        FileName::Segment { partition: self.identity.partition, base: self.identity.base }
    }

    pub(crate) const fn index_name(&self) -> FileName {
        FileName::Index { partition: self.identity.partition, base: self.identity.base }
    }

    /// The tail position of its first batch.
    pub(crate) const fn start_position(&self) -> u64 {
        self.origin + BLOCK as u64
    }

    /// The tail position after its last batch.
    pub(crate) const fn end_position(&self) -> u64 {
        self.origin + self.end as u64
    }

    /// Whether the tail position lies in its blocks; its end counts where it isn't a block's.
    pub(crate) const fn has(&self, position: u64) -> bool {
        position >= self.start_position() && position < block_ceil(self.end_position())
    }

    /// Nothing is appended to it any more.
    pub(crate) fn seal(&mut self) {
        if !self.is_sealed {
            self.is_sealed = true;
            self.index.seal(self.end);
        }
    }

    /// Whether a batch of `bytes` may ever be appended: within the file's bound there is room for it, the footer,
    /// and its offsets can be told relative to the base.
    #[inline]
    pub(crate) const fn can_hold(&self, bytes: u32, last_offset: Offset) -> bool {
        space_for(self.end as u64 + bytes as u64) <= self.bytes_max as u64
            && last_offset.0 - self.identity.base.0 < u32::MAX as i64
    }

    /// How large the index file can become, in whole blocks.
    pub(crate) const fn index_bytes_max(&self) -> u32 {
        let entries = self.bytes_max / INDEX_INTERVAL_BYTES + 1;
        (entries / INDEX_ENTRIES_PER_BLOCK as u32 + 1) * BLOCK
    }

    /// Whether there is nothing left to do with its files, and nothing of its index left to carry in checkpoints.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_complete()
            && self.index.is_in_file()
            && !(self.is_data_dirty
                || self.is_index_dirty
                || self.is_data_flush_due
                || self.is_index_flush_due)
    }

    /// Whether nothing will be written to its files any more.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_sealed && self.footer == Step::Done && self.index.is_complete()
    }

    pub(crate) fn footer(&self, next_offset: Offset) -> Footer {
        Footer {
            identity: self.identity,
            next_offset,
            end: self.end,
            index_entries: self.index.len(),
            first_arrival: self.first_arrival,
            last_arrival: self.last_arrival,
            max_timestamp: self.max_timestamp,
            digest: self.index.digest(),
        }
    }
}

/// The space a segment needs whose data ends at `end`: whole blocks, and the footer behind them.
#[inline]
pub(crate) const fn space_for(end: u64) -> u64 {
    block_ceil(end) + FOOTER_BYTES as u64
}

impl Segment {
    /// Whether its index file should be made: it is sealed, or the first block of entries is half full.
    pub(crate) fn needs_index_file(&self) -> bool {
        self.index_file == Step::Due
            && self.opening == Opening::Done
            && (self.is_sealed || self.index.len() as usize > INDEX_ENTRIES_PER_BLOCK / 2)
    }
}
