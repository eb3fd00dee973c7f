//! One copy of the node's log: a head of one block, a snapshot, then records, each in a frame of its own.
//!
//! A frame's digest is seeded by the cluster, the generation of the file and the frame's place in it, so neither
//! what an earlier generation left nor a frame in another place passes. A copy counts up to its first bad frame; where
//! good frames follow that one, it is not torn but rotten, and does not count at all.

use alloc::{vec, vec::Vec};

use cutwater_model::FileName;
use cutwater_model::limits::BLOCK_BYTES;
use cutwater_model::storage::{Storage, StorageError, StorageErrorKind};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::codec::{Put, Reader};
use crate::image::Image;
use crate::record::{Identity, Record};

/// The version of the format this release writes.
pub const METADATA_VERSION: u16 = 1;
const FILE_MAGIC: [u8; 8] = *b"cutwmeta";
const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"cwmr");
/// Magic, payload length, sequence, digest.
const FRAME_HEAD_BYTES: usize = 24;
const HEAD_DIGEST_AT: usize = 16;
const FRAME_DIGEST_AT: usize = 16;

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
    #[error("its head is damaged")]
    Head,
    /// The snapshot is not whole.
    #[error("its snapshot is damaged")]
    Snapshot,
    /// A record in the middle is not whole.
    #[error("its record at byte {at} is damaged, and there are others behind it, up to number {later}")]
    Record {
        /// Where it begins.
        at: u64,
        /// The highest sequence of the records behind it.
        later: u64,
    },
    /// A record is whole, but makes no sense here.
    #[error("its record at byte {0} does not fit those before it")]
    Misfit(u64),
    /// A newer release wrote it.
    #[error("its format is version {0}, which this release does not read")]
    Newer(u16),
}

/// What names a file's frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CopyHead {
    pub(crate) identity: Identity,
    /// Counts how often the log was begun anew by a snapshot.
    pub(crate) generation: u64,
}

/// A copy that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GoodCopy {
    pub(crate) head: CopyHead,
    pub(crate) image: Image,
    /// Where the next frame goes.
    pub(crate) end: u64,
    /// The bytes from the beginning of the block of `end` up to it.
    pub(crate) tail: Vec<u8>,
    /// How long the file is.
    pub(crate) length: u64,
}

impl CopyHead {
    fn encode(&self) -> Vec<u8> {
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        block.put(&FILE_MAGIC);
        block.put_u16(METADATA_VERSION);
        block.put(&[0; 6]);
        block.put_u64(0);
        block.put_u64(self.generation);
        block.put_u128(self.identity.cluster);
        block.put_u32(self.identity.node);
        block.resize(BLOCK_BYTES, 0);
        let digest = xxh3_64(&block);
        block[HEAD_DIGEST_AT..HEAD_DIGEST_AT + 8].copy_from_slice(&digest.to_le_bytes());
        block
    }

    fn decode(block: &[u8]) -> Result<Self, CopyFault> {
        let mut block = Vec::from(block.get(..BLOCK_BYTES).ok_or(CopyFault::Head)?);
        let mut digest = [0; 8];
        digest.copy_from_slice(&block[HEAD_DIGEST_AT..HEAD_DIGEST_AT + 8]);
        block[HEAD_DIGEST_AT..HEAD_DIGEST_AT + 8].fill(0);
        if block[..8] != FILE_MAGIC || xxh3_64(&block) != u64::from_le_bytes(digest) {
            return Err(CopyFault::Head);
        }
        // Magic, version and digest stay where they are in every version, so that a newer one can be told from rot.
        let mut reader = Reader(&block[8..]);
        let version = reader.u16().ok_or(CopyFault::Head)?;
        if version != METADATA_VERSION {
            return Err(CopyFault::Newer(version));
        }
        let mut fields = || {
            reader.array::<14>()?;
            let generation = reader.u64()?;
            Some(Self { generation, identity: Identity { cluster: reader.u128()?, node: reader.u32()? } })
        };
        fields().ok_or(CopyFault::Head)
    }

    const fn seed(&self, at: u64) -> u64 {
        let cluster = (self.identity.cluster as u64) ^ ((self.identity.cluster >> 64) as u64).rotate_left(32);
        cluster ^ self.generation.rotate_left(40) ^ at
    }

