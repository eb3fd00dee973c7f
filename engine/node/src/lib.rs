//! Starts a node, runs one pump per core and one control thread, and stops it again.
//!
//! The engine decides in pure crates; this crate owns the threads, the sockets, the files and the clocks, and carries
//! out what was decided. [`pump`] is the loop of one core; it is generic over the door's session, so this crate knows
//! no protocol.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod assembly;
mod connection;
pub mod control;
pub mod disk;
mod mesh;
pub mod meters;
pub mod ports;
pub mod pump;
mod shard_core;
pub mod start;

pub use control::StopHandle;
pub use pump::IdlePolicy;
pub use start::{Addresses, NodeConfig, NodeError, run};
