//! The names of all files and folders below the data folder (DESIGN.md section 8).
//!
//! The core names a file by what it is; the shell turns the name into a path and keeps descriptors as it sees fit.
//! A name renders as a path relative to the data folder, with `/` between its parts.

use core::fmt;

use crate::ids::{Offset, PartitionId, ShardId, TopicId};

/// A file below the data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileName {
    /// `lock`: held by the one process that uses the folder.
    Lock,
    /// `node.toml`: what the node is, in words.
    Node,
    /// `metadata/log-<copy>`: the node's own log, doubled.
    Metadata {
        /// 0 or 1.
        copy: u8,
    },
    /// `journal/<shard>/<number>.journal`: one file of a shard's journal ring.
    Journal {
        /// Whose journal.
        shard: ShardId,
        /// Which file of the ring, from 0; not the order of use.
        number: u32,
    },
    /// `journal/<shard>/checkpoint-<copy>`: the doubled checkpoint.
    Checkpoint {
        /// Whose checkpoint.
        shard: ShardId,
        /// 0 or 1.
        copy: u8,
    },
    /// `topics/<topic>/<partition>/<base offset>.log`: a segment.
    Segment {
        /// Whose segment.
        partition: PartitionId,
        /// The offset of its first record.
        base: Offset,
    },
    /// `topics/<topic>/<partition>/<base offset>.index`: the index of that segment.
    Index {
        /// Whose segment's.
        partition: PartitionId,
        /// The offset of the segment's first record.
        base: Offset,
    },
    /// `pool/<shard>/<number>.free`: a written file that waits for its next use, or one that is being made.
    Pooled {
        /// Whose pool.
        shard: ShardId,
        /// Unique in this pool.
        number: u32,
    },
}

/// A folder below the data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DirName {
    /// The data folder itself.
    Root,
    /// `metadata`.
    Metadata,
    /// `journal`.
    Journals,
    /// `journal/<shard>`.
    Journal(ShardId),
    /// `topics`.
    Topics,
    /// `topics/<topic>`.
    Topic(TopicId),
    /// `topics/<topic>/<partition>`.
    Partition(PartitionId),
    /// `pool`.
    Pools,
    /// `pool/<shard>`.
    Pool(ShardId),
}

impl FileName {
    /// The folder the file lies in.
    #[must_use]
    pub const fn dir(self) -> DirName {
        match self {
            Self::Lock | Self::Node => DirName::Root,
            Self::Metadata { .. } => DirName::Metadata,
            Self::Journal { shard, .. } | Self::Checkpoint { shard, .. } => DirName::Journal(shard),
            Self::Segment { partition, .. } | Self::Index { partition, .. } => DirName::Partition(partition),
            Self::Pooled { shard, .. } => DirName::Pool(shard),
        }
    }
}

impl DirName {
    /// The folder above, or `None` for the data folder.
    #[must_use]
    pub const fn parent(self) -> Option<Self> {
        match self {
            Self::Root => None,
            Self::Metadata | Self::Journals | Self::Topics | Self::Pools => Some(Self::Root),
            Self::Journal(_) => Some(Self::Journals),
            Self::Topic(_) => Some(Self::Topics),
            Self::Partition(partition) => Some(Self::Topic(partition.topic)),
            Self::Pool(_) => Some(Self::Pools),
        }
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lock => write!(f, "lock"),
            Self::Node => write!(f, "node.toml"),
            Self::Metadata { copy } => write!(f, "metadata/log-{copy}"),
            Self::Journal { number, .. } => write!(f, "{}/{number:04}.journal", self.dir()),
            Self::Checkpoint { copy, .. } => write!(f, "{}/checkpoint-{copy}", self.dir()),
            Self::Segment { base, .. } => write!(f, "{}/{:020}.log", self.dir(), base.0),
            Self::Index { base, .. } => write!(f, "{}/{:020}.index", self.dir(), base.0),
            Self::Pooled { number, .. } => write!(f, "{}/{number:06}.free", self.dir()),
        }
    }
}

impl fmt::Display for DirName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Metadata => write!(f, "metadata"),
            Self::Journals => write!(f, "journal"),
            Self::Journal(shard) => write!(f, "journal/{}", shard.0),
            Self::Topics => write!(f, "topics"),
            Self::Topic(topic) => write!(f, "topics/{topic}"),
            Self::Partition(partition) => write!(f, "topics/{partition}"),
            Self::Pools => write!(f, "pool"),
            Self::Pool(shard) => write!(f, "pool/{}", shard.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;
    use crate::ids::PartitionIndex;

    #[test]
    fn names_render_as_paths() {
        let partition = PartitionId { topic: TopicId(0xabc), index: PartitionIndex(7) };
        let segment = FileName::Segment { partition, base: Offset(42) };
        assert_eq!(segment.to_string(), "topics/00000000000000000000000000000abc/7/00000000000000000042.log");
        assert_eq!(FileName::Journal { shard: ShardId(3), number: 12 }.to_string(), "journal/3/0012.journal");
        assert_eq!(segment.dir().parent(), Some(DirName::Topic(TopicId(0xabc))));
    }
}
