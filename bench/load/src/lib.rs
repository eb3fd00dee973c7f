//! Figures to measure the engine by: the floor, which is what this machine can do for any log engine at all.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod floor;
pub mod values;
