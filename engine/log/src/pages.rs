//! Who may use which pages of the shard's slab. Lives on the shard's core, does no I/O.
//!
//! A buddy allocator: chunks of a power of two from one block to [`CHUNK_BYTES_MAX`], the lowest free address of the
//! fitting size first, so that memory never used is never touched and stays out of the resident set. Nothing is
//! allocated on the heap after [`Pages::new`], and every step costs at most one walk over the 13 sizes.

use alloc::vec::Vec;

use cutwater_model::MemoryRange;
use cutwater_model::limits::BLOCK_BYTES;

const BLOCK: u32 = BLOCK_BYTES as u32;
const SIZES: usize = 13;
/// The largest chunk that can be allocated, in bytes.
pub const CHUNK_BYTES_MAX: u32 = BLOCK << (SIZES - 1);

/// The pages of one shard's slab.
#[derive(Debug)]
pub struct Pages {
    /// For each size, which chunks of that size are free.
    free: [BitTree; SIZES],
    bytes: u32,
    reserved: u32,
    used: u32,
    used_max: u32,
}

impl Pages {
    /// All of `bytes` at the beginning of a slab are free. [`Pages::allocate`] leaves the last `reserved` of them
    /// alone, so that what has to succeed for memory to become free again can.
    #[must_use]
    pub fn new(bytes: u32, reserved: u32) -> Self {
        let blocks = bytes / BLOCK;
        let mut pages = Self {
            free: core::array::from_fn(|size| BitTree::new((blocks >> size) as usize)),
            bytes: blocks * BLOCK,
            reserved,
            used: 0,
            used_max: 0,
        };
        let mut block = 0;
        while block < blocks {
            let aligned = if block == 0 { u32::MAX } else { 1 << block.trailing_zeros() };
            let fits = (blocks - block).min(aligned).ilog2().min(SIZES as u32 - 1);
            pages.free[fits as usize].set((block >> fits) as usize);
            block += 1 << fits;
        }
        pages
    }

    /// A chunk of at least `bytes`, its length rounded up to a power of two; `None` where there is none, or only out
    /// of the reserve.
    #[must_use]
    pub fn allocate(&mut self, bytes: u32) -> Option<MemoryRange> {
        let rounded = round(bytes)?;
        if self.used.checked_add(rounded)? > self.bytes.saturating_sub(self.reserved) {
            return None;
        }
        self.take(rounded)
    }

    /// The same, out of the reserve if need be.
    #[must_use]
    pub fn allocate_reserved(&mut self, bytes: u32) -> Option<MemoryRange> {
        self.take(round(bytes)?)
    }

    /// The same, but only as many blocks as are needed: the rest of the chunk stays free.
    #[must_use]
    pub fn allocate_blocks(&mut self, bytes: u32) -> Option<MemoryRange> {
        let chunk = self.allocate(bytes)?;
        let len = bytes.max(BLOCK).next_multiple_of(BLOCK);
        self.free(MemoryRange { at: chunk.at + len, len: chunk.len - len });
        Some(MemoryRange { at: chunk.at, len })
    }

    /// Gives whole blocks back that were allocated: all of a chunk, or a part of it.
    ///
    /// # Panics
    /// In tests, if they are not in use.
    pub fn free(&mut self, range: MemoryRange) {
        debug_assert!(
            range.at.is_multiple_of(BLOCK) && range.len.is_multiple_of(BLOCK),
            "{range:?} is blocks"
        );
        let (mut at, end) = (range.at, range.at + range.len);
        while at < end {
            // The largest chunk that begins there.
            let aligned = if at == 0 { CHUNK_BYTES_MAX } else { 1 << at.trailing_zeros() };
            let len = (1 << (end - at).ilog2()).min(aligned).min(CHUNK_BYTES_MAX);
            self.free_chunk(MemoryRange { at, len });
            at += len;
        }
    }

    fn free_chunk(&mut self, range: MemoryRange) {
        self.used -= range.len;
        let mut size = (range.len / BLOCK).ilog2() as usize;
        let mut index = ((range.at / BLOCK) >> size) as usize;
        while size + 1 < SIZES && self.free[size].is_set(index ^ 1) {
            self.free[size].clear(index ^ 1);
            size += 1;
            index >>= 1;
        }
        debug_assert!(!self.free[size].is_set(index), "{range:?} was in use");
        self.free[size].set(index);
    }

    /// Bytes allocated now.
    #[must_use]
    pub const fn used_bytes(&self) -> u32 {
        self.used
    }

    /// Bytes that [`Pages::allocate`] may still give, in chunks of whatever size.
    #[must_use]
    pub const fn free_bytes(&self) -> u32 {
        self.bytes.saturating_sub(self.reserved).saturating_sub(self.used)
    }

    /// The most bytes that were allocated at once.
    #[must_use]
    pub const fn used_bytes_max(&self) -> u32 {
        self.used_max
    }

    fn take(&mut self, bytes: u32) -> Option<MemoryRange> {
        let wanted = (bytes / BLOCK).ilog2() as usize;
        let (found, mut index) = (wanted..SIZES).find_map(|size| Some((size, self.free[size].first()?)))?;
        self.free[found].clear(index);
        for size in (wanted..found).rev() {
            index <<= 1;
            self.free[size].set(index + 1);
        }
        self.used += bytes;
        self.used_max = self.used_max.max(self.used);
        Some(MemoryRange { at: ((index as u32) << wanted) * BLOCK, len: bytes })
    }
}

