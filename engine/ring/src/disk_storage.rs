//! The disk of start-up and recovery: blocking calls, one after the other, on the thread that calls them.
//!
//! Bytes go past the page cache (O_DIRECT) through an aligned buffer of 1 MiB, so what was read was on the disk and
//! not in memory. Transient errors and short counts are tried again, bounded; an error of a flush never is (E1).

use core::time::Duration;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use cutwater_model::limits::BLOCK_BYTES;
use cutwater_model::storage::{DirEntry, Storage, StorageError, StorageErrorKind};
use cutwater_model::{DirName, FileName};

use crate::arena::Map;
use crate::completion::Errno;
use crate::data_folder::{Access, DataFolder, dir_error, error, flush};
use crate::socket::check;
use crate::zeroing::Zeroing;

/// The largest single read or write.
pub(crate) const STEP_BYTES: usize = 1 << 20;
/// Descriptors kept open.
const OPEN_FILES_MAX: usize = 128;
/// How often a transient error is tried again.
const RETRIES_MAX: u32 = 1000;

/// A data folder as [`Storage`].
#[derive(Debug)]
pub struct DiskStorage {
    folder: DataFolder,
    /// How long to wait for a predecessor's writes; `None` where there can be none any more.
    settle: Option<Duration>,
    /// Open files, the one used last at the end.
    open: Vec<(FileName, Access, OwnedFd)>,
    bounce: Bounce,
}

impl DiskStorage {
    /// The disk for a running node: nothing of a predecessor is in flight any more.
    ///
    /// # Errors
    /// When there is no memory for its buffer.
    pub fn new(folder: DataFolder) -> Result<Self, StorageError> {
        let bounce = Bounce::new().map_err(|errno| dir_error("take a buffer for", DirName::Root, errno))?;
        Ok(Self { folder, settle: None, open: Vec::new(), bounce })
    }

    /// The disk for recovery: each file is first used when no write of a predecessor is in flight on it, for which it
    /// waits up to `wait` (R1). Not for files that a ring of this process has open.
    ///
    /// # Errors
    /// When there is no memory for its buffer.
    pub fn recovering(folder: DataFolder, wait: Duration) -> Result<Self, StorageError> {
        Ok(Self { settle: Some(wait), ..Self::new(folder)? })
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &DataFolder {
        &self.folder
    }

    fn opened(&mut self, file: FileName, access: Access) -> Result<usize, StorageError> {
        if let Some(at) = self.open.iter().rposition(|(name, how, _)| (*name, *how) == (file, access)) {
            let entry = self.open.remove(at);
            self.open.push(entry);
        } else {
            let opened = self.folder.open_as(file, access, 0)?;
            if let Some(wait) = self.settle {
                let already_ours = self.open.iter().any(|(name, _, _)| *name == file);
                if !already_ours {
                    self.folder.settle(&opened, file, wait)?;
                }
            }
            if self.open.len() == OPEN_FILES_MAX {
                self.open.remove(0);
            }
            self.open.push((file, access, opened));
        }
        Ok(self.open.len() - 1)
    }

    fn forget(&mut self, file: FileName) {
        self.open.retain(|(name, _, _)| *name != file);
    }
}

impl Storage for DiskStorage {
    fn list(&mut self, dir: DirName) -> Result<Vec<DirEntry>, StorageError> {
        let opened = match self.folder.open_dir(dir) {
            Ok(opened) => opened,
            Err(StorageError { kind: StorageErrorKind::NotFound, .. }) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let failed = |error: std::io::Error| dir_error("list", dir, Errno::of(&error));
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(format!("/proc/self/fd/{}", opened.as_raw_fd())).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let is_dir = entry.file_type().map_err(failed)?.is_dir();
            entries.push(DirEntry { name: entry.file_name().to_string_lossy().into_owned(), is_dir });
        }
        entries.sort();
        Ok(entries)
    }

