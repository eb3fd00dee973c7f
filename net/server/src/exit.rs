//! What a node's exit code says.

use cutwater_model::storage::StorageErrorKind;
use cutwater_node::NodeError;
use cutwater_node::start::ProbeError;

use crate::serve::ServeError;

/// Why the process ended, as its exit code tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitReason {
    /// It failed in a way that has no code of its own.
    Failed = 1,
    /// The configuration was refused.
    Configuration = 2,
    /// An address could not be had.
    Address = 10,
    /// Another process holds the data folder.
    Locked = 11,
    /// The data folder can't be written.
    NotWritable = 12,
    /// Its file system has no O_DIRECT.
    NoDirect = 13,
    /// io_uring can't be used, or the kernel is too old.
    NoRing = 14,
    /// A limit of the process is too low: descriptors, memory.
    Limits = 15,
    /// What is on the disk can't be started from; see the message before doing anything.
    Recovery = 16,
}

impl ExitReason {
    /// The exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// What an error means.
    #[must_use]
    pub fn of(error: &ServeError) -> Self {
        match error {
            ServeError::Config(_) => Self::Configuration,
            ServeError::ReadyFile { .. } | ServeError::Logs(_) => Self::Failed,
            ServeError::Node(error) => Self::of_node(error),
        }
    }

    fn of_node(error: &NodeError) -> Self {
        match error {
            NodeError::Probe(lack) if lack.is_limit() => Self::Limits,
            NodeError::Probe(ProbeError::Kernel { .. } | ProbeError::Ring(_)) | NodeError::Ring(_) => {
                Self::NoRing
            }
            NodeError::Probe(ProbeError::NotWritable { .. }) => Self::NotWritable,
            NodeError::Probe(ProbeError::NoDirect { .. }) => Self::NoDirect,
            NodeError::Probe(ProbeError::Descriptors { .. }) | NodeError::Memory(_) => Self::Limits,
            NodeError::Storage(error) => match error.kind {
                StorageErrorKind::Locked => Self::Locked,
                StorageErrorKind::Denied | StorageErrorKind::WrongType | StorageErrorKind::NotFound => {
                    Self::NotWritable
                }
                _ => Self::Failed,
            },
            NodeError::Socket(_) => Self::Address,
            NodeError::Metadata(_) | NodeError::Shard(_) => Self::Recovery,
            NodeError::Control(_) | NodeError::System { .. } => Self::Failed,
        }
    }
}
