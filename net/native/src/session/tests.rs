use alloc::{vec, vec::Vec};

use cutwater_api::{Produce, Request, RequiredAcks, Response};
use cutwater_model::{Offset, PartitionId, PartitionIndex, ShardId, TopicId};

use super::*;
use crate::{
    frame::kind,
    preface::SERVER_BYTES,
    response::Answer,
    tests::{
        Random,
        samples::{FACTS, batch, encoded, flatten, requests},
    },
};

fn preface(shard: Option<ShardId>) -> Vec<u8> {
    let mut bytes = Vec::new();
    ClientPreface::new(shard).encode(&mut bytes);
    bytes
}

fn opened() -> ServerSession {
    let mut session = ServerSession::new(FACTS);
    let bytes = preface(None);
    let step = session.on_bytes(&bytes, &mut Output::default());
    assert_eq!(step, Step::Done { consumed: preface::CLIENT_BYTES });
    session
}

fn answer(output: &Output) -> Vec<u8> {
    flatten(output, &[])
}

#[test]
fn a_preface_is_answered_with_what_the_node_is() {
    for shard in [None, Some(FACTS.shard), Some(ShardId(FACTS.shards))] {
        let (mut session, mut output) = (ServerSession::new(FACTS), Output::default());
        let bytes = preface(shard);
        let step = session.on_bytes(&bytes, &mut output);
        assert_eq!(step, Step::Done { consumed: preface::CLIENT_BYTES });
        let answer = answer(&output);
        let preface = ServerPreface::decode(answer[..].try_into().unwrap()).unwrap();
        assert_eq!(preface, ServerPreface::accept(FACTS, 1));
    }
}

#[test]
fn a_connection_for_another_shard_moves_with_its_preface_unread() {
    let (mut session, mut output) = (ServerSession::new(FACTS), Output::default());
    let bytes = preface(Some(ShardId(3)));
    assert_eq!(session.on_bytes(&bytes, &mut output), Step::Move { consumed: 0, shard: ShardId(3) });
    assert!(output.is_empty());
    session.moved(NodeFacts { shard: ShardId(3), ..FACTS });
    assert_eq!(session.on_bytes(&bytes, &mut output), Step::Done { consumed: preface::CLIENT_BYTES });
    let answer = answer(&output);
    assert_eq!(ServerPreface::decode(answer[..].try_into().unwrap()).unwrap().shard, ShardId(3));
}

#[test]
fn no_common_version_is_told_and_closed() {
    for (version_least, version_most) in [(2, 9), (0, 0), (3, 1)] {
        let (mut session, mut output) = (ServerSession::new(FACTS), Output::default());
        let mut bytes = Vec::new();
        ClientPreface { version_least, version_most, ..ClientPreface::new(None) }.encode(&mut bytes);
        assert_eq!(session.on_bytes(&bytes, &mut output), Step::Close(CloseReason::Version));
        let answer = answer(&output);
        let preface = ServerPreface::decode(answer[..].try_into().unwrap()).unwrap();
        assert_eq!(preface.outcome, Err(ErrorKind::UnsupportedVersion.into()));
        assert_eq!((preface.version_least, preface.version_most), (1, 1));
    }
    let mut bytes = Vec::new();
    ClientPreface { version_least: 0, version_most: 9, ..ClientPreface::new(None) }.encode(&mut bytes);
    let mut session = ServerSession::new(FACTS);
    assert!(matches!(session.on_bytes(&bytes, &mut Output::default()), Step::Done { .. }));
}

#[test]
fn other_protocols_are_closed_by_their_first_byte_and_told_nothing() {
    for bytes in
        [&[0x16, 3, 1, 2, 0][..], b"GET / HTTP/1.1\r\n", b"G", &[0, 0, 0, 20, 0, 18], b"CUTWATEr", b"CUX"]
    {
        let (mut session, mut output) = (ServerSession::new(FACTS), Output::default());
        assert_eq!(session.on_bytes(bytes, &mut output), Step::Close(CloseReason::NotOurProtocol));
        assert!(output.is_empty());
        assert_eq!(session.on_bytes(&preface(None), &mut output), Step::Close(CloseReason::NotOurProtocol));
    }
}

#[test]
fn a_preface_cut_anywhere_waits_for_the_rest() {
    let (mut session, mut output) = (ServerSession::new(FACTS), Output::default());
    let bytes = preface(None);
    for length in 0..bytes.len() {
        let step = session.on_bytes(&bytes[..length], &mut output);
        assert_eq!(step, Step::Incomplete { bytes_needed: preface::CLIENT_BYTES });
    }
    assert!(matches!(session.on_bytes(&bytes, &mut output), Step::Done { .. }));
    assert_eq!(output.len(), SERVER_BYTES);
}

