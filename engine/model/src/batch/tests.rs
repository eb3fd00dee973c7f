use alloc::{vec, vec::Vec};

use super::*;
use crate::{
    builder::{BatchBuilder, Sequence},
    error::ErrorKind,
    limits::{BATCH_BYTES_DEFAULT, TIMESTAMP_AHEAD_MS_MAX},
    record::{RecordFault, RecordHeader},
    topic::TimestampType,
    varint,
};

const NOW: TimestampMs = TimestampMs(1_800_000_000_000);
const LIMITS: Limits =
    Limits { batch_bytes_max: BATCH_BYTES_DEFAULT, timestamp_type: TimestampType::Create, now: NOW };

fn small_batch() -> Vec<u8> {
    let mut builder = BatchBuilder::new(BATCH_BYTES_DEFAULT);
    let header = RecordHeader { key: b"trace", value: Some(b"7") };
    builder.append(NOW, Some(b"key"), Some(b"value"), &[header]).unwrap();
    builder.append(TimestampMs(NOW.0 - 5), None, Some(b""), &[]).unwrap();
    builder.append(TimestampMs(NOW.0 + 9), Some(b"gone"), None, &[]).unwrap();
    let sequence =
        Sequence { producer_id: ProducerId(77), producer_epoch: ProducerEpoch(3), base_sequence: 12 };
    builder.finish(sequence).to_vec()
}

/// Changes a batch and makes its CRC fit again, as a hostile client would.
fn forge(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = small_batch();
    change(&mut bytes);
    seal(&mut bytes);
    bytes
}

fn seal(bytes: &mut [u8]) {
    let crc = crc32c(&bytes[CRC_FROM..]);
    bytes[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
}

/// A batch of one record with this body after its length, whatever it may be.
fn with_record(body: &[u8]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BATCH_BYTES_DEFAULT);
    builder.append(NOW, None, None, &[]).unwrap();
    let mut section = Vec::new();
    varint::write_i32(&mut section, body.len() as i32);
    section.extend_from_slice(body);
    let mut bytes = Vec::new();
    builder.finish_compressed(Sequence::NONE, Codec::None, &section, &mut bytes);
    bytes
}

fn kind(bytes: &[u8]) -> ErrorKind {
    verify(bytes, &LIMITS).unwrap_err().kind()
}

#[test]
fn a_good_batch_passes_and_is_summed_up() {
    let bytes = small_batch();
    let summary = verify(&bytes, &LIMITS).unwrap();
    assert_eq!(
        summary,
        Summary {
            bytes: bytes.len() as u32,
            record_count: 3,
            codec: Codec::None,
            max_timestamp: TimestampMs(NOW.0 + 9),
            max_timestamp_is_true: true,
            producer_id: ProducerId(77),
            producer_epoch: ProducerEpoch(3),
            base_sequence: 12,
        }
    );
    assert_eq!(summary.last_sequence(), 14);
    assert_eq!(Summary { base_sequence: i32::MAX, ..summary }.last_sequence(), 1);
}

#[test]
fn every_flipped_bit_is_caught_but_in_what_the_node_stamps() {
    let good = small_batch();
    let summary = verify(&good, &LIMITS).unwrap();
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        match bit / 8 {
            0..8 | 12..16 => assert_eq!(verify(&bytes, &LIMITS), Ok(summary), "bit {bit}"),
            _ => assert!(verify(&bytes, &LIMITS).is_err(), "bit {bit}"),
        }
    }
}

#[test]
fn a_batch_cut_at_any_byte_is_refused() {
    let good = small_batch();
    assert_eq!(kind(&[]), ErrorKind::InvalidRecord);
    for length in 1..good.len() {
        assert_eq!(kind(&good[..length]), ErrorKind::CorruptMessage, "{length} bytes");
        assert!(matches!(walk(&good[..length]).next(), Some(Err(WalkError { at: 0, .. }))));
    }
}

