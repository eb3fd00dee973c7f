//! The file system below a folder, and the block device below that.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cutwater_model::limits::JOURNAL_BYTES_DEFAULT;

use super::Probe;
use crate::completion::Errno;
use crate::socket::check;

/// A sector of the kernel's statistics, whatever the device's.
const SECTOR_BYTES: u64 = 512;

/// What a device has done since the machine started (Documentation/admin-guide/iostats.rst).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceCounters {
    /// Reads completed.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Writes completed.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Flushes of its write cache.
    pub flushes: u64,
}

impl DeviceCounters {
    /// What was done since `earlier`.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            reads: self.reads.saturating_sub(earlier.reads),
            read_bytes: self.read_bytes.saturating_sub(earlier.read_bytes),
            writes: self.writes.saturating_sub(earlier.writes),
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
            flushes: self.flushes.saturating_sub(earlier.flushes),
        }
    }
}

/// The counters of the device below a folder; `None` where it has none, as a file system in memory or on the net.
#[must_use]
pub fn diskstats(folder: &Path) -> Option<DeviceCounters> {
    parse_counters(&fs::read_to_string(device_folder(folder)?.join("stat")).ok()?)
}

fn parse_counters(text: &str) -> Option<DeviceCounters> {
    let numbers: Vec<u64> = text.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    let at = |index: usize| numbers.get(index).copied();
    Some(DeviceCounters {
        reads: at(0)?,
        read_bytes: at(2)? * SECTOR_BYTES,
        writes: at(4)?,
        written_bytes: at(6)? * SECTOR_BYTES,
        flushes: at(15).unwrap_or(0),
    })
}

/// The kernel's folder of the whole device below a folder, a partition's device for a partition.
fn device_folder(folder: &Path) -> Option<PathBuf> {
    let number = fs::metadata(folder).ok()?.dev();
    let path = format!("/sys/dev/block/{}:{}", libc::major(number), libc::minor(number));
    let own = fs::canonicalize(path).ok()?;
    if own.join("partition").exists() { own.parent().map(Path::to_path_buf) } else { Some(own) }
}

