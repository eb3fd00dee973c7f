//! The run itself: one thread, one ring, all connections.
//!
//! Each turn takes the answers that are there, sends what is due, and enters the kernel once. Times are taken after the
//! kernel has handed over what came (`times`), so an answer's latency includes all of its way.

mod state;
mod times;

use core::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use cutwater_client::{Client, ClientConfig, Transport, Wait, Wire, resolve};
use cutwater_model::{Codec, ProducerEpoch, ProducerId};
use cutwater_ring::clock::thread_cpu_us;
use cutwater_ring::{Clock, RingConfig, cores, entropy};
use hdrhistogram::Histogram;

use self::state::State;
use self::times::EventTimes;
use crate::arguments::{BenchArguments, Load, Mode, Route};
use crate::floor::{self, FloorConfig, FloorReport};
use crate::pace::Pace;
use crate::payload::Template;
use crate::reader::Checker;
use crate::report::{Latency, RATE_KEPT_LEAST, Report, Total};
use crate::setup::{self, Targets};
use crate::subscriptions::Subscriptions;
use crate::watch;
use crate::writers::Writers;

/// How long to wait for what is under way when a run ends.
const DRAIN: Duration = Duration::from_secs(10);
/// So often the loop lets others of its core run, work or not: a disk's interrupts may come to this core, and the kernel
/// finishes the node's durable writes there.
const YIELD_NS: u64 = 30_000;
/// Latencies beyond this are recorded as this.
const LATENCY_NS_MAX: u64 = 600_000_000_000;
const KEY_TEMPLATES_MAX: u32 = 10_000;

/// A run's figures and the distribution behind them.
#[derive(Debug)]
pub struct Outcome {
    /// The figures.
    pub report: Report,
    /// Latencies in ns.
    pub histogram: Histogram<u64>,
}

/// Drives the node at `server`, `HOST:PORT`.
///
/// # Errors
/// When the node can't be reached or a connection breaks. Requests that fail, and what is wrong with what was read, are
/// part of the report.
pub fn run(arguments: &BenchArguments, server: &str, timeout: Duration) -> Result<Outcome> {
    let load = arguments.load();
    let mut config = ClientConfig::new(resolve(server)?);
    config.timeout = timeout;
    config.connect_timeout = timeout;
    config.ring = RingConfig {
        submissions: 1024,
        completions: 16384,
        receive_buffers: 512,
        receive_buffer_bytes: 64 * 1024,
    };
    if let Some(core) = arguments.core
        && !cores::pin(core)
    {
        bail!("--core {core}: this process may not run there; it may on {:?}", cores::cores());
    }
    let mut client = Client::new(&config)?;
    let targets = setup::prepare(&mut client, arguments, &load)?;
    let floor = arguments.with_floor.then(|| measure_floor(arguments, &load)).transpose()?;
    let before = watch::read(arguments.server_pid, arguments.data.as_deref())?;
    let mut producers = Vec::new();
    if arguments.idempotent {
        if load.codec != Codec::None {
            bail!("--idempotent: batches that are compressed before the run can't be numbered");
        }
        for _ in 0..load.connections {
            producers.push(client.allocate_producer_id()?);
        }
    }
    let mut outcome = Run::new(&config, arguments, load, targets, &producers)?.run(&mut client)?;
    let after = watch::read(arguments.server_pid, arguments.data.as_deref())?;
    outcome.report.cost = after.since(&before);
    outcome.report.judge();
    if let Some((floor, records)) = floor {
        let records_per_s = floor.frames_per_s * f64::from(records);
        outcome.report.compare(floor, records_per_s);
    }
    Ok(outcome)
}

/// The floor in the same shape; where the loop is open, with one request in flight: the least that a request can take.
fn measure_floor(arguments: &BenchArguments, load: &Load) -> Result<(FloorReport, u32)> {
    eprintln!("measuring the floor of this machine");
    let is_open = load.rate.is_some();
    let config = FloorConfig {
        folder: arguments.floor_data.clone(),
        connections: if is_open { 1 } else { load.connections },
        in_flight: if is_open { 1 } else { load.in_flight },
        payload_bytes: floor::batch_bytes(load.records_per_batch, load.record_bytes),
        duration: load.duration,
        server_core: arguments.floor_core,
        client_core: arguments.core.unwrap_or_else(|| cores::cores().last().copied().unwrap_or(0)),
    };
    Ok((floor::run(&config).context("the floor")?, load.records_per_batch))
}

/// One run.
#[derive(Debug)]
struct Run {
    load: Load,
    transport: Transport,
    targets: Targets,
    state: State,
    replay_bytes: u64,
    delete_topic: bool,
    shown_ns: u64,
    started_ns: u64,
    yielded_ns: u64,
}

