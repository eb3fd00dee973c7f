//! One thread for what would block a pump: making, naming, removing and shrinking files.
//!
//! Short jobs come first and in order, but for files that grow: their flushes come after all that is quick, one for each
//! file, or one of everything where many grow at a time. Making a file of written zeros goes step by step between them; making one that
//! nobody waits for, and giving back the space of removed files, uses at most a quarter of the time, because zeroing
//! beside the journal at full speed stalls acks for hundreds of milliseconds (S6).

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cutwater_model::limits::SHRINK_STEP_BYTES;
use cutwater_model::storage::{StorageError, StorageErrorKind};
use cutwater_model::{DirName, FileName};

use crate::completion::{Errno, Token};
use crate::data_folder::{Access, DataFolder, dir_error, error, flush};
use crate::disk_storage::{Bounce, cut, length_of};
use crate::doorbell::Doorbell;
use crate::zeroing::{Zeroing, create_new, reserve};

/// After a step in the background the thread rests for so many times as long as the step took.
const REST_FACTOR: u32 = 3;
/// The longest rest after one step.
const REST_MAX: Duration = Duration::from_millis(200);
/// From so many files that grow at a time, one flush of everything is cheaper than one each.
const FLUSHES_EACH_MAX: usize = 8;
/// Quick jobs go before the flushes of files that grow, but no more than so many.
const OVERTAKEN_MAX: u32 = 256;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileJob {
    /// Make a file, and its folders where they are missing; replaces one of that name. Names are not flushed.
    Create {
        /// Which.
        file: FileName,
        /// How long.
        bytes: u64,
        /// Whether its space is written with zeros and flushed, or only reserved and not flushed.
        written: bool,
        /// Whether nobody waits for it: then it is made slowly.
        background: bool,
    },
    /// Lengthen a file, flushed.
    Extend {
        /// Which.
        file: FileName,
        /// The length it is to have.
        to: u64,
        /// Whether the new space is written with zeros, or only reserved.
        written: bool,
    },
    /// Open a file for a ring, with the lock a successor waits for; answered by its descriptor.
    Open {
        /// Which.
        file: FileName,
    },
    /// Give a file another name. Not flushed.
    Rename {
        /// The name it has.
        from: FileName,
        /// The name it is to have.
        to: FileName,
    },
    /// Make a folder, and those above where they are missing. Not flushed.
    CreateDir(DirName),
    /// Flush a folder's names.
    FlushDir(DirName),
    /// Remove a file: answered when its name is gone; its space follows in small steps.
    Remove {
        /// Which.
        file: FileName,
    },
    /// Remove an empty folder. Not flushed. A topic's folder that is not empty stays, and that is no error: other
    /// partitions are in it, and the last one takes it along. Nor is it one that a folder is gone already.
    RemoveDir(DirName),
    /// Flush everything of the data folder.
    FlushAll,
}

/// The end of a job.
#[derive(Debug)]
pub struct FileDone {
    /// The token the caller gave.
    pub token: Token,
    /// The descriptor of [`FileJob::Open`], nothing otherwise; or why not.
    pub result: Result<Option<OwnedFd>, StorageError>,
}

/// The thread. Ends, after the short jobs it was given, when dropped.
#[derive(Debug)]
pub struct FileThread {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Hands jobs to the thread and takes their ends; one for each pump.
#[derive(Debug)]
pub struct FileClient {
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    jobs: VecDeque<(Token, FileJob, Arc<Mailbox>)>,
    is_stopping: bool,
}

#[derive(Debug)]
struct Mailbox {
    done: Mutex<Vec<FileDone>>,
    bell: Arc<Doorbell>,
}

impl FileThread {
    /// Starts the thread for a data folder.
    ///
    /// # Errors
    /// When there is no memory or no thread.
    pub fn start(folder: DataFolder) -> Result<Self, StorageError> {
        let shared = Arc::new(Shared::default());
        let failed = |errno| dir_error("start the file thread of", DirName::Root, errno);
        let zeros = Bounce::new().map_err(failed)?;
        let worker = Worker {
            folder,
            shared: shared.clone(),
            zeros,
            grown: Vec::new(),
            overtaken: 0,
            urgent: VecDeque::new(),
            background: VecDeque::new(),
        };
        let thread = std::thread::Builder::new()
            .name("files".to_owned())
            .spawn(move || worker.run())
            .map_err(|error| failed(Errno::of(&error)))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// A way in for one pump, whose bell is rung when a job is done.
    #[must_use]
    pub fn client(&self, bell: Arc<Doorbell>) -> FileClient {
        let mailbox = Arc::new(Mailbox { done: Mutex::default(), bell });
        FileClient { shared: self.shared.clone(), mailbox }
    }
}

impl Drop for FileThread {
    fn drop(&mut self) {
        lock(&self.shared.queue).is_stopping = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of that thread was told on standard error by the runtime.
            let _ = thread.join();
        }
    }
}

impl FileClient {
    /// Hands a job over. Never waits for the disk.
    pub fn submit(&self, token: Token, job: FileJob) {
        lock(&self.shared.queue).jobs.push_back((token, job, self.mailbox.clone()));
        self.shared.wake.notify_one();
    }

