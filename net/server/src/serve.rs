//! Runs a node of the native protocol until it is asked to stop.

use std::path::{Path, PathBuf};

use cutwater_native::ServerSession;
use cutwater_node::{Addresses, NodeError, StopHandle};

use crate::config::{Config, ConfigError};

/// Why a node did not serve, or did not end as it should.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Logging could not begin.
    #[error("logging can't begin: {0}")]
    Logs(#[from] tracing_subscriber::util::TryInitError),
    /// The ready file could not be written; the node was stopped.
    #[error("the ready file {} can't be written: {error}", path.display())]
    ReadyFile {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The node failed.
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// Runs a node until it is asked to stop by a signal or by `stop`.
///
/// # Errors
/// [`ServeError`], with what to do about it.
pub fn serve(config: &Config, stop: StopHandle) -> Result<(), ServeError> {
    let mut unwritten = None;
    cutwater_node::run::<ServerSession>(&config.node(), stop.clone(), |addresses| {
        if let Some(path) = &config.ready_file
            && let Err(error) = write_ready(path, addresses)
        {
            unwritten = Some(ServeError::ReadyFile { path: path.clone(), error });
            stop.stop();
        }
    })?;
    if let Some(path) = &config.ready_file {
        // It named a node that is gone; one that somebody removed already is as good.
        let _ = std::fs::remove_file(path);
    }
    unwritten.map_or(Ok(()), Err)
}

/// Writes the addresses, a line each, under another name first: who finds the file finds it whole.
fn write_ready(path: &Path, addresses: Addresses) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    std::fs::write(&new, format!("{}\n{}\n", addresses.native, addresses.admin))?;
    std::fs::rename(new, path)
}
