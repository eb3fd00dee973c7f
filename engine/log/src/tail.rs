//! The newest bytes of a partition, in chunks of the shard's slab (DESIGN.md section 4). Lives on the shard's core.
//!
//! A chunk covers whole blocks of tail positions and follows its predecessor without a gap, so a block of the file is
//! a block of memory. Chunks grow with the bytes held: an idle partition holds one block, a fast one a few large
//! chunks. A chunk in use by a send or a write is pinned, and only the oldest unpinned chunk may go.

use alloc::collections::VecDeque;

use cutwater_model::{MemoryRange, Offset, Slab};

use crate::pages::Pages;
use crate::position::{BLOCK, LogEnd, RangeList, block_ceil, block_floor};

/// The largest chunk of a tail, in bytes.
const CHUNK_BYTES_MOST: u32 = 1024 * 1024;
/// Chunks that one append may add; with the rest of the last one, a batch is never in more than a list of ranges has.
const CHUNKS_PER_APPEND_MAX: usize = RangeList::LEN_MAX - 2;

#[derive(Debug)]
struct Chunk {
    memory: MemoryRange,
    /// Bytes at the memory's end that are not the chunk's: the next one has taken over from there.
    cut: u32,
    /// The tail position of its first byte.
    start: u64,
    /// The first batch boundary at or after its end, known once the tail has grown so far.
    next: LogEnd,
    pins: u32,
}

impl Chunk {
    const fn new(memory: MemoryRange, start: u64) -> Self {
        Self { memory, cut: 0, start, next: LogEnd { offset: Offset(0), position: 0 }, pins: 0 }
    }

    const fn end(&self) -> u64 {
        self.start + (self.memory.len - self.cut) as u64
    }
}

/// The chunks that a send or a write holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailPin {
    first: u32,
    count: u32,
}

#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct Tail {
    /// After the last byte.
    end: u64,
    chunks: VecDeque<Chunk>,
    /// The first batch that lies in memory as a whole.
    hot_start: LogEnd,
    /// The number of the first chunk, counted over the life of the tail, wrapping.
    first_number: u32,
    resident: u32,
    pins: u32,
}

impl Tail {
    /// An empty tail whose next byte is at `start`, a batch boundary.
    pub(crate) fn new(start: LogEnd) -> Self {
        Self { hot_start: start, end: start.position, ..Self::default() }
    }

    pub(crate) const fn end(&self) -> u64 {
        self.end
    }

    pub(crate) const fn hot_start(&self) -> LogEnd {
        self.hot_start
    }

    pub(crate) const fn resident_bytes(&self) -> u32 {
        self.resident
    }

    pub(crate) const fn pins(&self) -> u32 {
        self.pins
    }

    /// Makes room for `bytes` more, or takes nothing.
    #[inline]
    pub(crate) fn reserve(&mut self, pages: &mut Pages, bytes: u32) -> bool {
        let room = self.chunks.back().map_or(0, |last| last.end() - self.end);
        u64::from(bytes) <= room || self.add_chunks(pages, bytes, room)
    }

    #[cold]
    fn add_chunks(&mut self, pages: &mut Pages, bytes: u32, room: u64) -> bool {
        let before = self.chunks.len();
        let mut start = self.chunks.back().map_or(block_floor(self.end), Chunk::end);
        let wanted_end = self.end + u64::from(bytes);
        debug_assert_eq!(start.max(self.end) - self.end, room);
        while start < wanted_end {
            let missing = (wanted_end - start).min(u64::from(CHUNK_BYTES_MOST)) as u32;
            // Half of what is held: the number of chunks stays small at any rate.
            let by_rate = (self.resident / 2).clamp(BLOCK, CHUNK_BYTES_MOST);
            let by_rate = 1 << by_rate.ilog2();
            let size = by_rate.max(missing.next_power_of_two()).min(CHUNK_BYTES_MOST);
            let memory = pages
                .allocate(size)
                .or_else(|| pages.allocate(missing))
                .or_else(|| pages.allocate(missing.next_power_of_two() / 4));
            let Some(memory) = memory.filter(|_| self.chunks.len() - before < CHUNKS_PER_APPEND_MAX) else {
                if let Some(memory) = memory {
                    pages.free(memory);
                }
                for chunk in self.chunks.drain(before..) {
                    self.resident -= chunk.memory.len;
                    pages.free(chunk.memory);
                }
                return false;
            };
            self.resident += memory.len;
            self.chunks.push_back(Chunk::new(memory, start));
            start += u64::from(memory.len);
        }
        true
    }

