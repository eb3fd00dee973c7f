//! Requests that wait for their answer, found by correlation without a hash.
//!
//! A correlation is the place of the request in a table and a count of how often that place was used, so a late or
//! invented answer matches nothing.

/// No request has this correlation; frames that nobody answers carry it.
pub(crate) const UNANSWERED: u32 = 0;
const PLACE_BITS: u32 = 16;
const PLACE_MASK: u32 = (1 << PLACE_BITS) - 1;

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Of the request that waits here; of the last one where none does.
    correlation: u32,
    waits: bool,
    token: u64,
}

/// The table. See the module.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    slots: Vec<Slot>,
    free: Vec<u16>,
}

impl Pending {
    /// How many requests wait.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Puts a request in and returns its correlation; `None` when as many wait as there can be.
    #[inline]
    pub(crate) fn insert(&mut self, token: u64) -> Option<u32> {
        let place = match self.free.pop() {
            Some(place) => u32::from(place),
            None => {
                let place = u32::try_from(self.slots.len()).ok().filter(|&place| place <= PLACE_MASK)?;
                self.slots.push(Slot { correlation: place, waits: false, token });
                place
            }
        };
        let slot = self.slots.get_mut(place as usize)?;
        // The count begins at 1 and skips 0, so that no correlation is `UNANSWERED`.
        let uses = ((slot.correlation >> PLACE_BITS) + 1) & PLACE_MASK;
        slot.correlation = uses.max(1) << PLACE_BITS | place;
        slot.token = token;
        slot.waits = true;
        Some(slot.correlation)
    }

    /// Takes out the request that an answer belongs to.
    #[inline]
    pub(crate) fn remove(&mut self, correlation: u32) -> Option<u64> {
        let place = correlation & PLACE_MASK;
        let slot = self.slots.get_mut(place as usize)?;
        if !slot.waits || slot.correlation != correlation {
            return None;
        }
        slot.waits = false;
        self.free.push(place as u16);
        Some(slot.token)
    }

    /// Forgets all requests, keeping the memory.
    pub(crate) fn clear(&mut self) {
        self.free.clear();
        for (place, slot) in self.slots.iter_mut().enumerate().rev() {
            slot.waits = false;
            self.free.push(place as u16);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_find_their_request_in_any_order_and_once() {
        let mut pending = Pending::default();
        let correlations: Vec<u32> = (0..100).map(|token| pending.insert(token).unwrap()).collect();
        assert_eq!(pending.len(), 100);
        for token in (0..100_u64).rev() {
            assert_eq!(pending.remove(correlations[token as usize]), Some(token));
            assert_eq!(pending.remove(correlations[token as usize]), None);
        }
        assert_eq!(pending.len(), 0);
    }

    #[test]
    fn a_late_answer_does_not_match_the_next_request_in_the_same_place() {
        let mut pending = Pending::default();
        let first = pending.insert(1).unwrap();
        pending.remove(first);
        let second = pending.insert(2).unwrap();
        assert_ne!(first, second);
        assert_eq!(pending.remove(first), None);
        pending.clear();
        assert_eq!(pending.remove(second), None);
        for _ in 0..200_000 {
            let correlation = pending.insert(3).unwrap();
            assert_ne!(correlation, UNANSWERED);
            pending.remove(correlation);
        }
    }

    #[test]
    fn the_table_is_bounded() {
        let mut pending = Pending::default();
        for token in 0..=u64::from(PLACE_MASK) {
            assert!(pending.insert(token).is_some());
        }
        assert_eq!(pending.insert(0), None);
    }
}
