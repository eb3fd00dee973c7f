//! Carries out disk effects: reads, writes and flushes on the pump's ring, names and space on the file thread.
//!
//! A core asks by name; this keeps the descriptors. Transient errors and short counts are gone on with here, bounded
//! (E1), so the core sees whole successes and final errors only. Lives on the shard's core.

mod descriptors;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use cutwater_broker::{Effect, OpId};
use cutwater_model::hash::BuildFixedHasher;
use cutwater_model::limits::BLOCK_BYTES;
use cutwater_model::storage::StorageErrorKind;
use cutwater_model::{FileName, MemoryRange};
use cutwater_ring::data_folder::kind_of;
use cutwater_ring::{Completion, Errno, FileClient, FileDone, FileJob, Ring, Token};

use crate::pump::Purpose;
use descriptors::Descriptors;

/// How often a transient error is tried again.
const RETRIES_MAX: u32 = 12;
/// How long the first retry waits; each further one twice as long, up to [`RETRY_US_MAX`].
const RETRY_US: u64 = 200;
const RETRY_US_MAX: u64 = 100_000;
/// A read that meets the end of its file: the file is shorter than the core knows it to be.
const END_OF_FILE: Errno = Errno(libc::ENODATA);
/// Marks the token of an opening on the file thread; the others are those of operations.
const OPENING: u64 = 1 << 40;

/// How a disk operation ended.
pub(crate) type DiskResult = (OpId, Result<u32, StorageErrorKind>);

/// The files of the data folder, as one pump uses them.
#[derive(Debug)]
pub struct Disk {
    files: FileClient,
    operations: Vec<Option<Operation>>,
    free: Vec<u32>,
    descriptors: Descriptors,
    openings: HashMap<u64, Opening, BuildFixedHasher>,
    /// The opening of a name, by its token, while the name means that file.
    opening_of: HashMap<FileName, u64, BuildFixedHasher>,
    openings_begun: u64,
    /// Jobs on the file thread that have not ended.
    jobs: usize,
    finished: Vec<FileDone>,
    retries: Vec<(u64, u32)>,
    /// Operations on the ring.
    in_ring: usize,
}

#[derive(Debug)]
struct Operation {
    op: OpId,
    what: What,
    tries: u32,
    /// Keeps the descriptor open while the kernel may not have taken it yet.
    descriptor: Option<Rc<OwnedFd>>,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Write {
        file: FileName,
        at: u64,
        memory: MemoryRange,
        durable: bool,
        done: u32,
    },
    Read {
        file: FileName,
        at: u64,
        memory: MemoryRange,
        done: u32,
    },
    Sync {
        file: FileName,
    },
    /// On the file thread; with `to`, the descriptor goes by that name afterwards.
    Job {
        to: Option<FileName>,
    },
}

impl What {
    const fn file(self) -> Option<FileName> {
        match self {
            Self::Write { file, .. } | Self::Read { file, .. } | Self::Sync { file } => Some(file),
            Self::Job { .. } => None,
        }
    }
}

#[derive(Debug)]
struct Opening {
    file: FileName,
    waiting: Vec<u32>,
    tries: u32,
    /// The name means another file by now; what is opened serves those who wait and nobody else.
    is_stale: bool,
}

impl Disk {
    /// A disk that keeps at most so many descriptors.
    #[must_use]
    pub fn new(files: FileClient, descriptors_max: usize) -> Self {
        Self {
            files,
            operations: Vec::new(),
            free: Vec::new(),
            descriptors: Descriptors::new(descriptors_max),
            openings: HashMap::default(),
            opening_of: HashMap::default(),
            openings_begun: 0,
            jobs: 0,
            finished: Vec::new(),
            retries: Vec::new(),
            in_ring: 0,
        }
    }

    /// How many descriptors are kept.
    pub(crate) fn descriptors(&self) -> usize {
        self.descriptors.len()
    }

    /// Whether the ring owes the end of an operation.
    pub(crate) fn is_busy(&self) -> bool {
        self.in_ring > 0
    }

    /// Begins an effect on files.
    pub(crate) fn begin(&mut self, effect: Effect, ring: &mut Ring) {
        tracing::trace!(?effect, "disk operation");
        match effect {
            Effect::Write { op, file, at, memory, durable } => {
                self.begin_io(op, What::Write { file, at, memory, durable, done: 0 }, ring);
            }
            Effect::Read { op, file, at, memory } => {
                self.begin_io(op, What::Read { file, at, memory, done: 0 }, ring);
            }
            Effect::Sync { op, file } => self.begin_io(op, What::Sync { file }, ring),
            Effect::SyncAll { op } => self.begin_job(op, FileJob::FlushAll),
            Effect::Create { op, file, bytes, written, background } => {
                self.begin_job(op, FileJob::Create { file, bytes, written, background });
            }
            Effect::Extend { op, file, to, .. } => {
                self.begin_job(op, FileJob::Extend { file, to, written: false });
            }
            Effect::Rename { op, from, to } => self.begin_job(op, FileJob::Rename { from, to }),
            Effect::CreateDir { op, dir } => self.begin_job(op, FileJob::CreateDir(dir)),
            Effect::SyncDir { op, dir } => self.begin_job(op, FileJob::FlushDir(dir)),
            Effect::Remove { op, file } => self.begin_job(op, FileJob::Remove { file }),
            Effect::RemoveDir { op, dir } => self.begin_job(op, FileJob::RemoveDir(dir)),
            other => debug_assert!(false, "no effect on files: {other:?}"),
        }
    }

