//! What this machine is fit for: checks before a node starts, each with what was found and what to do.
//!
//! A refusal means that promises could not be kept here or nothing would work; a warning that they are kept, but
//! slowly, or only as far as the device tells the truth.

mod device;
mod flush;
mod process;

use std::path::Path;

pub use device::{DeviceCounters, diskstats};
pub use flush::flush_us;

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// The node runs, with a drawback.
    Warning,
    /// The node must not run.
    Refusal,
}

/// One check and its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What was looked at, in a word or two.
    pub name: &'static str,
    /// What was found.
    pub finding: String,
    /// What it means.
    pub verdict: Verdict,
    /// What to do about it; empty where nothing is to be done.
    pub remedy: String,
}

impl Probe {
    fn ok(name: &'static str, finding: impl Into<String>) -> Self {
        Self { name, finding: finding.into(), verdict: Verdict::Ok, remedy: String::new() }
    }

    fn warning(name: &'static str, finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, finding: finding.into(), verdict: Verdict::Warning, remedy: remedy.into() }
    }

    fn refusal(name: &'static str, finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, finding: finding.into(), verdict: Verdict::Refusal, remedy: remedy.into() }
    }
}

impl core::fmt::Display for Probe {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Refusal => "refused",
        };
        write!(f, "{verdict}: {}: {}", self.name, self.finding)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "; {}", self.remedy) }
    }
}

/// Checks of this process and its kernel. Raises the limit of open files as far as it may.
#[must_use]
pub fn of_process() -> Vec<Probe> {
    vec![process::kernel(), process::io_uring(), process::locked_memory(), process::open_files()]
}

/// Checks of the folder that is to hold the data, and the device below it. Takes some milliseconds.
#[must_use]
pub fn of_folder(folder: &Path) -> Vec<Probe> {
    vec![
        flush::direct_io(folder),
        flush::flush_time(folder),
        device::file_system(folder),
        device::write_cache(folder),
        device::discard(folder),
        device::free_space(folder),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_folder::TestFolder;

    #[test]
    fn every_probe_tells_a_finding_and_every_complaint_a_remedy() {
        let folder = TestFolder::new();
        let mut probes = of_process();
        probes.extend(of_folder(&folder));
        assert_eq!(probes.len(), 10);
        for probe in probes {
            eprintln!("{probe}");
            assert!(!probe.finding.is_empty(), "{probe:?}");
            assert_eq!(probe.remedy.is_empty(), probe.verdict == Verdict::Ok, "{probe:?}");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_refused() {
        let probes = of_folder(Path::new("/no/such/folder"));
        assert_eq!(probes[0].verdict, Verdict::Refusal, "{}", probes[0]);
    }

    #[test]
    fn a_durable_write_is_counted_by_the_device() {
        let folder = TestFolder::new();
        let Some(before) = diskstats(&folder) else {
            eprintln!("SKIPPED: no block device with counters below {}", folder.display());
            return;
        };
        flush_us(&folder).unwrap();
        let done = diskstats(&folder).unwrap().since(before);
        assert!(done.written_bytes >= 16 * 4096, "{done:?}");
    }
}
