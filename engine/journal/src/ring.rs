//! Which file and place the next group goes to: the journal as a ring of files (J1, J2).
//!
//! Files are taken in the order they became free and filled from their first byte; a group never crosses a file's end,
//! a skip group names the next file instead. A file is free again once both copies of the checkpoint start their
//! replay behind it (C2). Lives on the shard's core; numbers only.

use alloc::collections::VecDeque;

use cutwater_model::limits::BLOCK_BYTES;

use crate::place::Place;

/// Blocks that ordinary groups leave free at the end of the last free file, so that a node that crashes again and
/// again, before it gets to a checkpoint, still has room for its start groups (J6).
pub const START_BLOCKS_RESERVED: u64 = 4;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// Where a group goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Where a skip group goes before it, which names the file of `place`.
    pub skip: Option<Place>,
    /// Where the group itself goes.
    pub place: Place,
}

/// The files of one shard's journal.
#[derive(Clone, Debug)]
pub struct JournalRing {
    file_bytes: u64,
    /// Files that replay may need, oldest first; the last one is being filled.
    used: VecDeque<u32>,
    /// Written files that nobody needs, in the order of their next use.
    free: VecDeque<u32>,
    /// Where replay begins inside the oldest used file.
    from: u64,
    /// Where the next group goes inside the newest used file.
    at: u64,
}

impl JournalRing {
    /// A ring whose files are `file_bytes` long, that is filled from `next` on. `used` are the files from the one
    /// where replay begins, at byte `from`, to the one of `next`.
    #[must_use]
    pub fn new(file_bytes: u64, used: impl IntoIterator<Item = u32>, from: u64, next: Place) -> Self {
        let mut used: VecDeque<u32> = used.into_iter().collect();
        if used.back() != Some(&next.file) {
            used.push_back(next.file);
        }
        Self { file_bytes, used, free: VecDeque::new(), from, at: next.at }
    }

    /// A file was written, flushed, and its name made durable: it may be used.
    pub fn add_file(&mut self, number: u32) {
        if !self.used.contains(&number) && !self.free.contains(&number) {
            self.free.push_back(number);
        }
    }

    /// Where the next group goes if no skip group comes before it.
    #[must_use]
    pub fn next_place(&self) -> Place {
        Place { file: self.used.back().copied().unwrap_or_default(), at: self.at }
    }

    /// How long each file is.
    #[must_use]
    pub const fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// How many files there are.
    #[must_use]
    pub fn files(&self) -> u32 {
        (self.used.len() + self.free.len()) as u32
    }

