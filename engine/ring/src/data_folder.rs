//! The data folder: its lock, its names, and how files below it are opened.
//!
//! Nothing below the folder is reached through a symbolic link, and only regular files are opened as files. One
//! process holds the folder; files that a ring writes carry a shared lock on their descriptor, which the kernel keeps
//! until the last write in flight has landed, so a successor can wait for the writes of a killed predecessor (R1).

use core::time::Duration;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use cutwater_model::storage::{StorageError, StorageErrorKind};
use cutwater_model::{DirName, FileName};

use crate::completion::Errno;
use crate::socket::check;

/// How often a lock that is held is tried again.
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// A data folder that this process holds. Clones share it; it is let go with the last one.
#[derive(Clone, Debug)]
pub struct DataFolder(Arc<Held>);

#[derive(Debug)]
struct Held {
    path: PathBuf,
    root: OwnedFd,
    lock: OwnedFd,
}

/// How the bytes of a file are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Whole blocks past the page cache (O_DIRECT).
    Direct,
    /// Any bytes, through the page cache.
    Buffered,
}

impl DataFolder {
    /// Makes the folder if it is not there, and takes its lock, waiting for it up to `wait`.
    ///
    /// # Errors
    /// [`StorageErrorKind::Locked`] when another process holds it all that time; else why it can't be used.
    pub fn open(path: &Path, wait: Duration) -> Result<Self, StorageError> {
        let failed = |action, errno: Errno| StorageError {
            action,
            path: path.display().to_string(),
            kind: kind_of(errno),
        };
        std::fs::create_dir_all(path).map_err(|error| failed("create", Errno::of(&error)))?;
        let absolute = path.canonicalize().map_err(|error| failed("open", Errno::of(&error)))?;
        let root: OwnedFd =
            std::fs::File::open(&absolute).map_err(|error| failed("open", Errno::of(&error)))?.into();
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_NONBLOCK;
        let lock = open_below(root.as_fd(), &FileName::Lock.to_string(), flags)
            .and_then(regular)
            .map_err(|errno| failed("open the lock of", errno))?;
        take_lock(&lock, libc::LOCK_EX, wait).map_err(|errno| failed("lock", errno))?;
        Ok(Self(Arc::new(Held { path: absolute, root, lock })))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The path of a file below it.
    #[must_use]
    pub fn path_of(&self, file: FileName) -> PathBuf {
        self.0.path.join(file.to_string())
    }

    /// Opens a file for a ring: for reading and writing by O_DIRECT, with the lock that a successor waits for.
    ///
    /// # Errors
    /// Why it can't be opened.
    pub fn open_file(&self, file: FileName) -> Result<OwnedFd, StorageError> {
        let opened = self.open_as(file, Access::Direct, 0)?;
        take_lock(&opened, libc::LOCK_SH, Duration::ZERO).map_err(|errno| error("lock", file, errno))?;
        Ok(opened)
    }

    pub(crate) fn open_as(
        &self,
        file: FileName,
        access: Access,
        flags: i32,
    ) -> Result<OwnedFd, StorageError> {
        let direct = if access == Access::Direct { libc::O_DIRECT } else { 0 };
        // O_NONBLOCK: a pipe under a file's name must not hang whoever opens it.
        let flags = libc::O_RDWR | libc::O_NONBLOCK | direct | flags;
        let path = file.to_string();
        let opened = open_below(self.root(), &path, flags).and_then(regular).map_err(|errno| {
            // A pipe refuses O_DIRECT before it can be told from a file.
            let plain = open_below(self.root(), &path, libc::O_RDONLY | libc::O_NONBLOCK).and_then(regular);
            if errno == Errno(libc::EINVAL) { plain.err().unwrap_or(errno) } else { errno }
        });
        opened.map_err(|errno| error("open", file, errno))
    }

    /// Waits until no write of a predecessor is in flight on an open file any more (R1).
    pub(crate) fn settle(
        &self,
        opened: &OwnedFd,
        file: FileName,
        wait: Duration,
    ) -> Result<(), StorageError> {
        take_lock(opened, libc::LOCK_EX, wait)
            .and_then(|()| take_lock(opened, libc::LOCK_SH, Duration::ZERO))
            .map_err(|errno| error("lock", file, errno))
    }

    pub(crate) fn open_dir(&self, dir: DirName) -> Result<OwnedFd, StorageError> {
        let name = dir.to_string();
        let name = if name.is_empty() { "." } else { &name };
        open_below(self.root(), name, libc::O_RDONLY | libc::O_DIRECTORY)
            .map_err(|errno| dir_error("open", dir, errno))
    }

    /// Makes a folder and those above it; with `flush` each parent that got a new name is flushed.
    pub(crate) fn create_dir(&self, dir: DirName, flush: bool) -> Result<(), StorageError> {
        let Some(parent) = dir.parent() else { return Ok(()) };
        let path = c_path(&dir.to_string());
        // SAFETY: the path is a C string that outlives the call.
        let made = check(unsafe { libc::mkdirat(self.root().as_raw_fd(), path.as_ptr(), 0o750) });
        match made {
            Ok(_) if flush => self.flush_dir(parent),
            Ok(_) => Ok(()),
            Err(Errno(libc::EEXIST)) => self.open_dir(dir).map(drop),
            Err(Errno(libc::ENOENT)) => {
                self.create_dir(parent, flush)?;
                // SAFETY: as above.
                check(unsafe { libc::mkdirat(self.root().as_raw_fd(), path.as_ptr(), 0o750) })
                    .map_err(|errno| dir_error("create", dir, errno))?;
                if flush { self.flush_dir(parent) } else { Ok(()) }
            }
            Err(errno) => Err(dir_error("create", dir, errno)),
        }
    }

    pub(crate) fn flush_dir(&self, dir: DirName) -> Result<(), StorageError> {
        flush(&self.open_dir(dir)?).map_err(|errno| dir_error("flush", dir, errno))
    }

    pub(crate) fn flush_all(&self) -> Result<(), StorageError> {
        // SAFETY: the descriptor is open; no memory is passed.
        check(unsafe { libc::syncfs(self.root().as_raw_fd()) })
            .map(drop)
            .map_err(|errno| dir_error("flush all of", DirName::Root, errno))
    }

    pub(crate) fn rename(&self, from: FileName, to: FileName) -> Result<(), StorageError> {
        let (old, new) = (c_path(&from.to_string()), c_path(&to.to_string()));
        let root = self.root().as_raw_fd();
        // SAFETY: both paths are C strings that outlive the call.
        check(unsafe { libc::renameat(root, old.as_ptr(), root, new.as_ptr()) })
            .map(drop)
            .map_err(|errno| error("rename", from, errno))
    }

    pub(crate) fn remove(&self, file: FileName) -> Result<(), StorageError> {
        self.unlink(&file.to_string(), 0).map_err(|errno| error("remove", file, errno))
    }

    pub(crate) fn remove_dir(&self, dir: DirName) -> Result<(), StorageError> {
        self.unlink(&dir.to_string(), libc::AT_REMOVEDIR).map_err(|errno| dir_error("remove", dir, errno))
    }

    fn unlink(&self, path: &str, flags: i32) -> Result<(), Errno> {
        let path = c_path(path);
        // SAFETY: the path is a C string that outlives the call.
        check(unsafe { libc::unlinkat(self.root().as_raw_fd(), path.as_ptr(), flags) }).map(drop)
    }

    fn root(&self) -> BorrowedFd<'_> {
        self.0.root.as_fd()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: the descriptor is open. Closing it would let go as well, unless a child process inherited it.
        unsafe { libc::flock(self.lock.as_raw_fd(), libc::LOCK_UN) };
    }
}

