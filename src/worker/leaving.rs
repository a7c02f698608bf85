//! Idle connections leave a worker that drains: a few at a time, so that their clients do not all come back at once.

use super::host::WorkerHost;
use crate::config::limits;
use crate::relay::Live;
use crate::wire::audit::CloseReason;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Ends connections that are idle, or become so, by `until`: at each look as many as an even spread over the rest of
/// the time asks for, the longest idle first. The last tenth of the time is left to those that are not idle.
pub(super) async fn end_idle(worker: Rc<WorkerHost>, until: Instant) {
    let reactor = worker.reactor.clone();
    let mut pace = Pace::new(reactor.now(), until);
    while let Some(next) = pace.next_look(reactor.now()) {
        reactor.sleep_until(next).await;
        let mut idle = idle_connections(&worker).await;
        idle.sort_by_key(|(since, _)| *since);
        for (_, live) in idle.iter().take(pace.due(reactor.now(), idle.len())) {
            live.signal.end(CloseReason::Drained);
        }
    }
}

/// Looks at a bounded number in each turn of the loop.
async fn idle_connections(worker: &Rc<WorkerHost>) -> Vec<(Instant, Rc<Live>)> {
    let all: Vec<_> = worker.table.borrow().iter().map(|(_, resident)| resident.live.clone()).collect();
    let mut idle = Vec::new();
    for some in all.chunks(limits::SESSIONS_PER_TURN) {
        let now = worker.reactor.now();
        let asked = |live: &&Rc<Live>| live.signal.reason().is_none();
        let since = |live: &Rc<Live>| Some((live.moved.idle_since(now, limits::IDLE_QUIET)?, live.clone()));
        idle.extend(some.iter().filter(asked).filter_map(since));
        if all.len() > limits::SESSIONS_PER_TURN {
            worker.reactor.next_turn().await;
        }
    }
    idle
}

/// How many are due at which look. Time is an argument.
#[derive(Debug)]
struct Pace {
    end: Instant,
    every: Duration,
    /// Shares of a connection that earlier looks have left over.
    owed: f64,
}

impl Pace {
    fn new(now: Instant, until: Instant) -> Pace {
        let time = until.saturating_duration_since(now);
        let end = now + (time - time / 10);
        Pace { end, every: limits::IDLE_LOOK.max(time / limits::IDLE_LOOKS_MAX), owed: 0.0 }
    }

    /// When to look next; `None`: there is no time left.
    fn next_look(&self, now: Instant) -> Option<Instant> {
        let left = self.end.saturating_duration_since(now);
        (!left.is_zero()).then(|| now + left.min(self.every))
    }

    /// How many of `idle` connections to end now.
    fn due(&mut self, now: Instant, idle: usize) -> usize {
        let left = self.end.saturating_duration_since(now);
        let looks_left = left.div_duration_f64(self.every).max(0.0) + 1.0;
        self.owed += idle as f64 / looks_left;
        let due = (self.owed as usize).min(idle);
        self.owed = if idle == 0 { 0.0 } else { self.owed - due as f64 };
        // What is idle at the last look has no other.
        if left.is_zero() { idle } else { due }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ends of connections that are idle all along, each as a share of the time.
    fn ends(idle: usize, time: Duration) -> Vec<f64> {
        let start = Instant::now();
        let (mut now, mut left) = (start, idle);
        let mut pace = Pace::new(now, start + time);
        let mut ends = Vec::new();
        while let Some(next) = pace.next_look(now) {
            now = next;
            let due = pace.due(now, left);
            left -= due;
            ends.extend(std::iter::repeat_n((now - start).div_duration_f64(time), due));
        }
        ends
    }

    #[test]
    fn a_herd_leaves_evenly_over_the_time_and_before_its_last_tenth() {
        for (idle, seconds) in [(1, 60), (10, 60), (1000, 60), (1000, 5), (100_000, 60), (7, 86_400)] {
            let ends = ends(idle, Duration::from_secs(seconds));
            assert_eq!(ends.len(), idle, "{idle} in {seconds} s");
            let half = ends.iter().filter(|share| **share < 0.45).count();
            assert!(half.abs_diff(idle / 2) <= idle / 10 + 1, "{half} of {idle} in the first half");
            assert!(ends.iter().all(|share| *share <= 0.901), "{idle} in {seconds} s");
        }
    }

    #[test]
    fn no_time_ends_nobody_early() {
        assert_eq!(ends(5, Duration::ZERO), [0.0; 0]);
    }
}
