//! Bugs that the simulator plants, to see that it finds them. No other build has them.

use core::sync::atomic::AtomicBool;

/// A checkpoint leaves out the bytes of the block that is not full yet.
pub static NO_UNFINISHED_BLOCK: AtomicBool = AtomicBool::new(false);
/// Replay takes references to large batches on trust.
pub static REFERENCES_ON_TRUST: AtomicBool = AtomicBool::new(false);
