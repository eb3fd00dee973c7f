//! The data folder, the disk of recovery and the file thread against the real file system.

use core::time::Duration;
use std::os::fd::AsFd;
use std::sync::Arc;

use cutwater_model::storage::{Storage, StorageErrorKind};
use cutwater_model::{DirName, FileName, Offset, PartitionId, PartitionIndex, ShardId, TopicId};

use crate::test_folder::TestFolder;
use crate::{
    DataFolder, DiskStorage, Doorbell, FileDone, FileJob, FileThread, Ring, RingConfig, Token, Wait,
};

const JOURNAL: FileName = FileName::Journal { shard: ShardId(0), number: 0 };

fn segment(base: i64) -> FileName {
    let partition = PartitionId { topic: TopicId(5), index: PartitionIndex(1) };
    FileName::Segment { partition, base: Offset(base) }
}

fn storage(folder: &TestFolder) -> DiskStorage {
    DiskStorage::new(DataFolder::open(folder, Duration::ZERO).unwrap()).unwrap()
}

#[test]
fn bytes_written_are_read_back_at_any_place() {
    let folder = TestFolder::new();
    let mut disk = storage(&folder);
    disk.create(JOURNAL, 3 << 20).unwrap();
    assert_eq!(disk.length(JOURNAL), Ok(Some(3 << 20)));
    let bytes: Vec<u8> = (0..2 << 20).map(|n: u32| (n % 251) as u8).collect();
    disk.write(JOURNAL, 4096, &bytes).unwrap();
    disk.flush(JOURNAL).unwrap();
    let mut back = vec![1; bytes.len() + 100];
    assert_eq!(disk.read(JOURNAL, 4090, &mut back), Ok(back.len()));
    assert_eq!(&back[..6], &[0; 6]);
    assert_eq!(&back[6..6 + bytes.len()], &bytes[..]);
    let mut end = [9; 8192];
    assert_eq!(disk.read(JOURNAL, (3 << 20) - 100, &mut end), Ok(100));
    assert_eq!(disk.read(JOURNAL, 4 << 20, &mut end), Ok(0));
}

#[test]
fn files_of_any_length_are_written_and_flushed() {
    let folder = TestFolder::new();
    let mut disk = storage(&folder);
    disk.create(FileName::Node, 0).unwrap();
    disk.write(FileName::Node, 0, b"node = 1\n").unwrap();
    disk.flush(FileName::Node).unwrap();
    disk.flush_dir(DirName::Root).unwrap();
    let mut back = [0; 100];
    assert_eq!(disk.read(FileName::Node, 0, &mut back), Ok(9));
    assert_eq!(&back[..9], b"node = 1\n");
    disk.create(FileName::Node, 5000).unwrap();
    assert_eq!(disk.length(FileName::Node), Ok(Some(5000)), "a length that is no whole number of blocks");
}

#[test]
fn a_file_grows_by_zeros_and_keeps_what_it_has() {
    let folder = TestFolder::new();
    let mut disk = storage(&folder);
    disk.create(segment(0), 4096).unwrap();
    disk.write(segment(0), 0, &[7; 4096]).unwrap();
    disk.extend(segment(0), 65536).unwrap();
    disk.extend(segment(0), 4096).unwrap();
    let mut back = vec![1; 65536];
    assert_eq!(disk.read(segment(0), 0, &mut back), Ok(65536), "it never shrinks");
    assert!(back[..4096].iter().all(|&byte| byte == 7) && back[4096..].iter().all(|&byte| byte == 0));
}

#[test]
fn names_are_listed_sorted_changed_and_removed() {
    let folder = TestFolder::new();
    let mut disk = storage(&folder);
    assert_eq!(disk.list(DirName::Topics), Ok(Vec::new()), "a folder that is not there is empty");
    for base in [20, 3, 100] {
        disk.create(segment(base), 4096).unwrap();
    }
    disk.rename(segment(20), segment(7)).unwrap();
    let names = |disk: &mut DiskStorage| -> Vec<String> {
        disk.list(segment(0).dir()).unwrap().into_iter().map(|entry| entry.name).collect()
    };
    let all = names(&mut disk);
    assert_eq!(all, [3, 7, 100].map(|base| format!("{base:020}.log")));
    assert_eq!(disk.remove_dir(segment(0).dir()).unwrap_err().kind, StorageErrorKind::Other(libc::ENOTEMPTY));
    for base in [3, 7, 100] {
        disk.remove(segment(base)).unwrap();
    }
    disk.remove_dir(segment(0).dir()).unwrap();
    assert_eq!(disk.remove(segment(3)).unwrap_err().kind, StorageErrorKind::NotFound);
    disk.flush_all().unwrap();
}

