//! One partition's log: its segments, its tail, and what has become durable. Lives on the shard's core, does no I/O.
//!
//! This file holds the state. The steps of a partition are beside it, one file each: `append`, `space`, `writeback`,
//! `flush`, `bulk`, `read`, `lookup`, `retain`, `snapshot`, `replay`.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use cutwater_model::limits::SEGMENT_GROWTH_BYTES_LEAST;
use cutwater_model::{FileName, LeaderEpoch, Offset, PartitionId, TimestampMs};

use crate::bulk::BulkState;
use crate::pages::Pages;
use crate::position::{BLOCK, Covered, LogEnd, RangeList};
use crate::producers::{ProducerBatch, ProducerVerdict, Producers};
use crate::segment::{Opening, Segment};
use crate::space::Growth;
use crate::tail::Tail;
use crate::writeback::Writeback;

/// One partition's log. See the module.
///
/// What every append touches stands together, because thousands of partitions do not fit a core's cache (`repr(C)` keeps
/// the order); of `growth` it is the end, of `writeback` the beginning.
#[repr(C)]
#[derive(Debug)]
pub struct Partition {
    pub(crate) epoch: LeaderEpoch,
    pub(crate) is_fenced: bool,
    /// Whether records are missing behind its end.
    pub(crate) is_incomplete: bool,
    /// Whether there are offsets that no record has between its first and its last.
    pub(crate) has_gaps: bool,
    pub(crate) bulk: BulkState,
    pub(crate) end: LogEnd,
    pub(crate) durable: Covered,
    pub(crate) log_start: Offset,
    pub(crate) tail: Tail,
    /// Oldest first; the last one is appended to, unless a checkpoint or a removal left only sealed ones.
    pub(crate) segments: VecDeque<Segment>,
    pub(crate) producers: Producers,
    pub(crate) growth: Growth,
    pub(crate) writeback: Writeback,
    /// So many segments at the front are settled: there is nothing left to do with their files but to read them.
    pub(crate) settled: usize,
    pub(crate) spare: Option<(FileName, u32)>,
    pub(crate) id: PartitionId,
    /// Of the next segment.
    pub(crate) segment_bytes: u32,
    pub(crate) generation_next: u32,
    pub(crate) log_start_durable: Offset,
    /// What the newest durable checkpoint names.
    pub(crate) checkpointed: LogEnd,
}

impl Partition {
    /// An empty log that begins at offset 0. It needs space before it takes a batch.
    #[must_use]
    pub fn new(id: PartitionId, epoch: LeaderEpoch, segment_bytes: u32) -> Self {
        Self::empty(id, epoch, segment_bytes, Offset(0), 0)
    }

    pub(crate) fn empty(
        id: PartitionId,
        epoch: LeaderEpoch,
        segment_bytes: u32,
        next_offset: Offset,
        generation_next: u32,
    ) -> Self {
        let end = LogEnd { offset: next_offset, position: u64::from(BLOCK) };
        let covered = Covered { end, sequence: 0 };
        Self {
            id,
            epoch,
            segment_bytes,
            generation_next,
            log_start: next_offset,
            log_start_durable: next_offset,
            end,
            durable: covered,
            checkpointed: end,
            tail: Tail::new(end),
            segments: VecDeque::new(),
            settled: 0,
            spare: None,
            growth: Growth::new(SEGMENT_GROWTH_BYTES_LEAST),
            writeback: Writeback::new(covered),
            bulk: BulkState::default(),
            producers: Producers::default(),
            is_fenced: false,
            is_incomplete: false,
            has_gaps: false,
        }
    }

    /// Which partition it is.
    #[must_use]
    pub const fn id(&self) -> PartitionId {
        self.id
    }

    /// The leader epoch that is stamped into new batches.
    #[must_use]
    pub const fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Stamps another epoch from now on.
    pub fn set_epoch(&mut self, epoch: LeaderEpoch) {
        self.epoch = epoch;
    }

    /// Lets segments grow to so many bytes, from the next one on.
    pub fn set_segment_bytes(&mut self, bytes: u32) {
        self.segment_bytes = bytes;
    }

