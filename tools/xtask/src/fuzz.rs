//! `fuzz` runs every fuzz target for a while, or says loudly that it can't and runs the stable smoke runner instead.
//!
//! Coverage-guided fuzzing needs cargo-fuzz and a nightly compiler. The smoke runner feeds the same entry points from a
//! seeded generator on stable, so a machine without both still tries every decoder.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::process::{self, Step};
use crate::workspace::Workspace;

/// The targets' home; it is not a member of the workspace, because libFuzzer needs nightly.
const HOME: &str = "tools/fuzz";
/// A decoder that needs more than this for one input has no bound of its own.
const MEMORY_MIB_MAX: u32 = 512;

/// What `fuzz` is asked to do.
#[derive(Args)]
pub(crate) struct Options {
    /// Only this target.
    #[arg(long)]
    target: Option<String>,
    /// Seconds for each target.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Run the stable smoke runner even where cargo-fuzz is installed.
    #[arg(long)]
    smoke: bool,
    /// Passed on to the smoke runner as they are.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs the targets; `true` when none found anything.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    if options.smoke {
        return smoke(workspace, options);
    }
    let guided = process::works("cargo", &["fuzz", "--version"])
        && process::works("cargo", &["+nightly", "--version"]);
    if !guided {
        println!(
            "!!! cargo-fuzz with a nightly compiler is not installed here: NO coverage-guided fuzzing is done."
        );
        println!("!!! The stable smoke runner feeds the same decoders from a seeded generator instead.");
        return smoke(workspace, options);
    }
    let mut all_well = true;
    for target in targets(&workspace.root.join(HOME).join("fuzz_targets"))? {
        if options.target.as_ref().is_some_and(|only| *only != target) {
            continue;
        }
        let seconds = format!("-max_total_time={}", options.seconds);
        let memory = format!("-rss_limit_mb={MEMORY_MIB_MAX}");
        let arguments = ["+nightly", "fuzz", "run", "--fuzz-dir", HOME, &target, "--", &seconds, &memory];
        all_well &= Step::cargo(&workspace.root, &arguments).run()?;
    }
    Ok(all_well)
}

fn smoke(workspace: &Workspace, options: &Options) -> Result<bool> {
    // Not a release build: in a debug build a number that overflows is found, too.
    let mut arguments =
        vec!["run", "--quiet", "--package", "cutwater-fuzz-targets", "--bin", "fuzz-smoke", "--"];
    if let Some(target) = &options.target {
        arguments.extend(["--target", target]);
    }
    arguments.extend(options.arguments.iter().map(String::as_str));
    Step::cargo(&workspace.root, &arguments).run()
}

/// The names of the targets: one file each.
fn targets(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs")
            && let Some(stem) = path.file_stem()
        {
            names.push(stem.to_string_lossy().into_owned());
        }
    }
    names.sort();
    if names.is_empty() {
        bail!("{} holds no fuzz target", folder.display());
    }
    Ok(names)
}
