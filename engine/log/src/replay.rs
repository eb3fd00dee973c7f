//! Journal entries of earlier lives, applied to a partition restored from its checkpoint (STORAGE.md section 6). Lives
//! on the shard's core, does no I/O.
//!
//! Every entry says where it belongs, so one that was applied before is recognized (J5) and the order of the journal
//! alone decides the end (R5). Bulk ranges are not read (R4). The bytes replayed become durable tail and are drained
//! to the segments like any other, during replay where the memory is short.

use cutwater_model::batch::{self, BatchError, Header};
use cutwater_model::limits::BATCH_HEADER_BYTES;
use cutwater_model::{FileName, LeaderEpoch, Offset, Slab, TimestampMs};

use crate::bulk::BulkRef;
use crate::index::SegmentIndex;
use crate::pages::Pages;
use crate::partition::Partition;
use crate::position::{BLOCK, LogEnd, block_floor};
use crate::segment::Opening;

/// One entry of the journal that names this partition.
#[derive(Clone, Copy, Debug)]
pub enum ReplayEntry<'a> {
    /// One or more stamped batches, one behind the other.
    Data {
        /// The base offset of their segment.
        segment: Offset,
        /// Where in its file the first begins.
        position: u32,
        /// When they arrived.
        arrival: TimestampMs,
        /// Their bytes.
        batches: &'a [u8],
    },
    /// A batch that is in its segment already: [`BulkRef::encode`] and the remainder's bytes.
    BulkRef {
        /// The payload.
        payload: &'a [u8],
        /// What is known of its blocks.
        run: Run<'a>,
    },
    /// The log starts there.
    LogStart {
        /// The offset.
        offset: Offset,
    },
}

/// What is known of the blocks that a reference names (B1).
#[derive(Clone, Copy, Debug)]
pub enum Run<'a> {
    /// They were durable when a later entry was written.
    Whole,
    /// No later entry says so, but this is what the file holds where [`Partition::run_to_read`] says, flushed.
    Read(&'a [u8]),
}

/// The blocks that show whether a batch is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunRead {
    /// Which file.
    pub file: FileName,
    /// From which byte.
    pub at: u64,
    /// How many bytes.
    pub len: u32,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// It changed the partition.
    Applied,
    /// The partition had it already.
    Already,
    /// Its batch is not whole in the file, so it was never acknowledged. Nothing of the partition behind it was.
    Torn,
    /// It needs room: carry out openings, space and writes until nothing is handed out, flush, evict, and give it again.
    Drain,
}

/// Why an entry can't be applied. The partition is as before; it has to be quarantined (R3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The entry's bytes are no batches, though the group's digest fits.
    #[error("a journal entry holds no batch: {0}")]
    Batch(BatchError),
    /// A bulk entry is cut.
    #[error("a bulk entry of the journal is cut short")]
    Cut,
    /// Something is missing before the entry, or it stands where other bytes are.
    #[error(
        "a journal entry of offset {} at byte {position} of segment {} doesn't continue the log, which ends at offset \
         {}; an entry before it is missing", found.0, segment.0, expected.0
    )]
    Gap {
        /// The entry's first offset.
        found: Offset,
        /// The offset that comes next.
        expected: Offset,
        /// The entry's segment.
        segment: Offset,
        /// The entry's place in it.
        position: u32,
    },
}

/// A reference whose parts agree with each other.
struct Referred<'a> {
    entry: BulkRef,
    header: Header,
    remainder: &'a [u8],
    /// The file position behind the run's last block.
    run_end: u32,
    /// The file position behind the batch.
    file_end: u32,
}

impl<'a> Referred<'a> {
    fn read(payload: &'a [u8]) -> Result<Self, ReplayError> {
        let (entry, header, remainder) = BulkRef::decode(payload).ok_or(ReplayError::Cut)?;
        let header = header.map_err(ReplayError::Batch)?;
        let file_end = u64::from(entry.position) + header.bytes() as u64;
        let run_end = block_floor(file_end);
        if remainder.len() as u64 != file_end - run_end
            || header.bytes() < BATCH_HEADER_BYTES + BLOCK as usize
            || run_end <= u64::from(entry.run_start.max(entry.position))
            || !entry.run_start.is_multiple_of(BLOCK)
        {
            return Err(ReplayError::Cut);
        }
        let file_end = u32::try_from(file_end).map_err(|_| ReplayError::Cut)?;
        Ok(Self { entry, header, remainder, run_end: run_end as u32, file_end })
    }
}

