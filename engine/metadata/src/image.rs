//! The metadata as of one version: what every shard looks up, never changed in place.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    sync::Arc,
    vec::Vec,
};

use cutwater_model::topic::TopicConfig;
use cutwater_model::{PartitionId, ShardId, TopicId};

use crate::codec::{Put, Reader};
use crate::record::{Record, put_topic, read_topic};

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its id, for ever.
    pub id: TopicId,
    /// Its name.
    pub name: String,
    /// Its settings.
    pub config: TopicConfig,
    /// The shard that owns each partition.
    pub placement: Vec<ShardId>,
}

/// All metadata of the node. A copy shares its topics with the one it was made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    version: u64,
    shards: u16,
    /// Where the next partition goes, modulo the shards.
    rotation: u32,
    producer_ids_next: i64,
    partitions: u32,
    topics: BTreeMap<TopicId, Arc<Topic>>,
    names: BTreeMap<String, TopicId>,
    /// Names with their dots as underscores: two topics may not share one (Kafka's rule).
    collisions: BTreeMap<String, TopicId>,
    tombstones: BTreeSet<TopicId>,
}

impl Image {
    /// Counts the changes: the sequence of the last record in it.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// How many shards the partitions are placed on.
    #[must_use]
    pub const fn shards(&self) -> u16 {
        self.shards
    }

    /// The topic of that id.
    #[must_use]
    pub fn topic(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(&id)
    }

    /// The topic of that name.
    #[must_use]
    pub fn topic_by_name(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(self.names.get(name)?)
    }

    /// The topic whose name differs from this one at most in dots and underscores.
    #[must_use]
    pub fn topic_colliding_with(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(self.collisions.get(&name.replace('.', "_"))?)
    }

    /// All topics, sorted by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.names.values().filter_map(|id| self.topics.get(id))
    }

    /// The shard that owns a partition.
    #[must_use]
    pub fn shard_of(&self, partition: PartitionId) -> Option<ShardId> {
        self.topic(partition.topic)?.placement.get(partition.index.0 as usize).copied()
    }

    /// Whether there was a topic of that id, whose entries a journal may still hold (M2).
    #[must_use]
    pub fn is_tombstone(&self, id: TopicId) -> bool {
        self.tombstones.contains(&id)
    }

    /// The ids of deleted topics whose entries a journal may still hold.
    pub fn tombstones(&self) -> impl Iterator<Item = TopicId> {
        self.tombstones.iter().copied()
    }

    /// How many topics there are.
    #[must_use]
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// How many partitions all topics have.
    #[must_use]
    pub const fn partition_count(&self) -> u32 {
        self.partitions
    }

    /// The first producer id that was never set aside.
    #[must_use]
    pub const fn producer_ids_next(&self) -> i64 {
        self.producer_ids_next
    }

    /// Where so many new partitions go: one shard after the other, going on where the last topic ended.
    pub(crate) fn place(&self, partitions: u32) -> Vec<ShardId> {
        let shards = u32::from(self.shards.max(1));
        (0..partitions).map(|index| ShardId((self.rotation.wrapping_add(index) % shards) as u16)).collect()
    }

    /// Carries out a record. `None` where it doesn't fit the image: then it is not one of this log.
    pub(crate) fn apply(&mut self, record: &Record, version: u64) -> Option<()> {
        match record {
            Record::Create { topic, name, config, placement } => {
                self.insert(Topic {
                    id: *topic,
                    name: name.clone(),
                    config: *config,
                    placement: placement.clone(),
                })?;
                self.rotate(placement.len() as u32);
            }
            Record::AddPartitions { topic, placement } => {
                let topic = self.topics.get_mut(topic)?;
                Arc::make_mut(topic).placement.extend_from_slice(placement);
                self.partitions = self.partitions.checked_add(placement.len() as u32)?;
                self.rotate(placement.len() as u32);
            }
            Record::Delete { topic } => {
                let topic = self.topics.remove(topic)?;
                self.names.remove(&topic.name);
                self.collisions.remove(&topic.name.replace('.', "_"));
                self.partitions -= topic.placement.len() as u32;
                self.tombstones.insert(topic.id);
            }
            Record::TombstoneGone { topic } => {
                self.tombstones.remove(topic).then_some(())?;
            }
            Record::ProducerIds { next } => {
                (*next >= self.producer_ids_next).then_some(())?;
                self.producer_ids_next = *next;
            }
            Record::Shards { shards } => self.place_anew(*shards),
        }
        self.version = version;
        Some(())
    }

    fn insert(&mut self, topic: Topic) -> Option<()> {
        let collision = topic.name.replace('.', "_");
        let is_known = self.topics.contains_key(&topic.id) || self.tombstones.contains(&topic.id);
        if is_known || self.collisions.contains_key(&collision) {
            return None;
        }
        self.partitions = self.partitions.checked_add(topic.placement.len() as u32)?;
        self.names.insert(topic.name.clone(), topic.id);
        self.collisions.insert(collision, topic.id);
        self.topics.insert(topic.id, Arc::new(topic));
        Some(())
    }

    fn rotate(&mut self, partitions: u32) {
        self.rotation = self.rotation.wrapping_add(partitions) % u32::from(self.shards.max(1));
    }

    /// Places all partitions for another number of shards, topic after topic in the order of their names.
    fn place_anew(&mut self, shards: u16) {
        self.shards = shards;
        self.rotation = 0;
        let ids: Vec<TopicId> = self.names.values().copied().collect();
        for id in ids {
            let partitions = self.topics.get(&id).map_or(0, |topic| topic.placement.len() as u32);
            let placement = self.place(partitions);
            if let Some(topic) = self.topics.get_mut(&id) {
                Arc::make_mut(topic).placement = placement;
            }
            self.rotate(partitions);
        }
    }

    /// Appends all of the image, as a snapshot.
    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.put_u16(self.shards);
        bytes.put_u32(self.rotation);
        bytes.put_i64(self.producer_ids_next);
        bytes.put_u32(self.topics.len() as u32);
        for topic in self.topics.values() {
            put_topic(bytes, topic.id, &topic.name, &topic.config, &topic.placement);
        }
        bytes.put_u32(self.tombstones.len() as u32);
        for topic in &self.tombstones {
            bytes.put_u128(topic.0);
        }
    }

    /// Reads a snapshot of that version; `None` where this release doesn't understand it.
    pub(crate) fn decode(bytes: &[u8], version: u64) -> Option<Self> {
        let mut reader = Reader(bytes);
        let mut image = Self {
            version,
            shards: reader.u16()?,
            rotation: reader.u32()?,
            producer_ids_next: reader.i64()?,
            ..Self::default()
        };
        for _ in 0..reader.u32()? {
            let (id, name, config, placement) = read_topic(&mut reader)?;
            image.insert(Topic { id, name, config, placement })?;
        }
        for _ in 0..reader.u32()? {
            image.tombstones.insert(TopicId(reader.u128()?));
        }
        reader.0.is_empty().then_some(image)
    }
}
