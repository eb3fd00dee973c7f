//! Commands that a chore runs: what they are, how long they took, what they said.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// One command, not yet run.
pub(crate) struct Step {
    command: Command,
    line: String,
}

impl Step {
    /// `cargo` with `arguments`, in `root`.
    pub(crate) fn cargo(root: &Path, arguments: &[&str]) -> Self {
        Self::new(root, "cargo", arguments)
    }

    /// `program` with `arguments`, in `root`, without an input.
    pub(crate) fn new(root: &Path, program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(root).stdin(Stdio::null());
        Self { command, line: format!("{program} {}", arguments.join(" ")) }
    }

    /// Sets one environment variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it with its output shown; `true` when it succeeded.
    pub(crate) fn run(mut self) -> Result<bool> {
        println!("$ {}", self.line);
        let status = self.command.status().with_context(|| format!("cannot run `{}`", self.line))?;
        Ok(status.success())
    }

    /// Runs it with its output kept back unless it fails; `true` when it succeeded.
    pub(crate) fn run_quiet(mut self) -> Result<bool> {
        let output = self.command.output().with_context(|| format!("cannot run `{}`", self.line))?;
        if !output.status.success() {
            println!("$ {}", self.line);
            print!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        }
        Ok(output.status.success())
    }
}

/// Whether `program` can be started with `arguments` here and says that all is well.
pub(crate) fn works(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
