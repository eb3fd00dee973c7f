//! Reads the body of a checkpoint copy record by record.
//!
//! For recovery only: it waits for the disk.

use alloc::{vec, vec::Vec};

use cutwater_model::FileName;
use cutwater_model::storage::Storage;
use xxhash_rust::xxh3::Xxh3;

use super::recover::CheckpointError;
use super::{CHECKPOINT_BODY_AT, CHECKPOINT_PIECE_BYTES, CopyFault, FoundCheckpoint};

/// A body that was found whole by [`super::read`]; it is checked once more on the way.
pub struct CheckpointBody {
    file: FileName,
    /// Bytes of the body read so far, and in all.
    read: u64,
    bytes: u64,
    digest: Xxh3,
    digest_expected: u64,
    piece: Vec<u8>,
    /// What of the piece was not handed out yet.
    from: usize,
    to: usize,
}

impl CheckpointBody {
    /// The body of that copy.
    #[must_use]
    pub fn new(found: &FoundCheckpoint) -> Self {
        let file = FileName::Checkpoint { shard: found.head.shard, copy: found.copy };
        Self::of(file, found.head.body_bytes, found.head.body_digest)
    }

    pub(super) fn of(file: FileName, bytes: u64, digest_expected: u64) -> Self {
        let room = usize::try_from(bytes).unwrap_or(usize::MAX).min(CHECKPOINT_PIECE_BYTES);
        Self {
            file,
            read: 0,
            bytes,
            digest: Xxh3::new(),
            digest_expected,
            piece: vec![0; room],
            from: 0,
            to: 0,
        }
    }

    /// Reads the next record into `record`, replacing what it held. Returns `false` at the body's end.
    ///
    /// # Errors
    /// [`CheckpointError`] where the disk fails or the bytes are no longer those that were found whole.
    pub fn next_record(
        &mut self,
        storage: &mut dyn Storage,
        record: &mut Vec<u8>,
    ) -> Result<bool, CheckpointError> {
        record.clear();
        let mut prefix = Vec::with_capacity(4);
        if !self.take(storage, 4, &mut prefix)? {
            return Ok(false);
        }
        let bytes = u32::from_le_bytes(crate::entry::field(&prefix, 0));
        if bytes == 0 {
            // Padding: no record is empty, so this is the end. What is left is read for its digest.
            while self.next_piece(storage)?.is_some() {}
            return Ok(false);
        }
        if self.take(storage, bytes as usize, record)? { Ok(true) } else { Err(self.fault()) }
    }

    /// Moves `bytes` bytes behind those in `into`. `false` where the body has ended already.
    fn take(
        &mut self,
        storage: &mut dyn Storage,
        mut bytes: usize,
        into: &mut Vec<u8>,
    ) -> Result<bool, CheckpointError> {
        while bytes > 0 {
            if self.from == self.to && self.next_piece(storage)?.is_none() {
                return Ok(false);
            }
            let taken = bytes.min(self.to - self.from);
            into.extend_from_slice(&self.piece[self.from..self.from + taken]);
            self.from += taken;
            bytes -= taken;
        }
        Ok(true)
    }

    /// The next bytes of the body as they are stored; checks the digest at its end.
    pub(super) fn next_piece(
        &mut self,
        storage: &mut dyn Storage,
    ) -> Result<Option<(u64, &[u8])>, CheckpointError> {
        let left = usize::try_from(self.bytes - self.read).unwrap_or(usize::MAX).min(self.piece.len());
        (self.from, self.to) = (0, left);
        if left == 0 {
            if self.digest.digest() != self.digest_expected {
                return Err(self.fault());
            }
            return Ok(None);
        }
        let at = CHECKPOINT_BODY_AT + self.read;
        let piece = &mut self.piece[..left];
        if storage.read(self.file, at, piece)? < left {
            return Err(self.fault());
        }
        self.digest.update(piece);
        self.read += left as u64;
        Ok(Some((at, &self.piece[..left])))
    }

    const fn fault(&self) -> CheckpointError {
        CheckpointError::Changed { file: self.file, fault: CopyFault::Body }
    }
}

impl core::fmt::Debug for CheckpointBody {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "CheckpointBody({}, {} of {} bytes read)", self.file, self.read, self.bytes)
    }
}
