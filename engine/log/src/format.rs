//! The blocks of a segment that are not batches: its header, its footer and the blocks of its index (S2, S3, S5).
//!
//! docs/LOG_FORMAT.md draws them. Each is one block that ends in a digest over the bytes before it, seeded by what it
//! is, and names topic, partition, segment and generation, so that a block of another file or of an earlier use of a
//! recycled file can't pass.

use alloc::vec::Vec;

use cutwater_model::checksum::digest64;
use cutwater_model::limits::BLOCK_BYTES;
use cutwater_model::{Offset, PartitionId, PartitionIndex, TimestampMs, TopicId};

use crate::bytes::{Reader, Writer};

/// The version of everything drawn here.
pub const FORMAT_VERSION: u32 = 1;
/// Index entries of one block.
pub const INDEX_ENTRIES_PER_BLOCK: usize = 84;
const HEADER_MAGIC: u64 = u64::from_le_bytes(*b"CWSEGHDR");
const FOOTER_MAGIC: u64 = u64::from_le_bytes(*b"CWSEGFTR");
const INDEX_MAGIC: u64 = u64::from_le_bytes(*b"CWSEGIDX");
const DIGEST_AT: usize = BLOCK_BYTES - 8;

/// Why a block is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The digest or the length does not fit.
    #[error("the block is damaged: its digest doesn't fit its bytes")]
    Damaged,
    /// It was written by a later release.
    #[error(
        "the block has format {version}; this release reads up to {FORMAT_VERSION}, so start a newer one"
    )]
    Version {
        /// Its version.
        version: u32,
    },
    /// It is whole, but of another segment, or of an earlier use of the file.
    #[error("the block belongs to another segment, or to an earlier use of this file")]
    Stranger,
}

/// Which segment a block belongs to, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentIdentity {
    /// The partition.
    pub partition: PartitionId,
    /// The offset of the segment's first record.
    pub base: Offset,
    /// Counts the segments of the partition, so that a base offset used twice can be told apart.
    pub generation: u32,
}

impl SegmentIdentity {
    /// The beginning of the digest over the stored bytes from `position` on (S3).
    #[must_use]
    pub fn digest_seed(&self, position: u32) -> u64 {
        let mut bytes = [0; 36];
        bytes[..16].copy_from_slice(&self.partition.topic.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.partition.index.0.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.base.0.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.generation.to_le_bytes());
        bytes[32..].copy_from_slice(&position.to_le_bytes());
        digest64(0, &bytes)
    }

    /// Writes the segment's header block.
    pub fn write_header(&self, block: &mut [u8]) {
        self.write_block(block, HEADER_MAGIC, |_| {});
    }

    /// Checks that a block is this segment's header.
    ///
    /// # Errors
    /// If it is not.
    pub fn check_header(&self, block: &[u8]) -> Result<(), FormatError> {
        if read_header(block)? == *self { Ok(()) } else { Err(FormatError::Stranger) }
    }

