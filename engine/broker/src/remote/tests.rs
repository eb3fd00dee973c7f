//! What a connection may have sent on to another shard.

use cutwater_api::RequiredAcks;
use cutwater_model::limits;
use cutwater_model::topic::TopicConfig;

use crate::test_node::{CONNECTION, TestNode, batch_of};

#[test]
fn batches_sent_on_to_a_shard_that_does_not_answer_pause_their_connection() {
    for acks in [RequiredAcks::All, RequiredAcks::None] {
        let mut node = TestNode::new(2, TopicConfig::default());
        let partition = node.partition_of(1);
        let batch = batch_of(200_000);
        let mut sent = 0_usize;
        node.seats[1].is_deaf = true;
        while node.seats[0].paused.is_empty() {
            node.produce(0, partition, acks, &batch);
            node.turn();
            sent += 1;
            assert!(sent * batch.len() < 2 * limits::REQUEST_BYTES_IN_FLIGHT_MAX as usize, "never paused");
        }
        assert!(sent * batch.len() >= limits::REQUEST_BYTES_IN_FLIGHT_MAX as usize, "paused after {sent}");
        node.seats[1].is_deaf = false;
        node.settle();
        assert!(!node.seats[0].paused.contains(&CONNECTION), "it goes on");
        let answered = node.seats[0].acks.iter().filter(|(_, produced)| produced.error.is_none()).count();
        assert_eq!(answered, if acks == RequiredAcks::None { 0 } else { sent });
        // All of it is there, whether the peer wanted to know or not.
        assert_eq!(node.seats[1].shard.counters().batches_appended, sent as u64);
    }
}
