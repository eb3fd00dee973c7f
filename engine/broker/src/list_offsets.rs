//! Searches for offsets: by name at once, by time through the index and the batches it points to, elsewhere by asking.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use cutwater_api::{ListOffsets, ListOffsetsPart, ListedOffset, OffsetSpec, Response, Ticket};
use cutwater_log::{ColdRead, Preread, ReadHint, ReadPlan, TimeLookup, Trimmed, find_time, trim_cold};
use cutwater_model::storage::StorageErrorKind;
use cutwater_model::{ErrorKind, MemoryRange, Now, Offset, ShardId, TimestampMs, limits};

use crate::effect::{Effect, Effects};
use crate::message::Message;
use crate::partition::Slot;
use crate::readers::Home;
use crate::shard::{Purpose, Shard};

/// So much is read at once while batches are searched.
const SEARCH_BYTES: u32 = 128 * 1024;

/// One question, until all of its parts are answered.
#[derive(Debug)]
struct Search {
    asker: Asker,
    parts: Vec<ListOffsetsPart>,
    found: Vec<Option<ListedOffset>>,
    /// Other shards that have not answered.
    remotes: u32,
    read: Option<Read>,
}

#[derive(Clone, Copy, Debug)]
enum Asker {
    Here(Ticket),
    There(ShardId, u64),
}

/// The disk read that a search waits for; one part is searched at a time.
#[derive(Debug)]
struct Read {
    slot: Slot,
    part: usize,
    buffer: MemoryRange,
    from: Offset,
    what: What,
}

#[derive(Debug)]
enum What {
    Batches(ColdRead),
    Preread(Preread),
}

/// All searches under way.
#[derive(Debug, Default)]
pub(crate) struct Searches {
    next: u64,
    by_number: BTreeMap<u64, Box<Search>>,
}

impl Shard {
    pub(crate) fn on_list_offsets(&mut self, ticket: Ticket, list: ListOffsets, effects: &mut Effects) {
        if list.parts.is_empty() || list.parts.len() > limits::FETCH_PARTITIONS_MAX as usize {
            self.answer(ticket, Response::Refused(ErrorKind::InvalidRequest), None, effects);
            return;
        }
        self.search(Asker::Here(ticket), list.parts, effects);
    }

    /// Another shard asks for one of its connections.
    pub(crate) fn on_remote_search(
        &mut self,
        from: ShardId,
        number: u64,
        parts: Vec<ListOffsetsPart>,
        effects: &mut Effects,
    ) {
        self.search(Asker::There(from, number), parts, effects);
    }

    fn search(&mut self, asker: Asker, parts: Vec<ListOffsetsPart>, effects: &mut Effects) {
        let number = self.searches.next;
        self.searches.next += 1;
        let found = vec![None; parts.len()];
        let mut search = Box::new(Search { asker, parts, found, remotes: 0, read: None });
        for shard in (0..self.config.shards).map(ShardId) {
            let there = Home::There(shard);
            let asked: Vec<_> =
                search.parts.iter().copied().filter(|part| self.home_of(part.partition) == there).collect();
            if !asked.is_empty() {
                search.remotes += 1;
                self.send(shard, &Message::ListOffsets { number, parts: asked }, effects);
            }
        }
        self.go_on(number, search, effects);
    }

    /// Another shard has answered.
    pub(crate) fn on_remote_found(&mut self, number: u64, found: Vec<ListedOffset>, effects: &mut Effects) {
        let Some(mut search) = self.searches.by_number.remove(&number) else { return };
        search.remotes = search.remotes.saturating_sub(1);
        for one in found {
            for (part, slot) in search.parts.iter().zip(&mut search.found) {
                if part.partition == one.partition && slot.is_none() {
                    *slot = Some(one);
                    break;
                }
            }
        }
        self.go_on(number, search, effects);
    }

