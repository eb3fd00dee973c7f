use std::collections::BTreeMap;
use std::time::Duration;

use cutwater_model::{ErrorKind, Offset, PartitionIndex};

use super::*;
use crate::test_peer::{Faults, Peer, TOPIC_NAME, partition};

fn producer(peer: Peer, config: ProducerConfig) -> (Producer<Peer>, TopicHandle) {
    let mut producer = Producer::over(peer, Duration::from_secs(30), config);
    let topic = producer.topic(TOPIC_NAME).unwrap();
    (producer, topic)
}

fn drain(producer: &mut Producer<Peer>, into: &mut BTreeMap<u64, Delivery>) {
    while let Some(delivery) = producer.next_delivery() {
        let before = into.insert(delivery.token, delivery);
        assert_eq!(before, None, "a record is reported once");
    }
}

/// Sends `count` records whose value is their number, over all partitions, and waits for every report.
fn send_all(producer: &mut Producer<Peer>, topic: TopicHandle, count: u64) -> BTreeMap<u64, Delivery> {
    let mut deliveries = BTreeMap::new();
    for number in 0..count {
        let value = number.to_le_bytes();
        let index = PartitionIndex(number as u32 % producer.partitions(topic));
        let record =
            OutRecord { value: Some(&value), partition: Some(index), token: number, ..OutRecord::default() };
        while let Err(error) = producer.send(topic, &record) {
            assert!(matches!(error, SendError::Full { .. }), "{error}");
            producer.poll(Wait::AtMost(Duration::from_millis(5))).unwrap();
            drain(producer, &mut deliveries);
        }
        if number % 7 == 0 {
            producer.poll(Wait::Never).unwrap();
            drain(producer, &mut deliveries);
        }
    }
    assert!(producer.flush(Duration::from_secs(1000)).unwrap());
    drain(producer, &mut deliveries);
    deliveries
}

/// Every record stands in its partition once, in order, at the offset that was reported.
fn check(producer: &Producer<Peer>, deliveries: &BTreeMap<u64, Delivery>, count: u64, seed: u64) {
    assert_eq!(deliveries.len() as u64, count, "seed {seed}");
    let partitions = producer.wire.logs.len() as u64;
    for (index, log) in (0_u64..).zip(&producer.wire.logs) {
        let expected: Vec<Vec<u8>> = (0..count)
            .filter(|number| number % partitions == index)
            .map(|it| it.to_le_bytes().to_vec())
            .collect();
        assert!(log.values() == expected, "seed {seed}, partition {index}: lost, doubled or reordered");
    }
    for (number, delivery) in deliveries {
        assert_eq!(delivery.partition, partition((number % partitions) as u32));
        if let Some(offset) =
            delivery.outcome.unwrap_or_else(|error| panic!("seed {seed}, {number}: {error}"))
        {
            assert_eq!(offset, Offset((number / partitions) as i64), "seed {seed}");
        }
    }
}

#[test]
fn retries_neither_lose_nor_double_nor_reorder_whatever_the_network_does() {
    for seed in 1..=150 {
        let mut peer = Peer::new(seed, 3, 2);
        peer.faults = Faults { cut_before: 20, cut_after: 30, not_now: 50, delay: 200, split: 300 };
        let config = ProducerConfig { batch_bytes_max: 200, ..ProducerConfig::default() };
        let (mut producer, topic) = producer(peer, config);
        let deliveries = send_all(&mut producer, topic, 400);
        check(&producer, &deliveries, 400, seed);
        assert!(producer.wire.connections > 2, "seed {seed}: nothing was cut");
    }
}

#[test]
fn without_faults_offsets_are_told_and_nothing_is_sent_twice() {
    let (mut producer, topic) = producer(Peer::new(1, 2, 1), ProducerConfig::default());
    let deliveries = send_all(&mut producer, topic, 100);
    check(&producer, &deliveries, 100, 1);
    let batches: usize = producer.wire.logs.iter().map(|log| log.batches.len()).sum();
    assert_eq!(producer.wire.produces as usize, batches);
    assert_eq!(producer.wire.connections, 1, "one shard, one connection");
}

