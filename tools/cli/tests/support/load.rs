//! Producers that outlive the nodes they write to: each record is sent, however often it takes, until it is
//! acknowledged, and every acknowledgement is remembered.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use cutwater_client::producer::OutRecord;
use cutwater_client::{ClientConfig, Producer, ProducerConfig, SendError, Wait};
use cutwater_load::payload::{STAMP_BYTES, Stamp};
use cutwater_model::PartitionIndex;

use super::Random;

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Acknowledged, at this offset.
    At(i64),
    /// Acknowledged; the node has forgotten the offset, but the record must be there.
    Somewhere,
    /// Not acknowledged and given up: it may be there or not.
    GivenUp,
}

/// A record whose fate is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ack {
    pub(crate) producer: u32,
    pub(crate) partition: u32,
    pub(crate) sequence: u64,
    pub(crate) fate: Fate,
}

/// How often a record is so large that its batch goes past the journal.
const LARGE_ONE_IN: u64 = 300;
const LARGE_BYTES: u64 = 150_000;
/// What each producer sends at most in a millisecond or so.
const BURST: u64 = 20;

/// The producers of a test.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    acks: Arc<Mutex<Vec<Ack>>>,
    threads: Vec<JoinHandle<Vec<u64>>>,
}

impl Load {
    /// Starts so many producers, each on a thread of its own. Unless they `may_fail`, no record may be refused.
    pub(crate) fn start(
        client: &ClientConfig,
        topic: &str,
        run: u64,
        (producers, partitions): (u32, u32),
        may_fail: bool,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acks = Arc::new(Mutex::new(Vec::new()));
        let threads: Vec<_> = (0..producers)
            .map(|producer| {
                let sender = Sender {
                    producer,
                    run,
                    client: *client,
                    topic: topic.to_owned(),
                    next: vec![0; partitions as usize],
                    sent: Vec::new(),
                    acks: acks.clone(),
                    random: Random(run ^ u64::from(producer)),
                    may_fail,
                };
                let stop = stop.clone();
                thread::spawn(move || sender.run(&stop))
            })
            .collect();
        Self { stop, acks, threads }
    }

    /// What was acknowledged since the last call.
    pub(crate) fn take_acks(&self) -> Vec<Ack> {
        core::mem::take(&mut self.acks.lock().unwrap())
    }

    /// Stops sending and waits until everything was acknowledged. Returns how many records each producer sent to each
    /// partition.
    pub(crate) fn finish(self) -> (Vec<Vec<u64>>, Vec<Ack>) {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.threads.into_iter().map(|thread| thread.join().expect("a producer failed")).collect();
        let acks = core::mem::take(&mut *self.acks.lock().unwrap());
        (sent, acks)
    }
}

struct Sender {
    producer: u32,
    run: u64,
    client: ClientConfig,
    topic: String,
    /// The next number for each partition.
    next: Vec<u64>,
    /// Partition and number of each record, by its token.
    sent: Vec<(u32, u64)>,
    acks: Arc<Mutex<Vec<Ack>>>,
    random: Random,
    may_fail: bool,
}

impl Sender {
    fn run(mut self, stop: &AtomicBool) -> Vec<u64> {
        let config = ProducerConfig {
            linger: Duration::from_millis(1),
            batch_bytes_max: 200_000,
            buffer_bytes_max: 4 << 20,
            delivery_timeout: Duration::from_secs(600),
            request_timeout: Duration::from_secs(20),
            ..ProducerConfig::default()
        };
        let mut producer = Producer::new(&self.client, config).unwrap();
        let topic = producer.topic(&self.topic).unwrap();
        while !stop.load(Ordering::Relaxed) {
            for _ in 0..self.random.below(BURST) {
                let partition = self.random.below(self.next.len() as u64) as u32;
                let sequence = self.next[partition as usize];
                let value = value(self.run, self.producer, partition, sequence);
                let record = OutRecord {
                    value: Some(&value),
                    partition: Some(PartitionIndex(partition)),
                    token: self.sent.len() as u64,
                    ..OutRecord::default()
                };
                match producer.send(topic, &record) {
                    Ok(()) => {
                        self.next[partition as usize] += 1;
                        self.sent.push((partition, sequence));
                    }
                    Err(SendError::Full { .. }) => break,
                    Err(error) => panic!("producer {}: {error}", self.producer),
                }
            }
            producer.poll(Wait::AtMost(Duration::from_millis(1))).unwrap();
            self.take_reports(&mut producer);
            thread::sleep(Duration::from_micros(500));
        }
        assert!(producer.flush(Duration::from_secs(300)).unwrap(), "not all was acknowledged in the end");
        self.take_reports(&mut producer);
        self.next
    }

    fn take_reports(&self, producer: &mut Producer) {
        let mut acks = self.acks.lock().unwrap();
        while let Some(delivery) = producer.next_delivery() {
            let (partition, sequence) = self.sent[delivery.token as usize];
            let fate = match delivery.outcome {
                Ok(Some(offset)) => Fate::At(offset.0),
                Ok(None) => Fate::Somewhere,
                // A node without a disk says so.
                Err(_) if self.may_fail => Fate::GivenUp,
                Err(error) => {
                    panic!("producer {}, partition {partition}, record {sequence}: {error}", self.producer)
                }
            };
            acks.push(Ack { producer: self.producer, partition, sequence, fate });
        }
    }
}

/// The value of a record: a stamp, and filler that follows from it. Its length does too.
pub(crate) fn value(run: u64, producer: u32, partition: u32, sequence: u64) -> Vec<u8> {
    let mut random = Random(run ^ u64::from(producer) << 40 ^ u64::from(partition) << 32 ^ sequence);
    let large = random.below(LARGE_ONE_IN) == 0;
    let bytes = STAMP_BYTES as u64 + if large { random.below(LARGE_BYTES) } else { random.below(200) };
    let mut value = vec![random.below(256) as u8; bytes as usize];
    Stamp { run, connection: producer, partition, sequence, intended_ns: bytes }.write(&mut value);
    value
}
