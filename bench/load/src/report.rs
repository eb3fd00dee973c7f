//! What a run says at its end.
//!
//! `cutwater bench --json` prints one object:
//! ```text
//! mode                  produce, end-to-end, replay or mixed
//! connections, in_flight, records_per_batch, record_bytes, partitions, codec
//! target_rate           messages per second asked for; null in a closed loop
//! delivered_rate        messages per second that were done in the measured time, warm-up's backlog included
//! records_per_s         the same
//! bytes_per_s           of whole batches, as they go over the wire
//! latency_us            p50 p90 p99 p99_9 p99_99 max; null where the rate was missed, or in a replay
//! ack_latency_us        of an end-to-end run: to the acknowledgement
//! missed                null, or in words how much of the rate was delivered
//! total                 records and bytes acknowledged (of a replay: read), warm-up included
//! read_records          records read and checked
//! errors, first_error   requests that failed, and why the first did
//! verified              everything acknowledged is there, everything read was what was sent, in order
//! duration_s, generator_cpu_s
//! cost                  server_cpu_s server_write_bytes device_flushes device_write_bytes; null where not asked for
//! floor                 null, or records_per_s bytes_per_s latency_us of the floor in the same run
//! ratio                 null, or records_per_s and p50 over the floor's
//! ```

use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::floor::FloorReport;
use crate::watch::Cost;

/// A rate below this part of what was asked for is missed.
pub(crate) const RATE_KEPT_LEAST: f64 = 0.99;

/// A latency distribution, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
#[expect(missing_docs, reason = "the names are the quantiles")]
pub struct Latency {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub p99_99: f64,
    pub max: f64,
}

impl Latency {
    /// Of a histogram in nanoseconds; `None` where it is empty.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let us = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e3;
        (!histogram.is_empty()).then(|| Self {
            p50: us(0.5),
            p90: us(0.9),
            p99: us(0.99),
            p99_9: us(0.999),
            p99_99: us(0.9999),
            max: histogram.max() as f64 / 1e3,
        })
    }
}

/// Sums over a run.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Total {
    /// Records.
    pub records: u64,
    /// Bytes of whole batches.
    pub bytes: u64,
}

/// A run's figures over those of the floor.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ratio {
    /// Of the rates; `None` in an open loop, whose rate is given.
    pub records_per_s: Option<f64>,
    /// Of the median latencies.
    pub p50: Option<f64>,
}

/// What a run says. See the module for the meaning of each field.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "drawn at the head of the module")]
pub struct Report {
    pub mode: &'static str,
    pub connections: u32,
    pub in_flight: u32,
    pub records_per_batch: u32,
    pub record_bytes: u32,
    pub partitions: u32,
    pub codec: String,
    pub target_rate: Option<f64>,
    pub delivered_rate: f64,
    pub records_per_s: f64,
    pub bytes_per_s: f64,
    pub latency_us: Option<Latency>,
    pub ack_latency_us: Option<Latency>,
    pub missed: Option<String>,
    pub total: Total,
    pub read_records: u64,
    pub errors: u64,
    pub first_error: Option<String>,
    pub verified: bool,
    pub duration_s: f64,
    pub generator_cpu_s: f64,
    pub cost: Cost,
    pub floor: Option<FloorReport>,
    pub ratio: Option<Ratio>,
}

impl Report {
    /// Withdraws latencies where the rate was missed: they would tell of another load than the one asked for.
    pub(crate) fn judge(&mut self) {
        let Some(target) = self.target_rate else { return };
        if self.delivered_rate < target * RATE_KEPT_LEAST {
            let percent = self.delivered_rate / target * 100.0;
            self.missed = Some(format!("missed: {percent:.1}% of {target:.0} msg/s delivered"));
            self.latency_us = None;
            self.ack_latency_us = None;
        }
    }

    /// Sets the figures beside those of the floor.
    pub(crate) fn compare(&mut self, floor: FloorReport, floor_records_per_s: f64) {
        let rate = self.target_rate.is_none().then(|| self.records_per_s / floor_records_per_s);
        let p50 = self.latency_us.map(|latency| latency.p50 / floor.latency_us.p50);
        self.ratio = Some(Ratio { records_per_s: rate, p50 });
        self.floor = Some(floor);
    }

