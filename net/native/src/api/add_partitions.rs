//! AddPartitions, kind 11: give a topic more partitions.
//!
//! Request, 32 bytes:
//! ```text
//! 12 u128 topic id
//! 28 u32  partitions   that the topic is to have in all
//! ```
//! Answer, kind 139, 28 bytes:
//! ```text
//! 12 u128 topic id
//! ```

use alloc::vec::Vec;

use cutwater_model::TopicId;

use super::delete_topic::put_topic;
use crate::{
    error::DecodeError,
    frame::{header, kind},
    wire::Reader,
};

/// Appends the request.
pub fn encode_request(into: &mut Vec<u8>, correlation: u32, topic: TopicId, partitions: u32) {
    into.extend_from_slice(&header(20, kind::ADD_PARTITIONS, 0, 0, correlation));
    into.extend_from_slice(&topic.0.to_le_bytes());
    into.extend_from_slice(&partitions.to_le_bytes());
}

pub(crate) fn decode_request(body: &[u8]) -> Result<(TopicId, u32), DecodeError> {
    let mut reader = Reader::new(body);
    let request = (reader.topic()?, reader.u32()?);
    reader.finish()?;
    Ok(request)
}

/// Appends the answer.
pub fn encode_answer(into: &mut Vec<u8>, correlation: u32, topic: TopicId) {
    put_topic(into, kind::ADD_PARTITIONS + kind::ANSWER, correlation, topic);
}
