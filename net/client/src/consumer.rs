//! Reads partitions in order: pushed by credit as records are appended, or fetched.
//!
//! `poll` hands each batch to a closure, borrowed from the receive buffer, after checking its checksum and that its
//! offsets follow the position. Broken connections are made again and reading goes on where it was.

mod config;
mod error;
mod machine;
mod records;

use core::time::Duration;

use cutwater_model::{Offset, PartitionId, ShardId};
use cutwater_ring::Wait;

pub use self::config::{ConsumerConfig, StartAt};
pub use self::error::{ReadError, ReadFault};
use self::machine::Machine;
pub use self::records::BatchRecords;
use crate::config::ClientConfig;
use crate::error::{ClientError, LinkFault};
use crate::producer::until;
use crate::transport::Transport;
use crate::wire::Wire;

/// See the module.
#[derive(Debug)]
pub struct Consumer<W: Wire = Transport> {
    wire: W,
    machine: Machine,
}

impl Consumer {
    /// A consumer of the node at `client.server`. Nothing is read yet.
    ///
    /// # Errors
    /// When io_uring does not work here.
    pub fn new(client: &ClientConfig, config: ConsumerConfig) -> Result<Self, ClientError> {
        Ok(Self::over(Transport::new(client)?, config))
    }
}

impl<W: Wire> Consumer<W> {
    /// A consumer over any wire.
    pub fn over(wire: W, config: ConsumerConfig) -> Self {
        Self { wire, machine: Machine::new(config) }
    }

    /// Reads a partition too, beginning there. `shard` is the one that serves it by the shard map (which
    /// [`crate::Client::topic`] tells); a wrong one costs a forward, no more.
    pub fn assign(&mut self, partition: PartitionId, shard: ShardId, start: StartAt) {
        self.machine.assign(partition, shard, start);
    }

    /// Reads a partition no longer.
    pub fn unassign(&mut self, partition: PartitionId) {
        self.machine.unassign(partition);
    }

    /// Goes on elsewhere in a partition; also after a [`ReadError`].
    pub fn seek(&mut self, partition: PartitionId, start: StartAt) {
        self.machine.seek(partition, start);
    }

    /// Reads nothing of a partition until it is resumed; its position stays.
    pub fn pause(&mut self, partition: PartitionId) {
        self.machine.set_paused(partition, true);
    }

    /// Goes on where the partition was paused.
    pub fn resume(&mut self, partition: PartitionId) {
        self.machine.set_paused(partition, false);
    }

    /// The record of a partition that comes next; `None` while the beginning is being looked up.
    #[must_use]
    pub fn position(&self, partition: PartitionId) -> Option<Offset> {
        self.machine.position(partition)
    }

    /// The offset below which the records of a partition are committed, as last told.
    #[must_use]
    pub fn high_watermark(&self, partition: PartitionId) -> Option<Offset> {
        self.machine.high_watermark(partition)
    }

    /// Moves bytes, waits as told, and hands out each batch that came. Returns how many did.
    ///
    /// # Errors
    /// When this machine can't go on. Broken connections are dealt with, broken partitions told by
    /// [`Consumer::next_error`].
    pub fn poll(
        &mut self,
        wait: Wait,
        mut on_batch: impl FnMut(BatchRecords<'_>),
    ) -> Result<usize, ClientError> {
        let now_us = self.wire.now().mono_us;
        let due_us = self.machine.drive(&mut self.wire, now_us)?;
        let mut batches = 0;
        let machine = &mut self.machine;
        let mut count = |records: BatchRecords<'_>| {
            batches += 1;
            on_batch(records);
        };
        let wait = until(wait, due_us, now_us);
        self.wire.turn(wait, |link, event| machine.on_event(link, event, now_us, &mut count))?;
        // More credit, or the next fetch, leaves at once: the node has room to go on while the caller works.
        self.machine.drive(&mut self.wire, now_us)?;
        Ok(batches)
    }

    /// The next partition whose reading stopped.
    pub fn next_error(&mut self) -> Option<ReadError> {
        self.machine.next_error()
    }

    /// Why there is no connection, where that is so.
    #[must_use]
    pub fn last_fault(&self) -> Option<LinkFault> {
        self.machine.last_fault()
    }

    /// Ends all connections.
    ///
    /// # Errors
    /// When this machine can't go on.
    pub fn close(mut self) -> Result<(), ClientError> {
        self.machine.close(&mut self.wire);
        self.wire.turn(Wait::AtMost(Duration::ZERO), |_, _| {})
    }
}

#[cfg(test)]
mod tests;
