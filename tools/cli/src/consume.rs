//! `cutwater consume`: records come out on stdout, byte for byte as their lines went in.

use std::io::{self, BufWriter, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, ValueEnum};
use cutwater_api::{OffsetSpec, PartitionView, TopicView};
use cutwater_client::consumer::BatchRecords;
use cutwater_client::{Client, Consumer, ConsumerConfig, StartAt, Wait};
use cutwater_load::values;
use cutwater_model::record::Record;
use cutwater_model::{Offset, PartitionId, TimestampMs};
use serde_json::{Value, json};

use crate::lines::UNTERMINATED_HEADER;
use crate::remote::Remote;

/// Progress is shown once a run that goes to the end takes longer than this.
const QUIET: Duration = Duration::from_secs(2);

#[derive(Args)]
pub(crate) struct Arguments {
    /// The topic.
    topic: String,
    /// Where to begin: `earliest`, `latest`, `offset:N`, or `time:MS` (milliseconds since 1970, or a time ago as
    /// `time:-10m`).
    #[arg(long, value_name = "WHERE", default_value = "latest", value_parser = start_at)]
    from: StartAt,
    /// Stop at the records that are the last when the command begins.
    #[arg(long)]
    until_end: bool,
    /// Stop after so many records.
    #[arg(long, value_name = "N")]
    max: Option<u64>,
    /// Read this partition only; can be given several times.
    #[arg(long, value_name = "N")]
    partition: Vec<u32>,
    /// How records are written.
    #[arg(long, value_enum, default_value_t = Format::Raw)]
    format: Format,
    /// Write the key, and this, before each value.
    #[arg(long, value_name = "TEXT")]
    key_separator: Option<String>,
    /// Fetch one answer after the other instead of having records pushed.
    #[arg(long)]
    fetch: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The value and a newline; the lines that `produce` read come out byte for byte.
    Raw,
    /// One JSON object per line.
    Json,
}

pub(crate) fn run(remote: &Remote, arguments: &Arguments) -> Result<()> {
    let mut client = remote.client()?;
    let topic = client.topic(&arguments.topic)?;
    let partitions = partitions(&topic, &arguments.partition)?;
    let id = |partition: &PartitionView| PartitionId { topic: topic.id, index: partition.index };
    let ids: Vec<PartitionId> = partitions.iter().map(id).collect();
    let ends = if arguments.until_end { ends(&mut client, &ids)? } else { Vec::new() };
    drop(client);

    let config = ConsumerConfig { is_pushed: !arguments.fetch, ..ConsumerConfig::default() };
    let mut consumer = Consumer::new(&remote.config()?, config)?;
    for partition in &partitions {
        consumer.assign(id(partition), partition.shard, arguments.from);
    }
    let mut writer = RecordWriter {
        out: BufWriter::with_capacity(256 * 1024, io::stdout().lock()),
        topic: &topic.name,
        format: arguments.format,
        separator: arguments.key_separator.as_deref().map(str::as_bytes),
        left: arguments.max.unwrap_or(u64::MAX),
        written: 0,
    };
    let outcome = read(remote, arguments, &mut consumer, &ids, &ends, &mut writer);
    // What was read before a failure is good, so it is shown.
    writer.out.flush().context("cannot write to stdout").and(outcome)
}

fn read(
    remote: &Remote,
    arguments: &Arguments,
    consumer: &mut Consumer,
    ids: &[PartitionId],
    ends: &[Offset],
    writer: &mut RecordWriter<'_, impl Write>,
) -> Result<()> {
    let started = Instant::now();
    let mut shown = started + QUIET - Duration::from_secs(1);
    let mut heard = started;
    loop {
        let is_at_end = arguments.until_end
            && ids.iter().zip(ends).all(|(&id, end)| consumer.position(id).is_some_and(|at| at >= *end));
        if is_at_end || writer.left == 0 {
            return Ok(());
        }
        let mut written = Ok(());
        let batches = consumer.poll(Wait::AtMost(Duration::from_millis(500)), |records| {
            if written.is_ok() {
                let end = ids.iter().zip(ends).find(|(id, _)| **id == records.partition);
                written = writer.write(records, end.map(|(_, &end)| end));
            }
        })?;
        written.context("cannot write to stdout")?;
        if let Some(error) = consumer.next_error() {
            bail!("{}: {error}", writer.topic);
        }
        if batches > 0 {
            heard = Instant::now();
        } else {
            writer.out.flush().context("cannot write to stdout")?;
        }
        if (consumer.last_fault().is_some() || arguments.until_end) && heard.elapsed() > remote.timeout {
            let why = consumer.last_fault().map_or(String::new(), |fault| format!(": {fault}"));
            bail!("{} sends nothing for {:?}{why}", remote.server, remote.timeout);
        }
        if arguments.until_end && shown.elapsed() >= Duration::from_secs(1) {
            shown = Instant::now();
            eprintln!("{:.0} s: {} records", started.elapsed().as_secs_f64(), writer.written);
        }
    }
}

