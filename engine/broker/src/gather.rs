//! Collecting what a reader is answered: from memory at once, from disk as the reads come back, from other shards as
//! they answer.

use alloc::boxed::Box;
use alloc::vec::Vec;

use cutwater_api::{Fetched, FetchedPart, Response, Ticket};
use cutwater_log::{ColdRead, Preread, ReadHint, ReadPlan, Trimmed, trim_cold};
use cutwater_model::storage::StorageErrorKind;
use cutwater_model::{ErrorKind, MemoryRange, Now, Offset, ShardId, limits};

use crate::effect::{Effect, Effects, Pin};
use crate::message::Message;
use crate::partition::Slot;
use crate::pins::{Held, Pinned};
use crate::readers::{Home, Kind, Reader, ReaderId, nothing_of};
use crate::shard::{Purpose, Shard};

/// A reader for which memory was short looks again after so long, microseconds.
const HUNGRY_RETRY_US: u64 = 1000;

/// What was collected so far.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    /// How large the first batch may be where it is larger than the budget; 0 where it may not.
    exceed_max: u32,
    /// How large one of another shard may be: there is room for so much.
    pub(crate) remote_exceed_max: u32,
    /// The length of a first batch that is larger than that: then nothing is collected.
    wanted: u32,
    /// Other shards that are still to be asked, the next one last.
    pub(crate) to_ask: Vec<ShardId>,
    /// The next one is asked when there is room for its answer.
    pub(crate) waits_for_room: bool,
    /// Room taken for the answer of the shard that was asked and has not answered.
    pub(crate) asked: Option<u64>,
    /// Bytes that came from other shards; they take room until they are sent.
    remote_bytes: u64,
    /// What the first batch was allowed beyond the budget.
    raised: u64,
    /// The part that the larger batch is of, while it is being read.
    raised_for: Option<u32>,
    /// What is charged to the connection until the bytes are known.
    charge: u64,
    /// By part.
    pub(crate) found: Vec<(u32, FetchedPart)>,
    held: Vec<Held>,
    pub(crate) bytes: u64,
    /// How many more bytes there may be.
    budget: u64,
    /// Bytes that disk reads under way may bring; they are taken out of the budget already.
    promised: u64,
    /// Disk reads and other shards that have not answered.
    pub(crate) waiting: u32,
    reads: Vec<Option<PartRead>>,
}

/// A disk read under way for a part.
#[derive(Debug)]
struct PartRead {
    slot: Slot,
    part: u32,
    /// The pages it goes into, as they were allocated.
    buffer: MemoryRange,
    bytes_max: u32,
    /// What would have been asked for, had there been memory for it.
    wanted: u32,
    /// What it took out of the budget.
    promised: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Batches(ColdRead),
    Preread(Preread),
}

impl PartRead {
    fn goes_on_at(&self, hint: ReadHint) -> bool {
        matches!(&self.what, What::Batches(cold) if cold.goes_on_at(hint))
    }
}

impl Gather {
    /// How large a batch may be if it comes now: larger than the budget only if nothing was collected, and nothing is
    /// on its way.
    const fn exceed_max_now(&self) -> u32 {
        if self.bytes == 0 && self.promised == 0 { self.exceed_max } else { 0 }
    }

    /// Whether a batch of that length may come although it is larger than the budget. One that is too large is
    /// remembered.
    fn may_exceed_with(&mut self, bytes: u32) -> bool {
        let exceed_max = self.exceed_max_now();
        if exceed_max > 0 && bytes > exceed_max {
            self.wanted = bytes;
        }
        bytes <= exceed_max
    }

    /// What to ask the next shard for: bytes at most, and how large a first batch may be.
    pub(crate) fn question(&self) -> (u32, u32) {
        let left = u32::try_from(self.left()).unwrap_or(u32::MAX);
        let exceed_max = self.exceed_max_now().min(self.remote_exceed_max);
        (left.min(limits::SHARD_RING_BYTES / 8), exceed_max)
    }

    /// What may still be collected. What the first batch alone was allowed beyond the budget is nobody else's.
    fn left(&self) -> u64 {
        let raised = if self.bytes > 0 { self.raised } else { 0 };
        self.budget.saturating_sub(raised)
    }

    /// The first batch is larger than the budget: there is room for it, and for nothing behind it.
    fn raise_to(&mut self, bytes: u64, part: u32) {
        let raise = bytes.saturating_sub(self.budget);
        self.budget += raise;
        self.raised += raise;
        self.raised_for = Some(part);
    }

