//! What a node is told: defaults, then a TOML file, then the environment, then flags; the later one counts.
//!
//! Every setting is one line of [`SETTINGS`]. A key that is not there is refused by name, wherever it came from, and
//! so is a value out of bounds (B161). The effective configuration can be printed with the source of every value.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use cutwater_model::limits;

/// One setting: its key in the file and in flags (with dashes), its default, and what it means.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its key, with underscores. `CUTWATER_` and the key in capitals is its name in the environment.
    pub key: &'static str,
    /// Its default, as it would be written.
    pub default: &'static str,
    /// What it means, with its unit.
    pub help: &'static str,
}

/// Every setting there is.
pub const SETTINGS: &[Setting] = &[
    Setting { key: "data", default: "data", help: "the data folder; one file system" },
    Setting {
        key: "listen",
        default: "127.0.0.1:9644",
        help: "address of the native protocol; port 0 picks one",
    },
    Setting {
        key: "admin",
        default: "127.0.0.1:9645",
        help: "address of metrics and health; port 0 picks one",
    },
    Setting {
        key: "shards",
        default: "auto",
        help: "shards, one core each; auto: cores there are, less one",
    },
    Setting { key: "cores", default: "auto", help: "cores of the shards, as 0,1,2; auto: the first ones" },
    Setting { key: "idle", default: "adaptive", help: "what an idle core does: adaptive, busy or park" },
    Setting { key: "journal_bytes", default: "2GiB", help: "journal of each shard, whole files of 64 MiB" },
    Setting { key: "memory_bytes", default: "1GiB", help: "payload memory of each shard, at most 3GiB" },
    Setting { key: "log", default: "text", help: "log lines as text or json" },
    Setting { key: "log_level", default: "info", help: "error, warn, info, debug or trace" },
    Setting {
        key: "insecure",
        default: "false",
        help: "true: serve a public address without authentication",
    },
];

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody said anything.
    Default,
    /// That file.
    File(PathBuf),
    /// That variable.
    Environment(String),
    /// That flag.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(f, "default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// Why a configuration can't be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// There is no such setting.
    #[error("{source_of}: there is no setting `{key}`; `cutwater serve --print-config` lists all")]
    UnknownKey {
        /// The key.
        key: String,
        /// Where it stands.
        source_of: Source,
    },
    /// The value makes no sense.
    #[error("{source_of}: `{key} = {value}`: {why}")]
    Value {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// What is wrong.
        why: String,
        /// Where it stands.
        source_of: Source,
    },
    /// The file can't be read, or is not TOML.
    #[error("{}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A public address without authentication.
    #[error(
        "`{key} = {address}` is reachable from other hosts and nothing authenticates them; listen on 127.0.0.1, or say \
         --insecure if every host that can reach it may read and delete everything"
    )]
    Public {
        /// Which setting.
        key: &'static str,
        /// The address.
        address: SocketAddr,
    },
}

/// How an idle core waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Spins briefly, then sleeps.
    Adaptive,
    /// Never sleeps; its core is its own.
    Busy,
    /// Sleeps at once.
    Park,
}

/// A whole, checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The data folder.
    pub data: PathBuf,
    /// Address of the native protocol.
    pub listen: SocketAddr,
    /// Address of metrics and health.
    pub admin: SocketAddr,
    /// How many shards; `None`: as many as there are cores, less one.
    pub shards: Option<u16>,
    /// Their cores; `None`: the first ones.
    pub cores: Option<Vec<usize>>,
    /// What an idle core does.
    pub idle: Idle,
    /// Journal of each shard, bytes.
    pub journal_bytes: u64,
    /// Payload memory of each shard, bytes.
    pub memory_bytes: usize,
    /// Log lines as JSON.
    pub log_json: bool,
    /// The least level that is logged.
    pub log_level: String,
    sources: BTreeMap<&'static str, (String, Source)>,
}

