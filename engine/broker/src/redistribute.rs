//! Another number of shards than last time (R2): every journal on disk is replayed and drained, and every partition
//! gets into the checkpoint of the shard that owns it now.
//!
//! A partition that moves gets a higher leader epoch (M4). First every shard's checkpoint holds what it gets and what
//! it still has; then, once all of those are durable, only what it owns. So a crash on the way leaves each partition
//! in at least one checkpoint, and where it is in two the higher epoch counts, but none that is empty beside one that
//! isn't.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use cutwater_journal::Journal;
use cutwater_journal::checkpoint::{self, CheckpointHead};
use cutwater_log::{Pages, Partition};
use cutwater_metadata::Image;
use cutwater_model::limits::LOSS_SKIPS_RECORDS;
use cutwater_model::storage::{Storage, StorageError, StorageErrorKind};
use cutwater_model::{
    DirName, FileName, Incarnation, LeaderEpoch, Offset, PartitionId, PartitionIndex, ShardId, Slab,
};

use crate::config::Config;
use crate::recovery::Recovering;
use crate::start::{StartError, bring_back};

/// One shard's journal, replayed and drained.
struct Drained {
    shard: ShardId,
    head: CheckpointHead,
    journal: Journal,
}

/// One partition, as its checkpoint will hold it.
struct Kept {
    /// The shard whose journal it came from.
    from: ShardId,
    epoch: LeaderEpoch,
    /// Whether it has anything. A shard that began to start before its partitions had moved to it names those of
    /// durability `memory` as empty ones of a higher epoch.
    has_bytes: bool,
    /// Its state as it was, and as its new owner has it.
    before: Vec<u8>,
    after: Vec<u8>,
}

/// Moves every partition to the checkpoint of the shard that the image places it on. Needed where [`fn@crate::start`]
/// says [`StartError::Misplaced`], and where there are journals of shards that the node no longer has; does no harm
/// otherwise. Returns the memory and what an operator should know.
///
/// # Errors
/// [`StartError`]; the next start does it again from the beginning.
pub fn redistribute(
    storage: &mut dyn Storage,
    config: &Config,
    mut slab: Slab,
    image: &Image,
    incarnation: Incarnation,
) -> Result<(Slab, Vec<String>), StartError> {
    let mut notes = Vec::new();
    let mut drained = Vec::new();
    let mut kept: BTreeMap<PartitionId, Kept> = BTreeMap::new();
    let mut is_clean = true;
    let mut has_gap = None;
    for shard in shards_on_disk(storage)? {
        if shard.0 >= config.shards && is_emptied(storage, shard)? {
            remove_journal(storage, shard)?;
            continue;
        }
        let here = Config { shard, ..*config };
        let pages = Pages::new(slab.len() as u32, 0);
        let mut recovering = Recovering::new(&here, image, slab, pages, true);
        let (head, scanned) = bring_back(storage, &mut recovering, &here, incarnation)?;
        // Whatever was shown beyond this is skipped when the shards start.
        is_clean &= head.names_all && scanned.groups == 0;
        recovering.end_replay(storage)?;
        let gaps = scanned.gaps.len() as u32;
        recovering.skip_lost(gaps);
        has_gap = has_gap.or((gaps > 0).then_some(shard));
        recovering.drain_all(storage)?;
        recovering.refuse_strangers()?;
        notes.append(&mut recovering.notes);
        for mut recovered in recovering.partitions.drain(..) {
            let id = recovered.log.id();
            let epoch = recovered.log.epoch();
            let has_bytes = recovered.log.bytes() > 0;
            let mut one = Kept { from: shard, epoch, has_bytes, before: Vec::new(), after: Vec::new() };
            recovered.log.snapshot(&recovering.slab, &mut one.before);
            recovered.log.set_epoch(LeaderEpoch(epoch.0.saturating_add(1)));
            recovered.log.snapshot(&recovering.slab, &mut one.after);
            let counts_more = |other: &Kept| (other.has_bytes, other.epoch) < (has_bytes, epoch);
            if kept.get(&id).is_none_or(counts_more) {
                kept.insert(id, one);
            }
        }
        slab = recovering.slab;
        drained.push(Drained { shard, head, journal: scanned.journal(incarnation) });
    }
    if let Some(shard) = has_gap {
        add_lost(storage, &mut kept, &slab, image, shard)?;
    }
    for shard in (0..config.shards).map(ShardId) {
        if !drained.iter().any(|it| it.shard == shard) {
            let head = checkpoint::create(storage, shard, incarnation, config.journal_file_bytes)?;
            let scanned =
                cutwater_journal::scan::scan(storage, shard, head.from, head.journal_file_bytes, |_, _| {})?;
            drained.push(Drained { shard, head, journal: scanned.journal(incarnation) });
        }
    }
    for one in &mut drained {
        one.head.names_all = is_clean;
    }
    for is_last_pass in [false, true] {
        for one in &mut drained {
            write_both(storage, one, &kept, image, is_last_pass)?;
        }
    }
    for one in drained.iter().filter(|one| one.shard.0 >= config.shards) {
        remove_journal(storage, one.shard)?;
        notes.push(alloc::format!("the partitions of shard {} moved to others", one.shard.0));
    }
    Ok((slab, notes))
}

