//! The connections that produce: which one sends next, where to, and how many of its requests are under way.

use anyhow::{Result, bail};
use cutwater_api::{Produce, RequiredAcks};
use cutwater_client::{LinkId, Transport, Wire};
use cutwater_model::builder::Sequence;
use cutwater_model::partitioner::partition_of;
use cutwater_model::{ProducerEpoch, ProducerId, ShardId};

use crate::arguments::Route;
use crate::payload::{Stamp, Template};
use crate::setup::Targets;

/// One connection.
#[derive(Debug)]
struct Writer {
    link: LinkId,
    in_flight: u32,
    /// The partitions it writes, in rotation.
    partitions: Vec<u32>,
    cursor: usize,
    /// The number of the next record for each partition of the run.
    sequences: Vec<u64>,
    /// Under which its batches are numbered, if they are.
    producer: Option<(ProducerId, ProducerEpoch)>,
}

/// Records with the same key, made before the run.
#[derive(Debug)]
struct Keyed {
    template: Template,
    /// The partition that the key decides, inside each topic.
    partition: u32,
}

/// All connections that produce.
#[derive(Debug)]
pub(crate) struct Writers {
    writers: Vec<Writer>,
    keyed: Vec<Keyed>,
    run: u64,
    in_flight_max: u32,
    /// Whose turn it is.
    next: usize,
    requests: u64,
    pub(crate) in_flight: u64,
}

impl Writers {
    /// Opens the connections, each to a shard whose partitions, or for [`Route::Other`] others', it will write.
    pub(crate) fn open(
        transport: &mut Transport,
        targets: &Targets,
        (connections, in_flight_max): (u32, u32),
        route: Route,
        run: u64,
        templates: Vec<(Template, Option<Vec<u8>>)>,
        producers: &[(ProducerId, ProducerEpoch)],
    ) -> Result<Self> {
        let mut writers = Vec::new();
        let is_keyed = templates.iter().any(|(_, key)| key.is_some());
        for number in 0..connections {
            let shard = ShardId((number % u32::from(targets.shards)) as u16);
            let partitions: Vec<u32> = (0..)
                .zip(&targets.partitions)
                .filter(|(_, target)| match route {
                    _ if is_keyed => true,
                    Route::Owner => target.shard == shard,
                    Route::Other => target.shard != shard,
                    Route::Any => true,
                })
                .map(|(number, _)| number)
                .collect();
            if partitions.is_empty() {
                continue;
            }
            let cursor = number as usize % partitions.len();
            let sequences = vec![0; targets.partitions.len()];
            let link = transport.open(Some(shard))?;
            let producer = producers.get(number as usize).copied();
            writers.push(Writer { link, in_flight: 0, partitions, cursor, sequences, producer });
        }
        if writers.is_empty() {
            bail!("no connection has a partition to write: more --partitions, or another --route");
        }
        let count = targets.partitions_per_topic;
        let keyed = templates.into_iter().map(|(template, key)| Keyed {
            partition: key.map_or(0, |key| partition_of(&key, count).0),
            template,
        });
        Ok(Self { writers, keyed: keyed.collect(), run, in_flight_max, next: 0, requests: 0, in_flight: 0 })
    }

    pub(crate) fn len(&self) -> usize {
        self.writers.len()
    }

    /// The template that all records share but for their key.
    pub(crate) fn template(&self) -> &Template {
        &self.keyed[0].template
    }

    /// Sends one request, intended for that time, by the next connection that has room. False when none has.
    #[inline]
    pub(crate) fn send(&mut self, transport: &mut Transport, targets: &Targets, intended_ns: u64) -> bool {
        for _ in 0..self.writers.len() {
            let number = self.next;
            self.next = if number + 1 == self.writers.len() { 0 } else { number + 1 };
            if self.writers[number].in_flight < self.in_flight_max {
                return self.send_by(number, transport, targets, intended_ns);
            }
        }
        false
    }

    #[inline]
    fn send_by(
        &mut self,
        number: usize,
        transport: &mut Transport,
        targets: &Targets,
        intended_ns: u64,
    ) -> bool {
        let writer = &mut self.writers[number];
        let Some(session) = transport.session(writer.link) else { return false };
        let keyed = &self.keyed[(self.requests % self.keyed.len() as u64) as usize];
        let mut partition = writer.partitions[writer.cursor];
        if self.keyed.len() > 1 {
            let topic = partition / targets.partitions_per_topic;
            partition = topic * targets.partitions_per_topic + keyed.partition;
        }
        let (batch, is_stamped) = keyed.template.batch(self.requests);
        let produce =
            Produce { partition: targets.partitions[partition as usize].id, acks: RequiredAcks::All, batch };
        let sequence = writer.sequences[partition as usize];
        let stamp = Stamp { run: self.run, connection: number as u32, partition, sequence, intended_ns };
        let is_queued = if is_stamped {
            let numbers = writer.producer.map(|producer| numbers(producer, sequence));
            session.produce_patched(intended_ns, &produce, |copy| {
                if let Some(numbers) = numbers {
                    Template::number(copy, numbers);
                }
                keyed.template.stamp(copy, stamp);
            })
        } else {
            session.produce(intended_ns, &produce)
        };
        if is_queued {
            writer.sequences[partition as usize] += u64::from(keyed.template.records());
            writer.cursor = if writer.cursor + 1 == writer.partitions.len() { 0 } else { writer.cursor + 1 };
            writer.in_flight += 1;
            self.in_flight += 1;
            self.requests += 1;
        }
        is_queued
    }

    /// An answer came. Slots of links are given in the order of opening, so a link's slot is its writer's number.
    #[inline]
    pub(crate) fn on_answer(&mut self, link: LinkId) {
        if let Some(writer) = self.writers.get_mut(link.slot as usize) {
            writer.in_flight = writer.in_flight.saturating_sub(1);
            self.in_flight = self.in_flight.saturating_sub(1);
        }
    }
}

/// The numbers of a batch whose first record is the connection's so manieth in that partition. After the largest number
/// comes 0.
fn numbers((producer_id, producer_epoch): (ProducerId, ProducerEpoch), sequence: u64) -> Sequence {
    let base_sequence = (sequence & i32::MAX as u64) as i32;
    Sequence { producer_id, producer_epoch, base_sequence }
}
