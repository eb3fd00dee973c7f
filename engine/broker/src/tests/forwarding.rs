//! Two shards: what a connection asks of the other one's partitions comes back right.

use alloc::vec;

use cutwater_api::{
    ConnectionId, Fetch, ListOffsets, ListOffsetsPart, OffsetSpec, Request, RequiredAcks, Response, Ticket,
};
use cutwater_model::{ErrorKind, PartitionId, PartitionIndex, TimestampMs};

use crate::Input;
use crate::test_rig::{Held, Rig, batch, batch_of};

/// Four partitions, the even ones on the first shard and the odd ones on the second.
fn rig() -> Rig {
    Rig::with(|plan| (plan.shards, plan.partitions) = (2, 4))
}

fn on_second(held: &Held) -> bool {
    held.shard == 1 && held.writes_group()
}

#[test]
fn a_batch_for_another_shard_is_answered_when_it_is_durable_there() {
    let mut rig = rig();
    let there = rig.partition(1);
    let ticket = rig.produce_to(there, &batch(2));
    assert_eq!(rig.messages(0, 1), 1);
    rig.deliver();
    while rig.deliver() {}
    assert_eq!(rig.produced(ticket), None);
    rig.complete(on_second);
    assert_eq!((rig.messages(1, 0), rig.produced(ticket)), (1, None), "the answer is on its way");
    rig.deliver();
    assert_eq!(rig.produced(ticket), Some(Ok(0)));
    let refused = rig.produce_to(there, b"no batch");
    rig.complete_all();
    assert_eq!(rig.produced(refused), Some(Err(ErrorKind::CorruptMessage)));
    let silent = rig.produce_with(rig.peer, there, RequiredAcks::None, &batch(1));
    rig.complete_all();
    assert_eq!(rig.produced(silent), None);
    rig.crash_and_restart();
    assert_eq!(rig.read_all(rig.partition(1)), [0, 2]);
}

#[test]
fn a_partition_that_nobody_has_is_unknown() {
    let mut rig = rig();
    let nowhere = PartitionId { topic: rig.topic, index: PartitionIndex(4) };
    let ticket = rig.produce_to(nowhere, &batch(1));
    assert_eq!(rig.produced(ticket), Some(Err(ErrorKind::UnknownTopicOrPartition)));
    let ticket = rig.fetch_with(
        rig.peer,
        Fetch { wait_ms_max: 500, bytes_min: 1, bytes_max: 100, parts: vec![rig.part(4, 0)] },
    );
    assert_eq!(rig.fetched(ticket).unwrap()[0].error, Some(ErrorKind::UnknownTopicOrPartition));
}

#[test]
fn a_fetch_over_both_shards_answers_in_the_order_asked() {
    let mut rig = rig();
    for index in 0..4 {
        for _ in 0..=index {
            rig.produce_to(rig.partition(index), &batch_of(500));
        }
    }
    rig.complete_all();
    let parts = [3, 0, 2, 1].map(|index| rig.part(index, 0)).to_vec();
    let ticket = rig.fetch_with(
        rig.peer,
        Fetch { wait_ms_max: 0, bytes_min: 1, bytes_max: 1 << 20, parts: parts.clone() },
    );
    assert_eq!(rig.fetched(ticket), None, "the other shard was not asked yet");
    rig.complete_all();
    let reads = rig.fetched(ticket).unwrap();
    let seen = reads.iter().map(|read| (read.partition.index.0, read.offsets.len(), read.high_watermark));
    assert_eq!(seen.collect::<alloc::vec::Vec<_>>(), [(3, 4, 4), (0, 1, 1), (2, 3, 3), (1, 2, 2)]);

    // All shards together keep to the bound.
    let fetch = Fetch { wait_ms_max: 0, bytes_min: 1, bytes_max: 3000, parts };
    let ticket = rig.fetch_with(rig.peer, fetch);
    rig.complete_all();
    let bytes: usize = rig.fetched(ticket).unwrap().iter().map(|read| read.bytes.len()).sum();
    assert!((1..=3000).contains(&bytes), "{bytes} bytes");
}

