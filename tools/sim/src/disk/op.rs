//! Operations of a running shard: under way for a while, done in any order.

use std::sync::Arc;

use cutwater_model::limits::BLOCK_BYTES;
use cutwater_model::storage::StorageErrorKind;
use cutwater_model::{DirName, FileName};

use super::inode::Reach;
use super::names::{Change, InodeId};
use super::{Disk, page};

/// Names an operation until it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

/// One operation, as the effects of a shard ask for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Write whole blocks.
    Write {
        /// Where to.
        file: FileName,
        /// At which byte.
        at: u64,
        /// What.
        bytes: Vec<u8>,
        /// Whether it is done only once it is on the platter.
        durable: bool,
    },
    /// Read whole blocks.
    Read {
        /// Where from.
        file: FileName,
        /// At which byte.
        at: u64,
        /// How many.
        len: u32,
    },
    /// Flush a file.
    Sync {
        /// Which.
        file: FileName,
    },
    /// Flush everything.
    SyncAll,
    /// Make a file.
    Create {
        /// Its name.
        file: FileName,
        /// How long.
        bytes: u64,
        /// Whether its space is written or only reserved.
        written: bool,
    },
    /// Lengthen a file by reserved space, flushed.
    Extend {
        /// Which.
        file: FileName,
        /// How long it is to be.
        to: u64,
    },
    /// Give a file another name.
    Rename {
        /// Its name.
        from: FileName,
        /// Its next name.
        to: FileName,
    },
    /// Make a folder, flushed into its parent.
    CreateDir {
        /// Which.
        dir: DirName,
    },
    /// Flush a folder's names.
    SyncDir {
        /// Which.
        dir: DirName,
    },
    /// Remove a file.
    Remove {
        /// Which.
        file: FileName,
    },
    /// Remove an empty folder.
    RemoveDir {
        /// Which.
        dir: DirName,
    },
}

/// What an operation came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The bytes it moved.
    pub bytes: u32,
    /// What it read.
    pub read: Option<Vec<u8>>,
}

/// A rule that the shard broke by what it asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Two writes of one place were under way at once, so either may be the last.
    OverlappingWrites(FileName, u64),
    /// A write or read is not whole blocks at whole blocks.
    NotWholeBlocks(FileName, u64),
    /// A write goes beyond the file's space (S4).
    BeyondSpace(FileName, u64),
    /// A journal write went into space that was only reserved (J1).
    DurableIntoReserved(FileName, u64),
}

/// An operation under way. Its file is bound when it is submitted, as a descriptor is.
#[derive(Clone, Debug)]
pub(super) struct InFlight {
    op: Op,
    inode: Option<InodeId>,
    /// What had been done before it was submitted.
    moment: u64,
}

impl InFlight {
    pub(super) const fn inode(&self) -> Option<InodeId> {
        self.inode
    }
}

impl Op {
    const fn target(&self) -> Option<FileName> {
        match self {
            Self::Write { file, .. }
            | Self::Read { file, .. }
            | Self::Sync { file }
            | Self::Extend { file, .. }
            | Self::Remove { file }
            | Self::Rename { from: file, .. } => Some(*file),
            _ => None,
        }
    }
}

impl Disk {
    /// Begins an operation.
    pub fn submit(&mut self, op: Op) -> Token {
        let moment = self.tick();
        let inode = op.target().and_then(|file| self.inode_of(file));
        self.check(&op, inode);
        let token = Token(moment);
        self.in_flight.insert(token, InFlight { op, inode, moment });
        token
    }

    /// How many operations are under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Does an operation and ends it, in this moment.
    ///
    /// # Errors
    /// What the device or the file system says, by chance or for want of space or a name.
    pub fn finish(&mut self, token: Token) -> Result<Done, StorageErrorKind> {
        let Some(flight) = self.in_flight.remove(&token) else {
            return Err(StorageErrorKind::Other(0));
        };
        match flight.op {
            Op::Write { file, at, bytes, durable } => self.do_write(file, flight.inode, at, &bytes, durable),
            Op::Read { at, len, .. } => self.do_read(flight.inode, at, len),
            Op::Sync { file } => self.do_sync(file, flight.inode, flight.moment),
            Op::SyncAll => {
                self.flush_everything(flight.moment, !self.leaks.names_unflushed);
                Ok(Done::NOTHING)
            }
            Op::Create { file, bytes, written } => self.do_create(file, bytes, written),
            Op::Extend { to, .. } => self.do_extend(flight.inode, to, flight.moment),
            Op::Rename { from, to } => {
                self.do_rename(from, to, flight.inode)?;
                Ok(Done::NOTHING)
            }
            Op::CreateDir { dir } => {
                self.do_create_dir(dir);
                Ok(Done::NOTHING)
            }
            Op::SyncDir { dir } => {
                if !self.leaks.names_unflushed {
                    self.names.flush(Some(dir), flight.moment);
                }
                Ok(Done::NOTHING)
            }
            Op::Remove { file } => {
                self.do_remove(file, flight.inode)?;
                Ok(Done::NOTHING)
            }
            Op::RemoveDir { dir } => {
                self.change(Change::DropDir(dir));
                Ok(Done::NOTHING)
            }
        }
    }

