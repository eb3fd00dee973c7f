//! The words of Cutwater: ids, offsets, batches, limits, error kinds, names of files, the disk as recovery sees it.
//!
//! Everything here is plain data and arithmetic. Nothing reads a clock, draws a random number or waits, so the
//! same words serve a running node, the simulator and the tools.
#![no_std]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]
extern crate alloc;

pub mod batch;
pub mod builder;
pub mod checksum;
pub mod error;
pub mod file_name;
pub mod hash;
pub mod ids;
pub mod limits;
pub mod memory;
pub mod partitioner;
pub mod record;
pub mod storage;
#[cfg(test)]
mod test_random;
pub mod time;
pub mod topic;
pub mod varint;

pub use batch::{Batch, BatchError, Codec};
pub use error::ErrorKind;
pub use file_name::{DirName, FileName};
pub use ids::{
    Incarnation, LeaderEpoch, Offset, PartitionId, PartitionIndex, ProducerEpoch, ProducerId, ShardId,
    TopicId,
};
pub use memory::{MemoryRange, Slab};
pub use time::{Now, TimestampMs};
