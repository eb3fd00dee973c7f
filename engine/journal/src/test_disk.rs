//! A disk in memory for the tests of this crate, whose bytes they may change at will.

use alloc::{collections::BTreeMap, string::ToString, vec, vec::Vec};

use cutwater_model::storage::{DirEntry, Storage, StorageError, StorageErrorKind};
use cutwater_model::{DirName, FileName};

#[derive(Clone, Debug, Default)]
pub(crate) struct TestDisk {
    pub(crate) files: BTreeMap<FileName, Vec<u8>>,
    /// Reads that touch one of these bytes fail.
    pub(crate) unreadable: Vec<(FileName, u64)>,
    /// After so many writes every further one fails, changing nothing.
    pub(crate) writes_left: Option<usize>,
    /// Every write and flush that was done.
    pub(crate) done: Vec<(&'static str, FileName)>,
}

impl TestDisk {
    pub(crate) fn bytes(&mut self, file: FileName) -> &mut Vec<u8> {
        self.files.entry(file).or_default()
    }

    fn error<T>(action: &'static str, file: FileName, kind: StorageErrorKind) -> Result<T, StorageError> {
        Err(StorageError { action, path: file.to_string(), kind })
    }

    fn spend(&mut self, action: &'static str, file: FileName) -> Result<(), StorageError> {
        match &mut self.writes_left {
            Some(0) => Self::error(action, file, StorageErrorKind::Device),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Storage for TestDisk {
    fn list(&mut self, dir: DirName) -> Result<Vec<DirEntry>, StorageError> {
        let names = self.files.keys().filter(|file| file.dir() == dir).map(ToString::to_string);
        let entry = |path: alloc::string::String| DirEntry {
            name: path.rsplit('/').next().unwrap_or_default().to_string(),
            is_dir: false,
        };
        let mut entries: Vec<_> = names.map(entry).collect();
        entries.sort();
        Ok(entries)
    }

    fn length(&mut self, file: FileName) -> Result<Option<u64>, StorageError> {
        Ok(self.files.get(&file).map(|bytes| bytes.len() as u64))
    }

    fn read(&mut self, file: FileName, at: u64, into: &mut [u8]) -> Result<usize, StorageError> {
        assert!(at.is_multiple_of(4096) && into.len().is_multiple_of(4096), "whole blocks at whole blocks");
        let range = at..at + into.len() as u64;
        if self.unreadable.iter().any(|(bad, byte)| *bad == file && range.contains(byte)) {
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
        assert!(at.is_multiple_of(4096) && bytes.len().is_multiple_of(4096), "whole blocks at whole blocks");
        self.spend("write", file)?;
        let Some(stored) = self.files.get_mut(&file) else {
            return Self::error("write", file, StorageErrorKind::NotFound);
        };
        assert!(at as usize + bytes.len() <= stored.len(), "only into space that was made");
        stored[at as usize..][..bytes.len()].copy_from_slice(bytes);
        self.done.push(("write", file));
        Ok(())
    }

    fn create(&mut self, file: FileName, length: u64) -> Result<(), StorageError> {
        self.spend("create", file)?;
        self.files.insert(file, vec![0; length as usize]);
        Ok(())
    }

    fn create_dir(&mut self, _: DirName) -> Result<(), StorageError> {
        Ok(())
    }

    fn extend(&mut self, file: FileName, length: u64) -> Result<(), StorageError> {
        self.spend("extend", file)?;
        self.bytes(file).resize(length as usize, 0);
        Ok(())
    }

    fn flush(&mut self, file: FileName) -> Result<(), StorageError> {
        self.done.push(("flush", file));
        Ok(())
    }

    fn flush_dir(&mut self, _: DirName) -> Result<(), StorageError> {
        Ok(())
    }

    fn flush_all(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    fn rename(&mut self, from: FileName, to: FileName) -> Result<(), StorageError> {
        self.spend("rename", from)?;
        if let Some(bytes) = self.files.remove(&from) {
            self.files.insert(to, bytes);
        }
        Ok(())
    }

    fn remove(&mut self, file: FileName) -> Result<(), StorageError> {
        self.spend("remove", file)?;
        self.files.remove(&file);
        Ok(())
    }

    fn remove_dir(&mut self, _: DirName) -> Result<(), StorageError> {
        Ok(())
    }
}
