use cutwater_model::storage::Storage;
use cutwater_model::{PartitionId, ShardId};

use super::*;

const JOURNAL: FileName = FileName::Journal { shard: ShardId(0), number: 0 };
const FREE: FileName = FileName::Pooled { shard: ShardId(0), number: 1 };

fn segment() -> FileName {
    FileName::Segment { partition: PartitionId::default(), base: cutwater_model::Offset(0) }
}

fn disk() -> Disk {
    let mut disk = Disk::new(Device::WriteThrough, 1 << 20, 1);
    disk.create(JOURNAL, 16 * 4096).unwrap();
    disk.flush_all().unwrap();
    disk
}

fn write(disk: &mut Disk, at: u64, byte: u8, blocks: usize, durable: bool) {
    let op = Op::Write { file: JOURNAL, at, bytes: vec![byte; blocks * 4096], durable };
    let token = disk.submit(op);
    disk.finish(token).unwrap();
}

fn first_byte(disk: &mut Disk, file: FileName, at: u64) -> Option<u8> {
    let mut byte = [0];
    match disk.read(file, at, &mut byte) {
        Ok(1) => Some(byte[0]),
        _ => None,
    }
}

#[test]
fn only_a_durable_write_survives_the_cache() {
    let mut disk = disk();
    write(&mut disk, 0, 1, 1, false);
    write(&mut disk, 4096, 2, 1, true);
    assert_eq!(first_byte(&mut disk, JOURNAL, 0), Some(1));
    disk.cut_power(&Fates::all(Fate::Drop));
    assert_eq!(first_byte(&mut disk, JOURNAL, 0), Some(0));
    assert_eq!(first_byte(&mut disk, JOURNAL, 4096), Some(2));
}

#[test]
fn a_flush_covers_one_file_and_what_was_done_before_it() {
    let mut disk = disk();
    disk.create(FREE, 4096).unwrap();
    disk.flush_all().unwrap();
    disk.write(FREE, 0, &[7; 4096]).unwrap();
    write(&mut disk, 0, 1, 1, false);
    let sync = disk.submit(Op::Sync { file: JOURNAL });
    write(&mut disk, 4096, 2, 1, false);
    disk.finish(sync).unwrap();
    disk.cut_power(&Fates::all(Fate::Drop));
    assert_eq!(first_byte(&mut disk, JOURNAL, 0), Some(1));
    assert_eq!(first_byte(&mut disk, JOURNAL, 4096), Some(0));
    assert_eq!(first_byte(&mut disk, FREE, 0), Some(0));
}

#[test]
fn one_cache_is_flushed_whole() {
    let mut disk = disk();
    disk.device = Device::WholeCache;
    write(&mut disk, 0, 1, 1, false);
    write(&mut disk, 4096, 2, 1, true);
    disk.cut_power(&Fates::all(Fate::Drop));
    assert_eq!(first_byte(&mut disk, JOURNAL, 0), Some(1));
}

#[test]
fn a_torn_write_mixes_sectors_of_both() {
    let mut seen = [false; 2];
    for seed in 0..40 {
        let mut disk = disk();
        write(&mut disk, 0, 1, 2, false);
        disk.cut_power(&Fates::all(Fate::Torn(seed)));
        let mut bytes = vec![0; 8192];
        disk.read(JOURNAL, 0, &mut bytes).unwrap();
        for sector in bytes.chunks(SECTOR_BYTES) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is whole");
            seen[usize::from(sector[0])] = true;
        }
    }
    assert_eq!(seen, [true, true]);
}

#[test]
fn a_name_lasts_once_its_folders_are_flushed() {
    let mut disk = disk();
    disk.create(FREE, 4096).unwrap();
    disk.create_dir(segment().dir()).unwrap();
    disk.flush_all().unwrap();
    disk.rename(FREE, segment()).unwrap();
    disk.flush_dir(FREE.dir()).unwrap();
    let mut lost = disk.clone();
    lost.cut_power(&Fates::all(Fate::Drop));
    assert_eq!(lost.length(FREE), Ok(Some(4096)), "one folder is not enough");
    disk.flush_dir(segment().dir()).unwrap();
    disk.cut_power(&Fates::all(Fate::Drop));
    assert_eq!((disk.length(FREE), disk.length(segment())), (Ok(None), Ok(Some(4096))));
}

