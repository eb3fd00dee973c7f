use cutwater_api::{NodeFacts, Output, Produced, RequiredAcks, Response};
use cutwater_model::{ErrorKind, Offset, PartitionId};
use cutwater_native::Failure;

use super::*;

const FACTS: NodeFacts = NodeFacts { shard: ShardId(1), shards: 4 };

fn preface_bytes() -> Vec<u8> {
    let mut bytes = Vec::new();
    ServerPreface::accept(FACTS, 1).encode(&mut bytes);
    bytes
}

fn produced(correlation: u32, offset: i64) -> Vec<u8> {
    let mut output = Output::default();
    let it = Produced { error: None, base_offset: Offset(offset), append_time: None, log_start: Offset(0) };
    response::encode(&mut output, correlation, &Response::Produced(it));
    output.swap_bytes(Vec::new())
}

fn produce(session: &mut Session, token: u64, acks: RequiredAcks) -> u32 {
    let before = session.output_bytes();
    let batch = [7; 100];
    assert!(session.produce(token, &Produce { partition: PartitionId::default(), acks, batch: &batch }));
    let Ok(Cut::Whole(frame)) = frame::cut(&session.output[before..], u32::MAX) else { panic!("a frame") };
    frame.correlation
}

/// What the session tells of bytes that come in pieces of this length.
fn told(session: &mut Session, bytes: &[u8], piece: usize) -> Vec<(u64, i64)> {
    let mut told = Vec::new();
    for piece in bytes.chunks(piece) {
        session
            .on_bytes(piece, &mut |event| match event {
                Event::Up(preface) => told.push((u64::MAX, i64::from(preface.shard.0))),
                Event::Answered { token, answer: Answer::Produced(it) } => {
                    told.push((token, it.base_offset.0))
                }
                other => panic!("{other:?}"),
            })
            .unwrap();
    }
    told
}

#[test]
fn answers_are_the_same_however_the_bytes_are_cut() {
    for piece in [1, 2, 3, 5, 11, 27, 28, 29, 40, 41, 1000] {
        let mut session = Session::new(Some(ShardId(1)));
        let correlations: Vec<u32> =
            (0..20).map(|token| produce(&mut session, token, RequiredAcks::All)).collect();
        let mut bytes = preface_bytes();
        let mut expected = vec![(u64::MAX, 1)];
        // Answers may overtake each other.
        for token in [3, 0, 19, 1, 7, 6] {
            bytes.extend_from_slice(&produced(correlations[token as usize], token as i64 * 10));
            expected.push((token, token as i64 * 10));
        }
        assert_eq!(told(&mut session, &bytes, piece), expected, "pieces of {piece}");
        assert_eq!(session.in_flight(), 14);
    }
}

#[test]
fn bytes_to_send_begin_with_the_preface_and_buffers_go_round() {
    let mut session = Session::new(Some(ShardId(2)));
    produce(&mut session, 1, RequiredAcks::All);
    let output = session.take_output(Vec::new());
    assert_eq!(output.len(), preface::CLIENT_BYTES + 132);
    let preface = ClientPreface::decode(output.first_chunk().unwrap()).unwrap();
    assert_eq!(preface.shard, Some(ShardId(2)));
    assert_eq!(session.output_bytes(), 0);
    let address = output.as_ptr();
    let _ = session.take_output(output);
    produce(&mut session, 2, RequiredAcks::All);
    let again = session.take_output(Vec::new());
    assert_eq!(again.as_ptr(), address);
}

#[test]
fn a_produce_with_acks_0_waits_for_nothing_and_its_refusal_has_no_token() {
    let mut session = Session::new(None);
    let correlation = produce(&mut session, 5, RequiredAcks::None);
    assert_eq!((correlation, session.in_flight()), (UNANSWERED, 0));
    let mut output = Output::default();
    response::encode(&mut output, correlation, &Response::Refused(ErrorKind::NotReady));
    let mut bytes = preface_bytes();
    bytes.extend_from_slice(output.bytes());
    let mut tokens = Vec::new();
    session
        .on_bytes(&bytes, &mut |event| {
            if let Event::Answered { token, .. } = event {
                tokens.push(token);
            }
        })
        .unwrap();
    assert_eq!(tokens, [NO_TOKEN]);
}

#[test]
fn a_session_takes_no_more_than_the_node_reads() {
    let mut session = Session::new(None);
    told(&mut session, &preface_bytes(), 40);
    let partition = PartitionId::default();
    let produce = Produce { partition, acks: RequiredAcks::All, batch: &[1] };
    let taken = (0..).take_while(|&token| session.produce(token, &produce)).count();
    assert_eq!(taken, REQUESTS_IN_FLIGHT_MAX as usize);
    let large = vec![0; FRAME_BYTES_MAX as usize];
    session.restart(None);
    assert!(!session.produce(1, &Produce { batch: &large, ..produce }));
}

#[test]
fn what_no_node_says_ends_the_connection() {
    let fault = |bytes: &[u8]| Session::new(None).on_bytes(bytes, &mut |_| {}).unwrap_err();
    assert_eq!(fault(b"HTTP/1.1 400 Bad Request\r\n"), LinkFault::NotCutwater);
    assert_eq!(fault(b"\x15\x03\x01"), LinkFault::NotCutwater);
    let mut refused = Vec::new();
    ServerPreface::refuse(FACTS, ErrorKind::UnsupportedVersion).encode(&mut refused);
    let failure = Failure::from(ErrorKind::UnsupportedVersion);
    assert_eq!(fault(&refused), LinkFault::Refused { failure, version_least: 1, version_most: 1 });
    let with = |more: &[u8]| [preface_bytes(), more.to_vec()].concat();
    assert_eq!(fault(&with(&produced(1 << 16, 0))), LinkFault::Unasked { kind: 130 });
    assert!(matches!(fault(&with(&[255; 12])), LinkFault::FrameLength(_)));
    assert!(matches!(fault(&with(&[8, 0, 0, 0, 77, 0, 0, 0, 0, 0, 0, 0])), LinkFault::Malformed(_)));
}