impl Partition {
    /// Applies one entry. Entries come in the order of the journal.
    ///
    /// # Errors
    /// If it doesn't continue the log, or holds no batch.
    pub fn replay(
        &mut self,
        slab: &mut Slab,
        pages: &mut Pages,
        entry: ReplayEntry<'_>,
    ) -> Result<Replayed, ReplayError> {
        match entry {
            ReplayEntry::Data { segment, position, arrival, batches } => {
                self.replay_data(slab, pages, segment, position, arrival, batches)
            }
            ReplayEntry::BulkRef { payload, run } => self.replay_bulk(slab, pages, payload, run),
            ReplayEntry::LogStart { offset } => {
                let is_news = offset > self.log_start;
                // A log start can't lie beyond what is durable, so entries before this one reached it.
                self.log_start = self.log_start.max(offset.min(self.end.offset));
                self.log_start_durable = self.log_start;
                Ok(if is_news { Replayed::Applied } else { Replayed::Already })
            }
        }
    }

    /// Replay is over: all that was replayed is durable, and new batches get this epoch.
    pub fn end_replay(&mut self, epoch: LeaderEpoch) {
        self.epoch = epoch;
        self.set_durable(self.end, 0);
    }

    /// The segment that is appended to, if there is one: its file's length is its space.
    #[must_use]
    pub fn active_segment(&self) -> Option<(Offset, cutwater_model::FileName)> {
        self.segments.back().filter(|segment| !segment.is_sealed).map(|it| (it.base(), it.file()))
    }

    fn replay_data(
        &mut self,
        slab: &mut Slab,
        pages: &mut Pages,
        segment: Offset,
        mut position: u32,
        arrival: TimestampMs,
        batches: &[u8],
    ) -> Result<Replayed, ReplayError> {
        let mut outcome = Replayed::Already;
        for batch in batch::walk(batches) {
            let batch = batch.map_err(|walked| ReplayError::Batch(walked.error))?;
            let header = &batch.header;
            if header.next_offset() > self.end.offset {
                self.continue_at(slab, segment, position, header.base_offset)?;
                if !self.append_again(slab, pages, header, batch.bytes, arrival) {
                    return Ok(Replayed::Drain);
                }
                self.set_durable(self.end, 0);
                outcome = Replayed::Applied;
            }
            position = position.saturating_add(batch.bytes.len() as u32);
        }
        Ok(outcome)
    }

    /// The blocks to read before a reference is applied of which no later entry says that they are whole. `None`: the
    /// partition has the batch already.
    ///
    /// # Errors
    /// As [`Partition::replay`].
    pub fn run_to_read(&self, payload: &[u8]) -> Result<Option<RunRead>, ReplayError> {
        let reference = Referred::read(payload)?;
        if reference.header.next_offset() <= self.end.offset {
            return Ok(None);
        }
        let file = FileName::Segment { partition: self.id, base: reference.entry.segment };
        let at = block_floor(u64::from(reference.entry.position));
        Ok(Some(RunRead { file, at, len: reference.run_end - at as u32 }))
    }

