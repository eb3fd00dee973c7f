//! Durable bytes go from the tail to the segments' files (S1), files are flushed, and a checkpoint may name the result
//! (C1, C2). Lives on the shard's core, does no I/O.
//!
//! Work goes towards one *target* at a time: the end of what was durable when the target was taken. Once all whole
//! blocks below it are written, it is *covered*; once the files were flushed after that, it is *flushed*, and
//! [`Partition::snapshot`](crate::Partition::snapshot) names exactly it. So a checkpoint's end is always a batch
//! boundary, and the bytes between its last whole block and itself are carried in the checkpoint.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use cutwater_model::{FileName, MemoryRange, Offset, Slab};

use crate::append::Appended;
use crate::index::IndexMark;
use crate::pages::Pages;
use crate::partition::Partition;
use crate::position::{BLOCK, Covered, LogEnd, block_ceil, block_floor};
use crate::segment::{FOOTER_BYTES, Opening, Step, space_for};
use crate::tail::TailPin;

/// Data writes of one partition in flight.
const WRITES_IN_FLIGHT_MAX: usize = 8;

/// Whole blocks to be written by O_DIRECT.
#[derive(Clone, Copy, Debug)]
pub struct WritePlan {
    /// Where to.
    pub file: FileName,
    /// At which byte of the file.
    pub at: u64,
    /// What.
    pub memory: MemoryRange,
    pub(crate) base: Offset,
    pub(crate) part: Part,
}

/// What a write is a part of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// Data up to this tail position.
    Data { end: u64, pin: TailPin },
    /// A block of index entries.
    Index { block: u32 },
    /// The footer.
    Footer,
}

#[repr(C)]
#[derive(Debug)]
pub(crate) struct Writeback {
    /// Up to this tail position, whole blocks are handed out to be written, in order.
    pub(crate) planned: u64,
    /// Up to this one, they are written.
    pub(crate) written: u64,
    /// The writes between, in order: where each ends, and whether it is done.
    in_flight: VecDeque<(u64, bool)>,
    /// Writes of index blocks and footers in flight.
    others_in_flight: u32,
    target: Option<Marked>,
    /// How the digests stood before each bulk batch that is not durable yet.
    before_bulk: VecDeque<BeforeBulk>,
    pub(crate) covered: Marked,
    /// What the flushes that are under way are for.
    pub(crate) round: Option<Marked>,
    pub(crate) flushes_in_flight: u32,
    pub(crate) flushed: Marked,
    /// A write or a flush failed.
    pub(crate) has_failed: bool,
}

/// An end, and how far the digests of its segment were at its last whole block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marked {
    pub(crate) covered: Covered,
    /// Known once the blocks before it are planned.
    pub(crate) mark: Option<IndexMark>,
    /// The folded digest of the finished entries there.
    pub(crate) digest: u64,
}

/// The digests before a bulk batch, whose run is planned beyond them before anything of it is journaled.
#[derive(Debug)]
struct BeforeBulk {
    /// The batch's offset.
    offset: Offset,
    /// The offset its segment begins with.
    base: Offset,
    /// At each whole block from the run's beginning to the batch's: its tail position, and the digests.
    blocks: Vec<(u64, IndexMark, u64)>,
}

impl Writeback {
    pub(crate) fn new(covered: Covered) -> Self {
        let marked = Marked { covered, mark: Some(IndexMark::default()), digest: 0 };
        let start = block_floor(covered.end.position);
        Self {
            planned: start,
            written: start,
            in_flight: VecDeque::new(),
            others_in_flight: 0,
            target: None,
            before_bulk: VecDeque::new(),
            covered: marked,
            round: None,
            flushes_in_flight: 0,
            flushed: marked,
            has_failed: false,
        }
    }

    /// Everything up to `marked` is known to be in the files, by a checkpoint.
    pub(crate) fn restore(marked: Marked) -> Self {
        Self { covered: marked, flushed: marked, ..Self::new(marked.covered) }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.others_in_flight == 0 && self.flushes_in_flight == 0
    }

