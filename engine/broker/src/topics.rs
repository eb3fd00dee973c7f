//! Partitions come and go with the image (M2): new ones get a folder and a first file, deleted ones go when nothing
//! holds them any more.
//!
//! A new partition needs its folder and a spare file before it takes appends, and no flush: what has to be durable before
//! it is used is made so when its segment is opened (S4, S5). Few are made at a time, first those that somebody waits
//! for, so that a topic of ten thousand holds up neither its own first appends nor the files of others.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

use cutwater_api::{PartitionView, Ticket, TopicView};
use cutwater_log::Partition;
use cutwater_metadata::{Image, Topic};
use cutwater_model::{DirName, ErrorKind, FileName, LeaderEpoch, Now, PartitionId, PartitionIndex, TopicId};

use crate::effect::{ControlCommand, Effect, Effects};
use crate::files::Step;
use crate::partition::{Folder, Owned, Slot, Stage};
use crate::readers::ReaderId;
use crate::shard::{Purpose, Shard};

/// A deleted topic is past both copies of the checkpoint after so many of them.
const CHECKPOINTS_PAST: u32 = 2;

/// So many folders and spare files at most are being made when another partition is begun.
const MAKING_MAX: usize = 64;
/// The same of files and folders that are being removed.
const REMOVING_MAX: usize = 64;

/// What is on its way out.
#[derive(Debug, Default)]
pub(crate) struct Departures {
    /// Partitions that something still holds, or whose turn has not come.
    deleting: VecDeque<Slot>,
    /// Files and folders that are being removed.
    pub(crate) removing: usize,
    /// Topics whose partitions are gone from here, and how many checkpoints are still to come.
    gone: Vec<(TopicId, u32)>,
    /// Topics that were told to be gone.
    told: Vec<TopicId>,
}

impl Departures {
    /// Whether topics wait for checkpoints to get past them.
    pub(crate) fn wait_for_checkpoint(&self) -> bool {
        !self.gone.is_empty()
    }
}

impl Shard {
    pub(crate) fn on_metadata(&mut self, image: Arc<Image>, now: Now, effects: &mut Effects) {
        let shard = self.config.shard;
        self.image = image;
        let mut missing = Vec::new();
        for topic in self.image.topics() {
            for (index, owner) in (0..).zip(&topic.placement) {
                let id = PartitionId { topic: topic.id, index: PartitionIndex(index) };
                if *owner == shard && self.partitions.slot_of(id).is_none() {
                    missing.push((id, topic.config));
                }
            }
        }
        for (id, config) in missing {
            let log = Partition::new(id, LeaderEpoch(0), config.segment_bytes);
            let slot = self.partitions.add(id, config, log, Stage::Opening);
            self.files.unmade.push_back(slot);
        }
        let is_gone = |id: PartitionId| self.image.shard_of(id).is_none();
        let gone: Vec<Slot> =
            self.partitions.iter().filter(|(_, owned)| is_gone(owned.id)).map(|(slot, _)| slot).collect();
        self.begin_deletions(&gone, now, effects);
        self.note_tombstones();
    }

    /// Begins new partitions, those first for which batches wait.
    pub(crate) fn make_partitions(&mut self, effects: &mut Effects) {
        // A stop waits for none, and refuses what waits for them.
        if self.files.unmade.is_empty() || self.is_stopping {
            return;
        }
        for index in 0..self.deferring.len() {
            self.make_partition(self.deferring[index], effects);
        }
        while self.files.making < MAKING_MAX
            && let Some(slot) = self.files.unmade.pop_front()
        {
            self.make_partition(slot, effects);
        }
    }

    /// A new partition gets its folder and its first spare. So does one that had nothing in its folder when the node was
    /// killed: nothing says that it is still there.
    pub(crate) fn make_partition(&mut self, slot: Slot, effects: &mut Effects) {
        let is_new = |owned: &&mut Owned| owned.stage != Stage::Deleting && owned.folder == Folder::Missing;
        let Some(owned) = self.partitions.get_mut(slot).filter(is_new) else { return };
        owned.folder = Folder::BeingMade;
        owned.ops += 1;
        self.files.making += 1;
        let dir = DirName::Partition(owned.id);
        let op = self.ops.start(Purpose::Files(Step::Folder { slot }));
        effects.push(Effect::CreateDir { op, dir });
        self.tend_partition_files(slot, effects);
    }

    /// Whoever reads of them, or lists them, is looked at once and not once for each of them.
    fn begin_deletions(&mut self, gone: &[Slot], now: Now, effects: &mut Effects) {
        let mut readers = BTreeSet::new();
        for &slot in gone {
            self.begin_deletion(slot, &mut readers, effects);
        }
        for reader in readers {
            self.consider(reader, now, effects);
        }
        if !gone.is_empty() {
            let partitions = &self.partitions;
            let is_deleted = |slot| partitions.get(slot).is_none_or(|owned| owned.stage == Stage::Deleting);
            self.settle.dirty.retain(|&slot| !is_deleted(slot));
        }
    }

