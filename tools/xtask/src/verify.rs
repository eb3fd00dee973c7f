//! `verify` runs every check that needs no running engine and shows all failures; `fix` repairs what tools can.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;

use crate::process::Step;
use crate::workspace::Workspace;
use crate::{deny, layers, map, no_std, report, tidy};

/// What `verify` is asked to do.
#[derive(Args)]
pub(crate) struct Options {
    /// Install cargo-deny when it is missing, instead of skipping its check.
    #[arg(long)]
    with_deny: bool,
    /// Only the checks that read the source and compile nothing.
    #[arg(long)]
    quick: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    Failed,
    Skipped,
}

impl From<bool> for Verdict {
    fn from(passed: bool) -> Self {
        if passed { Self::Ok } else { Self::Failed }
    }
}

/// Runs all checks, goes on after a failed one, and prints a table at the end; `true` when none failed.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let mut table = Table::default();
    table.add("tidy", || Ok(report("tidy", &tidy::check(workspace)?).into()));
    table.add("layers", || Ok(report("layers", &layers::check(&workspace.crates)).into()));
    table.add("map", || Ok(report("map", &map::check(workspace)?).into()));
    table.add("fmt", || Ok(Step::cargo(&workspace.root, &["fmt", "--all", "--check"]).run()?.into()));
    if !options.quick {
        let lints = Lints::of_toolchain(workspace)?;
        table.add("clippy", || Ok(clippy(workspace, lints).run()?.into()));
        table.add("no-std", || Ok(report("no-std", &no_std::check(workspace)?).into()));
        table.add("docs", || Ok(docs(workspace, lints).run()?.into()));
        table.add("deny", || {
            Ok(match deny::run(workspace, options.with_deny)? {
                deny::Outcome::Passed => Verdict::Ok,
                deny::Outcome::Failed => Verdict::Failed,
                deny::Outcome::Skipped => Verdict::Skipped,
            })
        });
    }
    Ok(table.print())
}

/// Formats the code and lets clippy repair what it can; `true` when both went well.
pub(crate) fn fix(workspace: &Workspace) -> Result<bool> {
    let clippy = ["clippy", "--fix", "--allow-dirty", "--allow-staged", "--workspace", "--all-targets"];
    let repaired = Step::cargo(&workspace.root, &clippy).run()?;
    let formatted = Step::cargo(&workspace.root, &["fmt", "--all"]).run()?;
    Ok(repaired && formatted)
}

fn clippy(workspace: &Workspace, lints: Lints) -> Step {
    let mut arguments = vec!["clippy", "--quiet", "--workspace", "--all-targets", "--keep-going", "--"];
    if lints == Lints::Count {
        arguments.extend(["-D", "warnings"]);
    }
    Step::cargo(&workspace.root, &arguments)
}

fn docs(workspace: &Workspace, lints: Lints) -> Step {
    let arguments =
        ["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items", "--keep-going"];
    let step = Step::cargo(&workspace.root, &arguments);
    if lints == Lints::Count { step.env("RUSTDOCFLAGS", "-D warnings") } else { step }
}

/// What a warning of the compiler's means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lints {
    /// A failure.
    Count,
    /// Something to read: a later release than the code is checked with has lints that nobody has met yet.
    Show,
}

impl Lints {
    fn of_toolchain(workspace: &Workspace) -> Result<Self> {
        let output = Command::new("rustc").arg("--version").current_dir(&workspace.root).output();
        let output = output.context("cannot run rustc")?;
        let found = String::from_utf8_lossy(&output.stdout);
        let checked = &workspace.rust_version;
        if minor(found.split(' ').nth(1).unwrap_or_default()) <= minor(checked) {
            return Ok(Self::Count);
        }
        println!("!!! this is {}; the code is checked with {checked}, so warnings", found.trim());
        println!("!!! of this release are shown below but not counted as failures.");
        Ok(Self::Show)
    }
}

/// The second number of a version such as `1.95.0`; 0 where there is none.
fn minor(version: &str) -> u32 {
    version.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or(0)
}

#[derive(Default)]
struct Table {
    rows: Vec<(&'static str, Verdict, f64)>,
}

impl Table {
    /// Runs one check; an error in running it counts as a failure of it, so that the others still run.
    fn add(&mut self, name: &'static str, check: impl FnOnce() -> Result<Verdict>) {
        let started = Instant::now();
        let verdict = check().unwrap_or_else(|error| {
            println!("{name}: {error:#}");
            Verdict::Failed
        });
        self.rows.push((name, verdict, started.elapsed().as_secs_f64()));
    }

    fn print(&self) -> bool {
        println!("\n{:<10} {:>8}  verdict", "check", "seconds");
        for (name, verdict, seconds) in &self.rows {
            let verdict = match verdict {
                Verdict::Ok => "ok",
                Verdict::Failed => "FAILED",
                Verdict::Skipped => "SKIPPED",
            };
            println!("{name:<10} {seconds:>8.1}  {verdict}");
        }
        self.rows.iter().all(|(_, verdict, _)| *verdict != Verdict::Failed)
    }
}

#[cfg(test)]
mod tests {
    use super::minor;

    #[test]
    fn a_later_release_is_told_from_the_one_the_code_is_checked_with() {
        assert!(minor("1.99.1") > minor("1.95"));
        assert!(minor("1.95.0") <= minor("1.95") && minor("1.96.0-nightly") > minor("1.95"));
        assert_eq!(minor(""), 0);
    }
}
