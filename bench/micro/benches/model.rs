//! Batches: building, walking, verifying, stamping, and the checksums below all of that.
#![allow(
    missing_docs,
    clippy::expect_used,
    reason = "criterion's macros; a bench that can't start has nothing to say"
)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use cutwater_micro::{SHAPES, batch, fill};
use cutwater_model::batch::{Batch, Limits, stamp, verify};
use cutwater_model::builder::{BatchBuilder, Sequence};
use cutwater_model::checksum::{crc32c, digest64};
use cutwater_model::limits::BATCH_BYTES_MAX;
use cutwater_model::topic::TimestampType;
use cutwater_model::{LeaderEpoch, Offset, TimestampMs};

fn build(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch_build");
    for shape in SHAPES {
        let mut builder = BatchBuilder::new(BATCH_BYTES_MAX);
        group.throughput(Throughput::Elements(shape.records.into()));
        group.bench_function(shape.name, |bencher| {
            bencher.iter(|| {
                builder.clear();
                fill(&mut builder, shape).expect("the shape fits");
                black_box(builder.finish(Sequence::NONE).len())
            });
        });
    }
    group.finish();
}

fn walk(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch_walk");
    for shape in SHAPES {
        let bytes = batch(shape).expect("the shape fits");
        group.throughput(Throughput::Elements(shape.records.into()));
        group.bench_with_input(BenchmarkId::from_parameter(shape.name), &bytes, |bencher, bytes| {
            bencher.iter(|| {
                let batch = Batch::read(black_box(bytes)).expect("the batch is sound");
                batch
                    .records()
                    .map(|record| record.map_or(0, |record| record.value.map_or(0, <[u8]>::len)))
                    .sum::<usize>()
            });
        });
    }
    group.finish();
}

fn check(criterion: &mut Criterion) {
    let limits = Limits {
        batch_bytes_max: BATCH_BYTES_MAX,
        timestamp_type: TimestampType::Create,
        now: TimestampMs(1_700_000_000_000),
    };
    let mut group = criterion.benchmark_group("batch_verify");
    for shape in SHAPES {
        let bytes = batch(shape).expect("the shape fits");
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(shape.name), &bytes, |bencher, bytes| {
            bencher.iter(|| verify(black_box(bytes), &limits).expect("the batch is sound"));
        });
    }
    group.finish();
}

fn stamping(criterion: &mut Criterion) {
    let mut bytes = batch(SHAPES[0]).expect("the shape fits");
    let mut offset = 0;
    criterion.bench_function("batch_stamp", |bencher| {
        bencher.iter(|| {
            offset += 1;
            stamp(black_box(&mut bytes), Offset(offset), LeaderEpoch(7));
        });
    });
}

fn checksum(criterion: &mut Criterion) {
    for (name, digest) in [
        ("crc32c", (|bytes| u64::from(crc32c(bytes))) as fn(&[u8]) -> u64),
        ("digest64", |bytes| digest64(42, bytes)),
    ] {
        let mut group = criterion.benchmark_group(name);
        for length in [170, 4_096, 65_536, 1_048_576] {
            let bytes = vec![0x5a_u8; length];
            group.throughput(Throughput::Bytes(length as u64));
            group.bench_with_input(BenchmarkId::from_parameter(length), &bytes, |bencher, bytes| {
                bencher.iter(|| digest(black_box(bytes)));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, build, walk, check, stamping, checksum);
criterion_main!(benches);
