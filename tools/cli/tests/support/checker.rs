//! Reads the log of a topic, life after life, and compares it with all that was acknowledged and all that was read before.
//!
//! Found are: acknowledged records that are lost or at another offset; records that came twice, out of order, or that
//! nobody sent; and records that were read before a crash and are others, or gone, after it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use cutwater_api::OffsetSpec;
use cutwater_client::{Client, ClientConfig, Consumer, ConsumerConfig, StartAt, Wait};
use cutwater_load::payload::Stamp;
use cutwater_model::{Offset, PartitionId, ShardId};

use super::load::{Ack, Fate, Load, value};

/// How much of what was read before is read again after each crash.
const READ_AGAIN: usize = 1000;
const READ_MAX: Duration = Duration::from_secs(120);

/// Who sent the record at an offset, and the how manieth it was.
type Origin = (u32, u64);

/// See the module.
pub(crate) struct Checker {
    run: u64,
    topic: String,
    client: ClientConfig,
    producers: u32,
    /// For each partition, the origin of each record by offset.
    logs: Vec<Vec<Origin>>,
    /// For each partition and producer, the number that comes next.
    next: Vec<Vec<u64>>,
    /// Acknowledged, not yet found.
    acks: Vec<Ack>,
    /// What was told while a check was under way.
    later: Vec<Ack>,
    /// Partition, producer and number of those that may be missing.
    given_up: HashSet<(u32, u32, u64)>,
    pub(crate) acked: u64,
}

impl Checker {
    pub(crate) fn new(run: u64, topic: &str, client: &ClientConfig, producers: u32, partitions: u32) -> Self {
        Self {
            run,
            topic: topic.to_owned(),
            client: *client,
            producers,
            logs: vec![Vec::new(); partitions as usize],
            next: vec![vec![0; producers as usize]; partitions as usize],
            acks: Vec::new(),
            later: Vec::new(),
            given_up: HashSet::new(),
            acked: 0,
        }
    }

    /// Reads what has come since, and a part of what was there, and looks for all these acknowledgements.
    pub(crate) fn check(&mut self, acks: Vec<Ack>, load: &Load) {
        let acks = core::mem::take(&mut self.later).into_iter().chain(acks).collect();
        self.take(acks);
        self.read(READ_AGAIN, Some(load));
        self.check_acks();
    }

    /// Reads everything once more. All that was sent must be there, and nothing else.
    pub(crate) fn check_all(&mut self, sent: &[Vec<u64>], acks: Vec<Ack>) {
        let acks = core::mem::take(&mut self.later).into_iter().chain(acks).collect();
        self.take(acks);
        self.read(usize::MAX, None);
        self.check_acks();
        for (partition, next) in self.next.iter().enumerate() {
            for (producer, &there) in next.iter().enumerate() {
                let sent = sent[producer][partition];
                // Only what was given up may be missing at the end.
                let missing = (there..sent)
                    .find(|&number| !self.given_up.contains(&(partition as u32, producer as u32, number)));
                assert_eq!(
                    missing, None,
                    "partition {partition}: producer {producer} sent {sent}, {there} are there"
                );
                assert!(there <= sent, "partition {partition}: more of producer {producer} than it sent");
            }
        }
        let told = self.acked + self.given_up.len() as u64;
        assert_eq!(told, sent.iter().flatten().sum::<u64>(), "the fate of each record is told once");
    }

    fn take(&mut self, acks: Vec<Ack>) {
        for ack in acks {
            if ack.fate == Fate::GivenUp {
                self.given_up.insert((ack.partition, ack.producer, ack.sequence));
            } else {
                self.acked += 1;
                self.acks.push(ack);
            }
        }
    }

    pub(crate) fn records(&self) -> usize {
        self.logs.iter().map(Vec::len).sum()
    }

