//! Appending: one copy into the tail, stamped there, with nothing allocated on the way of a batch. Lives on the shard's
//! core, does no I/O.

use cutwater_model::batch::{self, Header};
use cutwater_model::{MemoryRange, Offset, Slab, TimestampMs};

use crate::format::SegmentIdentity;
use crate::pages::Pages;
use crate::partition::Partition;
use crate::position::{BLOCK, LogEnd};
use crate::producers::ProducerBatch;
use crate::segment::{FOOTER_BYTES, Opening, Segment, space_for};

/// Where a batch went.
#[derive(Clone, Copy, Debug)]
pub struct Appended {
    /// The offset of its first record, as stamped.
    pub base_offset: Offset,
    /// The end of the log after it: what [`Partition::set_durable`] wants once it is durable.
    pub end: LogEnd,
    /// The tail position of its first byte.
    pub start: u64,
    /// The base offset of its segment.
    pub segment: Offset,
    /// Where it begins in the segment's file.
    pub position: u32,
    /// How many bytes it has.
    pub len: u32,
    /// When it arrived, by times that never go back in a partition (S7).
    pub arrival: TimestampMs,
    /// The stamped copy, or its first piece where it straddles chunks; then [`Partition::ranges`] tells all pieces.
    pub memory: MemoryRange,
    /// Whether it straddles chunks.
    pub straddles: bool,
}

/// Why a batch was not appended. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// The shard's payload memory is used up until tails are written and evicted.
    #[error("no memory is left for the tail; evict written pages, then append again")]
    Memory,
    /// The segment's space is not written yet, or the disk is full (S4).
    #[error("the segment's space is not there yet; carry out the plan of needs_space, then append again")]
    SegmentSpace,
    /// A bulk batch waits for its segment, or is on its way to the one that is full now (B2).
    #[error("a bulk batch of this partition is on its way to its segment; append after it")]
    Bulk,
    /// No segment can hold it.
    #[error("the batch is larger than the {bytes_max} bytes that a segment holds")]
    TooLarge {
        /// What a segment holds.
        bytes_max: u32,
    },
    /// A segment write failed; the partition takes no appends (E2).
    #[error("a write to this partition's segment failed; it takes no appends")]
    Fenced,
    /// The bytes are no batch: the caller had to verify them.
    #[error("the bytes are not one whole record batch")]
    NotABatch,
}

/// A batch that was received into pages of the slab allocated for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landed {
    /// Whole blocks.
    pub pages: MemoryRange,
    /// How many bytes lie before it: as many as its block was expected to hold of earlier batches.
    pub skip: u32,
    /// How many bytes it has.
    pub len: u32,
}

impl Landed {
    /// Its bytes.
    #[must_use]
    pub const fn batch(&self) -> MemoryRange {
        MemoryRange { at: self.pages.at + self.skip, len: self.len }
    }
}

/// What an append needs to know of a batch.
struct Incoming {
    len: u32,
    records: u32,
    max_timestamp: TimestampMs,
    producer: Option<ProducerBatch>,
}

impl Partition {
    /// Appends one whole, verified batch: copies it once and stamps its base offset and leader epoch there.
    ///
    /// # Errors
    /// If there is no room for it; then nothing changed, and [`Partition::needs_space`] knows what is missing.
    #[inline(always)]
    pub fn append(
        &mut self,
        slab: &mut Slab,
        pages: &mut Pages,
        bytes: &[u8],
        arrival: TimestampMs,
    ) -> Result<Appended, NoRoom> {
        let incoming = Incoming::read(bytes)?;
        self.make_room(slab, pages, &incoming, arrival)?;
        let start = self.tail.end();
        self.tail.push(slab, bytes);
        Ok(self.finish_append(slab, start, &incoming, arrival))
    }

    /// Where in its block the next batch begins, if `bytes` more are appended before it.
    #[must_use]
    pub fn next_in_block(&self, bytes: u64) -> u32 {
        ((self.tail.end() + bytes) % BLOCK as u64) as u32
    }

