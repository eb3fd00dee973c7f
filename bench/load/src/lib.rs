//! The load generator, and the floor: what this machine can do for any log engine at all.
//!
//! [`run`] drives a node by the native protocol, in an open or a closed loop, checks everything it reads, and measures
//! ([`report`] draws what it prints). [`mod@floor`] is what its figures are told as ratios to.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod arguments;
pub mod floor;
mod generator;
pub mod pace;
pub mod payload;
pub mod plot;
pub mod reader;
pub mod report;
mod setup;
mod subscriptions;
pub mod values;
pub mod watch;
mod writers;

pub use arguments::BenchArguments;
pub use generator::{Outcome, run};
pub use report::Report;