    /// Answers part after part until one waits for the disk; answers the whole when nothing is missing.
    fn go_on(&mut self, number: u64, mut search: Box<Search>, effects: &mut Effects) {
        for index in 0..search.parts.len() {
            if search.read.is_some() {
                break;
            }
            if search.found[index].is_none() {
                self.search_part(number, &mut search, index, None, effects);
            }
        }
        if search.read.is_some() || search.remotes > 0 {
            self.searches.by_number.insert(number, search);
            return;
        }
        let unknown = |part: &ListOffsetsPart| refused(part, ErrorKind::UnknownTopicOrPartition);
        let found =
            search.parts.iter().zip(search.found).map(|(part, found)| found.unwrap_or_else(|| unknown(part)));
        let found: Vec<_> = found.collect();
        match search.asker {
            Asker::Here(ticket) => self.answer(ticket, Response::ListedOffsets(found), None, effects),
            Asker::There(shard, number) => {
                self.send(shard, &Message::ListedOffsets { number, found }, effects)
            }
        }
    }

    fn search_part(
        &mut self,
        number: u64,
        search: &mut Search,
        index: usize,
        resume: Option<Offset>,
        effects: &mut Effects,
    ) {
        let part = search.parts[index];
        let slot = match self.home_of(part.partition) {
            Home::Here(slot) => slot,
            Home::There(_) => return,
            Home::Nowhere => {
                search.found[index] = Some(refused(&part, ErrorKind::UnknownTopicOrPartition));
                return;
            }
        };
        let Some(owned) = self.partitions.get_mut(slot) else { return };
        let end = owned.high_watermark.offset;
        match part.spec {
            OffsetSpec::Earliest => search.found[index] = Some(found_at(&part, owned.log.log_start(), None)),
            OffsetSpec::Latest => search.found[index] = Some(found_at(&part, end, None)),
            OffsetSpec::At(time) if time.0 < 0 => {
                search.found[index] = Some(refused(&part, ErrorKind::InvalidRequest));
            }
            OffsetSpec::At(time) => self.search_time(number, search, index, slot, time, resume, effects),
        }
    }

