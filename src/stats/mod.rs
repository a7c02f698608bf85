//! Counters and histograms with one writer each and any number of readers. No domain, no locks, no shared writes:
//! every worker has its own set, the control thread adds them up.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that its one writer changes and anybody reads. Relaxed: readers see a recent value, never a torn one.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`; call from the writing thread alone (a load and a store, no locked instruction).
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Takes one away, for counters used as gauges.
    pub fn decrement(&self) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(1), Ordering::Relaxed);
    }

    /// Sets a gauge.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The present value.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Buckets of a [`Histogram`]: four to each power of two of microseconds, up to about 67 s.
pub const BUCKETS: usize = 26 * 4;

/// Durations in microseconds, in logarithmic buckets (each at most 25 % wide).
#[derive(Debug)]
pub struct Histogram {
    buckets: [Counter; BUCKETS],
    sum: Counter,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: std::array::from_fn(|_| Counter::default()), sum: Counter::default() }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&self, micros: u64) {
        self.buckets[bucket_of(micros)].increment();
        self.sum.add(micros);
    }

    /// Count of each bucket; bucket `i` holds durations below [`upper_bound`]`(i)` microseconds.
    pub fn counts(&self) -> [u64; BUCKETS] {
        std::array::from_fn(|i| self.buckets[i].value())
    }

    /// Sum of all recorded durations in microseconds.
    pub fn sum_micros(&self) -> u64 {
        self.sum.value()
    }
}

/// The bucket a duration belongs to; the last one takes all that is longer.
fn bucket_of(micros: u64) -> usize {
    if micros < 4 {
        return micros as usize;
    }
    let power = 63 - micros.leading_zeros() as usize;
    let quarter = (micros >> (power - 2)) as usize & 3;
    ((power - 1) * 4 + quarter).min(BUCKETS - 1)
}

/// First duration in microseconds that bucket `i` no longer holds.
pub fn upper_bound(i: usize) -> u64 {
    if i < 4 {
        return i as u64 + 1;
    }
    let (power, quarter) = (i / 4 + 1, i as u64 % 4);
    (1 << power) + ((quarter + 1) << (power - 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_lies_below_its_buckets_bound_and_not_below_the_one_before() {
        for micros in (0..5000).chain([1 << 20, (1 << 25) + 12345, 60_000_000]) {
            let i = bucket_of(micros);
            assert!(micros < upper_bound(i), "{micros} in {i}");
            assert!(i == 0 || micros >= upper_bound(i - 1), "{micros} in {i}");
        }
    }

    #[test]
    fn a_duration_past_the_last_bucket_is_still_counted() {
        let histogram = Histogram::default();
        histogram.record(u64::MAX / 2);
        assert_eq!(histogram.counts()[BUCKETS - 1], 1);
    }
}