    fn write_block(&self, block: &mut [u8], magic: u64, body: impl FnOnce(&mut Writer<'_>)) {
        let mut bytes = Vec::with_capacity(BLOCK_BYTES);
        let mut writer = Writer(&mut bytes);
        writer.u64(magic).u32(FORMAT_VERSION).u32(self.partition.index.0).u128(self.partition.topic.0);
        writer.i64(self.base.0).u32(self.generation).u32(0);
        body(&mut writer);
        bytes.resize(DIGEST_AT, 0);
        let digest = digest64(magic, &bytes);
        bytes.extend_from_slice(&digest.to_le_bytes());
        block.copy_from_slice(&bytes);
    }
}

/// Reads a segment's header block, whosever it is.
///
/// # Errors
/// If it is damaged or of a later format.
pub fn read_header(block: &[u8]) -> Result<SegmentIdentity, FormatError> {
    read_block(block, HEADER_MAGIC).map(|(identity, _)| identity)
}

fn read_block(block: &[u8], magic: u64) -> Result<(SegmentIdentity, Reader<'_>), FormatError> {
    let damaged = FormatError::Damaged;
    let body = block.get(..DIGEST_AT).ok_or(damaged)?;
    let digest = block.get(DIGEST_AT..BLOCK_BYTES).ok_or(damaged)?;
    if digest64(magic, body).to_le_bytes() != digest {
        return Err(damaged);
    }
    let mut reader = Reader(body);
    if reader.u64().ok_or(damaged)? != magic {
        return Err(damaged);
    }
    let version = reader.u32().ok_or(damaged)?;
    if version != FORMAT_VERSION {
        return Err(FormatError::Version { version });
    }
    let index = PartitionIndex(reader.u32().ok_or(damaged)?);
    let topic = TopicId(reader.u128().ok_or(damaged)?);
    let base = Offset(reader.i64().ok_or(damaged)?);
    let generation = reader.u32().ok_or(damaged)?;
    reader.u32().ok_or(damaged)?;
    Ok((SegmentIdentity { partition: PartitionId { topic, index }, base, generation }, reader))
}

/// What a sealed segment says of itself, twice, behind its data (S2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Whose it is.
    pub identity: SegmentIdentity,
    /// The offset after its last record.
    pub next_offset: Offset,
    /// The file position after its last batch.
    pub end: u32,
    /// How many entries its index has.
    pub index_entries: u32,
    /// When its first batch arrived.
    pub first_arrival: TimestampMs,
    /// When its last batch arrived.
    pub last_arrival: TimestampMs,
    /// The largest timestamp in it.
    pub max_timestamp: TimestampMs,
    /// A digest over the digests of its index entries.
    pub digest: u64,
}

impl Footer {
    /// Writes one copy.
    pub fn write(&self, block: &mut [u8]) {
        self.identity.write_block(block, FOOTER_MAGIC, |writer| {
            writer.i64(self.next_offset.0).u32(self.end).u32(self.index_entries);
            writer.i64(self.first_arrival.0).i64(self.last_arrival.0).i64(self.max_timestamp.0);
            writer.u64(self.digest);
        });
    }

    /// Reads one copy.
    ///
    /// # Errors
    /// If it is damaged or of a later format.
    pub fn read(block: &[u8]) -> Result<Self, FormatError> {
        let (identity, mut reader) = read_block(block, FOOTER_MAGIC)?;
        let mut fields = || {
            Some(Self {
                identity,
                next_offset: Offset(reader.i64()?),
                end: reader.u32()?,
                index_entries: reader.u32()?,
                first_arrival: TimestampMs(reader.i64()?),
                last_arrival: TimestampMs(reader.i64()?),
                max_timestamp: TimestampMs(reader.i64()?),
                digest: reader.u64()?,
            })
        };
        fields().ok_or(FormatError::Damaged)
    }
}

/// One range of a segment's stored bytes, about [`cutwater_model::limits::INDEX_INTERVAL_BYTES`] long (S3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// The offset of its first record.
    pub offset: Offset,
    /// When its first batch arrived.
    pub arrival: TimestampMs,
    /// The largest timestamp in it.
    pub max_timestamp: TimestampMs,
    /// Where in the file it begins.
    pub position: u32,
    /// How many bytes it has; 0 while it grows.
    pub len: u32,
    /// The digest over its bytes, begun by [`SegmentIdentity::digest_seed`] and gone on with block by block.
    pub digest: u64,
    /// Kept for later releases.
    pub reserved: u64,
}

impl IndexEntry {
    /// How many bytes an entry has on disk.
    pub const BYTES: usize = 48;

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.i64(self.offset.0).i64(self.arrival.0).i64(self.max_timestamp.0);
        writer.u32(self.position).u32(self.len).u64(self.digest).u64(self.reserved);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            offset: Offset(reader.i64()?),
            arrival: TimestampMs(reader.i64()?),
            max_timestamp: TimestampMs(reader.i64()?),
            position: reader.u32()?,
            len: reader.u32()?,
            digest: reader.u64()?,
            reserved: reader.u64()?,
        })
    }
}

