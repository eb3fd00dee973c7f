//! Waking a thread that sleeps in its ring.
//!
//! The owner says that it is about to sleep, looks into its queues once more, and sleeps; who fills a queue rings only
//! when the owner sleeps. The two fences make sure that one of them sees the other, so no wake-up is lost, and a busy
//! owner costs its peers one load.

use core::sync::atomic::{AtomicBool, Ordering, fence};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::completion::{Errno, Token};
use crate::ring::Ring;
use crate::socket::check;

/// A bell that many threads may ring and one hears.
#[derive(Debug)]
pub struct Doorbell {
    counter: OwnedFd,
    is_parked: AtomicBool,
}

impl Doorbell {
    /// A bell at rest.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn new() -> Result<Self, Errno> {
        // SAFETY: no memory is passed.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) })?;
        // SAFETY: the descriptor was just made for us and nobody else owns it.
        Ok(Self { counter: unsafe { OwnedFd::from_raw_fd(fd) }, is_parked: AtomicBool::new(false) })
    }

    /// The owner is about to sleep: from now on peers ring. It must look into its queues once more before it does.
    pub fn park(&self) {
        self.is_parked.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The owner is awake.
    pub fn unpark(&self) {
        self.is_parked.store(false, Ordering::Relaxed);
    }

    /// Wakes the owner if it sleeps. To be called after the queue was filled.
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.is_parked.load(Ordering::Relaxed) && self.is_parked.swap(false, Ordering::Relaxed) {
            self.ring_always();
        }
    }

    /// Wakes the owner whether it sleeps or not.
    pub fn ring_always(&self) {
        let one = 1u64;
        // SAFETY: eight bytes are read from `one`, which outlives the call. It fails only when the counter is full, and
        // then it rings already.
        unsafe { libc::write(self.counter.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    /// Has the owner's ring complete with `token` when the bell rings next. To be called again after each completion.
    pub fn listen(&self, ring: &mut Ring, token: Token) {
        ring.read_counter(token, &self.counter);
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.counter.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::AtomicU32;
    use core::time::Duration;
    use std::sync::Arc;

    use super::*;
    use crate::{RingConfig, Wait};

    #[test]
    fn no_wake_up_is_lost() {
        let (bell, work) = (Arc::new(Doorbell::new().unwrap()), Arc::new(AtomicU32::new(0)));
        let peer = {
            let (bell, work) = (bell.clone(), work.clone());
            std::thread::spawn(move || {
                for round in 0..2000 {
                    work.fetch_add(1, Ordering::Release);
                    bell.ring();
                    if round % 8 == 0 {
                        std::thread::yield_now();
                    }
                }
            })
        };
        let mut ring = Ring::new(&RingConfig { receive_buffers: 0, ..RingConfig::small() }).unwrap();
        let mut completions = Vec::new();
        bell.listen(&mut ring, Token(1));
        let mut seen = 0;
        while seen < 2000 {
            bell.park();
            let before = seen;
            seen = work.load(Ordering::Acquire);
            if seen == before && seen < 2000 {
                completions.clear();
                ring.enter(Wait::AtMost(Duration::from_secs(20)), &mut completions).unwrap();
                assert!(!completions.is_empty(), "it slept through a ring, {seen} of 2000 seen");
                bell.listen(&mut ring, Token(1));
            }
            bell.unpark();
        }
        peer.join().unwrap();
    }

    #[test]
    fn an_owner_that_is_awake_costs_no_system_call() {
        let bell = Doorbell::new().unwrap();
        bell.ring();
        let mut ring = Ring::new(&RingConfig { receive_buffers: 0, ..RingConfig::small() }).unwrap();
        let mut completions = Vec::new();
        bell.listen(&mut ring, Token(1));
        ring.enter(Wait::AtMost(Duration::from_millis(1)), &mut completions).unwrap();
        assert!(completions.is_empty());
    }
}