#[test]
fn records_cut_at_any_byte_are_refused_even_under_a_good_crc() {
    let good = small_batch();
    for length in BATCH_HEADER_BYTES..good.len() {
        let mut bytes = good[..length].to_vec();
        bytes[8..12].copy_from_slice(&((length - LENGTH_END) as u32).to_be_bytes());
        seal(&mut bytes);
        assert_eq!(kind(&bytes), ErrorKind::InvalidRecord, "{length} bytes");
    }
}

#[test]
fn each_lie_in_the_header_has_its_error() {
    let refused = [
        ("B45", ErrorKind::CorruptMessage, {
            let mut bytes = small_batch();
            bytes[CRC_AT] ^= 1;
            bytes
        }),
        ("B47", ErrorKind::CorruptMessage, forge(|it| it[8..12].copy_from_slice(&48_i32.to_be_bytes()))),
        ("B47 negative", ErrorKind::CorruptMessage, forge(|it| it[8..12].copy_from_slice(&[0xff; 4]))),
        ("B46", ErrorKind::CorruptMessage, forge(|it| it[8..12].copy_from_slice(&i32::MAX.to_be_bytes()))),
        ("B48", ErrorKind::InvalidRecord, forge(|it| it[60] = 4)),
        ("B49", ErrorKind::InvalidRecord, forge(|it| it[26] = 3)),
        ("B48 both", ErrorKind::InvalidRecord, forge(|it| (it[60], it[26]) = (4, 3))),
        (
            "no records",
            ErrorKind::InvalidRecord,
            forge(|it| {
                it[23..27].copy_from_slice(&[0xff; 4]);
                it[60] = 0;
            }),
        ),
        ("B53 magic 0", ErrorKind::UnsupportedForMessageFormat, forge(|it| it[16] = 0)),
        ("B53 magic 1", ErrorKind::UnsupportedForMessageFormat, forge(|it| it[16] = 1)[..34].to_vec()),
        ("B53 magic 3", ErrorKind::UnsupportedForMessageFormat, forge(|it| it[16] = 3)),
        ("B54", ErrorKind::InvalidRecord, forge(|it| it[22] |= 0x20)),
        ("transactional", ErrorKind::InvalidRecord, forge(|it| it[22] |= 0x10)),
        ("delete horizon", ErrorKind::InvalidRecord, forge(|it| it[22] |= 0x40)),
        ("unknown flag", ErrorKind::InvalidRecord, forge(|it| it[21] |= 0x80)),
        ("B55 codec 5", ErrorKind::UnsupportedCompressionType, forge(|it| it[22] = 5)),
        ("B55 codec 7", ErrorKind::UnsupportedCompressionType, forge(|it| it[22] = 7)),
        ("append time", ErrorKind::InvalidTimestamp, forge(|it| it[22] |= 8)),
        ("B62 base", ErrorKind::InvalidTimestamp, forge(|it| it[27..35].copy_from_slice(&[0x7f; 8]))),
        (
            "B62 -2",
            ErrorKind::InvalidTimestamp,
            forge(|it| {
                it[27..35].copy_from_slice(&(-2_i64).to_be_bytes());
            }),
        ),
        ("B124", ErrorKind::InvalidRecord, forge(|it| it[53..57].copy_from_slice(&[0xff; 4]))),
        ("epoch -1", ErrorKind::InvalidRecord, forge(|it| it[51..53].copy_from_slice(&[0xff; 2]))),
        (
            "producer -2",
            ErrorKind::InvalidRecord,
            forge(|it| {
                it[43..51].copy_from_slice(&(-2_i64).to_be_bytes());
            }),
        ),
        ("B52", ErrorKind::InvalidRecord, [small_batch(), small_batch()].concat()),
    ];
    for (name, expected, bytes) in refused {
        assert_eq!(kind(&bytes), expected, "{name}");
    }
    let limits = Limits { batch_bytes_max: small_batch().len() as u32 - 1, ..LIMITS };
    assert_eq!(verify(&small_batch(), &limits).unwrap_err().kind(), ErrorKind::MessageTooLarge, "B60");
}

