//! Planted bugs: each breaks one rule of the storage on purpose, and the simulator must find it (STORAGE.md 8).

use crate::disk::Leaks;
use crate::plan::{End, Life, Plan};
use crate::world::World;

/// One bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// Journal writes are reported durable while they lie in the cache (J4).
    AckBeforeDurable,
    /// Bulk writes are reported durable while they lie in the cache, so a batch is acknowledged before its data (B1).
    ReferenceBeforeBulk,
    /// Checkpoints are reported durable while they lie in the cache, so journal files are used again before them (C2).
    ReuseBeforeCheckpoint,
    /// Names are never flushed while a shard runs (S5).
    RenameUnflushed,
    /// Recovery doesn't flush what it found (R1).
    RecoveryUnflushed,
    /// Half a write is counted as the whole (E1).
    HalfWrites,
    /// What lies behind a rotten group is not looked at (R3).
    CutOnRot,
    /// A deleted topic's id is given to the next one (M2).
    ReusedTopicId,
    /// Replay takes groups of an earlier lap (J3).
    NoLapCheck,
    /// Replay takes groups of an earlier life (J3, J6).
    NoLifeChain,
    /// Checkpoints leave out the block that is not full yet (C1).
    NoUnfinishedBlock,
    /// Replay takes references to large batches whose writes were under way on trust (B1).
    ReferencesOnTrust,
}

/// A life that ends with everything under way torn.
fn busy(life: &Life) -> Life {
    Life { lasts_us: 60_000, end: End::PowerCut, broken_starts: 0, ..life.clone() }
}

impl Plant {
    /// Every bug.
    pub const ALL: [Self; 12] = [
        Self::AckBeforeDurable,
        Self::ReferenceBeforeBulk,
        Self::ReuseBeforeCheckpoint,
        Self::RenameUnflushed,
        Self::RecoveryUnflushed,
        Self::HalfWrites,
        Self::CutOnRot,
        Self::ReusedTopicId,
        Self::NoLapCheck,
        Self::NoLifeChain,
        Self::NoUnfinishedBlock,
        Self::ReferencesOnTrust,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AckBeforeDurable => "ack-before-durable",
            Self::ReferenceBeforeBulk => "reference-before-bulk",
            Self::ReuseBeforeCheckpoint => "reuse-before-checkpoint",
            Self::RenameUnflushed => "rename-unflushed",
            Self::RecoveryUnflushed => "recovery-unflushed",
            Self::HalfWrites => "half-writes",
            Self::CutOnRot => "cut-on-rot",
            Self::ReusedTopicId => "reused-topic-id",
            Self::NoLapCheck => "no-lap-check",
            Self::NoLifeChain => "no-life-chain",
            Self::NoUnfinishedBlock => "no-unfinished-block",
            Self::ReferencesOnTrust => "references-on-trust",
        }
    }

    /// The bug of a name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|plant| plant.name() == name)
    }

    /// Leaves to a plan only what may find the bug, so that nothing else excuses it.
    pub fn shape(self, plan: &mut Plan) {
        let rots = self == Self::CutOnRot;
        plan.without_faults();
        if rots {
            for life in plan.lives.iter_mut().skip(1) {
                life.rots = true;
                life.audited = true;
            }
        }
        if self == Self::NoLifeChain {
            // Groups of a life that lost one before them must lie where the next life ends: several in flight, and
            // after each busy life one that dies as soon as it has begun.
            plan.config.groups_in_flight_max = 4;
            plan.config.group_bytes_eager = 1;
            plan.disk_us = [400, 30_000];
            let shards = plan.lives[0].shards;
            for life in &mut plan.lives {
                life.shards = shards;
            }
            let last = plan.lives.pop();
            let brief = |life: &Life| Life { lasts_us: 0, end: End::Kill, broken_starts: 0, ..life.clone() };
            plan.lives = plan.lives.iter().flat_map(|life| [busy(life), brief(life)]).collect();
            plan.lives.extend(last);
        }
    }

    /// Plants it.
    pub fn plant(self, world: &mut World) {
        let mut leaks = Leaks::default();
        match self {
            Self::AckBeforeDurable => leaks.journal_writes_stay_in_cache = true,
            Self::ReferenceBeforeBulk => leaks.segment_writes_stay_in_cache = true,
            Self::ReuseBeforeCheckpoint => leaks.checkpoints_stay_in_cache = true,
            Self::RenameUnflushed => leaks.names_unflushed = true,
            Self::RecoveryUnflushed => leaks.unflushed_recovery = true,
            Self::HalfWrites => leaks.half_writes_one_in = 50,
            Self::CutOnRot => leaks.rot_ends_reads = true,
            Self::ReusedTopicId => world.reuse_topic_ids(),
            // These lie inside the engine, see `Sown`.
            Self::NoLapCheck | Self::NoLifeChain | Self::NoUnfinishedBlock | Self::ReferencesOnTrust => {}
        }
        world.disk_mut().set_leaks(leaks);
    }
}

/// Bugs inside the engine stay planted as long as this lives; in the whole process, so one at a time.
#[derive(Debug)]
pub struct Sown(Plant);

impl Sown {
    /// Plants a bug inside the engine, if it is one of those.
    #[must_use]
    pub fn new(plant: Plant) -> Self {
        Self::set(plant, true);
        Self(plant)
    }

    fn set(plant: Plant, is_on: bool) {
        let switch = match plant {
            Plant::NoLapCheck => &cutwater_journal::plants::NO_LAP_CHECK,
            Plant::NoLifeChain => &cutwater_journal::plants::NO_LIFE_CHAIN,
            Plant::NoUnfinishedBlock => &cutwater_log::plants::NO_UNFINISHED_BLOCK,
            Plant::ReferencesOnTrust => &cutwater_log::plants::REFERENCES_ON_TRUST,
            _ => return,
        };
        switch.store(is_on, core::sync::atomic::Ordering::Relaxed);
    }
}

impl Drop for Sown {
    fn drop(&mut self) {
        Self::set(self.0, false);
    }
}
