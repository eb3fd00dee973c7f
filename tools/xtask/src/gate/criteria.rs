//! What must be true of the figures: a table of rows, each with its criteria, and the verdict on each.
//!
//! Values and limits are names of what one run measured (see [`Samples`]); a limit is a factor on something measured
//! in the same run, or a fixed number. A criterion whose value or limit was not measured is *missing*, and missing fails.

use serde::Serialize;

use super::samples::{Samples, Summary};

/// A row of the gate's list.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) criteria: &'static [Criterion],
}

/// One comparison.
pub(crate) struct Criterion {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    /// The name of the measured value.
    pub(crate) value: &'static str,
    pub(crate) must_be: Relation,
    pub(crate) limit: Bound,
    /// A stricter bound, shown beside the verdict but not part of it.
    pub(crate) aim: Option<Bound>,
}

/// Which side of the limit is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    AtMost,
    AtLeast,
}

/// A limit in terms of what was measured.
pub(crate) enum Bound {
    Fixed(f64),
    /// A factor on the sum of measured values.
    Times(f64, &'static [&'static str]),
    /// A measured value and something on top, in its unit.
    Plus(&'static str, f64),
}

/// What came of a criterion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Pass,
    Fail,
    /// The value or its limit was not measured; counts as a failure.
    Missing,
    /// Not judged, only shown beside the others.
    Shown,
}

/// A criterion with its figures.
#[derive(Debug, Serialize)]
pub(crate) struct Judgement {
    pub(crate) name: String,
    pub(crate) value: Option<f64>,
    pub(crate) limit: Option<f64>,
    pub(crate) unit: &'static str,
    pub(crate) verdict: Verdict,
    /// Smallest and largest value of the repetitions.
    pub(crate) spread: Option<[f64; 2]>,
    pub(crate) repetitions: usize,
    pub(crate) aim: Option<f64>,
    pub(crate) aim_reached: Option<bool>,
}

/// Judges the criteria of every row in `rows`.
pub(crate) fn judge(rows: &[&Row], samples: &Samples) -> Vec<Judgement> {
    rows.iter().flat_map(|row| row.criteria).map(|criterion| criterion.judge(samples)).collect()
}

/// Everything that was measured, without a verdict: the limits of the machine, and what a row cost besides its time.
pub(crate) fn shown(samples: &Samples) -> Vec<Judgement> {
    let show = |name: &str| {
        let summary = samples.summary(name)?;
        Some(Judgement {
            name: name.to_owned(),
            value: Some(summary.median),
            limit: None,
            unit: unit_of(name),
            verdict: Verdict::Shown,
            spread: Some([summary.min, summary.max]),
            repetitions: summary.count,
            aim: None,
            aim_reached: None,
        })
    };
    samples.names().into_iter().filter_map(show).collect()
}

/// The unit that a name ends in.
fn unit_of(name: &str) -> &'static str {
    const UNITS: [(&str, &str); 7] = [
        ("_us", "us"),
        ("_ms", "ms"),
        ("_mib", "MiB"),
        ("_percent", "%"),
        ("bytes_per_s", "B/s"),
        ("records_per_s", "msg/s"),
        ("cpu_s_per_million", "s"),
    ];
    UNITS.iter().find(|(end, _)| name.ends_with(end)).map_or("", |(_, unit)| unit)
}

/// Whether nothing failed and nothing was missing. No judgement at all is no pass.
pub(crate) fn passed(judgements: &[Judgement]) -> bool {
    !judgements.is_empty() && judgements.iter().all(|judgement| judgement.verdict == Verdict::Pass)
}

impl Criterion {
    fn judge(&self, samples: &Samples) -> Judgement {
        let summary = samples.summary(self.value);
        let limit = self.limit.resolve(samples);
        let aim = self.aim.as_ref().and_then(|aim| aim.resolve(samples));
        let verdict = match (summary, limit) {
            (Some(Summary { median, .. }), Some(limit)) if self.must_be.holds(median, limit) => Verdict::Pass,
            (Some(_), Some(_)) => Verdict::Fail,
            _ => Verdict::Missing,
        };
        Judgement {
            name: self.name.to_owned(),
            value: summary.map(|summary| summary.median),
            limit,
            unit: self.unit,
            verdict,
            spread: summary.map(|summary| [summary.min, summary.max]),
            repetitions: summary.map_or(0, |summary| summary.count),
            aim,
            aim_reached: summary.zip(aim).map(|(summary, aim)| self.must_be.holds(summary.median, aim)),
        }
    }
}