impl Config {
    /// Puts the layers together. `environment` may hold anything; only names that begin with `CUTWATER_` are looked at.
    /// `flags` are keys as in the file.
    ///
    /// # Errors
    /// The first thing wrong, by key and source.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut layers = Layers::defaults();
        if let Some(path) = file {
            layers.add_file(path)?;
        }
        for (name, value) in environment {
            if let Some(key) = name.strip_prefix("CUTWATER_") {
                layers.set(&key.to_lowercase(), value, Source::Environment(name.clone()))?;
            }
        }
        for (key, value) in flags {
            let flag = format!("--{}", key.replace('_', "-"));
            layers.set(&key, value, Source::Flag(flag))?;
        }
        layers.check()
    }

    /// Every setting: key, value, and where the value came from.
    pub fn settings(&self) -> impl Iterator<Item = (&'static str, &str, &Source)> {
        self.sources.iter().map(|(key, (value, source))| (*key, value.as_str(), source))
    }
}

/// The values as text, each with its source.
struct Layers(BTreeMap<&'static str, (String, Source)>);

impl Layers {
    fn defaults() -> Self {
        Self(SETTINGS.iter().map(|it| (it.key, (it.default.to_owned(), Source::Default))).collect())
    }

    fn add_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let fail = |why: String| ConfigError::File { path: path.to_owned(), why };
        let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| fail(error.to_string()))?;
        for (key, value) in table {
            let value = match value {
                toml::Value::String(text) => text,
                toml::Value::Array(items) => {
                    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
                }
                other => other.to_string(),
            };
            self.set(&key, value, Source::File(path.to_owned()))?;
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: String, source: Source) -> Result<(), ConfigError> {
        let Some(setting) = SETTINGS.iter().find(|it| it.key == key) else {
            return Err(ConfigError::UnknownKey { key: key.to_owned(), source_of: source });
        };
        self.0.insert(setting.key, (value, source));
        Ok(())
    }

    fn check(self) -> Result<Config, ConfigError> {
        let config = Config {
            data: self.read("data", |text| non_empty(text).map(PathBuf::from))?,
            listen: self.read("listen", parse::<SocketAddr>)?,
            admin: self.read("admin", parse::<SocketAddr>)?,
            shards: self.read("shards", shards)?,
            cores: self.read("cores", cores)?,
            idle: self.read("idle", idle)?,
            journal_bytes: self.read("journal_bytes", journal_bytes)?,
            memory_bytes: self.read("memory_bytes", memory_bytes)?,
            log_json: self.read("log", |text| one_of(text, &[("text", false), ("json", true)]))?,
            log_level: self.read("log_level", |text| {
                one_of(
                    text,
                    &["error", "warn", "info", "debug", "trace"].map(|level| (level, level.to_owned())),
                )
            })?,
            sources: BTreeMap::new(),
        };
        let is_insecure = self.read("insecure", |text| one_of(text, &[("false", false), ("true", true)]))?;
        for (key, address) in [("listen", config.listen), ("admin", config.admin)] {
            if !address.ip().is_loopback() && !is_insecure {
                return Err(ConfigError::Public { key, address });
            }
        }
        if let (Some(shards), Some(cores)) = (config.shards, &config.cores)
            && usize::from(shards) != cores.len()
        {
            return self.refuse("cores", format!("{} cores are named for {shards} shards", cores.len()));
        }
        Ok(Config { sources: self.0, ..config })
    }

    fn read<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        let (value, _) = &self.0[key];
        parse(value.trim()).or_else(|why| self.refuse(key, why))
    }

    fn refuse<T>(&self, key: &'static str, why: String) -> Result<T, ConfigError> {
        let (value, source) = self.0[key].clone();
        Err(ConfigError::Value { key, value, why, source_of: source })
    }
}

fn parse<T: FromStr>(text: &str) -> Result<T, String>
where
    T::Err: fmt::Display,
{
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn non_empty(text: &str) -> Result<&str, String> {
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text) }
}

fn one_of<T: Clone>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
    let found = choices.iter().find(|(name, _)| *name == text);
    found.map(|(_, value)| value.clone()).ok_or_else(|| format!("it must be one of {}", names.join(", ")))
}

