//! The gate's list: every figure that is promised, with the limit it must keep. A row that isn't measured fails.

use super::criteria::{Bound, Criterion, Relation, Row};

const fn at_most(name: &'static str, unit: &'static str, value: &'static str, limit: Bound) -> Criterion {
    Criterion { name, unit, value, must_be: Relation::AtMost, limit, aim: None }
}

const fn at_least(name: &'static str, unit: &'static str, value: &'static str, limit: Bound) -> Criterion {
    Criterion { name, unit, value, must_be: Relation::AtLeast, limit, aim: None }
}

impl Criterion {
    const fn aiming(mut self, aim: Bound) -> Self {
        self.aim = Some(aim);
        self
    }
}

/// Every row, in the order in which they are measured.
pub(crate) const ROWS: [Row; 13] = [
    // The yardstick itself: a floor that is slower than disk plus wire would make every ratio to it worthless.
    Row {
        name: "floor",
        criteria: &[at_most(
            "floor.p50",
            "us",
            "floor_rtt.p50_us",
            Bound::Times(1.15, &["limit.fio_dsync_4k_p50_us", "limit.loopback_p50_us"]),
        )],
    },
    Row {
        name: "durable_rtt",
        criteria: &[
            at_most("durable_rtt.p50", "us", "durable_rtt.p50_us", Bound::Times(1.4, &["floor_rtt.p50_us"]))
                .aiming(Bound::Times(1.15, &["floor_rtt.p50_us"])),
            at_most(
                "durable_rtt.p99.9",
                "us",
                "durable_rtt.p999_us",
                Bound::Times(2.0, &["floor_rtt.p999_us"]),
            ),
            at_least(
                "durable_rtt.flushes",
                "",
                "durable_rtt.flushes",
                Bound::Times(1.0, &["durable_rtt.groups"]),
            ),
        ],
    },
    Row {
        name: "durable_open",
        criteria: &[
            at_most("durable_open.p99", "us", "durable_open.p99_us", Bound::Fixed(1_000.0)),
            at_most("durable_open.p99.9", "us", "durable_open.p999_us", Bound::Fixed(2_000.0))
                .aiming(Bound::Fixed(1_000.0)),
            at_least(
                "durable_open.flushes",
                "",
                "durable_open.flushes",
                Bound::Times(1.0, &["durable_open.groups"]),
            ),
        ],
    },
    Row {
        name: "durable_small",
        criteria: &[
            at_least(
                "durable_small.rate",
                "msg/s",
                "durable_small.records_per_s",
                Bound::Times(0.4, &["floor_small.records_per_s"]),
            )
            .aiming(Bound::Times(0.75, &["floor_small.records_per_s"])),
            at_most(
                "durable_small.p99",
                "us",
                "durable_small.p99_us",
                Bound::Times(3.0, &["floor_small.p99_us"]),
            ),
            at_least(
                "durable_small.flushes",
                "",
                "durable_small.flushes",
                Bound::Times(1.0, &["durable_small.groups"]),
            ),
        ],
    },
    Row {
        name: "durable_batch_100",
        criteria: &[
            at_least(
                "durable_batch_100.bytes",
                "B/s",
                "durable_batch_100.bytes_per_s",
                Bound::Times(0.6, &["floor_batch_100.bytes_per_s"]),
            )
            .aiming(Bound::Times(0.9, &["floor_batch_100.bytes_per_s"])),
            at_least(
                "durable_batch_100.flushes",
                "",
                "durable_batch_100.flushes",
                Bound::Times(1.0, &["durable_batch_100.groups"]),
            ),
        ],
    },
    Row {
        name: "durable_batch_1k",
        criteria: &[
            at_least(
                "durable_batch_1k.fresh.bytes",
                "B/s",
                "durable_batch_1k_fresh.bytes_per_s",
                Bound::Times(0.8, &["floor_batch_1k.bytes_per_s"]),
            )
            .aiming(Bound::Times(1.1, &["floor_batch_1k.bytes_per_s"])),
            at_least(
                "durable_batch_1k.recycled.bytes",
                "B/s",
                "durable_batch_1k_recycled.bytes_per_s",
                Bound::Times(0.8, &["floor_batch_1k.bytes_per_s"]),
            )
            .aiming(Bound::Times(1.1, &["floor_batch_1k.bytes_per_s"])),
            at_least(
                "durable_batch_1k.fresh.flushes",
                "",
                "durable_batch_1k_fresh.flushes",
                Bound::Times(1.0, &["durable_batch_1k_fresh.groups"]),
            ),
            at_least(
                "durable_batch_1k.recycled.flushes",
                "",
                "durable_batch_1k_recycled.flushes",
                Bound::Times(1.0, &["durable_batch_1k_recycled.groups"]),
            ),
        ],
    },
    Row {
        name: "durable_zstd",
        criteria: &[
            at_least(
                "durable_zstd.bytes",
                "B/s",
                "durable_zstd.bytes_per_s",
                Bound::Times(0.8, &["floor_zstd.bytes_per_s"]),
            ),
            at_least(
                "durable_zstd.flushes",
                "",
                "durable_zstd.flushes",
                Bound::Times(1.0, &["durable_zstd.groups"]),
            ),
        ],
    },
    Row {
        name: "end_to_end",
        criteria: &[
            at_most("end_to_end.p99", "us", "end_to_end.p99_us", Bound::Plus("durable_open.p99_us", 200.0)),
            at_least(
                "end_to_end.flushes",
                "",
                "end_to_end.flushes",
                Bound::Times(1.0, &["end_to_end.groups"]),
            ),
        ],
    },
    Row {
        name: "replay_hot",
        criteria: &[at_least(
            "replay_hot.bytes",
            "B/s",
            "replay_hot.bytes_per_s",
            Bound::Times(0.8, &["limit.loopback_one_way_bytes_per_s"]),
        )],
    },
    Row {
        name: "two_shards",
        criteria: &[at_least(
            "two_shards.forwarded",
            "msg/s",
            "two_shards_forwarded.records_per_s",
            Bound::Times(0.6, &["two_shards_own.records_per_s"]),
        )],
    },
    Row {
        name: "partitions",
        criteria: &[
            at_most(
                "partitions.1000.open.p99",
                "us",
                "partitions_1000_open.p99_us",
                Bound::Times(1.5, &["durable_open.p99_us"]),
            ),
            at_least(
                "partitions.1000.small.rate",
                "msg/s",
                "partitions_1000_small.records_per_s",
                Bound::Times(0.8, &["durable_small.records_per_s"]),
            ),
            at_most(
                "partitions.10000.open.p99",
                "us",
                "partitions_10000_open.p99_us",
                Bound::Times(2.0, &["durable_open.p99_us"]),
            ),
            at_least(
                "partitions.10000.small.rate",
                "msg/s",
                "partitions_10000_small.records_per_s",
                Bound::Times(0.8, &["durable_small.records_per_s"]),
            ),
        ],
    },
    Row {
        name: "idle",
        criteria: &[
            at_most("idle.cpu", "% of a core", "idle.cpu_percent", Bound::Fixed(1.0)),
            at_most("idle.memory", "MiB", "idle.rss_mib", Bound::Fixed(96.0)),
            at_most("idle.first_ack", "ms", "idle.first_ack_ms", Bound::Fixed(200.0)),
        ],
    },
    Row {
        name: "restart",
        criteria: &[at_most("restart.serving", "ms", "restart.first_ack_ms", Bound::Fixed(2_000.0))],
    },
];

