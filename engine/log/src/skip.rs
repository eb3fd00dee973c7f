//! Offsets that are given up, so that none that was shown is used again (DESIGN.md section 1, promise 3). Lives on the
//! shard's core, does no I/O.
//!
//! A topic that is acked from memory shows records that a crash may take. After one its partitions go on behind every
//! offset that can have been shown. The last segment is sealed and remembers where its records end; the next segment
//! begins after the gap. A reader inside the gap gets the first batch behind it, or waits for that.

use cutwater_model::Offset;

use crate::partition::Partition;
use crate::position::{BLOCK, LogEnd};
use crate::segment::Segment;

impl Partition {
    /// The next record gets this offset, or a later one. Only at start, when all that was replayed is durable; what is
    /// served next needs a checkpoint that names it, because no journal entry does.
    pub fn skip_to(&mut self, offset: Offset) {
        if offset <= self.end.offset {
            return;
        }
        debug_assert!(self.durable.end.offset == self.end.offset, "only what is durable can be sealed");
        while self.segments.back().is_some_and(|last| last.end == BLOCK) {
            self.segments.pop_back();
        }
        let before = self.end.offset;
        let position = self.segments.back().map_or(self.end.position, Segment::end_position);
        if let Some(last) = self.segments.back_mut() {
            // Records end where they did before an earlier gap.
            last.gap_from.get_or_insert(before);
            last.seal();
        }
        self.end = LogEnd { offset, position };
        self.has_gaps = true;
        self.tail.skip(before, self.end);
        self.set_durable(self.end, self.durable.sequence);
    }

    /// The first offset at or after `from` that is not in a gap.
    #[inline]
    pub(crate) fn after_gap(&self, from: Offset) -> Offset {
        if self.has_gaps { self.find_after_gap(from) } else { from }
    }

    #[cold]
    fn find_after_gap(&self, from: Offset) -> Offset {
        let index = self.segments.partition_point(|segment| segment.base() <= from);
        let next = self.segments.get(index).map_or(self.end.offset, Segment::base);
        match index.checked_sub(1).and_then(|index| self.segments.get(index)) {
            Some(segment) if segment.gap_from.is_none_or(|gap_from| from < gap_from) => from,
            // Before the first segment there is a gap only where the log was empty.
            _ => next,
        }
    }
}
