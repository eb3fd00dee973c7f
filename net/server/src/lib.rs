//! A node as a process: configuration, logs, exit codes, and the native door on a node's pumps.
//!
//! Everything below knows no configuration file and no environment; this crate turns both into a
//! [`cutwater_node::NodeConfig`], starts the node, and tells an operator in one line what is in the way.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod config;
pub mod exit;
pub mod logs;
pub mod serve;

pub use config::{Config, ConfigError};
pub use cutwater_node::StopHandle;
pub use exit::ExitReason;
pub use serve::{ServeError, serve};
