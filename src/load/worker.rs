//! One harness thread: what its lanes share, and what they counted.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::load::client::Clients;
use crate::load::connection::Acceptance;
use crate::load::drive::Class;
use crate::load::failure::{Failure, Failures};
use crate::load::latency::Latencies;
use crate::load::limits;
use crate::load::net::{Buffers, Watch};
use crate::load::pace::Turn;
use crate::load::target::Target;
use crate::stats::Counter;

/// What all threads of a run know.
#[derive(Clone, Debug)]
pub struct Plan {
    pub target: Target,
    pub clients: Clients,
    /// Lanes of all threads.
    pub connections: usize,
    pub threads: usize,
    pub timeout: Duration,
    /// One receive.
    pub buffer_bytes: usize,
    /// How a full and a resumed TLS 1.3 handshake show that the server let the client in.
    pub acceptance: Acceptances,
}

/// What the probe found out.
#[derive(Clone, Copy, Debug)]
pub struct Acceptances {
    pub full: Acceptance,
    pub resumed: Acceptance,
}

/// What the main thread can see of a running worker.
#[derive(Debug, Default)]
pub struct Live {
    /// Lanes that are ready to start.
    pub ready: Counter,
    pub done: Counter,
    pub failed: Counter,
    pub bytes: Counter,
    /// Lanes that have done their last operation.
    pub settled: Counter,
}

/// One thread's share of a run.
pub struct Worker {
    pub index: usize,
    pub plan: Arc<Plan>,
    pub live: Arc<Live>,
    pub buffers: Buffers,
    pub watch: Rc<Watch>,
    /// Lanes that may prepare at the same time.
    pub ramp: Semaphore,
    pub tally: RefCell<Tally>,
}

impl Worker {
    pub fn new(index: usize, plan: Arc<Plan>, live: Arc<Live>) -> Worker {
        let buffers = Buffers::new(plan.buffer_bytes);
        let ramp = Semaphore::new((limits::IDLE_RAMP / plan.threads).max(1));
        Worker { index, plan, live, buffers, watch: Rc::default(), ramp, tally: RefCell::default() }
    }

    /// Counts what came of one turn, for all and for its kind of client.
    pub fn record(&self, turn: Turn, begun: Instant, outcome: Result<Done, Failure>, class: Option<Class>) {
        if !turn.measured {
            return;
        }
        let mut tally = self.tally.borrow_mut();
        tally.start_lag.record(begun.saturating_duration_since(turn.intended));
        if let Some(class) = class {
            tally.class(class.name).record(turn, &outcome);
        }
        match outcome {
            Ok(_) if class.is_some_and(|class| class.hostile) => {}
            Ok(done) => {
                self.live.done.increment();
                self.live.bytes.add(done.bytes_in + done.bytes_out);
                tally.succeed(turn, &done);
            }
            Err(failure) => {
                self.live.failed.increment();
                tally.fail(&failure);
            }
        }
    }
}

/// What one kind of client counted.
#[derive(Clone, Debug, Default)]
pub struct ClassTally {
    pub operations: u64,
    pub latencies: Latencies,
    pub failures: Failures,
    /// How the server ended hostile ones.
    pub endings: Failures,
}

impl ClassTally {
    fn record(&mut self, turn: Turn, outcome: &Result<Done, Failure>) {
        match outcome {
            Ok(done) => {
                self.operations += 1;
                self.latencies.record(done.finished.saturating_duration_since(turn.intended));
            }
            Err(failure) => self.failures.count(failure.kind()),
        }
    }

    fn merge(&mut self, other: &ClassTally) {
        self.operations += other.operations;
        self.latencies.merge(&other.latencies);
        self.failures.merge(&other.failures);
        self.endings.merge(&other.endings);
    }
}

/// What a successful operation was.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// The moment that its user was served; what follows (an orderly close) is work, but not waiting.
    pub finished: Instant,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Whether it began with a resumed handshake.
    pub resumed: bool,
}

/// What one thread, or all of them, counted.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub operations: u64,
    pub resumed: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub latencies: Latencies,
    /// How long after its intended start an operation began.
    pub start_lag: Latencies,
    pub failures: Failures,
    /// One failure in words, to show.
    pub example: Option<String>,
    /// What failed before the measurement: lanes that could not prepare.
    pub prepare_failures: Failures,
    /// How long connections took to open where that was preparation, not operation.
    pub prepare_latencies: Latencies,
    /// Open-loop operations that were due and never began.
    pub not_begun: u64,
    /// Connections that the peer did not end within [`limits::CLOSE_WAIT`] after our close_notify.
    pub closed_late: u64,
    /// When the last successful operation was done.
    pub last: Option<Instant>,
    /// By kind of client, where there are several.
    pub classes: BTreeMap<&'static str, ClassTally>,
}

impl Tally {
    fn succeed(&mut self, turn: Turn, done: &Done) {
        self.operations += 1;
        self.resumed += u64::from(done.resumed);
        self.bytes_in += done.bytes_in;
        self.bytes_out += done.bytes_out;
        self.latencies.record(done.finished.saturating_duration_since(turn.intended));
        self.last = self.last.max(Some(done.finished));
    }

    pub fn class(&mut self, name: &'static str) -> &mut ClassTally {
        self.classes.entry(name).or_default()
    }

    pub fn fail(&mut self, failure: &Failure) {
        self.failures.count(failure.kind());
        self.example.get_or_insert_with(|| failure.to_string());
    }

    /// Counts a lane that could not prepare.
    pub fn fail_to_prepare(&mut self, failure: &Failure) {
        self.prepare_failures.count(failure.kind());
        self.example.get_or_insert_with(|| failure.to_string());
    }

    pub fn merge(&mut self, other: Tally) {
        self.operations += other.operations;
        self.resumed += other.resumed;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.latencies.merge(&other.latencies);
        self.start_lag.merge(&other.start_lag);
        self.failures.merge(&other.failures);
        self.prepare_failures.merge(&other.prepare_failures);
        self.prepare_latencies.merge(&other.prepare_latencies);
        self.example = self.example.take().or(other.example);
        self.not_begun += other.not_begun;
        self.closed_late += other.closed_late;
        self.last = self.last.max(other.last);
        for (name, class) in &other.classes {
            self.class(name).merge(class);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_adds_what_threads_counted_and_keeps_one_example() {
        let now = Instant::now();
        let turn = Turn { intended: now, measured: true };
        let done = Done { finished: now + Duration::from_millis(1), bytes_in: 10, bytes_out: 20, resumed: true };
        let (mut one, mut two) = (Tally::default(), Tally::default());
        one.succeed(turn, &done);
        two.succeed(turn, &done);
        two.fail(&Failure::TimedOut);
        one.merge(two);
        assert_eq!((one.operations, one.resumed, one.bytes_in, one.bytes_out), (2, 2, 20, 40));
        assert_eq!(one.failures.iter().collect::<Vec<_>>(), [("timeout", 1)]);
        assert!(one.example.is_some());
        assert_eq!(one.latencies.len(), 2);
    }
}