    /// The same for a batch that lies in pages allocated for it, where the tail can just go on in them if the batch
    /// begins as far into its block as the log's next byte does. Otherwise it is copied and the pages are given back.
    ///
    /// # Errors
    /// As [`Partition::append`]; then the pages are still the caller's.
    pub fn append_landed(
        &mut self,
        slab: &mut Slab,
        pages: &mut Pages,
        landed: Landed,
        arrival: TimestampMs,
    ) -> Result<Appended, NoRoom> {
        let incoming = Incoming::read(slab.get(landed.batch()))?;
        self.make_space(slab, &incoming, arrival)?;
        let start = self.tail.end();
        let fits = landed.skip == self.next_in_block(0);
        if !(fits && self.tail.adopt(slab, pages, landed.pages, landed.len, self.end)) {
            if !self.tail.reserve(pages, incoming.len) {
                return Err(NoRoom::Memory);
            }
            self.tail.push_from(slab, landed.batch());
            pages.free(landed.pages);
        }
        Ok(self.finish_append(slab, start, &incoming, arrival))
    }

    #[inline(always)]
    fn make_room(
        &mut self,
        slab: &mut Slab,
        pages: &mut Pages,
        incoming: &Incoming,
        arrival: TimestampMs,
    ) -> Result<(), NoRoom> {
        self.make_space(slab, incoming, arrival)?;
        if self.tail.reserve(pages, incoming.len) { Ok(()) } else { Err(NoRoom::Memory) }
    }

    /// The same but for the memory.
    #[inline(always)]
    fn make_space(
        &mut self,
        slab: &mut Slab,
        incoming: &Incoming,
        arrival: TimestampMs,
    ) -> Result<(), NoRoom> {
        if self.is_fenced {
            return Err(NoRoom::Fenced);
        }
        if self.bulk.is_waiting {
            return Err(NoRoom::Bulk);
        }
        let last_offset = self.end.offset.after(incoming.records);
        match self.segments.back() {
            Some(active) if !active.is_sealed && active.can_hold(incoming.len, last_offset) => {}
            // The next segment begins when all of this one is in the journal, so a run never waits for another.
            _ if self.bulk.is_busy() => return Err(NoRoom::Bulk),
            _ => self.roll_for(slab, incoming.len, arrival)?,
        }
        // The last segment is there and open: roll_for made one, or the match above found it.
        let Some(active) = self.segments.back() else { return Err(NoRoom::SegmentSpace) };
        let space = space_for(u64::from(active.end) + u64::from(incoming.len));
        if space > u64::from(active.space) {
            self.growth.want(space);
            return Err(NoRoom::SegmentSpace);
        }
        Ok(())
    }

    #[inline(always)]
    fn finish_append(
        &mut self,
        slab: &mut Slab,
        start: u64,
        incoming: &Incoming,
        arrival: TimestampMs,
    ) -> Appended {
        let base_offset = self.end.offset;
        let end_position = start + u64::from(incoming.len);
        let memory = self.tail.contiguous(start, end_position).unwrap_or_default();
        let straddles = memory.len < incoming.len;
        if straddles {
            self.tail.overwrite(slab, start, &base_offset.0.to_be_bytes());
            self.tail.overwrite(slab, start + batch::LENGTH_END as u64, &self.epoch.0.to_be_bytes());
        } else {
            batch::stamp(slab.get_mut(memory), base_offset, self.epoch);
        }
        let (segment, position, arrival) = self.note_appended(start, incoming, arrival);
        // Not read back from where it was just put: the processor would wait until all stores before are done.
        let end = LogEnd { offset: base_offset.after(incoming.records), position: end_position };
        let len = incoming.len;
        Appended { base_offset, end, start, segment, position, len, arrival, memory, straddles }
    }

