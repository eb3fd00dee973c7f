//! `cutwater serve`: runs a node.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use cutwater_server::{Config, ExitReason, ServeError, logs};

/// Flags of `serve`. Each goes over the environment (`CUTWATER_LISTEN` for `--listen`), and that over the file.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// A configuration file (TOML); its keys are the flags with underscores.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data folder.
    #[arg(long, value_name = "FOLDER")]
    data: Option<String>,
    /// Where the native protocol is spoken, such as 127.0.0.1:7171; port 0 takes any.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where metrics and health are asked for over HTTP; port 0 takes any.
    #[arg(long, value_name = "ADDRESS", visible_alias = "control")]
    admin: Option<String>,
    /// How many shards; each has a thread, a ring and a journal of its own.
    #[arg(long, value_name = "COUNT")]
    shards: Option<String>,
    /// The cores the shards are put on, such as 1,2 or 4-7.
    #[arg(long, value_name = "LIST")]
    cores: Option<String>,
    /// What a shard does when there is nothing to do: adaptive, busy or park.
    #[arg(long, value_name = "POLICY")]
    idle: Option<String>,
    /// The journal of each shard, such as 2GiB.
    #[arg(long, value_name = "SIZE")]
    journal_bytes: Option<String>,
    /// The payload memory of all shards together, such as 4GiB.
    #[arg(long, value_name = "SIZE")]
    memory_bytes: Option<String>,
    /// How much of it is backed by the system before it is needed, such as 64MiB; 0 for none.
    #[arg(long, value_name = "SIZE")]
    memory_ready_bytes: Option<String>,
    /// Allows addresses that other machines can reach, though there is no authentication.
    #[arg(long)]
    insecure: bool,
    /// Serves a journal with a hole in its middle all the same: what it held is lost. For one start only.
    #[arg(long)]
    accept_loss: bool,
    /// How log lines look: text or json.
    #[arg(long, value_name = "FORMAT")]
    log: Option<String>,
    /// Which lines are logged: error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Written once the node serves: its native address and its admin address, a line each.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<String>,
    /// Prints the configuration in effect with the source of each value, and ends.
    #[arg(long)]
    print_config: bool,
}

/// Runs a node to its end. The exit code says why it ended: 0 stopped, 2 configuration, 10 address in use, 11 folder
/// locked, 12 folder not writable, 13 no O_DIRECT, 14 no io_uring, 15 limits too low, 16 recovery refused, 1 all else.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match try_run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(ExitReason::of(&error).code())
        }
    }
}

fn try_run(arguments: &Arguments) -> Result<(), ServeError> {
    let config = Config::load(arguments.config.as_deref(), environment(), &arguments.flags())?;
    if arguments.print_config {
        print!("{}", config.render());
        return Ok(());
    }
    logs::begin(config.log, config.log_level)?;
    cutwater_server::serve(&config, cutwater_server::StopHandle::default())
}

/// The variables that are text; others are none of ours.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

impl Arguments {
    /// The flags that were given, by the key of the configuration file.
    fn flags(&self) -> Vec<(&'static str, String)> {
        let given = [
            ("data", self.data.clone()),
            ("listen", self.listen.clone()),
            ("admin", self.admin.clone()),
            ("shards", self.shards.clone()),
            ("cores", self.cores.clone()),
            ("idle", self.idle.clone()),
            ("journal_bytes", self.journal_bytes.clone()),
            ("memory_bytes", self.memory_bytes.clone()),
            ("memory_ready_bytes", self.memory_ready_bytes.clone()),
            ("insecure", self.insecure.then(|| "true".to_owned())),
            ("accept_loss", self.accept_loss.then(|| "true".to_owned())),
            ("log", self.log.clone()),
            ("log_level", self.log_level.clone()),
            ("ready_file", self.ready_file.clone()),
        ];
        given.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }
}
