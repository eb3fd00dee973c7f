//! What may be asked of the metadata, what comes of it, and why it is refused.

use alloc::string::String;

use cutwater_model::limits::{PARTITIONS_PER_NODE_MAX, PARTITIONS_PER_TOPIC_MAX, TOPICS_PER_NODE_MAX};
use cutwater_model::storage::StorageError;
use cutwater_model::topic::TopicConfig;
use cutwater_model::{ErrorKind, ProducerId, ShardId, TopicId};

/// A change that somebody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Make a topic.
    CreateTopic {
        /// Its name.
        name: &'a str,
        /// How many partitions.
        partitions: u32,
        /// Its settings.
        config: TopicConfig,
    },
    /// Remove a topic. Its files may go once this is durable.
    DeleteTopic {
        /// Which.
        topic: TopicId,
    },
    /// Give a topic more partitions.
    AddPartitions {
        /// Which.
        topic: TopicId,
        /// How many in all.
        partitions: u32,
    },
    /// Draw a producer id.
    AllocateProducerId,
    /// A shard has no file and no journal entry of a deleted topic any more (M2).
    TopicGone {
        /// Which topic.
        topic: TopicId,
        /// Which shard.
        shard: ShardId,
    },
}

/// What came of a command; durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The topic is there.
    TopicCreated(TopicId),
    /// The topic is gone; a tombstone is left.
    TopicDeleted(TopicId),
    /// The topic has its partitions.
    PartitionsAdded(TopicId),
    /// A producer id that was never given before.
    ProducerIdAllocated(ProducerId),
    /// The shard's word was noted; the tombstone goes with the last shard's.
    TopicGone,
}

/// Why a command was not carried out. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The name can't be a topic's.
    #[error("{0:?} can't be a topic's name: use 1 to 249 letters, digits, dots, underscores and dashes")]
    InvalidName(String),
    /// There is a topic of that name.
    #[error("there is a topic {0:?} already")]
    Exists(String),
    /// There is a topic of almost that name.
    #[error("{name:?} differs from the topic {existing:?} only in dots and underscores; choose another name")]
    Collides {
        /// The name asked for.
        name: String,
        /// The name there is.
        existing: String,
    },
    /// There is no topic of that id.
    #[error("there is no topic {0}")]
    UnknownTopic(TopicId),
    /// The number of partitions can't be.
    #[error("{0} partitions: a topic has 1 to {PARTITIONS_PER_TOPIC_MAX}, and can't get fewer than it has")]
    InvalidPartitions(u32),
    /// A setting is out of bounds.
    #[error("a setting of the topic is out of bounds: {0:?}")]
    InvalidConfig(TopicConfig),
    /// The node has all it can have.
    #[error(
        "the node is full: it takes {TOPICS_PER_NODE_MAX} topics and {PARTITIONS_PER_NODE_MAX} partitions; delete some"
    )]
    NodeFull,
    /// The id drawn for the topic was in use: draw another.
    #[error("the id {0} was in use before")]
    IdInUse(TopicId),
    /// The disk said no, now or earlier: what is on it decides at the next start.
    #[error("the metadata can't be written: {0}; restart the node when the disk is in order")]
    Storage(#[from] StorageError),
}

impl ApplyError {
    /// How a peer is told.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::InvalidName(_) => ErrorKind::InvalidTopic,
            Self::Exists(_) | Self::Collides { .. } => ErrorKind::TopicAlreadyExists,
            Self::UnknownTopic(_) => ErrorKind::UnknownTopicId,
            Self::InvalidPartitions(_) | Self::NodeFull => ErrorKind::InvalidPartitions,
            Self::InvalidConfig(_) => ErrorKind::InvalidConfig,
            Self::IdInUse(_) | Self::Storage(_) => ErrorKind::StorageError,
        }
    }
}
