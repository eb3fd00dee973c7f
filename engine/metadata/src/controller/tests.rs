//! What commands do, what they refuse, and that every crash leaves the metadata as it was or as it was to be.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec;

use cutwater_model::{ErrorKind, PartitionId, PartitionIndex};

use super::*;
use crate::open::OpenReport;
use crate::test_disk::TestDisk;

const ME: Identity = Identity { cluster: 0x77, node: 1 };

fn open(disk: &mut TestDisk, shards: u16) -> Controller {
    Controller::open(disk, Some(ME), ME, shards).unwrap().0
}

fn create(
    controller: &mut Controller,
    disk: &mut TestDisk,
    name: &str,
    partitions: u32,
    id: u128,
) -> TopicId {
    let command = Command::CreateTopic { name, partitions, config: TopicConfig::default() };
    assert_eq!(
        controller.apply(disk, &command, TopicId(id)),
        Ok(Outcome::TopicCreated(TopicId(id))),
        "{name}"
    );
    TopicId(id)
}

#[test]
fn what_was_applied_is_there_after_a_restart() {
    let mut disk = TestDisk::default();
    let mut controller = open(&mut disk, 3);
    let first = create(&mut controller, &mut disk, "first", 4, 1);
    let second = create(&mut controller, &mut disk, "second", 3, 2);
    let config = TopicConfig { segment_bytes: 4 << 20, ..TopicConfig::default() };
    let command = Command::CreateTopic { name: "third", partitions: 1, config };
    controller.apply(&mut disk, &command, TopicId(3)).unwrap();
    controller
        .apply(&mut disk, &Command::AddPartitions { topic: second, partitions: 5 }, TopicId(0))
        .unwrap();
    controller.apply(&mut disk, &Command::DeleteTopic { topic: first }, TopicId(0)).unwrap();
    let image = Arc::clone(controller.image());
    assert_eq!(image.topics().map(|topic| topic.name.as_str()).collect::<Vec<_>>(), ["second", "third"]);
    assert_eq!((image.topic_count(), image.partition_count()), (2, 6));
    assert_eq!(image.topic_by_name("third").unwrap().config, config);
    assert!(image.is_tombstone(first) && image.topic(first).is_none());
    assert_eq!(open(&mut disk, 3).image(), &image);
}

#[test]
fn partitions_go_round_the_shards_and_are_placed_anew_for_another_number() {
    let mut disk = TestDisk::default();
    let mut controller = open(&mut disk, 3);
    let first = create(&mut controller, &mut disk, "a", 2, 1);
    let second = create(&mut controller, &mut disk, "b", 3, 2);
    let shards = |controller: &Controller, topic: TopicId| {
        let placement = &controller.image().topic(topic).unwrap().placement;
        placement.iter().map(|shard| shard.0).collect::<Vec<_>>()
    };
    assert_eq!((shards(&controller, first), shards(&controller, second)), (vec![0, 1], vec![2, 0, 1]));
    controller.apply(&mut disk, &Command::AddPartitions { topic: first, partitions: 4 }, TopicId(0)).unwrap();
    assert_eq!(shards(&controller, first), [0, 1, 2, 0]);
    let partition = |index| PartitionId { topic: first, index: PartitionIndex(index) };
    assert_eq!(controller.image().shard_of(partition(3)), Some(ShardId(0)));
    assert_eq!(controller.image().shard_of(partition(4)), None);

    let (controller, report) = Controller::open(&mut disk, Some(ME), ME, 2).unwrap();
    assert_eq!(report.shards_before, Some(3));
    assert_eq!((shards(&controller, first), shards(&controller, second)), (vec![0, 1, 0, 1], vec![0, 1, 0]));
    assert_eq!(Controller::open(&mut disk, None, ME, 2).unwrap().1, OpenReport::default());
}

