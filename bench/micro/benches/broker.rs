//! `Shard::handle`: produce requests from input to acknowledgement, with a disk that takes no time.
#![allow(
    missing_docs,
    clippy::expect_used,
    reason = "criterion's macros; a bench that can't start has nothing to say"
)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use cutwater_micro::rig::ShardRig;
use cutwater_micro::{SHAPES, batch};

fn produce(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("shard_produce");
    let shapes = [(SHAPES[0], 64, 1), (SHAPES[0], 64, 1_000), (SHAPES[1], 4, 4), (SHAPES[2], 2, 4)];
    for (shape, requests, partitions) in shapes {
        let batch = batch(shape).expect("the shape fits");
        let name = format!("{} x {requests} over {partitions} partitions", shape.name);
        group.throughput(Throughput::Elements(u64::from(requests) * u64::from(shape.records)));
        let mut rig = ShardRig::new(partitions).expect("the shard starts");
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| {
                rig.produce(black_box(&batch), requests);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, produce);
criterion_main!(benches);
