//! The chores of the project as one command: `cargo xtask verify`, `fix`, `layers`, `no-std`, `map`, `sim`, `fuzz`
//! and `gate`.
//!
//! Every check prints what is wrong, where, and what to do about it, and the process exits with 1 when anything is.
//! Checks only read; `fix` is the one command that writes to the checkout.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod deny;
mod fuzz;
mod gate;
mod layers;
mod map;
mod no_std;
mod process;
mod sim;
mod source;
mod tidy;
mod verify;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// The chores of the project.
#[derive(Parser)]
#[command(name = "xtask", about = "The chores of the project", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Check everything that can be checked without running the engine; writes nothing to the checkout.
    Verify(verify::Options),
    /// Format the code and let clippy repair what it can.
    Fix,
    /// Check the dependency edges between crates against the table of layers.
    Layers,
    /// Check that the pure crates live without std.
    NoStd,
    /// Check that docs/ARCHITECTURE.md names every crate and nothing that isn't there.
    Map,
    /// Check file lengths, banned words, head comments and where unsafe code lives.
    Tidy,
    /// Run the simulator; all arguments are passed on (try: --seeds 1000, --seed N, --forever, --crash-images N).
    Sim(sim::Options),
    /// Run the fuzz targets, or their stable smoke runner where cargo-fuzz is not installed.
    Fuzz(fuzz::Options),
    /// Measure the promised figures beside the machine's limits and say which are kept.
    Gate(gate::Options),
}

fn main() -> ExitCode {
    match run(Arguments::parse().chore) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one chore; `false` means that it found something wrong and has said what.
fn run(chore: Chore) -> Result<bool> {
    let workspace = Workspace::load()?;
    match chore {
        Chore::Verify(options) => verify::run(&workspace, &options),
        Chore::Fix => verify::fix(&workspace),
        Chore::Layers => Ok(report("layers", &layers::check(&workspace.crates))),
        Chore::NoStd => Ok(report("no-std", &no_std::check(&workspace)?)),
        Chore::Map => Ok(report("map", &map::check(&workspace)?)),
        Chore::Tidy => Ok(report("tidy", &tidy::check(&workspace)?)),
        Chore::Sim(options) => sim::run(&workspace, &options),
        Chore::Fuzz(options) => fuzz::run(&workspace, &options),
        Chore::Gate(options) => gate::run(&workspace, &options),
    }
}

/// Prints the findings of one check; `true` when there are none.
fn report(check: &str, findings: &[String]) -> bool {
    for finding in findings {
        println!("{check}: {finding}");
    }
    match findings.len() {
        0 => println!("{check}: ok"),
        count => println!("{check}: {count} finding(s)"),
    }
    findings.is_empty()
}