    /// Up to this tail position readers may be sent to the files. After a failure what lies behind the last good flush
    /// may not be there, whatever later writes say (E2); memory has it, because only what is flushed is evicted.
    pub(crate) const fn readable(&self) -> u64 {
        block_floor(if self.has_failed { self.flushed.covered.end.position } else { self.written })
    }

    pub(crate) const fn has_flushes(&self) -> bool {
        self.flushes_in_flight > 0
    }

    /// All up to there is in the files by other means; nothing is in flight (bulk, on replay).
    pub(crate) fn jump(&mut self, to: u64) {
        self.planned = to;
        self.written = to;
        self.target = None;
        self.before_bulk.clear();
    }

    pub(crate) fn push(&mut self, end: u64) {
        self.planned = end;
        self.in_flight.push_back((end, false));
    }

    fn complete(&mut self, end: u64) {
        if let Some(write) = self.in_flight.iter_mut().find(|write| write.0 == end) {
            write.1 = true;
        }
        while let Some((end, true)) = self.in_flight.front().copied() {
            self.written = end;
            self.in_flight.pop_front();
        }
    }
}

impl Partition {
    /// Frees the oldest memory until at most `keep_bytes` are held: what the files have, flushed, and nobody uses. With
    /// 0 an idle partition keeps one block. Says how many bytes it freed.
    pub fn evict(&mut self, slab: &mut Slab, pages: &mut Pages, keep_bytes: u32) -> u32 {
        let flushed = self.writeback.flushed.covered.end;
        self.tail.evict(slab, pages, flushed, keep_bytes)
    }

    /// Bytes that were appended and are not handed out to be written.
    #[must_use]
    pub fn dirty_bytes(&self) -> u32 {
        u32::try_from(self.tail.end().saturating_sub(self.writeback.planned)).unwrap_or(u32::MAX)
    }

    /// The next write, of at most `bytes_max` rounded up to a block. Its memory is held until [`Partition::written`].
    ///
    /// Only bytes that are durable are handed out, so no file ever holds what the journal may lose; and only for files
    /// that are known to be the partition's, by [`Partition::next_header`].
    pub fn next_write(&mut self, slab: &mut Slab, pages: &mut Pages, bytes_max: u32) -> Option<WritePlan> {
        if self.is_fenced || !self.owns_its_files() {
            return None;
        }
        let plan = self
            .next_index_write(slab, pages)
            .or_else(|| self.next_footer_write(slab, pages))
            .or_else(|| self.next_data_write(slab, bytes_max));
        self.advance_covered();
        plan
    }

    fn next_data_write(&mut self, slab: &Slab, bytes_max: u32) -> Option<WritePlan> {
        if self.bulk.writing > 0 || self.writeback.in_flight.len() >= WRITES_IN_FLIGHT_MAX {
            return None;
        }
        let target = self.take_target().unwrap_or(self.covered());
        let target_end = self.whole_blocks_end(target.end.position);
        let from = self.writeback.planned;
        if from >= target_end {
            return None;
        }
        let segment = self.segments.iter().rev().find(|segment| segment.has(from))?;
        if segment.opening != Opening::Done {
            return None;
        }
        let segment_end = if segment.is_sealed { block_ceil(segment.end_position()) } else { u64::MAX };
        let bytes_max = u64::from(bytes_max.max(BLOCK).next_multiple_of(BLOCK));
        let space_end = segment.origin + u64::from(segment.space);
        let to = target_end.min(segment_end).min(from + bytes_max).min(space_end);
        let memory = self.tail.contiguous(from, to)?;
        let to = from + u64::from(memory.len);
        let (file, base, at) = (segment.file(), segment.base(), from - segment.origin);
        self.digest_up_to(slab, to);
        let pin = self.tail.pin(from, to);
        self.writeback.push(to);
        Some(WritePlan { file, at, memory, base, part: Part::Data { end: to, pin } })
    }

    /// The end of the whole blocks below `end`. The last block of a segment is whole once the next one has begun: zeros
    /// follow its batches. It must not wait for that one's first batch, which may be a bulk batch that waits for it.
    fn whole_blocks_end(&self, end: u64) -> u64 {
        let mut padded = self.segments.iter().rev().skip(1).take(2);
        if padded.any(|segment| segment.end_position() == end) { block_ceil(end) } else { block_floor(end) }
    }

