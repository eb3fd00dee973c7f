//! AllocateProducerId, kind 12: draw an id for a producer that numbers its batches.
//!
//! Request: the 12 bytes of the header, no body. Answer, kind 140, 22 bytes:
//! ```text
//! 12 i64 producer id
//! 20 i16 producer epoch
//! ```

use alloc::vec::Vec;

use cutwater_model::{ProducerEpoch, ProducerId};

use crate::{
    error::DecodeError,
    frame::{header, kind},
    wire::Reader,
};

/// Appends the request.
pub fn encode_request(into: &mut Vec<u8>, correlation: u32) {
    into.extend_from_slice(&header(0, kind::ALLOCATE_PRODUCER_ID, 0, 0, correlation));
}

pub(crate) fn decode_request(body: &[u8]) -> Result<(), DecodeError> {
    Reader::new(body).finish()
}

/// Appends the answer.
pub fn encode_answer(into: &mut Vec<u8>, correlation: u32, id: ProducerId, epoch: ProducerEpoch) {
    into.extend_from_slice(&header(10, kind::ALLOCATE_PRODUCER_ID + kind::ANSWER, 0, 0, correlation));
    into.extend_from_slice(&id.0.to_le_bytes());
    into.extend_from_slice(&epoch.0.to_le_bytes());
}

pub(crate) fn decode_answer(body: &[u8]) -> Result<(ProducerId, ProducerEpoch), DecodeError> {
    let mut reader = Reader::new(body);
    let answer = (ProducerId(reader.i64()?), ProducerEpoch(reader.i16()?));
    reader.finish()?;
    Ok(answer)
}
