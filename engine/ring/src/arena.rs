//! Payload memory that lives as long as the process: aligned, zero, taken from the system only when touched.

use cutwater_model::Slab;
use cutwater_model::limits::BLOCK_BYTES;

use crate::completion::Errno;

/// Takes memory for slabs.
#[derive(Debug)]
pub struct Arena;

/// Why there is no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("mapping {bytes} bytes of memory failed: {errno}; lower the memory budget or raise `ulimit -v`")]
pub struct ArenaError {
    /// How much was asked for.
    pub bytes: usize,
    /// Why not.
    pub errno: Errno,
}

impl Arena {
    /// Maps at least `bytes` of zeroed memory, rounded up to whole blocks, that is never unmapped.
    ///
    /// Pages are taken when they are first touched, so an idle slab costs nothing. With `huge_pages` the kernel is
    /// asked to back it by 2 MiB pages, which is faster under load and dearer when idle.
    ///
    /// # Errors
    /// When the system refuses; also when `bytes` is zero or more than a slab may have.
    pub fn leak(bytes: usize, huge_pages: bool) -> Result<Slab, ArenaError> {
        let whole = bytes.checked_next_multiple_of(BLOCK_BYTES).unwrap_or(usize::MAX);
        if bytes == 0 || whole > (u32::MAX as usize + 1) - BLOCK_BYTES {
            return Err(ArenaError { bytes, errno: Errno(libc::EINVAL) });
        }
        let map = Map::new(whole).map_err(|errno| ArenaError { bytes, errno })?;
        if huge_pages {
            // SAFETY: the range is the mapping just made; MADV_HUGEPAGE changes no content. A refusal costs only speed.
            unsafe { libc::madvise(map.address.cast(), whole, libc::MADV_HUGEPAGE) };
        }
        Ok(Slab::new(map.leak()).with_bring(bring))
    }

    /// Has the system back the first `bytes` of a slab in the background, on the calling thread's core while nobody else
    /// wants that: a page that is touched for the first time under load costs more than all else that is done for its
    /// bytes, in a virtual machine above all. Where the kernel can't (madvise(2), before Linux 5.14), nothing happens.
    pub fn touch_in_background(slab: &mut Slab, bytes: usize) {
        let (address, bytes) = (slab.address() as usize, bytes.min(slab.len()));
        if bytes == 0 {
            return;
        }
        // A system without a thread to spare has other worries; the pages come when they are needed.
        let _ = std::thread::Builder::new().name("memory".to_owned()).spawn(move || {
            // SAFETY: it changes the priority of this thread, no memory. A refusal costs only speed.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, LOWEST_PRIORITY) };
            for from in (0..bytes).step_by(TOUCH_BYTES) {
                if !touch(address + from, TOUCH_BYTES.min(bytes - from)) {
                    break;
                }
            }
        });
    }

    /// Locks the slab's pages in memory, so that no access ever waits for the swap device. Takes all of it at once.
    ///
    /// # Errors
    /// When `ulimit -l` is too low or memory is short.
    pub fn lock(slab: &mut Slab) -> Result<(), ArenaError> {
        let bytes = slab.len();
        // SAFETY: the range is the slab's, which lives for ever; mlock changes no content.
        if unsafe { libc::mlock(slab.address().cast(), bytes) } == 0 {
            Ok(())
        } else {
            Err(ArenaError { bytes, errno: Errno::last() })
        }
    }
}

/// Starts to load the cache lines that these bytes lie in.
fn bring(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes.chunks(LINE_BYTES).chain(bytes.last().map(core::slice::from_ref)) {
        // SAFETY: a prefetch reads nothing that the program sees and faults on no address.
        unsafe {
            core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(line.as_ptr().cast())
        };
    }
    // Elsewhere the processor is left to find out by itself.
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}

/// A cache line.
#[cfg(target_arch = "x86_64")]
const LINE_BYTES: usize = 64;
/// As nice as a thread can be.
const LOWEST_PRIORITY: libc::c_int = 19;
/// So much is touched at once: a huge page.
const TOUCH_BYTES: usize = 2 * 1024 * 1024;

/// Makes pages of a slab present and writable, their content as it was; false where the kernel refuses.
fn touch(address: usize, bytes: usize) -> bool {
    // SAFETY: the range lies in a slab, whose mapping lives as long as the process, and MADV_POPULATE_WRITE changes no
    // content, so whoever uses the pages meanwhile sees nothing of it.
    unsafe { libc::madvise(address as *mut libc::c_void, bytes, libc::MADV_POPULATE_WRITE) == 0 }
}

/// An anonymous, private, zeroed mapping. Unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Map {
    pub(crate) address: *mut u8,
    pub(crate) bytes: usize,
}

impl Map {
    pub(crate) fn new(bytes: usize) -> Result<Self, Errno> {
        // SAFETY: an anonymous mapping at a place the kernel chooses overlaps no memory of ours.
        let address = unsafe {
            libc::mmap(
                core::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            Err(Errno::last())
        } else {
            Ok(Self { address: address.cast(), bytes })
        }
    }

    /// Gives the memory up for ever.
    pub(crate) fn leak(self) -> &'static mut [u8] {
        let (address, bytes) = (self.address, self.bytes);
        core::mem::forget(self);
        // SAFETY: the mapping is readable, writable, zeroed, nobody else's, and never unmapped, its owner being forgotten.
        unsafe { core::slice::from_raw_parts_mut(address, bytes) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this length, and its owner goes out of use here.
        unsafe { libc::munmap(self.address.cast(), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use cutwater_model::MemoryRange;

    use super::*;

    #[test]
    fn a_slab_is_whole_blocks_of_zeros() {
        let mut slab = Arena::leak(5000, false).unwrap();
        assert_eq!(slab.len(), 8192);
        assert_eq!(slab.address() as usize % BLOCK_BYTES, 0);
        assert!(slab.get(MemoryRange { at: 0, len: 8192 }).iter().all(|&byte| byte == 0));
    }

    #[test]
    fn what_is_touched_is_there_and_as_it_was() {
        let mut slab = Arena::leak(1 << 20, false).unwrap();
        slab.get_mut(MemoryRange { at: 4096, len: 1 }).fill(7);
        let address = slab.address() as usize;
        let is_there = |at: usize| {
            let mut seen = 0_u8;
            // SAFETY: the page is the slab's, and mincore writes one byte for it.
            assert_eq!(unsafe { libc::mincore((address + at) as *mut libc::c_void, 4096, &mut seen) }, 0);
            seen & 1 == 1
        };
        assert!(!is_there(512 << 10));
        assert!(touch(address, 768 << 10), "Linux 5.14 and later");
        assert!(is_there(512 << 10) && !is_there(800 << 10));
        assert_eq!(slab.get(MemoryRange { at: 4095, len: 3 }), [0, 7, 0]);
    }

    #[test]
    fn no_slab_is_empty_or_beyond_four_gibibytes() {
        assert_eq!(Arena::leak(0, false).unwrap_err().errno, Errno(libc::EINVAL));
        assert_eq!(Arena::leak(usize::MAX, false).unwrap_err().errno, Errno(libc::EINVAL));
    }
}
