//! A disk that a seed decides: it tears, reorders, forgets, rots, fills up and fails.
//!
//! Bytes lie on the *platter*, or in a volatile *cache* until a flush covers them; so do lengths, the conversion of
//! reserved into written space, and names. A flush covers one file, or the names of one folder, and only what had
//! ended when it was asked for. A power cut decides for every uncovered thing alone whether it is kept, lost or
//! torn at sectors of 512 bytes. Operations of a running shard are under way between [`Disk::submit`] and
//! [`Disk::finish`]; recovery uses [`cutwater_model::storage::Storage`], which [`Disk`] implements too.

mod fate;
mod faults;
mod inode;
mod names;
mod op;
mod page;
mod storage;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use cutwater_model::limits::BLOCK_BYTES;
use cutwater_model::{DirName, FileName};

pub use fate::{Fate, Fates, PendingId};
pub use faults::Faults;
pub use op::{Done, Op, Token, Violation};
pub use page::SECTOR_BYTES;

use crate::random::Random;
use inode::{Inode, Reach};
use names::{Change, InodeId, Names};
use op::InFlight;

/// What a durable operation makes durable besides itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// Nothing: a DSYNC write goes past the cache (FUA), a flush is of one file.
    #[default]
    WriteThrough,
    /// Everything that lay in the device's cache.
    WholeCache,
}

/// Weaknesses that a planted bug gives the way to the disk. All are off in a real run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leaks {
    /// A durable write of a journal is done when its bytes are in the cache.
    pub journal_writes_stay_in_cache: bool,
    /// A durable write of a segment is done when its bytes are in the cache.
    pub segment_writes_stay_in_cache: bool,
    /// Writes and flushes of checkpoints are done when the bytes are in the cache.
    pub checkpoints_stay_in_cache: bool,
    /// No operation of a running shard flushes names.
    pub names_unflushed: bool,
    /// Recovery's flush of everything is reported and not done.
    pub unflushed_recovery: bool,
    /// Recovery's reads of a journal end where it is rotten.
    pub rot_ends_reads: bool,
    /// Once in so many a write moves half its bytes and is reported as whole; 0 is never.
    pub half_writes_one_in: u64,
}

/// The disk. A clone shares unchanged bytes and lives on alone: an image.
#[derive(Clone, Debug)]
pub struct Disk {
    inodes: BTreeMap<InodeId, Arc<Inode>>,
    names: Names,
    in_flight: BTreeMap<Token, InFlight>,
    device: Device,
    capacity_blocks: usize,
    /// Counts everything that happens; moments, ids and tokens are drawn from it.
    count: u64,
    /// How many more blocking calls succeed before the process dies in one of them.
    calls_left: Option<u64>,
    faults: Faults,
    leaks: Leaks,
    random: Random,
    /// Where bits were flipped.
    rotten: Vec<(FileName, u64)>,
    /// Rules of the effects that the shard broke.
    violations: Vec<Violation>,
}

impl Disk {
    /// What is there, for whoever looks from outside: no fault, no trace of it. Returns how many bytes there are.
    pub(crate) fn look(&self, file: FileName, at: u64, into: &mut [u8]) -> usize {
        let inode = self.inode_of(file).and_then(|inode| self.inodes.get(&inode));
        inode.map_or(0, |inode| inode.read(at, into))
    }

    /// An empty disk of so many bytes.
    #[must_use]
    pub fn new(device: Device, capacity_bytes: u64, seed: u64) -> Self {
        Self {
            inodes: BTreeMap::new(),
            names: Names::default(),
            in_flight: BTreeMap::new(),
            device,
            capacity_blocks: (capacity_bytes / BLOCK_BYTES as u64) as usize,
            count: 0,
            calls_left: None,
            faults: Faults::default(),
            leaks: Leaks::default(),
            random: Random::new(seed),
            rotten: Vec::new(),
            violations: Vec::new(),
        }
    }

    /// What may go wrong from now on.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// What may go wrong now.
    #[must_use]
    pub const fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Which planted weaknesses there are.
    pub fn set_leaks(&mut self, leaks: Leaks) {
        self.leaks = leaks;
    }

    /// Lets the process die after so many blocking calls, or live.
    pub fn set_calls_left(&mut self, calls: Option<u64>) {
        self.calls_left = calls;
    }

