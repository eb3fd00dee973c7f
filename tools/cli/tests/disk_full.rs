//! A disk that is full: appends are refused as something to try again, reads and deletes go on, and when there is room
//! again appends go on without a restart. Needs root and loop devices; skipped with a loud line without.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use cutwater_api::Request;
use cutwater_model::builder::Sequence;
use cutwater_model::topic::TopicConfig;
use cutwater_model::{ErrorKind, PartitionId};

use support::loop_disk::LoopDisk;
use support::node::{Node, Start};
use support::raw::{Raw, batch_of, partition};
use support::{Folder, say};

const DISK_BYTES: u64 = 768 << 20;
/// What is left for topics once the node serves and the ballast lies.
const LEFT_BYTES: u64 = 48 << 20;
const VALUE_BYTES: usize = 200_000;
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_full_disk_refuses_appends_for_a_while_and_nothing_else() {
    let folder = Folder::new("disk-full");
    let disk = match LoopDisk::new(folder.path(), DISK_BYTES) {
        Ok(disk) => disk,
        Err(why) => {
            say(&format!("!!! SKIPPED: a full disk, by a small file system on a loop device: {why}"));
            return;
        }
    };
    let data = disk.mount.join("data");
    let log = folder.path().join("node.log");
    let how = Start { data: data.clone(), log, port: 0, shards: 1 };
    let mut node = Node::start(&how);
    let mut raw = Raw::connect(node.address());
    let config = TopicConfig { segment_bytes: 4 << 20, ..TopicConfig::default() };
    let here = partition(raw.create_topic("full", 1, config), 0);
    let deleted = raw.create_topic("deleted", 1, config);
    append(&mut raw, partition(deleted, 0), 0).unwrap();
    append(&mut raw, here, 0).unwrap();
    wait_for("the journal's files", || {
        free_bytes(&disk.mount) < DISK_BYTES - 2 * (64 << 20) && journals(&data) >= 3
    });
    let ballast = Ballast::lay(&disk.mount);

    let mut count = 1;
    let code = loop {
        match append(&mut raw, here, count) {
            Ok(()) => count += 1,
            Err(code) => break code,
        }
        assert!(count < 4000, "the disk does not become full");
    };
    assert_eq!(code, ErrorKind::DiskFull.code(), "after {count} appends");
    assert!(ErrorKind::DiskFull.is_retriable());
    say(&format!("disk full: after {count} appends of {VALUE_BYTES} bytes"));

    check_reads(&mut raw, here, count);
    assert!(append(&mut raw, here, count).is_err(), "it is still full");
    // A topic is deleted all the same.
    let answer = raw.ask(&Request::DeleteTopic { topic: deleted });
    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(raw.end_of(partition(deleted, 0)).is_err());
    check_reads(&mut raw, here, count);

    drop(ballast);
    wait_for("appends to go on", || append(&mut raw, here, count).is_ok());
    count += 1;
    for _ in 0..50 {
        append(&mut raw, here, count).unwrap();
        count += 1;
    }
    assert!(node.is_running());
    check_reads(&mut raw, here, count);

    // B156: full at the start. It serves reads and deletes, and appends what the journal has room for.
    let ballast = Ballast::lay(&disk.mount);
    node.kill();
    node = Node::start(&how);
    let mut raw = Raw::connect(node.address());
    check_reads(&mut raw, here, count);
    drop(ballast);
    wait_for("appends to go on after the restart", || append(&mut raw, here, count).is_ok());
    count += 1;
    check_reads(&mut raw, here, count);
    node.stop();
}

fn value(number: i64) -> Vec<u8> {
    let mut value = vec![number as u8; VALUE_BYTES];
    value[..8].copy_from_slice(&number.to_le_bytes());
    value
}

fn append(raw: &mut Raw, to: PartitionId, number: i64) -> Result<(), i16> {
    let offset = raw.produce(to, &batch_of(&[&value(number)], Sequence::NONE))?;
    assert_eq!(offset, number, "offsets are dense");
    Ok(())
}

fn check_reads(raw: &mut Raw, from: PartitionId, count: i64) {
    let records = raw.records(from);
    assert_eq!(records.len() as i64, count);
    for (number, (offset, found)) in records.iter().enumerate() {
        assert!(*offset == number as i64 && *found == value(number as i64), "record {number}");
    }
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited too long for {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn journals(data: &Path) -> usize {
    fs::read_dir(data.join("journal/0"))
        .into_iter()
        .flatten()
        .filter(|entry| {
            let entry = entry.as_ref().unwrap();
            entry.path().extension().is_some_and(|it| it == "journal")
                && entry.metadata().is_ok_and(|it| it.len() >= 64 << 20)
        })
        .count()
}

fn free_bytes(mount: &Path) -> u64 {
    let output = Command::new("stat").args(["-f", "-c", "%a %S"]).arg(mount).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().map(|number| number.parse::<u64>().unwrap()).product()
}

/// A file that takes the room.
struct Ballast(PathBuf);

impl Ballast {
    fn lay(mount: &Path) -> Self {
        let path = mount.join("ballast");
        let bytes = free_bytes(mount).saturating_sub(LEFT_BYTES);
        let laid =
            Command::new("fallocate").args(["-l", &bytes.max(1).to_string()]).arg(&path).status().unwrap();
        assert!(laid.success());
        Self(path)
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}
