//! Files that no partition names any more: what a crash left half made, and topics whose deletion it interrupted.
//!
//! Removed is only what is nobody's and can't be missed: all files of deleted topics, whose tombstone is durable (M2), and
//! indexes that no segment has, which can be built again (S3). A segment that neither the checkpoint nor the journal names
//! holds nothing (C3), and a folder may be of a topic that the metadata never knew; but where an operator has lost or
//! mixed up other files, they may be all that is left. They are told of and left alone: missing metadata never deletes
//! data (M2).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use cutwater_metadata::Image;
use cutwater_model::storage::{Storage, StorageError};
use cutwater_model::{DirName, FileName, Offset, PartitionId, PartitionIndex, ShardId, TopicId};

/// So many names are told; of the rest only how many there are.
const NAMES_TOLD: usize = 3;

/// What becomes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is in use.
    Stays,
    /// It is not, and is left alone.
    IsTold,
    /// It is removed.
    Goes,
}

/// What was removed, and what was found and left.
#[derive(Debug, Default)]
pub(crate) struct Orphans {
    removed: u64,
    removed_names: Vec<String>,
    unknown: Vec<String>,
}

impl Orphans {
    /// Removes what deleted topics left, and takes note of folders that no topic has.
    pub(crate) fn sweep_topics(
        &mut self,
        storage: &mut dyn Storage,
        image: &Image,
    ) -> Result<(), StorageError> {
        for entry in storage.list(DirName::Topics)? {
            match topic_named(&entry.name).filter(|_| entry.is_dir) {
                Some(topic) if image.is_tombstone(topic) => self.remove_topic(storage, topic)?,
                Some(topic) if image.topic(topic).is_some() => {}
                _ => self.unknown.push(format!("topics/{}", entry.name)),
            }
        }
        Ok(())
    }

    fn remove_topic(&mut self, storage: &mut dyn Storage, topic: TopicId) -> Result<(), StorageError> {
        let mut is_empty = true;
        for entry in storage.list(DirName::Topic(topic))? {
            let index = entry.name.parse().ok().filter(|_| entry.is_dir);
            let Some(index) = index.map(PartitionIndex) else {
                self.unknown.push(format!("topics/{topic}/{}", entry.name));
                is_empty = false;
                continue;
            };
            let partition = PartitionId { topic, index };
            if self.sweep_partition(storage, partition, |_| Fate::Goes)? {
                storage.remove_dir(DirName::Partition(partition))?;
            } else {
                is_empty = false;
            }
        }
        if is_empty {
            storage.remove_dir(DirName::Topic(topic))?;
        }
        Ok(())
    }

    /// Looks through the folder of a live partition that has those files.
    pub(crate) fn sweep_live(
        &mut self,
        storage: &mut dyn Storage,
        partition: PartitionId,
        files: &[FileName],
    ) -> Result<(), StorageError> {
        let fate = |file: FileName| match file {
            _ if files.contains(&file) => Fate::Stays,
            FileName::Index { .. } => Fate::Goes,
            _ => Fate::IsTold,
        };
        self.sweep_partition(storage, partition, fate).map(drop)
    }

    /// Does with the files of a partition's folder what is said of each. Returns whether nothing is left in it.
    fn sweep_partition(
        &mut self,
        storage: &mut dyn Storage,
        partition: PartitionId,
        fate: impl Fn(FileName) -> Fate,
    ) -> Result<bool, StorageError> {
        let mut is_empty = true;
        for entry in storage.list(DirName::Partition(partition))? {
            let file = file_named(partition, &entry.name).filter(|_| !entry.is_dir);
            match file.map_or(Fate::IsTold, &fate) {
                Fate::Stays => {}
                Fate::IsTold => {
                    self.unknown.push(format!("{}/{}", DirName::Partition(partition), entry.name));
                }
                Fate::Goes => {
                    if let Some(file) = file {
                        storage.remove(file)?;
                    }
                    self.removed += 1;
                    if self.removed_names.len() < NAMES_TOLD {
                        self.removed_names.extend(file.map(|file| format!("{file}")));
                    }
                    continue;
                }
            }
            is_empty = false;
        }
        Ok(is_empty)
    }

    /// What an operator should know.
    pub(crate) fn tell(self, shard: ShardId, notes: &mut Vec<String>) {
        let shard = shard.0;
        if self.removed > 0 {
            let names = self.removed_names.join(", ");
            notes.push(format!(
                "shard {shard}: removed {} files of deleted topics, or indexes without a segment, left by a crash: \
                 {names}{}",
                self.removed,
                if self.removed > NAMES_TOLD as u64 { " and others" } else { "" }
            ));
        }
        if !self.unknown.is_empty() {
            let names =
                self.unknown.iter().take(NAMES_TOLD).map(String::as_str).collect::<Vec<_>>().join(", ");
            notes.push(format!(
                "shard {shard}: {} files or folders that no partition names were found and left alone: {names}{}; \
                 move them away if they are not wanted",
                self.unknown.len(),
                if self.unknown.len() > NAMES_TOLD { " and others" } else { "" }
            ));
        }
    }
}

fn topic_named(name: &str) -> Option<TopicId> {
    let topic = TopicId(u128::from_str_radix(name, 16).ok()?);
    // Only the one way in which the engine writes it.
    (format!("{topic}") == name).then_some(topic)
}

fn file_named(partition: PartitionId, name: &str) -> Option<FileName> {
    let (digits, kind) = name.split_once('.')?;
    let base = Offset(digits.parse().ok().filter(|base| *base >= 0)?);
    let file = match kind {
        "log" => FileName::Segment { partition, base },
        "index" => FileName::Index { partition, base },
        _ => return None,
    };
    format!("{file}").ends_with(&format!("/{name}")).then_some(file)
}

#[cfg(test)]
mod tests;