    /// The first batch has come, or does not: what is left of the room for it is nobody else's.
    fn lower_if_read(&mut self) {
        if let Some(part) = self.raised_for
            && !self.reads.iter().flatten().any(|read| read.part == part)
        {
            self.raised_for = None;
            self.budget = self.budget.saturating_sub(core::mem::take(&mut self.raised));
        }
    }

    /// Another shard has sent so many bytes.
    pub(crate) fn take_remote(&mut self, bytes: u64) {
        self.remote_bytes += bytes;
        self.bytes += bytes;
        self.budget = self.budget.saturating_sub(bytes);
    }

    /// Whether something is on its way to it: the kernel still fills memory of it, or another shard answers.
    pub(crate) fn is_expecting(&self) -> bool {
        self.asked.is_some() || self.reads.iter().any(Option::is_some)
    }
}

impl Shard {
    /// Collects what is ready for a reader, at most `bytes_max` but for one larger batch.
    ///
    /// The larger one comes only if it is the first of the whole answer (B77), and no larger than `exceed_max`.
    /// From here on the answer is charged to its connection.
    pub(crate) fn begin_gather(
        &mut self,
        id: ReaderId,
        bytes_max: u32,
        exceed_max: u32,
        now: Now,
        effects: &mut Effects,
    ) {
        let Some(mut reader) = self.readers.take(id) else { return };
        if reader.gather.is_some() {
            self.readers.put_back(reader);
            return;
        }
        let budget = u64::from(bytes_max);
        let remote_exceed_max = limits::COLLECT_BYTES_LEAST;
        let mut gather = Box::new(Gather { budget, exceed_max, remote_exceed_max, ..Gather::default() });
        if let Some(ticket) = reader.kind.ticket() {
            gather.charge = budget.max(u64::from(limits::COLLECT_BYTES_LEAST));
            self.connections.charge(ticket.connection, gather.charge);
        }
        let parts = reader.parts.len();
        for step in 0..parts {
            let index = (reader.rotation + step) % parts;
            self.gather_part(&mut reader, &mut gather, index as u32, effects);
        }
        reader.rotation = reader.rotation.wrapping_add(1) % parts.max(1);
        // Every shard is asked, so that its high watermarks and errors are in the answer too.
        gather.to_ask = reader.remotes.iter().rev().map(|remote| remote.shard).collect();
        reader.gather = Some(gather);
        self.finish_gather_if_whole(reader, now, effects);
    }

    fn gather_part(&mut self, reader: &mut Reader, gather: &mut Gather, index: u32, effects: &mut Effects) {
        let part = &mut reader.parts[index as usize];
        if part.has_ended {
            return;
        }
        match part.home {
            Home::Here(slot) => self.gather_here(reader, gather, index, slot, effects),
            Home::There(_) => {}
            Home::Nowhere => {
                let mut fetched = nothing_of(part);
                fetched.error = Some(ErrorKind::UnknownTopicOrPartition);
                gather.found.push((index, fetched));
            }
        }
    }