impl Relation {
    fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::AtMost => value <= limit,
            Self::AtLeast => value >= limit,
        }
    }
}

impl Bound {
    fn resolve(&self, samples: &Samples) -> Option<f64> {
        match self {
            Self::Fixed(limit) => Some(*limit),
            Self::Times(factor, names) => {
                let mut sum = 0.0;
                for name in *names {
                    sum += samples.median(name)?;
                }
                Some(factor * sum)
            }
            Self::Plus(name, more) => samples.median(name).map(|value| value + more),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: Row = Row {
        name: "durable_made_up",
        criteria: &[Criterion {
            name: "durable_made_up.p50",
            unit: "us",
            value: "durable_made_up.p50_us",
            must_be: Relation::AtMost,
            limit: Bound::Times(1.4, &["floor_made_up.p50_us"]),
            aim: Some(Bound::Times(1.15, &["floor_made_up.p50_us"])),
        }],
    };

    fn samples(pairs: &[(&str, f64)]) -> Samples {
        let mut samples = Samples::default();
        for (name, value) in pairs {
            samples.add(*name, *value);
        }
        samples
    }

    fn verdict(pairs: &[(&str, f64)]) -> Verdict {
        judge(&[&ROW], &samples(pairs))[0].verdict
    }

    #[test]
    fn a_value_is_held_against_its_limit() {
        assert_eq!(
            verdict(&[("durable_made_up.p50_us", 139.0), ("floor_made_up.p50_us", 100.0)]),
            Verdict::Pass
        );
        assert_eq!(
            verdict(&[("durable_made_up.p50_us", 141.0), ("floor_made_up.p50_us", 100.0)]),
            Verdict::Fail
        );
    }

    #[test]
    fn what_was_not_measured_fails() {
        assert_eq!(verdict(&[("durable_made_up.p50_us", 1.0)]), Verdict::Missing);
        assert_eq!(verdict(&[("floor_made_up.p50_us", 100.0)]), Verdict::Missing);
        let refused = [("durable_made_up.p50_us", f64::NAN), ("floor_made_up.p50_us", 100.0)];
        assert_eq!(verdict(&refused), Verdict::Missing);
        assert!(!passed(&judge(&[&ROW], &samples(&refused))));
        assert!(!passed(&judge(&[], &samples(&[]))));
    }

    #[test]
    fn one_failure_fails_all_and_the_median_decides() {
        let mut samples = samples(&[("floor_made_up.p50_us", 100.0)]);
        for value in [500.0, 100.0, 120.0] {
            samples.add("durable_made_up.p50_us", value);
        }
        let judgements = judge(&[&ROW], &samples);
        assert_eq!((judgements[0].value, judgements[0].spread), (Some(120.0), Some([100.0, 500.0])));
        assert_eq!(judgements[0].aim_reached, Some(false));
        assert!(passed(&judgements));
    }

    #[test]
    fn bounds_add_up() {
        let samples = samples(&[("a", 70.0), ("b", 50.0)]);
        assert_eq!(Bound::Times(1.5, &["a", "b"]).resolve(&samples), Some(180.0));
        assert_eq!(Bound::Plus("a", 200.0).resolve(&samples), Some(270.0));
        assert_eq!(Bound::Times(1.0, &["a", "c"]).resolve(&samples), None);
        assert!(Relation::AtLeast.holds(1.0, 1.0) && !Relation::AtLeast.holds(0.9, 1.0));
    }

    #[test]
    fn what_is_printed_for_programs_keeps_its_form() {
        let samples = samples(&[("durable_made_up.p50_us", 90.0), ("floor_made_up.p50_us", 100.0)]);
        let mut all = judge(&[&ROW], &samples);
        assert!(passed(&all));
        all.extend(shown(&samples));
        let list = serde_json::to_value(&all).unwrap();
        assert_eq!(list[0]["name"], "durable_made_up.p50");
        assert_eq!((list[0]["value"].as_f64(), list[0]["unit"].as_str()), (Some(90.0), Some("us")));
        assert_eq!((list[0]["limit"].as_f64(), list[0]["verdict"].as_str()), (Some(140.0), Some("pass")));
        assert_eq!(
            (list[2]["name"].as_str(), list[2]["verdict"].as_str()),
            (Some("floor_made_up.p50_us"), Some("shown"))
        );
    }
}
