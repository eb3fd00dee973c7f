//! Producers that number their batches: retries neither duplicate nor reorder.

use cutwater_model::ErrorKind;
use cutwater_model::storage::StorageErrorKind;

use crate::test_rig::{Held, Rig, numbered};

#[test]
fn a_retry_is_answered_with_the_first_offset_once_that_is_durable() {
    let mut rig = Rig::new();
    let first = rig.produce(&numbered(7, 0));
    let retry = rig.produce(&numbered(7, 0));
    assert_eq!([first, retry].map(|it| rig.produced(it)), [None, None]);
    rig.complete(Held::writes_group);
    assert_eq!([first, retry].map(|it| rig.produced(it)), [Some(Ok(0)), Some(Ok(0))]);
    let late = rig.produce(&numbered(7, 0));
    assert_eq!(rig.produced(late), Some(Ok(0)), "nothing is to be waited for");
    rig.complete_all();
    assert_eq!(rig.read_all(rig.partition(0)), [0], "it is there once");
}

#[test]
fn a_retry_of_a_batch_that_never_became_durable_is_refused() {
    let mut rig = Rig::new();
    let first = rig.produce(&numbered(7, 0));
    let retry = rig.produce(&numbered(7, 0));
    rig.fail(Held::writes_group, StorageErrorKind::Device);
    let late = rig.produce(&numbered(7, 0));
    for ticket in [first, retry, late] {
        assert_eq!(rig.produced(ticket), Some(Err(ErrorKind::StorageError)));
    }
}

#[test]
fn a_batch_that_leaves_a_gap_is_refused_and_the_next_one_is_not() {
    let mut rig = Rig::new();
    let first = rig.produce(&numbered(7, 0));
    let gap = rig.produce(&numbered(7, 4));
    let next = rig.produce(&numbered(7, 2));
    let unknown = rig.produce(&numbered(8, 2));
    rig.complete_all();
    assert_eq!(rig.produced(gap), Some(Err(ErrorKind::OutOfOrderSequenceNumber)));
    assert_eq!([first, next].map(|it| rig.produced(it)), [Some(Ok(0)), Some(Ok(2))]);
    assert_eq!(rig.produced(unknown), Some(Err(ErrorKind::UnknownProducerId)));
}

#[test]
fn a_retry_is_known_after_a_crash_whether_the_journal_or_the_checkpoint_names_it() {
    let mut rig = Rig::new();
    rig.produce(&numbered(7, 0));
    rig.complete_all();
    rig.want_checkpoint(0);
    rig.complete_all();
    rig.produce(&numbered(7, 2));
    rig.complete_all();
    rig.crash_and_restart();
    let retries = [0, 2].map(|sequence| rig.produce(&numbered(7, sequence)));
    let next = rig.produce(&numbered(7, 4));
    rig.complete_all();
    assert_eq!(retries.map(|it| rig.produced(it)), [Some(Ok(0)), Some(Ok(2))]);
    assert_eq!(rig.produced(next), Some(Ok(4)));
    assert_eq!(rig.read_all(rig.partition(0)), [0, 2, 4]);
}

#[test]
fn a_retry_does_not_wait_for_what_came_after_its_first_try() {
    let mut rig = Rig::new();
    rig.produce(&numbered(7, 0));
    rig.complete(Held::writes_group);
    let next = rig.produce(&numbered(7, 2));
    let retry = rig.produce(&numbered(7, 0));
    assert_eq!(rig.produced(next), None);
    assert_eq!(rig.produced(retry), Some(Ok(0)));
}
