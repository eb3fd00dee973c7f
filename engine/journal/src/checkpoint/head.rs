//! The first block of a checkpoint copy: what it is, where replay begins, and the digest of its body.

use cutwater_model::limits::BLOCK_BYTES;
use cutwater_model::{Incarnation, ShardId};
use xxhash_rust::xxh3::xxh3_64;

use crate::entry::field;
use crate::place::{ChainEnd, Life, Place, ReplayPlace, Sequence};

/// The version of the format this release writes.
pub const CHECKPOINT_VERSION: u16 = 1;
const MAGIC: [u8; 8] = *b"cutwckpt";
const DIGEST_AT: usize = 40;

/// What a checkpoint says besides its body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckpointHead {
    /// Whose checkpoint.
    pub shard: ShardId,
    /// Counts the checkpoints of the shard; of two good copies the higher one counts.
    pub generation: u64,
    /// Where replay begins.
    pub from: ReplayPlace,
    /// How long each of the shard's journal files is.
    pub journal_file_bytes: u64,
    /// The body's length: whole blocks.
    pub body_bytes: u64,
    /// xxh3-64 of the body's blocks.
    pub body_digest: u64,
    /// When it was written no reader had been shown an offset beyond what it names, and none was going to be in that
    /// life. If the journal goes on behind it, that says nothing any more.
    pub names_all: bool,
}

/// What is wrong with one copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyFault {
    /// There is no such file.
    #[error("it does not exist")]
    Missing,
    /// The device could not read it.
    #[error("the device could not read it")]
    Unreadable,
    /// The first block is not one that was written whole.
    #[error("its head is not whole")]
    Head,
    /// The head is whole; the body is not.
    #[error("its body is not whole")]
    Body,
    /// It is another shard's.
    #[error("it belongs to shard {}", .0.0)]
    OtherShard(ShardId),
    /// A newer release wrote it.
    #[error("its format is version {0}, which this release does not read")]
    Newer(u16),
}

impl CheckpointHead {
    /// How long a file must be to hold the checkpoint.
    #[must_use]
    pub const fn file_bytes(&self) -> u64 {
        super::CHECKPOINT_BODY_AT + self.body_bytes
    }

    /// Fills the block with the head's bytes.
    pub(super) fn encode(&self, block: &mut [u8]) {
        let block = &mut block[..BLOCK_BYTES];
        let ReplayPlace { place, after } = &self.from;
        block.fill(0);
        block[0..8].copy_from_slice(&MAGIC);
        block[8..10].copy_from_slice(&CHECKPOINT_VERSION.to_le_bytes());
        block[12..14].copy_from_slice(&self.shard.0.to_le_bytes());
        block[14] = u8::from(self.names_all);
        block[16..24].copy_from_slice(&self.generation.to_le_bytes());
        block[24..32].copy_from_slice(&self.body_bytes.to_le_bytes());
        block[32..40].copy_from_slice(&self.body_digest.to_le_bytes());
        block[48..52].copy_from_slice(&place.file.to_le_bytes());
        block[52..56].copy_from_slice(&after.life.number.to_le_bytes());
        block[56..64].copy_from_slice(&place.at.to_le_bytes());
        block[64..72].copy_from_slice(&after.sequence.0.to_le_bytes());
        block[72..80].copy_from_slice(&after.digest.to_le_bytes());
        block[80..96].copy_from_slice(&after.life.origin.0.to_le_bytes());
        block[96..112].copy_from_slice(&after.life.incarnation.0.to_le_bytes());
        block[112..120].copy_from_slice(&self.journal_file_bytes.to_le_bytes());
        let digest = xxh3_64(block);
        block[DIGEST_AT..DIGEST_AT + 8].copy_from_slice(&digest.to_le_bytes());
    }

    /// Reads the head in a copy's first block; the block is changed.
    pub(super) fn decode(block: &mut [u8], shard: ShardId) -> Result<Self, CopyFault> {
        if block.len() < BLOCK_BYTES || block[..8] != MAGIC {
            return Err(CopyFault::Head);
        }
        let block = &mut block[..BLOCK_BYTES];
        let digest = u64::from_le_bytes(field(block, DIGEST_AT));
        block[DIGEST_AT..DIGEST_AT + 8].fill(0);
        if xxh3_64(block) != digest {
            return Err(CopyFault::Head);
        }
        // Magic, version and digest stay where they are in every version, so that a newer one can be told from rot.
        let version = u16::from_le_bytes(field(block, 8));
        if version != CHECKPOINT_VERSION {
            return Err(CopyFault::Newer(version));
        }
        let whose = ShardId(u16::from_le_bytes(field(block, 12)));
        if whose != shard {
            return Err(CopyFault::OtherShard(whose));
        }
        let body_bytes = u64::from_le_bytes(field(block, 24));
        let journal_file_bytes = u64::from_le_bytes(field(block, 112));
        let place =
            Place { file: u32::from_le_bytes(field(block, 48)), at: u64::from_le_bytes(field(block, 56)) };
        let whole = |bytes: u64| bytes.is_multiple_of(BLOCK_BYTES as u64);
        if !whole(body_bytes)
            || !whole(journal_file_bytes)
            || !whole(place.at)
            || place.at >= journal_file_bytes
        {
            return Err(CopyFault::Head);
        }
        let after = ChainEnd {
            sequence: Sequence(u64::from_le_bytes(field(block, 64))),
            digest: u64::from_le_bytes(field(block, 72)),
            life: Life {
                origin: Incarnation(u128::from_le_bytes(field(block, 80))),
                incarnation: Incarnation(u128::from_le_bytes(field(block, 96))),
                number: u32::from_le_bytes(field(block, 52)),
            },
        };
        Ok(Self {
            shard,
            generation: u64::from_le_bytes(field(block, 16)),
            from: ReplayPlace { place, after },
            journal_file_bytes,
            body_bytes,
            body_digest: u64::from_le_bytes(field(block, 32)),
            names_all: block[14] & 1 != 0,
        })
    }
}
