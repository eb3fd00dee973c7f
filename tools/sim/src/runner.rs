//! Runs seeds: one after the other, on all cores, each twice, and says what came of them.

use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::finding::Finding;
use crate::plan::Plan;
use crate::plants::{Plant, Sown};
use crate::trace::Trace;
use crate::world::{Tally, World};

/// What came of one seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Which.
    pub seed: u64,
    /// What was found wrong, if anything.
    pub finding: Option<Finding>,
    /// What was seen.
    pub tally: Tally,
    /// The digest of all that happened.
    pub digest: u64,
}

impl Outcome {
    fn of_panic(seed: u64) -> Self {
        let finding = Some(Finding::new("nothing panics", "see above"));
        Self { seed, finding, tally: Tally::default(), digest: 0 }
    }
}

/// How to run a seed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// Print what happens.
    pub prints: bool,
    /// Keep what happens.
    pub keeps: bool,
    /// A bug to plant.
    pub plant: Option<Plant>,
    /// Plan everything for the bug, but leave it out: then nothing may be found.
    pub without_bug: bool,
    /// So many shards in every life, whatever the seed says.
    pub shards: Option<u16>,
    /// Run it once only, and don't see whether it has one trace.
    pub once: bool,
}

/// Runs one seed once; the trace comes with it.
#[must_use]
pub fn run_once(seed: u64, manner: Manner) -> (Outcome, Trace) {
    let mut plan = Plan::new(seed);
    if let Some(plant) = manner.plant {
        plant.shape(&mut plan);
    }
    for life in &mut plan.lives {
        life.shards = manner.shards.unwrap_or(life.shards);
    }
    let mut world = World::new(plan, Trace::new(manner.prints, manner.keeps));
    if let Some(plant) = manner.plant.filter(|_| !manner.without_bug) {
        plant.plant(&mut world);
    }
    let finding = world.run().err();
    let tally = world.tally;
    let trace = world.into_trace();
    (Outcome { seed, finding, tally, digest: trace.digest() }, trace)
}

/// Runs one seed twice and compares.
#[must_use]
pub fn run_twice(seed: u64, manner: Manner) -> Outcome {
    let (mut first, _) = run_once(seed, manner);
    if manner.once {
        return first;
    }
    let (second, _) = run_once(seed, Manner { prints: false, ..manner });
    if first.digest != second.digest && first.finding.is_none() {
        let seen = format!("{:016x}, then {:016x}", first.digest, second.digest);
        first.finding = Some(Finding::new("one seed, one trace", seen));
    }
    first
}

/// Plants a bug and runs seed after seed, from 1 on, until one finds it; `None` where none of so many does. A seed that
/// finds something without the bug too has not found the bug. Bugs inside the engine are planted in the whole process:
/// nothing else may run meanwhile.
#[must_use]
pub fn find(plant: Plant, seeds_max: u64) -> Option<Outcome> {
    let manner = Manner { plant: Some(plant), ..Manner::default() };
    (1..=seeds_max).find_map(|seed| {
        let sown = Sown::new(plant);
        let (found, _) = run_once(seed, manner);
        drop(sown);
        found.finding.as_ref()?;
        let (control, _) = run_once(seed, Manner { without_bug: true, ..manner });
        control.finding.is_none().then_some(found)
    })
}

/// What a number of seeds came to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Seeds that ran.
    pub seeds: u64,
    /// What went wrong, by seed.
    pub failed: Vec<Outcome>,
    /// What was seen in all.
    pub tally: Tally,
    /// How long it took.
    pub took: Duration,
}

/// Runs seeds from `first` on, so many or without end, until `failures_max` have failed.
#[must_use]
pub fn run_many(
    first: u64,
    count: Option<u64>,
    manner: Manner,
    threads: usize,
    failures_max: usize,
) -> Summary {
    let begun = Instant::now();
    let next = AtomicU64::new(first);
    let summary = Mutex::new(Summary::default());
    let last_line = Mutex::new(Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if count.is_some_and(|count| seed - first >= count) {
                        return;
                    }
                    name_seed(seed);
                    let ran = std::panic::catch_unwind(AssertUnwindSafe(|| run_twice(seed, manner)));
                    let outcome = ran.unwrap_or_else(|_| Outcome::of_panic(seed));
                    let Ok(mut summary) = summary.lock() else { return };
                    summary.add(outcome);
                    if summary.failed.len() >= failures_max {
                        next.store(u64::MAX / 2, Ordering::Relaxed);
                        return;
                    }
                    if let Ok(mut last_line) = last_line.lock()
                        && last_line.elapsed() > Duration::from_secs(5)
                    {
                        *last_line = Instant::now();
                        println!("{} seeds in {:.0} s", summary.seeds, begun.elapsed().as_secs_f64());
                    }
                }
            });
        }
    });
    let mut summary = summary.into_inner().unwrap_or_default();
    summary.took = begun.elapsed();
    summary
}

impl Summary {
    fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        self.tally.add(&outcome.tally);
        if let Some(finding) = &outcome.finding {
            println!("seed {} failed: {finding}", outcome.seed);
            println!("  replay: cargo xtask sim --seed {} --verbose", outcome.seed);
            self.failed.push(outcome);
        }
    }
}

impl core::fmt::Display for Summary {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Tally {
            lives,
            events,
            acked,
            operations,
            groups,
            bulk_runs,
            landings,
            checkpoints,
            cold_bytes,
            refused_starts,
        } = self.tally;
        write!(
            f,
            "{} seeds in {:.1} s: {} failed; {lives} lives, {events} events, {acked} batches acknowledged, \
             {operations} disk operations, {groups} groups, {bulk_runs} bulk runs, \
             {landings} batches received in place, {checkpoints} checkpoints, \
             {cold_bytes} bytes read cold, {refused_starts} starts refused",
            self.seeds,
            self.took.as_secs_f64(),
            self.failed.len(),
        )
    }
}

impl Tally {
    /// Adds what another run has seen.
    pub fn add(&mut self, other: &Self) {
        self.lives += other.lives;
        self.events += other.events;
        self.acked += other.acked;
        self.operations += other.operations;
        self.groups += other.groups;
        self.bulk_runs += other.bulk_runs;
        self.landings += other.landings;
        self.checkpoints += other.checkpoints;
        self.cold_bytes += other.cold_bytes;
        self.refused_starts += other.refused_starts;
    }
}

std::thread_local! {
    static SEED: core::cell::Cell<u64> = const { core::cell::Cell::new(0) };
}

/// Notes which seed this thread runs, for the last words of a panic.
pub fn name_seed(seed: u64) {
    SEED.set(seed);
}

/// Has a panic say which seed it was.
pub fn name_seed_in_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let seed = SEED.get();
        eprintln!("seed {seed} panicked; replay: cargo xtask sim --seed {seed} --verbose");
        before(info);
    }));
}
