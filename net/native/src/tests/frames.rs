//! Round trips, cuts, garbage.

use alloc::vec::Vec;

use cutwater_api::{Fetched, Request, Response};
use cutwater_model::{ErrorKind, limits::FETCH_PARTITIONS_MAX};

use super::{
    Random,
    samples::{PARTITION, batch, encoded, requests, responses},
};
use crate::{
    api::fetch::FetchedView,
    error::{DecodeError, Failure},
    frame::{self, Cut, Frame, FrameLengthError, HEADER_BYTES, LENGTH_LEAST, kind},
    preface::{ClientPreface, ServerPreface},
    request::{self, Asked},
    response::{self, Answer},
};

const LENGTH_MAX: u32 = 1 << 20;

fn whole(bytes: &[u8]) -> Frame<'_> {
    match frame::cut(bytes, LENGTH_MAX) {
        Ok(Cut::Whole(frame)) => frame,
        other => panic!("not a frame: {other:?}"),
    }
}

/// The frames among the samples: all but the prefaces.
fn frames() -> Vec<(&'static str, Vec<u8>)> {
    encoded().split_off(3)
}

#[test]
fn requests_come_back() {
    let batch = batch();
    for (name, correlation, request) in requests(&batch) {
        let mut bytes = Vec::new();
        request::encode(&mut bytes, correlation, &request);
        let frame = whole(&bytes);
        assert_eq!((frame.correlation, frame.bytes()), (correlation, bytes.len()), "{name}");
        assert_eq!(request::decode(&frame), Ok(Asked::Request(request)), "{name}");
    }
}

#[test]
fn answers_come_back() {
    let (responses, memory) = responses();
    let encoded = frames();
    for (name, correlation, response) in responses {
        let (_, bytes) = encoded.iter().find(|it| it.0 == name).unwrap();
        let frame = whole(bytes);
        assert_eq!((frame.correlation, frame.bytes()), (correlation, bytes.len()), "{name}");
        let answer = response::decode(&frame).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(is_same(&answer, &response, &memory), "{name}: {answer:?}");
    }
}

fn is_same(answer: &Answer<'_>, response: &Response, memory: &[u8]) -> bool {
    match (answer, response) {
        (Answer::Produced(a), Response::Produced(r)) => {
            (a.failure, a.base_offset, a.log_start, a.append_time)
                == (r.error.map(Failure::from), r.base_offset, r.log_start, r.append_time)
        }
        (Answer::Fetched(a), Response::Fetched(r)) => is_same_fetched(a, r, memory),
        (Answer::Pushed { subscription, fetched }, Response::Pushed { subscription: s, fetched: f }) => {
            subscription == s && is_same_fetched(fetched, f, memory)
        }
        (Answer::ListedOffsets(a), Response::ListedOffsets(r)) => a
            .parts()
            .map(|a| (a.partition, a.failure, a.offset, a.timestamp))
            .eq(r.iter().map(|r| (r.partition, r.error.map(Failure::from), r.offset, r.timestamp))),
        (Answer::Subscribed(a), Response::Subscribed(r)) => a == r,
        (Answer::Unsubscribed(a), Response::Unsubscribed(r)) => a == r,
        (Answer::Topics(a), Response::Topics(r)) => a == r,
        (Answer::TopicCreated(a), Response::TopicCreated(r)) => a == r,
        (Answer::TopicDeleted(a), Response::TopicDeleted(r)) => a == r,
        (Answer::PartitionsAdded(a), Response::PartitionsAdded(r)) => a == r,
        (Answer::ProducerIdAllocated(a, b), Response::ProducerIdAllocated(r, s)) => (a, b) == (r, s),
        (Answer::Refused(a), Response::Refused(r)) => {
            a.failure.kind() == Some(*r) && a.failure.is_retriable == r.is_retriable() && !a.text.is_empty()
        }
        _ => false,
    }
}

fn is_same_fetched(view: &FetchedView<'_>, fetched: &Fetched, memory: &[u8]) -> bool {
    let parts = fetched.parts.iter().map(|part| {
        let ranges = part.memory.iter().map(|it| &memory[it.at as usize..it.end() as usize]);
        let batches: Vec<u8> = ranges.chain([part.bytes.as_slice()]).flatten().copied().collect();
        (part.partition, part.error.map(Failure::from), part.high_watermark, part.log_start, batches)
    });
    view.len() == fetched.parts.len()
        && parts.eq(view
            .parts()
            .map(|it| (it.partition, it.failure, it.high_watermark, it.log_start, it.batches.to_vec())))
}

#[test]
fn small_messages_stay_small() {
    let encoded = frames();
    let length = |name| encoded.iter().find(|it| it.0 == name).unwrap().1.len();
    assert_eq!(length("Produce") - batch().len(), 32);
    assert_eq!((length("Produced"), length("Produced with append time")), (28, 36));
}

