//! A partition: appending to its tail, with all the plans for its files carried out at once by a disk that takes no time.
#![allow(
    missing_docs,
    clippy::expect_used,
    reason = "criterion's macros; a bench that can't start has nothing to say"
)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use cutwater_log::{NoRoom, Pages, Partition, SpacePlan};
use cutwater_micro::{SHAPES, batch};
use cutwater_model::limits::{BLOCK_BYTES, SEGMENT_BYTES_MAX};
use cutwater_model::{
    FileName, LeaderEpoch, PartitionId, PartitionIndex, ShardId, Slab, TimestampMs, TopicId,
};

const SLAB_BYTES: u32 = 64 << 20;
const RESERVED_BYTES: u32 = 1 << 20;
const WRITE_BYTES_MAX: u32 = 512 << 10;
/// As much as a commit group carries, so that the plans are asked for as often as a shard asks.
const GROUP_BYTES: usize = 256 << 10;

struct Log {
    slab: Slab,
    pages: Pages,
    partition: Partition,
    groups: u64,
    spares: u32,
}

impl Log {
    fn new() -> Self {
        let memory = vec![0_u8; SLAB_BYTES as usize + BLOCK_BYTES].leak();
        let skip = memory.as_ptr().align_offset(BLOCK_BYTES);
        let slab = Slab::new(&mut memory[skip..skip + SLAB_BYTES as usize]);
        let id = PartitionId { topic: TopicId(7), index: PartitionIndex(0) };
        let partition = Partition::new(id, LeaderEpoch(0), SEGMENT_BYTES_MAX);
        let mut log =
            Self { slab, pages: Pages::new(SLAB_BYTES, RESERVED_BYTES), partition, groups: 0, spares: 0 };
        log.carry_out_plans();
        log
    }

    fn append(&mut self, batch: &[u8]) {
        loop {
            match self.partition.append(&mut self.slab, &mut self.pages, batch, TimestampMs(1)) {
                Ok(appended) => {
                    black_box(appended.base_offset);
                    return;
                }
                Err(NoRoom::SegmentSpace | NoRoom::Memory) => self.carry_out_plans(),
                Err(other) => panic!("{other}"),
            }
        }
    }

    /// What a shard does between groups: all that was appended is durable, written, flushed and may leave memory.
    fn carry_out_plans(&mut self) {
        let Self { slab, pages, partition, groups, spares } = self;
        *groups += 1;
        partition.set_durable(partition.end(), *groups);
        while let Some(plan) = partition.needs_space() {
            match plan {
                SpacePlan::Extend { base, to, .. } => partition.grown(base, to),
                SpacePlan::Spare { bytes } => {
                    *spares += 1;
                    partition.spare(FileName::Pooled { shard: ShardId(0), number: *spares }, bytes);
                }
            }
        }
        while let Some(plan) = partition.next_opening(slab, pages) {
            partition.opened(pages, &plan);
        }
        while let Some(plan) = partition.next_index_file() {
            partition.index_created(plan.base);
        }
        while let Some(plan) = partition.next_write(slab, pages, WRITE_BYTES_MAX) {
            partition.written(pages, &plan);
        }
        while let Some(plan) = partition.next_flush() {
            partition.flushed(&plan);
        }
        partition.evict(slab, pages, 0);
    }
}

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("partition_append");
    for shape in SHAPES {
        let batch = batch(shape).expect("the shape fits");
        let batches_per_group = (GROUP_BYTES / batch.len()).max(1);
        group.throughput(Throughput::Bytes((batch.len() * batches_per_group) as u64));
        group.bench_with_input(BenchmarkId::from_parameter(shape.name), &batch, |bencher, batch| {
            let mut log = Log::new();
            bencher.iter(|| {
                for _ in 0..batches_per_group {
                    log.append(black_box(batch));
                }
                log.carry_out_plans();
            });
        });
    }
    group.finish();
}

criterion_group!(benches, append);
criterion_main!(benches);
