//! The simulator: the pure crates on one thread with a seeded disk, network and clock. One seed, one trace.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod disk;
pub mod finding;
pub mod images;
pub mod oracle;
pub mod plan;
pub mod plants;
pub mod random;
pub mod request;
pub mod runner;
pub mod trace;
pub mod workload;
pub mod world;