    fn begin_deletion(&mut self, slot: Slot, readers: &mut BTreeSet<ReaderId>, effects: &mut Effects) {
        let Some(owned) = self.partitions.get_mut(slot).filter(|owned| owned.stage != Stage::Deleting) else {
            return;
        };
        owned.stage = Stage::Deleting;
        let watchers = core::mem::take(&mut owned.watchers);
        self.partitions.hide(slot);
        self.forget_unsettled(slot);
        self.give_up_bulks(slot, ErrorKind::UnknownTopicOrPartition, effects);
        self.refuse_deferred(slot, ErrorKind::UnknownTopicOrPartition, effects);
        for watcher in watchers {
            self.lose_partition(watcher);
            readers.insert(watcher.reader);
        }
        self.departures.deleting.push_back(slot);
        effects.more = true;
    }

    /// Every topic that was deleted is told of once this shard's checkpoints are past it.
    fn note_tombstones(&mut self) {
        for topic in self.image.tombstones() {
            let departures = &mut self.departures;
            let is_known =
                departures.told.contains(&topic) || departures.gone.iter().any(|(gone, _)| *gone == topic);
            if !is_known {
                departures.gone.push((topic, CHECKPOINTS_PAST));
                self.checkpoints.wanted = self.checkpoints.wanted.max(CHECKPOINTS_PAST);
            }
        }
        let image = &self.image;
        self.departures.told.retain(|topic| image.is_tombstone(*topic));
    }

    /// Deleted partitions that nothing holds any more lose their files, a few at a time.
    pub(crate) fn tend_topics(&mut self, _now: Now, effects: &mut Effects) {
        let mut topics = BTreeSet::new();
        for _ in 0..self.departures.deleting.len() {
            if self.departures.removing >= REMOVING_MAX {
                break;
            }
            let Some(slot) = self.departures.deleting.pop_front() else { break };
            let topic = self.partitions.get(slot).map(|owned| owned.id.topic);
            if self.try_delete(slot, effects) {
                topics.extend(topic);
            } else {
                self.departures.deleting.push_back(slot);
            }
        }
        // The last partition takes the topic's folder with it; before that the folder is not empty, and stays.
        for topic in topics {
            self.remove_dir(DirName::Topic(topic), effects);
        }
    }

    fn try_delete(&mut self, slot: Slot, effects: &mut Effects) -> bool {
        let oldest = self.commit.oldest_number();
        let Some(owned) = self.partitions.get_mut(slot) else { return true };
        // A bulk batch that was under way enters a group after the deletion began.
        let is_named = oldest.is_some_and(|oldest| oldest <= owned.mark.group().max(owned.referred_in));
        if is_named || owned.ops > 0 || owned.pins > 0 || !owned.bulks.is_empty() || !owned.log.is_idle() {
            return false;
        }
        let Some(mut owned) = self.partitions.remove(slot) else { return true };
        owned.log.release(&mut self.pages);
        for (file, bytes) in owned.log.files() {
            self.discard(file, bytes, effects);
        }
        self.remove_dir(DirName::Partition(owned.id), effects);
        true
    }

    fn remove_dir(&mut self, dir: DirName, effects: &mut Effects) {
        self.departures.removing += 1;
        let op = self.ops.start(Purpose::Files(Step::Remove));
        effects.push(Effect::RemoveDir { op, dir });
    }

    /// A file that nobody needs any more goes into the pool, or away (S5, S6).
    pub(crate) fn discard(&mut self, file: FileName, bytes: u32, effects: &mut Effects) {
        let is_segment = matches!(file, FileName::Segment { .. } | FileName::Pooled { .. });
        if is_segment && self.files.has_pool_room(self.config.pool_files_max) {
            let to = self.files.pooled();
            if let FileName::Pooled { number, .. } = to {
                let op = self.ops.start(Purpose::Files(Step::Recycle { number, bytes }));
                effects.push(Effect::Rename { op, from: file, to });
            }
        } else {
            self.departures.removing += 1;
            let op = self.ops.start(Purpose::Files(Step::Remove));
            effects.push(Effect::Remove { op, file });
        }
    }

    /// A checkpoint is durable: topics that both copies are past are told to be gone.
    pub(crate) fn gone_after_checkpoint(&mut self, effects: &mut Effects) {
        let shard = self.config.shard;
        let held = self.partitions.all_topics_deleting();
        let told = &mut self.departures.told;
        self.departures.gone.retain_mut(|(topic, left)| {
            if held.contains(topic) {
                return true;
            }
            *left = left.saturating_sub(1);
            if *left == 0 {
                told.push(*topic);
                let command = alloc::boxed::Box::new(ControlCommand::TopicGone { topic: *topic, shard });
                effects.push(Effect::Control { ticket: Ticket::default(), command });
            }
            *left > 0
        });
    }
}

/// A topic as a peer sees it.
pub(crate) fn view_of(topic: &Arc<Topic>) -> TopicView {
    let shards = (0..).zip(&topic.placement);
    TopicView {
        name: topic.name.clone(),
        id: topic.id,
        config: topic.config,
        partitions: shards
            .map(|(index, &shard)| PartitionView { index: PartitionIndex(index), shard })
            .collect(),
    }
}
