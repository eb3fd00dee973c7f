use std::collections::BTreeMap;
use std::time::Duration;

use cutwater_model::builder::{BatchBuilder, Sequence};
use cutwater_model::{Offset, ShardId, TimestampMs};

use super::*;
use crate::test_peer::{Faults, Peer, partition};

const PARTITIONS: u32 = 3;
const RECORDS: i64 = 300;

/// Partitions with records whose value is their offset, in batches of one to five.
fn filled(seed: u64) -> Peer {
    let mut peer = Peer::new(seed, PARTITIONS, 2);
    for log in &mut peer.logs {
        while log.end() < RECORDS {
            let mut builder = BatchBuilder::new(10_000);
            for delta in 0..(log.end() % 5 + 1) {
                let value = (log.end() + delta).to_le_bytes();
                builder.append(TimestampMs(0), None, Some(&value), &[]).unwrap();
            }
            log.append(builder.finish(Sequence::NONE)).unwrap();
        }
    }
    peer
}

fn consumer(peer: Peer, config: ConsumerConfig, start: StartAt) -> Consumer<Peer> {
    let mut consumer = Consumer::over(peer, config);
    for index in 0..PARTITIONS {
        consumer.assign(partition(index), ShardId(index as u16 % 2), start);
    }
    consumer
}

/// Reads until all partitions are at their end; each record must hold its offset and come once, in order.
fn read_all(consumer: &mut Consumer<Peer>, seen: &mut BTreeMap<PartitionId, i64>, seed: u64) {
    for _ in 0..100_000 {
        consumer
            .poll(Wait::AtMost(Duration::from_millis(10)), |records| {
                let next = seen.entry(records.partition).or_insert(0);
                for record in records {
                    assert_eq!(record.offset.0, *next, "seed {seed}");
                    assert_eq!(record.value.unwrap(), next.to_le_bytes(), "seed {seed}");
                    *next += 1;
                }
            })
            .unwrap();
        assert_eq!(consumer.next_error(), None, "seed {seed}");
        let ends = consumer.wire.logs.iter().map(super::super::test_peer::Log::end);
        if (0..).zip(ends).all(|(index, end)| seen.get(&partition(index)) == Some(&end)) {
            return;
        }
    }
    panic!("seed {seed}: not all was read: {seen:?}");
}

#[test]
fn everything_is_read_once_and_in_order_whatever_the_network_does() {
    for is_pushed in [true, false] {
        for seed in 1..=60 {
            let mut peer = filled(seed);
            peer.faults = Faults { cut_before: 20, cut_after: 20, delay: 200, split: 400, not_now: 0 };
            // Little credit, so that it has to be renewed many times.
            let config = ConsumerConfig { is_pushed, credit_bytes: 400, ..ConsumerConfig::default() };
            let mut consumer = consumer(peer, config, StartAt::Earliest);
            read_all(&mut consumer, &mut BTreeMap::new(), seed);
        }
    }
}

#[test]
fn a_beginning_inside_a_batch_skips_the_records_before_it() {
    for offset in 0..40 {
        let start = StartAt::Offset(Offset(offset));
        let mut consumer = consumer(filled(1), ConsumerConfig::default(), start);
        let mut seen = (0..PARTITIONS).map(|index| (partition(index), offset)).collect();
        read_all(&mut consumer, &mut seen, 1);
    }
}

#[test]
fn a_paused_partition_gives_nothing_and_goes_on_where_it_was() {
    let mut consumer = consumer(filled(1), ConsumerConfig::default(), StartAt::Earliest);
    consumer.pause(partition(1));
    let mut seen = BTreeMap::new();
    for _ in 0..1000 {
        consumer
            .poll(Wait::Never, |records| {
                assert_ne!(records.partition, partition(1));
                let end = records.header.next_offset().0;
                seen.insert(records.partition, end);
            })
            .unwrap();
    }
    assert_eq!(seen.len(), 2);
    consumer.resume(partition(1));
    read_all(&mut consumer, &mut seen, 1);
    consumer.seek(partition(0), StartAt::Offset(Offset(5)));
    seen.insert(partition(0), 5);
    read_all(&mut consumer, &mut seen, 1);
    consumer.unassign(partition(0));
    assert_eq!(consumer.position(partition(0)), None);
    assert_eq!(consumer.position(partition(2)).unwrap().0, consumer.wire.logs[2].end());
}

/// Reads until an error comes.
fn first_error(peer: Peer) -> ReadError {
    let mut consumer = consumer(peer, ConsumerConfig::default(), StartAt::Earliest);
    for _ in 0..1000 {
        consumer.poll(Wait::Never, |_| {}).unwrap();
        if let Some(error) = consumer.next_error() {
            assert_eq!(consumer.position(error.partition), Some(error.offset));
            return error;
        }
    }
    panic!("no error came");
}

#[test]
fn damage_gaps_and_steps_back_are_found_and_stop_the_partition() {
    let mut peer = filled(1);
    let last = peer.logs[2].batches[7].bytes.len() - 1;
    peer.logs[2].batches[7].bytes[last] ^= 1;
    let error = first_error(peer);
    assert_eq!(error.partition, partition(2));
    assert!(matches!(error.fault, ReadFault::Batch(_)), "{error}");

    let mut peer = filled(1);
    let base = peer.logs[0].batches.remove(3).base;
    let error = first_error(peer);
    assert!(matches!(error.fault, ReadFault::Gap { .. }), "{error}");
    assert_eq!(error.offset, Offset(base));

    let mut peer = filled(1);
    let log = &mut peer.logs[1];
    let again = log.batches[1].bytes.clone();
    log.batches[2].bytes = again;
    let error = first_error(peer);
    assert!(matches!(error.fault, ReadFault::WentBack { .. }), "{error}");
}

#[test]
fn latest_gives_only_what_is_appended_afterwards() {
    let mut consumer = consumer(filled(1), ConsumerConfig::default(), StartAt::Latest);
    for _ in 0..50 {
        consumer.poll(Wait::Never, |records| panic!("{records:?}")).unwrap();
    }
    let end = consumer.wire.logs[0].end();
    let mut builder = BatchBuilder::new(1000);
    builder.append(TimestampMs(0), None, Some(b"new"), &[]).unwrap();
    consumer.wire.logs[0].append(builder.finish(Sequence::NONE)).unwrap();
    let mut found = Vec::new();
    for _ in 0..50 {
        consumer.poll(Wait::Never, |records| found.extend(records.map(|it| it.offset.0))).unwrap();
    }
    assert_eq!(found, [end]);
}
