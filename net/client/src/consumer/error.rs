//! Why reading a partition stopped.

use cutwater_model::record::RecordFault;
use cutwater_model::{BatchError, Offset, PartitionId};
use cutwater_native::Failure;

use crate::codec::CodecError;
use crate::error::describe;

/// Why reading a partition stopped, and where. Seek to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("partition {partition} at offset {}: {fault}", .offset.0)]
pub struct ReadError {
    /// The partition.
    pub partition: PartitionId,
    /// The record that was to come next.
    pub offset: Offset,
    /// What is wrong.
    pub fault: ReadFault,
}

/// What is wrong with a partition, or with what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadFault {
    /// The node refuses to read there.
    #[error("the node refuses: {}", describe(.0))]
    Refused(Failure),
    /// The batch is damaged: on its way, in the node's memory or on its disk.
    #[error("{0}; read again, and if it stays look for the file in the node's log")]
    Batch(#[from] BatchError),
    /// The batch's records are damaged.
    #[error("{0}; its producer wrote it so")]
    Record(#[from] RecordFault),
    /// The batch can't be inflated.
    #[error("{0}; its producer wrote it so")]
    Codec(#[from] CodecError),
    /// The codec is unknown.
    #[error("codec {id} is unknown to this client")]
    UnknownCodec {
        /// Its number.
        id: u8,
    },
    /// Offsets are missing.
    #[error("the next batch begins at offset {}: records are missing", .found.0)]
    Gap {
        /// Where the batch begins.
        found: Offset,
    },
    /// Offsets went back.
    #[error("the next batch ends before offset {}: the node went back", .end.0)]
    WentBack {
        /// The offset after the batch.
        end: Offset,
    },
}
