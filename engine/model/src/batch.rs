//! RecordBatch v2: the one layout of records in memory, on disk and on both wires (KIP-98).
//!
//! ```text
//!  0 i64 base offset           not covered by the CRC: the node stamps it
//!  8 i32 length                of what follows this field
//! 12 i32 leader epoch          not covered by the CRC: the node stamps it
//! 16 i8  magic                 2
//! 17 u32 CRC-32C               of byte 21 to the end
//! 21 i16 attributes            bits 0-2 codec, 3 append time, 4 transactional, 5 control, 6 delete horizon
//! 23 i32 last offset delta     records - 1
//! 27 i64 base timestamp, ms
//! 35 i64 max timestamp, ms
//! 43 i64 producer id           -1: the producer numbers nothing
//! 51 i16 producer epoch
//! 53 i32 base sequence
//! 57 i32 record count
//! 61     records               record.rs; compressed as a whole where a codec is set
//! ```
//!
//! All numbers are big-endian. [`verify`](verify()) is what a batch from a client has to pass.

mod error;
mod verify;

pub use error::BatchError;
pub use verify::{Limits, Summary, verify};

use crate::{
    checksum::crc32c,
    ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId},
    limits::BATCH_HEADER_BYTES,
    time::TimestampMs,
};

/// The bytes before and including the length field: what the length doesn't count.
pub const LENGTH_END: usize = 12;
const EPOCH_AT: usize = 12;
const CRC_AT: usize = 17;
/// The bytes at a batch's front within which everything lies that [`stamp`] writes.
pub const STAMPED_BYTES: usize = EPOCH_AT + 4;
/// Where the bytes begin that the CRC covers.
pub const CRC_FROM: usize = 21;
const ATTRIBUTES_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;
/// The only format taken.
pub const MAGIC: u8 = 2;

pub(crate) const CODEC_MASK: i16 = 0x07;
pub(crate) const APPEND_TIME_BIT: i16 = 0x08;

/// How the records of a batch are compressed. The numbers are those in the attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Codec {
    /// Not at all.
    #[default]
    None = 0,
    /// RFC 1952.
    Gzip = 1,
    /// Snappy in the framing of snappy-java.
    Snappy = 2,
    /// The LZ4 frame format.
    Lz4 = 3,
    /// RFC 8878.
    Zstd = 4,
}

impl Codec {
    /// The codec of a number, or `None` where there is none.
    #[must_use]
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// The header of a batch, as it stands: only the magic and the least length were checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The offset of the first record.
    pub base_offset: Offset,
    /// The bytes after the length field; [`Header::bytes`] counts all.
    pub length: u32,
    /// Under which leader the batch was appended.
    pub leader_epoch: LeaderEpoch,
    /// The CRC-32C as the batch says it.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: i16,
    /// The last record's offset less the first one's.
    pub last_offset_delta: i32,
    /// What the records' timestamp deltas are added to.
    pub base_timestamp: TimestampMs,
    /// The largest timestamp, or the time of append.
    pub max_timestamp: TimestampMs,
    /// Who numbered the batch, if anybody.
    pub producer_id: ProducerId,
    /// Which life of the producer.
    pub producer_epoch: ProducerEpoch,
    /// The number of the first record, -1 where there is none.
    pub base_sequence: i32,
    /// How many records follow.
    pub record_count: i32,
}

