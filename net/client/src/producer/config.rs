//! How a producer batches, compresses and retries.

use core::time::Duration;

use cutwater_api::RequiredAcks;
use cutwater_model::Codec;
use cutwater_model::limits::{PRODUCER_BATCH_BYTES_DEFAULT, PRODUCER_BUFFER_BYTES_DEFAULT};

/// How a producer batches, compresses and retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerConfig {
    /// What an acknowledgement waits for.
    pub acks: RequiredAcks,
    /// How batches are compressed.
    pub codec: Codec,
    /// How long a record may wait for others that share its batch; zero sends with the next poll.
    pub linger: Duration,
    /// The largest batch, in bytes before compression. A topic's own bound is kept if it is smaller.
    pub batch_bytes_max: u32,
    /// What is held at most, sent and unsent, in bytes; over it [`crate::Producer::send`] says full.
    pub buffer_bytes_max: usize,
    /// Whether batches are numbered, so that a retry is never appended twice or out of order.
    pub is_idempotent: bool,
    /// Batches of one partition that may be in flight; at most 5 where they are numbered.
    pub in_flight_max: usize,
    /// A record that isn't acknowledged after this time is reported as failed; its fate is then unknown.
    pub delivery_timeout: Duration,
    /// A connection on which a batch waits longer than this is given up and made again.
    pub request_timeout: Duration,
    /// The first and the longest wait before a refused batch is sent again.
    pub retry_backoff: (Duration, Duration),
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            acks: RequiredAcks::All,
            codec: Codec::None,
            linger: Duration::ZERO,
            batch_bytes_max: PRODUCER_BATCH_BYTES_DEFAULT,
            buffer_bytes_max: PRODUCER_BUFFER_BYTES_DEFAULT,
            is_idempotent: true,
            in_flight_max: cutwater_model::limits::PRODUCER_WINDOW_BATCHES,
            delivery_timeout: Duration::from_secs(120),
            request_timeout: Duration::from_secs(30),
            retry_backoff: (Duration::from_millis(20), Duration::from_secs(1)),
        }
    }
}
