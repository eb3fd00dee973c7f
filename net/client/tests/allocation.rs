//! After warm-up nothing is allocated per record: counted, over a real socket, against a peer on another thread.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use cutwater_api::{
    NodeFacts, Output, PartitionView, Produce, Produced, Request, RequiredAcks, Response, ShardMap,
    TopicView, TopicsView,
};
use cutwater_client::producer::{OutRecord, TopicHandle};
use cutwater_client::{ClientConfig, Event, Producer, ProducerConfig, Transport, Wait, Wire};
use cutwater_model::{
    Offset, PartitionId, PartitionIndex, ProducerEpoch, ProducerId, ShardId, TopicId, topic::TopicConfig,
};
use cutwater_native::frame::{self, Cut};
use cutwater_native::request::Asked;
use cutwater_native::{ServerPreface, preface, request, response};

/// Acknowledges everything, on a thread of its own whose allocations don't count.
fn acknowledging_peer() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            thread::spawn(move || serve(stream));
        }
    });
    address
}

fn serve(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut greeting = [0; preface::CLIENT_BYTES];
    stream.read_exact(&mut greeting).unwrap();
    let mut answer = Vec::new();
    ServerPreface::accept(NodeFacts { shard: ShardId(0), shards: 1 }, 1).encode(&mut answer);
    stream.write_all(&answer).unwrap();
    let mut received = Vec::new();
    let mut chunk = vec![0; 1 << 16];
    let mut offset = 0;
    loop {
        let count = stream.read(&mut chunk).unwrap_or(0);
        if count == 0 {
            return;
        }
        received.extend_from_slice(&chunk[..count]);
        let mut output = Output::default();
        let mut at = 0;
        while let Cut::Whole(frame) = frame::cut(&received[at..], u32::MAX).unwrap() {
            at += frame.bytes();
            if let Asked::Request(request) = request::decode(&frame).unwrap() {
                response::encode(&mut output, frame.correlation, &answer_to(&request, &mut offset));
            }
        }
        received.drain(..at);
        if stream.write_all(output.bytes()).is_err() {
            return;
        }
    }
}

fn answer_to(request: &Request<'_>, offset: &mut i64) -> Response {
    match request {
        Request::Produce(_) => {
            *offset += 1;
            let base_offset = Offset(*offset);
            Response::Produced(Produced { error: None, base_offset, append_time: None, log_start: Offset(0) })
        }
        Request::Describe { names } => Response::Topics(TopicsView {
            topics: vec![TopicView {
                name: names[0].to_owned(),
                id: TopicId(1),
                config: TopicConfig::default(),
                partitions: vec![PartitionView { index: PartitionIndex(0), shard: ShardId(0) }],
            }],
            shards: ShardMap { shards: 1, version: 1 },
        }),
        _ => Response::ProducerIdAllocated(ProducerId(7), ProducerEpoch(0)),
    }
}

fn send(producer: &mut Producer, topic: TopicHandle, records: u64) {
    let mut reported = 0;
    for token in 0..records {
        let record = OutRecord { key: Some(b"key"), value: Some(&[7; 100]), token, ..OutRecord::default() };
        while producer.send(topic, &record).is_err() {
            producer.poll(Wait::AtMost(Duration::from_millis(1))).unwrap();
            reported += drain(producer);
        }
        if token % 100 == 0 {
            producer.poll(Wait::Never).unwrap();
            reported += drain(producer);
        }
    }
    while reported < records {
        producer.poll(Wait::AtMost(Duration::from_millis(1))).unwrap();
        reported += drain(producer);
    }
}

fn drain(producer: &mut Producer) -> u64 {
    let mut count = 0;
    while let Some(delivery) = producer.next_delivery() {
        assert!(delivery.outcome.is_ok());
        count += 1;
    }
    count
}

#[test]
fn a_producer_allocates_nothing_per_record() {
    let client = ClientConfig::new(acknowledging_peer());
    let config =
        ProducerConfig { batch_bytes_max: 4096, buffer_bytes_max: 100_000, ..ProducerConfig::default() };
    let mut producer = Producer::new(&client, config).unwrap();
    let topic = producer.topic("t").unwrap();
    send(&mut producer, topic, 30_000);
    let records = 30_000;
    let counted = allocation_counter::measure(|| send(&mut producer, topic, records));
    // How many batches are under way at once varies, so a buffer may still grow; per record there is nothing.
    assert!(counted.count_total < 100, "{} allocations for {records} records", counted.count_total);
}

#[test]
fn the_raw_path_of_one_request_per_record_allocates_nothing() {
    let mut transport = Transport::new(&ClientConfig::new(acknowledging_peer())).unwrap();
    let link = transport.open(None).unwrap();
    let partition = PartitionId { topic: TopicId(1), index: PartitionIndex(0) };
    let mut exchange = |requests: u64| {
        let (mut sent, mut answered) = (0, 0);
        while answered < requests {
            let session = transport.session(link).unwrap();
            while sent < requests && session.in_flight() < 64 {
                let produce = Produce { partition, acks: RequiredAcks::All, batch: &[7; 170] };
                assert!(session.produce(sent, &produce));
                sent += 1;
            }
            transport
                .turn(Wait::AtMost(Duration::from_millis(100)), |_, event| {
                    answered += u64::from(matches!(event, Event::Answered { .. }));
                })
                .unwrap();
        }
    };
    exchange(20_000);
    let requests = 20_000;
    let counted = allocation_counter::measure(|| exchange(requests));
    assert!(counted.count_total < 20, "{} allocations for {requests} requests", counted.count_total);
}
