//! The partitions of a starting shard, while the checkpoint and the journal bring them back.

use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use cutwater_journal::scan::GroupInfo;
use cutwater_journal::{Entry, EntryKind};
use cutwater_log::{BulkRef, Pages, Partition, ReplayEntry, Replayed, SpacePlan, carried};
use cutwater_metadata::Image;
use cutwater_model::hash::BuildFixedHasher;
use cutwater_model::limits::{BLOCK_BYTES, LOSS_SKIPS_RECORDS, MEMORY_AHEAD_RECORDS_MAX};
use cutwater_model::storage::{Storage, StorageError};
use cutwater_model::topic::{Durability, TopicConfig};
use cutwater_model::{DirName, FileName, LeaderEpoch, Offset, PartitionId, PartitionIndex, ShardId, Slab};
use hashbrown::HashMap;

use crate::checkpoint::carry_of;
use crate::config::Config;
use crate::start::StartError;

/// A write of recovery carries at most so much.
const WRITE_BYTES_MAX: u32 = 1024 * 1024;

/// One partition that came back.
pub(crate) struct Recovered {
    pub(crate) log: Partition,
    pub(crate) config: TopicConfig,
    /// Entries were applied that no checkpoint names.
    is_dirty: bool,
    /// Why it takes no appends, if something of it is missing (R3).
    pub(crate) quarantine: Option<String>,
    /// How many gaps of the journal lie before its last entry: of those it has lost nothing.
    gaps_passed: u32,
    /// The checkpoint or the journal names it. Else it may be in those of another shard.
    is_known: bool,
    /// References to large batches that no later entry says to be whole yet, in their order. As many as are under way at
    /// once, and small.
    pub(crate) held: VecDeque<Vec<u8>>,
}

/// The partitions of a shard on their way back.
pub(crate) struct Recovering<'a> {
    pub(crate) shard: ShardId,
    image: &'a Image,
    /// Whether partitions of other shards are taken too.
    takes_all: bool,
    pub(crate) slab: Slab,
    pub(crate) pages: Pages,
    pub(crate) partitions: Vec<Recovered>,
    by_id: HashMap<PartitionId, usize, BuildFixedHasher>,
    pub(crate) entries: u64,
    pub(crate) notes: Vec<String>,
}

impl<'a> Recovering<'a> {
    pub(crate) fn new(config: &Config, image: &'a Image, slab: Slab, pages: Pages, takes_all: bool) -> Self {
        Self {
            shard: config.shard,
            image,
            takes_all,
            slab,
            pages,
            partitions: Vec::new(),
            by_id: HashMap::default(),
            entries: 0,
            notes: Vec::new(),
        }
    }

    /// Takes one partition out of the checkpoint. Those of deleted topics stay behind (M2).
    pub(crate) fn restore(&mut self, storage: &mut dyn Storage, state: &[u8]) -> Result<(), StartError> {
        if let Some((id, batches)) = carry_of(state) {
            return self.restore_carried(storage, id, batches);
        }
        let segment_bytes = cutwater_model::limits::SEGMENT_BYTES_DEFAULT;
        let refuse =
            |partition: String, why: String| StartError::Partition { shard: self.shard, partition, why };
        let mut log = Partition::restore(&mut self.slab, &mut self.pages, state, segment_bytes)
            .map_err(|error| refuse("in the checkpoint".to_string(), error.to_string()))?;
        let id = log.id();
        let Some(config) = self.config_of(id)? else {
            log.release(&mut self.pages);
            return Ok(());
        };
        log.set_segment_bytes(config.segment_bytes);
        let mut quarantine = None;
        if let Some((base, file)) = log.active_segment() {
            match storage.length(file)? {
                Some(bytes) => log.grown(base, whole_blocks(bytes)),
                None => quarantine = Some(alloc::format!("{file} is missing; restore it and start again")),
            }
        }
        if log.is_incomplete() {
            let end = log.next_offset().0;
            quarantine = Some(alloc::format!("acknowledged records from offset {end} on are lost"));
        }
        let index = self.add(log, config);
        if let Some(why) = quarantine {
            self.set_apart(index, why);
        }
        Ok(())
    }