    /// Appends the jobs of this client that ended since the last call.
    pub fn finished(&self, into: &mut Vec<FileDone>) {
        into.append(&mut lock(&self.mailbox.done));
    }
}

impl Mailbox {
    fn answer(&self, token: Token, result: Result<Option<OwnedFd>, StorageError>) {
        lock(&self.done).push(FileDone { token, result });
        self.bell.ring();
    }
}

/// A file whose space is given back after its name is gone.
struct Shrinking {
    opened: OwnedFd,
    length: u64,
}

/// Long work, done step by step.
enum Task {
    Zero(Zeroing, Token, Arc<Mailbox>),
    Shrink(Shrinking),
}

/// A file that has got its space, which is not flushed yet.
struct Grown {
    file: FileName,
    opened: OwnedFd,
    token: Token,
    mailbox: Arc<Mailbox>,
}

struct Worker {
    folder: DataFolder,
    shared: Arc<Shared>,
    zeros: Bounce,
    grown: Vec<Grown>,
    /// Jobs that went before the flushes of those.
    overtaken: u32,
    /// Somebody waits for these.
    urgent: VecDeque<Task>,
    /// Nobody waits for these.
    background: VecDeque<Task>,
}

impl Worker {
    fn run(mut self) {
        let mut rest_until = None;
        loop {
            let Some(job) = self.next_job(rest_until) else { return };
            if let Some((token, job, mailbox)) = job {
                self.begin(token, job, mailbox);
            } else if !self.grown.is_empty() {
                self.flush_grown();
            } else if let Some(task) = self.urgent.pop_front() {
                if let Some(task) = self.step(task) {
                    self.urgent.push_back(task);
                }
            } else if rest_until.is_none_or(|until| Instant::now() >= until)
                && let Some(task) = self.background.pop_front()
            {
                let begin = Instant::now();
                if let Some(task) = self.step(task) {
                    self.background.push_front(task);
                }
                rest_until = Some(Instant::now() + (begin.elapsed() * REST_FACTOR).min(REST_MAX));
            }
        }
    }

