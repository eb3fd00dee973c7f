//! Hand-made bad histories, one for each finding: the checker is checked first.

use cutwater_model::builder::Sequence;
use cutwater_model::topic::TopicConfig;
use cutwater_model::{LeaderEpoch, TimestampMs, batch};

use super::*;
use crate::random::Random;
use crate::workload::payload::{Filling, build};

const TOPIC: TopicId = TopicId(5);
const HERE: PartitionId = PartitionId { topic: TOPIC, index: cutwater_model::PartitionIndex(0) };

#[derive(Clone)]
struct History {
    oracle: Oracle,
    stream: StreamId,
    random: Random,
}

impl History {
    fn new(config: TopicConfig) -> Self {
        let mut oracle = Oracle::default();
        oracle.on_created(TOPIC, "t", 1, config).unwrap();
        let stream = oracle.new_stream();
        Self { oracle, stream, random: Random::new(1) }
    }

    fn send(&mut self, numbered: bool) -> AttemptId {
        let id = self.oracle.next_attempt();
        let wall = TimestampMs(1_000_000);
        let (batch, records) = build(id, 150, Filling::Noise, Sequence::NONE, wall, &mut self.random);
        self.oracle.sent(Attempt {
            partition: HERE,
            stream: self.stream,
            place: u64::from(id.0),
            numbered,
            records,
            batch,
            acked_us: None,
            bound: None,
            refused: false,
        });
        id
    }

    fn stored(&self, id: AttemptId, base: Offset, epoch: i32) -> Vec<u8> {
        let mut bytes = self.oracle.attempt(id).unwrap().batch.to_vec();
        batch::stamp(&mut bytes, base, LeaderEpoch(epoch));
        bytes
    }

    fn read(&mut self, from: Offset, bytes: &[u8]) -> Checked<Offset> {
        let shown = Shown { from, bytes, high_watermark: Offset(1000) };
        self.oracle.on_read(HERE, shown)
    }

    fn end_of(&self, id: AttemptId, base: Offset) -> Offset {
        base.after(self.oracle.attempt(id).unwrap().records)
    }
}

fn rule<T: core::fmt::Debug>(checked: Checked<T>) -> &'static str {
    checked.unwrap_err().rule
}

#[test]
fn a_good_history_passes() {
    let mut history = History::new(TopicConfig::default());
    let (one, two) = (history.send(true), history.send(true));
    history.oracle.on_acked(one, Offset(0), 5).unwrap();
    let next = history.end_of(one, Offset(0));
    let mut bytes = history.stored(one, Offset(0), 1);
    bytes.extend(history.stored(two, next, 1));
    let end = history.end_of(two, next);
    assert_eq!(history.read(Offset(0), &bytes), Ok(end));
    history.oracle.on_acked(two, next, 9).unwrap();
    assert_eq!(history.oracle.end(HERE), end);
    history.oracle.on_crash(10);
    history.oracle.on_end(HERE, end, end).unwrap();
    history.oracle.check_streams().unwrap();
}