    /// Goes on in blocks that hold the next bytes already, `bytes` of them behind as many as the last block is full.
    /// The tail ends at `boundary`, that of a batch. False, and nothing taken: the last block can't be left.
    pub(crate) fn adopt(
        &mut self,
        slab: &mut Slab,
        pages: &mut Pages,
        memory: MemoryRange,
        bytes: u32,
        boundary: LogEnd,
    ) -> bool {
        let start = block_floor(self.end);
        let unfinished = (self.end - start) as u32;
        debug_assert!(unfinished + bytes <= memory.len && boundary.position == self.end);
        if let Some(last) = self.chunks.back_mut()
            && last.end() > start
        {
            if last.start == start && last.pins > 0 {
                return false;
            }
            let from = last.memory.at + (start - last.start) as u32;
            slab.copy(MemoryRange { at: from, len: unfinished }, memory.at);
            let over = (last.end() - start) as u32;
            last.next = boundary;
            if last.pins > 0 {
                // What is being sent or written may lie there.
                last.cut += over;
            } else {
                pages.free(MemoryRange { at: from, len: over });
                last.memory.len -= over;
                self.resident -= over;
            }
            if last.memory.len == 0 {
                self.chunks.pop_back();
            }
        } else if unfinished > 0 {
            return false;
        }
        self.resident += memory.len;
        self.chunks.push_back(Chunk::new(memory, start));
        self.end += u64::from(bytes);
        true
    }

    /// Appends bytes for which room was reserved; a batch's end is told by [`Tail::close_batch`].
    #[inline]
    pub(crate) fn push(&mut self, slab: &mut Slab, bytes: &[u8]) {
        let at = self.end;
        self.end += bytes.len() as u64;
        if let Some(last) = self.chunks.back()
            && last.start <= at
        {
            let from = last.memory.at + (at - last.start) as u32;
            slab.get_mut(MemoryRange { at: from, len: bytes.len() as u32 }).copy_from_slice(bytes);
        } else {
            self.overwrite(slab, at, bytes);
        }
    }

    /// Writes over bytes below the end.
    pub(crate) fn overwrite(&self, slab: &mut Slab, mut at: u64, mut bytes: &[u8]) {
        let mut index = self.chunk_at(at);
        while !bytes.is_empty() {
            let Some(piece) = self.piece(index, at, at + bytes.len() as u64) else { return };
            let (now, later) = bytes.split_at(piece.len as usize);
            slab.get_mut(piece).copy_from_slice(now);
            at += now.len() as u64;
            bytes = later;
            index += 1;
        }
    }

    /// Where the next bytes go, as far as the last chunk has room; `None` where they don't begin in it.
    #[inline]
    pub(crate) fn place_of_next(&self, bytes: u32) -> Option<MemoryRange> {
        let last = self.chunks.back()?;
        let before = self.end.checked_sub(last.start)?;
        let room = last.end().checked_sub(self.end)?;
        let len = u64::from(bytes).min(room) as u32;
        Some(MemoryRange { at: last.memory.at + before as u32, len })
    }

    /// Copies bytes of the slab to the end; room was reserved.
    pub(crate) fn push_from(&mut self, slab: &mut Slab, from: MemoryRange) {
        let (mut at, mut from_at) = (self.end, from.at);
        self.end += u64::from(from.len);
        let mut index = self.chunk_at(at);
        while at < self.end {
            let Some(piece) = self.piece(index, at, self.end) else { return };
            slab.copy(MemoryRange { at: from_at, len: piece.len }, piece.at);
            at += u64::from(piece.len);
            from_at += piece.len;
            index += 1;
        }
    }

    /// Appends zeros up to the next whole block, which is in memory already.
    pub(crate) fn pad(&mut self, slab: &mut Slab) {
        let zeros = (block_ceil(self.end) - self.end) as usize;
        if zeros > 0 {
            self.push(slab, &[0; BLOCK as usize][..zeros]);
        }
    }

    /// Says that a batch that began at `start` ends at `end`, so that chunks know the first boundary behind them.
    #[inline]
    pub(crate) fn close_batch(&mut self, start: u64, end: LogEnd) {
        match self.chunks.back() {
            Some(last) if start >= last.start && end.position < last.end() => {}
            _ => self.note_boundary(start, end),
        }
    }

