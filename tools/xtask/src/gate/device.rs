//! The block device's own counters (`/proc/diskstats`, see Documentation/admin-guide/iostats.rst of the kernel).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const SECTOR_BYTES: u64 = 512;

/// The device below a folder.
pub(crate) struct Device {
    name: String,
}

/// What the device has done since the machine started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) writes: u64,
    pub(crate) bytes_written: u64,
    /// Flushes that the device itself carried out; the block layer merges requests for one that wait together.
    pub(crate) flushes: u64,
}

impl Device {
    /// The whole disk that holds `folder` (flushes are not counted for partitions).
    pub(crate) fn below(folder: &Path) -> Result<Self> {
        let metadata = fs::metadata(folder).with_context(|| format!("cannot stat {}", folder.display()))?;
        let number = metadata.dev();
        // The encoding of makedev(3) in glibc.
        let major = ((number >> 8) & 0xfff) | ((number >> 32) & !0xfff);
        let minor = (number & 0xff) | ((number >> 12) & !0xff);
        let link = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
        let mut path = link.canonicalize().with_context(|| {
            format!(
                "{} lies on no block device ({major}:{minor}); choose a folder on a disk",
                folder.display()
            )
        })?;
        if path.join("partition").exists() {
            path.pop();
        }
        let name = path.file_name().context("a block device without a name")?.to_string_lossy().into_owned();
        Ok(Self { name })
    }

    /// The counters now.
    pub(crate) fn counters(&self) -> Result<Counters> {
        let text = fs::read_to_string("/proc/diskstats").context("cannot read /proc/diskstats")?;
        parse(&text, &self.name)
            .with_context(|| format!("/proc/diskstats has no flush count for {}", self.name))
    }
}

impl Counters {
    /// What happened since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            writes: self.writes.saturating_sub(earlier.writes),
            bytes_written: self.bytes_written.saturating_sub(earlier.bytes_written),
            flushes: self.flushes.saturating_sub(earlier.flushes),
        }
    }
}

fn parse(text: &str, name: &str) -> Option<Counters> {
    let line = text.lines().find(|line| line.split_whitespace().nth(2) == Some(name))?;
    let field = |index: usize| line.split_whitespace().nth(index)?.parse::<u64>().ok();
    Some(Counters { writes: field(7)?, bytes_written: field(9)? * SECTOR_BYTES, flushes: field(18)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_name() {
        let text = " 7 0 loop0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n 254 0 vda 9 2 64 29 13149 26 21 60 0 12 36 53 10 29 6 823 43\n";
        let counters = parse(text, "vda").unwrap();
        assert_eq!(counters, Counters { writes: 13_149, bytes_written: 21 * 512, flushes: 823 });
        assert_eq!(counters.since(Counters { flushes: 800, ..Counters::default() }).flushes, 23);
        assert_eq!(parse(text, "vdb"), None);
    }
}