    /// Whether the process has died in a blocking call.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.calls_left == Some(0)
    }

    /// How much has happened.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// How large the disk is, in bytes.
    pub fn set_capacity(&mut self, bytes: u64) {
        self.capacity_blocks = (bytes / BLOCK_BYTES as u64) as usize;
    }

    /// How much of it is taken, in bytes.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        let blocks: usize = self.inodes.values().map(|inode| inode.space_blocks()).sum();
        (blocks * BLOCK_BYTES) as u64
    }

    /// The rules broken so far, taken.
    pub fn take_violations(&mut self) -> Vec<Violation> {
        core::mem::take(&mut self.violations)
    }

    /// Every file there is, with its length.
    pub fn files(&self) -> impl Iterator<Item = (FileName, u64)> + '_ {
        self.names
            .seen
            .files
            .iter()
            .map(|(&file, inode)| (file, self.inodes.get(inode).map_or(0, |inode| inode.length())))
    }

    /// The names of everything that a power cut would decide about, operations under way not counted.
    #[must_use]
    pub fn pending(&self) -> Vec<PendingId> {
        let mut pending = Vec::new();
        self.names.pending(&mut pending);
        for inode in self.inodes.values() {
            inode.pending(&mut pending);
        }
        pending.sort_unstable();
        pending.dedup();
        pending
    }

    /// Ends the process: of the operations under way some still reach the device (ghosts), some never do. What is
    /// in the device's cache stays there.
    pub fn kill(&mut self) {
        let mut ghosts: Vec<Token> = self.in_flight.keys().copied().collect();
        for index in (1..ghosts.len()).rev() {
            let other = self.random.below(index as u64 + 1) as usize;
            ghosts.swap(index, other);
        }
        for token in ghosts {
            if self.random.percent(50) {
                let faults = core::mem::take(&mut self.faults);
                let _ = self.finish(token);
                self.faults = faults;
            }
        }
        self.in_flight.clear();
        self.calls_left = None;
    }

    /// Hands everything under way to the device without any flush, so that a power cut can decide about it.
    pub fn drop_into_cache(&mut self) {
        let flights = core::mem::take(&mut self.in_flight);
        for flight in flights.into_values() {
            self.do_without_flush(flight);
        }
        self.calls_left = None;
    }

    /// Cuts the power: what was not flushed meets its fate. Call [`Disk::drop_into_cache`] first, so that what was
    /// under way has fates too.
    pub fn cut_power(&mut self, fates: &Fates) {
        self.names.settle(fates);
        for inode in self.inodes.values_mut().filter(|inode| inode.is_dirty()) {
            Arc::make_mut(inode).settle(fates);
        }
        self.forget_unreachable();
    }

    /// Flips one bit at rest; `false` where the file doesn't reach so far.
    pub fn rot(&mut self, file: FileName, at: u64, bit: u8) -> bool {
        let Some(inode) = self.inode_of(file) else { return false };
        let Some(inode) = self.inodes.get_mut(&inode).filter(|inode| at < inode.length()) else {
            return false;
        };
        Arc::make_mut(inode).rot(at, bit);
        self.rotten.push((file, at));
        true
    }

    fn inode_of(&self, file: FileName) -> Option<InodeId> {
        self.names.seen.files.get(&file).copied()
    }

    fn tick(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    fn cached(&mut self) -> Reach {
        let moment = self.tick();
        Reach::Cache { id: PendingId(moment), moment }
    }

    fn change(&mut self, change: Change) {
        let moment = self.tick();
        self.names.change(change, PendingId(moment), moment);
        if matches!(change, Change::Unlink(..)) {
            self.forget_unreachable();
        }
    }

    /// Whether so many more blocks fit.
    fn has_room(&mut self, blocks: usize) -> bool {
        let used = self.used_bytes() as usize / BLOCK_BYTES;
        used + blocks <= self.capacity_blocks
    }

    /// Makes a folder and those above it; none is flushed into its parent.
    fn make_folders(&mut self, dir: DirName) {
        if !self.names.seen.has(dir) {
            self.make_folders(dir.parent().unwrap_or(DirName::Root));
            self.change(Change::MakeDir(dir));
        }
    }

    fn make(&mut self, file: FileName, length: u64, written: bool) {
        self.make_folders(file.dir());
        let inode = InodeId(self.tick());
        let mut made = Inode::default();
        made.set_length(length, Reach::Platter);
        if written {
            made.fill_with_zeros();
        }
        self.inodes.insert(inode, Arc::new(made));
        self.change(Change::Link(file, inode));
        self.forget_unreachable();
    }

    fn flush_everything(&mut self, moment: u64, names: bool) {
        if names {
            self.names.flush(None, moment);
        }
        for inode in self.inodes.values_mut().filter(|inode| inode.is_dirty()) {
            Arc::make_mut(inode).flush(moment);
        }
    }

    /// What a device with one cache flushes along with anything durable.
    fn flush_device(&mut self, moment: u64) {
        if self.device == Device::WholeCache {
            for inode in self.inodes.values_mut().filter(|inode| inode.is_dirty()) {
                Arc::make_mut(inode).flush_cache(moment);
            }
        }
    }

    fn forget_unreachable(&mut self) {
        let reachable = self.names.reachable();
        let held: Vec<InodeId> = self.in_flight.values().filter_map(InFlight::inode).collect();
        self.inodes.retain(|inode, _| reachable.contains(inode) || held.contains(inode));
    }
}