    /// Whether nothing failed.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.verified && self.errors == 0
    }

    /// The table for people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = self.write_text(&mut text);
        text
    }

    fn write_text(&self, text: &mut String) -> std::fmt::Result {
        writeln!(
            text,
            "{}: {} connections x {} in flight, {} x {} B per request, {} partitions, codec {}",
            self.mode,
            self.connections,
            self.in_flight,
            self.records_per_batch,
            self.record_bytes,
            self.partitions,
            self.codec
        )?;
        match self.target_rate {
            Some(target) => writeln!(
                text,
                "open loop: {target:.0} msg/s asked for, {:.0} delivered, {:.1} MB/s",
                self.delivered_rate,
                self.bytes_per_s / 1e6
            )?,
            None => writeln!(
                text,
                "closed loop: {:.0} msg/s, {:.1} MB/s",
                self.records_per_s,
                self.bytes_per_s / 1e6
            )?,
        }
        if let Some(missed) = &self.missed {
            writeln!(text, "{missed}; no latency is told for a rate that was missed")?;
        }
        if self.latency_us.is_some() || self.floor.is_some() {
            writeln!(
                text,
                "\n{:24} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
                "latency, us", "p50", "p90", "p99", "p99.9", "p99.99", "max"
            )?;
        }
        let rows = match self.mode {
            "end-to-end" => [("send to read", self.latency_us), ("send to ack", self.ack_latency_us)],
            _ => [("send to ack", self.latency_us), ("", None)],
        };
        for (name, latency) in rows {
            if let Some(it) = latency {
                writeln!(
                    text,
                    "{name:24} {:>10.1} {:>10.1} {:>10.1} {:>10.1} {:>10.1} {:>10.1}",
                    it.p50, it.p90, it.p99, it.p99_9, it.p99_99, it.max
                )?;
            }
        }
        if let Some(floor) = &self.floor {
            let it = floor.latency_us;
            writeln!(
                text,
                "{:24} {:>10.1} {:>10.1} {:>10.1} {:>10.1} {:>10} {:>10.1}",
                "the floor", it.p50, it.p90, it.p99, it.p99_9, "", it.max
            )?;
            writeln!(
                text,
                "the floor: {:.0} requests/s, {:.1} MB/s",
                floor.frames_per_s,
                floor.bytes_per_s / 1e6
            )?;
        }
        if let Some(ratio) = self.ratio {
            let times = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2} x"));
            writeln!(
                text,
                "against the floor: rate {}, median latency {}",
                times(ratio.records_per_s),
                times(ratio.p50)
            )?;
        }
        self.write_cost(text)?;
        let read = match self.read_records {
            0 => String::new(),
            records => format!(", {records} read"),
        };
        writeln!(
            text,
            "\n{} records{read}, {} errors{}, {}",
            self.total.records,
            self.errors,
            self.first_error.as_ref().map_or(String::new(), |error| format!(" (first: {error})")),
            if self.verified { "content, count and order verified" } else { "NOT VERIFIED" }
        )
    }

    fn write_cost(&self, text: &mut String) -> std::fmt::Result {
        let millions = self.total.records as f64 / 1e6;
        if let Some(cpu) = self.cost.server_cpu_s {
            writeln!(
                text,
                "the node used {cpu:.2} s of processor time, {:.2} s per million records",
                cpu / millions
            )?;
        }
        if let (Some(flushes), Some(bytes)) = (self.cost.device_flushes, self.cost.device_write_bytes) {
            writeln!(
                text,
                "the device did {flushes} flushes and wrote {:.1} MB, {:.2} bytes per byte acknowledged",
                bytes as f64 / 1e6,
                bytes as f64 / self.total.bytes as f64
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample(target_rate: Option<f64>, delivered_rate: f64) -> Report {
        let mut histogram = Histogram::new(3).unwrap();
        (1..=10_000_u64).for_each(|at| histogram.record(at * 1000).unwrap());
        Report {
            mode: "produce",
            connections: 1,
            in_flight: 1,
            records_per_batch: 1,
            record_bytes: 100,
            partitions: 1,
            codec: "none".to_owned(),
            target_rate,
            delivered_rate,
            records_per_s: delivered_rate,
            bytes_per_s: delivered_rate * 170.0,
            latency_us: Latency::of(&histogram),
            ack_latency_us: None,
            missed: None,
            total: Total { records: 10_000, bytes: 1_700_000 },
            read_records: 0,
            errors: 0,
            first_error: None,
            verified: true,
            duration_s: 1.0,
            generator_cpu_s: 1.0,
            cost: Cost::default(),
            floor: None,
            ratio: None,
        }
    }

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let latency = sample(None, 1.0).latency_us.unwrap();
        for (told, true_value) in [
            (latency.p50, 5_000.0),
            (latency.p90, 9_000.0),
            (latency.p99, 9_900.0),
            (latency.p99_9, 9_990.0),
            (latency.p99_99, 9_999.0),
            (latency.max, 10_000.0),
        ] {
            assert!((told / true_value - 1.0).abs() < 0.002, "{told} for {true_value}");
        }
        assert!(Latency::of(&Histogram::new(3).unwrap()).is_none());
    }

    #[test]
    fn a_missed_rate_has_no_latency_and_says_so() {
        let mut kept = sample(Some(1000.0), 995.0);
        kept.judge();
        assert!(kept.latency_us.is_some() && kept.missed.is_none());
        let mut missed = sample(Some(1000.0), 700.0);
        missed.judge();
        assert!(missed.latency_us.is_none());
        assert_eq!(missed.missed.as_deref(), Some("missed: 70.0% of 1000 msg/s delivered"));
        assert!(missed.to_text().contains("missed: 70.0%") && !missed.to_text().contains("p99.9"));
        let json = serde_json::to_value(&missed).unwrap();
        assert!(json["latency_us"].is_null());
    }

    #[test]
    fn the_json_has_the_fields_that_the_gate_reads() {
        let json = serde_json::to_value(sample(None, 1000.0)).unwrap();
        for pointer in [
            "/records_per_s",
            "/bytes_per_s",
            "/latency_us/p99_9",
            "/latency_us/max",
            "/total/bytes",
            "/verified",
        ] {
            assert!(json.pointer(pointer).is_some(), "{pointer}");
        }
    }
}
