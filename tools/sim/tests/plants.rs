//! Planted bugs are found, and where none is planted, every seed has one trace. `sim --plants` does it for every bug; here
//! are those that few seeds find, so that a plain test run has them too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Mutex;

use cutwater_sim::plants::Plant;
use cutwater_sim::runner::{Manner, find, run_twice};

/// Bugs inside the engine are planted in the whole process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn is_found(plant: Plant, seeds_max: u64) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let found = find(plant, seeds_max).unwrap_or_else(|| panic!("{} is not found", plant.name()));
    println!("{} is found by seed {}: {:?}", plant.name(), found.seed, found.finding);
}

#[test]
fn an_ack_before_it_is_durable_is_found() {
    is_found(Plant::AckBeforeDurable, 30);
}

#[test]
fn half_a_write_counted_as_whole_is_found() {
    is_found(Plant::HalfWrites, 30);
}

#[test]
fn a_topic_id_used_again_is_found() {
    is_found(Plant::ReusedTopicId, 60);
}

#[test]
fn every_seed_has_one_trace() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for seed in 1..=4 {
        let outcome = run_twice(seed, Manner::default());
        assert_eq!(outcome.finding, None, "seed {seed}");
    }
}