impl Run {
    fn new(
        config: &ClientConfig,
        arguments: &BenchArguments,
        load: Load,
        targets: Targets,
        producers: &[(ProducerId, ProducerEpoch)],
    ) -> Result<Self> {
        let run = entropy().map_err(|errno| anyhow!("no random number for this run: {errno}"))? as u64;
        let templates = templates(run, arguments, &load)?;
        let mut transport = Transport::new(config)?;
        let route = if arguments.keys > 0 { Route::Any } else { arguments.route };
        let amount = (load.connections, load.in_flight);
        let writers = Writers::open(&mut transport, &targets, amount, route, run, templates, producers)?;
        let readers = match load.mode {
            Mode::Produce => None,
            _ => {
                let checker = Checker::new(run, writers.template().clone());
                Some(Subscriptions::open(&mut transport, &targets, checker, load.connections)?)
            }
        };
        let batch_bytes = writers.template().batch(0).0.len() as u64;
        let now_ns = Clock.mono_ns();
        let state = State {
            writers,
            readers,
            mode: load.mode,
            batch_bytes,
            records_per_batch: u64::from(load.records_per_batch.max(1)),
            window_ns: (u64::MAX, u64::MAX),
            histogram: Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3)?,
            ack_histogram: Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3)?,
            links_up: 0,
            acked: Total::default(),
            done_in_window: 0,
            errors: 0,
            first_error: None,
            fault: None,
            records_shown: 0,
            latency_ns_max: 0,
        };
        Ok(Self {
            load,
            transport,
            targets,
            state,
            replay_bytes: arguments.replay_bytes,
            delete_topic: arguments.delete_topic,
            shown_ns: now_ns,
            started_ns: now_ns,
            yielded_ns: 0,
        })
    }

    fn run(mut self, client: &mut Client) -> Result<Outcome> {
        self.connect()?;
        let cpu_us = thread_cpu_us();
        let (seconds, done, total) = match self.load.mode {
            Mode::Replay => self.replay()?,
            _ => self.produce()?,
        };
        let generator_cpu_s = (thread_cpu_us() - cpu_us) as f64 / 1e6;
        let verified = self.verify(client)?;
        if self.delete_topic {
            setup::remove(client, &self.targets)?;
        }
        let State { histogram, ack_histogram, errors, first_error, readers, .. } = self.state;
        let is_end_to_end = self.load.mode == Mode::EndToEnd;
        let delivered_rate = done.records as f64 / seconds;
        let report = Report {
            mode: self.load.mode.name(),
            connections: self.load.connections,
            in_flight: self.load.in_flight,
            records_per_batch: self.load.records_per_batch,
            record_bytes: self.load.record_bytes,
            partitions: self.targets.partitions.len() as u32,
            codec: codec_name(self.load.codec).to_owned(),
            target_rate: self.load.rate.filter(|_| self.load.mode != Mode::Replay),
            delivered_rate,
            records_per_s: delivered_rate,
            bytes_per_s: done.bytes as f64 / seconds,
            latency_us: Latency::of(if is_end_to_end { &histogram } else { &ack_histogram }),
            ack_latency_us: Latency::of(&ack_histogram).filter(|_| is_end_to_end),
            missed: None,
            total,
            read_records: match self.load.mode {
                Mode::Replay => total.records,
                _ => readers.as_ref().map_or(0, |readers| readers.records),
            },
            errors,
            first_error,
            verified,
            duration_s: seconds,
            generator_cpu_s,
            cost: watch::Cost::default(),
            floor: None,
            ratio: None,
        };
        let histogram = if is_end_to_end { histogram } else { ack_histogram };
        Ok(Outcome { report, histogram })
    }

    /// Waits until all connections stand.
    fn connect(&mut self) -> Result<()> {
        let all = self.state.writers.len() + self.state.readers.as_ref().map_or(0, Subscriptions::len);
        while self.state.links_up < all {
            self.turn(Wait::AtMost(Duration::from_millis(100)))?;
        }
        Ok(())
    }

    /// Warm-up, the measured time, and the wait for what is under way then.
    fn produce(&mut self) -> Result<(f64, Total, Total)> {
        if let Some(readers) = &mut self.state.readers {
            readers.begin(&mut self.transport, &self.targets)?;
            self.turn(Wait::Never)?;
        }
        let start_ns = Clock.mono_ns();
        let from_ns = start_ns + self.load.warm_up.as_nanos() as u64;
        let to_ns = from_ns + self.load.duration.as_nanos() as u64;
        self.state.window_ns = (from_ns, to_ns);
        let requests_per_s = self.load.rate.map(|rate| rate / self.state.records_per_batch as f64);
        let mut pace = Pace::new(start_ns, requests_per_s);
        loop {
            let now_ns = Clock.mono_ns();
            if now_ns >= to_ns {
                break;
            }
            while let Some(intended_ns) = pace.next(now_ns) {
                if !self.state.writers.send(&mut self.transport, &self.targets, intended_ns) {
                    break;
                }
                pace.advance();
            }
            self.turn(Wait::Never)?;
            self.show_progress(now_ns);
        }
        self.drain(&mut pace, to_ns)?;
        Ok((self.load.duration.as_secs_f64(), self.done(), self.state.acked))
    }

    /// Waits for what is under way. What an open loop owes from before the end is still sent, because leaving it out would
    /// hide a stall at the end; but not where the rate is missed anyway.
    fn drain(&mut self, pace: &mut Pace, to_ns: u64) -> Result<()> {
        let give_up_ns = Clock.mono_ns() + DRAIN.as_nanos() as u64;
        let mut owes = self.load.rate.is_some_and(|rate| {
            let done = self.done().records as f64 / self.load.duration.as_secs_f64();
            done >= rate * RATE_KEPT_LEAST
        });
        while owes || self.state.writers.in_flight > 0 || !self.has_read_all() {
            if Clock.mono_ns() > give_up_ns {
                let left = self.state.writers.in_flight;
                self.state.errors += left;
                self.state
                    .first_error
                    .get_or_insert(format!("{left} requests were not answered in {DRAIN:?}"));
                break;
            }
            while owes {
                match pace.next(to_ns.saturating_sub(1)) {
                    None => owes = false,
                    Some(intended_ns) => {
                        if !self.state.writers.send(&mut self.transport, &self.targets, intended_ns) {
                            break;
                        }
                        pace.advance();
                    }
                }
            }
            self.turn(Wait::Never)?;
        }
        Ok(())
    }

    /// What was done in the measured time.
    fn done(&self) -> Total {
        let records = match self.load.mode {
            Mode::EndToEnd => self.state.done_in_window,
            _ => self.state.done_in_window * self.state.records_per_batch,
        };
        Total { records, bytes: records * self.state.batch_bytes / self.state.records_per_batch }
    }

    /// Writes what is to be read, then reads it again and again.
    fn replay(&mut self) -> Result<(f64, Total, Total)> {
        eprintln!("writing {:.0} MB to replay", self.replay_bytes as f64 / 1e6);
        let mut sent = 0;
        while sent < self.replay_bytes || self.state.writers.in_flight > 0 {
            while sent < self.replay_bytes
                && self.state.writers.send(&mut self.transport, &self.targets, Clock.mono_ns())
            {
                sent += self.state.batch_bytes;
            }
            self.turn(Wait::Never)?;
            if self.state.errors > 0 {
                bail!("writing failed: {}", self.state.first_error.as_deref().unwrap_or("refused"));
            }
        }
        let written = self.state.acked.records;
        self.state.ack_histogram.reset();
        let started_ns = Clock.mono_ns();
        let end_ns = started_ns + self.load.duration.as_nanos() as u64;
        let mut passes = 0;
        while Clock.mono_ns() < end_ns {
            let readers = self.state.readers.as_mut().ok_or_else(|| anyhow!("no reader"))?;
            readers.begin(&mut self.transport, &self.targets)?;
            let mut stalled_ns = Clock.mono_ns();
            let mut seen = 0;
            while !self.has_read_all() {
                self.turn(Wait::Never)?;
                let now_ns = Clock.mono_ns();
                self.show_progress(now_ns);
                let read = self.state.readers.as_ref().map_or(0, |readers| readers.records);
                if read != seen {
                    (seen, stalled_ns) = (read, now_ns);
                } else if now_ns - stalled_ns > DRAIN.as_nanos() as u64 {
                    bail!("the node pushes nothing for {DRAIN:?}: {seen} of {written} records were read");
                }
            }
            passes += 1;
        }
        let seconds = (Clock.mono_ns() - started_ns) as f64 / 1e9;
        let bytes = self.state.readers.as_ref().map_or(0, |readers| readers.bytes);
        let read = Total { records: written * passes, bytes };
        Ok((seconds, read, read))
    }

    /// Whether the readers, if any, have got all that was acknowledged, or will get no more.
    fn has_read_all(&self) -> bool {
        let Some(readers) = &self.state.readers else { return true };
        readers.fault.is_some() || readers.records >= self.state.acked.records
    }

    fn turn(&mut self, wait: Wait) -> Result<()> {
        let state = &mut self.state;
        let mut times = EventTimes::new(state.mode);
        self.transport.turn(wait, |link, event| {
            state.on_event(link, event, times.of_next(|| Clock.mono_ns()));
        })?;
        let mut now_ns = times.latest();
        if let Some(fault) = self.state.fault.take() {
            bail!("a connection broke during the run: {fault}");
        }
        if let Some(readers) = &mut self.state.readers {
            readers.give_credit(&mut self.transport);
        }
        // The kernel's workers may need this core to finish what is waited for, busy as it is.
        if now_ns == 0 {
            now_ns = Clock.mono_ns();
        }
        if now_ns - self.yielded_ns >= YIELD_NS {
            self.yielded_ns = now_ns;
            cores::yield_core();
        }
        Ok(())
    }

    fn show_progress(&mut self, now_ns: u64) {
        if now_ns - self.shown_ns < 1_000_000_000 {
            return;
        }
        let seconds = (now_ns - self.shown_ns) as f64 / 1e9;
        let state = &mut self.state;
        let phase = if now_ns < state.window_ns.0 && state.mode != Mode::Replay { " (warm-up)" } else { "" };
        let records = match (&state.readers, state.mode) {
            (Some(readers), Mode::Replay) => {
                readers.bytes / state.batch_bytes.max(1) * state.records_per_batch
            }
            _ => state.acked.records,
        };
        let rate = records.saturating_sub(state.records_shown) as f64 / seconds;
        eprintln!(
            "{:.0} s{phase}: {rate:.0} msg/s, {:.1} MB/s, slowest {:.2} ms, {} errors",
            (now_ns - self.started_ns) as f64 / 1e9,
            rate * state.batch_bytes as f64 / state.records_per_batch as f64 / 1e6,
            state.latency_ns_max as f64 / 1e6,
            state.errors
        );
        state.records_shown = records;
        state.latency_ns_max = 0;
        self.shown_ns = now_ns;
    }

    /// Whether all that was acknowledged is there, and all that was read was right.
    fn verify(&mut self, client: &mut Client) -> Result<bool> {
        let ends = setup::ends(client, &self.targets.partitions)?;
        let starts = self.targets.partitions.iter().map(|target| target.start.0);
        let appended: i64 = ends.iter().zip(starts).map(|(end, start)| end.0 - start).sum();
        let acked = self.state.acked.records;
        // Requests that failed without an answer may have been appended.
        let may_have = acked + self.state.errors * self.state.records_per_batch;
        if !(acked..=may_have).contains(&(appended.max(0) as u64)) {
            let what = format!("{acked} records were acknowledged, but the topic grew by {appended}");
            eprintln!("NOT VERIFIED: {what} (does somebody else write to it?)");
            self.state.first_error.get_or_insert(what);
            return Ok(false);
        }
        let Some(readers) = &self.state.readers else { return Ok(true) };
        if let Some((partition, fault)) = readers.fault {
            eprintln!("NOT VERIFIED: partition {partition}: {fault}");
            self.state.first_error.get_or_insert(fault.to_string());
            return Ok(false);
        }
        let is_complete = readers.positions().zip(&ends).all(|(position, end)| position == *end);
        if !is_complete {
            let what = format!("{} of {acked} acknowledged records were read", readers.records);
            eprintln!("NOT VERIFIED: {what}");
            self.state.first_error.get_or_insert(what);
        }
        Ok(is_complete)
    }
}

