//! What the load generator is asked to do, by shape and by option.

use core::time::Duration;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use cutwater_model::Codec;

use crate::values;

/// Drives a node with load and measures it.
///
/// With --rate the loop is open: each message has an intended send time, and its latency counts from there, sent or
/// not. Without it the loop is closed: each connection keeps --in-flight requests under way. Everything read is
/// checked: content, count and order. A run that misses its rate prints no latency.
#[derive(Args, Clone, Debug)]
pub struct BenchArguments {
    /// A named shape; any option overrides its part.
    #[arg(long, value_enum)]
    pub shape: Option<Shape>,
    /// What is done.
    #[arg(long, visible_alias = "workload", value_enum)]
    pub mode: Option<Mode>,
    /// Messages per second, open loop. Without it: as fast as answers come, closed loop.
    #[arg(long, value_name = "N")]
    pub rate: Option<f64>,
    /// Connections that produce.
    #[arg(long, value_name = "N")]
    pub connections: Option<u32>,
    /// Requests of each connection that wait for their answer.
    #[arg(long, value_name = "N")]
    pub in_flight: Option<u32>,
    /// Records in each request.
    #[arg(long, value_name = "N")]
    pub records_per_batch: Option<u32>,
    /// The value of each record.
    #[arg(long, value_name = "SIZE", value_parser = values::bytes_u32)]
    pub record_bytes: Option<u32>,
    /// Give records one of so many keys, which decide their partition.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub keys: u32,
    /// Number the batches of each connection by a producer id, as a client's producer does, so that the node checks each
    /// against what it remembers of that producer. Without it no batch has a number, and what is measured is the append
    /// alone; other tools' producers may number theirs by default. Not for batches compressed before the run.
    #[arg(long)]
    pub idempotent: bool,
    /// The topic; with --topics, the beginning of their names. Made when it is missing.
    #[arg(long, value_name = "NAME", default_value = "bench")]
    pub topic: String,
    /// How many topics.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub topics: u32,
    /// Partitions of each topic.
    #[arg(long, value_name = "N")]
    pub partitions: Option<u32>,
    /// Delete the topics at the end.
    #[arg(long)]
    pub delete_topic: bool,
    /// Which connections write which partitions, where the node has several shards.
    #[arg(long, value_enum, default_value_t = Route::Owner)]
    pub route: Route,
    /// How batches are compressed. They are compressed once, before the run, and sent again and again.
    #[arg(long, visible_alias = "codec", value_enum)]
    pub compression: Option<CodecName>,
    /// How long is measured.
    #[arg(long, visible_alias = "seconds", value_name = "TIME", default_value = "10s", value_parser = values::duration)]
    pub duration: Duration,
    /// How long the load runs before it is measured [default: a fifth of the duration].
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub warm_up: Option<Duration>,
    /// How much a replay reads, written before.
    #[arg(long, value_name = "SIZE", default_value = "128MiB", value_parser = values::bytes)]
    pub replay_bytes: u64,
    /// The core of the generator's one thread.
    #[arg(long, value_name = "N")]
    pub core: Option<usize>,
    /// The process id of the node: its processor time and written bytes are shown.
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// The node's data folder: the flushes and writes of its device are shown.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Measure the floor of this machine before, in the same shape (one in flight where the loop is open), and show the
    /// ratio.
    #[arg(long)]
    pub with_floor: bool,
    /// The folder for the floor's file; on the node's disk, but not in its data folder.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub floor_data: PathBuf,
    /// The core of the floor's server; the node's first shard should be on it too.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub floor_core: usize,
    /// The same seed makes the same payload.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Print one JSON object on stdout instead of the table.
    #[arg(long)]
    pub json: bool,
    /// Write the latency distribution as HdrHistogram's text form (.hgrm).
    #[arg(long, value_name = "PATH")]
    pub hgrm: Option<PathBuf>,
    /// Draw the latency distribution (.svg, or .html with the table).
    #[arg(long, value_name = "PATH")]
    pub report: Option<PathBuf>,
}