#[test]
fn what_is_under_way_may_land_after_a_kill_or_not() {
    let mut landed = [0; 2];
    for seed in 0..40 {
        let mut disk = disk();
        disk.random = Random::new(seed);
        disk.submit(Op::Write { file: JOURNAL, at: 0, bytes: vec![9; 4096], durable: true });
        disk.kill();
        assert_eq!(disk.in_flight(), 0);
        landed[usize::from(first_byte(&mut disk, JOURNAL, 0) == Some(9))] += 1;
    }
    assert!(landed[0] > 0 && landed[1] > 0, "{landed:?}");
}

#[test]
fn a_failed_flush_leaves_its_bytes_in_doubt_for_ever() {
    let mut disk = disk();
    let journal_write_error_one_in = 1;
    write(&mut disk, 0, 5, 1, false);
    disk.set_faults(Faults { journal_write_error_one_in, ..Faults::default() });
    let sync = disk.submit(Op::Sync { file: JOURNAL });
    assert!(disk.finish(sync).is_err());
    disk.set_faults(Faults::default());
    disk.flush(JOURNAL).unwrap();
    disk.cut_power(&Fates::all(Fate::Drop));
    assert_eq!(first_byte(&mut disk, JOURNAL, 0), Some(0));
}

#[test]
fn space_is_counted_and_reserved_space_reads_as_zeros() {
    let mut disk = disk();
    disk.set_capacity(disk.used_bytes() + 8192);
    let create = disk.submit(Op::Create { file: FREE, bytes: 8192, written: false });
    disk.finish(create).unwrap();
    let extend = disk.submit(Op::Extend { file: FREE, to: 12288 });
    assert_eq!(disk.finish(extend), Err(cutwater_model::storage::StorageErrorKind::Full));
    assert_eq!(first_byte(&mut disk, FREE, 0), Some(0));
    let reserved = FileName::Journal { shard: ShardId(0), number: 7 };
    disk.set_capacity(1 << 20);
    let create = disk.submit(Op::Create { file: reserved, bytes: 4096, written: false });
    disk.finish(create).unwrap();
    disk.submit(Op::Write { file: reserved, at: 0, bytes: vec![1; 4096], durable: true });
    assert_eq!(disk.take_violations(), [Violation::DurableIntoReserved(reserved, 0)]);
    disk.remove(reserved).unwrap();
    disk.remove(FREE).unwrap();
    disk.kill();
    disk.flush_all().unwrap();
    disk.forget_unreachable();
    assert_eq!(disk.used_bytes(), 16 * 4096);
}

#[test]
fn writes_over_each_other_are_told() {
    let mut disk = disk();
    disk.submit(Op::Write { file: JOURNAL, at: 0, bytes: vec![1; 8192], durable: true });
    disk.submit(Op::Write { file: JOURNAL, at: 4096, bytes: vec![2; 4096], durable: true });
    assert_eq!(disk.take_violations(), [Violation::OverlappingWrites(JOURNAL, 4096)]);
}

#[test]
fn a_process_dies_in_the_call_that_was_chosen() {
    let mut disk = disk();
    disk.set_calls_left(Some(2));
    assert!(disk.write(JOURNAL, 0, &[1; 4096]).is_ok());
    assert!(!disk.is_dead());
    assert!(disk.write(JOURNAL, 4096, &[1; 4096]).is_err());
    assert!(disk.is_dead());
    disk.kill();
    assert_eq!(first_byte(&mut disk, JOURNAL, 4096), Some(0));
    assert_eq!(first_byte(&mut disk, JOURNAL, 0), Some(1), "the cache outlives the process");
}