/// Partitions of which nothing is there may have lost everything in a gap: they begin behind what that can have been.
/// Until their owners have them they lie with the shard whose gap is forgotten when its checkpoint is written.
fn add_lost(
    storage: &mut dyn Storage,
    kept: &mut BTreeMap<PartitionId, Kept>,
    slab: &Slab,
    image: &Image,
    shard: ShardId,
) -> Result<(), StartError> {
    for topic in image.topics() {
        for index in 0..topic.placement.len() as u32 {
            let id = PartitionId { topic: topic.id, index: PartitionIndex(index) };
            if kept.contains_key(&id) {
                continue;
            }
            storage.create_dir(DirName::Partition(id))?;
            let epoch = LeaderEpoch(1);
            let mut log = Partition::new(id, epoch, topic.config.segment_bytes);
            log.skip_to(Offset(LOSS_SKIPS_RECORDS));
            let mut state = Vec::new();
            log.snapshot(slab, &mut state);
            let after = state.clone();
            kept.insert(id, Kept { from: shard, epoch, has_bytes: false, before: state, after });
        }
    }
    Ok(())
}

/// Writes both copies of a shard's checkpoint: what it gets, and until the last pass also what it still has.
fn write_both(
    storage: &mut dyn Storage,
    one: &mut Drained,
    kept: &BTreeMap<PartitionId, Kept>,
    image: &Image,
    is_last_pass: bool,
) -> Result<(), StartError> {
    let from = one.journal.next_place();
    for copy in [0, 1] {
        one.head.generation += 1;
        let head = CheckpointHead { from, ..one.head };
        let mut states = kept.iter().filter_map(|(id, kept)| {
            let owner = image.shard_of(*id)?;
            match (owner == one.shard, kept.from == one.shard) {
                (true, true) => Some(&kept.before),
                (true, false) => Some(&kept.after),
                (false, true) if !is_last_pass => Some(&kept.before),
                _ => None,
            }
        });
        checkpoint::write_copy(storage, copy, head, |record| match states.next() {
            Some(state) => {
                record.extend_from_slice(state);
                true
            }
            None => false,
        })?;
        one.journal.checkpointed(copy, from);
    }
    Ok(())
}

/// The shards that have a journal on disk, sorted.
///
/// # Errors
/// If the folder can't be read.
pub fn shards_on_disk(storage: &mut dyn Storage) -> Result<Vec<ShardId>, StorageError> {
    let entries = storage.list(DirName::Journals)?;
    let mut shards: Vec<_> = entries
        .iter()
        .filter(|entry| entry.is_dir)
        .filter_map(|entry| {
            entry.name.parse().ok().filter(|number: &u16| alloc::format!("{number}") == entry.name)
        })
        .map(ShardId)
        .collect();
    shards.sort_unstable();
    Ok(shards)
}

/// Whether a shard's partitions have all moved, as an earlier try that was cut short left it.
fn is_emptied(storage: &mut dyn Storage, shard: ShardId) -> Result<bool, StartError> {
    let Some(found) = checkpoint::read(storage, shard)? else { return Ok(true) };
    let has_place =
        storage.length(FileName::Journal { shard, number: found.head.from.place.file })?.is_some();
    Ok(found.head.body_bytes == 0 && !has_place)
}

/// Removes the journal of a shard that the node no longer has: its files first, then what says it had them.
fn remove_journal(storage: &mut dyn Storage, shard: ShardId) -> Result<(), StartError> {
    let mut names = storage.list(DirName::Journal(shard))?;
    names.sort_by_key(|entry| entry.name.starts_with("checkpoint"));
    for entry in names {
        let number = entry.name.strip_suffix(".journal").and_then(|digits| digits.parse().ok());
        let copy = entry.name.strip_prefix("checkpoint-").and_then(|digit| digit.parse().ok());
        match (number, copy) {
            (Some(number), _) => storage.remove(FileName::Journal { shard, number })?,
            (None, Some(copy)) => {
                // The names of the journal's files are gone for good before the checkpoint's go.
                storage.flush_dir(DirName::Journal(shard))?;
                storage.remove(FileName::Checkpoint { shard, copy })?;
            }
            (None, None) => {}
        }
    }
    storage.flush_dir(DirName::Journal(shard))?;
    for entry in storage.list(DirName::Pool(shard))? {
        if let Some(number) = entry.name.strip_suffix(".free").and_then(|digits| digits.parse().ok()) {
            storage.remove(FileName::Pooled { shard, number })?;
        }
    }
    for dir in [DirName::Pool(shard), DirName::Journal(shard)] {
        match storage.remove_dir(dir) {
            Ok(()) => {}
            Err(error) if matches!(error.kind, StorageErrorKind::NotFound | StorageErrorKind::Other(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(storage.flush_dir(DirName::Journals)?)
}