    fn begin_io(&mut self, op: OpId, what: What, ring: &mut Ring) {
        let number = self.insert(Operation { op, what, tries: 0, descriptor: None });
        self.submit(number, ring);
    }

    /// Hands a job to the file thread. A name that changes its meaning is forgotten first (S8); a descriptor goes with
    /// its file to the new name once the rename is done.
    fn begin_job(&mut self, op: OpId, job: FileJob) {
        let (mut to, mut descriptor) = (None, None);
        match job {
            FileJob::Rename { from, to: name } => {
                descriptor = self.forget(from);
                self.forget(name);
                to = Some(name);
            }
            FileJob::Create { file, .. } | FileJob::Remove { file } => drop(self.forget(file)),
            _ => {}
        }
        let number = self.insert(Operation { op, what: What::Job { to }, tries: 0, descriptor });
        self.jobs += 1;
        self.files.submit(Token(u64::from(number)), job);
    }

    fn forget(&mut self, file: FileName) -> Option<Rc<OwnedFd>> {
        let opening = self.opening_of.remove(&file).and_then(|token| self.openings.get_mut(&token));
        if let Some(opening) = opening {
            opening.is_stale = true;
        }
        self.descriptors.remove(file)
    }

    /// Queues an operation on the ring, once its file is open.
    fn submit(&mut self, number: u32, ring: &mut Ring) {
        let Some(operation) = self.operations.get_mut(number as usize).and_then(Option::as_mut) else {
            return;
        };
        let Some(file) = operation.what.file() else { return };
        let descriptor = match &operation.descriptor {
            Some(descriptor) => descriptor.clone(),
            None => match self.descriptors.get(file) {
                Some(descriptor) => operation.descriptor.insert(descriptor).clone(),
                None => return self.open(file, number),
            },
        };
        let token = Purpose::Disk.token(number);
        self.in_ring += 1;
        match operation.what {
            What::Write { at, memory, durable, done, .. } => {
                ring.write(token, &*descriptor, at + u64::from(done), rest(memory, done), durable);
            }
            What::Read { at, memory, done, .. } => {
                ring.read(token, &*descriptor, at + u64::from(done), rest(memory, done));
            }
            What::Sync { .. } => ring.flush_data(token, &*descriptor),
            What::Job { .. } => {}
        }
    }

    /// Has a file opened, for all who wait for it.
    fn open(&mut self, file: FileName, number: u32) {
        let opening = self.opening_of.get(&file).and_then(|token| self.openings.get_mut(token));
        if let Some(opening) = opening {
            return opening.waiting.push(number);
        }
        let opening = Opening { file, waiting: vec![number], tries: 0, is_stale: false };
        self.begin_opening(opening);
    }

    fn begin_opening(&mut self, opening: Opening) {
        self.openings_begun += 1;
        self.jobs += 1;
        let token = Token(OPENING | self.openings_begun);
        self.files.submit(token, FileJob::Open { file: opening.file });
        if !opening.is_stale {
            self.opening_of.insert(opening.file, token.0);
        }
        self.openings.insert(token.0, opening);
    }

    /// The end of an operation on the ring, or one part of it.
    pub(crate) fn complete(
        &mut self,
        completion: Completion,
        now_us: u64,
        ring: &mut Ring,
    ) -> Option<DiskResult> {
        let number = completion.token.0 as u32;
        self.in_ring = self.in_ring.saturating_sub(1);
        let operation = self.operations.get_mut(number as usize)?.as_mut()?;
        let may_retry = operation.tries < RETRIES_MAX;
        match (completion.result, &mut operation.what) {
            (Ok(moved), What::Write { memory, done, .. } | What::Read { memory, done, .. }) => {
                // A part of a block is written or read again whole, as O_DIRECT demands.
                *done += moved - moved % BLOCK_BYTES as u32;
                if *done >= memory.len {
                    let len = memory.len;
                    return self.finish(number, Ok(len));
                }
                if moved == 0 && matches!(operation.what, What::Read { .. }) {
                    return self.finish(number, Err(kind_of(END_OF_FILE)));
                }
                if !may_retry && (moved as usize) < BLOCK_BYTES {
                    return self.finish(number, Err(StorageErrorKind::Device));
                }
                operation.tries += u32::from((moved as usize) < BLOCK_BYTES);
                self.submit(number, ring);
                None
            }
            (Ok(_), What::Sync { .. } | What::Job { .. }) => self.finish(number, Ok(0)),
            // A flush that was interrupted has not failed; any other error of a flush is final (E1).
            (Err(errno), what)
                if may_retry
                    && (errno == Errno::INTERRUPTED
                        || (errno.is_transient() && !matches!(what, What::Sync { .. }))) =>
            {
                let wait_us = (RETRY_US << operation.tries).min(RETRY_US_MAX);
                operation.tries += 1;
                self.retries.push((now_us + wait_us, number));
                None
            }
            (Err(errno), what) => {
                tracing::error!(?what, %errno, "a disk operation failed");
                self.finish(number, Err(kind_of(errno)))
            }
        }
    }

