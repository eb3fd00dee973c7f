//! A segment's file that was replaced by another partition's (B149): nothing is read from it and nothing written to it,
//! the others go on, and when the right file is back everything that was acknowledged is there.

use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use cutwater_api::Fetch;
use cutwater_model::{ErrorKind, FileName, Offset, ShardId};

use crate::StartError;
use crate::test_rig::{Rig, batch, batch_of};

const STORED: i64 = 5;
const LARGE_BYTES: usize = 20_000;

/// Two partitions with as many batches of the same sizes, and the file of partition 0.
struct Replaced {
    rig: Rig,
    file: FileName,
    own: Vec<u8>,
    foreign: Vec<u8>,
}

impl Replaced {
    fn stopped(change: impl FnOnce(&mut crate::test_rig::Plan)) -> Self {
        let mut rig = Rig::with(|plan| {
            plan.partitions = 2;
            change(plan);
        });
        for _ in 0..STORED {
            for index in 0..2 {
                rig.produce_to(rig.partition(index), &batch_of(10_000));
                rig.complete_all();
            }
        }
        rig.stop();
        rig.complete_all();
        assert!(rig.seats[0].has_stopped);
        Self::of(rig)
    }

    fn of(mut rig: Rig) -> Self {
        let [file, other] =
            [0, 1].map(|index| FileName::Segment { partition: rig.partition(index), base: Offset(0) });
        let own = rig.disk.bytes_mut(file).to_vec();
        let foreign = rig.disk.bytes_mut(other).to_vec();
        let mut replaced = Self { rig, file, own, foreign };
        replaced.put_foreign();
        replaced
    }

    /// Each partition has one batch that only the journal holds when the file is replaced.
    fn with_more_in_the_journal() -> Self {
        let mut it = Self::stopped(|_| {});
        it.put_own();
        it.rig.restart();
        for index in 0..2 {
            assert_eq!(it.append(index, &batch_of(9_000)), Ok(STORED));
        }
        it.own = it.rig.disk.bytes_mut(it.file).to_vec();
        it.put_foreign();
        it
    }

    fn put_foreign(&mut self) {
        self.rig.disk.put(self.file, self.foreign.clone());
    }

    fn put_own(&mut self) {
        self.rig.disk.put(self.file, self.own.clone());
    }

    fn append(&mut self, index: u32, batch: &[u8]) -> Result<i64, ErrorKind> {
        let ticket = self.rig.produce_to(self.rig.partition(index), batch);
        self.rig.complete_all();
        self.rig.produced(ticket).unwrap()
    }

    /// What a read of the first batch comes to.
    fn read(&mut self, index: u32) -> Result<Vec<i64>, ErrorKind> {
        let parts = vec![self.rig.part(index, 0)];
        let fetch = Fetch { wait_ms_max: 0, bytes_min: 1, bytes_max: 1 << 20, parts };
        let ticket = self.rig.fetch_with(self.rig.peer, fetch);
        self.rig.complete_all();
        let read = self.rig.fetched(ticket).expect("it was answered").remove(0);
        self.rig.sent(ticket);
        read.error.map_or(Ok(read.offsets), Err)
    }

    /// What is found under the name was not written over, and somebody was told of it.
    fn check_untouched(&mut self) {
        // It may have been lengthened.
        let there = self.rig.disk.bytes_mut(self.file);
        assert!(there.starts_with(&self.foreign), "the other partition's file is as it was");
        let seat = &self.rig.seats[0];
        let mut told = seat.damages.iter().chain(&seat.report.notes);
        let name = alloc::format!("{}", self.file);
        assert!(told.any(|it| it.contains(&name)), "{:?} {:?}", seat.damages, seat.report.notes);
    }
}

#[test]
fn a_foreign_file_is_neither_read_nor_appended_to_and_others_go_on() {
    let mut it = Replaced::stopped(|_| {});
    it.rig.restart();
    assert_eq!(it.read(0), Err(ErrorKind::DamagedRange));
    assert_eq!(it.append(0, &batch(1)), Err(ErrorKind::StorageError));
    assert_eq!(it.rig.seats[0].fences.len(), 1);
    assert_eq!(it.rig.seats[0].damages.len(), 1, "it is told once");
    it.check_untouched();
    assert_eq!(it.append(1, &batch(1)), Ok(STORED));
    assert_eq!(it.read(1).map(|offsets| offsets.len() as i64), Ok(STORED + 1));
    it.put_own();
    it.rig.restart();
    assert_eq!(it.append(0, &batch(1)), Ok(STORED));
    assert_eq!(it.rig.read_all(it.rig.partition(0)).len() as i64, STORED + 1);
}

