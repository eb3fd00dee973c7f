//! Records inside a batch: reading them without copying (KIP-98, message format v2).
//!
//! ```text
//! varint   length of what follows
//! i8       attributes, unused
//! varlong  timestamp delta to the batch's base timestamp, ms
//! varint   offset delta to the batch's base offset
//! varint   key length, -1 for no key; then the key
//! varint   value length, -1 for no value; then the value
//! varint   header count; then per header: varint key length, key, varint value length (-1: none), value
//! ```

use crate::{
    batch::Header,
    ids::Offset,
    time::TimestampMs,
    varint::{self, VarintError},
};

/// Why a record's bytes aren't a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// A number is cut or has too many bits.
    #[error("{0}")]
    Varint(#[from] VarintError),
    /// The record, or one of its fields, is longer than the bytes that are left, or has a negative length.
    #[error("a length doesn't fit the bytes that are left")]
    Length,
    /// The number of headers is negative or more than the record's bytes could hold.
    #[error("the number of headers doesn't fit the record")]
    HeaderCount,
    /// Bytes are left over after the record's last header.
    #[error("bytes are left over after the last header")]
    Leftover,
    /// The offset delta is not the record's place in its batch.
    #[error("the offset delta is not the record's place in its batch")]
    OffsetDelta,
    /// The timestamp delta leads beyond 64 bits.
    #[error("the timestamp is beyond 64 bits")]
    Timestamp,
    /// The batch ends before it has held as many records as its header says.
    #[error("the batch holds fewer records than its header says")]
    Missing,
    /// The batch goes on after as many records as its header says.
    #[error("the batch holds more bytes than its records")]
    Surplus,
    /// The records are compressed; decompress them first.
    #[error("the records are compressed; decompress them first")]
    Compressed,
}

/// One record, borrowed from its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its place in the partition.
    pub offset: Offset,
    /// The producer's time, or the node's where the topic says so.
    pub timestamp: TimestampMs,
    /// The key, if any.
    pub key: Option<&'a [u8]>,
    /// The value, if any.
    pub value: Option<&'a [u8]>,
    /// The headers, already checked.
    pub headers: RecordHeaders<'a>,
}

/// One header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader<'a> {
    /// The key; UTF-8 by convention, not checked.
    pub key: &'a [u8],
    /// The value, if any.
    pub value: Option<&'a [u8]>,
}

/// The records of an uncompressed batch, in order. `batch` is one whole batch.
///
/// Nothing is promised of bytes that were not verified but that reading them ends and doesn't panic: after the
/// first fault the iterator is at its end.
#[must_use]
pub fn iter<'a>(header: &Header, batch: &'a [u8]) -> Records<'a> {
    Records::new(header, batch.get(crate::limits::BATCH_HEADER_BYTES..header.bytes()).unwrap_or_default())
}

/// Iterates over records. See [`iter`].
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    base_offset: Offset,
    base_timestamp: i64,
    append_time: Option<TimestampMs>,
    index: u32,
    count: u32,
    compressed: bool,
}

impl<'a> Records<'a> {
    /// Reads `section`, the bytes after the batch's header. Give a compressed batch's section with
    /// [`Records::decompressed`].
    #[must_use]
    pub fn new(header: &Header, section: &'a [u8]) -> Self {
        Self { compressed: header.codec_id() != 0, ..Self::decompressed(header, section) }
    }

    /// Reads the section of a batch after decompressing it, or that of an uncompressed one.
    #[must_use]
    pub fn decompressed(header: &Header, section: &'a [u8]) -> Self {
        Self {
            rest: section,
            base_offset: header.base_offset,
            base_timestamp: header.base_timestamp.0,
            append_time: header.has_append_time().then_some(header.max_timestamp),
            index: 0,
            count: header.record_count.max(0) as u32,
            compressed: false,
        }
    }

