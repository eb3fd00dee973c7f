//! Ping, kind 1: is anybody there? The session answers it without asking the engine.
//!
//! Request and answer (kind 129): the 12 bytes of the header, no body.

use alloc::vec::Vec;

use crate::{
    error::DecodeError,
    frame::{header, kind},
    wire::Reader,
};

/// Appends a ping.
pub fn encode_request(into: &mut Vec<u8>, correlation: u32) {
    into.extend_from_slice(&header(0, kind::PING, 0, 0, correlation));
}

/// Appends the answer to a ping.
pub fn encode_answer(into: &mut Vec<u8>, correlation: u32) {
    into.extend_from_slice(&header(0, kind::PING + kind::ANSWER, 0, 0, correlation));
}

pub(crate) fn decode(body: &[u8]) -> Result<(), DecodeError> {
    Reader::new(body).finish()
}