#[test]
fn every_kind_of_damage_has_its_finding() {
    let lost = "what was acknowledged or shown is there";
    let mut history = History::new(TopicConfig::default());
    let (one, two, three) = (history.send(true), history.send(true), history.send(true));
    history.oracle.on_acked(one, Offset(0), 5).unwrap();
    let next = history.end_of(one, Offset(0));
    let first = history.stored(one, Offset(0), 3);
    let clean = history.oracle.clone();

    assert_eq!(rule(history.oracle.on_end(HERE, Offset(0), next)), lost);
    assert_eq!(rule(history.read(Offset(0), &history.stored(two, next, 1))), lost);
    assert_eq!(rule(history.oracle.on_refused(one, true)), "a batch is appended or refused");
    history.oracle = clean.clone();
    let other = history.stored(two, Offset(0), 1);
    assert_eq!(rule(history.read(Offset(0), &other)), "an offset once shown is never used again");
    history.oracle = clean.clone();
    let again = history.stored(one, next, 1);
    assert_eq!(rule(history.read(next, &again)), "no batch is there twice");
    let mut changed = first.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(rule(history.read(Offset(0), &changed)), "reads equal what was written");
    assert_eq!(rule(history.read(Offset(0), &first[..70])), "reads are whole batches");
    let shown = Shown { from: Offset(0), bytes: &first, high_watermark: Offset(0) };
    assert_eq!(rule(history.oracle.on_read(HERE, shown)), "readers see only what is committed");
    let mut twice = first.clone();
    twice.extend(&first);
    assert_eq!(rule(history.read(Offset(0), &twice)), "offsets never go back in a read");
    let elsewhere = PartitionId { topic: TopicId(6), ..HERE };
    let shown = Shown { from: Offset(0), bytes: &first, high_watermark: Offset(1000) };
    assert_eq!(rule(history.oracle.on_read(elsewhere, shown)), "bytes stay in their partition");

    history.oracle = clean.clone();
    assert_eq!(
        rule(history.read(next, &history.stored(three, next, 3)).and(history.oracle.check_streams())),
        "a numbered stream has no holes"
    );
    let end = history.end_of(three, next);
    assert_eq!(
        rule(history.read(end, &history.stored(two, end, 3))),
        "records of one producer stay in order"
    );
    history.oracle = clean;
    history.read(Offset(0), &first).unwrap();
    assert_eq!(rule(history.read(next, &history.stored(two, next, 2))), "leader epochs never go back");
}

#[test]
fn of_a_deleted_topic_a_batch_that_nobody_read_is_not_missing() {
    let mut history = History::new(TopicConfig::default());
    let (one, two) = (history.send(true), history.send(true));
    let next = history.end_of(one, Offset(0));
    let bytes = history.stored(two, next, 1);
    history.read(next, &bytes).unwrap();
    assert_eq!(rule(history.oracle.check_streams()), "a numbered stream has no holes");
    history.oracle.on_delete_asked(TOPIC);
    history.oracle.on_deleted(TOPIC);
    history.oracle.check_streams().unwrap();
}

#[test]
fn bytes_that_nobody_sent_and_batches_that_were_refused_are_found() {
    let mut history = History::new(TopicConfig::default());
    let one = history.send(false);
    history.oracle.on_refused(one, true).unwrap();
    let bytes = history.stored(one, Offset(0), 1);
    assert_eq!(rule(history.read(Offset(0), &bytes)), "what was refused is not appended");
    let bytes = history.stored(one, Offset(0), 1);
    history.oracle.attempts.clear();
    assert_eq!(rule(history.read(Offset(0), &bytes)), "no bytes are invented");
}

#[test]
fn a_memory_topic_may_lose_its_end_in_a_crash_and_nothing_else() {
    let memory = TopicConfig { durability: Durability::Memory, ..TopicConfig::default() };
    let mut history = History::new(memory);
    let (one, two, three) = (history.send(false), history.send(false), history.send(false));
    let next = history.end_of(one, Offset(0));
    let end = history.end_of(two, next);
    history.oracle.on_acked(one, Offset(0), 1).unwrap();
    history.oracle.on_acked(two, next, MEMORY_LOSS_US_MAX + 10).unwrap();
    let known = "a memory topic loses only what a crash may take";
    assert_eq!(rule(history.oracle.on_end(HERE, next, end)), known);
    history.oracle.on_crash(MEMORY_LOSS_US_MAX + 20);
    assert_eq!(history.oracle.end(HERE), next);
    history.oracle.on_end(HERE, next, end).unwrap();
    assert_eq!(rule(history.oracle.on_end(HERE, Offset(0), end)), known);
    let reused = history.stored(three, next, 2);
    let used_again = "an offset once shown is never used again";
    assert_eq!(rule(history.clone().read(next, &reused)), used_again);
    let after = history.stored(three, end, 2);
    history.clone().read(next, &after).unwrap();
    // What was lost may be sent again, and is new then; what can't be lost may not, and what was lost doesn't come back.
    let again = history.stored(two, end, 2);
    let mut repeated = history.clone();
    repeated.read(next, &again).unwrap();
    let back = repeated.stored(two, next, 1);
    assert_eq!(rule(repeated.read(next, &back)), "no batch is there twice");
    let first_again = history.stored(one, end, 2);
    assert_eq!(rule(history.clone().read(next, &first_again)), "no batch is there twice");
}

