//! Crash images: a recorded run is cut at every point, in several legal ways, and each image is recovered from.
//!
//! While a seed runs, after everything that may have changed the disk, a copy of it meets a power cut: everything
//! unflushed kept, everything lost, one thing alone lost, one thing alone kept, the last thing torn, random fates.
//! The real recovery starts on each copy, and everything in it is read and compared with what is known.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::disk::{Disk, Fate, Fates, PendingId};
use crate::finding::{Checked, Finding};
use crate::oracle::Oracle;
use crate::plan::Plan;
use crate::plants::Plant;
use crate::random::Random;
use crate::runner::name_seed;
use crate::trace::Trace;
use crate::world::World;

/// What the images of some seeds came to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Seeds that were cut.
    pub seeds: u64,
    /// Images recovered from.
    pub images: u64,
    /// What was found wrong, by seed and image.
    pub failed: Vec<(u64, u64, Finding)>,
    /// How long it took.
    pub took: Duration,
}

/// Everything one run's images share.
struct Cutter {
    plan: Plan,
    random: Random,
    images: u64,
    images_max: u64,
    /// One moment in so many is cut.
    one_in: u64,
    plant: Option<Plant>,
    failed: Option<(u64, Finding)>,
}

/// Cuts some seeds, at most `images_max` times each.
#[must_use]
pub fn run_many(
    first: u64,
    count: u64,
    images_max: u64,
    plant: Option<Plant>,
    failures_max: usize,
) -> Summary {
    let begun = Instant::now();
    let mut summary = Summary::default();
    for seed in first..first + count {
        name_seed(seed);
        let (images, failed) = run_seed(seed, images_max, plant);
        summary.seeds += 1;
        summary.images += images;
        if let Some((image, finding)) = failed {
            println!("seed {seed}, image {image} failed: {finding}");
            println!("  replay: cargo xtask sim --crash-images --from {seed} --seeds 1");
            summary.failed.push((seed, image, finding));
            if summary.failed.len() >= failures_max {
                break;
            }
        }
        println!(
            "{} images of {} seeds in {:.1} s",
            summary.images,
            summary.seeds,
            begun.elapsed().as_secs_f64()
        );
    }
    summary.took = begun.elapsed();
    summary
}

/// Cuts one seed; tells how many images there were, and the first that failed.
#[must_use]
pub fn run_seed(seed: u64, images_max: u64, plant: Option<Plant>) -> (u64, Option<(u64, Finding)>) {
    let mut plan = Plan::new(seed);
    plan.without_faults();
    if let Some(plant) = plant {
        plant.shape(&mut plan);
    }
    let cutter = Rc::new(RefCell::new(Cutter {
        plan: plan.clone(),
        random: Random::new(seed ^ 0x1111),
        images: 0,
        images_max,
        one_in: 3,
        plant,
        failed: None,
    }));
    let mut world = World::new(plan, Trace::default());
    if let Some(plant) = plant {
        plant.plant(&mut world);
    }
    let watcher = Rc::clone(&cutter);
    world.watch(Box::new(move |disk, oracle, now_us| watcher.borrow_mut().cut(disk, oracle, now_us)));
    let finding = world.run().err();
    drop(world);
    let mut cutter = cutter.borrow_mut();
    let failed = cutter
        .failed
        .take()
        .or_else(|| finding.filter(|finding| finding.rule != ENOUGH).map(|finding| (cutter.images, finding)));
    (cutter.images, failed)
}

/// Ends a run whose images are all made.
const ENOUGH: &str = "enough images";

impl Cutter {
    fn cut(&mut self, disk: &Disk, oracle: &Oracle, now_us: u64) -> Checked {
        if self.images >= self.images_max {
            return Err(Finding::new(ENOUGH, ""));
        }
        if !self.random.one_in(self.one_in) {
            return Ok(());
        }
        let mut image = disk.clone();
        image.drop_into_cache();
        let pending = image.pending();
        for fates in self.choose(&pending) {
            let mut image = image.clone();
            image.cut_power(&fates);
            self.images += 1;
            if let Err(finding) = self.recover(image, oracle, now_us) {
                self.failed = Some((self.images, finding.clone()));
                return Err(finding);
            }
        }
        Ok(())
    }

    fn choose(&mut self, pending: &[PendingId]) -> Vec<Fates> {
        let Some(&last) = pending.last() else { return vec![Fates::all(Fate::Keep)] };
        let any = self.random.pick(pending).copied().unwrap_or(last);
        let torn = self.random.next();
        vec![
            Fates::all(Fate::Drop),
            Fates::all(Fate::Keep).but(any, Fate::Drop),
            Fates::all(Fate::Drop).but(any, Fate::Keep),
            Fates::all(Fate::Keep).but(last, Fate::Torn(torn)),
            Fates::random(pending, &mut self.random),
        ]
    }

    fn recover(&mut self, image: Disk, oracle: &Oracle, now_us: u64) -> Checked {
        let mut oracle = oracle.clone();
        oracle.on_crash(now_us);
        let mut plan = self.plan.clone();
        plan.seed = self.random.next();
        plan.lives.truncate(1);
        plan.lives[0].shards = self.random.between(1, 3) as u16;
        let mut world = World::of_image(plan, image, oracle, now_us);
        if let Some(plant) = self.plant {
            plant.plant(&mut world);
        }
        world.check_image()
    }
}

impl core::fmt::Display for Summary {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let took = self.took.as_secs_f64();
        let Self { seeds, images, failed, .. } = self;
        write!(f, "{images} crash images of {seeds} seeds in {took:.1} s: {} failed", failed.len())
    }
}
