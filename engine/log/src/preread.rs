//! What has to be read of a segment's files before the segment itself: its index, and the header that says whose file it
//! is (S5). Lives on the shard's core, does no I/O.
//!
//! A file that was there before this life may have been put there by a hand or by a wrong restore. Batches name their
//! offset but not their partition, so the header is looked at before the first batch is read from such a file and before
//! the first byte is written to it; a start does not wait for that.

use cutwater_model::{FileName, Offset};

use crate::format::FormatError;
use crate::partition::Partition;
use crate::position::{BLOCK, LogEnd};
use crate::segment::Segment;

/// Tables of sealed segments that one partition keeps in memory.
const LOADED_TABLES_MAX: usize = 4;

/// Blocks to be read first; the segment is held until [`Partition::preread_done`], [`Partition::preread_failed`] or
/// [`Partition::preread_unneeded`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preread {
    /// Which file.
    pub file: FileName,
    /// From which byte.
    pub at: u64,
    /// How many bytes.
    pub len: u32,
    /// The base offset of the segment.
    pub base: Offset,
    /// What is there.
    pub what: Prelude,
}

/// What a [`Preread`] reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prelude {
    /// The segment's header block.
    Header,
    /// The blocks of its index.
    Index,
}

/// Whether the file under a segment's name was seen to be the segment's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Its header was not looked at in this life.
    Unknown,
    /// It is being looked at, for a writer.
    Asked,
    /// It is, or its header is damaged and says nothing: then its batches have to speak for themselves.
    Itself,
    /// It is not.
    Other,
}

impl Partition {
    /// The header to look at before anything is written to the partition's files, if there is one. Until it was,
    /// [`Partition::next_write`] and [`Partition::begin_bulk`] give nothing out.
    pub fn next_header(&mut self) -> Option<Preread> {
        if self.is_fenced {
            return None;
        }
        let segment = self.unsettled().find(|segment| segment.owner == Owner::Unknown)?;
        segment.owner = Owner::Asked;
        Some(header_read(segment))
    }

    /// Whether all files that may be written to are the partition's.
    pub(crate) fn owns_its_files(&mut self) -> bool {
        self.unsettled().all(|segment| segment.owner == Owner::Itself)
    }

    /// The header to look at before the file is read from there on, if that wasn't done.
    pub(crate) fn header_before(&mut self, start: LogEnd) -> Option<Preread> {
        let base = self.segment_of(start).filter(|segment| !segment.owner.is_known())?.base();
        self.segment_mut(base).map(header_read)
    }

    pub(crate) fn index_read(&mut self, index: usize) -> Preread {
        let segment = &mut self.segments[index];
        segment.pins += 1;
        let (file, len, base) = (segment.index_name(), segment.index.bytes_to_load(), segment.base());
        Preread { file, at: 0, len, base, what: Prelude::Index }
    }

    /// Takes what was read. Ask again for what needed it.
    ///
    /// # Errors
    /// If it is damaged, of a later format or of another segment. Of an index, look-ups then walk the segment from its
    /// beginning, and the scrub has work (S3). A file whose header is another's, or of a later format, is not read; where
    /// it is one that may be written to, the partition is fenced, as after a failed write (E2). A damaged header costs
    /// nothing: batches have their own checksums.
    pub fn preread_done(&mut self, plan: &Preread, bytes: &[u8]) -> Result<(), FormatError> {
        let Some(index) = self.segment_index(plan.base) else { return Ok(()) };
        self.segments[index].pins -= 1;
        match plan.what {
            Prelude::Header => self.take_header(index, bytes),
            Prelude::Index => self.take_index(index, bytes),
        }
    }

    /// It could not be read. Look-ups walk the segment from its beginning, or its batches have to speak for themselves.
    pub fn preread_failed(&mut self, plan: &Preread) {
        let Some(segment) = self.segment_mut(plan.base) else { return };
        segment.pins -= 1;
        match plan.what {
            Prelude::Header if segment.owner.is_known() => {}
            Prelude::Header => segment.owner = Owner::Itself,
            Prelude::Index => segment.index.is_unproven = true,
        }
    }

    /// It is not wanted after all.
    pub fn preread_unneeded(&mut self, plan: &Preread) {
        let Some(segment) = self.segment_mut(plan.base) else { return };
        segment.pins -= 1;
        if plan.what == Prelude::Header && segment.owner == Owner::Asked {
            segment.owner = Owner::Unknown;
        }
    }

    fn take_header(&mut self, index: usize, bytes: &[u8]) -> Result<(), FormatError> {
        let base = self.segments[index].base();
        let is_written_to = self.unsettled().any(|segment| segment.base() == base);
        let segment = &mut self.segments[index];
        if segment.owner.is_known() {
            return Ok(());
        }
        let checked = segment.identity.check_header(bytes);
        segment.owner = Owner::Itself;
        if let Err(FormatError::Stranger | FormatError::Version { .. }) = checked {
            segment.owner = Owner::Other;
            segment.damage = alloc::vec![(0, u32::MAX)];
            if is_written_to {
                self.is_fenced = true;
                self.writeback.has_failed = true;
            }
        }
        checked
    }

    fn take_index(&mut self, index: usize, bytes: &[u8]) -> Result<(), FormatError> {
        let segment = &mut self.segments[index];
        let base = segment.base();
        if let Err(error) = segment.index.load(bytes) {
            segment.index.is_unproven = true;
            return Err(error);
        }
        let loaded: usize = self.segments.iter().filter(|it| it.index.is_loaded_from_file()).count();
        if loaded > LOADED_TABLES_MAX {
            let other = self
                .segments
                .iter_mut()
                .find(|segment| segment.base() != base && segment.index.is_loaded_from_file());
            if let Some(segment) = other {
                segment.index.unload();
            }
        }
        Ok(())
    }
}

impl Owner {
    const fn is_known(self) -> bool {
        matches!(self, Self::Itself | Self::Other)
    }
}

fn header_read(segment: &mut Segment) -> Preread {
    segment.pins += 1;
    Preread { file: segment.file(), at: 0, len: BLOCK, base: segment.base(), what: Prelude::Header }
}
