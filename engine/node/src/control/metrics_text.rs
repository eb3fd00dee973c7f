//! Metrics in the text format that Prometheus scrapes (exposition format 0.0.4).

use core::fmt::Write;

use cutwater_broker::StageHistogram;

use super::NodeView;
use crate::meters::{CORE, Histogram, Line, RING, ShardMeters};

/// Of the buckets, which are four to a doubling, one in so many is shown.
const BUCKETS_PER_LINE: usize = 2;

/// All metrics of a node.
pub(super) fn render(view: &NodeView) -> String {
    let mut text = String::with_capacity(32 * 1024);
    node_lines(&mut text, view);
    let shards = view.shards();
    for (index, line) in CORE.iter().enumerate() {
        family(&mut text, line, shards, |meters| meters.core_values().nth(index).unwrap_or(0));
    }
    for (index, line) in RING.iter().enumerate() {
        family(&mut text, line, shards, |meters| meters.ring_values().nth(index).unwrap_or(0));
    }
    if let Some(first) = shards.first() {
        for (line, _) in first.own() {
            family(&mut text, &line, shards, |meters| (line.read)(meters));
        }
    }
    reasons(&mut text, shards);
    histogram(
        &mut text,
        "receive_seconds",
        "From the arrival of a request's bytes to the core.",
        shards,
        |m| &m.receive,
    );
    histogram(&mut text, "gather_seconds", "From an append to the submission of its group.", shards, |m| {
        &m.gather
    });
    histogram(&mut text, "flush_seconds", "From the submission of a group to its durability.", shards, |m| {
        &m.flush
    });
    histogram(&mut text, "bulk_seconds", "What the durable write of a bulk run took.", shards, |m| &m.bulk);
    histogram(&mut text, "send_seconds", "From an answer to the end of its send.", shards, |m| &m.send);
    text
}

fn node_lines(text: &mut String, view: &NodeView) {
    put(
        text,
        format_args!("# HELP cutwater_build_info The release that runs.\n# TYPE cutwater_build_info gauge\n"),
    );
    put(text, format_args!("cutwater_build_info{{version=\"{}\"}} 1\n", env!("CARGO_PKG_VERSION")));
    put(text, format_args!("# HELP cutwater_uptime_seconds Since the node began to start.\n"));
    put(text, format_args!("# TYPE cutwater_uptime_seconds gauge\n"));
    put(text, format_args!("cutwater_uptime_seconds {:.3}\n", view.uptime().as_secs_f64()));
    put(
        text,
        format_args!("# HELP cutwater_serving 1 while requests are taken.\n# TYPE cutwater_serving gauge\n"),
    );
    put(text, format_args!("cutwater_serving {}\n", u8::from(view.is_serving())));
    if let Some(bytes) = resident_bytes() {
        put(text, format_args!("# HELP process_resident_memory_bytes Memory of the process.\n"));
        put(text, format_args!("# TYPE process_resident_memory_bytes gauge\n"));
        put(text, format_args!("process_resident_memory_bytes {bytes}\n"));
    }
}

fn family<T>(
    text: &mut String,
    line: &Line<T>,
    shards: &[std::sync::Arc<ShardMeters>],
    read: impl Fn(&ShardMeters) -> u64,
) {
    let kind = if line.is_level { "gauge" } else { "counter" };
    let name = line.name;
    put(text, format_args!("# HELP cutwater_{name} {}\n# TYPE cutwater_{name} {kind}\n", line.help));
    for (shard, meters) in shards.iter().enumerate() {
        put(text, format_args!("cutwater_{name}{{shard=\"{shard}\"}} {}\n", read(meters)));
    }
}

fn reasons(text: &mut String, shards: &[std::sync::Arc<ShardMeters>]) {
    put(text, format_args!("# HELP cutwater_connections_closed_total Connections closed, by reason.\n"));
    put(text, format_args!("# TYPE cutwater_connections_closed_total counter\n"));
    for (shard, meters) in shards.iter().enumerate() {
        for (reason, count) in meters.closes() {
            put(
                text,
                format_args!(
                    "cutwater_connections_closed_total{{shard=\"{shard}\",reason=\"{reason}\"}} {count}\n"
                ),
            );
        }
    }
    put(
        text,
        format_args!("# HELP cutwater_requests_refused_total Requests and batches refused, by kind.\n"),
    );
    put(text, format_args!("# TYPE cutwater_requests_refused_total counter\n"));
    for (shard, meters) in shards.iter().enumerate() {
        for (kind, count) in meters.refusals().filter(|(_, count)| *count > 0) {
            put(
                text,
                format_args!(
                    "cutwater_requests_refused_total{{shard=\"{shard}\",kind=\"{kind:?}\"}} {count}\n"
                ),
            );
        }
    }
}

fn histogram(
    text: &mut String,
    name: &str,
    help: &str,
    shards: &[std::sync::Arc<ShardMeters>],
    of: impl Fn(&ShardMeters) -> &Histogram,
) {
    put(text, format_args!("# HELP cutwater_{name} {help}\n# TYPE cutwater_{name} histogram\n"));
    for (shard, meters) in shards.iter().enumerate() {
        let histogram = of(meters);
        let mut sum = 0;
        for (bucket, count) in histogram.counts().enumerate() {
            sum += count;
            if bucket % BUCKETS_PER_LINE == BUCKETS_PER_LINE - 1 {
                let end = StageHistogram::bucket_end_us(bucket) as f64 / 1e6;
                put(text, format_args!("cutwater_{name}_bucket{{shard=\"{shard}\",le=\"{end}\"}} {sum}\n"));
            }
        }
        put(text, format_args!("cutwater_{name}_bucket{{shard=\"{shard}\",le=\"+Inf\"}} {sum}\n"));
        let seconds = histogram.sum_us() as f64 / 1e6;
        put(text, format_args!("cutwater_{name}_sum{{shard=\"{shard}\"}} {seconds}\n"));
        put(text, format_args!("cutwater_{name}_count{{shard=\"{shard}\"}} {sum}\n"));
    }
}

/// Writing to a string does not fail.
fn put(text: &mut String, arguments: core::fmt::Arguments<'_>) {
    let _ = text.write_fmt(arguments);
}

/// Resident memory of this process (proc_pid_statm(5)).
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    text.split(' ').nth(1)?.parse::<u64>().ok().map(|pages| pages * 4096)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn every_line_is_a_comment_or_a_name_and_a_number() {
        let meters = ShardMeters::default();
        meters.add_requests(3, 100);
        let text = render(&NodeView::new(vec![Arc::new(meters), Arc::new(ShardMeters::default())]));
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with("cutwater_") || name.starts_with("process_"), "{line}");
            value.parse::<f64>().unwrap();
        }
        assert!(text.contains("cutwater_receive_seconds_count{shard=\"0\"} 3\n"), "{text}");
        let infinite = "cutwater_receive_seconds_bucket{shard=\"0\",le=\"+Inf\"} 3\n";
        assert!(text.contains(infinite));
    }
}
