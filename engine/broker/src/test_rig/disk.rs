//! A disk in memory that forgets on a crash whatever was not flushed.
//!
//! It tells apart what a file holds now from what is on stable storage, block by block, and so for names. A flush
//! covers what was done before it was asked for, as STORAGE.md rule C2 has it, and nothing later.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use cutwater_model::limits::BLOCK_BYTES;
use cutwater_model::storage::{DirEntry, Storage, StorageError, StorageErrorKind};
use cutwater_model::{DirName, FileName};

use crate::Effect;

/// Counts what is done to the disk; a flush covers what came before its moment.
pub(crate) type Moment = u64;

#[derive(Clone, Debug, Default)]
struct File {
    now: Vec<u8>,
    stable: Vec<u8>,
    /// Blocks that are not on stable storage, with the moment of their last write.
    unflushed: BTreeMap<usize, Moment>,
}

impl File {
    fn write(&mut self, at: u64, bytes: &[u8], moment: Moment) {
        let (at, end) = (at as usize, at as usize + bytes.len());
        if self.now.len() < end {
            self.resize(end);
        }
        self.now[at..end].copy_from_slice(bytes);
        for block in at / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES) {
            self.unflushed.insert(block, moment);
        }
    }

    fn resize(&mut self, bytes: usize) {
        self.now.resize(bytes, 0);
        self.stable.resize(bytes, 0);
    }

    fn flush(&mut self, moment: Moment) {
        let (now, stable) = (&self.now, &mut self.stable);
        self.unflushed.retain(|block, written| {
            if *written > moment {
                return true;
            }
            let (from, to) = (block * BLOCK_BYTES, ((block + 1) * BLOCK_BYTES).min(now.len()));
            stable[from..to].copy_from_slice(&now[from..to]);
            false
        });
    }
}

/// All files. A name points to a file by its number.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    files: Vec<File>,
    names: BTreeMap<FileName, usize>,
    stable_names: BTreeMap<FileName, usize>,
    /// Names that changed since they were flushed, with the moment of the last change.
    changed: BTreeMap<FileName, Moment>,
    moment: Moment,
    /// Folders that were to be removed and had something in them.
    pub(crate) refused_removals: Vec<DirName>,
    /// A file of which a start can't read more than its first block.
    pub(crate) unreadable: Option<FileName>,
}

impl Disk {
    /// Now, for a flush that is asked for.
    pub(crate) const fn moment(&self) -> Moment {
        self.moment
    }

    /// Power is cut: only what was flushed is there.
    pub(crate) fn crash(&mut self) {
        self.names = self.stable_names.clone();
        self.changed.clear();
        for file in &mut self.files {
            file.now.clone_from(&file.stable);
            file.unflushed.clear();
        }
    }

    /// What a file holds, for a test to spoil.
    pub(crate) fn bytes_mut(&mut self, file: FileName) -> &mut [u8] {
        &mut self.file(file).expect("there is such a file").now
    }

    /// Somebody else puts a file there.
    pub(crate) fn put(&mut self, file: FileName, bytes: Vec<u8>) {
        self.files.push(File { stable: bytes.clone(), now: bytes, ..File::default() });
        self.names.insert(file, self.files.len() - 1);
        self.stable_names.insert(file, self.files.len() - 1);
    }

    /// The names there are, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = FileName> {
        self.names.keys().copied()
    }

    /// Does what an effect asks for; `bytes` are those of a write, as they were when it was asked for, or room for
    /// those of a read. Returns how many bytes were moved.
    pub(crate) fn carry_out(
        &mut self,
        effect: &Effect,
        bytes: &mut [u8],
        asked_at: Moment,
    ) -> Result<u32, StorageErrorKind> {
        self.moment += 1;
        match *effect {
            Effect::Write { file, at, durable, .. } => {
                let moment = self.moment;
                let file = self.file(file)?;
                assert!(
                    file.now.len() >= at as usize + bytes.len(),
                    "writes stay in space that was made (S4)"
                );
                file.write(at, bytes, moment);
                if durable {
                    let blocks = at as usize / BLOCK_BYTES..(at as usize + bytes.len()).div_ceil(BLOCK_BYTES);
                    let end = at as usize + bytes.len();
                    file.stable[at as usize..end].copy_from_slice(bytes);
                    file.unflushed.retain(|block, _| !blocks.contains(block));
                }
                return Ok(bytes.len() as u32);
            }
            Effect::Read { file, at, .. } => {
                let stored = &self.file(file)?.now;
                let from = (at as usize).min(stored.len());
                let len = bytes.len().min(stored.len() - from);
                bytes[..len].copy_from_slice(&stored[from..from + len]);
                return Ok(len as u32);
            }
            Effect::Sync { file, .. } => self.file(file)?.flush(asked_at),
            Effect::SyncAll { .. } => self.flush_everything(asked_at),
            Effect::Create { file, bytes, .. } => self.make(file, bytes as usize),
            Effect::Extend { file, to, .. } => self.file(file)?.resize(to as usize),
            Effect::Rename { from, to, .. } => self.move_name(from, to)?,
            Effect::SyncDir { dir, .. } => self.flush_names(asked_at, |file| file.dir() == dir),
            Effect::Remove { file, .. } => self.drop_name(file)?,
            Effect::CreateDir { .. } => {}
            Effect::RemoveDir { dir, .. } => self.check_empty(dir)?,
            ref other => panic!("{other:?} is not the disk's"),
        }
        Ok(0)
    }

    /// A folder with something in it is not removed, ENOTEMPTY.
    fn check_empty(&mut self, dir: DirName) -> Result<(), StorageErrorKind> {
        if self.list(dir).is_ok_and(|entries| entries.is_empty()) {
            return Ok(());
        }
        self.refused_removals.push(dir);
        Err(StorageErrorKind::Other(39))
    }

    fn file(&mut self, name: FileName) -> Result<&mut File, StorageErrorKind> {
        let number = *self.names.get(&name).ok_or(StorageErrorKind::NotFound)?;
        Ok(&mut self.files[number])
    }

    fn make(&mut self, name: FileName, bytes: usize) {
        self.files.push(File { now: vec![0; bytes], stable: vec![0; bytes], ..File::default() });
        self.names.insert(name, self.files.len() - 1);
        self.changed.insert(name, self.moment);
    }

    fn move_name(&mut self, from: FileName, to: FileName) -> Result<(), StorageErrorKind> {
        let number = self.names.remove(&from).ok_or(StorageErrorKind::NotFound)?;
        self.names.insert(to, number);
        self.changed.extend([(from, self.moment), (to, self.moment)]);
        Ok(())
    }

    fn drop_name(&mut self, name: FileName) -> Result<(), StorageErrorKind> {
        self.names.remove(&name).ok_or(StorageErrorKind::NotFound)?;
        self.changed.insert(name, self.moment);
        Ok(())
    }

    fn flush_everything(&mut self, moment: Moment) {
        for file in &mut self.files {
            file.flush(moment);
        }
        self.flush_names(moment, |_| true);
    }

    fn flush_names(&mut self, moment: Moment, is_meant: impl Fn(FileName) -> bool) {
        let (names, stable) = (&self.names, &mut self.stable_names);
        self.changed.retain(|&name, changed| {
            if *changed > moment || !is_meant(name) {
                return true;
            }
            match names.get(&name) {
                Some(&number) => stable.insert(name, number),
                None => stable.remove(&name),
            };
            false
        });
    }
}