/// The row of that name.
pub(crate) fn row(name: &str) -> Option<&'static Row> {
    static ALL: [Row; 13] = ROWS;
    ALL.iter().find(|row| row.name == name)
}

#[cfg(test)]
mod tests {
    use super::super::criteria::{Verdict, judge, passed};
    use super::super::samples::Samples;
    use super::*;

    #[test]
    fn a_run_that_measured_nothing_fails_in_every_row() {
        for row in &ROWS {
            assert!(!row.criteria.is_empty(), "{} has no criterion", row.name);
            let judgements = judge(&[row], &Samples::default());
            assert!(!passed(&judgements), "{}", row.name);
            assert!(judgements.iter().all(|judgement| judgement.verdict == Verdict::Missing), "{}", row.name);
        }
    }

    #[test]
    fn criteria_carry_the_name_of_their_row_and_no_name_twice() {
        let mut names: Vec<&str> = Vec::new();
        for row in &ROWS {
            for criterion in row.criteria {
                assert!(criterion.name.starts_with(&format!("{}.", row.name)), "{}", criterion.name);
                names.push(criterion.name);
            }
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn a_slow_floor_fails_the_gate_by_itself() {
        let mut samples = Samples::default();
        samples.add("limit.fio_dsync_4k_p50_us", 70.0);
        samples.add("limit.loopback_p50_us", 50.0);
        samples.add("floor_rtt.p50_us", 139.0);
        let floor = row("floor").unwrap();
        assert!(!passed(&judge(&[floor], &samples)));
        let mut samples = Samples::default();
        samples.add("limit.fio_dsync_4k_p50_us", 70.0);
        samples.add("limit.loopback_p50_us", 50.0);
        samples.add("floor_rtt.p50_us", 137.0);
        assert!(passed(&judge(&[floor], &samples)));
    }
}
