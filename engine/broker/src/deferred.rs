//! Batches that found no room wait, and are tried again in their order.
//!
//! Where one waits, the later ones of its partition wait behind it, and the connections that sent them are paused.

use alloc::vec::Vec;

use cutwater_log::Landed;
use cutwater_model::limits::DEFERRED_BYTES_MAX;
use cutwater_model::{ErrorKind, Now};

use crate::effect::Effects;
use crate::partition::Slot;
use crate::produce::{Asker, Incoming, Refusal};
use crate::shard::Shard;

/// A batch that found no room.
#[derive(Debug)]
pub(crate) struct Deferred {
    asker: Asker,
    batch: Waiting,
}

impl Deferred {
    /// What it takes in memory with a batch of so many bytes.
    const fn bytes(batch_bytes: usize) -> u64 {
        (size_of::<Self>() + batch_bytes) as u64
    }
}

/// Where a batch waits.
#[derive(Debug)]
enum Waiting {
    /// In a copy.
    Copied(Vec<u8>),
    /// In its pages.
    Landed(Landed),
}

impl Waiting {
    fn incoming(&self) -> Incoming<'_> {
        match self {
            Self::Copied(bytes) => Incoming::Received(bytes),
            Self::Landed(landed) => Incoming::Landed(*landed),
        }
    }
}

impl Shard {
    /// A batch that found no room is copied, unless it lies in pages already; its connection is paused until it is
    /// appended (DESIGN.md section 5). So one connection has little that waits, but a shard may have thousands of them:
    /// over the bound of all a batch has to be sent again.
    #[cold]
    pub(crate) fn defer(&mut self, asker: Asker, slot: Slot, batch: Incoming<'_>, effects: &mut Effects) {
        let taken = Deferred::bytes(batch.len());
        if self.deferred_bytes + taken > DEFERRED_BYTES_MAX {
            self.refuse_batch(asker, batch, ErrorKind::ThrottlingQuotaExceeded, effects);
            return;
        }
        let Some(owned) = self.partitions.get_mut(slot) else { return };
        self.deferred_bytes += taken;
        if owned.deferred.is_empty() {
            self.deferring.push(slot);
        }
        let waiting = match batch {
            Incoming::Received(bytes) => Waiting::Copied(bytes.to_vec()),
            Incoming::Landed(landed) => Waiting::Landed(landed),
        };
        owned.deferred.push_back(Deferred { asker, batch: waiting });
        self.counters.batches_deferred += 1;
        if asker.origin.shard == self.config.shard {
            self.connections.deferred(asker.ticket.connection, batch.len(), effects);
        }
    }

    #[cold]
    pub(crate) fn refuse_batch(
        &mut self,
        asker: Asker,
        batch: Incoming<'_>,
        kind: ErrorKind,
        effects: &mut Effects,
    ) {
        self.give_back(batch);
        self.refuse(asker, kind, effects);
    }

    /// A batch is not appended: the pages it lies in are free.
    #[cold]
    pub(crate) fn give_back(&mut self, batch: Incoming<'_>) {
        if let Incoming::Landed(landed) = batch {
            self.pages.free(landed.pages);
        }
    }

    /// Batches that waited for room are tried again, in their order, as far as there is room.
    pub(crate) fn retry_all_deferred(&mut self, now: Now, effects: &mut Effects) {
        if self.deferring.is_empty() {
            return;
        }
        let deferring = core::mem::take(&mut self.deferring);
        for slot in deferring {
            self.retry_deferred(slot, now, effects);
            if self.partitions.get(slot).is_some_and(|owned| !owned.deferred.is_empty()) {
                self.deferring.push(slot);
            }
        }
    }

    fn retry_deferred(&mut self, slot: Slot, now: Now, effects: &mut Effects) {
        while let Some(waiting) = self.partitions.get_mut(slot).and_then(|owned| owned.deferred.pop_front()) {
            match self.append_deferred(&waiting, slot, now, effects) {
                Ok(()) => {}
                Err(Refusal::NoRoomNow) => {
                    if let Some(owned) = self.partitions.get_mut(slot) {
                        owned.deferred.push_front(waiting);
                    }
                    return;
                }
                Err(Refusal::Final(kind)) => {
                    self.refuse_batch(waiting.asker, waiting.batch.incoming(), kind, effects);
                }
            }
            self.undefer(&waiting, effects);
        }
    }

    #[inline(never)]
    fn append_deferred(
        &mut self,
        waiting: &Deferred,
        slot: Slot,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        self.append(waiting.asker, slot, waiting.batch.incoming(), now, effects)
    }

    fn undefer(&mut self, waited: &Deferred, effects: &mut Effects) {
        let bytes = waited.batch.incoming().len();
        self.deferred_bytes -= Deferred::bytes(bytes);
        if waited.asker.origin.shard == self.config.shard {
            self.connections.undeferred(waited.asker.ticket.connection, bytes, effects);
        }
    }

    /// Everything that waits for room in a partition is told why there will be none.
    pub(crate) fn refuse_deferred(&mut self, slot: Slot, kind: ErrorKind, effects: &mut Effects) {
        while let Some(waiting) = self.partitions.get_mut(slot).and_then(|owned| owned.deferred.pop_front()) {
            self.refuse_batch(waiting.asker, waiting.batch.incoming(), kind, effects);
            self.undefer(&waiting, effects);
        }
    }
}
