//! Groups: what one journal write carries (J2, J3).
//!
//! A group is a header of 128 bytes, entries, and zeros up to whole blocks. Its digest covers every byte and is seeded
//! by the incarnation; its header names the group before it and its own place. So neither a group of an earlier lap or
//! life, nor a write that went astray, nor bytes that a client made up, can pass for it.
//!
//! [`GroupBuilder`] owns no memory: the caller keeps the buffer (part of the shard's slab) and hands it to every call.
//! The buffer's first block is left for a skip group, so that both lie in one stretch of memory. Lives on the shard's
//! core.

use cutwater_model::limits::{BLOCK_BYTES, GROUP_BYTES_MAX};
use cutwater_model::{Incarnation, ShardId};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::entry::{ENTRY_HEAD_BYTES, Entries, EntryAt, EntryHead, entry_bytes, field};
use crate::place::{ChainEnd, Life, Place, Sequence};

/// The header before a group's entries.
pub const GROUP_HEADER_BYTES: usize = 128;
/// The buffer for the largest group: one block for a skip group, then the group.
pub const GROUP_BUFFER_BYTES: usize = BLOCK_BYTES + GROUP_BYTES_MAX as usize;
/// The version of the format this release writes.
pub const GROUP_VERSION: u16 = 2;
/// The first eight bytes of every group.
pub const GROUP_MAGIC: [u8; 8] = *b"cutwjrnl";

const NO_NEXT_FILE: u32 = u32::MAX;
const DIGEST_AT: usize = 48;

/// What a group is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum GroupKind {
    /// The first of a life (J6).
    Start = 1,
    /// Carries entries.
    #[default]
    Ordinary = 2,
    /// Ends a file and names the next one.
    Skip = 3,
}

/// The fixed part of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupHeader {
    /// The version of its format; what is written is [`GROUP_VERSION`].
    pub version: u16,
    /// What it is for.
    pub kind: GroupKind,
    /// Whose journal.
    pub shard: ShardId,
    /// Where it lies.
    pub place: Place,
    /// Its number.
    pub sequence: Sequence,
    /// All groups up to this one had completed when it was submitted (J3).
    pub durable: Sequence,
    /// The digest of the group before it.
    pub previous_digest: u64,
    /// The life that wrote it.
    pub life: Life,
    /// The file whose beginning holds the next group, if that is not right behind this one.
    pub next_file: Option<u32>,
    /// Its length with padding: whole blocks.
    pub bytes: u32,
    /// How many entries it has.
    pub entries: u32,
    /// Its digest.
    pub digest: u64,
}

impl GroupHeader {
    /// Where the next group begins.
    #[must_use]
    pub const fn next_place(&self) -> Place {
        match self.next_file {
            Some(file) => Place { file, at: 0 },
            None => Place { file: self.place.file, at: self.place.at.saturating_add(self.bytes as u64) },
        }
    }

    /// The end of a chain whose last group this is.
    #[must_use]
    pub const fn chain_end(&self) -> ChainEnd {
        ChainEnd { sequence: self.sequence, digest: self.digest, life: self.life }
    }