    fn length(&mut self, file: FileName) -> Result<Option<u64>, StorageError> {
        match self.opened(file, Access::Direct) {
            Ok(at) => length_of(&self.open[at].2).map(Some).map_err(|errno| error("measure", file, errno)),
            Err(StorageError { kind: StorageErrorKind::NotFound, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read(&mut self, file: FileName, at: u64, into: &mut [u8]) -> Result<usize, StorageError> {
        let index = self.opened(file, Access::Direct)?;
        let opened = &self.open[index].2;
        let mut done = 0;
        while done < into.len() {
            // The block that holds the next byte, and as many after it as are wanted and fit the buffer.
            let position = at + done as u64;
            let begin = position - position % BLOCK_BYTES as u64;
            let skip = (position - begin) as usize;
            let span = (skip + into.len() - done).next_multiple_of(BLOCK_BYTES).min(STEP_BYTES);
            let got = read_at(opened, begin, &mut self.bounce.bytes()[..span])
                .map_err(|errno| error("read", file, errno))?;
            let usable = got.saturating_sub(skip).min(into.len() - done);
            into[done..done + usable].copy_from_slice(&self.bounce.bytes()[skip..skip + usable]);
            done += usable;
            if got < span {
                break;
            }
        }
        Ok(done)
    }

    fn write(&mut self, file: FileName, at: u64, bytes: &[u8]) -> Result<(), StorageError> {
        let whole = at.is_multiple_of(BLOCK_BYTES as u64) && bytes.len().is_multiple_of(BLOCK_BYTES);
        let failed = |errno| error("write", file, errno);
        if !whole {
            let index = self.opened(file, Access::Buffered)?;
            return write_at(&self.open[index].2, at, bytes).map_err(failed);
        }
        let index = self.opened(file, Access::Direct)?;
        let opened = &self.open[index].2;
        let mut position = at;
        for chunk in bytes.chunks(STEP_BYTES) {
            let bounce = &mut self.bounce.bytes()[..chunk.len()];
            bounce.copy_from_slice(chunk);
            write_at(opened, position, bounce).map_err(failed)?;
            position += chunk.len() as u64;
        }
        Ok(())
    }

    fn create(&mut self, file: FileName, length: u64) -> Result<(), StorageError> {
        self.forget(file);
        self.folder.create_dir(file.dir(), true)?;
        let mut making = Zeroing::create(&self.folder, file, length)?;
        self.bounce.bytes().fill(0);
        while making.step(self.bounce.bytes())? {}
        Ok(())
    }

    fn create_dir(&mut self, dir: DirName) -> Result<(), StorageError> {
        self.folder.create_dir(dir, true)
    }

    fn extend(&mut self, file: FileName, length: u64) -> Result<(), StorageError> {
        let mut making = Zeroing::extend(&self.folder, file, length)?;
        self.bounce.bytes().fill(0);
        while making.step(self.bounce.bytes())? {}
        Ok(())
    }

    fn flush(&mut self, file: FileName) -> Result<(), StorageError> {
        let index = self.opened(file, Access::Direct)?;
        flush(&self.open[index].2).map_err(|errno| error("flush", file, errno))
    }

    fn flush_dir(&mut self, dir: DirName) -> Result<(), StorageError> {
        self.folder.flush_dir(dir)
    }

    fn flush_all(&mut self) -> Result<(), StorageError> {
        self.folder.flush_all()
    }

    fn rename(&mut self, from: FileName, to: FileName) -> Result<(), StorageError> {
        self.forget(from);
        self.forget(to);
        self.folder.rename(from, to)
    }

    fn remove(&mut self, file: FileName) -> Result<(), StorageError> {
        self.forget(file);
        self.folder.remove(file)
    }

    fn remove_dir(&mut self, dir: DirName) -> Result<(), StorageError> {
        self.folder.remove_dir(dir)
    }
}

pub(crate) fn cut(opened: &OwnedFd, length: u64) -> Result<(), Errno> {
    // SAFETY: the descriptor is open; no memory is passed.
    check(unsafe { libc::ftruncate(opened.as_raw_fd(), length as libc::off_t) }).map(drop)
}

pub(crate) fn length_of(opened: &OwnedFd) -> Result<u64, Errno> {
    // SAFETY: a stat is plain data for which all zeros is valid.
    let mut stat: libc::stat = unsafe { core::mem::zeroed() };
    // SAFETY: the descriptor is open, and `stat` writable for the length of the call.
    check(unsafe { libc::fstat(opened.as_raw_fd(), &raw mut stat) })?;
    Ok(stat.st_size as u64)
}

/// Reads until `into` is full or the file ends.
fn read_at(opened: &OwnedFd, at: u64, into: &mut [u8]) -> Result<usize, Errno> {
    let mut done = 0;
    let mut retries = 0;
    while done < into.len() {
        let rest = &mut into[done..];
        // SAFETY: `rest` is writable for the length told.
        let got = unsafe {
            libc::pread(
                opened.as_raw_fd(),
                rest.as_mut_ptr().cast(),
                rest.len(),
                (at + done as u64) as libc::off_t,
            )
        };
        match usize::try_from(got) {
            // A read past the page cache that ends within a block has met the file's end.
            Ok(got) if got == 0 || !got.is_multiple_of(BLOCK_BYTES) => return Ok(done + got),
            Ok(got) => done += got,
            Err(_) => again(&mut retries)?,
        }
    }
    Ok(done)
}

/// Writes all of `bytes`.
pub(crate) fn write_at(opened: impl AsFd, at: u64, bytes: &[u8]) -> Result<(), Errno> {
    let mut done = 0;
    let mut retries = 0;
    while done < bytes.len() {
        let rest = &bytes[done..];
        // SAFETY: `rest` is readable for the length told.
        let put = unsafe {
            libc::pwrite(
                opened.as_fd().as_raw_fd(),
                rest.as_ptr().cast(),
                rest.len(),
                (at + done as u64) as libc::off_t,
            )
        };
        match usize::try_from(put) {
            Ok(0) => return Err(Errno::FULL),
            Ok(put) if put == rest.len() => return Ok(()),
            // A short write is gone on with at a whole block: the same bytes at the same place (E1).
            Ok(put) if bytes.len().is_multiple_of(BLOCK_BYTES) => {
                done += put - put % BLOCK_BYTES;
                retries += 1;
                if retries > RETRIES_MAX {
                    return Err(Errno::AGAIN);
                }
            }
            Ok(put) => done += put,
            Err(_) => again(&mut retries)?,
        }
    }
    Ok(())
}

/// Whether the call that just failed is tried again.
fn again(retries: &mut u32) -> Result<(), Errno> {
    let errno = Errno::last();
    *retries += 1;
    if !errno.is_transient() || *retries > RETRIES_MAX {
        return Err(if errno == Errno::AGAIN { Errno(libc::EBUSY) } else { errno });
    }
    std::thread::yield_now();
    Ok(())
}

/// Aligned memory for O_DIRECT.
#[derive(Debug)]
pub(crate) struct Bounce(Map);

// SAFETY: the mapping is owned, and nothing in it belongs to a thread.
unsafe impl Send for Bounce {}

impl Bounce {
    pub(crate) fn new() -> Result<Self, Errno> {
        Map::new(STEP_BYTES).map(Self)
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is readable, writable, initialised and borrowed exclusively with `self`.
        unsafe { core::slice::from_raw_parts_mut(self.0.address, self.0.bytes) }
    }
}
