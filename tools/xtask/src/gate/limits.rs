//! The limits of this machine in this run: disk by fio, loopback, memory and page cache by small loops of our own.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::loopback;
use super::samples::Samples;

/// Measures all limits once, each for about `duration`, with files in `folder`.
pub(crate) fn measure(folder: &Path, duration: Duration, samples: &mut Samples) -> Result<()> {
    let dsync = fio(folder, duration, &["--rw=write", "--bs=4k", "--iodepth=1", "--sync=dsync"])?;
    samples.add("limit.fio_dsync_4k_p50_us", percentile_us(&dsync, "50.000000")?);
    samples.add("limit.fio_dsync_4k_p999_us", percentile_us(&dsync, "99.900000")?);
    let sequential = fio(folder, duration, &["--rw=write", "--bs=128k", "--iodepth=8"])?;
    samples.add("limit.fio_sequential_bytes_per_s", number(&sequential, "/jobs/0/write/bw_bytes")?);
    samples.add("limit.loopback_p50_us", loopback::round_trip_p50_us(duration)?);
    samples.add("limit.loopback_one_way_bytes_per_s", loopback::one_way_bytes_per_s(duration)?);
    samples.add("limit.sendfile_bytes_per_s", loopback::sendfile_bytes_per_s(folder, duration)?);
    samples
        .add("limit.memcpy_bytes_per_s", loopback::memcpy_bytes_per_s(duration.min(Duration::from_secs(2)))?);
    Ok(())
}

/// Runs fio on a file that was written before, so that every write overwrites in place.
fn fio(folder: &Path, duration: Duration, shape: &[&str]) -> Result<Value> {
    let file = folder.join("fio");
    let core = loopback::SERVER_CORE.to_string();
    let output = Command::new("fio")
        .args([
            "--name=limit",
            "--ioengine=io_uring",
            "--direct=1",
            "--size=256m",
            "--overwrite=1",
            "--time_based",
        ])
        .args(["--output-format=json", "--cpus_allowed", &core])
        .arg(format!("--runtime={}", duration.as_secs().max(1)))
        .arg(format!("--filename={}", file.display()))
        .args(shape)
        .stdin(Stdio::null())
        .output()
        .context("cannot run fio; install it (Debian: apt-get install fio)")?;
    if !output.status.success() {
        bail!("fio failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    // fio prints notes before the document.
    let start = output.stdout.iter().position(|byte| *byte == b'{').unwrap_or(0);
    serde_json::from_slice(&output.stdout[start..]).context("fio answered in an unknown form")
}

fn percentile_us(report: &Value, percentile: &str) -> Result<f64> {
    Ok(number(report, &format!("/jobs/0/write/clat_ns/percentile/{percentile}"))? / 1_000.0)
}

fn number(report: &Value, pointer: &str) -> Result<f64> {
    report.pointer(pointer).and_then(Value::as_f64).with_context(|| format!("fio's report has no {pointer}"))
}
