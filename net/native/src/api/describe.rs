//! Describe, kind 8: topics, their settings, and which shard serves which partition.
//!
//! Request:
//! ```text
//! 12 u32 count           0: all topics
//! 16     count names:
//!         0 u16 bytes
//!         2     the name, UTF-8, at most 249 bytes
//! ```
//! Answer, kind 136; names that don't exist are left out:
//! ```text
//! 12 u16 shards          of the node
//! 14 2 bytes reserved    0
//! 16 u64 version         of the node's metadata
//! 24 u32 count
//! 28     count topics, sorted by name:
//!         0 u128 topic id
//!        16 u32  partitions
//!        20 12 bytes settings and length of the name, as in CreateTopic
//!        32      the name
//!                partitions times u16: the shard that serves the partition
//! ```

use alloc::{string::String, vec::Vec};

use cutwater_api::{PartitionView, ShardMap, TopicView, TopicsView};
use cutwater_model::{
    PartitionIndex, ShardId,
    limits::{PARTITIONS_PER_TOPIC_MAX, TOPIC_NAME_BYTES_MAX, TOPICS_PER_NODE_MAX},
};

use super::create_topic::{name_length, put_config, read_config, read_name};
use crate::{
    error::DecodeError,
    frame::{self, kind},
    wire::Reader,
};

const NAME_BYTES_LEAST: usize = 2;
const TOPIC_BYTES_LEAST: usize = 32;

/// Appends a question for topics. No names: all topics.
pub fn encode_request(into: &mut Vec<u8>, correlation: u32, names: &[&str]) {
    let start = frame::begin(into, kind::DESCRIBE, 0, 0, correlation);
    into.extend_from_slice(&(names.len() as u32).to_le_bytes());
    for name in names {
        into.extend_from_slice(&name_length(name).to_le_bytes());
        into.extend_from_slice(name.as_bytes());
    }
    frame::end(into, start, 0);
}

pub(crate) fn decode_request(body: &[u8]) -> Result<Vec<&str>, DecodeError> {
    let mut reader = Reader::new(body);
    let count = reader.count(NAME_BYTES_LEAST, TOPICS_PER_NODE_MAX)?;
    let mut names = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let bytes = reader.u16()?;
        names.push(read_name(&mut reader, bytes)?);
    }
    reader.finish()?;
    Ok(names)
}

/// Appends the answer.
pub fn encode_answer(into: &mut Vec<u8>, correlation: u32, view: &TopicsView) {
    let start = frame::begin(into, kind::DESCRIBE + kind::ANSWER, 0, 0, correlation);
    into.extend_from_slice(&view.shards.shards.to_le_bytes());
    into.extend_from_slice(&[0; 2]);
    into.extend_from_slice(&view.shards.version.to_le_bytes());
    into.extend_from_slice(&(view.topics.len() as u32).to_le_bytes());
    for topic in &view.topics {
        debug_assert!(topic.name.len() <= TOPIC_NAME_BYTES_MAX, "the metadata holds valid names only");
        into.extend_from_slice(&topic.id.0.to_le_bytes());
        into.extend_from_slice(&(topic.partitions.len() as u32).to_le_bytes());
        put_config(into, &topic.config, name_length(&topic.name));
        into.extend_from_slice(topic.name.as_bytes());
        for (index, partition) in topic.partitions.iter().enumerate() {
            debug_assert_eq!(
                partition.index.0 as usize, index,
                "partitions are listed in order, none left out"
            );
            into.extend_from_slice(&partition.shard.0.to_le_bytes());
        }
    }
    frame::end(into, start, 0);
}

pub(crate) fn decode_answer(body: &[u8]) -> Result<TopicsView, DecodeError> {
    let mut reader = Reader::new(body);
    let shards = reader.u16()?;
    reader.reserved(2)?;
    let version = reader.u64()?;
    let count = reader.count(TOPIC_BYTES_LEAST, TOPICS_PER_NODE_MAX)?;
    let mut topics = Vec::with_capacity(count as usize);
    for _ in 0..count {
        topics.push(read_topic(&mut reader)?);
    }
    reader.finish()?;
    Ok(TopicsView { topics, shards: ShardMap { shards, version } })
}

fn read_topic(reader: &mut Reader<'_>) -> Result<TopicView, DecodeError> {
    let id = reader.topic()?;
    let partition_count = reader.count(size_of::<u16>(), PARTITIONS_PER_TOPIC_MAX)?;
    let (config, name_bytes) = read_config(reader)?;
    let name = String::from(read_name(reader, name_bytes)?);
    let shards = reader.take(partition_count as usize * size_of::<u16>())?;
    let (shards, _) = shards.as_chunks::<2>();
    let partitions = (0..).zip(shards).map(|(index, shard)| PartitionView {
        index: PartitionIndex(index),
        shard: ShardId(u16::from_le_bytes(*shard)),
    });
    Ok(TopicView { name, id, config, partitions: partitions.collect() })
}