fn shards(text: &str) -> Result<Option<u16>, String> {
    if text == "auto" {
        return Ok(None);
    }
    let shards: u16 = parse(text)?;
    if (1..=limits::SHARDS_MAX).contains(&shards) {
        Ok(Some(shards))
    } else {
        Err(format!("it must be 1 to {}", limits::SHARDS_MAX))
    }
}

fn cores(text: &str) -> Result<Option<Vec<usize>>, String> {
    if text == "auto" {
        return Ok(None);
    }
    let cores = text.split(',').map(|core| parse(core.trim())).collect::<Result<Vec<usize>, _>>()?;
    let mut sorted = cores.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() == cores.len() { Ok(Some(cores)) } else { Err("a core is named twice".to_owned()) }
}

fn idle(text: &str) -> Result<Idle, String> {
    one_of(text, &[("adaptive", Idle::Adaptive), ("busy", Idle::Busy), ("park", Idle::Park)])
}

fn journal_bytes(text: &str) -> Result<u64, String> {
    let least = u64::from(limits::JOURNAL_FILES_LEAST) * limits::JOURNAL_FILE_BYTES;
    let bytes = size(text)?;
    if bytes < least || bytes > 1 << 40 {
        return Err(format!("it must be {} MiB to 1 TiB", least >> 20));
    }
    Ok(bytes)
}

fn memory_bytes(text: &str) -> Result<usize, String> {
    let bytes = size(text)?;
    if !(64 << 20..=3 << 30).contains(&bytes) {
        return Err("it must be 64 MiB to 3 GiB".to_owned());
    }
    usize::try_from(bytes & !4095).map_err(|error| error.to_string())
}

/// Bytes, with KiB, MiB or GiB behind the number.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic() || letter == ' ');
    let shift = match text[digits.len()..].trim() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        unit => return Err(format!("`{unit}` is no unit of bytes; use KiB, MiB or GiB")),
    };
    let number: u64 = parse(digits)?;
    number
        .checked_shl(shift)
        .filter(|bytes| bytes >> shift == number)
        .ok_or_else(|| "it is too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        Config::load(None, owned(environment), owned(flags))
    }

    #[test]
    fn the_later_layer_counts_and_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "shards = 3\nidle = \"park\"\ncores = [0, 1, 2]\n").unwrap();
        let environment =
            [("CUTWATER_IDLE".to_owned(), "busy".to_owned()), ("HOME".to_owned(), "x".to_owned())];
        let flags = [("data".to_owned(), "elsewhere".to_owned())];
        let config = Config::load(Some(file.path()), environment, flags).unwrap();
        assert_eq!((config.shards, config.idle), (Some(3), Idle::Busy));
        let sources: BTreeMap<_, _> =
            config.settings().map(|(key, _, source)| (key, source.to_string())).collect();
        assert_eq!(sources["idle"], "environment CUTWATER_IDLE");
        assert_eq!(sources["data"], "flag --data");
        assert_eq!(sources["shards"], file.path().display().to_string());
        assert_eq!(sources["listen"], "default");
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_key() {
        let refused = [
            ("shards", "0"),
            ("shards", "-1"),
            ("cores", "0,0"),
            ("journal_bytes", "1MiB"),
            ("journal_bytes", "-5"),
            ("memory_bytes", "99999999999GiB"),
            ("memory_bytes", "4 parsec"),
            ("idle", "sometimes"),
            ("listen", "localhost"),
            ("log", "xml"),
            ("data", ""),
        ];
        for (key, value) in refused {
            let error = load(&[], &[(key, value)]).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
        let error = load(&[("CUTWATER_SHARD", "1")], &[]).unwrap_err().to_string();
        assert!(error.contains("CUTWATER_SHARD") && error.contains("`shard`"), "{error}");
        assert!(load(&[], &[("shards", "2"), ("cores", "0")]).is_err());
    }

    #[test]
    fn a_public_address_needs_a_word() {
        let public = ("listen", "0.0.0.0:9644");
        assert!(matches!(load(&[], &[public]), Err(ConfigError::Public { key: "listen", .. })));
        assert!(load(&[], &[public, ("insecure", "true")]).is_ok());
        assert!(load(&[], &[("listen", "[::1]:0")]).is_ok());
    }
}
