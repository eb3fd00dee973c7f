//! A peer that behaves well while others do not: it must not notice them.

use std::net::SocketAddr;

use cutwater_model::PartitionId;
use cutwater_model::builder::Sequence;
use cutwater_model::topic::TopicConfig;

use super::raw::{Raw, batch_of, partition};

/// Two partitions, so that with two shards one is behind the connection's own shard and one behind the other.
const PARTITIONS: u32 = 2;

/// One connection that produces and reads, and remembers what was acknowledged.
pub(crate) struct Probe {
    raw: Option<Raw>,
    partitions: Vec<PartitionId>,
    /// By partition, the value at each offset.
    acked: Vec<Vec<Vec<u8>>>,
}

impl Probe {
    pub(crate) fn new(node: SocketAddr) -> Self {
        let mut raw = Raw::connect(node);
        let topic = raw.create_topic("probe", PARTITIONS, TopicConfig::default());
        let partitions = (0..PARTITIONS).map(|index| partition(topic, index)).collect();
        Self { raw: Some(raw), partitions, acked: vec![Vec::new(); PARTITIONS as usize] }
    }

    /// Goes on over another connection, after a restart of the node.
    pub(crate) fn reconnect(&mut self, node: SocketAddr) {
        self.raw = Some(Raw::connect(node));
    }

    /// Appends to each partition and reads it back. `after` says what has just happened.
    pub(crate) fn check(&mut self, after: &str) {
        let raw = self.raw.as_mut().expect("a connection");
        for (&partition, acked) in self.partitions.iter().zip(&mut self.acked) {
            let value = format!("{} after {after}", acked.len()).into_bytes();
            let offset = raw.produce(partition, &batch_of(&[&value], Sequence::NONE));
            assert_eq!(offset, Ok(acked.len() as i64), "the probe's append after {after}");
            let batches = raw.fetch(partition, acked.len() as i64).unwrap();
            assert!(batches.windows(value.len()).any(|it| it == value), "the probe's read after {after}");
            acked.push(value);
        }
    }

    /// Reads everything back: nothing acknowledged is lost or changed, nothing else is there.
    pub(crate) fn check_all(&mut self) {
        let raw = self.raw.as_mut().expect("a connection");
        for (&partition, acked) in self.partitions.iter().zip(&self.acked) {
            let records = raw.records(partition);
            assert_eq!(records.len(), acked.len(), "records of {partition}");
            for (expected, ((offset, value), acked)) in records.iter().zip(acked).enumerate() {
                assert_eq!((*offset, value), (expected as i64, acked), "{partition}");
            }
        }
    }

    /// Reads what is there after a loss that was to be expected: a beginning of what was acknowledged, nothing else.
    /// Returns how many records each partition has, and forgets the others.
    pub(crate) fn check_prefix(&mut self) -> Vec<usize> {
        let raw = self.raw.as_mut().expect("a connection");
        for (&partition, acked) in self.partitions.iter().zip(&mut self.acked) {
            let records = raw.records(partition);
            assert!(records.len() <= acked.len(), "{partition}: {} of {}", records.len(), acked.len());
            for (expected, ((offset, value), acked)) in records.iter().zip(acked.iter()).enumerate() {
                assert_eq!((*offset, value), (expected as i64, acked), "{partition}");
            }
            acked.truncate(records.len());
        }
        self.acked.iter().map(Vec::len).collect()
    }
}

impl Clone for Probe {
    /// What it remembers; a copy makes its own connection.
    fn clone(&self) -> Self {
        Self { raw: None, partitions: self.partitions.clone(), acked: self.acked.clone() }
    }
}
