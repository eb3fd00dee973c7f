//! Producer windows (KIP-98): retries neither duplicate nor reorder. Lives on the shard's core, does no I/O.
//!
//! For each producer that numbers its batches, the last five are remembered. A retry of one of them is told the
//! offset it got; anything else that doesn't follow the last number is refused. A partition without such producers
//! holds nothing.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use cutwater_model::batch::Header;
use cutwater_model::limits::{PRODUCER_WINDOW_BATCHES, PRODUCERS_PER_PARTITION_MAX};
use cutwater_model::{ErrorKind, Offset, ProducerEpoch, ProducerId, TimestampMs};

use crate::bytes::{Reader, Writer};

/// The numbers of one batch of a producer that numbers its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerBatch {
    /// Who.
    pub producer: ProducerId,
    /// Which life of the producer.
    pub epoch: ProducerEpoch,
    /// The number of the first record.
    pub base_sequence: i32,
    /// The number of the last record; numbers wrap from 2^31 - 1 to 0.
    pub last_sequence: i32,
}

impl ProducerBatch {
    /// The numbers in a batch's header, or `None` where its producer numbers nothing.
    #[inline]
    #[must_use]
    pub fn of(header: &Header) -> Option<Self> {
        header.producer_id.is_some().then(|| Self {
            producer: header.producer_id,
            epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            last_sequence: advance(header.base_sequence, header.last_offset_delta),
        })
    }
}

/// What becomes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProducerVerdict {
    /// It may be appended.
    Accept,
    /// It was appended before: answer with that offset, once the log is durable beyond its last one (B119).
    Duplicate {
        /// The offset of its first record.
        base_offset: Offset,
        /// The offset of its last record.
        last_offset: Offset,
    },
    /// It may not be appended.
    Refused(ErrorKind),
}

/// All windows of one partition.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    windows: BTreeMap<ProducerId, Window>,
}

/// As many as a retry may be of, and as many again: a checkpoint leaves out what may be lost, which is no more than a
/// producer has in flight, and must still name the window before that.
const REMEMBERED_BATCHES: usize = 2 * PRODUCER_WINDOW_BATCHES;

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    /// Oldest first.
    batches: [Remembered; REMEMBERED_BATCHES],
    len: u8,
    epoch: ProducerEpoch,
    /// When its last batch arrived.
    arrival: TimestampMs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Remembered {
    base_offset: Offset,
    base_sequence: i32,
    last_sequence: i32,
}

impl Remembered {
    fn last_offset(&self) -> Offset {
        Offset(self.base_offset.0 + i64::from(distance(self.base_sequence, self.last_sequence)))
    }
}

impl Producers {
    #[inline]
    pub(crate) fn check(&self, batch: &ProducerBatch) -> ProducerVerdict {
        use ProducerVerdict::{Accept, Refused};
        if batch.base_sequence < 0 {
            return Refused(ErrorKind::InvalidRecord); // B124
        }
        if batch.epoch.0 < 0 {
            return Refused(ErrorKind::InvalidProducerEpoch);
        }
        // A producer that isn't known begins with 0: what comes before may have been refused and be on its way again.
        // One whose window was forgotten is told so, and goes on under another id.
        let Some(window) = self.windows.get(&batch.producer) else {
            let begins = batch.base_sequence == 0;
            return if begins { Accept } else { Refused(ErrorKind::UnknownProducerId) };
        };
        if batch.epoch < window.epoch {
            return Refused(ErrorKind::InvalidProducerEpoch); // B122
        }
        if batch.epoch > window.epoch {
            // B123
            return if batch.base_sequence == 0 {
                Accept
            } else {
                Refused(ErrorKind::OutOfOrderSequenceNumber)
            };
        }
        window.check(batch)
    }

    /// Remembers an appended batch. Telling the same batch again changes nothing, so replay may repeat itself.
    #[inline]
    pub(crate) fn record(&mut self, batch: &ProducerBatch, base_offset: Offset, arrival: TimestampMs) {
        if !self.windows.contains_key(&batch.producer) && self.windows.len() >= PRODUCERS_PER_PARTITION_MAX {
            self.forget_idle();
        }
        self.windows.entry(batch.producer).or_default().record(batch, base_offset, arrival);
    }

