//! Bytes of a connection that wait: a frame that came in pieces, or what came while nobody might read it.
//!
//! Its memory follows the bytes that came, never the length that was promised (B4).

use std::collections::VecDeque;

/// From this size on a buffer is kept for the next large frame instead of being freed.
const LARGE_BYTES: usize = 64 * 1024;
/// What a connection without anything waiting is received into where its frames are large.
pub(crate) const FRONT_BYTES: usize = 4096;

/// Bytes from the front of what a peer sent and nobody has consumed.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    /// Room, all of it initialized; what has come is in `consumed..filled`.
    bytes: Vec<u8>,
    consumed: usize,
    filled: usize,
    /// Another look is worth it once there are so many.
    needed: usize,
    /// Room that is lent to a receive.
    lent: usize,
}

impl Assembly {
    /// Whether nothing waits.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// What waits.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(self.consumed..self.filled).unwrap_or_default()
    }

    fn len(&self) -> usize {
        self.filled - self.consumed
    }

    /// Whether there is enough for another look.
    pub(crate) fn is_whole(&self) -> bool {
        self.filled > 0 && self.len() >= self.needed
    }

    /// How many bytes are missing for another look.
    pub(crate) fn missing(&self) -> usize {
        self.needed.saturating_sub(self.len())
    }

    /// How many bytes are needed in all before another look is worth it.
    pub(crate) fn needed(&self) -> usize {
        self.needed
    }

    /// Says how many bytes are needed in all before another look is worth it.
    pub(crate) fn need(&mut self, bytes: usize) {
        self.needed = bytes.max(self.len() + 1);
    }

    /// Takes what is missing from the front of `from` and returns how many bytes that was.
    pub(crate) fn take(&mut self, from: &[u8], pool: &mut AssemblyPool) -> usize {
        let missing = self.missing().min(from.len());
        self.put(&from[..missing], pool);
        missing
    }

    /// Takes all bytes, whether they are needed now or not.
    pub(crate) fn put(&mut self, from: &[u8], pool: &mut AssemblyPool) {
        self.make_room(from.len(), pool);
        self.bytes[self.filled..][..from.len()].copy_from_slice(from);
        self.filled += from.len();
    }

    /// Lends the room behind what has come, for a receive of at least `bytes` where as much is needed: the buffer, and
    /// which part of it may be written. Nothing else may be done with it until [`Assembly::take_back`].
    pub(crate) fn lend(&mut self, bytes: usize, pool: &mut AssemblyPool) -> (Vec<u8>, usize, usize) {
        if self.filled == self.bytes.len() {
            let room = if self.is_empty() { bytes.min(FRONT_BYTES) } else { 1 };
            self.make_room(room, pool);
        }
        self.lent = self.bytes.capacity();
        let end = self.bytes.len().min(self.filled + self.missing().max(bytes));
        (core::mem::take(&mut self.bytes), self.filled, end)
    }

    /// The buffer is back, with so many bytes more.
    pub(crate) fn take_back(&mut self, buffer: Vec<u8>, received: usize) {
        self.lent = 0;
        self.filled = (self.filled + received).min(buffer.len());
        self.bytes = buffer;
    }

    fn make_room(&mut self, bytes: usize, pool: &mut AssemblyPool) {
        if self.filled + bytes > self.bytes.len() {
            self.grow(self.len() + bytes, pool);
        }
    }

    /// Makes room for `len` bytes in all, at most four times what has come. A used buffer that is large enough costs
    /// nothing new; otherwise large steps keep the copying of a large frame to a third of its length.
    #[cold]
    fn grow(&mut self, len: usize, pool: &mut AssemblyPool) {
        let wanted = self.needed.max(len);
        let mut larger = match pool.take(wanted) {
            Some(used) => used,
            None => vec![0; wanted.min(len * 4)],
        };
        larger[..self.len()].copy_from_slice(self.bytes());
        pool.held = (pool.held + larger.capacity()).saturating_sub(self.bytes.capacity());
        pool.keep(core::mem::replace(&mut self.bytes, larger));
        self.filled = self.len();
        self.consumed = 0;
    }

    /// Drops bytes from the front.
    pub(crate) fn consume(&mut self, bytes: usize, pool: &mut AssemblyPool) {
        self.consumed += bytes;
        self.needed = 0;
        if self.consumed >= self.filled {
            self.clear(pool);
        }
    }

    /// Forgets all. A large buffer goes to whoever needs one next.
    fn clear(&mut self, pool: &mut AssemblyPool) {
        if self.bytes.capacity() >= LARGE_BYTES {
            return self.release(pool);
        }
        self.filled = 0;
        self.consumed = 0;
        self.needed = 0;
    }

    /// Gives all memory back: the connection is gone. What is lent counts no more.
    pub(crate) fn release(&mut self, pool: &mut AssemblyPool) {
        pool.held = pool.held.saturating_sub(self.bytes.capacity() + self.lent);
        pool.keep(core::mem::take(&mut self.bytes));
        *self = Self::default();
    }
}

/// Buffers for large frames, used again, and the bytes that all assemblies of the shard hold.
#[derive(Debug)]
pub(crate) struct AssemblyPool {
    spare: VecDeque<Vec<u8>>,
    spare_bytes: usize,
    spare_bytes_max: usize,
    held: usize,
}

