//! Names, counts and settings of topics (B87 to B98).

use cutwater_api::{CreateTopic, Request};
use cutwater_model::builder::Sequence;
use cutwater_model::topic::TopicConfig;
use cutwater_model::{ErrorKind, TopicId};
use cutwater_native::Answer;

use super::support::Folder;
use super::support::node::{Node, Start};
use super::support::raw::{Raw, batch_of, encode, partition};
use super::{Expect, Scene, check};

#[test]
fn names_that_cannot_be_and_settings_out_of_bounds_are_refused_and_leave_nothing_behind() {
    let mut scene = Scene::new("bad-names");
    let mut raw = scene.connect();
    let fine = TopicConfig::default();
    let kept = raw.create_topic("a_b", 3, fine);
    let long = "n".repeat(250);
    let create = |name: &str, partitions: u32, config: TopicConfig| {
        encode(&Request::CreateTopic(CreateTopic { name, partitions, config }))
    };

    let mut rows: Vec<(String, Vec<u8>, Expect)> = Vec::new();
    for name in [
        "",
        ".",
        "..",
        "../../etc/passwd",
        "a/b",
        "/",
        "a\\b",
        &long,
        "nul\0",
        "new\nline",
        "a space",
        "größe",
        "\u{202e}sdrawkcab",
        "%2e%2e",
        "\x1b[31m",
        "topic:1",
        "*",
        "a,b",
    ] {
        let expect = Expect::Code(ErrorKind::InvalidTopic);
        rows.push((format!("B87-B91: the name {name:?}"), create(name, 1, fine), expect));
    }
    let mut no_text = create("abc", 1, fine);
    let end = no_text.len();
    no_text[end - 2] = 0xff;
    rows.push(("B91: not UTF-8".into(), no_text, Expect::Code(ErrorKind::InvalidTopic)));
    for name in ["a_b", "a.b"] {
        let expect = Expect::Code(ErrorKind::TopicAlreadyExists);
        rows.push((format!("B92: {name}, and a_b exists"), create(name, 1, fine), expect));
    }
    for partitions in [0, 20_001, 10_000_000, i32::MAX as u32, u32::MAX] {
        let expect = Expect::Code(ErrorKind::InvalidPartitions);
        rows.push((format!("B94: {partitions} partitions"), create("c", partitions, fine), expect));
        let grown = encode(&Request::AddPartitions { topic: kept, partitions });
        rows.push((format!("B94: growth to {partitions} partitions"), grown, expect));
    }
    for partitions in [1, 3] {
        let grown = encode(&Request::AddPartitions { topic: kept, partitions });
        let expect = Expect::Code(ErrorKind::InvalidPartitions);
        rows.push((format!("B94: from 3 to {partitions} partitions"), grown, expect));
    }
    for segment_bytes in [0, 1, 65_535, 65_537, (1 << 30) + 4096, u32::MAX] {
        let config = TopicConfig { segment_bytes, ..fine };
        let expect = Expect::Code(ErrorKind::InvalidConfig);
        rows.push((format!("B97: segments of {segment_bytes} bytes"), create("c", 1, config), expect));
    }
    for batch_bytes_max in [0, 1, 1023, (8 << 20) + 1, u32::MAX] {
        let config = TopicConfig { batch_bytes_max, ..fine };
        let expect = Expect::Code(ErrorKind::InvalidConfig);
        rows.push((format!("B97: batches of {batch_bytes_max} bytes"), create("c", 1, config), expect));
    }
    for topic in [TopicId(0), TopicId(1), TopicId(u128::MAX)] {
        let expect = Expect::Code(ErrorKind::UnknownTopicId);
        rows.push((format!("deleting {topic}"), encode(&Request::DeleteTopic { topic }), expect));
        let grown = encode(&Request::AddPartitions { topic, partitions: 2 });
        rows.push((format!("growing {topic}"), grown, expect));
    }
    for (at, name) in [(16, "durability"), (17, "timestamp type")] {
        let mut frame = create("c", 1, fine);
        frame[at] = 9;
        rows.push((format!("an unknown {name}"), frame, Expect::CodeThenClose(ErrorKind::InvalidRequest)));
    }
    let mut lying = create("abc", 1, fine);
    lying[18] = 200;
    rows.push((
        "a name that says it is longer".into(),
        lying,
        Expect::CodeThenClose(ErrorKind::InvalidRequest),
    ));
    for (name, bytes, expect) in &rows {
        check(name, &mut scene.connect(), bytes, *expect);
        scene.probe.check(name);
    }

    let answer = raw.ask(&Request::Describe { names: vec![] });
    let cutwater_native::Answer::Topics(topics) = answer.answer() else { panic!("{answer:?}") };
    let names: Vec<_> = topics.topics.iter().map(|topic| topic.name.as_str()).collect();
    assert_eq!(names, ["a_b", "probe"]);
    assert_eq!(raw.end_of(partition(kept, 2)), Ok(0));
    // B89: nothing but the folders of these two topics, whatever the names were.
    let folders = std::fs::read_dir(scene.data().join("topics")).unwrap().count();
    assert!(folders <= 2, "{folders} folders of topics");
    scene.end();
}

