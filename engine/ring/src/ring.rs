//! One io_uring and the thread that owns it.
//!
//! Operations are queued by the methods of [`Ring`], handed to the kernel all at once by [`Ring::enter`], and come
//! back as [`Completion`]s. Nothing that is queued can fail at once: what can't be submitted, or names memory outside
//! the slab, completes with an error like anything else.
//!
//! **Descriptors.** An operation names its file when it is *submitted*, that is during the next `enter`; from then on
//! the kernel itself holds the file. So a descriptor must stay open from the call that queues an operation until the
//! next `enter` returns. [`Ring::close`] takes the descriptor and closes it in order, after all that was queued before.
//! An operation in flight also keeps its socket open after a close: cancel it, or [`Ring::shutdown`] the socket, first.
//!
//! **Memory.** Send buffers are owned by the ring while in flight; receive buffers are lent by it. Ranges of the
//! attached slab are checked against its bounds, and the slab lives for ever; that nobody writes bytes under an
//! operation in flight is the rule of the slab's owner.

use core::marker::PhantomData;
use core::time::Duration;
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use cutwater_model::{MemoryRange, Slab};
use io_uring::{IoUring, cqueue, squeue};

use crate::completion::{Attachment, Completion, Errno, Token};
use crate::error::{RingError, SetupStep};
use crate::in_flight::{Held, InFlight, Kind, Message, Operation};
use crate::receive_buffers::{ReceiveBuffers, ReceivedBuffer};
use crate::setup::{self, RingConfig, RingFeatures};

/// Marks the user data of a message from another ring; the rest is its token.
pub(crate) const MESSAGE: u64 = 1 << 63;
/// The user data of operations nobody waits for.
pub(crate) const UNWATCHED: u64 = 1 << 62;
/// Messages kept for their next use.
const SPARE_MESSAGES: usize = 64;
/// How long dropping a ring waits for the kernel to let go of its memory, in turns of 10 ms.
const DROP_TURNS: usize = 200;

/// How long [`Ring::enter`] may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all; without anything to submit or reap it does not even enter the kernel.
    Never,
    /// Until something completes, or for this long.
    AtMost(Duration),
    /// Until something completes.
    Forever,
}

/// Counts since the ring was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingStats {
    /// System calls.
    pub enters: u64,
    /// Of those, how many were allowed to wait.
    pub waits: u64,
    /// Operations submitted.
    pub submitted: u64,
    /// Completions reaped.
    pub completed: u64,
    /// Bytes received from sockets.
    pub received_bytes: u64,
    /// Bytes sent to sockets.
    pub sent_bytes: u64,
    /// Bytes read from files.
    pub read_bytes: u64,
    /// Bytes written to files.
    pub written_bytes: u64,
    /// Reads, writes and sends that moved fewer bytes than asked.
    pub short: u64,
    /// Receives that ended because no buffer was free.
    pub starved: u64,
}

/// Where other rings send messages to this one. May be shared between threads.
#[derive(Clone, Debug)]
pub struct RingAddress(pub(crate) Arc<OwnedFd>);

/// One io_uring. Stays on the thread that made it.
pub struct Ring {
    pub(crate) ring: IoUring,
    features: RingFeatures,
    pub(crate) in_flight: InFlight,
    buffers: Option<ReceiveBuffers>,
    /// Submissions that found the queue full, in order.
    backlog: VecDeque<squeue::Entry>,
    /// Operations that failed before the kernel saw them.
    failed: Vec<Completion>,
    slab: Option<(*mut u8, usize)>,
    #[expect(clippy::vec_box, reason = "a message must not move while in flight")]
    spare_messages: Vec<Box<Message>>,
    address: RingAddress,
    stats: RingStats,
    stays_on_its_thread: PhantomData<*const ()>,
}

