//! Which segments go, and when (S5, S6, S7). Lives on the shard's core, does no I/O.

use cutwater_model::{FileName, Offset, TimestampMs};

use crate::partition::Partition;
use crate::position::{Covered, LogEnd};
use crate::segment::Opening;

/// The files of a segment that nothing needs any more: to be recycled, else removed (S6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal {
    /// The segment's file.
    pub segment: FileName,
    /// How many bytes of written space it has.
    pub bytes: u32,
    /// Its index file, where one was made.
    pub index: Option<FileName>,
}

/// The log can't start there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("offset {} lies outside the log, which has {} to {}", offset.0, start.0, end.0)]
pub struct OffsetOutside {
    /// The offset that was asked for.
    pub offset: Offset,
    /// Where the log starts.
    pub start: Offset,
    /// What is durable of it.
    pub end: Offset,
}

impl Partition {
    /// Where the log should start when only records that arrived at `arrival_least` or later are kept, and at most
    /// `bytes_max` bytes. Whole segments go; the last one stays. `None`: nothing goes.
    ///
    /// Arrival times never go back (S7). Whether the wall clock can be trusted now is the caller's to judge.
    #[must_use]
    pub fn expired(&self, arrival_least: Option<TimestampMs>, bytes_max: Option<u64>) -> Option<Offset> {
        let mut bytes = self.bytes();
        let mut start = None;
        for (index, segment) in self.segments.iter().enumerate() {
            let Some(next) = self.segments.get(index + 1) else { break };
            let is_old = arrival_least.is_some_and(|least| segment.last_arrival < least);
            let is_over = bytes_max.is_some_and(|most| bytes > most);
            if !is_old && !is_over {
                break;
            }
            bytes -= u64::from(segment.end);
            start = Some(next.base());
        }
        start.filter(|start| *start > self.log_start && *start <= self.durable.end.offset)
    }

    /// Lets the log start at `offset`, at once for readers; an earlier one changes nothing. Journal a LogStart entry,
    /// then call [`Partition::log_start_durable`].
    ///
    /// # Errors
    /// If the offset lies beyond what is durable, or is negative.
    pub fn set_log_start(&mut self, offset: Offset) -> Result<Offset, OffsetOutside> {
        if offset > self.durable.end.offset || offset < Offset(0) {
            return Err(OffsetOutside { offset, start: self.log_start, end: self.durable.end.offset });
        }
        self.log_start = self.log_start.max(offset);
        Ok(self.log_start)
    }

    /// The LogStart entry with this offset is durable: segments before it may go (M3).
    pub fn log_start_durable(&mut self, offset: Offset) {
        self.log_start_durable = self.log_start_durable.max(offset.min(self.log_start));
    }

    /// A durable checkpoint names this end: the journal is not needed for what is before it.
    pub fn checkpointed(&mut self, covered: Covered) {
        self.checkpointed = self.checkpointed.max(covered.end);
    }

    /// The next segment whose files may go: the log start behind it is durable, the checkpoint is past every entry
    /// that names it, all its writes were seen, and nobody reads it (S5). It is forgotten by this call.
    pub fn next_removal(&mut self) -> Option<Removal> {
        let next_base = self.segments.get(1)?.base();
        let segment = self.segments.front()?;
        let is_needed = next_base > self.log_start_durable
            // A checkpoint that ends where the next segment begins names this one as the one to go on with.
            || next_base >= self.checkpointed.offset
            || segment.pins > 0
            || !segment.is_complete()
            || segment.is_data_dirty
            || segment.is_index_dirty
            || self.writeback.has_flushes()
            || self.tail.hot_start().offset < next_base && self.tail.pins() > 0;
        if is_needed {
            return None;
        }
        let segment = self.segments.pop_front()?;
        self.settled = self.settled.saturating_sub(1);
        Some(Removal {
            segment: segment.file(),
            bytes: segment.space,
            index: (segment.index_file != crate::segment::Step::Due).then(|| segment.index_name()),
        })
    }

    /// Whether nothing of it is under way: no read, write, flush or opening.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.tail.pins() == 0
            && self.writeback.is_idle()
            && !self.bulk.is_busy()
            && self.segments.iter().all(|it| it.pins == 0 && it.opening != Opening::UnderWay)
    }

    /// What the newest durable checkpoint names.
    #[must_use]
    pub const fn checkpointed_end(&self) -> LogEnd {
        self.checkpointed
    }
}
