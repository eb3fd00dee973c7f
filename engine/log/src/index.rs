//! The index of one segment (S3): where ranges of about 64 KiB begin, and their digests. Lives on the shard's core.
//!
//! Entries are *begun* when a batch is appended, *finished* with their digest when the blocks of their range are about
//! to be written, and written themselves in full blocks. They stay in memory until a checkpoint may name their block.
//! Beside them a compact table serves look-ups; of a segment restored from a checkpoint it is loaded when needed.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use cutwater_model::checksum::digest64;
use cutwater_model::limits::{BLOCK_BYTES, INDEX_INTERVAL_BYTES};
use cutwater_model::{Offset, TimestampMs};

use crate::format::{self, FormatError, INDEX_ENTRIES_PER_BLOCK, IndexEntry, SegmentIdentity};
use crate::position::BLOCK;

const PER_BLOCK: u32 = INDEX_ENTRIES_PER_BLOCK as u32;

/// What a look-up needs of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    max_timestamp: TimestampMs,
    /// Less the segment's base offset.
    offset: u32,
    position: u32,
}

/// Where a look-up begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Located {
    /// At this batch: its offset and its file position.
    At(Offset, u32),
    /// The table isn't in memory.
    NotLoaded,
}

/// How far the digests have come at a place of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct IndexMark {
    /// Entries that are finished.
    pub(crate) finished: u32,
    /// The digest so far of the one that isn't.
    pub(crate) running: u64,
}

#[repr(C)]
#[derive(Clone, Debug)]
pub(crate) struct SegmentIndex {
    /// Entries that no checkpoint may leave to the index file yet.
    pending: VecDeque<IndexEntry>,
    table: Vec<Row>,
    /// The number of the first of those entries.
    pending_from: u32,
    /// The number of the table's first row.
    table_from: u32,
    identity: SegmentIdentity,
    mark: IndexMark,
    /// Up to which file position bytes were digested.
    digested: u32,
    /// Folded over the digests of all finished entries.
    digest: u64,
    /// The file position after the last batch, once the segment is sealed.
    sealed_end: Option<u32>,
    /// Blocks handed out to be written.
    pub(crate) blocks_planned: u32,
    /// Blocks written, those before them too.
    pub(crate) blocks_written: u32,
    /// Blocks flushed.
    pub(crate) blocks_flushed: u32,
    /// The index file can't be trusted: look-ups walk the segment from its beginning.
    pub(crate) is_unproven: bool,
}

impl SegmentIndex {
    pub(crate) fn new(identity: SegmentIdentity) -> Self {
        Self {
            identity,
            table: Vec::new(),
            table_from: 0,
            pending: VecDeque::new(),
            pending_from: 0,
            mark: IndexMark::default(),
            digested: BLOCK,
            digest: 0,
            sealed_end: None,
            blocks_planned: 0,
            blocks_written: 0,
            blocks_flushed: 0,
            is_unproven: false,
        }
    }

    /// The index of a segment as a checkpoint names it: `blocks` full blocks are in the file, `pending` come after.
    pub(crate) fn restore(
        identity: SegmentIdentity,
        blocks: u32,
        pending: Vec<IndexEntry>,
        mark: IndexMark,
        digested: u32,
        digest: u64,
    ) -> Self {
        let from = blocks * PER_BLOCK;
        Self {
            table: pending.iter().map(|entry| row(identity.base, entry)).collect(),
            table_from: from,
            pending: pending.into(),
            pending_from: from,
            mark,
            digested,
            digest,
            blocks_planned: blocks,
            blocks_written: blocks,
            blocks_flushed: blocks,
            ..Self::new(identity)
        }
    }