#[test]
fn a_crash_takes_the_end_of_a_memory_topic_in_one_piece() {
    let memory = TopicConfig { durability: Durability::Memory, ..TopicConfig::default() };
    let mut history = History::new(memory);
    let (one, two) = (history.send(true), history.send(true));
    let next = history.end_of(one, Offset(0));
    let end = history.end_of(two, next);
    for (id, base) in [(one, Offset(0)), (two, next)] {
        let bytes = history.stored(id, base, 1);
        history.read(base, &bytes).unwrap();
    }
    history.oracle.on_crash(10);
    // The producer had no answer to either and sends both again: the first goes with the second.
    let far = Offset(1000);
    let mut repeated = history.clone();
    repeated.oracle.on_acked(one, far, 11).unwrap();
    let far_next = repeated.end_of(one, far);
    repeated.oracle.on_acked(two, far_next, 12).unwrap();
    // Where the second is known to be there, the first can't be lost.
    let bytes = history.stored(two, next, 1);
    history.read(next, &bytes).unwrap();
    assert_eq!(
        rule(history.oracle.on_acked(one, far, 11)),
        "a memory topic loses only what a crash may take"
    );
    assert_eq!(history.oracle.end(HERE), end);
}

#[test]
fn an_accepted_loss_takes_ends_and_frees_no_offset() {
    let mut history = History::new(TopicConfig::default());
    let (one, two) = (history.send(false), history.send(false));
    history.oracle.on_acked(one, Offset(0), 5).unwrap();
    let next = history.end_of(one, Offset(0));
    history.oracle.rotten = true;
    let lost = "what was acknowledged or shown is there";
    assert_eq!(rule(history.clone().oracle.on_end(HERE, Offset(0), next)), lost);
    history.oracle.on_loss_accepted();
    history.oracle.on_end(HERE, Offset(0), next).unwrap();
    let reused = history.stored(two, Offset(0), 2);
    assert_eq!(rule(history.clone().read(Offset(0), &reused)), "an offset once shown is never used again");
    let after = history.stored(two, next, 2);
    history.read(next, &after).unwrap();
}

#[test]
fn topics_are_made_once_and_deleted_for_good() {
    let mut history = History::new(TopicConfig::default());
    let oracle = &mut history.oracle;
    let empty = TopicsView::default();
    assert_eq!(rule(oracle.clone().on_described(&empty, true)), "a topic that was made is there");
    oracle.on_delete_asked(TOPIC);
    oracle.clone().on_described(&empty, true).unwrap();
    oracle.on_deleted(TOPIC);
    oracle.on_create_asked("t");
    let config = TopicConfig::default();
    assert_eq!(rule(oracle.clone().on_created(TOPIC, "t", 1, config)), "a topic id is never used again");
    oracle.on_created(TopicId(9), "t", 1, config).unwrap();
    let view = |id, name: &str| TopicsView {
        topics: vec![cutwater_api::TopicView { name: name.to_owned(), id, config, partitions: Vec::new() }],
        ..TopicsView::default()
    };
    assert_eq!(rule(oracle.clone().on_described(&view(TOPIC, "t"), true)), "what was deleted stays deleted");
    assert_eq!(rule(oracle.clone().on_described(&view(TopicId(11), "u"), true)), "nobody made this topic");
}

use cutwater_api::TopicsView;
