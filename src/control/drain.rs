//! The order of stopping: wait for load balancers to notice, stop accepting, let connections end, give up.

use super::service::Service;
use super::signals::Asked;
use crate::config::limits;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// When each step of a drain is due. Time is an argument, so that it can be tested without waiting.
///
/// Call [`Drain::poll`] whenever the time that it last answered has come.
#[derive(Debug)]
pub struct Drain {
    stop_at: Instant,
    deadline: Instant,
    stopped: bool,
    /// Requests to stop that change nothing.
    stops_expected: u32,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing until then.
    Wait(Instant),
    /// Stop accepting; connections have until the deadline.
    StopAccepting,
    /// Every connection ended.
    Drained,
    /// The deadline passed with connections open.
    GiveUp,
}

impl Drain {
    /// A drain that begins at `now`: accepting stops after `delay`, connections are cut `timeout` later.
    pub fn begin(now: Instant, delay: Duration, timeout: Duration) -> Drain {
        let stop_at = later(now, delay);
        Drain { stop_at, deadline: later(stop_at, timeout), stopped: false, stops_expected: 0 }
    }

    /// A drain after another process took over: accepting has stopped already. When a service manager ends the service, it
    /// tells both processes; one such request changes nothing here.
    pub fn retired(now: Instant, timeout: Duration) -> Drain {
        Drain { stop_at: now, deadline: later(now, timeout), stopped: true, stops_expected: 1 }
    }

    /// When connections are given up.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What is due at `now`; `busy` while a connection is open or may still come from a listening socket.
    pub fn poll(&mut self, now: Instant, busy: bool) -> Step {
        if !self.stopped {
            if now < self.stop_at {
                return Step::Wait(self.stop_at);
            }
            self.stopped = true;
            return Step::StopAccepting;
        }
        match busy {
            false => Step::Drained,
            true if now >= self.deadline => Step::GiveUp,
            true => Step::Wait(self.deadline.min(now + limits::DRAIN_LOOK_AGAIN)),
        }
    }
}

/// `duration` after `from`; a duration that no clock holds means "as good as never".
fn later(from: Instant, duration: Duration) -> Instant {
    from.checked_add(duration).unwrap_or(from + limits::NEVER)
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Connections that did not end by themselves.
    pub cut: u64,
}

/// Drains `service`. A second [`Asked::Stop`] ends it at once; what else is asked goes to `others`.
pub async fn drain<S: Service>(
    service: &Arc<S>,
    mut plan: Drain,
    signals: &mut mpsc::Receiver<Asked>,
    others: &dyn Fn(Asked),
) -> Outcome {
    let cut = loop {
        let busy = service.is_accepting() || service.connections() > 0;
        match plan.poll(Instant::now(), busy) {
            Step::StopAccepting => service.stop_accepting(plan.deadline()),
            Step::Drained => break false,
            Step::GiveUp => {
                tracing::warn!(connections = service.connections(), "drain_timeout has passed, cutting what is open");
                break true;
            }
            Step::Wait(until) => {
                if stopped_before(until, signals, others, &mut plan.stops_expected).await {
                    tracing::warn!(connections = service.connections(), "stopping at once, as asked a second time");
                    break true;
                }
            }
        }
    };
    let deadline = if cut { Instant::now() } else { plan.deadline.max(Instant::now()) };
    join(service, cut, (deadline, &mut plan.stops_expected), signals, others).await
}

/// Waits until `until`; true if asked to stop before.
async fn stopped_before(
    until: Instant,
    signals: &mut mpsc::Receiver<Asked>,
    others: &dyn Fn(Asked),
    expected: &mut u32,
) -> bool {
    let mut open = true;
    loop {
        tokio::select! {
            asked = signals.recv(), if open => match asked {
                Some(Asked::Stop) if *expected > 0 => *expected -= 1,
                Some(Asked::Stop) => return true,
                Some(other) => others(other),
                None => open = false,
            },
            () = tokio::time::sleep_until(until.into()) => return false,
        }
    }
}