    #[cold]
    fn note_boundary(&mut self, start: u64, end: LogEnd) {
        for chunk in self.chunks.iter_mut().rev() {
            if chunk.end() <= start {
                // A batch that begins at a chunk's end finds the boundary noted by its predecessor.
                break;
            }
            if chunk.end() <= end.position {
                chunk.next = end;
            }
        }
    }

    /// After padding, the boundary that the last batch noted lies at the beginning of the next block.
    pub(crate) fn note_padding(&mut self, end: LogEnd) {
        if let Some(chunk) = self.chunks.iter_mut().rev().find(|chunk| chunk.end() == end.position) {
            chunk.next = end;
        }
        if self.hot_start.offset == end.offset {
            self.hot_start = end;
        }
    }

    /// The boundary with the offset `before` is at `end` now, behind a gap.
    pub(crate) fn skip(&mut self, before: Offset, end: LogEnd) {
        let boundaries = self.chunks.iter_mut().map(|chunk| &mut chunk.next).chain([&mut self.hot_start]);
        boundaries
            .filter(|boundary| boundary.offset == before && boundary.position == end.position)
            .for_each(|it| *it = end);
    }

    /// The pieces of memory that hold `[from, to)`, cut where the list is full or the tail ends.
    pub(crate) fn ranges(&self, from: u64, to: u64) -> RangeList {
        let mut list = RangeList::EMPTY;
        let mut at = from;
        let mut index = self.chunk_at(from);
        while at < to {
            let Some(piece) = self.piece(index, at, to) else { break };
            if !list.push(piece) {
                break;
            }
            at += u64::from(piece.len);
            index += 1;
        }
        list
    }

    /// The piece that begins at `from` and ends at `to` or where its chunk does.
    pub(crate) fn contiguous(&self, from: u64, to: u64) -> Option<MemoryRange> {
        self.piece(self.chunk_at(from), from, to)
    }

    /// Whether all bytes of `[from, to)` are in memory; of nothing, they are.
    pub(crate) fn holds(&self, from: u64, to: u64) -> bool {
        from >= to || (to <= self.end && self.chunks.front().is_some_and(|first| first.start <= from))
    }

    /// Copies bytes out of the tail; false where they are not all there.
    pub(crate) fn copy_out(&self, slab: &Slab, mut at: u64, mut into: &mut [u8]) -> bool {
        let mut index = self.chunk_at(at);
        while !into.is_empty() {
            let Some(piece) = self.piece(index, at, at + into.len() as u64) else { return false };
            let (now, later) = into.split_at_mut(piece.len as usize);
            now.copy_from_slice(slab.get(piece));
            at += now.len() as u64;
            into = later;
            index += 1;
        }
        true
    }

    fn piece(&self, index: usize, from: u64, to: u64) -> Option<MemoryRange> {
        let chunk = self.chunks.get(index).filter(|chunk| chunk.start <= from)?;
        let to = to.min(chunk.end()).min(self.end);
        (from < to).then(|| MemoryRange {
            at: chunk.memory.at + (from - chunk.start) as u32,
            len: (to - from) as u32,
        })
    }

    fn chunk_at(&self, position: u64) -> usize {
        match self.chunks.back() {
            Some(last) if position >= last.start => self.chunks.len() - 1,
            _ => self.chunks.partition_point(|chunk| chunk.end() <= position),
        }
    }

    /// Holds the chunks of `[from, to)` in memory until [`Tail::unpin`].
    pub(crate) fn pin(&mut self, from: u64, to: u64) -> TailPin {
        let first = self.chunk_at(from);
        let mut count = 0;
        for chunk in self.chunks.iter_mut().skip(first).take_while(|chunk| chunk.start < to) {
            chunk.pins += 1;
            count += 1;
        }
        self.pins += count;
        TailPin { first: self.first_number.wrapping_add(first as u32), count }
    }

    pub(crate) fn unpin(&mut self, pin: TailPin) {
        let first = pin.first.wrapping_sub(self.first_number) as usize;
        for index in first..first + pin.count as usize {
            if let Some(chunk) = self.chunks.get_mut(index)
                && chunk.pins > 0
            {
                chunk.pins -= 1;
                self.pins -= 1;
            }
        }
    }

