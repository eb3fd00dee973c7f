//! Receive buffers that the kernel picks from as bytes arrive (a mapped buffer ring, io_uring_register_buf_ring(3)).
//!
//! A buffer belongs to the kernel until a completion lends it out, and again from the moment it is recycled. A lent
//! buffer is a value that can't be copied, so nobody reads one that the kernel fills.

use core::ops::Deref;
use core::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use crate::arena::Map;
use crate::completion::Errno;

/// The one group of buffers each ring has.
pub(crate) const GROUP: u16 = 0;

/// Bytes that were received, in a buffer lent by the ring.
#[derive(Debug)]
pub struct ReceivedBuffer {
    address: *const u8,
    len: u32,
    id: u16,
    ring: u32,
}

impl Deref for ReceivedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the kernel filled `len` bytes here and lent the buffer out; it writes it again only after `give_back`,
        // which consumes this value, and the mapping stays while any buffer is lent.
        unsafe { core::slice::from_raw_parts(self.address, self.len as usize) }
    }
}

/// The buffers of one ring, lent and free.
pub(crate) struct ReceiveBuffers {
    ring: u32,
    entries: Map,
    memory: Map,
    count: u16,
    bytes_each: u32,
    tail: u16,
    lent: u32,
}

impl ReceiveBuffers {
    /// Maps `count` buffers, a power of two up to 32768, of `bytes_each`, all free.
    pub(crate) fn new(ring: u32, count: u16, bytes_each: u32) -> Result<Self, Errno> {
        if !count.is_power_of_two() || bytes_each == 0 {
            return Err(Errno(libc::EINVAL));
        }
        let entries = Map::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let memory = Map::new(usize::from(count) * bytes_each as usize)?;
        let mut buffers = Self { ring, entries, memory, count, bytes_each, tail: 0, lent: 0 };
        for id in 0..count {
            buffers.offer(id);
        }
        Ok(buffers)
    }

    /// Where the shared entries begin and how many there are, for registration.
    pub(crate) fn registration(&self) -> (u64, u16) {
        (self.entries.address as u64, self.count)
    }

    /// Takes the buffer that a completion names, filled with `len` bytes.
    pub(crate) fn lend(&mut self, id: u16, len: u32) -> Option<ReceivedBuffer> {
        if id >= self.count || len > self.bytes_each {
            return None;
        }
        self.lent += 1;
        let address = self.memory.address.wrapping_add(usize::from(id) * self.bytes_each as usize);
        Some(ReceivedBuffer { address, len, id, ring: self.ring })
    }

    /// Takes a lent buffer back and offers it to the kernel.
    pub(crate) fn give_back(&mut self, buffer: ReceivedBuffer) {
        assert_eq!(buffer.ring, self.ring, "a received buffer goes back to the ring that lent it");
        self.lent -= 1;
        self.offer(buffer.id);
    }

    /// How many buffers are lent out now.
    pub(crate) fn lent(&self) -> u32 {
        self.lent
    }

    fn offer(&mut self, id: u16) {
        let slot = usize::from(self.tail & (self.count - 1));
        let base = self.entries.address.cast::<BufRingEntry>();
        let address = self.memory.address.wrapping_add(usize::from(id) * self.bytes_each as usize);
        // SAFETY: `slot` is below the number of entries mapped; the kernel reads an entry only once the tail passed it.
        let entry = unsafe { &mut *base.add(slot) };
        entry.set_addr(address as u64);
        entry.set_len(self.bytes_each);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail lies in the reserved field of the first entry (io_uring_setup_buf_ring(3)), aligned to 2, and is
        // shared with the kernel only; the release store publishes the entry before it.
        unsafe { &*BufRingEntry::tail(base).cast::<AtomicU16>() }.store(self.tail, Ordering::Release);
    }

    /// Gives the memory up for ever, because the kernel or a borrower may still use it.
    pub(crate) fn leak(self) {
        self.entries.leak();
        self.memory.leak();
    }
}