    /// Counts a batch that was copied to `start`: into its segment's index, its producer's window, the log's end.
    #[inline(always)]
    fn note_appended(
        &mut self,
        start: u64,
        incoming: &Incoming,
        arrival: TimestampMs,
    ) -> (Offset, u32, TimestampMs) {
        let base_offset = self.end.offset;
        self.end = LogEnd { offset: base_offset.after(incoming.records), position: self.tail.end() };
        self.tail.close_batch(start, self.end);
        let Some(active) = self.segments.back_mut() else { return (base_offset, 0, arrival) };
        let position = (start - active.origin) as u32;
        // S7: arrival times never go back, whatever the wall clock does.
        let arrival = arrival.max(active.last_arrival);
        if active.end == BLOCK {
            active.first_arrival = arrival;
        }
        active.last_arrival = arrival;
        active.max_timestamp = active.max_timestamp.max(incoming.max_timestamp);
        active.end = position + incoming.len;
        active.index.note(base_offset, position, arrival, incoming.max_timestamp);
        let segment = active.base();
        if let Some(producer) = &incoming.producer {
            self.producers.record(producer, base_offset, arrival);
        }
        (segment, position, arrival)
    }

    #[cold]
    fn roll_for(&mut self, slab: &mut Slab, bytes: u32, arrival: TimestampMs) -> Result<(), NoRoom> {
        let bytes_max = self.segment_bytes - BLOCK - FOOTER_BYTES;
        if bytes > bytes_max {
            return Err(NoRoom::TooLarge { bytes_max });
        }
        let Some((file, space)) = self.spare else {
            self.growth.want_spare(space_for(u64::from(BLOCK + bytes)));
            return Err(NoRoom::SegmentSpace);
        };
        self.spare = None;
        self.growth.note_use(arrival);
        self.begin_segment(slab, space, Opening::Wanted(Some(file)));
        Ok(())
    }

    /// Seals the last segment and begins the next one at the log's end.
    pub(crate) fn begin_segment(&mut self, slab: &mut Slab, space: u32, opening: Opening) {
        let mut last_arrival = TimestampMs(i64::MIN);
        self.growth.forget_wanted();
        if let Some(sealed) = self.segments.back_mut() {
            last_arrival = sealed.last_arrival;
            sealed.seal();
            self.tail.pad(slab);
        }
        let position = self.tail.end();
        self.end.position = position;
        self.tail.note_padding(self.end);
        let identity = self.next_identity();
        self.generation_next = self.generation_next.wrapping_add(1);
        let origin = position - u64::from(BLOCK);
        let mut segment = Segment::new(identity, origin, space, self.segment_bytes);
        segment.last_arrival = last_arrival;
        segment.opening = opening;
        if self.segments.is_empty() {
            // Most of ten thousand partitions never have a second one.
            self.segments.reserve_exact(1);
        }
        self.segments.push_back(segment);
    }

    /// What a segment that begins at the log's end is.
    pub(crate) fn next_identity(&self) -> SegmentIdentity {
        SegmentIdentity { partition: self.id, base: self.end.offset, generation: self.generation_next }
    }

    /// Appends a batch that was stamped and journaled in an earlier life, where it was then.
    pub(crate) fn append_again(
        &mut self,
        slab: &mut Slab,
        pages: &mut Pages,
        header: &Header,
        bytes: &[u8],
        arrival: TimestampMs,
    ) -> bool {
        let incoming = Incoming::of(header);
        if !self.tail.reserve(pages, incoming.len) {
            return false;
        }
        let start = self.tail.end();
        self.tail.push(slab, bytes);
        self.note_appended(start, &incoming, arrival);
        true
    }

    /// Counts a batch whose bytes are in the file, and whose last unfinished block became the tail.
    pub(crate) fn note_bulk(&mut self, start: u64, header: &Header, arrival: TimestampMs) {
        self.note_appended(start, &Incoming::of(header), arrival);
    }
}

impl Incoming {
    #[inline]
    fn read(bytes: &[u8]) -> Result<Self, NoRoom> {
        let header = Header::read(bytes).map_err(|_| NoRoom::NotABatch)?;
        if header.bytes() != bytes.len() || header.last_offset_delta < 0 {
            return Err(NoRoom::NotABatch);
        }
        Ok(Self::of(&header))
    }

    #[inline]
    fn of(header: &Header) -> Self {
        Self {
            len: header.bytes() as u32,
            records: header.last_offset_delta as u32 + 1,
            max_timestamp: header.max_timestamp,
            producer: ProducerBatch::of(header),
        }
    }
}
