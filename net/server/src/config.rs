//! What a node is told: built-in values, a TOML file over them, the environment over that, flags over all.
//!
//! Every key has one name in three spellings: `journal_bytes` in the file, `CUTWATER_JOURNAL_BYTES` in the environment,
//! `--journal-bytes` as a flag. Whatever is unknown or out of bounds is refused by its key and where it stood.

mod machine;
mod value;

use core::fmt::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use cutwater_model::limits;
use cutwater_node::{IdlePolicy, NodeConfig};

use crate::logs::LogFormat;

/// The prefix of keys in the environment.
const ENVIRONMENT: &str = "CUTWATER_";
/// The variable that names the configuration file.
const ENVIRONMENT_FILE: &str = "CUTWATER_CONFIG";
/// The least payload memory of a shard, in bytes.
const MEMORY_BYTES_PER_SHARD_LEAST: u64 = 64 << 20;

/// Where a value comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// Built in, or found out from the machine.
    #[default]
    Default,
    /// The configuration file.
    File(PathBuf),
    /// A variable of the environment.
    Environment(String),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(f, "default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("the configuration file {} can't be read: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is no TOML.
    #[error("the configuration file {} is not valid TOML: {error}", path.display())]
    Toml {
        /// Which.
        path: PathBuf,
        /// Where and why.
        error: toml::de::Error,
    },
    /// There is no such key.
    #[error("{key}: there is no such key ({source}); the keys are {}", KEYS.join(", "))]
    UnknownKey {
        /// As it was written.
        key: String,
        /// Where.
        #[source]
        source: SourceError,
    },
    /// The value can't be.
    #[error("{key}: {value:?} ({source}): {expected}")]
    Value {
        /// Which key.
        key: &'static str,
        /// What was given.
        value: String,
        /// Where.
        #[source]
        source: SourceError,
        /// What would do.
        expected: String,
    },
    /// The native door would be open to the network.
    #[error(
        "listen: {listen} is reachable from other machines, and there is no authentication; bind 127.0.0.1, or say \
         --insecure if everyone who can reach it may read, write and delete"
    )]
    Public {
        /// Where it would listen.
        listen: SocketAddr,
    },
    /// The admin door would be open to the network.
    #[error("admin: {admin} is reachable from other machines; bind 127.0.0.1, or say --insecure")]
    PublicAdmin {
        /// Where it would listen.
        admin: SocketAddr,
    },
}

/// A [`Source`] as the source of an error: it says where the value stood.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(Source);

/// Every key, as the file spells it.
pub const KEYS: [&str; 14] = [
    "data",
    "listen",
    "admin",
    "shards",
    "cores",
    "idle",
    "journal_bytes",
    "memory_bytes",
    "memory_ready_bytes",
    "insecure",
    "accept_loss",
    "log",
    "log_level",
    "ready_file",
];

/// The configuration in effect, with the source of each value in the order of [`KEYS`].
#[derive(Clone, Debug)]
pub struct Config {
    /// The data folder.
    pub data: PathBuf,
    /// Where the native protocol is spoken.
    pub listen: SocketAddr,
    /// Where metrics and health are asked for.
    pub admin: SocketAddr,
    /// How many shards.
    pub shards: u16,
    /// The cores they are put on.
    pub cores: Vec<usize>,
    /// What pumps do when there is nothing to do.
    pub idle: IdlePolicy,
    /// The journal of each shard, bytes.
    pub journal_bytes: u64,
    /// The payload memory of all shards, bytes.
    pub memory_bytes: u64,
    /// How much of it the system is asked to back before it is needed, bytes; 0 for none.
    pub memory_ready_bytes: u64,
    /// Whether addresses that others can reach may be bound.
    pub insecure: bool,
    /// Whether a journal with a hole in its middle is served all the same. Meant for one start, not for ever.
    pub accept_loss: bool,
    /// How log lines look.
    pub log: LogFormat,
    /// Which lines are logged.
    pub log_level: tracing::Level,
    /// Written when the node serves: the native address and the admin address, a line each.
    pub ready_file: Option<PathBuf>,
    sources: [Source; KEYS.len()],
    shards_given: bool,
    cores_given: bool,
}

