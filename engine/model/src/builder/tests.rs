use super::*;
use crate::{
    batch::{self, Batch, Limits},
    topic::TimestampType,
};

const LIMITS: Limits =
    Limits { batch_bytes_max: 1 << 20, timestamp_type: TimestampType::Create, now: TimestampMs(0) };

#[test]
fn random_batches_verify_and_come_back() {
    let seed = 0xb01d;
    let mut random = crate::test_random::Random::new(seed);
    let noise: Vec<u8> = (0..2000).map(|_| random.next() as u8).collect();
    let mut builder = BatchBuilder::new(1 << 20);
    for round in 0..300 {
        builder.clear();
        let count = 1 + random.below(50);
        let mut expected = Vec::new();
        for _ in 0..count {
            let piece = |random: &mut crate::test_random::Random| {
                (random.below(4) > 0).then(|| &noise[..random.below(noise.len() as u32) as usize])
            };
            let (key, value) = (piece(&mut random), piece(&mut random));
            let header =
                RecordHeader { key: piece(&mut random).unwrap_or_default(), value: piece(&mut random) };
            let headers = &[header; 3][..random.below(4) as usize];
            let timestamp = TimestampMs(i64::from(random.below(3_600_000)) - 1);
            builder.append(timestamp, key, value, headers).unwrap();
            expected.push((timestamp, key, value, headers.to_vec()));
        }
        let sequence = Sequence {
            producer_id: ProducerId(round),
            producer_epoch: ProducerEpoch(1),
            base_sequence: random.below(1 << 31) as i32,
        };
        let bytes = builder.finish(sequence);
        let summary = batch::verify(bytes, &LIMITS).unwrap_or_else(|error| panic!("seed {seed:#x}: {error}"));
        assert_eq!((summary.record_count, summary.producer_id), (count, ProducerId(round)));
        assert!(summary.max_timestamp_is_true, "seed {seed:#x}, round {round}");
        assert_eq!(Some(summary.max_timestamp), expected.iter().map(|it| it.0).max());
        let read = Batch::read(bytes).unwrap().records().map(|record| {
            let record = record.unwrap();
            (record.timestamp, record.key, record.value, record.headers.collect::<Vec<_>>())
        });
        assert_eq!(read.collect::<Vec<_>>(), expected, "seed {seed:#x}, round {round}");
    }
}

#[test]
fn a_full_batch_refuses_the_record_and_stays_as_it_was() {
    let mut builder = BatchBuilder::new(200);
    builder.append(TimestampMs(0), None, Some(&[1; 60]), &[]).unwrap();
    let before = builder.len();
    let refused = builder.append(TimestampMs(0), None, Some(&[1; 90]), &[]);
    assert!(matches!(refused, Err(AppendError::Full { bytes_max: 200, .. })));
    assert_eq!((builder.len(), builder.record_count()), (before, 1));
    builder.append(TimestampMs(0), None, Some(&[1; 50]), &[]).unwrap();
    assert_eq!(batch::verify(builder.finish(Sequence::NONE), &LIMITS).unwrap().record_count, 2);
}

#[test]
fn a_timestamp_too_far_from_the_first_is_refused() {
    let mut builder = BatchBuilder::new(200);
    builder.append(TimestampMs(i64::MAX), None, None, &[]).unwrap();
    assert_eq!(builder.append(TimestampMs(-2), None, None, &[]), Err(AppendError::Timestamp));
}

#[test]
fn a_warm_builder_allocates_nothing() {
    let mut builder = BatchBuilder::new(1 << 16);
    let mut warm = None;
    for _ in 0..5 {
        builder.clear();
        assert!(builder.is_empty());
        while builder.append(TimestampMs(0), Some(b"key"), Some(&[3; 100]), &[]).is_ok() {}
        let memory = (builder.finish(Sequence::NONE).as_ptr(), builder.bytes.capacity());
        assert_eq!(*warm.get_or_insert(memory), memory);
    }
}

#[test]
fn no_batch_is_longer_than_any_topic_takes() {
    assert_eq!(BatchBuilder::new(u32::MAX).bytes_max, BATCH_BYTES_MAX);
}

#[test]
fn a_renumbered_batch_is_the_one_that_is_built_with_those_numbers() {
    let sequence =
        Sequence { producer_id: ProducerId(7), producer_epoch: ProducerEpoch(2), base_sequence: 41 };
    let mut builder = BatchBuilder::new(1000);
    builder.append(TimestampMs(5), Some(b"key"), Some(b"value"), &[]).unwrap();
    let mut batch = builder.finish(Sequence::NONE).to_vec();
    renumber(&mut batch, sequence);
    assert_eq!(batch, builder.finish(sequence));
    renumber(&mut [0; 60], sequence);
}
