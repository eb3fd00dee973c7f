//! DeleteTopic, kind 10: remove a topic and its data.
//!
//! Request, and answer, kind 138, 28 bytes each:
//! ```text
//! 12 u128 topic id
//! ```

use alloc::vec::Vec;

use cutwater_model::TopicId;

use crate::{
    error::DecodeError,
    frame::{header, kind},
    wire::Reader,
};

/// Appends the removal of a topic.
pub fn encode_request(into: &mut Vec<u8>, correlation: u32, topic: TopicId) {
    put_topic(into, kind::DELETE_TOPIC, correlation, topic);
}

/// Appends the answer.
pub fn encode_answer(into: &mut Vec<u8>, correlation: u32, topic: TopicId) {
    put_topic(into, kind::DELETE_TOPIC + kind::ANSWER, correlation, topic);
}

/// Appends a frame that holds nothing but a topic id.
pub(crate) fn put_topic(into: &mut Vec<u8>, kind: u8, correlation: u32, topic: TopicId) {
    into.extend_from_slice(&header(16, kind, 0, 0, correlation));
    into.extend_from_slice(&topic.0.to_le_bytes());
}

/// Reads a body that holds nothing but a topic id.
pub(crate) fn decode_topic(body: &[u8]) -> Result<TopicId, DecodeError> {
    let mut reader = Reader::new(body);
    let topic = reader.topic()?;
    reader.finish()?;
    Ok(topic)
}
