//! Writes a checkpoint copy in pieces, without holding the whole body.
//!
//! Lives on the shard's core: it fills buffers of the caller's and says where they go.

use cutwater_model::limits::BLOCK_BYTES;
use xxhash_rust::xxh3::Xxh3;

use super::{CHECKPOINT_BODY_AT, CheckpointHead};

/// One write of a piece: whole blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointWrite {
    /// At which byte of the file.
    pub at: u64,
    /// How many bytes of the piece.
    pub bytes: u32,
}

/// Builds one copy. The caller pushes the records' bytes into a piece; a piece that is full is taken and written,
/// and the next one begun. When the last one is written, the head's block goes to the file's beginning, and the file
/// is flushed.
pub struct CheckpointWriter {
    head: CheckpointHead,
    digest: Xxh3,
    /// Bytes in the piece that is being filled.
    filled: usize,
}

/// What goes before each record of a body.
#[must_use]
pub const fn record_prefix(bytes: u32) -> [u8; 4] {
    bytes.to_le_bytes()
}

impl CheckpointWriter {
    /// Begins a copy; `head` says all but the body's length and digest.
    #[must_use]
    pub fn new(head: CheckpointHead) -> Self {
        Self {
            head: CheckpointHead { body_bytes: 0, body_digest: 0, ..head },
            digest: Xxh3::new(),
            filled: 0,
        }
    }

    /// Copies as much as the piece still takes, and returns how much that was. Where it is not all, the piece is full:
    /// take it, and push the rest into the next one. A record is pushed as [`record_prefix`] and its bytes.
    pub fn push(&mut self, piece: &mut [u8], bytes: &[u8]) -> usize {
        let taken = bytes.len().min(piece.len() - self.filled);
        piece[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
        self.filled += taken;
        taken
    }

    /// Closes the piece that is being filled, padding it to whole blocks; only the last piece may be one that is not
    /// full. `None` where there is nothing in it.
    pub fn take(&mut self, piece: &mut [u8]) -> Option<CheckpointWrite> {
        if self.filled == 0 {
            return None;
        }
        let bytes = self.filled.next_multiple_of(BLOCK_BYTES);
        piece[self.filled..bytes].fill(0);
        self.digest.update(&piece[..bytes]);
        let at = CHECKPOINT_BODY_AT + self.head.body_bytes;
        self.head.body_bytes += bytes as u64;
        self.filled = 0;
        Some(CheckpointWrite { at, bytes: bytes as u32 })
    }

    /// How long the file must be for the pieces taken so far and one more of that size.
    #[must_use]
    pub const fn file_bytes(&self, next_piece_bytes: u32) -> u64 {
        self.head.file_bytes() + next_piece_bytes as u64
    }

    /// Fills a block with the head, after the last piece was taken.
    pub fn finish(mut self, block: &mut [u8]) -> CheckpointWrite {
        self.head.body_digest = self.digest.digest();
        self.head.encode(block);
        CheckpointWrite { at: 0, bytes: BLOCK_BYTES as u32 }
    }
}

impl core::fmt::Debug for CheckpointWriter {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "CheckpointWriter({:?}, {} bytes pending)", self.head, self.filled)
    }
}
