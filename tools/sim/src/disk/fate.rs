//! What a power cut makes of each thing that was not flushed.

use std::collections::BTreeMap;

use super::page::SECTORS;
use crate::random::Random;

/// Names one unflushed thing: a write, a length, a change of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PendingId(pub u64);

/// What becomes of one unflushed thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It had reached the platter.
    Keep,
    /// It is lost.
    Drop,
    /// Some of its sectors had reached the platter; which, the number says. What has no sectors is lost.
    Torn(u64),
}

/// The fates of all that is pending.
#[derive(Clone, Debug)]
pub struct Fates {
    others: Fate,
    chosen: BTreeMap<PendingId, Fate>,
}

impl Fates {
    /// One fate for everything.
    #[must_use]
    pub const fn all(fate: Fate) -> Self {
        Self { others: fate, chosen: BTreeMap::new() }
    }

    /// The same, but for one thing.
    #[must_use]
    pub fn but(mut self, id: PendingId, fate: Fate) -> Self {
        self.chosen.insert(id, fate);
        self
    }

    /// An independent fate for each of these. How much is kept differs from one draw to the next.
    #[must_use]
    pub fn random(pending: &[PendingId], random: &mut Random) -> Self {
        let keep_percent = [10, 50, 90][random.below(3) as usize];
        let torn_percent = [0, 20, 60][random.below(3) as usize];
        let mut fates = Self::all(Fate::Drop);
        for &id in pending {
            let fate = if random.percent(torn_percent) {
                Fate::Torn(random.next())
            } else if random.percent(keep_percent) {
                Fate::Keep
            } else {
                Fate::Drop
            };
            fates.chosen.insert(id, fate);
        }
        fates
    }

    /// The fate of one thing.
    #[must_use]
    pub fn of(&self, id: PendingId) -> Fate {
        self.chosen.get(&id).copied().unwrap_or(self.others)
    }
}

impl Fate {
    /// Whether something without sectors is kept.
    #[must_use]
    pub const fn keeps_whole(self) -> bool {
        matches!(self, Self::Keep)
    }

    /// Which sectors of a block are kept, as a bit for each. `first` is the place of the block's first sector in
    /// its write of `count` sectors.
    pub(super) const fn mask(self, first: u32, count: u32) -> u8 {
        let seed = match self {
            Self::Keep => return u8::MAX,
            Self::Drop => return 0,
            Self::Torn(seed) => seed,
        };
        let cut = (seed >> 8) % (count as u64 + 1);
        let mut mask = 0;
        let mut sector = 0;
        while sector < SECTORS as u32 {
            let place = (first + sector) as u64;
            let kept = match seed % 4 {
                0 => place < cut,
                1 => place >= cut,
                2 => place % 2 == seed >> 8 & 1,
                _ => Random::new(seed ^ place << 32).next() & 1 == 1,
            };
            mask |= (kept as u8) << sector;
            sector += 1;
        }
        mask
    }
}
