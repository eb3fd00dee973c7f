//! What a topic is set to.

/// Topic names: Kafka's rule of 1 to 249 characters out of `[a-zA-Z0-9._-]`, and neither `.` nor `..`.
#[must_use]
pub fn is_valid_name(name: &str) -> bool {
    (1..=crate::limits::TOPIC_NAME_BYTES_MAX).contains(&name.len())
        && name != "."
        && name != ".."
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// What an ack of a topic means (DESIGN.md section 1, promise 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Durability {
    /// On stable storage, device flush included.
    #[default]
    Disk = 0,
    /// In memory; a crash may lose up to one group interval.
    Memory = 1,
}

/// Which timestamp the records of a topic carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum TimestampType {
    /// The producer's.
    #[default]
    Create = 0,
    /// The node's, stamped when the batch is appended.
    LogAppend = 1,
}

/// The settings of one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// What an ack means.
    pub durability: Durability,
    /// Whose timestamps are kept.
    pub timestamp_type: TimestampType,
    /// The largest batch taken, in bytes as it comes over the wire.
    pub batch_bytes_max: u32,
    /// How large a segment grows before the next one begins, in bytes.
    pub segment_bytes: u32,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            durability: Durability::Disk,
            timestamp_type: TimestampType::Create,
            batch_bytes_max: crate::limits::BATCH_BYTES_DEFAULT,
            segment_bytes: crate::limits::SEGMENT_BYTES_DEFAULT,
        }
    }
}

impl TopicConfig {
    /// Whether every setting is within its bounds.
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        use crate::limits::{BATCH_BYTES_MAX, BATCH_BYTES_MAX_LEAST, SEGMENT_BYTES_LEAST, SEGMENT_BYTES_MAX};
        self.batch_bytes_max >= BATCH_BYTES_MAX_LEAST
            && self.batch_bytes_max <= BATCH_BYTES_MAX
            && self.segment_bytes >= SEGMENT_BYTES_LEAST
            && self.segment_bytes <= SEGMENT_BYTES_MAX
            && self.segment_bytes.is_multiple_of(crate::limits::BLOCK_BYTES as u32)
    }
}