    pub(crate) fn forget_before(&mut self, arrival: TimestampMs) {
        if !self.windows.is_empty() {
            self.windows.retain(|_, window| window.arrival >= arrival);
        }
    }

    /// Forgets a sixteenth of the producers, those idle longest, so that the search for them is rare.
    #[cold]
    fn forget_idle(&mut self) {
        let mut idle: Vec<_> = self.windows.iter().map(|(id, window)| (window.arrival, *id)).collect();
        let count = (idle.len() / 16).max(1);
        if count < idle.len() {
            idle.select_nth_unstable(count);
        }
        for (_, id) in idle.into_iter().take(count) {
            self.windows.remove(&id);
        }
    }

    /// Writes the windows for a checkpoint that ends at `end`; later batches may be lost and are left out.
    pub(crate) fn encode(&self, writer: &mut Writer<'_>, end: Offset) {
        let known = || {
            self.windows.iter().filter_map(|(id, window)| {
                let kept = window.remembered().iter().take_while(|batch| batch.base_offset < end).count();
                let batches = &window.batches[kept.saturating_sub(PRODUCER_WINDOW_BATCHES)..kept];
                (kept > 0).then_some((id, window, batches))
            })
        };
        writer.u32(known().count() as u32);
        for (id, window, batches) in known() {
            writer.i64(id.0).i16(window.epoch.0).u16(batches.len() as u16).i64(window.arrival.0);
            for batch in batches {
                writer.i64(batch.base_offset.0).i32(batch.base_sequence).i32(batch.last_sequence);
            }
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let mut windows = BTreeMap::new();
        for _ in 0..reader.u32()? {
            let id = ProducerId(reader.i64()?);
            let epoch = ProducerEpoch(reader.i16()?);
            let len = usize::from(reader.u16()?);
            let mut window =
                Window { epoch, len: len as u8, arrival: TimestampMs(reader.i64()?), ..Window::default() };
            for batch in window.batches.get_mut(..len)? {
                *batch = Remembered {
                    base_offset: Offset(reader.i64()?),
                    base_sequence: reader.i32()?,
                    last_sequence: reader.i32()?,
                };
            }
            windows.insert(id, window);
        }
        Some(Self { windows })
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.windows.len()
    }
}

impl Window {
    fn remembered(&self) -> &[Remembered] {
        &self.batches[..usize::from(self.len)]
    }

    /// Those that a retry may be of.
    fn recent(&self) -> &[Remembered] {
        let remembered = self.remembered();
        &remembered[remembered.len().saturating_sub(PRODUCER_WINDOW_BATCHES)..]
    }

    #[inline]
    fn check(&self, batch: &ProducerBatch) -> ProducerVerdict {
        let recent = self.recent();
        let (Some(first), Some(last)) = (recent.first(), recent.last()) else {
            return ProducerVerdict::Accept;
        };
        if batch.base_sequence == advance(last.last_sequence, 1) {
            return ProducerVerdict::Accept;
        }
        let same = |it: &&Remembered| {
            it.base_sequence == batch.base_sequence && it.last_sequence == batch.last_sequence
        };
        if let Some(it) = recent.iter().find(same) {
            return ProducerVerdict::Duplicate { base_offset: it.base_offset, last_offset: it.last_offset() };
        }
        // Clients take "appended before" for success, so it is said only of what lies wholly before the window (B120).
        let oldest = first.base_sequence;
        let is_before = |sequence: i32| sequence != oldest && distance(sequence, oldest) < i32::MAX / 2;
        let is_old = is_before(batch.base_sequence) && is_before(batch.last_sequence);
        ProducerVerdict::Refused(if is_old {
            ErrorKind::DuplicateSequenceNumber
        } else {
            ErrorKind::OutOfOrderSequenceNumber
        })
    }

