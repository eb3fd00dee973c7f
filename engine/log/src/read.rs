//! Reading: from the tail where the batches are in memory, else by a plan for the file. Lives on the shard's core.
//!
//! Whole batches only; a first batch larger than asked for is given whole (B77). A reader that goes on where it
//! stopped hands its hint back and costs no search.

use cutwater_model::batch::LENGTH_END;
use cutwater_model::limits::INDEX_INTERVAL_BYTES;
use cutwater_model::{FileName, MemoryRange, Offset, Slab};

use crate::cold::ColdRead;
use crate::index::Located;
use crate::partition::Partition;
use crate::position::{BLOCK, LogEnd, RangeList, block_ceil, block_floor};
use crate::preread::Preread;
use crate::segment::Segment;
use crate::tail::TailPin;

/// Damaged ranges of one segment that are remembered.
const DAMAGED_RANGES_MAX: usize = 64;

/// Where the last read of a reader stopped. Holds within one life of the process; the default is no hint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadHint(pub(crate) LogEnd);

/// How to read.
#[derive(Clone, Copy, Debug)]
pub enum ReadPlan {
    /// The batches lie in memory.
    Hot(HotRead),
    /// The batches lie in a file.
    Cold(ColdRead),
    /// Something of the segment has to be known first: read it, hand it to [`Partition::preread_done`], and ask again.
    Needs(Preread),
    /// There is nothing visible at or after that offset yet.
    AtEnd,
    /// The offset lies before the log's start or behind its end.
    OutOfRange,
    /// The range is known to be damaged.
    Damaged {
        /// Which file.
        file: FileName,
        /// From which byte.
        at: u64,
        /// How many bytes.
        len: u32,
    },
}

/// Whole batches in memory.
#[derive(Clone, Copy, Debug)]
pub struct HotRead {
    /// Their bytes, in order; held until [`Partition::unpin`].
    pub ranges: RangeList,
    /// How many bytes.
    pub bytes: u32,
    /// The first record's offset; it may lie before the one asked for, as batches are whole.
    pub first_offset: Offset,
    /// The offset to go on at.
    pub next: Offset,
    /// For the next read.
    pub hint: ReadHint,
    /// What holds the memory.
    pub pin: TailPin,
}

/// Where a read begins.
enum Start {
    At(LogEnd),
    /// The index of that segment isn't in memory.
    NeedIndex(usize),
    Nowhere,
}

/// The part of a batch's header that a walk needs.
const STEP_BYTES: usize = 27;

impl Partition {
    /// Plans a read of about `bytes_max` bytes from the batch that holds `from`, of what is below `visible`.
    ///
    /// Of an offset in a gap, the first batch behind it. A hot plan pins its memory and a cold one its segment.
    pub fn read(
        &mut self,
        slab: &Slab,
        from: Offset,
        hint: ReadHint,
        bytes_max: u32,
        visible: LogEnd,
    ) -> ReadPlan {
        if from < self.log_start || from > self.end.offset {
            return ReadPlan::OutOfRange;
        }
        let asked = from;
        let from = self.after_gap(asked);
        if from >= visible.offset {
            return ReadPlan::AtEnd;
        }
        let hint = if from == asked { hint } else { ReadHint::default() };
        let start = match self.start_of(from, hint) {
            Start::At(start) => start,
            Start::NeedIndex(index) => return ReadPlan::Needs(self.index_read(index)),
            Start::Nowhere => return ReadPlan::OutOfRange,
        };
        if start.position >= self.tail.hot_start().position {
            self.read_hot(slab, from, start, bytes_max, visible)
        } else {
            self.read_cold(from, start, bytes_max, visible)
        }
    }

    /// The memory of a hot read is not used any more.
    pub fn unpin(&mut self, pin: TailPin) {
        self.tail.unpin(pin);
    }

