//! `cutwater produce`: lines of a file or of stdin become records.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use cutwater_client::producer::{OutRecord, TopicHandle};
use cutwater_client::{DeliveryError, Producer, ProducerConfig, RequiredAcks, SendError, Wait};
use cutwater_load::values;
use cutwater_model::limits::PRODUCER_BATCH_BYTES_DEFAULT;
use cutwater_model::record::RecordHeader;
use cutwater_model::{Codec, PartitionIndex};
use serde_json::json;

use crate::lines::{self, Chunk, UNTERMINATED_HEADER};
use crate::remote::Remote;

/// Progress is shown once a run takes longer than this.
const QUIET: Duration = Duration::from_secs(2);
/// How long to wait for answers, or for input, before looking at the other.
const TURN: Duration = Duration::from_millis(5);

#[derive(Args)]
pub(crate) struct Arguments {
    /// The topic.
    topic: String,
    /// Read this file instead of stdin.
    #[arg(long, value_name = "PATH", conflicts_with = "value")]
    file: Option<PathBuf>,
    /// Send this one value instead of reading lines.
    #[arg(long, value_name = "TEXT")]
    value: Option<String>,
    /// The key of each record stands before this in its line.
    #[arg(long, value_name = "TEXT")]
    key_separator: Option<String>,
    /// Send to this partition, whatever the key.
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
    /// How batches are compressed.
    #[arg(long, value_enum, default_value_t = CodecName::None)]
    compression: CodecName,
    /// Which replicas must have a record before it counts as sent.
    #[arg(long, value_enum, default_value_t = AcksName::All)]
    acks: AcksName,
    /// How long a record may wait for others of its batch.
    #[arg(long, value_name = "TIME", default_value = "5ms", value_parser = values::duration)]
    linger: Duration,
    /// The largest batch, before compression; a longer line is refused.
    #[arg(long, value_name = "SIZE", default_value_t = PRODUCER_BATCH_BYTES_DEFAULT, value_parser = values::bytes_u32)]
    batch_bytes: u32,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum CodecName {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

#[derive(Clone, Copy, ValueEnum)]
enum AcksName {
    /// None: nobody says whether it arrived.
    #[value(name = "0")]
    None,
    /// The leader.
    #[value(name = "1")]
    Leader,
    /// All in-sync replicas.
    All,
}

pub(crate) fn run(remote: &Remote, arguments: &Arguments) -> Result<()> {
    let mut sender = Sender::new(remote, arguments)?;
    let outcome = match &arguments.value {
        Some(value) => sender.send(value.as_bytes(), true),
        None => sender.send_lines(arguments),
    };
    // What was taken before the input failed is still sent.
    let finished = sender.finish();
    sender.report(remote);
    outcome.and(finished)
}

/// A producer and what it has done so far.
struct Sender {
    producer: Producer,
    topic: TopicHandle,
    separator: Option<Vec<u8>>,
    partition: Option<PartitionIndex>,
    timeout: Duration,
    started: Instant,
    shown: Instant,
    taken: u64,
    bytes: u64,
    acknowledged: u64,
    failed: u64,
    failure: Option<DeliveryError>,
}

impl Sender {
    fn new(remote: &Remote, arguments: &Arguments) -> Result<Self> {
        let config = ProducerConfig {
            acks: match arguments.acks {
                AcksName::None => RequiredAcks::None,
                AcksName::Leader => RequiredAcks::Leader,
                AcksName::All => RequiredAcks::All,
            },
            codec: match arguments.compression {
                CodecName::None => Codec::None,
                CodecName::Gzip => Codec::Gzip,
                CodecName::Snappy => Codec::Snappy,
                CodecName::Lz4 => Codec::Lz4,
                CodecName::Zstd => Codec::Zstd,
            },
            linger: arguments.linger,
            batch_bytes_max: arguments.batch_bytes,
            delivery_timeout: remote.timeout,
            ..ProducerConfig::default()
        };
        let mut producer = Producer::new(&remote.config()?, config)?;
        let topic = producer.topic(&arguments.topic)?;
        let now = Instant::now();
        Ok(Self {
            producer,
            topic,
            separator: arguments.key_separator.clone().map(String::into_bytes),
            partition: arguments.partition.map(PartitionIndex),
            timeout: remote.timeout,
            started: now,
            shown: now + QUIET - Duration::from_secs(1),
            taken: 0,
            bytes: 0,
            acknowledged: 0,
            failed: 0,
            failure: None,
        })
    }

    fn send_lines(&mut self, arguments: &Arguments) -> Result<()> {
        let input: Box<dyn Read + Send> = match &arguments.file {
            Some(path) => {
                Box::new(File::open(path).with_context(|| format!("cannot open {}", path.display()))?)
            }
            None => Box::new(io::stdin()),
        };
        let (chunks, spares) = lines::read(input, arguments.batch_bytes as usize)?;
        loop {
            let chunk = match chunks.try_recv() {
                Ok(chunk) => chunk,
                Err(TryRecvError::Disconnected) => bail!("the thread that reads the input has died"),
                Err(TryRecvError::Empty) if self.producer.buffered_bytes() > 0 => {
                    self.poll(Wait::AtMost(TURN))?;
                    continue;
                }
                Err(TryRecvError::Empty) => match chunks.recv_timeout(Duration::from_millis(500)) {
                    Ok(chunk) => chunk,
                    Err(RecvTimeoutError::Timeout) => continue,
                    Err(RecvTimeoutError::Disconnected) => bail!("the thread that reads the input has died"),
                },
            };
            match chunk {
                Chunk::Lines(chunk) => {
                    for (line, is_terminated) in lines::split(&chunk) {
                        self.send(line, is_terminated)?;
                    }
                    // A full channel of spares only means that there are enough.
                    let _ = spares.try_send(chunk);
                    self.poll(Wait::Never)?;
                }
                Chunk::End(outcome) => return outcome,
            }
        }
    }

    fn send(&mut self, line: &[u8], is_terminated: bool) -> Result<()> {
        let separator = self.separator.as_deref().filter(|separator| !separator.is_empty());
        let found = separator.and_then(|separator| {
            let at = line.windows(separator.len()).position(|window| window == separator)?;
            Some((&line[..at], &line[at + separator.len()..]))
        });
        let (key, value) = match found {
            Some((key, value)) => (Some(key), value),
            None if separator.is_some() => {
                bail!("line {} has no key separator in it", self.taken + 1);
            }
            None => (None, line),
        };
        let mark = [RecordHeader { key: UNTERMINATED_HEADER, value: None }];
        let headers: &[RecordHeader<'_>] = if is_terminated { &[] } else { &mark };
        let record = OutRecord {
            key,
            value: Some(value),
            headers,
            partition: self.partition,
            token: self.taken,
            timestamp: None,
        };
        loop {
            match self.producer.send(self.topic, &record) {
                Ok(()) => break,
                Err(SendError::Full { .. }) => self.poll(Wait::AtMost(TURN))?,
                Err(SendError::TooLarge { bytes, bytes_max }) => bail!(
                    "line {} makes a batch of {bytes} bytes, more than {bytes_max}: raise --batch-bytes, and the \
                     topic's --batch-bytes-max if it is smaller",
                    self.taken + 1
                ),
                Err(error) => return Err(error.into()),
            }
        }
        self.taken += 1;
        self.bytes += line.len() as u64 + u64::from(is_terminated);
        Ok(())
    }

    fn poll(&mut self, wait: Wait) -> Result<()> {
        self.producer.poll(wait)?;
        self.take_reports();
        self.show_progress();
        // Going on would only make more of the same.
        match self.failure {
            Some(failure) => bail!("{}", self.why(failure)),
            None => Ok(()),
        }
    }

    fn take_reports(&mut self) {
        while let Some(delivery) = self.producer.next_delivery() {
            match delivery.outcome {
                Ok(_) => self.acknowledged += 1,
                Err(error) => {
                    self.failed += 1;
                    self.failure.get_or_insert(error);
                }
            }
        }
    }

    fn why(&self, failure: DeliveryError) -> String {
        match self.producer.last_fault() {
            Some(fault) => format!("{failure} ({fault})"),
            None => failure.to_string(),
        }
    }

    fn finish(&mut self) -> Result<()> {
        // The producer itself gives up on what isn't acknowledged in time; this only watches it.
        let deadline = Instant::now() + self.timeout + Duration::from_secs(5);
        while !self.producer.flush(Duration::from_secs(1))? {
            self.take_reports();
            self.show_progress();
            if Instant::now() > deadline {
                bail!("not all records were acknowledged in time; is the node up?");
            }
        }
        self.take_reports();
        match self.failure {
            Some(failure) => bail!("{} of {} records failed: {}", self.failed, self.taken, self.why(failure)),
            None => Ok(()),
        }
    }

    fn show_progress(&mut self) {
        if self.shown.elapsed() >= Duration::from_secs(1) {
            self.shown = Instant::now();
            let seconds = self.started.elapsed().as_secs_f64();
            eprintln!(
                "{:.0} s: {} records read, {} acknowledged, {:.1} MB/s",
                seconds,
                self.taken,
                self.acknowledged,
                self.bytes as f64 / 1e6 / seconds
            );
        }
    }

    fn report(&self, remote: &Remote) {
        let seconds = self.started.elapsed().as_secs_f64();
        if remote.is_json() {
            let summary = json!({
                "records": self.taken,
                "acknowledged": self.acknowledged,
                "failed": self.failed,
                "bytes": self.bytes,
                "duration_s": seconds,
            });
            println!("{summary}");
        } else {
            eprintln!(
                "{} records, {} acknowledged, {} bytes in {seconds:.2} s",
                self.taken, self.acknowledged, self.bytes
            );
        }
    }
}
