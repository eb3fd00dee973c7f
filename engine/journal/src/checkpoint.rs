//! The container of a shard's checkpoint: a head of one block, then a body in whole blocks (STORAGE.md section 4).
//!
//! There are two copies, `checkpoint-0` and `checkpoint-1`, and at any moment at least one of them is whole: a copy is
//! written only while the other one is durable. Newer copies carry a higher generation. The body belongs to the log;
//! here it is a sequence of records that are written and read one after the other, so that a body of 40 MB needs no 40
//! MB of memory.
//!
//! A running shard writes copies through [`CheckpointWriter`], a starting one reads them through [`read`], [`repair`]
//! and [`CheckpointBody`]. What a checkpoint makes superfluous (journal files, segments) may go only when **both** copies are past
//! it: the newer one may rot, and then the older one counts (C2, C3).

mod body;
mod head;
mod recover;
mod writer;

pub use body::CheckpointBody;
pub use head::{CHECKPOINT_VERSION, CheckpointHead, CopyFault};
pub use recover::{CheckpointError, FoundCheckpoint, OtherCopy, create, read, repair, write_copy};
pub use writer::{CheckpointWrite, CheckpointWriter, record_prefix};

use cutwater_model::limits::BLOCK_BYTES;

/// The body begins behind the head's block.
pub const CHECKPOINT_BODY_AT: u64 = BLOCK_BYTES as u64;
/// Bodies are written and read in pieces of this size.
pub const CHECKPOINT_PIECE_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests;