#[test]
fn what_can_not_be_is_refused_and_changes_nothing() {
    let mut disk = TestDisk::default();
    let mut controller = open(&mut disk, 2);
    create(&mut controller, &mut disk, "a.b", 1, 1);
    let long = "x".repeat(250);
    let bad = TopicConfig { batch_bytes_max: 1, ..TopicConfig::default() };
    let (before, writes) = (Arc::clone(controller.image()), disk.writes);
    let make = |name, partitions, config| Command::CreateTopic { name, partitions, config };
    let fine = TopicConfig::default();
    let unknown = TopicId(99);
    let cases = [
        (make("a.b", 1, fine), 2, ErrorKind::TopicAlreadyExists),
        (make("a_b", 1, fine), 2, ErrorKind::TopicAlreadyExists),
        (make("", 1, fine), 2, ErrorKind::InvalidTopic),
        (make("..", 1, fine), 2, ErrorKind::InvalidTopic),
        (make("a/b", 1, fine), 2, ErrorKind::InvalidTopic),
        (make(&long, 1, fine), 2, ErrorKind::InvalidTopic),
        (make("c", 0, fine), 2, ErrorKind::InvalidPartitions),
        (make("c", PARTITIONS_PER_TOPIC_MAX + 1, fine), 2, ErrorKind::InvalidPartitions),
        (make("c", 1, bad), 2, ErrorKind::InvalidConfig),
        (make("c", 1, fine), 1, ErrorKind::StorageError),
        (Command::DeleteTopic { topic: unknown }, 2, ErrorKind::UnknownTopicId),
        (Command::AddPartitions { topic: unknown, partitions: 2 }, 2, ErrorKind::UnknownTopicId),
        (Command::AddPartitions { topic: TopicId(1), partitions: 1 }, 2, ErrorKind::InvalidPartitions),
        (Command::AddPartitions { topic: TopicId(1), partitions: u32::MAX }, 2, ErrorKind::InvalidPartitions),
    ];
    for (command, id, kind) in cases {
        let error = controller.apply(&mut disk, &command, TopicId(id)).unwrap_err();
        assert_eq!(error.kind(), kind, "{command:?}: {error}");
    }
    assert_eq!((controller.image(), disk.writes), (&before, writes));
    let collides = controller.apply(&mut disk, &make("a_b", 1, fine), TopicId(2)).unwrap_err();
    assert_eq!(collides, ApplyError::Collides { name: "a_b".into(), existing: "a.b".into() });
}

#[test]
fn the_node_takes_no_more_partitions_than_it_can_have() {
    let mut disk = TestDisk::default();
    let mut controller = open(&mut disk, 2);
    for topic in 0..PARTITIONS_PER_NODE_MAX / PARTITIONS_PER_TOPIC_MAX {
        let name = format!("topic-{topic}");
        create(&mut controller, &mut disk, &name, PARTITIONS_PER_TOPIC_MAX, u128::from(topic) + 1);
    }
    let one_more = Command::CreateTopic { name: "more", partitions: 1, config: TopicConfig::default() };
    assert_eq!(controller.apply(&mut disk, &one_more, TopicId(99)), Err(ApplyError::NodeFull));
    assert_eq!(open(&mut disk, 2).image().partition_count(), PARTITIONS_PER_NODE_MAX);
}

#[test]
fn a_deleted_id_is_never_used_again_until_every_shard_is_past_it() {
    let mut disk = TestDisk::default();
    let mut controller = open(&mut disk, 2);
    let topic = create(&mut controller, &mut disk, "t", 1, 1);
    let gone = |shard| Command::TopicGone { topic, shard: ShardId(shard) };
    controller.apply(&mut disk, &gone(0), TopicId(0)).unwrap();
    assert!(!controller.image().is_tombstone(topic), "a topic that is there has no tombstone");
    controller.apply(&mut disk, &Command::DeleteTopic { topic }, TopicId(0)).unwrap();
    let again = Command::CreateTopic { name: "t", partitions: 1, config: TopicConfig::default() };
    assert_eq!(controller.apply(&mut disk, &again, topic), Err(ApplyError::IdInUse(topic)));
    assert_eq!(controller.apply(&mut disk, &again, TopicId(2)), Ok(Outcome::TopicCreated(TopicId(2))));
    for _ in 0..2 {
        controller.apply(&mut disk, &gone(1), TopicId(0)).unwrap();
        assert!(controller.image().is_tombstone(topic), "shard 0 has not said so yet");
    }
    // A restart forgets who said so: they say it again.
    let mut controller = open(&mut disk, 2);
    controller.apply(&mut disk, &gone(0), TopicId(0)).unwrap();
    assert!(controller.image().is_tombstone(topic));
    controller.apply(&mut disk, &gone(1), TopicId(0)).unwrap();
    assert!(!controller.image().is_tombstone(topic) && !open(&mut disk, 2).image().is_tombstone(topic));
}

