//! `fuzz-smoke`: feeds every decoder with mutated seeds, repeatable from one number, and watches its memory.

use std::{alloc::System, process::ExitCode};

use cap::Cap;
use clap::Parser;
use cutwater_fuzz_targets::{
    TARGETS,
    smoke::{self, Probe},
};

/// No input makes a decoder need as much; beyond it an allocation fails and the process ends.
const MEMORY_BYTES_MAX: usize = 512 << 20;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, MEMORY_BYTES_MAX);

/// Feeds every decoder with mutated seeds.
#[derive(Parser)]
#[command(name = "fuzz-smoke", about)]
struct Arguments {
    /// Only this target.
    #[arg(long)]
    target: Option<String>,
    /// The seed of the first input; each input has the next one.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Inputs for each target; a slow target gets fewer.
    #[arg(long, default_value_t = 50_000)]
    inputs: u64,
    /// Print the input of --seed for --target in hexadecimal and run nothing.
    #[arg(long, requires = "target")]
    show: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let wanted = |name: &str| arguments.target.as_deref().is_none_or(|only| only == name);
    let targets: Vec<_> = TARGETS.iter().filter(|target| wanted(target.name)).collect();
    if targets.is_empty() {
        let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        eprintln!("error: no such target; there are {}", names.join(", "));
        return ExitCode::from(2);
    }
    let mut all_well = true;
    for target in targets {
        if arguments.show {
            smoke::input(target, arguments.seed).iter().for_each(|byte| print!("{byte:02x}"));
            println!();
            continue;
        }
        tell_on_panic(target.name);
        let probe = Probe { allocated: || ALLOCATOR.total_allocated() };
        let inputs = arguments.inputs.div_ceil(target.cost);
        match smoke::run(target, arguments.seed, inputs, Some(probe), &at_seed::set) {
            Ok(()) => println!("{}: {inputs} inputs from seed {}", target.name, arguments.seed),
            Err(it) => {
                println!(
                    "{}: seed {} of {} bytes took {} bytes of memory, more than {}",
                    it.target, it.seed, it.input_bytes, it.allocated_bytes, it.allocated_bytes_max
                );
                all_well = false;
            }
        }
    }
    if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Says how to see a panic again.
fn tell_on_panic(target: &'static str) {
    let _default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let seed = at_seed::get();
        eprintln!("{target}: {panic}\nagain: fuzz-smoke --target {target} --seed {seed} --inputs 1");
    }));
}

/// The seed whose turn it is, for the panic's message.
mod at_seed {
    use std::sync::atomic::{AtomicU64, Ordering};

    static SEED: AtomicU64 = AtomicU64::new(0);

    pub(crate) fn set(seed: u64) {
        SEED.store(seed, Ordering::Relaxed);
    }

    pub(crate) fn get() -> u64 {
        SEED.load(Ordering::Relaxed)
    }
}
