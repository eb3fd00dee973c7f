//! How long to wait before trying again: longer each time, up to a bound, and not in step with other clients.

/// See the module. Deterministic from its seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    least_us: u64,
    most_us: u64,
    failures: u32,
    state: u64,
}

impl Backoff {
    /// Waits of `least_us`, doubled with each failure up to `most_us`, each less up to a quarter.
    pub(crate) const fn new(least_us: u64, most_us: u64, seed: u64) -> Self {
        Self { least_us, most_us, failures: 0, state: seed | 1 }
    }

    /// Things work again.
    pub(crate) const fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after one more failure, in microseconds.
    pub(crate) fn next_us(&mut self) -> u64 {
        let doubled = self.least_us.saturating_mul(1 << self.failures.min(20));
        self.failures = self.failures.saturating_add(1);
        let full = doubled.min(self.most_us);
        // xorshift64: good enough to keep clients apart.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        full - self.state % (full / 4 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_bound_and_begin_anew() {
        let mut backoff = Backoff::new(1_000, 8_000, 7);
        let waits: Vec<u64> = (0..6).map(|_| backoff.next_us()).collect();
        for (wait, full) in waits.iter().zip([1_000, 2_000, 4_000, 8_000, 8_000, 8_000]) {
            assert!((full * 3 / 4..=full).contains(wait), "{waits:?}");
        }
        backoff.reset();
        assert!(backoff.next_us() <= 1_000);
    }
}
