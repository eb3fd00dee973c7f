//! Batches for tests.

use alloc::vec;
use alloc::vec::Vec;

use cutwater_model::batch::Header;
use cutwater_model::builder::{BatchBuilder, Sequence};
use cutwater_model::{ProducerEpoch, ProducerId, TimestampMs};

/// A batch of so many small records.
pub(crate) fn batch(records: u32) -> Vec<u8> {
    build(records, 20, Sequence::NONE)
}

/// A batch of one record with a value of so many bytes.
pub(crate) fn batch_of(value_bytes: usize) -> Vec<u8> {
    build(1, value_bytes, Sequence::NONE)
}

/// A batch of two small records of a producer that numbers them.
pub(crate) fn numbered(producer: i64, base_sequence: i32) -> Vec<u8> {
    let sequence =
        Sequence { producer_id: ProducerId(producer), producer_epoch: ProducerEpoch(0), base_sequence };
    build(2, 20, sequence)
}

/// A batch of one record with a value of so many bytes, of a producer that numbers them.
pub(crate) fn numbered_of(producer: i64, base_sequence: i32, value_bytes: usize) -> Vec<u8> {
    let sequence =
        Sequence { producer_id: ProducerId(producer), producer_epoch: ProducerEpoch(0), base_sequence };
    build(1, value_bytes, sequence)
}

fn build(records: u32, value_bytes: usize, sequence: Sequence) -> Vec<u8> {
    let mut builder = BatchBuilder::new(8 << 20);
    for record in 0..records {
        let value = vec![record as u8 ^ 0x5a; value_bytes];
        builder.append(TimestampMs(1_700_000_000_000), None, Some(&value), &[]).unwrap();
    }
    builder.finish(sequence).to_vec()
}

/// For each batch its base offset and the offset after its last record.
pub(crate) fn offsets_in(mut bytes: &[u8]) -> Vec<(i64, i64)> {
    let mut offsets = Vec::new();
    while !bytes.is_empty() {
        let header = Header::read(bytes).unwrap();
        offsets.push((header.base_offset.0, header.next_offset().0));
        bytes = &bytes[header.bytes()..];
    }
    offsets
}
