//! How long the stages of an append take, as counts per bucket that a scraper can read.

/// Buckets of one histogram: four for each doubling, from 1 us to over 30 s.
pub const STAGE_BUCKETS: usize = 4 * 26;

/// A histogram of microseconds with buckets a quarter of a doubling wide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageHistogram {
    /// How many values fell into each bucket.
    pub counts: [u64; STAGE_BUCKETS],
    /// The sum of all values, microseconds.
    pub sum_us: u64,
}

impl Default for StageHistogram {
    fn default() -> Self {
        Self { counts: [0; STAGE_BUCKETS], sum_us: 0 }
    }
}

impl StageHistogram {
    /// Counts a value so many times.
    pub fn record(&mut self, value_us: u64, times: u64) {
        self.counts[bucket_of(value_us)] += times;
        self.sum_us = self.sum_us.saturating_add(value_us.saturating_mul(times));
    }

    /// The largest value that falls into a bucket, microseconds.
    #[must_use]
    pub const fn bucket_end_us(bucket: usize) -> u64 {
        if bucket < 8 {
            return bucket as u64;
        }
        let (octave, quarter) = ((bucket + 4) / 4, (bucket as u64 + 4) % 4);
        ((quarter + 5) << (octave - 2)) - 1
    }
}

/// Values below 8 have a bucket each; then each doubling has four.
const fn bucket_of(value_us: u64) -> usize {
    let bucket = if value_us < 8 {
        value_us as usize
    } else {
        let octave = value_us.ilog2() as usize;
        4 * octave - 4 + ((value_us >> (octave - 2)) as usize & 3)
    };
    if bucket < STAGE_BUCKETS { bucket } else { STAGE_BUCKETS - 1 }
}

/// The stages of an append on this shard, each batch counted once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// From the opening of its group to the group's submission: how long it gathered.
    pub gather: StageHistogram,
    /// From submission to durability: what the disk took.
    pub flush: StageHistogram,
    /// What a bulk run's write took.
    pub bulk: StageHistogram,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_at_or_below_its_buckets_end_and_above_the_one_before() {
        let mut value = 0;
        while value < 40_000_000 {
            let bucket = bucket_of(value);
            if bucket + 1 < STAGE_BUCKETS {
                assert!(value <= StageHistogram::bucket_end_us(bucket), "{value} in {bucket}");
                assert!(
                    bucket == 0 || value > StageHistogram::bucket_end_us(bucket - 1),
                    "{value} in {bucket}"
                );
            }
            value += 1 + value / 64;
        }
    }
}