impl Ring {
    /// Makes a ring for the calling thread.
    ///
    /// # Errors
    /// When the kernel refuses; the error says what to do.
    pub fn new(config: &RingConfig) -> Result<Self, RingError> {
        let (ring, features) = setup::create(config)?;
        let buffers = setup::register_buffers(&ring, config)?;
        // SAFETY: the descriptor is open, the ring being alive; it is only duplicated.
        let copy = unsafe { libc::fcntl(ring.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 0) };
        if copy < 0 {
            return Err(RingError::Setup { step: SetupStep::Address, errno: Errno::last() });
        }
        // SAFETY: `copy` was just made for us and nobody else owns it.
        let address = RingAddress(Arc::new(unsafe { OwnedFd::from_raw_fd(copy) }));
        Ok(Self {
            ring,
            features,
            in_flight: InFlight::default(),
            buffers,
            backlog: VecDeque::new(),
            failed: Vec::new(),
            slab: None,
            spare_messages: Vec::new(),
            address,
            stats: RingStats::default(),
            stays_on_its_thread: PhantomData,
        })
    }

    /// Lets operations name ranges of this slab.
    pub fn attach(&mut self, slab: &mut Slab) {
        self.slab = Some((slab.address(), slab.len()));
    }

    /// What the kernel granted.
    #[must_use]
    pub fn features(&self) -> RingFeatures {
        self.features
    }

    /// Counts since the ring was made.
    #[must_use]
    pub fn stats(&self) -> RingStats {
        self.stats
    }

    /// Operations that have not ended yet, queued ones included.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Where other rings send messages to this one.
    #[must_use]
    pub fn address(&self) -> RingAddress {
        self.address.clone()
    }

    /// Gives a received buffer back to the kernel.
    ///
    /// # Panics
    /// If another ring lent it: a fault of the caller, which would hand memory in use to the kernel.
    pub fn recycle(&mut self, buffer: ReceivedBuffer) {
        if let Some(buffers) = &mut self.buffers {
            buffers.give_back(buffer);
        }
    }

    /// Submits all that is queued, waits as told, and appends what completed to `into`.
    ///
    /// Does not wait when a completion is at hand already. A signal ends the wait early.
    ///
    /// # Errors
    /// When the kernel refuses for good; the ring is of no use any more.
    pub fn enter(&mut self, wait: Wait, into: &mut Vec<Completion>) -> Result<(), RingError> {
        let before = into.len();
        into.append(&mut self.failed);
        let mut refusals = 0;
        loop {
            self.drain_backlog();
            let wait = if into.len() > before || !self.backlog.is_empty() { Wait::Never } else { wait };
            let entered = self.enter_once(wait);
            self.reap(into);
            match entered {
                Ok(()) if self.backlog.is_empty() => return Ok(()),
                Ok(()) => {}
                // The kernel can't take more before completions are reaped or memory is free: both pass.
                Err(Errno(libc::EBUSY | libc::EAGAIN)) if refusals < 1000 => {
                    refusals += 1;
                    std::thread::yield_now();
                }
                Err(errno) => return Err(RingError::Enter { errno }),
            }
        }
    }

    /// Moves what found the queue full into it.
    fn drain_backlog(&mut self) {
        if self.backlog.is_empty() {
            return;
        }
        let mut queue = self.ring.submission();
        while let Some(entry) = self.backlog.front() {
            // SAFETY: what the entry points at is owned by `in_flight`, leaked or for ever, until its completion.
            if unsafe { queue.push(entry) }.is_err() {
                break;
            }
            self.backlog.pop_front();
        }
    }

