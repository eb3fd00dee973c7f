//! Checkpoints: written in their order, and the journal is used again only behind them (C1, C2, E2).

use alloc::vec::Vec;

use cutwater_model::ErrorKind;
use cutwater_model::storage::StorageErrorKind;

use crate::test_rig::{Held, Rig, batch, batch_of};

#[test]
fn a_checkpoint_is_written_only_after_journal_and_segments_are_durable() {
    let mut rig = Rig::new();
    rig.produce(&batch_of(6_000));
    rig.complete_all_but(Held::writes_group);
    rig.want_checkpoint(0);
    rig.complete_all_but(Held::writes_group);
    assert_eq!(rig.count(Held::writes_checkpoint), 0, "it never names more than the journal has");
    rig.complete_all_but(|held| held.writes_back() || held.writes_checkpoint());
    assert_eq!((rig.count(Held::writes_back), rig.count(Held::writes_checkpoint)), (1, 0));
    rig.complete_all_but(|held| held.flushes_segment() || held.writes_checkpoint());
    assert_eq!((rig.count(Held::flushes_segment), rig.count(Held::writes_checkpoint)), (1, 0));
    rig.complete_all_but(|held| held.flushes_checkpoint());
    assert_eq!(rig.seats[0].shard.counters().checkpoints, 0);
    rig.complete_all();
    assert_eq!(rig.seats[0].shard.counters().checkpoints, 1);
}

#[test]
fn a_checkpoint_is_due_after_so_many_bytes_of_large_batches() {
    let mut rig = Rig::with(|plan| plan.config.checkpoint_bulk_bytes = 100_000);
    rig.produce(&batch_of(40_000));
    rig.complete_all();
    rig.produce(&batch_of(40_000));
    rig.complete_all();
    assert_eq!(rig.seats[0].shard.counters().checkpoints, 0);
    rig.produce(&batch_of(40_000));
    rig.complete_all();
    assert_eq!(rig.seats[0].shard.counters().checkpoints, 1, "the start after a crash would read too much");
}

/// Appends until the journal takes no more; returns how many batches were acknowledged.
fn fill_journal(rig: &mut Rig, held_back: fn(&Held) -> bool) -> i64 {
    let mut accepted = 0;
    loop {
        let ticket = rig.produce(&batch_of(10_000));
        rig.complete_all_but(held_back);
        match rig.produced(ticket) {
            Some(Ok(offset)) => assert_eq!(offset, accepted),
            None => return accepted,
            refused => panic!("{refused:?}"),
        }
        accepted += 1;
        assert!(accepted < 1000, "the journal is bounded");
    }
}

#[test]
fn the_journal_is_used_again_only_when_both_copies_of_the_checkpoint_are_past_it() {
    let mut rig = Rig::new();
    let accepted = fill_journal(&mut rig, Held::flushes_checkpoint);
    assert!(accepted >= 20, "{accepted} batches of 10 kB fit three files of 256 kB");
    assert_eq!((rig.count(Held::flushes_checkpoint), rig.count(Held::writes_group)), (1, 0));
    // One copy still begins its replay in the first file.
    rig.complete(Held::flushes_checkpoint);
    rig.complete_all_but(Held::flushes_checkpoint);
    assert_eq!((rig.count(Held::flushes_checkpoint), rig.count(Held::writes_group)), (1, 0));
    assert_eq!(rig.answers.len() as i64, accepted);
    rig.complete(Held::flushes_checkpoint);
    rig.complete_all();
    assert_eq!(rig.answers.len() as i64, accepted + 1, "the journal goes on");
    rig.crash_and_restart();
    let all: Vec<i64> = (0..=accepted).collect();
    assert_eq!(rig.read_all(rig.partition(0)), all);
}

#[test]
fn a_crash_at_any_step_of_a_lap_of_the_journal_loses_nothing_that_was_acknowledged() {
    let mut steps = 0;
    loop {
        let mut rig = Rig::new();
        let accepted = fill_journal(&mut rig, |held| held.flushes_checkpoint() || held.writes_checkpoint());
        for _ in 0..steps {
            if rig.held.is_empty() {
                break;
            }
            rig.complete(Held::anything);
        }
        let is_last = rig.held.is_empty();
        let acknowledged = rig.answers.len() as i64;
        rig.crash_and_restart();
        let read = rig.read_all(rig.partition(0));
        let all: Vec<i64> = (0..read.len() as i64).collect();
        assert_eq!(read, all);
        assert!(read.len() as i64 >= acknowledged, "{acknowledged} of {accepted} after {steps} steps");
        if is_last {
            break;
        }
        steps += 1;
        assert!(steps < 200);
    }
    assert!(steps > 4, "{steps}");
}

#[test]
fn a_checkpoint_whose_flush_failed_is_not_trusted_and_the_journal_fills() {
    let mut rig = Rig::new();
    rig.produce(&batch(1));
    rig.complete_all();
    rig.want_checkpoint(0);
    rig.complete_all_but(Held::flushes_checkpoint);
    rig.fail(Held::flushes_checkpoint, StorageErrorKind::Device);
    assert_eq!(rig.seats[0].fences.len(), 1, "the operator is told");
    let mut accepted = 1;
    loop {
        let ticket = rig.produce(&batch_of(10_000));
        rig.complete_all();
        rig.wait_us(2_000_000);
        rig.complete_all();
        let Some(produced) = rig.produced(ticket) else { break };
        assert_eq!(produced, Ok(accepted));
        accepted += 1;
        assert!(accepted < 1000, "the journal is not used again");
    }
    assert_eq!(rig.seats[0].shard.counters().checkpoints, 0);
    rig.crash_and_restart();
    assert!(rig.read_all(rig.partition(0)).len() as i64 >= accepted);
}

#[test]
fn a_partition_whose_segment_fails_is_carried_by_the_checkpoint_and_fenced_alone() {
    for is_write in [true, false] {
        let mut rig = Rig::with(|plan| plan.partitions = 2);
        for index in [0, 1, 0, 1] {
            rig.produce_to(rig.partition(index), &batch_of(6_000));
            rig.complete_all();
        }
        rig.want_checkpoint(0);
        let fails = if is_write { Held::writes_back } else { Held::flushes_segment };
        rig.complete_all_but(fails);
        rig.fail(fails, StorageErrorKind::Device);
        rig.complete_all();
        assert_eq!(rig.seats[0].shard.counters().checkpoints, 1);
        let late = [0, 1].map(|index| rig.produce_to(rig.partition(index), &batch(1)));
        rig.complete_all();
        let late = late.map(|ticket| rig.produced(ticket));
        assert_eq!(late.iter().filter(|it| **it == Some(Err(ErrorKind::StorageError))).count(), 1);
        assert_eq!(late.iter().filter(|it| **it == Some(Ok(2))).count(), 1);
        rig.crash_and_restart();
        let read = [0, 1].map(|index| rig.read_all(rig.partition(index)).len());
        assert_eq!(read.iter().sum::<usize>(), 5, "{read:?}: what was acknowledged is there");
    }
}

#[test]
fn what_a_checkpoint_names_is_not_replayed() {
    let mut rig = Rig::new();
    rig.produce(&batch(1));
    rig.complete_all();
    for _ in 0..2 {
        rig.want_checkpoint(0);
        rig.complete_all();
    }
    rig.produce(&batch(1));
    rig.complete_all();
    rig.crash_and_restart();
    assert_eq!(rig.seats[0].report.entries, 1);
    assert_eq!(rig.read_all(rig.partition(0)), [0, 1]);
}
