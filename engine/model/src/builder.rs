//! Builds batches into memory that is used again and again.
//!
//! After its first batches a builder allocates nothing, neither per record nor per batch. It lives wherever a
//! producer does: in a client, in the load generator, in the node's own tests.

use alloc::vec::Vec;

use crate::{
    batch::{CRC_FROM, Codec, Header, LENGTH_END},
    checksum::crc32c,
    ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId},
    limits::{BATCH_BYTES_MAX, BATCH_HEADER_BYTES},
    record::RecordHeader,
    time::TimestampMs,
    varint,
};

/// Who numbers a batch, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// The producer's id.
    pub producer_id: ProducerId,
    /// Which life of the producer.
    pub producer_epoch: ProducerEpoch,
    /// The number of the batch's first record.
    pub base_sequence: i32,
}

impl Sequence {
    /// Nothing is numbered.
    pub const NONE: Self =
        Self { producer_id: ProducerId::NONE, producer_epoch: ProducerEpoch(-1), base_sequence: -1 };
}

/// Why a record was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The batch is full; finish it and begin the next.
    #[error("the batch is full: it would have {bytes} bytes of {bytes_max}; finish it and begin the next")]
    Full {
        /// How long the batch would be.
        bytes: usize,
        /// How long it may be.
        bytes_max: u32,
    },
    /// The timestamp lies more than 64 bits away from the batch's first.
    #[error("the record's timestamp lies too far from the batch's first one")]
    Timestamp,
}

/// Builds one batch after the other. See the module.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    bytes: Vec<u8>,
    bytes_max: u32,
    record_count: u32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchBuilder {
    /// An empty builder for batches of at most `bytes_max` bytes, header included and before compression.
    #[must_use]
    pub fn new(bytes_max: u32) -> Self {
        let mut builder = Self {
            bytes: Vec::new(),
            bytes_max: bytes_max.min(BATCH_BYTES_MAX),
            record_count: 0,
            base_timestamp: 0,
            max_timestamp: 0,
        };
        builder.clear();
        builder
    }

    /// Begins anew, keeping the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.resize(BATCH_HEADER_BYTES, 0);
        self.record_count = 0;
    }

    /// How many records were added.
    #[must_use]
    pub const fn record_count(&self) -> u32 {
        self.record_count
    }

    /// Whether no record was added.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// How long the batch is now, header included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a record.
    ///
    /// # Errors
    /// If the batch would grow beyond its bound, or the timestamp is too far from the first; it is then as before.
    pub fn append(
        &mut self,
        timestamp: TimestampMs,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[RecordHeader<'_>],
    ) -> Result<(), AppendError> {
        let timestamp_delta = match self.record_count {
            0 => 0,
            _ => timestamp.0.checked_sub(self.base_timestamp).ok_or(AppendError::Timestamp)?,
        };
        let body_bytes = 1
            + varint::length_i64(timestamp_delta)
            + varint::length_i32(self.record_count as i32)
            + nullable_bytes(key)
            + nullable_bytes(value)
            + varint::length_i32(headers.len() as i32)
            + headers.iter().map(|it| nullable_bytes(Some(it.key)) + nullable_bytes(it.value)).sum::<usize>();
        let bytes = self.bytes.len() + varint::length_i32(body_bytes as i32) + body_bytes;
        if bytes > self.bytes_max as usize {
            return Err(AppendError::Full { bytes, bytes_max: self.bytes_max });
        }

        self.bytes.reserve(bytes - self.bytes.len());
        varint::write_i32(&mut self.bytes, body_bytes as i32);
        self.bytes.push(0);
        varint::write_i64(&mut self.bytes, timestamp_delta);
        varint::write_i32(&mut self.bytes, self.record_count as i32);
        write_nullable(&mut self.bytes, key);
        write_nullable(&mut self.bytes, value);
        varint::write_i32(&mut self.bytes, headers.len() as i32);
        for header in headers {
            write_nullable(&mut self.bytes, Some(header.key));
            write_nullable(&mut self.bytes, header.value);
        }
        if self.record_count == 0 {
            self.base_timestamp = timestamp.0;
            self.max_timestamp = timestamp.0;
        } else {
            self.max_timestamp = self.max_timestamp.max(timestamp.0);
        }
        self.record_count += 1;
        Ok(())
    }

    /// The bytes of the records so far, for a compressor.
    #[must_use]
    pub fn section(&self) -> &[u8] {
        &self.bytes[BATCH_HEADER_BYTES..]
    }

    /// Completes the batch and shows it. Call [`BatchBuilder::clear`] before the next; finishing again with another
    /// sequence is allowed.
    pub fn finish(&mut self, sequence: Sequence) -> &[u8] {
        let header = self.header(sequence, Codec::None);
        complete(&mut self.bytes, header);
        &self.bytes
    }

    /// Completes the batch with `compressed` in place of its records, into `into`, whose contents are replaced.
    pub fn finish_compressed(&self, sequence: Sequence, codec: Codec, compressed: &[u8], into: &mut Vec<u8>) {
        into.clear();
        into.resize(BATCH_HEADER_BYTES, 0);
        into.extend_from_slice(compressed);
        complete(into, self.header(sequence, codec));
    }

    fn header(&self, sequence: Sequence, codec: Codec) -> Header {
        Header {
            base_offset: Offset(0),
            length: 0,
            leader_epoch: LeaderEpoch(-1),
            crc: 0,
            attributes: codec as i16,
            last_offset_delta: self.record_count as i32 - 1,
            base_timestamp: TimestampMs(self.base_timestamp),
            max_timestamp: TimestampMs(self.max_timestamp),
            producer_id: sequence.producer_id,
            producer_epoch: sequence.producer_epoch,
            base_sequence: sequence.base_sequence,
            record_count: self.record_count as i32,
        }
    }
}

/// Writes the header over the beginning of `bytes`, with their length and CRC.
fn complete(bytes: &mut [u8], mut header: Header) {
    header.length = (bytes.len() - LENGTH_END) as u32;
    let Some(head) = bytes.first_chunk_mut::<BATCH_HEADER_BYTES>() else { return };
    header.write(head);
    header.crc = crc32c(&bytes[CRC_FROM..]);
    bytes[CRC_FROM - 4..CRC_FROM].copy_from_slice(&header.crc.to_be_bytes());
}

/// Numbers one whole batch anew and computes its CRC again, for a producer that was given another id.
///
/// Bytes too short for a header are left alone.
pub fn renumber(batch: &mut [u8], sequence: Sequence) {
    let Some(head) = batch.first_chunk_mut::<BATCH_HEADER_BYTES>() else { return };
    head[43..51].copy_from_slice(&sequence.producer_id.0.to_be_bytes());
    head[51..53].copy_from_slice(&sequence.producer_epoch.0.to_be_bytes());
    head[53..57].copy_from_slice(&sequence.base_sequence.to_be_bytes());
    let crc = crc32c(&batch[CRC_FROM..]);
    batch[CRC_FROM - 4..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
}

fn nullable_bytes(bytes: Option<&[u8]>) -> usize {
    // A length beyond 31 bits is far beyond any batch's bound, which refuses it by the sum.
    bytes.map_or(1, |bytes| varint::length_i64(bytes.len() as i64) + bytes.len())
}

fn write_nullable(into: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => varint::write_i32(into, -1),
        Some(bytes) => {
            varint::write_i32(into, bytes.len() as i32);
            into.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests;
