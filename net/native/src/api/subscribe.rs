//! Subscribe, AddCredit, Unsubscribe, kinds 5 to 7: have records pushed as long as there is credit.
//!
//! Subscribe:
//! ```text
//! 12 u32 subscription    the client's number for it, not in use on this connection
//! 16 u32 credit, bytes   of batches that may be pushed before more credit comes
//! 20 u32 count
//! 24     count parts of 32 bytes as in a fetch; bytes max bounds one push of the partition
//! ```
//! Its answer, kind 133, and Unsubscribe, kind 7, and its answer, kind 135, 16 bytes each:
//! ```text
//! 12 u32 subscription
//! ```
//! AddCredit, kind 6, 20 bytes; there is no answer but a refusal:
//! ```text
//! 12 u32 subscription
//! 16 u32 bytes           more that may be pushed
//! ```
//! A push, kind 192: the header's correlation is the subscription; the body is that of a fetch's answer.

use alloc::vec::Vec;

use cutwater_api::{Fetched, Output, Subscribe, SubscriptionId};

use super::fetch;
use crate::{
    error::DecodeError,
    frame::{self, header, kind},
    wire::Reader,
};

/// Appends a subscription.
pub fn encode_request(into: &mut Vec<u8>, correlation: u32, request: &Subscribe) {
    let start = frame::begin(into, kind::SUBSCRIBE, 0, 0, correlation);
    into.extend_from_slice(&request.subscription.0.to_le_bytes());
    into.extend_from_slice(&request.credit_bytes.to_le_bytes());
    fetch::put_parts(into, &request.parts);
    frame::end(into, start, 0);
}

pub(crate) fn decode_request(body: &[u8]) -> Result<Subscribe, DecodeError> {
    let mut reader = Reader::new(body);
    let subscription = SubscriptionId(reader.u32()?);
    let credit_bytes = reader.u32()?;
    let parts = fetch::read_parts(&mut reader)?;
    reader.finish()?;
    Ok(Subscribe { subscription, credit_bytes, parts })
}

/// Appends more credit.
pub fn encode_credit(into: &mut Vec<u8>, correlation: u32, subscription: SubscriptionId, bytes: u32) {
    into.extend_from_slice(&header(8, kind::ADD_CREDIT, 0, 0, correlation));
    into.extend_from_slice(&subscription.0.to_le_bytes());
    into.extend_from_slice(&bytes.to_le_bytes());
}

pub(crate) fn decode_credit(body: &[u8]) -> Result<(SubscriptionId, u32), DecodeError> {
    let mut reader = Reader::new(body);
    let credit = (SubscriptionId(reader.u32()?), reader.u32()?);
    reader.finish()?;
    Ok(credit)
}

/// Appends the end of a subscription.
pub fn encode_end(into: &mut Vec<u8>, correlation: u32, subscription: SubscriptionId) {
    put_subscription(into, kind::UNSUBSCRIBE, correlation, subscription);
}

/// Appends the answer to Subscribe.
pub fn encode_answer(into: &mut Vec<u8>, correlation: u32, subscription: SubscriptionId) {
    put_subscription(into, kind::SUBSCRIBE + kind::ANSWER, correlation, subscription);
}

/// Appends the answer to Unsubscribe.
pub fn encode_end_answer(into: &mut Vec<u8>, correlation: u32, subscription: SubscriptionId) {
    put_subscription(into, kind::UNSUBSCRIBE + kind::ANSWER, correlation, subscription);
}

fn put_subscription(into: &mut Vec<u8>, kind: u8, correlation: u32, subscription: SubscriptionId) {
    into.extend_from_slice(&header(4, kind, 0, 0, correlation));
    into.extend_from_slice(&subscription.0.to_le_bytes());
}

pub(crate) fn decode_subscription(body: &[u8]) -> Result<SubscriptionId, DecodeError> {
    let mut reader = Reader::new(body);
    let subscription = SubscriptionId(reader.u32()?);
    reader.finish()?;
    Ok(subscription)
}

/// Appends a push. Batches in the slab are named, not copied.
pub fn encode_push(output: &mut Output, subscription: SubscriptionId, fetched: &Fetched) {
    fetch::encode_as(output, kind::PUSHED, subscription.0, fetched);
}