    /// The settings of a partition's topic; `None` for a deleted one.
    fn config_of(&self, id: PartitionId) -> Result<Option<TopicConfig>, StartError> {
        if self.image.is_tombstone(id.topic) {
            return Ok(None);
        }
        match self.image.topic(id.topic) {
            Some(topic) if self.takes_all || self.image.shard_of(id) == Some(self.shard) => {
                Ok(Some(topic.config))
            }
            Some(_) => Err(StartError::Misplaced { shard: self.shard, partition: id }),
            None => Err(StartError::UnknownTopic { shard: self.shard, partition: id }),
        }
    }

    fn add(&mut self, log: Partition, config: TopicConfig) -> usize {
        let index = self.partitions.len();
        self.by_id.insert(log.id(), index);
        self.partitions.push(Recovered {
            log,
            config,
            is_dirty: false,
            quarantine: None,
            gaps_passed: 0,
            is_known: true,
            held: VecDeque::new(),
        });
        index
    }

    /// Something of the partition is missing: it is kept as far as it goes, and takes no appends.
    fn set_apart(&mut self, index: usize, why: String) {
        let Some(recovered) = self.partitions.get_mut(index).filter(|it| it.quarantine.is_none()) else {
            return;
        };
        self.notes.push(alloc::format!("partition {} takes no appends: {why}", recovered.log.id()));
        recovered.quarantine = Some(why);
    }

    /// Applies one entry of the journal (J5).
    pub(crate) fn apply(
        &mut self,
        storage: &mut dyn Storage,
        group: &GroupInfo,
        entry: &Entry<'_>,
    ) -> Result<(), StartError> {
        let head = &entry.head;
        // What the entry is, and up to where large batches before it are whole (B1, B2).
        let (replayed, whole_before) = match head.kind {
            EntryKind::Data => {
                let (segment, position, arrival) = (head.segment_base, head.position, head.arrival);
                let data = ReplayEntry::Data { segment, position, arrival, batches: entry.payload };
                (Some(data), head.base_offset)
            }
            EntryKind::BulkRef => {
                let reference = BulkRef::decode(entry.payload);
                (None, reference.map_or(Offset(0), |(reference, ..)| reference.whole_before))
            }
            EntryKind::LogStart => {
                (Some(ReplayEntry::LogStart { offset: head.base_offset }), head.base_offset)
            }
            // Nothing writes the other kinds yet.
            EntryKind::Truncate | EntryKind::Adopt | EntryKind::Release | EntryKind::CheckpointMark => {
                return Ok(());
            }
        };
        let index = match self.by_id.get(&head.partition) {
            Some(&index) => index,
            None => {
                let Some(config) = self.config_of(head.partition)? else { return Ok(()) };
                let log = Partition::new(head.partition, head.leader_epoch, config.segment_bytes);
                self.add(log, config)
            }
        };
        let recovered = &mut self.partitions[index];
        recovered.gaps_passed = group.gaps_before;
        let log = &mut recovered.log;
        // What a file is missing for that isn't the partition's own stays in memory, and the checkpoint carries it.
        if recovered.quarantine.is_some() && !log.is_fenced() {
            // It was acknowledged, and the journal goes.
            log.mark_incomplete();
            return Ok(());
        }
        log.set_epoch(log.epoch().max(head.leader_epoch));
        self.replay_held(storage, index, whole_before)?;
        match replayed {
            Some(replayed) => self.replay(storage, index, replayed).map(drop),
            None => {
                self.hold(index, entry.payload);
                Ok(())
            }
        }
    }

