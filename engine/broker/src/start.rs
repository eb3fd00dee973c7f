//! How a shard comes to life: checkpoint, journal, repair, start group (STORAGE.md section 6).
//!
//! The caller holds the lock of the data folder and has flushed it all (R1). Everything replayed is drained to the
//! segments and named by a new checkpoint before the shard serves, so a second crash finds either the old checkpoint
//! and the same journal, or the new one (R5).

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::RefCell;

use cutwater_journal::checkpoint::{self, CheckpointBody, CheckpointError, CheckpointHead};
use cutwater_journal::group::GroupFault;
use cutwater_journal::scan::{ScanError, Scanned, scan};
use cutwater_journal::{Journal, JournalFull, ReplayPlace};
use cutwater_log::Pages;
use cutwater_metadata::Image;
use cutwater_model::limits::BLOCK_BYTES;
use cutwater_model::storage::{Storage, StorageError};
use cutwater_model::{
    DirName, FileName, Incarnation, MemoryRange, Now, PartitionId, PartitionIndex, ShardId, Slab,
};

use crate::checkpoint::{Checkpoints, carry};
use crate::commit::Commit;
use crate::config::Config;
use crate::files::Files;
use crate::orphans::Orphans;
use crate::partition::{Folder, Partitions, Stage};
use crate::recovery::{Recovered, Recovering};
use crate::shard::Shard;

/// Why a shard can't start. Nothing was lost; what to do is in the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The disk said no.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The checkpoint can't be used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The journal can't be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// A partition of the checkpoint can't be used.
    #[error("shard {}: partition {partition}: {why}", shard.0)]
    Partition {
        /// Whose.
        shard: ShardId,
        /// Which, as far as it is known.
        partition: String,
        /// Why.
        why: String,
    },
    /// The journal or the checkpoint names a topic that the metadata never knew (M2).
    #[error(
        "shard {}: {partition} is in the journal but the metadata never knew its topic; restore the folder metadata \
         from a backup", shard.0
    )]
    UnknownTopic {
        /// Whose.
        shard: ShardId,
        /// Which.
        partition: PartitionId,
    },
    /// Acknowledged groups in the middle of the journal can't be read, and whose they were can't be told (R3).
    #[error(
        "{file} is damaged at byte {at}: {fault}; groups behind it show that it was whole once. Nothing was changed. \
         Restore the file from a backup or a replica, or start once with accept_loss = true: partitions whose entries \
         are missing then end before the hole; those with later entries take no appends any more, the others go on \
         behind a gap of offsets"
    )]
    Damaged {
        /// Whose.
        shard: ShardId,
        /// Which file.
        file: FileName,
        /// Where in it.
        at: u64,
        /// What is there.
        fault: GroupFault,
    },
    /// A partition is in the journal of a shard that doesn't own it: the number of shards has changed.
    #[error("shard {}: partition {partition} belongs to another shard now; redistribute the partitions", shard.0)]
    Misplaced {
        /// Whose journal it is in.
        shard: ShardId,
        /// Which.
        partition: PartitionId,
    },
    /// The shard's memory is smaller than what it needs to start.
    #[error("shard {}: the payload memory of {bytes} bytes is too small to start; give it more", shard.0)]
    Memory {
        /// Whose.
        shard: ShardId,
        /// How much it has.
        bytes: usize,
    },
    /// The journal is full even for a start group.
    #[error(transparent)]
    Full(#[from] JournalFull),
}

/// What a start came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartReport {
    /// Partitions brought back.
    pub partitions: usize,
    /// Groups replayed.
    pub groups: u64,
    /// Bytes of groups replayed.
    pub journal_bytes: u64,
    /// Entries applied.
    pub entries: u64,
    /// What an operator should know: rot that was met, copies that were repaired, partitions set apart.
    pub notes: Vec<String>,
}

