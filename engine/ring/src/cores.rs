//! Which cores this process may use, and putting a thread on one.

use std::fs;

/// Puts the calling thread on a core and keeps it there; false where the system refuses.
#[must_use]
pub fn pin(core: usize) -> bool {
    core_affinity::set_for_current(core_affinity::CoreId { id: core })
}

/// The cores this process may run on, by number, capped by the cgroup's quota of processor time.
#[must_use]
pub fn cores() -> Vec<usize> {
    let mut cores: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    cores.sort_unstable();
    if cores.is_empty() {
        cores.push(0);
    }
    if let Some(quota) = quota_cores() {
        cores.truncate(quota.max(1));
    }
    cores
}

/// Whole cores that the cgroup's quota is worth, rounded down; `None` without a quota.
fn quota_cores() -> Option<usize> {
    let own = own_groups();
    let v2 = own.iter().find(|(controllers, _)| controllers.is_empty()).and_then(|(_, path)| {
        ancestors(path).filter_map(|path| quota_v2(&read(&format!("/sys/fs/cgroup{path}/cpu.max"))?)).min()
    });
    let v1 = own.iter().find(|(controllers, _)| controllers.split(',').any(|name| name == "cpu")).and_then(
        |(controllers, path)| {
            ancestors(path)
                .filter_map(|path| {
                    let folder = format!("/sys/fs/cgroup/{controllers}{path}");
                    let quota = read(&format!("{folder}/cpu.cfs_quota_us"))?;
                    quota_of(quota.trim(), read(&format!("{folder}/cpu.cfs_period_us"))?.trim())
                })
                .min()
        },
    );
    v1.into_iter().chain(v2).min()
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// The cgroups of this process, as pairs of controllers and path (cgroups(7)); version 2 has no controllers' names.
fn own_groups() -> Vec<(String, String)> {
    let text = read("/proc/self/cgroup").unwrap_or_default();
    let parse = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        Some((parts.next()?.to_owned(), parts.next()?.trim_end_matches('/').to_owned()))
    };
    text.lines().filter_map(parse).collect()
}

/// A path and all above it, up to the root as the empty path.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    core::iter::successors(Some(path), |path| path.rfind('/').map(|at| &path[..at]))
}

fn quota_v2(text: &str) -> Option<usize> {
    let (quota, period) = text.trim().split_once(' ')?;
    quota_of(quota, period)
}

fn quota_of(quota: &str, period: &str) -> Option<usize> {
    let quota: u64 = quota.parse().ok()?;
    let period: u64 = period.parse().ok()?;
    Some(quota.checked_div(period)? as usize)
}

/// How often the scheduler has taken the processor away from this thread so far.
///
/// A thread that spins while others wait for its core sees this grow; it should park instead.
#[must_use]
pub fn preemptions() -> u64 {
    // SAFETY: a rusage is plain data for which all zeros is valid.
    let mut usage: libc::rusage = unsafe { core::mem::zeroed() };
    // SAFETY: `usage` is writable and outlives the call.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    usage.ru_nivcsw as u64
}

/// Lets others of this core run. A spinning loop calls it now and then: kernel workers that share the core would
/// otherwise wait a whole time slice to finish a write (seen: 4 ms instead of 35 us).
pub fn yield_core() {
    std::thread::yield_now();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_whole_cores() {
        assert_eq!(quota_v2("250000 100000\n"), Some(2));
        assert_eq!(quota_v2("max 100000\n"), None);
        assert_eq!(quota_of("-1", "100000"), None);
        assert_eq!(quota_of("1", "0"), None);
    }

    #[test]
    fn a_group_inherits_the_quotas_above_it() {
        assert_eq!(ancestors("/a/b").collect::<Vec<_>>(), ["/a/b", "/a", ""]);
    }

    #[test]
    fn a_thread_can_be_put_on_each_core_it_may_use() {
        for core in cores() {
            assert!(std::thread::spawn(move || pin(core)).join().unwrap(), "core {core}");
        }
    }
}
