//! Descriptors kept for their next use (S8). Where there are too many, any may be given up.
//!
//! Checkpoints write to all partitions in turn. With a few more of them than descriptors, the one longest unused would
//! always be the one wanted next; of those given up at random, few are.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use cutwater_model::FileName;
use cutwater_model::hash::BuildFixedHasher;

/// One in so many is given up at once.
const EVICTED_PART: usize = 64;

#[derive(Debug)]
pub(super) struct Descriptors {
    open: HashMap<FileName, Rc<OwnedFd>, BuildFixedHasher>,
    /// Decides which are given up: the same ones in every run.
    draw: u64,
    count_max: usize,
}

impl Descriptors {
    /// Keeps at most so many, at least 16.
    pub(super) fn new(count_max: usize) -> Self {
        Self { open: HashMap::default(), draw: 1, count_max: count_max.max(16) }
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn get(&self, file: FileName) -> Option<Rc<OwnedFd>> {
        self.open.get(&file).cloned()
    }

    pub(super) fn insert(&mut self, file: FileName, descriptor: Rc<OwnedFd>) {
        if self.open.len() >= self.count_max {
            self.evict(self.count_max / EVICTED_PART + 1);
        }
        self.open.insert(file, descriptor);
    }

    pub(super) fn remove(&mut self, file: FileName) -> Option<Rc<OwnedFd>> {
        self.open.remove(&file)
    }

    pub(super) fn evict_half(&mut self) {
        self.evict(self.open.len().div_ceil(2));
    }

    /// Gives up so many, several at once so that the walk is rare.
    fn evict(&mut self, count: usize) {
        let mut left = self.open.len() as u64;
        let mut wanted = (count as u64).min(left);
        let draw = &mut self.draw;
        self.open.retain(|_, _| {
            // As many of those still to come as are wanted, each as likely as any other.
            let is_given_up = next(draw) % left < wanted;
            left -= 1;
            wanted -= u64::from(is_given_up);
            !is_given_up
        });
    }
}

/// The next number of a sequence without a pattern (xorshift).
const fn next(draw: &mut u64) -> u64 {
    *draw ^= *draw << 13;
    *draw ^= *draw >> 7;
    *draw ^= *draw << 17;
    *draw
}

#[cfg(test)]
mod tests {
    use cutwater_model::ShardId;

    use super::*;

    fn file(number: u32) -> FileName {
        FileName::Pooled { shard: ShardId(0), number }
    }

    fn descriptor() -> Rc<OwnedFd> {
        Rc::new(std::fs::File::open("/dev/null").unwrap().into())
    }

    #[test]
    fn there_are_never_more_than_may_be_kept() {
        let mut kept = Descriptors::new(16);
        for number in 0..1000 {
            kept.insert(file(number), descriptor());
            assert!(kept.len() <= 16 && kept.get(file(number)).is_some());
        }
        assert!(kept.len() > 8);
    }

    #[test]
    fn of_files_used_in_turn_most_are_kept_although_there_are_more_than_may_be() {
        let (files, rounds) = (210, 20);
        let mut kept = Descriptors::new(200);
        let mut opened = 0;
        for number in (0..rounds).flat_map(|_| 0..files) {
            if kept.get(file(number)).is_none() {
                kept.insert(file(number), descriptor());
                opened += 1;
            }
        }
        assert!(opened < files * rounds / 4, "{opened} were opened");
    }

    #[test]
    fn half_of_them_can_be_given_up() {
        let mut kept = Descriptors::new(100);
        for number in 0..10 {
            kept.insert(file(number), descriptor());
        }
        kept.evict_half();
        assert_eq!(kept.len(), 5);
    }
}