impl Header {
    /// Reads the header at the beginning of `bytes`, which may end anywhere after it.
    ///
    /// # Errors
    /// If there are too few bytes for a header, the format isn't v2, or the length is less than a header (B47, B53).
    #[inline]
    pub fn read(bytes: &[u8]) -> Result<Self, BatchError> {
        let Some(head) = bytes.first_chunk::<BATCH_HEADER_BYTES>() else {
            return Err(refuse_short(bytes));
        };
        if head[16] != MAGIC {
            return Err(BatchError::Magic { magic: head[16] });
        }
        let length = i32::from_be_bytes(part(head, 8));
        if length < (BATCH_HEADER_BYTES - LENGTH_END) as i32 {
            return Err(BatchError::Length { length });
        }
        Ok(Self {
            base_offset: Offset(i64::from_be_bytes(part(head, 0))),
            length: length as u32,
            leader_epoch: LeaderEpoch(i32::from_be_bytes(part(head, EPOCH_AT))),
            crc: u32::from_be_bytes(part(head, CRC_AT)),
            attributes: i16::from_be_bytes(part(head, ATTRIBUTES_AT)),
            last_offset_delta: i32::from_be_bytes(part(head, 23)),
            base_timestamp: TimestampMs(i64::from_be_bytes(part(head, 27))),
            max_timestamp: TimestampMs(i64::from_be_bytes(part(head, MAX_TIMESTAMP_AT))),
            producer_id: ProducerId(i64::from_be_bytes(part(head, 43))),
            producer_epoch: ProducerEpoch(i16::from_be_bytes(part(head, 51))),
            base_sequence: i32::from_be_bytes(part(head, 53)),
            record_count: i32::from_be_bytes(part(head, 57)),
        })
    }

    /// Writes the header over the first bytes of a batch, its CRC as it stands in `self`.
    pub(crate) fn write(&self, head: &mut [u8; BATCH_HEADER_BYTES]) {
        head[0..8].copy_from_slice(&self.base_offset.0.to_be_bytes());
        head[8..12].copy_from_slice(&self.length.to_be_bytes());
        head[12..16].copy_from_slice(&self.leader_epoch.0.to_be_bytes());
        head[16] = MAGIC;
        head[17..21].copy_from_slice(&self.crc.to_be_bytes());
        head[21..23].copy_from_slice(&self.attributes.to_be_bytes());
        head[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        head[27..35].copy_from_slice(&self.base_timestamp.0.to_be_bytes());
        head[35..43].copy_from_slice(&self.max_timestamp.0.to_be_bytes());
        head[43..51].copy_from_slice(&self.producer_id.0.to_be_bytes());
        head[51..53].copy_from_slice(&self.producer_epoch.0.to_be_bytes());
        head[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        head[57..61].copy_from_slice(&self.record_count.to_be_bytes());
    }

    /// How many bytes the whole batch has.
    #[inline]
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.length as usize + LENGTH_END
    }

    /// The number of the codec, 0 to 7; [`Codec::from_id`] knows 0 to 4.
    #[inline]
    #[must_use]
    pub const fn codec_id(&self) -> u8 {
        (self.attributes & CODEC_MASK) as u8
    }

    /// Whether the max timestamp is the time of append and stands for every record's.
    #[must_use]
    pub const fn has_append_time(&self) -> bool {
        self.attributes & APPEND_TIME_BIT != 0
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub const fn is_transactional(&self) -> bool {
        self.attributes & 0x10 != 0
    }

    /// Whether the batch is the node's own mark, not data.
    #[must_use]
    pub const fn is_control(&self) -> bool {
        self.attributes & 0x20 != 0
    }

    /// The offset that follows the batch's last one.
    #[must_use]
    pub const fn next_offset(&self) -> Offset {
        Offset(self.base_offset.0.saturating_add(self.last_offset_delta as i64).saturating_add(1))
    }
}

#[cold]
fn refuse_short(bytes: &[u8]) -> BatchError {
    match bytes.get(16) {
        _ if bytes.is_empty() => BatchError::Empty,
        // Formats 0 and 1 have their magic at the same place and may be shorter than this header.
        Some(&magic) if magic != MAGIC => BatchError::Magic { magic },
        _ => BatchError::Cut { bytes: BATCH_HEADER_BYTES, present: bytes.len() },
    }
}

#[inline]
fn part<const N: usize>(head: &[u8; BATCH_HEADER_BYTES], at: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&head[at..at + N]);
    part
}

/// One whole batch, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch<'a> {
    /// Its header.
    pub header: Header,
    /// All its bytes, header included.
    pub bytes: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Reads the batch at the beginning of `bytes`; what follows it is left alone. The CRC isn't checked.
    ///
    /// # Errors
    /// If the header can't be read, or the batch is longer than `bytes` (B46).
    #[inline]
    pub fn read(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let header = Header::read(bytes)?;
        match bytes.get(..header.bytes()) {
            Some(bytes) => Ok(Self { header, bytes }),
            None => Err(BatchError::Cut { bytes: header.bytes(), present: bytes.len() }),
        }
    }

