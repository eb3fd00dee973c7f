//! Licences, advisories and sources of the dependencies, by cargo-deny and deny.toml.

use anyhow::{Result, bail};

use crate::process::{self, Step};
use crate::workspace::Workspace;

/// What came of the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Failed,
    /// Some of it could not be checked here.
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
    let rest = Step::cargo(&workspace.root, &["deny", "check", "bans", "licenses", "sources"]).run()?;
    // Advisories come from a database on the network, which a build machine may not reach.
    let fetched = Step::cargo(&workspace.root, &["deny", "fetch", "db"]).run_quiet()?;
    let advisories = if fetched {
        Step::cargo(&workspace.root, &["deny", "check", "--disable-fetch", "advisories"]).run()?
    } else {
        println!(
            "!!! SKIPPED: the advisory database can't be fetched; advisories on dependencies were NOT checked."
        );
        true
    };
    Ok(match (rest && advisories, fetched) {
        (false, _) => Outcome::Failed,
        (true, true) => Outcome::Passed,
        (true, false) => Outcome::Skipped,
    })
}
