//! Flushing what was written, in rounds, so that a checkpoint may name it (C2). Lives on the shard's core, does no I/O.
//!
//! A round begins with what is covered then; every file with writes since its last flush is flushed after that, and
//! when all of them are, what was covered at the beginning is flushed.

use cutwater_model::{FileName, Offset};

use crate::partition::Partition;

/// A file to be flushed. What was written before the plan was made counts as flushed after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushPlan {
    /// Which file.
    pub file: FileName,
    base: Offset,
    index_blocks: Option<u32>,
}

impl Partition {
    /// The next file to flush. All files of a round are given before any new write counts for it.
    pub fn next_flush(&mut self) -> Option<FlushPlan> {
        if self.is_fenced {
            return None;
        }
        if self.writeback.round.is_none() {
            if self.writeback.covered.covered == self.writeback.flushed.covered {
                return None;
            }
            self.writeback.round = Some(self.writeback.covered);
            for segment in self.unsettled() {
                segment.is_data_flush_due |= core::mem::take(&mut segment.is_data_dirty);
                segment.is_index_flush_due |= core::mem::take(&mut segment.is_index_dirty);
            }
        }
        let plan = self.unsettled().find_map(|segment| {
            if core::mem::take(&mut segment.is_data_flush_due) {
                return Some(FlushPlan { file: segment.file(), base: segment.base(), index_blocks: None });
            }
            let blocks = segment.index.blocks_written;
            core::mem::take(&mut segment.is_index_flush_due).then(|| FlushPlan {
                file: segment.index_name(),
                base: segment.base(),
                index_blocks: Some(blocks),
            })
        });
        match plan {
            Some(_) => self.writeback.flushes_in_flight += 1,
            None => self.end_round(),
        }
        plan
    }

    /// The flush is done.
    pub fn flushed(&mut self, plan: &FlushPlan) {
        self.writeback.flushes_in_flight -= 1;
        if let Some(blocks) = plan.index_blocks
            && let Some(segment) = self.segment_mut(plan.base)
        {
            segment.index.blocks_flushed = segment.index.blocks_flushed.max(blocks);
        }
        self.end_round();
    }

    /// The flush failed. No checkpoint claims anything after the last good one (E2).
    pub fn flush_failed(&mut self, _plan: &FlushPlan) {
        self.writeback.flushes_in_flight -= 1;
        self.writeback.round = None;
        self.writeback.has_failed = true;
        self.is_fenced = true;
    }

    fn end_round(&mut self) {
        let is_due = self.unsettled().any(|it| it.is_data_flush_due || it.is_index_flush_due);
        if self.writeback.flushes_in_flight > 0 || is_due {
            return;
        }
        if let Some(round) = self.writeback.round.take() {
            self.writeback.flushed = round;
            let finished = round.mark.map_or(0, |mark| mark.finished);
            let offset = round.covered.end.offset;
            let mut newest = true;
            for segment in self.unsettled().rev().filter(|segment| segment.base() < offset) {
                segment.index.forget(finished, !newest);
                newest = false;
            }
        }
    }
}