#[test]
fn a_producer_id_is_given_once_whatever_happens() {
    let mut disk = TestDisk::default();
    let mut given = BTreeSet::new();
    for life in 0..5 {
        let mut controller = open(&mut disk, 1);
        for _ in 0..PRODUCER_IDS_PER_BLOCK * 3 / 2 {
            let outcome = controller.apply(&mut disk, &Command::AllocateProducerId, TopicId(0)).unwrap();
            let Outcome::ProducerIdAllocated(id) = outcome else { panic!("{outcome:?}") };
            assert!(id.is_some() && given.insert(id), "life {life}: {id:?} was given before");
        }
    }
    assert!(disk.writes < 200, "most ids cost no write: {} writes", disk.writes);
}

#[test]
fn a_log_that_is_full_begins_anew_and_forgets_nothing() {
    let mut disk = TestDisk::default();
    let mut controller = open(&mut disk, 2);
    create(&mut controller, &mut disk, "kept", 7, 1);
    for round in 0..100 {
        let topic = create(&mut controller, &mut disk, "big", 10_000, 100 + round);
        controller.apply(&mut disk, &Command::DeleteTopic { topic }, TopicId(0)).unwrap();
    }
    assert!(controller.head.generation > 1, "it began anew");
    for copy in [0, 1] {
        assert_eq!(disk.files[&file(copy)].len() as u64, METADATA_BYTES_LEAST, "and did not grow");
    }
    let image = Arc::clone(controller.image());
    assert_eq!(open(&mut disk, 2).image(), &image);
    assert_eq!((image.topic_count(), image.tombstones().count()), (1, 100));
}

#[test]
fn a_crash_at_any_write_leaves_the_state_before_or_after() {
    // The log is almost full, so that it begins anew on the way.
    let mut full = TestDisk::default();
    let mut controller = open(&mut full, 2);
    for round in 0..24 {
        let topic = create(&mut controller, &mut full, "big", 20_000, 1000 + round);
        controller.apply(&mut full, &Command::DeleteTopic { topic }, TopicId(0)).unwrap();
    }
    let generation = controller.head.generation;
    let steps = 16_u128;
    for writes in 0..400 {
        let mut disk = full.clone();
        let mut controller = open(&mut disk, 2);
        disk.writes_left = Some(writes);
        let (mut before, mut failed) = (Arc::clone(controller.image()), false);
        for step in 0..steps {
            let name = format!("t{step}");
            let partitions = if step % 4 == 1 { 20_000 } else { 3 };
            let make = Command::CreateTopic { name: &name, partitions, config: TopicConfig::default() };
            let drop = Command::DeleteTopic { topic: TopicId(step) };
            let command = if step % 4 == 2 { drop } else { make };
            match controller.apply(&mut disk, &command, TopicId(step + 1)) {
                Ok(_) => before = Arc::clone(controller.image()),
                Err(error) => {
                    assert!(matches!(error, ApplyError::Storage(_)), "{error}");
                    assert_eq!(controller.image(), &before, "what failed is not shown");
                    failed = true;
                    let fenced = controller.apply(&mut disk, &command, TopicId(step + 1));
                    assert!(matches!(fenced, Err(ApplyError::Storage(_))), "nothing more is written");
                    break;
                }
            }
        }
        disk.writes_left = None;
        let reopened = open(&mut disk, 2);
        let is_before = reopened.image() == &before;
        let is_after = failed && reopened.image().version() == before.version() + 1;
        assert!(is_before || is_after, "after {writes} writes");
        // And the copies are the same again.
        assert_eq!(Controller::open(&mut disk, Some(ME), ME, 2).unwrap().1, OpenReport::default());
        if !failed {
            assert!(controller.head.generation > generation, "it began anew on the way");
            return;
        }
    }
    panic!("the steps take more writes than that");
}
