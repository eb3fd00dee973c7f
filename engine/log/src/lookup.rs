//! Looking up times. Lives on the shard's core, does no I/O.

use cutwater_model::{Offset, TimestampMs};

use crate::index::Located;
use crate::partition::Partition;
use crate::preread::Preread;

/// Where a search for a time begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeLookup {
    /// Read from this offset on, and search the batches by [`find_time`](crate::find_time).
    ScanFrom {
        /// The offset.
        offset: Offset,
    },
    /// The index of a segment isn't in memory: read it, hand it in, and ask again.
    Needs(Preread),
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
                Some(Located::NotLoaded) => return TimeLookup::Needs(self.index_read(index)),
                None => {}
            }
        }
        TimeLookup::None
    }
}