fn partitions(topic: &TopicView, wanted: &[u32]) -> Result<Vec<PartitionView>> {
    if wanted.is_empty() {
        return Ok(topic.partitions.clone());
    }
    let find = |&index: &u32| {
        let found = topic.partitions.get(index as usize).copied();
        found.ok_or_else(|| {
            let count = topic.partitions.len();
            anyhow!("topic `{}` has {count} partitions, numbered from 0; there is no {index}", topic.name)
        })
    };
    wanted.iter().map(find).collect()
}

/// The offsets after the last records that are there now.
fn ends(client: &mut Client, ids: &[PartitionId]) -> Result<Vec<Offset>> {
    let found = client.list_offsets(ids, OffsetSpec::Latest)?;
    found
        .iter()
        .map(|found| {
            found.offset.map_err(|failure| {
                let why = failure.kind().map_or(format!("code {}", failure.code), |kind| kind.to_string());
                anyhow!("partition {}: {why}", found.partition.index.0)
            })
        })
        .collect()
}

struct RecordWriter<'a, W> {
    out: W,
    topic: &'a str,
    format: Format,
    separator: Option<&'a [u8]>,
    left: u64,
    written: u64,
}

impl<W: Write> RecordWriter<'_, W> {
    /// Writes the records of a batch that come before `end`.
    fn write(&mut self, records: BatchRecords<'_>, end: Option<Offset>) -> io::Result<()> {
        let partition = records.partition;
        for record in records {
            if self.left == 0 || end.is_some_and(|end| record.offset >= end) {
                break;
            }
            self.left -= 1;
            self.written += 1;
            match self.format {
                Format::Raw => self.write_raw(&record)?,
                Format::Json => {
                    serde_json::to_writer(&mut self.out, &to_json(self.topic, partition, &record))?;
                    self.out.write_all(b"\n")?;
                }
            }
        }
        Ok(())
    }

    fn write_raw(&mut self, record: &Record<'_>) -> io::Result<()> {
        if let Some(separator) = self.separator {
            self.out.write_all(record.key.unwrap_or_default())?;
            self.out.write_all(separator)?;
        }
        self.out.write_all(record.value.unwrap_or_default())?;
        let mut headers = record.headers;
        if headers.any(|header| header.key == UNTERMINATED_HEADER) {
            return Ok(());
        }
        self.out.write_all(b"\n")
    }
}

fn to_json(topic: &str, partition: PartitionId, record: &Record<'_>) -> Value {
    let headers: Vec<Value> = record
        .headers
        .map(|header| json!({ "key": text(Some(header.key)), "value": text(header.value) }))
        .collect();
    json!({
        "topic": topic,
        "partition": partition.index.0,
        "offset": record.offset.0,
        "timestamp_ms": record.timestamp.0,
        "key": text(record.key),
        "value": text(record.value),
        "headers": headers,
    })
}

/// Text as a string; other bytes as an object with their hexadecimal digits.
fn text(bytes: Option<&[u8]>) -> Value {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => Value::Null,
        Some((_, Ok(text))) => text.into(),
        Some((bytes, Err(_))) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            json!({ "hex": digits })
        }
    }
}

fn start_at(text: &str) -> Result<StartAt, String> {
    let usage = || format!("`{text}` is none of earliest, latest, offset:N, time:MS, time:-10m");
    match text.split_once(':') {
        None if text == "earliest" => Ok(StartAt::Earliest),
        None if text == "latest" => Ok(StartAt::Latest),
        Some(("offset", number)) => {
            let offset: i64 = number.parse().map_err(|_| usage())?;
            Ok(StartAt::Offset(Offset(offset)))
        }
        Some(("time", ago)) if ago.starts_with('-') => {
            let ago = values::duration(&ago[1..])?;
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            Ok(StartAt::Time(TimestampMs(now.saturating_sub(ago).as_millis() as i64)))
        }
        Some(("time", time)) => time.parse().map(|ms| StartAt::Time(TimestampMs(ms))).map_err(|_| usage()),
        _ => Err(usage()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_are_read_or_refused() {
        assert_eq!(start_at("earliest"), Ok(StartAt::Earliest));
        assert_eq!(start_at("offset:17"), Ok(StartAt::Offset(Offset(17))));
        assert_eq!(start_at("time:1700000000000"), Ok(StartAt::Time(TimestampMs(1_700_000_000_000))));
        assert!(matches!(start_at("time:-10m"), Ok(StartAt::Time(time)) if time.0 > 1_700_000_000_000));
        assert!(start_at("yesterday").is_err() && start_at("offset:x").is_err());
    }
}