/// Starts one shard on the data folder behind `storage`. The image already places every partition on its shard.
///
/// # Errors
/// [`StartError`]; the folder is as it was, but for repairs that the next start finds done.
pub fn start(
    storage: &mut dyn Storage,
    config: Config,
    slab: Slab,
    image: Arc<Image>,
    incarnation: Incarnation,
    now: Now,
) -> Result<(Shard, StartReport), StartError> {
    let shard = config.shard;
    let mut report = StartReport::default();
    let bytes = slab.len();
    let memory = StartError::Memory { shard, bytes };
    let reserved = (bytes / 16).min(16 * 1024 * 1024) as u32;
    let mut pages = Pages::new(bytes as u32, reserved);
    // What lives as long as the shard lies lowest.
    let buffer_bytes = config.group_bytes_max.next_multiple_of(BLOCK_BYTES as u32);
    let mut buffers = Vec::new();
    for _ in 0..config.group_buffers {
        buffers.push(pages.allocate(buffer_bytes).ok_or_else(|| memory.clone())?);
    }
    let piece = pages.allocate(checkpoint::CHECKPOINT_PIECE_BYTES as u32).ok_or_else(|| memory.clone())?;

    let mut recovering = Recovering::new(&config, &image, slab, pages, false);
    let (head, scanned) = bring_back(storage, &mut recovering, &config, incarnation)?;
    recovering.end_replay(storage)?;
    if !scanned.gaps.is_empty() {
        recovering.add_unknown(storage, |_| true)?;
        recovering.skip_lost(scanned.gaps.len() as u32);
    }
    let is_clean = head.names_all && scanned.groups == 0;
    let has_skipped = !is_clean && recovering.skip_shown(storage)?;
    report.entries = recovering.entries;

    report.groups = scanned.groups;
    report.journal_bytes = scanned.bytes;
    let mut journal = scanned.journal(incarnation);
    let mut generation = head.generation;
    if scanned.groups > 0 || !scanned.gaps.is_empty() || recovering.entries > 0 || has_skipped {
        recovering.drain_all(storage)?;
        generation = checkpoint_both(storage, &mut recovering, &mut journal, &head)?;
    }
    recovering.fence_incomplete();
    report.notes.append(&mut recovering.notes);
    start_group(storage, &mut recovering.slab, &mut journal, buffers[0], shard)?;
    // Where anything is missing, what looks like nobody's may be all that is left of it.
    let is_whole = scanned.gaps.is_empty() && !recovering.is_incomplete();
    sweep(storage, &recovering, &image, &mut report.notes, !is_clean && is_whole)?;

    let head = CheckpointHead { generation, ..head };
    let file_bytes =
        [0, 1].map(|copy| storage.length(FileName::Checkpoint { shard, copy }).ok().flatten().unwrap_or(0));
    let missing_files = missing_journal_files(&scanned, &config);
    let (pool, next_pooled) = pooled_files(storage, shard)?;
    storage.create_dir(DirName::Pool(shard))?;
    let Recovering { slab, pages, partitions, .. } = recovering;
    report.partitions = partitions.len();
    let mut table = Partitions::default();
    for recovered in partitions {
        let stage = if recovered.log.is_fenced() { Stage::Fenced } else { Stage::Open };
        let slot = table.add(recovered.log.id(), recovered.config, recovered.log, stage);
        if let Some(owned) = table.get_mut(slot) {
            owned.named = [owned.log.flushed_end(); 2];
            if !owned.log.has_segments() {
                owned.folder = Folder::Missing;
            }
        }
    }
    let commit = Commit::new(journal, buffers);
    let files = Files::new(shard, pool, next_pooled, missing_files);
    let checkpoints = Checkpoints::new(&head, file_bytes, piece, now);
    // The journal keeps the file length it was made with, whatever the configuration says now.
    let config = Config { journal_file_bytes: head.journal_file_bytes, ..config };
    let mut shard = Shard::new(config, slab, pages, table, commit, files, checkpoints, now);
    shard.image = image;
    Ok((shard, report))
}

/// Looks for files that nobody names: in the folders of partitions only after a crash, among topics always, by the
/// first shard.
fn sweep(
    storage: &mut dyn Storage,
    recovering: &Recovering<'_>,
    image: &Image,
    notes: &mut Vec<String>,
    sweeps_partitions: bool,
) -> Result<(), StorageError> {
    let mut orphans = Orphans::default();
    let shard = recovering.shard;
    if shard.0 == 0 {
        orphans.sweep_topics(storage, image)?;
    }
    if sweeps_partitions {
        for topic in image.topics() {
            for (index, _) in (0..).zip(&topic.placement).filter(|(_, owner)| **owner == shard) {
                let id = PartitionId { topic: topic.id, index: PartitionIndex(index) };
                // One of which nothing was brought back may be in the checkpoint of another shard, which finds that
                // out after this and has it moved here (R2).
                if let Some(files) = recovering.files_of(id) {
                    orphans.sweep_live(storage, id, &files)?;
                }
            }
        }
    }
    orphans.tell(shard, notes);
    Ok(())
}

/// Brings back what a shard's checkpoint and journal hold; makes both where the shard never had them.
pub(crate) fn bring_back(
    storage: &mut dyn Storage,
    recovering: &mut Recovering<'_>,
    config: &Config,
    incarnation: Incarnation,
) -> Result<(CheckpointHead, Scanned), StartError> {
    let shard = config.shard;
    let head = match checkpoint::read(storage, shard)? {
        None => checkpoint::create(storage, shard, incarnation, config.journal_file_bytes)?,
        Some(found) => {
            if found.other != checkpoint::OtherCopy::Same {
                checkpoint::repair(storage, &found)?;
            }
            if let checkpoint::OtherCopy::Damaged(fault) = found.other {
                let number = shard.0;
                recovering
                    .notes
                    .push(alloc::format!("shard {number}: one copy of the checkpoint was bad: {fault}"));
            }
            let mut body = CheckpointBody::new(&found);
            let mut record = Vec::new();
            while body.next_record(storage, &mut record)? {
                recovering.restore(storage, &record)?;
            }
            found.head
        }
    };
    let scanned = replay(storage, recovering, &head, shard)?;
    if let Some(gap) = scanned.gaps.first() {
        let damage = StartError::Damaged {
            shard,
            file: FileName::Journal { shard, number: gap.from.place.file },
            at: gap.from.place.at,
            fault: gap.fault,
        };
        if !config.accepts_loss {
            return Err(damage);
        }
        recovering.notes.push(alloc::format!("accepted as told: {damage}"));
    }
    Ok((head, scanned))
}

