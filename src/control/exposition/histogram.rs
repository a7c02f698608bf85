//! `countersign_handshake_seconds` and `countersign_handshake_cpu_seconds`: the workers' own buckets, summed into those
//! that Prometheus gets. Written here, because a recorder's histogram takes samples one by one and would hold every
//! handshake since the last scrape.

use crate::stats::{self, BUCKETS, Histogram};
use crate::worker::counters::{Counters, KINDS, ListenerCounters};
use std::fmt::{self, Write};
use std::sync::Arc;

/// Bounds in microseconds, powers of two so that each is a bound of our own buckets too and nothing is estimated:
/// 128 µs to 34 s.
const BOUNDS: std::ops::RangeInclusive<u32> = 7..=25;

/// Appends both histograms, by kind of handshake.
pub fn handshakes(counters: &[Arc<Counters>], text: &mut String) {
    let wall = Family { name: "countersign_handshake_seconds", of: |listener, kind| &listener.handshake_time[kind] };
    let cpu = Family { name: "countersign_handshake_cpu_seconds", of: |listener, kind| &listener.handshake_cpu[kind] };
    for (family, help) in [
        (cpu, "CPU time that TLS took for a handshake that ended well."),
        (wall, "Time from accept to an established connection."),
    ] {
        let name = family.name;
        text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} histogram\n"));
        for kind in 0..KINDS.len() {
            family.write(kind, counters, text);
        }
    }
}

/// One histogram and where its parts are.
struct Family {
    name: &'static str,
    of: fn(&ListenerCounters, usize) -> &Histogram,
}

impl Family {
    fn write(&self, kind: usize, counters: &[Arc<Counters>], text: &mut String) {
        let mut counts = [0; BUCKETS];
        let mut micros = 0;
        for histogram in counters.iter().flat_map(|c| &c.listeners).map(|listener| (self.of)(listener, kind)) {
            for (count, more) in counts.iter_mut().zip(histogram.counts()) {
                *count += more;
            }
            micros += histogram.sum_micros();
        }
        // Writing to a string cannot fail.
        let _ = self.write_series(KINDS[kind], &counts, micros, text);
    }

    fn write_series(&self, kind: &str, counts: &[u64; BUCKETS], micros: u64, text: &mut String) -> fmt::Result {
        let name = self.name;
        for bound in BOUNDS.map(|power| 1u64 << power) {
            let within = |(i, _): &(usize, &u64)| stats::upper_bound(*i) <= bound;
            let below: u64 = counts.iter().enumerate().take_while(within).map(|(_, count)| count).sum();
            let le = bound as f64 / 1e6;
            writeln!(text, "{name}_bucket{{kind=\"{kind}\",le=\"{le}\"}} {below}")?;
        }
        let all: u64 = counts.iter().sum();
        writeln!(text, "{name}_bucket{{kind=\"{kind}\",le=\"+Inf\"}} {all}")?;
        writeln!(text, "{name}_sum{{kind=\"{kind}\"}} {}", micros as f64 / 1e6)?;
        writeln!(text, "{name}_count{{kind=\"{kind}\"}} {all}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::Took;
    use crate::worker::counters::Kind;
    use std::time::Duration;

    /// On the wire twice as long as on the CPU.
    fn took(micros: u64) -> Took {
        Took { wall: Duration::from_micros(micros), cpu: Duration::from_micros(micros / 2) }
    }

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
            workers[worker].count_handshake(worker, "1.3", Kind::Full, None, took(micros));
        }
        let mut text = String::new();
        handshakes(&workers, &mut text);
        let line = |le: &str| format!("countersign_handshake_seconds_bucket{{kind=\"full\",le=\"{le}\"}}");
        for (le, count) in [("0.000128", 1), ("0.000256", 1), ("0.000512", 3), ("33.554432", 3), ("+Inf", 4)] {
            assert!(text.contains(&format!("{} {count}\n", line(le))), "{le} in {text}");
        }
        assert!(text.contains("countersign_handshake_seconds_count{kind=\"full\"} 4\n"));
        assert!(text.contains("countersign_handshake_seconds_sum{kind=\"full\"} 90.0007\n"), "{text}");
        assert!(text.contains("countersign_handshake_seconds_count{kind=\"resumed\"} 0\n"));
        assert!(text.contains("countersign_handshake_cpu_seconds_bucket{kind=\"full\",le=\"0.000256\"} 3\n"), "{text}");
    }
}
