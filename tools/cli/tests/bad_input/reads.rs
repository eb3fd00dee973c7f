//! Fetches, subscriptions and searches for offsets (B65, B73 to B86).

use cutwater_api::{
    Fetch, FetchPart, ListOffsets, ListOffsetsPart, OffsetSpec, Request, Subscribe, SubscriptionId,
};
use cutwater_model::builder::Sequence;
use cutwater_model::limits::{FETCH_BYTES_MAX, SUBSCRIPTIONS_PER_CONNECTION_MAX};
use cutwater_model::topic::TopicConfig;
use cutwater_model::{ErrorKind, Offset, PartitionId, TimestampMs, TopicId, batch};
use cutwater_native::Answer;

use super::Scene;
use super::support::raw::{Raw, batch_of, encode, fetch_of, partition};

const OUT_OF_RANGE: Result<Vec<u8>, i16> = Err(ErrorKind::OffsetOutOfRange.code());

fn part(partition: PartitionId, offset: i64, bytes_max: u32) -> FetchPart {
    FetchPart { partition, offset: Offset(offset), bytes_max }
}

fn fetch(wait_ms_max: u32, bytes_min: u32, bytes_max: u32, parts: Vec<FetchPart>) -> Request<'static> {
    Request::Fetch(Fetch { wait_ms_max, bytes_min, bytes_max, parts })
}

#[test]
fn bad_reads_are_refused_or_bounded() {
    let mut scene = Scene::new("bad-reads");
    let mut raw = scene.connect();
    let topic = raw.create_topic("reads", 2, TopicConfig::default());
    for index in 0..2 {
        let here = partition(topic, index);
        for _ in 0..4 {
            raw.produce(here, &batch_of(&[b"one", b"two", b"three"], Sequence::NONE)).unwrap();
        }
        for offset in [-1, -5, i64::MIN, 13, i64::MAX] {
            assert_eq!(raw.fetch(here, offset), OUT_OF_RANGE, "B76: offset {offset}");
            raw.ping();
        }
        let whole = raw.fetch(here, 7).unwrap();
        let first = batch::walk(&whole).next().unwrap().unwrap();
        assert_eq!(first.header.base_offset.0, 6, "B77: the batch that holds the offset comes whole");
        assert_eq!(raw.fetch(here, 12), Ok(Vec::new()), "at the end there is nothing");
        for (name, request) in [
            ("B74: no bytes at all", fetch(0, 0, 0, vec![part(here, 0, 1000)])),
            ("B74: no bytes of a partition", fetch(0, 0, 1000, vec![part(here, 0, 0)])),
        ] {
            let answer = raw.ask(&request);
            assert_eq!(answer.code, ErrorKind::InvalidFetchSize.code(), "{name}: {answer:?}");
        }
        for (name, request) in [
            ("B65: a partition twice", fetch(0, 0, 1000, vec![part(here, 0, 9), part(here, 3, 9)])),
            ("no partition", fetch(0, 0, 1000, vec![])),
        ] {
            let answer = raw.ask(&request);
            assert_eq!(answer.code, ErrorKind::InvalidRequest.code(), "{name}: {answer:?}");
        }
        for unknown in [partition(TopicId(3), 0), partition(topic, 9), partition(topic, u32::MAX)] {
            let kinds = [ErrorKind::UnknownTopicId, ErrorKind::UnknownTopicOrPartition];
            let code = raw.fetch(unknown, 0).expect_err("an unknown partition");
            assert!(kinds.iter().any(|kind| kind.code() == code), "{unknown}: code {code}");
            let code = raw.end_of(unknown).expect_err("an unknown partition");
            assert!(kinds.iter().any(|kind| kind.code() == code), "{unknown}: code {code}");
        }
        // B75: one that waits for ever, as far as it goes, and is left alone by its peer.
        let mut waiting = scene.connect();
        assert!(waiting.send(&encode(&fetch(u32::MAX, u32::MAX, u32::MAX, vec![part(here, 12, u32::MAX)]))));
        drop(waiting);
        searches_by_time(&mut raw, here);
        scene.probe.check("B74 to B77, B86");
    }
    subscriptions(&mut raw, partition(topic, 0));
    scene.probe.check("bad subscriptions");
    scene.end();
}

