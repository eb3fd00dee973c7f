//! The native protocol, both directions.

use cutwater_api::{
    CreateTopic, Fetch, FetchPart, Fetched, FetchedPart, ListOffsets, ListOffsetsPart, ListedOffset,
    NodeFacts, OffsetSpec, Output, PartitionView, Piece, Produce, Produced, Request, RequiredAcks, Response,
    Session, ShardMap, Step, Subscribe, SubscriptionId, TopicView, TopicsView,
};
use cutwater_model::{
    ErrorKind, Offset, PartitionId, PartitionIndex, ProducerEpoch, ProducerId, ShardId, TimestampMs, TopicId,
    limits::{ANSWER_BYTES_MAX, FRAME_BYTES_MAX},
    topic::TopicConfig,
};
use cutwater_native::{
    Answer, ClientPreface, Cut, Frame, ServerPreface, ServerSession, api, frame,
    preface::{CLIENT_BYTES, SERVER_BYTES},
    request::{self, Asked},
    response,
};

use super::{Target, batch::batches};

const FACTS: NodeFacts = NodeFacts { shard: ShardId(1), shards: 4 };
const PARTITION: PartitionId = PartitionId { topic: TopicId(99), index: PartitionIndex(3) };

pub(super) const PREFACE: Target = Target {
    name: "native_preface",
    run: preface,
    seeds: prefaces,
    bytes_per_byte: 2,
    bytes_free: 0,
    cost: 1,
};

pub(super) const REQUEST: Target = Target {
    name: "native_request",
    run: request_frame,
    seeds: requests,
    bytes_per_byte: 24,
    bytes_free: 0,
    cost: 1,
};

pub(super) const SESSION: Target = Target {
    name: "native_session",
    run: session,
    seeds: streams,
    bytes_per_byte: 100,
    bytes_free: 0,
    cost: 1,
};

pub(super) const ANSWER: Target =
    Target { name: "native_answer", run: answer, seeds: answers, bytes_per_byte: 24, bytes_free: 0, cost: 1 };

fn preface(bytes: &[u8]) {
    let mut again = Vec::new();
    if let Some(client) = bytes.first_chunk::<CLIENT_BYTES>()
        && let Ok(preface) = ClientPreface::decode(client)
    {
        preface.encode(&mut again);
        assert_eq!(again, client);
    }
    if let Some(server) = bytes.first_chunk::<SERVER_BYTES>()
        && let Ok(preface) = ServerPreface::decode(server)
    {
        again.clear();
        preface.encode(&mut again);
        assert_eq!(ServerPreface::decode(again.first_chunk().unwrap_or(server)), Ok(preface));
    }
}

