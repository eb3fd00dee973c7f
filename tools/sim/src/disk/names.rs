//! The tree of names: what processes see, what the platter holds, and the changes between.

use std::collections::{BTreeMap, BTreeSet};

use cutwater_model::{DirName, FileName};

use super::fate::{Fates, PendingId};

/// Names a file whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct InodeId(pub(super) u64);

/// One consistent view of all names.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    pub(super) files: BTreeMap<FileName, InodeId>,
    pub(super) dirs: BTreeSet<DirName>,
}

/// A change of names. It names the file itself, so it means the same whatever else was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Link(FileName, InodeId),
    Rename(FileName, FileName, InodeId),
    Unlink(FileName, InodeId),
    MakeDir(DirName),
    DropDir(DirName),
}

/// A change that not all of its folders were flushed after.
#[derive(Clone, Debug)]
struct Pending {
    id: PendingId,
    moment: u64,
    change: Change,
    unflushed: Vec<DirName>,
}

/// Both views and what lies between.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub(super) seen: Tree,
    durable: Tree,
    pending: Vec<Pending>,
}

impl Change {
    /// The folders whose flush makes it durable. A rename waits for both: no rule says which one it hangs on.
    fn folders(self) -> Vec<DirName> {
        let mut folders = match self {
            Self::Link(file, _) | Self::Unlink(file, _) => vec![file.dir()],
            Self::Rename(from, to, _) => vec![from.dir(), to.dir()],
            Self::MakeDir(dir) | Self::DropDir(dir) => vec![dir.parent().unwrap_or(DirName::Root)],
        };
        folders.dedup();
        folders
    }

    /// Whether the two must reach the platter in their order.
    fn touches(self, other: Self) -> bool {
        let files = |change| match change {
            Self::Link(file, inode) | Self::Unlink(file, inode) => (Some(file), None, Some(inode)),
            Self::Rename(from, to, inode) => (Some(from), Some(to), Some(inode)),
            Self::MakeDir(_) | Self::DropDir(_) => (None, None, None),
        };
        let dirs = |change| match change {
            Self::MakeDir(dir) | Self::DropDir(dir) => Some(dir),
            _ => None,
        };
        let (mine, theirs) = (files(self), files(other));
        let same = |one: Option<FileName>, two: Option<FileName>| one.is_some() && one == two;
        same(mine.0, theirs.0)
            || same(mine.0, theirs.1)
            || same(mine.1, theirs.0)
            || same(mine.1, theirs.1)
            || (mine.2.is_some() && mine.2 == theirs.2)
            || (dirs(self).is_some() && dirs(self) == dirs(other))
    }
}

impl Tree {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Link(file, inode) => {
                self.files.insert(file, inode);
            }
            Change::Rename(from, to, inode) => {
                if self.files.get(&from) == Some(&inode) {
                    self.files.remove(&from);
                }
                self.files.insert(to, inode);
            }
            Change::Unlink(file, inode) => {
                if self.files.get(&file) == Some(&inode) {
                    self.files.remove(&file);
                }
            }
            Change::MakeDir(dir) => {
                self.dirs.insert(dir);
            }
            Change::DropDir(dir) => {
                if !self.files.keys().any(|file| file.dir() == dir)
                    && !self.dirs.iter().any(|it| it.parent() == Some(dir))
                {
                    self.dirs.remove(&dir);
                }
            }
        }
    }

    /// Whether a folder and all above it are there.
    pub(super) fn has(&self, dir: DirName) -> bool {
        dir == DirName::Root
            || (self.dirs.contains(&dir) && dir.parent().is_none_or(|parent| self.has(parent)))
    }

    /// Drops what lies in folders that are not there.
    fn drop_unreachable(&mut self) {
        let whole: BTreeSet<DirName> = self.dirs.iter().copied().filter(|dir| self.has(*dir)).collect();
        self.dirs = whole;
        let dirs = &self.dirs;
        self.files.retain(|file, _| file.dir() == DirName::Root || dirs.contains(&file.dir()));
    }
}

impl Names {
    /// Changes what is seen; the platter follows when the folders are flushed.
    pub(super) fn change(&mut self, change: Change, id: PendingId, moment: u64) {
        self.seen.apply(change);
        self.pending.push(Pending { id, moment, change, unflushed: change.folders() });
    }

    /// A flush of one folder, or of all, that covers what was done by that moment.
    pub(super) fn flush(&mut self, dir: Option<DirName>, moment: u64) {
        for pending in self.pending.iter_mut().filter(|pending| pending.moment <= moment) {
            pending.unflushed.retain(|folder| dir.is_some_and(|dir| dir != *folder));
        }
        let mut through = vec![false; self.pending.len()];
        for index in (0..self.pending.len()).rev() {
            if self.pending[index].unflushed.is_empty() {
                through[index] = true;
            }
            if through[index] {
                let change = self.pending[index].change;
                for (earlier, through) in self.pending[..index].iter().zip(&mut through) {
                    *through |= earlier.change.touches(change);
                }
            }
        }
        let mut through = through.into_iter();
        let durable = &mut self.durable;
        self.pending.retain(|pending| {
            let is_durable = through.next().unwrap_or(false);
            if is_durable {
                durable.apply(pending.change);
            }
            !is_durable
        });
    }

    pub(super) fn pending(&self, into: &mut Vec<PendingId>) {
        into.extend(self.pending.iter().map(|pending| pending.id));
    }

    /// The power went: only the platter and what fate kept are left.
    pub(super) fn settle(&mut self, fates: &Fates) {
        for pending in self.pending.drain(..) {
            if fates.of(pending.id).keeps_whole() {
                self.durable.apply(pending.change);
            }
        }
        self.durable.drop_unreachable();
        self.seen.clone_from(&self.durable);
    }

    /// Every file that some name may still lead to, now or after a power cut.
    pub(super) fn reachable(&self) -> BTreeSet<InodeId> {
        let changed = self.pending.iter().filter_map(|pending| match pending.change {
            Change::Link(_, inode) | Change::Rename(_, _, inode) => Some(inode),
            _ => None,
        });
        self.seen.files.values().chain(self.durable.files.values()).copied().chain(changed).collect()
    }
}