    fn enter_once(&mut self, wait: Wait) -> Result<(), Errno> {
        let (queued, work_waits) = {
            let queue = self.ring.submission();
            (queue.len() as u32, queue.taskrun() || queue.cq_overflow())
        };
        let at_hand = !self.ring.completion().is_empty();
        let may_wait = wait != Wait::Never && !at_hand;
        if queued == 0 && !may_wait && !work_waits {
            return Ok(());
        }
        let mut flags = libc_enter::GETEVENTS | libc_enter::EXT_ARG;
        let mut timespec = libc_enter::Timespec { seconds: 0, nanoseconds: 0 };
        let mut argument = libc_enter::Argument::default();
        if may_wait {
            self.stats.waits += 1;
            if self.features.no_iowait {
                flags |= libc_enter::NO_IOWAIT;
            }
            if let Wait::AtMost(time) = wait {
                timespec.seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
                timespec.nanoseconds = i64::from(time.subsec_nanos());
                argument.timespec = core::ptr::from_ref(&timespec) as u64;
            }
        }
        self.stats.enters += 1;
        // SAFETY: `argument` has the layout of io_uring_getevents_arg and points at a timespec or nothing; both outlive the
        // call. The submissions in the queue were checked when they were pushed.
        let entered =
            unsafe { self.ring.submitter().enter(queued, u32::from(may_wait), flags, Some(&argument)) };
        match entered.as_ref().map_err(Errno::of) {
            Ok(&submitted) => {
                self.stats.submitted += submitted as u64;
                Ok(())
            }
            Err(Errno(libc::EINTR | libc::ETIME)) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Turns what the kernel posted into completions.
    fn reap(&mut self, into: &mut Vec<Completion>) {
        let Self { ring, in_flight, buffers, stats, spare_messages, .. } = self;
        for posted in ring.completion() {
            stats.completed += 1;
            let user_data = posted.user_data();
            if user_data & MESSAGE != 0 {
                let token = Token(user_data & !MESSAGE);
                let result = Ok(posted.result().unsigned_abs());
                into.push(Completion { token, result, more: false, attachment: Attachment::None });
            } else if user_data & UNWATCHED == 0 {
                let slot = user_data as u32;
                into.extend(complete(&posted, slot, in_flight, buffers, stats, spare_messages));
            }
        }
    }

    /// Queues an operation.
    pub(crate) fn push(&mut self, token: Token, kind: Kind, bytes: u32, held: Held, entry: squeue::Entry) {
        let slot = self.in_flight.insert(Operation { token, kind, bytes, held });
        self.push_entry(entry.user_data(u64::from(slot)));
    }

    /// Queues an operation that nobody waits for and that points at nothing.
    pub(crate) fn push_unwatched(&mut self, entry: squeue::Entry) {
        self.push_entry(entry.user_data(UNWATCHED));
    }

    fn push_entry(&mut self, entry: squeue::Entry) {
        // SAFETY: what the entry points at is owned by `in_flight`, leaked or for ever, until its completion.
        if !self.backlog.is_empty() || unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.backlog.push_back(entry);
        }
    }

    /// Completes an operation that can't be submitted, with the next `enter`.
    pub(crate) fn fail(&mut self, token: Token, errno: Errno, attachment: Attachment) {
        self.failed.push(Completion { token, result: Err(errno), more: false, attachment });
    }

    /// The address of a range of the slab, if it lies within.
    pub(crate) fn slab_address(&self, range: MemoryRange) -> Option<*mut u8> {
        let (address, len) = self.slab?;
        let end = (range.at as usize).checked_add(range.len as usize)?;
        (end <= len).then(|| address.wrapping_add(range.at as usize))
    }

    pub(crate) fn has_receive_buffers(&self) -> bool {
        self.buffers.is_some()
    }

    pub(crate) fn spare_message(&mut self) -> Box<Message> {
        self.spare_messages.pop().unwrap_or_else(Message::new)
    }
}

#[expect(clippy::vec_box, reason = "a message must not move while in flight")]
/// Reads one posted completion; `None` where it only ends an operation whose result was told.
fn complete(
    posted: &cqueue::Entry,
    slot: u32,
    in_flight: &mut InFlight,
    buffers: &mut Option<ReceiveBuffers>,
    stats: &mut RingStats,
    spare_messages: &mut Vec<Box<Message>>,
) -> Option<Completion> {
    let more = cqueue::more(posted.flags());
    let is_notification = cqueue::notif(posted.flags());
    let result = u32::try_from(posted.result()).map_err(|_| Errno(-posted.result()));
    let operation = in_flight.get_mut(slot)?;
    let (token, kind, bytes) = (operation.token, operation.kind, operation.bytes);
    let mut attachment = Attachment::None;
    if let Some(id) = cqueue::buffer_select(posted.flags())
        && let Some(buffer) = buffers.as_mut()?.lend(id, result.unwrap_or(0))
    {
        attachment = Attachment::Received(buffer);
    }
    if !is_notification {
        count(stats, kind, bytes, result);
    }
    if kind == Kind::Descriptor
        && let Ok(number) = result
    {
        // SAFETY: the kernel has just opened this descriptor for us and tells it once, so nobody else owns it.
        attachment = Attachment::Descriptor(unsafe { OwnedFd::from_raw_fd(number as i32) });
    }
    if !more {
        match in_flight.remove(slot)?.held {
            Held::Buffer(buffer) => attachment = Attachment::Returned(buffer),
            Held::Message(mut message) => {
                attachment = Attachment::Returned(core::mem::take(&mut message.owned));
                message.slices.clear();
                if spare_messages.len() < SPARE_MESSAGES {
                    spare_messages.push(message);
                }
            }
            _ => {}
        }
    }
    // The notification of a zero-copy send carries no result of its own: the send's was told before.
    let result = if is_notification { Ok(0) } else { result };
    Some(Completion { token, result, more, attachment })
}

fn count(stats: &mut RingStats, kind: Kind, bytes: u32, result: Result<u32, Errno>) {
    match result {
        Ok(moved) => {
            let total = match kind {
                Kind::Receive => &mut stats.received_bytes,
                Kind::Send => &mut stats.sent_bytes,
                Kind::Read => &mut stats.read_bytes,
                Kind::Write => &mut stats.written_bytes,
                Kind::Plain | Kind::Descriptor => return,
            };
            *total += u64::from(moved);
            stats.short += u64::from(moved < bytes);
        }
        Err(Errno::NO_BUFFERS) => stats.starved += 1,
        Err(_) => {}
    }
}

impl Drop for Ring {
    /// Cancels everything and waits until the kernel has let go; memory it does not let go of is leaked.
    fn drop(&mut self) {
        self.cancel_all();
        let mut completions = Vec::new();
        for _ in 0..DROP_TURNS {
            let entered = self.enter(Wait::AtMost(Duration::from_millis(10)), &mut completions);
            for completion in completions.drain(..) {
                if let Attachment::Received(buffer) = completion.attachment {
                    self.recycle(buffer);
                }
            }
            if self.in_flight.len() == 0 || entered.is_err() {
                break;
            }
        }
        let idle = self.in_flight.len() == 0;
        if !idle {
            core::mem::forget(core::mem::take(&mut self.in_flight));
        }
        if let Some(buffers) = self.buffers.take() {
            let unregistered = self.ring.submitter().unregister_buf_ring(crate::receive_buffers::GROUP);
            if !idle || buffers.lent() > 0 || unregistered.is_err() {
                buffers.leak();
            }
        }
    }
}

impl core::fmt::Debug for Ring {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Ring")
            .field("features", &self.features)
            .field("in_flight", &self.in_flight.len())
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

impl AsFd for RingAddress {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The extended arguments of io_uring_enter(2), as <linux/io_uring.h> lays them out.
mod libc_enter {
    pub(super) const GETEVENTS: u32 = 1;
    pub(super) const EXT_ARG: u32 = 1 << 3;
    pub(super) const NO_IOWAIT: u32 = 1 << 7;

    #[repr(C)]
    pub(super) struct Timespec {
        pub(super) seconds: i64,
        pub(super) nanoseconds: i64,
    }

    #[repr(C)]
    #[derive(Default)]
    pub(super) struct Argument {
        pub(super) signal_mask: u64,
        pub(super) signal_mask_bytes: u32,
        pub(super) min_wait_us: u32,
        pub(super) timespec: u64,
    }
}
