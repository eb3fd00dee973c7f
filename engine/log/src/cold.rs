//! Batches read back from a segment's file: found, and checked before anybody sees them. Lives on the shard's core.

use cutwater_model::batch::{self, BatchError};
use cutwater_model::limits::BATCH_BYTES_MAX;
use cutwater_model::{FileName, MemoryRange, Offset, TimestampMs};

use crate::partition::Partition;
use crate::position::LogEnd;
use crate::read::ReadHint;
use crate::tail::TailPin;

/// A read of whole blocks of a segment's file, which is held until [`Partition::cold_done`].
///
/// Read `len` bytes at `at` into memory, copy `suffix` right behind them where there is one, and hand the `usable`
/// bytes from `skip` on to [`trim_cold`].
#[derive(Clone, Copy, Debug)]
pub struct ColdRead {
    /// Which file.
    pub file: FileName,
    /// Which use of that name the plan is for (S5).
    pub generation: u32,
    /// From which byte.
    pub at: u64,
    /// How many bytes.
    pub len: u32,
    /// So many bytes come before the first batch.
    pub skip: u32,
    /// So many bytes from there on are batches; the last may be cut.
    pub usable: u32,
    /// No batch goes on behind them: the segment ends there, or what is shown of it, or a damaged range begins.
    pub(crate) is_all: bool,
    /// Bytes that are only in memory yet, less than a block.
    pub suffix: Option<MemoryRange>,
    /// The base offset of the segment.
    pub base: Offset,
    pub(crate) start: LogEnd,
    pub(crate) suffix_pin: Option<TailPin>,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trimmed {
    /// Whole, checked batches.
    Batches {
        /// Where they begin in the bytes handed in.
        skip: u32,
        /// How many bytes they have.
        len: u32,
        /// The first record's offset.
        first_offset: Offset,
        /// The offset to go on at.
        next: Offset,
        /// For the next read.
        hint: ReadHint,
    },
    /// The batch is longer than what was read: ask [`Partition::read`] again, with this hint and for so many bytes.
    NeedMore {
        /// How many.
        bytes: u32,
        /// With this hint.
        hint: ReadHint,
    },
    /// The batch lies further on: ask again with this hint.
    Onward {
        /// With this hint.
        hint: ReadHint,
    },
}

/// The bytes of a file are not what was written there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file} is damaged at byte {at}: {cause}")]
pub struct ColdError {
    /// Which file.
    pub file: FileName,
    /// Where the bad batch begins.
    pub at: u64,
    /// What is wrong.
    pub cause: ColdFault,
}

/// What is wrong with a stored batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ColdFault {
    /// It is no batch, or its checksum is wrong.
    #[error("{0}")]
    Batch(BatchError),
    /// It is a batch, but not the one that belongs there.
    #[error("a batch of offset {} stands where {} was written", found.0, expected.0)]
    Offset {
        /// Its base offset.
        found: Offset,
        /// The one that was written there.
        expected: Offset,
    },
}

/// Finds the batches from the one that holds `from` on, about `bytes_max` bytes, below `visible`, and checks them.
///
/// # Errors
/// If the bytes are not what was written: mark the range damaged and don't give it out.
pub fn trim_cold(
    plan: &ColdRead,
    bytes: &[u8],
    from: Offset,
    bytes_max: u32,
    visible: Offset,
) -> Result<Trimmed, ColdError> {
    let start_in_file = plan.at + u64::from(plan.skip);
    let mut batches = batch::walk(bytes);
    let mut next = plan.start.offset;
    let mut found: Option<(usize, Offset)> = None;
    loop {
        let at = batches.position();
        let hint = ReadHint(LogEnd { offset: next, position: plan.start.position + at as u64 });
        let error = |cause| ColdError { file: plan.file, at: start_in_file + at as u64, cause };
        let done = |(from, first_offset): (usize, Offset)| Trimmed::Batches {
            skip: from as u32,
            len: (at - from) as u32,
            first_offset,
            next,
            hint,
        };
        let batch = match batches.next() {
            Some(Ok(batch)) => batch,
            None => return Ok(found.map_or(Trimmed::Onward { hint }, done)),
            Some(Err(walked)) => match (walked.error, found) {
                (BatchError::Cut { .. }, Some(found)) => return Ok(done(found)),
                // More is read only for a batch that can be there: else its length is not what was written.
                (BatchError::Cut { bytes, .. }, None)
                    if !plan.is_all && bytes <= BATCH_BYTES_MAX as usize =>
                {
                    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                    return Ok(Trimmed::NeedMore { bytes, hint });
                }
                (cause, _) => return Err(error(ColdFault::Batch(cause))),
            },
        };
        let header = &batch.header;
        // Where it stands tells its offset: another one was written by somebody else, or in another life.
        if header.base_offset != next {
            return Err(error(ColdFault::Offset { found: header.base_offset, expected: next }));
        }
        if let Some((first_at, _)) = found
            && (next >= visible || batches.position() - first_at > bytes_max as usize)
        {
            return Ok(found.map_or(Trimmed::Onward { hint }, done));
        }
        if header.next_offset() > from {
            batch.check_crc().map_err(|cause| error(ColdFault::Batch(cause)))?;
            found = found.or(Some((at, header.base_offset)));
        }
        next = header.next_offset();
    }
}

/// The first record with a timestamp of at least `target`, in whole batches. Of a compressed batch, which isn't
/// inflated here, and of one stamped at append, its first offset and largest timestamp.
#[must_use]
pub fn find_time(bytes: &[u8], target: TimestampMs) -> Option<(Offset, TimestampMs)> {
    let batch =
        batch::walk(bytes).map_while(Result::ok).find(|batch| batch.header.max_timestamp >= target)?;
    if batch.header.codec_id() != 0 || batch.header.has_append_time() {
        return Some((batch.header.base_offset, batch.header.max_timestamp));
    }
    let record = batch.records().map_while(Result::ok).find(|record| record.timestamp >= target)?;
    Some((record.offset, record.timestamp))
}

impl ColdRead {
    /// Whether a read that goes on there sees other bytes than this one.
    #[must_use]
    pub fn goes_on_at(&self, hint: ReadHint) -> bool {
        hint.0.position > self.start.position
    }
}

impl Partition {
    /// The cold read ended, or was given up.
    pub fn cold_done(&mut self, plan: &ColdRead) {
        if let Some(pin) = plan.suffix_pin {
            self.tail.unpin(pin);
        }
        if let Some(segment) = self.segment_mut(plan.base) {
            segment.pins -= 1;
        }
    }

    /// Whether the plan's file is still the segment it was made for (S5).
    #[must_use]
    pub fn is_current(&self, plan: &ColdRead) -> bool {
        self.segment_index(plan.base)
            .is_some_and(|index| self.segments[index].identity.generation == plan.generation)
    }
}
