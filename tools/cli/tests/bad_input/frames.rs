//! Frames and what comes before them (B1 to B26).

use cutwater_api::{Fetch, ListOffsets, Request, Subscribe, SubscriptionId};
use cutwater_model::builder::Sequence;
use cutwater_model::limits::FRAME_BYTES_MAX;
use cutwater_model::topic::TopicConfig;
use cutwater_model::{ErrorKind, PartitionId, ShardId, TopicId};
use cutwater_native::frame::kind;
use cutwater_native::preface::ClientPreface;

use super::support::raw::{PING, Raw, batch_of, encode, partition, preface, produce_frame};
use super::{Expect, Scene, check};

const REFUSED: Expect = Expect::CodeThenClose(ErrorKind::InvalidRequest);

/// A frame of any kind with any body.
fn frame(kind: u8, flags: u8, code: i16, body: &[u8]) -> Vec<u8> {
    let mut bytes = (8 + body.len() as u32).to_le_bytes().to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(code.to_le_bytes());
    bytes.extend(7_u32.to_le_bytes());
    bytes.extend(body);
    bytes
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// One request of each kind that has an answer, in its bytes.
fn requests(partition: PartitionId) -> Vec<Vec<u8>> {
    let unknown = TopicId(1);
    let listed = ListOffsets {
        parts: vec![cutwater_api::ListOffsetsPart { partition, spec: cutwater_api::OffsetSpec::Latest }],
    };
    let part = cutwater_api::FetchPart { partition, offset: cutwater_model::Offset(0), bytes_max: 1000 };
    let fetch = Fetch { wait_ms_max: 0, bytes_min: 0, bytes_max: 1000, parts: vec![part] };
    let create = cutwater_api::CreateTopic { name: "frames", partitions: 1, config: TopicConfig::default() };
    vec![
        PING.to_vec(),
        produce_frame(partition, &batch_of(&[b"a value"], Sequence::NONE)),
        encode(&Request::Fetch(fetch)),
        encode(&Request::ListOffsets(listed)),
        encode(&Request::Unsubscribe { subscription: SubscriptionId(9) }),
        encode(&Request::Describe { names: vec!["frames", "none"] }),
        encode(&Request::CreateTopic(create)),
        encode(&Request::DeleteTopic { topic: unknown }),
        encode(&Request::AddPartitions { topic: unknown, partitions: 2 }),
        encode(&Request::AllocateProducerId),
        encode(&Request::Subscribe(Subscribe {
            subscription: SubscriptionId(3),
            credit_bytes: 1,
            parts: vec![],
        })),
    ]
}

#[test]
fn bad_frames_are_refused_or_closed() {
    let mut scene = Scene::new("bad-frames");
    let topic = scene.connect().create_topic("frames", 2, TopicConfig::default());
    let here = partition(topic, 0);

    let mut rows: Vec<(String, Vec<u8>, Expect)> = vec![
        ("B1: length -1".into(), words(&[u32::MAX]), Expect::Close),
        ("B2: length 0".into(), words(&[0]), Expect::Close),
        ("B2: length 7".into(), words(&[7, 1]), Expect::Close),
        ("B3: length max + 1".into(), words(&[FRAME_BYTES_MAX + 1]), Expect::Close),
        ("B3: length 2^31 - 1".into(), words(&[i32::MAX as u32]), Expect::Close),
        ("B12: flags of a request".into(), frame(kind::PING, 1, 0, &[]), REFUSED),
        ("B12: a code in a request".into(), frame(kind::PING, 0, 1, &[]), REFUSED),
        ("B18: the text of a name is missing".into(), frame(kind::DESCRIBE, 0, 0, &[1, 0, 0, 0]), REFUSED),
        (
            "B19: a name longer than the frame".into(),
            frame(kind::DESCRIBE, 0, 0, &[1, 0, 0, 0, 0xfe, 0xff, b'x']),
            REFUSED,
        ),
        (
            "B19: a name of 250 bytes".into(),
            {
                let mut body = vec![1, 0, 0, 0, 250, 0];
                body.resize(256, b'x');
                frame(kind::DESCRIBE, 0, 0, &body)
            },
            Expect::Code(ErrorKind::InvalidTopic),
        ),
        ("a produce request without a partition".into(), frame(kind::PRODUCE, 0, 1, &[0; 19]), REFUSED),
        (
            "a reserved byte".into(),
            {
                let mut body = words(&[1]);
                body.extend([0; 20]);
                body.extend([1, 9, 0, 0]);
                body.extend([0; 8]);
                frame(kind::LIST_OFFSETS, 0, 0, &body)
            },
            REFUSED,
        ),
        (
            "B21: 20,001 empty names".into(),
            {
                let mut body = words(&[20_001]);
                body.resize(4 + 2 * 20_001, 0);
                frame(kind::DESCRIBE, 0, 0, &body)
            },
            REFUSED,
        ),
        (
            "B21: 10,001 parts".into(),
            {
                let mut body = words(&[0, 0, 1000, 10_001]);
                body.resize(16 + 32 * 10_001, 0);
                frame(kind::FETCH, 0, 0, &body)
            },
            REFUSED,
        ),
    ];
    for unknown in [0, 13, 64, 127, 128, 130, 192, 193, 255] {
        rows.push((format!("B12: kind {unknown}"), frame(unknown, 0, 0, &[]), REFUSED));
    }
    for (kind, before) in [
        (kind::FETCH, &[0, 0, 1000][..]),
        (kind::LIST_OFFSETS, &[]),
        (kind::SUBSCRIBE, &[1, 1000]),
        (kind::DESCRIBE, &[]),
    ] {
        for count in [i32::MAX as u32, u32::MAX] {
            let mut body = words(before);
            body.extend(words(&[count]));
            body.extend([0; 10]);
            rows.push((format!("B20: kind {kind}, a count of {count}"), frame(kind, 0, 0, &body), REFUSED));
        }
    }
    for request in requests(here) {
        let kind = request[4];
        // What follows a produce request's partition is its batch, and a created topic's name goes to the end.
        if kind != kind::PRODUCE && kind != kind::CREATE_TOPIC {
            let mut longer = request.clone();
            longer.extend([0x5a; 3]);
            longer[0..4].copy_from_slice(&(request.len() as u32 - 1).to_le_bytes());
            rows.push((format!("B11: kind {kind} and three bytes more"), longer, REFUSED));
        }
        if request.len() > 12 && kind != kind::PRODUCE && kind != kind::CREATE_TOPIC {
            let mut shorter = request[..request.len() - 1].to_vec();
            shorter[0..4].copy_from_slice(&(request.len() as u32 - 5).to_le_bytes());
            rows.push((format!("B11: kind {kind}, a byte less"), shorter, REFUSED));
        }
    }
    for (name, bytes, expect) in &rows {
        check(name, &mut scene.connect(), bytes, *expect);
        scene.probe.check(name);
    }
    assert_eq!(scene.connect().end_of(here), Ok(0), "something was appended");
    scene.end();
}

#[test]
fn what_is_no_preface_is_closed() {
    let mut scene = Scene::new("bad-prefaces");
    let changed = |at: usize, to: &[u8]| {
        let mut bytes = preface();
        bytes[at..at + to.len()].copy_from_slice(to);
        bytes
    };
    for (name, bytes) in [
        ("B9: a TLS ClientHello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        ("B10: HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("a Kafka request", vec![0, 0, 0, 20, 0, 18, 0, 3, 0, 0, 0, 1, 0, 4, b't', b'e', b's', b't', 0, 0]),
        ("another magic", changed(7, b"S")),
        ("a reserved byte", changed(14, &[1])),
        ("zeros", vec![0; 4096]),
    ] {
        let mut raw = Raw::dial(scene.node.address());
        let _ = raw.send(&bytes);
        assert_eq!(raw.server_preface(), None, "{name}");
        scene.probe.check(name);
    }
    for (name, bytes) in [
        ("version 0", changed(8, &[0, 0, 0, 0])),
        ("versions 2 to 9", changed(8, &[2, 0, 9, 0])),
        ("versions 1 to 0", changed(8, &[1, 0, 0, 0])),
    ] {
        let mut raw = Raw::dial(scene.node.address());
        assert!(raw.send(&bytes));
        let answer = raw.server_preface().expect(name);
        assert_eq!(answer.outcome.unwrap_err().code, ErrorKind::UnsupportedVersion.code(), "{name}");
        assert_eq!((answer.version_least, answer.version_most), (1, 1));
        assert!(raw.read().is_none(), "{name}: not closed");
        scene.probe.check(name);
    }
    for (name, bytes) in [
        ("a shard that there is not", changed(12, &[0xf4, 1])),
        ("unknown features", changed(16, &[0xff; 8])),
        ("versions 0 to 65535", changed(8, &[0, 0, 0xff, 0xff])),
    ] {
        let mut raw = Raw::dial(scene.node.address());
        assert!(raw.send(&bytes));
        let accepted = raw.server_preface().expect(name).outcome.expect(name);
        assert_eq!((accepted.version, accepted.features), (1, 0), "{name}");
        raw.ping();
        scene.probe.check(name);
    }
    scene.end();
}

#[test]
fn half_a_frame_appends_nothing_and_a_cut_anywhere_changes_no_answer() {
    let mut scene = Scene::new("cut-frames");
    let mut raw = scene.connect();
    let topic = raw.create_topic("frames", 2, TopicConfig::default());
    for index in 0..2 {
        let partition = partition(topic, index);
        let whole = produce_frame(partition, &batch_of(&[&[7; 5000]], Sequence::NONE));
        for half in [5, 12, 31, 100, whole.len() / 2, whole.len() - 1] {
            let mut gone = scene.connect();
            assert!(gone.send(&whole[..half]));
            drop(gone);
            // With an answer unread, closing resets the connection (tcp(7)).
            let mut reset = Raw::dial(scene.node.address());
            assert!(reset.send(&[preface(), whole[..half].to_vec()].concat()));
            assert_eq!(reset.socket.peek(&mut [0]).unwrap(), 1);
            drop(reset);
            scene.probe.check("B7, B8: half a produce request");
        }
        assert_eq!(raw.end_of(partition), Ok(0), "half a request was carried out");
    }

    let mut other = scene.connect();
    for request in requests(partition(topic, 1)) {
        let expected = raw_answer(&mut raw, &request);
        for cut in 1..request.len() {
            assert!(raw.send(&request[..cut]));
            // The node has most likely read the first part once it has answered another connection.
            other.ping();
            let answer = raw_answer(&mut raw, &request[cut..]);
            assert_eq!(
                (answer.0, answer.1),
                (expected.0, expected.1),
                "B25: kind {}, cut at {cut}",
                request[4]
            );
        }
    }
    scene.probe.check("B25: frames in two parts");

    let mut many = Vec::new();
    for _ in 0..500 {
        many.extend(PING);
        many.extend(produce_frame(partition(topic, 0), &batch_of(&[b"one of many"], Sequence::NONE)));
    }
    let begun = raw.end_of(partition(topic, 0)).unwrap();
    assert!(raw.send(&many));
    let mut offsets = Vec::new();
    for _ in 0..1000 {
        let answer = raw.read().expect("B23: an answer to each");
        assert_eq!((answer.code, answer.correlation), (0, 7));
        if answer.kind == kind::PRODUCE + kind::ANSWER {
            offsets.push(i64::from_le_bytes(*answer.body.first_chunk().unwrap()));
        }
    }
    assert_eq!(offsets, (begun..begun + 500).collect::<Vec<_>>(), "B23: acknowledged in order, each once");
    scene.end();
}

/// A peer that has said all it has to say may shut down its side: everything it asked for is answered, and only then is it
/// closed. Whichever shard it wanted, wherever its partitions are, and however much there is to send.
#[test]
fn a_peer_that_sends_no_more_is_answered_before_it_is_closed() {
    const APPENDS: usize = 20;
    let mut scene = Scene::new("half-closed");
    let topic = scene.connect().create_topic("half-closed", 2, TopicConfig::default());
    for shard in [0, 1] {
        for index in [0, 1] {
            let here = partition(topic, index);
            let value = vec![7; 100_000];
            let mut all = Vec::new();
            for _ in 0..APPENDS {
                all.extend(produce_frame(here, &batch_of(&[&value], Sequence::NONE)));
            }
            all.extend(PING);
            let fetch = Fetch {
                wait_ms_max: 60_000,
                bytes_min: 1 << 24,
                bytes_max: 1 << 24,
                parts: vec![cutwater_api::FetchPart {
                    partition: here,
                    offset: cutwater_model::Offset(0),
                    bytes_max: 1 << 24,
                }],
            };
            all.extend(encode(&Request::Fetch(fetch)));
            all.extend(encode(&Request::Describe { names: vec!["half-closed"] }));
            let mut raw = Raw::dial(scene.node.address());
            let mut bytes = Vec::new();
            ClientPreface::new(Some(ShardId(shard))).encode(&mut bytes);
            bytes.extend(all);
            assert!(raw.send(&bytes));
            raw.socket.shutdown(std::net::Shutdown::Write).unwrap();
            assert!(raw.server_preface().is_some_and(|answer| answer.outcome.is_ok()));
            let mut kinds = Vec::new();
            while let Some(answer) = raw.read() {
                assert_eq!(answer.code, 0, "{answer:?}");
                kinds.push(answer.kind - kind::ANSWER);
            }
            kinds.sort_unstable();
            let mut expected = vec![kind::PRODUCE; APPENDS];
            expected.extend([kind::PING, kind::FETCH, kind::DESCRIBE]);
            expected.sort_unstable();
            assert_eq!(kinds, expected, "shard {shard}, partition {index}");
            scene.probe.check("a peer that sends no more");
        }
    }
    scene.end();
}

fn raw_answer(raw: &mut Raw, bytes: &[u8]) -> (u8, i16) {
    assert!(raw.send(bytes));
    let answer = raw.read().expect("an answer");
    (answer.kind, answer.code)
}
