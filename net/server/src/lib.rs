//! A node as a process: its configuration, its log, its start and its stop.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod config;

pub use config::{Config, ConfigError, Idle, SETTINGS, Setting, Source};
