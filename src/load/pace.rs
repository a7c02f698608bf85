//! When operations start and when no more do.
//!
//! Closed loop: each lane starts the next operation when its last one is done. Open loop: operation `i` is due at
//! `start + i / rate`, whatever the target does, and its latency counts from there: a target that stalls makes all that was
//! due meanwhile slow, as it would its users (no coordinated omission).

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::load::limits;

/// When a run starts, when it is measured, and when it ends.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub start: Instant,
    /// Operations due before this are warm-up, and not counted.
    pub measure_from: Instant,
    /// Nothing starts from here on.
    pub end: Instant,
}

/// One operation's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// When it was to start; latency counts from here.
    pub intended: Instant,
    /// Whether it counts, or is warm-up.
    pub measured: bool,
}

/// How many operations are left, where `--count` bounds them; shared by all threads.
#[derive(Debug)]
pub struct Remaining(Option<AtomicU64>);

impl Remaining {
    pub fn new(count: Option<u64>) -> Remaining {
        Remaining(count.map(AtomicU64::new))
    }

    /// Whether there was a count, and it is used up.
    pub fn is_used_up(&self) -> bool {
        self.0.as_ref().is_some_and(|left| left.load(Ordering::Relaxed) == 0)
    }

    /// Takes one; false if none is left.
    fn take(&self) -> bool {
        let Some(left) = &self.0 else { return true };
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok()
    }
}

/// What ends a run early: the user's Ctrl-C.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Hands out turns to the lanes of one thread.
#[derive(Debug)]
pub struct Pace {
    window: Window,
    remaining: Arc<Remaining>,
    stop: Stop,
    mode: Mode,
}

#[derive(Debug)]
enum Mode {
    Closed,
    /// Nothing to do until the end: `idle`.
    Hold,
    Open(Open),
}

#[derive(Debug)]
struct Open {
    schedule: Schedule,
    due: Arc<Semaphore>,
    begun: Cell<u64>,
}

impl Pace {
    pub fn closed(window: Window, remaining: Arc<Remaining>, stop: Stop) -> Pace {
        Pace { window, remaining, stop, mode: Mode::Closed }
    }

    pub fn hold(window: Window, stop: Stop) -> Pace {
        Pace { window, remaining: Arc::new(Remaining::new(None)), stop, mode: Mode::Hold }
    }

    pub fn open(
        window: Window,
        remaining: Arc<Remaining>,
        stop: Stop,
        schedule: Schedule,
        due: Arc<Semaphore>,
    ) -> Pace {
        Pace { window, remaining, stop, mode: Mode::Open(Open { schedule, due, begun: Cell::new(0) }) }
    }

    pub fn window(&self) -> Window {
        self.window
    }

    /// The next turn, or `None` where the run is over for the lane that asks.
    pub async fn next(&self) -> Option<Turn> {
        let turn = match &self.mode {
            Mode::Closed => self.turn(Instant::now()),
            Mode::Hold => {
                while !self.over(Instant::now()) {
                    let nap = Instant::now() + Duration::from_millis(100);
                    tokio::time::sleep_until(nap.min(self.window.end).into()).await;
                }
                return None;
            }
            Mode::Open(open) => {
                // The pacer closes the semaphore when the last operation was released and the end has come.
                open.due.acquire().await.ok()?.forget();
                let slot = open.begun.get();
                open.begun.set(slot + 1);
                self.turn(open.schedule.due(slot))
            }
        };
        if !self.over(Instant::now()) && (!turn.measured || self.remaining.take()) {
            return Some(turn);
        }
        if let Mode::Open(open) = &self.mode {
            // The other lanes need not wait for what will not come.
            open.due.close();
        }
        None
    }

    /// Operations that were due within the window and never began; call when all lanes are done.
    pub fn not_begun(&self) -> u64 {
        match &self.mode {
            Mode::Open(open) if self.remaining.0.is_none() && !self.stop.is_set() => {
                open.schedule.due_before(self.window.end).saturating_sub(open.begun.get())
            }
            _ => 0,
        }
    }

    fn turn(&self, intended: Instant) -> Turn {
        Turn { intended, measured: intended >= self.window.measure_from }
    }

    fn over(&self, now: Instant) -> bool {
        now >= self.window.end || self.stop.is_set()
    }
}

/// When each operation of one thread is due: the threads take turns.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    start: Instant,
    interval: Duration,
    offset: Duration,
}

impl Schedule {
    /// The share of thread `index` of `threads` in `rate` operations per second.
    pub fn new(start: Instant, rate: f64, index: usize, threads: usize) -> Schedule {
        let between = 1.0 / rate;
        Schedule {
            start,
            interval: Duration::from_secs_f64(between * threads as f64),
            offset: Duration::from_secs_f64(between * index as f64),
        }
    }

    /// When operation `slot` is due.
    pub fn due(&self, slot: u64) -> Instant {
        // Nanoseconds as a float are exact for 104 days and right to a microsecond for centuries.
        let after = self.interval.as_secs_f64() * slot as f64;
        self.start + self.offset + Duration::from_secs_f64(after)
    }

