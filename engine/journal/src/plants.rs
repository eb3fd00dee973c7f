//! Bugs that the simulator plants, to see that it finds them. No other build has them.

use core::sync::atomic::AtomicBool;

/// Replay takes any whole group of the last life that lies where the next one should: of an earlier lap too.
pub static NO_LAP_CHECK: AtomicBool = AtomicBool::new(false);
/// Replay takes a whole group with the next sequence, whichever life wrote it.
pub static NO_LIFE_CHAIN: AtomicBool = AtomicBool::new(false);
