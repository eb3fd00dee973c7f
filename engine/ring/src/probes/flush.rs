//! Direct writes and flushes, tried out in the folder itself.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cutwater_model::limits::BLOCK_BYTES;

use super::Probe;
use crate::clock::Clock;
use crate::completion::Errno;
use crate::disk_storage::{Bounce, write_at};
use crate::socket::check;

/// Durable overwrites that are timed.
const FLUSHES: usize = 16;
/// A flush cannot be faster than this on a device that keeps its promise.
const FLUSH_NS_LEAST: u64 = 5_000;
/// Slower than this, waiting for flushes will rule everything.
const FLUSH_NS_SLOW: u64 = 5_000_000;

/// A file for one probe, gone afterwards.
struct ProbeFile {
    path: PathBuf,
    file: File,
}

impl ProbeFile {
    fn new(folder: &Path, what: &str) -> Result<Self, Errno> {
        let path = folder.join(format!(".probe-{what}-{}", std::process::id()));
        // What a run that was killed left behind.
        let _ = std::fs::remove_file(&path);
        let file = OpenOptions::new()
            .create_new(true)
            .read(true)
            .write(true)
            .custom_flags(libc::O_DIRECT)
            .open(&path)
            .map_err(|error| Errno::of(&error))?;
        Ok(Self { path, file })
    }
}

impl Drop for ProbeFile {
    fn drop(&mut self) {
        // It is of no harm if it stays.
        let _ = std::fs::remove_file(&self.path);
    }
}

pub(super) fn direct_io(folder: &Path) -> Probe {
    const NAME: &str = "direct writes";
    let file = match ProbeFile::new(folder, "direct") {
        Ok(file) => file,
        Err(Errno(libc::EINVAL)) => {
            let finding = format!("{} does not take O_DIRECT", folder.display());
            return Probe::refusal(NAME, finding, "put the data folder on ext4 or xfs");
        }
        Err(errno) => {
            let finding = format!("no file can be made in {}: {errno}", folder.display());
            return Probe::refusal(NAME, finding, "make the folder, give it to this user, make room on it");
        }
    };
    let mut bounce = match Bounce::new() {
        Ok(bounce) => bounce,
        Err(errno) => return Probe::refusal(NAME, format!("no memory: {errno}"), "free some memory"),
    };
    if let Err(errno) = write_at(&file.file, 0, &bounce.bytes()[..BLOCK_BYTES]) {
        let finding = format!("a direct write of {BLOCK_BYTES} bytes failed: {errno}");
        return Probe::refusal(
            NAME,
            finding,
            "use a device with blocks of 4096 bytes or less, with ext4 or xfs",
        );
    }
    match alignment(&file.path) {
        Some((memory, offset)) if offset as usize > BLOCK_BYTES || memory as usize > BLOCK_BYTES => {
            Probe::refusal(
                NAME,
                format!(
                    "alignment {memory} in memory, {offset} in the file; {BLOCK_BYTES} is what is written"
                ),
                "use a device with blocks of 4096 bytes or less",
            )
        }
        Some((memory, offset)) => {
            Probe::ok(NAME, format!("work; alignment {memory} in memory, {offset} in the file"))
        }
        None => Probe::ok(NAME, "work; the kernel does not tell their alignment"),
    }
}

/// What direct reads and writes of a file must be multiples of (statx(2), STATX_DIOALIGN): in memory, in the file.
fn alignment(path: &Path) -> Option<(u32, u32)> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: a statx is plain data for which all zeros is valid.
    let mut found: libc::statx = unsafe { core::mem::zeroed() };
    // SAFETY: the path is a C string and `found` is writable; both outlive the call.
    let result =
        unsafe { libc::statx(libc::AT_FDCWD, path.as_ptr(), 0, libc::STATX_DIOALIGN, &raw mut found) };
    let told = result == 0 && found.stx_mask & libc::STATX_DIOALIGN != 0 && found.stx_dio_offset_align != 0;
    told.then_some((found.stx_dio_mem_align, found.stx_dio_offset_align))
}

/// The median time of a durable overwrite of one block in a folder, in microseconds.
///
/// # Errors
/// When the folder takes no direct, durable writes.
pub fn flush_us(folder: &Path) -> Result<f64, Errno> {
    let file = ProbeFile::new(folder, "flush")?;
    let mut bounce = Bounce::new()?;
    let block = &mut bounce.bytes()[..BLOCK_BYTES];
    write_at(&file.file, 0, block)?;
    file.file.sync_all().map_err(|error| Errno::of(&error))?;
    let mut times = [0; FLUSHES];
    for (number, time) in times.iter_mut().enumerate() {
        block.fill(number as u8);
        let slice = libc::iovec { iov_base: block.as_mut_ptr().cast(), iov_len: block.len() };
        let begin = Clock.mono_ns();
        // SAFETY: the one slice is readable for the length told and outlives the call.
        let written =
            unsafe { libc::pwritev2(file.file.as_raw_fd(), &raw const slice, 1, 0, libc::RWF_DSYNC) };
        *time = Clock.mono_ns() - begin;
        check(written as i32)?;
    }
    times.sort_unstable();
    Ok(times[FLUSHES / 2] as f64 / 1000.0)
}

pub(super) fn flush_time(folder: &Path) -> Probe {
    const NAME: &str = "flush time";
    match flush_us(folder) {
        Ok(us) => judge_flush((us * 1000.0) as u64),
        Err(errno) => Probe::refusal(
            NAME,
            format!("a durable write failed: {errno}"),
            "make room, give the folder to this user, or put it on ext4 or xfs",
        ),
    }
}

fn judge_flush(ns: u64) -> Probe {
    const NAME: &str = "flush time";
    let finding = format!("{:.0} us for a durable write of {BLOCK_BYTES} bytes", ns as f64 / 1000.0);
    if ns < FLUSH_NS_LEAST {
        let remedy = "check that the device, its controller and the hypervisor honour flushes: this is faster than \
                      stable storage can be, and acked data may not survive a power cut";
        Probe::warning(NAME, finding, remedy)
    } else if ns > FLUSH_NS_SLOW {
        Probe::warning(NAME, finding, "every ack waits for it; use a device with power loss protection")
    } else {
        Probe::ok(NAME, format!("{finding}; expect acks a little above that"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probes::Verdict;

    #[test]
    fn a_flush_that_is_too_fast_to_be_true_is_told() {
        assert_eq!(judge_flush(4_999).verdict, Verdict::Warning);
        assert_eq!(judge_flush(73_000).verdict, Verdict::Ok);
        assert_eq!(judge_flush(12_000_000).verdict, Verdict::Warning);
    }
}
