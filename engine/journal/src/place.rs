//! Places in a journal, and how far its chain of groups goes.
//!
//! Plain data; lives on the shard's core.

use cutwater_model::Incarnation;

/// The number of a group in its shard's journal. Counts from 1 over all lives and never restarts (J3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The group that comes next.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// A byte of a shard's journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The number of the file in the ring, as in [`cutwater_model::FileName::Journal`].
    pub file: u32,
    /// The byte inside the file, a multiple of the block.
    pub at: u64,
}

/// A life of a journal: which start of the node writes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// The incarnation of the journal's first life. It is in every group and is never shown to a peer, so bytes that
    /// hold it were written by this journal and by nobody else.
    pub origin: Incarnation,
    /// Drawn at this start (J3).
    pub incarnation: Incarnation,
    /// Counts the starts that got as far as a start group, from 1. Of two groups in one journal the one of the higher
    /// life is later.
    pub number: u32,
}

/// The last group that counts, and the life it belongs to: what the next group has to name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChainEnd {
    /// The group's number; 0 before the first.
    pub sequence: Sequence,
    /// The group's digest; 0 before the first.
    pub digest: u64,
    /// The life that wrote it.
    pub life: Life,
}

/// Where a group begins and what came before it: all that replay needs to start there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayPlace {
    /// Where the group is, or will be.
    pub place: Place,
    /// The group before it.
    pub after: ChainEnd,
}

impl ReplayPlace {
    /// Where the journal of a shard begins that never had one.
    #[must_use]
    pub const fn first(origin: Incarnation) -> Self {
        Self {
            place: Place { file: 0, at: 0 },
            after: ChainEnd {
                sequence: Sequence(0),
                digest: 0,
                life: Life { origin, incarnation: origin, number: 0 },
            },
        }
    }

    /// The number of the group that begins here.
    #[must_use]
    pub const fn sequence(&self) -> Sequence {
        self.after.sequence.next()
    }
}
