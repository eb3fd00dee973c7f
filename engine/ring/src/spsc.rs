//! Bytes from one thread to one other: a bounded ring of messages, without locks and without allocation.
//!
//! A message lies in one piece behind its length; one that does not fit before the end of the ring begins anew at its
//! start. Each side keeps a copy of the other's cursor and looks at the original only when the copy is not enough.

use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use crate::arena::Map;
use crate::completion::Errno;

/// The length before each message, in bytes; messages begin at multiples of it.
const PREFIX: u64 = 8;
/// Instead of a length: the rest of the ring is skipped.
const SKIP: u32 = u32::MAX;

/// A cursor on a cache line (and its neighbour, which is fetched with it) of its own.
#[repr(align(128))]
struct Cursor(AtomicU64);

struct Shared {
    memory: Map,
    /// Bytes ever written, published by the sender.
    tail: Cursor,
    /// Bytes ever read, published by the receiver.
    head: Cursor,
}

// SAFETY: the memory is owned by `Shared` and moves with it; nothing in it belongs to a thread.
unsafe impl Send for Shared {}
// SAFETY: the one sender writes only between tail and head, the one receiver reads only between head and tail, and each
// cursor is published with release and read with acquire.
unsafe impl Sync for Shared {}

impl Shared {
    fn len(&self) -> u64 {
        self.memory.bytes as u64
    }

    fn at(&self, cursor: u64) -> *mut u8 {
        self.memory.address.wrapping_add((cursor & (self.len() - 1)) as usize)
    }
}

/// The end that writes.
pub struct Sender {
    shared: Arc<Shared>,
    tail: u64,
    head_seen: u64,
}

/// The end that reads.
pub struct Receiver {
    shared: Arc<Shared>,
    head: u64,
    tail_seen: u64,
}

/// A ring of `bytes`, a power of two of at least 4096.
///
/// # Errors
/// When the size is none of those, or there is no memory.
pub fn channel(bytes: u32) -> Result<(Sender, Receiver), Errno> {
    if !bytes.is_power_of_two() || bytes < 4096 {
        return Err(Errno(libc::EINVAL));
    }
    let memory = Map::new(bytes as usize)?;
    let shared =
        Arc::new(Shared { memory, tail: Cursor(AtomicU64::new(0)), head: Cursor(AtomicU64::new(0)) });
    let sender = Sender { shared: shared.clone(), tail: 0, head_seen: 0 };
    Ok((sender, Receiver { shared, head: 0, tail_seen: 0 }))
}

impl Sender {
    /// The longest message, in bytes: a quarter of the ring.
    #[must_use]
    pub fn message_bytes_max(&self) -> usize {
        (self.shared.len() / 4 - PREFIX) as usize
    }

    /// Whether the other end is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        Arc::strong_count(&self.shared) == 1
    }

    /// Space for a message of `len` bytes; `None` where there is none now, or never for so long a message.
    ///
    /// The bytes are those of an earlier message until they are written. Dropping the reservation sends nothing.
    pub fn reserve(&mut self, len: usize) -> Option<Reservation<'_>> {
        if len > self.message_bytes_max() {
            return None;
        }
        let need = PREFIX + len as u64;
        let to_end = self.shared.len() - (self.tail & (self.shared.len() - 1));
        let skipped = if need > to_end { to_end } else { 0 };
        let end = self.tail + skipped + need.next_multiple_of(PREFIX);
        if end - self.head_seen > self.shared.len() {
            self.head_seen = self.shared.head.0.load(Ordering::Acquire);
            if end - self.head_seen > self.shared.len() {
                return None;
            }
        }
        let begin = self.tail + skipped;
        Some(Reservation { begin, end, len, skipped, sender: self })
    }

    /// Sends a message made of parts; false where there is no space now.
    pub fn send(&mut self, parts: &[&[u8]]) -> bool {
        let Some(mut space) = self.reserve(parts.iter().map(|part| part.len()).sum()) else {
            return false;
        };
        let mut at = 0;
        for part in parts {
            space[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        space.commit();
        true
    }
}

/// Space for one message.
pub struct Reservation<'a> {
    sender: &'a mut Sender,
    begin: u64,
    end: u64,
    len: usize,
    skipped: u64,
}

impl Reservation<'_> {
    /// Sends the message.
    pub fn commit(self) {
        let shared = &*self.sender.shared;
        if self.skipped > 0 {
            // SAFETY: the old tail is a multiple of 8 below the end, within space the receiver has given up.
            unsafe { shared.at(self.sender.tail).cast::<u32>().write(SKIP) };
        }
        // SAFETY: `begin` is a multiple of 8, and the whole reservation lies in space the receiver has given up.
        unsafe { shared.at(self.begin).cast::<u32>().write(self.len as u32) };
        self.sender.tail = self.end;
        shared.tail.0.store(self.end, Ordering::Release);
    }
}

impl Deref for Reservation<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: as for `deref_mut`.
        unsafe { core::slice::from_raw_parts(self.sender.shared.at(self.begin + PREFIX), self.len) }
    }
}