    #[allow(clippy::too_many_arguments, reason = "one step of a search, with all that it is about")]
    fn search_time(
        &mut self,
        number: u64,
        search: &mut Search,
        index: usize,
        slot: Slot,
        time: TimestampMs,
        resume: Option<Offset>,
        effects: &mut Effects,
    ) {
        let part = search.parts[index];
        let Some(owned) = self.partitions.get_mut(slot) else { return };
        let visible = owned.high_watermark;
        let mut from = match resume
            .map_or_else(|| owned.log.locate_time(time), |offset| TimeLookup::ScanFrom { offset })
        {
            TimeLookup::ScanFrom { offset } => offset,
            TimeLookup::None => {
                search.found[index] = Some(found_at(&part, visible.offset, None));
                return;
            }
            TimeLookup::Needs(wanted) => {
                self.read_for_search(
                    number,
                    search,
                    index,
                    slot,
                    part_offset(&part),
                    What::Preread(wanted),
                    effects,
                );
                return;
            }
        };
        let mut hint = ReadHint::default();
        loop {
            let Some(owned) = self.partitions.get_mut(slot) else { return };
            match owned.log.read(&self.slab, from, hint, SEARCH_BYTES, visible) {
                ReadPlan::Hot(hot) => {
                    let mut bytes = Vec::with_capacity(hot.bytes as usize);
                    for range in hot.ranges.iter() {
                        bytes.extend_from_slice(self.slab.get(*range));
                    }
                    owned.log.unpin(hot.pin);
                    if let Some((offset, timestamp)) = find_time(&bytes, time) {
                        search.found[index] = Some(found_at(&part, offset, Some(timestamp)));
                        return;
                    }
                    (from, hint) = (hot.next, hot.hint);
                }
                ReadPlan::Cold(cold) => {
                    self.read_for_search(number, search, index, slot, from, What::Batches(cold), effects);
                    return;
                }
                ReadPlan::Needs(wanted) => {
                    self.read_for_search(number, search, index, slot, from, What::Preread(wanted), effects);
                    return;
                }
                ReadPlan::AtEnd | ReadPlan::OutOfRange => {
                    search.found[index] = Some(found_at(&part, visible.offset, None));
                    return;
                }
                ReadPlan::Damaged { .. } => {
                    search.found[index] = Some(refused(&part, ErrorKind::DamagedRange));
                    return;
                }
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "one step of a search, with all that it is about")]
    fn read_for_search(
        &mut self,
        number: u64,
        search: &mut Search,
        part: usize,
        slot: Slot,
        from: Offset,
        what: What,
        effects: &mut Effects,
    ) {
        let (file, at, len, room) = match &what {
            What::Batches(cold) => {
                (cold.file, cold.at, cold.len, cold.len + cold.suffix.map_or(0, |range| range.len))
            }
            What::Preread(first) => (first.file, first.at, first.len, first.len),
        };
        let Some(owned) = self.partitions.get_mut(slot) else { return };
        let Some(buffer) = self.pages.allocate(room) else {
            match what {
                What::Batches(cold) => owned.log.cold_done(&cold),
                What::Preread(first) => owned.log.preread_unneeded(&first),
            }
            self.settle.wants_memory = true;
            search.found[part] = Some(refused(&search.parts[part], ErrorKind::NotReady));
            return;
        };
        owned.ops += 1;
        self.reads_in_flight += 1;
        let op = self.ops.start(Purpose::Search(number));
        effects.push(Effect::Read { op, file, at, memory: MemoryRange { at: buffer.at, len } });
        search.read = Some(Read { slot, part, buffer, from, what });
    }

    /// The disk read of a search came back.
    pub(crate) fn on_search_read(
        &mut self,
        number: u64,
        result: Result<u32, StorageErrorKind>,
        _now: Now,
        effects: &mut Effects,
    ) {
        self.reads_in_flight -= 1;
        let Some(mut search) = self.searches.by_number.remove(&number) else { return };
        let Some(read) = search.read.take() else { return };
        let resume = self.take_search_read(&mut search, &read, result, effects);
        self.pages.free(read.buffer);
        if search.found[read.part].is_none() {
            self.search_part(number, &mut search, read.part, resume, effects);
        }
        self.go_on(number, search, effects);
    }

    /// Looks through what was read; returns where to go on if that was not the end.
    fn take_search_read(
        &mut self,
        search: &mut Search,
        read: &Read,
        result: Result<u32, StorageErrorKind>,
        effects: &mut Effects,
    ) -> Option<Offset> {
        let part = search.parts[read.part];
        let Some(owned) = self.partitions.get_mut(read.slot) else {
            search.found[read.part] = Some(refused(&part, ErrorKind::UnknownTopicOrPartition));
            return None;
        };
        owned.ops -= 1;
        let cold = match &read.what {
            What::Preread(first) => {
                self.take_preread(read.slot, first, read.buffer, result, effects);
                return (read.from.0 >= 0).then_some(read.from);
            }
            What::Batches(cold) => cold,
        };
        owned.log.cold_done(cold);
        let OffsetSpec::At(time) = part.spec else { return None };
        if result.is_err() {
            search.found[read.part] = Some(refused(&part, ErrorKind::DamagedRange));
            return None;
        }
        let visible = owned.high_watermark.offset;
        if let Some(suffix) = cold.suffix {
            self.slab.copy(suffix, read.buffer.at + cold.len);
        }
        let bytes = self.slab.get(MemoryRange { at: read.buffer.at + cold.skip, len: cold.usable });
        match trim_cold(cold, bytes, read.from, SEARCH_BYTES, visible) {
            Ok(Trimmed::Batches { skip, len, next, .. }) => {
                match find_time(&bytes[skip as usize..][..len as usize], time) {
                    Some((offset, timestamp)) => {
                        search.found[read.part] = Some(found_at(&part, offset, Some(timestamp)));
                        None
                    }
                    None => Some(next),
                }
            }
            // Only a batch larger than a search reads at once comes here; its first record is near enough to say.
            Ok(Trimmed::NeedMore { .. } | Trimmed::Onward { .. }) => {
                search.found[read.part] = Some(found_at(&part, read.from, None));
                None
            }
            Err(error) => {
                self.range_is_damaged(read.slot, cold.base, &error, effects);
                search.found[read.part] = Some(refused(&part, ErrorKind::DamagedRange));
                None
            }
        }
    }
}

/// A search by time that waits for the first index has no offset to go on at.
const fn part_offset(_part: &ListOffsetsPart) -> Offset {
    Offset(-1)
}

const fn found_at(part: &ListOffsetsPart, offset: Offset, timestamp: Option<TimestampMs>) -> ListedOffset {
    ListedOffset { partition: part.partition, error: None, offset, timestamp }
}

const fn refused(part: &ListOffsetsPart, error: ErrorKind) -> ListedOffset {
    ListedOffset { partition: part.partition, error: Some(error), offset: Offset(-1), timestamp: None }
}