    fn gather_here(
        &mut self,
        reader: &mut Reader,
        gather: &mut Gather,
        index: u32,
        slot: Slot,
        effects: &mut Effects,
    ) {
        let part = &mut reader.parts[index as usize];
        let mut fetched = nothing_of(part);
        let Some(owned) = self.partitions.get_mut(slot) else { return };
        fetched.high_watermark = owned.high_watermark.offset;
        fetched.log_start = owned.log.log_start();
        let mut bytes_max = u64::from(part.wanted.bytes_max).min(gather.left()) as u32;
        let wanted_bytes = bytes_max;
        let is_first = gather.exceed_max_now() > 0 && gather.wanted == 0;
        let mut buffer = None;
        let plan = loop {
            if gather.wanted > 0 || (bytes_max == 0 && !is_first) {
                break ReadPlan::AtEnd;
            }
            let (from, visible) = (part.wanted.offset, owned.high_watermark);
            let plan = owned.log.read(&self.slab, from, part.hint, bytes_max.max(1), visible);
            let ReadPlan::Cold(cold) = &plan else { break plan };
            buffer = self.pages.allocate(cold.len + cold.suffix.map_or(0, |range| range.len));
            if buffer.is_some() || bytes_max <= limits::BLOCK_BYTES as u32 {
                break plan;
            }
            // Where memory is in pieces, a shorter read may still find room.
            owned.log.cold_done(cold);
            bytes_max /= 4;
        };
        match plan {
            // One batch more than the budget is right only for the first of an answer (B77).
            ReadPlan::Hot(hot)
                if u64::from(hot.bytes) > gather.left() && !gather.may_exceed_with(hot.bytes) =>
            {
                owned.log.unpin(hot.pin);
            }
            ReadPlan::Hot(hot) => {
                fetched.memory.extend_from_slice(&hot.ranges);
                gather.held.push(Held::Tail(slot, hot.pin));
                owned.pins += 1;
                part.wanted.offset = hot.next;
                part.hint = hot.hint;
                gather.bytes += u64::from(hot.bytes);
                gather.budget = gather.budget.saturating_sub(u64::from(hot.bytes));
                self.counters.bytes_read_hot += u64::from(hot.bytes);
            }
            ReadPlan::Cold(cold) => {
                if let Some(buffer) = buffer {
                    let promised = gather.left().min(u64::from(cold.usable));
                    let bytes_max = bytes_max.max(1);
                    let what = What::Batches(cold);
                    let wanted = wanted_bytes;
                    let read = PartRead { slot, part: index, buffer, bytes_max, wanted, promised, what };
                    self.read_part(reader, gather, read, effects);
                } else {
                    self.settle.wants_memory = true;
                    owned.log.cold_done(&cold);
                }
            }
            ReadPlan::Needs(wanted) => {
                if let Some(buffer) = self.pages.allocate(wanted.len) {
                    let promised = u64::from(bytes_max);
                    let what = What::Preread(wanted);
                    let wanted = wanted_bytes;
                    let read = PartRead { slot, part: index, buffer, bytes_max, wanted, promised, what };
                    self.read_part(reader, gather, read, effects);
                } else {
                    self.settle.wants_memory = true;
                    owned.log.preread_unneeded(&wanted);
                }
            }
            ReadPlan::AtEnd => {}
            ReadPlan::OutOfRange => fetched.error = Some(ErrorKind::OffsetOutOfRange),
            ReadPlan::Damaged { .. } => fetched.error = Some(ErrorKind::DamagedRange),
        }
        match gather.found.iter_mut().find(|(part, _)| *part == index) {
            Some((_, before)) => *before = fetched,
            None => gather.found.push((index, fetched)),
        }
    }

    fn read_part(&mut self, reader: &Reader, gather: &mut Gather, read: PartRead, effects: &mut Effects) {
        let (file, at, len) = match &read.what {
            What::Batches(cold) => (cold.file, cold.at, cold.len),
            What::Preread(first) => (first.file, first.at, first.len),
        };
        let op = self.ops.start(Purpose::Read(reader.id, gather.reads.len() as u32));
        effects.push(Effect::Read { op, file, at, memory: MemoryRange { at: read.buffer.at, len } });
        if let Some(owned) = self.partitions.get_mut(read.slot) {
            owned.ops += 1;
        }
        gather.waiting += 1;
        gather.promised += read.promised;
        gather.budget -= read.promised;
        gather.reads.push(Some(read));
        self.reads_in_flight += 1;
    }

    /// A disk read of a reader came back. The reader waits for it even if its connection is gone.
    pub(crate) fn on_read_done(
        &mut self,
        id: ReaderId,
        number: u32,
        result: Result<u32, StorageErrorKind>,
        now: Now,
        effects: &mut Effects,
    ) {
        self.reads_in_flight -= 1;
        let Some(mut reader) = self.readers.take(id) else { return };
        let Some(mut gather) = reader.gather.take() else { return };
        let read = gather.reads.get_mut(number as usize).and_then(Option::take);
        if let Some(read) = read {
            gather.waiting -= 1;
            gather.promised -= read.promised;
            gather.budget += read.promised;
            if let Some(owned) = self.partitions.get_mut(read.slot) {
                owned.ops -= 1;
            }
            self.take_read(&mut reader, &mut gather, &read, result, effects);
            gather.lower_if_read();
        }
        reader.gather = Some(gather);
        self.finish_gather_if_whole(reader, now, effects);
    }

    fn take_read(
        &mut self,
        reader: &mut Reader,
        gather: &mut Gather,
        read: &PartRead,
        result: Result<u32, StorageErrorKind>,
        effects: &mut Effects,
    ) {
        if self.partitions.get(read.slot).is_none() {
            self.pages.free(read.buffer);
            return;
        }
        match &read.what {
            What::Preread(first) => {
                self.take_preread(read.slot, first, read.buffer, result, effects);
                self.pages.free(read.buffer);
                self.gather_part(reader, gather, read.part, effects);
            }
            What::Batches(cold) => {
                let found = match result {
                    Ok(_) => self.trim(read, cold, reader.parts[read.part as usize].wanted.offset, effects),
                    Err(_) => Err(ErrorKind::DamagedRange),
                };
                if let Some(owned) = self.partitions.get_mut(read.slot) {
                    owned.log.cold_done(cold);
                }
                self.take_trimmed(reader, gather, read, found, effects);
            }
        }
    }