impl DerefMut for Reservation<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: the reservation lies in one piece in space the receiver has given up, initialised by mmap or an earlier
        // message, and the exclusive borrow of the only sender keeps others out.
        unsafe { core::slice::from_raw_parts_mut(self.sender.shared.at(self.begin + PREFIX), self.len) }
    }
}

impl Receiver {
    /// The next message, which frees its space when dropped; `None` where there is none now.
    pub fn receive(&mut self) -> Option<Message<'_>> {
        loop {
            if self.head == self.tail_seen {
                self.tail_seen = self.shared.tail.0.load(Ordering::Acquire);
                if self.head == self.tail_seen {
                    return None;
                }
            }
            // SAFETY: `head` is a multiple of 8 below the tail the sender published, so a length or a skip lies there.
            let len = unsafe { self.shared.at(self.head).cast::<u32>().read() };
            if len != SKIP {
                return Some(Message { len, receiver: self });
            }
            self.head += self.shared.len() - (self.head & (self.shared.len() - 1));
        }
    }

    /// Whether there is no message now.
    #[must_use]
    pub fn is_empty(&mut self) -> bool {
        if self.head == self.tail_seen {
            self.tail_seen = self.shared.tail.0.load(Ordering::Acquire);
        }
        self.head == self.tail_seen
    }

    /// Whether the other end is gone; messages it sent before may still be here.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        Arc::strong_count(&self.shared) == 1
    }
}

/// One message, lent.
pub struct Message<'a> {
    receiver: &'a mut Receiver,
    len: u32,
}

impl Deref for Message<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let begin = self.receiver.shared.at(self.receiver.head + PREFIX);
        // SAFETY: the sender wrote `len` bytes here in one piece and published them; it does not touch them before the head
        // moves past them, which the drop of this value does.
        unsafe { core::slice::from_raw_parts(begin, self.len as usize) }
    }
}

impl Drop for Message<'_> {
    fn drop(&mut self) {
        self.receiver.head += (PREFIX + u64::from(self.len)).next_multiple_of(PREFIX);
        self.receiver.shared.head.0.store(self.receiver.head, Ordering::Release);
    }
}

impl core::fmt::Debug for Sender {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Sender({} bytes sent)", self.tail)
    }
}

impl core::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Receiver({} bytes received)", self.head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Message `number` of a stream: its length and bytes follow from its number.
    fn message(number: u32, longest: usize) -> Vec<u8> {
        let mixed = number.wrapping_mul(0x9e37_79b9);
        (0..mixed as usize % (longest + 1)).map(|at| (at as u32 ^ mixed) as u8).collect()
    }

    #[test]
    fn a_full_ring_refuses_and_takes_again_after_a_read() {
        let (mut sender, mut receiver) = channel(4096).unwrap();
        let mut sent = 0u32;
        while sender.send(&[&sent.to_le_bytes(), &[7; 300]]) {
            sent += 1;
        }
        assert!(sent > 10);
        assert_eq!(&receiver.receive().unwrap()[..4], 0u32.to_le_bytes());
        assert!(sender.send(&[&sent.to_le_bytes(), &[7; 300]]));
        for number in 1..=sent {
            assert_eq!(&receiver.receive().unwrap()[..4], number.to_le_bytes());
        }
        assert!(receiver.receive().is_none() && receiver.is_empty());
    }

    #[test]
    fn the_longest_message_fits_and_a_longer_one_never_does() {
        let (mut sender, mut receiver) = channel(4096).unwrap();
        let longest = sender.message_bytes_max();
        assert!(sender.reserve(longest + 1).is_none());
        for _ in 0..20 {
            assert!(sender.send(&[&vec![3; longest]]));
            assert_eq!(receiver.receive().unwrap().len(), longest);
        }
    }

    #[test]
    fn a_reservation_that_is_dropped_sends_nothing() {
        let (mut sender, mut receiver) = channel(4096).unwrap();
        assert!(sender.reserve(10).is_some());
        assert!(receiver.receive().is_none());
        assert!(sender.send(&[b"after"]));
        assert_eq!(&*receiver.receive().unwrap(), b"after");
    }

    #[test]
    fn a_million_bytes_cross_between_threads_unchanged() {
        let (mut sender, mut receiver) = channel(4096).unwrap();
        let longest = sender.message_bytes_max();
        let peer = std::thread::spawn(move || {
            for number in 0..20_000 {
                let bytes = message(number, longest);
                while !sender.send(&[&bytes]) {
                    std::thread::yield_now();
                }
            }
        });
        for number in 0..20_000 {
            loop {
                if let Some(got) = receiver.receive() {
                    assert!(*got == *message(number, longest), "message {number}");
                    break;
                }
                std::thread::yield_now();
            }
        }
        peer.join().unwrap();
        assert!(receiver.is_closed() && receiver.is_empty());
    }

    #[test]
    fn a_ring_of_no_power_of_two_is_refused() {
        assert!(channel(5000).is_err() && channel(1024).is_err());
    }
}
