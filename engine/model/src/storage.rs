//! The disk as start-up and recovery see it: blocking calls on named files.
//!
//! A running shard never calls this; it asks by effects. Recovery runs before anything is served, one step after
//! the other, so plain calls read better, and the simulator's disk implements the same trait.

use alloc::{string::String, vec::Vec};

use crate::file_name::{DirName, FileName};

/// Why the disk said no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{action} {path}: {kind}")]
pub struct StorageError {
    /// What was tried, as a verb: `read`, `flush`.
    pub action: &'static str,
    /// The path, relative to the data folder.
    pub path: String,
    /// What went wrong.
    pub kind: StorageErrorKind,
}

/// What went wrong, as far as the engine tells cases apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageErrorKind {
    /// There is no such file or folder.
    #[error("it does not exist")]
    NotFound,
    /// There is something else under that name: a link, a pipe, a folder for a file.
    #[error("it is not a regular file; move it away")]
    WrongType,
    /// The file system is full.
    #[error("no space is left on the file system")]
    Full,
    /// The process may not.
    #[error("permission denied; check the owner and mode of the data folder")]
    Denied,
    /// The device could not read or write.
    #[error("the device reported an input/output error")]
    Device,
    /// Somebody else holds the lock.
    #[error("another process holds it; stop that process first")]
    Locked,
    /// Anything else, by its number in errno(3).
    #[error("errno {0}")]
    Other(i32),
}

/// One name inside a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The last part of its path.
    pub name: String,
    /// Whether it is a folder.
    pub is_dir: bool,
}

/// A disk that waits.
///
/// Reads and writes of journal, segment, checkpoint and index files are whole blocks at whole blocks (O_DIRECT).
pub trait Storage {
    /// The names in a folder, sorted. A folder that is not there is empty.
    fn list(&mut self, dir: DirName) -> Result<Vec<DirEntry>, StorageError>;

    /// The length of a file, or `None` where there is none.
    fn length(&mut self, file: FileName) -> Result<Option<u64>, StorageError>;

    /// Reads up to `into.len()` bytes at `at`; fewer only at the file's end.
    fn read(&mut self, file: FileName, at: u64, into: &mut [u8]) -> Result<usize, StorageError>;

    /// Writes all bytes at `at`, not yet flushed.
    fn write(&mut self, file: FileName, at: u64, bytes: &[u8]) -> Result<(), StorageError>;

    /// Makes a file of `length` bytes of written zeros and flushes it; makes its folders too, flushing each parent.
    /// The file's own folder is not flushed. A file that was there is replaced.
    fn create(&mut self, file: FileName, length: u64) -> Result<(), StorageError>;

    /// Makes a folder and those above it, flushing each parent.
    fn create_dir(&mut self, dir: DirName) -> Result<(), StorageError>;

    /// Reserves and zeroes space up to `length`, flushed.
    fn extend(&mut self, file: FileName, length: u64) -> Result<(), StorageError>;

    /// Flushes a file's bytes and length.
    fn flush(&mut self, file: FileName) -> Result<(), StorageError>;

    /// Flushes a folder's names.
    fn flush_dir(&mut self, dir: DirName) -> Result<(), StorageError>;

    /// Flushes everything below the data folder, names and bytes.
    fn flush_all(&mut self) -> Result<(), StorageError>;

    /// Gives a file another name, replacing what was there. Not flushed.
    fn rename(&mut self, from: FileName, to: FileName) -> Result<(), StorageError>;

    /// Removes a file's name. Not flushed.
    fn remove(&mut self, file: FileName) -> Result<(), StorageError>;

    /// Removes an empty folder. Not flushed.
    fn remove_dir(&mut self, dir: DirName) -> Result<(), StorageError>;
}
