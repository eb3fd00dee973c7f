//! Batches and their numbers (B44 to B72, B118 to B124). Each row goes to a partition of either shard, so that the
//! batch is judged where it came in and where it was forwarded to.

use cutwater_api::{Produce, Request, RequiredAcks};
use cutwater_model::batch::{self, CRC_FROM};
use cutwater_model::builder::{Sequence, renumber};
use cutwater_model::topic::TopicConfig;
use cutwater_model::{ErrorKind, PartitionId, ProducerEpoch, ProducerId, TopicId};

use super::support::raw::{Raw, batch_of, encode, now_ms, partition, produce_frame};
use super::{Expect, Scene, check};

const YEAR_MS: i64 = 365 * 24 * 3_600_000;

fn good() -> Vec<u8> {
    batch_of(&[b"first", b"second", b"third"], Sequence::NONE)
}

/// A good batch, changed, its CRC made to fit again.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut batch = good();
    change(&mut batch);
    fit_crc(&mut batch);
    batch
}

fn fit_crc(batch: &mut [u8]) {
    let crc = cutwater_model::checksum::crc32c(&batch[CRC_FROM..]);
    batch[CRC_FROM - 4..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
}

/// A batch of one record whose bytes are these; what precedes them is its length.
fn with_record(record: &[u8]) -> Vec<u8> {
    let mut batch = batch_of(&[b"x"], Sequence::NONE);
    batch.truncate(61);
    batch.extend_from_slice(record);
    let length = batch.len() as u32 - 12;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    fit_crc(&mut batch);
    batch
}

fn put(at: usize, bytes: &[u8]) -> Vec<u8> {
    changed(|batch| batch[at..at + bytes.len()].copy_from_slice(bytes))
}

fn with_timestamp(timestamp: i64) -> Vec<u8> {
    changed(|batch| {
        batch[27..35].copy_from_slice(&timestamp.to_be_bytes());
        batch[35..43].copy_from_slice(&timestamp.to_be_bytes());
    })
}

/// What is wrong with a batch, the batch, and the error that is expected.
fn rows() -> Vec<(&'static str, Vec<u8>, ErrorKind)> {
    use ErrorKind::{
        CorruptMessage, InvalidRecord, InvalidTimestamp, UnsupportedCompressionType,
        UnsupportedForMessageFormat,
    };
    let mut wrong_crc = good();
    wrong_crc[CRC_FROM - 1] ^= 1;
    let mut flipped = good();
    let last = flipped.len() - 2;
    flipped[last] ^= 0x20;
    let mut cut = good();
    cut.truncate(last);
    let two = [good(), good()].concat();
    let mut trailing = good();
    trailing.extend([0; 7]);
    vec![
        ("B45: wrong CRC", wrong_crc, CorruptMessage),
        ("B45: a flipped bit", flipped, CorruptMessage),
        ("B46: longer than the bytes present", cut, CorruptMessage),
        ("B46: a length of 2 GiB", put(8, &i32::MAX.to_be_bytes()), CorruptMessage),
        ("B47: shorter than a header", put(8, &48_i32.to_be_bytes()), CorruptMessage),
        ("B47: a negative length", put(8, &(-1_i32).to_be_bytes()), CorruptMessage),
        ("B47: half a header", good()[..30].to_vec(), CorruptMessage),
        ("B48: says 4 records, holds 3", put(57, &4_i32.to_be_bytes()), InvalidRecord),
        (
            "B48: says 4 records with a fitting delta, holds 3",
            changed(|batch| {
                batch[23..27].copy_from_slice(&3_i32.to_be_bytes());
                batch[57..61].copy_from_slice(&4_i32.to_be_bytes());
            }),
            InvalidRecord,
        ),
        (
            "B48: says 2 records with a fitting delta, holds 3",
            changed(|batch| {
                batch[23..27].copy_from_slice(&1_i32.to_be_bytes());
                batch[57..61].copy_from_slice(&2_i32.to_be_bytes());
            }),
            InvalidRecord,
        ),
        ("B48: says 2^31 - 1 records", put(57, &i32::MAX.to_be_bytes()), InvalidRecord),
        ("B49: last offset delta", put(23, &7_i32.to_be_bytes()), InvalidRecord),
        ("B50: a negative record length", with_record(&[1, 0, 0, 0, 1, 2, b'x', 0]), InvalidRecord),
        ("B50: a varint without an end", with_record(&[0xff; 16]), InvalidRecord),
        ("B50: a record longer than the batch", with_record(&[0x7e, 0, 0, 0, 1, 2, b'x', 0]), InvalidRecord),
        ("B50: a key length of -2", with_record(&[14, 0, 0, 0, 3, 2, b'x', 0]), InvalidRecord),
        (
            "B51: 2^31 - 1 headers",
            with_record(&[22, 0, 0, 0, 1, 2, b'x', 0xfe, 0xff, 0xff, 0xff, 0x0f]),
            InvalidRecord,
        ),
        ("B52: two batches", two, InvalidRecord),
        ("B52: bytes behind the batch", trailing, InvalidRecord),
        ("B53: magic 0", put(16, &[0]), UnsupportedForMessageFormat),
        ("B53: magic 1", put(16, &[1]), UnsupportedForMessageFormat),
        ("B53: magic 3", put(16, &[3]), UnsupportedForMessageFormat),
        ("B54: the control bit", put(22, &[0x20]), InvalidRecord),
        ("B54: the transactional bit", put(22, &[0x10]), InvalidRecord),
        ("B54: a bit without meaning", put(21, &[0x40]), InvalidRecord),
        ("B55: codec 5", put(22, &[5]), UnsupportedCompressionType),
        ("B55: codec 7", put(22, &[7]), UnsupportedCompressionType),
        ("B62: timestamp -2", with_timestamp(-2), InvalidTimestamp),
        ("B62: the last timestamp there is", with_timestamp(i64::MAX), InvalidTimestamp),
        ("B62: in ten years", with_timestamp(now_ms() + 10 * YEAR_MS), InvalidTimestamp),
        ("B67: nothing", Vec::new(), InvalidRecord),
        (
            "B67: no records",
            changed(|batch| {
                batch[23..27].copy_from_slice(&(-1_i32).to_be_bytes());
                batch[57..61].copy_from_slice(&[0; 4]);
            }),
            InvalidRecord,
        ),
        ("B124: a producer without a sequence", put(43, &5_i64.to_be_bytes()), InvalidRecord),
    ]
}

#[test]
fn bad_batches_are_refused_by_kind_and_never_appended() {
    let mut scene = Scene::new("bad-batches");
    let mut raw = scene.connect();
    let topic = raw.create_topic("batches", 2, TopicConfig::default());
    let small = TopicConfig { batch_bytes_max: 1024, ..TopicConfig::default() };
    let small = raw.create_topic("small-batches", 2, small);
    let narrow = TopicConfig { segment_bytes: 64 << 10, ..TopicConfig::default() };
    let narrow = raw.create_topic("small-segments", 2, narrow);
    for index in 0..2 {
        let here = partition(topic, index);
        for (name, batch, kind) in rows() {
            check(name, &mut raw, &produce_frame(here, &batch), Expect::Code(kind));
            scene.probe.check(name);
        }
        for acks in [2_i16, -2, i16::MAX, i16::MIN] {
            let mut frame = produce_frame(here, &good());
            frame[6..8].copy_from_slice(&acks.to_le_bytes());
            check("B44: acks", &mut raw, &frame, Expect::Code(ErrorKind::InvalidRequiredAcks));
        }
        let large = batch_of(&[&[1; 2000]], Sequence::NONE);
        let too_large = produce_frame(partition(small, index), &large);
        check("B60: larger than the topic's", &mut raw, &too_large, Expect::Code(ErrorKind::MessageTooLarge));
        let large = batch_of(&[&[1; 200_000]], Sequence::NONE);
        let too_large = produce_frame(partition(narrow, index), &large);
        check(
            "B61: larger than a segment",
            &mut raw,
            &too_large,
            Expect::Code(ErrorKind::RecordListTooLarge),
        );
        for (name, unknown) in [
            ("B66: an unknown topic", partition(TopicId(0xbad), index)),
            ("B66: an unknown partition", partition(topic, 2 + index)),
            ("B66: the last partition there can be", partition(topic, u32::MAX)),
        ] {
            let code = raw.produce(unknown, &good()).expect_err(name);
            let kinds = [ErrorKind::UnknownTopicId, ErrorKind::UnknownTopicOrPartition];
            assert!(kinds.iter().any(|kind| kind.code() == code), "{name}: code {code}");
            raw.ping();
        }
        scene.probe.check("B60, B61, B66");
        for partition in [here, partition(small, index), partition(narrow, index)] {
            assert_eq!(raw.end_of(partition), Ok(0), "something was appended");
        }
        lies_are_put_right(&mut raw, here);
        // B71: the peer is gone before it can be answered; its batch may be there or not.
        let mut gone = scene.connect();
        assert!(gone.send(&produce_frame(here, &good())));
        drop(gone);
        // acks 0: no answer at all, not even to a bad batch.
        let unanswered = Produce { partition: here, acks: RequiredAcks::None, batch: b"no batch" };
        assert!(raw.send(&encode(&Request::Produce(unanswered))));
        raw.ping();
        scene.probe.check("B71: a peer that vanishes");
    }
    scene.end();
}

/// B63, B68: what a client may not decide is overwritten.
fn lies_are_put_right(raw: &mut Raw, here: PartitionId) {
    let mut lying = good();
    lying[0..8].copy_from_slice(&77_777_i64.to_be_bytes());
    lying[12..16].copy_from_slice(&i32::MAX.to_be_bytes());
    assert_eq!(raw.produce(here, &lying), Ok(0));
    let truth = batch::Batch::read(&lying).unwrap().header.max_timestamp;
    let lie = truth.0 + 60_000;
    assert_eq!(raw.produce(here, &put(35, &lie.to_be_bytes())), Ok(3));
    let batches = raw.fetch(here, 0).unwrap();
    let found: Vec<_> = batch::walk(&batches).map(Result::unwrap).collect();
    assert_eq!(found.len(), 2);
    for (batch, base) in found.iter().zip([0, 3]) {
        assert_eq!(batch.header.base_offset.0, base, "B68");
        assert!(batch.header.leader_epoch.0 < 1000, "B68: {:?}", batch.header);
        assert!((batch.header.max_timestamp.0 - truth.0).abs() < 30_000, "B63: {:?}", batch.header);
        batch.check_crc().unwrap();
    }
}

#[test]
fn numbers_of_producers_are_held_to_their_order() {
    let mut scene = Scene::new("bad-numbers");
    let mut raw = scene.connect();
    let topic = raw.create_topic("numbers", 2, TopicConfig::default());
    for index in 0..2 {
        let here = partition(topic, index);
        let answer = raw.ask(&Request::AllocateProducerId);
        let cutwater_native::Answer::ProducerIdAllocated(id, ProducerEpoch(epoch)) = answer.answer() else {
            panic!("{answer:?}")
        };
        let batch = |id: ProducerId, epoch: i16, base_sequence: i32| {
            let mut batch = good();
            renumber(
                &mut batch,
                Sequence { producer_id: id, producer_epoch: ProducerEpoch(epoch), base_sequence },
            );
            batch
        };
        for number in 0..7 {
            assert_eq!(raw.produce(here, &batch(id, epoch, number * 3)), Ok(i64::from(number) * 3));
        }
        for number in 2..7 {
            let again = raw.produce(here, &batch(id, epoch, number * 3));
            assert_eq!(again, Ok(i64::from(number) * 3), "B119: one of the last five again");
        }
        let refused = |raw: &mut Raw, name: &str, batch: &[u8], kinds: &[ErrorKind]| {
            let code = raw.produce(here, batch).expect_err(name);
            assert!(kinds.iter().any(|kind| kind.code() == code), "{name}: code {code}");
        };
        use ErrorKind::{DuplicateSequenceNumber, InvalidProducerEpoch, OutOfOrderSequenceNumber};
        let old = [DuplicateSequenceNumber, OutOfOrderSequenceNumber];
        refused(&mut raw, "B120: older than the last five", &batch(id, epoch, 0), &old);
        refused(&mut raw, "B118: a gap", &batch(id, epoch, 24), &[OutOfOrderSequenceNumber]);
        refused(&mut raw, "B118: an overlap", &batch(id, epoch, 20), &old);
        refused(
            &mut raw,
            "B123: an epoch that does not begin at 0",
            &batch(id, epoch + 1, 21),
            &[OutOfOrderSequenceNumber],
        );
        assert_eq!(raw.produce(here, &batch(id, epoch + 1, 0)), Ok(21));
        refused(&mut raw, "B122: a lower epoch", &batch(id, epoch, 21), &[InvalidProducerEpoch]);
        refused(
            &mut raw,
            "an unknown producer in the middle",
            &batch(ProducerId(i64::MAX), 0, 5),
            &[OutOfOrderSequenceNumber, ErrorKind::UnknownProducerId],
        );
        assert_eq!(raw.end_of(here), Ok(24));
        scene.probe.check("B118 to B123");
    }
    scene.end();
}