fn round(bytes: u32) -> Option<u32> {
    if bytes > CHUNK_BYTES_MAX { None } else { Some(bytes.max(BLOCK).next_power_of_two()) }
}

/// A set of small numbers that knows its least: words of 64 bits, each level saying which words below aren't zero.
#[derive(Debug)]
struct BitTree {
    levels: [Vec<u64>; LEVELS],
}

/// Three levels hold 64 x 64 x 64 words at the bottom times 64 bits: more than 4 GiB of blocks.
const LEVELS: usize = 4;

impl BitTree {
    fn new(bits: usize) -> Self {
        let mut words = bits;
        Self {
            levels: core::array::from_fn(|_| {
                words = words.div_ceil(64).max(1);
                alloc::vec![0; words]
            }),
        }
    }

    fn is_set(&self, bit: usize) -> bool {
        self.levels[0].get(bit / 64).is_some_and(|word| word & (1 << (bit % 64)) != 0)
    }

    fn set(&mut self, mut bit: usize) {
        for level in &mut self.levels {
            let word = &mut level[bit / 64];
            let was_empty = *word == 0;
            *word |= 1 << (bit % 64);
            if !was_empty {
                return;
            }
            bit /= 64;
        }
    }

    fn clear(&mut self, mut bit: usize) {
        for level in &mut self.levels {
            let word = &mut level[bit / 64];
            *word &= !(1 << (bit % 64));
            if *word != 0 {
                return;
            }
            bit /= 64;
        }
    }

    fn first(&self) -> Option<usize> {
        let mut index = 0;
        for level in self.levels.iter().rev() {
            let word = level[index];
            if word == 0 {
                return None;
            }
            index = index * 64 + word.trailing_zeros() as usize;
        }
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::Random;

    #[test]
    fn the_lowest_address_comes_first_and_neighbours_join() {
        let mut pages = Pages::new(16 * BLOCK, 0);
        let first = pages.allocate(1).unwrap();
        let second = pages.allocate(BLOCK).unwrap();
        assert_eq!((first.at, second.at), (0, BLOCK));
        let large = pages.allocate(8 * BLOCK - 5).unwrap();
        assert_eq!(large, MemoryRange { at: 8 * BLOCK, len: 8 * BLOCK });
        pages.free(first);
        assert_eq!(pages.allocate(BLOCK).unwrap().at, 0);
        pages.free(MemoryRange { at: 0, len: BLOCK });
        pages.free(second);
        pages.free(large);
        assert_eq!(pages.allocate(16 * BLOCK).unwrap().at, 0);
    }

    #[test]
    fn the_reserve_is_kept_for_what_must_succeed() {
        let mut pages = Pages::new(8 * BLOCK, 2 * BLOCK);
        for _ in 0..6 {
            assert!(pages.allocate(BLOCK).is_some());
        }
        assert_eq!(pages.allocate(BLOCK), None);
        assert!(pages.allocate_reserved(BLOCK).is_some());
        assert!(pages.allocate_reserved(BLOCK).is_some());
        assert_eq!(pages.allocate_reserved(BLOCK), None);
        assert_eq!(pages.used_bytes_max(), 8 * BLOCK);
    }

    #[test]
    fn chunks_never_overlap_and_all_come_back() {
        for seed in 0..20 {
            let mut random = Random::new(seed);
            let blocks = 1000 + random.below(100);
            let mut pages = Pages::new(blocks as u32 * BLOCK, 0);
            let mut owner = alloc::vec![0_u32; blocks as usize];
            let mut held: Vec<(u32, MemoryRange)> = Vec::new();
            for step in 1..3000 {
                if random.below(5) < 3 {
                    let bits = 8 + random.below(12);
                    let bytes = 1 + random.below(1 << bits) as u32;
                    let whole = random.below(2) == 0;
                    let given = if whole { pages.allocate(bytes) } else { pages.allocate_blocks(bytes) };
                    if let Some(range) = given {
                        assert!(whole || range.len < bytes + BLOCK, "seed {seed}");
                        assert!(range.len >= bytes && range.at.is_multiple_of(BLOCK), "seed {seed}");
                        for block in range.at / BLOCK..range.end() / BLOCK {
                            assert_eq!(owner[block as usize], 0, "seed {seed}: block {block} is given twice");
                            owner[block as usize] = step;
                        }
                        held.push((step, range));
                    }
                } else if !held.is_empty() {
                    let (step, range) = held.swap_remove(random.below(held.len() as u64) as usize);
                    for block in range.at / BLOCK..range.end() / BLOCK {
                        assert_eq!(owner[block as usize], step, "seed {seed}");
                        owner[block as usize] = 0;
                    }
                    pages.free(range);
                }
                let used: u32 = held.iter().map(|(_, range)| range.len).sum();
                assert_eq!(pages.used_bytes(), used, "seed {seed}");
            }
            for (_, range) in held {
                pages.free(range);
            }
            let largest = 1 << (blocks as u32).ilog2();
            assert_eq!(pages.allocate(largest * BLOCK).unwrap().at, 0, "seed {seed}: all joined again");
        }
    }
}
