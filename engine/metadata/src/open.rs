//! Opens the metadata at start: finds the copy that counts, makes the other one the same, or refuses.
//!
//! Nothing here ever deletes data: metadata that is missing or damaged while there is data is a refusal (M2).

use alloc::sync::Arc;

use cutwater_model::storage::{Storage, StorageError};
use cutwater_model::{DirName, FileName};

use crate::command::ApplyError;
use crate::controller::Controller;
use crate::copy::{self, CopyFault, CopyHead, GoodCopy};
use crate::image::Image;
use crate::record::{Identity, Record};

/// Why a node can't start from its metadata. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The disk said no.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A newer release wrote it.
    #[error(
        "{file} has format version {version}, which this release does not read; start the newer release again"
    )]
    Newer {
        /// Which copy.
        file: FileName,
        /// Its version.
        version: u16,
    },
    /// Neither copy is good.
    #[error(
        "both copies of the metadata are lost: metadata/log-0: {first}; metadata/log-1: {second}. Restore one of them \
         from a backup; the data is not touched"
    )]
    BothLost {
        /// What is wrong with copy 0.
        first: CopyFault,
        /// What is wrong with copy 1.
        second: CopyFault,
    },
    /// There is data without metadata.
    #[error(
        "the folder {dir} holds data, but metadata/log-0 and metadata/log-1 are missing; restore one of them from a \
         backup; the data is not touched"
    )]
    Orphaned {
        /// A folder that is not empty.
        dir: DirName,
    },
    /// The folder is another node's.
    #[error("the data folder belongs to {found}, but this is {expected}; start it with its own folder")]
    OtherNode {
        /// Whose folder it is.
        found: Identity,
        /// Who wants to open it.
        expected: Identity,
    },
}

/// What was found and done, for the node's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Whether the metadata was made just now.
    pub is_new: bool,
    /// A copy that was no good and was written anew from the other one.
    pub repaired: Option<(FileName, CopyFault)>,
    /// The number of shards before, if all partitions were placed anew.
    pub shards_before: Option<u16>,
}

/// The metadata's file of that copy.
pub(crate) const fn file(copy: usize) -> FileName {
    FileName::Metadata { copy: copy as u8 }
}

impl Controller {
    /// Opens the metadata of a node of so many shards, or makes it where there is no data at all: then the node gets
    /// the `fresh` identity. `expected` is who the node must be, if that is known.
    ///
    /// # Errors
    /// [`OpenError`], by file and reason.
    pub fn open(
        storage: &mut dyn Storage,
        expected: Option<Identity>,
        fresh: Identity,
        shards: u16,
    ) -> Result<(Self, OpenReport), OpenError> {
        let copies = [copy::read(storage, file(0))?, copy::read(storage, file(1))?];
        for (index, result) in copies.iter().enumerate() {
            if let Err(CopyFault::Newer(version)) = *result {
                return Err(OpenError::Newer { file: file(index), version });
            }
        }
        let mut report = OpenReport::default();
        let mut controller = match choose(copies)? {
            Chosen::One { good, other_fault, index } => {
                let found = good.head.identity;
                if let Some(expected) = expected.filter(|&expected| expected != found) {
                    return Err(OpenError::OtherNode { found, expected });
                }
                let other = 1 - index;
                report.repaired = other_fault.map(|fault| (file(other), fault));
                let mut controller = Self::of(*good, index);
                // The copy that counts is written last, so a crash on the way leaves it whole.
                controller.begin_anew(storage, [other, index])?;
                controller
            }
            Chosen::Both(good) => {
                let found = good.head.identity;
                if let Some(expected) = expected.filter(|&expected| expected != found) {
                    return Err(OpenError::OtherNode { found, expected });
                }
                Self::of_both(*good)
            }
            Chosen::None { first, second } => {
                refuse_if_data(storage, first, second)?;
                report.is_new = true;
                let head = CopyHead { identity: expected.unwrap_or(fresh), generation: 0 };
                let mut image = Image::default();
                let placed = image.apply(&Record::Shards { shards }, 1);
                debug_assert!(placed.is_some(), "an empty image takes any number of shards");
                let mut controller = Self::empty(head, Arc::new(image));
                controller.begin_anew(storage, [1, 0])?;
                controller
            }
        };
        if controller.image().shards() != shards {
            report.shards_before = Some(controller.image().shards());
            controller.commit(storage, &Record::Shards { shards }).map_err(|error| match error {
                ApplyError::Storage(error) => OpenError::Storage(error),
                _ => OpenError::BothLost { first: CopyFault::Snapshot, second: CopyFault::Snapshot },
            })?;
        }
        Ok((controller, report))
    }
}

