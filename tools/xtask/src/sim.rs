//! `sim` builds the simulator for speed and hands it all arguments.

use anyhow::Result;
use clap::Args;

use crate::process::Step;
use crate::workspace::Workspace;

/// The simulator's own arguments.
#[derive(Args)]
pub(crate) struct Options {
    /// Passed on to the simulator as they are.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs the simulator; `true` when it found nothing wrong.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let mut arguments = vec!["run", "--quiet", "--release", "--package", "cutwater-sim", "--"];
    arguments.extend(options.arguments.iter().map(String::as_str));
    Step::cargo(&workspace.root, &arguments).run()
}
