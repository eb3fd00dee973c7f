//! What is to happen, in the order of its time.

use std::collections::BTreeMap;

/// Events by their time; those of one moment keep the order in which they were planned.
#[derive(Debug)]
pub(super) struct Agenda<E> {
    events: BTreeMap<(u64, u64), E>,
    planned: u64,
}

impl<E> Default for Agenda<E> {
    fn default() -> Self {
        Self { events: BTreeMap::new(), planned: 0 }
    }
}

impl<E> Agenda<E> {
    /// Plans an event.
    pub(super) fn plan(&mut self, at_us: u64, event: E) {
        self.planned += 1;
        self.events.insert((at_us, self.planned), event);
    }

    /// The next event and its time.
    pub(super) fn next(&mut self) -> Option<(u64, E)> {
        self.events.pop_first().map(|((at_us, _), event)| (at_us, event))
    }

    /// The time of the next event.
    pub(super) fn next_us(&self) -> Option<u64> {
        self.events.first_key_value().map(|((at_us, _), _)| *at_us)
    }

    /// Whether such an event is to come.
    pub(super) fn any(&self, is_such: impl Fn(&E) -> bool) -> bool {
        self.events.values().any(is_such)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.events.clear();
    }
}
