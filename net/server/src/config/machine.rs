//! What the machine offers: cores to put shards on, memory to take a part of.

/// Memory taken where nobody says otherwise: at most so much for each shard, and a quarter of what there is.
const MEMORY_BYTES_PER_SHARD: u64 = 1 << 30;

/// The cores that so many shards are put on. The first one stays free for the control thread and the kernel's workers
/// where there are enough; with fewer cores than shards none is put anywhere.
pub(super) fn cores_for(cores: &[usize], shards: u16) -> Vec<usize> {
    let shards = usize::from(shards);
    if cores.len() < shards {
        return Vec::new();
    }
    cores[cores.len() - shards..].to_vec()
}

/// The payload memory of so many shards.
pub(super) fn memory_for(shards: u16, least_per_shard: u64) -> u64 {
    let shards = u64::from(shards);
    let quarter = total_bytes().unwrap_or(u64::MAX) / 4;
    (quarter / shards).clamp(least_per_shard, MEMORY_BYTES_PER_SHARD) * shards
}

/// The memory of the machine, or what the cgroup allows of it (proc_meminfo(5), cgroups(7)).
fn total_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let total = line.split_whitespace().next()?.parse::<u64>().ok()? * 1024;
    let allowed = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok());
    allowed.chain([total]).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_core_is_used_last() {
        assert_eq!(cores_for(&[0, 1, 2, 3], 3), [1, 2, 3]);
        assert_eq!(cores_for(&[0, 1], 2), [0, 1]);
        assert!(cores_for(&[0], 2).is_empty());
    }

    #[test]
    fn memory_is_a_part_of_what_there_is() {
        assert!(total_bytes().unwrap() > 0);
        let taken = memory_for(1, 64 << 20);
        assert!((64 << 20..=1 << 30).contains(&taken));
    }
}