    fn read(&mut self, again: usize, load: Option<&Load>) {
        let mut client = Client::new(&self.client).unwrap();
        let topic = client.topic(&self.topic).unwrap();
        let ids: Vec<(PartitionId, ShardId)> = topic
            .partitions
            .iter()
            .map(|it| (PartitionId { topic: topic.id, index: it.index }, it.shard))
            .collect();
        let partitions: Vec<PartitionId> = ids.iter().map(|(id, _)| *id).collect();
        let ends: Vec<i64> = client
            .list_offsets(&partitions, OffsetSpec::Latest)
            .unwrap()
            .into_iter()
            .map(|found| found.offset.unwrap().0)
            .collect();
        let mut consumer = Consumer::new(&self.client, ConsumerConfig::default()).unwrap();
        for ((id, shard), log) in ids.iter().zip(&self.logs) {
            let end = ends[id.index.0 as usize];
            let seen = log.len();
            assert!(
                end >= seen as i64,
                "partition {}: {seen} records were read, now it ends at {end}",
                id.index.0
            );
            let from = seen.saturating_sub(again) as i64;
            consumer.assign(*id, *shard, StartAt::Offset(Offset(from)));
        }
        let started = Instant::now();
        while !ids
            .iter()
            .all(|(id, _)| consumer.position(*id).is_some_and(|at| at.0 >= ends[id.index.0 as usize]))
        {
            consumer
                .poll(Wait::AtMost(Duration::from_millis(100)), |records| {
                    let partition = records.partition.index.0;
                    for record in records {
                        self.on_record(partition, record.offset.0, record.value.unwrap_or_default(), load);
                    }
                })
                .unwrap();
            if let Some(error) = consumer.next_error() {
                panic!("{error}");
            }
            assert!(started.elapsed() < READ_MAX, "not read to the end: {:?}", consumer.last_fault());
        }
        consumer.close().unwrap();
    }

    fn on_record(&mut self, partition: u32, offset: i64, found: &[u8], load: Option<&Load>) {
        let at = format!("partition {partition}, offset {offset}");
        let stamp =
            Stamp::read(found).unwrap_or_else(|| panic!("{at}: torn or invented: {} bytes", found.len()));
        assert_eq!((stamp.run, stamp.partition), (self.run, partition), "{at}: of another run or partition");
        assert!(stamp.connection < self.producers, "{at}: no such producer");
        let expected = value(self.run, stamp.connection, partition, stamp.sequence);
        assert!(found == expected, "{at}: not what was sent as {stamp:?}");
        let origin = (stamp.connection, stamp.sequence);
        let log = &self.logs[partition as usize];
        if let Some(&before) = log.get(offset as usize) {
            assert_eq!(before, origin, "{at}: another record than was read here before");
            return;
        }
        assert_eq!(offset, log.len() as i64, "{at}: offsets are dense");
        // A producer tells what it gave up before it sends what follows, but perhaps after this check began.
        let next = self.next[partition as usize][stamp.connection as usize];
        if let Some(load) = load.filter(|_| stamp.sequence > next) {
            self.later.extend(load.take_acks());
            let given_up = self.later.iter().filter(|ack| ack.fate == Fate::GivenUp);
            self.given_up.extend(given_up.map(|ack| (ack.partition, ack.producer, ack.sequence)));
        }
        let next = &mut self.next[partition as usize][stamp.connection as usize];
        while stamp.sequence > *next && self.given_up.contains(&(partition, stamp.connection, *next)) {
            *next += 1;
        }
        assert_eq!(
            stamp.sequence, *next,
            "{at}: lost, doubled or reordered record of producer {}",
            stamp.connection
        );
        *next += 1;
        self.logs[partition as usize].push(origin);
    }

    fn check_acks(&mut self) {
        for ack in self.acks.drain(..) {
            let log = &self.logs[ack.partition as usize];
            let next = self.next[ack.partition as usize][ack.producer as usize];
            assert!(ack.sequence < next, "acknowledged and lost: {ack:?}; {next} of them are there");
            if let Fate::At(offset) = ack.fate {
                let found = log.get(offset as usize).copied();
                assert_eq!(
                    found,
                    Some((ack.producer, ack.sequence)),
                    "acknowledged at another offset: {ack:?}"
                );
            }
        }
    }
}
