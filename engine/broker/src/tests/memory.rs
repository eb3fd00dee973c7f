//! Payload memory: given up when it is flushed and nobody holds it, and never before.

use alloc::vec;
use alloc::vec::Vec;

use cutwater_api::{Fetch, Ticket};
use cutwater_model::{DirName, limits};

use crate::test_rig::{Held, Rig, batch_of};

/// Two megabytes of memory, of which a part is the journal's; written back as soon as there is something to write.
fn rig() -> Rig {
    Rig::with(|plan| {
        plan.memory_bytes = 2 << 20;
        plan.topic.segment_bytes = 16 << 20;
        plan.config.journal_files = 8;
        plan.config.memory_soft_percent = 50;
        plan.config.memory_high_percent = 70;
        plan.config.writeback_bytes_least = 64 * 1024;
    })
}

fn used_bytes(rig: &mut Rig) -> u64 {
    rig.seats[0].shard.counters().memory_used_bytes
}

/// Everything comes to its end, retries included.
fn settle(rig: &mut Rig) {
    for _ in 0..50 {
        rig.complete_all();
        rig.wait_us(1000);
    }
}

/// Appends until the connection is paused for want of memory; what was appended, and what waits.
fn fill(rig: &mut Rig, held_back: fn(&Held) -> bool) -> Vec<Ticket> {
    let mut tickets = Vec::new();
    while rig.seats[0].pauses.is_empty() {
        assert!(tickets.len() < 1000, "memory is bounded");
        tickets.push(rig.produce(&batch_of(10_000)));
        rig.complete_all_but(held_back);
    }
    tickets
}

#[test]
fn without_memory_batches_wait_and_go_on_when_pages_are_flushed() {
    let mut rig = rig();
    let mut tickets = fill(&mut rig, Held::flushes_segment);
    let last = tickets.pop().unwrap();
    assert_eq!(rig.produced(last), None);
    assert!(tickets.iter().all(|ticket| rig.produced(*ticket).is_some_and(|it| it.is_ok())));
    assert!(tickets.len() * 10_000 > 1 << 20, "memory is used before anybody waits");

    settle(&mut rig);
    assert_eq!(rig.produced(last), Some(Ok(tickets.len() as i64)));
    let connection = rig.peer.connection;
    assert_eq!(rig.seats[0].pauses, [(connection, true), (connection, false)]);
    let all: Vec<i64> = (0..=tickets.len() as i64).collect();
    assert_eq!(rig.read_all(rig.partition(0)), all);
}

#[test]
fn pages_are_given_up_only_after_the_flush_of_what_was_written() {
    let mut rig = rig();
    fill(&mut rig, |held| held.writes_back() || held.flushes_segment());
    let full_bytes = used_bytes(&mut rig);
    assert!(rig.count(Held::writes_back) > 0);
    for _ in 0..10 {
        rig.complete_all_but(Held::flushes_segment);
        rig.wait_us(1000);
    }
    assert!(rig.count(Held::flushes_segment) > 0);
    assert!(used_bytes(&mut rig) >= full_bytes, "written is not flushed");
    settle(&mut rig);
    assert!(used_bytes(&mut rig) <= 1 << 20, "{} bytes are used", used_bytes(&mut rig));
}

#[test]
fn an_answer_that_is_not_sent_holds_its_pages_and_gives_them_back() {
    let mut rig = rig();
    for _ in 0..12 {
        rig.produce(&batch_of(10_000));
        rig.complete_all();
    }
    let ticket = rig.fetch(0);
    let before = rig.fetched(ticket).unwrap();
    assert_eq!(before[0].offsets.len(), 12);
    // The memory is used several times over meanwhile.
    let mut appended = 12;
    for _ in 0..600 {
        rig.produce(&batch_of(10_000));
        rig.complete_all();
        rig.wait_us(1000);
        appended += 1;
    }
    settle(&mut rig);
    assert_eq!(rig.fetched(ticket).unwrap(), before, "the answer is still what it was");
    rig.sent(ticket);
    assert_eq!(rig.seats[0].shard.pins_held(), 0);
    settle(&mut rig);
    assert!(used_bytes(&mut rig) <= 1 << 20, "{} bytes are used", used_bytes(&mut rig));
    assert_eq!(rig.read_all(rig.partition(0)).len(), appended);
}

#[test]
fn a_deleted_topic_keeps_the_pages_and_files_of_an_answer_until_it_is_sent() {
    let mut rig = rig();
    rig.produce(&batch_of(10_000));
    rig.complete_all();
    let ticket = rig.fetch(0);
    let before = rig.fetched(ticket).unwrap();
    rig.delete_topic(rig.topic);
    settle(&mut rig);
    let dir = DirName::Partition(rig.partition(0));
    assert!(rig.disk.names().any(|name| name.dir() == dir), "something of it is held");
    assert_eq!(rig.fetched(ticket).unwrap(), before);
    rig.sent(ticket);
    settle(&mut rig);
    assert!(!rig.disk.names().any(|name| name.dir() == dir), "nothing holds it any more");
}

#[test]
fn a_peer_that_takes_nothing_pins_a_bounded_amount() {
    let mut rig = Rig::with(|plan| plan.config.journal_files = 8);
    for _ in 0..80 {
        rig.produce(&batch_of(10_000));
        rig.complete_all();
    }
    let parts = vec![rig.part(0, 0)];
    let poll = |parts| Fetch { wait_ms_max: 1000, bytes_min: 1, bytes_max: 16 << 20, parts };
    let tickets: Vec<Ticket> = (0..8).map(|_| rig.fetch_with(rig.peer, poll(parts.clone()))).collect();
    let answered: Vec<Ticket> =
        tickets.iter().copied().filter(|ticket| rig.fetched(*ticket).is_some()).collect();
    let bytes: usize = answered.iter().map(|ticket| rig.fetched(*ticket).unwrap()[0].bytes.len()).sum();
    assert!(bytes > 0 && bytes <= limits::SEND_BYTES_PINNED_MAX as usize, "{bytes} bytes are pinned");
    assert!(answered.len() < tickets.len(), "the others wait");
    rig.sent(answered[0]);
    assert!(rig.fetched(tickets[answered.len()]).is_some(), "what was sent makes room for the next");
}
