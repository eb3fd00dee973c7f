//! Requests that own what they name, so that they can be on their way for a while.

use std::sync::Arc;

use cutwater_api::{
    CreateTopic, Fetch, ListOffsets, Produce, Request, RequiredAcks, Subscribe, SubscriptionId,
};
use cutwater_model::topic::TopicConfig;
use cutwater_model::{PartitionId, TopicId};

/// One request on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// See [`Request::Produce`].
    Produce {
        /// Where to.
        partition: PartitionId,
        /// What the answer waits for.
        acks: RequiredAcks,
        /// The batch.
        batch: Arc<[u8]>,
    },
    /// See [`Request::Fetch`].
    Fetch(Fetch),
    /// See [`Request::ListOffsets`].
    ListOffsets(ListOffsets),
    /// See [`Request::Subscribe`].
    Subscribe(Subscribe),
    /// See [`Request::AddCredit`].
    AddCredit(SubscriptionId, u32),
    /// See [`Request::Unsubscribe`].
    Unsubscribe(SubscriptionId),
    /// See [`Request::Describe`]; of all topics.
    Describe,
    /// See [`Request::CreateTopic`].
    CreateTopic {
        /// Its name.
        name: String,
        /// Its partitions.
        partitions: u32,
        /// Its settings.
        config: TopicConfig,
    },
    /// See [`Request::DeleteTopic`].
    DeleteTopic(TopicId),
    /// See [`Request::AddPartitions`].
    AddPartitions(TopicId, u32),
    /// See [`Request::AllocateProducerId`].
    AllocateProducerId,
}

impl Sent {
    /// The request as a door hands it in.
    #[must_use]
    pub fn request(&self) -> Request<'_> {
        match self {
            Self::Produce { partition, acks, batch } => {
                Request::Produce(Produce { partition: *partition, acks: *acks, batch })
            }
            Self::Fetch(fetch) => Request::Fetch(fetch.clone()),
            Self::ListOffsets(list) => Request::ListOffsets(list.clone()),
            Self::Subscribe(subscribe) => Request::Subscribe(subscribe.clone()),
            Self::AddCredit(subscription, bytes) => {
                Request::AddCredit { subscription: *subscription, bytes: *bytes }
            }
            Self::Unsubscribe(subscription) => Request::Unsubscribe { subscription: *subscription },
            Self::Describe => Request::Describe { names: Vec::new() },
            Self::CreateTopic { name, partitions, config } => {
                Request::CreateTopic(CreateTopic { name, partitions: *partitions, config: *config })
            }
            Self::DeleteTopic(topic) => Request::DeleteTopic { topic: *topic },
            Self::AddPartitions(topic, partitions) => {
                Request::AddPartitions { topic: *topic, partitions: *partitions }
            }
            Self::AllocateProducerId => Request::AllocateProducerId,
        }
    }

    /// Whether there is an answer to wait for.
    #[must_use]
    pub const fn is_answered(&self) -> bool {
        !matches!(self, Self::Produce { acks: RequiredAcks::None, .. } | Self::AddCredit(..))
    }

    /// What it is, in a word.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Produce { .. } => "produce",
            Self::Fetch(_) => "fetch",
            Self::ListOffsets(_) => "list offsets",
            Self::Subscribe(_) => "subscribe",
            Self::AddCredit(..) => "add credit",
            Self::Unsubscribe(_) => "unsubscribe",
            Self::Describe => "describe",
            Self::CreateTopic { .. } => "create topic",
            Self::DeleteTopic(_) => "delete topic",
            Self::AddPartitions(..) => "add partitions",
            Self::AllocateProducerId => "allocate producer id",
        }
    }
}
