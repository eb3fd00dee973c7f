//! Which memory an answer on its way to a peer holds.

use alloc::vec::Vec;

use cutwater_api::ConnectionId;
use cutwater_log::TailPin;
use cutwater_model::MemoryRange;

use crate::effect::Pin;
use crate::partition::Slot;

/// One stretch of memory that must stay as it is until the answer is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// Tail pages of a partition.
    Tail(Slot, TailPin),
    /// A buffer of its own, filled from disk; freed afterwards.
    Buffer(MemoryRange),
}

/// What one answer holds.
#[derive(Debug)]
pub(crate) struct Pinned {
    /// Whose answer.
    pub(crate) connection: ConnectionId,
    /// Bytes charged to the connection.
    pub(crate) bytes: u64,
    /// Of these, bytes of other shards, which take room.
    pub(crate) remote_bytes: u64,
    /// What is held.
    pub(crate) held: Vec<Held>,
}

/// All answers on their way that hold memory.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    slots: Vec<Option<Pinned>>,
    free: Vec<u32>,
}

impl Pins {
    /// Names what an answer holds.
    pub(crate) fn add(&mut self, pinned: Pinned) -> Pin {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        self.slots[slot as usize] = Some(pinned);
        Pin(slot)
    }

    /// Ends a pin; `None` for one that has ended.
    pub(crate) fn take(&mut self, pin: Pin) -> Option<Pinned> {
        let pinned = self.slots.get_mut(pin.0 as usize)?.take()?;
        self.free.push(pin.0);
        Some(pinned)
    }

    /// How many answers hold memory.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
