//! Which node a command talks to, how long it waits, and how it answers.

use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use cutwater_client::{Client, ClientConfig, resolve};
use cutwater_load::values;

/// Options that every command against a node shares.
#[derive(Args, Clone)]
pub(crate) struct Remote {
    /// The native port of the node.
    #[arg(long, global = true, value_name = "HOST:PORT", default_value = "127.0.0.1:7171")]
    pub(crate) server: String,
    /// How long to wait for an answer, a connection or an acknowledgement.
    #[arg(long, global = true, value_name = "TIME", default_value = "30s", value_parser = values::duration)]
    pub(crate) timeout: Duration,
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// One JSON document.
    Json,
}

impl Remote {
    pub(crate) fn config(&self) -> Result<ClientConfig> {
        let mut config = ClientConfig::new(resolve(&self.server)?);
        config.timeout = self.timeout;
        config.connect_timeout = self.timeout.min(config.connect_timeout);
        Ok(config)
    }

    pub(crate) fn client(&self) -> Result<Client> {
        Ok(Client::new(&self.config()?)?)
    }

    pub(crate) fn is_json(&self) -> bool {
        self.output == Output::Json
    }
}