    fn trim(
        &mut self,
        read: &PartRead,
        cold: &ColdRead,
        from: Offset,
        effects: &mut Effects,
    ) -> Result<(Trimmed, u32), ErrorKind> {
        if let Some(suffix) = cold.suffix {
            self.slab.copy(suffix, read.buffer.at + cold.len);
        }
        let batches = MemoryRange { at: read.buffer.at + cold.skip, len: cold.usable };
        let Some(owned) = self.partitions.get_mut(read.slot) else { return Err(ErrorKind::NotReady) };
        let visible = owned.high_watermark.offset;
        match trim_cold(cold, self.slab.get(batches), from, read.bytes_max, visible) {
            Ok(trimmed) => Ok((trimmed, batches.at)),
            Err(error) => {
                self.range_is_damaged(read.slot, cold.base, &error, effects);
                Err(ErrorKind::DamagedRange)
            }
        }
    }

    fn take_trimmed(
        &mut self,
        reader: &mut Reader,
        gather: &mut Gather,
        read: &PartRead,
        found: Result<(Trimmed, u32), ErrorKind>,
        effects: &mut Effects,
    ) {
        let part = &mut reader.parts[read.part as usize];
        match found {
            // The first batch may be larger than what was asked for.
            Ok((Trimmed::Batches { len, .. }, _))
                if u64::from(len) > gather.left() && !gather.may_exceed_with(len) =>
            {
                self.pages.free(read.buffer);
            }
            Ok((Trimmed::Batches { skip, len, next, hint, .. }, at)) => {
                part.wanted.offset = next;
                part.hint = hint;
                gather.bytes += u64::from(len);
                gather.budget = gather.budget.saturating_sub(u64::from(len));
                gather.held.push(Held::Buffer(read.buffer));
                self.counters.bytes_read_cold += u64::from(len);
                if let Some((_, fetched)) = gather.found.iter_mut().find(|(part, _)| *part == read.part) {
                    fetched.memory.push(MemoryRange { at: at + skip, len });
                }
            }
            // A batch larger than the budget comes whole if it is the first (B77).
            Ok((Trimmed::NeedMore { bytes, hint }, _))
                if u64::from(bytes) > gather.left() && !gather.may_exceed_with(bytes) =>
            {
                self.pages.free(read.buffer);
                part.hint = hint;
            }
            // The same read again would bring no more. Where memory was short for it, it may later.
            Ok((Trimmed::NeedMore { bytes, hint }, _)) if bytes <= read.wanted && !read.goes_on_at(hint) => {
                self.pages.free(read.buffer);
                self.settle.wants_memory |= read.bytes_max < read.wanted;
            }
            Ok((Trimmed::NeedMore { bytes, hint }, _)) => {
                self.pages.free(read.buffer);
                part.hint = hint;
                gather.raise_to(u64::from(bytes), read.part);
                let asked = part.wanted.bytes_max;
                part.wanted.bytes_max = asked.max(bytes);
                self.gather_part(reader, gather, read.part, effects);
                reader.parts[read.part as usize].wanted.bytes_max = asked;
            }
            Ok((Trimmed::Onward { hint }, _)) => {
                self.pages.free(read.buffer);
                part.hint = hint;
                self.gather_part(reader, gather, read.part, effects);
            }
            Err(kind) => {
                self.pages.free(read.buffer);
                if let Some((_, fetched)) = gather.found.iter_mut().find(|(part, _)| *part == read.part) {
                    fetched.error = Some(kind);
                }
            }
        }
    }

