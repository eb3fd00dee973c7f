//! Fetch, kind 3: read from partitions, waiting for data up to a deadline.
//!
//! Request:
//! ```text
//! 12 u32 wait max, ms    how long the answer may wait for `bytes min`
//! 16 u32 bytes min
//! 20 u32 bytes max       of batches in the answer, but for one batch that is larger
//! 24 u32 count
//! 28     count parts of 32 bytes:
//!         0 u128 topic id
//!        16 u32  partition
//!        20 u32  bytes max  of this partition, but for one batch that is larger
//!        24 i64  offset     the first record wanted; the batch that holds it comes whole
//! ```
//! Answer, kind 131; a push of a subscription (kind 192) has the same body:
//! ```text
//! 12 u32 count
//! 16     count parts of 48 bytes, one for each partition that has something to say:
//!         0 u128 topic id
//!        16 u32  partition
//!        20 u32  bytes           of this partition's batches
//!        24 i64  high watermark  records below it are committed
//!        32 i64  log start       the first offset there is
//!        40 i16  code            0, or why nothing was read
//!        42 u8   flags           bit 0 retriable
//!        43 5 bytes reserved     0
//!        the batches of all parts, in their order, to the frame's end
//! ```

use alloc::vec::Vec;

use cutwater_api::{Fetch, FetchPart, Fetched, Output};
use cutwater_model::{Offset, PartitionId, limits::FETCH_PARTITIONS_MAX};

use crate::{
    error::{DecodeError, Failure},
    frame::{self, RETRIABLE_FLAG, kind},
    wire::{Reader, put_error, put_partition},
};

const PART_BYTES: usize = 32;
const ANSWER_PART_BYTES: usize = 48;

/// Appends a fetch.
pub fn encode_request(into: &mut Vec<u8>, correlation: u32, request: &Fetch) {
    let start = frame::begin(into, kind::FETCH, 0, 0, correlation);
    into.extend_from_slice(&request.wait_ms_max.to_le_bytes());
    into.extend_from_slice(&request.bytes_min.to_le_bytes());
    into.extend_from_slice(&request.bytes_max.to_le_bytes());
    put_parts(into, &request.parts);
    frame::end(into, start, 0);
}

pub(crate) fn decode_request(body: &[u8]) -> Result<Fetch, DecodeError> {
    let mut reader = Reader::new(body);
    let (wait_ms_max, bytes_min, bytes_max) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let parts = read_parts(&mut reader)?;
    reader.finish()?;
    Ok(Fetch { wait_ms_max, bytes_min, bytes_max, parts })
}

/// Appends the count and the parts of a fetch or a subscription.
pub(crate) fn put_parts(into: &mut Vec<u8>, parts: &[FetchPart]) {
    into.reserve(4 + parts.len() * PART_BYTES);
    into.extend_from_slice(&(parts.len() as u32).to_le_bytes());
    for part in parts {
        put_partition(into, part.partition);
        into.extend_from_slice(&part.bytes_max.to_le_bytes());
        into.extend_from_slice(&part.offset.0.to_le_bytes());
    }
}

/// Reads the count and the parts of a fetch or a subscription.
pub(crate) fn read_parts(reader: &mut Reader<'_>) -> Result<Vec<FetchPart>, DecodeError> {
    let count = reader.count(PART_BYTES, FETCH_PARTITIONS_MAX)?;
    let mut parts = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let partition = reader.partition()?;
        let bytes_max = reader.u32()?;
        parts.push(FetchPart { partition, bytes_max, offset: Offset(reader.i64()?) });
    }
    Ok(parts)
}

/// Appends the answer. Batches in the slab are named, not copied.
pub fn encode_answer(output: &mut Output, correlation: u32, fetched: &Fetched) {
    encode_as(output, kind::FETCH + kind::ANSWER, correlation, fetched);
}

