//! Large batches go straight to their segment (STORAGE.md section 2). Lives on the shard's core, does no I/O.
//!
//! ```text
//!  file   |  block  |  block  |  block  |  block  |  block  |
//!         | earlier bytes |#### the batch ##############|
//!         ^ run start                        ^ run end    whole blocks, DSYNC (B1), into written space (B4)
//!                                            |##########|   the remainder: in the tail, and carried by the BulkRef
//! ```
//!
//! The run begins at the first block that is not handed out to be written, so it may carry earlier bytes; they are in
//! the journal by themselves. The BulkRef enters a group while the run is being written; the batch counts when both are
//! durable. Which runs were is said by later entries of the partition, or by the digest that the BulkRef carries.

use alloc::vec::Vec;

use cutwater_model::batch::{BatchError, Header};
use cutwater_model::limits::BATCH_HEADER_BYTES;
use cutwater_model::{MemoryRange, Offset, Slab, TimestampMs};

use crate::append::Appended;
use crate::bytes::{Reader, Writer};
use crate::partition::Partition;
use crate::position::{BLOCK, block_floor};
use crate::segment::Opening;
use crate::writeback::{Part, WritePlan};

/// Where a partition stands with its bulk batches.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BulkState {
    /// The newest one is in the tail and not handed out: the segment is not ready for it.
    pub(crate) is_waiting: bool,
    /// How many are handed out and not durable, writes and entry, yet.
    pub(crate) writing: u32,
}

impl BulkState {
    pub(crate) fn is_busy(self) -> bool {
        self.is_waiting || self.writing > 0
    }
}

/// The writes of a bulk batch, and the journal entry that names them.
#[derive(Clone, Debug)]
pub struct BulkPlan {
    /// To be written with RWF_DSYNC, in any order.
    pub writes: Vec<WritePlan>,
    /// To be journaled behind the entries of all batches before it, by [`BulkRef::whole_before`] with what is known then.
    pub entry: BulkRef,
    /// The tail positions behind the run, up to the batch's end.
    remainder: (u64, u64),
}

/// The journal entry of a bulk batch: all that replay needs, without reading the segment (R4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkRef {
    /// The base offset of the segment.
    pub segment: Offset,
    /// Where in the file the run of whole blocks begins.
    pub run_start: u32,
    /// Where in the file the batch begins.
    pub position: u32,
    /// The running digest of the segment's index at the run's end (S3).
    pub digest: u64,
    /// All batches of the partition before this offset were durable when the entry was written. The batch itself, and
    /// those between, may have been on their way.
    pub whole_before: Offset,
    /// When the batch arrived.
    pub arrival: TimestampMs,
    /// The batch's header, as stored.
    pub header: [u8; BATCH_HEADER_BYTES],
}

impl BulkRef {
    /// How many bytes the fixed part has. The batch's bytes behind the run's last whole block follow it in the payload.
    pub const BYTES: usize = 8 + 4 + 4 + 8 + 8 + 8 + BATCH_HEADER_BYTES;

    /// Writes the fixed part.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = Vec::with_capacity(Self::BYTES);
        let mut writer = Writer(&mut bytes);
        writer.i64(self.segment.0).u32(self.run_start).u32(self.position).u64(self.digest);
        writer.i64(self.whole_before.0).i64(self.arrival.0).bytes(&self.header);
        let mut fixed = [0; Self::BYTES];
        fixed.copy_from_slice(&bytes);
        fixed
    }

    /// Reads an entry's payload: the fixed part, the batch's header, and the remainder's bytes.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Option<(Self, Result<Header, BatchError>, &[u8])> {
        let mut reader = Reader(payload);
        let entry = Self {
            segment: Offset(reader.i64()?),
            run_start: reader.u32()?,
            position: reader.u32()?,
            digest: reader.u64()?,
            whole_before: Offset(reader.i64()?),
            arrival: TimestampMs(reader.i64()?),
            header: reader.array()?,
        };
        Some((entry, Header::read(&entry.header), reader.0))
    }
}

impl Partition {
    /// Plans the writes of a large batch just appended, in place of a Data entry in the journal. `None`: its segment is
    /// not ready; ask again after the next [`Partition::opened`], [`Partition::written`] or
    /// [`Partition::preread_done`]. Until then the partition
    /// takes no append. Later bulk batches may follow at once; batches that the journal carries have to wait until all
    /// writes of this one are done and its entry is in the journal, because theirs says so (B2).
    pub fn begin_bulk(&mut self, slab: &Slab, appended: &Appended) -> Option<BulkPlan> {
        self.bulk.is_waiting = true;
        if !self.owns_its_files() {
            return None;
        }
        let run_start = self.writeback.planned;
        let run_end = block_floor(appended.end.position);
        let segment = self.segments.back()?;
        // Earlier segments are written first, so that the run lies in one file.
        if self.is_fenced || segment.opening != Opening::Done || run_start < segment.start_position() {
            return None;
        }
        let (file, base, origin, arrival) =
            (segment.file(), segment.base(), segment.origin, segment.last_arrival);
        let mut header = [0; BATCH_HEADER_BYTES];
        if !self.tail.copy_out(slab, appended.start, &mut header) {
            return None;
        }
        self.mark_before_bulk(slab, appended);
        self.digest_up_to(slab, run_end);
        let mut writes = Vec::new();
        let mut at = run_start;
        while at < run_end
            && let Some(memory) = self.tail.contiguous(at, run_end)
        {
            let end = at + u64::from(memory.len);
            let pin = self.tail.pin(at, end);
            writes.push(WritePlan { file, at: at - origin, memory, base, part: Part::Data { end, pin } });
            at = end;
        }
        for write in &writes {
            if let Part::Data { end, .. } = write.part {
                self.writeback.push(end);
            }
        }
        self.bulk = BulkState { is_waiting: false, writing: self.bulk.writing + 1 };
        let digest = self.segments.back().map_or(0, |segment| segment.index.mark().running);
        let entry = BulkRef {
            segment: base,
            run_start: (run_start - origin) as u32,
            position: appended.position,
            digest,
            whole_before: appended.base_offset,
            arrival,
            header,
        };
        Some(BulkPlan { writes, entry, remainder: (run_end, appended.end.position) })
    }

    /// Where the batch's bytes behind the run's last whole block are now. They stay in memory while they are not durable,
    /// but may move.
    #[must_use]
    pub fn bulk_remainder(&self, plan: &BulkPlan) -> MemoryRange {
        let (from, to) = plan.remainder;
        self.tail.contiguous(from, to).unwrap_or_default()
    }

    /// All writes of the plan are done, its entry is durable, and so it is for the batches before it.
    ///
    /// Each single write was told to [`Partition::written_durably`] or [`Partition::write_failed`] before.
    pub fn bulk_written(&mut self, _plan: &BulkPlan) {
        self.bulk.writing = self.bulk.writing.saturating_sub(1);
    }

    /// A batch was given up, because a write of its partition failed; it is not journaled.
    pub fn bulk_failed(&mut self, plan: Option<&BulkPlan>) {
        match plan {
            Some(plan) => self.bulk_written(plan),
            None => self.bulk.is_waiting = false,
        }
    }

    /// Whether the newest bulk batch waits for its segment, or for the end of the one before.
    #[must_use]
    #[inline]
    pub fn is_bulk_waiting(&self) -> bool {
        self.bulk.is_waiting
    }

    /// Whether a bulk batch is on its way.
    #[must_use]
    pub fn is_bulk_busy(&self) -> bool {
        self.bulk.is_busy()
    }
}

const _: () = assert!(BLOCK as usize > BATCH_HEADER_BYTES);