impl Config {
    /// The configuration in effect. `file` is what the command line names, `environment` all variables, `flags` pairs of
    /// a key as the file spells it and its value.
    ///
    /// # Errors
    /// [`ConfigError`], by key and source.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &[(&str, String)],
    ) -> Result<Self, ConfigError> {
        let mut config = Self::of_machine();
        let mut variables = Vec::new();
        let mut named_file = file.map(Path::to_owned);
        for (name, value) in environment {
            if name == ENVIRONMENT_FILE {
                named_file.get_or_insert_with(|| PathBuf::from(value));
            } else if let Some(key) = name.strip_prefix(ENVIRONMENT) {
                variables.push((key.to_ascii_lowercase(), value, name));
            }
        }
        if let Some(path) = named_file {
            config.read_file(&path)?;
        }
        for (key, value, name) in variables {
            config.set(&key, &value, Source::Environment(name))?;
        }
        for (key, value) in flags {
            config.set(key, value, Source::Flag(format!("--{}", key.replace('_', "-"))))?;
        }
        config.check()?;
        Ok(config)
    }

    /// What holds where nobody says otherwise.
    fn of_machine() -> Self {
        let cores = cutwater_node::start::cores();
        // One core stays for the control thread and the kernel's workers, where there is more than one.
        let shards = cores.len().saturating_sub(1).clamp(1, usize::from(limits::SHARDS_MAX)) as u16;
        Self {
            data: PathBuf::from("data"),
            listen: SocketAddr::from(([127, 0, 0, 1], 7171)),
            admin: SocketAddr::from(([127, 0, 0, 1], 7172)),
            shards,
            cores,
            idle: IdlePolicy::Adaptive,
            journal_bytes: limits::JOURNAL_BYTES_DEFAULT,
            memory_bytes: 0,
            memory_ready_bytes: limits::MEMORY_READY_BYTES,
            insecure: false,
            accept_loss: false,
            log: LogFormat::Text,
            log_level: tracing::Level::INFO,
            ready_file: None,
            sources: Default::default(),
            shards_given: false,
            cores_given: false,
        }
    }

    fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::File { path: path.to_owned(), error })?;
        let table: toml::Table =
            toml::from_str(&text).map_err(|error| ConfigError::Toml { path: path.to_owned(), error })?;
        for (key, entry) in table {
            let text = value::of_toml(&entry);
            self.set(&key, &text, Source::File(path.to_owned()))?;
        }
        Ok(())
    }

    fn set(&mut self, key: &str, text: &str, source: Source) -> Result<(), ConfigError> {
        let Some(index) = KEYS.iter().position(|known| *known == key) else {
            return Err(ConfigError::UnknownKey { key: key.to_owned(), source: SourceError(source) });
        };
        self.take(key, text).map_err(|expected| ConfigError::Value {
            key: KEYS[index],
            value: text.to_owned(),
            source: SourceError(source.clone()),
            expected,
        })?;
        self.sources[index] = source;
        Ok(())
    }

    /// Reads one value; the error says what would do.
    fn take(&mut self, key: &str, text: &str) -> Result<(), String> {
        match key {
            "data" => self.data = value::path(text)?,
            "listen" => self.listen = value::address(text)?,
            "admin" => self.admin = value::address(text)?,
            "shards" => {
                self.shards = value::number(text, 1, u64::from(limits::SHARDS_MAX))? as u16;
                self.shards_given = true;
            }
            "cores" => {
                self.cores = value::cores(text)?;
                self.cores_given = true;
            }
            "idle" => {
                self.idle = match text {
                    "adaptive" => IdlePolicy::Adaptive,
                    "busy" => IdlePolicy::Busy,
                    "park" => IdlePolicy::Park,
                    _ => return Err("use adaptive, busy or park".to_owned()),
                }
            }
            "journal_bytes" => {
                let least = u64::from(limits::JOURNAL_FILES_LEAST) * limits::JOURNAL_FILE_BYTES;
                self.journal_bytes = value::bytes(text, least, 1 << 40)?;
            }
            "memory_bytes" => {
                self.memory_bytes = value::bytes(text, MEMORY_BYTES_PER_SHARD_LEAST, 1 << 40)?;
            }
            "memory_ready_bytes" => self.memory_ready_bytes = value::bytes(text, 0, 1 << 40)?,
            "insecure" => self.insecure = value::boolean(text)?,
            "accept_loss" => self.accept_loss = value::boolean(text)?,
            "log" => {
                self.log = match text {
                    "text" => LogFormat::Text,
                    "json" => LogFormat::Json,
                    _ => return Err("use text or json".to_owned()),
                }
            }
            "log_level" => {
                let level = text.parse().map_err(|_| "use error, warn, info, debug or trace".to_owned());
                self.log_level = level?;
            }
            _ => self.ready_file = Some(value::path(text)?),
        }
        Ok(())
    }

    /// What depends on more than one key.
    fn check(&mut self) -> Result<(), ConfigError> {
        if self.cores_given && !self.shards_given {
            self.shards = self.cores.len().min(usize::from(limits::SHARDS_MAX)) as u16;
        }
        if !self.cores_given {
            self.cores = machine::cores_for(&self.cores, self.shards);
        }
        if self.memory_bytes == 0 {
            self.memory_bytes = machine::memory_for(self.shards, MEMORY_BYTES_PER_SHARD_LEAST);
        }
        let least = MEMORY_BYTES_PER_SHARD_LEAST * u64::from(self.shards);
        if self.memory_bytes < least {
            return Err(self.refuse(
                "memory_bytes",
                self.memory_bytes,
                format!("{} shards need {least}", self.shards),
            ));
        }
        if self.idle == IdlePolicy::Busy && self.cores.len() < usize::from(self.shards) {
            let expected =
                "a busy pump needs a core of its own: give as many cores as shards, or use adaptive"
                    .to_owned();
            return Err(self.refuse("idle", "busy", expected));
        }
        if !self.insecure && !self.listen.ip().is_loopback() {
            return Err(ConfigError::Public { listen: self.listen });
        }
        if !self.insecure && !self.admin.ip().is_loopback() {
            return Err(ConfigError::PublicAdmin { admin: self.admin });
        }
        Ok(())
    }

    fn refuse(&self, key: &'static str, value: impl ToString, expected: String) -> ConfigError {
        let index = KEYS.iter().position(|known| *known == key).unwrap_or(0);
        let source = SourceError(self.sources[index].clone());
        ConfigError::Value { key, value: value.to_string(), source, expected }
    }

    /// The configuration as TOML, the source of each value beside it.
    #[must_use]
    pub fn render(&self) -> String {
        let cores: Vec<String> = self.cores.iter().map(usize::to_string).collect();
        let idle = match self.idle {
            IdlePolicy::Adaptive => "adaptive",
            IdlePolicy::Busy => "busy",
            IdlePolicy::Park => "park",
        };
        let log = match self.log {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        let ready_file = self.ready_file.as_ref().map(|path| value::quoted(&path.display().to_string()));
        let values: [Option<String>; KEYS.len()] = [
            Some(value::quoted(&self.data.display().to_string())),
            Some(value::quoted(&self.listen.to_string())),
            Some(value::quoted(&self.admin.to_string())),
            Some(self.shards.to_string()),
            Some(format!("[{}]", cores.join(", "))),
            Some(value::quoted(idle)),
            Some(self.journal_bytes.to_string()),
            Some(self.memory_bytes.to_string()),
            Some(self.memory_ready_bytes.to_string()),
            Some(self.insecure.to_string()),
            Some(self.accept_loss.to_string()),
            Some(value::quoted(log)),
            Some(value::quoted(&self.log_level.to_string().to_ascii_lowercase())),
            ready_file,
        ];
        let mut text = String::new();
        for ((key, value), source) in KEYS.iter().zip(values).zip(&self.sources) {
            // Writing to a string does not fail.
            let _ = match value {
                Some(value) => writeln!(text, "{key} = {value}  # {source}"),
                None => writeln!(text, "# {key} is not set"),
            };
        }
        text
    }

    /// What the node is told of it.
    #[must_use]
    pub fn node(&self) -> NodeConfig {
        NodeConfig {
            data: self.data.clone(),
            listen: self.listen,
            admin: self.admin,
            shards: self.shards,
            cores: self.cores.clone(),
            idle: self.idle,
            journal_bytes: self.journal_bytes,
            memory_bytes: self.memory_bytes,
            memory_ready_bytes: self.memory_ready_bytes,
            accepts_loss: self.accept_loss,
        }
    }
}

#[cfg(test)]
mod tests;