    /// A frame that goes to byte `at` of the file.
    pub(crate) fn frame(&self, at: u64, sequence: u64, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::with_capacity(FRAME_HEAD_BYTES + payload.len() + 8);
        frame.put_u32(FRAME_MAGIC);
        frame.put_u32(payload.len() as u32);
        frame.put_u64(sequence);
        frame.put_u64(0);
        frame.put(payload);
        frame.resize(frame.len().next_multiple_of(8), 0);
        let digest = xxh3_64_with_seed(&frame, self.seed(at));
        frame[FRAME_DIGEST_AT..FRAME_DIGEST_AT + 8].copy_from_slice(&digest.to_le_bytes());
        frame
    }

    /// The whole frame at byte `at` of the file: its sequence, its payload, and its length.
    fn frame_at<'f>(&self, file: &'f [u8], at: usize) -> Option<(u64, &'f [u8], usize)> {
        let mut reader = Reader(file.get(at..)?);
        if reader.u32()? != FRAME_MAGIC {
            return None;
        }
        let payload_bytes = reader.u32()? as usize;
        let sequence = reader.u64()?;
        let digest = reader.u64()?;
        let bytes = (FRAME_HEAD_BYTES + payload_bytes).next_multiple_of(8);
        let stored = file.get(at..at + bytes)?;
        let mut frame = Vec::from(stored);
        frame[FRAME_DIGEST_AT..FRAME_DIGEST_AT + 8].fill(0);
        if xxh3_64_with_seed(&frame, self.seed(at as u64)) != digest {
            return None;
        }
        Some((sequence, &stored[FRAME_HEAD_BYTES..FRAME_HEAD_BYTES + payload_bytes], bytes))
    }
}

/// The bytes of a copy that begins anew with this image, without the space behind.
pub(crate) fn begin(head: &CopyHead, image: &Image) -> Vec<u8> {
    let mut file = head.encode();
    let mut payload = Vec::new();
    image.encode(&mut payload);
    let snapshot = head.frame(file.len() as u64, image.version(), &payload);
    file.extend_from_slice(&snapshot);
    file
}

/// Reads one copy to its end and says what it is.
pub(crate) fn read(
    storage: &mut dyn Storage,
    file: FileName,
) -> Result<Result<GoodCopy, CopyFault>, StorageError> {
    let Some(length) = storage.length(file)? else { return Ok(Err(CopyFault::Missing)) };
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0) / BLOCK_BYTES * BLOCK_BYTES];
    match storage.read(file, 0, &mut bytes) {
        Ok(read) => bytes.truncate(read),
        Err(error) if error.kind == StorageErrorKind::Device => return Ok(Err(CopyFault::Unreadable)),
        Err(error) => return Err(error),
    }
    Ok(parse(&bytes))
}

fn parse(file: &[u8]) -> Result<GoodCopy, CopyFault> {
    let head = CopyHead::decode(file)?;
    let (version, payload, bytes) = head.frame_at(file, BLOCK_BYTES).ok_or(CopyFault::Snapshot)?;
    let misfit = |at: usize| CopyFault::Misfit(at as u64);
    let mut image = Image::decode(payload, version).ok_or(misfit(BLOCK_BYTES))?;
    let mut end = BLOCK_BYTES + bytes;
    while let Some((sequence, payload, bytes)) = head.frame_at(file, end) {
        let record = Record::decode(payload).ok_or(misfit(end))?;
        if Some(sequence) != image.version().checked_add(1) || image.apply(&record, sequence).is_none() {
            return Err(misfit(end));
        }
        end += bytes;
    }
    let behind = (end..file.len()).step_by(8).skip(1);
    if let Some(later) = behind.filter_map(|at| head.frame_at(file, at)).map(|(sequence, ..)| sequence).max()
    {
        return Err(CopyFault::Record { at: end as u64, later });
    }
    let tail = Vec::from(&file[end / BLOCK_BYTES * BLOCK_BYTES..end]);
    Ok(GoodCopy { head, image, end: end as u64, tail, length: file.len() as u64 })
}
