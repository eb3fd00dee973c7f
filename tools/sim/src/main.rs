//! `sim`: runs seeds of the simulator, replays one, or cuts recorded runs into crash images.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use cutwater_sim::plants::{Plant, Sown};
use cutwater_sim::runner::{self, Manner, Outcome};
use cutwater_sim::{images, trace};

/// The simulator: one seed, one trace.
#[derive(Parser)]
#[command(name = "sim")]
struct Options {
    /// How many seeds to run.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Runs this seed alone.
    #[arg(long)]
    seed: Option<u64>,
    /// Prints what happens in the seed.
    #[arg(long, requires = "seed")]
    verbose: bool,
    /// Saves what happens in the seed.
    #[arg(long, requires = "seed")]
    save: Option<PathBuf>,
    /// Prints a saved trace.
    #[arg(long)]
    show: Option<PathBuf>,
    /// Runs seeds until one fails.
    #[arg(long)]
    forever: bool,
    /// Cuts the seeds' runs at every point and recovers from each image.
    #[arg(long)]
    crash_images: bool,
    /// At most so many images of one seed.
    #[arg(long, default_value_t = 1_000)]
    images: u64,
    /// How many threads run seeds; the number of cores unless given.
    #[arg(long)]
    threads: Option<usize>,
    /// Ends after so many failures.
    #[arg(long, default_value_t = 1)]
    failures: usize,
    /// Gives the node so many shards in every life, whatever the seed says.
    #[arg(long)]
    shards: Option<u16>,
    /// Runs each seed once and not twice: for a search that has little time.
    #[arg(long)]
    once: bool,
    /// Plants a bug, by its name.
    #[arg(long)]
    plant: Option<String>,
    /// Plants every bug, one after the other, and fails where one is not found.
    #[arg(long)]
    plants: bool,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    runner::name_seed_in_panics();
    let plant = match &options.plant {
        Some(name) => Some(Plant::of_name(name).with_context(|| {
            let names: Vec<&str> = Plant::ALL.iter().map(|plant| plant.name()).collect();
            format!("no bug is called {name}; there are: {}", names.join(", "))
        })?),
        None => None,
    };
    let _sown = plant.map(Sown::new);
    let is_well = if let Some(path) = &options.show {
        show(path)?;
        true
    } else if options.plants {
        find_plants(options.seeds)
    } else if let Some(seed) = options.seed {
        replay(seed, &options, plant)?
    } else if options.crash_images {
        let summary = images::run_many(options.from, options.seeds, options.images, plant, options.failures);
        println!("{summary}");
        summary.failed.is_empty()
    } else {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let manner = Manner { plant, shards: options.shards, once: options.once, ..Manner::default() };
        let count = (!options.forever).then_some(options.seeds);
        let threads = options.threads.unwrap_or(cores);
        let summary = runner::run_many(options.from, count, manner, threads, options.failures);
        println!("{summary}");
        summary.failed.is_empty()
    };
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn replay(seed: u64, options: &Options, plant: Option<Plant>) -> Result<bool> {
    runner::name_seed(seed);
    let manner = Manner {
        prints: options.verbose,
        keeps: options.save.is_some(),
        plant,
        shards: options.shards,
        ..Manner::default()
    };
    let (outcome, trace) = runner::run_once(seed, manner);
    println!("seed {seed}: {} events, trace {:016x}, {:?}", trace.count(), outcome.digest, outcome.tally);
    if let Some(path) = &options.save {
        std::fs::write(path, trace.save(seed)?).with_context(|| format!("save {}", path.display()))?;
    }
    match &outcome.finding {
        Some(finding) => println!("seed {seed} failed: {finding}"),
        None => println!("seed {seed} passed"),
    }
    Ok(outcome.finding.is_none())
}

/// Whether every planted bug is found within so many seeds.
fn find_plants(seeds_max: u64) -> bool {
    let mut missed = 0;
    for plant in Plant::ALL {
        match runner::find(plant, seeds_max) {
            Some(Outcome { seed, finding: Some(finding), .. }) => {
                println!("{} is found by seed {seed}: {}", plant.name(), finding.rule);
            }
            _ => {
                missed += 1;
                println!("{} is not found by any of {seeds_max} seeds", plant.name());
            }
        }
    }
    println!("{} planted bugs, {missed} not found", Plant::ALL.len());
    missed == 0
}

fn show(path: &PathBuf) -> Result<()> {
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let saved = trace::load(&bytes)?;
    println!("seed {}", saved.seed);
    for event in saved.events {
        println!("{:>12} {:>5} {} {:?}", event.at_us, event.shard, event.kind, event.numbers);
    }
    Ok(())
}