    /// Reads of that range are refused from now on. Returns whether that is news.
    pub fn mark_damaged(&mut self, base: Offset, at: u32, len: u32) -> bool {
        let Some(segment) = self.segment_mut(base) else { return false };
        if segment.damage.iter().any(|&(from, to)| (from..to).contains(&at)) {
            return false;
        }
        // Where there are more, the first of them are found again.
        if segment.damage.len() == DAMAGED_RANGES_MAX {
            segment.damage.remove(0);
        }
        segment.damage.push((at, at.saturating_add(len)));
        segment.damage.sort_unstable();
        true
    }

    /// A batch boundary at or before `from`, the nearest one known.
    fn start_of(&self, from: Offset, hint: ReadHint) -> Start {
        let ReadHint(hint) = hint;
        if hint.position > 0
            && hint.offset <= from
            && hint.position <= self.end.position
            && let Some(start) = self.at_a_batch(hint)
        {
            return Start::At(start);
        }
        let hot_start = self.tail.hot_start();
        let index = self.segments.partition_point(|segment| segment.base() <= from);
        let Some(index) = index.checked_sub(1) else { return Start::Nowhere };
        let segment = &self.segments[index];
        let is_hot_here = hot_start.offset <= from && segment.base() <= hot_start.offset;
        let start = match segment.index.locate(from) {
            Located::At(offset, position) => {
                let located = LogEnd { offset, position: segment.origin + u64::from(position) };
                if is_hot_here { located.max(hot_start) } else { located }
            }
            Located::NotLoaded if is_hot_here => hot_start,
            Located::NotLoaded => return Start::NeedIndex(index),
        };
        self.at_a_batch(start).map_or(Start::Nowhere, Start::At)
    }

    /// A boundary at the end of a sealed segment is the beginning of the next one's data.
    fn at_a_batch(&self, boundary: LogEnd) -> Option<LogEnd> {
        let index =
            self.segments.partition_point(|segment| segment.base() <= boundary.offset).checked_sub(1)?;
        let segment = &self.segments[index];
        let position = boundary.position.max(segment.start_position());
        (position < segment.end_position()).then_some(LogEnd { offset: boundary.offset, position })
    }

    fn read_hot(
        &mut self,
        slab: &Slab,
        from: Offset,
        mut start: LogEnd,
        bytes_max: u32,
        visible: LogEnd,
    ) -> ReadPlan {
        let Some(segment) = self.segment_of(start) else { return ReadPlan::OutOfRange };
        let limit = end_within(segment, self.next_base(segment), visible);
        while let Some(next) = self.step(slab, start)
            && next.offset <= from
            && next.position < limit.position
        {
            start = next;
        }
        let Some(segment) = self.segment_of(start) else { return ReadPlan::OutOfRange };
        let mut end = self.last_boundary(slab, segment, start, bytes_max, limit);
        let mut ranges = self.tail.ranges(start.position, end.position);
        let mut bytes: u32 = ranges.iter().map(|range| range.len).sum();
        if u64::from(bytes) < end.position - start.position {
            // The memory lies in more pieces than a list holds: fewer batches then.
            end = self.last_boundary(slab, segment, start, bytes, limit);
            ranges = self.tail.ranges(start.position, end.position);
            bytes = (end.position - start.position) as u32;
        }
        let pin = self.tail.pin(start.position, end.position);
        let hint = ReadHint(end);
        ReadPlan::Hot(HotRead { ranges, bytes, first_offset: start.offset, next: end.offset, hint, pin })
    }

    /// The last batch boundary not more than `bytes_max` after `start`, but at least one batch on.
    fn last_boundary(
        &self,
        slab: &Slab,
        segment: &Segment,
        start: LogEnd,
        bytes_max: u32,
        limit: LogEnd,
    ) -> LogEnd {
        let furthest = start.position + u64::from(bytes_max);
        if furthest >= limit.position {
            return limit;
        }
        let mut end = start;
        if let Some((offset, position)) = segment.index.floor((furthest - segment.origin) as u32) {
            end = end.max(LogEnd { offset, position: segment.origin + u64::from(position) });
            // Half of what was asked for is enough to spare the walk over the rest.
            if end.position - start.position > u64::from(bytes_max / 2) {
                return end;
            }
        }
        while let Some(next) = self.step(slab, end)
            && (next.position <= furthest || end == start)
        {
            end = next;
        }
        end
    }

