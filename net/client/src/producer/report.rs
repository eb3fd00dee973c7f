//! What becomes of a record.

use cutwater_model::{Offset, PartitionId};
use cutwater_native::Failure;

use crate::error::describe;

/// What became of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// What the caller gave with the record.
    pub token: u64,
    /// Where it went.
    pub partition: PartitionId,
    /// Its offset; `None` where it was appended but the node does not tell where: with acks 0, or when a retry came so
    /// late that the first answer was forgotten. Or why it was not appended.
    pub outcome: Result<Option<Offset>, DeliveryError>,
}

/// Why a record was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// The node refused its batch for good; it is not in the log, unless its disk failed, when it may be.
    #[error("the node refused the batch: {}", describe(.0))]
    Refused(Failure),
    /// It was never sent: no connection, or no room, for longer than the delivery timeout.
    #[error("not sent within the delivery timeout; is the node up and reachable?")]
    NotSent,
    /// It was sent, but no acknowledgement came: it may be in the log or not.
    #[error("sent, but not acknowledged: it may be in the log or not")]
    Unknown,
    /// The producer was closed before the record was acknowledged: it may be in the log or not.
    #[error("the producer was closed before the acknowledgement came: it may be in the log or not")]
    Closed,
}

/// Why a record was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The buffer is full: poll until reports come, then send again.
    #[error("the producer holds {bytes} bytes already: poll until some are acknowledged, then send again")]
    Full {
        /// What it holds, in bytes.
        bytes: usize,
    },
    /// The record alone is larger than a batch may be.
    #[error(
        "a record of {bytes} bytes does not fit a batch of {bytes_max}; raise the batch size, and the topic's bound"
    )]
    TooLarge {
        /// The batch with this record alone, in bytes.
        bytes: usize,
        /// The bound.
        bytes_max: u32,
    },
    /// The topic has no such partition.
    #[error("the topic has {partitions} partitions, numbered from 0; there is no partition {index}")]
    NoPartition {
        /// The partition named.
        index: u32,
        /// How many there are.
        partitions: u32,
    },
    /// The topic handle is of another producer.
    #[error("the topic was not opened by this producer")]
    NoTopic,
    /// The timestamp lies too far from that of the batch's first record.
    #[error("the record's timestamp lies too far from its batch's first")]
    Timestamp,
}