/// What there is to start from.
enum Chosen {
    /// Both copies say the same.
    Both(alloc::boxed::Box<GoodCopy>),
    /// This copy; the other one is older, or no good.
    One { good: alloc::boxed::Box<GoodCopy>, other_fault: Option<CopyFault>, index: usize },
    /// No copy.
    None { first: CopyFault, second: CopyFault },
}

fn choose(copies: [Result<GoodCopy, CopyFault>; 2]) -> Result<Chosen, OpenError> {
    let boxed = alloc::boxed::Box::new;
    Ok(match copies {
        [Ok(first), Ok(second)] if first.is_same(&second) => {
            let length = first.length.min(second.length);
            Chosen::Both(boxed(GoodCopy { length, ..first }))
        }
        [Ok(first), Ok(second)] => {
            if first.rank() >= second.rank() {
                Chosen::One { good: boxed(first), other_fault: None, index: 0 }
            } else {
                Chosen::One { good: boxed(second), other_fault: None, index: 1 }
            }
        }
        [Ok(good), Err(fault)] => {
            refuse_if_shorter(&good, fault, 0)?;
            Chosen::One { good: boxed(good), other_fault: Some(fault), index: 0 }
        }
        [Err(fault), Ok(good)] => {
            refuse_if_shorter(&good, fault, 1)?;
            Chosen::One { good: boxed(good), other_fault: Some(fault), index: 1 }
        }
        [Err(first), Err(second)] => Chosen::None { first, second },
    })
}

/// A good copy that ends before a record which the damaged one still holds has lost its own end.
fn refuse_if_shorter(good: &GoodCopy, fault: CopyFault, index: usize) -> Result<(), OpenError> {
    match fault {
        CopyFault::Record { later, .. } if later > good.image.version() => {
            let lost = CopyFault::Record { at: good.end, later };
            let (first, second) = if index == 0 { (lost, fault) } else { (fault, lost) };
            Err(OpenError::BothLost { first, second })
        }
        _ => Ok(()),
    }
}

/// Metadata is made only where there is neither metadata nor data. Copy 0 is made last: where only copy 1 is there
/// and not whole, a crash cut the making short.
fn refuse_if_data(storage: &mut dyn Storage, first: CopyFault, second: CopyFault) -> Result<(), OpenError> {
    let was_cut_short = first == CopyFault::Missing
        && matches!(second, CopyFault::Missing | CopyFault::Head | CopyFault::Snapshot);
    if !was_cut_short {
        return Err(OpenError::BothLost { first, second });
    }
    for dir in [DirName::Journals, DirName::Topics] {
        if storage.list(dir)?.is_empty() {
            continue;
        }
        return Err(match second {
            CopyFault::Missing => OpenError::Orphaned { dir },
            _ => OpenError::BothLost { first, second },
        });
    }
    Ok(())
}

impl GoodCopy {
    const fn rank(&self) -> (u64, u64) {
        (self.head.generation, self.image.version())
    }

    fn is_same(&self, other: &Self) -> bool {
        self.head == other.head && self.end == other.end && self.image == other.image
    }
}

#[cfg(test)]
mod tests;
