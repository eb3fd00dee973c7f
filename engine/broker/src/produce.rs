//! Appending: from a batch as it came to bytes in the tail and an entry in the open group.
//!
//! The way of a small batch: checked in one pass, stamped and copied once into the partition's tail pages and once
//! into the open group. A large one goes straight from the tail to its segment (`bulk.rs`). What finds no room
//! waits (`deferred.rs`).

use cutwater_api::{ConnectionId, Produce, Produced, RequiredAcks, Ticket};
use cutwater_journal::{EntryKind, Sequence};
use cutwater_log::{Appended, Landed, LogEnd, NoRoom, ProducerBatch, ProducerVerdict};
use cutwater_model::batch::{self, Header, Limits, TimestampPatch};
use cutwater_model::limits::{BULKS_IN_FLIGHT_MAX, MEMORY_AHEAD_RECORDS_MAX};
use cutwater_model::topic::{Durability, TimestampType};
use cutwater_model::{ErrorKind, Now, Offset, ShardId, Slab, TimestampMs};

use crate::bulk::are_whole;
use crate::effect::{Ack, Effects};
use crate::message::Message;
use crate::partition::{Owned, Slot, Stage};
use crate::shard::Shard;

/// Who waits for the answer to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asker {
    /// The request.
    pub(crate) ticket: Ticket,
    /// Where it came in.
    pub(crate) origin: Origin,
}

/// How a batch came to this shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The shard its connection belongs to.
    pub(crate) shard: ShardId,
    /// Whether the peer is answered at all.
    pub(crate) wants_answer: bool,
    /// What its own shard has charged to the connection for a batch that it sent on; 0 for a batch of this shard. A
    /// batch that was sent on is always answered to that shard.
    pub(crate) forwarded_bytes: u32,
}

impl Asker {
    /// A copy for what is rarely done. What others are shown has to lie in memory, and on the way of nearly all batches the
    /// asker shall not.
    #[inline(always)]
    fn apart(self) -> Self {
        put_together(self.ticket.connection, self.ticket.correlation, self.origin)
    }

    const fn is_silent(&self) -> bool {
        !self.origin.wants_answer && self.origin.forwarded_bytes == 0
    }
}

/// Each part comes in a register.
#[cold]
#[inline(never)]
const fn put_together(connection: ConnectionId, correlation: u32, origin: Origin) -> Asker {
    Asker { ticket: Ticket { connection, correlation }, origin }
}

/// A batch that is appended and whose answer waits for durability.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) asker: Asker,
    pub(crate) slot: Slot,
    pub(crate) bytes: u32,
    pub(crate) base_offset: Offset,
    pub(crate) append_time: Option<TimestampMs>,
    /// Set for topics of durability `memory`: the answer has left already.
    pub(crate) is_answered: bool,
}

/// A batch as it came.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Incoming<'a> {
    /// In memory of the connection's, or of a copy.
    Received(&'a [u8]),
    /// In pages where it may stay (`landing.rs`).
    Landed(Landed),
}

impl Incoming<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Received(bytes) => bytes.len(),
            Self::Landed(landed) => landed.len as usize,
        }
    }

    fn bytes<'b>(&'b self, slab: &'b Slab) -> &'b [u8] {
        match self {
            Self::Received(bytes) => bytes,
            Self::Landed(landed) => slab.get(landed.batch()),
        }
    }
}

/// Why a batch was not appended.
pub(crate) enum Refusal {
    /// It never will be.
    Final(ErrorKind),
    /// There is no room for it now.
    NoRoomNow,
}

impl Shard {
    /// Takes a produce request of one of this shard's connections, as [`Shard::handle`] would.
    ///
    /// All of the way of a small batch is put into the caller's loop: what is handed from function to function in memory,
    /// the processor waits for behind the stores before it, and those miss its caches where partitions are many.
    #[inline(always)]
    pub fn produce(&mut self, ticket: Ticket, produce: &Produce<'_>, now: Now, effects: &mut Effects) {
        self.counters.requests += 1;
        let wants_answer = produce.acks != RequiredAcks::None;
        if wants_answer {
            self.connections.request_begins(ticket.connection, effects);
        }
        let origin = Origin { shard: self.config.shard, wants_answer, forwarded_bytes: 0 };
        let asker = Asker { ticket, origin };
        match self.partitions.slot_of(produce.partition) {
            Some(slot) => self.take_batch(asker, slot, Incoming::Received(produce.batch), now, effects),
            None => self.forward_produce(asker.apart(), produce, effects),
        }
    }

    /// A batch for a partition of this shard, from whichever shard's connection it came.
    pub(crate) fn produce_here(
        &mut self,
        asker: Asker,
        slot: Slot,
        batch: Incoming<'_>,
        now: Now,
        effects: &mut Effects,
    ) {
        self.take_batch(asker, slot, batch, now, effects);
    }

