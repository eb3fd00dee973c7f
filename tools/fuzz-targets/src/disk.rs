//! A disk in memory whose files are whatever the input says.

use std::collections::BTreeMap;

use cutwater_model::{
    DirName, FileName,
    storage::{DirEntry, Storage, StorageError, StorageErrorKind},
};

/// Files that one recovery may make in all; more is a decoder that believed a length.
const BYTES_MAX: u64 = 64 << 20;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryDisk {
    pub(crate) files: BTreeMap<FileName, Vec<u8>>,
}

impl MemoryDisk {
    fn error<T>(action: &'static str, file: FileName, kind: StorageErrorKind) -> Result<T, StorageError> {
        Err(StorageError { action, path: file.to_string(), kind })
    }
}

impl Storage for MemoryDisk {
    fn list(&mut self, dir: DirName) -> Result<Vec<DirEntry>, StorageError> {
        let paths = self.files.keys().filter(|file| file.dir() == dir).map(ToString::to_string);
        let mut entries: Vec<_> = paths
            .map(|path| DirEntry { name: path.rsplit('/').next().unwrap_or_default().into(), is_dir: false })
            .collect();
        entries.sort();
        Ok(entries)
    }

    fn length(&mut self, file: FileName) -> Result<Option<u64>, StorageError> {
        Ok(self.files.get(&file).map(|bytes| bytes.len() as u64))
    }

    fn read(&mut self, file: FileName, at: u64, into: &mut [u8]) -> Result<usize, StorageError> {
        let Some(bytes) = self.files.get(&file) else {
            return Self::error("read", file, StorageErrorKind::NotFound);
        };
        let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
        let read = rest.len().min(into.len());
        into[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn write(&mut self, file: FileName, at: u64, bytes: &[u8]) -> Result<(), StorageError> {
        let Some(stored) = self.files.get_mut(&file) else {
            return Self::error("write", file, StorageErrorKind::NotFound);
        };
        let room = usize::try_from(at).ok().and_then(|at| stored.get_mut(at..)?.get_mut(..bytes.len()));
        let Some(room) = room else { return Self::error("write", file, StorageErrorKind::Full) };
        room.copy_from_slice(bytes);
        Ok(())
    }

    fn create(&mut self, file: FileName, length: u64) -> Result<(), StorageError> {
        if length > BYTES_MAX {
            return Self::error("create", file, StorageErrorKind::Full);
        }
        self.files.insert(file, vec![0; length as usize]);
        Ok(())
    }

    fn create_dir(&mut self, _: DirName) -> Result<(), StorageError> {
        Ok(())
    }

    fn extend(&mut self, file: FileName, length: u64) -> Result<(), StorageError> {
        if length > BYTES_MAX {
            return Self::error("extend", file, StorageErrorKind::Full);
        }
        let bytes = self.files.entry(file).or_default();
        bytes.resize(bytes.len().max(length as usize), 0);
        Ok(())
    }

    fn flush(&mut self, _: FileName) -> Result<(), StorageError> {
        Ok(())
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
