//! Group commit: entries are gathered, written as groups, and answered when durable (J2, J4).
//!
//! While one group is on its way to the disk the next one gathers what arrives, so under load the flush is shared
//! and without load nobody waits for company.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use cutwater_journal::{EntryHead, GroupBuilder, Journal, JournalWrite, Sequence};
use cutwater_log::LogEnd;
use cutwater_model::storage::StorageErrorKind;
use cutwater_model::{ErrorKind, FileName, MemoryRange, Now, Slab};

use crate::effect::{Effect, Effects};
use crate::partition::Slot;
use crate::produce::Pending;
use crate::shard::{Purpose, Shard};

/// How far a partition gets when a group is durable.
#[derive(Clone, Copy, Debug)]
struct Touched {
    slot: Slot,
    end: LogEnd,
}

/// What follows when a group is durable, in the order of its entries.
#[derive(Debug)]
enum Due {
    /// A batch that the group carries is answered.
    Answer(Pending),
    /// The reference to a large batch, by its number, is durable (`bulk.rs`).
    Reference(Slot, u32),
}

/// One group from its first entry to its flush.
#[derive(Debug, Default)]
struct Group {
    /// Counts groups as they are opened.
    number: u64,
    buffer: MemoryRange,
    builder: GroupBuilder,
    sequence: Sequence,
    due: Vec<Due>,
    /// Whether there are references among what is due.
    has_references: bool,
    touched: Vec<Touched>,
    opened_us: u64,
    submitted_us: u64,
}

/// The groups of one shard.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) journal: Journal,
    /// Counts groups as they are opened, for [`Mark`].
    number: u64,
    open: Option<Group>,
    closed: VecDeque<Group>,
    flying: VecDeque<Group>,
    free: Vec<Group>,
    /// The journal has no room until a checkpoint frees a file.
    pub(crate) is_full: bool,
    /// Bytes of groups submitted, and how many of them when the last checkpoint began.
    pub(crate) bytes_submitted: u64,
    pub(crate) bytes_at_checkpoint: u64,
    /// A write or flush of the journal failed; nothing is written any more (E2).
    pub(crate) has_failed: bool,
}

impl Commit {
    pub(crate) fn new(journal: Journal, buffers: impl IntoIterator<Item = MemoryRange>) -> Self {
        let free = buffers.into_iter().map(|buffer| Group { buffer, ..Group::default() }).collect();
        Self {
            journal,
            number: 0,
            open: None,
            closed: VecDeque::new(),
            flying: VecDeque::new(),
            free,
            is_full: false,
            bytes_submitted: 0,
            bytes_at_checkpoint: 0,
            has_failed: false,
        }
    }

    /// Whether an entry of so many payload bytes finds room; closes a group and opens the next for it.
    #[inline]
    pub(crate) fn make_room(&mut self, slab: &Slab, payload_bytes: usize, now: Now) -> bool {
        if let Some(open) = &self.open {
            if open.builder.room() >= payload_bytes {
                return true;
            }
            self.closed.extend(self.open.take());
        }
        let Some(mut group) = self.free.pop() else { return false };
        group.builder.begin(slab.get(group.buffer));
        group.opened_us = now.mono_us;
        self.number += 1;
        group.number = self.number;
        let fits = group.builder.room() >= payload_bytes;
        self.open = Some(group);
        fits
    }

    /// Writes an entry into the open group, which has room for it, and says where its payload is. The partition has
    /// reached `end` when it is durable.
    #[inline(always)]
    pub(crate) fn push(
        &mut self,
        slab: &mut Slab,
        head: &EntryHead,
        payload: &[&[u8]],
        slot: Slot,
        mark: &mut Mark,
        end: LogEnd,
    ) -> MemoryRange {
        let Some(open) = &mut self.open else { return MemoryRange::default() };
        let pushed = open.builder.push(slab.get_mut(open.buffer), head, payload);
        debug_assert!(pushed.is_some(), "the room was made before");
        if mark.group == self.number {
            open.touched[mark.index as usize].end = end;
        } else {
            *mark = Mark { group: self.number, index: open.touched.len() as u32 };
            open.touched.push(Touched { slot, end });
        }
        let payload = pushed.map(|at| (open.buffer.at + at.payload_at, at.payload_bytes));
        payload.map_or_else(MemoryRange::default, |(at, len)| MemoryRange { at, len })
    }

    /// Writes the reference to a large batch into the open group, which has room for it; says that group's number. Whether
    /// the partition has reached the batch's end when it is durable depends on the batch too.
    pub(crate) fn push_reference(
        &mut self,
        slab: &mut Slab,
        head: &EntryHead,
        payload: &[&[u8]],
        slot: Slot,
        bulk: u32,
    ) -> u64 {
        if let Some(open) = &mut self.open {
            let pushed = open.builder.push(slab.get_mut(open.buffer), head, payload);
            debug_assert!(pushed.is_some(), "the room was made before");
            open.due.push(Due::Reference(slot, bulk));
            open.has_references = true;
        }
        self.number
    }

    /// The answer to a batch waits for the open group.
    #[inline(always)]
    pub(crate) fn answer_later(&mut self, pending: Pending) {
        if let Some(open) = &mut self.open {
            open.due.push(Due::Answer(pending));
        }
    }

    /// The number of the oldest group that is not durable yet and has entries.
    pub(crate) fn oldest_number(&self) -> Option<u64> {
        let open = self.open.as_ref().filter(|open| !open.builder.is_empty());
        self.flying.front().or_else(|| self.closed.front()).or(open).map(|group| group.number)
    }