    fn encode(&self) -> [u8; GROUP_HEADER_BYTES] {
        let mut bytes = [0; GROUP_HEADER_BYTES];
        bytes[0..8].copy_from_slice(&GROUP_MAGIC);
        bytes[8..10].copy_from_slice(&GROUP_VERSION.to_le_bytes());
        bytes[10] = self.kind as u8;
        bytes[12..16].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.entries.to_le_bytes());
        bytes[20..22].copy_from_slice(&self.shard.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.sequence.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.durable.0.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.previous_digest.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.life.number.to_le_bytes());
        bytes[60..64].copy_from_slice(&self.next_file.unwrap_or(NO_NEXT_FILE).to_le_bytes());
        bytes[64..80].copy_from_slice(&self.life.incarnation.0.to_le_bytes());
        bytes[80..96].copy_from_slice(&self.life.origin.0.to_le_bytes());
        bytes[96..104].copy_from_slice(&self.place.at.to_le_bytes());
        bytes[104..108].copy_from_slice(&self.place.file.to_le_bytes());
        bytes
    }

    /// Reads a header whose digest is not checked yet, or says why these bytes begin no group.
    ///
    /// # Errors
    /// [`GroupFault`], by the first thing that is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, GroupFault> {
        if bytes.len() < GROUP_HEADER_BYTES || bytes[..8] != GROUP_MAGIC {
            return Err(GroupFault::NoGroup);
        }
        // Length, incarnation, origin and digest stay where they are in every version, so that a group of a newer
        // release can be told from a rotten one, and from bytes that a client made up.
        let version = u16::from_le_bytes(field(bytes, 8));
        let kind = match bytes[10] {
            1 => GroupKind::Start,
            3 => GroupKind::Skip,
            2 => GroupKind::Ordinary,
            _ if version != GROUP_VERSION => GroupKind::Ordinary,
            _ => return Err(GroupFault::Header),
        };
        let len = u32::from_le_bytes(field(bytes, 12));
        if len == 0 || len > GROUP_BYTES_MAX || !(len as usize).is_multiple_of(BLOCK_BYTES) {
            return Err(GroupFault::Header);
        }
        let next_file = u32::from_le_bytes(field(bytes, 60));
        Ok(Self {
            version,
            kind,
            shard: ShardId(u16::from_le_bytes(field(bytes, 20))),
            place: Place {
                file: u32::from_le_bytes(field(bytes, 104)),
                at: u64::from_le_bytes(field(bytes, 96)),
            },
            sequence: Sequence(u64::from_le_bytes(field(bytes, 24))),
            durable: Sequence(u64::from_le_bytes(field(bytes, 32))),
            previous_digest: u64::from_le_bytes(field(bytes, 40)),
            life: Life {
                origin: Incarnation(u128::from_le_bytes(field(bytes, 80))),
                incarnation: Incarnation(u128::from_le_bytes(field(bytes, 64))),
                number: u32::from_le_bytes(field(bytes, 56)),
            },
            next_file: (next_file != NO_NEXT_FILE).then_some(next_file),
            bytes: len,
            entries: u32::from_le_bytes(field(bytes, 16)),
            digest: u64::from_le_bytes(field(bytes, DIGEST_AT)),
        })
    }

    /// Whether the digest fits. `bytes` is the whole group; its digest is taken out and put back.
    #[must_use]
    pub fn digest_fits(&self, bytes: &mut [u8]) -> bool {
        let Some(group) = bytes.get_mut(..self.bytes as usize) else { return false };
        group[DIGEST_AT..DIGEST_AT + 8].fill(0);
        let digest = digest(self.life.incarnation, group);
        group[DIGEST_AT..DIGEST_AT + 8].copy_from_slice(&self.digest.to_le_bytes());
        digest == self.digest
    }

    /// The entries of the group whose bytes these are.
    #[must_use]
    pub fn entries<'a>(&self, bytes: &'a [u8]) -> Entries<'a> {
        let end = (self.bytes as usize).min(bytes.len());
        Entries::new(bytes.get(GROUP_HEADER_BYTES..end).unwrap_or(&[]), self.entries)
    }
}

/// Why bytes are not the group that should be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupFault {
    /// The bytes are something else.
    #[error("no group begins there")]
    NoGroup,
    /// The header makes no sense.
    #[error("its header makes no sense")]
    Header,
    /// Some of its bytes are not those that were written.
    #[error("its digest does not fit its bytes")]
    Digest,
    /// It is whole, but belongs to an earlier lap, to another life, or to another place.
    #[error("it does not go on from the group before")]
    Chain,
}

/// A group that is ready to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Its length: whole blocks.
    pub bytes: u32,
    /// Its number.
    pub sequence: Sequence,
    /// Its digest.
    pub digest: u64,
}

/// Fills one group in a buffer of the caller's.
#[derive(Clone, Copy, Debug, Default)]
pub struct GroupBuilder {
    /// Where the next entry goes, from the beginning of the buffer.
    used: usize,
    /// The first byte that no entry may take.
    end: usize,
    entries: u32,
}

impl GroupBuilder {
    /// Begins a group in a buffer of whole blocks, of which the first is left for a skip group.
    pub fn begin(&mut self, buffer: &[u8]) {
        let end = buffer.len().min(GROUP_BUFFER_BYTES) / BLOCK_BYTES * BLOCK_BYTES;
        *self = Self { used: BLOCK_BYTES + GROUP_HEADER_BYTES, end, entries: 0 };
    }

    /// The longest payload that still fits.
    #[must_use]
    pub const fn room(&self) -> usize {
        let left = self.end.saturating_sub(self.used);
        left.saturating_sub(ENTRY_HEAD_BYTES) / crate::entry::ENTRY_ALIGN_BYTES
            * crate::entry::ENTRY_ALIGN_BYTES
    }

    /// Whether there is no entry yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// How many entries there are.
    #[must_use]
    pub const fn entries(&self) -> u32 {
        self.entries
    }

    /// How many bytes the group would take if it were sealed now: whole blocks.
    #[must_use]
    pub const fn bytes(&self) -> u32 {
        (self.used - BLOCK_BYTES).next_multiple_of(BLOCK_BYTES) as u32
    }