    /// The target under way, or a new one where there is something new.
    fn take_target(&mut self) -> Option<Covered> {
        if self.writeback.target.is_none() && self.durable > self.writeback.covered.covered {
            let covered = self.durable;
            if block_floor(covered.end.position) >= self.writeback.planned {
                self.writeback.target = Some(Marked { covered, mark: None, digest: 0 });
                self.mark_target();
            } else if let Some((mark, digest)) = self.mark_behind(covered.end) {
                // Without this a full journal would wait for a checkpoint, the checkpoint for this partition, and the
                // partition for its bulk batch, which waits for room in the journal.
                self.writeback.target = Some(Marked { covered, mark: Some(mark), digest });
            }
        }
        self.writeback.target.map(|target| target.covered)
    }

    /// Digests the bytes that are about to be written, `[planned, to)`, and marks the target's place among them.
    pub(crate) fn digest_up_to(&mut self, slab: &Slab, to: u64) {
        let mut at = self.writeback.planned;
        while at < to {
            let Some(index) = self.segments.iter().rposition(|segment| segment.has(at)) else { return };
            let Some(piece) = self.tail.contiguous(at, at + u64::from(BLOCK)) else { return };
            self.segments[index].index.digest_block(slab.get(piece));
            at += u64::from(piece.len);
            self.writeback.planned = at;
            self.mark_target();
        }
    }

    /// Digests the bytes before a bulk batch, and remembers how the digests stand at each block.
    pub(crate) fn mark_before_bulk(&mut self, slab: &Slab, appended: &Appended) {
        let Some(base) = self.segments.back().map(|segment| segment.base()) else { return };
        let mut blocks = Vec::new();
        loop {
            let at = self.writeback.planned;
            if let Some(segment) = self.segments.back() {
                blocks.push((at, segment.index.mark(), segment.index.digest()));
            }
            if at >= block_floor(appended.start) {
                break;
            }
            self.digest_up_to(slab, at + u64::from(BLOCK));
            if self.writeback.planned == at {
                break;
            }
        }
        let durable = self.durable.end.offset;
        self.writeback.before_bulk.retain(|before| before.offset >= durable);
        self.writeback.before_bulk.push_back(BeforeBulk { offset: appended.base_offset, base, blocks });
    }

    /// How the digests stood at an end behind which a bulk run is planned already.
    fn mark_behind(&self, end: LogEnd) -> Option<(IndexMark, u64)> {
        let before = self.writeback.before_bulk.iter().find(|before| end.offset <= before.offset)?;
        if end.offset <= before.base {
            return Some(self.mark_at(end.offset));
        }
        let found = before.blocks.iter().find(|block| block.0 == block_floor(end.position))?;
        Some((found.1, found.2))
    }

    /// How the digests stand for a log that ends at that offset.
    fn mark_at(&self, end: Offset) -> (IndexMark, u64) {
        // A segment that begins at the end is not its.
        let segment = self.segments.iter().rev().find(|segment| segment.base() < end);
        segment.map_or_else(Default::default, |segment| (segment.index.mark(), segment.index.digest()))
    }

    fn mark_target(&mut self) {
        let planned = self.writeback.planned;
        let Some(target) = self.writeback.target.filter(|target| target.mark.is_none()) else { return };
        if planned >= block_floor(target.covered.end.position) {
            let (mark, digest) = self.mark_at(target.covered.end.offset);
            self.writeback.target = Some(Marked { mark: Some(mark), digest, ..target });
        }
    }

    fn next_index_write(&mut self, slab: &mut Slab, pages: &mut Pages) -> Option<WritePlan> {
        let segment =
            self.unsettled().find(|segment| segment.index_file == Step::Done && segment.index.has_block())?;
        let memory = pages.allocate_reserved(BLOCK)?;
        let block = segment.index.plan_block(slab.get_mut(memory));
        let (file, base) = (segment.index_name(), segment.base());
        self.writeback.others_in_flight += 1;
        let at = u64::from(block) * u64::from(BLOCK);
        Some(WritePlan { file, at, memory, base, part: Part::Index { block } })
    }