    /// What a power cut finds of an operation that was under way: anything but its flush.
    pub(super) fn do_without_flush(&mut self, flight: InFlight) {
        match flight.op {
            Op::Write { at, bytes, .. } => {
                let reach = self.cached();
                if let Some(inode) = flight.inode.and_then(|inode| self.inodes.get_mut(&inode)) {
                    Arc::make_mut(inode).write(at, &bytes, reach);
                }
            }
            Op::Extend { to, .. } => {
                let reach = self.cached();
                if let Some(inode) = flight.inode.and_then(|inode| self.inodes.get_mut(&inode)) {
                    Arc::make_mut(inode).set_length(to, reach);
                }
            }
            Op::Create { file, bytes, written } => {
                // A file on its way has the space that came first.
                let blocks = self.random.below(bytes / BLOCK_BYTES as u64 + 1);
                self.make(file, blocks * BLOCK_BYTES as u64, written);
            }
            Op::Rename { from, to } => drop(self.do_rename(from, to, flight.inode)),
            Op::CreateDir { dir } => self.make_folders(dir),
            Op::Remove { file } => drop(self.do_remove(file, flight.inode)),
            Op::RemoveDir { dir } => self.change(Change::DropDir(dir)),
            Op::Read { .. } | Op::Sync { .. } | Op::SyncAll | Op::SyncDir { .. } => {}
        }
    }

    fn do_write(
        &mut self,
        file: FileName,
        inode: Option<InodeId>,
        at: u64,
        bytes: &[u8],
        durable: bool,
    ) -> Result<Done, StorageErrorKind> {
        let id = inode.filter(|inode| self.inodes.contains_key(inode)).ok_or(StorageErrorKind::NotFound)?;
        let fails = self.random.one_in(self.faults.write_error_one_in(file));
        let halves = self.random.one_in(self.leaks.half_writes_one_in);
        let seed = self.random.next();
        let stays = match file {
            FileName::Journal { .. } => self.leaks.journal_writes_stay_in_cache,
            FileName::Segment { .. } => self.leaks.segment_writes_stay_in_cache,
            FileName::Checkpoint { .. } => self.leaks.checkpoints_stay_in_cache,
            _ => false,
        };
        let durable = durable && !stays;
        let moment = self.tick();
        let cached = Reach::Cache { id: super::PendingId(moment), moment };
        let Some(inode) = self.inodes.get_mut(&id).map(Arc::make_mut) else {
            return Err(StorageErrorKind::NotFound);
        };
        if fails {
            inode.write_torn(at, bytes, seed, super::PendingId(moment), moment);
            return Err(StorageErrorKind::Device);
        }
        let moved =
            if halves { bytes.len() / 2 / page::SECTOR_BYTES * page::SECTOR_BYTES } else { bytes.len() };
        inode.write(at, &bytes[..moved], if durable { Reach::Platter } else { cached });
        if durable {
            self.flush_device(moment);
        }
        Ok(Done { bytes: bytes.len() as u32, read: None })
    }

    fn do_read(&mut self, inode: Option<InodeId>, at: u64, len: u32) -> Result<Done, StorageErrorKind> {
        if self.random.one_in(self.faults.read_error_one_in) {
            return Err(StorageErrorKind::Device);
        }
        let mut bytes = vec![0; len as usize];
        let inode = inode.and_then(|inode| self.inodes.get(&inode)).ok_or(StorageErrorKind::NotFound)?;
        let count = inode.read(at, &mut bytes);
        bytes.truncate(count);
        Ok(Done { bytes: count as u32, read: Some(bytes) })
    }