    /// Appends an entry, or changes nothing where it doesn't fit.
    #[inline(always)]
    pub fn push(&mut self, buffer: &mut [u8], head: &EntryHead, payload: &[&[u8]]) -> Option<EntryAt> {
        let payload_bytes: usize = payload.iter().map(|part| part.len()).sum();
        let bytes = entry_bytes(payload_bytes);
        if bytes > self.end - self.used {
            return None;
        }
        let entry = buffer.get_mut(self.used..self.used + bytes)?;
        // The last word holds the padding, or else is overwritten whole.
        entry[bytes - 8..].copy_from_slice(&[0; 8]);
        head.write(payload_bytes as u32, entry.first_chunk_mut()?);
        let mut at = ENTRY_HEAD_BYTES;
        for part in payload {
            entry[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        let payload_at = (self.used + ENTRY_HEAD_BYTES) as u32;
        self.used += bytes;
        self.entries += 1;
        Some(EntryAt { payload_at, payload_bytes: payload_bytes as u32 })
    }

    /// Closes the group: pads it, fills in its header and digest. `header` says all but length, count and digest.
    pub fn seal(&mut self, buffer: &mut [u8], mut header: GroupHeader) -> Sealed {
        let bytes = self.bytes();
        let used = self.used - BLOCK_BYTES;
        header.bytes = bytes;
        header.entries = self.entries;
        let group = &mut buffer[BLOCK_BYTES..BLOCK_BYTES + bytes as usize];
        group[used..].fill(0);
        self.end = 0;
        seal_group(group, &header)
    }
}

/// Writes a group of one block without entries: a start or a skip group.
pub(crate) fn seal_empty(block: &mut [u8], mut header: GroupHeader) -> Sealed {
    let group = &mut block[..BLOCK_BYTES];
    group[GROUP_HEADER_BYTES..].fill(0);
    header.bytes = BLOCK_BYTES as u32;
    header.entries = 0;
    seal_group(group, &header)
}

fn seal_group(group: &mut [u8], header: &GroupHeader) -> Sealed {
    group[..GROUP_HEADER_BYTES].copy_from_slice(&header.encode());
    let digest = digest(header.life.incarnation, group);
    group[DIGEST_AT..DIGEST_AT + 8].copy_from_slice(&digest.to_le_bytes());
    Sealed { bytes: header.bytes, sequence: header.sequence, digest }
}

/// xxh3-64 over the whole group, its digest field zero, seeded by the incarnation (J3).
fn digest(incarnation: Incarnation, group: &[u8]) -> u64 {
    let seed = (incarnation.0 as u64) ^ ((incarnation.0 >> 64) as u64).rotate_left(32);
    xxh3_64_with_seed(group, seed)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn a_group_takes_what_it_has_room_for_and_not_a_byte_more() {
        for blocks in 2..5 {
            for payload_bytes in [0, 1, 170, 1000, 4000] {
                let mut buffer = vec![0xee; blocks * BLOCK_BYTES];
                let mut group = GroupBuilder::default();
                group.begin(&buffer);
                let payload = vec![7; payload_bytes];
                while payload_bytes <= group.room() && group.room() > 0 {
                    let before = group.entries();
                    assert!(group.push(&mut buffer, &EntryHead::default(), &[&payload]).is_some());
                    assert_eq!(group.entries(), before + 1);
                }
                let room = group.room();
                let larger = vec![7; room.max(payload_bytes) + 1];
                let before = buffer.clone();
                assert!(group.push(&mut buffer, &EntryHead::default(), &[&larger]).is_none());
                assert!(buffer == before, "a refused entry changes nothing");
                assert!(group.bytes() as usize <= (blocks - 1) * BLOCK_BYTES);
                let sealed = group.seal(&mut buffer, GroupHeader::default());
                assert!((sealed.bytes as usize).is_multiple_of(BLOCK_BYTES));
                assert!(
                    buffer[..BLOCK_BYTES].iter().all(|&byte| byte == 0xee),
                    "the first block is left alone"
                );
            }
        }
    }

    #[test]
    fn the_digest_depends_on_the_incarnation() {
        let mut digests = alloc::collections::BTreeSet::new();
        for incarnation in [0, 1, 1 << 64, (1 << 64) + 1] {
            let mut block = vec![0; BLOCK_BYTES];
            let life = Life { incarnation: Incarnation(incarnation), ..Life::default() };
            digests.insert(seal_empty(&mut block, GroupHeader { life, ..GroupHeader::default() }).digest);
        }
        assert_eq!(digests.len(), 4);
    }
}
