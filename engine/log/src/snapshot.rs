//! What a checkpoint holds of a partition (C1), and a partition made of it. Lives on the shard's core, does no I/O.
//!
//! The state is drawn in docs/LOG_FORMAT.md. It names an end, a batch boundary, and is true of exactly that moment:
//! whatever came later may be lost or replayed. Its digest is the checkpoint's.

use alloc::vec::Vec;

use cutwater_model::limits::{SEGMENT_BYTES_MAX, SEGMENT_GROWTH_BYTES_LEAST, SEGMENT_GROWTH_BYTES_MAX};
use cutwater_model::{LeaderEpoch, Offset, PartitionId, PartitionIndex, Slab, TimestampMs, TopicId};

use crate::bytes::{Reader, Writer};
use crate::format::{INDEX_ENTRIES_PER_BLOCK, IndexEntry, SegmentIdentity};
use crate::index::{IndexMark, SegmentIndex};
use crate::pages::Pages;
use crate::partition::Partition;
use crate::position::{BLOCK, Covered, LogEnd, block_ceil, block_floor};
use crate::preread::Owner;
use crate::producers::Producers;
use crate::segment::{Segment, Step};
use crate::space::Growth;
use crate::tail::Tail;
use crate::writeback::{Marked, Writeback};

/// The version of the state's layout.
pub const STATE_VERSION: u16 = 1;

/// Why a partition can't be made of its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// It was written by a later release.
    #[error(
        "the partition's state has format {version}; this release reads {STATE_VERSION}, so start a newer one"
    )]
    Version {
        /// Its version.
        version: u16,
    },
    /// The bytes make no sense, though the checkpoint's digest fits.
    #[error("the partition's state in the checkpoint makes no sense; keep the folder and report this")]
    Malformed,
    /// The memory for the unfinished block is not there.
    #[error("no memory is left for the partition's unfinished block; give the shard more memory")]
    Memory,
}

/// No log gets as far; a state that says so makes no sense.
const OFFSET_END: Offset = Offset(1 << 62);
const IS_SEALED: u8 = 1;
const HAS_INDEX_FILE: u8 = 2;
const IS_UNPROVEN: u8 = 4;
const HAS_GAP: u8 = 8;
/// Flag of a partition: records are missing behind its end.
const IS_INCOMPLETE: u16 = 1;

impl Partition {
    /// Appends the state at [`Partition::flushed_end`] to `out`.
    pub fn snapshot(&self, slab: &Slab, out: &mut Vec<u8>) {
        let marked = self.writeback.flushed;
        let end = marked.covered.end;
        // A segment that begins at the end holds nothing yet.
        let last = self.segments.partition_point(|segment| segment.base() < end.offset);
        let generation_next =
            self.segments.get(last).map_or(self.generation_next, |segment| segment.identity.generation);

        let mut writer = Writer(out);
        let flags = if self.is_incomplete { IS_INCOMPLETE } else { 0 };
        writer.u16(STATE_VERSION).u16(flags).u32(self.id.index.0).u128(self.id.topic.0);
        writer.i32(self.epoch.0).u32(generation_next).i64(self.log_start_durable.min(end.offset).0);
        writer.i64(end.offset.0).u32(self.growth.step).u32(last as u32);
        for (index, segment) in self.segments.iter().enumerate().take(last) {
            let is_last = index + 1 == last;
            let segment_end = if is_last {
                (end.position.min(segment.end_position()) - segment.origin) as u32
            } else {
                segment.end
            };
            write_segment(&mut writer, segment, segment_end, is_last.then_some((&marked, end.offset)));
        }
        if let Some(segment) = last.checked_sub(1).and_then(|index| self.segments.get(index)) {
            let to = end.position.min(segment.end_position());
            let from = block_floor(to);
            let mut unfinished = [0; BLOCK as usize];
            let unfinished = &mut unfinished[..(to - from) as usize];
            let is_there = self.tail.copy_out(slab, from, unfinished);
            debug_assert!(is_there, "the block of the flushed end stays in memory");
            #[cfg(feature = "plants")]
            if crate::plants::NO_UNFINISHED_BLOCK.load(core::sync::atomic::Ordering::Relaxed) {
                unfinished.fill(0);
            }
            writer.bytes(unfinished);
        }
        self.producers.encode(&mut writer, end.offset);
    }