    /// What a failed segment may have lacked when the checkpoint was written (E2).
    fn restore_carried(
        &mut self,
        storage: &mut dyn Storage,
        id: PartitionId,
        batches: &[u8],
    ) -> Result<(), StartError> {
        let Some(&index) = self.by_id.get(&id) else { return Ok(()) };
        for entry in carried(batches) {
            self.replay(storage, index, entry)?;
        }
        Ok(())
    }

    pub(crate) fn replay(
        &mut self,
        storage: &mut dyn Storage,
        index: usize,
        entry: ReplayEntry<'_>,
    ) -> Result<Replayed, StartError> {
        self.entries += 1;
        for attempt in 0..3 {
            let recovered = &mut self.partitions[index];
            match recovered.log.replay(&mut self.slab, &mut self.pages, entry) {
                Ok(Replayed::Applied) => {
                    recovered.is_dirty = true;
                    return Ok(Replayed::Applied);
                }
                Ok(replayed @ (Replayed::Already | Replayed::Torn)) => return Ok(replayed),
                // What is not the partition's is not written over, and the memory doesn't hold more.
                Ok(Replayed::Drain) if recovered.log.is_fenced() => return Err(self.finds_no_place(index)),
                // First the partition itself makes room, then everybody.
                Ok(Replayed::Drain) if attempt == 0 => self.drain_partition(storage, index)?,
                Ok(Replayed::Drain) => self.drain_all(storage)?,
                Err(error) => {
                    recovered.log.mark_incomplete();
                    recovered.is_dirty = true;
                    self.set_apart(index, error.to_string());
                    return Ok(Replayed::Already);
                }
            }
        }
        Err(StartError::Memory { shard: self.shard, bytes: self.slab.len() })
    }

    /// What the journal holds of a partition whose file is not its own can't be kept.
    fn finds_no_place(&self, index: usize) -> StartError {
        let recovered = &self.partitions[index];
        let why = recovered.quarantine.as_deref().unwrap_or("its file is not its own");
        let why = alloc::format!(
            "{why}; what the journal holds of it can't be kept elsewhere. Nothing was changed: put the right file \
             there and start again, or move this one away to go on without it"
        );
        StartError::Partition { shard: self.shard, partition: recovered.log.id().to_string(), why }
    }

    fn drain_partition(&mut self, storage: &mut dyn Storage, index: usize) -> Result<(), StartError> {
        if !self.write_partition(storage, index)? {
            return Ok(());
        }
        let log = &mut self.partitions[index].log;
        while let Some(plan) = log.next_flush() {
            storage.flush(plan.file)?;
            log.flushed(&plan);
        }
        log.evict(&mut self.slab, &mut self.pages, 0);
        Ok(())
    }

    /// Writes what a partition wants to have written. False: a file is not its own, and it is set apart.
    pub(crate) fn write_partition(
        &mut self,
        storage: &mut dyn Storage,
        index: usize,
    ) -> Result<bool, StartError> {
        let log = &mut self.partitions[index].log;
        let stranger = drain(storage, &mut self.slab, &mut self.pages, log)?;
        let is_written = stranger.is_none();
        if let Some(why) = stranger {
            self.set_apart(index, why);
        }
        Ok(is_written)
    }

    /// Everything replayed is written to the segments, and one flush makes it durable. A partition that misses something
    /// is no exception: what it has was acknowledged.
    pub(crate) fn drain_all(&mut self, storage: &mut dyn Storage) -> Result<(), StartError> {
        for index in 0..self.partitions.len() {
            let Recovered { log, is_dirty, .. } = &mut self.partitions[index];
            if !*is_dirty {
                continue;
            }
            if let Some(why) = drain(storage, &mut self.slab, &mut self.pages, log)? {
                self.set_apart(index, why);
            }
            let log = &self.partitions[index].log;
            if log.is_fenced() && !log.can_carry() {
                return Err(self.finds_no_place(index));
            }
        }
        storage.flush_all()?;
        for recovered in self.partitions.iter_mut().filter(|it| it.is_dirty) {
            // Every write above was done before that flush began.
            while let Some(plan) = recovered.log.next_flush() {
                recovered.log.flushed(&plan);
            }
            recovered.log.evict(&mut self.slab, &mut self.pages, 0);
        }
        Ok(())
    }

