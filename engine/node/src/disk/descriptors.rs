//! Descriptors kept for their next use, those longest unused given up first (S8).

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use cutwater_model::FileName;
use cutwater_model::hash::BuildFixedHasher;

#[derive(Debug)]
pub(super) struct Descriptors {
    open: HashMap<FileName, Kept, BuildFixedHasher>,
    uses: u64,
    count_max: usize,
}

#[derive(Debug)]
struct Kept {
    descriptor: Rc<OwnedFd>,
    used: u64,
}

impl Descriptors {
    /// Keeps at most so many, at least 16.
    pub(super) fn new(count_max: usize) -> Self {
        Self { open: HashMap::default(), uses: 0, count_max: count_max.max(16) }
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn get(&mut self, file: FileName) -> Option<Rc<OwnedFd>> {
        let kept = self.open.get_mut(&file)?;
        self.uses += 1;
        kept.used = self.uses;
        Some(kept.descriptor.clone())
    }

    pub(super) fn insert(&mut self, file: FileName, descriptor: Rc<OwnedFd>) {
        if self.open.len() >= self.count_max {
            self.evict(self.count_max / 8 + 1);
        }
        self.uses += 1;
        self.open.insert(file, Kept { descriptor, used: self.uses });
    }

    pub(super) fn remove(&mut self, file: FileName) -> Option<Rc<OwnedFd>> {
        self.open.remove(&file).map(|kept| kept.descriptor)
    }

    pub(super) fn evict_half(&mut self) {
        self.evict(self.open.len().div_ceil(2));
    }

    /// Gives up those longest unused, several at once so that the search is rare.
    fn evict(&mut self, count: usize) {
        let mut uses: Vec<u64> = self.open.values().map(|kept| kept.used).collect();
        if uses.is_empty() || count == 0 {
            return;
        }
        let last = count.min(uses.len()) - 1;
        let (_, &mut until, _) = uses.select_nth_unstable(last);
        self.open.retain(|_, kept| kept.used > until);
    }
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
    fn those_longest_unused_go_first() {
        let mut kept = Descriptors::new(16);
        for number in 0..16 {
            kept.insert(file(number), descriptor());
        }
        assert!(kept.get(file(0)).is_some());
        kept.insert(file(16), descriptor());
        assert!(kept.get(file(0)).is_some() && kept.get(file(16)).is_some());
        assert!(kept.get(file(1)).is_none());
        assert!(kept.len() <= 16);
    }

    #[test]
    fn evicting_half_keeps_the_newer_half() {
        let mut kept = Descriptors::new(100);
        for number in 0..10 {
            kept.insert(file(number), descriptor());
        }
        kept.evict_half();
        assert_eq!(kept.len(), 5);
        assert!(kept.get(file(9)).is_some());
    }
}