impl AssemblyPool {
    /// A pool that keeps at most so many bytes for later.
    pub(crate) fn new(spare_bytes_max: usize) -> Self {
        Self { spare: VecDeque::new(), spare_bytes: 0, spare_bytes_max, held: 0 }
    }

    /// Bytes that assemblies hold now.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    fn take(&mut self, len: usize) -> Option<Vec<u8>> {
        if len < LARGE_BYTES {
            return None;
        }
        let index = self.spare.iter().rposition(|buffer| buffer.len() >= len)?;
        let buffer = self.spare.remove(index)?;
        self.spare_bytes -= buffer.capacity();
        Some(buffer)
    }

    fn keep(&mut self, buffer: Vec<u8>) {
        if buffer.capacity() < LARGE_BYTES || buffer.capacity() > self.spare_bytes_max {
            return;
        }
        self.spare_bytes += buffer.capacity();
        self.spare.push_back(buffer);
        while self.spare_bytes > self.spare_bytes_max {
            let Some(oldest) = self.spare.pop_front() else { break };
            self.spare_bytes -= oldest.capacity();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_follows_what_came_and_not_what_was_promised() {
        let mut pool = AssemblyPool::new(0);
        let mut assembly = Assembly::default();
        assembly.need(8 * 1024 * 1024);
        assert_eq!(assembly.take(&[1; 12], &mut pool), 12);
        assert!(pool.held() <= 48, "{}", pool.held());
        for _ in 0..100 {
            assembly.take(&[2; 1000], &mut pool);
            assert!(pool.held() <= 4 * assembly.bytes().len().max(12));
        }
        assembly.release(&mut pool);
        assert_eq!(pool.held(), 0);
    }

    #[test]
    fn a_frame_takes_its_own_bytes_and_no_more() {
        let mut pool = AssemblyPool::new(0);
        let mut assembly = Assembly::default();
        assembly.need(4);
        assert_eq!(assembly.take(b"ab", &mut pool), 2);
        assert!(!assembly.is_whole());
        assert_eq!(assembly.take(b"cdef", &mut pool), 2);
        assert!(assembly.is_whole());
        assert_eq!(assembly.bytes(), b"abcd");
        assembly.consume(4, &mut pool);
        assert!(assembly.is_empty());
    }

    #[test]
    fn several_frames_that_waited_are_consumed_one_after_the_other() {
        let mut pool = AssemblyPool::new(0);
        let mut assembly = Assembly::default();
        assembly.put(b"abcdef", &mut pool);
        assembly.consume(2, &mut pool);
        assert_eq!(assembly.bytes(), b"cdef");
        assembly.need(8);
        assert_eq!(assembly.take(b"ghijklmnop", &mut pool), 4);
        assert_eq!(assembly.bytes(), b"cdefghij");
        assembly.consume(8, &mut pool);
        assert!(assembly.is_empty());
        assembly.release(&mut pool);
        assert_eq!(pool.held(), 0);
    }

    #[test]
    fn room_is_lent_as_far_as_bytes_have_come() {
        let mut pool = AssemblyPool::new(0);
        let mut assembly = Assembly::default();
        let (mut buffer, from, to) = assembly.lend(FRONT_BYTES, &mut pool);
        assert_eq!((from, to), (0, FRONT_BYTES));
        buffer[..100].fill(1);
        assembly.take_back(buffer, 100);
        assert!(assembly.is_whole());
        assembly.need(100_000);
        assert!(!assembly.is_whole());
        let mut filled = 100;
        while assembly.missing() > 0 {
            let (mut buffer, from, to) = assembly.lend(assembly.missing(), &mut pool);
            assert_eq!(from, filled);
            assert!(
                to <= 100_000 && buffer.len() <= (4 * (filled + 1)).max(FRONT_BYTES),
                "{filled}: {}",
                buffer.len()
            );
            buffer[from..to].fill(2);
            assembly.take_back(buffer, to - from);
            filled = to;
        }
        assert!(assembly.bytes()[..100].iter().all(|byte| *byte == 1));
        assert!(assembly.bytes()[100..].iter().all(|byte| *byte == 2));
        assert_eq!(assembly.bytes().len(), 100_000);
        assembly.consume(100_000, &mut pool);
        assert_eq!(pool.held(), 0);
    }

    #[test]
    fn a_connection_that_goes_while_room_is_lent_holds_nothing() {
        let mut pool = AssemblyPool::new(0);
        let mut assembly = Assembly::default();
        assembly.put(&[1; 5000], &mut pool);
        let _lent = assembly.lend(FRONT_BYTES, &mut pool);
        assert!(pool.held() >= 5000);
        assembly.release(&mut pool);
        assert_eq!(pool.held(), 0);
    }

    #[test]
    fn a_large_buffer_is_used_again() {
        let mut pool = AssemblyPool::new(1 << 20);
        let mut assembly = Assembly::default();
        for _ in 0..3 {
            assembly.need(300_000);
            while !assembly.is_whole() {
                assembly.take(&[7; 65_536], &mut pool);
            }
            assembly.consume(300_000, &mut pool);
        }
        assert_eq!(pool.held(), 0);
        assert!(pool.spare_bytes <= 1 << 20 && pool.spare_bytes >= 300_000);
    }
}
