//! Looking up times, and bringing indexes back into memory. Lives on the shard's core, does no I/O.

use cutwater_model::{FileName, Offset, TimestampMs};

use crate::format::FormatError;
use crate::index::Located;
use crate::partition::Partition;

/// Tables of sealed segments that one partition keeps in memory.
const LOADED_TABLES_MAX: usize = 4;

/// Blocks of an index file to be read; the segment is held until [`Partition::index_loaded`] or
/// [`Partition::index_unreadable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexRead {
    /// Which file.
    pub file: FileName,
    /// From which byte.
    pub at: u64,
    /// How many bytes.
    pub len: u32,
    /// The base offset of the segment.
    pub base: Offset,
}

/// Where a search for a time begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeLookup {
    /// Read from this offset on, and search the batches by [`find_time`](crate::find_time).
    ScanFrom {
        /// The offset.
        offset: Offset,
    },
    /// The index of a segment isn't in memory: read it, hand it in, and ask again.
    NeedIndex(IndexRead),
    /// No record has a timestamp as late.
    None,
}

impl Partition {
    /// Where to search for the first record with a timestamp of at least `target`.
    pub fn locate_time(&mut self, target: TimestampMs) -> TimeLookup {
        let first =
            self.segments.partition_point(|segment| segment.base() <= self.log_start).saturating_sub(1);
        for index in first..self.segments.len() {
            let segment = &self.segments[index];
            if segment.max_timestamp < target {
                continue;
            }
            match segment.index.locate_time(target) {
                Some(Located::At(offset, _)) => {
                    return TimeLookup::ScanFrom { offset: offset.max(self.log_start) };
                }
                Some(Located::NotLoaded) => return TimeLookup::NeedIndex(self.index_read(index)),
                None => {}
            }
        }
        TimeLookup::None
    }

    pub(crate) fn index_read(&mut self, index: usize) -> IndexRead {
        let segment = &mut self.segments[index];
        segment.pins += 1;
        IndexRead {
            file: segment.index_name(),
            at: 0,
            len: segment.index.bytes_to_load(),
            base: segment.base(),
        }
    }

    /// Takes the blocks of an index file into memory. Ask again for what needed them.
    ///
    /// # Errors
    /// If they are damaged. Then look-ups walk the segment from its beginning, and the scrub has work (S3).
    pub fn index_loaded(&mut self, plan: &IndexRead, bytes: &[u8]) -> Result<(), FormatError> {
        let Some(index) = self.segment_index(plan.base) else { return Ok(()) };
        let segment = &mut self.segments[index];
        segment.pins -= 1;
        if let Err(error) = segment.index.load(bytes) {
            segment.index.is_unproven = true;
            return Err(error);
        }
        let loaded: usize = self.segments.iter().filter(|it| it.index.is_loaded_from_file()).count();
        if loaded > LOADED_TABLES_MAX {
            let other = self
                .segments
                .iter_mut()
                .find(|segment| segment.base() != plan.base && segment.index.is_loaded_from_file());
            if let Some(segment) = other {
                segment.index.unload();
            }
        }
        Ok(())
    }

    /// The index is not wanted after all.
    pub fn index_unneeded(&mut self, plan: &IndexRead) {
        if let Some(segment) = self.segment_mut(plan.base) {
            segment.pins -= 1;
        }
    }

    /// The index file could not be read: look-ups walk the segment from its beginning.
    pub fn index_unreadable(&mut self, plan: &IndexRead) {
        if let Some(segment) = self.segment_mut(plan.base) {
            segment.pins -= 1;
            segment.index.is_unproven = true;
        }
    }
}
