//! A real node, driven by the binary as a user drives it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::process::Output;

use support::node::{Node, Start};
use support::{Folder, Random};

fn start(folder: &Folder) -> Node {
    Node::start(&Start {
        data: folder.path().join("data"),
        log: folder.path().join("node.log"),
        port: 0,
        shards: 2,
    })
}

fn good(output: &Output) -> &[u8] {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    &output.stdout
}

fn produce_and_consume(node: &Node, topic: &str, input: &[u8], produce: &[&str], consume: &[&str]) {
    good(&node.run(&[&["produce", topic], produce].concat(), input));
    let arguments = [&["consume", topic, "--from", "earliest", "--until-end"], consume].concat();
    let output = node.run(&arguments, b"");
    assert!(good(&output) == input, "{topic}: {} bytes came back for {}", output.stdout.len(), input.len());
}

#[test]
fn lines_come_back_byte_for_byte_also_after_a_restart() {
    let folder = Folder::new("round-trip");
    let node = start(&folder);
    let mut random = Random(0x11e5);
    let mut text = Vec::new();
    for number in 0..20_000_u64 {
        let bytes = random.below(200);
        text.extend((0..bytes).map(|_| random.below(255) as u8).filter(|&byte| byte != b'\n'));
        text.extend_from_slice(format!(" line {number}\n").as_bytes());
    }
    good(&node.run(&["topic", "create", "plain"], b""));
    produce_and_consume(&node, "plain", &text, &[], &[]);
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        good(&node.run(&["topic", "create", codec], b""));
        produce_and_consume(&node, codec, &text, &["--compression", codec], &["--fetch"]);
    }
    for (topic, input) in [
        ("empty", b"".as_slice()),
        ("newlines", b"\n\n\n"),
        ("unterminated", b"one\r\ntwo\nthree without an end"),
    ] {
        good(&node.run(&["topic", "create", topic], b""));
        produce_and_consume(&node, topic, input, &[], &[]);
    }
    node.stop();
    let node = start(&folder);
    let output = node.run(&["consume", "plain", "--from", "earliest", "--until-end"], b"");
    assert!(good(&output) == text, "after a restart {} bytes came back", output.stdout.len());
    node.stop();
}

#[test]
fn keys_offsets_limits_and_json_are_as_told() {
    let folder = Folder::new("keys");
    let node = start(&folder);
    good(&node.run(&["topic", "create", "t", "--partitions", "3"], b""));
    let lines: String = (0..300).map(|number| format!("key{}=value {number}\n", number % 10)).collect();
    good(&node.run(&["produce", "t", "--key-separator", "="], lines.as_bytes()));
    let all = node.run(&["consume", "t", "--from", "earliest", "--until-end", "--format", "json"], b"");
    let records: Vec<serde_json::Value> =
        String::from_utf8_lossy(good(&all)).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 300);
    for record in &records {
        let key = record["key"].as_str().unwrap();
        let partition = cutwater_model::partitioner::partition_of(key.as_bytes(), 3).0;
        assert_eq!(record["partition"], partition, "{record}");
    }
    let partition = records[0]["partition"].to_string();
    let of_one: Vec<_> =
        records.iter().filter(|record| record["partition"] == records[0]["partition"]).collect();
    let arguments = [
        "consume",
        "t",
        "--partition",
        &partition,
        "--from",
        "offset:5",
        "--max",
        "2",
        "--key-separator",
        "=",
    ];
    let two = node.run(&arguments, b"");
    let expected: String = of_one[5..7]
        .iter()
        .map(|it| format!("{}={}\n", it["key"].as_str().unwrap(), it["value"].as_str().unwrap()))
        .collect();
    assert_eq!(String::from_utf8_lossy(good(&two)), expected);
    node.stop();
}

#[test]
fn topics_are_made_shown_grown_and_removed() {
    let folder = Folder::new("topics");
    let node = start(&folder);
    let json = |arguments: &[&str]| -> serde_json::Value {
        let output = node.run(&[arguments, &["--output", "json"]].concat(), b"");
        serde_json::from_slice(good(&output)).unwrap()
    };
    assert_eq!(json(&["topic", "create", "a", "--partitions", "2"])["created"], true);
    assert_eq!(json(&["topic", "create", "a", "--if-not-exists"])["created"], false);
    assert_eq!(json(&["topic", "add-partitions", "a", "--partitions", "5"])["partitions"], 5);
    let described = json(&["topic", "describe", "a"]);
    assert_eq!(described[0]["partitions"], 5);
    assert_eq!(described[0]["durability"], "disk");
    assert_eq!(json(&["topic", "list"]).as_array().unwrap().len(), 1);
    assert_eq!(json(&["topic", "delete", "a"])["deleted"], true);
    assert_eq!(json(&["topic", "list"]).as_array().unwrap().len(), 0);

    for (arguments, words) in [
        (&["topic", "describe", "a"][..], "cutwater topic create a"),
        (&["topic", "create", "no/such"], "letters, digits"),
        (&["produce", "a", "--value", "x"], "cutwater topic create a"),
        (&["consume", "a"], "cutwater topic list"),
    ] {
        let output = node.run(arguments, b"");
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.starts_with("error: ") && text.contains(words), "{text}");
    }
    node.stop();
}

#[test]
fn without_a_node_a_command_fails_soon_and_says_what_to_do() {
    let output = std::process::Command::new(support::node::binary())
        .args(["topic", "list", "--server", "127.0.0.1:1", "--timeout", "5s"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("127.0.0.1:1") && text.contains("cutwater serve"), "{text}");
}
