//! Batches and records, as any client may send them.

use cutwater_model::{
    Batch, Codec, LeaderEpoch, Offset, ProducerEpoch, ProducerId, TimestampMs,
    batch::{CRC_FROM, Limits, TimestampPatch, patch_timestamps, stamp, verify, walk},
    builder::{BatchBuilder, Sequence},
    checksum::crc32c,
    limits::{BATCH_BYTES_DEFAULT, BATCH_HEADER_BYTES},
    record::{RecordHeader, Records},
    topic::TimestampType,
};

use super::Target;

const NOW: TimestampMs = TimestampMs(1_800_000_000_000);

pub(super) const BATCH: Target =
    Target { name: "batch", run: batch, seeds: batches, bytes_per_byte: 4, bytes_free: 0, cost: 1 };

pub(super) const RECORDS: Target =
    Target { name: "records", run: records, seeds: batches, bytes_per_byte: 0, bytes_free: 0, cost: 1 };

fn batch(bytes: &[u8]) {
    check(bytes);
    let mut mended = bytes.to_vec();
    mend(&mut mended);
    check(&mended);
}

/// Makes length and CRC fit the bytes.
pub(super) fn mend(bytes: &mut [u8]) {
    if bytes.len() < BATCH_HEADER_BYTES {
        return;
    }
    let length = (bytes.len() - 12) as u32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c(&bytes[CRC_FROM..]);
    bytes[CRC_FROM - 4..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
}

fn check(bytes: &[u8]) {
    let mut walked = walk(bytes);
    let total: usize = walked.by_ref().filter_map(Result::ok).map(|it| it.bytes.len()).sum();
    assert_eq!(total, walked.position(), "a walk goes from batch to batch");

    for timestamp_type in [TimestampType::Create, TimestampType::LogAppend] {
        let limits = Limits { batch_bytes_max: BATCH_BYTES_DEFAULT, timestamp_type, now: NOW };
        let Ok(summary) = verify(bytes, &limits) else { continue };
        assert_eq!(summary.bytes as usize, bytes.len());
        let Ok(batch) = Batch::read(bytes) else { panic!("a verified batch is a batch") };
        if summary.codec == Codec::None && timestamp_type == TimestampType::Create {
            let mut latest = None;
            for (index, record) in batch.records().enumerate() {
                let Ok(record) = record else { panic!("a record of a verified batch is bad") };
                assert_eq!(record.headers.count(), record.headers.len());
                assert_eq!(record.offset, batch.header.base_offset.after(index as u32));
                latest = latest.max(Some(record.timestamp));
            }
            assert_eq!(latest, Some(summary.max_timestamp));
        }
        let mut appended = bytes.to_vec();
        stamp(&mut appended, Offset(9), LeaderEpoch(2));
        assert_eq!(verify(&appended, &limits), Ok(summary), "the node's stamps lie outside the CRC");
        patch_timestamps(&mut appended, TimestampPatch::AppendTime(NOW));
        let limits = Limits { timestamp_type: TimestampType::LogAppend, ..limits };
        assert!(verify(&appended, &limits).is_ok(), "a patched batch is as good as before");
    }
}

/// The input is a header and what a decompressor made of the rest.
fn records(bytes: &[u8]) {
    let Ok(header) = cutwater_model::batch::Header::read(bytes) else { return };
    let section = &bytes[BATCH_HEADER_BYTES..];
    let mut seen: i64 = 0;
    for record in Records::decompressed(&header, section) {
        match record {
            Ok(record) => {
                let of_headers: usize =
                    record.headers.map(|it| it.key.len() + it.value.unwrap_or_default().len()).sum();
                let lengths = record.key.unwrap_or_default().len() + record.value.unwrap_or_default().len();
                assert!(lengths + of_headers <= section.len());
                seen += 1;
            }
            Err(_) => seen = i64::MAX,
        }
    }
    assert!(seen == i64::MAX || seen == i64::from(header.record_count.max(0)), "all records or a fault");
}

/// Batches of several shapes.
pub(super) fn batches() -> Vec<Vec<u8>> {
    let mut builder = BatchBuilder::new(BATCH_BYTES_DEFAULT);
    let mut batches = Vec::new();
    let headers =
        [RecordHeader { key: b"trace", value: Some(b"77") }, RecordHeader { key: b"", value: None }];
    let noise = [0x5a; 70];
    for records in [1, 3, 40] {
        builder.clear();
        for at in 0..records {
            let key = (at % 2 == 0).then_some(&b"key"[..]);
            let value = (at % 5 != 4).then_some(&noise[..at as usize + 1]);
            let added = builder.append(TimestampMs(NOW.0 + at), key, value, &headers[..at as usize % 3]);
            assert!(added.is_ok(), "a small record fits");
        }
        batches.push(builder.finish(Sequence::NONE).to_vec());
        let sequence = Sequence {
            producer_id: ProducerId(7),
            producer_epoch: ProducerEpoch(1),
            base_sequence: i32::MAX,
        };
        batches.push(builder.finish(sequence).to_vec());
        let mut compressed = Vec::new();
        builder.finish_compressed(sequence, Codec::Lz4, b"not looked at", &mut compressed);
        batches.push(compressed);
    }
    batches.push(batches[..2].concat());
    batches
}
