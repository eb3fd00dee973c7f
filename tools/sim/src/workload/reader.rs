//! A consumer that fetches: from the beginning, from the end, from the middle, one partition or several.

use std::collections::BTreeMap;

use cutwater_api::{
    Fetch, FetchPart, FetchedPart, ListOffsets, ListOffsetsPart, ListedOffset, OffsetSpec, Response,
};
use cutwater_model::{ErrorKind, Offset, PartitionId, TimestampMs};

use super::{Client, Hands, misfit};
use crate::finding::{Checked, Finding};
use crate::oracle::{Oracle, Shown, TopicState};
use crate::request::Sent;

/// See the module.
#[derive(Debug, Default)]
pub struct Reader {
    positions: BTreeMap<PartitionId, Offset>,
    fetch: Option<(u32, Fetch)>,
    /// A question for the end, and what was known to be there when it was asked.
    list: Option<(u32, PartitionId, Offset, OffsetSpec)>,
}

impl Reader {
    fn choose(&mut self, hands: &mut Hands<'_>) {
        self.positions.clear();
        for _ in 0..hands.random.between(1, 3) {
            if let Some(partition) = hands.pick_partition() {
                let end = hands.oracle.end(partition).0 as u64;
                let offset = match hands.random.below(4) {
                    0 => end,
                    1 => hands.random.below(end + 1),
                    _ => 0,
                };
                self.positions.insert(partition, Offset(offset as i64));
            }
        }
    }

    fn ask_fetch(&mut self, hands: &mut Hands<'_>) {
        let parts: Vec<FetchPart> = self
            .positions
            .iter()
            .map(|(&partition, &offset)| {
                let bytes_max = [1, 4_000, 100_000, 1 << 20][hands.random.below(4) as usize];
                FetchPart { partition, offset, bytes_max }
            })
            .collect();
        if parts.is_empty() {
            return;
        }
        let fetch = Fetch {
            wait_ms_max: hands.random.below(400) as u32,
            bytes_min: if hands.random.one_in(3) { hands.random.below(20_000) as u32 } else { 1 },
            bytes_max: [1, 10_000, 300_000][hands.random.below(3) as usize],
            parts,
        };
        self.fetch = Some((hands.ask(Sent::Fetch(fetch.clone())), fetch));
    }

    fn ask_list(&mut self, hands: &mut Hands<'_>) {
        let Some(partition) = hands.pick_partition() else { return };
        let spec = match hands.random.below(4) {
            0 => OffsetSpec::Earliest,
            1 => OffsetSpec::At(TimestampMs(hands.now.wall.0 - hands.random.below(5_000) as i64)),
            _ => OffsetSpec::Latest,
        };
        let end = hands.oracle.end(partition);
        let parts = vec![ListOffsetsPart { partition, spec }];
        self.list = Some((hands.ask(Sent::ListOffsets(ListOffsets { parts })), partition, end, spec));
    }

    fn on_part(&mut self, part: &FetchedPart, hands: &mut Hands<'_>) -> Checked {
        let Some(position) = self.positions.get_mut(&part.partition) else {
            let seen = format!("{} was not asked for", part.partition);
            return Err(Finding::new("answers fit their questions", seen));
        };
        if let Some(kind) = part.error {
            let is_legal = judge_read_error(kind, part.partition, *position, hands);
            self.positions.remove(&part.partition);
            return is_legal;
        }
        let shown = Shown { from: *position, bytes: &part.bytes, high_watermark: part.high_watermark };
        *position = hands.oracle.on_read(part.partition, shown)?;
        Ok(())
    }

