//! ListOffsets, kind 4: find offsets by name or time.
//!
//! Request:
//! ```text
//! 12 u32 count
//! 16     count parts of 32 bytes:
//!         0 u128 topic id
//!        16 u32  partition
//!        20 u8   spec        0 earliest, 1 latest, 2 the first record at or after a time
//!        21 3 bytes reserved 0
//!        24 i64  time        ms since 1970 where spec is 2, else 0
//! ```
//! Answer, kind 132:
//! ```text
//! 12 u32 count
//! 16     count parts of 40 bytes, in the order asked:
//!         0 u128 topic id
//!        16 u32  partition
//!        20 i16  code        0, or why there is no offset
//!        22 u8   flags       bit 0 retriable
//!        23 u8   reserved    0
//!        24 i64  offset      the end offset where no record is as late as the time; -1 with an error
//!        32 i64  timestamp   of the record found by time, else -1
//! ```

use alloc::vec::Vec;

use cutwater_api::{ListOffsets, ListOffsetsPart, ListedOffset, OffsetSpec};
use cutwater_model::{Offset, PartitionId, TimestampMs, limits::FETCH_PARTITIONS_MAX};

use crate::{
    error::{DecodeError, Failure},
    frame::{self, RETRIABLE_FLAG, kind},
    wire::{Reader, put_error, put_partition},
};

const PART_BYTES: usize = 32;
const ANSWER_PART_BYTES: usize = 40;
const NO_TIMESTAMP: i64 = -1;

/// Appends a search for offsets.
pub fn encode_request(into: &mut Vec<u8>, correlation: u32, request: &ListOffsets) {
    let start = frame::begin(into, kind::LIST_OFFSETS, 0, 0, correlation);
    into.extend_from_slice(&(request.parts.len() as u32).to_le_bytes());
    for part in &request.parts {
        let (spec, time) = match part.spec {
            OffsetSpec::Earliest => (0, 0),
            OffsetSpec::Latest => (1, 0),
            OffsetSpec::At(time) => (2, time.0),
        };
        put_partition(into, part.partition);
        into.extend_from_slice(&[spec, 0, 0, 0]);
        into.extend_from_slice(&time.to_le_bytes());
    }
    frame::end(into, start, 0);
}

pub(crate) fn decode_request(body: &[u8]) -> Result<ListOffsets, DecodeError> {
    let mut reader = Reader::new(body);
    let count = reader.count(PART_BYTES, FETCH_PARTITIONS_MAX)?;
    let mut parts = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let partition = reader.partition()?;
        let spec = reader.u8()?;
        reader.reserved(3)?;
        let spec = match (spec, reader.i64()?) {
            (0, 0) => OffsetSpec::Earliest,
            (1, 0) => OffsetSpec::Latest,
            (2, time) => OffsetSpec::At(TimestampMs(time)),
            _ => return Err(DecodeError::Value { field: "the spec of an offset" }),
        };
        parts.push(ListOffsetsPart { partition, spec });
    }
    reader.finish()?;
    Ok(ListOffsets { parts })
}

/// Appends the answer.
pub fn encode_answer(into: &mut Vec<u8>, correlation: u32, listed: &[ListedOffset]) {
    let start = frame::begin(into, kind::LIST_OFFSETS + kind::ANSWER, 0, 0, correlation);
    into.extend_from_slice(&(listed.len() as u32).to_le_bytes());
    for part in listed {
        put_partition(into, part.partition);
        put_error(into, part.error);
        into.extend_from_slice(&part.offset.0.to_le_bytes());
        into.extend_from_slice(&part.timestamp.map_or(NO_TIMESTAMP, |time| time.0).to_le_bytes());
    }
    frame::end(into, start, 0);
}

/// The offsets found, borrowed from a frame that was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffsetsView<'a> {
    parts: &'a [u8],
}

/// One offset found, as a client reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffsetView {
    /// The partition asked about.
    pub partition: PartitionId,
    /// Why there is none, if that is so.
    pub failure: Option<Failure>,
    /// The offset.
    pub offset: Offset,
    /// The timestamp of the record found by time.
    pub timestamp: Option<TimestampMs>,
}

pub(crate) fn decode_answer(body: &[u8]) -> Result<ListedOffsetsView<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let count = reader.count(ANSWER_PART_BYTES, FETCH_PARTITIONS_MAX)?;
    let parts = reader.take(count as usize * ANSWER_PART_BYTES)?;
    reader.finish()?;
    let mut walked = Reader::new(parts);
    for _ in 0..count {
        ListedOffsetView::read(&mut walked)?;
    }
    Ok(ListedOffsetsView { parts })
}

impl<'a> ListedOffsetsView<'a> {
    /// The offsets in the order asked.
    pub fn parts(&self) -> impl Iterator<Item = ListedOffsetView> + use<'a> {
        let mut parts = Reader::new(self.parts);
        // The parts were walked when the frame was decoded, so this fails only at their end.
        core::iter::from_fn(move || ListedOffsetView::read(&mut parts).ok())
    }
}

impl ListedOffsetView {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let partition = reader.partition()?;
        let (code, flags) = (reader.i16()?, reader.u8()?);
        if flags & !RETRIABLE_FLAG != 0 {
            return Err(DecodeError::Reserved);
        }
        reader.reserved(1)?;
        Ok(Self {
            partition,
            failure: Failure::of(code, flags & RETRIABLE_FLAG != 0),
            offset: Offset(reader.i64()?),
            timestamp: Some(reader.i64()?).filter(|&time| time != NO_TIMESTAMP).map(TimestampMs),
        })
    }
}
