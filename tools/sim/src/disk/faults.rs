//! What goes wrong, and how often.

use cutwater_model::FileName;

/// Chances of a fault: once in so many operations, 0 for never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// A read fails once; the next one may succeed.
    pub read_error_one_in: u64,
    /// A segment or index write fails, some of its sectors written.
    pub segment_write_error_one_in: u64,
    /// A flush of a segment or index fails; what it should have covered is in doubt for ever.
    pub segment_flush_error_one_in: u64,
    /// A journal write fails, some of its sectors written.
    pub journal_write_error_one_in: u64,
    /// A checkpoint write or flush fails.
    pub checkpoint_error_one_in: u64,
    /// Making or lengthening a file fails for want of space, whatever space there is.
    pub full_one_in: u64,
}

impl Faults {
    /// How often a write of that file fails.
    pub(super) const fn write_error_one_in(&self, file: FileName) -> u64 {
        match file {
            FileName::Journal { .. } => self.journal_write_error_one_in,
            FileName::Checkpoint { .. } => self.checkpoint_error_one_in,
            FileName::Segment { .. } | FileName::Index { .. } | FileName::Pooled { .. } => {
                self.segment_write_error_one_in
            }
            FileName::Lock | FileName::Node | FileName::Metadata { .. } => 0,
        }
    }

    /// How often a flush of that file fails.
    pub(super) const fn flush_error_one_in(&self, file: FileName) -> u64 {
        match file {
            FileName::Segment { .. } | FileName::Index { .. } | FileName::Pooled { .. } => {
                self.segment_flush_error_one_in
            }
            _ => self.write_error_one_in(file),
        }
    }
}