#[test]
fn a_frame_cut_anywhere_is_incomplete_and_says_what_it_needs() {
    for (name, bytes) in frames() {
        for length in 0..bytes.len() {
            let Ok(Cut::Incomplete { bytes_needed }) = frame::cut(&bytes[..length], LENGTH_MAX) else {
                panic!("{name} at {length}");
            };
            let expected = if length < 4 { HEADER_BYTES } else { bytes.len() };
            assert_eq!(bytes_needed, expected, "{name} at {length}");
        }
    }
}

#[test]
fn lengths_out_of_bounds_are_refused_by_the_first_four_bytes() {
    for length in [0, 1, LENGTH_LEAST - 1, LENGTH_MAX + 1, 0x1603_0100, u32::MAX] {
        let error = FrameLengthError { length, length_max: LENGTH_MAX };
        assert_eq!(frame::cut(&length.to_le_bytes(), LENGTH_MAX), Err(error));
    }
    assert!(frame::cut(&LENGTH_MAX.to_le_bytes(), LENGTH_MAX).is_ok());
}

/// Decodes a body of another length under a header that fits it.
fn with_body<R>(bytes: &[u8], change: impl FnOnce(&mut Vec<u8>), decode: impl FnOnce(&Frame<'_>) -> R) -> R {
    let mut body = bytes[HEADER_BYTES..].to_vec();
    change(&mut body);
    decode(&Frame { body: &body, ..whole(bytes) })
}

fn is_refused(frame: &Frame<'_>) -> bool {
    if frame.kind < kind::ANSWER { request::decode(frame).is_err() } else { response::decode(frame).is_err() }
}

/// A batch and a text go to the frame's end, however long they are.
fn ends_open(name: &str, body: &[u8]) -> bool {
    name == "Refused" || (name == "Produce" && body.len() >= 20)
}

#[test]
fn bodies_too_short_or_too_long_are_refused() {
    for (name, bytes) in frames() {
        for length in 0..bytes.len() - HEADER_BYTES {
            let refused = |it: &Frame<'_>| is_refused(it) || ends_open(name, it.body);
            assert!(with_body(&bytes, |body| body.truncate(length), refused), "{name}, {length} bytes");
        }
        let refused = |it: &Frame<'_>| is_refused(it) || ends_open(name, it.body);
        assert!(with_body(&bytes, |body| body.push(0), refused), "{name} with one byte more");
    }
}

#[test]
fn counts_are_believed_only_as_far_as_the_bytes_go() {
    let batch = batch();
    for (name, _, request) in requests(&batch) {
        let at = match request {
            Request::Fetch(_) => 24,
            Request::Subscribe(_) => 20,
            Request::ListOffsets(_) | Request::Describe { .. } => 12,
            _ => continue,
        };
        let mut bytes = Vec::new();
        request::encode(&mut bytes, 1, &request);
        for count in [100, 1 << 24, u32::MAX] {
            bytes[at..at + 4].copy_from_slice(&count.to_le_bytes());
            let refused = request::decode(&whole(&bytes));
            assert!(
                matches!(refused, Err(DecodeError::Count { count: c, .. }) if c == count),
                "{name}: {refused:?}"
            );
        }
    }
}

#[test]
fn no_more_partitions_than_allowed() {
    let mut bytes = Vec::new();
    let part =
        cutwater_api::FetchPart { partition: PARTITION, offset: cutwater_model::Offset(0), bytes_max: 1 };
    let parts = alloc::vec![part; FETCH_PARTITIONS_MAX as usize + 1];
    let fetch = cutwater_api::Fetch { wait_ms_max: 0, bytes_min: 0, bytes_max: 0, parts };
    request::encode(&mut bytes, 1, &Request::Fetch(fetch));
    assert!(matches!(request::decode(&whole(&bytes)), Err(DecodeError::Count { .. })));
}

#[test]
fn reserved_bytes_unknown_kinds_and_values_are_refused() {
    let frame = |kind, flags, code| Frame { kind, flags, code, correlation: 0, body: &[] };
    for kind in (0..=u8::MAX).filter(|kind| !(1..=12).contains(kind)) {
        assert_eq!(request::decode(&frame(kind, 0, 0)), Err(DecodeError::Kind { kind }));
    }
    for kind in (0..=u8::MAX)
        .filter(|kind| !(129..=140).contains(kind) && !(192..=193).contains(kind) || *kind == 134)
    {
        assert_eq!(response::decode(&frame(kind, 0, 0)), Err(DecodeError::Kind { kind }));
    }
    assert_eq!(request::decode(&frame(kind::PING, 1, 0)), Err(DecodeError::Reserved));
    assert_eq!(request::decode(&frame(kind::PING, 0, 1)), Err(DecodeError::Reserved));
    assert_eq!(request::decode(&frame(kind::PRODUCE, 1, 0)), Err(DecodeError::Reserved));
    assert!(matches!(response::decode(&frame(kind::REFUSED, 0, 0)), Err(DecodeError::Value { .. })));

    let produce = Frame { body: &[0; 20], ..frame(kind::PRODUCE, 0, 2) };
    let error = request::decode(&produce).unwrap_err();
    assert_eq!((error.kind(), error.is_fatal()), (ErrorKind::InvalidRequiredAcks, false));

    let describe = |body| request::decode(&Frame { body, ..frame(kind::DESCRIBE, 0, 0) }).map(|_| ());
    assert_eq!(describe(&[1, 0, 0, 0, 1, 0, 0xff]), Err(DecodeError::Name));
    assert_eq!(describe(&[1, 0, 0, 0, 1, 0, b'x']), Ok(()));
}

#[test]
fn a_later_errors_code_is_kept_though_its_kind_is_unknown() {
    let frame = Frame { kind: kind::REFUSED, flags: 1, code: 9999, correlation: 0, body: b"later" };
    let Ok(Answer::Refused(refusal)) = response::decode(&frame) else { panic!() };
    assert_eq!((refusal.failure.kind(), refusal.failure.is_retriable, refusal.text), (None, true, "later"));
}

#[test]
fn prefaces_come_back() {
    for shard in [None, Some(cutwater_model::ShardId(9))] {
        let mut bytes = Vec::new();
        let preface = ClientPreface { version_most: 5, features: 1 << 63, ..ClientPreface::new(shard) };
        preface.encode(&mut bytes);
        assert_eq!(ClientPreface::decode(bytes[..].try_into().unwrap()), Ok(preface));
        bytes[14] = 1;
        assert_eq!(ClientPreface::decode(bytes[..].try_into().unwrap()), Err(DecodeError::Reserved));
    }
    let facts = super::samples::FACTS;
    for preface in [ServerPreface::accept(facts, 1), ServerPreface::refuse(facts, ErrorKind::NotReady)] {
        let mut bytes = Vec::new();
        preface.encode(&mut bytes);
        assert_eq!(ServerPreface::decode(bytes[..].try_into().unwrap()), Ok(preface));
        bytes[0] = b'X';
        assert!(ServerPreface::decode(bytes[..].try_into().unwrap()).is_err());
    }
}

/// Decodes whatever it is, in both directions, and holds the memory taken against what came.
fn decode_all(bytes: &[u8]) {
    let Ok(Cut::Whole(frame)) = frame::cut(bytes, LENGTH_MAX) else { return };
    let most = 8 * frame.body.len() + 64;
    match request::decode(&frame) {
        Ok(Asked::Request(Request::Fetch(it))) => assert!(size_of_val(it.parts.as_slice()) <= most),
        Ok(Asked::Request(Request::Describe { names })) => assert!(names.capacity() * 16 <= most),
        Ok(Asked::Request(Request::ListOffsets(it))) => assert!(it.parts.capacity() * 48 <= most),
        _ => {}
    }
    match response::decode(&frame) {
        Ok(Answer::Fetched(view) | Answer::Pushed { fetched: view, .. }) => {
            let total: usize = view.parts().map(|it| it.batches.len()).sum();
            assert_eq!((total, view.parts().count()), (view.batches().len(), view.len()));
        }
        Ok(Answer::ListedOffsets(view)) => assert_eq!(view.parts().count(), (frame.body.len() - 4) / 40),
        Ok(Answer::Topics(view)) => {
            let partitions: usize = view.topics.iter().map(|it| it.partitions.capacity()).sum();
            assert!(view.topics.capacity() * 128 + partitions * 8 <= most);
        }
        _ => {}
    }
}

#[test]
fn mutated_frames_never_panic_nor_take_memory_for_promises() {
    let seed = 0xf4a3e5;
    let mut random = Random::new(seed);
    let frames = frames();
    for _ in 0..40_000 {
        let mut bytes = frames[random.below(frames.len())].1.clone();
        for _ in 0..=random.below(5) {
            let at = random.below(bytes.len());
            bytes[at] = match random.below(4) {
                0 => 0,
                1 => 0xff,
                _ => random.next() as u8,
            };
        }
        if random.below(2) == 0 {
            bytes.truncate(HEADER_BYTES + random.below(bytes.len() - HEADER_BYTES + 1));
        }
        let length = bytes.len() as u32 - 4;
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        decode_all(&bytes);
    }
    for _ in 0..40_000 {
        let mut bytes: Vec<u8> = (0..HEADER_BYTES + random.below(200)).map(|_| random.next() as u8).collect();
        let length = bytes.len() as u32 - 4;
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes[4] = bytes[4] % 14 + if random.below(2) == 0 { 128 } else { 0 };
        bytes[5..8].fill(0);
        decode_all(&bytes);
    }
}

#[test]
fn a_refusals_text_is_bounded_and_stays_text() {
    let long: alloc::string::String = "é".repeat(400);
    let mut bytes = Vec::new();
    crate::api::refused::encode(&mut bytes, 1, ErrorKind::NotReady, format_args!("a{long}"));
    let Ok(Answer::Refused(refusal)) = response::decode(&whole(&bytes)) else { panic!() };
    assert_eq!(refusal.text.len(), 511);
}
