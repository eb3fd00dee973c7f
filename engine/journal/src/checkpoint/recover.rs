//! Finds, repairs and makes checkpoints at start (C3), when nothing is served yet and waiting is allowed.

use alloc::{vec, vec::Vec};

use cutwater_model::limits::BLOCK_BYTES;
use cutwater_model::storage::{Storage, StorageError, StorageErrorKind};
use cutwater_model::{DirName, FileName, Incarnation, ShardId};

use super::body::CheckpointBody;
use super::writer::{CheckpointWrite, CheckpointWriter, record_prefix};
use super::{CHECKPOINT_BODY_AT, CHECKPOINT_PIECE_BYTES, CheckpointHead, CopyFault};
use crate::group::GROUP_MAGIC;
use crate::place::ReplayPlace;

/// Why a shard can't start from its checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The disk said no.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Neither copy is good. Nothing was changed.
    #[error(
        "both copies of the checkpoint are lost: {first_file}: {first}; {second_file}: {second}. Restore one of them \
         from a backup or a replica; the data is not touched",
        first_file = FileName::Checkpoint { shard: *shard, copy: 0 },
        second_file = FileName::Checkpoint { shard: *shard, copy: 1 },
    )]
    BothLost {
        /// Whose.
        shard: ShardId,
        /// What is wrong with copy 0.
        first: CopyFault,
        /// What is wrong with copy 1.
        second: CopyFault,
    },
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
    /// There is a journal without a checkpoint.
    #[error(
        "{file} holds entries but there is no checkpoint beside it; restore checkpoint-0 or checkpoint-1 from a \
         backup, or move the folder away if its data is not wanted"
    )]
    Orphaned {
        /// A journal file that was used.
        file: FileName,
    },
    /// The copy was whole a moment ago.
    #[error("{file} was whole a moment ago and is not now: {fault}; check the device")]
    Changed {
        /// Which copy.
        file: FileName,
        /// What is wrong with it.
        fault: CopyFault,
    },
}

/// The checkpoint that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundCheckpoint {
    /// What it says.
    pub head: CheckpointHead,
    /// Which copy it is.
    pub copy: u8,
    /// What the other copy is like.
    pub other: OtherCopy,
}

/// The copy that doesn't count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherCopy {
    /// The same checkpoint.
    Same,
    /// An older one.
    Older,
    /// No good: report it.
    Damaged(CopyFault),
}

/// Finds the newest good copy. `None` where the shard has neither copy: then it never had a journal, or [`create`]
/// says otherwise.
///
/// # Errors
/// [`CheckpointError`], by file and reason.
pub fn read(storage: &mut dyn Storage, shard: ShardId) -> Result<Option<FoundCheckpoint>, CheckpointError> {
    let copies = [read_copy(storage, shard, 0)?, read_copy(storage, shard, 1)?];
    for (copy, result) in (0..).zip(&copies) {
        if let Err(CopyFault::Newer(version)) = *result {
            return Err(CheckpointError::Newer { file: FileName::Checkpoint { shard, copy }, version });
        }
    }
    let found = match copies {
        [Ok(first), Ok(second)] => {
            let other = if first == second { OtherCopy::Same } else { OtherCopy::Older };
            let newest = u8::from(second.generation > first.generation);
            FoundCheckpoint { head: [first, second][usize::from(newest)], copy: newest, other }
        }
        [Ok(head), Err(fault)] => FoundCheckpoint { head, copy: 0, other: OtherCopy::Damaged(fault) },
        [Err(fault), Ok(head)] => FoundCheckpoint { head, copy: 1, other: OtherCopy::Damaged(fault) },
        [Err(CopyFault::Missing), Err(CopyFault::Missing)] => return Ok(None),
        // The second copy is made last: without it, and without a used journal, a crash cut short the making of it all.
        [Err(_), Err(CopyFault::Missing)] if used_journal(storage, shard)?.is_none() => return Ok(None),
        [Err(first), Err(second)] => return Err(CheckpointError::BothLost { shard, first, second }),
    };
    Ok(Some(found))
}

/// Reads one copy to its end and says what it is.
fn read_copy(
    storage: &mut dyn Storage,
    shard: ShardId,
    copy: u8,
) -> Result<Result<CheckpointHead, CopyFault>, StorageError> {
    let file = FileName::Checkpoint { shard, copy };
    let Some(length) = storage.length(file)? else { return Ok(Err(CopyFault::Missing)) };
    let mut block = vec![0; BLOCK_BYTES];
    match storage.read(file, 0, &mut block) {
        Ok(_) => {}
        Err(error) if error.kind == StorageErrorKind::Device => return Ok(Err(CopyFault::Unreadable)),
        Err(error) => return Err(error),
    }
    let head = match CheckpointHead::decode(&mut block, shard) {
        Ok(head) if length.saturating_sub(CHECKPOINT_BODY_AT) < head.body_bytes => {
            return Ok(Err(CopyFault::Body));
        }
        Ok(head) => head,
        Err(fault) => return Ok(Err(fault)),
    };
    let mut body = CheckpointBody::of(file, head.body_bytes, head.body_digest);
    loop {
        match body.next_piece(storage) {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(Ok(head)),
            Err(CheckpointError::Storage(error)) if error.kind != StorageErrorKind::Device => {
                return Err(error);
            }
            Err(CheckpointError::Storage(_)) => return Ok(Err(CopyFault::Unreadable)),
            Err(_) => return Ok(Err(CopyFault::Body)),
        }
    }
}

