//! `countersign_handshake_seconds`: the workers' own buckets, summed into those that Prometheus gets. Written here,
//! because a recorder's histogram takes samples one by one and would hold every handshake since the last scrape.

use crate::stats::{self, BUCKETS};
use crate::worker::counters::Counters;
use std::fmt::Write;
use std::sync::Arc;

/// Bounds in microseconds, powers of two so that each is a bound of our own buckets too and nothing is estimated:
/// 128 µs to 34 s.
const BOUNDS: std::ops::RangeInclusive<u32> = 7..=25;

/// Appends the histogram, by kind of handshake.
pub fn handshake_seconds(counters: &[Arc<Counters>], text: &mut String) {
    text.push_str("# HELP countersign_handshake_seconds Time from accept to an established connection.\n");
    text.push_str("# TYPE countersign_handshake_seconds histogram\n");
    for (index, kind) in ["full", "resumed"].iter().enumerate() {
        let mut counts = [0; BUCKETS];
        let mut micros = 0;
        for histogram in counters.iter().flat_map(|c| &c.listeners).map(|listener| &listener.handshake_time[index]) {
            for (count, more) in counts.iter_mut().zip(histogram.counts()) {
                *count += more;
            }
            micros += histogram.sum_micros();
        }
        // Writing to a string cannot fail.
        let _ = write_series(kind, &counts, micros, text);
    }
}

fn write_series(kind: &str, counts: &[u64; BUCKETS], micros: u64, text: &mut String) -> std::fmt::Result {
    for bound in BOUNDS.map(|power| 1u64 << power) {
        let within = |(i, _): &(usize, &u64)| stats::upper_bound(*i) <= bound;
        let below: u64 = counts.iter().enumerate().take_while(within).map(|(_, count)| count).sum();
        let le = bound as f64 / 1e6;
        writeln!(text, "countersign_handshake_seconds_bucket{{kind=\"{kind}\",le=\"{le}\"}} {below}")?;
    }
    let all: u64 = counts.iter().sum();
    writeln!(text, "countersign_handshake_seconds_bucket{{kind=\"{kind}\",le=\"+Inf\"}} {all}")?;
    writeln!(text, "countersign_handshake_seconds_sum{{kind=\"{kind}\"}} {}", micros as f64 / 1e6)?;
    writeln!(text, "countersign_handshake_seconds_count{{kind=\"{kind}\"}} {all}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::counters::Kind;

    #[test]
    fn every_bound_is_a_bound_of_the_workers_buckets() {
        for bound in BOUNDS.map(|power| 1u64 << power) {
            assert!((0..BUCKETS).any(|i| stats::upper_bound(i) == bound), "{bound}");
        }
    }

    #[test]
    fn buckets_are_cumulative_and_sum_over_workers_and_listeners() {
        let workers = [Arc::new(Counters::new(2, &[])), Arc::new(Counters::new(2, &[]))];
        for (worker, micros) in [(0, 100), (0, 300), (1, 300), (1, 90_000_000)] {
            workers[worker].count_handshake(worker, "1.3", Kind::Full, None, micros);
        }
        let mut text = String::new();
        handshake_seconds(&workers, &mut text);
        let line = |le: &str| format!("countersign_handshake_seconds_bucket{{kind=\"full\",le=\"{le}\"}}");
        for (le, count) in [("0.000128", 1), ("0.000256", 1), ("0.000512", 3), ("33.554432", 3), ("+Inf", 4)] {
            assert!(text.contains(&format!("{} {count}\n", line(le))), "{le} in {text}");
        }
        assert!(text.contains("countersign_handshake_seconds_count{kind=\"full\"} 4\n"));
        assert!(text.contains("countersign_handshake_seconds_sum{kind=\"full\"} 90.0007\n"), "{text}");
        assert!(text.contains("countersign_handshake_seconds_count{kind=\"resumed\"} 0\n"));
    }
}
