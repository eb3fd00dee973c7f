//! How each row of the list is measured: which node, which load, what is added to the samples.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::device::Device;
use super::limits;
use super::load::{self, BATCH_1K, BATCH_100, OPEN, Programs, RTT, SMALL, Shape};
use super::loopback::{CLIENT_CORE, SERVER_CORE};
use super::node::{Node, Start};
use super::samples::Samples;

/// The counter of journal groups that a node publishes.
const GROUPS_METRIC: &str = "cutwater_journal_groups_total";
/// The gauge of the journal's size.
const JOURNAL_METRIC: &str = "cutwater_journal_size_bytes";
/// A journal that has not grown for so long is whole.
const JOURNAL_STEADY: Duration = Duration::from_secs(3);
/// A node makes its journal within this time, or something is wrong with it.
const JOURNAL_MAX: Duration = Duration::from_secs(180);
const MILLION: f64 = 1_000_000.0;

/// One repetition: where it works and how long each load runs.
pub(crate) struct Run<'a> {
    pub(crate) programs: &'a Programs,
    pub(crate) folder: &'a Path,
    pub(crate) seconds: u32,
    pub(crate) samples: &'a mut Samples,
}

/// Measures one row.
type Measurement = fn(&mut Run) -> Result<()>;

/// A measurement for each row of the list.
pub(crate) const MEASUREMENTS: [(&str, Measurement); 13] = [
    ("floor", |run| run.floor(&RTT, "floor_rtt")),
    ("durable_rtt", |run| run.beside_floor(&RTT, "floor_rtt", "durable_rtt", &[])),
    ("durable_open", |run| run.on_grown_node(&OPEN, "durable_open", &[]).map(drop)),
    ("durable_small", |run| run.beside_floor(&SMALL, "floor_small", "durable_small", &[])),
    ("durable_batch_100", |run| {
        run.beside_floor(&BATCH_100, "floor_batch_100", "durable_batch_100", &["--partitions=4"])
    }),
    ("durable_batch_1k", batch_1k),
    ("durable_zstd", zstd),
    ("end_to_end", |run| {
        // Room for ten milliseconds of the rate, so that a slow flush does not stop the one producer.
        let one = Shape { connections: 1, in_flight: 1024, ..OPEN };
        run.on_grown_node(&one, "end_to_end", &["--mode=end-to-end"]).map(drop)
    }),
    ("replay_hot", |run| {
        run.on_grown_node(&BATCH_100, "replay_hot", &["--mode=replay", "--partitions=4"]).map(drop)
    }),
    ("two_shards", two_shards),
    ("partitions", partitions),
    ("idle", idle),
    ("restart", restart),
];

/// Rows whose limits stand on another row's figures, and that row.
pub(crate) const STANDS_ON: [(&str, &str); 3] =
    [("end_to_end", "durable_open"), ("partitions", "durable_open"), ("partitions", "durable_small")];

