//! All that one core owns, as a pure machine: inputs and the time go in, effects come out.
//!
//! [`fn@start`] brings a [`Shard`] back from disk; then [`Shard::handle`] takes every [`Input`] and appends to [`Effects`].
//! One file per concern: `produce`, `commit` and `bulk` append; `fetch`, `readers`, `gather`, `collect` and `list_offsets`
//! read; `files`, `settle`, `checkpoint`, `topics` and `orphans` tend the disk; `remote` and `message` speak with other
//! shards.
//!
//! Lives on the shard's core; does no I/O, reads no clock, and never waits.
#![no_std]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod ahead;
mod bulk;
mod checkpoint;
mod collect;
mod commit;
pub mod config;
mod connection;
mod control;
pub mod counters;
mod damage;
mod deferred;
pub mod effect;
mod fetch;
mod files;
mod gather;
mod held_references;
pub mod input;
mod landing;
mod list_offsets;
mod message;
mod ops;
mod orphans;
mod partition;
mod pins;
mod produce;
mod readers;
mod recovery;
mod redistribute;
mod remote;
mod settle;
mod shard;
pub mod stages;
pub mod start;
#[cfg(test)]
mod test_rig;
#[cfg(test)]
mod tests;
mod topics;

pub use config::Config;
pub use counters::Counters;
pub use effect::{Ack, ControlCommand, Effect, Effects, OpId, Pin};
pub use input::Input;
pub use landing::{Landing, LandingId};
pub use redistribute::{redistribute, shards_on_disk};
pub use shard::Shard;
pub use stages::{STAGE_BUCKETS, StageHistogram, Stages};
pub use start::{StartError, StartReport, start};