#[test]
fn a_batch_refused_for_good_is_reported_and_those_after_it_get_through() {
    for position in 0..5 {
        let config = ProducerConfig { batch_bytes_max: 100, ..ProducerConfig::default() };
        let (mut producer, topic) = producer(Peer::new(7, 1, 1), config);
        // A first batch, so that the node knows the producer.
        let first = OutRecord { value: Some(b"first"), token: 99, ..OutRecord::default() };
        producer.send(topic, &first).unwrap();
        assert!(producer.flush(Duration::from_secs(10)).unwrap());
        assert!(producer.next_delivery().unwrap().outcome.is_ok());
        // Refusals are taken from the end: only the batch at `position` of the five in flight is refused.
        producer.wire.refuse_next = vec![ErrorKind::InvalidRecord];
        let mut sent = Vec::new();
        for number in 0..8_u8 {
            let value = [number; 30];
            producer.send(topic, &OutRecord { value: Some(&value), token: number.into(), ..first }).unwrap();
            sent.push(value.to_vec());
        }
        let _ = position;
        assert!(producer.flush(Duration::from_secs(100)).unwrap());
        let outcomes: Vec<Delivery> = core::iter::from_fn(|| producer.next_delivery()).collect();
        assert_eq!(outcomes.iter().map(|it| it.token).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
        let refused: Vec<u64> = outcomes.iter().filter(|it| it.outcome.is_err()).map(|it| it.token).collect();
        assert!(!refused.is_empty() && refused.len() < 8, "{refused:?}");
        let mut expected = vec![b"first".to_vec()];
        expected.extend((0..8).filter(|it| !refused.contains(it)).map(|it| sent[it as usize].clone()));
        assert_eq!(producer.wire.logs[0].values(), expected);
    }
}

#[test]
fn a_producer_that_the_node_forgot_goes_on_with_another_id() {
    for kind in
        [ErrorKind::UnknownProducerId, ErrorKind::InvalidProducerEpoch, ErrorKind::OutOfOrderSequenceNumber]
    {
        let config = ProducerConfig { batch_bytes_max: 100, ..ProducerConfig::default() };
        let (mut producer, topic) = producer(Peer::new(7, 1, 1), config);
        producer.wire.refuse_next = vec![kind];
        for number in 0..6_u8 {
            let value = [number; 30];
            let record = OutRecord { value: Some(&value), token: number.into(), ..OutRecord::default() };
            producer.send(topic, &record).unwrap();
        }
        assert!(producer.flush(Duration::from_secs(100)).unwrap(), "{kind:?}");
        let outcomes: Vec<Delivery> = core::iter::from_fn(|| producer.next_delivery()).collect();
        assert!(outcomes[0].outcome.is_err(), "{kind:?}");
        assert!(outcomes[5].outcome.is_ok(), "{kind:?}: {outcomes:?}");
    }
}

#[test]
fn memory_is_bounded_while_the_node_is_away_and_what_was_never_sent_says_so() {
    let mut peer = Peer::new(3, 1, 1);
    peer.is_down = false;
    let config = ProducerConfig {
        buffer_bytes_max: 10_000,
        delivery_timeout: Duration::from_secs(3),
        ..ProducerConfig::default()
    };
    let (mut producer, topic) = producer(peer, config);
    producer.wire.is_down = true;
    producer.wire.cut_all();
    producer.poll(Wait::Never).unwrap();
    let value = [1; 100];
    let record = OutRecord { value: Some(&value), ..OutRecord::default() };
    let mut taken = 0;
    let full = loop {
        match producer.send(topic, &record) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, SendError::Full { bytes } if bytes <= 10_200));
    assert!(producer.flush(Duration::from_secs(10)).unwrap(), "given up by its own timeout");
    let outcomes: Vec<_> = core::iter::from_fn(|| producer.next_delivery()).map(|it| it.outcome).collect();
    assert_eq!(outcomes, vec![Err(DeliveryError::NotSent); taken]);
    assert_eq!(producer.buffered_bytes(), 0);
    // And it works again afterwards.
    producer.wire.is_down = false;
    producer.send(topic, &record).unwrap();
    assert!(producer.flush(Duration::from_secs(30)).unwrap());
    assert_eq!(producer.next_delivery().unwrap().outcome, Ok(Some(Offset(0))));
}

