//! What the world knows must be true: what was sent, what was acknowledged, what was shown, and at which offset.
//!
//! An acknowledgement, and a read, *bind* a batch to its offset for ever. Whatever is read later must fit what is
//! bound, before and after any number of crashes.

mod partition;
#[cfg(test)]
mod tests;
mod topics;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cutwater_model::batch::{Batch, walk};
use cutwater_model::limits::BATCH_HEADER_BYTES;
use cutwater_model::topic::{Durability, TimestampType};
use cutwater_model::{LeaderEpoch, Offset, PartitionId, ProducerEpoch, ProducerId, TopicId};

pub use partition::{Bound, Known};
pub use topics::{TopicKnown, TopicState};

use crate::finding::{Checked, Finding};
use crate::workload::payload::{AttemptId, attempt_of};

/// One order in which a client sent: a connection of a producer that numbers nothing, or an id of one that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u32);

/// One batch that was sent, once or in retries.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Where to.
    pub partition: PartitionId,
    /// In which order it belongs.
    pub stream: StreamId,
    /// Its place in that order.
    pub place: u64,
    /// Whether retries are told apart, so that no batch of the stream may be missing before it.
    pub numbered: bool,
    /// How many records.
    pub records: u32,
    /// The batch as sent.
    pub batch: Arc<[u8]>,
    /// When it was acknowledged.
    pub acked_us: Option<u64>,
    /// Where it is.
    pub bound: Option<Offset>,
    /// It was refused for good.
    pub refused: bool,
}

/// What a read showed of one partition.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// The offset asked for.
    pub from: Offset,
    /// The batches.
    pub bytes: &'a [u8],
    /// The end of what is committed, as the answer says.
    pub high_watermark: Offset,
}

/// All that is known. A clone is cheap: batches are shared.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    attempts: Vec<Attempt>,
    partitions: BTreeMap<PartitionId, Known>,
    topics: BTreeMap<TopicId, TopicKnown>,
    creations: BTreeMap<String, topics::Creation>,
    streams: u32,
    producers: BTreeSet<(ProducerId, ProducerEpoch)>,
    /// Bits were flipped on the disk: what lies there may be refused, though never changed.
    pub rotten: bool,
    /// An operator gave up what could not be read.
    has_loss: bool,
}

/// What was acknowledged on a `memory` topic so long before a crash is durable, however slow the disk was.
const MEMORY_LOSS_US_MAX: u64 = 20_000_000;

impl Oracle {
    /// A new order of sending.
    pub fn new_stream(&mut self) -> StreamId {
        self.streams += 1;
        StreamId(self.streams)
    }

    /// The number that the next attempt will have.
    #[must_use]
    pub fn next_attempt(&self) -> AttemptId {
        AttemptId(self.attempts.len() as u32)
    }

    /// A batch is about to be sent for the first time.
    pub fn sent(&mut self, attempt: Attempt) {
        self.attempts.push(attempt);
    }

    /// An attempt.
    #[must_use]
    pub fn attempt(&self, id: AttemptId) -> Option<&Attempt> {
        self.attempts.get(id.0 as usize)
    }

    /// What is known of a partition.
    #[must_use]
    pub fn known(&self, partition: PartitionId) -> Option<&Known> {
        self.partitions.get(&partition)
    }

    /// How many batches were acknowledged.
    #[must_use]
    pub fn acked(&self) -> usize {
        self.attempts.iter().filter(|attempt| attempt.acked_us.is_some()).count()
    }

    /// A producer's id was given out.
    ///
    /// # Errors
    /// If it was given out before (T11).
    pub fn on_producer(&mut self, producer: ProducerId, epoch: ProducerEpoch) -> Checked {
        if self.producers.insert((producer, epoch)) {
            return Ok(());
        }
        Err(Finding::new("producer ids are given once", format!("{producer:?} {epoch:?}")))
    }

    /// A batch was acknowledged at that offset.
    ///
    /// # Errors
    /// If the offset belongs to another batch, or the batch to another offset.
    pub fn on_acked(&mut self, id: AttemptId, base: Offset, now_us: u64) -> Checked {
        let Some(attempt) = self.attempts.get_mut(id.0 as usize) else { return Ok(()) };
        attempt.acked_us.get_or_insert(now_us);
        self.bind(id, base, None)
    }

