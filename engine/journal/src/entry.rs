//! Entries: what a group carries (J5). A fixed head of 72 bytes, then the payload, padded with zeros to 8 bytes.
//!
//! Every entry says to which partition, ownership, segment and position it belongs, decided at append, so replaying
//! it twice changes nothing. Lives on the shard's core; plain arithmetic on the caller's buffer.

use cutwater_model::{LeaderEpoch, Offset, PartitionId, PartitionIndex, TimestampMs, TopicId};

/// The fixed head before each payload.
pub const ENTRY_HEAD_BYTES: usize = 72;
/// Entries begin at multiples of this, counted from the group's first byte.
pub const ENTRY_ALIGN_BYTES: usize = 8;

/// What an entry says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum EntryKind {
    /// The payload is one batch that belongs at `position` of the segment.
    #[default]
    Data = 1,
    /// The batches `base_offset..=last_offset` are at `position` of the segment, `bulk_bytes` long, or are on their way
    /// there (B1). The payload is the log's own.
    BulkRef = 2,
    /// Records before `base_offset` are gone (M3).
    LogStart = 3,
    /// Records from `base_offset` on are gone (M3).
    Truncate = 4,
    /// The shard owns the partition from here on, under `leader_epoch` (M4).
    Adopt = 5,
    /// The shard no longer owns the partition (M4).
    Release = 6,
    /// A checkpoint is durable; the payload is the log's own.
    CheckpointMark = 7,
}

impl EntryKind {
    const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Data,
            2 => Self::BulkRef,
            3 => Self::LogStart,
            4 => Self::Truncate,
            5 => Self::Adopt,
            6 => Self::Release,
            7 => Self::CheckpointMark,
            _ => return None,
        })
    }
}

/// The fixed part of an entry. Fields that a kind doesn't name are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryHead {
    /// What the entry says.
    pub kind: EntryKind,
    /// About which partition.
    pub partition: PartitionId,
    /// The ownership under which it was appended.
    pub leader_epoch: LeaderEpoch,
    /// The first offset it is about.
    pub base_offset: Offset,
    /// The last offset it is about.
    pub last_offset: Offset,
    /// The base offset of the segment it belongs to, which names the segment.
    pub segment_base: Offset,
    /// Where in that segment, in bytes.
    pub position: u32,
    /// How many bytes of the segment a [`EntryKind::BulkRef`] vouches for.
    pub bulk_bytes: u32,
    /// When it was appended, by the node's clock, never decreasing in a partition (S7).
    pub arrival: TimestampMs,
}

/// One entry as replay hands it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The fixed part.
    pub head: EntryHead,
    /// The rest.
    pub payload: &'a [u8],
}

/// Where an entry landed in the buffer of its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryAt {
    /// The first byte of its payload, from the beginning of the buffer.
    pub payload_at: u32,
    /// The payload's length.
    pub payload_bytes: u32,
}

/// How many bytes of a group an entry takes.
#[must_use]
pub const fn entry_bytes(payload_bytes: usize) -> usize {
    (ENTRY_HEAD_BYTES + payload_bytes).next_multiple_of(ENTRY_ALIGN_BYTES)
}

impl EntryHead {
    /// Writes the head's bytes, each field by itself: to put them together first and copy them then would make the
    /// processor wait until the stores before, which may miss its caches, are done.
    #[inline(always)]
    pub(crate) fn write(&self, payload_bytes: u32, into: &mut [u8; ENTRY_HEAD_BYTES]) {
        into[..4].copy_from_slice(&u32::from(self.kind as u8).to_le_bytes());
        into[4..8].copy_from_slice(&payload_bytes.to_le_bytes());
        into[8..24].copy_from_slice(&self.partition.topic.0.to_le_bytes());
        into[24..28].copy_from_slice(&self.partition.index.0.to_le_bytes());
        into[28..32].copy_from_slice(&self.leader_epoch.0.to_le_bytes());
        into[32..40].copy_from_slice(&self.base_offset.0.to_le_bytes());
        into[40..48].copy_from_slice(&self.last_offset.0.to_le_bytes());
        into[48..56].copy_from_slice(&self.segment_base.0.to_le_bytes());
        into[56..60].copy_from_slice(&self.position.to_le_bytes());
        into[60..64].copy_from_slice(&self.bulk_bytes.to_le_bytes());
        into[64..72].copy_from_slice(&self.arrival.0.to_le_bytes());
    }
}

/// Walks the entries of a group whose digest was checked. Ends early, with [`Entries::is_malformed`], where the bytes
/// are not entries: then a newer release wrote them.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    rest: &'a [u8],
    left: u32,
    malformed: bool,
}

