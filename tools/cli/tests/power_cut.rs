//! The power goes out under load, again and again (`POWER_CUTS`, 50 unless said): the node's data lies on an ext4 file
//! system of its own on a loop device, which is shut down without flushing its log (EXT4_IOC_SHUTDOWN). Whatever was
//! not flushed is gone then. Needs root and loop devices; skipped with a loud line without.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::thread;
use std::time::{Duration, Instant};

use cutwater_client::Client;
use cutwater_model::topic::TopicConfig;

use support::checker::Checker;
use support::load::Load;
use support::loop_disk::LoopDisk;
use support::node::{Node, Start, free_port};
use support::{Folder, Random, count_from, say, seed};

const PRODUCERS: u32 = 2;
const PARTITIONS: u32 = 3;
const TOPIC: &str = "survivors";
const DISK_BYTES: u64 = 6 << 30;

#[test]
fn a_power_cut_under_load_loses_nothing_that_was_acknowledged() {
    let cuts = count_from("POWER_CUTS", 50);
    let seed = seed();
    let folder = Folder::new("power-cut");
    let disk = match LoopDisk::new(folder.path(), DISK_BYTES) {
        Ok(disk) => disk,
        Err(why) => {
            say(&format!("!!! SKIPPED: power cuts by a shut down file system on a loop device: {why}"));
            return;
        }
    };
    say(&format!("power cut: {cuts} cuts, CRASH_SEED={seed}"));
    let mut random = Random(seed);
    let how = Start {
        data: disk.mount.join("data"),
        log: folder.path().join("node.log"),
        port: free_port(),
        shards: 2,
    };
    let mut node = Node::start(&how);
    let config = TopicConfig { segment_bytes: 16 << 20, ..TopicConfig::default() };
    Client::new(&how.client()).unwrap().create_topic(TOPIC, PARTITIONS, config).unwrap();
    let load = Load::start(&how.client(), TOPIC, seed, (PRODUCERS, PARTITIONS), true);
    let mut checker = Checker::new(seed, TOPIC, &how.client(), PRODUCERS, PARTITIONS);
    let started = Instant::now();
    for cut in 1..=cuts {
        thread::sleep(Duration::from_millis(100 + random.below(900)));
        disk.shut_down();
        // A while without a disk: nothing may be acknowledged that isn't there afterwards.
        thread::sleep(Duration::from_millis(random.below(50)));
        node.put_out();
        let acks = load.take_acks();
        disk.remount();
        node = Node::start(&how);
        checker.check(acks, &load);
        if cut % 10 == 0 || cut == cuts {
            let (records, acked) = (checker.records(), checker.acked);
            let seconds = started.elapsed().as_secs();
            say(&format!("power cut: {cut} cuts done, {records} records, {acked} acknowledged, {seconds} s"));
        }
    }
    let (sent, acks) = load.finish();
    checker.check_all(&sent, acks);
    node.stop();
}
