//! Where a syscall happens: io_uring, sockets, files, timers, doorbells, aligned memory, probes.
//!
//! This is the one crate that may be unsafe; what it offers is safe. One [`Ring`] lives on each core's thread and
//! does everything that core waits for.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod arena;
pub mod clock;
pub mod completion;
mod control_ops;
pub mod cores;
mod error;
mod file_ops;
mod in_flight;
pub mod receive_buffers;
pub mod ring;
mod setup;
pub mod socket;
mod socket_ops;

pub use arena::Arena;
pub use clock::{Clock, entropy};
pub use completion::{Attachment, Completion, Errno, Token};
pub use error::{RingError, SetupStep};
pub use receive_buffers::ReceivedBuffer;
pub use ring::{Ring, RingAddress, RingStats, Wait};
pub use setup::{RingConfig, RingFeatures};
pub use socket_ops::Piece;

#[cfg(test)]
mod ring_tests;
#[cfg(test)]
mod test_folder;