impl<'a> Entries<'a> {
    /// The entries in `bytes`, which begin behind the group's header; there must be `count`.
    #[must_use]
    pub const fn new(bytes: &'a [u8], count: u32) -> Self {
        Self { rest: bytes, left: count, malformed: false }
    }

    /// Whether the walk ended before the last entry.
    #[must_use]
    pub const fn is_malformed(&self) -> bool {
        self.malformed
    }

    fn parse(&mut self) -> Option<Entry<'a>> {
        let (head, rest) = self.rest.split_first_chunk::<ENTRY_HEAD_BYTES>()?;
        let payload_bytes = u32::from_le_bytes(field(head, 4)) as usize;
        let payload = rest.get(..payload_bytes)?;
        let head = EntryHead {
            kind: EntryKind::from_code(head[0])?,
            partition: PartitionId {
                topic: TopicId(u128::from_le_bytes(field(head, 8))),
                index: PartitionIndex(u32::from_le_bytes(field(head, 24))),
            },
            leader_epoch: LeaderEpoch(i32::from_le_bytes(field(head, 28))),
            base_offset: Offset(i64::from_le_bytes(field(head, 32))),
            last_offset: Offset(i64::from_le_bytes(field(head, 40))),
            segment_base: Offset(i64::from_le_bytes(field(head, 48))),
            position: u32::from_le_bytes(field(head, 56)),
            bulk_bytes: u32::from_le_bytes(field(head, 60)),
            arrival: TimestampMs(i64::from_le_bytes(field(head, 64))),
        };
        self.rest = self.rest.get(entry_bytes(payload_bytes)..)?;
        Some(Entry { head, payload })
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        if self.left == 0 {
            return None;
        }
        let entry = self.parse();
        self.left = if entry.is_some() { self.left - 1 } else { 0 };
        self.malformed |= entry.is_none();
        entry
    }
}

/// The `N` bytes at `at` of a fixed layout; zeros where the layout is shorter, which no caller asks for.
#[inline]
pub(crate) fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use super::*;
    use crate::group::{GROUP_HEADER_BYTES, GroupBuilder, GroupHeader};

    #[test]
    fn entries_come_back_as_they_went_in() {
        let head = EntryHead {
            kind: EntryKind::BulkRef,
            partition: PartitionId {
                topic: TopicId(0x0102_0304_0506_0708 << 64 | 9),
                index: PartitionIndex(7),
            },
            leader_epoch: LeaderEpoch(-3),
            base_offset: Offset(1 << 40),
            last_offset: Offset((1 << 40) + 99),
            segment_base: Offset(1 << 39),
            position: 4096,
            bulk_bytes: 1 << 20,
            arrival: TimestampMs(1_700_000_000_000),
        };
        let kinds = [
            EntryKind::Data,
            EntryKind::BulkRef,
            EntryKind::LogStart,
            EntryKind::Truncate,
            EntryKind::Adopt,
            EntryKind::Release,
            EntryKind::CheckpointMark,
        ];
        let mut buffer = vec![0xee; 4096 * 4];
        let mut group = GroupBuilder::default();
        group.begin(&buffer);
        let mut pushed = Vec::new();
        for (bytes, kind) in kinds.into_iter().enumerate() {
            let payload = vec![bytes as u8; bytes * 3];
            let (left, right) = payload.split_at(bytes);
            let head = EntryHead { kind, ..head };
            let at = group.push(&mut buffer, &head, &[left, right]).unwrap();
            assert_eq!(&buffer[at.payload_at as usize..][..at.payload_bytes as usize], payload);
            pushed.push((head, payload));
        }
        let sealed = group.seal(&mut buffer, GroupHeader::default());
        let bytes = &mut buffer[4096..][..sealed.bytes as usize];
        let header = GroupHeader::decode(bytes).unwrap();
        assert!(header.digest_fits(bytes));
        let mut entries = header.entries(bytes);
        for (head, payload) in &pushed {
            assert_eq!(entries.next(), Some(Entry { head: *head, payload }));
        }
        assert!(entries.next().is_none() && !entries.is_malformed());
    }

    #[test]
    fn bytes_that_are_no_entries_end_the_walk_and_never_panic() {
        let mut bytes = vec![0; 400];
        for (kind, payload_bytes) in [(0, 10), (8, 10), (1, u32::MAX), (1, 400), (1, 329), (255, 0)] {
            bytes[0] = kind;
            bytes[4..8].copy_from_slice(&u32::to_le_bytes(payload_bytes));
            let mut entries = Entries::new(&bytes, 1);
            assert!(entries.next().is_none() && entries.is_malformed(), "{kind} {payload_bytes}");
        }
        assert!(GROUP_HEADER_BYTES.is_multiple_of(ENTRY_ALIGN_BYTES));
    }
}
