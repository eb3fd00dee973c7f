//! What the node knows of its topics: records make an [`Image`] (STORAGE.md section 5).
//!
//! The control thread owns the [`Controller`]. It checks a [`Command`], makes its record durable in both copies of the
//! node's own log, and only then shows the new image, which every shard shares. In a cluster the same records are
//! ordered by a quorum. The bytes are drawn in `docs/LOG_FORMAT.md`.
//!
//! Pure but for [`cutwater_model::storage::Storage`], which it waits for.
#![no_std]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]
extern crate alloc;

pub mod command;
pub mod controller;
pub mod image;
pub mod record;

mod codec;
mod copy;
mod open;

#[cfg(test)]
mod test_disk;

pub use command::{ApplyError, Command, Outcome};
pub use controller::Controller;
pub use copy::{CopyFault, METADATA_VERSION};
pub use image::{Image, Topic};
pub use open::{OpenError, OpenReport};
pub use record::{Identity, Record};
