//! CreateTopic, kind 9: make a topic.
//!
//! Request:
//! ```text
//! 12 u32 partitions
//! 16 u8  durability        0 disk, 1 memory
//! 17 u8  timestamp type    0 the producer's, 1 the time of append
//! 18 u16 length of the name
//! 20 u32 batch bytes max
//! 24 u32 segment bytes
//! 28     the name, UTF-8, at most 249 bytes, to the frame's end
//! ```
//! Answer, kind 137, 28 bytes:
//! ```text
//! 12 u128 topic id
//! ```

use alloc::vec::Vec;

use cutwater_api::CreateTopic;
use cutwater_model::{
    TopicId,
    limits::TOPIC_NAME_BYTES_MAX,
    topic::{Durability, TimestampType, TopicConfig},
};

use super::delete_topic::put_topic;
use crate::{
    error::DecodeError,
    frame::{self, kind},
    wire::Reader,
};

/// Appends the making of a topic.
pub fn encode_request(into: &mut Vec<u8>, correlation: u32, request: &CreateTopic<'_>) {
    let start = frame::begin(into, kind::CREATE_TOPIC, 0, 0, correlation);
    into.extend_from_slice(&request.partitions.to_le_bytes());
    put_config(into, &request.config, name_length(request.name));
    into.extend_from_slice(request.name.as_bytes());
    frame::end(into, start, 0);
}

pub(crate) fn decode_request(body: &[u8]) -> Result<CreateTopic<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let partitions = reader.u32()?;
    let (config, name_bytes) = read_config(&mut reader)?;
    let name = read_name(&mut reader, name_bytes)?;
    reader.finish()?;
    Ok(CreateTopic { name, partitions, config })
}

/// Appends the answer.
pub fn encode_answer(into: &mut Vec<u8>, correlation: u32, topic: TopicId) {
    put_topic(into, kind::CREATE_TOPIC + kind::ANSWER, correlation, topic);
}

/// Appends a topic's settings with the length of its name among them: 12 bytes.
pub(crate) fn put_config(into: &mut Vec<u8>, config: &TopicConfig, name_bytes: u16) {
    into.extend_from_slice(&[config.durability as u8, config.timestamp_type as u8]);
    into.extend_from_slice(&name_bytes.to_le_bytes());
    into.extend_from_slice(&config.batch_bytes_max.to_le_bytes());
    into.extend_from_slice(&config.segment_bytes.to_le_bytes());
}

/// The length of a name on the wire. One that has no room there is far beyond a topic's name: refused as such.
pub(crate) fn name_length(name: &str) -> u16 {
    u16::try_from(name.len()).unwrap_or(u16::MAX)
}

/// Reads a topic's settings and the length of its name. Whether sizes are within bounds is for the engine to say.
pub(crate) fn read_config(reader: &mut Reader<'_>) -> Result<(TopicConfig, u16), DecodeError> {
    let durability = match reader.u8()? {
        0 => Durability::Disk,
        1 => Durability::Memory,
        _ => return Err(DecodeError::Value { field: "a topic's durability" }),
    };
    let timestamp_type = match reader.u8()? {
        0 => TimestampType::Create,
        1 => TimestampType::LogAppend,
        _ => return Err(DecodeError::Value { field: "a topic's timestamp type" }),
    };
    let name_bytes = reader.u16()?;
    let (batch_bytes_max, segment_bytes) = (reader.u32()?, reader.u32()?);
    Ok((TopicConfig { durability, timestamp_type, batch_bytes_max, segment_bytes }, name_bytes))
}

/// Reads a name. Whether it is a valid topic's is for the engine to say.
pub(crate) fn read_name<'a>(reader: &mut Reader<'a>, bytes: u16) -> Result<&'a str, DecodeError> {
    let name = reader.take(usize::from(bytes))?;
    if name.len() > TOPIC_NAME_BYTES_MAX {
        return Err(DecodeError::Name);
    }
    core::str::from_utf8(name).map_err(|_| DecodeError::Name)
}