    /// A batch was refused; where `for_good`, it was not appended and never will be.
    ///
    /// # Errors
    /// If it was acknowledged before.
    pub fn on_refused(&mut self, id: AttemptId, for_good: bool) -> Checked {
        let Some(attempt) = self.attempts.get_mut(id.0 as usize) else { return Ok(()) };
        attempt.refused |= for_good;
        match attempt.bound {
            Some(base) if for_good => {
                Err(Finding::new("a batch is appended or refused", format!("{id:?} at {base:?} is refused")))
            }
            _ => Ok(()),
        }
    }

    /// A reader was shown batches; the answer is the offset to go on from.
    ///
    /// # Errors
    /// If what was shown is not what was written there, in order and without a hole.
    pub fn on_read(&mut self, partition: PartitionId, shown: Shown<'_>) -> Checked<Offset> {
        let mut expected = shown.from;
        let mut first = true;
        for batch in walk(shown.bytes) {
            let batch = batch.map_err(|error| {
                Finding::new("reads are whole batches", format!("{partition} from {expected:?}: {error}"))
            })?;
            batch.check_crc().map_err(|error| {
                Finding::new("reads equal what was written", format!("{partition} {expected:?}: {error}"))
            })?;
            let (base, next) = (batch.header.base_offset, batch.header.next_offset());
            if base > expected {
                self.lose(partition, expected, base)?;
            } else if base < expected && !(first && next > expected) {
                let seen = format!("{partition}: {base:?} follows where {expected:?} is next");
                return Err(Finding::new("offsets never go back in a read", seen));
            }
            if next > shown.high_watermark {
                let seen = format!("{partition}: {base:?} to {next:?} of {:?}", shown.high_watermark);
                return Err(Finding::new("readers see only what is committed", seen));
            }
            self.on_batch(partition, &batch)?;
            (expected, first) = (next, false);
        }
        Ok(expected)
    }

    /// A reader was told where a partition ends, having asked when `end_before` was known.
    ///
    /// # Errors
    /// If the end lies before what is known to be there.
    pub fn on_end(&mut self, partition: PartitionId, end: Offset, end_before: Offset) -> Checked {
        if end < end_before {
            self.lose(partition, end, end_before)?;
        }
        Ok(())
    }

    /// The offset after the last batch that must be there.
    #[must_use]
    pub fn end(&self, partition: PartitionId) -> Offset {
        self.partitions.get(&partition).map_or(Offset(0), Known::end)
    }

    /// Whether the batch at that offset is known, and its records are not compressed.
    #[must_use]
    pub fn is_legible(&self, partition: PartitionId, offset: Offset) -> bool {
        let bound = self.partitions.get(&partition).and_then(|known| known.at(offset));
        let attempt = bound.and_then(|bound| self.attempt(bound.attempt));
        let batch = attempt.and_then(|attempt| Batch::read(&attempt.batch).ok());
        batch.is_some_and(|batch| batch.header.codec_id() == 0)
    }

    /// The node has died in this moment: what `memory` topics acknowledged lately may be gone.
    pub fn on_crash(&mut self, now_us: u64) {
        let horizon = now_us.saturating_sub(MEMORY_LOSS_US_MAX);
        for (id, known) in &mut self.partitions {
            if self.topics.get(&id.topic).is_some_and(|it| it.config.durability == Durability::Memory) {
                let attempts = &self.attempts;
                known.excuse(|attempt| {
                    let acked_us = attempts.get(attempt.0 as usize).and_then(|attempt| attempt.acked_us);
                    acked_us.is_none_or(|acked_us| acked_us >= horizon)
                });
            }
        }
    }

    /// An operator gives up what a rotten journal held: every partition may have lost its end. Its offsets are never used
    /// again all the same.
    pub fn on_loss_accepted(&mut self) {
        self.has_loss = true;
        for known in self.partitions.values_mut() {
            known.excuse(|_| true);
        }
    }

    /// Whether acknowledged batches of the partition may be missing, and a gap of offsets in their place.
    #[must_use]
    pub fn may_lack(&self, partition: PartitionId) -> bool {
        self.has_loss || !self.is_durable(partition)
    }

    /// Every numbered stream is there without a hole, as far as it is there at all. Asked when all that lives was read. Of a
    /// topic that is deleted nobody may have read what lies before a batch that was read: that it is not known says nothing.
    ///
    /// # Errors
    /// If a batch is missing before one that is there (T2).
    pub fn check_streams(&self) -> Checked {
        let mut last: BTreeMap<StreamId, (u64, bool)> = BTreeMap::new();
        let is_read = |attempt: &&Attempt| {
            let topic = self.topics.get(&attempt.partition.topic);
            attempt.numbered && topic.is_some_and(|topic| topic.state == TopicState::Live)
        };
        for attempt in self.attempts.iter().filter(is_read) {
            let is_disk = self.is_durable(attempt.partition);
            let entry = last.entry(attempt.stream).or_insert((attempt.place, true));
            let is_there = attempt.bound.is_some();
            if is_there && !entry.1 && is_disk {
                let seen = format!("{}: {:?} place {}", attempt.partition, attempt.stream, attempt.place);
                return Err(Finding::new("a numbered stream has no holes", seen));
            }
            *entry = (attempt.place, entry.1 && is_there);
        }
        Ok(())
    }

