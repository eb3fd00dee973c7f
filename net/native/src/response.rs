//! Answers to and from frames; the layout of each is in its file below `api`.

use cutwater_api::{Output, Response, SubscriptionId, TopicsView};
use cutwater_model::{ProducerEpoch, ProducerId, TopicId};

use crate::{
    api::{
        self, fetch::FetchedView, list_offsets::ListedOffsetsView, produce::ProducedView, refused::Refusal,
    },
    error::DecodeError,
    frame::{Frame, RETRIABLE_FLAG, kind},
};

/// An answer as a client reads it, borrowing from its frame where payload is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// To a ping.
    Pong,
    /// To a produce request.
    Produced(ProducedView),
    /// To a fetch.
    Fetched(FetchedView<'a>),
    /// A push of a subscription.
    Pushed {
        /// Whose.
        subscription: SubscriptionId,
        /// What.
        fetched: FetchedView<'a>,
    },
    /// To a search for offsets, in the order asked.
    ListedOffsets(ListedOffsetsView<'a>),
    /// The subscription stands; pushes follow.
    Subscribed(SubscriptionId),
    /// The subscription has ended; no push follows.
    Unsubscribed(SubscriptionId),
    /// To a description.
    Topics(TopicsView),
    /// The topic is there.
    TopicCreated(TopicId),
    /// The topic is gone.
    TopicDeleted(TopicId),
    /// The topic has its new partitions.
    PartitionsAdded(TopicId),
    /// A producer id with its first epoch.
    ProducerIdAllocated(ProducerId, ProducerEpoch),
    /// The request was not carried out.
    Refused(Refusal<'a>),
}

/// Appends one answer as a frame. Payload in the slab is named, not copied.
#[inline]
pub fn encode(output: &mut Output, correlation: u32, response: &Response) {
    match response {
        Response::Produced(it) => api::produce::encode_answer(output.bytes(), correlation, it),
        Response::Fetched(it) => api::fetch::encode_answer(output, correlation, it),
        Response::Pushed { subscription, fetched } => {
            api::subscribe::encode_push(output, *subscription, fetched);
        }
        Response::ListedOffsets(it) => api::list_offsets::encode_answer(output.bytes(), correlation, it),
        &Response::Subscribed(it) => api::subscribe::encode_answer(output.bytes(), correlation, it),
        &Response::Unsubscribed(it) => api::subscribe::encode_end_answer(output.bytes(), correlation, it),
        Response::Topics(it) => api::describe::encode_answer(output.bytes(), correlation, it),
        &Response::TopicCreated(it) => api::create_topic::encode_answer(output.bytes(), correlation, it),
        &Response::TopicDeleted(it) => api::delete_topic::encode_answer(output.bytes(), correlation, it),
        &Response::PartitionsAdded(it) => api::add_partitions::encode_answer(output.bytes(), correlation, it),
        &Response::ProducerIdAllocated(id, epoch) => {
            api::producer_id::encode_answer(output.bytes(), correlation, id, epoch);
        }
        &Response::Refused(error) => {
            api::refused::encode(output.bytes(), correlation, error, format_args!("{error}"));
        }
    }
}

/// Reads one answer, borrowing from its frame.
///
/// # Errors
/// If the frame is no answer of version 1. A client closes the connection then.
pub fn decode<'a>(frame: &Frame<'a>) -> Result<Answer<'a>, DecodeError> {
    const PONG: u8 = kind::PING + kind::ANSWER;
    const PRODUCED: u8 = kind::PRODUCE + kind::ANSWER;
    const FETCHED: u8 = kind::FETCH + kind::ANSWER;
    const LISTED_OFFSETS: u8 = kind::LIST_OFFSETS + kind::ANSWER;
    const SUBSCRIBED: u8 = kind::SUBSCRIBE + kind::ANSWER;
    const UNSUBSCRIBED: u8 = kind::UNSUBSCRIBE + kind::ANSWER;
    const DESCRIBED: u8 = kind::DESCRIBE + kind::ANSWER;
    const TOPIC_CREATED: u8 = kind::CREATE_TOPIC + kind::ANSWER;
    const TOPIC_DELETED: u8 = kind::DELETE_TOPIC + kind::ANSWER;
    const PARTITIONS_ADDED: u8 = kind::ADD_PARTITIONS + kind::ANSWER;
    const PRODUCER_ID_ALLOCATED: u8 = kind::ALLOCATE_PRODUCER_ID + kind::ANSWER;

    match frame.kind {
        PRODUCED => return api::produce::decode_answer(frame).map(Answer::Produced),
        kind::REFUSED => {
            frame.check_flags(RETRIABLE_FLAG)?;
            return api::refused::decode(frame).map(Answer::Refused);
        }
        _ => frame.check_plain()?,
    }
    Ok(match frame.kind {
        PONG => api::ping::decode(frame.body).map(|()| Answer::Pong)?,
        FETCHED => Answer::Fetched(api::fetch::decode_answer(frame.body)?),
        kind::PUSHED => Answer::Pushed {
            subscription: SubscriptionId(frame.correlation),
            fetched: api::fetch::decode_answer(frame.body)?,
        },
        LISTED_OFFSETS => Answer::ListedOffsets(api::list_offsets::decode_answer(frame.body)?),
        SUBSCRIBED => Answer::Subscribed(api::subscribe::decode_subscription(frame.body)?),
        UNSUBSCRIBED => Answer::Unsubscribed(api::subscribe::decode_subscription(frame.body)?),
        DESCRIBED => Answer::Topics(api::describe::decode_answer(frame.body)?),
        TOPIC_CREATED => Answer::TopicCreated(api::delete_topic::decode_topic(frame.body)?),
        TOPIC_DELETED => Answer::TopicDeleted(api::delete_topic::decode_topic(frame.body)?),
        PARTITIONS_ADDED => Answer::PartitionsAdded(api::delete_topic::decode_topic(frame.body)?),
        PRODUCER_ID_ALLOCATED => {
            let (id, epoch) = api::producer_id::decode_answer(frame.body)?;
            Answer::ProducerIdAllocated(id, epoch)
        }
        kind => return Err(DecodeError::Kind { kind }),
    })
}