/// Opens a path below a folder without following any link (openat2(2)).
fn open_below(root: BorrowedFd<'_>, path: &str, flags: i32) -> Result<OwnedFd, Errno> {
    let path = c_path(path);
    // SAFETY: an open_how is plain data for which all zeros is valid.
    let mut how: libc::open_how = unsafe { core::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.mode = if flags & libc::O_CREAT == 0 { 0 } else { 0o640 };
    how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS;
    for _ in 0..100 {
        // SAFETY: the path is a C string and `how` an open_how of the size told; both outlive the call.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                root.as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                size_of::<libc::open_how>(),
            )
        };
        if fd >= 0 {
            // SAFETY: the descriptor was just made for us and nobody else owns it.
            return Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) });
        }
        if !matches!(Errno::last().0, libc::EINTR | libc::EAGAIN) {
            break;
        }
    }
    Err(Errno::last())
}

/// The descriptor if it is one of a regular file.
fn regular(opened: OwnedFd) -> Result<OwnedFd, Errno> {
    let file = std::fs::File::from(opened);
    let kind = file.metadata().map_err(|error| Errno::of(&error))?;
    if kind.is_file() { Ok(file.into()) } else { Err(Errno(libc::ENXIO)) }
}

fn take_lock(opened: &OwnedFd, how: i32, wait: Duration) -> Result<(), Errno> {
    let begin = Instant::now();
    loop {
        // SAFETY: the descriptor is open; no memory is passed.
        match check(unsafe { libc::flock(opened.as_raw_fd(), how | libc::LOCK_NB) }) {
            Ok(_) => return Ok(()),
            Err(Errno(libc::EINTR)) => {}
            Err(Errno(libc::EWOULDBLOCK)) if begin.elapsed() < wait => std::thread::sleep(LOCK_RETRY),
            Err(errno) => return Err(errno),
        }
    }
}

/// Flushes an open file or folder. An error is final: the kernel may have dropped what it could not write (E1).
pub(crate) fn flush(opened: &OwnedFd) -> Result<(), Errno> {
    for _ in 0..100 {
        // SAFETY: the descriptor is open; no memory is passed.
        match check(unsafe { libc::fsync(opened.as_raw_fd()) }) {
            Ok(_) => return Ok(()),
            Err(Errno::INTERRUPTED) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::INTERRUPTED)
}

/// A path as the kernel wants it. Names of files and folders have no zero bytes.
fn c_path(path: &str) -> CString {
    CString::new(path).unwrap_or_default()
}

pub(crate) fn error(action: &'static str, file: FileName, errno: Errno) -> StorageError {
    StorageError { action, path: file.to_string(), kind: kind_of(errno) }
}

pub(crate) fn dir_error(action: &'static str, dir: DirName, errno: Errno) -> StorageError {
    let path = if dir == DirName::Root { "the data folder".to_owned() } else { dir.to_string() };
    StorageError { action, path, kind: kind_of(errno) }
}

/// The case that the engine tells apart.
#[must_use]
pub fn kind_of(errno: Errno) -> StorageErrorKind {
    match errno.0 {
        libc::ENOENT => StorageErrorKind::NotFound,
        libc::ELOOP | libc::EISDIR | libc::ENOTDIR | libc::ENXIO | libc::EXDEV => StorageErrorKind::WrongType,
        libc::ENOSPC | libc::EDQUOT => StorageErrorKind::Full,
        libc::EACCES | libc::EPERM | libc::EROFS => StorageErrorKind::Denied,
        libc::EIO => StorageErrorKind::Device,
        libc::EWOULDBLOCK => StorageErrorKind::Locked,
        other => StorageErrorKind::Other(other),
    }
}
