//! What the machine must have, checked before anything is touched, each lack with its remedy.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cutwater_model::limits;
use cutwater_ring::{Errno, Ring, RingConfig, RingError};

/// The oldest kernel that has what the ring needs.
const KERNEL_LEAST: (u32, u32) = (6, 1);
/// Older kernels than this have known faults in io_uring.
const KERNEL_ADVISED: (u32, u32) = (6, 12);
/// Descriptors that the node takes besides files and connections, with room to spare.
const DESCRIPTORS_BESIDES: u64 = 128;

/// What the machine lacks.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The kernel is too old.
    #[error("Linux {found} is too old: this needs 6.1 or later, and 6.12.21 or later is advised")]
    Kernel {
        /// What runs.
        found: String,
    },
    /// io_uring does not work.
    #[error(transparent)]
    Ring(RingError),
    /// The data folder can't be written.
    #[error("the data folder {} can't be written: {errno}; check its owner, its mode and its mount", path.display())]
    NotWritable {
        /// Which.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// The data folder's file system does not bypass the page cache.
    #[error(
        "the file system of {} does not take O_DIRECT; put the data folder on ext4 or XFS, not on tmpfs or overlayfs",
        path.display()
    )]
    NoDirect {
        /// Which.
        path: PathBuf,
    },
    /// Too few descriptors.
    #[error("`ulimit -n` is {limit}, which is too low: raise it to {needed} (systemd: LimitNOFILE=1048576)")]
    Descriptors {
        /// How many there may be.
        limit: u64,
        /// How many are needed.
        needed: u64,
    },
}

impl ProbeError {
    /// Whether a limit of the process is in the way.
    #[must_use]
    pub const fn is_limit(&self) -> bool {
        match self {
            Self::Descriptors { .. } => true,
            Self::Ring(RingError::Setup { errno, .. }) => {
                matches!(errno.0, libc::ENOMEM | libc::EMFILE | libc::ENFILE)
            }
            _ => false,
        }
    }
}

/// Checks kernel, ring and limits.
pub(super) fn machine() -> Result<(), ProbeError> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if let Some(version) = kernel_version(&release) {
        let found = release.trim().to_owned();
        if version < KERNEL_LEAST {
            return Err(ProbeError::Kernel { found });
        }
        if version < KERNEL_ADVISED {
            tracing::warn!(kernel = %found, "this kernel has known faults in io_uring; use 6.12.21 or later");
        }
    }
    let limit = descriptors_limit();
    let needed = 2 * DESCRIPTORS_BESIDES;
    if limit < needed {
        return Err(ProbeError::Descriptors { limit, needed });
    }
    Ring::new(&RingConfig { receive_buffers: 0, ..RingConfig::small() }).map(drop).map_err(ProbeError::Ring)
}

/// Checks that nothing else lies where the folder is or is to be.
pub(super) fn place(path: &Path) -> Result<(), ProbeError> {
    if path.exists() && !path.is_dir() {
        return Err(ProbeError::NotWritable { path: path.to_owned(), errno: Errno(libc::ENOTDIR) });
    }
    Ok(())
}

/// Checks that files of the folder can be made and written past the page cache. Leaves nothing behind: the file it
/// makes has no name (O_TMPFILE, open(2)), or loses it at once on a file system without nameless files.
pub(super) fn folder(path: &Path) -> Result<(), ProbeError> {
    let make = match nameless(path, 0) {
        Err(Errno(libc::EOPNOTSUPP | libc::EISDIR)) => named,
        _ => nameless,
    };
    let not_writable = |errno| ProbeError::NotWritable { path: path.to_owned(), errno };
    make(path, 0).map_err(not_writable)?;
    match make(path, libc::O_DIRECT) {
        Err(Errno(libc::EINVAL)) => Err(ProbeError::NoDirect { path: path.to_owned() }),
        made => made.map_err(not_writable),
    }
}

fn nameless(folder: &Path, flags: i32) -> Result<(), Errno> {
    make(folder, OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE | flags))
}

fn named(folder: &Path, flags: i32) -> Result<(), Errno> {
    let file = folder.join("probe");
    let made = make(&file, OpenOptions::new().write(true).create(true).custom_flags(flags));
    // open(2) may have made the file before it refused the flag.
    let _ = std::fs::remove_file(&file);
    made
}

fn make(path: &Path, options: &mut OpenOptions) -> Result<(), Errno> {
    let made = options.mode(0o600).open(path);
    made.map(drop).map_err(|error| Errno(error.raw_os_error().unwrap_or(libc::EIO)))
}

/// How many descriptors of files each shard keeps: half of what the process may have, the rest being connections.
pub(super) fn descriptors_per_shard(shards: u16) -> usize {
    let files = descriptors_limit().saturating_sub(DESCRIPTORS_BESIDES) / 2 / u64::from(shards.max(1));
    usize::try_from(files).unwrap_or(usize::MAX).min(limits::DESCRIPTORS_PER_SHARD_MAX)
}

/// The limit on descriptors of this process (proc_pid_limits(5)); large where it can't be told.
fn descriptors_limit() -> u64 {
    let text = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(1 << 20)
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_read() {
        assert_eq!(kernel_version("6.18.44-fc-v669\n"), Some((6, 18)));
        assert_eq!(kernel_version("5.15.0-91-generic"), Some((5, 15)));
        assert_eq!(kernel_version("unknown"), None);
    }

    #[test]
    fn a_folder_that_is_not_there_or_has_no_direct_io_is_told_apart() {
        assert!(matches!(folder(Path::new("/nonexistent")), Err(ProbeError::NotWritable { .. })));
        assert!(descriptors_limit() > 0);
    }

    #[test]
    fn a_file_that_needs_a_name_for_the_probe_leaves_none() {
        let folder = std::env::temp_dir().join(format!("cutwater-probe-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        assert!(named(&folder, 0).is_ok());
        // Of all flags, O_DIRECTORY is one that no file system grants for a file.
        assert!(named(&folder, libc::O_DIRECTORY).is_err());
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        assert!(named(Path::new("/proc"), 0).is_err());
        std::fs::remove_dir(&folder).unwrap();
    }
}
