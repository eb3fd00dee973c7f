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
