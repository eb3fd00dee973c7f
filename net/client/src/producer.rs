//! Sends records: batched, compressed, numbered, again when needed, each once and in order.
//!
//! `send` puts a record into the batch of its partition, `poll` moves bytes, and what became of each record comes back
//! as a [`Delivery`]. Memory is bounded by the buffer's size; after warm-up nothing is allocated per record.

mod config;
mod lane;
mod machine;
mod report;

use core::time::Duration;

use cutwater_model::record::RecordHeader;
use cutwater_model::{PartitionIndex, TimestampMs};
use cutwater_ring::Wait;

pub use self::config::ProducerConfig;
use self::machine::Machine;
pub use self::report::{Delivery, DeliveryError, SendError};
use crate::config::ClientConfig;
use crate::error::{ClientError, LinkFault};
use crate::transport::Transport;
use crate::wire::Wire;

/// A topic of one producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicHandle(pub(crate) u32);

/// One record to send.
#[derive(Clone, Copy, Debug, Default)]
pub struct OutRecord<'a> {
    /// Decides the partition, as Kafka's clients do, where none is named.
    pub key: Option<&'a [u8]>,
    /// The payload.
    pub value: Option<&'a [u8]>,
    /// Further fields.
    pub headers: &'a [RecordHeader<'a>],
    /// When it happened; the producer's clock at `send` where there is none.
    pub timestamp: Option<TimestampMs>,
    /// Where it goes; by its key, or to one partition after the other, where there is none.
    pub partition: Option<PartitionIndex>,
    /// Comes back with its [`Delivery`].
    pub token: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Producer<W: Wire = Transport> {
    wire: W,
    machine: Machine,
    timeout: Duration,
}

impl Producer {
    /// A producer for the node at `client.server`. Connections are made when they are needed.
    ///
    /// # Errors
    /// When io_uring does not work here.
    pub fn new(client: &ClientConfig, config: ProducerConfig) -> Result<Self, ClientError> {
        Ok(Self::over(Transport::new(client)?, client.timeout, config))
    }
}

impl<W: Wire> Producer<W> {
    /// A producer over any wire, whose waiting calls wait so long.
    pub fn over(wire: W, timeout: Duration, config: ProducerConfig) -> Self {
        Self { wire, machine: Machine::new(config), timeout }
    }

    /// Finds a topic, waiting for the node's answer.
    ///
    /// # Errors
    /// When there is none, or the node doesn't answer.
    pub fn topic(&mut self, name: &str) -> Result<TopicHandle, ClientError> {
        let deadline_us = self.wire.now().mono_us + self.timeout.as_micros() as u64;
        let handle = self.machine.register(name);
        loop {
            if let Some(exists) = self.machine.exists(handle) {
                let peer = self.wire.link_error(LinkFault::Closed).peer;
                let unknown = || ClientError::UnknownTopic { peer, name: name.to_owned() };
                return if exists { Ok(handle) } else { Err(unknown()) };
            }
            let now_us = self.wire.now().mono_us;
            if now_us >= deadline_us {
                return Err(self.machine.why_not(&self.wire, "a description of topics", self.timeout));
            }
            self.poll(Wait::AtMost(Duration::from_micros(deadline_us - now_us)))?;
        }
    }

    /// How many partitions a topic has, as far as known.
    #[must_use]
    pub fn partitions(&self, topic: TopicHandle) -> u32 {
        self.machine.partitions(topic)
    }

    /// Takes a record. It is sent by a later [`Producer::poll`].
    ///
    /// # Errors
    /// When the buffer is full, or the record can't be sent at all; it was not taken then.
    #[inline]
    pub fn send(&mut self, topic: TopicHandle, record: &OutRecord<'_>) -> Result<(), SendError> {
        self.machine.send(topic, record, self.wire.now())
    }

    /// Sends what is due, takes answers, waits as told but no longer than something is due. Returns how many delivery
    /// reports there are to read.
    ///
    /// # Errors
    /// When this machine can't go on. What happens to connections is dealt with.
    pub fn poll(&mut self, wait: Wait) -> Result<usize, ClientError> {
        let now = self.wire.now();
        let due_us = self.machine.drive(&mut self.wire, now.mono_us)?;
        let wait = if self.machine.reports() > 0 { Wait::Never } else { until(wait, due_us, now.mono_us) };
        let machine = &mut self.machine;
        self.wire.turn(wait, |link, event| machine.on_event(link, event, now.mono_us))?;
        Ok(self.machine.reports())
    }

    /// The next report of what became of a record; in order within a partition.
    pub fn next_delivery(&mut self) -> Option<Delivery> {
        self.machine.next_delivery()
    }

    /// How many bytes are held, sent and unsent.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.machine.buffered_bytes()
    }

    /// Why there is no connection, where that is so.
    #[must_use]
    pub fn last_fault(&self) -> Option<LinkFault> {
        self.machine.last_fault()
    }

    /// Seals all batches and waits until everything was acknowledged or failed; false when time ran out first.
    /// Reports pile up meanwhile, to be read afterwards.
    ///
    /// # Errors
    /// When this machine can't go on.
    pub fn flush(&mut self, timeout: Duration) -> Result<bool, ClientError> {
        let deadline_us = self.wire.now().mono_us.saturating_add(timeout.as_micros() as u64);
        self.machine.seal_all(self.wire.now().mono_us);
        while self.machine.buffered_bytes() > 0 {
            let now = self.wire.now();
            if now.mono_us >= deadline_us {
                return Ok(false);
            }
            let due_us = self.machine.drive(&mut self.wire, now.mono_us)?;
            let wait = until(Wait::Forever, due_us.min(deadline_us), now.mono_us);
            let machine = &mut self.machine;
            self.wire.turn(wait, |link, event| machine.on_event(link, event, now.mono_us))?;
        }
        // Records sent with acks 0 count as done once they are queued; this hands them to the kernel.
        self.wire.turn(Wait::Never, |_, _| {})?;
        Ok(true)
    }

    /// Flushes, then closes all connections. What was not acknowledged in time is reported as [`DeliveryError::Closed`].
    ///
    /// # Errors
    /// When this machine can't go on.
    pub fn close(mut self, timeout: Duration) -> Result<Vec<Delivery>, ClientError> {
        self.flush(timeout)?;
        self.machine.close(&mut self.wire);
        self.wire.turn(Wait::Never, |_, _| {})?;
        Ok(core::iter::from_fn(|| self.machine.next_delivery()).collect())
    }
}

/// Bounds a wait by the moment when something is due.
pub(crate) fn until(wait: Wait, due_us: u64, now_us: u64) -> Wait {
    if due_us == u64::MAX {
        return wait;
    }
    let left = Duration::from_micros(due_us.saturating_sub(now_us));
    match wait {
        _ if left.is_zero() => Wait::Never,
        Wait::Never => Wait::Never,
        Wait::AtMost(time) => Wait::AtMost(time.min(left)),
        Wait::Forever => Wait::AtMost(left),
    }
}

#[cfg(test)]
mod tests;
