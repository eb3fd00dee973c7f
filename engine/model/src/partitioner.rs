//! Which partition a record goes to: by its key as Kafka's clients decide, or sticky where it has none.

use crate::ids::PartitionIndex;

/// The partition of a key among `count`, the same that Kafka's Java client chooses.
///
/// With no partitions at all it is partition 0, which the node then refuses as unknown.
#[must_use]
pub fn partition_of(key: &[u8], count: u32) -> PartitionIndex {
    let positive = (murmur2(key) & 0x7fff_ffff) as u32;
    PartitionIndex(positive.checked_rem(count).unwrap_or(0))
}

/// MurmurHash2, 32 bit, with the seed of Kafka's `Utils.murmur2`.
#[must_use]
pub fn murmur2(bytes: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const MULTIPLIER: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut word = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        word ^= word >> 24;
        hash = hash.wrapping_mul(MULTIPLIER) ^ word.wrapping_mul(MULTIPLIER);
    }
    if !rest.is_empty() {
        let mut word = [0; 4];
        word[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u32::from_le_bytes(word)).wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    (hash ^ hash >> 15) as i32
}

/// Chooses the partition of records without a key: one partition until its batch is full, then another (KIP-480).
///
/// It draws from a generator of its own, so the same seed gives the same choices.
#[derive(Clone, Copy, Debug)]
pub struct Sticky {
    state: u64,
    current: u32,
}

impl Sticky {
    /// Begins at a partition that follows from the seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        let mut sticky = Self { state: seed, current: 0 };
        sticky.current = sticky.draw();
        sticky
    }

    /// The partition that records without a key go to now. With no partitions at all it is partition 0.
    #[must_use]
    pub fn current(&self, count: u32) -> PartitionIndex {
        PartitionIndex(self.current.checked_rem(count).unwrap_or(0))
    }

    /// Goes to another partition, because the batch for the current one is complete.
    pub fn switch(&mut self, count: u32) {
        let current = self.current(count).0;
        // A step of 1 to count - 1 lands anywhere but where it began.
        let step = self.draw().checked_rem(count.saturating_sub(1)).map_or(0, |step| step + 1);
        self.current = ((u64::from(current) + u64::from(step)) % u64::from(count.max(1))) as u32;
    }

    /// The next number of SplitMix64, upper half.
    const fn draw(&mut self) -> u32 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_of_the_strings_in_kafkas_own_test() {
        for (key, expected) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()), expected, "{key}");
        }
    }

    #[test]
    fn a_negative_hash_gives_a_partition_in_range() {
        let positive = (-973_932_308_i32 & 0x7fff_ffff) as u32;
        assert_eq!(partition_of(b"21", 10), PartitionIndex(positive % 10));
        assert_eq!(partition_of(b"21", 0), PartitionIndex(0));
    }

    #[test]
    fn sticky_stays_until_told_then_goes_elsewhere_and_visits_all() {
        let mut sticky = Sticky::new(42);
        let mut visits = [0_u32; 7];
        for _ in 0..700 {
            let before = sticky.current(7);
            assert_eq!(before, sticky.current(7));
            sticky.switch(7);
            assert_ne!(before, sticky.current(7));
            visits[sticky.current(7).0 as usize] += 1;
        }
        assert!(visits.iter().all(|&count| (50..150).contains(&count)), "{visits:?}");
        let mut alone = Sticky::new(1);
        alone.switch(1);
        assert_eq!(alone.current(1), PartitionIndex(0));
        alone.switch(0);
        assert_eq!(alone.current(0), PartitionIndex(0));
    }
}