    /// The next short job, if one is there; waits for one when nothing else is to do now. `None` at the end.
    fn next_job(&self, rest_until: Option<Instant>) -> Option<Option<(Token, FileJob, Arc<Mailbox>)>> {
        let mut queue = lock(&self.shared.queue);
        loop {
            if self.overtaken >= OVERTAKEN_MAX {
                return Some(None);
            }
            if let Some(job) = queue.jobs.pop_front() {
                return Some(Some(job));
            }
            if !self.grown.is_empty() {
                return Some(None);
            }
            if queue.is_stopping {
                return None;
            }
            if !self.urgent.is_empty() {
                return Some(None);
            }
            if self.background.is_empty() {
                queue = self.shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let rest =
                rest_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
            if rest.is_zero() {
                return Some(None);
            }
            queue = self.shared.wake.wait_timeout(queue, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn begin(&mut self, token: Token, job: FileJob, mailbox: Arc<Mailbox>) {
        self.overtaken += u32::from(!self.grown.is_empty());
        let folder = &self.folder;
        let result = match job {
            FileJob::Create { file, bytes, written: false, .. } => reserved(folder, file, bytes),
            FileJob::Create { file, bytes, written: true, background } => match zeroed(folder, file, bytes) {
                Ok(zeroing) => {
                    let tasks = if background { &mut self.background } else { &mut self.urgent };
                    tasks.push_back(Task::Zero(zeroing, token, mailbox));
                    return;
                }
                Err(error) => Err(error),
            },
            FileJob::Extend { file, to, written: false } => match extended(folder, file, to) {
                Ok(opened) => {
                    self.grown.push(Grown { file, opened, token, mailbox });
                    return;
                }
                Err(error) => Err(error),
            },
            FileJob::Extend { file, to, written: true } => match Zeroing::extend(folder, file, to) {
                Ok(zeroing) => {
                    self.urgent.push_back(Task::Zero(zeroing, token, mailbox));
                    return;
                }
                Err(error) => Err(error),
            },
            FileJob::Open { file } => {
                mailbox.answer(token, folder.open_file(file).map(Some));
                return;
            }
            FileJob::Rename { from, to } => folder.rename(from, to),
            FileJob::CreateDir(dir) => folder.create_dir(dir, false),
            FileJob::FlushDir(dir) => folder.flush_dir(dir),
            FileJob::Remove { file } => self.remove(file),
            FileJob::RemoveDir(dir) => remove_dir(folder, dir),
            FileJob::FlushAll => folder.flush_all(),
        };
        mailbox.answer(token, result.map(|()| None));
    }

    /// The space of files that grow is durable before it is used (S4). A flush of everything begins after all of them
    /// have got theirs.
    fn flush_grown(&mut self) {
        self.overtaken = 0;
        let of_everything = (self.grown.len() > FLUSHES_EACH_MAX).then(|| self.folder.flush_all());
        for grown in self.grown.drain(..) {
            let result = match &of_everything {
                Some(result) => result.clone(),
                None => flush(&grown.opened).map_err(|errno| error("flush", grown.file, errno)),
            };
            grown.mailbox.answer(grown.token, result.map(|()| None));
        }
    }

    /// Removes the name with the descriptor held, so that the space does not go all at once (S6).
    fn remove(&mut self, file: FileName) -> Result<(), StorageError> {
        let opened = self.folder.open_as(file, Access::Buffered, 0);
        self.folder.remove(file)?;
        if let Ok(opened) = opened
            && let Ok(length) = length_of(&opened)
            && length > SHRINK_STEP_BYTES
        {
            self.background.push_back(Task::Shrink(Shrinking { opened, length }));
        }
        Ok(())
    }

    /// Does one step; the task again if it is not at its end.
    fn step(&mut self, task: Task) -> Option<Task> {
        match task {
            Task::Zero(mut zeroing, token, mailbox) => match zeroing.step(self.zeros.bytes()) {
                Ok(true) => return Some(Task::Zero(zeroing, token, mailbox)),
                Ok(false) => mailbox.answer(token, Ok(None)),
                Err(error) => mailbox.answer(token, Err(error)),
            },
            Task::Shrink(mut shrinking) => {
                shrinking.length = shrinking.length.saturating_sub(SHRINK_STEP_BYTES);
                // When it can't be shrunk, closing it gives all the space back at once.
                if cut(&shrinking.opened, shrinking.length).is_ok() && shrinking.length > 0 {
                    return Some(Task::Shrink(shrinking));
                }
            }
        }
        None
    }
}

fn zeroed(folder: &DataFolder, file: FileName, bytes: u64) -> Result<Zeroing, StorageError> {
    folder.create_dir(file.dir(), false)?;
    Zeroing::create(folder, file, bytes)
}

fn reserved(folder: &DataFolder, file: FileName, bytes: u64) -> Result<(), StorageError> {
    // Its folder is there but for the first time.
    let opened = match create_new(folder, file) {
        Err(StorageError { kind: StorageErrorKind::NotFound, .. }) => {
            folder.create_dir(file.dir(), false)?;
            create_new(folder, file)?
        }
        result => result?,
    };
    reserve(&opened, bytes).map_err(|errno| {
        // What was begun goes, so that a full disk gets its space back; the first error is the one to tell.
        let _ = folder.remove(file);
        error("reserve space for", file, errno)
    })
}

fn remove_dir(folder: &DataFolder, dir: DirName) -> Result<(), StorageError> {
    const NOT_EMPTY: StorageErrorKind = StorageErrorKind::Other(libc::ENOTEMPTY);
    match folder.remove_dir(dir) {
        Err(error) if error.kind == StorageErrorKind::NotFound => Ok(()),
        Err(error) if error.kind == NOT_EMPTY && matches!(dir, DirName::Topic(_)) => Ok(()),
        result => result,
    }
}

/// Lengthens a file, not flushed.
fn extended(folder: &DataFolder, file: FileName, to: u64) -> Result<OwnedFd, StorageError> {
    let opened = folder.open_as(file, Access::Direct, 0)?;
    reserve(&opened, to).map_err(|errno| error("reserve space for", file, errno))?;
    Ok(opened)
}

/// Nothing here panics while it holds a lock, so a poisoned one is as good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
