//! Error kinds that a peer may see, with their numbers on the wire.

/// Why a request was not carried out. Numbers are those of Kafka's `Errors` table, so both doors share them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
#[repr(i16)]
pub enum ErrorKind {
    /// The offset lies outside the partition.
    #[error("the offset is outside the partition's range; ask for its earliest or latest offset")]
    OffsetOutOfRange = 1,
    /// The batch's checksum or lengths don't fit its bytes.
    #[error("the batch is damaged: its checksum or its lengths don't fit; send it again")]
    CorruptMessage = 2,
    /// There is no such topic or partition.
    #[error("there is no such topic or partition")]
    UnknownTopicOrPartition = 3,
    /// The fetch asks for no bytes.
    #[error("the fetch asks for less than one byte")]
    InvalidFetchSize = 4,
    /// The shard does not own the partition now; ask for the shard map again.
    #[error("this shard does not own the partition; ask for the shard map again")]
    NotLeaderOrFollower = 6,
    /// It took longer than the request allowed.
    #[error("the request timed out")]
    RequestTimedOut = 7,
    /// The batch is larger than the topic allows.
    #[error("the batch is larger than the topic's max.message.bytes")]
    MessageTooLarge = 10,
    /// The name can't be a topic's.
    #[error("a topic's name has 1 to 249 letters, digits, dots, underscores and dashes, and is not . or ..")]
    InvalidTopic = 17,
    /// The batch is larger than a segment.
    #[error("the batch is larger than a segment")]
    RecordListTooLarge = 18,
    /// Acks was none of 0, 1 and all.
    #[error("acks must be 0, 1 or all (-1)")]
    InvalidRequiredAcks = 21,
    /// The timestamp can't be a record's.
    #[error("a record's timestamp is negative, or more than an hour ahead of this node's clock")]
    InvalidTimestamp = 32,
    /// The peer spoke a version this node doesn't.
    #[error("this node does not speak that version of the protocol")]
    UnsupportedVersion = 35,
    /// There is a topic of that name, or of one that collides with it.
    #[error("there is a topic of that name, or of one that differs only in dots and underscores")]
    TopicAlreadyExists = 36,
    /// The number of partitions can't be.
    #[error("the number of partitions is out of bounds, or not larger than it is now")]
    InvalidPartitions = 37,
    /// The topic's settings can't be.
    #[error("a setting of the topic is unknown or out of bounds")]
    InvalidConfig = 40,
    /// The request makes no sense.
    #[error("the request is malformed")]
    InvalidRequest = 42,
    /// The batch's format is not RecordBatch v2.
    #[error("only record batches of format 2 are taken")]
    UnsupportedForMessageFormat = 43,
    /// A gap, or a step back, in a producer's sequence numbers.
    #[error("the producer's sequence number doesn't follow its last one")]
    OutOfOrderSequenceNumber = 45,
    /// A retry of a batch that the window no longer holds.
    #[error("the batch was appended before, too long ago to tell its offset")]
    DuplicateSequenceNumber = 46,
    /// A later life of the producer has written.
    #[error("a later epoch of this producer has written; this one is fenced")]
    InvalidProducerEpoch = 47,
    /// The disk failed; the partition, or the whole shard, takes no appends.
    #[error("the disk failed; this partition takes no appends until the node's operator has seen to it")]
    StorageError = 56,
    /// The peer's producer id is not known here.
    #[error("the producer's id is not known to this partition")]
    UnknownProducerId = 59,
    /// The codec is not one of those known.
    #[error("the batch's compression is not one of none, gzip, snappy, lz4, zstd")]
    UnsupportedCompressionType = 76,
    /// A record does not fit its batch.
    #[error("a record does not fit its batch: counts, deltas or lengths disagree")]
    InvalidRecord = 87,
    /// Too much is in flight; try again.
    #[error("the node is over its quota for this kind of request; try again later")]
    ThrottlingQuotaExceeded = 89,
    /// There is no such topic id.
    #[error("there is no topic of that id")]
    UnknownTopicId = 100,
    /// The range is known to be damaged on disk.
    #[error("the range is damaged on disk; its file and place are in the node's log")]
    DamagedRange = 1000,
    /// The file system is full; try again.
    #[error("the node's disk is full; make room or delete topics, then send again")]
    DiskFull = 1001,
    /// The node is stopping, or recovering; try again elsewhere or later.
    #[error("the node is stopping or not ready yet; try again")]
    NotReady = 1002,
}

impl ErrorKind {
    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn is_retriable(self) -> bool {
        matches!(
            self,
            Self::CorruptMessage
                | Self::NotLeaderOrFollower
                | Self::RequestTimedOut
                | Self::ThrottlingQuotaExceeded
                | Self::DiskFull
                | Self::NotReady
        )
    }

    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// The kind with that number, or `None` where there is none.
    #[must_use]
    pub fn from_code(code: i16) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.code() == code)
    }

    /// Every kind.
    pub const ALL: [Self; 29] = [
        Self::OffsetOutOfRange,
        Self::CorruptMessage,
        Self::UnknownTopicOrPartition,
        Self::InvalidFetchSize,
        Self::NotLeaderOrFollower,
        Self::RequestTimedOut,
        Self::MessageTooLarge,
        Self::InvalidTopic,
        Self::RecordListTooLarge,
        Self::InvalidRequiredAcks,
        Self::InvalidTimestamp,
        Self::UnsupportedVersion,
        Self::TopicAlreadyExists,
        Self::InvalidPartitions,
        Self::InvalidConfig,
        Self::InvalidRequest,
        Self::UnsupportedForMessageFormat,
        Self::OutOfOrderSequenceNumber,
        Self::DuplicateSequenceNumber,
        Self::InvalidProducerEpoch,
        Self::StorageError,
        Self::UnknownProducerId,
        Self::UnsupportedCompressionType,
        Self::InvalidRecord,
        Self::ThrottlingQuotaExceeded,
        Self::UnknownTopicId,
        Self::DamagedRange,
        Self::DiskFull,
        Self::NotReady,
    ];
}