#[test]
fn each_lie_in_a_record_has_its_fault() {
    use crate::varint::VarintError::{Cut, Overflow};
    for (name, body, fault) in [
        ("nothing", &[][..], RecordFault::Length),
        ("only attributes", &[0], RecordFault::Varint(Cut)),
        ("offset delta 1", &[0, 0, 2, 1, 1, 0], RecordFault::OffsetDelta),
        ("offset delta -1", &[0, 0, 1, 1, 1, 0], RecordFault::OffsetDelta),
        ("key length -2", &[0, 0, 0, 3, 1, 0], RecordFault::Length),
        ("key beyond the record", &[0, 0, 0, 20, 1, 0], RecordFault::Length),
        ("value length -2", &[0, 0, 0, 1, 3, 0], RecordFault::Length),
        ("B50 overlong", &[0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1, 0], RecordFault::Varint(Overflow)),
        ("B51", &[0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f], RecordFault::HeaderCount),
        ("header count -1", &[0, 0, 0, 1, 1, 1], RecordFault::HeaderCount),
        ("header key -1", &[0, 0, 0, 1, 1, 2, 1, 1], RecordFault::Length),
        ("header cut", &[0, 0, 0, 1, 1, 2, 2, 65], RecordFault::Varint(Cut)),
        ("rubbish after no headers", &[0, 0, 0, 1, 1, 0, 9], RecordFault::Leftover),
        ("rubbish after a header", &[0, 0, 0, 1, 1, 2, 0, 1, 9], RecordFault::Leftover),
    ] {
        let bytes = with_record(body);
        assert_eq!(verify(&bytes, &LIMITS), Err(BatchError::Record { index: 0, fault }), "{name}");
        let batch = Batch::read(&bytes).unwrap();
        assert_eq!(batch.records().collect::<Vec<_>>(), [Err(fault)], "{name}");
    }
    assert!(verify(&with_record(&[0, 0, 0, 1, 1, 0]), &LIMITS).is_ok());
    assert!(verify(&with_record(&[0, 0, 0, 1, 1, 2, 0, 1]), &LIMITS).is_ok(), "a header with neither");
}

#[test]
fn timestamps_are_bounded_where_they_are_the_producers() {
    let at = |timestamp| {
        let mut builder = BatchBuilder::new(BATCH_BYTES_DEFAULT);
        builder.append(TimestampMs(timestamp), None, None, &[]).unwrap();
        builder.finish(Sequence::NONE).to_vec()
    };
    for (timestamp, good) in [
        (-1, true),
        (0, true),
        (NOW.0 + TIMESTAMP_AHEAD_MS_MAX, true),
        (NOW.0 + TIMESTAMP_AHEAD_MS_MAX + 1, false),
        (-2, false),
        (i64::MAX, false),
        (i64::MIN, false),
    ] {
        let bytes = at(timestamp);
        assert_eq!(verify(&bytes, &LIMITS).is_ok(), good, "{timestamp}");
        let limits = Limits { timestamp_type: TimestampType::LogAppend, ..LIMITS };
        assert!(verify(&bytes, &limits).is_ok(), "{timestamp} is replaced anyway");
    }
}

#[test]
fn a_compressed_batch_is_judged_by_its_header() {
    let mut builder = BatchBuilder::new(BATCH_BYTES_DEFAULT);
    builder.append(NOW, None, Some(&[0; 500]), &[]).unwrap();
    let mut bytes = Vec::new();
    builder.finish_compressed(Sequence::NONE, Codec::Zstd, b"not looked at", &mut bytes);
    let summary = verify(&bytes, &LIMITS).unwrap();
    assert_eq!((summary.codec, summary.record_count), (Codec::Zstd, 1));
    let batch = Batch::read(&bytes).unwrap();
    assert_eq!(batch.records().collect::<Vec<_>>(), [Err(RecordFault::Compressed)]);

    bytes[35..43].copy_from_slice(&i64::MAX.to_be_bytes());
    seal(&mut bytes);
    assert_eq!(kind(&bytes), ErrorKind::InvalidTimestamp);
}

