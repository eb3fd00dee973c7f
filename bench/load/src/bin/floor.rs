//! Measures the floor of this machine: durable acknowledgements by a bare loop.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use cutwater_load::floor::{FloorConfig, batch_bytes, run};

/// How fast can this machine acknowledge durable requests when nothing else is done? A closed loop.
#[derive(Parser)]
#[command(name = "floor", version)]
struct Arguments {
    /// Connections of the one client.
    #[arg(long, default_value_t = 1)]
    connections: u32,
    /// Frames of each connection that wait for their answer.
    #[arg(long, default_value_t = 1)]
    in_flight: u32,
    /// Records in each frame, of which its length is computed.
    #[arg(long, default_value_t = 1)]
    records_per_batch: u32,
    /// The value of each record, in bytes.
    #[arg(long, default_value_t = 100)]
    record_bytes: u32,
    /// The payload of each frame, in bytes, whatever the records.
    #[arg(long, conflicts_with_all = ["records_per_batch", "record_bytes"])]
    bytes: Option<u32>,
    /// How long is measured, in seconds, after a warm-up of a fifth of it.
    #[arg(long, default_value = "5s", value_parser = seconds)]
    duration: Duration,
    /// The folder for its file, on the disk in question.
    #[arg(long, default_value = "data/floor")]
    data: PathBuf,
    /// The server's core.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The client's core.
    #[arg(long, default_value_t = 1)]
    client_core: usize,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.trim_end_matches('s').parse().map_err(|_| "expected seconds, as 5 or 5s")?;
    Duration::try_from_secs_f64(number).map_err(|error| error.to_string())
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let records = if arguments.bytes.is_some() { 1 } else { arguments.records_per_batch };
    let report = run(&FloorConfig {
        folder: arguments.data,
        connections: arguments.connections,
        in_flight: arguments.in_flight,
        payload_bytes: arguments.bytes.unwrap_or_else(|| batch_bytes(records, arguments.record_bytes)),
        duration: arguments.duration,
        server_core: arguments.server_core,
        client_core: arguments.client_core,
    })?;
    let records_per_s = report.frames_per_s * f64::from(records);
    if arguments.json {
        let mut json = serde_json::to_value(&report)?;
        json["records_per_s"] = records_per_s.into();
        println!("{json:#}");
        return Ok(());
    }
    let latency = report.latency_us;
    println!("{records_per_s:.0} records/s, {:.1} MB/s", report.bytes_per_s / 1e6);
    println!(
        "latency p50 {:.0} us, p90 {:.0}, p99 {:.0}, p99.9 {:.0}, max {:.0}",
        latency.p50, latency.p90, latency.p99, latency.p99_9, latency.max
    );
    println!("{} frames in {} durable groups", report.frames, report.groups);
    Ok(())
}