#[test]
fn a_request_cut_anywhere_comes_out_the_same() {
    let batch = batch();
    for (name, correlation, request) in requests(&batch) {
        let mut bytes = Vec::new();
        request::encode(&mut bytes, correlation, &request);
        let consumed = bytes.len();
        let mut session = opened();
        let mut output = Output::default();
        for length in 0..bytes.len() {
            let step = session.on_bytes(&bytes[..length], &mut output);
            assert!(
                matches!(step, Step::Incomplete { bytes_needed } if bytes_needed > length),
                "{name} {length}"
            );
        }
        // What follows belongs to the next frame.
        bytes.extend_from_slice(&[1, 2, 3]);
        let step = session.on_bytes(&bytes, &mut output);
        assert_eq!(step, Step::Request { consumed, correlation, request }, "{name}");
        assert!(output.is_empty());
    }
}

#[test]
fn a_ping_is_answered_at_once() {
    let (mut session, mut output) = (opened(), Output::default());
    let mut bytes = Vec::new();
    api::ping::encode_request(&mut bytes, 99);
    assert_eq!(session.on_bytes(&bytes, &mut output), Step::Done { consumed: 12 });
    let answer = answer(&output);
    let Ok(Cut::Whole(frame)) = frame::cut(&answer, 100) else { panic!() };
    assert_eq!((frame.correlation, response::decode(&frame)), (99, Ok(Answer::Pong)));
}

#[test]
fn bad_lengths_close_before_anything_is_kept() {
    for length in [0, 7, FRAME_BYTES_MAX + 1, u32::MAX].map(u32::to_le_bytes) {
        let (mut session, mut output) = (opened(), Output::default());
        let step = session.on_bytes(&length, &mut output);
        assert_eq!(step, Step::Close(CloseReason::FrameLength));
        assert!(output.is_empty());
    }
}

#[test]
fn a_malformed_frame_is_told_why_and_closed() {
    for (kind, body) in [(kind::PING, &[0][..]), (0, &[]), (200, &[]), (kind::FETCH, &[0xff; 30])] {
        let (mut session, mut output) = (opened(), Output::default());
        let bytes = [&frame::header(body.len() as u32, kind, 0, 0, 5)[..], body].concat();
        assert_eq!(session.on_bytes(&bytes, &mut output), Step::Close(CloseReason::Malformed));
        let answer = answer(&output);
        let Ok(Cut::Whole(frame)) = frame::cut(&answer, 1000) else { panic!() };
        let Ok(Answer::Refused(refusal)) = response::decode(&frame) else { panic!() };
        assert_eq!((frame.correlation, refusal.failure.kind()), (5, Some(ErrorKind::InvalidRequest)));
        assert!(matches!(session.on_bytes(&bytes, &mut output), Step::Close(_)), "closed for good");
    }
}

#[test]
fn wrong_acks_are_told_and_the_connection_goes_on() {
    let (mut session, mut output) = (opened(), Output::default());
    let body = vec![0; 20];
    let bytes = [&frame::header(20, kind::PRODUCE, 0, 2, 5)[..], &body].concat();
    assert_eq!(session.on_bytes(&bytes, &mut output), Step::Done { consumed: 32 });
    let answer = answer(&output);
    let Ok(Cut::Whole(frame)) = frame::cut(&answer, 1000) else { panic!() };
    assert_eq!(frame.code, ErrorKind::InvalidRequiredAcks.code());
}

#[test]
fn answers_carry_their_correlation() {
    let (mut session, mut output) = (opened(), Output::default());
    let ticket = Ticket { correlation: 77, ..Ticket::default() };
    session.on_response(ticket, &Response::TopicCreated(TopicId(5)), &mut output);
    let produced = cutwater_api::Produced {
        error: None,
        base_offset: Offset(4),
        append_time: None,
        log_start: Offset(0),
    };
    session.on_response(ticket, &Response::Produced(produced), &mut output);
    let answer = answer(&output);
    let Ok(Cut::Whole(first)) = frame::cut(&answer, 1000) else { panic!() };
    let Ok(Cut::Whole(second)) = frame::cut(&answer[first.bytes()..], 1000) else { panic!() };
    assert_eq!((first.correlation, second.correlation), (77, 77));
}