    /// The index of a sealed segment: all of its entries are in the file.
    pub(crate) fn restore_sealed(identity: SegmentIdentity, entries: u32, end: u32, digest: u64) -> Self {
        let blocks = entries.div_ceil(PER_BLOCK);
        Self {
            table_from: entries,
            pending_from: entries,
            mark: IndexMark { finished: entries, running: 0 },
            digested: end,
            digest,
            sealed_end: Some(end),
            blocks_planned: blocks,
            blocks_written: blocks,
            blocks_flushed: blocks,
            ..Self::new(identity)
        }
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> u32 {
        self.pending_from + self.pending.len() as u32
    }

    pub(crate) const fn digest(&self) -> u64 {
        self.digest
    }

    pub(crate) const fn mark(&self) -> IndexMark {
        self.mark
    }

    /// Reads the entry that the next batch falls into.
    #[inline]
    pub(crate) fn look_at_open(&self) -> u64 {
        let entry = self.pending.back().map_or(0, |entry| u64::from(entry.len));
        entry.wrapping_add(self.table.last().map_or(0, |row| u64::from(row.position)))
    }

    /// Notes a batch about to be appended at `position`.
    #[inline]
    pub(crate) fn note(
        &mut self,
        offset: Offset,
        position: u32,
        arrival: TimestampMs,
        max_timestamp: TimestampMs,
    ) {
        match (self.pending.back_mut(), self.table.last_mut()) {
            (Some(entry), Some(row))
                if position - entry.position < INDEX_INTERVAL_BYTES && entry.len == 0 =>
            {
                if max_timestamp > entry.max_timestamp {
                    entry.max_timestamp = max_timestamp;
                    row.max_timestamp = max_timestamp;
                }
            }
            _ => self.begin(offset, position, arrival, max_timestamp),
        }
    }

    #[cold]
    fn begin(&mut self, offset: Offset, position: u32, arrival: TimestampMs, max_timestamp: TimestampMs) {
        // The range before ends here. Where all its bytes were digested already it is finished now.
        let entry = IndexEntry { offset, arrival, max_timestamp, position, len: 0, digest: 0, reserved: 0 };
        self.pending.push_back(entry);
        self.table.push(row(self.identity.base, &entry));
        self.finish_reached();
    }

    /// The segment ends at `end`; nothing is appended to it any more.
    pub(crate) fn seal(&mut self, end: u32) {
        self.sealed_end = Some(end);
        self.finish_reached();
    }

    /// Digests the next bytes of the file, which begin where the last ones ended and lie in one block (S3).
    pub(crate) fn digest_block(&mut self, mut bytes: &[u8]) {
        let mut at = self.digested;
        while !bytes.is_empty() {
            let Some((start, end)) = self.unfinished_range() else { break };
            // Before the range lies padding, or nothing; behind it the next range begins.
            let skip = (start.saturating_sub(at) as usize).min(bytes.len());
            bytes = &bytes[skip..];
            at += skip as u32;
            let take = (end.saturating_sub(at) as usize).min(bytes.len());
            if take > 0 {
                if at == start {
                    self.mark.running = self.identity.digest_seed(start);
                }
                self.mark.running = digest64(self.mark.running, &bytes[..take]);
                bytes = &bytes[take..];
                at += take as u32;
            }
            self.digested = at;
            self.finish_reached();
            if take == 0 && skip == 0 {
                break;
            }
        }
        self.digested = at + bytes.len() as u32;
    }

    /// Goes on behind a stretch that is in the file already, whose digest came out as `running` (bulk, on replay).
    pub(crate) fn digest_known(&mut self, to: u32, running: u64) {
        self.mark.running = running;
        self.digested = to;
        self.finish_reached();
    }

    fn unfinished_range(&self) -> Option<(u32, u32)> {
        let index = (self.mark.finished - self.pending_from) as usize;
        let start = self.pending.get(index)?.position;
        let next = self.pending.get(index + 1).map(|entry| entry.position);
        Some((start, next.or(self.sealed_end).unwrap_or(u32::MAX)))
    }

    fn finish_reached(&mut self) {
        while let Some((start, end)) = self.unfinished_range()
            && self.digested >= end
            && end > start
        {
            let index = (self.mark.finished - self.pending_from) as usize;
            let digest = self.mark.running;
            if let Some(entry) = self.pending.get_mut(index) {
                entry.len = end - start;
                entry.digest = digest;
            }
            self.digest = digest64(self.digest, &digest.to_le_bytes());
            self.mark = IndexMark { finished: self.mark.finished + 1, running: 0 };
        }
    }

    /// Whether the entry of every byte is finished and its block written.
    pub(crate) fn is_complete(&self) -> bool {
        self.mark.finished == self.len() && self.blocks_written == self.len().div_ceil(PER_BLOCK)
    }

    /// Whether no entry is left that a checkpoint would have to carry.
    pub(crate) fn is_in_file(&self) -> bool {
        self.pending.is_empty()
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.mark.finished == self.len()
    }

    /// Whether a block of entries can be written: a full one, or the last one of a sealed segment.
    pub(crate) fn has_block(&self) -> bool {
        if self.blocks_planned > self.blocks_written {
            return false;
        }
        let first = self.blocks_planned * PER_BLOCK;
        let is_last = self.sealed_end.is_some() && self.is_finished() && first < self.len();
        self.mark.finished >= first + PER_BLOCK || is_last
    }

    /// Writes the next block of entries into memory; says which one it is.
    pub(crate) fn plan_block(&mut self, block: &mut [u8]) -> u32 {
        let number = self.blocks_planned;
        let first = number * PER_BLOCK;
        let from = (first - self.pending_from) as usize;
        let to = (self.mark.finished.min(first + PER_BLOCK) - self.pending_from) as usize;
        format::write_index_block(&self.identity, block, first, self.pending.range(from..to).copied());
        self.blocks_planned += 1;
        number
    }

    /// A block is written; there is never more than one on its way.
    pub(crate) fn note_written(&mut self, block: u32) {
        self.blocks_written = self.blocks_written.max(block + 1);
    }

    /// Forgets entries that a checkpoint may leave to the file: their block is flushed, and the checkpoint that is
    /// named next has all of them finished.
    pub(crate) fn forget(&mut self, finished: u32, all: bool) {
        let in_file = if all { self.len() } else { finished / PER_BLOCK * PER_BLOCK };
        let in_file = in_file.min(self.blocks_flushed.saturating_mul(PER_BLOCK));
        while self.pending_from < in_file && self.pending.pop_front().is_some() {
            self.pending_from += 1;
        }
    }

    /// For a checkpoint that ends before `end`: the blocks it leaves to the file, and the entries it has to carry.
    pub(crate) fn carried(
        &self,
        mark: IndexMark,
        end: Offset,
    ) -> (u32, impl Iterator<Item = IndexEntry> + '_) {
        let first = self.pending_from;
        let entries = self.pending.iter().enumerate().map(move |(index, entry)| {
            let mut entry = *entry;
            if first + index as u32 >= mark.finished {
                entry.len = 0;
                entry.digest = 0;
            }
            entry
        });
        (first / PER_BLOCK, entries.take_while(move |entry| entry.offset < end))
    }

    /// The last batch that is known to begin at or before `offset`.
    pub(crate) fn locate(&self, offset: Offset) -> Located {
        let base = self.identity.base;
        let relative = u32::try_from(offset.0 - base.0).unwrap_or(u32::MAX);
        match self.table.partition_point(|row| row.offset <= relative).checked_sub(1) {
            Some(index) => {
                Located::At(Offset(base.0 + i64::from(self.table[index].offset)), self.table[index].position)
            }
            None if self.table_from == 0 || self.is_unproven => Located::At(base, BLOCK),
            None => Located::NotLoaded,
        }
    }

    /// The last batch that is known to begin at or before that file position.
    pub(crate) fn floor(&self, position: u32) -> Option<(Offset, u32)> {
        let index = self.table.partition_point(|row| row.position <= position).checked_sub(1)?;
        let row = self.table.get(index)?;
        Some((Offset(self.identity.base.0 + i64::from(row.offset)), row.position))
    }

    /// The first range that has a timestamp of at least `target`.
    pub(crate) fn locate_time(&self, target: TimestampMs) -> Option<Located> {
        let base = self.identity.base;
        if self.table_from > 0 {
            return Some(if self.is_unproven { Located::At(base, BLOCK) } else { Located::NotLoaded });
        }
        let row = self.table.iter().find(|row| row.max_timestamp >= target)?;
        Some(Located::At(Offset(base.0 + i64::from(row.offset)), row.position))
    }

    /// How many bytes of the index file hold the rows that are not in memory.
    pub(crate) fn bytes_to_load(&self) -> u32 {
        self.table_from.div_ceil(PER_BLOCK) * BLOCK
    }

    /// Takes the rows that were not in memory from the blocks of the file.
    pub(crate) fn load(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        let mut rows = Vec::with_capacity(self.table_from as usize + self.table.len());
        for block in bytes.chunks(BLOCK_BYTES) {
            let (first, entries) = format::read_index_block(&self.identity, block)?;
            if first as usize != rows.len() {
                return Err(FormatError::Damaged);
            }
            rows.extend(entries.iter().map(|entry| row(self.identity.base, entry)));
        }
        // A block may hold rows beyond those that the checkpoint left to it: they are in memory.
        if rows.len() < self.table_from as usize
            || !rows.is_sorted_by(|a, b| a.offset < b.offset && a.position < b.position)
        {
            return Err(FormatError::Damaged);
        }
        rows.truncate(self.table_from as usize);
        rows.append(&mut self.table);
        self.table = rows;
        self.table_from = 0;
        Ok(())
    }

    /// Whether the table can be dropped and loaded again.
    pub(crate) fn is_loaded_from_file(&self) -> bool {
        self.sealed_end.is_some() && self.table_from == 0 && self.pending.is_empty() && !self.table.is_empty()
    }

    pub(crate) fn unload(&mut self) {
        self.table_from = self.len();
        self.table = Vec::new();
    }
}

fn row(base: Offset, entry: &IndexEntry) -> Row {
    Row {
        max_timestamp: entry.max_timestamp,
        offset: u32::try_from(entry.offset.0 - base.0).unwrap_or(u32::MAX),
        position: entry.position,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::partition_id;

    fn index() -> SegmentIndex {
        SegmentIndex::new(SegmentIdentity { partition: partition_id(), base: Offset(100), generation: 0 })
    }

    /// Appends batches of `len` bytes back to back, each of one record, and digests whole blocks behind them.
    fn fill(index: &mut SegmentIndex, batches: u32, len: u32) -> u32 {
        let mut position = BLOCK;
        for number in 0..batches {
            let time = TimestampMs(i64::from(number));
            index.note(Offset(100 + i64::from(number)), position, time, time);
            position += len;
            while index.digested + BLOCK <= position {
                let block: Vec<u8> =
                    (index.digested..index.digested + BLOCK).map(|at| (at / 7) as u8).collect();
                index.digest_block(&block);
            }
        }
        position
    }

    #[test]
    fn a_range_is_at_least_the_interval_and_begins_at_a_batch() {
        let mut index = index();
        fill(&mut index, 1000, 1000);
        assert_eq!(index.len(), 1_000_000 / 66_000 + 1);
        assert_eq!(index.locate(Offset(100)), Located::At(Offset(100), BLOCK));
        assert_eq!(index.locate(Offset(165)), Located::At(Offset(100), BLOCK));
        assert_eq!(index.locate(Offset(166)), Located::At(Offset(166), BLOCK + 66_000));
        assert_eq!(index.locate_time(TimestampMs(66)), Some(Located::At(Offset(166), BLOCK + 66_000)));
        assert_eq!(index.locate_time(TimestampMs(1000)), None);
    }

    #[test]
    fn the_digest_of_a_range_is_that_of_its_bytes_block_by_block() {
        let mut index = index();
        let end = fill(&mut index, 200, 1000);
        index.seal(end);
        let last: Vec<u8> = (index.digested..end).map(|at| (at / 7) as u8).collect();
        index.digest_block(&last);
        assert!(index.is_finished());
        for entry in &index.pending {
            let mut digest = index.identity.digest_seed(entry.position);
            let mut at = entry.position;
            while at < entry.position + entry.len {
                let to = ((at / BLOCK + 1) * BLOCK).min(entry.position + entry.len);
                let piece: Vec<u8> = (at..to).map(|at| (at / 7) as u8).collect();
                digest = digest64(digest, &piece);
                at = to;
            }
            assert_eq!(entry.digest, digest);
        }
    }

    #[test]
    fn blocks_come_back_from_the_file() {
        let mut index = index();
        let end = fill(&mut index, 200, 66_000);
        index.seal(end);
        index.digest_block(&alloc::vec![1; (end - index.digested) as usize]);
        let mut file = Vec::new();
        while index.has_block() {
            let mut block = [0; BLOCK_BYTES];
            let number = index.plan_block(&mut block);
            index.note_written(number);
            file.extend_from_slice(&block);
        }
        assert_eq!(file.len(), 3 * BLOCK_BYTES);
        let mut restored = SegmentIndex::restore_sealed(index.identity, index.len(), end, index.digest());
        assert_eq!(restored.locate(Offset(150)), Located::NotLoaded);
        assert_eq!(restored.bytes_to_load() as usize, file.len());
        restored.load(&file).unwrap();
        assert_eq!(restored.table, index.table);
        restored.unload();
        file[5000] ^= 1;
        assert_eq!(restored.load(&file), Err(FormatError::Damaged));
    }
}
