//! A disk operation that was asked for and waits for the test to let it happen.

use alloc::vec::Vec;

use cutwater_model::{FileName, MemoryRange};

use super::disk::Moment;
use crate::{Effect, OpId};

/// One operation under way.
#[derive(Debug)]
pub(crate) struct Held {
    /// Which shard asked.
    pub(crate) shard: usize,
    pub(crate) effect: Effect,
    /// The bytes of a write as they were when it was asked for.
    pub(crate) bytes: Vec<u8>,
    pub(crate) asked_at: Moment,
}

impl Held {
    pub(crate) fn op(&self) -> OpId {
        match self.effect {
            Effect::Write { op, .. }
            | Effect::Read { op, .. }
            | Effect::Sync { op, .. }
            | Effect::SyncAll { op }
            | Effect::Create { op, .. }
            | Effect::Extend { op, .. }
            | Effect::Rename { op, .. }
            | Effect::CreateDir { op, .. }
            | Effect::SyncDir { op, .. }
            | Effect::Remove { op, .. }
            | Effect::RemoveDir { op, .. } => op,
            ref other => panic!("{other:?} is not the disk's"),
        }
    }

    /// The memory it writes from or reads into.
    pub(crate) fn memory(&self) -> Option<MemoryRange> {
        match self.effect {
            Effect::Write { memory, .. } | Effect::Read { memory, .. } => Some(memory),
            _ => None,
        }
    }

    fn written_file(&self) -> Option<FileName> {
        if let Effect::Write { file, .. } = self.effect { Some(file) } else { None }
    }

    pub(crate) fn anything(&self) -> bool {
        true
    }

    /// A group on its way to the journal.
    pub(crate) fn writes_group(&self) -> bool {
        matches!(self.written_file(), Some(FileName::Journal { .. }))
    }

    /// A large batch on its way to its segment; segments' header blocks are written at 0.
    pub(crate) fn writes_bulk(&self) -> bool {
        matches!(self.effect, Effect::Write { file: FileName::Segment { .. }, durable: true, at: 1.., .. })
    }

    /// Tail pages on their way to the segment.
    pub(crate) fn writes_back(&self) -> bool {
        matches!(self.effect, Effect::Write { file: FileName::Segment { .. }, durable: false, .. })
    }

    pub(crate) fn writes_checkpoint(&self) -> bool {
        matches!(self.written_file(), Some(FileName::Checkpoint { .. }))
    }

    pub(crate) fn flushes_checkpoint(&self) -> bool {
        matches!(self.effect, Effect::Sync { file: FileName::Checkpoint { .. }, .. })
    }

    pub(crate) fn flushes_segment(&self) -> bool {
        matches!(self.effect, Effect::Sync { file: FileName::Segment { .. }, .. })
    }

    pub(crate) fn reads(&self) -> bool {
        matches!(self.effect, Effect::Read { .. })
    }

    /// The first block of a segment, while its file still has the pool's name.
    pub(crate) fn writes_header(&self) -> bool {
        matches!(self.written_file(), Some(FileName::Pooled { .. }))
    }

    pub(crate) fn makes_journal_file(&self) -> bool {
        matches!(self.effect, Effect::Create { file: FileName::Journal { .. }, .. })
    }

    pub(crate) fn makes_folder(&self) -> bool {
        matches!(self.effect, Effect::CreateDir { .. })
    }

    /// Space for a segment: a longer file or a spare one.
    pub(crate) fn makes_space(&self) -> bool {
        matches!(
            self.effect,
            Effect::Extend { file: FileName::Segment { .. }, .. }
                | Effect::Create { file: FileName::Pooled { .. }, .. }
        )
    }
}
