//! The stable runner: mutates seeds, repeatable from one number, without watching coverage.

use crate::{Target, random::Random};

/// Changes of one input, at most.
const CHANGES_MAX: usize = 6;
/// Inputs are not grown beyond this.
const INPUT_BYTES_MAX: usize = 256 * 1024;

/// Memory that one input may take besides what [`Target::bytes_per_byte`] allows: messages of errors, small tables.
const BYTES_FREE: usize = 16 * 1024;

/// What a run needs from its process.
#[derive(Clone, Copy)]
pub struct Probe {
    /// All bytes that were ever allocated by the process, freed ones included.
    pub allocated: fn() -> usize,
}

/// An input that took more memory than its length allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greedy {
    /// Which target.
    pub target: &'static str,
    /// The seed of the input: [`input`] makes it again.
    pub seed: u64,
    /// How long the input was.
    pub input_bytes: usize,
    /// How much was allocated for it.
    pub allocated_bytes: usize,
    /// How much may be.
    pub allocated_bytes_max: usize,
}

/// Feeds one target with `inputs` inputs, those of the seeds from `seed` on. `before` is told each seed before its turn.
///
/// # Errors
/// The first input that takes too much memory.
///
/// # Panics
/// If the target does: it has found something.
pub fn run(
    target: &Target,
    seed: u64,
    inputs: u64,
    probe: Option<Probe>,
    before: &dyn Fn(u64),
) -> Result<(), Greedy> {
    let seeds = (target.seeds)();
    for bytes in &seeds {
        (target.run)(bytes);
    }
    for seed in seed..seed.saturating_add(inputs) {
        before(seed);
        let bytes = mutate(&seeds, seed);
        let allocated_before = probe.map_or(0, |probe| (probe.allocated)());
        (target.run)(&bytes);
        let allocated_bytes = probe.map_or(0, |probe| (probe.allocated)().saturating_sub(allocated_before));
        let allocated_bytes_max = target.bytes_free + BYTES_FREE + bytes.len() * target.bytes_per_byte;
        if allocated_bytes > allocated_bytes_max {
            let (target, input_bytes) = (target.name, bytes.len());
            return Err(Greedy { target, seed, input_bytes, allocated_bytes, allocated_bytes_max });
        }
    }
    Ok(())
}

/// The input of one seed.
#[must_use]
pub fn input(target: &Target, seed: u64) -> Vec<u8> {
    mutate(&(target.seeds)(), seed)
}

fn mutate(seeds: &[Vec<u8>], seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes = seeds.get(random.below(seeds.len())).cloned().unwrap_or_default();
    for _ in 0..=random.below(CHANGES_MAX) {
        change(&mut bytes, seeds, &mut random);
    }
    bytes.truncate(INPUT_BYTES_MAX);
    bytes
}

fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let at = random.below(bytes.len());
    // Short stretches more often than long ones.
    let len_max = 1 << random.below(12);
    let len = 1 + random.below((bytes.len() - at).min(len_max));
    let end = (at + len).min(bytes.len());
    match random.below(12) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        1 if !bytes.is_empty() => bytes[at] = random.next() as u8,
        2..=4 => overwrite(bytes, at, &number(random)),
        5 => bytes[at..end].fill(random.next() as u8),
        6 => bytes[at..end].iter_mut().for_each(|byte| *byte = random.next() as u8),
        7 => drop(bytes.drain(at..end)),
        8 => {
            let copy = bytes[at..end].to_vec();
            let to = random.below(bytes.len() + 1);
            bytes.splice(to..to, copy);
        }
        9 => {
            let copy = bytes[at..end].to_vec();
            let to = random.below(bytes.len());
            overwrite(bytes, to, &copy);
        }
        10 => bytes.truncate(at),
        _ => {
            let other = seeds.get(random.below(seeds.len())).map(Vec::as_slice).unwrap_or_default();
            let from = random.below(other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
    }
}

/// A number that decoders trip over, in either order of bytes.
fn number(random: &mut Random) -> Vec<u8> {
    const EDGES: [u64; 10] =
        [0, 1, 0x7f, 0x80, 0xffff, 0x7fff_ffff, 0x8000_0000, i64::MAX as u64, 1 << 63, u64::MAX];
    let edge = EDGES[random.below(EDGES.len())];
    let near = edge.wrapping_add(random.below(5) as u64).wrapping_sub(2);
    let width = 1 << random.below(4);
    if random.below(2) == 0 {
        near.to_le_bytes()[..width].to_vec()
    } else {
        near.to_be_bytes()[8 - width..].to_vec()
    }
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    let room = bytes.get_mut(at..).unwrap_or_default();
    let fits = room.len().min(with.len());
    room[..fits].copy_from_slice(&with[..fits]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TARGETS;

    #[test]
    fn every_target_survives_its_seeds_and_some_thousand_mutations() {
        for target in TARGETS {
            assert!(!(target.seeds)().is_empty(), "{} has seeds", target.name);
            let seed_of = std::cell::Cell::new(0);
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                run(target, 1, 1500 / target.cost, None, &|seed| seed_of.set(seed))
            }));
            assert!(outcome.is_ok(), "target {}, seed {}", target.name, seed_of.get());
        }
    }

    #[test]
    fn one_seed_makes_one_input() {
        for target in TARGETS {
            assert_eq!(input(target, 77), input(target, 77), "{}", target.name);
        }
    }

    #[test]
    fn a_target_that_panics_is_found() {
        let planted = Target {
            name: "planted",
            run: |bytes| assert!(bytes.first() != Some(&0xff), "the planted fault"),
            seeds: || vec![vec![1, 2, 3, 4]],
            bytes_per_byte: 0,
            bytes_free: 0,
            cost: 1,
        };
        assert!(std::panic::catch_unwind(|| run(&planted, 0, 5000, None, &|_| {})).is_err());
    }

    #[test]
    fn a_target_that_takes_memory_for_a_promise_is_found() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static TAKEN: AtomicUsize = AtomicUsize::new(0);
        let planted = Target {
            name: "planted",
            run: |bytes| {
                let promised = bytes.first_chunk().map_or(0, |promise| u32::from_le_bytes(*promise));
                TAKEN.fetch_add(promised as usize, Ordering::Relaxed);
            },
            seeds: || vec![vec![0; 8]],
            bytes_per_byte: 16,
            bytes_free: 0,
            cost: 1,
        };
        let probe = Probe { allocated: || TAKEN.load(Ordering::Relaxed) };
        assert!(run(&planted, 0, 5000, Some(probe), &|_| {}).is_err());
    }
}
