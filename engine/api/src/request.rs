//! What a door may ask of the engine.

use alloc::vec::Vec;

use cutwater_model::topic::TopicConfig;
use cutwater_model::{Offset, PartitionId, TimestampMs, TopicId};

/// One connection of one shard. A slot is used again; the generation tells its lives apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    /// Index into the shard's table of connections.
    pub slot: u32,
    /// Counts the lives of the slot.
    pub generation: u32,
}

/// Names the answer that a request waits for: the connection and the number the peer gave it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket {
    /// Who asked.
    pub connection: ConnectionId,
    /// The peer's own number for the request; it may repeat.
    pub correlation: u32,
}

/// A subscription of one connection, numbered by the peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId(pub u32);

/// One request, borrowing the bytes of its frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Append one batch to one partition.
    Produce(Produce<'a>),
    /// Read from partitions, waiting for data up to a deadline.
    Fetch(Fetch),
    /// Find offsets by name or time.
    ListOffsets(ListOffsets),
    /// Have records pushed as long as there is credit.
    Subscribe(Subscribe),
    /// Allow a subscription more bytes.
    AddCredit {
        /// Which subscription.
        subscription: SubscriptionId,
        /// How many more bytes of batches may be pushed.
        bytes: u32,
    },
    /// End a subscription; its last push may still be under way.
    Unsubscribe {
        /// Which subscription.
        subscription: SubscriptionId,
    },
    /// Which shard owns what, and what the topics are. No names: all topics.
    Describe {
        /// The topics asked for.
        names: Vec<&'a str>,
    },
    /// Make a topic.
    CreateTopic(CreateTopic<'a>),
    /// Remove a topic and its data.
    DeleteTopic {
        /// The topic.
        topic: TopicId,
    },
    /// Give a topic more partitions.
    AddPartitions {
        /// The topic.
        topic: TopicId,
        /// How many it is to have in all.
        partitions: u32,
    },
    /// Draw an id for a producer that numbers its batches.
    AllocateProducerId,
}

/// Which replicas must have a batch before it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequiredAcks {
    /// No answer at all.
    None,
    /// The leader.
    Leader,
    /// The in-sync replicas; on a single node the leader is all of them.
    All,
}

/// Append one batch to one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produce<'a> {
    /// Where to.
    pub partition: PartitionId,
    /// What the answer waits for.
    pub acks: RequiredAcks,
    /// One RecordBatch v2, not yet checked.
    pub batch: &'a [u8],
}

/// Read from partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// The answer waits no longer than this.
    pub wait_ms_max: u32,
    /// The answer waits until so many bytes are there.
    pub bytes_min: u32,
    /// The answer carries no more, but for one batch that is larger.
    pub bytes_max: u32,
    /// What to read, in the order of preference.
    pub parts: Vec<FetchPart>,
}

/// One partition of a fetch or a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPart {
    /// The partition.
    pub partition: PartitionId,
    /// The first record wanted; the batch that holds it comes whole.
    pub offset: Offset,
    /// At most so many bytes of this partition, but for one batch that is larger.
    pub bytes_max: u32,
}

/// Find offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListOffsets {
    /// Where, and which.
    pub parts: Vec<ListOffsetsPart>,
}

/// One partition of a [`ListOffsets`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListOffsetsPart {
    /// The partition.
    pub partition: PartitionId,
    /// Which offset is wanted.
    pub spec: OffsetSpec,
}

/// Which offset is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first one there is.
    Earliest,
    /// The one after the last committed record.
    Latest,
    /// The first record whose timestamp is at or after this one.
    At(TimestampMs),
}

/// Have records pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// The peer's number for it, not in use on this connection.
    pub subscription: SubscriptionId,
    /// Bytes of batches that may be pushed before more credit comes.
    pub credit_bytes: u32,
    /// Which partitions, from where.
    pub parts: Vec<FetchPart>,
}

/// Make a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreateTopic<'a> {
    /// Its name.
    pub name: &'a str,
    /// How many partitions it begins with.
    pub partitions: u32,
    /// Its settings.
    pub config: TopicConfig,
}