    fn record(&mut self, batch: &ProducerBatch, base_offset: Offset, arrival: TimestampMs) {
        if self.remembered().last().is_some_and(|last| last.base_offset >= base_offset) {
            return;
        }
        if self.epoch != batch.epoch {
            *self = Self { epoch: batch.epoch, ..Self::default() };
        }
        let remembered = Remembered {
            base_offset,
            base_sequence: batch.base_sequence,
            last_sequence: batch.last_sequence,
        };
        if usize::from(self.len) == REMEMBERED_BATCHES {
            self.batches.copy_within(1.., 0);
            self.len -= 1;
        }
        self.batches[usize::from(self.len)] = remembered;
        self.len += 1;
        self.arrival = arrival;
    }
}

/// The number `by` after `sequence`, wrapping from 2^31 - 1 to 0 (B121).
const fn advance(sequence: i32, by: i32) -> i32 {
    sequence.wrapping_add(by) & i32::MAX
}

/// How many numbers after `from` comes `to`.
const fn distance(from: i32, to: i32) -> i32 {
    to.wrapping_sub(from) & i32::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(epoch: i16, base_sequence: i32, last_sequence: i32) -> ProducerBatch {
        ProducerBatch { producer: ProducerId(9), epoch: ProducerEpoch(epoch), base_sequence, last_sequence }
    }

    /// Five batches of ten records after two older ones: numbers 20 to 69, offsets 1020 to 1069.
    fn producers() -> Producers {
        let mut producers = Producers::default();
        for number in 0..7 {
            let batch = batch(3, number * 10, number * 10 + 9);
            assert_eq!(producers.check(&batch), ProducerVerdict::Accept);
            producers.record(&batch, Offset(1000 + i64::from(number) * 10), TimestampMs(1));
        }
        producers
    }

    #[test]
    fn verdicts_follow_the_table() {
        use ErrorKind::{
            DuplicateSequenceNumber, InvalidProducerEpoch, InvalidRecord, OutOfOrderSequenceNumber,
        };
        use ProducerVerdict::{Accept, Duplicate, Refused};
        let duplicate = |first, last| Duplicate { base_offset: Offset(first), last_offset: Offset(last) };
        let cases = [
            ("the next one", batch(3, 70, 79), Accept),
            ("B118: a gap", batch(3, 71, 79), Refused(OutOfOrderSequenceNumber)),
            ("B119: the last again", batch(3, 60, 69), duplicate(1060, 1069)),
            ("B119: the fifth last again", batch(3, 20, 29), duplicate(1020, 1029)),
            ("B120: the sixth last again", batch(3, 10, 19), Refused(DuplicateSequenceNumber)),
            ("B120: the first again", batch(3, 0, 9), Refused(DuplicateSequenceNumber)),
            ("half old, half new", batch(3, 65, 74), Refused(OutOfOrderSequenceNumber)),
            ("other borders", batch(3, 20, 39), Refused(OutOfOrderSequenceNumber)),
            ("from before the window into it", batch(3, 15, 24), Refused(OutOfOrderSequenceNumber)),
            ("B122: an earlier life", batch(2, 70, 79), Refused(InvalidProducerEpoch)),
            ("a later life", batch(4, 0, 0), Accept),
            ("B123: a later life in the middle", batch(4, 70, 79), Refused(OutOfOrderSequenceNumber)),
            ("B124: no number", batch(3, -1, 8), Refused(InvalidRecord)),
            ("no epoch", batch(-1, 70, 79), Refused(InvalidProducerEpoch)),
        ];
        for (name, batch, verdict) in cases {
            assert_eq!(producers().check(&batch), verdict, "{name}");
        }
    }

    #[test]
    fn a_producer_that_is_not_known_begins_with_0() {
        let producers = producers();
        assert_eq!(producers.check(&batch(9, 0, 3)), ProducerVerdict::Accept);
        let other = ProducerBatch { producer: ProducerId(77), ..batch(0, 4, 5) };
        assert_eq!(producers.check(&other), ProducerVerdict::Refused(ErrorKind::UnknownProducerId));
        assert_eq!(producers.check(&ProducerBatch { base_sequence: 0, ..other }), ProducerVerdict::Accept);
    }

    #[test]
    fn numbers_wrap_to_zero() {
        let mut producers = Producers::default();
        producers.record(&batch(0, i32::MAX - 1, i32::MAX), Offset(5), TimestampMs(0));
        assert_eq!(producers.check(&batch(0, 0, 3)), ProducerVerdict::Accept); // B121
        let wrapping = batch(0, i32::MAX - 1, advance(i32::MAX - 1, 3));
        assert_eq!(wrapping.last_sequence, 1);
        let mut producers = Producers::default();
        producers.record(&wrapping, Offset(5), TimestampMs(0));
        let duplicate = ProducerVerdict::Duplicate { base_offset: Offset(5), last_offset: Offset(8) };
        assert_eq!(producers.check(&wrapping), duplicate);
        assert_eq!(producers.check(&batch(0, 2, 2)), ProducerVerdict::Accept);
    }

    #[test]
    fn a_later_life_forgets_the_numbers_of_the_earlier() {
        let mut producers = producers();
        producers.record(&batch(4, 0, 0), Offset(2000), TimestampMs(1));
        assert_eq!(producers.check(&batch(4, 1, 1)), ProducerVerdict::Accept);
        let refused = ProducerVerdict::Refused(ErrorKind::OutOfOrderSequenceNumber);
        assert_eq!(producers.check(&batch(4, 60, 69)), refused);
    }

    #[test]
    fn a_checkpoint_leaves_out_what_may_be_lost() {
        let producers = producers();
        let mut bytes = Vec::new();
        producers.encode(&mut Writer(&mut bytes), Offset(1040));
        let mut restored = Producers::decode(&mut Reader(&bytes)).unwrap();
        assert_eq!(restored.check(&batch(3, 40, 49)), ProducerVerdict::Accept);
        for number in 3..7 {
            // Replay tells the batches after the end again, and one that is known.
            let base = Offset(1000 + i64::from(number) * 10);
            restored.record(&batch(3, number * 10, number * 10 + 9), base, TimestampMs(1));
        }
        assert_eq!(restored.check(&batch(3, 70, 79)), ProducerVerdict::Accept);
        let duplicate = ProducerVerdict::Duplicate { base_offset: Offset(1020), last_offset: Offset(1029) };
        assert_eq!(restored.check(&batch(3, 20, 29)), duplicate);
        assert!(Producers::decode(&mut Reader(&bytes[..bytes.len() - 1])).is_none());
    }

    #[test]
    fn a_checkpoint_names_the_window_before_what_is_in_flight() {
        let mut producers = Producers::default();
        for number in 0..20 {
            let sequence = number * 10;
            producers.record(&batch(3, sequence, sequence + 9), Offset(i64::from(sequence)), TimestampMs(1));
        }
        let mut bytes = Vec::new();
        // The last five may be lost.
        producers.encode(&mut Writer(&mut bytes), Offset(150));
        let restored = Producers::decode(&mut Reader(&bytes)).unwrap();
        let duplicate = |offset| ProducerVerdict::Duplicate {
            base_offset: Offset(offset),
            last_offset: Offset(offset + 9),
        };
        assert_eq!(restored.check(&batch(3, 150, 159)), ProducerVerdict::Accept);
        assert_eq!(restored.check(&batch(3, 140, 149)), duplicate(140));
        assert_eq!(restored.check(&batch(3, 100, 109)), duplicate(100));
        assert_ne!(restored.check(&batch(3, 160, 169)), ProducerVerdict::Accept);
    }

    #[test]
    fn producers_idle_longest_are_forgotten_first() {
        let mut producers = Producers::default();
        for id in 0..PRODUCERS_PER_PARTITION_MAX as i64 + 5 {
            let batch = ProducerBatch { producer: ProducerId(id), ..batch(0, 0, 0) };
            producers.record(&batch, Offset(id), TimestampMs(id));
            assert!(producers.len() <= PRODUCERS_PER_PARTITION_MAX);
        }
        let gap = ProducerBatch { producer: ProducerId(0), ..batch(0, 7, 7) };
        let unknown = ProducerVerdict::Refused(ErrorKind::UnknownProducerId);
        assert_eq!(producers.check(&gap), unknown);
        let newest = ProducerBatch { producer: ProducerId(PRODUCERS_PER_PARTITION_MAX as i64), ..gap };
        assert_eq!(producers.check(&newest), ProducerVerdict::Refused(ErrorKind::OutOfOrderSequenceNumber));
        producers.forget_before(TimestampMs(i64::MAX));
        assert_eq!(producers.len(), 0);
    }
}