/// Joins on a thread of its own, so that workers that do not end cannot keep the process. What was in the kernel's
/// queue when accepting stopped may still come and has until `deadline`.
async fn join<S: Service>(
    service: &Arc<S>,
    cut: bool,
    (deadline, stops_expected): (Instant, &mut u32),
    signals: &mut mpsc::Receiver<Asked>,
    others: &dyn Fn(Asked),
) -> Outcome {
    let counters = service.counters();
    let open = move || -> u64 {
        counters.iter().flat_map(|counters| &counters.listeners).map(|listener| listener.active.value()).sum()
    };
    let joining = Arc::clone(service);
    let joined = tokio::task::spawn_blocking(move || joining.join(cut));
    tokio::select! {
        joined = joined => Outcome { cut: joined.unwrap_or_else(|_| open()) },
        _ = stopped_before(later(deadline, limits::WORKERS_END_TIME_MAX), signals, others, stops_expected) => {
            tracing::error!(connections = open(), "leaving without the workers, which did not end");
            Outcome { cut: open() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::service::scripted::Scripted;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn accepting_goes_on_for_the_delay_and_connections_for_the_timeout() {
        let start = Instant::now();
        let mut drain = Drain::begin(start, 2 * SECOND, 3 * SECOND);
        assert_eq!(drain.poll(start, true), Step::Wait(start + 2 * SECOND));
        let deadline = start + 5 * SECOND;
        assert_eq!(drain.poll(start + 2 * SECOND, true), Step::StopAccepting);
        assert!(matches!(drain.poll(start + 3 * SECOND, true), Step::Wait(until) if until <= deadline));
        assert_eq!(drain.poll(deadline, true), Step::GiveUp);
    }

    #[test]
    fn a_drain_ends_as_soon_as_the_last_connection_does() {
        let start = Instant::now();
        let mut drain = Drain::begin(start, Duration::ZERO, 60 * SECOND);
        assert!(matches!(drain.poll(start, true), Step::StopAccepting));
        assert!(matches!(drain.poll(start, true), Step::Wait(_)));
        assert_eq!(drain.poll(start + SECOND, false), Step::Drained);
    }

    #[test]
    fn no_connection_at_all_still_stops_accepting_first() {
        let start = Instant::now();
        let mut drain = Drain::begin(start, Duration::ZERO, SECOND);
        assert!(matches!(drain.poll(start, false), Step::StopAccepting));
        assert_eq!(drain.poll(start, false), Step::Drained);
    }

    #[test]
    fn the_delay_is_kept_even_with_nothing_open() {
        let start = Instant::now();
        let mut drain = Drain::begin(start, SECOND, SECOND);
        assert_eq!(drain.poll(start, false), Step::Wait(start + SECOND));
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn connections_that_end_are_not_cut() {
        let service = Scripted::with_connections(3);
        let seen = service.seen();
        service.end_one_at_each_look();
        let (_sender, mut signals) = mpsc::channel(1);
        let plan = Drain::begin(Instant::now(), Duration::ZERO, 60 * SECOND);
        let outcome = runtime().block_on(drain(&Arc::new(service), plan, &mut signals, &|_| ()));
        assert_eq!(outcome, Outcome { cut: 0 });
        assert_eq!(*seen.lock().unwrap(), ["stop_accepting", "join"]);
    }

    #[test]
    fn connections_that_outlive_the_deadline_are_cut_and_counted() {
        let service = Scripted::with_connections(2);
        let seen = service.seen();
        let (_sender, mut signals) = mpsc::channel(1);
        let plan = Drain::begin(Instant::now(), Duration::ZERO, Duration::from_millis(30));
        let outcome = runtime().block_on(drain(&Arc::new(service), plan, &mut signals, &|_| ()));
        assert_eq!(outcome, Outcome { cut: 2 });
        assert_eq!(*seen.lock().unwrap(), ["stop_accepting", "cut"]);
    }

    #[test]
    fn a_second_request_to_stop_cuts_at_once_and_other_signals_do_not() {
        let service = Scripted::with_connections(1);
        let (sender, mut signals) = mpsc::channel(4);
        sender.try_send(Asked::Reload).unwrap();
        sender.try_send(Asked::Stop).unwrap();
        let plan = Drain::begin(Instant::now(), 3600 * SECOND, 3600 * SECOND);
        let outcome = runtime().block_on(drain(&Arc::new(service), plan, &mut signals, &|_| ()));
        assert_eq!(outcome, Outcome { cut: 1 });
    }

    #[test]
    fn after_a_hand_over_one_request_to_stop_changes_nothing_and_the_next_ends_it() {
        let service = Scripted::with_connections(1);
        let seen = service.seen();
        let (sender, mut signals) = mpsc::channel(4);
        sender.try_send(Asked::Stop).unwrap();
        let plan = Drain::retired(Instant::now(), Duration::from_millis(50));
        let started = Instant::now();
        let service = Arc::new(service);
        assert_eq!(runtime().block_on(drain(&service, plan, &mut signals, &|_| ())), Outcome { cut: 1 });
        assert!(started.elapsed() >= Duration::from_millis(50), "it had its time");
        assert_eq!(*seen.lock().unwrap(), ["cut"]);
        sender.try_send(Asked::Stop).unwrap();
        sender.try_send(Asked::Stop).unwrap();
        let plan = Drain::retired(Instant::now(), 3600 * SECOND);
        assert_eq!(runtime().block_on(drain(&service, plan, &mut signals, &|_| ())), Outcome { cut: 1 });
    }

    #[test]
    fn a_second_request_to_stop_with_nothing_open_cuts_nothing() {
        let service = Scripted::with_connections(0);
        let (sender, mut signals) = mpsc::channel(4);
        sender.try_send(Asked::Stop).unwrap();
        let plan = Drain::begin(Instant::now(), 3600 * SECOND, 3600 * SECOND);
        assert_eq!(runtime().block_on(drain(&Arc::new(service), plan, &mut signals, &|_| ())), Outcome { cut: 0 });
    }

    #[test]
    fn nobody_open_is_not_the_end_while_somebody_may_wait_at_a_listening_socket() {
        let service = Scripted::with_connections(0);
        let (seen, emptying) = (service.seen(), std::sync::Arc::clone(&service.emptying));
        emptying.store(true, std::sync::atomic::Ordering::SeqCst);
        let (_sender, mut signals) = mpsc::channel(1);
        let plan = Drain::begin(Instant::now(), Duration::ZERO, 60 * SECOND);
        let service = Arc::new(service);
        runtime().block_on(async {
            let emptied = async {
                tokio::time::sleep(Duration::from_millis(60)).await;
                assert_eq!(*seen.lock().unwrap(), ["stop_accepting"]);
                emptying.store(false, std::sync::atomic::Ordering::SeqCst);
            };
            tokio::join!(drain(&service, plan, &mut signals, &|_| ()), emptied)
        });
        assert_eq!(*seen.lock().unwrap(), ["stop_accepting", "join"]);
    }

    #[test]
    fn workers_that_do_not_end_can_be_left_by_asking_again() {
        let service = Scripted::with_connections(0);
        let hanging = std::sync::Arc::clone(&service.hanging);
        hanging.store(true, std::sync::atomic::Ordering::SeqCst);
        let service = Arc::new(service);
        let (sender, mut signals) = mpsc::channel(4);
        let plan = Drain::begin(Instant::now(), Duration::ZERO, 3600 * SECOND);
        let runtime = runtime();
        let outcome = runtime.block_on(async {
            let asking = async {
                // Lets the drain go as far as it gets.
                tokio::time::sleep(Duration::from_millis(20)).await;
                sender.send(Asked::Stop).await.unwrap();
            };
            tokio::join!(drain(&service, plan, &mut signals, &|_| ()), asking).0
        });
        hanging.store(false, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(outcome, Outcome { cut: 0 });
    }
}