    /// Answers once nothing is missing; else the reader goes on waiting.
    pub(crate) fn finish_gather_if_whole(
        &mut self,
        mut reader: Box<Reader>,
        now: Now,
        effects: &mut Effects,
    ) {
        if reader.is_ending {
            let id = reader.id;
            self.readers.put_back(reader);
            self.end_reader(id, effects);
            return;
        }
        self.ask_next_shard(&mut reader, effects);
        let is_whole =
            reader.gather.as_ref().is_some_and(|gather| gather.waiting == 0 && !gather.waits_for_room);
        let Some(mut gather) = reader.gather.take_if(|_| is_whole) else {
            self.readers.put_back(reader);
            return;
        };
        gather.found.sort_by_key(|(index, _)| *index);
        for (index, fetched) in &gather.found {
            let part = &mut reader.parts[*index as usize];
            part.ready_bytes = 0;
            part.has_ended |= fetched.error.is_some();
        }
        let mut parts: Vec<FetchedPart> =
            core::mem::take(&mut gather.found).into_iter().map(|(_, fetched)| fetched).collect();
        match reader.kind {
            Kind::Fetch { ticket, .. } => {
                let pin = self.pin(ticket, *gather, effects);
                self.drop_reader(reader, effects);
                self.answer(ticket, Response::Fetched(Fetched { parts }), pin, effects);
            }
            Kind::Shard { from, watch } => {
                for part in &mut parts {
                    for range in core::mem::take(&mut part.memory) {
                        part.bytes.extend_from_slice(self.slab.get(range));
                    }
                }
                let wanted = if gather.bytes == 0 { gather.wanted } else { 0 };
                let is_empty = gather.bytes == 0 && parts.iter().all(|part| part.error.is_none());
                self.drop_gather(*gather);
                self.send(from, &Message::Collected { watch, parts, wanted }, effects);
                if wanted > 0 {
                    // It is asked again, with room for the batch, and begins where it began.
                    let parts = reader.parts.len().max(1);
                    reader.rotation = (reader.rotation + parts - 1) % parts;
                    self.readers.put_back(reader);
                } else {
                    self.look_again_after(reader, is_empty, now, effects);
                }
            }
            Kind::Subscription { ticket, id, ref mut credit_bytes } => {
                parts.retain(|part| part.error.is_some() || !part.is_empty());
                // A batch larger than the credit leaves a debt, which the next credit pays first.
                *credit_bytes = credit_bytes.saturating_sub_unsigned(gather.bytes);
                let is_empty = parts.is_empty();
                let pin = self.pin(ticket, *gather, effects);
                if !is_empty {
                    let fetched = Fetched { parts };
                    let response = Box::new(Response::Pushed { subscription: id, fetched });
                    effects.push(Effect::Reply { ticket, response, pin });
                }
                self.look_again_after(reader, is_empty, now, effects);
            }
        }
    }

    /// A reader goes on after an answer. Where there was nothing to answer although something is ready, memory was
    /// short: it looks again a little later.
    fn look_again_after(&mut self, reader: Box<Reader>, was_empty: bool, now: Now, effects: &mut Effects) {
        if was_empty {
            effects.wake_at(now.mono_us + HUNGRY_RETRY_US);
            self.readers.hungry.push(reader.id);
            self.readers.put_back(reader);
        } else {
            self.look_again(reader, now, effects);
        }
    }

    /// Charges an answer to its connection by the bytes it has, until it is sent.
    fn pin(&mut self, ticket: Ticket, gather: Gather, effects: &mut Effects) -> Option<Pin> {
        let Gather { bytes, remote_bytes, charge, held, .. } = gather;
        self.connections.charge(ticket.connection, bytes);
        self.connections.uncharge(ticket.connection, charge, effects);
        if bytes == 0 && held.is_empty() {
            return None;
        }
        Some(self.pins.add(Pinned { connection: ticket.connection, bytes, remote_bytes, held }))
    }

    pub(crate) fn release_held(&mut self, held: Held) {
        match held {
            Held::Buffer(buffer) => self.pages.free(buffer),
            Held::Tail(slot, pin) => {
                if let Some(owned) = self.partitions.get_mut(slot) {
                    owned.log.unpin(pin);
                    owned.pins -= 1;
                }
            }
        }
    }

    /// Gives up what a connection's reader has collected.
    pub(crate) fn drop_charged_gather(&mut self, ticket: Ticket, gather: Gather, effects: &mut Effects) {
        self.connections.uncharge(ticket.connection, gather.charge, effects);
        self.drop_gather(gather);
    }

    /// Gives up what was collected; nothing may be on its way to it any more.
    pub(crate) fn drop_gather(&mut self, gather: Gather) {
        self.room.release(gather.remote_bytes);
        for held in gather.held {
            self.release_held(held);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_first_batch_was_allowed_beyond_the_budget_is_nobody_elses() {
        let mut gather = Gather { budget: 10_000, exceed_max: u32::MAX, ..Gather::default() };
        assert!(gather.may_exceed_with(48_000));
        gather.raise_to(48_000, 0);
        assert_eq!(gather.left(), 48_000);
        gather.take_remote(40_000);
        assert_eq!((gather.left(), gather.question().0), (0, 0), "nothing is left for the next one");
        let mut gather = Gather { budget: 10_000, exceed_max: u32::MAX, ..Gather::default() };
        gather.raise_to(48_000, 0);
        gather.lower_if_read();
        assert_eq!(
            gather.question().0,
            10_000,
            "it did not come, and another shard has no more room for that"
        );
        let mut gather = Gather { budget: 10_000, ..Gather::default() };
        gather.take_remote(4_000);
        assert_eq!(gather.left(), 6_000);
    }
}
