//! The space of a partition's segments (S4): asked for well ahead, so that an append finds it there.
//!
//! Steps double while the partition is fast and halve while it is slow. A new segment's space is made as a spare file
//! under a pooled name; when the segment begins, the spare gets the header block and its name, in that order and
//! flushed (S5), while appends go on.

use cutwater_model::limits::{SEGMENT_GROWTH_BYTES_LEAST, SEGMENT_GROWTH_BYTES_MAX};
use cutwater_model::{FileName, MemoryRange, Offset, Slab, TimestampMs};

use crate::format;
use crate::pages::Pages;
use crate::partition::Partition;
use crate::position::BLOCK;
use crate::segment::{FOOTER_BYTES, Opening, Segment, Step, space_for};

/// Steps closer together than this double.
const FAST_STEP_MS: i64 = 10_000;
/// Steps further apart than this halve.
const SLOW_STEP_MS: i64 = 60_000;

/// Space to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpacePlan {
    /// Lengthen a segment's file by reserved space, flushed; then [`Partition::grown`].
    Extend {
        /// Which file.
        file: FileName,
        /// The segment's base offset.
        base: Offset,
        /// The length it has.
        from: u32,
        /// The length it is to have.
        to: u32,
    },
    /// Make a pooled file of reserved space, or take one that is large enough; then [`Partition::spare`]. It is flushed
    /// when it is opened.
    Spare {
        /// How long it has to be.
        bytes: u32,
    },
}

/// A segment's file to be brought into use: write the header block at 0, durably and with it the file's space, rename,
/// flush both folders (S5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenPlan {
    /// The spare's name. `None` on replay: take the file of the final name where it is there, and tell its length by
    /// [`Partition::grown`]; else make it.
    pub from: Option<FileName>,
    /// The segment's name.
    pub to: FileName,
    /// How many bytes of space it has, or has to get where it is made.
    pub bytes: u32,
    /// The segment's base offset.
    pub base: Offset,
    /// The header block.
    pub header: MemoryRange,
}

/// An index file to be made of written zeros, flushed, its folder too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexFilePlan {
    /// Its name.
    pub file: FileName,
    /// The segment's base offset.
    pub base: Offset,
    /// How long.
    pub bytes: u32,
}

#[repr(C)]
#[derive(Debug)]
pub(crate) struct Growth {
    under_way: Option<SpacePlan>,
    last: TimestampMs,
    pub(crate) step: u32,
    /// Space that a refused batch needs at the end of the last segment.
    wanted: u32,
    /// Space that a refused batch needs in a segment of its own.
    wanted_spare: u32,
}

impl Growth {
    pub(crate) const fn new(step: u32) -> Self {
        Self { step, wanted: 0, wanted_spare: 0, under_way: None, last: TimestampMs(i64::MIN) }
    }

    pub(crate) fn want(&mut self, space: u64) {
        self.wanted = u32::try_from(space).unwrap_or(u32::MAX);
    }

    pub(crate) fn want_spare(&mut self, space: u64) {
        self.wanted_spare = u32::try_from(space).unwrap_or(u32::MAX);
    }

    pub(crate) fn forget_wanted(&mut self) {
        self.wanted = 0;
    }

    /// Space was used up at this moment: the next step follows the time since the last one.
    pub(crate) fn note_use(&mut self, now: TimestampMs) {
        let elapsed = now.0.saturating_sub(self.last.0);
        if self.last.0 != i64::MIN && elapsed < FAST_STEP_MS {
            self.step = (self.step * 2).min(SEGMENT_GROWTH_BYTES_MAX);
        } else if elapsed > SLOW_STEP_MS {
            self.step = (self.step / 2).max(SEGMENT_GROWTH_BYTES_LEAST);
        }
        self.last = now;
    }

    /// How much room there has to be in front of the log's end.
    const fn ahead(&self) -> u32 {
        if self.step > SEGMENT_GROWTH_BYTES_LEAST { self.step } else { self.step / 2 }
    }
}

impl Partition {
    /// Whether the newest segment waits for its file, or for that of its index: cheap enough to ask after every append.
    #[must_use]
    #[inline]
    pub fn is_file_wanted(&self) -> bool {
        self.segments
            .back()
            .is_some_and(|newest| matches!(newest.opening, Opening::Wanted(_)) || newest.needs_index_file())
    }

    /// Space that should be made now. Each need is told once; the next comes after it was met or refused.
    pub fn needs_space(&mut self) -> Option<SpacePlan> {
        if self.growth.under_way.is_some() || self.is_fenced {
            return None;
        }
        let plan = self.extension().or_else(|| self.missing_spare())?;
        self.growth.under_way = Some(plan);
        Some(plan)
    }

    /// Whether [`Partition::needs_space`] would ask for something after an append. Cheap enough for each of them.
    #[inline]
    #[must_use]
    pub fn is_space_wanted(&self) -> bool {
        let active = self.segments.back();
        let is_extension_due = active.is_some_and(|active| self.is_extension_due(active));
        if !is_extension_due && !self.is_spare_due() {
            return false;
        }
        let may_ask = self.growth.under_way.is_none() && !self.is_fenced;
        may_ask && (is_extension_due || self.spare.is_none())
    }