    fn replay_bulk(
        &mut self,
        slab: &mut Slab,
        pages: &mut Pages,
        payload: &[u8],
        run: Run<'_>,
    ) -> Result<Replayed, ReplayError> {
        let Referred { entry, header, remainder, run_end, file_end } = Referred::read(payload)?;
        if header.next_offset() <= self.end.offset {
            return Ok(Replayed::Already);
        }
        let (run_end, file_end) = (u64::from(run_end), u64::from(file_end));
        #[cfg(feature = "plants")]
        let run = match run {
            _ if crate::plants::REFERENCES_ON_TRUST.load(core::sync::atomic::Ordering::Relaxed) => Run::Whole,
            run => run,
        };
        if let Run::Read(bytes) = run {
            let is_continued = self.can_continue_at(entry.segment, entry.position, header.base_offset)?;
            if is_continued && self.writeback.planned < block_floor(self.tail.end()) {
                return Ok(Replayed::Drain);
            }
            if !self.is_whole(slab, &entry, &header, is_continued, bytes) {
                return Ok(Replayed::Torn);
            }
        }
        self.continue_at(slab, entry.segment, entry.position, header.base_offset)?;
        let Some(origin) = self.segments.back().map(|segment| segment.origin) else {
            return Err(ReplayError::Cut);
        };
        // What comes before the run was only written, not flushed, when the run was: write it again. The run itself,
        // earlier bytes in its first blocks included, is durable (B1).
        let run_start = origin + u64::from(entry.run_start);
        if self.writeback.written < run_start || !self.writeback.is_idle() || self.tail.pins() > 0 {
            return Ok(Replayed::Drain);
        }
        let start = self.tail.end();
        let end = LogEnd { offset: header.next_offset(), position: origin + file_end };
        self.digest_before_run(slab, start);
        if !self.tail.restart(slab, pages, end, remainder) {
            return Ok(Replayed::Drain);
        }
        self.note_bulk(start, &header, entry.arrival);
        if let Some(active) = self.segments.back_mut() {
            active.index.digest_known(run_end as u32, entry.digest);
            active.is_data_dirty = true;
        }
        self.writeback.jump(origin + run_end);
        self.set_durable(self.end, 0);
        Ok(Replayed::Applied)
    }

    /// Whether the bytes that the file holds from the block of the batch's first byte on are what was written there: the
    /// end of the batches before it, and then what the digest is of (S3).
    fn is_whole(
        &self,
        slab: &Slab,
        entry: &BulkRef,
        header: &Header,
        is_continued: bool,
        bytes: &[u8],
    ) -> bool {
        let mut index = match self.segments.back().filter(|_| is_continued) {
            Some(active) => active.index.clone(),
            None => SegmentIndex::new(self.next_identity()),
        };
        let before = self.tail.contiguous(block_floor(self.tail.end()), self.tail.end());
        let before = before.filter(|_| is_continued).map_or(&[][..], |before| slab.get(before));
        if before.len() as u32 != entry.position % BLOCK || !bytes.starts_with(before) {
            return false;
        }
        index.note(header.base_offset, entry.position, entry.arrival, header.max_timestamp);
        for block in bytes.chunks(BLOCK as usize) {
            index.digest_block(block);
        }
        index.mark().running == entry.digest
    }

    /// Whether the log can go on at that place; a segment that begins there is begun.
    fn continue_at(
        &mut self,
        slab: &mut Slab,
        segment: Offset,
        position: u32,
        base_offset: Offset,
    ) -> Result<(), ReplayError> {
        if !self.can_continue_at(segment, position, base_offset)? {
            self.begin_segment(slab, 0, Opening::Wanted(None));
        }
        Ok(())
    }

    /// Whether the log can go on at that place. False: a segment begins there.
    fn can_continue_at(
        &self,
        segment: Offset,
        position: u32,
        base_offset: Offset,
    ) -> Result<bool, ReplayError> {
        let gap = ReplayError::Gap { found: base_offset, expected: self.end.offset, segment, position };
        if base_offset != self.end.offset {
            return Err(gap);
        }
        match self.segments.back().filter(|active| !active.is_sealed) {
            Some(active) if active.base() == segment && active.end == position => Ok(true),
            Some(active) if active.base() == segment => Err(gap),
            _ if segment == self.end.offset && position == BLOCK => Ok(false),
            _ => Err(gap),
        }
    }

    /// Digests the earlier bytes in the first blocks of a run, so that a range that ends there has its digest.
    fn digest_before_run(&mut self, slab: &Slab, end: u64) {
        let mut at = self.writeback.planned;
        while at < end
            && let Some(piece) = self.tail.contiguous(at, (at + u64::from(BLOCK)).min(end))
            && let Some(active) = self.segments.back_mut()
        {
            active.index.digest_block(slab.get(piece));
            at += u64::from(piece.len);
        }
    }
}
