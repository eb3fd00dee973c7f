//! One of each message, with the names that the document gives its examples.

use alloc::{string::String, vec, vec::Vec};

use cutwater_api::{
    CreateTopic, Fetch, FetchPart, Fetched, FetchedPart, ListOffsets, ListOffsetsPart, ListedOffset,
    NodeFacts, OffsetSpec, Output, PartitionView, Piece, Produce, Produced, Request, RequiredAcks, Response,
    ShardMap, Subscribe, SubscriptionId, TopicView, TopicsView,
};
use cutwater_model::{
    ErrorKind, MemoryRange, Offset, PartitionId, PartitionIndex, ProducerEpoch, ProducerId, ShardId,
    TimestampMs, TopicId,
    builder::{BatchBuilder, Sequence},
    topic::TopicConfig,
};

use crate::{api, preface::ClientPreface, preface::ServerPreface, request, response};

pub(crate) const TOPIC: TopicId = TopicId(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f);
pub(crate) const PARTITION: PartitionId = PartitionId { topic: TOPIC, index: PartitionIndex(3) };
pub(crate) const FACTS: NodeFacts = NodeFacts { shard: ShardId(1), shards: 4 };

/// A batch of one record without key, with the value `hi`.
pub(crate) fn batch() -> Vec<u8> {
    let mut builder = BatchBuilder::new(4096);
    builder.append(TimestampMs(1_800_000_000_000), None, Some(b"hi"), &[]).unwrap();
    builder.finish(Sequence::NONE).to_vec()
}

pub(crate) fn requests(batch: &[u8]) -> Vec<(&'static str, u32, Request<'_>)> {
    let part = FetchPart { partition: PARTITION, offset: Offset(1000), bytes_max: 65_536 };
    vec![
        ("Produce", 7, Request::Produce(Produce { partition: PARTITION, acks: RequiredAcks::All, batch })),
        (
            "Fetch",
            8,
            Request::Fetch(Fetch { wait_ms_max: 500, bytes_min: 1, bytes_max: 1 << 20, parts: vec![part] }),
        ),
        (
            "ListOffsets",
            9,
            Request::ListOffsets(ListOffsets {
                parts: vec![
                    ListOffsetsPart { partition: PARTITION, spec: OffsetSpec::Latest },
                    ListOffsetsPart {
                        partition: PARTITION,
                        spec: OffsetSpec::At(TimestampMs(1_800_000_000_000)),
                    },
                ],
            }),
        ),
        (
            "Subscribe",
            10,
            Request::Subscribe(Subscribe {
                subscription: SubscriptionId(5),
                credit_bytes: 1 << 20,
                parts: vec![part],
            }),
        ),
        ("AddCredit", 11, Request::AddCredit { subscription: SubscriptionId(5), bytes: 65_536 }),
        ("Unsubscribe", 12, Request::Unsubscribe { subscription: SubscriptionId(5) }),
        ("Describe", 13, Request::Describe { names: vec!["orders", "t"] }),
        (
            "CreateTopic",
            14,
            Request::CreateTopic(CreateTopic {
                name: "orders",
                partitions: 2,
                config: TopicConfig::default(),
            }),
        ),
        ("DeleteTopic", 15, Request::DeleteTopic { topic: TOPIC }),
        ("AddPartitions", 16, Request::AddPartitions { topic: TOPIC, partitions: 8 }),
        ("AllocateProducerId", 17, Request::AllocateProducerId),
    ]
}

