//! Fetches that wait, and subscriptions: woken by data, by time, by deletion, by a stop.

use alloc::vec;
use alloc::vec::Vec;

use cutwater_api::{Fetch, Request, Response, Subscribe, SubscriptionId};
use cutwater_model::ErrorKind;

use crate::test_rig::{Held, Rig, batch, batch_of, offsets_in};

#[test]
fn a_poll_is_woken_by_new_data_when_that_is_durable_and_not_before() {
    let mut rig = Rig::new();
    let ticket = rig.poll(0);
    rig.produce(&batch(1));
    rig.wait_us(10);
    assert_eq!(rig.fetched(ticket), None);
    rig.complete(Held::writes_group);
    let read = &rig.fetched(ticket).unwrap()[0];
    assert_eq!((read.high_watermark, &read.offsets[..]), (1, &[0][..]));
}

#[test]
fn a_poll_waits_for_the_bytes_it_asked_for_over_all_its_partitions() {
    let mut rig = Rig::with(|plan| plan.partitions = 2);
    let parts = vec![rig.part(0, 0), rig.part(1, 0)];
    let fetch = Fetch { wait_ms_max: 1000, bytes_min: 1500, bytes_max: 1 << 20, parts };
    let ticket = rig.fetch_with(rig.peer, fetch);
    rig.produce(&batch_of(1000));
    rig.complete_all();
    assert_eq!(rig.fetched(ticket), None, "there are not enough");
    rig.produce_to(rig.partition(1), &batch_of(1000));
    rig.complete_all();
    let reads = rig.fetched(ticket).unwrap();
    assert_eq!(reads.iter().map(|read| read.offsets.len()).sum::<usize>(), 2);
}

#[test]
fn a_poll_ends_at_its_deadline_with_what_there_is() {
    let mut rig = Rig::new();
    let ticket = rig.poll(0);
    rig.wait_us(999_999);
    assert_eq!(rig.fetched(ticket), None);
    rig.wait_us(1);
    let read = &rig.fetched(ticket).unwrap()[0];
    assert_eq!((read.error, read.high_watermark, read.offsets.len()), (None, 0, 0));
    rig.wait_us(2_000_000);
}

#[test]
fn a_poll_of_a_deleted_topic_is_told_so_at_once() {
    let mut rig = Rig::new();
    let ticket = rig.poll(0);
    rig.delete_topic(rig.topic);
    assert_eq!(rig.fetched(ticket).unwrap()[0].error, Some(ErrorKind::UnknownTopicOrPartition));
}

#[test]
fn a_poll_is_answered_when_the_node_stops() {
    let mut rig = Rig::new();
    let ticket = rig.poll(0);
    rig.stop();
    assert_eq!(rig.fetched(ticket).unwrap()[0].error, None);
}

#[test]
fn the_poll_of_a_closed_connection_is_forgotten() {
    let mut rig = Rig::new();
    let ticket = rig.poll(0);
    rig.close(rig.peer);
    rig.peer = rig.connect(0);
    rig.produce(&batch(1));
    rig.complete_all();
    rig.wait_us(2_000_000);
    assert_eq!(rig.fetched(ticket), None);
    assert_eq!(rig.seats[0].shard.pins_held(), 0);
}

#[test]
fn a_subscription_is_pushed_as_far_as_its_credit_goes() {
    let mut rig = Rig::new();
    let parts = vec![rig.part(0, 0)];
    let id = SubscriptionId(4);
    let subscribe = Subscribe { subscription: id, credit_bytes: 1500, parts };
    let ticket = rig.ask(rig.peer, Request::Subscribe(subscribe));
    assert_eq!(rig.answer(ticket), Some(&Response::Subscribed(id)));
    for _ in 0..4 {
        rig.produce(&batch_of(1000));
        rig.complete_all();
    }
    assert_eq!(pushed(&mut rig), [0, 1], "the second one leaves a debt");
    rig.ask(rig.peer, Request::AddCredit { subscription: id, bytes: 500 });
    assert_eq!(pushed(&mut rig), [0, 1], "the debt is paid first");
    rig.ask(rig.peer, Request::AddCredit { subscription: id, bytes: 500 });
    assert_eq!(pushed(&mut rig), [0, 1, 2]);
    let end = rig.ask(rig.peer, Request::Unsubscribe { subscription: id });
    assert_eq!(rig.answer(end), Some(&Response::Unsubscribed(id)));
    rig.ask(rig.peer, Request::AddCredit { subscription: id, bytes: 5000 });
    assert_eq!(pushed(&mut rig), [0, 1, 2], "it has ended");
}

/// The offsets of all batches pushed so far.
fn pushed(rig: &mut Rig) -> Vec<i64> {
    let slab = rig.seats[0].shard.slab();
    let pushes = rig.answers.iter().filter_map(|answer| match &answer.response {
        Response::Pushed { fetched, .. } => Some(&fetched.parts),
        _ => None,
    });
    let ranges = pushes.flatten().flat_map(|part| &part.memory);
    let bytes: Vec<u8> = ranges.flat_map(|range| slab.get(*range)).copied().collect();
    offsets_in(&bytes).iter().map(|(base, _)| *base).collect()
}
