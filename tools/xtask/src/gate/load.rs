//! Runs the load generator and the floor of the release build and takes their figures out of what they print.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::loopback::{CLIENT_CORE, SERVER_CORE};
use super::samples::Samples;

/// The programs under measurement.
pub(crate) struct Programs {
    pub(crate) cutwater: PathBuf,
    pub(crate) floor: PathBuf,
}

/// Load before anything is counted: a node that has just started touches its memory for the first time, which is not what
/// these figures are about.
const WARM_UP_S: u32 = 2;

/// How much is sent at once, and what.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) connections: u32,
    pub(crate) in_flight: u32,
    pub(crate) records_per_batch: u32,
    pub(crate) value_bytes: u32,
    /// Messages per second, from the intended send time; as fast as answers come where there is none.
    pub(crate) rate: Option<u32>,
}

/// One connection, one request in flight.
pub(crate) const RTT: Shape =
    Shape { connections: 1, in_flight: 1, records_per_batch: 1, value_bytes: 100, rate: None };
/// A steady 100,000 messages per second.
pub(crate) const OPEN: Shape =
    Shape { connections: 16, in_flight: 64, records_per_batch: 1, value_bytes: 100, rate: Some(100_000) };
/// As many small requests as go through.
pub(crate) const SMALL: Shape =
    Shape { connections: 16, in_flight: 64, records_per_batch: 1, value_bytes: 100, rate: None };
/// Batches of a thousand small records.
pub(crate) const BATCH_100: Shape =
    Shape { connections: 4, in_flight: 4, records_per_batch: 1_000, value_bytes: 100, rate: None };
/// Batches of a thousand records of a kilobyte.
pub(crate) const BATCH_1K: Shape =
    Shape { connections: 4, in_flight: 2, records_per_batch: 1_000, value_bytes: 1_000, rate: None };

impl Shape {
    fn arguments(&self, seconds: u32) -> Vec<String> {
        let mut arguments = vec![
            format!("--connections={}", self.connections),
            format!("--in-flight={}", self.in_flight),
            format!("--records-per-batch={}", self.records_per_batch),
            format!("--record-bytes={}", self.value_bytes),
            format!("--duration={seconds}s"),
            "--json".to_owned(),
        ];
        if let Some(rate) = self.rate {
            arguments.push(format!("--rate={rate}"));
        }
        arguments
    }
}

/// Drives the node at `server` and adds the figures under `name`.
pub(crate) fn bench(
    programs: &Programs,
    server: &str,
    shape: &Shape,
    seconds: u32,
    more: &[String],
    name: &str,
    samples: &mut Samples,
) -> Result<Value> {
    let mut arguments =
        vec!["bench".to_owned(), format!("--server={server}"), format!("--core={CLIENT_CORE}")];
    arguments.extend(shape.arguments(seconds));
    arguments.extend(more.iter().cloned());
    if !more.iter().any(|argument| argument.starts_with("--warm-up")) {
        arguments.push(format!("--warm-up={WARM_UP_S}s"));
    }
    let report = json(run(&programs.cutwater, &arguments)?)?;
    take(&report, name, samples);
    Ok(report)
}

/// Runs the floor in the same shape, with its file in `folder`, and adds the figures under `name`. Frames have
/// `frame_bytes` of payload where that is given, else as many as the shape's records make.
pub(crate) fn floor(
    programs: &Programs,
    folder: &Path,
    shape: &Shape,
    frame_bytes: Option<u64>,
    seconds: u32,
    name: &str,
    samples: &mut Samples,
) -> Result<()> {
    let mut arguments = vec![
        format!("--data={}", folder.display()),
        format!("--server-core={SERVER_CORE}"),
        format!("--client-core={CLIENT_CORE}"),
    ];
    arguments.extend(shape.arguments(seconds));
    if let Some(bytes) = frame_bytes {
        arguments.retain(|argument| !argument.starts_with("--record"));
        arguments.push(format!("--bytes={bytes}"));
    }
    take(&json(run(&programs.floor, &arguments)?)?, name, samples);
    Ok(())
}

/// Runs one command of the binary that prints no figures.
pub(crate) fn run(program: &Path, arguments: &[String]) -> Result<Output> {
    let line = format!("{} {}", program.display(), arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {line}"))?;
    if !output.status.success() {
        bail!("`{line}` failed ({}):\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(output)
}

fn json(output: Output) -> Result<Value> {
    // The last line that is an object; progress lines may stand before it.
    let text = String::from_utf8_lossy(&output.stdout);
    let start = text.find('{').context("the program printed no JSON")?;
    serde_json::from_str(text[start..].trim()).context("the program printed broken JSON")
}

/// Which member of a report becomes which figure (drawn in bench/load/src/report.rs).
const FIGURES: [(&str, &str); 6] = [
    ("/records_per_s", "records_per_s"),
    ("/bytes_per_s", "bytes_per_s"),
    ("/latency_us/p50", "p50_us"),
    ("/latency_us/p99", "p99_us"),
    ("/latency_us/p99_9", "p999_us"),
    ("/latency_us/max", "max_us"),
];

fn take(report: &Value, name: &str, samples: &mut Samples) {
    for (pointer, figure) in FIGURES {
        // A latency that the generator refuses to give (it missed its rate) is null and stays missing.
        if let Some(value) = report.pointer(pointer).and_then(Value::as_f64) {
            samples.add(format!("{name}.{figure}"), value);
        }
    }
}
