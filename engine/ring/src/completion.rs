//! What a ring hands back: which operation, how it ended, and what it carried.

use core::fmt;
use std::os::fd::OwnedFd;

use crate::receive_buffers::ReceivedBuffer;

/// Names an operation; the caller chooses it, and several operations may share one.
///
/// A token that travels to another ring by [`crate::Ring::message`] loses its highest bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

/// The number of an error, as errno(3) lists them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Errno(pub i32);

impl Errno {
    /// The operation was cancelled.
    pub const CANCELED: Self = Self(libc::ECANCELED);
    /// No receive buffer was free: recycle some, then receive again.
    pub const NO_BUFFERS: Self = Self(libc::ENOBUFS);
    /// The memory named lies outside what the ring may touch.
    pub const FAULT: Self = Self(libc::EFAULT);
    /// The time is up; how a [`crate::Ring::timeout`] ends.
    pub const TIME: Self = Self(libc::ETIME);
    /// Interrupted before anything was done; try the same again.
    pub const INTERRUPTED: Self = Self(libc::EINTR);
    /// Not now; try the same again.
    pub const AGAIN: Self = Self(libc::EAGAIN);
    /// The kernel lacks memory; try the same again a little later.
    pub const NO_MEMORY: Self = Self(libc::ENOMEM);
    /// The device could not; never try a flush again after this.
    pub const DEVICE: Self = Self(libc::EIO);
    /// The file system is full.
    pub const FULL: Self = Self(libc::ENOSPC);
    /// The process holds as many descriptors as it may.
    pub const TOO_MANY_FILES: Self = Self(libc::EMFILE);
    /// Another socket is bound there.
    pub const ADDRESS_IN_USE: Self = Self(libc::EADDRINUSE);
    /// The kernel does not know the operation.
    pub const NOT_SUPPORTED: Self = Self(libc::EOPNOTSUPP);

    /// Whether the same operation may succeed if it is simply tried again (STORAGE.md E1).
    #[must_use]
    pub const fn is_transient(self) -> bool {
        matches!(self.0, libc::EINTR | libc::EAGAIN | libc::ENOMEM)
    }

    pub(crate) fn last() -> Self {
        Self::of(&std::io::Error::last_os_error())
    }

    pub(crate) fn of(error: &std::io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Errno({}: {self})", self.0)
    }
}

/// What comes back with a completion.
#[derive(Debug, Default)]
pub enum Attachment {
    /// Nothing.
    #[default]
    None,
    /// Received bytes, lent; give them back by [`crate::Ring::recycle`].
    Received(ReceivedBuffer),
    /// The buffer handed over with a send or an owned receive: the kernel is done with it.
    Returned(Vec<u8>),
    /// A connection that was accepted, or a file that was opened. It closes when dropped.
    Descriptor(OwnedFd),
}

/// The end of an operation, or one of several results of it.
#[derive(Debug)]
pub struct Completion {
    /// The token the caller gave.
    pub token: Token,
    /// What the call of that name returns: bytes moved, a descriptor's number, zero; or why not.
    pub result: Result<u32, Errno>,
    /// Whether the operation goes on and will complete again.
    pub more: bool,
    /// What it carried.
    pub attachment: Attachment,
}