    /// Makes a partition of its state. Then give its open segment's true space by [`Partition::grown`], and replay.
    ///
    /// # Errors
    /// If the state is of a later format or makes no sense.
    pub fn restore(
        slab: &mut Slab,
        pages: &mut Pages,
        state: &[u8],
        segment_bytes: u32,
    ) -> Result<Self, RestoreError> {
        let mut reader = Reader(state);
        let version = reader.u16().ok_or(RestoreError::Malformed)?;
        if version != STATE_VERSION {
            return Err(RestoreError::Version { version });
        }
        let (mut partition, unfinished, index_end) =
            read_partition(&mut reader, segment_bytes).ok_or(RestoreError::Malformed)?;
        let end = partition.end;
        if !partition.tail.restart(slab, pages, end, unfinished) {
            return Err(RestoreError::Memory);
        }
        let covered = Covered { end, sequence: 0 };
        let (mark, digest) = index_end;
        partition.durable = covered;
        partition.checkpointed = end;
        partition.writeback = Writeback::restore(Marked { covered, mark: Some(mark), digest });
        Ok(partition)
    }
}

/// Writes a segment; the last one with what is unfinished of it.
fn write_segment(
    writer: &mut Writer<'_>,
    segment: &Segment,
    end: u32,
    unfinished: Option<(&Marked, Offset)>,
) {
    let mut flags = 0;
    if unfinished.is_none() {
        flags |= IS_SEALED;
    }
    if segment.index_file == Step::Done {
        flags |= HAS_INDEX_FILE;
    }
    if segment.index.is_unproven {
        flags |= IS_UNPROVEN;
    }
    // An end before the gap knows nothing of it.
    let gap_from = segment.gap_from.filter(|gap_from| unfinished.is_none_or(|(_, end)| end > *gap_from));
    if gap_from.is_some() {
        flags |= HAS_GAP;
    }
    writer.i64(segment.base().0).u32(segment.identity.generation).u32(end).u32(segment.space);
    writer.u32(segment.bytes_max).i64(segment.first_arrival.0).i64(segment.last_arrival.0);
    writer.i64(segment.max_timestamp.0).u8(flags).u8(0).u16(0);
    if let Some(gap_from) = gap_from {
        writer.i64(gap_from.0);
    }
    let Some((marked, end)) = unfinished else {
        writer.u32(segment.index.len()).u64(segment.index.digest());
        return;
    };
    let mark = marked.mark.unwrap_or_default();
    let (blocks, entries) = segment.index.carried(mark, end);
    let entries: Vec<_> = entries.collect();
    writer.u32(blocks).u32(entries.len() as u32).u32(mark.finished).u64(mark.running).u64(marked.digest);
    for entry in &entries {
        entry.write(writer);
    }
}

type Restored<'a> = (Partition, &'a [u8], (IndexMark, u64));

fn read_partition<'a>(reader: &mut Reader<'a>, segment_bytes: u32) -> Option<Restored<'a>> {
    let flags = reader.u16()?;
    if flags & !IS_INCOMPLETE != 0 {
        return None;
    }
    let index = PartitionIndex(reader.u32()?);
    let id = PartitionId { index, topic: TopicId(reader.u128()?) };
    let epoch = LeaderEpoch(reader.i32()?);
    let generation_next = reader.u32()?;
    let log_start = Offset(reader.i64()?);
    let next_offset = Offset(reader.i64()?);
    let step = reader.u32()?.clamp(SEGMENT_GROWTH_BYTES_LEAST, SEGMENT_GROWTH_BYTES_MAX);
    let count = reader.u32()?;
    let mut partition = Partition::empty(id, epoch, segment_bytes, next_offset, generation_next);
    if log_start < Offset(0) || log_start > next_offset || next_offset >= OFFSET_END {
        return None;
    }
    partition.log_start = log_start;
    partition.log_start_durable = log_start;
    partition.is_incomplete = flags & IS_INCOMPLETE != 0;
    partition.growth = Growth::new(step);

    let mut origin = 0;
    let mut index_end = (IndexMark::default(), 0);
    for _ in 0..count {
        let segment = read_segment(reader, id, next_offset, origin, &mut index_end)?;
        if partition.segments.back().is_some_and(|before| {
            !before.is_sealed || before.gap_from.unwrap_or(before.base()) >= segment.base()
        }) || segment.base() >= next_offset
        {
            return None;
        }
        origin = block_ceil(segment.end_position()) - u64::from(BLOCK);
        partition.segments.push_back(segment);
    }
    let mut unfinished: &[u8] = &[];
    if let Some(last) = partition.segments.back() {
        if last.is_sealed {
            return None;
        }
        let end = last.end_position();
        unfinished = reader.bytes((end - block_floor(end)) as usize)?;
        partition.end = LogEnd { offset: next_offset, position: end };
    }
    if let Some(last) = partition.segments.back_mut().filter(|last| last.gap_from.is_some()) {
        last.seal();
    }
    partition.has_gaps = partition.segments.iter().any(|segment| segment.gap_from.is_some())
        || partition.segments.front().map_or(next_offset, Segment::base) > log_start;
    partition.tail = Tail::new(partition.end);
    partition.producers = Producers::decode(reader)?;
    reader.0.is_empty().then_some((partition, unfinished, index_end))
}

