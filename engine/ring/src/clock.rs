//! The two clocks, and random bits: what the pure crates may not read themselves.

use cutwater_model::{Now, TimestampMs};

use crate::completion::Errno;

/// Reads the clocks of this machine; no system call where the kernel maps them (vdso(7)).
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// Both clocks.
    #[must_use]
    pub fn now(self) -> Now {
        Now { mono_us: self.mono_us(), wall: self.wall() }
    }

    /// Microseconds on the monotonic clock; only differences mean anything.
    #[must_use]
    pub fn mono_us(self) -> u64 {
        self.mono_ns() / 1000
    }

    /// Nanoseconds on the monotonic clock.
    #[must_use]
    pub fn mono_ns(self) -> u64 {
        let time = read(libc::CLOCK_MONOTONIC);
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }

    /// The wall clock, which may jump.
    #[must_use]
    pub fn wall(self) -> TimestampMs {
        let time = read(libc::CLOCK_REALTIME);
        TimestampMs(time.tv_sec * 1000 + time.tv_nsec / 1_000_000)
    }
}

/// Processor time this thread has used, in microseconds.
#[must_use]
pub fn thread_cpu_us() -> u64 {
    let time = read(libc::CLOCK_THREAD_CPUTIME_ID);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable and outlives the call. It can't fail for clocks that every Linux has.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time
}

/// 128 bits nobody can foretell (getrandom(2)).
///
/// # Errors
/// When the kernel has none, which no kernel this runs on does.
pub fn entropy() -> Result<u128, Errno> {
    let mut bytes = [0u8; 16];
    for _ in 0..100 {
        // SAFETY: the buffer is writable for the length told. Up to 256 bytes come whole or not at all.
        let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        if got == 16 {
            return Ok(u128::from_le_bytes(bytes));
        }
        if Errno::last() != Errno::INTERRUPTED {
            return Err(Errno::last());
        }
    }
    Err(Errno::INTERRUPTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_never_goes_back() {
        let times: Vec<u64> = (0..1000).map(|_| Clock.mono_ns()).collect();
        assert!(times.is_sorted());
    }

    #[test]
    fn the_wall_clock_agrees_with_the_standard_library() {
        let theirs = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert!((Clock.wall().0 - theirs.as_millis() as i64).abs() < 60_000);
    }

    #[test]
    fn entropy_does_not_repeat() {
        assert_ne!(entropy().unwrap(), entropy().unwrap());
    }
}