#[test]
fn what_is_no_regular_file_is_refused() {
    let folder = TestFolder::new();
    let mut disk = storage(&folder);
    disk.create_dir(JOURNAL.dir()).unwrap();
    let path = disk.folder().path_of(JOURNAL);
    std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
    assert_eq!(disk.length(JOURNAL).unwrap_err().kind, StorageErrorKind::WrongType, "a link");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert_eq!(disk.length(JOURNAL).unwrap_err().kind, StorageErrorKind::WrongType, "a folder");
    assert!(disk.create(JOURNAL, 4096).is_err(), "a folder is not replaced");
    std::fs::remove_dir(&path).unwrap();
    let pipe = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: the path is a C string that outlives the call.
    assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
    assert_eq!(disk.length(JOURNAL).unwrap_err().kind, StorageErrorKind::WrongType, "a pipe");
    std::fs::rename(folder.join("journal"), folder.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", folder.join("journal")).unwrap();
    assert_eq!(disk.list(JOURNAL.dir()).unwrap_err().kind, StorageErrorKind::WrongType, "a link on the way");
}

#[test]
fn a_folder_has_one_owner() {
    let folder = TestFolder::new();
    let first = DataFolder::open(&folder, Duration::ZERO).unwrap();
    let refused = DataFolder::open(&folder, Duration::from_millis(30)).unwrap_err();
    assert_eq!(refused.kind, StorageErrorKind::Locked, "{refused}");
    let copy = first.clone();
    drop(first);
    assert!(DataFolder::open(&folder, Duration::ZERO).is_err(), "a clone holds it too");
    drop(copy);
    DataFolder::open(&folder, Duration::ZERO).unwrap();
}

#[test]
fn recovery_waits_for_the_writes_of_a_predecessor() {
    let folder = TestFolder::new();
    let held = DataFolder::open(&folder, Duration::ZERO).unwrap();
    DiskStorage::new(held.clone()).unwrap().create(JOURNAL, 4096).unwrap();
    let by_a_ring = held.open_file(JOURNAL).unwrap();
    let mut disk = DiskStorage::recovering(held.clone(), Duration::from_millis(30)).unwrap();
    assert_eq!(disk.length(JOURNAL).unwrap_err().kind, StorageErrorKind::Locked);
    drop(by_a_ring);
    assert_eq!(disk.length(JOURNAL), Ok(Some(4096)));
    held.open_file(JOURNAL).expect("a ring and the disk of recovery share a file");
}

/// Waits in a ring for jobs to end, as a pump does.
fn finished(ring: &mut Ring, bell: &Doorbell, client: &crate::FileClient, count: usize) -> Vec<FileDone> {
    let (mut done, mut completions) = (Vec::new(), Vec::new());
    while done.len() < count {
        bell.park();
        client.finished(&mut done);
        if done.len() < count {
            ring.enter(Wait::AtMost(Duration::from_secs(20)), &mut completions).unwrap();
            assert!(!completions.is_empty(), "nothing was finished for 20 s");
            completions.clear();
            bell.listen(ring, Token(0));
        }
        bell.unpark();
    }
    done
}

#[test]
fn the_file_thread_does_every_job_and_short_ones_overtake_slow_ones() {
    let folder = TestFolder::new();
    let held = DataFolder::open(&folder, Duration::ZERO).unwrap();
    let files = FileThread::start(held.clone()).unwrap();
    let bell = Arc::new(Doorbell::new().unwrap());
    let client = files.client(bell.clone());
    let mut ring = Ring::new(&RingConfig { receive_buffers: 0, ..RingConfig::small() }).unwrap();
    bell.listen(&mut ring, Token(0));
    let pooled = FileName::Pooled { shard: ShardId(0), number: 1 };
    client
        .submit(Token(1), FileJob::Create { file: pooled, bytes: 8 << 20, written: true, background: true });
    client.submit(Token(2), FileJob::CreateDir(segment(0).dir()));
    client.submit(Token(3), FileJob::FlushDir(DirName::Topics));
    let order: Vec<u64> = finished(&mut ring, &bell, &client, 3).iter().map(|done| done.token.0).collect();
    assert_eq!(order, [2, 3, 1]);
    client.submit(Token(4), FileJob::Rename { from: pooled, to: segment(0) });
    client.submit(Token(5), FileJob::Extend { file: segment(0), to: 9 << 20, written: true });
    client.submit(Token(6), FileJob::Open { file: segment(0) });
    for done in finished(&mut ring, &bell, &client, 3) {
        let opened = done.result.unwrap();
        assert_eq!(opened.is_some(), done.token == Token(6));
        if let Some(opened) = opened {
            assert_eq!(crate::disk_storage::length_of(&opened).unwrap() % (1 << 20), 0);
            let _ = opened.as_fd();
        }
    }
    let reserved = FileJob::Create { file: segment(9), bytes: 1 << 20, written: false, background: false };
    client.submit(Token(11), reserved);
    client.submit(Token(12), FileJob::Extend { file: segment(9), to: 3 << 20, written: false });
    client.submit(Token(13), FileJob::Extend { file: segment(9), to: 2 << 20, written: false });
    assert!(finished(&mut ring, &bell, &client, 3).iter().all(|done| done.result.is_ok()));
    assert_eq!(std::fs::metadata(held.path_of(segment(9))).unwrap().len(), 3 << 20);
    std::fs::remove_file(held.path_of(segment(9))).unwrap();
    let topic = segment(0).dir().parent().unwrap();
    client.submit(Token(14), FileJob::RemoveDir(topic));
    client.submit(Token(15), FileJob::RemoveDir(segment(0).dir()));
    let done = finished(&mut ring, &bell, &client, 2);
    assert!(done[0].result.is_ok(), "a topic's folder with a partition in it stays: {done:?}");
    let not_empty = StorageErrorKind::Other(libc::ENOTEMPTY);
    assert_eq!(done[1].result.as_ref().unwrap_err().kind, not_empty, "a partition's folder is to be empty");
    client.submit(Token(7), FileJob::Remove { file: segment(0) });
    client.submit(Token(8), FileJob::RemoveDir(segment(0).dir()));
    client.submit(Token(16), FileJob::RemoveDir(topic));
    client.submit(Token(17), FileJob::RemoveDir(topic));
    let done = finished(&mut ring, &bell, &client, 4);
    assert!(done.iter().all(|done| done.result.is_ok()), "the second of two shards finds it gone: {done:?}");
    assert!(!held.path_of(segment(0)).parent().unwrap().parent().unwrap().exists());
    client.submit(Token(7), FileJob::FlushAll);
    client.submit(Token(8), FileJob::FlushAll);
    client.submit(Token(9), FileJob::FlushAll);
    client.submit(Token(10), FileJob::Remove { file: segment(0) });
    let done = finished(&mut ring, &bell, &client, 4);
    assert!(done[..3].iter().all(|done| done.result.is_ok()), "{done:?}");
    assert_eq!(done[3].result.as_ref().unwrap_err().kind, StorageErrorKind::NotFound);
    assert!(!held.path_of(segment(0)).exists());
}

#[test]
fn the_space_of_a_removed_file_goes_though_somebody_holds_it_open() {
    let folder = TestFolder::new();
    let held = DataFolder::open(&folder, Duration::ZERO).unwrap();
    let files = FileThread::start(held.clone()).unwrap();
    DiskStorage::new(held.clone()).unwrap().create(segment(0), 9 << 20).unwrap();
    let opened = held.open_file(segment(0)).unwrap();
    let bell = Arc::new(Doorbell::new().unwrap());
    let client = files.client(bell.clone());
    client.submit(Token(1), FileJob::Remove { file: segment(0) });
    let mut lengths = vec![9 << 20];
    for _ in 0..20_000 {
        let length = crate::disk_storage::length_of(&opened).unwrap();
        if lengths.last() != Some(&length) {
            lengths.push(length);
        }
        if length == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(lengths.last(), Some(&0), "{lengths:?}");
    assert!(!held.path_of(segment(0)).exists());
}

#[test]
fn a_full_disk_is_told_and_gets_back_the_space_of_what_was_begun() {
    let folder = TestFolder::new();
    let path = std::ffi::CString::new(folder.to_str().unwrap()).unwrap();
    let mounted = std::thread::spawn(move || {
        // SAFETY: no memory is passed; the thread leaves the others' mounts, and its own go with it.
        if unsafe { libc::unshare(libc::CLONE_NEWNS | libc::CLONE_FS) } != 0 {
            return None;
        }
        let (kind, options) = (c"tmpfs".as_ptr(), c"size=4m".as_ptr().cast());
        // SAFETY: all strings are C strings that outlive the calls.
        let mounted = unsafe {
            let private = libc::MS_PRIVATE | libc::MS_REC;
            libc::mount(core::ptr::null(), c"/".as_ptr(), core::ptr::null(), private, core::ptr::null()) == 0
                && libc::mount(kind, path.as_ptr(), kind, 0, options) == 0
        };
        if !mounted {
            return None;
        }
        let folder = std::path::Path::new(std::ffi::OsStr::new(path.to_str().unwrap()));
        let held = DataFolder::open(folder, Duration::ZERO).unwrap();
        let mut disk = DiskStorage::new(held).unwrap();
        if disk.create(JOURNAL, 4096).is_err() {
            return None;
        }
        let refused = disk.create(segment(0), 8 << 20).unwrap_err();
        assert_eq!(refused.kind, StorageErrorKind::Full, "{refused}");
        assert_eq!(disk.length(segment(0)), Ok(None));
        disk.create(segment(0), 2 << 20).expect("the space is back");
        assert_eq!(disk.extend(segment(0), 8 << 20).unwrap_err().kind, StorageErrorKind::Full);
        assert_eq!(disk.length(segment(0)), Ok(Some(2 << 20)), "what was there stays");
        Some(())
    });
    if mounted.join().unwrap().is_none() {
        eprintln!("SKIPPED: a small file system in memory with O_DIRECT can't be mounted here");
    }
}
