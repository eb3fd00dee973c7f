//! Every decoder of bytes that the engine did not make itself, as a function that must survive any input.
//!
//! A target takes bytes from nowhere, hands them to a decoder, and checks what must hold of the outcome; it panics when
//! something doesn't. Where a checksum would turn all but untouched input away at the door, the target also mends the
//! checksum and tries again, because a hostile or broken writer can do that too.
//!
//! Two runners feed them. `fuzz-smoke` mutates seeds on stable from a number, so any run can be repeated, and holds the
//! memory each input takes against its length. `tools/fuzz` hands the same functions to libFuzzer.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod disk;
mod random;
pub mod smoke;
mod targets;

pub use targets::{TARGETS, Target, run};
