//! The shard's payload memory: one aligned slab, addressed by ranges.
//!
//! Handles are plain numbers counted by the shard, so no reference count is touched on the way of a record. The
//! shell knows where the slab begins and turns a range into an address when it submits an operation.

use crate::limits::BLOCK_BYTES;

/// A stretch of the slab, in bytes from its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemoryRange {
    /// Where it begins.
    pub at: u32,
    /// How many bytes it has.
    pub len: u32,
}

impl MemoryRange {
    /// The first byte after the range.
    #[must_use]
    pub const fn end(self) -> u32 {
        self.at + self.len
    }
}

/// All payload memory of one shard, at most 4 GiB less a block.
///
/// The shell may hand ranges of it to the kernel, which reads them (writes to disk, sends) or fills them (disk
/// reads). The owner keeps the rule that makes this sound: bytes under an operation in flight are not written, and
/// not read either while the kernel fills them.
pub struct Slab {
    bytes: &'static mut [u8],
    home: Option<fn(&'static mut [u8])>,
    bring: Option<fn(&[u8])>,
}

impl Slab {
    /// Takes over memory that begins at a multiple of [`BLOCK_BYTES`] and is zero.
    ///
    /// # Panics
    /// If the memory is not aligned or larger than a [`MemoryRange`] can name: a fault of the caller at start.
    #[must_use]
    pub fn new(bytes: &'static mut [u8]) -> Self {
        assert!((bytes.as_ptr() as usize).is_multiple_of(BLOCK_BYTES), "the slab begins at a block");
        assert!(bytes.len() <= (u32::MAX as usize + 1) - BLOCK_BYTES, "a range names any byte of the slab");
        Self { bytes, home: None, bring: None }
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is no memory at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes of a range.
    #[must_use]
    pub fn get(&self, range: MemoryRange) -> &[u8] {
        &self.bytes[range.at as usize..][..range.len as usize]
    }

    /// The bytes of a range, to write.
    #[must_use]
    pub fn get_mut(&mut self, range: MemoryRange) -> &mut [u8] {
        &mut self.bytes[range.at as usize..][..range.len as usize]
    }

    /// Has the bytes of a range brought into the core's cache, if the shell knows how, and does not wait for them. They are
    /// not looked at; a range that does not lie in the slab is left alone.
    #[inline]
    pub fn bring(&self, range: MemoryRange) {
        if let Some(bring) = self.bring
            && let Some(bytes) = self.bytes.get(range.at as usize..range.end() as usize)
        {
            bring(bytes);
        }
    }

    /// Copies `from` to `to`, which must not overlap it.
    pub fn copy(&mut self, from: MemoryRange, to: u32) {
        self.bytes.copy_within(from.at as usize..from.end() as usize, to as usize);
    }

    /// Has the memory given back when the slab is dropped, wherever that is, to whoever uses it again.
    #[must_use]
    pub fn with_home(mut self, home: fn(&'static mut [u8])) -> Self {
        self.home = Some(home);
        self
    }

    /// Has [`Slab::bring`] do that by this.
    #[must_use]
    pub fn with_bring(mut self, bring: fn(&[u8])) -> Self {
        self.bring = Some(bring);
        self
    }

    /// Where the slab begins in memory, for the shell.
    #[must_use]
    pub fn address(&mut self) -> *mut u8 {
        self.bytes.as_mut_ptr()
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        if let Some(home) = self.home {
            home(core::mem::take(&mut self.bytes));
        }
    }
}

impl core::fmt::Debug for Slab {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Slab({} bytes)", self.bytes.len())
    }
}