/// One template, or one for each key.
fn templates(run: u64, arguments: &BenchArguments, load: &Load) -> Result<Vec<(Template, Option<Vec<u8>>)>> {
    if arguments.keys > KEY_TEMPLATES_MAX {
        bail!("--keys {}: at most {KEY_TEMPLATES_MAX}", arguments.keys);
    }
    if load.mode == Mode::EndToEnd && load.codec != Codec::None {
        bail!(
            "an end-to-end run stamps each record with its send time, so it can't send batches compressed before"
        );
    }
    let now = Clock.wall();
    let make = |key: Option<Vec<u8>>| {
        let (records, bytes) = (load.records_per_batch, load.record_bytes);
        let template = Template::new(run, arguments.seed, records, bytes, key.as_deref(), load.codec, now)?;
        Ok((template, key))
    };
    match arguments.keys {
        0 => Ok(vec![make(None)?]),
        keys => (0..keys).map(|key| make(Some(format!("key-{key}").into_bytes()))).collect(),
    }
}

const fn codec_name(codec: Codec) -> &'static str {
    match codec {
        Codec::None => "none",
        Codec::Gzip => "gzip",
        Codec::Snappy => "snappy",
        Codec::Lz4 => "lz4",
        Codec::Zstd => "zstd",
    }
}