    /// The bytes that replay would read now.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        (self.used.len() as u64 * self.file_bytes).saturating_sub(self.from + (self.file_bytes - self.at))
    }

    /// The bytes of all files.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        u64::from(self.files()) * self.file_bytes
    }

    /// The longest group that can ever be placed.
    #[must_use]
    pub const fn group_bytes_max(&self) -> u64 {
        self.file_bytes.saturating_sub(START_BLOCKS_RESERVED * BLOCK)
    }

    /// Takes the place for a group of so many bytes, whole blocks, or changes nothing where there is no room.
    pub fn place(&mut self, bytes: u64) -> Option<Placement> {
        let here = self.next_place();
        // One block stays free for the skip group; without a next file, those for start groups.
        let kept = if self.free.is_empty() { START_BLOCKS_RESERVED * BLOCK } else { BLOCK };
        if self.at + bytes + kept <= self.file_bytes {
            self.at += bytes;
            return Some(Placement { skip: None, place: here });
        }
        let kept_there = if self.free.len() > 1 { BLOCK } else { START_BLOCKS_RESERVED * BLOCK };
        if bytes + kept_there > self.file_bytes {
            return None;
        }
        let place = self.next_file()?;
        self.at = bytes;
        Some(Placement { skip: Some(here), place })
    }

    /// Takes the place for a start group: one block right where the chain ended, whatever is left of the file. In the
    /// file's last block it names the next file itself, which is returned with it. `None` where that file is not free.
    pub fn place_start(&mut self) -> Option<(Place, Option<u32>)> {
        let here = self.next_place();
        if self.at + 2 * BLOCK <= self.file_bytes {
            self.at += BLOCK;
            return Some((here, None));
        }
        let next = self.next_file()?;
        Some((here, Some(next.file)))
    }

    /// Replay will never begin before `from` again (C2): the files before it are free.
    pub fn release_before(&mut self, from: Place) {
        if !self.used.contains(&from.file) {
            return;
        }
        while let Some(&oldest) = self.used.front() {
            if oldest == from.file {
                break;
            }
            self.used.pop_front();
            self.free.push_back(oldest);
        }
        self.from = from.at;
    }

    fn next_file(&mut self) -> Option<Place> {
        let file = self.free.pop_front()?;
        self.used.push_back(file);
        self.at = 0;
        Some(Place { file, at: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rig::Random;

    const FILE: u64 = 16 * BLOCK;

    #[test]
    fn no_group_crosses_a_files_end_or_overwrites_what_replay_needs() {
        for seed in 1..300_u64 {
            let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut ring = JournalRing::new(FILE, [0], 0, Place::default());
            ring.add_file(1);
            ring.add_file(2);
            let mut order = VecDeque::from([0]);
            for _ in 0..300 {
                let bytes = (1 + random.below(ring.group_bytes_max() / BLOCK)) * BLOCK;
                let before = ring.next_place();
                let Some(placement) = ring.place(bytes) else {
                    let place = ring.next_place();
                    assert_eq!(place, before, "seed {seed}: a refusal changes nothing");
                    ring.release_before(place);
                    order = VecDeque::from([place.file]);
                    continue;
                };
                if let Some(skip) = placement.skip {
                    assert!(skip == before && skip.at + BLOCK <= FILE, "seed {seed}");
                    assert_eq!(placement.place.at, 0, "seed {seed}");
                    assert!(!order.contains(&placement.place.file), "seed {seed}: still needed");
                    order.push_back(placement.place.file);
                } else {
                    assert_eq!(placement.place, before, "seed {seed}");
                }
                assert!(placement.place.at + bytes + BLOCK <= FILE, "seed {seed}: room for a skip group");
                assert!(ring.used_bytes() <= ring.total_bytes());
            }
        }
    }

    #[test]
    fn a_full_ring_still_takes_start_groups() {
        let mut ring = JournalRing::new(FILE, [0], 0, Place::default());
        while ring.place(BLOCK).is_some() {}
        for _ in 0..START_BLOCKS_RESERVED - 1 {
            assert!(ring.place_start().is_some_and(|(_, next)| next.is_none()));
        }
        assert_eq!(ring.place_start(), None, "the last block must name a next file");
        ring.add_file(4);
        assert!(ring.place_start().is_some_and(|(place, next)| place.at == FILE - BLOCK && next == Some(4)));
        assert_eq!(ring.next_place(), Place { file: 4, at: 0 });
    }

    #[test]
    fn files_come_back_in_the_order_they_were_filled() {
        let mut ring = JournalRing::new(FILE, [5, 3], 2 * BLOCK, Place { file: 1, at: BLOCK });
        assert_eq!(ring.used_bytes(), 2 * FILE - 2 * BLOCK + BLOCK);
        ring.release_before(Place { file: 3, at: 0 });
        assert_eq!((ring.used_bytes(), ring.total_bytes()), (FILE + BLOCK, 3 * FILE));
        ring.release_before(Place { file: 5, at: 0 });
        assert_eq!(ring.used_bytes(), FILE + BLOCK, "a place that is free already changes nothing");
        while ring.next_place().file == 1 {
            ring.place(BLOCK);
        }
        assert_eq!(ring.next_place().file, 5);
    }
}
