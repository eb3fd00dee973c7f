//! Where bytes become durable: one journal per shard, a ring of files written in place (STORAGE.md section 1).
//!
//! A running shard uses [`Journal`]: it fills a [`GroupBuilder`], submits it, and learns what is durable when writes
//! complete. A starting shard uses [`fn@scan::scan`] to replay what the last life left, from the place that the newest
//! [`checkpoint`] names. The bytes are drawn in `docs/LOG_FORMAT.md`.
//!
//! Pure: lives on the shard's core and does no I/O; recovery reads through [`cutwater_model::storage::Storage`].
#![no_std]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]
extern crate alloc;

pub mod checkpoint;
pub mod entry;
pub mod group;
pub mod in_flight;
pub mod journal;
pub mod place;
#[cfg(feature = "plants")]
pub mod plants;
pub mod ring;
pub mod scan;

#[cfg(test)]
mod test_disk;
#[cfg(test)]
mod test_rig;

pub use entry::{Entry, EntryAt, EntryHead, EntryKind};
pub use group::{GROUP_BUFFER_BYTES, GroupBuilder, Sealed};
pub use journal::{Journal, JournalFull, JournalWrite, Submission};
pub use place::{ChainEnd, Place, ReplayPlace, Sequence};
pub use scan::{Gap, GroupInfo, ScanError, Scanned, scan};