/// The id of a deleted topic names nothing, as one that was never given, and a restart changes nothing about that: not even
/// one that comes before the deletion is through.
#[test]
fn the_id_of_a_deleted_topic_is_unknown_before_and_after_a_restart() {
    let folder = Folder::new("deleted-id");
    let data = folder.path().join("data");
    let how = Start { data: data.clone(), log: folder.path().join("node.log"), port: 0, shards: 2 };
    let mut node = Node::start(&how);
    let mut raw = Raw::connect(node.address());
    let fine = TopicConfig::default();
    let deleted = raw.create_topic("deleted", 4, fine);
    let batch = batch_of(&[b"gone"], Sequence::NONE);
    for index in 0..4 {
        assert_eq!(raw.produce(partition(deleted, index), &batch), Ok(0));
    }
    let answer = raw.ask(&Request::DeleteTopic { topic: deleted });
    assert!(matches!(answer.answer(), Answer::TopicDeleted(_)), "{answer:?}");
    let next = raw.create_topic("deleted", 4, fine);
    assert_ne!(next, deleted);
    let unknown_partition = ErrorKind::UnknownTopicOrPartition.code();
    let unknown_topic = ErrorKind::UnknownTopicId.code();
    for life in ["the same life", "after a kill", "after a stop"] {
        for topic in [deleted, TopicId(0xbad)] {
            for index in 0..4 {
                let gone = partition(topic, index);
                assert_eq!(raw.produce(gone, &batch), Err(unknown_partition), "{life}");
                assert_eq!(raw.fetch(gone, 0), Err(unknown_partition), "{life}");
                assert_eq!(raw.end_of(gone), Err(unknown_partition), "{life}");
            }
            assert_eq!(raw.ask(&Request::DeleteTopic { topic }).code, unknown_topic, "{life}");
            assert_eq!(
                raw.ask(&Request::AddPartitions { topic, partitions: 9 }).code,
                unknown_topic,
                "{life}"
            );
        }
        for index in 0..4 {
            assert!(raw.produce(partition(next, index), &batch).is_ok(), "{life}: the next of that name");
        }
        if life == "the same life" {
            node.kill();
            node = Node::start(&how);
        } else {
            node.stop();
            node = Node::start(&how);
            // A clean stop has let go of all there was: only the folders of the next topic are left.
            let topics: Vec<_> = std::fs::read_dir(data.join("topics")).unwrap().collect();
            assert_eq!(topics.len(), 1, "{topics:?}");
        }
        raw = Raw::connect(node.address());
    }
    let said = node.said();
    assert!(!said.contains("a job on files failed"), "{said}");
    node.stop();
}