    #[inline(always)]
    fn take_batch(&mut self, asker: Asker, slot: Slot, batch: Incoming<'_>, now: Now, effects: &mut Effects) {
        let has_queue = self.partitions.get(slot).is_none_or(|owned| !owned.deferred.is_empty());
        let result =
            if has_queue { Err(Refusal::NoRoomNow) } else { self.append(asker, slot, batch, now, effects) };
        match result {
            Ok(()) => {}
            Err(Refusal::NoRoomNow) => self.defer(asker.apart(), slot, batch, effects),
            Err(Refusal::Final(kind)) => self.refuse_batch(asker.apart(), batch, kind, effects),
        }
    }

    #[inline(always)]
    pub(crate) fn append(
        &mut self,
        asker: Asker,
        slot: Slot,
        batch: Incoming<'_>,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let Some(owned) = self.partitions.get_mut(slot) else {
            return Err(Refusal::Final(ErrorKind::UnknownTopicOrPartition));
        };
        match owned.stage {
            Stage::Open => {}
            // A stop does not wait for a folder that the disk refuses.
            Stage::Opening if self.is_stopping => return Err(Refusal::Final(ErrorKind::NotReady)),
            Stage::Opening => return Err(Refusal::NoRoomNow),
            Stage::Fenced => return Err(Refusal::Final(ErrorKind::StorageError)),
            Stage::Deleting => return Err(Refusal::Final(ErrorKind::UnknownTopicOrPartition)),
        }
        if self.commit.has_failed {
            return Err(Refusal::Final(ErrorKind::StorageError));
        }
        if self.is_stopping {
            // The last checkpoint says that nothing was shown beyond it.
            return Err(Refusal::Final(ErrorKind::NotReady));
        }
        let topic = owned.config;
        let limits = Limits {
            batch_bytes_max: topic.batch_bytes_max,
            timestamp_type: topic.timestamp_type,
            now: now.wall,
        };
        let bytes = batch.bytes(&self.slab);
        let verified = batch::verify(bytes, &limits);
        let summary = match &verified {
            Ok(summary) => summary,
            Err(error) => return Err(Refusal::Final(error.kind())),
        };
        if summary.producer_id.is_some() {
            let numbered = Header::read(bytes).ok().and_then(|header| ProducerBatch::of(&header));
            match numbered.map(|numbered| owned.log.check_producer(&numbered)) {
                None | Some(ProducerVerdict::Accept) => {}
                Some(ProducerVerdict::Duplicate { base_offset, .. }) => {
                    self.answer_duplicate(asker.apart(), slot, base_offset, effects)?;
                    self.give_back(batch);
                    return Ok(());
                }
                Some(ProducerVerdict::Refused(kind)) => return Err(Refusal::Final(kind)),
            }
        }
        if topic.durability == Durability::Memory {
            check_ahead(owned, i64::from(summary.record_count))?;
        }
        let is_small = batch.len() < self.config.bulk_bytes_least as usize;
        // B2: an entry that carries its batch says that those before it are whole.
        let must_wait =
            if is_small { !are_whole(&owned.bulks) } else { owned.bulks.len() >= BULKS_IN_FLIGHT_MAX };
        if must_wait {
            return Err(Refusal::NoRoomNow);
        }
        if is_small && !self.commit.make_room(&self.slab, batch.len(), now) {
            self.submit_groups(now, effects);
            if !self.commit.make_room(&self.slab, batch.len(), now) {
                return Err(Refusal::NoRoomNow);
            }
        }
        let stamps_time = topic.timestamp_type == TimestampType::LogAppend;
        if let Incoming::Received(bytes) = batch
            && is_small
            && !stamps_time
            && summary.max_timestamp_is_true
            && topic.durability == Durability::Disk
        {
            return self.place_small(asker, slot, bytes, now);
        }
        let true_timestamp = (!summary.max_timestamp_is_true).then_some(summary.max_timestamp);
        self.place(asker.apart(), slot, batch, true_timestamp, now, effects)
    }

    /// Everything was checked and the journal has room: the batch goes into the tail and on its way to the disk. The way
    /// of nearly all small ones.
    #[inline(always)]
    fn place_small(&mut self, asker: Asker, slot: Slot, bytes: &[u8], now: Now) -> Result<(), Refusal> {
        let Some(owned) = self.partitions.get_mut(slot) else { return Err(Refusal::NoRoomNow) };
        let appended = match owned.log.append(&mut self.slab, &mut self.pages, bytes, now.wall) {
            Ok(appended) => appended,
            Err(no_room) => return Err(self.on_no_room(slot, no_room)),
        };
        self.counters.batches_appended += 1;
        self.counters.records_appended += (appended.end.offset.0 - appended.base_offset.0) as u64;
        self.counters.bytes_appended += u64::from(appended.len);
        self.journal_batch(slot, bytes, &appended);
        self.commit.answer_later(Pending {
            asker,
            slot,
            bytes: appended.len,
            base_offset: appended.base_offset,
            append_time: None,
            is_answered: false,
        });
        self.note_dirty(slot);
        Ok(())
    }

    /// The same for any batch: one that is large, gets another timestamp, or is answered at once.
    #[inline(never)]
    fn place(
        &mut self,
        asker: Asker,
        slot: Slot,
        batch: Incoming<'_>,
        true_timestamp: Option<TimestampMs>,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let Some(owned) = self.partitions.get_mut(slot) else { return Err(Refusal::NoRoomNow) };
        let append_time = (owned.config.timestamp_type == TimestampType::LogAppend).then_some(now.wall);
        let patch = match append_time {
            Some(time) => Some(TimestampPatch::AppendTime(time)),
            None => true_timestamp.map(TimestampPatch::MaxTimestamp),
        };
        let Some(patch) = patch else {
            return self.place_patched(asker, slot, batch, None, now, effects);
        };
        match batch {
            Incoming::Landed(landed) => {
                batch::patch_timestamps(self.slab.get_mut(landed.batch()), patch);
                self.place_patched(asker, slot, batch, append_time, now, effects)
            }
            Incoming::Received(bytes) => {
                let mut patched = core::mem::take(&mut self.scratch);
                patched.clear();
                patched.extend_from_slice(bytes);
                batch::patch_timestamps(&mut patched, patch);
                let batch = Incoming::Received(&patched);
                let result = self.place_patched(asker, slot, batch, append_time, now, effects);
                self.scratch = patched;
                result
            }
        }
    }

    fn place_patched(
        &mut self,
        asker: Asker,
        slot: Slot,
        batch: Incoming<'_>,
        append_time: Option<TimestampMs>,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let Some(owned) = self.partitions.get_mut(slot) else { return Err(Refusal::NoRoomNow) };
        let (slab, pages) = (&mut self.slab, &mut self.pages);
        let result = match batch {
            Incoming::Received(bytes) => owned.log.append(slab, pages, bytes, now.wall),
            Incoming::Landed(landed) => owned.log.append_landed(slab, pages, landed, now.wall),
        };
        let appended = match result {
            Ok(appended) => appended,
            Err(no_room) => return Err(self.on_no_room(slot, no_room)),
        };
        let is_answered = owned.config.durability == Durability::Memory;
        let pending = Pending {
            asker,
            slot,
            bytes: appended.len,
            base_offset: appended.base_offset,
            append_time,
            is_answered: false,
        };
        self.counters.batches_appended += 1;
        self.counters.records_appended += (appended.end.offset.0 - appended.base_offset.0) as u64;
        self.counters.bytes_appended += u64::from(appended.len);
        if is_answered {
            self.answer_from_memory(&pending, &appended, effects);
        }
        let pending = Pending { is_answered, ..pending };
        if let Incoming::Received(bytes) = batch
            && bytes.len() < self.config.bulk_bytes_least as usize
        {
            self.journal_batch(slot, bytes, &appended);
            self.commit.answer_later(pending);
            self.note_dirty(slot);
        } else {
            self.start_bulk(slot, &appended, pending, now, effects);
        }
        Ok(())
    }

    /// Copies a small batch into the open group, with the stamps it carries in the tail.
    #[inline(always)]
    fn journal_batch(&mut self, slot: Slot, bytes: &[u8], appended: &Appended) {
        let Some(owned) = self.partitions.get_mut(slot) else { return };
        let head = owned.entry_head(EntryKind::Data, appended);
        let end = appended.end;
        let copy = self.commit.push(&mut self.slab, &head, &[bytes], slot, &mut owned.mark, end);
        batch::stamp(self.slab.get_mut(copy), appended.base_offset, owned.log.epoch());
    }

    #[cold]
    fn on_no_room(&mut self, slot: Slot, no_room: NoRoom) -> Refusal {
        match no_room {
            NoRoom::Memory => {
                self.settle.wants_memory = true;
                Refusal::NoRoomNow
            }
            NoRoom::SegmentSpace => {
                self.files.wants_space(slot);
                if self.files.is_full { Refusal::Final(ErrorKind::DiskFull) } else { Refusal::NoRoomNow }
            }
            NoRoom::Bulk => Refusal::NoRoomNow,
            NoRoom::TooLarge { .. } => Refusal::Final(ErrorKind::RecordListTooLarge),
            NoRoom::Fenced => Refusal::Final(ErrorKind::StorageError),
            NoRoom::NotABatch => Refusal::Final(ErrorKind::CorruptMessage),
        }
    }

    /// A retry of a batch that the window remembers. If the first try is not durable yet, neither is the answer.
    #[cold]
    fn answer_duplicate(
        &mut self,
        asker: Asker,
        slot: Slot,
        base_offset: Offset,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let Some(owned) = self.partitions.get(slot) else { return Err(Refusal::NoRoomNow) };
        if base_offset >= owned.high_watermark.offset {
            return Err(Refusal::NoRoomNow);
        }
        self.counters.batches_duplicate += 1;
        let pending = Pending { asker, slot, bytes: 0, base_offset, append_time: None, is_answered: false };
        self.answer_produced(&pending, effects);
        Ok(())
    }

    /// A topic of durability `memory` is answered, and shows the batch, at once.
    fn answer_from_memory(&mut self, pending: &Pending, appended: &Appended, effects: &mut Effects) {
        if let Some(owned) = self.partitions.get_mut(pending.slot) {
            owned.high_watermark = owned.high_watermark.max(appended.end);
        }
        self.wake(pending.slot);
        self.answer_produced(pending, effects);
    }

    /// All of a partition up to `end` is durable by the groups up to `sequence`.
    #[inline]
    pub(crate) fn partition_durable(&mut self, slot: Slot, end: LogEnd, sequence: Sequence) {
        let Some(owned) = self.partitions.get_mut(slot) else { return };
        // The group may hold a reference to a batch that is not whole yet: then it is still needed.
        let needed = owned.needed_from();
        let sequence = needed.map_or(sequence, |needed| sequence.min(Sequence(needed.0 - 1)));
        owned.log.set_durable(end, sequence.0);
        owned.high_watermark = owned.high_watermark.max(end);
        // A large batch that begins a segment waits for the last block of the one before, which is written once it is
        // durable.
        if owned.is_unsettled || owned.log.is_bulk_waiting() {
            self.settle.write_back(slot, owned);
        }
        self.wake(slot);
    }

    /// Somebody may be waiting for more of this partition.
    #[inline]
    fn wake(&mut self, slot: Slot) {
        if let Some(owned) = self.partitions.get_mut(slot)
            && !owned.watchers.is_empty()
            && !owned.is_woken
        {
            owned.is_woken = true;
            self.woken.push(slot);
        }
    }

    /// Answers a batch whose promise is kept, unless that was done.
    #[inline]
    pub(crate) fn answer_produced(&mut self, pending: &Pending, effects: &mut Effects) {
        self.counters.bytes_acknowledged += u64::from(pending.bytes);
        if pending.is_answered || pending.asker.is_silent() {
            return;
        }
        let log_start = self.partitions.get(pending.slot).map_or(Offset(0), |owned| owned.log.log_start());
        let produced = Produced {
            error: None,
            base_offset: pending.base_offset,
            append_time: pending.append_time,
            log_start,
        };
        self.send_answer(pending.asker, produced, effects);
    }

    /// Tells that a batch was not appended.
    #[cold]
    pub(crate) fn refuse(&mut self, asker: Asker, kind: ErrorKind, effects: &mut Effects) {
        self.counters.batches_refused += 1;
        if !asker.is_silent() {
            let produced = Produced {
                error: Some(kind),
                base_offset: Offset(-1),
                append_time: None,
                log_start: Offset(-1),
            };
            self.send_answer(asker, produced, effects);
        }
    }

    #[inline]
    fn send_answer(&mut self, asker: Asker, produced: Produced, effects: &mut Effects) {
        let Asker { ticket, origin: Origin { shard, wants_answer, forwarded_bytes } } = asker;
        if shard == self.config.shard {
            self.connections.request_ends(ticket.connection, effects);
            effects.acks.push(Ack { ticket, produced });
        } else {
            let message = Message::Produced { ticket, wants_answer, bytes: forwarded_bytes, produced };
            self.send(shard, &message, effects);
        }
    }
}

/// A partition that is acked from memory shows records before they are durable. How many is bounded, so that the next
/// life can go on behind all of them (DESIGN.md section 1, promise 3).
#[inline]
fn check_ahead(owned: &Owned, records: i64) -> Result<(), Refusal> {
    let ahead = owned.log.end().offset.0 - owned.log.durable().offset.0;
    if records > MEMORY_AHEAD_RECORDS_MAX {
        Err(Refusal::Final(ErrorKind::RecordListTooLarge))
    } else if ahead + records > MEMORY_AHEAD_RECORDS_MAX {
        Err(Refusal::NoRoomNow)
    } else {
        Ok(())
    }
}