    fn do_sync(
        &mut self,
        file: FileName,
        inode: Option<InodeId>,
        moment: u64,
    ) -> Result<Done, StorageErrorKind> {
        let fails = self.random.one_in(self.faults.flush_error_one_in(file));
        let inode = inode.and_then(|inode| self.inodes.get_mut(&inode)).ok_or(StorageErrorKind::NotFound)?;
        let inode = Arc::make_mut(inode);
        if fails {
            inode.give_up(moment);
            return Err(StorageErrorKind::Device);
        }
        if !(self.leaks.checkpoints_stay_in_cache && matches!(file, FileName::Checkpoint { .. })) {
            inode.flush(moment);
            self.flush_device(moment);
        }
        Ok(Done::NOTHING)
    }

    pub(super) fn do_create(
        &mut self,
        file: FileName,
        bytes: u64,
        written: bool,
    ) -> Result<Done, StorageErrorKind> {
        let blocks = bytes.div_ceil(BLOCK_BYTES as u64) as usize;
        if self.random.one_in(self.faults.full_one_in) || !self.has_room(blocks) {
            return Err(StorageErrorKind::Full);
        }
        self.make(file, bytes, written);
        Ok(Done::NOTHING)
    }

    pub(super) fn do_extend(
        &mut self,
        inode: Option<InodeId>,
        to: u64,
        moment: u64,
    ) -> Result<Done, StorageErrorKind> {
        let id = inode.filter(|inode| self.inodes.contains_key(inode)).ok_or(StorageErrorKind::NotFound)?;
        let before = self.inodes.get(&id).map_or(0, |inode| inode.length());
        let blocks = (to.saturating_sub(before)).div_ceil(BLOCK_BYTES as u64) as usize;
        if self.random.one_in(self.faults.full_one_in) || !self.has_room(blocks) {
            return Err(StorageErrorKind::Full);
        }
        if let Some(inode) = self.inodes.get_mut(&id).map(Arc::make_mut) {
            inode.flush(moment);
            if to > before {
                inode.set_length(to, Reach::Platter);
            }
        }
        Ok(Done::NOTHING)
    }

    pub(super) fn do_rename(
        &mut self,
        from: FileName,
        to: FileName,
        inode: Option<InodeId>,
    ) -> Result<(), StorageErrorKind> {
        let inode = inode.ok_or(StorageErrorKind::NotFound)?;
        if !self.names.seen.has(to.dir()) {
            return Err(StorageErrorKind::NotFound);
        }
        self.change(Change::Rename(from, to, inode));
        self.forget_unreachable();
        Ok(())
    }

    pub(super) fn do_create_dir(&mut self, dir: DirName) {
        self.make_folders(dir);
        let mut parent = dir.parent();
        while let Some(folder) = parent {
            self.names.flush(Some(folder), self.count);
            parent = folder.parent();
        }
    }

    pub(super) fn do_remove(
        &mut self,
        file: FileName,
        inode: Option<InodeId>,
    ) -> Result<(), StorageErrorKind> {
        let inode = inode.ok_or(StorageErrorKind::NotFound)?;
        self.change(Change::Unlink(file, inode));
        Ok(())
    }

    fn check(&mut self, op: &Op, inode: Option<InodeId>) {
        let (file, at, len, writes, durable) = match op {
            Op::Write { file, at, bytes, durable } => (*file, *at, bytes.len() as u64, true, *durable),
            Op::Read { file, at, len } => (*file, *at, u64::from(*len), false, false),
            _ => return,
        };
        let block = BLOCK_BYTES as u64;
        if !at.is_multiple_of(block) || !len.is_multiple_of(block) {
            self.violations.push(Violation::NotWholeBlocks(file, at));
        }
        let Some(target) = inode.and_then(|inode| self.inodes.get(&inode)).filter(|_| writes) else { return };
        if at + len > target.length() {
            self.violations.push(Violation::BeyondSpace(file, at));
        }
        if durable && matches!(file, FileName::Journal { .. }) && !target.is_written(at, len) {
            self.violations.push(Violation::DurableIntoReserved(file, at));
        }
        let overlaps = self.in_flight.values().any(|other| match &other.op {
            Op::Write { at: theirs, bytes, .. } => {
                other.inode == inode && *theirs < at + len && at < *theirs + bytes.len() as u64
            }
            _ => false,
        });
        if overlaps {
            self.violations.push(Violation::OverlappingWrites(file, at));
        }
    }
}

impl Done {
    /// What an operation says that moves no bytes.
    pub const NOTHING: Self = Self { bytes: 0, read: None };
}
