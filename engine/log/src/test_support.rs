//! What the tests of this crate share: seeded numbers, leaked slabs, small batches.

use alloc::vec::Vec;

use cutwater_model::builder::{BatchBuilder, Sequence};
use cutwater_model::limits::BLOCK_BYTES;
use cutwater_model::{PartitionId, PartitionIndex, Slab, TimestampMs, TopicId};

/// Seeded pseudo-random numbers (splitmix64).
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A slab of its own, never given back.
pub(crate) fn slab(bytes: usize) -> Slab {
    let memory = alloc::vec![0_u8; bytes + BLOCK_BYTES].leak();
    let skip = memory.as_ptr().align_offset(BLOCK_BYTES);
    Slab::new(&mut memory[skip..skip + bytes])
}

pub(crate) fn partition_id() -> PartitionId {
    PartitionId { topic: TopicId(0xfeed_beef), index: PartitionIndex(3) }
}

/// A batch of `records` records whose values fill it up to roughly `bytes`.
pub(crate) fn batch(
    random: &mut Random,
    records: u32,
    bytes: u32,
    time: TimestampMs,
    sequence: Sequence,
) -> Vec<u8> {
    let mut builder = BatchBuilder::new(16 << 20);
    let each = (bytes.saturating_sub(61) / records).saturating_sub(12) as usize;
    for _ in 0..records {
        let mut value = Vec::with_capacity(each + 8);
        while value.len() < each {
            value.extend_from_slice(&random.next().to_le_bytes());
        }
        value.truncate(each);
        builder.append(time, None, Some(&value), &[]).unwrap();
    }
    builder.finish(sequence).to_vec()
}
