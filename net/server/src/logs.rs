//! Log lines on standard error, as text or as JSON, one line an event.

use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

/// Begins to log, once in a process.
///
/// # Errors
/// If something in this process logs already.
pub fn begin(format: LogFormat, level: tracing::Level) -> Result<(), TryInitError> {
    let registry =
        tracing_subscriber::registry().with(tracing_subscriber::filter::LevelFilter::from_level(level));
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    match format {
        LogFormat::Text => registry
            .with(fmt::layer().with_writer(std::io::stderr).with_ansi(is_terminal).with_target(false))
            .try_init(),
        LogFormat::Json => registry.with(fmt::layer().json().with_writer(std::io::stderr)).try_init(),
    }
}
