//! Which batch is where in one partition.

use std::collections::BTreeMap;

use cutwater_model::{LeaderEpoch, Offset, PartitionId};

use super::StreamId;
use crate::finding::{Checked, Finding};
use crate::workload::payload::AttemptId;

/// A batch at its offset.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// Which.
    pub attempt: AttemptId,
    records: u32,
    /// Under which leader it was appended, once it was read.
    epoch: Option<LeaderEpoch>,
    /// How many crashes there had been when it was first known.
    crashes: u32,
    /// It may have been lost in a crash: its topic promises no more.
    excused: bool,
    /// It was lost: its offsets stay empty.
    lost: bool,
}

impl Bound {
    pub(super) const fn new(attempt: AttemptId, records: u32, epoch: Option<LeaderEpoch>) -> Self {
        Self { attempt, records, epoch, crashes: 0, excused: false, lost: false }
    }
}

/// One partition.
#[derive(Clone, Debug, Default)]
pub struct Known {
    bound: BTreeMap<Offset, Bound>,
    streams: BTreeMap<StreamId, BTreeMap<u64, Offset>>,
    /// Crashes of a node that acknowledges this partition from memory.
    crashes: u32,
}

impl Known {
    /// The offset after the last batch that must be there.
    #[must_use]
    pub fn end(&self) -> Offset {
        let there = self.bound.iter().rev().find(|(_, bound)| !bound.excused && !bound.lost);
        there.map_or(Offset(0), |(base, bound)| base.after(bound.records))
    }

    /// The batch that holds that offset.
    #[must_use]
    pub fn at(&self, offset: Offset) -> Option<Bound> {
        let (base, bound) = self.bound.range(..=offset).next_back()?;
        (base.after(bound.records) > offset).then_some(*bound)
    }

    /// How many batches are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bound.len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bound.is_empty()
    }

    pub(super) fn bind(
        &mut self,
        partition: PartitionId,
        base: Offset,
        bound: Bound,
        (stream, place): (StreamId, u64),
    ) -> Checked {
        let bound = Bound { crashes: self.crashes, ..bound };
        let end = base.after(bound.records);
        let before = self.bound.range(..end).next_back().map(|(&base, &bound)| (base, bound));
        match before {
            Some((other, there)) if other == base && there.attempt == bound.attempt => {
                return self.see_again(partition, base, bound);
            }
            Some((other, there)) if other.after(there.records) > base => {
                let seen = format!(
                    "{partition}: {:?} at {base:?}, where {:?} at {other:?} has {} records{}",
                    bound.attempt,
                    there.attempt,
                    there.records,
                    if there.lost { " and was lost" } else { "" },
                );
                return Err(Finding::new("an offset once shown is never used again", seen));
            }
            _ => {}
        }
        let places = self.streams.entry(stream).or_default();
        let earlier = places.range(..place).next_back().map(|(_, &offset)| offset);
        let later = places.range(place..).next().map(|(_, &offset)| offset);
        if earlier.is_some_and(|offset| offset > base) || later.is_some_and(|offset| offset < base) {
            let seen = format!("{partition}: {stream:?} place {place} at {base:?}, {earlier:?} {later:?}");
            return Err(Finding::new("records of one producer stay in order", seen));
        }
        places.insert(place, base);
        self.bound.insert(base, bound);
        self.check_epochs(partition, base)
    }

    fn see_again(&mut self, partition: PartitionId, base: Offset, seen: Bound) -> Checked {
        if let Some(bound) = self.bound.get_mut(&base) {
            if bound.lost {
                let text = format!("{partition}: {:?} at {base:?} was lost and is back", bound.attempt);
                return Err(Finding::new("what was lost does not come back", text));
            }
            if seen.epoch.is_some() {
                bound.excused = false;
                if bound.epoch.is_some() && bound.epoch != seen.epoch {
                    let text =
                        format!("{partition} {base:?}: epoch {:?}, then {:?}", bound.epoch, seen.epoch);
                    return Err(Finding::new("reads equal what was written", text));
                }
                bound.epoch = seen.epoch;
            }
        }
        self.check_epochs(partition, base)
    }

    fn check_epochs(&self, partition: PartitionId, base: Offset) -> Checked {
        let Some(epoch) = self.bound.get(&base).and_then(|bound| bound.epoch) else { return Ok(()) };
        let known = |bound: &Bound| bound.epoch.filter(|_| !bound.excused && !bound.lost);
        let before = self.bound.range(..base).rev().find_map(|(_, bound)| known(bound));
        let after = self.bound.range(base.after(1)..).find_map(|(_, bound)| known(bound));
        if before.is_some_and(|before| before > epoch) || after.is_some_and(|after| after < epoch) {
            let seen = format!("{partition} {base:?}: {before:?} {epoch:?} {after:?}");
            return Err(Finding::new("leader epochs never go back", seen));
        }
        Ok(())
    }

    pub(super) fn excuse(&mut self, may_be_lost: impl Fn(AttemptId) -> bool) {
        self.crashes += 1;
        // Loss takes the end of a log: what lies before something durable is durable.
        for bound in self.bound.values_mut().rev() {
            if !may_be_lost(bound.attempt) {
                break;
            }
            bound.excused = true;
        }
    }

    /// Takes a batch for lost, if a crash may have taken it: its producer, which had no answer, has sent it again and
    /// it was appended as new (DESIGN.md section 1, promise 3). With it went all behind it that was known by then, as a
    /// crash takes the end of a log.
    pub(super) fn give_up(&mut self, partition: PartitionId, base: Offset) -> Checked<bool> {
        let Some(given_up) = self.at(base).filter(|bound| bound.excused || bound.lost) else {
            return Ok(false);
        };
        for (&behind, bound) in self.bound.range_mut(base..) {
            if bound.crashes != given_up.crashes {
                break;
            }
            if !bound.excused && !bound.lost {
                let seen =
                    format!("{partition}: {:?} at {behind:?} is there, {base:?} is not", bound.attempt);
                return Err(Finding::new("a memory topic loses only what a crash may take", seen));
            }
            bound.lost = true;
            for places in self.streams.values_mut() {
                places.retain(|_, offset| *offset != behind);
            }
        }
        Ok(true)
    }

    pub(super) fn lose(&mut self, partition: PartitionId, from: Offset, to: Offset) -> Checked {
        for (base, bound) in self.bound.range_mut(from..to) {
            if !bound.excused && !bound.lost {
                let seen = format!("{partition}: {:?} at {base:?} is gone", bound.attempt);
                return Err(Finding::new("a memory topic loses only what a crash may take", seen));
            }
            bound.lost = true;
        }
        Ok(())
    }

    pub(super) fn first_in(&self, from: Offset, to: Offset) -> Option<(Offset, Bound)> {
        self.bound.range(from..to.max(from)).next().map(|(&base, &bound)| (base, bound))
    }
}
