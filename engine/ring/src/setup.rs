//! Setting a ring up: the fastest flags the kernel knows, falling back one by one.

use core::sync::atomic::{AtomicU32, Ordering};

use io_uring::IoUring;

use crate::completion::Errno;
use crate::error::{RingError, SetupStep};
use crate::receive_buffers::{GROUP, ReceiveBuffers};
use crate::ring::Ring;

/// How large a ring is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingConfig {
    /// Operations that one turn can submit without a second system call; a power of two.
    pub submissions: u32,
    /// Completions that the ring holds before the kernel has to queue them elsewhere; a power of two.
    pub completions: u32,
    /// Receive buffers the kernel picks from; a power of two up to 32768, or 0 for none.
    pub receive_buffers: u16,
    /// The length of each, in bytes.
    pub receive_buffer_bytes: u32,
}

impl Default for RingConfig {
    fn default() -> Self {
        Self { submissions: 4096, completions: 16384, receive_buffers: 256, receive_buffer_bytes: 64 * 1024 }
    }
}

impl RingConfig {
    /// A small ring, for a client or a tool with a few connections.
    #[must_use]
    pub const fn small() -> Self {
        Self { submissions: 256, completions: 1024, receive_buffers: 64, receive_buffer_bytes: 64 * 1024 }
    }
}

/// What the kernel granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingFeatures {
    /// Only this ring's thread submits, and its completions run only when it enters (Linux 6.1).
    pub defer_taskrun: bool,
    /// Only this ring's thread submits (Linux 6.0).
    pub single_issuer: bool,
    /// Waiting in the ring is not counted as waiting for a disk (Linux 6.15).
    pub no_iowait: bool,
}

/// Numbers rings, so that a buffer finds back to the one that lent it.
static RINGS: AtomicU32 = AtomicU32::new(0);

/// Creates the ring and says what it can.
pub(crate) fn create(config: &RingConfig) -> Result<(IoUring, RingFeatures), RingError> {
    let flags = [(true, true), (true, false), (false, false)];
    let mut errno = Errno(libc::EINVAL);
    for (single_issuer, defer_taskrun) in flags {
        let mut builder = IoUring::builder();
        builder.setup_clamp().setup_cqsize(config.completions).dontfork();
        builder.setup_submit_all();
        if single_issuer {
            builder.setup_single_issuer();
        }
        if defer_taskrun {
            builder.setup_defer_taskrun().setup_taskrun_flag();
        } else {
            builder.setup_coop_taskrun().setup_taskrun_flag();
        }
        match builder.build(config.submissions) {
            Ok(ring) => {
                let no_iowait = ring.params().is_feature_no_iowait();
                return Ok((ring, RingFeatures { defer_taskrun, single_issuer, no_iowait }));
            }
            Err(error) => errno = Errno::of(&error),
        }
        if errno.0 != libc::EINVAL {
            break;
        }
    }
    Err(RingError::Setup { step: SetupStep::Create, errno })
}

/// Maps and registers the receive buffers.
pub(crate) fn register_buffers(
    ring: &IoUring,
    config: &RingConfig,
) -> Result<Option<ReceiveBuffers>, RingError> {
    if config.receive_buffers == 0 {
        return Ok(None);
    }
    let number = RINGS.fetch_add(1, Ordering::Relaxed);
    let buffers = ReceiveBuffers::new(number, config.receive_buffers, config.receive_buffer_bytes)
        .map_err(|errno| RingError::Setup { step: SetupStep::MapBuffers, errno })?;
    let (address, count) = buffers.registration();
    // SAFETY: the entries are mapped for `count` buffers and stay so until the ring is gone or for ever (`Ring::drop`).
    unsafe { ring.submitter().register_buf_ring_with_flags(address, count, GROUP, 0) }
        .map_err(|error| RingError::Setup { step: SetupStep::RegisterBuffers, errno: Errno::of(&error) })?;
    Ok(Some(buffers))
}

impl Ring {
    /// Bounds the kernel's workers for this ring, which flush files and do what would block, and keeps them on the
    /// given cores, away from those of the pumps. No cores: wherever the kernel likes.
    ///
    /// # Errors
    /// When the kernel refuses; then they are as before.
    pub fn place_workers(&self, cores: &[usize], workers_max: u32) -> Result<(), Errno> {
        let submitter = self.ring.submitter();
        if !cores.is_empty() {
            // SAFETY: a cpu_set_t is plain data for which all zeros is valid: the empty set.
            let mut set: libc::cpu_set_t = unsafe { core::mem::zeroed() };
            for &core in cores.iter().filter(|&&core| core < libc::CPU_SETSIZE as usize) {
                // SAFETY: the number is below the size of the set.
                unsafe { libc::CPU_SET(core, &mut set) };
            }
            submitter.register_iowq_aff(&set).map_err(|error| Errno::of(&error))?;
        }
        // One bound for work on files, one for work that may wait for ever, as on sockets.
        let mut max = [workers_max, workers_max];
        submitter.register_iowq_max_workers(&mut max).map_err(|error| Errno::of(&error))
    }
}
