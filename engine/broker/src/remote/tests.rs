//! What a connection may have sent on to another shard.

use cutwater_api::RequiredAcks;
use cutwater_model::limits;

use crate::test_rig::{Rig, batch_of};

#[test]
fn batches_sent_on_to_a_shard_that_does_not_answer_pause_their_connection() {
    for acks in [RequiredAcks::All, RequiredAcks::None] {
        let mut rig = Rig::with(|plan| plan.make_large(2, 2));
        let (peer, there) = (rig.peer, rig.partition(1));
        let batch = batch_of(200_000);
        let mut sent = 0_usize;
        rig.seats[1].is_deaf = true;
        while !rig.is_paused(peer) {
            rig.produce_with(peer, there, acks, &batch);
            rig.step();
            sent += 1;
            assert!(sent * batch.len() < 2 * limits::REQUEST_BYTES_IN_FLIGHT_MAX as usize, "never paused");
        }
        assert!(sent * batch.len() >= limits::REQUEST_BYTES_IN_FLIGHT_MAX as usize, "paused after {sent}");
        rig.seats[1].is_deaf = false;
        rig.complete_all();
        assert!(!rig.is_paused(peer), "it goes on");
        let answered = rig.answered();
        assert_eq!(answered.len(), if acks == RequiredAcks::None { 0 } else { sent });
        assert!(answered.into_iter().all(|ticket| rig.produced(ticket).is_some_and(|it| it.is_ok())));
        // All of it is there, whether the peer wanted to know or not.
        assert_eq!(rig.seats[1].shard.counters().batches_appended, sent as u64);
    }
}