    /// Frees the oldest chunks until at most `keep_bytes` are held. The file has all whole blocks below `flushed`, a
    /// batch boundary; the block it lies in stays. Says how many bytes it freed.
    pub(crate) fn evict(
        &mut self,
        slab: &mut Slab,
        pages: &mut Pages,
        flushed: LogEnd,
        keep_bytes: u32,
    ) -> u32 {
        let before = self.resident;
        let below = block_floor(flushed.position);
        while self.resident > keep_bytes
            && let Some(first) = self.chunks.front()
            && first.pins == 0
            && first.end() <= below
            // The batch that straddles the chunk's end must be readable from the file, but for one block at its end.
            && first.next.position >= first.end()
            && block_floor(first.next.position) <= below
        {
            self.hot_start = self.hot_start.max(first.next);
            self.resident -= first.memory.len;
            pages.free(first.memory);
            self.chunks.pop_front();
            self.first_number = self.first_number.wrapping_add(1);
        }
        if self.resident > keep_bytes && self.chunks.len() == 1 {
            self.shrink(slab, pages, flushed);
        }
        before - self.resident
    }

    /// Moves the last bytes of an idle partition out of a large chunk into one that just holds them.
    fn shrink(&mut self, slab: &mut Slab, pages: &mut Pages, flushed: LogEnd) {
        let Some(only) = self.chunks.front_mut() else { return };
        let from = block_floor(flushed.position).max(only.start);
        let kept = self.end.saturating_sub(from) as u32;
        // The new chunk ends behind the last byte: so the batch that reaches its end is still to come, and notes it.
        let room = kept + 1;
        if only.pins > 0 || kept == 0 || room.max(BLOCK).next_power_of_two() * 2 > only.memory.len {
            return;
        }
        let Some(memory) = pages.allocate(room) else { return };
        let held = MemoryRange { at: only.memory.at + (from - only.start) as u32, len: kept };
        slab.copy(held, memory.at);
        self.resident = memory.len;
        pages.free(only.memory);
        *only = Chunk::new(memory, from);
        self.first_number = self.first_number.wrapping_add(1);
        self.hot_start = self.hot_start.max(flushed);
    }

    /// Forgets everything; nothing may be pinned. The next byte is at `end`, the next batch at its boundary, and the
    /// bytes from the block's beginning up to there are `unfinished`. False, and nothing changed: memory is short.
    pub(crate) fn restart(
        &mut self,
        slab: &mut Slab,
        pages: &mut Pages,
        end: LogEnd,
        unfinished: &[u8],
    ) -> bool {
        let memory = if unfinished.is_empty() {
            None
        } else {
            let Some(memory) = pages.allocate_reserved(BLOCK) else { return false };
            slab.get_mut(MemoryRange { at: memory.at, len: unfinished.len() as u32 })
                .copy_from_slice(unfinished);
            Some(memory)
        };
        self.release(pages);
        if let Some(memory) = memory {
            let start = block_floor(end.position);
            self.chunks.push_back(Chunk::new(memory, start));
            self.resident = memory.len;
        }
        self.hot_start = end;
        self.end = end.position;
        true
    }

    /// Frees all memory; nothing may be pinned.
    pub(crate) fn release(&mut self, pages: &mut Pages) {
        self.first_number = self.first_number.wrapping_add(self.chunks.len() as u32);
        for chunk in self.chunks.drain(..) {
            pages.free(chunk.memory);
        }
        self.resident = 0;
    }
}

#[cfg(test)]
mod tests {
    use cutwater_model::Offset;

    use super::*;
    use crate::test_support::slab;

    #[test]
    fn what_shrank_to_whole_blocks_is_given_up_later() {
        let (mut slab, mut pages) = (slab(1 << 20), Pages::new(1 << 20, 0));
        let at = |offset, position| LogEnd { offset: Offset(offset), position };
        let mut tail = Tail::new(at(0, 4096));
        // One chunk of 64 KiB; all of it but the last two blocks is flushed.
        assert!(tail.reserve(&mut pages, 60_000));
        tail.push(&mut slab, &[1; 12_404]);
        tail.close_batch(4096, at(1, 16_500));
        tail.push(&mut slab, &[2; 8076]);
        tail.close_batch(16_500, at(2, 24_576));
        tail.evict(&mut slab, &mut pages, at(1, 16_500), 0);
        assert!(tail.reserve(&mut pages, 40_000));
        tail.push(&mut slab, &[3; 40_000]);
        tail.close_batch(24_576, at(3, 64_576));
        tail.evict(&mut slab, &mut pages, at(3, 64_576), 0);
        assert!(pages.used_bytes() <= BLOCK, "{} bytes are held", pages.used_bytes());
    }
}