    /// Whether acknowledged batches of the partition survive everything.
    #[must_use]
    pub fn is_durable(&self, partition: PartitionId) -> bool {
        self.topics.get(&partition.topic).is_none_or(|it| it.config.durability == Durability::Disk)
    }

    fn on_batch(&mut self, partition: PartitionId, batch: &Batch<'_>) -> Checked {
        let base = batch.header.base_offset;
        let Some(id) = attempt_of(batch) else {
            let seen = format!("{partition} {base:?}: nobody sent it");
            return Err(Finding::new("no bytes are invented", seen));
        };
        let Some(attempt) = self.attempts.get(id.0 as usize) else {
            return Err(Finding::new("no bytes are invented", format!("{partition} {base:?}: {id:?}")));
        };
        if attempt.partition != partition {
            let seen = format!("{partition} {base:?}: {id:?} was sent to {}", attempt.partition);
            return Err(Finding::new("bytes stay in their partition", seen));
        }
        if attempt.refused {
            let seen = format!("{partition} {base:?}: {id:?}");
            return Err(Finding::new("what was refused is not appended", seen));
        }
        let stamped = self
            .topics
            .get(&partition.topic)
            .is_some_and(|topic| topic.config.timestamp_type == TimestampType::LogAppend);
        if !is_same(batch.bytes, &attempt.batch, stamped) {
            let seen = format!("{partition} {base:?}: {id:?} has changed");
            return Err(Finding::new("reads equal what was written", seen));
        }
        self.bind(id, base, Some(batch.header.leader_epoch))
    }

    fn bind(&mut self, id: AttemptId, base: Offset, epoch: Option<LeaderEpoch>) -> Checked {
        let Some(attempt) = self.attempts.get_mut(id.0 as usize) else { return Ok(()) };
        let partition = attempt.partition;
        if let Some(bound) = attempt.bound.filter(|&bound| bound != base) {
            // What a memory topic lost in a crash is new when its producer sends it again.
            let known = self.partitions.get_mut(&partition);
            if !known.map_or(Ok(false), |known| known.give_up(partition, bound))? {
                let seen = format!("{partition}: {id:?} at {bound:?} and at {base:?}");
                return Err(Finding::new("no batch is there twice", seen));
            }
        }
        attempt.bound = Some(base);
        let bound = Bound::new(id, attempt.records, epoch);
        let place = (attempt.stream, attempt.place);
        self.partitions.entry(partition).or_default().bind(partition, base, bound, place)
    }

    /// Offsets that are not there: of a `memory` topic after a crash, and of any after a loss that was accepted, they may
    /// be lost, but never used again.
    fn lose(&mut self, partition: PartitionId, from: Offset, to: Offset) -> Checked {
        let durable = !self.may_lack(partition);
        match self.partitions.get_mut(&partition) {
            Some(known) if !durable => known.lose(partition, from, to),
            None if !durable => Ok(()),
            _ => {
                let bound = self.partitions.get(&partition).and_then(|known| known.first_in(from, to));
                let seen = match bound {
                    Some((base, bound)) => {
                        let acked_us = self.attempt(bound.attempt).and_then(|attempt| attempt.acked_us);
                        format!(
                            "{partition}: {from:?} to {to:?} with {:?} at {base:?} acked {acked_us:?}",
                            bound.attempt
                        )
                    }
                    None => format!("{partition}: a hole from {from:?} to {to:?}"),
                };
                Err(Finding::new("what was acknowledged or shown is there", seen))
            }
        }
    }
}

/// Whether a batch is as it was sent, but for what the node stamps.
fn is_same(stored: &[u8], sent: &[u8], stamped: bool) -> bool {
    let same = |from: usize, to: usize| stored.get(from..to) == sent.get(from..to);
    stored.len() == sent.len()
        && same(8, 12)
        && same(BATCH_HEADER_BYTES, sent.len())
        && if stamped { same(23, 35) && same(43, BATCH_HEADER_BYTES) } else { same(16, BATCH_HEADER_BYTES) }
}
