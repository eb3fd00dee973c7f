//! Bugs that the simulator plants, to see that it finds them. No other build has them.

use core::sync::atomic::AtomicBool;

/// A checkpoint leaves out the bytes of the block that is not full yet.
pub static NO_UNFINISHED_BLOCK: AtomicBool = AtomicBool::new(false);
