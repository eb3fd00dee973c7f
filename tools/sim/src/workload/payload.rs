//! Batches that can be told apart: each carries the number of its attempt, and fills up with noise, with text, or
//! with bytes that look like the engine's own.

use std::sync::Arc;

use cutwater_model::TimestampMs;
use cutwater_model::batch::{Batch, Codec};
use cutwater_model::builder::{BatchBuilder, Sequence};
use cutwater_model::limits::{BATCH_BYTES_MAX, BATCH_HEADER_BYTES};

use crate::random::Random;

const MARK: [u8; 8] = *b"attempt ";

/// Names one batch that was once sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptId(pub u32);

/// What a batch is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filling<'a> {
    /// Zeros: what unwritten space reads as.
    Zeros,
    /// Noise.
    Noise,
    /// Bytes found on the disk: whole journal blocks, groups, batches.
    Copied(&'a [u8]),
}

/// Builds the batch of an attempt: of about so many bytes, in some records.
#[must_use]
pub fn build(
    attempt: AttemptId,
    bytes: usize,
    filling: Filling<'_>,
    sequence: Sequence,
    wall: TimestampMs,
    random: &mut Random,
) -> (Arc<[u8]>, u32) {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&MARK);
    key[8..].copy_from_slice(&attempt.0.to_le_bytes());
    let body = body(bytes.saturating_sub(BATCH_HEADER_BYTES + 40), filling, random);
    let mut builder = BatchBuilder::new(BATCH_BYTES_MAX);
    let pieces = if body.len() > 64 && random.percent(60) { random.between(2, 6) as usize } else { 1 };
    for (index, value) in body.chunks(body.len().div_ceil(pieces).max(1)).enumerate() {
        let key = (index == 0).then_some(&key[..]);
        let stamp = TimestampMs(wall.0 - random.below(50) as i64);
        let _ = builder.append(stamp, key, Some(value), &[]);
    }
    if builder.is_empty() {
        let _ = builder.append(wall, Some(&key), None, &[]);
    }
    let records = builder.record_count();
    if random.one_in(12) {
        // The engine never inflates such a batch, so what stands in it is its client's business.
        let mut section = key.to_vec();
        section.extend_from_slice(&body);
        let mut compressed = Vec::new();
        builder.finish_compressed(sequence, Codec::Zstd, &section, &mut compressed);
        (Arc::from(compressed), records)
    } else {
        (Arc::from(builder.finish(sequence)), records)
    }
}

fn body(bytes: usize, filling: Filling<'_>, random: &mut Random) -> Vec<u8> {
    let mut body = vec![0; bytes];
    match filling {
        Filling::Zeros => {}
        Filling::Noise => {
            for chunk in body.chunks_mut(8) {
                let word = random.next().to_le_bytes();
                chunk.copy_from_slice(&word[..chunk.len()]);
            }
        }
        Filling::Copied([]) => {}
        Filling::Copied(from) => {
            for (target, byte) in body.iter_mut().zip(from.iter().cycle()) {
                *target = *byte;
            }
        }
    }
    body
}

/// Which attempt a batch is of, if it is one of ours.
#[must_use]
pub fn attempt_of(batch: &Batch<'_>) -> Option<AttemptId> {
    let key: &[u8] =
        if batch.header.codec_id() == 0 { batch.records().next()?.ok()?.key? } else { batch.section() };
    let number = key.get(8..12)?.try_into().ok()?;
    (key[..8] == MARK).then_some(AttemptId(u32::from_le_bytes(number)))
}

#[cfg(test)]
mod tests {
    use cutwater_model::batch::{Limits, verify};
    use cutwater_model::topic::TimestampType;

    use super::*;

    #[test]
    fn every_batch_is_valid_and_names_its_attempt() {
        let mut random = Random::new(3);
        let wall = TimestampMs(1_000_000);
        let limits =
            Limits { batch_bytes_max: BATCH_BYTES_MAX, timestamp_type: TimestampType::Create, now: wall };
        let copied = [7; 5000];
        for number in 0..200 {
            let bytes = random.between(80, 20_000) as usize;
            let filling = match number % 3 {
                0 => Filling::Zeros,
                1 => Filling::Noise,
                _ => Filling::Copied(&copied),
            };
            let id = AttemptId(number);
            let (batch, records) = build(id, bytes, filling, Sequence::NONE, wall, &mut random);
            let summary = verify(&batch, &limits).unwrap();
            assert_eq!(summary.record_count, records);
            assert_eq!(attempt_of(&Batch::read(&batch).unwrap()), Some(id));
        }
    }
}