    /// Checks the CRC.
    ///
    /// # Errors
    /// If it doesn't fit the bytes (B45).
    #[inline]
    pub fn check_crc(&self) -> Result<(), BatchError> {
        let computed = crc32c(&self.bytes[CRC_FROM..]);
        if computed == self.header.crc {
            Ok(())
        } else {
            Err(BatchError::Checksum { stored: self.header.crc, computed })
        }
    }

    /// The bytes after the header: records, or what they were compressed to.
    #[must_use]
    pub fn section(&self) -> &'a [u8] {
        &self.bytes[BATCH_HEADER_BYTES..]
    }

    /// The records, where they aren't compressed.
    #[must_use]
    pub fn records(&self) -> crate::record::Records<'a> {
        crate::record::Records::new(&self.header, self.section())
    }
}

/// Writes what the node decides into a verified batch. Both fields lie outside the CRC.
///
/// The first [`STAMPED_BYTES`] of the batch are enough; fewer are left alone.
#[inline]
pub fn stamp(bytes: &mut [u8], base_offset: Offset, leader_epoch: LeaderEpoch) {
    if let Some(head) = bytes.first_chunk_mut::<STAMPED_BYTES>() {
        head[0..8].copy_from_slice(&base_offset.0.to_be_bytes());
        head[EPOCH_AT..16].copy_from_slice(&leader_epoch.0.to_be_bytes());
    }
}

/// What [`patch_timestamps`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampPatch {
    /// The time of append, which then stands for every record's.
    AppendTime(TimestampMs),
    /// The true largest timestamp, where the header lied (B63).
    MaxTimestamp(TimestampMs),
}

/// Corrects the timestamps in the header of one whole, verified batch and computes its CRC again.
///
/// Bytes too short for a header are left alone.
pub fn patch_timestamps(bytes: &mut [u8], patch: TimestampPatch) {
    let Some(head) = bytes.first_chunk_mut::<BATCH_HEADER_BYTES>() else { return };
    let max_timestamp = match patch {
        TimestampPatch::AppendTime(time) => {
            let attributes = i16::from_be_bytes(part(head, ATTRIBUTES_AT)) | APPEND_TIME_BIT;
            head[ATTRIBUTES_AT..23].copy_from_slice(&attributes.to_be_bytes());
            time
        }
        TimestampPatch::MaxTimestamp(time) => time,
    };
    head[MAX_TIMESTAMP_AT..43].copy_from_slice(&max_timestamp.0.to_be_bytes());
    let crc = crc32c(&bytes[CRC_FROM..]);
    bytes[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
}

/// The batches that lie one after the other in `bytes`. CRCs aren't checked.
#[must_use]
pub const fn walk(bytes: &[u8]) -> Batches<'_> {
    Batches { bytes, at: 0 }
}

/// Iterates over batches; after the first error it is at its end. See [`walk`].
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Batches<'_> {
    /// Where the next batch begins, in bytes; after an error, where the bad one does.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.at
    }
}

/// Where a run of batches breaks off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no batch at byte {at}: {error}")]
pub struct WalkError {
    /// Where the bad batch begins, in bytes from the run's beginning.
    pub at: usize,
    /// What is wrong with it.
    pub error: BatchError,
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<Batch<'a>, WalkError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
        match Batch::read(rest) {
            Ok(batch) => {
                self.at += batch.bytes.len();
                Some(Ok(batch))
            }
            Err(error) => {
                self.bytes = &[];
                Some(Err(WalkError { at: self.at, error }))
            }
        }
    }
}

#[cfg(test)]
mod tests;
