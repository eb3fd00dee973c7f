//! The simulator: the pure crates on one thread with a seeded disk, network and clock. One seed, one trace.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod disk;
pub mod finding;
pub mod oracle;
pub mod random;
pub mod request;
pub mod trace;
pub mod workload;