/// The answers, and the memory that they name.
pub(crate) fn responses() -> (Vec<(&'static str, u32, Response)>, Vec<u8>) {
    let memory = batch();
    let part = FetchedPart {
        partition: PARTITION,
        error: None,
        high_watermark: Offset(1001),
        log_start: Offset(0),
        memory: vec![MemoryRange { at: 0, len: 40 }, MemoryRange { at: 40, len: memory.len() as u32 - 40 }],
        bytes: Vec::new(),
    };
    let refused = FetchedPart {
        partition: PartitionId { index: PartitionIndex(4), ..PARTITION },
        error: Some(ErrorKind::NotLeaderOrFollower),
        high_watermark: Offset(-1),
        log_start: Offset(-1),
        memory: Vec::new(),
        bytes: Vec::new(),
    };
    let forwarded = FetchedPart { memory: Vec::new(), bytes: memory.clone(), ..part.clone() };
    let produced =
        Produced { error: None, base_offset: Offset(1000), append_time: None, log_start: Offset(0) };
    let listed = ListedOffset { partition: PARTITION, error: None, offset: Offset(1001), timestamp: None };
    let topic = TopicView {
        name: String::from("orders"),
        id: TOPIC,
        config: TopicConfig::default(),
        partitions: (0..2)
            .map(|at| PartitionView { index: PartitionIndex(at), shard: ShardId(at as u16) })
            .collect(),
    };
    let responses = vec![
        ("Produced", 7, Response::Produced(produced)),
        (
            "Produced with append time",
            7,
            Response::Produced(Produced { append_time: Some(TimestampMs(1_800_000_000_000)), ..produced }),
        ),
        (
            "Produced with error",
            7,
            Response::Produced(Produced {
                error: Some(ErrorKind::DiskFull),
                base_offset: Offset(-1),
                ..produced
            }),
        ),
        ("Fetched", 8, Response::Fetched(Fetched { parts: vec![part, refused] })),
        (
            "ListedOffsets",
            9,
            Response::ListedOffsets(vec![
                listed,
                ListedOffset {
                    offset: Offset(40),
                    timestamp: Some(TimestampMs(1_800_000_000_000)),
                    ..listed
                },
            ]),
        ),
        ("Subscribed", 10, Response::Subscribed(SubscriptionId(5))),
        (
            "Pushed",
            5,
            Response::Pushed { subscription: SubscriptionId(5), fetched: Fetched { parts: vec![forwarded] } },
        ),
        ("Unsubscribed", 12, Response::Unsubscribed(SubscriptionId(5))),
        (
            "Described",
            13,
            Response::Topics(TopicsView { topics: vec![topic], shards: ShardMap { shards: 4, version: 21 } }),
        ),
        ("TopicCreated", 14, Response::TopicCreated(TOPIC)),
        ("TopicDeleted", 15, Response::TopicDeleted(TOPIC)),
        ("PartitionsAdded", 16, Response::PartitionsAdded(TOPIC)),
        ("ProducerIdAllocated", 17, Response::ProducerIdAllocated(ProducerId(9000), ProducerEpoch(0))),
        ("Refused", 18, Response::Refused(ErrorKind::NotReady)),
    ];
    (responses, memory)
}

/// All bytes of all messages by name, as they go over the wire.
pub(crate) fn encoded() -> Vec<(&'static str, Vec<u8>)> {
    let mut all = Vec::new();
    let mut put = |name, encode: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        encode(&mut bytes);
        all.push((name, bytes));
    };
    put("client's preface", &|into| ClientPreface::new(Some(ShardId(1))).encode(into));
    put("server's preface", &|into| ServerPreface::accept(FACTS, 1).encode(into));
    put("server's refusal", &|into| ServerPreface::refuse(FACTS, ErrorKind::UnsupportedVersion).encode(into));
    put("Ping", &|into| api::ping::encode_request(into, 6));
    put("Pong", &|into| api::ping::encode_answer(into, 6));
    for (name, correlation, request) in requests(&batch()) {
        put(name, &|into| request::encode(into, correlation, &request));
    }
    let (responses, memory) = responses();
    for (name, correlation, response) in responses {
        put(name, &|into| {
            let mut output = Output::default();
            response::encode(&mut output, correlation, &response);
            into.extend_from_slice(&flatten(&output, &memory));
        });
    }
    all
}

/// The bytes that a peer sees.
pub(crate) fn flatten(output: &Output, memory: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in output.pieces() {
        bytes.extend_from_slice(match piece {
            Piece::Bytes(own) => own,
            Piece::Memory(range) => &memory[range.at as usize..][..range.len as usize],
        });
    }
    bytes
}