    /// When the next retry is due.
    pub(crate) fn next_retry_us(&self) -> Option<u64> {
        self.retries.iter().map(|&(due_us, _)| due_us).min()
    }

    /// Tries again what is due.
    pub(crate) fn retry_due(&mut self, now_us: u64, ring: &mut Ring) {
        let due = |&(due_us, _): &(u64, u32)| due_us <= now_us;
        for (_, number) in self.retries.extract_if(.., |retry| due(retry)).collect::<Vec<_>>() {
            self.submit(number, ring);
        }
    }

    /// Whether the file thread has finished something.
    pub(crate) fn has_finished(&mut self) -> bool {
        if self.jobs > 0 {
            self.files.finished(&mut self.finished);
        }
        !self.finished.is_empty()
    }

    /// Takes note of what the file thread has finished, and appends the operations that ended by it.
    pub(crate) fn take_finished(&mut self, ring: &mut Ring, ended: &mut Vec<DiskResult>) {
        if !self.has_finished() {
            return;
        }
        for done in core::mem::take(&mut self.finished) {
            self.jobs = self.jobs.saturating_sub(1);
            if done.token.0 & OPENING != 0 {
                self.on_opened(done, ring, ended);
            } else {
                ended.extend(self.on_job_done(done));
            }
        }
    }

    fn on_job_done(&mut self, done: FileDone) -> Option<DiskResult> {
        let number = done.token.0 as u32;
        let operation = self.operations.get_mut(number as usize)?.as_mut()?;
        if let Err(error) = done.result {
            tracing::warn!(%error, "a job on files failed");
            return self.finish(number, Err(error.kind));
        }
        if let (What::Job { to: Some(to) }, Some(descriptor)) = (operation.what, operation.descriptor.take())
        {
            self.descriptors.insert(to, descriptor);
        }
        self.finish(number, Ok(0))
    }

    fn on_opened(&mut self, done: FileDone, ring: &mut Ring, ended: &mut Vec<DiskResult>) {
        let Some(mut opening) = self.openings.remove(&done.token.0) else { return };
        if !opening.is_stale {
            self.opening_of.remove(&opening.file);
        }
        match done.result {
            Ok(descriptor) => {
                let Some(descriptor) = descriptor.map(Rc::new) else { return };
                if !opening.is_stale {
                    self.descriptors.insert(opening.file, descriptor.clone());
                }
                for number in opening.waiting {
                    if let Some(Some(operation)) = self.operations.get_mut(number as usize) {
                        operation.descriptor = Some(descriptor.clone());
                    }
                    self.submit(number, ring);
                }
            }
            // The disk goes before the connections: descriptors kept for later make room (B160).
            Err(error) if is_out_of_descriptors(error.kind) && opening.tries < RETRIES_MAX => {
                self.descriptors.evict_half();
                opening.tries += 1;
                self.begin_opening(opening);
            }
            Err(error) => {
                tracing::error!(%error, "a file could not be opened");
                for number in opening.waiting {
                    ended.extend(self.finish(number, Err(error.kind)));
                }
            }
        }
    }

    fn insert(&mut self, operation: Operation) -> u32 {
        if let Some(number) = self.free.pop() {
            self.operations[number as usize] = Some(operation);
            return number;
        }
        self.operations.push(Some(operation));
        (self.operations.len() - 1) as u32
    }

    fn finish(&mut self, number: u32, result: Result<u32, StorageErrorKind>) -> Option<DiskResult> {
        let operation = self.operations.get_mut(number as usize)?.take()?;
        self.free.push(number);
        tracing::trace!(op = ?operation.op, ?result, "disk operation done");
        Some((operation.op, result))
    }
}

const fn is_out_of_descriptors(kind: StorageErrorKind) -> bool {
    matches!(kind, StorageErrorKind::Other(libc::EMFILE | libc::ENFILE))
}

const fn rest(memory: MemoryRange, done: u32) -> MemoryRange {
    MemoryRange { at: memory.at + done, len: memory.len - done }
}
