//! The load generator against a real node: it drives, checks and tells the truth about what it missed.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::Value;
use support::Folder;
use support::node::{Node, Start};

fn bench(node: &Node, arguments: &[&str]) -> Value {
    let short = ["bench", "--duration", "300ms", "--warm-up", "50ms", "--json"];
    let output = node.run(&[&short, arguments].concat(), b"");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["verified"], &report["errors"]), (&Value::Bool(true), &Value::from(0)), "{report:#}");
    // How fast it went is not for a test to judge: on a busy machine a disk may stall for the whole of it.
    assert!(report["total"]["records"].as_u64().unwrap() > 0, "{report:#}");
    report
}

#[test]
fn every_mode_and_shape_runs_and_verifies_what_it_reads() {
    let folder = Folder::new("bench");
    let node = Node::start(&Start {
        data: folder.path().join("data"),
        log: folder.path().join("node.log"),
        port: 0,
        shards: 2,
    });
    for shape in ["rtt", "small", "batch100", "batch1k", "zstd"] {
        bench(&node, &["--shape", shape, "--topic", shape]);
    }
    for mode in ["end-to-end", "mixed"] {
        let report = bench(&node, &["--mode", mode, "--rate", "2000", "--partitions", "4", "--topic", mode]);
        assert_eq!(report["read_records"], report["total"]["records"], "{report:#}");
        if mode == "end-to-end" && report["latency_us"].is_object() {
            // Hundreds of records, in ns: only if one was taken for the other are they the same to the digit.
            assert!(report["ack_latency_us"].is_object(), "{report:#}");
            assert_ne!(report["ack_latency_us"], report["latency_us"], "{report:#}");
        }
    }
    for route in ["owner", "other"] {
        let numbered = ["--idempotent", "--partitions", "4", "--connections", "4", "--topic", "numbered"];
        bench(&node, &[&numbered[..], &["--route", route]].concat());
    }
    let refused = node.run(&["bench", "--idempotent", "--shape", "zstd"], b"");
    assert!(!refused.status.success(), "what is compressed before the run can't be numbered");
    let replay = ["--shape", "replay", "--replay-bytes", "4MiB", "--topic", "replay"];
    assert!(bench(&node, &replay)["latency_us"].is_null());
    for route in ["owner", "other", "any"] {
        bench(&node, &["--route", route, "--partitions", "4", "--connections", "4", "--topic", "routes"]);
    }
    bench(
        &node,
        &["--keys", "10", "--topics", "2", "--partitions", "3", "--topic", "keyed", "--delete-topic"],
    );

    let hgrm = folder.path().join("latency.hgrm");
    let page = folder.path().join("latency.html");
    let pid = std::process::id().to_string();
    let files = ["--hgrm", hgrm.to_str().unwrap(), "--report", page.to_str().unwrap()];
    let costs = ["--data", folder.path().to_str().unwrap(), "--server-pid", &pid];
    let report = bench(&node, &[&files[..], &costs].concat());
    assert!(std::fs::read_to_string(hgrm).unwrap().contains("Total count"));
    assert!(std::fs::read_to_string(page).unwrap().contains("<svg"));
    assert!(report["cost"]["server_cpu_s"].is_number(), "{report:#}");
    node.stop();
}

#[test]
fn a_rate_that_is_missed_has_no_latency() {
    let folder = Folder::new("missed");
    let node = Node::start(&Start {
        data: folder.path().join("data"),
        log: folder.path().join("node.log"),
        port: 0,
        shards: 1,
    });
    let report = bench(&node, &["--rate", "1000000000", "--connections", "1", "--in-flight", "1"]);
    assert!(report["latency_us"].is_null(), "{report:#}");
    assert!(report["missed"].as_str().unwrap().starts_with("missed: 0.0%"), "{report:#}");
    node.stop();
}
