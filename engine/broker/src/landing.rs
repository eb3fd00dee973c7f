//! Large batches are received straight into the pages that their partition's tail goes on in. Lives on the shard's core.
//!
//! ```text
//!  pages   | skip |#### the batch ##################|
//!          ^ a block of the file begins here         ^ and pages end with the last block
//! ```
//!
//! `skip` is how far into its block the batch will begin if those that are on their way to the partition come whole in
//! the order in which they began to. One that overtakes another, or meets a small batch, is copied instead: nobody
//! waits for a peer that sends slowly. The memory is bounded, and only given to what has begun to come on a connection
//! that sent a large batch before (B4 of BAD_INPUT.md).

use alloc::vec::Vec;

use cutwater_api::{Announced, RequiredAcks, Ticket};
use cutwater_log::Landed;
use cutwater_model::limits::{BLOCK_BYTES, LANDING_BYTES_MAX, LANDING_MEMORY_PARTS};
use cutwater_model::{ErrorKind, MemoryRange, Now, PartitionId};

use crate::effect::Effects;
use crate::partition::Stage;
use crate::produce::{Asker, Incoming, Origin};
use crate::shard::Shard;

/// Names a batch on its way into pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LandingId(u32);

/// Memory for the rest of a batch that has begun to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landing {
    /// What [`crate::Input::Landed`] or [`crate::Input::Abandoned`] names, once.
    pub id: LandingId,
    /// Where the bytes belong that had not come.
    pub missing: MemoryRange,
}

/// The batches on their way into pages.
#[derive(Debug, Default)]
pub(crate) struct Landings {
    under_way: Vec<Option<UnderWay>>,
    free: Vec<u32>,
    /// Pages that they hold.
    bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    partition: PartitionId,
    acks: RequiredAcks,
    landed: Landed,
}

impl Landings {
    fn add(&mut self, one: UnderWay) -> LandingId {
        self.bytes += u64::from(one.landed.pages.len);
        let number = self.free.pop().unwrap_or_else(|| {
            self.under_way.push(None);
            (self.under_way.len() - 1) as u32
        });
        self.under_way[number as usize] = Some(one);
        LandingId(number)
    }

    fn take(&mut self, id: LandingId) -> Option<UnderWay> {
        let one = self.under_way.get_mut(id.0 as usize)?.take()?;
        self.bytes -= u64::from(one.landed.pages.len);
        self.free.push(id.0);
        Some(one)
    }
}

impl Shard {
    /// Makes room for a batch of which `first` has come, in the pages where it will stay. `None`: it is not worth it, or
    /// there is no memory to spare, and it is to be received whole and handed in as a request.
    pub fn land(&mut self, announced: &Announced, first: &[u8]) -> Option<Landing> {
        let slot = self.partitions.slot_of(announced.partition)?;
        let owned = self.partitions.get_mut(slot)?;
        let (len, come) = (announced.batch_bytes, u32::try_from(first.len()).ok()?);
        let is_wanted = len >= self.config.bulk_bytes_least && len <= owned.config.batch_bytes_max;
        if !is_wanted || come > len || owned.stage != Stage::Open || self.is_stopping {
            return None;
        }
        let bytes_max = LANDING_BYTES_MAX.min(self.slab.len() as u64 / LANDING_MEMORY_PARTS);
        let skip = owned.log.next_in_block(owned.landing_bytes);
        let held = u64::from(skip + len).next_multiple_of(BLOCK_BYTES as u64);
        let is_scarce = u64::from(self.pages.free_bytes()) < bytes_max + held;
        if is_scarce || self.landings.bytes + held > bytes_max {
            return None;
        }
        let landed = Landed { pages: self.pages.allocate_blocks(skip + len)?, skip, len };
        let batch = landed.batch();
        self.slab.get_mut(MemoryRange { at: batch.at, len: come }).copy_from_slice(first);
        owned.landing_bytes += u64::from(len);
        let (partition, acks) = (announced.partition, announced.acks);
        let id = self.landings.add(UnderWay { partition, acks, landed });
        Some(Landing { id, missing: MemoryRange { at: batch.at + come, len: len - come } })
    }

    /// A batch is whole: from here on it is a request as any other.
    pub(crate) fn on_landed(&mut self, ticket: Ticket, id: LandingId, now: Now, effects: &mut Effects) {
        let Some(UnderWay { partition, acks, landed }) = self.end_landing(id) else { return };
        self.counters.requests += 1;
        self.counters.batches_landed += 1;
        let wants_answer = acks != RequiredAcks::None;
        if wants_answer {
            self.connections.request_begins(ticket.connection, effects);
        }
        let origin = Origin { shard: self.config.shard, wants_answer, forwarded_bytes: 0 };
        let asker = Asker { ticket, origin };
        match self.partitions.slot_of(partition) {
            Some(slot) => self.produce_here(asker, slot, Incoming::Landed(landed), now, effects),
            None => {
                self.pages.free(landed.pages);
                self.refuse(asker, ErrorKind::UnknownTopicOrPartition, effects);
            }
        }
    }

    /// A batch will not come.
    pub(crate) fn on_abandoned(&mut self, id: LandingId) {
        if let Some(one) = self.end_landing(id) {
            self.pages.free(one.landed.pages);
        }
    }

    fn end_landing(&mut self, id: LandingId) -> Option<UnderWay> {
        let one = self.landings.take(id)?;
        if let Some(slot) = self.partitions.slot_of(one.partition)
            && let Some(owned) = self.partitions.get_mut(slot)
        {
            owned.landing_bytes = owned.landing_bytes.saturating_sub(u64::from(one.landed.len));
        }
        Some(one)
    }
}
