//! `cutwater`, the one binary.
//!
//! Exit codes: 0 done, 1 failed (the reason stands on stderr), 2 wrong usage.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod bench;
mod consume;
mod lines;
mod produce;
mod remote;
mod serve;
mod topic;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::remote::Remote;

/// A log engine: appends records to partitioned topics, makes them durable, and reads them back in order.
#[derive(Parser)]
#[command(name = "cutwater", version, propagate_version = true)]
struct Arguments {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a node.
    Serve(serve::Arguments),
    /// Create, delete, list and describe topics.
    #[command(subcommand)]
    Topic(topic::Command),
    /// Send lines of a file or of stdin, one record each.
    Produce(produce::Arguments),
    /// Read records and write them to stdout.
    Consume(consume::Arguments),
    /// Drive a node with load and measure it.
    Bench(cutwater_load::BenchArguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            // A closed pipe behind us means that the reader has seen enough.
            if is_broken_pipe(&error) {
                return ExitCode::SUCCESS;
            }
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let remote = &arguments.remote;
    match &arguments.command {
        // A node tells apart why it ended.
        Command::Serve(arguments) => return Ok(serve::run(arguments)),
        Command::Topic(command) => topic::run(remote, command)?,
        Command::Produce(arguments) => produce::run(remote, arguments)?,
        Command::Consume(arguments) => consume::run(remote, arguments)?,
        Command::Bench(arguments) => bench::run(remote, arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