pub(super) fn file_system(folder: &Path) -> Probe {
    const NAME: &str = "file system";
    // linux/magic.h, and the sources of zfs and bcachefs.
    const COPY_ON_WRITE: [(i64, &str); 3] =
        [(0x9123_683e, "btrfs"), (0x2fc1_2fc1, "zfs"), (0xca45_1a4e, "bcachefs")];
    const KNOWN: [(i64, &str); 2] = [(0xef53, "ext4"), (0x5846_5342, "xfs")];
    const IN_MEMORY: [(i64, &str); 2] = [(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs")];
    let name_in = |list: &[(i64, &'static str)], magic| {
        list.iter().find(|(known, _)| *known == magic).map(|(_, name)| *name)
    };
    let magic = match statfs(folder) {
        Ok(found) => found.f_type,
        Err(errno) => return Probe::warning(NAME, format!("unknown: {errno}"), "check the folder's path"),
    };
    if let Some(name) = name_in(&COPY_ON_WRITE, magic) {
        let finding = format!("{name} copies on write: an overwrite in place is none, and flushes are slow");
        return Probe::warning(NAME, finding, "put the data folder on ext4 or xfs");
    }
    if let Some(name) = name_in(&IN_MEMORY, magic) {
        let finding = format!("{name} keeps nothing: acked data is gone when the machine stops");
        return Probe::warning(NAME, finding, "put the data folder on ext4 or xfs");
    }
    match name_in(&KNOWN, magic) {
        Some(name) => Probe::ok(NAME, name),
        None => Probe::warning(NAME, format!("magic number {magic:#x}, not tested"), "use ext4 or xfs"),
    }
}

pub(super) fn write_cache(folder: &Path) -> Probe {
    const NAME: &str = "write cache";
    let read = |name: &str| {
        let text = fs::read_to_string(device_folder(folder)?.join("queue").join(name)).ok()?;
        Some(text.trim().to_owned())
    };
    match (read("write_cache").as_deref(), read("fua").as_deref()) {
        (Some("write through"), _) => Probe::ok(NAME, "none that forgets: the kernel sends no flushes"),
        (Some("write back"), Some("1")) => {
            Probe::ok(NAME, "volatile, with FUA: a durable write is one command")
        }
        (Some("write back"), _) => {
            Probe::ok(NAME, "volatile, without FUA: a durable write is a write and a flush")
        }
        _ => Probe::warning(NAME, "unknown", "make sure that the device honours flushes"),
    }
}

pub(super) fn discard(folder: &Path) -> Probe {
    const NAME: &str = "discard";
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let Ok(path) = folder.canonicalize() else {
        return Probe::warning(NAME, "unknown: the folder is not there", "check the folder's path");
    };
    match mount_options(&mounts, &path) {
        Some(options) if options.split(',').any(|option| option == "discard") => Probe::warning(
            NAME,
            "mounted with `discard`: removing files sends commands that can stall writes",
            "mount without `discard` and run fstrim by a timer",
        ),
        Some(_) => Probe::ok(NAME, "not at every removal"),
        None => Probe::warning(NAME, "unknown: no mount found", "look at /proc/self/mountinfo"),
    }
}

/// The options, of mount and file system, of the mount that holds a path (proc_pid_mountinfo(5)).
fn mount_options(mounts: &str, path: &Path) -> Option<String> {
    let parse = |line: &str| {
        let (mount, system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(4);
        let (point, options) = (fields.next()?.replace("\\040", " "), fields.next()?);
        let system_options = system.split(' ').nth(2)?;
        path.starts_with(&point).then(|| (point.len(), format!("{options},{system_options}")))
    };
    // The longest mount point holds the path; of several on one point the last one.
    mounts.lines().filter_map(parse).max_by_key(|(len, _)| *len).map(|(_, options)| options)
}

pub(super) fn free_space(folder: &Path) -> Probe {
    const NAME: &str = "free space";
    let found = match statfs(folder) {
        Ok(found) => found,
        Err(errno) => return Probe::warning(NAME, format!("unknown: {errno}"), "check the folder's path"),
    };
    let bytes = found.f_bavail.saturating_mul(found.f_bsize as u64);
    let finding = format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
    if bytes < 2 * JOURNAL_BYTES_DEFAULT {
        let remedy = "make room: a shard's journal alone takes 2 GiB unless it is configured smaller";
        Probe::warning(NAME, finding, remedy)
    } else {
        Probe::ok(NAME, finding)
    }
}

fn statfs(folder: &Path) -> Result<libc::statfs, Errno> {
    let path = CString::new(folder.as_os_str().as_bytes()).map_err(|_| Errno(libc::EINVAL))?;
    // SAFETY: a statfs is plain data for which all zeros is valid.
    let mut found: libc::statfs = unsafe { core::mem::zeroed() };
    // SAFETY: the path is a C string and `found` is writable; both outlive the call.
    check(unsafe { libc::statfs(path.as_ptr(), &raw mut found) })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_in_the_order_of_the_kernel() {
        let text = " 10 1 20 2 30 3 40 4 0 5 6 7 8 9 10 77 11\n";
        let counters = parse_counters(text).unwrap();
        assert_eq!((counters.reads, counters.read_bytes), (10, 20 * 512));
        assert_eq!((counters.writes, counters.written_bytes, counters.flushes), (30, 40 * 512, 77));
        assert!(parse_counters("1 2 3").is_none());
    }

    #[test]
    fn a_path_belongs_to_the_innermost_mount() {
        let mounts = "1 0 8:1 / / rw - ext4 /dev/a rw,discard\n\
                      2 1 8:2 / /data\\040one rw,noatime shared:1 - xfs /dev/b rw\n";
        let options = |path| mount_options(mounts, Path::new(path)).unwrap();
        assert_eq!(options("/data one/x"), "rw,noatime,rw");
        assert_eq!(options("/data"), "rw,rw,discard");
    }
}