impl Run<'_> {
    /// Measures what the machine can do, in the middle of everything else.
    pub(crate) fn limits(&mut self) -> Result<()> {
        let folder = self.fresh_folder("limits")?;
        let duration = Duration::from_secs(u64::from(self.seconds).div_ceil(2).clamp(1, 5));
        limits::measure(&folder, duration, self.samples)?;
        remove(&folder)
    }

    fn floor(&mut self, shape: &Shape, name: &str) -> Result<()> {
        self.floor_of_frames(shape, None, name)
    }

    fn floor_of_frames(&mut self, shape: &Shape, frame_bytes: Option<u64>, name: &str) -> Result<()> {
        let folder = self.fresh_folder("floor")?;
        load::floor(self.programs, &folder, shape, frame_bytes, self.seconds, name, self.samples)?;
        remove(&folder)
    }

    /// The floor and right after it the node, so that both meet the machine in the same mood.
    fn beside_floor(&mut self, shape: &Shape, floor: &str, name: &str, more: &[&str]) -> Result<()> {
        self.floor(shape, floor)?;
        self.on_grown_node(shape, name, more).map(drop)
    }

    /// Drives a node whose journal is whole, as that of any node is that runs for more than a minute; what the load
    /// generator says of it. The data folder serves all rows, each with a topic of its own that it deletes.
    fn on_grown_node(&mut self, shape: &Shape, name: &str, more: &[&str]) -> Result<Value> {
        let data = self.folder.join("grown");
        let is_new = !data.exists();
        let node = self.start(&data, &[SERVER_CORE])?;
        if is_new {
            wait_for_journal(&node)?;
        }
        let topic = format!("--topic={name}");
        let mut arguments = vec![topic.as_str(), "--delete-topic"];
        arguments.extend(more);
        let report = self.drive(&node, &data, shape, name, &arguments)?;
        node.stop()?;
        Ok(report)
    }

    /// Drives a running node and adds, besides the load's own figures, what the device and the processor did for it.
    fn drive(&mut self, node: &Node, data: &Path, shape: &Shape, name: &str, more: &[&str]) -> Result<Value> {
        let mut arguments =
            vec![format!("--server-pid={}", node.pid()), format!("--data={}", data.display())];
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        let device = Device::below(data)?;
        let counters = device.counters()?;
        let groups = node.metric(GROUPS_METRIC)?;
        let report =
            load::bench(self.programs, &node.address, shape, self.seconds, &arguments, name, self.samples)?;
        let done = device.counters()?.since(counters);
        let groups = node.metric(GROUPS_METRIC)? - groups;
        self.samples.add(format!("{name}.groups"), groups);
        self.samples.add(format!("{name}.flushes"), as_f64(done.flushes));
        let total = |pointer: &str| report.pointer(pointer).and_then(Value::as_f64).unwrap_or(f64::NAN);
        let bytes = total("/cost/device_write_bytes") / total("/total/bytes");
        self.samples.add(format!("{name}.device_bytes_per_byte"), bytes);
        let cpu_seconds = total("/cost/server_cpu_s") / total("/total/records") * MILLION;
        self.samples.add(format!("{name}.cpu_s_per_million"), cpu_seconds);
        Ok(report)
    }

    fn start(&self, data: &Path, cores: &[usize]) -> Result<Node> {
        let log = self.folder.join("node.log");
        Node::start(&Start { binary: &self.programs.cutwater, data, cores, log: &log })
    }

    fn create_topic(&self, node: &Node, topic: &str, partitions: u32) -> Result<()> {
        let arguments =
            ["topic", "create", topic, "--partitions", &partitions.to_string(), "--server", &node.address];
        load::run(&self.programs.cutwater, &arguments.map(str::to_owned)).map(drop)
    }

    /// Sends one record and waits for its acknowledgement.
    fn produce_one(&self, node: &Node, topic: &str) -> Result<()> {
        let arguments = ["produce", topic, "--server", &node.address, "--value", "first"];
        load::run(&self.programs.cutwater, &arguments.map(str::to_owned)).map(drop)
    }

    fn fresh_folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        if folder.exists() {
            remove(&folder)?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(folder)
    }
}

/// The same load twice on one node: on files that are new, and on those that the deleted topic left to be recycled.
fn batch_1k(run: &mut Run) -> Result<()> {
    run.floor(&BATCH_1K, "floor_batch_1k")?;
    let data = run.fresh_folder("data")?;
    let node = run.start(&data, &[SERVER_CORE])?;
    let arguments = ["--partitions=4", "--delete-topic"];
    run.drive(&node, &data, &BATCH_1K, "durable_batch_1k_fresh", &arguments)?;
    run.drive(&node, &data, &BATCH_1K, "durable_batch_1k_recycled", &arguments)?;
    node.stop()?;
    remove(&data)
}

/// Compressed batches, and then the floor with frames of the size that they turned out to have.
fn zstd(run: &mut Run) -> Result<()> {
    let report = run.on_grown_node(&BATCH_1K, "durable_zstd", &["--codec=zstd", "--partitions=4"])?;
    let total = |pointer: &str| report.pointer(pointer).and_then(Value::as_u64);
    let batches = total("/total/records").map(|records| records / u64::from(BATCH_1K.records_per_batch));
    let frame_bytes =
        total("/total/bytes").zip(batches).and_then(|(bytes, batches)| bytes.checked_div(batches));
    let frame_bytes = frame_bytes.context("the report of durable_zstd counts no records")?;
    run.floor_of_frames(&BATCH_1K, Some(frame_bytes), "floor_zstd")
}

/// Clients that connect to the shard that owns what they write, and clients that all connect to the other one.
fn two_shards(run: &mut Run) -> Result<()> {
    let data = run.fresh_folder("data")?;
    let node = run.start(&data, &[SERVER_CORE, CLIENT_CORE])?;
    wait_for_journal(&node)?;
    run.drive(&node, &data, &SMALL, "two_shards_own", &["--partitions=2", "--route=owner"])?;
    run.drive(&node, &data, &SMALL, "two_shards_forwarded", &["--partitions=2", "--route=other"])?;
    node.stop()?;
    remove(&data)
}

