//! Licences, advisories and sources of the dependencies, by cargo-deny and deny.toml.

use anyhow::{Result, bail};

use crate::process::{self, Step};
use crate::workspace::Workspace;

/// What came of the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Failed,
    /// cargo-deny is not installed.
    Skipped,
}

/// Checks the dependencies; installs cargo-deny first when `install` is set and it is missing.
pub(crate) fn run(workspace: &Workspace, install: bool) -> Result<Outcome> {
    let installed = || process::works("cargo", &["deny", "--version"]);
    if !installed() {
        if !install {
            println!(
                "!!! SKIPPED: cargo-deny is not installed, so licences, advisories and sources of dependencies"
            );
            println!(
                "!!! were NOT checked. `cargo xtask verify --with-deny` installs it (some minutes) and checks."
            );
            return Ok(Outcome::Skipped);
        }
        let install = Step::cargo(&workspace.root, &["install", "--locked", "cargo-deny"]);
        if !install.run()? || !installed() {
            bail!("cargo-deny could not be installed");
        }
    }
    // Advisories need the advisory database, which a machine without a network can't fetch; the rest always runs.
    let rest = Step::cargo(&workspace.root, &["deny", "check", "bans", "licenses", "sources"]).run()?;
    let advisories = Step::cargo(&workspace.root, &["deny", "check", "advisories"]).run()?;
    Ok(if rest && advisories { Outcome::Passed } else { Outcome::Failed })
}