pub(crate) fn encode_as(output: &mut Output, kind: u8, correlation: u32, fetched: &Fetched) {
    let into = output.bytes();
    let start = frame::begin(into, kind, 0, 0, correlation);
    into.reserve(4 + fetched.parts.len() * ANSWER_PART_BYTES);
    into.extend_from_slice(&(fetched.parts.len() as u32).to_le_bytes());
    let mut payload_bytes = 0;
    for part in &fetched.parts {
        payload_bytes += part.len();
        put_partition(into, part.partition);
        into.extend_from_slice(&(part.len() as u32).to_le_bytes());
        into.extend_from_slice(&part.high_watermark.0.to_le_bytes());
        into.extend_from_slice(&part.log_start.0.to_le_bytes());
        put_error(into, part.error);
        into.extend_from_slice(&[0; 4]);
    }
    frame::end(into, start, payload_bytes);
    for part in &fetched.parts {
        part.memory.iter().for_each(|&range| output.push_memory(range));
        output.bytes().extend_from_slice(&part.bytes);
    }
}

/// What was read, borrowed from a frame whose table of parts was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchedView<'a> {
    table: &'a [u8],
    batches: &'a [u8],
}

/// What was read of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchedPartView<'a> {
    /// The partition.
    pub partition: PartitionId,
    /// Why nothing was read, if that is so.
    pub failure: Option<Failure>,
    /// The offset below which records are committed.
    pub high_watermark: Offset,
    /// The first offset there is.
    pub log_start: Offset,
    /// The batches, one after the other: `cutwater_model::batch::walk` reads them. Their CRCs aren't checked.
    pub batches: &'a [u8],
}

pub(crate) fn decode_answer(body: &[u8]) -> Result<FetchedView<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let count = reader.count(ANSWER_PART_BYTES, FETCH_PARTITIONS_MAX)?;
    let table = reader.take(count as usize * ANSWER_PART_BYTES)?;
    let batches = reader.rest();
    let mut parts = Reader::new(table);
    let mut rest = batches.len();
    for _ in 0..count {
        let part = PartHead::read(&mut parts)?;
        rest = rest.checked_sub(part.bytes as usize).ok_or(DecodeError::Cut)?;
    }
    if rest > 0 {
        return Err(DecodeError::Leftover { bytes: rest });
    }
    Ok(FetchedView { table, batches })
}

impl<'a> FetchedView<'a> {
    /// How many partitions have something to say.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.table.len() / ANSWER_PART_BYTES
    }

    /// Whether none has.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// All batches of all parts, in their order.
    #[must_use]
    pub const fn batches(&self) -> &'a [u8] {
        self.batches
    }

    /// The parts, in the order asked.
    pub fn parts(&self) -> impl Iterator<Item = FetchedPartView<'a>> + use<'a> {
        let mut table = Reader::new(self.table);
        let mut rest = self.batches;
        core::iter::from_fn(move || {
            // The table was walked when the frame was decoded, so neither can fail but by its end.
            let head = PartHead::read(&mut table).ok()?;
            let (batches, after) = rest.split_at_checked(head.bytes as usize)?;
            rest = after;
            Some(FetchedPartView {
                partition: head.partition,
                failure: head.failure,
                high_watermark: head.high_watermark,
                log_start: head.log_start,
                batches,
            })
        })
    }
}

struct PartHead {
    partition: PartitionId,
    bytes: u32,
    high_watermark: Offset,
    log_start: Offset,
    failure: Option<Failure>,
}

impl PartHead {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let partition = reader.partition()?;
        let bytes = reader.u32()?;
        let (high_watermark, log_start) = (Offset(reader.i64()?), Offset(reader.i64()?));
        let (code, flags) = (reader.i16()?, reader.u8()?);
        if flags & !RETRIABLE_FLAG != 0 {
            return Err(DecodeError::Reserved);
        }
        reader.reserved(5)?;
        let failure = Failure::of(code, flags & RETRIABLE_FLAG != 0);
        Ok(Self { partition, bytes, high_watermark, log_start, failure })
    }
}
