//! Why a batch is refused.

use crate::{error::ErrorKind, limits::BATCH_HEADER_BYTES, record::RecordFault, time::TimestampMs};

/// Why a batch is refused, and what its sender should look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// There are no bytes at all (B67).
    #[error("there is no batch")]
    Empty,
    /// The bytes end before the batch does (B46).
    #[error("the batch has {bytes} bytes, but only {present} came")]
    Cut {
        /// How long the batch is, as far as known.
        bytes: usize,
        /// How many bytes there are.
        present: usize,
    },
    /// The length is less than a header's (B47).
    #[error(
        "the batch says it is {length} bytes long; its header alone has {BATCH_HEADER_BYTES} with 12 not counted"
    )]
    Length {
        /// The length as the batch says it.
        length: i32,
    },
    /// Bytes follow the batch: a second batch, or rubbish (B52).
    #[error("{bytes} bytes follow the batch; send one batch per partition and request")]
    Leftover {
        /// How many.
        bytes: usize,
    },
    /// The batch is longer than its topic takes (B60).
    #[error(
        "the batch has {bytes} bytes, the topic takes {bytes_max}; send smaller batches or raise max.message.bytes"
    )]
    TooLarge {
        /// How long the batch is.
        bytes: usize,
        /// How long it may be.
        bytes_max: u32,
    },
    /// The format isn't v2 (B53).
    #[error("the batch's magic is {magic}; only format 2 is taken")]
    Magic {
        /// The magic as the batch says it.
        magic: u8,
    },
    /// The CRC doesn't fit (B45).
    #[error("the batch's CRC is {stored:#010x}, its bytes give {computed:#010x}; send it again")]
    Checksum {
        /// The CRC as the batch says it.
        stored: u32,
        /// That of its bytes.
        computed: u32,
    },
    /// The codec is none of those known (B55).
    #[error("codec {id} is none of none (0), gzip (1), snappy (2), lz4 (3), zstd (4)")]
    Codec {
        /// The codec as the batch says it.
        id: u8,
    },
    /// A flag is set that a client may not set: control (B54), transactional, delete horizon, or one without meaning.
    #[error("attributes {attributes:#06x} hold a flag that only the node may set")]
    Attributes {
        /// The attributes as the batch says them.
        attributes: i16,
    },
    /// The count and the last offset delta disagree, or there are no records (B48, B49).
    #[error("the batch says {record_count} records and a last offset delta of {last_offset_delta}")]
    Count {
        /// The count as the batch says it.
        record_count: i32,
        /// The delta as the batch says it.
        last_offset_delta: i32,
    },
    /// The producer's id, epoch and sequence don't go together (B124).
    #[error("producer {producer_id} with epoch {producer_epoch} and base sequence {base_sequence} can't be")]
    Producer {
        /// The id as the batch says it.
        producer_id: i64,
        /// The epoch as the batch says it.
        producer_epoch: i16,
        /// The sequence as the batch says it.
        base_sequence: i32,
    },
    /// A timestamp can't be, or lies too far ahead (B62).
    #[error("timestamp {} is negative, or more than an hour ahead of this node's clock", timestamp.0)]
    Timestamp {
        /// The first bad one.
        timestamp: TimestampMs,
    },
    /// The batch says its timestamps are the node's, which a client can't know.
    #[error("the batch claims append time, which only the node sets")]
    TimestampType,
    /// A record is bad (B48, B50, B51).
    #[error("record {index} of the batch: {fault}")]
    Record {
        /// Which record, counted from 0.
        index: u32,
        /// What is wrong with it.
        fault: RecordFault,
    },
}

impl BatchError {
    /// The kind that the client is told.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Cut { .. } | Self::Length { .. } | Self::Checksum { .. } => ErrorKind::CorruptMessage,
            Self::TooLarge { .. } => ErrorKind::MessageTooLarge,
            Self::Magic { .. } => ErrorKind::UnsupportedForMessageFormat,
            Self::Codec { .. } => ErrorKind::UnsupportedCompressionType,
            Self::Timestamp { .. } | Self::TimestampType => ErrorKind::InvalidTimestamp,
            Self::Empty
            | Self::Leftover { .. }
            | Self::Attributes { .. }
            | Self::Count { .. }
            | Self::Producer { .. }
            | Self::Record { .. } => ErrorKind::InvalidRecord,
        }
    }
}
