//! One partition's log in memory, and plans for its files: append, read, roll, index, retain, producer windows, restart.
//!
//! Pure: nothing here does I/O. A [`Partition`] gives plans ([`WritePlan`], [`FlushPlan`], [`SpacePlan`], [`OpenPlan`],
//! [`ColdRead`] ...), its owner carries them out and tells it how they ended. Payload lives in the shard's
//! [`Slab`](cutwater_model::Slab), of which [`Pages`] says who uses what. STORAGE.md holds the rules, docs/LOG_FORMAT.md
//! draws the bytes.
//!
//! Read in this order: `position`, `partition`, `append`, `tail`, `segment`, `writeback`, `flush`, `read`, `preread`, `snapshot`, `replay`.
#![no_std]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]
extern crate alloc;

mod ahead;
mod append;
mod bulk;
mod bytes;
mod carry;
mod cold;
mod flush;
pub mod format;
mod index;
mod lookup;
#[cfg(test)]
mod model_tests;
mod pages;
mod partition;
#[cfg(feature = "plants")]
pub mod plants;
mod position;
mod preread;
mod producers;
mod read;
mod replay;
mod retain;
mod segment;
mod skip;
mod snapshot;
mod space;
mod tail;
#[cfg(test)]
mod test_rig;
#[cfg(test)]
mod test_support;
mod writeback;

pub use append::{Appended, Landed, NoRoom};
pub use bulk::{BulkPlan, BulkRef};
pub use carry::carried;
pub use cold::{ColdError, ColdFault, ColdRead, Trimmed, find_time, trim_cold};
pub use flush::FlushPlan;
pub use format::{FormatError, SegmentIdentity};
pub use lookup::TimeLookup;
pub use pages::{CHUNK_BYTES_MAX, Pages};
pub use partition::Partition;
pub use position::{Covered, LogEnd, RangeList};
pub use preread::{Prelude, Preread};
pub use producers::{ProducerBatch, ProducerVerdict};
pub use read::{HotRead, ReadHint, ReadPlan};
pub use replay::{ReplayEntry, ReplayError, Replayed, Run, RunRead};
pub use retain::{OffsetOutside, Removal};
pub use snapshot::{RestoreError, STATE_VERSION};
pub use space::{IndexFilePlan, OpenPlan, SpacePlan};
pub use tail::TailPin;
pub use writeback::WritePlan;