/// B86: times that no record has.
fn searches_by_time(raw: &mut Raw, here: PartitionId) {
    for time in [i64::MIN, -1, 0, i64::MAX] {
        let parts = vec![ListOffsetsPart { partition: here, spec: OffsetSpec::At(TimestampMs(time)) }];
        let answer = raw.ask(&Request::ListOffsets(ListOffsets { parts }));
        // The body: a count, then for each part the partition, the code, a flag, a reserved byte and the offset.
        let code = i16::from_le_bytes([answer.body[24], answer.body[25]]);
        let offset = i64::from_le_bytes(*answer.body[28..].first_chunk().unwrap());
        let expected = if time == i64::MAX { 12 } else { 0 };
        let invalid = ErrorKind::InvalidRequest.code();
        assert!((time < 0 && code == invalid) || (code, offset) == (0, expected), "time {time}: {answer:?}");
        raw.ping();
    }
}

fn subscriptions(raw: &mut Raw, here: PartitionId) {
    let subscribe = |number: u32, credit_bytes: u32| {
        let subscription = SubscriptionId(number);
        Request::Subscribe(Subscribe { subscription, credit_bytes, parts: vec![part(here, 12, 1000)] })
    };
    for number in 0..SUBSCRIPTIONS_PER_CONNECTION_MAX as u32 {
        let answer = raw.ask(&subscribe(number, 0));
        assert_eq!(answer.code, 0, "{number}: {answer:?}");
    }
    for number in [0, SUBSCRIPTIONS_PER_CONNECTION_MAX as u32] {
        let answer = raw.ask(&subscribe(number, 0));
        assert_eq!(answer.code, ErrorKind::InvalidRequest.code(), "{number}: {answer:?}");
    }
    // Credit beyond all bounds, again and again, must not overflow.
    for _ in 0..10 {
        let credit = Request::AddCredit { subscription: SubscriptionId(0), bytes: u32::MAX };
        assert!(raw.send(&encode(&credit)));
    }
    // Its subscription may have ended meanwhile: credit without one is not worth a word.
    let unknown = encode(&Request::AddCredit { subscription: SubscriptionId(5000), bytes: 1 });
    assert!(raw.send(&unknown));
    raw.ping();
}

#[test]
fn large_reads_are_capped_and_a_deleted_topic_never_shows_other_bytes() {
    const PARTITIONS: u32 = 24;
    const VALUE_BYTES: usize = 1 << 20;
    let mut scene = Scene::new("large-reads");
    let mut raw = scene.connect();
    let topic = raw.create_topic("large", PARTITIONS, TopicConfig::default());
    let value = vec![0x6c; VALUE_BYTES];
    let batch = batch_of(&[&value], Sequence::NONE);
    for index in 0..PARTITIONS {
        raw.produce(partition(topic, index), &batch).unwrap();
    }
    let parts = (0..PARTITIONS).map(|index| part(partition(topic, index), 0, u32::MAX)).collect();
    let answer = raw.ask(&fetch(1000, u32::MAX, u32::MAX, parts));
    assert!(matches!(answer.answer(), Answer::Fetched(_)), "{:?}", answer.code);
    let most = FETCH_BYTES_MAX as usize + batch.len() + PARTITIONS as usize * 100;
    assert!(answer.body.len() <= most, "B73: {} bytes", answer.body.len());
    assert!(answer.body.len() > batch.len(), "B73: {} bytes", answer.body.len());

    // B85: answers under way while their topic is deleted: whole and true, an error, or a closed connection.
    let mut reader = scene.connect();
    for index in (0..PARTITIONS).chain(0..PARTITIONS) {
        assert!(reader.send(&encode(&fetch_of(partition(topic, index), 0, 2 << 20, 2 << 20))));
    }
    assert_eq!(raw.ask(&Request::DeleteTopic { topic }).code, 0);
    let other = raw.create_topic("other", PARTITIONS, TopicConfig::default());
    let other_batch = batch_of(&[&vec![0x33; VALUE_BYTES]], Sequence::NONE);
    for index in 0..PARTITIONS {
        raw.produce(partition(other, index), &other_batch).unwrap();
    }
    for _ in 0..2 * PARTITIONS {
        let Some(answer) = reader.read() else { break };
        let Answer::Fetched(fetched) = answer.answer() else { continue };
        for part in fetched.parts() {
            for batch in batch::walk(part.batches) {
                let batch = batch.unwrap();
                batch.check_crc().unwrap();
                let record = batch.records().next().unwrap().unwrap();
                assert!(record.value == Some(&value[..]), "B85: bytes of another topic");
            }
        }
    }
    scene.probe.check("B73, B85: large reads");
    scene.end();
}
