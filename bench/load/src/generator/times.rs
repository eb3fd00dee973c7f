//! When an answer or a push was taken.

use crate::arguments::Mode;

/// The times of one turn's events.
///
/// One look at the clock serves all answers of a turn: they came together, and there may be many. An end-to-end run tells
/// two latencies of one record, to its acknowledgement and to its reading, and the two often come in one turn. So there
/// each event has a time of its own, or the two figures would be one.
#[derive(Debug)]
pub(super) struct EventTimes {
    each: bool,
    latest_ns: u64,
}

impl EventTimes {
    /// For a turn of a run of that mode.
    pub(super) const fn new(mode: Mode) -> Self {
        Self { each: matches!(mode, Mode::EndToEnd), latest_ns: 0 }
    }

    /// The time of the event that is taken now.
    #[inline]
    pub(super) fn of_next(&mut self, clock_ns: impl FnOnce() -> u64) -> u64 {
        if self.each || self.latest_ns == 0 {
            self.latest_ns = clock_ns();
        }
        self.latest_ns
    }

    /// The latest time taken, or 0 where no event came.
    pub(super) const fn latest(&self) -> u64 {
        self.latest_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times_of(mode: Mode) -> [u64; 3] {
        let mut times = EventTimes::new(mode);
        [10, 20, 30].map(|clock_ns| times.of_next(|| clock_ns))
    }

    #[test]
    fn an_acknowledgement_and_a_push_of_one_turn_have_their_own_times_end_to_end() {
        assert_eq!(times_of(Mode::EndToEnd), [10, 20, 30]);
        assert_eq!(times_of(Mode::Produce), [10, 10, 10]);
    }
}
