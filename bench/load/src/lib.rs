//! The load generator and the floor.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod floor;
pub mod values;
