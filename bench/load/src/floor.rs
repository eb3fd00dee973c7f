//! The floor: how fast this machine can acknowledge durable requests when nothing else is done.
//!
//! A bare loop that does only what no log engine can leave out: receive frames from sockets, check the CRC-32C of
//! each, copy it into a group, write the group durably (one RWF_DSYNC write past the page cache into a recycled, written file)
//! and acknowledge each frame after its flush. It knows no topics, offsets, segments or protocol. An engine's
//! figures are told as ratios to it, both taken in the same run.

mod client;
mod intake;
mod server;

use core::sync::atomic::{AtomicBool, Ordering};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde::Serialize;

/// Before the payload: its length and its CRC-32C, each as `u32` LE.
const FRAME_HEADER_BYTES: usize = 8;
/// An answer: the number of the frame on its connection, from 0, as `u64` LE.
const ACK_BYTES: usize = 8;
/// The longest payload.
pub const PAYLOAD_BYTES_MAX: u32 = 3 << 20;
/// After so many turns without work a loop lets others of its core run; the kernel's workers need it.
const IDLE_TURNS: u32 = 64;

/// What the floor is asked to do.
#[derive(Clone, Debug)]
pub struct FloorConfig {
    /// Where its file is made; a folder on the disk in question.
    pub folder: PathBuf,
    /// Connections of the one client.
    pub connections: u32,
    /// Frames of each connection that wait for their answer.
    pub in_flight: u32,
    /// The payload of each frame, in bytes.
    pub payload_bytes: u32,
    /// How long is measured, after a warm-up of a fifth of it.
    pub duration: Duration,
    /// The server's core.
    pub server_core: usize,
    /// The client's core.
    pub client_core: usize,
}

/// What came out.
#[derive(Clone, Debug, Serialize)]
pub struct FloorReport {
    /// Frames acknowledged per second.
    pub frames_per_s: f64,
    /// Payload bytes acknowledged per second.
    pub bytes_per_s: f64,
    /// Frames acknowledged while it was measured.
    pub frames: u64,
    /// Durable writes of the whole run.
    pub groups: u64,
    /// From the moment a frame might be sent to its answer.
    pub latency_us: LatencyUs,
}

/// A distribution, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
#[expect(missing_docs, reason = "the names are the quantiles")]
pub struct LatencyUs {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub max: f64,
}

/// Runs server and client to their end.
///
/// # Errors
/// When ring, file or sockets refuse, or an answer is not the one expected.
pub fn run(config: &FloorConfig) -> Result<FloorReport> {
    std::fs::create_dir_all(&config.folder)
        .with_context(|| format!("cannot make the folder {}", config.folder.display()))?;
    let file = config.folder.join(format!("floor-{}", std::process::id()));
    let (ready, address) = mpsc::channel();
    let stop = Arc::new(AtomicBool::new(false));
    let server = {
        let (file, config, stop) = (file.clone(), config.clone(), stop.clone());
        thread::Builder::new()
            .name("floor".to_owned())
            .spawn(move || server::serve(&config, &file, &ready, &stop))?
    };
    // When the server fails it goes without a word, and its own error is the one to tell.
    let measured = address.recv().map_err(|_| anyhow!("the server did not start")).and_then(|address| {
        let config = config.clone();
        let client = thread::Builder::new().name("client".to_owned());
        let client = client.spawn(move || client::measure(&config, address))?;
        client.join().map_err(|_| anyhow!("the client's thread panicked"))?
    });
    stop.store(true, Ordering::Relaxed);
    let served = server.join().map_err(|_| anyhow!("the server's thread panicked"));
    // The file is of no use any more, whatever became of the run.
    let _ = std::fs::remove_file(&file);
    let groups = served??;
    let measured = measured?;
    let us = |quantile: f64| measured.latency_ns.value_at_quantile(quantile) as f64 / 1000.0;
    let frames_per_s = measured.frames as f64 / measured.seconds;
    Ok(FloorReport {
        frames_per_s,
        bytes_per_s: frames_per_s * f64::from(config.payload_bytes),
        frames: measured.frames,
        groups,
        latency_us: LatencyUs {
            p50: us(0.5),
            p90: us(0.9),
            p99: us(0.99),
            p99_9: us(0.999),
            max: measured.latency_ns.max() as f64 / 1000.0,
        },
    })
}

/// The length of a RecordBatch v2 of that many records without keys and headers: what a producer would send.
#[must_use]
pub fn batch_bytes(records: u32, value_bytes: u32) -> u32 {
    let record = |offset: u32| {
        // Attributes, timestamp delta, key length and header count take a byte each.
        let body = 4 + varint_bytes(offset) + varint_bytes(value_bytes) + value_bytes;
        varint_bytes(body) + body
    };
    cutwater_model::limits::BATCH_HEADER_BYTES as u32 + (0..records).map(record).sum::<u32>()
}

/// The length of a number that is not negative as a zigzag varint.
fn varint_bytes(number: u32) -> u32 {
    (64 - (u64::from(number) << 1 | 1).leading_zeros()).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_as_long_as_its_records() {
        assert_eq!(batch_bytes(1, 100), 170);
        assert_eq!((varint_bytes(63), varint_bytes(64)), (1, 2));
    }

    #[test]
    fn every_frame_is_acknowledged_in_order_for_small_and_large_ones() {
        for (connections, in_flight, payload_bytes) in [(1, 1, 1), (3, 16, 170), (2, 2, 1_010_061)] {
            let config = FloorConfig {
                folder: std::env::temp_dir(),
                connections,
                in_flight,
                payload_bytes,
                duration: Duration::from_millis(200),
                server_core: 0,
                client_core: 0,
            };
            let report = run(&config).unwrap();
            assert!(report.frames > 0 && report.groups > 0, "{report:?}");
        }
    }
}