/// Replays what the journal holds behind the checkpoint.
fn replay(
    storage: &mut dyn Storage,
    recovering: &mut Recovering<'_>,
    head: &CheckpointHead,
    shard: ShardId,
) -> Result<Scanned, StartError> {
    let shared = RefCell::new(storage);
    let mut failure = None;
    let scanned =
        scan(&mut SharedStorage(&shared), shard, head.from, head.journal_file_bytes, |group, entry| {
            if failure.is_none() {
                failure = recovering.apply(&mut SharedStorage(&shared), group, &entry).err();
            }
        })?;
    failure.map_or(Ok(scanned), Err)
}

/// The state after recovery is named by both copies; the journal before it is free.
fn checkpoint_both(
    storage: &mut dyn Storage,
    recovering: &mut Recovering<'_>,
    journal: &mut Journal,
    head: &CheckpointHead,
) -> Result<u64, StartError> {
    let from: ReplayPlace = journal.next_place();
    let mut generation = head.generation;
    for copy in [0, 1] {
        generation += 1;
        let head = CheckpointHead { generation, from, names_all: recovering.names_all(), ..*head };
        let mut rest = recovering.partitions.iter();
        let mut carries = None;
        checkpoint::write_copy(storage, copy, head, |record| {
            if let Some(log) = carries.take() {
                carry(log, &recovering.slab, record);
                return true;
            }
            let Some(Recovered { log, .. }) = rest.next() else { return false };
            log.snapshot(&recovering.slab, record);
            carries = Some(log).filter(|log| log.is_fenced() && log.durable() > log.flushed_end().end);
            true
        })?;
        journal.checkpointed(copy, from);
    }
    for recovered in &mut recovering.partitions {
        let covered = recovered.log.flushed_end();
        recovered.log.checkpointed(covered);
    }
    Ok(generation)
}

/// The first write of the new life, durable before anything is served (J6).
fn start_group(
    storage: &mut dyn Storage,
    slab: &mut Slab,
    journal: &mut Journal,
    buffer: MemoryRange,
    shard: ShardId,
) -> Result<(), StartError> {
    let write = journal.start(slab.get_mut(buffer))?;
    let file = FileName::Journal { shard, number: write.place.file };
    let bytes = MemoryRange { at: buffer.at + write.from, len: write.bytes };
    storage.write(file, write.place.at, slab.get(bytes))?;
    storage.flush(file)?;
    journal.complete(write.sequence);
    Ok(())
}

/// The journal files that are still to be made, those cut short included.
fn missing_journal_files(scanned: &Scanned, config: &Config) -> Vec<u32> {
    let is_there = |number: &u32| scanned.used.contains(number) || scanned.free.contains(number);
    (0..config.journal_files).filter(|number| !is_there(number)).collect()
}

/// The files in the shard's pool, with their lengths, and the next free number.
fn pooled_files(storage: &mut dyn Storage, shard: ShardId) -> Result<(Vec<(u32, u32)>, u32), StorageError> {
    let mut pool = Vec::new();
    let mut next = 0;
    for entry in storage.list(DirName::Pool(shard))? {
        let number = entry.name.strip_suffix(".free").and_then(|digits| digits.parse::<u32>().ok());
        let Some(number) = number.filter(|_| !entry.is_dir) else { continue };
        next = next.max(number.saturating_add(1));
        if let Some(bytes) = storage.length(FileName::Pooled { shard, number })? {
            pool.push((number, u32::try_from(bytes).unwrap_or(u32::MAX)));
        }
    }
    Ok((pool, next))
}

/// One disk for the scan and, between its reads, for the partitions that must make room.
struct SharedStorage<'a, 'b>(&'a RefCell<&'b mut dyn Storage>);

macro_rules! pass_on {
    ($($name:ident($($argument:ident: $kind:ty),*) -> $result:ty;)*) => {
        impl Storage for SharedStorage<'_, '_> {
            $(fn $name(&mut self, $($argument: $kind),*) -> Result<$result, StorageError> {
                self.0.borrow_mut().$name($($argument),*)
            })*
        }
    };
}

pass_on! {
    list(dir: DirName) -> Vec<cutwater_model::storage::DirEntry>;
    length(file: FileName) -> Option<u64>;
    read(file: FileName, at: u64, into: &mut [u8]) -> usize;
    write(file: FileName, at: u64, bytes: &[u8]) -> ();
    create(file: FileName, length: u64) -> ();
    create_dir(dir: DirName) -> ();
    extend(file: FileName, length: u64) -> ();
    flush(file: FileName) -> ();
    flush_dir(dir: DirName) -> ();
    flush_all() -> ();
    rename(from: FileName, to: FileName) -> ();
    remove(file: FileName) -> ();
    remove_dir(dir: DirName) -> ();
}