fn read_segment(
    reader: &mut Reader<'_>,
    partition: PartitionId,
    next_offset: Offset,
    origin: u64,
    index_end: &mut (IndexMark, u64),
) -> Option<Segment> {
    let base = Offset(reader.i64()?);
    let identity = SegmentIdentity { partition, base, generation: reader.u32()? };
    let end = reader.u32()?;
    if base < Offset(0) || end < BLOCK {
        return None;
    }
    let space = reader.u32()?;
    let bytes_max = reader.u32()?;
    // Space is made ahead of the end, by steps far smaller than a segment.
    if end.max(bytes_max) > SEGMENT_BYTES_MAX || space > 2 * SEGMENT_BYTES_MAX {
        return None;
    }
    let mut segment = Segment::new(identity, origin, space, bytes_max);
    segment.end = end;
    segment.owner = Owner::Unknown;
    segment.first_arrival = TimestampMs(reader.i64()?);
    segment.last_arrival = TimestampMs(reader.i64()?);
    segment.max_timestamp = TimestampMs(reader.i64()?);
    let flags = reader.u8()?;
    let reserved = reader.bytes(3)?;
    if flags & !(IS_SEALED | HAS_INDEX_FILE | IS_UNPROVEN | HAS_GAP) != 0 || reserved != [0; 3] {
        return None;
    }
    segment.is_sealed = flags & IS_SEALED != 0;
    if flags & HAS_GAP != 0 {
        let gap_from = Offset(reader.i64()?);
        if gap_from <= base || gap_from >= next_offset {
            return None;
        }
        segment.gap_from = Some(gap_from);
    }
    if flags & HAS_INDEX_FILE != 0 {
        segment.index_file = Step::Done;
    }
    if segment.is_sealed {
        let entries = reader.u32()?;
        let digest = reader.u64()?;
        segment.footer = Step::Done;
        segment.index = SegmentIndex::restore_sealed(identity, entries, end, digest);
    } else {
        let blocks = reader.u32()?;
        let count = reader.u32()?;
        let mark = IndexMark { finished: reader.u32()?, running: reader.u64()? };
        let digest = reader.u64()?;
        let entries = (0..count).map(|_| IndexEntry::read(reader)).collect::<Option<Vec<_>>>()?;
        let first = blocks.checked_mul(INDEX_ENTRIES_PER_BLOCK as u32)?;
        let are_sorted = entries.is_sorted_by(|a, b| a.offset < b.offset && a.position < b.position);
        let are_inside = |entry: &IndexEntry| {
            (base..next_offset).contains(&entry.offset) && (BLOCK..end).contains(&entry.position)
        };
        if mark.finished < first
            || mark.finished > first.checked_add(count)?
            || !are_sorted
            || !entries.iter().all(are_inside)
        {
            return None;
        }
        let digested = block_floor(u64::from(end)) as u32;
        segment.index = SegmentIndex::restore(identity, blocks, entries, mark, digested, digest);
        *index_end = (mark, digest);
    }
    segment.index.is_unproven = flags & IS_UNPROVEN != 0;
    Some(segment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{partition_id, slab};

    #[test]
    fn a_state_remembers_that_records_are_missing() {
        let (mut slab, mut pages) = (slab(1 << 16), Pages::new(1 << 16, 0));
        let mut partition = Partition::new(partition_id(), LeaderEpoch(2), 1 << 20);
        for is_incomplete in [false, true] {
            let mut state = Vec::new();
            partition.snapshot(&slab, &mut state);
            let restored = Partition::restore(&mut slab, &mut pages, &state, 1 << 20).unwrap();
            assert_eq!(restored.is_incomplete(), is_incomplete);
            // A flag that this release doesn't know is none to go on without.
            state[2] |= 2;
            let unknown = Partition::restore(&mut slab, &mut pages, &state, 1 << 20);
            assert_eq!(unknown.err(), Some(RestoreError::Malformed));
            partition.mark_incomplete();
        }
    }
}
