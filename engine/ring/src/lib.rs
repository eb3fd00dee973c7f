//! Where a syscall happens: io_uring, sockets, files, timers, doorbells, aligned memory, probes.
//!
//! This is the one crate that may be unsafe; what it offers is safe. One [`Ring`] lives on each core's thread and
//! does everything that core waits for; [`DiskStorage`] is the disk of start-up and recovery; [`FileThread`] does
//! the slow operations on names and space at run time, out of the way of the pumps.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod arena;
pub mod clock;
pub mod completion;
mod control_ops;
pub mod cores;
pub mod data_folder;
pub mod disk_storage;
pub mod doorbell;
mod error;
mod file_ops;
pub mod file_thread;
mod in_flight;
pub mod probes;
pub mod receive_buffers;
pub mod ring;
mod setup;
pub mod socket;
mod socket_ops;
pub mod spsc;
mod zeroing;

pub use arena::Arena;
pub use clock::{Clock, entropy};
pub use completion::{Attachment, Completion, Errno, Token};
pub use data_folder::DataFolder;
pub use disk_storage::DiskStorage;
pub use doorbell::Doorbell;
pub use error::{RingError, SetupStep};
pub use file_thread::{FileClient, FileDone, FileJob, FileThread};
pub use receive_buffers::ReceivedBuffer;
pub use ring::{Ring, RingAddress, RingStats, Wait};
pub use setup::{RingConfig, RingFeatures};
pub use socket_ops::Piece;

#[cfg(test)]
mod disk_tests;
#[cfg(test)]
mod ring_tests;
#[cfg(test)]
mod test_folder;
