//! One partition as its shard holds it: its log, and who waits for what.

use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;

use cutwater_journal::{EntryHead, EntryKind, Sequence};
use cutwater_log::{Appended, Covered, LogEnd, Partition as Log};
use cutwater_model::hash::BuildFixedHasher;
use cutwater_model::topic::TopicConfig;
use cutwater_model::{Offset, PartitionId, TopicId};
use hashbrown::HashMap;

use crate::bulk::Bulk;
use crate::commit::Mark;
use crate::deferred::Deferred;
use crate::readers::Watcher;

/// Index of a partition in its shard's table. It is used again only when nothing names it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Slot(pub(crate) u32);

impl Slot {
    /// No slot; the table never has so many.
    const NONE: Self = Self(u32::MAX);
}

/// What a partition may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It is new: its folder and its first file are being made, or are to be.
    Opening,
    /// Everything.
    Open,
    /// Its segment failed: it is read as far as it can be, and takes no appends (E2).
    Fenced,
    /// Its topic is deleted; it goes when nothing holds it any more.
    Deleting,
}

/// Where a file can get a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Folder {
    Missing,
    BeingMade,
    There,
}

/// One partition.
///
/// Where each batch is for another of a thousand partitions, what an append costs is the cache lines it touches. So what
/// every append and every durable group look at stands first, and the log has its own in the same order (`repr(C)` keeps
/// it); what only files and checkpoints need comes last.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Owned {
    pub(crate) config: TopicConfig,
    pub(crate) stage: Stage,
    /// Whether it is on the list of partitions with something to settle.
    pub(crate) is_dirty: bool,
    /// Whether it is in the queue of those to write back now.
    pub(crate) is_hurried: bool,
    /// Whether the checkpoint under way waits for it.
    pub(crate) is_unsettled: bool,
    pub(crate) id: PartitionId,
    /// The end of what is committed, and shown.
    pub(crate) high_watermark: LogEnd,
    /// Where it stands in the open group.
    pub(crate) mark: Mark,
    pub(crate) deferred: VecDeque<Deferred>,
    /// Large batches on their way to the segment, in the order of their offsets.
    pub(crate) bulks: VecDeque<Bulk>,
    pub(crate) watchers: Vec<Watcher>,
    /// Whether it is on the shard's list of partitions to look at.
    pub(crate) is_woken: bool,
    pub(crate) folder: Folder,
    pub(crate) log: Log,
    /// Bytes of batches that are on their way into pages made for them.
    pub(crate) landing_bytes: u64,
    /// The last group with a reference to a large batch of it; 0 for none.
    pub(crate) referred_in: u64,
    /// Disk operations under way that name its files.
    pub(crate) ops: u32,
    /// Answers on their way that hold its pages.
    pub(crate) pins: u32,
    /// What each copy of the checkpoint names.
    pub(crate) named: [Covered; 2],
}

impl Owned {
    /// A new partition takes appends once there is a folder and a file for its first segment (S4).
    pub(crate) fn open_if_made(&mut self) {
        if self.stage == Stage::Opening && self.folder == Folder::There && self.log.has_spare() {
            self.stage = Stage::Open;
        }
    }

    /// Reads one field of each cache line that an append touches.
    #[inline]
    pub(crate) fn look_at_self(&self) -> u64 {
        u64::from(self.id.index.0)
            .wrapping_add(self.deferred.len() as u64)
            .wrapping_add(self.watchers.len() as u64)
            .wrapping_add(self.log.look_at_self())
    }

    /// The durable group with the reference to a large batch that is not whole yet: it is needed until that is.
    #[inline(always)]
    pub(crate) fn needed_from(&self) -> Option<Sequence> {
        self.bulks.front().and_then(Bulk::needed_from)
    }

    /// The head of the journal's entry for a batch just appended, whose bytes the entry carries.
    #[inline(always)]
    pub(crate) fn entry_head(&self, kind: EntryKind, appended: &Appended) -> EntryHead {
        EntryHead {
            kind,
            partition: self.id,
            leader_epoch: self.log.epoch(),
            base_offset: appended.base_offset,
            last_offset: Offset(appended.end.offset.0 - 1),
            segment_base: appended.segment,
            position: appended.position,
            bulk_bytes: 0,
            arrival: appended.arrival,
        }
    }
}

/// All partitions of one shard.
#[derive(Debug, Default)]
pub(crate) struct Partitions {
    slots: Vec<Option<Box<Owned>>>,
    free: Vec<Slot>,
    /// The slots of a topic's partitions, by their numbers: 16 of them are in one cache line, and a topic is soon known.
    by_topic: HashMap<TopicId, Vec<Slot>, BuildFixedHasher>,
    /// How many can be found there.
    found: usize,
}

