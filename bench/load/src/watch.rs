//! What a run costs: processor time of the node, flushes and bytes of the device.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

/// `sysconf(_SC_CLK_TCK)`, 100 on every Linux that Rust runs on.
const TICKS_PER_S: f64 = 100.0;
const SECTOR_BYTES: u64 = 512;

/// Counters of a process and a device, or what they grew by.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Cost {
    /// Processor time of the node, user and system, in seconds.
    pub server_cpu_s: Option<f64>,
    /// Bytes that the node had written to disks.
    pub server_write_bytes: Option<u64>,
    /// Flushes of the device.
    pub device_flushes: Option<u64>,
    /// Bytes written to the device.
    pub device_write_bytes: Option<u64>,
}

/// Reads the counters now.
///
/// # Errors
/// When the process or the folder is not there.
pub(crate) fn read(pid: Option<u32>, data: Option<&Path>) -> Result<Cost> {
    let mut cost = Cost::default();
    if let Some(pid) = pid {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
            .with_context(|| format!("--server-pid {pid}: no such process"))?;
        cost.server_cpu_s = cpu_seconds(&stat);
        // Other users' counts are not ours to read.
        cost.server_write_bytes =
            fs::read_to_string(format!("/proc/{pid}/io")).ok().and_then(|io| write_bytes(&io));
    }
    if let Some(data) = data {
        let device = fs::metadata(data).with_context(|| format!("--data {}", data.display()))?.dev();
        let stats = fs::read_to_string("/proc/diskstats").context("/proc/diskstats")?;
        let (major, minor) = numbers(device);
        if let Some((flushes, sectors)) = disk_counts(&stats, &disk_name(major, minor)) {
            cost.device_flushes = Some(flushes);
            cost.device_write_bytes = Some(sectors * SECTOR_BYTES);
        }
    }
    Ok(cost)
}

impl Cost {
    /// What the counters grew by since.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let grown = |now: Option<u64>, before: Option<u64>| Some(now?.saturating_sub(before?));
        Self {
            server_cpu_s: self.server_cpu_s.zip(before.server_cpu_s).map(|(now, before)| now - before),
            server_write_bytes: grown(self.server_write_bytes, before.server_write_bytes),
            device_flushes: grown(self.device_flushes, before.device_flushes),
            device_write_bytes: grown(self.device_write_bytes, before.device_write_bytes),
        }
    }
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    // The name in parentheses may hold blanks; the fields after it are counted from 3 (proc_pid_stat(5)).
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let user: f64 = fields.get(14 - 3)?.parse().ok()?;
    let system: f64 = fields.get(15 - 3)?.parse().ok()?;
    Some((user + system) / TICKS_PER_S)
}

fn write_bytes(io: &str) -> Option<u64> {
    io.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.trim().parse().ok()
}

/// A device number as glibc packs it (makedev(3)).
fn numbers(device: u64) -> (u64, u64) {
    ((device >> 8 & 0xfff) | (device >> 32 & !0xfff), (device & 0xff) | (device >> 12 & !0xff))
}

/// The name of a disk; of a partition, that of the disk it is on, because flushes are counted there.
fn disk_name(major: u64, minor: u64) -> String {
    let link = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).unwrap_or_default();
    let whole = if link.join("partition").exists() { link.parent().unwrap_or(&link) } else { &link };
    whole.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Flushes and sectors written (Documentation/admin-guide/iostats.rst).
fn disk_counts(stats: &str, name: &str) -> Option<(u64, u64)> {
    let line = stats.lines().find(|line| line.split_whitespace().nth(2) == Some(name))?;
    let fields: Vec<u64> = line.split_whitespace().skip(3).filter_map(|field| field.parse().ok()).collect();
    Some((*fields.get(15)?, *fields.get(6)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_understood() {
        let stat = "42 (a b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 4 0 1 2 3";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(write_bytes("rchar: 1\nwrite_bytes: 4096\n"), Some(4096));
        let disks = " 254 0 vda 1 2 3 4 5 6 70 8 9 10 11 12 13 14 15 160 17\n 254 1 vda1 1 2 3 4 5 6 7 8 9 10 11 0 0 0 0 0 0";
        assert_eq!(disk_counts(disks, "vda"), Some((160, 70)));
        assert_eq!(disk_counts(disks, "vdb"), None);
        assert_eq!(numbers(0xfe01), (254, 1));
    }

    #[test]
    fn counters_that_cannot_be_read_stay_unknown() {
        let own = read(Some(std::process::id()), Some(Path::new("/"))).unwrap();
        assert!(own.server_cpu_s.is_some());
        assert!(read(Some(u32::MAX), None).is_err());
        assert_eq!(own.since(&Cost::default()).server_cpu_s, None);
    }
}
