//! The disk as recovery sees it: blocking calls, each done at once, none flushed unless it says so.

use std::sync::Arc;

use cutwater_model::storage::{DirEntry, Storage, StorageError, StorageErrorKind};
use cutwater_model::{DirName, FileName};

use super::Disk;
use super::names::Change;

impl Disk {
    /// Counts a call, and lets the process die in it where that was arranged.
    fn call(&mut self, action: &'static str, path: &dyn core::fmt::Display) -> Result<(), StorageError> {
        self.tick();
        match &mut self.calls_left {
            Some(0) => Err(failure(action, path, StorageErrorKind::Other(4))),
            Some(left) => {
                *left -= 1;
                if *left == 0 {
                    return Err(failure(action, path, StorageErrorKind::Other(4)));
                }
                Ok(())
            }
            None => Ok(()),
        }
    }
}

fn failure(action: &'static str, path: &dyn core::fmt::Display, kind: StorageErrorKind) -> StorageError {
    StorageError { action, path: path.to_string(), kind }
}

fn last_part(path: &str) -> String {
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

impl Storage for Disk {
    fn list(&mut self, dir: DirName) -> Result<Vec<DirEntry>, StorageError> {
        self.call("list", &dir)?;
        let files = self.names.seen.files.keys().filter(|file| file.dir() == dir);
        let folders = self.names.seen.dirs.iter().filter(|folder| folder.parent() == Some(dir));
        let mut entries: Vec<DirEntry> = files
            .map(|file| DirEntry { name: last_part(&file.to_string()), is_dir: false })
            .chain(folders.map(|folder| DirEntry { name: last_part(&folder.to_string()), is_dir: true }))
            .collect();
        entries.sort_unstable();
        Ok(entries)
    }

    fn length(&mut self, file: FileName) -> Result<Option<u64>, StorageError> {
        self.call("stat", &file)?;
        let inode = self.inode_of(file).and_then(|inode| self.inodes.get(&inode));
        Ok(inode.map(|inode| inode.length()))
    }

    fn read(&mut self, file: FileName, at: u64, into: &mut [u8]) -> Result<usize, StorageError> {
        self.call("read", &file)?;
        if self.random.one_in(self.faults.read_error_one_in) {
            return Err(failure("read", &file, StorageErrorKind::Device));
        }
        match self.inode_of(file).and_then(|inode| self.inodes.get(&inode)) {
            Some(inode) => {
                let count = inode.read(at, into);
                let rot = self.rotten.iter().filter(|(rotten, _)| *rotten == file).map(|(_, at)| *at).min();
                if let Some(rot) = rot.filter(|_| self.leaks.rot_ends_reads) {
                    into[rot.saturating_sub(at).min(count as u64) as usize..count].fill(0);
                }
                Ok(count)
            }
            None => Err(failure("read", &file, StorageErrorKind::NotFound)),
        }
    }

    fn write(&mut self, file: FileName, at: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.call("write", &file)?;
        let reach = self.cached();
        match self.inode_of(file).and_then(|inode| self.inodes.get_mut(&inode)) {
            Some(inode) => {
                Arc::make_mut(inode).write(at, bytes, reach);
                Ok(())
            }
            None => Err(failure("write", &file, StorageErrorKind::NotFound)),
        }
    }

    fn create(&mut self, file: FileName, length: u64) -> Result<(), StorageError> {
        self.call("create", &file)?;
        if !self.names.seen.has(file.dir()) {
            self.do_create_dir(file.dir());
        }
        match self.do_create(file, length, true) {
            Ok(_) => Ok(()),
            Err(kind) => Err(failure("create", &file, kind)),
        }
    }

    fn create_dir(&mut self, dir: DirName) -> Result<(), StorageError> {
        self.call("create", &dir)?;
        self.do_create_dir(dir);
        Ok(())
    }

    fn extend(&mut self, file: FileName, length: u64) -> Result<(), StorageError> {
        self.call("extend", &file)?;
        let inode = self.inode_of(file);
        match self.do_extend(inode, length, self.count) {
            Ok(_) => Ok(()),
            Err(kind) => Err(failure("extend", &file, kind)),
        }
    }

    fn flush(&mut self, file: FileName) -> Result<(), StorageError> {
        self.call("flush", &file)?;
        let moment = self.count;
        match self.inode_of(file).and_then(|inode| self.inodes.get_mut(&inode)) {
            Some(inode) => Arc::make_mut(inode).flush(moment),
            None => return Err(failure("flush", &file, StorageErrorKind::NotFound)),
        }
        self.flush_device(moment);
        Ok(())
    }

    fn flush_dir(&mut self, dir: DirName) -> Result<(), StorageError> {
        self.call("flush", &dir)?;
        self.names.flush(Some(dir), self.count);
        Ok(())
    }

    fn flush_all(&mut self) -> Result<(), StorageError> {
        self.call("flush", &DirName::Root)?;
        if !self.leaks.unflushed_recovery {
            self.flush_everything(self.count, true);
        }
        Ok(())
    }

    fn rename(&mut self, from: FileName, to: FileName) -> Result<(), StorageError> {
        self.call("rename", &from)?;
        let inode = self.inode_of(from);
        self.do_rename(from, to, inode).map_err(|kind| failure("rename", &from, kind))
    }

    fn remove(&mut self, file: FileName) -> Result<(), StorageError> {
        self.call("remove", &file)?;
        let inode = self.inode_of(file);
        self.do_remove(file, inode).map_err(|kind| failure("remove", &file, kind))
    }

    fn remove_dir(&mut self, dir: DirName) -> Result<(), StorageError> {
        self.call("remove", &dir)?;
        self.change(Change::DropDir(dir));
        Ok(())
    }
}
