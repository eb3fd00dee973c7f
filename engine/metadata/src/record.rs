//! The records of the node's log, and what each does to the image.

use alloc::{string::String, vec::Vec};

use cutwater_model::topic::{Durability, TimestampType, TopicConfig};
use cutwater_model::{ShardId, TopicId};

use crate::codec::{Put, Reader};

/// Who a data folder belongs to. Two folders never have the same one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// The cluster, 128 random bits drawn when it was made.
    pub cluster: u128,
    /// The node in it.
    pub node: u32,
}

impl core::fmt::Display for Identity {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "node {} of cluster {:032x}", self.node, self.cluster)
    }
}

/// One change of the metadata, checked and decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// There is a new topic.
    Create {
        /// Its id.
        topic: TopicId,
        /// Its name.
        name: String,
        /// Its settings.
        config: TopicConfig,
        /// The shard of each of its partitions.
        placement: Vec<ShardId>,
    },
    /// A topic has more partitions.
    AddPartitions {
        /// Which.
        topic: TopicId,
        /// The shard of each new one.
        placement: Vec<ShardId>,
    },
    /// A topic is gone; its id stays behind as a tombstone (M2).
    Delete {
        /// Which.
        topic: TopicId,
    },
    /// No journal holds an entry of a deleted topic any more.
    TombstoneGone {
        /// Which.
        topic: TopicId,
    },
    /// Producer ids below this one may have been given away.
    ProducerIds {
        /// The first one that was not.
        next: i64,
    },
    /// The node has so many shards now, and every partition is placed anew.
    Shards {
        /// How many.
        shards: u16,
    },
}

impl Record {
    /// Appends the record's bytes.
    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Create { topic, name, config, placement } => {
                bytes.put_u8(1);
                put_topic(bytes, *topic, name, config, placement);
            }
            Self::AddPartitions { topic, placement } => {
                bytes.put_u8(2);
                bytes.put_u128(topic.0);
                put_placement(bytes, placement);
            }
            Self::Delete { topic } => {
                bytes.put_u8(3);
                bytes.put_u128(topic.0);
            }
            Self::TombstoneGone { topic } => {
                bytes.put_u8(4);
                bytes.put_u128(topic.0);
            }
            Self::ProducerIds { next } => {
                bytes.put_u8(5);
                bytes.put_i64(*next);
            }
            Self::Shards { shards } => {
                bytes.put_u8(6);
                bytes.put_u16(*shards);
            }
        }
    }

    /// Reads a record that takes up all of `bytes`; `None` where this release doesn't know it.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let record = match reader.u8()? {
            1 => {
                let (topic, name, config, placement) = read_topic(&mut reader)?;
                Self::Create { topic, name, config, placement }
            }
            2 => Self::AddPartitions {
                topic: TopicId(reader.u128()?),
                placement: read_placement(&mut reader)?,
            },
            3 => Self::Delete { topic: TopicId(reader.u128()?) },
            4 => Self::TombstoneGone { topic: TopicId(reader.u128()?) },
            5 => Self::ProducerIds { next: reader.i64()? },
            6 => Self::Shards { shards: reader.u16()? },
            _ => return None,
        };
        reader.0.is_empty().then_some(record)
    }
}

/// Appends what a topic is.
pub(crate) fn put_topic(
    bytes: &mut Vec<u8>,
    topic: TopicId,
    name: &str,
    config: &TopicConfig,
    placement: &[ShardId],
) {
    bytes.put_u128(topic.0);
    bytes.put_string(name);
    bytes.put_u8(config.durability as u8);
    bytes.put_u8(config.timestamp_type as u8);
    bytes.put_u32(config.batch_bytes_max);
    bytes.put_u32(config.segment_bytes);
    put_placement(bytes, placement);
}

/// Reads what a topic is.
pub(crate) fn read_topic(reader: &mut Reader<'_>) -> Option<(TopicId, String, TopicConfig, Vec<ShardId>)> {
    let topic = TopicId(reader.u128()?);
    let name = String::from(reader.string()?);
    let durability = match reader.u8()? {
        0 => Durability::Disk,
        1 => Durability::Memory,
        _ => return None,
    };
    let timestamp_type = match reader.u8()? {
        0 => TimestampType::Create,
        1 => TimestampType::LogAppend,
        _ => return None,
    };
    let config = TopicConfig {
        durability,
        timestamp_type,
        batch_bytes_max: reader.u32()?,
        segment_bytes: reader.u32()?,
    };
    Some((topic, name, config, read_placement(reader)?))
}

fn put_placement(bytes: &mut Vec<u8>, placement: &[ShardId]) {
    bytes.put_u32(placement.len() as u32);
    for shard in placement {
        bytes.put_u16(shard.0);
    }
}

fn read_placement(reader: &mut Reader<'_>) -> Option<Vec<ShardId>> {
    let count = reader.u32()? as usize;
    // Room only for what the bytes can hold, whatever the count says.
    let mut placement = Vec::with_capacity(count.min(reader.0.len() / 2));
    for _ in 0..count {
        placement.push(ShardId(reader.u16()?));
    }
    Some(placement)
}
