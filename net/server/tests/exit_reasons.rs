//! A node that can't start says why in one line, by what to do, and by its exit code.
#![allow(clippy::unwrap_used, reason = "tests")]

mod node;

use std::net::TcpListener;

use cutwater_server::{Config, ExitReason, StopHandle, serve};
use node::{Folder, Node};

fn fails(flags: &[(&str, String)]) -> (ExitReason, String) {
    let mut all = vec![("listen", "127.0.0.1:0".to_owned()), ("admin", "127.0.0.1:0".to_owned())];
    all.extend_from_slice(flags);
    let config = Config::load(None, [], &all).unwrap();
    let error = serve(&config, StopHandle::default()).unwrap_err();
    (ExitReason::of(&error), error.to_string())
}

#[test]
fn a_port_in_use_is_named() {
    let folder = Folder::new("port");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = ("data", folder.0.join("data").display().to_string());
    for key in ["listen", "admin"] {
        let (reason, text) = fails(&[data.clone(), (key, address.clone())]);
        assert_eq!(reason, ExitReason::Address);
        assert!(text.contains(&address) && text.contains("choose another port"), "{text}");
    }
}

#[test]
fn a_folder_that_another_node_holds_is_left_alone() {
    let folder = Folder::new("held");
    let node = Node::start(&folder, 1);
    let (reason, text) = fails(&[("data", folder.0.join("data").display().to_string())]);
    assert_eq!(reason, ExitReason::Locked);
    assert!(text.contains("another process holds it"), "{text}");
    assert!(node.get("/ready").starts_with("HTTP/1.1 200"));
    node.stop();
}

#[test]
fn a_file_where_the_folder_should_be_is_refused() {
    let folder = Folder::new("file");
    let path = folder.0.join("file");
    std::fs::write(&path, "no folder").unwrap();
    let (reason, text) = fails(&[("data", path.display().to_string())]);
    assert_eq!(reason, ExitReason::NotWritable);
    assert!(text.contains("file"), "{text}");
}

#[test]
fn lost_metadata_is_a_refusal_that_deletes_nothing() {
    let folder = Folder::new("lost");
    Node::start(&folder, 1).stop();
    let data = folder.0.join("data");
    std::fs::remove_file(data.join("metadata/log-0")).unwrap();
    std::fs::remove_file(data.join("metadata/log-1")).unwrap();
    let (reason, text) = fails(&[("data", data.display().to_string())]);
    assert_eq!(reason, ExitReason::Recovery);
    assert!(text.contains("restore one of them"), "{text}");
    assert!(data.join("journal/0/0000.journal").exists());
}

#[test]
fn lost_checkpoints_are_a_refusal_too() {
    let folder = Folder::new("checkpoints");
    Node::start(&folder, 1).stop();
    let data = folder.0.join("data");
    for copy in ["journal/0/checkpoint-0", "journal/0/checkpoint-1"] {
        std::fs::write(data.join(copy), vec![0xa5; 64 * 1024]).unwrap();
    }
    let (reason, text) = fails(&[("data", data.display().to_string())]);
    assert_eq!(reason, ExitReason::Recovery, "{text}");
}

#[test]
fn a_ready_file_that_cannot_be_written_stops_the_node() {
    let folder = Folder::new("ready");
    let (reason, text) = fails(&[
        ("data", folder.0.join("data").display().to_string()),
        ("shards", "1".to_owned()),
        ("ready_file", folder.0.join("missing/ready").display().to_string()),
    ]);
    assert_eq!(reason, ExitReason::Failed);
    assert!(text.contains("missing/ready"), "{text}");
}
