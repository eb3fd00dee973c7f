//! What a batch from a client has to pass before it is appended: one pass over its bytes, no allocation.
//!
//! Lives on the shard's core, in the hot path of every append.

use super::{APPEND_TIME_BIT, Batch, BatchError, CODEC_MASK, Codec, Header};
use crate::{
    ids::{ProducerEpoch, ProducerId},
    limits::{BATCH_HEADER_BYTES, TIMESTAMP_AHEAD_MS_MAX},
    record::{RecordFault, read_raw},
    time::TimestampMs,
    topic::TimestampType,
};

/// What a topic, and the moment, ask of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest batch taken, in bytes as it comes over the wire.
    pub batch_bytes_max: u32,
    /// Whose timestamps are kept. Only the producer's are checked; the node's will replace them otherwise.
    pub timestamp_type: TimestampType,
    /// The node's wall clock.
    pub now: TimestampMs,
}

/// What is true of a batch that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The whole batch, header included.
    pub bytes: u32,
    /// How many records it has, at least 1. Its last offset is that many less one after its first.
    pub record_count: u32,
    /// How the records are compressed.
    pub codec: Codec,
    /// The largest timestamp: the records' where they could be walked, the header's where they are compressed.
    pub max_timestamp: TimestampMs,
    /// Whether the header says so too; if not, patch it (B63).
    pub max_timestamp_is_true: bool,
    /// Who numbered the batch, if anybody.
    pub producer_id: ProducerId,
    /// Which life of the producer.
    pub producer_epoch: ProducerEpoch,
    /// The number of the first record; 0 or more where there is a producer id.
    pub base_sequence: i32,
}

impl Summary {
    /// The number of the last record. Numbers go on with 0 after the largest one (B121).
    #[must_use]
    pub const fn last_sequence(&self) -> i32 {
        ((self.base_sequence as u32).wrapping_add(self.record_count - 1) & i32::MAX as u32) as i32
    }
}

/// Checks that `bytes` are exactly one batch that a client may append.
///
/// Uncompressed records are walked one by one. Of a compressed batch, header, CRC, codec and count are checked.
///
/// # Errors
/// The first thing wrong, cheapest checks first; [`BatchError::kind`] is what the client is told.
#[inline]
pub fn verify(bytes: &[u8], limits: &Limits) -> Result<Summary, BatchError> {
    let batch = Batch::read(bytes)?;
    if batch.bytes.len() != bytes.len() {
        return Err(BatchError::Leftover { bytes: bytes.len() - batch.bytes.len() });
    }
    if bytes.len() > limits.batch_bytes_max as usize {
        return Err(BatchError::TooLarge { bytes: bytes.len(), bytes_max: limits.batch_bytes_max });
    }
    batch.check_crc()?;
    let header = &batch.header;
    let codec = check_attributes(header, limits)?;
    check_count(header)?;
    check_producer(header)?;
    let max_timestamp = match codec {
        Codec::None => walk_records(header, &bytes[BATCH_HEADER_BYTES..], limits)?,
        _ => header_timestamps(header, limits)?,
    };
    Ok(Summary {
        bytes: bytes.len() as u32,
        record_count: header.record_count as u32,
        codec,
        max_timestamp,
        max_timestamp_is_true: max_timestamp == header.max_timestamp,
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
    })
}

#[inline]
fn check_attributes(header: &Header, limits: &Limits) -> Result<Codec, BatchError> {
    // A transactional batch would wait for a marker that nobody writes: there are no transactions yet.
    if header.attributes & !(CODEC_MASK | APPEND_TIME_BIT) != 0 {
        return Err(BatchError::Attributes { attributes: header.attributes });
    }
    if header.has_append_time() && limits.timestamp_type == TimestampType::Create {
        return Err(BatchError::TimestampType);
    }
    Codec::from_id(header.codec_id()).ok_or(BatchError::Codec { id: header.codec_id() })
}

#[inline]
fn check_count(header: &Header) -> Result<(), BatchError> {
    let &Header { record_count, last_offset_delta, .. } = header;
    if record_count < 1 || last_offset_delta != record_count - 1 {
        return Err(BatchError::Count { record_count, last_offset_delta });
    }
    Ok(())
}

#[inline]
fn check_producer(header: &Header) -> Result<(), BatchError> {
    let id = header.producer_id.0;
    let numbered = header.base_sequence >= 0 && header.producer_epoch.0 >= 0;
    if id < -1 || (id >= 0 && !numbered) {
        return Err(BatchError::Producer {
            producer_id: id,
            producer_epoch: header.producer_epoch.0,
            base_sequence: header.base_sequence,
        });
    }
    Ok(())
}

/// Walks every record and returns the largest timestamp.
#[inline]
fn walk_records(header: &Header, section: &[u8], limits: &Limits) -> Result<TimestampMs, BatchError> {
    let checks_time = limits.timestamp_type == TimestampType::Create;
    let latest = latest(limits);
    let base = header.base_timestamp.0;
    let mut rest = section;
    let mut max = i64::MIN;
    for index in 0..header.record_count as u32 {
        let refuse = |fault| BatchError::Record { index, fault };
        if rest.is_empty() {
            return Err(refuse(RecordFault::Missing));
        }
        let record = read_raw(&mut rest).map_err(refuse)?;
        if record.offset_delta != index as i32 {
            return Err(refuse(RecordFault::OffsetDelta));
        }
        let timestamp = base.saturating_add(record.timestamp_delta);
        if checks_time && (timestamp < -1 || timestamp > latest) {
            return Err(BatchError::Timestamp { timestamp: TimestampMs(timestamp) });
        }
        max = max.max(timestamp);
    }
    if !rest.is_empty() {
        return Err(BatchError::Record { index: header.record_count as u32, fault: RecordFault::Surplus });
    }
    Ok(TimestampMs(max))
}

fn header_timestamps(header: &Header, limits: &Limits) -> Result<TimestampMs, BatchError> {
    let latest = latest(limits);
    if limits.timestamp_type == TimestampType::Create {
        for timestamp in [header.base_timestamp, header.max_timestamp] {
            if timestamp.0 < -1 || timestamp.0 > latest {
                return Err(BatchError::Timestamp { timestamp });
            }
        }
    }
    Ok(header.max_timestamp)
}

const fn latest(limits: &Limits) -> i64 {
    limits.now.0.saturating_add(TIMESTAMP_AHEAD_MS_MAX)
}