/// Makes the other copy the same as the one that counts, durable. Call it before the journal is written: afterwards
/// both copies begin their replay at the same place. A crash on the way leaves the copy that counts as it was (R5).
///
/// That one is written again first, in place: if its flush failed in its own life, what was just read of it may be in the
/// device's cache alone, and no later flush has to say so (E1).
///
/// # Errors
/// [`CheckpointError`] where the disk fails.
pub fn repair(storage: &mut dyn Storage, found: &FoundCheckpoint) -> Result<(), CheckpointError> {
    if found.other == OtherCopy::Same {
        return Ok(());
    }
    let counts = found.copy & 1;
    for copy in [counts, 1 - counts] {
        copy_to(storage, found, FileName::Checkpoint { shard: found.head.shard, copy })?;
    }
    Ok(())
}

/// Writes what the copy that counts says to one of the two, and flushes it.
fn copy_to(storage: &mut dyn Storage, found: &FoundCheckpoint, to: FileName) -> Result<(), CheckpointError> {
    make_room(storage, to, found.head.file_bytes())?;
    let mut body = CheckpointBody::new(found);
    while let Some((at, piece)) = body.next_piece(storage)?.map(|(at, piece)| (at, Vec::from(piece))) {
        storage.write(to, at, &piece)?;
    }
    let mut block = vec![0; BLOCK_BYTES];
    found.head.encode(&mut block);
    storage.write(to, 0, &block)?;
    storage.flush(to)?;
    Ok(())
}

/// Writes one copy and flushes it. `next_record` appends one record, never empty, to the empty vector it is given, or
/// returns `false` after the last. For recovery; the other copy must be durable and good.
///
/// # Errors
/// [`CheckpointError`] where the disk fails.
pub fn write_copy(
    storage: &mut dyn Storage,
    copy: u8,
    head: CheckpointHead,
    mut next_record: impl FnMut(&mut Vec<u8>) -> bool,
) -> Result<(), CheckpointError> {
    let file = FileName::Checkpoint { shard: head.shard, copy };
    let mut writer = CheckpointWriter::new(head);
    let mut piece = vec![0; CHECKPOINT_PIECE_BYTES];
    let mut record = Vec::new();
    make_room(storage, file, BLOCK_BYTES as u64)?;
    while next_record(&mut record) {
        let prefix = record_prefix(record.len() as u32);
        for mut bytes in [prefix.as_slice(), record.as_slice()] {
            loop {
                let taken = writer.push(&mut piece, bytes);
                bytes = &bytes[taken..];
                if bytes.is_empty() {
                    break;
                }
                write_piece(storage, file, &mut writer, &mut piece)?;
            }
        }
        record.clear();
    }
    write_piece(storage, file, &mut writer, &mut piece)?;
    let CheckpointWrite { at, bytes } = writer.finish(&mut piece);
    storage.write(file, at, &piece[..bytes as usize])?;
    storage.flush(file)?;
    Ok(())
}

fn write_piece(
    storage: &mut dyn Storage,
    file: FileName,
    writer: &mut CheckpointWriter,
    piece: &mut [u8],
) -> Result<(), CheckpointError> {
    if let Some(CheckpointWrite { at, bytes }) = writer.take(piece) {
        make_room(storage, file, at + u64::from(bytes))?;
        storage.write(file, at, &piece[..bytes as usize])?;
    }
    Ok(())
}

/// Makes the file at least that long, its name and length durable.
fn make_room(storage: &mut dyn Storage, file: FileName, bytes: u64) -> Result<(), StorageError> {
    match storage.length(file)? {
        Some(length) if length >= bytes => Ok(()),
        Some(_) => storage.extend(file, bytes.next_multiple_of(CHECKPOINT_PIECE_BYTES as u64)),
        None => {
            storage.create(file, bytes.next_multiple_of(CHECKPOINT_PIECE_BYTES as u64))?;
            storage.flush_dir(file.dir())
        }
    }
}

/// Makes the journal of a shard that never had one: its first file, then both copies of an empty checkpoint of
/// generation 1. `origin` is the incarnation of the start that makes it. A crash on the way is made good by calling it
/// again.
///
/// # Errors
/// [`CheckpointError::Orphaned`] where a journal was in use here, and its checkpoint is gone.
pub fn create(
    storage: &mut dyn Storage,
    shard: ShardId,
    origin: Incarnation,
    journal_file_bytes: u64,
) -> Result<CheckpointHead, CheckpointError> {
    if let Some(file) = used_journal(storage, shard)? {
        return Err(CheckpointError::Orphaned { file });
    }
    storage.create(FileName::Journal { shard, number: 0 }, journal_file_bytes)?;
    storage.flush_dir(DirName::Journal(shard))?;
    let head = CheckpointHead {
        shard,
        generation: 1,
        from: ReplayPlace::first(origin),
        journal_file_bytes,
        // Another shard may have shown something of the partitions that this one gets.
        names_all: false,
        ..CheckpointHead::default()
    };
    write_copy(storage, 0, head, |_| false)?;
    write_copy(storage, 1, head, |_| false)?;
    let body_digest = xxhash_rust::xxh3::xxh3_64(&[]);
    Ok(CheckpointHead { body_digest, ..head })
}

/// A journal file of the shard that begins with a group, if there is one.
fn used_journal(storage: &mut dyn Storage, shard: ShardId) -> Result<Option<FileName>, StorageError> {
    let mut block = vec![0; BLOCK_BYTES];
    for number in crate::scan::journal_numbers(storage, shard)? {
        let file = FileName::Journal { shard, number };
        let read = storage.read(file, 0, &mut block)?;
        if block[..read].starts_with(&GROUP_MAGIC) {
            return Ok(Some(file));
        }
    }
    Ok(None)
}
