//! Time as the core sees it: handed in with every input, never read.

/// Milliseconds since 1970 on somebody's wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimestampMs(pub i64);

/// The moment of an input on both clocks of the shard's core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Microseconds on the monotonic clock; only differences mean anything.
    pub mono_us: u64,
    /// The wall clock, which may jump.
    pub wall: TimestampMs,
}