#[test]
fn a_lying_max_timestamp_is_found_and_patched() {
    let mut bytes = forge(|it| it[35..43].copy_from_slice(&1_i64.to_be_bytes()));
    let summary = verify(&bytes, &LIMITS).unwrap();
    assert!(!summary.max_timestamp_is_true);
    patch_timestamps(&mut bytes, TimestampPatch::MaxTimestamp(summary.max_timestamp));
    assert_eq!(bytes, small_batch());
}

#[test]
fn append_time_stands_for_every_record() {
    let mut bytes = small_batch();
    patch_timestamps(&mut bytes, TimestampPatch::AppendTime(TimestampMs(99)));
    let batch = Batch::read(&bytes).unwrap();
    batch.check_crc().unwrap();
    assert!(batch.header.has_append_time());
    assert!(batch.records().all(|record| record.unwrap().timestamp == TimestampMs(99)));
}

#[test]
fn stamping_keeps_the_crc() {
    let mut bytes = small_batch();
    stamp(&mut bytes, Offset(1 << 40), LeaderEpoch(9));
    let batch = Batch::read(&bytes).unwrap();
    batch.check_crc().unwrap();
    assert_eq!((batch.header.base_offset, batch.header.leader_epoch), (Offset(1 << 40), LeaderEpoch(9)));
    assert_eq!(batch.header.next_offset(), Offset((1 << 40) + 3));
    let offsets: Vec<_> = batch.records().map(|record| record.unwrap().offset.0 - (1 << 40)).collect();
    assert_eq!(offsets, [0, 1, 2]);
}

#[test]
fn a_walk_goes_batch_by_batch_and_names_the_bad_place() {
    let batch = small_batch();
    let mut bytes = [&batch[..], &batch, &batch].concat();
    assert_eq!(walk(&bytes).map(|it| it.unwrap().bytes.len()).collect::<Vec<_>>(), vec![batch.len(); 3]);
    bytes[2 * batch.len() + 16] = 1;
    let mut batches = walk(&bytes);
    assert!(batches.by_ref().take(2).all(|it| it.is_ok()));
    let error = WalkError { at: 2 * batch.len(), error: BatchError::Magic { magic: 1 } };
    assert_eq!(batches.next(), Some(Err(error)));
    assert_eq!(batches.next(), None);
    assert_eq!(batches.position(), 2 * batch.len());
}

#[test]
fn mutated_batches_never_panic_and_only_true_ones_pass() {
    let mut random = crate::test_random::Random::new(0x5eed_ba7c);
    let good = small_batch();
    for round in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..=random.below(4) {
            let at = CRC_FROM + random.below((bytes.len() - CRC_FROM) as u32) as usize;
            bytes[at] = random.next() as u8;
        }
        seal(&mut bytes);
        let verified = verify(&bytes, &LIMITS);
        let Ok(batch) = Batch::read(&bytes) else { continue };
        let walked: Result<Vec<_>, _> = batch.records().collect();
        if let Ok(summary) = verified
            && summary.codec == Codec::None
        {
            let records = walked.unwrap();
            assert_eq!(records.len(), summary.record_count as usize, "seed 0x5eedba7c, round {round}");
            assert_eq!(records.iter().map(|it| it.timestamp).max(), Some(summary.max_timestamp));
            records.iter().for_each(|it| assert_eq!(it.headers.count(), it.headers.len()));
        }
    }
}

#[test]
fn a_stamp_needs_no_more_than_the_front_of_the_batch() {
    let mut front = [7; STAMPED_BYTES];
    stamp(&mut front, Offset(5), LeaderEpoch(9));
    assert_eq!((&front[..8], &front[12..]), (&5_i64.to_be_bytes()[..], &9_i32.to_be_bytes()[..]));
    assert_eq!(front[8..12], [7; 4]);
    let mut short = [7; STAMPED_BYTES - 1];
    stamp(&mut short, Offset(5), LeaderEpoch(9));
    assert_eq!(short, [7; STAMPED_BYTES - 1]);
}
