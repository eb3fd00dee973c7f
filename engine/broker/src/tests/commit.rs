//! Group commit: an answer means that the batch is durable (J4, E2).

use alloc::vec::Vec;

use cutwater_api::RequiredAcks;
use cutwater_model::ErrorKind;
use cutwater_model::storage::StorageErrorKind;
use cutwater_model::topic::{Durability, TopicConfig};

use crate::test_rig::{Held, Rig, batch, batch_of};

#[test]
fn nobody_is_answered_or_shown_a_batch_before_its_group_is_durable() {
    let mut rig = Rig::new();
    let ticket = rig.produce(&batch(3));
    assert_eq!(rig.count(Held::writes_group), 1);
    assert_eq!(rig.produced(ticket), None);
    let early = rig.fetch(0);
    let read = &rig.fetched(early).unwrap()[0];
    assert_eq!((read.high_watermark, read.offsets.len()), (0, 0));

    rig.complete(Held::writes_group);
    assert_eq!(rig.produced(ticket), Some(Ok(0)));
    rig.crash_and_restart();
    assert_eq!(rig.read_all(rig.partition(0)), [0]);
}

#[test]
fn a_group_that_is_durable_before_an_older_one_answers_nothing_yet() {
    let mut rig = Rig::new();
    let first = rig.produce(&batch_of(100));
    // Large enough to be written beside the first one.
    let second = rig.produce(&batch_of(15_000));
    let third = rig.produce(&batch_of(5_000));
    assert_eq!(rig.count(Held::writes_group), 2, "two groups are in flight");
    rig.complete_newest(Held::writes_group);
    assert!(rig.answers.is_empty(), "the older group is not durable");
    rig.complete(Held::writes_group);
    rig.complete_all();
    assert_eq!(rig.answered(), [first, second, third]);
    assert_eq!([first, second, third].map(|it| rig.produced(it)), [Some(Ok(0)), Some(Ok(1)), Some(Ok(2))]);
}

#[test]
fn answers_leave_in_the_order_of_the_requests_of_a_connection_and_of_a_partition() {
    let mut rig = Rig::with(|plan| plan.partitions = 3);
    let mut asked = Vec::new();
    let mut last = [0_i64; 3];
    let other = rig.connect(0);
    for round in 0..40_u32 {
        let index = round * 7 % 3;
        let peer = if round % 2 == 0 { rig.peer } else { other };
        let size = if round % 5 == 0 { 9_000 } else { 50 };
        let ticket = rig.produce_with(peer, rig.partition(index), RequiredAcks::All, &batch_of(size));
        asked.push((ticket, last[index as usize]));
        last[index as usize] += 1;
        if round % 3 == 2 {
            rig.complete_newest(Held::writes_group);
        }
    }
    rig.complete_all();
    assert_eq!(rig.answered(), asked.iter().map(|(ticket, _)| *ticket).collect::<Vec<_>>());
    for (ticket, offset) in asked {
        assert_eq!(rig.produced(ticket), Some(Ok(offset)));
    }
}

#[test]
fn a_group_that_fails_refuses_all_that_wait_and_no_later_one_answers() {
    let mut rig = Rig::new();
    let safe = rig.produce(&batch(1));
    rig.complete(Held::writes_group);
    let flying = [rig.produce(&batch_of(100)), rig.produce(&batch_of(15_000))];
    let open = rig.produce(&batch(1));
    assert_eq!(rig.count(Held::writes_group), 2);

    rig.fail(Held::writes_group, StorageErrorKind::Device);
    assert_eq!(rig.seats[0].fences.len(), 1, "the operator is told, once");
    for ticket in flying.into_iter().chain([open]) {
        assert_eq!(rig.produced(ticket), Some(Err(ErrorKind::StorageError)));
    }
    let answers = rig.answers.len();
    // The newer group gets to the disk, and nobody may be told.
    rig.complete_all();
    assert_eq!(rig.answers.len(), answers);

    let late = rig.produce(&batch(1));
    assert_eq!(rig.produced(late), Some(Err(ErrorKind::StorageError)));
    assert_eq!(rig.count(Held::writes_group), 0, "nothing is written any more");
    // Reads go on up to the durable point.
    let ticket = rig.fetch(0);
    let read = &rig.fetched(ticket).unwrap()[0];
    assert_eq!((read.high_watermark, &read.offsets[..]), (1, &[0][..]));
    assert_eq!(rig.produced(safe), Some(Ok(0)));
}

#[test]
fn acks_of_nobody_are_never_sent() {
    let mut rig = Rig::new();
    let partition = rig.partition(0);
    rig.produce_with(rig.peer, partition, RequiredAcks::None, &batch(2));
    rig.produce_with(rig.peer, partition, RequiredAcks::None, b"no batch at all");
    let asked = rig.produce(&batch(1));
    rig.complete_all();
    assert_eq!(rig.answered(), [asked]);
    assert_eq!(rig.produced(asked), Some(Ok(2)), "the batch was appended all the same");
    assert_eq!(rig.seats[0].shard.counters().batches_refused, 1);
}

#[test]
fn a_memory_topic_answers_and_shows_at_once_and_shown_offsets_never_come_again() {
    let mut rig = Rig::with(|plan| {
        plan.topic = TopicConfig { durability: Durability::Memory, ..plan.topic };
    });
    let kept = rig.produce(&batch(2));
    rig.complete_all();
    let lost = rig.produce(&batch(3));
    assert_eq!(rig.count(Held::writes_group), 1, "it takes the same way to the disk");
    assert_eq!(rig.produced(kept), Some(Ok(0)));
    assert_eq!(rig.produced(lost), Some(Ok(2)));
    let seen = rig.fetch(0);
    assert_eq!(rig.fetched(seen).unwrap()[0].offsets, [0, 2]);

    rig.crash_and_restart();
    let next = rig.produce(&batch(1));
    rig.complete_all();
    let offset = rig.produced(next).unwrap().unwrap();
    assert!(offset >= 5, "offset {offset} was shown before the crash");
    assert_eq!(rig.read_all(rig.partition(0)), [0, offset], "what was durable is there");
}
