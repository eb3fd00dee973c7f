//! Requests to and from frames; the layout of each is in its file below `api`.

use alloc::vec::Vec;

use cutwater_api::Request;

use crate::{
    api,
    error::DecodeError,
    frame::{Frame, kind},
};

/// A frame from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// The session answers it.
    Ping,
    /// The engine answers it.
    Request(Request<'a>),
}

/// Appends one request as a frame.
pub fn encode(into: &mut Vec<u8>, correlation: u32, request: &Request<'_>) {
    match request {
        Request::Produce(it) => api::produce::encode_request(into, correlation, it),
        Request::Fetch(it) => api::fetch::encode_request(into, correlation, it),
        Request::ListOffsets(it) => api::list_offsets::encode_request(into, correlation, it),
        Request::Subscribe(it) => api::subscribe::encode_request(into, correlation, it),
        &Request::AddCredit { subscription, bytes } => {
            api::subscribe::encode_credit(into, correlation, subscription, bytes);
        }
        &Request::Unsubscribe { subscription } => {
            api::subscribe::encode_end(into, correlation, subscription);
        }
        Request::Describe { names } => api::describe::encode_request(into, correlation, names),
        Request::CreateTopic(it) => api::create_topic::encode_request(into, correlation, it),
        &Request::DeleteTopic { topic } => api::delete_topic::encode_request(into, correlation, topic),
        &Request::AddPartitions { topic, partitions } => {
            api::add_partitions::encode_request(into, correlation, topic, partitions);
        }
        Request::AllocateProducerId => api::producer_id::encode_request(into, correlation),
    }
}

/// Reads one request, borrowing from its frame.
///
/// # Errors
/// If the frame is no request of version 1; nothing of it is then to be carried out.
#[inline]
pub fn decode<'a>(frame: &Frame<'a>) -> Result<Asked<'a>, DecodeError> {
    if frame.kind == kind::PRODUCE {
        return api::produce::decode_request(frame).map(|it| Asked::Request(Request::Produce(it)));
    }
    decode_others(frame)
}

fn decode_others<'a>(frame: &Frame<'a>) -> Result<Asked<'a>, DecodeError> {
    frame.check_plain()?;
    let request = match frame.kind {
        kind::PING => return api::ping::decode(frame.body).map(|()| Asked::Ping),
        kind::FETCH => Request::Fetch(api::fetch::decode_request(frame.body)?),
        kind::LIST_OFFSETS => Request::ListOffsets(api::list_offsets::decode_request(frame.body)?),
        kind::SUBSCRIBE => Request::Subscribe(api::subscribe::decode_request(frame.body)?),
        kind::ADD_CREDIT => {
            let (subscription, bytes) = api::subscribe::decode_credit(frame.body)?;
            Request::AddCredit { subscription, bytes }
        }
        kind::UNSUBSCRIBE => {
            Request::Unsubscribe { subscription: api::subscribe::decode_subscription(frame.body)? }
        }
        kind::DESCRIBE => Request::Describe { names: api::describe::decode_request(frame.body)? },
        kind::CREATE_TOPIC => Request::CreateTopic(api::create_topic::decode_request(frame.body)?),
        kind::DELETE_TOPIC => Request::DeleteTopic { topic: api::delete_topic::decode_topic(frame.body)? },
        kind::ADD_PARTITIONS => {
            let (topic, partitions) = api::add_partitions::decode_request(frame.body)?;
            Request::AddPartitions { topic, partitions }
        }
        kind::ALLOCATE_PRODUCER_ID => {
            api::producer_id::decode_request(frame.body)?;
            Request::AllocateProducerId
        }
        kind => return Err(DecodeError::Kind { kind }),
    };
    Ok(Asked::Request(request))
}
