//! A disk in memory for the tests of this crate, whose bytes they may change at will.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::{vec, vec::Vec};

use cutwater_model::limits::BLOCK_BYTES;
use cutwater_model::storage::{DirEntry, Storage, StorageError, StorageErrorKind};
use cutwater_model::{DirName, FileName};

#[derive(Clone, Debug, Default)]
pub(crate) struct TestDisk {
    pub(crate) files: BTreeMap<FileName, Vec<u8>>,
    pub(crate) unreadable: Option<FileName>,
    /// After so many changes of bytes or names every further one fails; the one that fails leaves half of its bytes.
    pub(crate) writes_left: Option<usize>,
    /// How many changes there were.
    pub(crate) writes: usize,
}

impl TestDisk {
    pub(crate) fn bytes(&mut self, file: FileName) -> &mut Vec<u8> {
        self.files.entry(file).or_default()
    }

    fn error<T>(action: &'static str, file: FileName, kind: StorageErrorKind) -> Result<T, StorageError> {
        Err(StorageError { action, path: file.to_string(), kind })
    }

    /// Whether this change is still whole.
    fn spend(&mut self) -> bool {
        self.writes += 1;
        match &mut self.writes_left {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => true,
        }
    }
}

impl Storage for TestDisk {
    fn list(&mut self, dir: DirName) -> Result<Vec<DirEntry>, StorageError> {
        let is_below = |mut below: DirName| loop {
            if below == dir {
                return true;
            }
            let Some(parent) = below.parent() else { return false };
            below = parent;
        };
        let names = self.files.keys().filter(|file| is_below(file.dir()));
        Ok(names.map(|file| DirEntry { name: String::from(&*file.to_string()), is_dir: false }).collect())
    }

    fn length(&mut self, file: FileName) -> Result<Option<u64>, StorageError> {
        Ok(self.files.get(&file).map(|bytes| bytes.len() as u64))
    }

    fn read(&mut self, file: FileName, at: u64, into: &mut [u8]) -> Result<usize, StorageError> {
        if self.unreadable == Some(file) {
            return Self::error("read", file, StorageErrorKind::Device);
        }
        let Some(bytes) = self.files.get(&file) else {
            return Self::error("read", file, StorageErrorKind::NotFound);
        };
        let rest = bytes.get(at as usize..).unwrap_or(&[]);
        let read = rest.len().min(into.len());
        into[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn write(&mut self, file: FileName, at: u64, bytes: &[u8]) -> Result<(), StorageError> {
        assert!(at.is_multiple_of(4096) && bytes.len().is_multiple_of(BLOCK_BYTES), "whole blocks");
        let is_whole = self.spend();
        let Some(stored) = self.files.get_mut(&file) else {
            return Self::error("write", file, StorageErrorKind::NotFound);
        };
        assert!(at as usize + bytes.len() <= stored.len(), "only into space that was made");
        let landed = if is_whole { bytes.len() } else { bytes.len() / 2 };
        stored[at as usize..][..landed].copy_from_slice(&bytes[..landed]);
        if is_whole { Ok(()) } else { Self::error("write", file, StorageErrorKind::Device) }
    }

    fn create(&mut self, file: FileName, length: u64) -> Result<(), StorageError> {
        if !self.spend() {
            return Self::error("create", file, StorageErrorKind::Device);
        }
        self.files.insert(file, vec![0; length as usize]);
        Ok(())
    }

    fn create_dir(&mut self, _: DirName) -> Result<(), StorageError> {
        Ok(())
    }

    fn extend(&mut self, file: FileName, length: u64) -> Result<(), StorageError> {
        if !self.spend() {
            return Self::error("extend", file, StorageErrorKind::Full);
        }
        self.bytes(file).resize(length as usize, 0);
        Ok(())
    }

    fn flush(&mut self, file: FileName) -> Result<(), StorageError> {
        if self.spend() { Ok(()) } else { Self::error("flush", file, StorageErrorKind::Device) }
    }

    fn flush_dir(&mut self, _: DirName) -> Result<(), StorageError> {
        Ok(())
    }

    fn flush_all(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    fn rename(&mut self, from: FileName, to: FileName) -> Result<(), StorageError> {
        if let Some(bytes) = self.files.remove(&from) {
            self.files.insert(to, bytes);
        }
        Ok(())
    }

    fn remove(&mut self, file: FileName) -> Result<(), StorageError> {
        self.files.remove(&file);
        Ok(())
    }

    fn remove_dir(&mut self, _: DirName) -> Result<(), StorageError> {
        Ok(())
    }
}
