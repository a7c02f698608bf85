//! Latencies of one thread or one run, to the percentile that nine users in a hundred thousand see.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::load::limits;

/// The percentiles every report prints.
pub const PERCENTILES: [f64; 6] = [50.0, 75.0, 90.0, 99.0, 99.9, 99.99];

/// Recorded latencies, in microseconds with three digits that mean something.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        let bounds = Histogram::new_with_bounds(1, limits::LATENCY_MICROS_MAX, limits::LATENCY_DIGITS);
        Latencies(bounds.expect("constants that fit: the low bound is 1 and the high one more than twice that"))
    }
}

impl Latencies {
    /// Records one; what is longer than the longest counts as the longest.
    pub fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    pub fn merge(&mut self, other: &Latencies) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// The latency that `percentile` of a hundred do not exceed, in microseconds.
    pub fn percentile(&self, percentile: f64) -> u64 {
        self.0.value_at_percentile(percentile).min(self.0.max())
    }

    /// The latencies at rising percentiles, for a plot.
    pub fn curve(&self) -> Vec<Point> {
        if self.is_empty() {
            return Vec::new();
        }
        // A percentile that fewer than one in all would exceed is the maximum under another name.
        let known = |percentile: &f64| (100.0 - percentile) / 100.0 * self.len() as f64 >= 1.0;
        CURVE
            .into_iter()
            .filter(known)
            .map(|percentile| Point { percentile, us: self.percentile(percentile) })
            .collect()
    }

    pub fn summary(&self) -> Option<Summary> {
        if self.is_empty() {
            return None;
        }
        let [p50, p75, p90, p99, p99_9, p99_99] = PERCENTILES.map(|p| self.percentile(p));
        Some(Summary { min: self.0.min(), mean: self.0.mean(), p50, p75, p90, p99, p99_9, p99_99, max: self.0.max() })
    }
}

/// The percentiles of a curve.
const CURVE: [f64; 16] =
    [0.0, 10.0, 25.0, 50.0, 60.0, 75.0, 85.0, 90.0, 95.0, 97.5, 99.0, 99.5, 99.75, 99.9, 99.95, 99.99];

/// One point of a latency curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    pub percentile: f64,
    pub us: u64,
}

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Summary {
    pub min: u64,
    pub mean: f64,
    pub p50: u64,
    pub p75: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
    pub p99_99: u64,
    pub max: u64,
}

impl Summary {
    /// What a table of it has: names, and microseconds.
    pub fn rows(&self) -> [(&'static str, f64); 9] {
        [
            ("min", self.min as f64),
            ("mean", self.mean),
            ("p50", self.p50 as f64),
            ("p75", self.p75 as f64),
            ("p90", self.p90 as f64),
            ("p99", self.p99 as f64),
            ("p99.9", self.p99_9 as f64),
            ("p99.99", self.p99_99 as f64),
            ("max", self.max as f64),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(values: impl IntoIterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::default();
        values.into_iter().for_each(|v| latencies.record(Duration::from_micros(v)));
        latencies
    }

    #[test]
    fn percentiles_are_those_of_the_values_recorded_within_a_thousandth() {
        let latencies = recorded(1..=100_000);
        for (percentile, exact) in [(50.0, 50_000.0), (90.0, 90_000.0), (99.0, 99_000.0), (99.99, 99_990.0)] {
            let value = latencies.percentile(percentile) as f64;
            assert!((value / exact - 1.0).abs() < 0.001, "p{percentile}: {value}");
        }
        let summary = latencies.summary().unwrap();
        assert_eq!((summary.min, latencies.len()), (1, 100_000));
        assert!(summary.p99_99 <= summary.max);
    }

    #[test]
    fn one_slow_answer_in_ten_thousand_is_seen_and_not_averaged_away() {
        let latencies = recorded((0..9_998).map(|_| 100).chain([5_000_000, 5_000_000]));
        assert_eq!(latencies.percentile(99.9), 100);
        assert!(latencies.percentile(99.99) > 4_900_000);
    }

    #[test]
    fn merging_threads_is_recording_in_one() {
        let mut merged = recorded(1..=500);
        merged.merge(&recorded(501..=1000));
        let whole = recorded(1..=1000);
        assert_eq!(merged.len(), whole.len());
        assert_eq!(merged.percentile(99.0), whole.percentile(99.0));
    }

    #[test]
    fn nothing_recorded_has_no_percentiles_and_a_day_counts_as_the_longest() {
        assert!(Latencies::default().summary().is_none());
        let latencies = recorded([86_400_000_000]);
        assert_eq!(latencies.len(), 1);
    }
}
