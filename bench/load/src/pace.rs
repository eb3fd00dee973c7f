//! When the next request is to be sent.

/// The schedule of an open loop, or none for a closed one.
///
/// Intended times do not depend on answers, so a stall is charged to every request that was due during it: latencies
/// have no coordinated omission.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    start_ns: u64,
    interval_ns: Option<f64>,
    sent: u64,
}

impl Pace {
    /// So many requests per second from `start_ns` on; as many as possible where there is none.
    #[must_use]
    pub fn new(start_ns: u64, requests_per_s: Option<f64>) -> Self {
        Self { start_ns, interval_ns: requests_per_s.map(|rate| 1e9 / rate), sent: 0 }
    }

    /// When the next request is to be sent; `None` while that lies ahead.
    #[inline]
    #[must_use]
    pub fn next(&self, now_ns: u64) -> Option<u64> {
        match self.interval_ns {
            None => Some(now_ns),
            Some(interval) => {
                let intended = self.start_ns + (self.sent as f64 * interval) as u64;
                (intended <= now_ns).then_some(intended)
            }
        }
    }

    /// The next request was sent.
    #[inline]
    pub fn advance(&mut self) {
        self.sent += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_loop_keeps_its_schedule_through_a_stall() {
        let mut pace = Pace::new(1_000, Some(1e6));
        let mut intended = Vec::new();
        // Nothing can be sent until 6 us: five requests are late by then and say so.
        while let Some(at) = pace.next(6_000) {
            intended.push(at);
            pace.advance();
        }
        assert_eq!(intended, [1_000, 2_000, 3_000, 4_000, 5_000, 6_000]);
        assert_eq!(pace.next(6_999), None);
        assert_eq!(pace.next(7_000), Some(7_000));
    }

    #[test]
    fn a_closed_loop_sends_at_once() {
        assert_eq!(Pace::new(5, None).next(77), Some(77));
    }
}