#[test]
fn what_is_acknowledged_before_the_file_is_looked_at_is_kept() {
    let mut it = Replaced::stopped(|_| {});
    it.rig.restart();
    // The journal makes them durable; the file is looked at when they are to be written to it.
    let mut appended = 0;
    while let Ok(offset) = it.append(0, &batch_of(3_000)) {
        assert_eq!(offset, STORED + appended);
        appended += 1;
        assert!(appended < 1000, "it is looked at when a checkpoint is written");
        if appended == 3 {
            it.rig.want_checkpoint(0);
        }
    }
    assert!(appended >= 3);
    it.rig.complete_all();
    it.check_untouched();
    // Neither a stop nor a crash nor another start on the wrong file loses them.
    for is_stopped in [true, false] {
        if is_stopped {
            it.rig.stop();
            it.rig.complete_all();
            assert!(it.rig.seats[0].has_stopped);
        }
        it.rig.crash_and_restart();
        it.check_untouched();
        assert!(it.append(0, &batch(1)).is_err());
        assert_eq!(it.read(0), Err(ErrorKind::DamagedRange));
        assert_eq!(it.append(1, &batch(1)).err(), None);
    }
    it.put_own();
    it.rig.crash_and_restart();
    let all: Vec<i64> = (0..STORED + appended).collect();
    assert_eq!(it.rig.read_all(it.rig.partition(0)), all);
    assert_eq!(it.append(0, &batch(1)), Ok(STORED + appended));
}

#[test]
fn what_the_journal_holds_is_not_drained_into_a_foreign_file() {
    let mut it = Replaced::with_more_in_the_journal();
    it.rig.crash_and_restart();
    it.check_untouched();
    assert!(it.append(0, &batch(1)).is_err());
    assert_eq!(it.append(1, &batch(1)), Ok(STORED + 1));
    it.put_own();
    it.rig.crash_and_restart();
    assert_eq!(it.rig.read_all(it.rig.partition(0)).len() as i64, STORED + 1);
    assert_eq!(it.append(0, &batch(1)), Ok(STORED + 1));
}

#[test]
fn a_foreign_file_is_not_taken_for_one_that_replay_begins() {
    let mut rig = Rig::with(|plan| plan.partitions = 2);
    for _ in 0..STORED {
        for index in 0..2 {
            rig.produce_to(rig.partition(index), &batch_of(10_000));
            rig.complete_all();
        }
    }
    // No checkpoint knows the segments; the journal has all of their batches.
    let mut it = Replaced::of(rig);
    it.rig.crash_and_restart();
    it.check_untouched();
    assert!(it.append(0, &batch(1)).is_err());
    assert_eq!(it.append(1, &batch(1)), Ok(STORED));
    it.put_own();
    it.rig.crash_and_restart();
    assert_eq!(it.rig.read_all(it.rig.partition(0)).len() as i64, STORED);
}

#[test]
fn large_batches_are_not_written_to_a_foreign_file() {
    let mut it = Replaced::stopped(|_| {});
    it.rig.restart();
    assert_eq!(it.append(0, &batch_of(LARGE_BYTES)), Err(ErrorKind::StorageError));
    it.check_untouched();
    assert_eq!(it.append(1, &batch_of(LARGE_BYTES)), Ok(STORED));
    it.put_own();
    it.rig.crash_and_restart();
    assert_eq!(it.append(0, &batch_of(LARGE_BYTES)), Ok(STORED));
}

#[test]
fn what_can_not_be_kept_beside_a_foreign_file_refuses_the_start() {
    let mut it = Replaced::stopped(|_| {});
    it.put_own();
    it.rig.restart();
    // The reference to it is in the journal, the batch itself in the file that is gone.
    assert_eq!(it.append(0, &batch_of(LARGE_BYTES)), Ok(STORED));
    it.own = it.rig.disk.bytes_mut(it.file).to_vec();
    it.put_foreign();
    it.rig.disk.crash();
    for _ in 0..2 {
        let refused = it.rig.try_restart();
        assert!(matches!(refused, Err(StartError::Partition { shard: ShardId(0), .. })), "{refused:?}");
        assert!(it.rig.disk.bytes_mut(it.file) == it.foreign);
    }
    it.put_own();
    it.rig.restart();
    assert_eq!(it.rig.read_all(it.rig.partition(0)).len() as i64, STORED + 1);
}

#[test]
fn nothing_moves_to_other_shards_while_a_file_is_not_its_partitions() {
    let mut it = Replaced::with_more_in_the_journal();
    it.rig.disk.crash();
    for _ in 0..2 {
        let refused = it.rig.try_restart_with_shards(2);
        let Err(StartError::Partition { shard: ShardId(0), partition, why }) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(partition, it.rig.partition(0).to_string());
        assert!(why.contains(&it.file.to_string()) && why.contains("put the right file"), "{why}");
        assert!(it.rig.disk.bytes_mut(it.file) == it.foreign);
        let is_of_new_shard = |file| matches!(file, FileName::Journal { shard, .. } | FileName::Checkpoint { shard, .. } if shard.0 > 0);
        assert!(!it.rig.disk.names().any(is_of_new_shard), "nothing was written for the other shard");
    }
    it.put_own();
    it.rig.try_restart_with_shards(2).unwrap();
    for index in 0..2 {
        assert_eq!(it.rig.read_all(it.rig.partition(index)).len() as i64, STORED + 1);
        assert_eq!(it.append(index, &batch(1)), Ok(STORED + 1));
    }
}

#[test]
fn a_damaged_header_costs_nothing_and_is_told() {
    let mut it = Replaced::stopped(|_| {});
    it.put_own();
    it.rig.disk.bytes_mut(it.file)[100] ^= 1;
    it.rig.restart();
    assert_eq!(it.read(0).map(|offsets| offsets.len() as i64), Ok(STORED));
    assert_eq!(it.append(0, &batch(1)), Ok(STORED));
    assert_eq!((it.rig.seats[0].damages.len(), it.rig.seats[0].fences.len()), (1, 0));
}