    /// Nothing of a partition whose file is not its own can be moved to another shard: it would be left behind.
    pub(crate) fn refuse_strangers(&self) -> Result<(), StartError> {
        let stranger = self.partitions.iter().position(|it| it.log.is_fenced());
        stranger.map_or(Ok(()), |index| Err(self.finds_no_place(index)))
    }

    /// The journal is at its end: what came back is durable.
    pub(crate) fn end_replay(&mut self, storage: &mut dyn Storage) -> Result<(), StartError> {
        self.judge_held(storage)?;
        for recovered in &mut self.partitions {
            let epoch = recovered.log.epoch();
            recovered.log.end_replay(epoch);
        }
        Ok(())
    }

    /// The last life ended without saying what it had shown. Partitions that are acked from memory go on under a higher
    /// epoch, behind every offset that a reader can have seen (DESIGN.md section 1, promise 3); those too of which
    /// nothing became durable. A checkpoint must name that before anything is served. Returns whether there are any.
    pub(crate) fn skip_shown(&mut self, storage: &mut dyn Storage) -> Result<bool, StorageError> {
        self.add_unknown(storage, |config| config.durability == Durability::Memory)?;
        let mut has_skipped = false;
        for recovered in self.partitions.iter_mut().filter(|it| it.config.durability == Durability::Memory) {
            let log = &mut recovered.log;
            log.set_epoch(LeaderEpoch(log.epoch().0.saturating_add(1)));
            if recovered.quarantine.is_none() {
                log.skip_to(Offset(log.next_offset().0.saturating_add(MEMORY_AHEAD_RECORDS_MAX)));
                recovered.is_dirty = true;
                has_skipped = true;
            }
        }
        Ok(has_skipped)
    }

    /// A loss of entries was accepted (R3). What has no entry behind all `gaps` may have lost its end: it goes on under a
    /// higher epoch, behind every offset that it can have given out. A checkpoint must name that before anything is
    /// served.
    pub(crate) fn skip_lost(&mut self, gaps: u32) {
        for recovered in self.partitions.iter_mut().filter(|it| it.gaps_passed < gaps) {
            let log = &mut recovered.log;
            log.set_epoch(LeaderEpoch(log.epoch().0.saturating_add(1)));
            if recovered.quarantine.is_none() {
                log.skip_to(Offset(log.next_offset().0.saturating_add(LOSS_SKIPS_RECORDS)));
                recovered.is_dirty = true;
            }
        }
    }

    /// Adds the shard's partitions of which neither the checkpoint nor the journal holds anything, empty.
    pub(crate) fn add_unknown(
        &mut self,
        storage: &mut dyn Storage,
        is_wanted: impl Fn(&TopicConfig) -> bool,
    ) -> Result<(), StorageError> {
        let image = self.image;
        for topic in image.topics().filter(|topic| is_wanted(&topic.config)) {
            for (index, owner) in (0..).zip(&topic.placement) {
                let id = PartitionId { topic: topic.id, index: PartitionIndex(index) };
                if *owner == self.shard && !self.by_id.contains_key(&id) {
                    storage.create_dir(DirName::Partition(id))?;
                    let log = Partition::new(id, LeaderEpoch(0), topic.config.segment_bytes);
                    let index = self.add(log, topic.config);
                    self.partitions[index].is_known = false;
                }
            }
        }
        Ok(())
    }

    /// Whether a checkpoint of now names all that was ever shown: of a partition set apart nobody knows.
    pub(crate) fn names_all(&self) -> bool {
        self.partitions.iter().all(|it| it.quarantine.is_none() || it.config.durability != Durability::Memory)
    }

