//! Space for files: written zeros, step by step, or a mere reservation.
//!
//! A durable write into space that is only reserved costs twice as much as into space that was written (B4, J1).

use std::os::fd::{AsRawFd, OwnedFd};

use cutwater_model::FileName;
use cutwater_model::limits::BLOCK_BYTES;
use cutwater_model::storage::{StorageError, StorageErrorKind};

use crate::completion::Errno;
use crate::data_folder::{Access, DataFolder, error, flush};
use crate::disk_storage::{cut, length_of, write_at};
use crate::socket::check;

/// A file that is being filled with written zeros, step by step; flushed at its end.
#[derive(Debug)]
pub(crate) struct Zeroing {
    folder: DataFolder,
    file: FileName,
    opened: OwnedFd,
    at: u64,
    to: u64,
    /// Whether the file is removed when it can't be finished.
    is_new: bool,
}

impl Zeroing {
    /// Begins a new file, replacing one of that name. Its folder is there.
    pub(crate) fn create(folder: &DataFolder, file: FileName, length: u64) -> Result<Self, StorageError> {
        let opened = create_new(folder, file)?;
        Self { folder: folder.clone(), file, opened, at: 0, to: length, is_new: true }.reserved()
    }

    /// Begins to lengthen a file; one that is long enough already is only flushed.
    pub(crate) fn extend(folder: &DataFolder, file: FileName, length: u64) -> Result<Self, StorageError> {
        let opened = folder.open_as(file, Access::Direct, 0)?;
        let has = length_of(&opened).map_err(|errno| error("measure", file, errno))?;
        // The part of a block after the end reads as zeros already.
        let at = has.next_multiple_of(BLOCK_BYTES as u64);
        Self { folder: folder.clone(), file, opened, at, to: length, is_new: false }.reserved()
    }

    /// Reserves the space without lengthening the file: its length tells what is written.
    fn reserved(self) -> Result<Self, StorageError> {
        let bytes = self.to.saturating_sub(self.at);
        if bytes == 0 {
            return Ok(self);
        }
        let fd = self.opened.as_raw_fd();
        // SAFETY: the descriptor is open; no memory is passed.
        let reserved = check(unsafe {
            libc::fallocate(fd, libc::FALLOC_FL_KEEP_SIZE, self.at as libc::off_t, bytes as libc::off_t)
        });
        match reserved {
            Ok(_) | Err(Errno(libc::EOPNOTSUPP | libc::EINTR)) => Ok(self),
            Err(errno) => Err(self.given_up("reserve space for", errno)),
        }
    }

    /// Writes as many zeros as `zeros` holds; false when the file is whole and flushed.
    pub(crate) fn step(&mut self, zeros: &[u8]) -> Result<bool, StorageError> {
        let bytes = self.to.saturating_sub(self.at).min(zeros.len() as u64);
        if bytes == 0 {
            return match flush(&self.opened) {
                Ok(()) => Ok(false),
                Err(errno) => Err(self.given_up("flush", errno)),
            };
        }
        // A length that is no whole number of blocks is cut back at the end.
        let whole = bytes.next_multiple_of(BLOCK_BYTES as u64).min(zeros.len() as u64);
        if let Err(errno) = write_at(&self.opened, self.at, &zeros[..whole as usize]) {
            return Err(self.given_up("write zeros to", errno));
        }
        self.at += whole;
        if self.at > self.to
            && let Err(errno) = cut(&self.opened, self.to)
        {
            return Err(self.given_up("cut", errno));
        }
        Ok(true)
    }

    /// Removes what was begun, so that a full disk gets its space back.
    fn given_up(&self, action: &'static str, errno: Errno) -> StorageError {
        if self.is_new {
            // The first error is the one to tell.
            let _ = self.folder.remove(self.file);
        }
        error(action, self.file, errno)
    }
}

/// Makes an empty file, replacing one of that name. Its folder is there.
pub(crate) fn create_new(folder: &DataFolder, file: FileName) -> Result<OwnedFd, StorageError> {
    const THERE: StorageErrorKind = StorageErrorKind::Other(libc::EEXIST);
    let create = || folder.open_as(file, Access::Direct, libc::O_CREAT | libc::O_EXCL);
    match create() {
        Err(StorageError { kind: THERE, .. }) => {
            folder.remove(file)?;
            create()
        }
        result => result,
    }
}

/// Lengthens a file by space that is reserved but not written; a longer one stays as it is.
pub(crate) fn reserve(opened: &OwnedFd, length: u64) -> Result<(), Errno> {
    let has = length_of(opened)?;
    if has >= length {
        return Ok(());
    }
    let (at, bytes) = (has as libc::off_t, (length - has) as libc::off_t);
    for _ in 0..100 {
        // SAFETY: the descriptor is open; no memory is passed.
        match check(unsafe { libc::fallocate(opened.as_raw_fd(), 0, at, bytes) }) {
            Ok(_) => return Ok(()),
            Err(Errno::INTERRUPTED) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::INTERRUPTED)
}
