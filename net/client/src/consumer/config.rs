//! How a consumer reads.

use core::time::Duration;

use cutwater_model::limits::{
    CONSUMER_CREDIT_BYTES_DEFAULT, CONSUMER_PARTITION_BYTES_DEFAULT, INFLATED_BYTES_MAX,
};
use cutwater_model::{Offset, TimestampMs};

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// With the first record there is.
    Earliest,
    /// With the next record that is appended.
    Latest,
    /// With this record.
    Offset(Offset),
    /// With the first record whose timestamp is at or after this.
    Time(TimestampMs),
}

/// How a consumer reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerConfig {
    /// Whether records are pushed by credit as they are appended, or fetched one answer after the other.
    pub is_pushed: bool,
    /// Bytes that may be pushed before the consumer has dealt with them; of a fetch, its answer's bound.
    pub credit_bytes: u32,
    /// Bytes of one partition in one push or fetch.
    pub partition_bytes_max: u32,
    /// How long a fetch may wait for records.
    pub fetch_wait: Duration,
    /// Whether the checksum of each batch is checked. Leave it on: it finds what the disk did to records since.
    pub checks_crc: bool,
    /// Whether offsets must follow each other without a gap.
    pub wants_dense: bool,
    /// What the records of one batch may inflate to.
    pub inflated_bytes_max: usize,
    /// Where to go on when the position is outside the partition; an error where there is none.
    pub out_of_range: Option<StartAt>,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            is_pushed: true,
            credit_bytes: CONSUMER_CREDIT_BYTES_DEFAULT,
            partition_bytes_max: CONSUMER_PARTITION_BYTES_DEFAULT,
            fetch_wait: Duration::from_millis(500),
            checks_crc: true,
            wants_dense: true,
            inflated_bytes_max: INFLATED_BYTES_MAX,
            out_of_range: None,
        }
    }
}
