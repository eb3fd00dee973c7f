//! Which disk operation was for what.

use alloc::vec::Vec;

use crate::effect::OpId;

/// The operations under way and their purposes. A name is a slot and a count of its lives, so none comes twice.
#[derive(Debug)]
pub(crate) struct Ops<P> {
    slots: Vec<(u32, Option<P>)>,
    free: Vec<u32>,
}

impl<P> Default for Ops<P> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<P> Ops<P> {
    /// Names an operation.
    pub(crate) fn start(&mut self, purpose: P) -> OpId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            (self.slots.len() - 1) as u32
        });
        let (life, place) = &mut self.slots[slot as usize];
        *life += 1;
        *place = Some(purpose);
        OpId(u64::from(*life) << 32 | u64::from(slot))
    }

    /// Ends an operation; `None` for one that was never started or has ended.
    pub(crate) fn finish(&mut self, op: OpId) -> Option<P> {
        let (life, place) = self.slots.get_mut(op.0 as u32 as usize)?;
        if u64::from(*life) != op.0 >> 32 {
            return None;
        }
        let purpose = place.take()?;
        self.free.push(op.0 as u32);
        Some(purpose)
    }

    /// How many are under way.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_ends_once() {
        let mut ops = Ops::default();
        let first = ops.start('a');
        let second = ops.start('b');
        assert_eq!(ops.finish(first), Some('a'));
        assert_eq!(ops.finish(first), None);
        let third = ops.start('c');
        assert_ne!(first, third);
        assert_eq!(ops.finish(first), None);
        assert_eq!((ops.finish(second), ops.finish(third)), (Some('b'), Some('c')));
        assert_eq!(ops.len(), 0);
    }
}