fn failure(action: &'static str, file: FileName) -> impl FnOnce(StorageErrorKind) -> StorageError {
    move |kind| StorageError { action, path: file.to_string(), kind }
}

impl Storage for Disk {
    fn list(&mut self, dir: DirName) -> Result<Vec<DirEntry>, StorageError> {
        let last_part =
            |path: &dyn ToString| path.to_string().rsplit('/').next().unwrap_or_default().to_owned();
        let inside = self.names.keys().filter(|file| file.dir() == dir);
        let mut entries: Vec<_> =
            inside.map(|file| DirEntry { name: last_part(file), is_dir: false }).collect();
        // A folder is there as long as there is something in it.
        let above = |folder: &DirName| folder.parent();
        let folders = self.names.keys().flat_map(|file| core::iter::successors(Some(file.dir()), above));
        let below = folders.filter(|folder| folder.parent() == Some(dir));
        entries.extend(below.map(|folder| DirEntry { name: last_part(&folder), is_dir: true }));
        entries.sort_unstable();
        entries.dedup();
        Ok(entries)
    }

    fn length(&mut self, file: FileName) -> Result<Option<u64>, StorageError> {
        Ok(self.file(file).ok().map(|file| file.now.len() as u64))
    }

    fn read(&mut self, file: FileName, at: u64, into: &mut [u8]) -> Result<usize, StorageError> {
        if self.unreadable == Some(file) && at > 0 {
            return Err(failure("read", file)(StorageErrorKind::Device));
        }
        let stored = &self.file(file).map_err(failure("read", file))?.now;
        let from = (at as usize).min(stored.len());
        let len = into.len().min(stored.len() - from);
        into[..len].copy_from_slice(&stored[from..from + len]);
        Ok(len)
    }

    fn write(&mut self, file: FileName, at: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.moment += 1;
        let moment = self.moment;
        self.file(file).map_err(failure("write", file))?.write(at, bytes, moment);
        Ok(())
    }

    fn create(&mut self, file: FileName, length: u64) -> Result<(), StorageError> {
        self.moment += 1;
        self.make(file, length as usize);
        Ok(())
    }

    fn create_dir(&mut self, _: DirName) -> Result<(), StorageError> {
        Ok(())
    }

    fn extend(&mut self, file: FileName, length: u64) -> Result<(), StorageError> {
        self.file(file).map_err(failure("extend", file))?.resize(length as usize);
        Ok(())
    }

    fn flush(&mut self, file: FileName) -> Result<(), StorageError> {
        let moment = self.moment;
        self.file(file).map_err(failure("flush", file))?.flush(moment);
        Ok(())
    }

    fn flush_dir(&mut self, dir: DirName) -> Result<(), StorageError> {
        self.flush_names(self.moment, |file| file.dir() == dir);
        Ok(())
    }

    fn flush_all(&mut self) -> Result<(), StorageError> {
        self.flush_everything(self.moment);
        Ok(())
    }

    fn rename(&mut self, from: FileName, to: FileName) -> Result<(), StorageError> {
        self.moment += 1;
        self.move_name(from, to).map_err(failure("rename", from))
    }

    fn remove(&mut self, file: FileName) -> Result<(), StorageError> {
        self.moment += 1;
        self.drop_name(file).map_err(failure("remove", file))
    }

    fn remove_dir(&mut self, dir: DirName) -> Result<(), StorageError> {
        let path = dir.to_string();
        self.check_empty(dir).map_err(|kind| StorageError { action: "remove", path, kind })
    }
}
