//! What was measured: for each name one number per repetition, its median and its spread.

use std::collections::BTreeMap;

/// Numbers by name (`durable_rtt.p50_us`), one per repetition.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    by_name: BTreeMap<String, Vec<f64>>,
}

/// One name's numbers, summed up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) count: usize,
}

impl Samples {
    /// Adds one number. What is not a number (a rate of nothing, a latency that was refused) is not added, so that
    /// whatever needs it is found missing.
    pub(crate) fn add(&mut self, name: impl Into<String>, value: f64) {
        if value.is_finite() {
            self.by_name.entry(name.into()).or_default().push(value);
        }
    }

    /// Median and spread of `name`; `None` when it was never measured.
    pub(crate) fn summary(&self, name: &str) -> Option<Summary> {
        let mut values = self.by_name.get(name)?.clone();
        values.sort_by(f64::total_cmp);
        let count = values.len();
        let (min, max) = (*values.first()?, *values.last()?);
        let upper = *values.get(count / 2)?;
        let median = if count.is_multiple_of(2) { (values.get(count / 2 - 1)? + upper) / 2.0 } else { upper };
        Some(Summary { median, min, max, count })
    }

    /// The median of `name`.
    pub(crate) fn median(&self, name: &str) -> Option<f64> {
        self.summary(name).map(|summary| summary.median)
    }

    /// All names, in order.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.by_name.keys().map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_spread() {
        let mut samples = Samples::default();
        for value in [3.0, 1.0, 2.0, f64::NAN] {
            samples.add("a", value);
        }
        assert_eq!(samples.summary("a"), Some(Summary { median: 2.0, min: 1.0, max: 3.0, count: 3 }));
        samples.add("a", 4.0);
        assert_eq!(samples.median("a"), Some(2.5));
        assert_eq!(samples.median("b"), None);
        samples.add("b", f64::INFINITY);
        assert_eq!(samples.median("b"), None);
    }
}