    fn on_listed(
        partition: PartitionId,
        end: Offset,
        spec: OffsetSpec,
        listed: &[ListedOffset],
        hands: &mut Hands<'_>,
    ) -> Checked {
        let [listed] = listed else {
            return Err(Finding::new("answers fit their questions", format!("{} for 1", listed.len())));
        };
        if let Some(kind) = listed.error {
            return judge_read_error(kind, partition, Offset(0), hands);
        }
        match spec {
            OffsetSpec::Latest => hands.oracle.on_end(partition, listed.offset, end),
            OffsetSpec::Earliest if listed.offset != Offset(0) => {
                let seen = format!("{partition} begins at {:?}", listed.offset);
                Err(Finding::new("nothing is cut from the front unasked", seen))
            }
            // The engine doesn't look into compressed records: it names the batch that may hold one as late.
            OffsetSpec::At(target)
                if listed.timestamp.is_some_and(|found| found < target)
                    && hands.oracle.is_legible(partition, listed.offset) =>
            {
                let seen = format!("{partition}: {:?} for {target:?}", listed.timestamp);
                Err(Finding::new("a search by time finds what is as late", seen))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a read may be refused like this.
///
/// # Errors
/// If not.
pub fn judge_read_error(
    kind: ErrorKind,
    partition: PartitionId,
    position: Offset,
    hands: &Hands<'_>,
) -> Checked {
    let fails = hands.habits.disk_fails || hands.oracle.rotten;
    let is_legal = match kind {
        ErrorKind::UnknownTopicId | ErrorKind::UnknownTopicOrPartition | ErrorKind::NotLeaderOrFollower => {
            true
        }
        ErrorKind::NotReady | ErrorKind::ThrottlingQuotaExceeded => true,
        ErrorKind::StorageError | ErrorKind::DamagedRange => fails,
        ErrorKind::OffsetOutOfRange => {
            let is_alive = hands.oracle.topic(partition.topic).is_some_and(|it| it.state == TopicState::Live);
            !is_alive || hands.oracle.rotten || position > hands.oracle.end(partition)
        }
        _ => false,
    };
    if is_legal {
        Ok(())
    } else {
        let seen = format!("{kind:?} for a read of {partition} at {position:?}");
        Err(Finding::new("errors have a reason", seen))
    }
}

impl Client for Reader {
    fn kind(&self) -> &'static str {
        "reader"
    }

    fn wake(&mut self, hands: &mut Hands<'_>) -> Checked {
        if hands.winding_down {
            return Ok(());
        }
        if self.fetch.is_none() {
            if self.positions.is_empty() || hands.random.one_in(12) {
                self.choose(hands);
            }
            self.ask_fetch(hands);
        }
        if self.list.is_none() && hands.random.one_in(5) {
            self.ask_list(hands);
        }
        hands.leaves = hands.random.one_in(60);
        hands.rest();
        Ok(())
    }

    fn answer(&mut self, correlation: u32, response: Response, hands: &mut Hands<'_>) -> Checked {
        if let Some((_, partition, end, spec)) = self.list.take_if(|list| list.0 == correlation) {
            return match response {
                Response::ListedOffsets(listed) => Self::on_listed(partition, end, spec, &listed, hands),
                Response::Refused(kind) => judge_read_error(kind, partition, Offset(0), hands),
                other => Err(misfit("list offsets", &other)),
            };
        }
        let Some((_, fetch)) = self.fetch.take_if(|fetch| fetch.0 == correlation) else {
            return Err(misfit("nothing", &response));
        };
        match response {
            Response::Fetched(fetched) => {
                let total: usize = fetched.parts.iter().map(FetchedPart::len).sum();
                let with_bytes = fetched.parts.iter().filter(|part| !part.is_empty()).count();
                if total > fetch.bytes_max as usize && with_bytes > 1 {
                    let seen = format!("{total} bytes of {with_bytes} partitions for {}", fetch.bytes_max);
                    return Err(Finding::new("a fetch keeps its bound", seen));
                }
                for part in &fetched.parts {
                    self.on_part(part, hands)?;
                }
                Ok(())
            }
            Response::Refused(kind) => {
                self.positions.clear();
                judge_read_error(kind, PartitionId::default(), Offset(0), hands)
            }
            other => Err(misfit("fetch", &other)),
        }
    }

    fn gone(&mut self, _oracle: &mut Oracle) {
        self.fetch = None;
        self.list = None;
        self.positions.clear();
    }

    fn is_done(&self) -> bool {
        self.fetch.is_none() && self.list.is_none()
    }
}
