//! `cutwater topic`: create, delete, list, describe, add-partitions.

use anyhow::{Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use cutwater_api::TopicView;
use cutwater_client::{Client, ClientError};
use cutwater_load::values;
use cutwater_model::ErrorKind;
use cutwater_model::topic::{Durability, TimestampType, TopicConfig, is_valid_name};
use serde_json::{Value, json};

use crate::remote::Remote;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a topic.
    Create(Create),
    /// Remove topics and their data.
    Delete {
        /// The topics.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Show all topics.
    List,
    /// Show topics with their settings and who serves each partition.
    Describe {
        /// The topics.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Give a topic more partitions. What keys already went where they went stays there.
    AddPartitions {
        /// The topic.
        name: String,
        /// How many it is to have in all.
        #[arg(long, value_name = "N")]
        partitions: u32,
    },
}

#[derive(Args)]
pub(crate) struct Create {
    /// Its name: 1 to 249 letters, digits, dots, underscores and dashes.
    name: String,
    /// How many partitions it begins with.
    #[arg(long, value_name = "N", default_value_t = 1)]
    partitions: u32,
    /// What an acknowledgement means.
    #[arg(long, value_enum, default_value_t = DurabilityName::Disk)]
    durability: DurabilityName,
    /// Whose timestamps records carry.
    #[arg(long, value_enum, default_value_t = TimestampName::Create)]
    timestamps: TimestampName,
    /// The largest batch it takes.
    #[arg(long, value_name = "SIZE", value_parser = values::bytes_u32)]
    batch_bytes_max: Option<u32>,
    /// How large a segment file grows.
    #[arg(long, value_name = "SIZE", value_parser = values::bytes_u32)]
    segment_bytes: Option<u32>,
    /// Do nothing when there is a topic of that name.
    #[arg(long)]
    if_not_exists: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum DurabilityName {
    /// On stable storage, device flush included.
    Disk,
    /// In memory; a crash may lose the last moment.
    Memory,
}

#[derive(Clone, Copy, ValueEnum)]
enum TimestampName {
    /// The producer's.
    Create,
    /// The node's, when it appends.
    Append,
}

pub(crate) fn run(remote: &Remote, command: &Command) -> Result<()> {
    let mut client = remote.client()?;
    match command {
        Command::Create(create) => run_create(remote, &mut client, create),
        Command::Delete { names } => delete(remote, &mut client, names),
        Command::List => list(remote, &mut client),
        Command::Describe { names } => describe(remote, &mut client, names),
        Command::AddPartitions { name, partitions } => {
            let topic = client.topic(name)?;
            client.add_partitions(topic.id, *partitions)?;
            let before = topic.partitions.len();
            say(
                remote,
                &json!({ "name": name, "id": topic.id.to_string(), "partitions": partitions }),
                || format!("topic {name} has {partitions} partitions now (before: {before})"),
            )
        }
    }
}

fn run_create(remote: &Remote, client: &mut Client, create: &Create) -> Result<()> {
    let Create { name, partitions, .. } = create;
    if !is_valid_name(name) {
        bail!("`{}`: {}", name.escape_debug(), ErrorKind::InvalidTopic);
    }
    let defaults = TopicConfig::default();
    let config = TopicConfig {
        durability: match create.durability {
            DurabilityName::Disk => Durability::Disk,
            DurabilityName::Memory => Durability::Memory,
        },
        timestamp_type: match create.timestamps {
            TimestampName::Create => TimestampType::Create,
            TimestampName::Append => TimestampType::LogAppend,
        },
        batch_bytes_max: create.batch_bytes_max.unwrap_or(defaults.batch_bytes_max),
        segment_bytes: create.segment_bytes.unwrap_or(defaults.segment_bytes),
    };
    let exists = |error: &ClientError| {
        matches!(error, ClientError::Refused { failure, .. }
            if failure.kind() == Some(ErrorKind::TopicAlreadyExists))
    };
    match client.create_topic(name, *partitions, config) {
        Ok(id) => say(
            remote,
            &json!({ "name": name, "id": id.to_string(), "partitions": partitions, "created": true }),
            || format!("created topic {name} with {partitions} partitions (id {id})"),
        ),
        Err(error) if create.if_not_exists && exists(&error) => {
            say(remote, &json!({ "name": name, "created": false }), || format!("topic {name} exists"))
        }
        Err(error) => Err(error.into()),
    }
}

fn delete(remote: &Remote, client: &mut Client, names: &[String]) -> Result<()> {
    for name in names {
        let topic = client.topic(name)?;
        client.delete_topic(topic.id)?;
        say(remote, &json!({ "name": name, "id": topic.id.to_string(), "deleted": true }), || {
            format!("deleted topic {name} (id {})", topic.id)
        })?;
    }
    Ok(())
}

fn list(remote: &Remote, client: &mut Client) -> Result<()> {
    let topics = client.describe(&[])?.topics;
    if remote.is_json() {
        println!("{:#}", Value::Array(topics.iter().map(|topic| to_json(topic, false)).collect()));
        return Ok(());
    }
    if topics.is_empty() {
        eprintln!("no topics; `cutwater topic create NAME` makes one");
        return Ok(());
    }
    let width = topics.iter().map(|topic| topic.name.len()).max().unwrap_or(0).max(4);
    println!("{:width$}  {:>10}  {:10}  ID", "NAME", "PARTITIONS", "DURABILITY");
    for topic in &topics {
        let durability = durability(topic);
        println!("{:width$}  {:>10}  {durability:10}  {}", topic.name, topic.partitions.len(), topic.id);
    }
    Ok(())
}

fn describe(remote: &Remote, client: &mut Client, names: &[String]) -> Result<()> {
    let mut found = Vec::new();
    for name in names {
        found.push(client.topic(name)?);
    }
    if remote.is_json() {
        println!("{:#}", Value::Array(found.iter().map(|topic| to_json(topic, true)).collect()));
        return Ok(());
    }
    for topic in &found {
        println!("{}", topic.name);
        println!("  id               {}", topic.id);
        println!("  durability       {}", durability(topic));
        println!("  timestamps       {}", timestamps(topic));
        println!("  batch bytes max  {}", topic.config.batch_bytes_max);
        println!("  segment bytes    {}", topic.config.segment_bytes);
        println!("  partitions       {}", topic.partitions.len());
        for partition in &topic.partitions {
            println!("    {:<5} on shard {}", partition.index.0, partition.shard.0);
        }
    }
    Ok(())
}

fn to_json(topic: &TopicView, with_shards: bool) -> Value {
    let mut value = json!({
        "name": topic.name,
        "id": topic.id.to_string(),
        "partitions": topic.partitions.len(),
        "durability": durability(topic),
        "timestamps": timestamps(topic),
        "batch_bytes_max": topic.config.batch_bytes_max,
        "segment_bytes": topic.config.segment_bytes,
    });
    if with_shards {
        value["shards"] = topic.partitions.iter().map(|partition| partition.shard.0).collect();
    }
    value
}

fn durability(topic: &TopicView) -> &'static str {
    match topic.config.durability {
        Durability::Disk => "disk",
        Durability::Memory => "memory",
    }
}

fn timestamps(topic: &TopicView) -> &'static str {
    match topic.config.timestamp_type {
        TimestampType::Create => "create",
        TimestampType::LogAppend => "append",
    }
}

fn say(remote: &Remote, json: &Value, text: impl FnOnce() -> String) -> Result<()> {
    if remote.is_json() {
        println!("{json}");
    } else {
        println!("{}", text());
    }
    Ok(())
}
