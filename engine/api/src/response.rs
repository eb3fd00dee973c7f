//! What a door is answered.

use alloc::{string::String, vec::Vec};

use cutwater_model::topic::TopicConfig;
use cutwater_model::{
    ErrorKind, MemoryRange, Offset, PartitionId, PartitionIndex, ProducerEpoch, ProducerId, ShardId,
    TimestampMs, TopicId,
};

use crate::request::SubscriptionId;

/// One answer. A push of a subscription is an answer too, with no request of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// To a produce request.
    Produced(Produced),
    /// To a fetch.
    Fetched(Fetched),
    /// A push of a subscription.
    Pushed {
        /// Whose.
        subscription: SubscriptionId,
        /// What.
        fetched: Fetched,
    },
    /// To a search for offsets, in the order asked.
    ListedOffsets(Vec<ListedOffset>),
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
    /// A producer id, never given before, with its first epoch.
    ProducerIdAllocated(ProducerId, ProducerEpoch),
    /// The request was not carried out.
    Refused(ErrorKind),
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    /// Why it was not appended, if it was not.
    pub error: Option<ErrorKind>,
    /// The offset of its first record.
    pub base_offset: Offset,
    /// When it was appended, for topics that stamp it.
    pub append_time: Option<TimestampMs>,
    /// The first offset of the partition.
    pub log_start: Offset,
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// One for each partition that has something to say, in the order asked.
    pub parts: Vec<FetchedPart>,
}

/// What was read of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedPart {
    /// The partition.
    pub partition: PartitionId,
    /// Why nothing was read, if that is so.
    pub error: Option<ErrorKind>,
    /// The offset below which records are committed.
    pub high_watermark: Offset,
    /// The first offset there is.
    pub log_start: Offset,
    /// The batches: in the slab, one after the other. Pinned until the send is done.
    pub memory: Vec<MemoryRange>,
    /// The batches that came from another shard: they follow those in the slab, and one of both is empty.
    pub bytes: Vec<u8>,
}

impl FetchedPart {
    /// How many bytes of batches there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() + self.memory.iter().map(|range| range.len as usize).sum::<usize>()
    }

    /// Whether there are no batches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One offset found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    /// The partition asked about.
    pub partition: PartitionId,
    /// Why there is none, if that is so.
    pub error: Option<ErrorKind>,
    /// The offset; the end offset where no record is as late as the time asked for.
    pub offset: Offset,
    /// The timestamp of the record found by time.
    pub timestamp: Option<TimestampMs>,
}

/// Topics as a peer sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicsView {
    /// Those asked for that exist, sorted by name.
    pub topics: Vec<TopicView>,
    /// Who serves what.
    pub shards: ShardMap,
}

/// One topic as a peer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicView {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: TopicId,
    /// Its settings.
    pub config: TopicConfig,
    /// Its partitions, in order.
    pub partitions: Vec<PartitionView>,
}

/// One partition as a peer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionView {
    /// Its number.
    pub index: PartitionIndex,
    /// The shard that owns it.
    pub shard: ShardId,
}

/// The shards of the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardMap {
    /// How many there are.
    pub shards: u16,
    /// The version of the node's metadata that this answer shows.
    pub version: u64,
}