impl Partitions {
    #[inline]
    pub(crate) fn slot_of(&self, id: PartitionId) -> Option<Slot> {
        let slots = self.by_topic.get(&id.topic)?;
        slots.get(id.index.0 as usize).copied().filter(|&slot| slot != Slot::NONE)
    }

    pub(crate) fn add(&mut self, id: PartitionId, config: TopicConfig, log: Log, stage: Stage) -> Slot {
        let high_watermark = log.durable();
        let owned = Box::new(Owned {
            id,
            config,
            log,
            stage,
            folder: if stage == Stage::Opening { Folder::Missing } else { Folder::There },
            high_watermark,
            mark: Mark::default(),
            bulks: VecDeque::new(),
            landing_bytes: 0,
            referred_in: 0,
            deferred: VecDeque::new(),
            watchers: Vec::new(),
            is_woken: false,
            ops: 0,
            pins: 0,
            is_dirty: false,
            is_hurried: false,
            is_unsettled: false,
            named: [Covered::default(); 2],
        });
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            Slot((self.slots.len() - 1) as u32)
        });
        self.slots[slot.0 as usize] = Some(owned);
        self.show(id, slot);
        slot
    }

    /// The partition is found by its id from now on.
    fn show(&mut self, id: PartitionId, slot: Slot) {
        let index = id.index.0 as usize;
        let slots = self.by_topic.entry(id.topic).or_default();
        if slots.len() <= index {
            slots.resize(index + 1, Slot::NONE);
        }
        self.found += usize::from(slots[index] == Slot::NONE);
        slots[index] = slot;
    }

    /// The partition can't be found by its id any more; its slot stays.
    pub(crate) fn hide(&mut self, slot: Slot) {
        let Some(owned) = self.get_mut(slot) else { return };
        let id = owned.id;
        let Some(slots) = self.by_topic.get_mut(&id.topic) else { return };
        if let Some(place) = slots.get_mut(id.index.0 as usize) {
            self.found -= usize::from(*place != Slot::NONE);
            *place = Slot::NONE;
        }
        while slots.pop_if(|&mut last| last == Slot::NONE).is_some() {}
        if slots.is_empty() {
            self.by_topic.remove(&id.topic);
        }
    }

    /// Ends a hidden partition that nothing names any more.
    pub(crate) fn remove(&mut self, slot: Slot) -> Option<Box<Owned>> {
        let owned = self.slots.get_mut(slot.0 as usize)?.take()?;
        self.free.push(slot);
        Some(owned)
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<&Owned> {
        self.slots.get(slot.0 as usize)?.as_deref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut Owned> {
        self.slots.get_mut(slot.0 as usize)?.as_deref_mut()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slot, &Owned)> {
        self.slots.iter().enumerate().filter_map(|(slot, owned)| Some((Slot(slot as u32), owned.as_deref()?)))
    }

    /// One more than the highest slot there ever was.
    pub(crate) fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    /// The topics of partitions that are on their way out.
    pub(crate) fn all_topics_deleting(&self) -> BTreeSet<TopicId> {
        self.iter()
            .filter(|(_, owned)| owned.stage == Stage::Deleting)
            .map(|(_, owned)| owned.id.topic)
            .collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use cutwater_model::{LeaderEpoch, PartitionIndex};

    use super::*;

    #[test]
    fn a_partition_is_found_by_its_id_until_it_is_hidden() {
        let mut partitions = Partitions::default();
        let id = |topic: u128, index| PartitionId { topic: TopicId(topic), index: PartitionIndex(index) };
        let ids = [id(1, 5), id(1, 0), id(2, 0), id(1, 2)];
        let slots = ids.map(|id| {
            let log = Log::new(id, LeaderEpoch(0), 1 << 20);
            partitions.add(id, TopicConfig::default(), log, Stage::Open)
        });
        assert_eq!(ids.map(|id| partitions.slot_of(id)), slots.map(Some));
        let absent = [id(1, 1), id(1, 6), id(1, u32::MAX), id(2, 1), id(3, 0)];
        assert_eq!(absent.map(|id| partitions.slot_of(id)), [None; 5]);
        for (at, &slot) in slots.iter().enumerate() {
            assert_eq!(partitions.len(), ids.len() - at);
            partitions.hide(slot);
            partitions.hide(slot);
            assert_eq!(partitions.slot_of(ids[at]), None);
            let left = ids.iter().filter(|id| partitions.slot_of(**id).is_some()).count();
            assert_eq!((left, partitions.len()), (ids.len() - at - 1, ids.len() - at - 1));
            assert_eq!(partitions.remove(slot).map(|owned| owned.id), Some(ids[at]));
        }
        assert!(partitions.by_topic.is_empty());
    }
}