    /// From one batch in memory to the next.
    #[inline]
    fn step(&self, slab: &Slab, at: LogEnd) -> Option<LogEnd> {
        let piece = self.tail.contiguous(at.position, at.position + STEP_BYTES as u64)?;
        let mut copied = [0; STEP_BYTES];
        let head = if piece.len as usize == STEP_BYTES {
            slab.get(piece).first_chunk::<STEP_BYTES>()?
        } else {
            self.tail.copy_out(slab, at.position, &mut copied).then_some(&copied)?
        };
        let field =
            |from: usize| u32::from_be_bytes([head[from], head[from + 1], head[from + 2], head[from + 3]]);
        Some(LogEnd {
            offset: at.offset.after(field(23).wrapping_add(1)),
            position: at.position + LENGTH_END as u64 + u64::from(field(8)),
        })
    }

    fn read_cold(&mut self, from: Offset, start: LogEnd, bytes_max: u32, visible: LogEnd) -> ReadPlan {
        if let Some(header) = self.header_before(start) {
            return ReadPlan::Needs(header);
        }
        let written = self.writeback.readable();
        let Some(segment) = self.segment_of(start) else { return ReadPlan::OutOfRange };
        let (file, base, generation, origin) =
            (segment.file(), segment.base(), segment.identity.generation, segment.origin);
        let batches_end = end_within(segment, self.next_base(segment), visible).position;
        let at = block_floor(start.position);
        let skip = (start.position - at) as u32;
        // The walk to the batch may cost one interval of the index.
        let search = if start.offset == from { 0 } else { INDEX_INTERVAL_BYTES };
        let wanted = at + u64::from(skip) + u64::from(bytes_max.max(BLOCK)) + u64::from(search);
        let mut end = block_ceil(wanted).min(block_ceil(batches_end)).min(written);
        // What comes before the next damaged range is read to the last byte, though they may share a block.
        let mut batches_end = batches_end;
        let next_damage = segment.damage.iter().find(|(_, to)| start.position < origin + u64::from(*to));
        if let Some(&(from, to)) = next_damage {
            let damaged = origin + u64::from(from);
            if start.position >= damaged {
                return ReadPlan::Damaged { file, at: u64::from(from), len: to - from };
            }
            batches_end = batches_end.min(damaged);
            end = end.min(block_ceil(damaged));
        }
        // What is cold ends at most a block before what is in memory: that block's bytes complete the last batch.
        let suffix_end = batches_end.min(end + u64::from(BLOCK));
        let suffix = (end == written).then(|| self.tail.contiguous(end, suffix_end)).flatten();
        let suffix_pin = suffix.map(|_| self.tail.pin(end, suffix_end));
        let usable_end = batches_end.min(end + u64::from(suffix.map_or(0, |it: MemoryRange| it.len)));
        if let Some(segment) = self.segment_mut(base) {
            segment.pins += 1;
        }
        ReadPlan::Cold(ColdRead {
            file,
            generation,
            at: at - origin,
            len: (end - at) as u32,
            skip,
            usable: (usable_end - start.position) as u32,
            is_all: usable_end == batches_end,
            suffix,
            base,
            start,
            suffix_pin,
        })
    }

    pub(crate) fn segment_of(&self, at: LogEnd) -> Option<&Segment> {
        match self.segments.back() {
            Some(last) if last.start_position() <= at.position => Some(last),
            _ => {
                let index = self.segments.partition_point(|it| it.start_position() <= at.position);
                self.segments.get(index.checked_sub(1)?)
            }
        }
    }

    /// The offset after a segment's last record.
    fn next_base(&self, segment: &Segment) -> Offset {
        let index = self.segments.partition_point(|it| it.base() <= segment.base());
        self.segments.get(index).map_or(self.end.offset, Segment::base)
    }
}

/// The end of what is visible of a segment.
fn end_within(segment: &Segment, next_base: Offset, visible: LogEnd) -> LogEnd {
    if visible.offset >= next_base {
        LogEnd { offset: next_base, position: segment.end_position() }
    } else {
        visible
    }
}
