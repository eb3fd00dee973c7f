//! Groups: filling one with the batches of a turn, and sealing it with its digest.
#![allow(
    missing_docs,
    clippy::expect_used,
    reason = "criterion's macros; a bench that can't start has nothing to say"
)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use cutwater_journal::group::GroupHeader;
use cutwater_journal::{EntryHead, GROUP_BUFFER_BYTES, GroupBuilder};
use cutwater_micro::{SHAPES, batch};

fn fill_and_seal(criterion: &mut Criterion) {
    let payload = batch(SHAPES[0]).expect("the shape fits");
    let mut buffer = vec![0_u8; GROUP_BUFFER_BYTES];
    let mut group = criterion.benchmark_group("group_build");
    for entries in [1_u32, 64, 1_024] {
        group.throughput(Throughput::Elements(entries.into()));
        group.bench_function(BenchmarkId::from_parameter(entries), |bencher| {
            let mut builder = GroupBuilder::default();
            bencher.iter(|| {
                builder.begin(&buffer);
                for _ in 0..entries {
                    builder
                        .push(&mut buffer, black_box(&EntryHead::default()), &[&payload])
                        .expect("the group has room");
                }
                builder.seal(&mut buffer, GroupHeader::default()).digest
            });
        });
    }
    group.finish();
}

criterion_group!(benches, fill_and_seal);
criterion_main!(benches);
