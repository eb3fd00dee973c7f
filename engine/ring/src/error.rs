//! Why a ring could not be set up or entered, in words an operator can act on.

use core::fmt;

use crate::completion::Errno;

/// The step of setting up a ring that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetupStep {
    /// io_uring_setup(2).
    Create,
    /// Mapping memory for the receive buffers.
    MapBuffers,
    /// Registering the receive buffers with the kernel.
    RegisterBuffers,
    /// Taking a second descriptor of the ring, by which peers address it.
    Address,
}

/// Why a ring does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// It could not be set up.
    #[error("setting up io_uring failed at {step}: {errno}; {}", setup_remedy(*.errno))]
    Setup {
        /// Where.
        step: SetupStep,
        /// Why.
        errno: Errno,
    },
    /// It could not be entered: its thread can neither submit nor reap any more.
    #[error("io_uring_enter failed: {errno}; the thread of this ring can't go on, restart the process")]
    Enter {
        /// Why.
        errno: Errno,
    },
}

impl fmt::Display for SetupStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "io_uring_setup",
            Self::MapBuffers => "mapping receive buffers",
            Self::RegisterBuffers => "registering receive buffers",
            Self::Address => "duplicating its descriptor",
        })
    }
}

/// What to do about a ring that can't be set up.
pub(crate) fn setup_remedy(errno: Errno) -> &'static str {
    match errno.0 {
        libc::EPERM | libc::EACCES => {
            "io_uring is forbidden here: set `sysctl kernel.io_uring_disabled=0` (or join the group of \
             kernel.io_uring_group), and allow io_uring_setup, io_uring_enter and io_uring_register in the \
             container's seccomp profile"
        }
        libc::ENOSYS => {
            "this kernel or the container's seccomp profile lacks io_uring: use Linux 6.1 or later and allow \
             the io_uring calls"
        }
        libc::ENOMEM => {
            "the kernel may not pin enough memory: raise `ulimit -l` to 8192 (systemd: LimitMEMLOCK=8M) or free memory"
        }
        libc::EMFILE | libc::ENFILE => {
            "too many open files: raise `ulimit -n` (systemd: LimitNOFILE=1048576)"
        }
        libc::EINVAL => "the kernel lacks a feature the ring needs: use Linux 6.1 or later",
        _ => "look the error up in io_uring_setup(2)",
    }
}