/// The shapes that the project's figures are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// One connection, one request in flight, 100 B.
    Rtt,
    /// 100,000 messages a second, one record per request, 16 connections, 100 B.
    Open,
    /// 16 connections with 64 in flight, one record of 100 B per request.
    Small,
    /// 4 connections, 1000 records of 100 B per request.
    Batch100,
    /// 4 connections, 1000 records of 1 kB per request.
    Batch1k,
    /// The same with zstd.
    Zstd,
    /// 100,000 messages a second by one connection, read by a subscription.
    EndToEnd,
    /// One consumer that reads what was just written.
    Replay,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Records are sent and acknowledged.
    Produce,
    /// And read by a subscription; latency is from the intended send to the read.
    EndToEnd,
    /// Records are written first, then read again and again.
    Replay,
    /// Records are sent and read at the same time; latency is that of the acknowledgements.
    Mixed,
}

/// Which connections write which partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Route {
    /// Each those of its own shard.
    Owner,
    /// Each those of other shards, so that every request is forwarded.
    Other,
    /// Each all.
    Any,
}

/// A codec, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the names say it")]
pub enum CodecName {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// What is done in numbers: a shape with the options over it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// What is done.
    pub mode: Mode,
    /// Messages per second, where the loop is open.
    pub rate: Option<f64>,
    /// Connections that produce.
    pub connections: u32,
    /// Requests of each that wait for their answer.
    pub in_flight: u32,
    /// Records in each request.
    pub records_per_batch: u32,
    /// The value of each record, in bytes.
    pub record_bytes: u32,
    /// How batches are compressed.
    pub codec: Codec,
    /// Partitions of each topic.
    pub partitions: u32,
    /// How long the load runs before it is measured.
    pub warm_up: Duration,
    /// How long is measured.
    pub duration: Duration,
}

impl BenchArguments {
    /// The shape with the options over it.
    #[must_use]
    pub fn load(&self) -> Load {
        let base = Load {
            mode: Mode::Produce,
            rate: None,
            connections: 16,
            in_flight: 64,
            records_per_batch: 1,
            record_bytes: 100,
            codec: Codec::None,
            partitions: 1,
            warm_up: self.warm_up.unwrap_or(self.duration / 5),
            duration: self.duration,
        };
        let batch = Load { connections: 4, records_per_batch: 1000, partitions: 4, ..base };
        let shape = match self.shape {
            None | Some(Shape::Small) => base,
            Some(Shape::Rtt) => Load { connections: 1, in_flight: 1, ..base },
            Some(Shape::Open) => Load { rate: Some(100_000.0), ..base },
            Some(Shape::Batch100) => Load { in_flight: 4, ..batch },
            Some(Shape::Batch1k) => Load { in_flight: 2, record_bytes: 1000, ..batch },
            Some(Shape::Zstd) => Load { in_flight: 2, record_bytes: 1000, codec: Codec::Zstd, ..batch },
            Some(Shape::EndToEnd) => {
                // Room for ten milliseconds of the rate, so that a slow flush does not stop the one producer.
                Load { mode: Mode::EndToEnd, rate: Some(100_000.0), connections: 1, in_flight: 1024, ..base }
            }
            Some(Shape::Replay) => Load { mode: Mode::Replay, in_flight: 4, ..batch },
        };
        Load {
            mode: self.mode.unwrap_or(shape.mode),
            rate: self.rate.or(shape.rate),
            connections: self.connections.unwrap_or(shape.connections),
            in_flight: self.in_flight.unwrap_or(shape.in_flight),
            records_per_batch: self.records_per_batch.unwrap_or(shape.records_per_batch),
            record_bytes: self.record_bytes.unwrap_or(shape.record_bytes),
            codec: self.compression.map_or(shape.codec, CodecName::codec),
            partitions: self.partitions.unwrap_or(shape.partitions),
            ..shape
        }
    }
}

impl CodecName {
    /// The codec of that name.
    #[must_use]
    pub const fn codec(self) -> Codec {
        match self {
            Self::None => Codec::None,
            Self::Gzip => Codec::Gzip,
            Self::Snappy => Codec::Snappy,
            Self::Lz4 => Codec::Lz4,
            Self::Zstd => Codec::Zstd,
        }
    }
}

impl Mode {
    /// Its name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Produce => "produce",
            Self::EndToEnd => "end-to-end",
            Self::Replay => "replay",
            Self::Mixed => "mixed",
        }
    }
}
