//! Replays what the last lives left in one shard's journal (STORAGE.md section 6).
//!
//! [`scan`] follows the chain of groups from the place the checkpoint names. A group counts when it lies where the one
//! before it says, has the next sequence, names the digest of the one before it, and its own digest fits (J3). It may
//! belong to the same life as the one before, or be the start group of a later one: a start group takes the place of
//! the first group that its life did not accept, so there is never a choice between two (J6).
//!
//! Every chain ends at bytes that don't go on: old ones, zeros, or a group that a crash tore. Whether something was
//! **lost** there is decided by what lies behind (R3): the rest of that file and the beginnings of all other files are
//! searched for groups of this life or a later one. A group says up to which sequence all was durable when it was
//! submitted; if that includes the missing one, it was durable once and is rotten now. Then it is reported as a [`Gap`],
//! and the scan goes on behind it, so that partitions without entries in the gap stay whole. Otherwise what lies behind
//! was never acknowledged and is cut. Only groups that carry the journal's origin, which no peer ever sees, are
//! evidence, so a client's payload that imitates a group is none.
//!
//! What can't be told: groups that were in flight when the node died may have been durable or not, acknowledged or
//! not yet; of those the contiguous prefix is kept.
//!
//! One pass, in reads of up to 1.5 MiB, no allocation per entry. Waits for the disk; nothing is served yet.

mod chain;
mod evidence;
mod window;

use alloc::vec::Vec;

use cutwater_model::storage::{Storage, StorageError};
use cutwater_model::{DirName, FileName, Incarnation, ShardId};

use crate::entry::Entry;
use crate::group::{GroupFault, GroupHeader};
use crate::journal::Journal;
use crate::place::{ReplayPlace, Sequence};

/// The group an entry was found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupInfo {
    /// Its header.
    pub header: GroupHeader,
    /// How many gaps lie before it.
    pub gaps_before: u32,
}

/// Groups that were durable once and can't be read now (R3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Where the first of them should be.
    pub from: ReplayPlace,
    /// What is there instead.
    pub fault: GroupFault,
    /// The first group behind the gap.
    pub next: Sequence,
}

/// Why a journal can't be replayed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// The disk said no; an error of the device is never taken for the journal's end (R3).
    #[error("{0}; the journal was left as it is")]
    Storage(#[from] StorageError),
    /// The chain leads into a file that is not there.
    #[error("{file} is missing or has not {bytes} bytes, but holds group {sequence}; restore it", sequence = sequence.0)]
    MissingFile {
        /// Which file.
        file: FileName,
        /// How long it must be.
        bytes: u64,
        /// The group that should be there.
        sequence: Sequence,
    },
    /// Another release wrote it.
    #[error(
        "{file} at byte {at}: format version {version}, which this release does not read; start the one that wrote it, \
         stop it, and start this one again"
    )]
    Version {
        /// Which file.
        file: FileName,
        /// Where in it.
        at: u64,
        /// The group's version.
        version: u16,
    },
    /// A group is whole, but this release doesn't understand an entry of it.
    #[error("{file} at byte {at}: the group is whole, but holds an entry this release does not know")]
    UnknownEntry {
        /// Which file.
        file: FileName,
        /// Where in it.
        at: u64,
    },
}

/// What a scan came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// Whose journal.
    pub shard: ShardId,
    /// Where replay began.
    pub from: ReplayPlace,
    /// Where the start group goes, and the last group that counts.
    pub end: ReplayPlace,
    /// What is missing in between; empty unless something is rotten.
    pub gaps: Vec<Gap>,
    /// The files that replay needs, oldest first. After a gap all files are kept.
    pub used: Vec<u32>,
    /// Files that nobody needs.
    pub free: Vec<u32>,
    /// Files that are not as long as they should be: their making was cut short. Make them again.
    pub unfinished: Vec<u32>,
    /// How long each file is.
    pub file_bytes: u64,
    /// The highest number of a life that was met.
    pub life_number_max: u32,
    /// How many groups were replayed.
    pub groups: u64,
    /// How many bytes they have.
    pub bytes: u64,
}

/// Replays the journal of `shard` from the place a checkpoint names; its files are `file_bytes` long each. `visit` is
/// handed every entry that counts, in order.
///
/// # Errors
/// [`ScanError`], by file and reason; nothing was changed.
pub fn scan(
    storage: &mut dyn Storage,
    shard: ShardId,
    from: ReplayPlace,
    file_bytes: u64,
    visit: impl FnMut(&GroupInfo, Entry<'_>),
) -> Result<Scanned, ScanError> {
    chain::follow(storage, shard, from, file_bytes, visit)
}

impl Scanned {
    /// The journal that goes on behind what was scanned, under a new incarnation. Both copies of the checkpoint must
    /// name the place where the scan began: [`crate::checkpoint::repair`] sees to that.
    #[must_use]
    pub fn journal(&self, incarnation: Incarnation) -> Journal {
        let used = self.used.iter().copied();
        let mut journal = Journal::new(
            self.shard,
            self.file_bytes,
            self.from,
            self.end,
            used,
            self.life_number_max,
            incarnation,
        );
        for &number in &self.free {
            journal.add_file(number);
        }
        journal
    }
}

/// The numbers of the journal files that a shard's folder holds, sorted.
pub(crate) fn journal_numbers(storage: &mut dyn Storage, shard: ShardId) -> Result<Vec<u32>, StorageError> {
    let entries = storage.list(DirName::Journal(shard))?;
    let mut numbers: Vec<u32> = entries.iter().filter_map(|entry| journal_number(&entry.name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The number in a name such as `0012.journal`; other spellings of a number are other files.
fn journal_number(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".journal")?;
    let number = digits.parse().ok()?;
    (alloc::format!("{number:04}") == digits).then_some(number)
}

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;
