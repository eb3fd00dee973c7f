//! Groups that were submitted and are not durable yet (J4).
//!
//! Writes complete in any order; only the contiguous prefix counts. Lives on the shard's core.

use crate::place::Sequence;
use cutwater_model::limits::GROUPS_IN_FLIGHT_MAX;

/// A skip group may go with every group.
const SLOTS: usize = 2 * GROUPS_IN_FLIGHT_MAX;

/// The groups in flight, as a window of bits behind the durable prefix.
#[derive(Clone, Copy, Debug, Default)]
pub struct InFlight {
    durable: Sequence,
    submitted: Sequence,
    /// Bit i: the group `durable + 1 + i` has completed.
    done: u64,
}

const _: () = assert!(SLOTS <= 64, "the window is one word");

impl InFlight {
    /// Nothing in flight; all groups up to this one are durable.
    #[must_use]
    pub const fn new(durable: Sequence) -> Self {
        Self { durable, submitted: durable, done: 0 }
    }

    /// The last group of the contiguous durable prefix.
    #[must_use]
    pub const fn durable(&self) -> Sequence {
        self.durable
    }

    /// The last group submitted.
    #[must_use]
    pub const fn submitted(&self) -> Sequence {
        self.submitted
    }

    /// How many groups lie behind the durable prefix.
    #[must_use]
    pub const fn count(&self) -> usize {
        (self.submitted.0 - self.durable.0) as usize
    }

    /// Whether one more group, and a skip group before it, may be submitted.
    #[must_use]
    pub const fn has_room(&self) -> bool {
        self.count() + 2 <= SLOTS
    }

    /// The next group was submitted.
    pub const fn submit(&mut self) -> Sequence {
        self.submitted = self.submitted.next();
        self.submitted
    }

    /// A group is durable by itself: all its bytes were written and flushed. Returns the end of the durable prefix.
    /// Numbers that are not in flight change nothing.
    pub const fn complete(&mut self, sequence: Sequence) -> Sequence {
        if sequence.0 > self.durable.0 && sequence.0 <= self.submitted.0 {
            self.done |= 1 << (sequence.0 - self.durable.0 - 1);
            let prefix = self.done.trailing_ones();
            self.done = if prefix >= 64 { 0 } else { self.done >> prefix };
            self.durable = Sequence(self.durable.0 + prefix as u64);
        }
        self.durable
    }
}

#[cfg(test)]
mod tests {
    use alloc::{collections::BTreeSet, vec::Vec};

    use super::*;
    use crate::test_rig::Random;

    #[test]
    fn only_the_contiguous_prefix_is_durable_whatever_the_order() {
        for seed in 1..200_u64 {
            let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut in_flight = InFlight::new(Sequence(seed));
            let mut completed: BTreeSet<u64> = BTreeSet::new();
            let mut pending: Vec<u64> = Vec::new();
            for _ in 0..200 {
                if in_flight.has_room() && random.below(2) == 0 {
                    pending.push(in_flight.submit().0);
                } else if !pending.is_empty() {
                    let sequence = pending.remove(random.below(pending.len() as u64) as usize);
                    completed.insert(sequence);
                    let durable = in_flight.complete(Sequence(sequence));
                    let mut expected = seed;
                    while completed.contains(&(expected + 1)) {
                        expected += 1;
                    }
                    assert_eq!(durable, Sequence(expected), "seed {seed}");
                    assert_eq!(in_flight.complete(Sequence(sequence)), durable, "twice is once");
                }
            }
            let submitted = in_flight.submitted();
            assert_eq!(in_flight.complete(Sequence(submitted.0 + 5)), in_flight.durable(), "never submitted");
        }
    }
}