#[test]
fn what_was_sent_but_never_answered_is_unknown_and_later_records_are_not_mixed_with_it() {
    let mut peer = Peer::new(3, 1, 1);
    peer.faults.delay = 0;
    let config = ProducerConfig {
        delivery_timeout: Duration::from_secs(3),
        request_timeout: Duration::from_secs(1),
        ..ProducerConfig::default()
    };
    let (mut producer, topic) = producer(peer, config);
    producer.send(topic, &OutRecord { value: Some(b"a"), token: 1, ..OutRecord::default() }).unwrap();
    // The node appends, but its answer never arrives on any connection.
    producer.poll(Wait::Never).unwrap();
    producer.poll(Wait::Never).unwrap();
    producer.wire.faults.delay = 1000;
    assert!(producer.flush(Duration::from_secs(100)).unwrap());
    let first = producer.next_delivery().unwrap();
    assert!(matches!(first.outcome, Err(DeliveryError::Unknown | DeliveryError::NotSent) | Ok(_)));
    producer.wire.faults.delay = 0;
    producer.send(topic, &OutRecord { value: Some(b"b"), token: 2, ..OutRecord::default() }).unwrap();
    assert!(producer.flush(Duration::from_secs(100)).unwrap());
    let second = producer.next_delivery().unwrap();
    assert!(second.outcome.is_ok(), "{second:?}");
    let values = producer.wire.logs[0].values();
    assert_eq!(values.iter().filter(|value| *value == b"b").count(), 1);
    assert!(values.iter().filter(|value| *value == b"a").count() <= 1);
}

#[test]
fn keys_decide_the_partition_and_records_without_fill_one_batch_after_the_other() {
    let config = ProducerConfig { batch_bytes_max: 400, ..ProducerConfig::default() };
    let (mut producer, topic) = producer(Peer::new(1, 4, 1), config);
    for number in 0..40_u8 {
        let key = [number % 5];
        let value = [number];
        let record = OutRecord { key: Some(&key), value: Some(&value), ..OutRecord::default() };
        producer.send(topic, &record).unwrap();
    }
    assert!(producer.flush(Duration::from_secs(10)).unwrap());
    for number in 0..40_u8 {
        let PartitionIndex(index) = cutwater_model::partitioner::partition_of(&[number % 5], 4);
        assert!(producer.wire.logs[index as usize].values().contains(&vec![number]));
    }
    for _ in 0..200 {
        producer.send(topic, &OutRecord { value: Some(&[7; 20]), ..OutRecord::default() }).unwrap();
    }
    assert!(producer.flush(Duration::from_secs(10)).unwrap());
    assert!(producer.wire.logs.iter().all(|log| log.end() > 0), "sticky goes everywhere in the end");
}

#[test]
fn unknown_topics_and_impossible_records_are_refused() {
    let (mut producer, topic) = producer(Peer::new(1, 2, 1), ProducerConfig::default());
    assert!(matches!(producer.topic("nowhere"), Err(ClientError::UnknownTopic { .. })));
    let large = vec![0; 1 << 20];
    let record = OutRecord { value: Some(&large), ..OutRecord::default() };
    assert!(matches!(producer.send(topic, &record), Err(SendError::TooLarge { .. })));
    let record = OutRecord { partition: Some(PartitionIndex(2)), ..OutRecord::default() };
    assert_eq!(producer.send(topic, &record), Err(SendError::NoPartition { index: 2, partitions: 2 }));
}

#[test]
fn compressed_batches_arrive_and_acks_0_waits_for_nobody() {
    let config = ProducerConfig { codec: cutwater_model::Codec::Zstd, ..ProducerConfig::default() };
    let (mut with_codec, topic) = producer(Peer::new(1, 1, 1), config);
    for _ in 0..100 {
        with_codec.send(topic, &OutRecord { value: Some(&[9; 50]), ..OutRecord::default() }).unwrap();
    }
    assert!(with_codec.flush(Duration::from_secs(10)).unwrap());
    let stored = &with_codec.wire.logs[0].batches[0];
    assert_eq!(
        (stored.records, cutwater_model::Batch::read(&stored.bytes).unwrap().header.codec_id()),
        (100, 4)
    );

    let config = ProducerConfig { acks: cutwater_api::RequiredAcks::None, ..ProducerConfig::default() };
    let (mut without_acks, topic) = producer(Peer::new(1, 1, 1), config);
    without_acks.send(topic, &OutRecord { value: Some(b"x"), token: 5, ..OutRecord::default() }).unwrap();
    assert!(without_acks.flush(Duration::from_secs(10)).unwrap());
    assert_eq!(without_acks.next_delivery().unwrap().outcome, Ok(None));
    assert_eq!(without_acks.wire.logs[0].values(), [b"x".to_vec()]);
}