#[test]
fn a_poll_is_woken_by_data_of_the_other_shard() {
    let mut rig = rig();
    let fetch = Fetch { wait_ms_max: 1000, bytes_min: 1, bytes_max: 1 << 20, parts: vec![rig.part(1, 0)] };
    let ticket = rig.fetch_with(rig.peer, fetch);
    rig.complete_all();
    assert_eq!(rig.fetched(ticket), None);
    let there = rig.connect(1);
    rig.produce_with(there, rig.partition(1), RequiredAcks::Leader, &batch(1));
    rig.complete_all();
    assert_eq!(rig.fetched(ticket).unwrap()[0].offsets, [0]);
    assert_eq!(rig.seats[1].shard.pins_held(), 0, "bytes that were copied out hold nothing");
}

#[test]
fn a_poll_of_the_other_shards_deleted_topic_is_told_so() {
    let mut rig = rig();
    let fetch = Fetch { wait_ms_max: 1000, bytes_min: 1, bytes_max: 1 << 20, parts: vec![rig.part(1, 0)] };
    let ticket = rig.fetch_with(rig.peer, fetch);
    rig.complete_all();
    rig.delete_topic(rig.topic);
    rig.complete_all();
    assert_eq!(rig.fetched(ticket).unwrap()[0].error, Some(ErrorKind::UnknownTopicOrPartition));
}

fn offset_of(rig: &Rig, ticket: Ticket, part: usize) -> Result<(i64, Option<i64>), ErrorKind> {
    let Some(Response::ListedOffsets(found)) = rig.answer(ticket) else { panic!("it is answered") };
    found[part].error.map_or(Ok((found[part].offset.0, found[part].timestamp.map(|time| time.0))), Err)
}

#[test]
fn offsets_are_found_on_both_shards_by_name_and_by_time() {
    let mut rig = rig();
    let first = rig.produce_to(rig.partition(1), &batch(3));
    rig.produce_to(rig.partition(0), &batch(2));
    rig.complete_all();
    assert_eq!(rig.produced(first), Some(Ok(0)));
    // Appended and not durable: not there yet.
    rig.produce_to(rig.partition(0), &batch(5));
    let specs = [
        (1, OffsetSpec::Latest),
        (0, OffsetSpec::Latest),
        (1, OffsetSpec::Earliest),
        (1, OffsetSpec::At(TimestampMs(1))),
        (0, OffsetSpec::At(TimestampMs(i64::MAX))),
        (9, OffsetSpec::Latest),
    ];
    let parts = specs.map(|(index, spec)| ListOffsetsPart { partition: rig.partition(index), spec });
    let ticket = rig.ask(rig.peer, Request::ListOffsets(ListOffsets { parts: parts.to_vec() }));
    assert!(rig.answer(ticket).is_none());
    while rig.deliver() {}
    let found = [0, 1, 2, 3, 4, 5].map(|part| offset_of(&rig, ticket, part));
    let expected = [
        Ok((3, None)),
        Ok((2, None)),
        Ok((0, None)),
        Ok((0, Some(1_700_000_000_000))),
        Ok((2, None)),
        Err(ErrorKind::UnknownTopicOrPartition),
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_comes_back_for_a_closed_connection_is_dropped_and_nothing_is_left_behind() {
    let mut rig = rig();
    let gone = rig.connect(0);
    let part = rig.part(1, 0);
    let poll = Fetch { wait_ms_max: 1000, bytes_min: 1, bytes_max: 1 << 20, parts: vec![part] };
    let poll = rig.fetch_with(gone, poll);
    rig.complete_all();
    let there = rig.connect(1);
    rig.produce_with(there, part.partition, RequiredAcks::Leader, &batch(1));
    rig.complete(on_second);
    rig.deliver();
    // The data is on its way when the connection closes.
    assert_eq!(rig.fetched(poll), None);
    rig.close(gone);
    rig.complete_all();
    assert_eq!(rig.fetched(poll), None);
    for seat in &mut rig.seats {
        assert_eq!(seat.shard.readers.ids(), []);
        assert_eq!(seat.shard.pins_held(), 0);
    }
    // A batch on its way is appended all the same, and the connection that took the slot over knows nothing of it.
    let gone = rig.connect(0);
    let forwarded = rig.produce_with(gone, part.partition, RequiredAcks::Leader, &batch(1));
    rig.close(gone);
    let connection = ConnectionId { generation: 2, ..gone.connection };
    rig.hand(0, Input::Opened(connection));
    rig.complete_all();
    assert_eq!(rig.read_all(part.partition), [0, 1]);
    assert!(rig.answered().iter().all(|ticket| ticket.connection != connection));
    assert_eq!(rig.produced(forwarded), Some(Ok(1)), "its ticket names the life of the slot that is over");
}