    /// How many operations are due before `end`.
    pub fn due_before(&self, end: Instant) -> u64 {
        let Some(span) = end.checked_duration_since(self.start + self.offset) else { return 0 };
        (span.as_secs_f64() / self.interval.as_secs_f64()).ceil() as u64
    }
}

/// Releases operations when they are due; a thread of its own, because the runtime's timers are a millisecond coarse.
/// Returns at the end of the window, or when stopped.
pub fn release(window: Window, schedule: Schedule, due: &Semaphore, stop: &Stop) {
    let mut released = 0u64;
    loop {
        let now = Instant::now();
        if now >= window.end || stop.is_set() || due.is_closed() {
            due.close();
            return;
        }
        let until_now = schedule.due_before(now);
        // Bounded: the semaphore takes no more permits than this, and a backlog of that size is lost anyway.
        let fresh = until_now.saturating_sub(released).min(1 << 20);
        if fresh > 0 && due.available_permits() < Semaphore::MAX_PERMITS / 2 {
            due.add_permits(fresh as usize);
        }
        released = until_now;
        let next = schedule.due(released).min(window.end);
        let nap = next.saturating_duration_since(Instant::now());
        std::thread::sleep(nap.clamp(limits::PACER_NAP_MIN, limits::PACER_NAP_MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(milliseconds: u64) -> Window {
        let start = Instant::now();
        Window { start, measure_from: start, end: start + Duration::from_millis(milliseconds) }
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    #[test]
    fn the_threads_of_an_open_loop_share_the_rate_evenly() {
        let start = Instant::now();
        let mut due: Vec<Duration> = (0..3)
            .flat_map(|t| (0..100).map(move |slot| Schedule::new(start, 1000.0, t, 3).due(slot) - start))
            .collect();
        due.sort();
        for (i, at) in due.iter().enumerate() {
            let exact = i as f64 / 1000.0;
            assert!((at.as_secs_f64() - exact).abs() < 1e-6, "{i}: {at:?}");
        }
    }

    #[test]
    fn what_is_due_before_a_time_is_counted_to_the_slot() {
        let start = Instant::now();
        let schedule = Schedule::new(start, 10.0, 0, 1);
        assert_eq!(schedule.due_before(start), 0);
        assert_eq!(schedule.due_before(start + Duration::from_millis(1)), 1);
        assert_eq!(schedule.due_before(start + Duration::from_millis(150)), 2);
    }

    #[test]
    fn a_closed_loop_gives_count_turns_and_no_more() {
        let remaining = Arc::new(Remaining::new(Some(3)));
        let pace = Pace::closed(window(60_000), remaining, Stop::default());
        let turns = block_on(async {
            let mut turns = 0;
            while pace.next().await.is_some() {
                turns += 1;
            }
            turns
        });
        assert_eq!(turns, 3);
    }

    #[test]
    fn a_counted_open_loop_lets_waiting_lanes_go_when_the_count_is_reached() {
        let window = window(60_000);
        let schedule = Schedule::new(window.start, 1000.0, 0, 1);
        let due = Arc::new(Semaphore::new(3));
        let pace = Pace::open(window, Arc::new(Remaining::new(Some(2))), Stop::default(), schedule, due);
        block_on(async {
            assert!(pace.next().await.is_some() && pace.next().await.is_some());
            assert!(pace.next().await.is_none());
            assert!(pace.next().await.is_none());
        });
        assert_eq!(pace.not_begun(), 0);
    }

    #[test]
    fn warm_up_turns_do_not_use_up_the_count() {
        let mut window = window(60_000);
        window.measure_from = window.end;
        let pace = Pace::closed(window, Arc::new(Remaining::new(Some(1))), Stop::default());
        block_on(async {
            for _ in 0..5 {
                assert!(!pace.next().await.unwrap().measured);
            }
        });
    }

    #[test]
    fn a_stop_and_the_end_give_no_more_turns() {
        let stop = Stop::default();
        let pace = Pace::closed(window(60_000), Arc::new(Remaining::new(None)), stop.clone());
        assert!(block_on(pace.next()).is_some());
        stop.set();
        assert!(block_on(pace.next()).is_none());
        let over = Pace::closed(window(0), Arc::new(Remaining::new(None)), Stop::default());
        assert!(block_on(over.next()).is_none());
    }

    #[test]
    fn an_open_loop_turn_bears_the_time_it_was_due_however_late_it_is_taken() {
        let window = window(60_000);
        let schedule = Schedule::new(window.start, 1000.0, 0, 1);
        let due = Arc::new(Semaphore::new(3));
        let pace = Pace::open(window, Arc::new(Remaining::new(None)), Stop::default(), schedule, due);
        block_on(async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            for slot in 0..3 {
                assert_eq!(pace.next().await.unwrap().intended, schedule.due(slot));
            }
        });
    }

    #[test]
    fn the_pacer_releases_each_operation_once_and_counts_what_never_began() {
        let window = window(50);
        let schedule = Schedule::new(window.start, 2000.0, 0, 1);
        let due = Arc::new(Semaphore::new(0));
        let pace = Pace::open(window, Arc::new(Remaining::new(None)), Stop::default(), schedule, due.clone());
        release(window, schedule, &due, &Stop::default());
        assert!(block_on(pace.next()).is_none());
        assert_eq!(pace.not_begun(), 100);
    }
}