    /// The offset of the first record that may be read.
    #[must_use]
    pub const fn log_start(&self) -> Offset {
        self.log_start
    }

    /// The offset that the next record will get.
    #[must_use]
    pub const fn next_offset(&self) -> Offset {
        self.end.offset
    }

    /// The end of all that was appended, durable or not.
    #[must_use]
    pub const fn end(&self) -> LogEnd {
        self.end
    }

    /// The end of what is durable.
    #[must_use]
    pub const fn durable(&self) -> LogEnd {
        self.durable.end
    }

    /// All up to `end` is durable by the journal groups up to `sequence`. Never goes back.
    #[inline]
    pub fn set_durable(&mut self, end: LogEnd, sequence: u64) {
        if end >= self.durable.end {
            self.durable = Covered { end, sequence: sequence.max(self.durable.sequence) };
        }
    }

    /// The stored bytes of all segments, without headers and footers.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| u64::from(segment.end - BLOCK)).sum()
    }

    /// Whether the partition takes no appends because a write failed (E2).
    #[must_use]
    pub const fn is_fenced(&self) -> bool {
        self.is_fenced
    }

    /// Bytes of payload memory it holds.
    #[must_use]
    pub const fn resident_bytes(&self) -> u32 {
        self.tail.resident_bytes()
    }

    /// The pieces of memory that hold the tail positions `[from, to)`.
    #[must_use]
    pub fn ranges(&self, from: u64, to: u64) -> RangeList {
        self.tail.ranges(from, to)
    }

    /// Whether a batch with these numbers may be appended (KIP-98).
    #[must_use]
    #[inline]
    pub fn check_producer(&self, batch: &ProducerBatch) -> ProducerVerdict {
        self.producers.check(batch)
    }

    /// Forgets producers that have appended nothing since `arrival`.
    pub fn forget_producers_before(&mut self, arrival: TimestampMs) {
        self.producers.forget_before(arrival);
    }

    /// The segments whose files there is something left to do with, oldest first.
    pub(crate) fn unsettled(&mut self) -> impl DoubleEndedIterator<Item = &mut Segment> {
        while self.segments.get(self.settled).is_some_and(Segment::is_settled) {
            self.settled += 1;
        }
        self.segments.range_mut(self.settled..)
    }

    pub(crate) fn segment_index(&self, base: Offset) -> Option<usize> {
        self.segments.binary_search_by_key(&base, Segment::base).ok()
    }

    pub(crate) fn segment_mut(&mut self, base: Offset) -> Option<&mut Segment> {
        let index = self.segment_index(base)?;
        self.segments.get_mut(index)
    }

    /// Whether it has, or is to have, a file of its own name: none was made for it before.
    #[must_use]
    pub fn has_segments(&self) -> bool {
        !self.segments.is_empty()
    }

    /// All its files and their lengths in bytes, for the deletion of its topic.
    #[must_use]
    pub fn files(&self) -> Vec<(FileName, u32)> {
        let mut files: Vec<_> = self.spare.iter().copied().collect();
        for segment in &self.segments {
            let file = match segment.opening {
                Opening::Wanted(Some(pooled)) => pooled,
                _ => segment.file(),
            };
            files.push((file, segment.space));
            if segment.index_file != crate::segment::Step::Due {
                files.push((segment.index_name(), segment.index_bytes_max()));
            }
        }
        files
    }

    /// Takes no appends from now on, because something of it is missing or failed (E2, R3).
    pub fn fence(&mut self) {
        self.is_fenced = true;
    }

    /// Records are missing behind its end, and were acknowledged: what it has is all there will be (R3). Its state says so
    /// from now on, because their offsets must not be used again.
    pub fn mark_incomplete(&mut self) {
        self.is_incomplete = true;
    }

    /// Whether it was [marked](Self::mark_incomplete), in this life or an earlier one.
    #[must_use]
    pub const fn is_incomplete(&self) -> bool {
        self.is_incomplete
    }

    /// Frees all its memory. Only for a partition that [`Partition::is_idle`].
    pub fn release(&mut self, pages: &mut Pages) {
        debug_assert!(self.is_idle());
        self.tail.release(pages);
        self.is_fenced = true;
    }
}
