//! Carries out commands: checks, makes durable, then shows.
//!
//! Lives on the control thread; every call waits for the disk.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use cutwater_model::limits::{
    BLOCK_BYTES, METADATA_BYTES_LEAST, PARTITIONS_PER_NODE_MAX, PARTITIONS_PER_TOPIC_MAX,
    PRODUCER_IDS_PER_BLOCK, TOPICS_PER_NODE_MAX,
};
use cutwater_model::storage::{Storage, StorageError};
use cutwater_model::topic::{TopicConfig, is_valid_name};
use cutwater_model::{DirName, ProducerId, ShardId, TopicId};

use crate::command::{ApplyError, Command, Outcome};
use crate::copy::{self, CopyHead, GoodCopy};
use crate::image::Image;
use crate::open::file;
use crate::record::{Identity, Record};

/// The metadata of a running node.
#[derive(Debug)]
pub struct Controller {
    head: CopyHead,
    image: Arc<Image>,
    /// Where the next frame goes, in both copies.
    end: u64,
    /// The bytes from the beginning of the block of `end` up to it.
    tail: Vec<u8>,
    /// How long each copy is; `None` where there is none yet.
    lengths: [Option<u64>; 2],
    /// Producer ids set aside and not given yet: up to the image's next one.
    producer_id: i64,
    /// Which shards are done with a deleted topic. Forgotten by a restart; they say so again.
    gone: BTreeMap<TopicId, BTreeSet<ShardId>>,
    /// Once a write failed, nothing is written any more: the next start finds out what is on the disk.
    failed: Option<StorageError>,
}

impl Controller {
    /// The metadata as of now.
    #[must_use]
    pub const fn image(&self) -> &Arc<Image> {
        &self.image
    }

    /// Whose folder this is.
    #[must_use]
    pub const fn identity(&self) -> Identity {
        self.head.identity
    }

    /// Carries out a command; what comes back is durable, and [`Controller::image`] shows it. `fresh` is an id that was
    /// never used, for the topic that may be made.
    ///
    /// # Errors
    /// [`ApplyError`]; then nothing was changed, but for [`ApplyError::Storage`], after which the next start decides.
    pub fn apply(
        &mut self,
        storage: &mut dyn Storage,
        command: &Command<'_>,
        fresh: TopicId,
    ) -> Result<Outcome, ApplyError> {
        if let Some(error) = &self.failed {
            return Err(error.clone().into());
        }
        match *command {
            Command::CreateTopic { name, partitions, config } => {
                let record = self.create_topic(name, partitions, config, fresh)?;
                self.commit(storage, &record)?;
                Ok(Outcome::TopicCreated(fresh))
            }
            Command::DeleteTopic { topic } => {
                self.image.topic(topic).ok_or(ApplyError::UnknownTopic(topic))?;
                self.commit(storage, &Record::Delete { topic })?;
                Ok(Outcome::TopicDeleted(topic))
            }
            Command::AddPartitions { topic, partitions } => {
                let record = self.add_partitions(topic, partitions)?;
                self.commit(storage, &record)?;
                Ok(Outcome::PartitionsAdded(topic))
            }
            Command::AllocateProducerId => self.allocate_producer_id(storage),
            Command::TopicGone { topic, shard } => self.topic_gone(storage, topic, shard),
        }
    }

    fn create_topic(
        &self,
        name: &str,
        partitions: u32,
        config: TopicConfig,
        topic: TopicId,
    ) -> Result<Record, ApplyError> {
        if !is_valid_name(name) {
            // A name that is too long is not repeated whole.
            return Err(ApplyError::InvalidName(name.chars().take(250).collect()));
        }
        if let Some(existing) = self.image.topic_colliding_with(name) {
            return Err(if existing.name == name {
                ApplyError::Exists(String::from(name))
            } else {
                ApplyError::Collides { name: String::from(name), existing: existing.name.clone() }
            });
        }
        if partitions == 0 || partitions > PARTITIONS_PER_TOPIC_MAX {
            return Err(ApplyError::InvalidPartitions(partitions));
        }
        if !config.is_valid() {
            return Err(ApplyError::InvalidConfig(config));
        }
        if self.image.topic_count() >= TOPICS_PER_NODE_MAX as usize {
            return Err(ApplyError::NodeFull);
        }
        self.check_room(partitions)?;
        if self.image.topic(topic).is_some() || self.image.is_tombstone(topic) {
            return Err(ApplyError::IdInUse(topic));
        }
        let placement = self.image.place(partitions);
        Ok(Record::Create { topic, name: String::from(name), config, placement })
    }

    fn add_partitions(&self, topic: TopicId, partitions: u32) -> Result<Record, ApplyError> {
        let before = self.image.topic(topic).ok_or(ApplyError::UnknownTopic(topic))?.placement.len() as u32;
        if partitions <= before || partitions > PARTITIONS_PER_TOPIC_MAX {
            return Err(ApplyError::InvalidPartitions(partitions));
        }
        self.check_room(partitions - before)?;
        Ok(Record::AddPartitions { topic, placement: self.image.place(partitions - before) })
    }

    fn check_room(&self, partitions: u32) -> Result<(), ApplyError> {
        let all = self.image.partition_count().saturating_add(partitions);
        if all > PARTITIONS_PER_NODE_MAX { Err(ApplyError::NodeFull) } else { Ok(()) }
    }

