//! The connections that read: one per shard, subscribed with credit, everything checked.

use anyhow::{Result, anyhow};
use cutwater_api::{FetchPart, Request, Subscribe, SubscriptionId};
use cutwater_client::{LinkId, Transport, Wire};
use cutwater_model::{Offset, PartitionId, ShardId};
use cutwater_native::api::fetch::FetchedView;

use crate::payload::Stamp;
use crate::reader::{Checker, PartitionCheck, ReadFault};
use crate::setup::Targets;

/// What may be pushed before it was checked, for each connection, and of one partition at once.
const CREDIT_BYTES: u32 = 16 << 20;
const PARTITION_BYTES_MAX: u32 = 1 << 20;

#[derive(Debug)]
struct Subscription {
    link: LinkId,
    shard: ShardId,
    id: SubscriptionId,
    owed_bytes: u32,
}

/// All connections that read.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    links: Vec<Subscription>,
    checker: Checker,
    checks: Vec<PartitionCheck>,
    /// The numbers of the partitions, sorted by their id.
    numbers: Vec<(PartitionId, u32)>,
    connections: u32,
    /// Records of this pass.
    pub(crate) records: u64,
    /// Bytes of batches of all passes.
    pub(crate) bytes: u64,
    pub(crate) fault: Option<(PartitionId, ReadFault)>,
}

impl Subscriptions {
    pub(crate) fn open(
        transport: &mut Transport,
        targets: &Targets,
        checker: Checker,
        connections: u32,
    ) -> Result<Self> {
        let mut shards: Vec<ShardId> = targets.partitions.iter().map(|target| target.shard).collect();
        shards.sort_unstable();
        shards.dedup();
        let mut links = Vec::new();
        for shard in shards {
            let link = transport.open(Some(shard))?;
            links.push(Subscription { link, shard, id: SubscriptionId(0), owed_bytes: 0 });
        }
        let mut numbers: Vec<(PartitionId, u32)> =
            targets.partitions.iter().map(|target| target.id).zip(0..).collect();
        numbers.sort_unstable();
        Ok(Self {
            links,
            checker,
            checks: Vec::new(),
            numbers,
            connections,
            records: 0,
            bytes: 0,
            fault: None,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    /// Begins to read, or begins again, from where each partition ended before the run.
    pub(crate) fn begin(&mut self, transport: &mut Transport, targets: &Targets) -> Result<()> {
        self.records = 0;
        let begin = |target: &crate::setup::Target| PartitionCheck::new(target.start, self.connections);
        self.checks = targets.partitions.iter().map(begin).collect();
        for link in &mut self.links {
            let session =
                transport.session(link.link).ok_or_else(|| anyhow!("a reader lost its connection"))?;
            if link.id.0 > 0 {
                session.request(0, &Request::Unsubscribe { subscription: link.id });
            }
            link.id.0 += 1;
            link.owed_bytes = 0;
            let parts = targets.partitions.iter().filter(|target| target.shard == link.shard);
            let parts = parts.map(|target| FetchPart {
                partition: target.id,
                offset: target.start,
                bytes_max: PARTITION_BYTES_MAX,
            });
            let (subscription, credit_bytes) = (link.id, CREDIT_BYTES);
            let subscribe = Subscribe { subscription, credit_bytes, parts: parts.collect() };
            session.request(0, &Request::Subscribe(subscribe));
        }
        Ok(())
    }

    /// Checks what was pushed; tells the stamp of each record.
    pub(crate) fn on_pushed(
        &mut self,
        link: LinkId,
        subscription: SubscriptionId,
        fetched: FetchedView<'_>,
        mut on_record: impl FnMut(&Stamp),
    ) {
        let found = self.links.iter_mut().find(|known| known.link == link && known.id == subscription);
        let Some(known) = found else { return };
        known.owed_bytes = known.owed_bytes.saturating_add(fetched.batches().len() as u32);
        self.bytes += fetched.batches().len() as u64;
        for part in fetched.parts() {
            let Ok(place) = self.numbers.binary_search_by_key(&part.partition, |&(id, _)| id) else {
                continue;
            };
            let number = self.numbers[place].1;
            let checked = match part.failure {
                Some(failure) => Err(ReadFault::Refused { code: failure.code }),
                None => {
                    let check = &mut self.checks[number as usize];
                    self.checker.check(number, check, part.batches, &mut on_record)
                }
            };
            match checked {
                Ok(records) => self.records += records,
                Err(fault) => {
                    self.fault.get_or_insert((part.partition, fault));
                }
            }
        }
    }

    /// Allows as much again as was checked, in portions worth a frame.
    pub(crate) fn give_credit(&mut self, transport: &mut Transport) {
        for link in &mut self.links {
            if link.owed_bytes >= CREDIT_BYTES / 8
                && let Some(session) = transport.session(link.link)
            {
                let (subscription, bytes) = (link.id, core::mem::take(&mut link.owed_bytes));
                session.request(0, &Request::AddCredit { subscription, bytes });
            }
        }
    }

    /// How many records were read of each partition in this pass, by its number.
    pub(crate) fn positions(&self) -> impl Iterator<Item = Offset> {
        self.checks.iter().map(|check| check.next)
    }
}
