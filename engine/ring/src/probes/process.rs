//! The kernel and the limits of this process.

use super::Probe;
use crate::completion::Errno;
use crate::error::{RingError, setup_remedy};
use crate::ring::Ring;
use crate::setup::RingConfig;

/// Open files that a node with ten thousand partitions and as many connections needs.
const OPEN_FILES_LEAST: u64 = 65_536;
/// Memory that the ring of one core may have to lock, where the kernel counts it.
const LOCKED_BYTES_LEAST: u64 = 8 << 20;

pub(super) fn kernel() -> Probe {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    judge_kernel(release.trim())
}

fn judge_kernel(release: &str) -> Probe {
    const NAME: &str = "kernel";
    let finding = format!("Linux {release}");
    match version(release) {
        None => Probe::warning(
            NAME,
            format!("{finding}, a version nobody can read"),
            "use Linux 6.12.21 or later",
        ),
        Some(version) if version < (6, 1, 0) => Probe::refusal(
            NAME,
            format!("{finding} is too old"),
            "use Linux 6.1 or later, best 6.12.21 or later",
        ),
        Some(version) if version < (6, 12, 21) => Probe::warning(
            NAME,
            format!("{finding} has io_uring faults under memory pressure"),
            "use Linux 6.12.21 or later",
        ),
        Some(_) => Probe::ok(NAME, finding),
    }
}

fn version(release: &str) -> Option<(u32, u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let (major, minor) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some((major, minor, numbers.next().and_then(Result::ok).unwrap_or(0)))
}

pub(super) fn io_uring() -> Probe {
    const NAME: &str = "io_uring";
    match Ring::new(&RingConfig::small()) {
        Ok(ring) => {
            let features = ring.features();
            let yes_no = |granted| if granted { "yes" } else { "no" };
            let finding = format!(
                "allowed; single issuer {}, deferred completions {}, no iowait {}",
                yes_no(features.single_issuer),
                yes_no(features.defer_taskrun),
                yes_no(features.no_iowait)
            );
            if features.defer_taskrun {
                Probe::ok(NAME, finding)
            } else {
                Probe::warning(NAME, finding, "use Linux 6.1 or later for deferred completions")
            }
        }
        Err(RingError::Setup { step, errno }) => {
            Probe::refusal(NAME, format!("refused at {step}: {errno}"), setup_remedy(errno))
        }
        Err(error) => Probe::refusal(NAME, error.to_string(), "restart the process"),
    }
}

pub(super) fn locked_memory() -> Probe {
    const NAME: &str = "locked memory";
    match limit(libc::RLIMIT_MEMLOCK) {
        Ok(limit) if limit.rlim_cur >= LOCKED_BYTES_LEAST => {
            let finding = if limit.rlim_cur == libc::RLIM_INFINITY {
                "no limit".to_owned()
            } else {
                format!("limit {} MiB", limit.rlim_cur >> 20)
            };
            Probe::ok(NAME, finding)
        }
        Ok(limit) => Probe::warning(
            NAME,
            format!("limit {} KiB", limit.rlim_cur >> 10),
            "raise `ulimit -l` to 8192 (systemd: LimitMEMLOCK=8M) if setting up io_uring fails",
        ),
        Err(errno) => Probe::warning(NAME, format!("unknown: {errno}"), "look at `ulimit -l`"),
    }
}

/// Raises the soft limit to the hard one, and as a privileged process the hard one to what is needed.
pub(super) fn open_files() -> Probe {
    const NAME: &str = "open files";
    let remedy = "raise `ulimit -n` to 1048576 (systemd: LimitNOFILE=1048576)";
    let mut found = match limit(libc::RLIMIT_NOFILE) {
        Ok(found) => found,
        Err(errno) => return Probe::warning(NAME, format!("unknown: {errno}"), remedy),
    };
    let hard = found.rlim_max.max(OPEN_FILES_LEAST);
    for wanted in [hard, found.rlim_max] {
        let raised = libc::rlimit { rlim_cur: wanted, rlim_max: wanted };
        // SAFETY: `raised` is readable and outlives the call.
        if found.rlim_cur < wanted && unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0
        {
            found = raised;
        }
    }
    let finding = format!("limit {}", found.rlim_cur);
    if found.rlim_cur >= OPEN_FILES_LEAST {
        Probe::ok(NAME, finding)
    } else {
        Probe::warning(NAME, format!("{finding}, {OPEN_FILES_LEAST} for ten thousand partitions"), remedy)
    }
}

fn limit(which: libc::__rlimit_resource_t) -> Result<libc::rlimit, Errno> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is writable and outlives the call.
    crate::socket::check(unsafe { libc::getrlimit(which, &raw mut limit) })?;
    Ok(limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probes::Verdict;

    #[test]
    fn kernels_are_judged_by_their_version() {
        let verdicts = ["5.15.0-91-generic", "6.1.0", "6.12.20", "6.12.21", "6.18.44-x", "7.0-rc1", "odd"]
            .map(|release| judge_kernel(release).verdict);
        use Verdict::{Ok, Refusal, Warning};
        assert_eq!(verdicts, [Refusal, Warning, Warning, Ok, Ok, Ok, Warning]);
    }
}