/// Writes the index block whose first entry has the number `first`.
pub(crate) fn write_index_block(
    identity: &SegmentIdentity,
    block: &mut [u8],
    first: u32,
    entries: impl ExactSizeIterator<Item = IndexEntry>,
) {
    identity.write_block(block, INDEX_MAGIC, |writer| {
        writer.u32(first).u32(entries.len() as u32);
        entries.for_each(|entry| entry.write(writer));
    });
}

/// Reads an index block of that segment: the number of its first entry, and its entries.
///
/// # Errors
/// If it is damaged, of a later format, or of another segment.
pub fn read_index_block(
    identity: &SegmentIdentity,
    block: &[u8],
) -> Result<(u32, Vec<IndexEntry>), FormatError> {
    let (found, mut reader) = read_block(block, INDEX_MAGIC)?;
    if found != *identity {
        return Err(FormatError::Stranger);
    }
    let first = reader.u32().ok_or(FormatError::Damaged)?;
    let count = reader.u32().ok_or(FormatError::Damaged)? as usize;
    if count > INDEX_ENTRIES_PER_BLOCK {
        return Err(FormatError::Damaged);
    }
    let entries = (0..count).map(|_| IndexEntry::read(&mut reader)).collect::<Option<_>>();
    Ok((first, entries.ok_or(FormatError::Damaged)?))
}

const _: () = assert!(48 + 8 + INDEX_ENTRIES_PER_BLOCK * IndexEntry::BYTES <= DIGEST_AT);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::partition_id;

    fn identity() -> SegmentIdentity {
        SegmentIdentity { partition: partition_id(), base: Offset(77), generation: 5 }
    }

    #[test]
    fn a_header_is_only_its_own_segments() {
        let mut block = [1; BLOCK_BYTES];
        identity().write_header(&mut block);
        assert_eq!(identity().check_header(&block), Ok(()));
        let reused = SegmentIdentity { generation: 6, ..identity() };
        assert_eq!(reused.check_header(&block), Err(FormatError::Stranger));
        for at in [0, 9, 20, 47, 3000, BLOCK_BYTES - 1] {
            let mut rotten = block;
            rotten[at] ^= 4;
            assert_eq!(identity().check_header(&rotten), Err(FormatError::Damaged), "byte {at}");
        }
        assert_eq!(read_header(&block[..100]), Err(FormatError::Damaged));
    }

    #[test]
    fn a_footer_comes_back_and_is_no_header() {
        let footer = Footer {
            identity: identity(),
            next_offset: Offset(1000),
            end: 70_001,
            index_entries: 2,
            first_arrival: TimestampMs(5),
            last_arrival: TimestampMs(9),
            max_timestamp: TimestampMs(8),
            digest: 42,
        };
        let mut block = [0; BLOCK_BYTES];
        footer.write(&mut block);
        assert_eq!(Footer::read(&block), Ok(footer));
        assert_eq!(read_header(&block), Err(FormatError::Damaged));
    }

    #[test]
    fn an_index_block_comes_back_full() {
        let entries: Vec<_> = (0..INDEX_ENTRIES_PER_BLOCK as u32)
            .map(|number| IndexEntry {
                offset: Offset(i64::from(number) * 10),
                arrival: TimestampMs(i64::from(number)),
                max_timestamp: TimestampMs(i64::from(number) + 1),
                position: 4096 + number * 65536,
                len: 65536,
                digest: u64::from(number) << 40,
                reserved: 0,
            })
            .collect();
        let mut block = [0; BLOCK_BYTES];
        write_index_block(&identity(), &mut block, 168, entries.iter().copied());
        assert_eq!(read_index_block(&identity(), &block), Ok((168, entries)));
    }
}