    fn allocate_producer_id(&mut self, storage: &mut dyn Storage) -> Result<Outcome, ApplyError> {
        let set_aside = self.image.producer_ids_next();
        if self.producer_id >= set_aside {
            let next = set_aside.checked_add(PRODUCER_IDS_PER_BLOCK).ok_or(ApplyError::NodeFull)?;
            self.commit(storage, &Record::ProducerIds { next })?;
            self.producer_id = set_aside;
        }
        let id = ProducerId(self.producer_id);
        self.producer_id += 1;
        Ok(Outcome::ProducerIdAllocated(id))
    }

    fn topic_gone(
        &mut self,
        storage: &mut dyn Storage,
        topic: TopicId,
        shard: ShardId,
    ) -> Result<Outcome, ApplyError> {
        if !self.image.is_tombstone(topic) {
            return Ok(Outcome::TopicGone);
        }
        let done = self.gone.entry(topic).or_default();
        done.insert(shard);
        if (0..self.image.shards()).all(|shard| done.contains(&ShardId(shard))) {
            self.commit(storage, &Record::TombstoneGone { topic })?;
            self.gone.remove(&topic);
        }
        Ok(Outcome::TopicGone)
    }

    /// Makes a record durable in both copies, one after the other, and shows the image with it (M1).
    pub(crate) fn commit(&mut self, storage: &mut dyn Storage, record: &Record) -> Result<(), ApplyError> {
        let mut image = Image::clone(&self.image);
        let version = image.version().saturating_add(1);
        image.apply(record, version).ok_or(ApplyError::NodeFull)?;
        let mut payload = Vec::new();
        record.encode(&mut payload);
        let frame = self.head.frame(self.end, version, &payload);
        let end = self.end + frame.len() as u64;
        let shown = core::mem::replace(&mut self.image, Arc::new(image));
        let written = if self.lengths.iter().all(|length| length.is_some_and(|length| end <= length)) {
            self.append(storage, &frame)
        } else {
            self.begin_anew(storage, [1, 0])
        };
        if let Err(error) = written {
            self.image = shown;
            self.failed = Some(error.clone());
            return Err(error.into());
        }
        Ok(())
    }

    fn append(&mut self, storage: &mut dyn Storage, frame: &[u8]) -> Result<(), StorageError> {
        let at = self.end - self.tail.len() as u64;
        let mut bytes = self.tail.clone();
        bytes.extend_from_slice(frame);
        let used = bytes.len();
        bytes.resize(used.next_multiple_of(BLOCK_BYTES), 0);
        for copy in [0, 1] {
            storage.write(file(copy), at, &bytes)?;
            storage.flush(file(copy))?;
        }
        self.end += frame.len() as u64;
        bytes.truncate(used);
        self.tail = bytes.split_off(used / BLOCK_BYTES * BLOCK_BYTES);
        Ok(())
    }

    /// Writes both copies anew from the image, the first of `order` wholly before the second: at any moment one is whole.
    pub(crate) fn begin_anew(
        &mut self,
        storage: &mut dyn Storage,
        order: [usize; 2],
    ) -> Result<(), StorageError> {
        let head = CopyHead { generation: self.head.generation.saturating_add(1), ..self.head };
        let mut bytes = copy::begin(&head, &self.image);
        let used = bytes.len();
        bytes.resize(used.next_multiple_of(BLOCK_BYTES), 0);
        // Room for as much again three times over, so that this stays rare.
        let room = METADATA_BYTES_LEAST.max((bytes.len() as u64 * 4).next_power_of_two());
        for copy in order {
            match self.lengths[copy] {
                None => {
                    storage.create(file(copy), room)?;
                    storage.flush_dir(DirName::Metadata)?;
                }
                Some(length) if length < room => storage.extend(file(copy), room)?,
                Some(_) => {}
            }
            self.lengths[copy] = Some(self.lengths[copy].unwrap_or(0).max(room));
            storage.write(file(copy), 0, &bytes)?;
            storage.flush(file(copy))?;
        }
        self.head = head;
        self.end = used as u64;
        bytes.truncate(used);
        self.tail = bytes.split_off(used / BLOCK_BYTES * BLOCK_BYTES);
        Ok(())
    }

    /// Metadata that is on no disk yet.
    pub(crate) fn empty(head: CopyHead, image: Arc<Image>) -> Self {
        Self {
            head,
            producer_id: image.producer_ids_next(),
            image,
            end: 0,
            tail: Vec::new(),
            lengths: [None; 2],
            gone: BTreeMap::new(),
            failed: None,
        }
    }

    /// Goes on with a copy; the other one is made anew before anything else is written.
    pub(crate) fn of(good: GoodCopy, index: usize) -> Self {
        let mut controller = Self::empty(good.head, Arc::new(good.image));
        controller.lengths[index] = Some(good.length);
        controller
    }

    /// Goes on with two copies that are the same.
    pub(crate) fn of_both(good: GoodCopy) -> Self {
        let lengths = [Some(good.length); 2];
        let (end, tail) = (good.end, good.tail);
        Self { end, tail, lengths, ..Self::empty(good.head, Arc::new(good.image)) }
    }
}

#[cfg(test)]
mod tests;