    fn next_footer_write(&mut self, slab: &mut Slab, pages: &mut Pages) -> Option<WritePlan> {
        let index = self.unsettled().position(|segment| {
            segment.is_sealed
                && segment.footer == Step::Due
                && segment.opening == Opening::Done
                && space_for(u64::from(segment.end)) <= u64::from(segment.space)
                && segment.index.is_finished()
        })?;
        let index = self.settled + index;
        let next_base = self.segments.get(index + 1).map_or(self.end.offset, |next| next.base());
        let next_offset = self.segments.get(index).and_then(|it| it.gap_from).unwrap_or(next_base);
        let memory = pages.allocate_reserved(FOOTER_BYTES)?;
        let segment = &mut self.segments[index];
        let footer = segment.footer(next_offset);
        for copy in slab.get_mut(memory).as_chunks_mut::<{ BLOCK as usize }>().0 {
            footer.write(copy);
        }
        segment.footer = Step::UnderWay;
        self.writeback.others_in_flight += 1;
        Some(WritePlan {
            file: segment.file(),
            at: block_ceil(u64::from(segment.end)),
            memory,
            base: segment.base(),
            part: Part::Footer,
        })
    }

    /// The write is done, at its full length, and durable by itself: its file needs no flush for it (B1).
    pub fn written_durably(&mut self, pages: &mut Pages, plan: &WritePlan) {
        self.end_write(pages, plan);
        if let Part::Data { end, .. } = plan.part {
            self.writeback.complete(end);
        }
        self.advance_covered();
    }

    /// The write is done, at its full length; it becomes durable with the next flush of its file.
    pub fn written(&mut self, pages: &mut Pages, plan: &WritePlan) {
        if let Some(segment) = self.segment_mut(plan.base) {
            match plan.part {
                Part::Data { .. } => segment.is_data_dirty = true,
                Part::Footer => {
                    segment.is_data_dirty = true;
                    segment.footer = Step::Done;
                }
                Part::Index { block } => {
                    segment.is_index_dirty = true;
                    segment.index.note_written(block);
                }
            }
        }
        self.written_durably(pages, plan);
    }

    /// The write failed for good: the partition takes no appends and writes nothing any more (E2). What was acked is
    /// in the journal, whose files stay because nothing more of this partition is covered.
    pub fn write_failed(&mut self, pages: &mut Pages, plan: &WritePlan) {
        self.end_write(pages, plan);
        if let Part::Data { end, .. } = plan.part {
            self.writeback.in_flight.retain(|write| write.0 != end);
        }
        self.is_fenced = true;
        self.writeback.has_failed = true;
    }

    fn end_write(&mut self, pages: &mut Pages, plan: &WritePlan) {
        match plan.part {
            Part::Data { pin, .. } => self.tail.unpin(pin),
            Part::Index { .. } | Part::Footer => {
                pages.free(plan.memory);
                self.writeback.others_in_flight -= 1;
            }
        }
    }

    /// The target is covered once its blocks are written and older segments are complete, footer and index included.
    pub(crate) fn advance_covered(&mut self) {
        if self.is_fenced {
            return;
        }
        let Some(target) = self.take_target() else { return };
        let is_written = self.writeback.written >= block_floor(target.end.position);
        let mut segments = self.unsettled().rev().filter(|segment| segment.base() < target.end.offset);
        // What is less than a block needs no write, but a file: a checkpoint never names one that is not there.
        let is_open = segments.next().is_none_or(|segment| segment.opening == Opening::Done);
        let are_older_complete = segments.all(|segment| segment.is_complete());
        drop(segments);
        if is_written
            && is_open
            && are_older_complete
            && let Some(marked) = self.writeback.target.take_if(|target| target.mark.is_some())
        {
            self.writeback.covered = marked;
        }
    }

    /// Up to where whole blocks are written.
    #[must_use]
    pub const fn covered(&self) -> Covered {
        self.writeback.covered.covered
    }

    /// Up to where they are flushed too: what [`Partition::snapshot`] names.
    #[must_use]
    pub const fn flushed_end(&self) -> Covered {
        self.writeback.flushed.covered
    }
}