#[test]
fn a_mutated_stream_never_panics_and_consumes_no_more_than_there_is() {
    let seed = 0x5e55;
    let mut random = Random::new(seed);
    let samples: Vec<_> =
        encoded().into_iter().map(|it| it.1).filter(|it| it.get(4).is_some_and(|k| *k < 128)).collect();
    for round in 0..3_000 {
        let mut stream = preface(None);
        for _ in 0..4 {
            stream.extend_from_slice(&samples[random.below(samples.len())]);
        }
        for _ in 0..random.below(6) {
            let at = random.below(stream.len());
            stream[at] = random.next() as u8;
        }
        let (mut session, mut output, mut rest) = (ServerSession::new(FACTS), Output::default(), &stream[..]);
        loop {
            let consumed = match session.on_bytes(rest, &mut output) {
                Step::Incomplete { bytes_needed } => {
                    assert!(bytes_needed > rest.len(), "seed {seed:#x}, round {round}");
                    break;
                }
                Step::Request { consumed, request: Request::Produce(it), .. } => {
                    assert_eq!(it.batch.len() + 32, consumed);
                    consumed
                }
                Step::Request { consumed, .. } | Step::Done { consumed } => consumed,
                Step::Move { .. } | Step::Close(_) => break,
            };
            assert!((1..=rest.len()).contains(&consumed), "seed {seed:#x}, round {round}");
            rest = &rest[consumed..];
        }
    }
}

#[test]
fn a_batch_is_announced_as_soon_as_what_stands_before_it_has_come() {
    let batch = batch();
    for (name, correlation, request) in requests(&batch) {
        let mut frame = Vec::new();
        request::encode(&mut frame, correlation, &request);
        let expected = match &request {
            Request::Produce(produce) => Some((produce.partition, produce.acks, produce.batch.len())),
            _ => None,
        };
        for come in 0..=frame.len() {
            let announced = opened().announced(&frame[..come]);
            if come < 32 || come == frame.len() || expected.is_none() {
                assert_eq!(announced, None, "{come} bytes of {name}");
                continue;
            }
            let announced = announced.unwrap();
            let told = (announced.partition, announced.acks, announced.batch_bytes as usize);
            assert_eq!(Some(told), expected);
            assert_eq!((announced.correlation, frame.len()), (correlation, announced.batch_at + told.2));
        }
        assert_eq!(
            ServerSession::new(FACTS).announced(&frame[..frame.len() - 1]),
            None,
            "before the preface"
        );
        let mut wrong = frame.clone();
        wrong[5] = 0x40;
        assert_eq!(opened().announced(&wrong[..wrong.len() - 1]), None, "it is told when the frame is whole");
    }
}

#[test]
fn the_batches_of_whole_requests_are_told_ahead_up_to_the_first_other_frame() {
    let batch = batch();
    let numbered = |index: u32| {
        let partition = PartitionId { topic: TopicId(7), index: PartitionIndex(index) };
        let produce = Produce { partition, acks: RequiredAcks::All, batch: &batch };
        let mut bytes = Vec::new();
        request::encode(&mut bytes, index, &Request::Produce(produce));
        bytes
    };
    let frames: Vec<u8> = (0..5).flat_map(numbered).collect();
    let each = frames.len() / 5;
    let told = |bytes: &[u8], places: usize| {
        let mut into = vec![Upcoming::default(); places];
        let count = opened().upcoming(bytes, &mut into);
        into.truncate(count);
        assert!(into.iter().all(|upcoming| upcoming.bytes as usize == batch.len()));
        into.iter().map(|upcoming| upcoming.partition.index.0).collect::<Vec<_>>()
    };
    for come in 0..=frames.len() {
        let whole: Vec<u32> = (0..(come / each) as u32).collect();
        assert_eq!(told(&frames[..come], 9), whole, "{come} bytes");
        assert_eq!(told(&frames[..come], 2), whole[..whole.len().min(2)]);
    }
    let mut other = frames.clone();
    other[3 * each + 4] = kind::PING;
    assert_eq!(told(&other, 9), [0, 1, 2]);
    let mut wrong = frames.clone();
    wrong[2 * each..2 * each + 4].fill(0xff);
    assert_eq!(told(&wrong, 9), [0, 1], "a length that no frame has");
    let mut into = [Upcoming::default(); 4];
    assert_eq!(ServerSession::new(FACTS).upcoming(&frames, &mut into), 0, "before the preface");
}
