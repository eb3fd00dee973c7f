//! The native protocol: produce frames from bytes to requests, and acknowledgements from answers to bytes.
#![allow(
    missing_docs,
    clippy::expect_used,
    reason = "criterion's macros; a bench that can't start has nothing to say"
)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use cutwater_api::{
    ConnectionId, NodeFacts, Output, Produce, Produced, Request, RequiredAcks, Response, Session, Step,
    Ticket,
};
use cutwater_micro::{SHAPES, batch};
use cutwater_model::{Offset, PartitionId, PartitionIndex, ShardId, TopicId};
use cutwater_native::{ClientPreface, ServerSession, request};

const FACTS: NodeFacts = NodeFacts { shard: ShardId(0), shards: 1 };

fn session() -> ServerSession {
    let mut session = ServerSession::new(FACTS);
    let mut preface = Vec::new();
    ClientPreface::new(None).encode(&mut preface);
    let mut output = Output::default();
    assert!(matches!(session.on_bytes(&preface, &mut output), Step::Done { .. }), "the preface is accepted");
    session
}

fn parse(criterion: &mut Criterion) {
    const FRAMES: u32 = 64;
    let mut group = criterion.benchmark_group("frame_parse");
    group.throughput(Throughput::Elements(FRAMES.into()));
    let batch = batch(SHAPES[0]).expect("the shape fits");
    let partition = PartitionId { topic: TopicId(7), index: PartitionIndex(3) };
    let mut received = Vec::new();
    for correlation in 0..FRAMES {
        let produce = Produce { partition, acks: RequiredAcks::Leader, batch: &batch };
        request::encode(&mut received, correlation, &Request::Produce(produce));
    }
    group.bench_function(BenchmarkId::from_parameter("64 produces of 100 B"), |bencher| {
        let mut session = session();
        let mut output = Output::default();
        bencher.iter(|| {
            let mut rest = received.as_slice();
            let mut bytes = 0;
            while let Step::Request { consumed, request: Request::Produce(produce), .. } =
                session.on_bytes(black_box(rest), &mut output)
            {
                bytes += produce.batch.len();
                rest = &rest[consumed..];
            }
            assert!(rest.is_empty(), "every frame is a produce");
            bytes
        });
    });
    group.finish();
}

fn answer(criterion: &mut Criterion) {
    let mut session = session();
    let mut output = Output::default();
    let response = Response::Produced(Produced {
        error: None,
        base_offset: Offset(1_000_000),
        append_time: None,
        log_start: Offset(0),
    });
    let ticket = Ticket { connection: ConnectionId::default(), correlation: 9 };
    criterion.bench_function("ack_encode", |bencher| {
        bencher.iter(|| {
            output.clear();
            session.on_response(ticket, black_box(&response), &mut output);
            output.len()
        });
    });
}

criterion_group!(benches, parse, answer);
criterion_main!(benches);