/// Load until all of ten thousand partitions are active: their files are made as soon as there is a topic.
const UNTIL_ACTIVE: &str = "--warm-up=5s";

/// The open and the closed load over many partitions, all of them written to.
fn partitions(run: &mut Run) -> Result<()> {
    for (count, open, small) in [
        ("--partitions=1000", "partitions_1000_open", "partitions_1000_small"),
        ("--partitions=10000", "partitions_10000_open", "partitions_10000_small"),
    ] {
        run.on_grown_node(&OPEN, open, &[count, UNTIL_ACTIVE])?;
        run.on_grown_node(&SMALL, small, &[count, UNTIL_ACTIVE])?;
    }
    Ok(())
}

/// A node with 1,000 partitions: how soon it answers after a start, and what it costs while nobody asks.
fn idle(run: &mut Run) -> Result<()> {
    let data = run.fresh_folder("data")?;
    let node = run.start(&data, &[SERVER_CORE])?;
    run.create_topic(&node, "idle", 1_000)?;
    run.produce_one(&node, "idle")?;
    node.stop()?;
    let started = Instant::now();
    let node = run.start(&data, &[SERVER_CORE])?;
    run.produce_one(&node, "idle")?;
    run.samples.add("idle.first_ack_ms", started.elapsed().as_secs_f64() * 1_000.0);
    wait_for_journal(&node)?;
    let cpu_seconds = node.cpu_seconds()?;
    let watched = Instant::now();
    thread::sleep(Duration::from_secs(u64::from(run.seconds)));
    let used = node.cpu_seconds()? - cpu_seconds;
    run.samples.add("idle.cpu_percent", used / watched.elapsed().as_secs_f64() * 100.0);
    run.samples.add("idle.rss_mib", node.rss_mib()?);
    node.stop()?;
    remove(&data)
}

/// Kills a node in the middle of a full load over 1,000 partitions and waits for the next one's first acknowledgement.
fn restart(run: &mut Run) -> Result<()> {
    let data = run.fresh_folder("data")?;
    let node = run.start(&data, &[SERVER_CORE])?;
    run.create_topic(&node, "restart", 1_000)?;
    let (programs, address, seconds) = (run.programs, node.address.clone(), run.seconds);
    thread::scope(|scope| -> Result<()> {
        let load = scope.spawn(move || {
            // It is meant to fail: its node is killed. Its figures are not used.
            let arguments = ["--partitions=1000", "--topic=restart"].map(str::to_owned);
            let longer = seconds + 30;
            load::bench(programs, &address, &SMALL, longer, &arguments, "", &mut Samples::default()).is_ok()
        });
        thread::sleep(Duration::from_secs(u64::from(seconds)));
        // A load that ended before the kill would make this a restart at rest.
        let ended_early = load.is_finished();
        node.kill()?;
        let started = Instant::now();
        let node = run.start(&data, &[SERVER_CORE])?;
        run.produce_one(&node, "restart")?;
        if !ended_early {
            run.samples.add("restart.first_ack_ms", started.elapsed().as_secs_f64() * 1_000.0);
        }
        node.stop()?;
        drop(load.join());
        Ok(())
    })?;
    remove(&data)
}

/// Waits until the node has made all the files of its journal, which it does beside its work after its first start.
fn wait_for_journal(node: &Node) -> Result<()> {
    let started = Instant::now();
    let mut last_bytes = node.metric(JOURNAL_METRIC)?;
    let mut grew = Instant::now();
    while grew.elapsed() < JOURNAL_STEADY {
        if started.elapsed() > JOURNAL_MAX {
            bail!("the journal still grows after {JOURNAL_MAX:?}; it has {last_bytes} bytes");
        }
        thread::sleep(Duration::from_millis(100));
        let bytes = node.metric(JOURNAL_METRIC)?;
        if bytes > last_bytes {
            last_bytes = bytes;
            grew = Instant::now();
        }
    }
    Ok(())
}

fn remove(folder: &Path) -> Result<()> {
    fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))
}

#[allow(clippy::cast_precision_loss, reason = "counters of one run")]
const fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::super::list::ROWS;
    use super::*;

    #[test]
    fn every_row_is_measured_and_nothing_else() {
        let rows: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        let measured: Vec<&str> = MEASUREMENTS.iter().map(|(name, _)| *name).collect();
        assert_eq!(rows, measured);
        for (row, base) in STANDS_ON {
            let position = |name: &str| rows.iter().position(|row| *row == name).unwrap();
            assert!(position(base) < position(row), "{row} is measured before {base}");
        }
    }
}
