//! Somebody who reads everything there is, right after a start or when all is quiet, and misses what is missing.

use std::collections::BTreeMap;

use cutwater_api::{
    Fetch, FetchPart, FetchedPart, ListOffsets, ListOffsetsPart, ListedOffset, OffsetSpec, Response,
};
use cutwater_model::{Offset, PartitionId, limits};

use super::reader::judge_read_error;
use super::{Client, Hands, misfit};
use crate::finding::{Checked, Finding};
use crate::oracle::{Oracle, Shown};
use crate::request::Sent;

/// How long it waits after an answer that brought nothing.
const PATIENCE_US: u64 = 100_000;
/// So many of them say that there is nothing: a peer that takes nothing may hold a small memory for ten seconds, and
/// until it is closed nothing is read from the disk.
const EMPTY_ANSWERS_SURE: u32 = 120;
const EMPTY_ANSWERS_MAX: u32 = 200;

const _: () = assert!(PATIENCE_US * EMPTY_ANSWERS_SURE as u64 > limits::SEND_STALL_US_MAX);

/// Where it is.
#[derive(Debug, Default)]
enum Stage {
    #[default]
    Idle,
    Describing(u32),
    /// The ends, as they must be at least.
    Listing(u32, Vec<(PartitionId, Offset)>),
    Reading,
    Fetching(u32),
    Done,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Auditor {
    stage: Stage,
    /// Where it is in each partition, and where it ends.
    positions: BTreeMap<PartitionId, (Offset, Offset)>,
    /// Whether nothing else is under way, so that every topic's state is known.
    settled: bool,
    empty_answers: u32,
}

impl Auditor {
    /// One who is sure that nothing else is under way.
    #[must_use]
    pub fn alone() -> Self {
        Self { settled: true, ..Self::default() }
    }

    fn list(&mut self, hands: &mut Hands<'_>) {
        let partitions = hands.oracle.live_partitions();
        if partitions.is_empty() {
            self.stage = Stage::Done;
            return;
        }
        let ends = partitions.iter().map(|&id| (id, hands.oracle.end(id))).collect();
        let parts = partitions
            .iter()
            .map(|&partition| ListOffsetsPart { partition, spec: OffsetSpec::Latest })
            .collect();
        self.stage = Stage::Listing(hands.ask(Sent::ListOffsets(ListOffsets { parts })), ends);
    }

    fn on_listed(
        &mut self,
        listed: &[ListedOffset],
        ends: &[(PartitionId, Offset)],
        hands: &mut Hands<'_>,
    ) -> Checked {
        if listed.len() != ends.len() {
            let seen = format!("{} answers for {} partitions", listed.len(), ends.len());
            return Err(Finding::new("answers fit their questions", seen));
        }
        for (listed, &(partition, end)) in listed.iter().zip(ends) {
            if let Some(kind) = listed.error {
                judge_read_error(kind, partition, Offset(0), hands)?;
                let excused = hands.oracle.rotten || hands.habits.disk_fails || !self.settled;
                if !excused {
                    let seen = format!("{partition}: {kind:?}");
                    return Err(Finding::new("partitions open after a start", seen));
                }
                continue;
            }
            hands.oracle.on_end(partition, listed.offset, end)?;
            self.positions.insert(partition, (Offset(0), listed.offset));
        }
        self.read(hands);
        Ok(())
    }

    fn read(&mut self, hands: &mut Hands<'_>) {
        self.positions.retain(|_, (position, end)| position < end);
        let parts: Vec<FetchPart> = self
            .positions
            .iter()
            .take(4)
            .map(|(&partition, &(offset, _))| FetchPart { partition, offset, bytes_max: 1 << 18 })
            .collect();
        if parts.is_empty() {
            self.stage = Stage::Done;
            return;
        }
        let fetch = Fetch { wait_ms_max: 50, bytes_min: 1, bytes_max: 1 << 19, parts };
        self.stage = Stage::Fetching(hands.ask(Sent::Fetch(fetch)));
    }

    fn on_part(&mut self, part: &FetchedPart, hands: &mut Hands<'_>) -> Checked<bool> {
        let Some((position, end)) = self.positions.get_mut(&part.partition) else {
            let seen = format!("{} was not asked for", part.partition);
            return Err(Finding::new("answers fit their questions", seen));
        };
        if let Some(kind) = part.error {
            judge_read_error(kind, part.partition, *position, hands)?;
            self.positions.remove(&part.partition);
            return Ok(true);
        }
        let before = *position;
        let shown = Shown { from: *position, bytes: &part.bytes, high_watermark: part.high_watermark };
        *position = hands.oracle.on_read(part.partition, shown)?;
        if part.bytes.is_empty()
            && self.empty_answers > EMPTY_ANSWERS_SURE
            && hands.oracle.may_lack(part.partition)
        {
            // It goes on behind what a crash, or rot, may have taken: an end with nothing before it.
            hands.oracle.on_end(part.partition, *position, *end)?;
            *position = *end;
        }
        if part.high_watermark < *end {
            let seen = format!("{}: {end:?}, then {:?}", part.partition, part.high_watermark);
            return Err(Finding::new("the end never goes back", seen));
        }
        Ok(*position > before)
    }
}

impl Client for Auditor {
    fn kind(&self) -> &'static str {
        "auditor"
    }

    fn wake(&mut self, hands: &mut Hands<'_>) -> Checked {
        match self.stage {
            Stage::Idle => self.stage = Stage::Describing(hands.ask(Sent::Describe)),
            Stage::Reading => self.read(hands),
            _ => {}
        }
        Ok(())
    }

    fn answer(&mut self, correlation: u32, response: Response, hands: &mut Hands<'_>) -> Checked {
        match (core::mem::take(&mut self.stage), response) {
            (Stage::Describing(asked), Response::Topics(view)) if asked == correlation => {
                hands.oracle.on_described(&view, self.settled)?;
                self.list(hands);
                Ok(())
            }
            (Stage::Listing(asked, ends), Response::ListedOffsets(listed)) if asked == correlation => {
                self.on_listed(&listed, &ends, hands)
            }
            (Stage::Fetching(asked), Response::Fetched(fetched)) if asked == correlation => {
                let mut moved = false;
                for part in &fetched.parts {
                    moved |= self.on_part(part, hands)?;
                }
                self.empty_answers = if moved { 0 } else { self.empty_answers + 1 };
                if self.empty_answers > EMPTY_ANSWERS_MAX {
                    let seen = format!("{:?} get no further", self.positions);
                    return Err(Finding::new("what is committed can be read", seen));
                }
                self.stage = Stage::Reading;
                hands.wake_after(if moved { 0 } else { PATIENCE_US });
                Ok(())
            }
            (_, Response::Refused(kind)) => {
                self.positions.clear();
                self.stage = Stage::Done;
                judge_read_error(kind, PartitionId::default(), Offset(0), hands)
            }
            (stage, other) => Err(misfit(&format!("{stage:?}"), &other)),
        }
    }

    fn gone(&mut self, _oracle: &mut Oracle) {
        self.stage = Stage::Done;
    }

    fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }
}