    /// Whether anything waits to become durable.
    pub(crate) fn is_idle(&self) -> bool {
        self.flying.is_empty()
            && self.closed.is_empty()
            && self.open.as_ref().is_none_or(|open| open.builder.is_empty())
    }

    fn next_to_submit(&mut self, bytes_eager: u32) -> Option<Group> {
        if let Some(closed) = self.closed.pop_front() {
            return Some(closed);
        }
        let open = self.open.as_ref()?;
        let is_due = self.flying.is_empty() || open.builder.bytes() >= bytes_eager;
        if open.builder.is_empty() || !is_due {
            return None;
        }
        self.open.take()
    }
}

/// Where a partition stands in the open group, so that it is listed there once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mark {
    group: u64,
    index: u32,
}

impl Mark {
    /// The last group with an entry of the partition; 0 for none.
    pub(crate) const fn group(self) -> u64 {
        self.group
    }
}

impl Shard {
    /// Submits what may be submitted: closed groups, and the open one when no other is in flight or it has grown.
    pub(crate) fn submit_groups(&mut self, now: Now, effects: &mut Effects) {
        if self.commit.has_failed {
            return;
        }
        while self.commit.flying.len() < self.config.groups_in_flight_max && self.commit.journal.can_submit()
        {
            let Some(mut group) = self.commit.next_to_submit(self.config.group_bytes_eager) else { return };
            let buffer = self.slab.get_mut(group.buffer);
            let submission = match self.commit.journal.submit(&mut group.builder, buffer) {
                Ok(submission) => submission,
                Err(_full) => {
                    self.commit.is_full = true;
                    self.commit.closed.push_front(group);
                    return;
                }
            };
            self.commit.is_full = false;
            group.sequence = submission.group.sequence;
            group.submitted_us = now.mono_us;
            self.commit.bytes_submitted += u64::from(submission.group.bytes);
            self.counters.groups += 1;
            self.counters.group_bytes += u64::from(submission.group.bytes);
            for write in submission.skip.into_iter().chain([submission.group]) {
                self.write_group(group.buffer, write, effects);
            }
            self.commit.flying.push_back(group);
        }
    }

    fn write_group(&mut self, buffer: MemoryRange, write: JournalWrite, effects: &mut Effects) {
        effects.push(Effect::Write {
            op: self.ops.start(Purpose::Group(write.sequence)),
            file: FileName::Journal { shard: self.config.shard, number: write.place.file },
            at: write.place.at,
            memory: MemoryRange { at: buffer.at + write.from, len: write.bytes },
            durable: true,
        });
    }

    /// A group, or a skip group, was written or was not.
    pub(crate) fn on_group_done(
        &mut self,
        sequence: Sequence,
        result: Result<u32, StorageErrorKind>,
        now: Now,
        effects: &mut Effects,
    ) {
        if let Err(kind) = result {
            self.fence(alloc::format!("the journal could not be written: {kind}"), effects);
            return;
        }
        if self.commit.has_failed {
            // What a failed write left behind is decided by the next recovery; nothing after it is answered.
            return;
        }
        let durable = self.commit.journal.complete(sequence);
        while self.commit.flying.front().is_some_and(|group| group.sequence <= durable) {
            let Some(group) = self.commit.flying.pop_front() else { break };
            self.group_durable(group, now, effects);
        }
        self.submit_groups(now, effects);
    }

    fn group_durable(&mut self, mut group: Group, now: Now, effects: &mut Effects) {
        let batches = group.due.len() as u64;
        self.stages.gather.record(group.submitted_us.saturating_sub(group.opened_us), batches);
        self.stages.flush.record(now.mono_us.saturating_sub(group.submitted_us), batches);
        if core::mem::take(&mut group.has_references) {
            for due in &group.due {
                if let Due::Reference(slot, bulk) = due {
                    self.reference_durable(*slot, *bulk, group.sequence);
                }
            }
        }
        for touched in group.touched.drain(..) {
            self.partition_durable(touched.slot, touched.end, group.sequence);
        }
        for due in group.due.drain(..) {
            match due {
                Due::Answer(pending) => self.answer_produced(&pending, effects),
                Due::Reference(slot, bulk) => self.end_referred_bulk(slot, bulk, effects),
            }
        }
        self.commit.free.push(group);
    }

    /// The journal failed: no append is taken any more, and those not durable are told so (E2). Reads go on.
    pub(crate) fn fence(&mut self, why: alloc::string::String, effects: &mut Effects) {
        if self.commit.has_failed {
            return;
        }
        self.commit.has_failed = true;
        self.counters.fenced = 1;
        effects.push(Effect::Fence(why));
        let open = self.commit.open.take();
        let mut groups: Vec<Group> = self.commit.flying.drain(..).collect();
        groups.extend(self.commit.closed.drain(..));
        groups.extend(open);
        for mut group in groups {
            for due in group.due.drain(..) {
                if let Due::Answer(pending) = due
                    && !pending.is_answered
                {
                    self.refuse(pending.asker, ErrorKind::StorageError, effects);
                }
            }
            // The buffer is not used again: the kernel may still read it.
        }
        for slot in (0..self.partitions.slots()).map(Slot) {
            self.give_up_bulks(slot, ErrorKind::StorageError, effects);
        }
        for slot in core::mem::take(&mut self.deferring) {
            self.refuse_deferred(slot, ErrorKind::StorageError, effects);
        }
    }
}
