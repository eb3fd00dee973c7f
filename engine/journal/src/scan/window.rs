//! The stretch of a journal file that recovery holds in memory.

use alloc::{vec, vec::Vec};

use cutwater_model::limits::GROUP_BYTES_MAX;
use cutwater_model::storage::{Storage, StorageError};
use cutwater_model::{FileName, ShardId};

use crate::place::Place;

const READ_BYTES: usize = 1024 * 1024;
const ROOM: usize = READ_BYTES + GROUP_BYTES_MAX as usize;

/// Bytes of one file, in one buffer that is used throughout.
pub(super) struct Window<'s> {
    storage: &'s mut dyn Storage,
    shard: ShardId,
    buffer: Vec<u8>,
    /// Where the first byte of the buffer lies.
    place: Place,
    /// How many bytes of the buffer count.
    filled: usize,
}

impl<'s> Window<'s> {
    pub(super) fn new(storage: &'s mut dyn Storage, shard: ShardId) -> Self {
        Self { storage, shard, buffer: vec![0; ROOM], place: Place::default(), filled: 0 }
    }

    /// The `bytes` bytes at a place, at most a group's, fewer only at the file's end. Where they are not held yet, as
    /// much is read as there is room for, up to byte `until` of the file.
    pub(super) fn get(&mut self, place: Place, bytes: usize, until: u64) -> Result<&mut [u8], StorageError> {
        let held = self.place.at..self.place.at + self.filled as u64;
        let is_held = place.file == self.place.file && held.contains(&place.at);
        let mut from = if is_held { (place.at - held.start) as usize } else { 0 };
        if !is_held {
            (self.place, self.filled) = (place, 0);
        }
        if self.filled - from < bytes && held_end(self.place, self.filled) < until {
            self.buffer.copy_within(from..self.filled, 0);
            (self.place, self.filled, from) = (place, self.filled - from, 0);
            self.fill(until)?;
        }
        let to = self.filled.min(from + bytes);
        Ok(&mut self.buffer[from..to])
    }

    fn fill(&mut self, until: u64) -> Result<(), StorageError> {
        let file = FileName::Journal { shard: self.shard, number: self.place.file };
        while self.filled < ROOM {
            let at = held_end(self.place, self.filled);
            let left = usize::try_from(until.saturating_sub(at)).unwrap_or(usize::MAX);
            let bytes = (ROOM - self.filled).min(left).min(READ_BYTES);
            if bytes == 0 {
                break;
            }
            let read = self.storage.read(file, at, &mut self.buffer[self.filled..self.filled + bytes])?;
            if read == 0 {
                break;
            }
            self.filled += read;
        }
        Ok(())
    }
}

const fn held_end(place: Place, filled: usize) -> u64 {
    place.at + filled as u64
}
