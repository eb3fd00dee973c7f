//! A node with many partitions is killed under load: it serves again soon, and all it acknowledged is there.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::{Duration, Instant};

use cutwater_client::Client;
use cutwater_model::topic::TopicConfig;

use support::checker::Checker;
use support::load::Load;
use support::node::{Node, Start, free_port};
use support::{Folder, say, seed};

const PARTITIONS: u32 = 1000;
const PRODUCERS: u32 = 2;
const TOPIC: &str = "many";
/// Far more than it takes, on any machine.
const SERVES_AGAIN_MAX: Duration = Duration::from_secs(30);
const LOAD_MAX: Duration = Duration::from_secs(60);

#[test]
fn a_thousand_partitions_killed_under_load_serve_again_with_all_that_was_acknowledged() {
    let seed = seed();
    say(&format!("restart: CRASH_SEED={seed}"));
    let folder = Folder::new("restart");
    let how = Start {
        data: folder.path().join("data"),
        log: folder.path().join("node.log"),
        port: free_port(),
        shards: 2,
    };
    let mut node = Node::start(&how);
    // Small segments: each partition takes its space on the disk when it is first written to.
    let config = TopicConfig { segment_bytes: 1 << 20, ..TopicConfig::default() };
    Client::new(&how.client()).unwrap().create_topic(TOPIC, PARTITIONS, config).unwrap();
    let load = Load::start(&how.client(), TOPIC, seed, (PRODUCERS, PARTITIONS), false);
    let mut checker = Checker::new(seed, TOPIC, &how.client(), PRODUCERS, PARTITIONS);
    let mut acks = Vec::new();
    let begun = Instant::now();
    while acks.len() < 3 * PARTITIONS as usize {
        assert!(begun.elapsed() < LOAD_MAX, "only {} acknowledgements", acks.len());
        std::thread::sleep(Duration::from_millis(5));
        acks.extend(load.take_acks());
    }
    node.kill();
    acks.extend(load.take_acks());
    let killed = Instant::now();
    node = Node::start(&how);
    let took = killed.elapsed();
    say(&format!(
        "restart: {PARTITIONS} partitions, {} acknowledged records, serves again after {} ms",
        acks.len(),
        took.as_millis()
    ));
    assert!(took < SERVES_AGAIN_MAX, "it took {took:?}");
    checker.check(acks, &load);
    let (sent, acks) = load.finish();
    checker.check_all(&sent, acks);
    node.stop();
}