    fn read(&mut self) -> Result<Record<'a>, RecordFault> {
        if self.compressed {
            return Err(RecordFault::Compressed);
        }
        let raw = read_raw(&mut self.rest)?;
        if raw.offset_delta != self.index as i32 {
            return Err(RecordFault::OffsetDelta);
        }
        let timestamp = match self.append_time {
            Some(time) => time,
            None => TimestampMs(
                self.base_timestamp.checked_add(raw.timestamp_delta).ok_or(RecordFault::Timestamp)?,
            ),
        };
        let offset = self.base_offset.after(self.index);
        Ok(Record { offset, timestamp, key: raw.key, value: raw.value, headers: raw.headers })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordFault>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = if self.index < self.count {
            if self.rest.is_empty() { Err(RecordFault::Missing) } else { self.read() }
        } else if self.index == self.count && !self.rest.is_empty() {
            Err(RecordFault::Surplus)
        } else {
            return None;
        };
        self.index = if item.is_ok() { self.index + 1 } else { u32::MAX };
        Some(item)
    }
}

/// A record whose deltas are not yet put on their base.
pub(crate) struct RawRecord<'a> {
    pub(crate) timestamp_delta: i64,
    pub(crate) offset_delta: i32,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: RecordHeaders<'a>,
}

/// Reads one record and checks all that concerns it alone.
#[inline]
pub(crate) fn read_raw<'a>(input: &mut &'a [u8]) -> Result<RawRecord<'a>, RecordFault> {
    let length = varint::read_i32(input)?;
    let mut body = take(input, length)?;
    let [_attributes, rest @ ..] = body else { return Err(RecordFault::Length) };
    body = rest;
    let timestamp_delta = varint::read_i64(&mut body)?;
    let offset_delta = varint::read_i32(&mut body)?;
    let key = read_nullable(&mut body)?;
    let value = read_nullable(&mut body)?;
    let count = varint::read_i32(&mut body)?;
    let headers = RecordHeaders { rest: body, count: count as u32 };
    if count != 0 {
        check_headers(body, count)?;
    } else if !body.is_empty() {
        return Err(RecordFault::Leftover);
    }
    Ok(RawRecord { timestamp_delta, offset_delta, key, value, headers })
}

fn check_headers(mut body: &[u8], count: i32) -> Result<(), RecordFault> {
    // A header has two bytes at least, so a count beyond half the bytes is a lie, found before any work.
    if count < 0 || count as usize > body.len() / 2 {
        return Err(RecordFault::HeaderCount);
    }
    for _ in 0..count {
        read_header(&mut body)?;
    }
    if body.is_empty() { Ok(()) } else { Err(RecordFault::Leftover) }
}

fn read_header<'a>(input: &mut &'a [u8]) -> Result<RecordHeader<'a>, RecordFault> {
    let length = varint::read_i32(input)?;
    let key = take(input, length)?;
    Ok(RecordHeader { key, value: read_nullable(input)? })
}

#[inline]
fn read_nullable<'a>(input: &mut &'a [u8]) -> Result<Option<&'a [u8]>, RecordFault> {
    match varint::read_i32(input)? {
        -1 => Ok(None),
        length => take(input, length).map(Some),
    }
}

#[inline]
fn take<'a>(input: &mut &'a [u8], length: i32) -> Result<&'a [u8], RecordFault> {
    let length = usize::try_from(length).map_err(|_| RecordFault::Length)?;
    let (taken, rest) = input.split_at_checked(length).ok_or(RecordFault::Length)?;
    *input = rest;
    Ok(taken)
}

/// The headers of one record, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordHeaders<'a> {
    rest: &'a [u8],
    count: u32,
}

impl RecordHeaders<'_> {
    /// How many are left.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether none is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl<'a> Iterator for RecordHeaders<'a> {
    type Item = RecordHeader<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        // The headers were walked when the record was read, so this can't fail.
        read_header(&mut self.rest).ok()
    }
}

#[cfg(test)]
mod tests;
