//! A real node is killed under load, again and again (`CRASH_LIVES`, 50 unless said). Nothing that was acknowledged, or
//! read, may be lost, doubled, reordered or changed.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::thread;
use std::time::{Duration, Instant};

use cutwater_client::Client;
use cutwater_model::topic::TopicConfig;

use support::checker::Checker;
use support::load::Load;
use support::node::{Node, Start, free_port};
use support::{Folder, Random, count_from, say, seed};

const PRODUCERS: u32 = 3;
const PARTITIONS: u32 = 4;
const TOPIC: &str = "survivors";

#[test]
fn kill_9_under_load_loses_doubles_and_reorders_nothing() {
    let lives = count_from("CRASH_LIVES", 50);
    let seed = seed();
    say(&format!("kill -9: {lives} lives, CRASH_SEED={seed}"));
    let mut random = Random(seed);
    let folder = Folder::new("kill");
    let how = Start {
        data: folder.path().join("data"),
        log: folder.path().join("node.log"),
        port: free_port(),
        shards: 2,
    };
    let mut node = Node::start(&how);
    // Segments small enough that some fill up, roll and are recycled in between.
    let config = TopicConfig { segment_bytes: 16 << 20, ..TopicConfig::default() };
    Client::new(&how.client()).unwrap().create_topic(TOPIC, PARTITIONS, config).unwrap();
    let load = Load::start(&how.client(), TOPIC, seed, (PRODUCERS, PARTITIONS), false);
    let mut checker = Checker::new(seed, TOPIC, &how.client(), PRODUCERS, PARTITIONS);
    let started = Instant::now();
    for life in 1..=lives {
        thread::sleep(Duration::from_millis(100 + random.below(1100)));
        node.kill();
        // Now and then the next life is cut short as well, while it recovers or has just begun.
        if random.below(5) == 0 {
            let mut short = Node::start(&how);
            thread::sleep(Duration::from_millis(random.below(50)));
            short.kill();
        }
        let acks = load.take_acks();
        node = Node::start(&how);
        checker.check(acks, &load);
        if life % 10 == 0 || life == lives {
            let (records, acked) = (checker.records(), checker.acked);
            let seconds = started.elapsed().as_secs();
            say(&format!("kill -9: {life} lives done, {records} records, {acked} acknowledged, {seconds} s"));
        }
    }
    let (sent, acks) = load.finish();
    checker.check_all(&sent, acks);
    assert!(checker.records() > 100 * lives as usize, "there was hardly any load: {}", checker.records());
    node.stop();
}