    /// Whether something of a partition is missing.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.partitions.iter().any(|it| it.quarantine.is_some())
    }

    /// The files of a partition that was brought back.
    pub(crate) fn files_of(&self, id: PartitionId) -> Option<Vec<FileName>> {
        let recovered = self.by_id.get(&id).and_then(|&index| self.partitions.get(index));
        let recovered = recovered.filter(|it| it.is_known)?;
        Some(recovered.log.files().into_iter().map(|(file, _)| file).collect())
    }

    /// Partitions that miss something take no appends. What they do have was drained before: a fenced log writes nothing
    /// any more, and the journal that holds it is free after the next checkpoint.
    pub(crate) fn fence_incomplete(&mut self) {
        for recovered in self.partitions.iter_mut().filter(|it| it.quarantine.is_some()) {
            recovered.log.fence();
        }
    }
}

fn whole_blocks(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX) & !(BLOCK_BYTES as u32 - 1)
}

/// Looks whether the files that will be written to are the partition's. Says what is wrong with one that isn't; then
/// the partition is fenced.
fn find_stranger(storage: &mut dyn Storage, log: &mut Partition) -> Option<String> {
    let mut block = [0; BLOCK_BYTES];
    while let Some(read) = log.next_header() {
        let Ok(bytes) = storage.read(read.file, read.at, &mut block) else {
            log.preread_failed(&read);
            continue;
        };
        if let Err(error) = log.preread_done(&read, &block[..bytes])
            && log.is_fenced()
        {
            return Some(alloc::format!("{}: {error}", read.file));
        }
    }
    None
}

/// Carries out everything a partition wants of its files, without the flushes. Says why it did not, where a file is not
/// the partition's.
fn drain(
    storage: &mut dyn Storage,
    slab: &mut Slab,
    pages: &mut Pages,
    log: &mut Partition,
) -> Result<Option<String>, StorageError> {
    if let Some(why) = find_stranger(storage, log) {
        return Ok(Some(why));
    }
    // A fenced one has met a stranger before.
    if log.is_fenced() {
        return Ok(None);
    }
    loop {
        let mut is_done = true;
        while let Some(plan) = log.next_opening(slab, pages) {
            // The file may be there, from before the crash, under the pool's name or under its own. Under its own it may
            // hold bulk data and is kept; one that is too short for what is replayed holds none, and is made anew.
            match storage.length(plan.to)?.filter(|bytes| *bytes >= u64::from(plan.bytes)) {
                Some(bytes) => {
                    let mut block = [0; BLOCK_BYTES];
                    storage.read(plan.to, 0, &mut block)?;
                    if log.is_of_another_partition(&block) {
                        log.opening_failed(pages, &plan);
                        return Ok(Some(alloc::format!("{} is of another partition", plan.to)));
                    }
                    log.grown(plan.base, whole_blocks(bytes));
                }
                None => {
                    storage.create(plan.to, u64::from(plan.bytes))?;
                    storage.flush_dir(plan.to.dir())?;
                }
            }
            storage.write(plan.to, 0, slab.get(plan.header))?;
            storage.flush(plan.to)?;
            log.opened(pages, &plan);
            is_done = false;
        }
        while let Some(plan) = log.next_index_file() {
            storage.create(plan.file, u64::from(plan.bytes))?;
            storage.flush_dir(plan.file.dir())?;
            log.index_created(plan.base);
            is_done = false;
        }
        // What was accepted had its space, but a file that was made anew above has only what was known then.
        while let Some(plan) = log.needs_space() {
            let SpacePlan::Extend { file, base, to, .. } = plan else {
                // The next segment's space is the running shard's to make.
                log.space_refused();
                break;
            };
            storage.extend(file, u64::from(to))?;
            log.grown(base, to);
            is_done = false;
        }
        while let Some(plan) = log.next_write(slab, pages, WRITE_BYTES_MAX) {
            storage.write(plan.file, plan.at, slab.get(plan.memory))?;
            log.written(pages, &plan);
            is_done = false;
        }
        if is_done {
            return Ok(None);
        }
    }
}