    fn extension(&mut self) -> Option<SpacePlan> {
        // Only replay leaves a segment short of space: what it brings back is accepted already.
        let is_short = |it: &&mut Segment| {
            it.opening == Opening::Done && space_for(u64::from(it.end)) > u64::from(it.space)
        };
        if let Some(short) = self.unsettled().find(is_short) {
            let to = short.end.next_multiple_of(BLOCK) + FOOTER_BYTES;
            return Some(SpacePlan::Extend { file: short.file(), base: short.base(), from: short.space, to });
        }
        let active = self.segments.back().filter(|active| self.is_extension_due(active))?;
        let (file, base, from) = (active.file(), active.base(), active.space);
        let bytes_max = active.bytes_max;
        let now = active.last_arrival;
        self.growth.note_use(now);
        let to = from.max(self.growth.wanted).saturating_add(self.growth.step).next_multiple_of(BLOCK);
        Some(SpacePlan::Extend { file, base, from, to: to.min(bytes_max) })
    }

    #[inline]
    fn is_extension_due(&self, active: &Segment) -> bool {
        let room = active.space.saturating_sub(active.end + FOOTER_BYTES);
        (room < self.growth.ahead() || self.growth.wanted > active.space)
            && active.space < active.bytes_max
            && !active.is_sealed
            && active.opening == Opening::Done
    }

    /// Whether the next segment may begin soon, so that a spare should be there.
    #[inline]
    fn is_spare_due(&self) -> bool {
        let Some(active) = self.segments.back().filter(|active| !active.is_sealed) else { return true };
        let room = active.bytes_max.saturating_sub(active.end + FOOTER_BYTES);
        self.growth.wanted_spare > 0 || room < self.growth.ahead()
    }

    fn missing_spare(&self) -> Option<SpacePlan> {
        if self.spare.is_some() || !self.is_spare_due() {
            return None;
        }
        let bytes = self.growth.step.max(self.growth.wanted_spare).next_multiple_of(BLOCK);
        Some(SpacePlan::Spare { bytes: bytes.min(self.segment_bytes) })
    }

    /// The file of that segment has flushed space up to `to`: the plan was carried out, or recovery found the
    /// file so long.
    pub fn grown(&mut self, base: Offset, to: u32) {
        let meets = |plan: &mut SpacePlan| matches!(*plan, SpacePlan::Extend { base: other, to: wanted, .. } if other == base && to >= wanted);
        self.growth.under_way.take_if(meets);
        if let Some(segment) = self.segment_mut(base) {
            segment.space = segment.space.max(to);
        }
    }

    /// A pooled file of `bytes` is there for the next segment.
    pub fn spare(&mut self, file: FileName, bytes: u32) {
        self.growth.under_way.take_if(|plan| matches!(plan, SpacePlan::Spare { .. }));
        self.growth.wanted_spare = 0;
        self.spare = Some((file, bytes));
    }

    /// Whether one is.
    #[must_use]
    pub const fn has_spare(&self) -> bool {
        self.spare.is_some()
    }

    /// The space could not be made. [`Partition::needs_space`] asks for it again (E3).
    pub fn space_refused(&mut self) {
        self.growth.under_way = None;
    }

    /// A segment whose file is to be brought into use. The header's memory is held until [`Partition::opened`].
    pub fn next_opening(&mut self, slab: &mut Slab, pages: &mut Pages) -> Option<OpenPlan> {
        let segment = self.unsettled().find(|it| matches!(it.opening, Opening::Wanted(_)))?;
        let Opening::Wanted(from) = segment.opening else { return None };
        let header = pages.allocate_reserved(BLOCK)?;
        segment.identity.write_header(slab.get_mut(header));
        segment.opening = Opening::UnderWay;
        // On replay no more than the data needs: a file that is there may hold bulk data and must not be made anew.
        let bytes = segment.space.max(segment.end.next_multiple_of(BLOCK) + FOOTER_BYTES);
        Some(OpenPlan { from, to: segment.file(), bytes, base: segment.base(), header })
    }

    /// The plan was carried out: the segment may be written to.
    pub fn opened(&mut self, pages: &mut Pages, plan: &OpenPlan) {
        pages.free(plan.header);
        if let Some(segment) = self.segment_mut(plan.base) {
            segment.opening = Opening::Done;
            segment.space = segment.space.max(plan.bytes);
        }
    }

    /// Whether the block that was found where the plan's header goes is the header of another partition's segment.
    #[must_use]
    pub fn is_of_another_partition(&self, block: &[u8]) -> bool {
        format::read_header(block).is_ok_and(|found| found.partition != self.id)
    }

    /// The plan failed. The partition takes no appends; what is in the journal stays there (E2).
    pub fn opening_failed(&mut self, pages: &mut Pages, plan: &OpenPlan) {
        pages.free(plan.header);
        self.is_fenced = true;
    }

    /// An index file that should be made now: the first block of entries is about to be full.
    pub fn next_index_file(&mut self) -> Option<IndexFilePlan> {
        let segment = self.unsettled().find(|it| it.needs_index_file())?;
        segment.index_file = Step::UnderWay;
        Some(IndexFilePlan {
            file: segment.index_name(),
            base: segment.base(),
            bytes: segment.index_bytes_max(),
        })
    }

    /// The index file of that segment is there.
    pub fn index_created(&mut self, base: Offset) {
        if let Some(segment) = self.segment_mut(base) {
            segment.index_file = Step::Done;
        }
    }

    /// The index file could not be made; it is asked for again.
    pub fn index_refused(&mut self, base: Offset) {
        if let Some(segment) = self.segment_mut(base) {
            segment.index_file = Step::Due;
        }
    }
}