/// One frame, its length mended, so that no change of it is lost on the length alone.
fn whole<R>(bytes: &[u8], length_max: u32, read: impl FnOnce(&Frame<'_>, &[u8]) -> R) -> Option<R> {
    let mut bytes = bytes.to_vec();
    let length = bytes.len().checked_sub(4)? as u32;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    match frame::cut(&bytes, length_max) {
        Ok(Cut::Whole(frame)) => {
            assert_eq!(frame.bytes(), bytes.len());
            Some(read(&frame, &bytes))
        }
        _ => None,
    }
}

fn request_frame(bytes: &[u8]) {
    whole(bytes, FRAME_BYTES_MAX, |frame, bytes| {
        let mut again = Vec::with_capacity(bytes.len());
        match request::decode(frame) {
            Ok(Asked::Request(request)) => request::encode(&mut again, frame.correlation, &request),
            Ok(Asked::Ping) => api::ping::encode_request(&mut again, frame.correlation),
            Err(_) => return,
        }
        assert_eq!(again, bytes, "what was understood is written as it came");
    });
}

/// What a client sends after connecting, whole.
fn session(bytes: &[u8]) {
    let (mut session, mut output) = (ServerSession::new(FACTS), Output::default());
    let mut rest = bytes;
    loop {
        match session.on_bytes(rest, &mut output) {
            Step::Incomplete { bytes_needed } => {
                assert!(bytes_needed > rest.len(), "what is whole is taken");
                assert!(bytes_needed <= FRAME_BYTES_MAX as usize + 4, "no more is waited for than allowed");
                break;
            }
            Step::Request { consumed, .. } | Step::Done { consumed } => {
                assert!((1..=rest.len()).contains(&consumed));
                rest = &rest[consumed..];
            }
            Step::Move { consumed, shard } => {
                assert!(consumed <= rest.len() && shard != FACTS.shard && shard.0 < FACTS.shards);
                session.moved(NodeFacts { shard, ..FACTS });
                rest = &rest[consumed..];
                if !matches!(session.on_bytes(rest, &mut Output::default()), Step::Done { .. }) {
                    panic!("a connection moves once");
                }
                break;
            }
            Step::Close(reason) => {
                assert!(matches!(session.on_bytes(rest, &mut output), Step::Close(again) if again == reason));
                break;
            }
        }
    }
}

fn answer(bytes: &[u8]) {
    whole(bytes, ANSWER_BYTES_MAX, |frame, _| match response::decode(frame) {
        Ok(Answer::Fetched(view) | Answer::Pushed { fetched: view, .. }) => {
            let total: usize = view.parts().map(|it| it.batches.len()).sum();
            assert_eq!((view.parts().count(), total), (view.len(), view.batches().len()));
        }
        Ok(Answer::Topics(view)) => {
            let mut again = Vec::new();
            api::describe::encode_answer(&mut again, frame.correlation, &view);
            assert_eq!(again[frame::HEADER_BYTES..], *frame.body);
        }
        Ok(Answer::ListedOffsets(view)) => assert_eq!(4 + view.parts().count() * 40, frame.body.len()),
        Ok(Answer::Refused(refusal)) => assert_ne!(refusal.failure.code, 0),
        _ => {}
    });
}

fn prefaces() -> Vec<Vec<u8>> {
    let mut prefaces = vec![Vec::new(); 4];
    ClientPreface::new(None).encode(&mut prefaces[0]);
    ClientPreface::new(Some(ShardId(2))).encode(&mut prefaces[1]);
    ServerPreface::accept(FACTS, 1).encode(&mut prefaces[2]);
    ServerPreface::refuse(FACTS, ErrorKind::UnsupportedVersion).encode(&mut prefaces[3]);
    prefaces
}

fn requests() -> Vec<Vec<u8>> {
    let part = FetchPart { partition: PARTITION, offset: Offset(1000), bytes_max: 65_536 };
    let listed = [OffsetSpec::Earliest, OffsetSpec::Latest, OffsetSpec::At(TimestampMs(5))];
    let parts = listed.map(|spec| ListOffsetsPart { partition: PARTITION, spec }).to_vec();
    let subscription = SubscriptionId(5);
    let batch = batches().swap_remove(0);
    let config = TopicConfig::default();
    let all = [
        Request::Produce(Produce { partition: PARTITION, acks: RequiredAcks::All, batch: &batch }),
        Request::Produce(Produce { partition: PARTITION, acks: RequiredAcks::None, batch: &[] }),
        Request::Fetch(Fetch { wait_ms_max: 500, bytes_min: 1, bytes_max: 1 << 20, parts: vec![part; 3] }),
        Request::ListOffsets(ListOffsets { parts }),
        Request::Subscribe(Subscribe { subscription, credit_bytes: 1 << 20, parts: vec![part; 2] }),
        Request::AddCredit { subscription, bytes: 65_536 },
        Request::Unsubscribe { subscription },
        Request::Describe { names: vec!["orders", "t", "grün"] },
        Request::Describe { names: Vec::new() },
        Request::CreateTopic(CreateTopic { name: "orders", partitions: 2, config }),
        Request::DeleteTopic { topic: PARTITION.topic },
        Request::AddPartitions { topic: PARTITION.topic, partitions: 8 },
        Request::AllocateProducerId,
    ];
    let mut requests: Vec<_> = all
        .iter()
        .map(|request| {
            let mut bytes = Vec::new();
            request::encode(&mut bytes, 7, request);
            bytes
        })
        .collect();
    let mut ping = Vec::new();
    api::ping::encode_request(&mut ping, 7);
    requests.push(ping);
    requests
}

fn streams() -> Vec<Vec<u8>> {
    let requests = requests();
    let mut streams: Vec<_> = prefaces().into_iter().take(2).collect();
    for request in &requests {
        streams.push([&streams[0][..], request, request].concat());
    }
    streams.push([&streams[0][..], &requests.concat()].concat());
    streams
}

fn answers() -> Vec<Vec<u8>> {
    let part = FetchedPart {
        partition: PARTITION,
        error: None,
        high_watermark: Offset(1001),
        log_start: Offset(0),
        memory: Vec::new(),
        bytes: batches().swap_remove(0),
    };
    let refused = FetchedPart { error: Some(ErrorKind::DamagedRange), bytes: Vec::new(), ..part.clone() };
    let fetched = Fetched { parts: vec![part, refused] };
    let produced = Produced {
        error: Some(ErrorKind::DiskFull),
        base_offset: Offset(-1),
        append_time: Some(TimestampMs(5)),
        log_start: Offset(0),
    };
    let listed = ListedOffset { partition: PARTITION, error: None, offset: Offset(4), timestamp: None };
    let topic = TopicView {
        name: "orders".into(),
        id: PARTITION.topic,
        config: TopicConfig::default(),
        partitions: vec![PartitionView { index: PartitionIndex(0), shard: ShardId(1) }],
    };
    let topics =
        TopicsView { topics: vec![topic.clone(), topic], shards: ShardMap { shards: 4, version: 2 } };
    let all = [
        Response::Produced(produced),
        Response::Fetched(fetched.clone()),
        Response::Pushed { subscription: SubscriptionId(5), fetched },
        Response::ListedOffsets(vec![listed; 2]),
        Response::Subscribed(SubscriptionId(5)),
        Response::Unsubscribed(SubscriptionId(5)),
        Response::Topics(topics),
        Response::TopicCreated(PARTITION.topic),
        Response::TopicDeleted(PARTITION.topic),
        Response::PartitionsAdded(PARTITION.topic),
        Response::ProducerIdAllocated(ProducerId(4), ProducerEpoch(0)),
        Response::Refused(ErrorKind::NotReady),
    ];
    all.iter()
        .map(|response| {
            let mut output = Output::default();
            response::encode(&mut output, 7, response);
            output
                .pieces()
                .flat_map(|piece| match piece {
                    Piece::Bytes(bytes) => bytes.to_vec(),
                    Piece::Memory(_) => Vec::new(),
                })
                .collect()
        })
        .collect()
}
