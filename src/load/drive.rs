//! A run from its first thread to its last: prepare every lane, start them together, end in time, add up.

use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};

use crate::load::failure::Failure;
use crate::load::limits;
use crate::load::pace::{self, Pace, Remaining, Schedule, Stop, Turn, Window};
use crate::load::process::ThreadUse;
use crate::load::units::Cpus;
use crate::load::worker::{Done, Live, Plan, Tally, Worker};
use crate::load::{Refusal, exit};

/// One lane's work: a client that does one thing after the other.
pub trait Work: 'static {
    /// What has to be there before the first operation and is no part of it.
    fn prepare(&mut self) -> impl Future<Output = Result<(), Failure>>;
    /// One operation. After a failure the next call starts afresh.
    fn operate(&mut self, turn: Turn) -> impl Future<Output = Result<Done, Failure>>;
    /// Puts away what is still open.
    fn finish(&mut self) -> impl Future<Output = ()>;
    /// Which of several kinds of client this is, where there are several.
    fn class(&self) -> Option<Class> {
        None
    }
}

/// A kind of client, counted by itself.
#[derive(Clone, Copy, Debug)]
pub struct Class {
    pub name: &'static str,
    /// Its operations are no throughput, and their latency is nobody's.
    pub hostile: bool,
}

/// What a run does, on every thread.
pub trait Scenario: Send + Sync + 'static {
    type Work: Work;
    /// Lane `lane` (counted over all threads) of `worker`.
    fn lane(&self, worker: &Rc<Worker>, lane: usize) -> Self::Work;
}

/// How a run is paced and bounded.
#[derive(Clone, Debug)]
pub struct Bounds {
    pub loop_kind: LoopKind,
    pub warmup: Duration,
    /// `None`: until the count is reached.
    pub duration: Option<Duration>,
    pub count: Option<u64>,
    pub cpus: Option<Cpus>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LoopKind {
    Closed,
    /// Operations per second.
    Open(f64),
    /// Connections are held, nothing is done on them.
    Hold,
}

/// What the caller is told while a run goes on.
pub trait Observer {
    /// Every [`limits::PROGRESS_TICK`].
    fn progress(&mut self, progress: &Progress<'_>);
    /// All lanes are ready, nothing has started.
    fn prepared(&mut self) {}
    /// The warm-up is over: counting starts now.
    fn measuring(&mut self) {}
    /// The last operation is done, and no connection has been ended for it: what follows is no part of the measurement.
    fn measured(&mut self) {}
}

/// How far a run is.
#[derive(Debug)]
pub struct Progress<'a> {
    pub lives: &'a [Arc<Live>],
    /// `None` while lanes prepare.
    pub window: Option<Window>,
}

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    pub tally: Tally,
    /// From the start of measuring to the last operation's end, or the end of the window if that was later.
    pub elapsed: Duration,
    /// CPU of each harness thread while measuring.
    pub threads: Vec<ThreadUse>,
}

/// Runs `scenario`. `stop` ends it early.
pub fn run<S: Scenario>(
    scenario: S,
    plan: &Arc<Plan>,
    bounds: &Bounds,
    stop: &Stop,
    observer: &mut dyn Observer,
) -> Result<Outcome, Refusal> {
    let scenario = Arc::new(scenario);
    let remaining = Arc::new(Remaining::new(bounds.count));
    let (start, started) = watch::channel(None::<Window>);
    let (close, closing) = watch::channel(false);
    let (finish, finished) = mpsc::channel();
    let mut lives = Vec::new();
    for index in 0..plan.threads {
        let seat = Seat {
            index,
            plan: plan.clone(),
            live: Arc::default(),
            bounds: bounds.clone(),
            started: started.clone(),
            closing: closing.clone(),
            remaining: remaining.clone(),
            stop: stop.clone(),
        };
        lives.push(seat.live.clone());
        let (scenario, finish) = (scenario.clone(), finish.clone());
        let spawned = thread::Builder::new().name(format!("load-{index}")).spawn(move || {
            let report = seat.work(&*scenario);
            // The receiver is gone only where the run was given up.
            let _ = finish.send(report);
        });
        spawned.map_err(|e| Refusal::new(exit::OS, format!("no thread: {e}; see `ulimit -u`")))?;
    }
    drop(finish);
    let mut reports = Vec::new();
    prepare(&lives, plan.connections, &finished, &mut reports, stop, observer)?;
    observer.prepared();
    let window = window(bounds);
    start.send_replace(Some(window));
    let crew = Crew { lives: &lives, lanes: plan.connections as u64, finished: &finished, close: &close };
    observe(&crew, window, bounds, &mut reports, observer)?;
    Ok(total(window, remaining.is_used_up(), reports))
}

/// Waits until every lane is ready. A thread that ends meanwhile could not start.
fn prepare(
    lives: &[Arc<Live>],
    lanes: usize,
    finished: &mpsc::Receiver<Result<Report, Refusal>>,
    reports: &mut Vec<Report>,
    stop: &Stop,
    observer: &mut dyn Observer,
) -> Result<(), Refusal> {
    let mut drawn = Instant::now();
    while lives.iter().map(|l| l.ready.value()).sum::<u64>() < lanes as u64 && !stop.is_set() {
        match finished.recv_timeout(Duration::from_millis(5)) {
            Ok(report) => reports.push(report?),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return Err(lost()),
        }
        if drawn.elapsed() >= limits::PROGRESS_TICK {
            drawn = Instant::now();
            observer.progress(&Progress { lives, window: None });
        }
    }
    Ok(())
}

/// The threads of a run, as the main thread sees them.
struct Crew<'a> {
    lives: &'a [Arc<Live>],
    lanes: u64,
    finished: &'a mpsc::Receiver<Result<Report, Refusal>>,
    /// Lets the lanes end their connections.
    close: &'a watch::Sender<bool>,
}

impl Crew<'_> {
    /// Whether no lane will do another operation.
    fn settled(&self) -> bool {
        self.lives.iter().map(|l| l.settled.value()).sum::<u64>() >= self.lanes
    }
}

/// Looks on until every thread has reported.
fn observe(
    crew: &Crew<'_>,
    window: Window,
    bounds: &Bounds,
    reports: &mut Vec<Report>,
    observer: &mut dyn Observer,
) -> Result<(), Refusal> {
    let (mut measuring, mut measured) = (false, false);
    while reports.len() < crew.lives.len() {
        let now = Instant::now();
        if !measuring && now >= window.measure_from {
            measuring = true;
            observer.measuring();
        }
        if !measured && crew.settled() {
            measured = true;
            observer.measured();
            crew.close.send_replace(true);
        }
        let until = match () {
            () if measured => limits::PROGRESS_TICK,
            () if !measuring => window.measure_from - now,
            // A count may be reached at any moment.
            () if bounds.count.is_some() || now >= window.end => limits::SETTLE_TICK,
            () => window.end - now,
        };
        match crew.finished.recv_timeout(until.min(limits::PROGRESS_TICK)) {
            Ok(report) => reports.push(report?),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                if until >= limits::PROGRESS_TICK {
                    observer.progress(&Progress { lives: crew.lives, window: Some(window) });
                }
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => return Err(lost()),
        }
    }
    Ok(())
}

fn lost() -> Refusal {
    Refusal::new(exit::INTERNAL, "a thread of the harness died; what it said stands above, please report it")
}

/// Starts in a moment, so that every thread hears of it in time.
fn window(bounds: &Bounds) -> Window {
    let start = Instant::now() + Duration::from_millis(20);
    let measure_from = start + bounds.warmup;
    let longest = match (bounds.duration, bounds.count, bounds.loop_kind) {
        (Some(duration), _, _) => duration,
        // A count at a rate takes a known time; what does not fit in is late, and still begun.
        (None, Some(_), _) => limits::DURATION_MAX_BY_COUNT,
        (None, None, _) => limits::DURATION_DEFAULT,
    };
    Window { start, measure_from, end: measure_from + longest }
}

fn total(window: Window, counted: bool, reports: Vec<Report>) -> Outcome {
    let mut tally = Tally::default();
    let mut threads = Vec::new();
    let mut ended = window.measure_from;
    for report in reports {
        tally.merge(report.tally);
        threads.push(report.usage);
        ended = ended.max(report.ended);
    }
    // A run bounded by time lasts that long, even if the last operation was done sooner; stragglers make it longer, so that
    // operations and time belong together.
    let last = tally.last.unwrap_or(window.measure_from);
    let ended = if counted { last } else { last.max(window.end.min(ended)) };
    Outcome { tally, elapsed: ended.saturating_duration_since(window.measure_from), threads }
}

/// What one thread brings home.
struct Report {
    tally: Tally,
    usage: ThreadUse,
    ended: Instant,
}

/// What one thread starts with.
struct Seat {
    index: usize,
    plan: Arc<Plan>,
    live: Arc<Live>,
    bounds: Bounds,
    started: watch::Receiver<Option<Window>>,
    closing: watch::Receiver<bool>,
    remaining: Arc<Remaining>,
    stop: Stop,
}

impl Seat {
    /// The thread's whole life.
    fn work<S: Scenario>(self, scenario: &S) -> Result<Report, Refusal> {
        if let Some(cpus) = self.bounds.cpus.as_ref().filter(|c| !c.0.is_empty()) {
            pin(cpus.0[self.index % cpus.0.len()])?;
        }
        runtime(async move {
            let worker = Rc::new(Worker::new(self.index, self.plan.clone(), self.live.clone()));
            let keeper = tokio_uring::spawn(worker.watch.clone().keep());
            let lanes = (self.index..self.plan.connections).step_by(self.plan.threads);
            let (pace, paced) = watch::channel(None::<Rc<Pace>>);
            let handles: Vec<_> = lanes
                .map(|n| {
                    let work = scenario.lane(&worker, n);
                    tokio_uring::spawn(lane(work, worker.clone(), paced.clone(), self.closing.clone()))
                })
                .collect();
            let mut started = self.started.clone();
            let window = match started.wait_for(Option::is_some).await {
                Ok(window) => window.expect("waited for"),
                // The run was given up while lanes prepared.
                Err(_) => Window { start: Instant::now(), measure_from: Instant::now(), end: Instant::now() },
            };
            let shared = Rc::new(self.pace(window));
            pace.send_replace(Some(shared.clone()));
            tokio::time::sleep_until(window.measure_from.into()).await;
            let before = ThreadUse::now();
            for handle in handles {
                if handle.await.is_err() {
                    return Err(lost());
                }
            }
            keeper.abort();
            let usage = ThreadUse::now().since(&before);
            let mut tally = worker.tally.take();
            tally.not_begun = shared.not_begun();
            Ok(Report { tally, usage, ended: Instant::now() })
        })?
    }

    fn pace(&self, window: Window) -> Pace {
        match self.bounds.loop_kind {
            LoopKind::Closed => Pace::closed(window, self.remaining.clone(), self.stop.clone()),
            LoopKind::Hold => Pace::hold(window, self.stop.clone()),
            LoopKind::Open(rate) => {
                let schedule = Schedule::new(window.start, rate, self.index, self.plan.threads);
                let due = Arc::new(Semaphore::new(0));
                let (pacer_due, stop) = (due.clone(), self.stop.clone());
                thread::spawn(move || pace::release(window, schedule, &pacer_due, &stop));
                Pace::open(window, self.remaining.clone(), self.stop.clone(), schedule, due)
            }
        }
    }
}

/// One lane, from its preparation to its end.
async fn lane<W: Work>(
    mut work: W,
    worker: Rc<Worker>,
    mut paced: watch::Receiver<Option<Rc<Pace>>>,
    mut closing: watch::Receiver<bool>,
) {
    {
        let _ramp = worker.ramp.acquire().await;
        let begun = Instant::now();
        let prepared = work.prepare().await;
        let mut tally = worker.tally.borrow_mut();
        match prepared {
            Ok(()) => tally.prepare_latencies.record(begun.elapsed()),
            Err(failure) => tally.fail_to_prepare(&failure),
        }
        worker.live.ready.increment();
    }
    let pace = match paced.wait_for(Option::is_some).await {
        Ok(pace) => pace.clone().expect("waited for"),
        Err(_) => return,
    };
    tokio::time::sleep_until(pace.window().start.into()).await;
    while let Some(turn) = pace.next().await {
        let begun = Instant::now();
        let outcome = work.operate(turn).await;
        let failed = outcome.is_err();
        worker.record(turn, begun, outcome, work.class());
        if failed {
            tokio::time::sleep(limits::ERROR_PAUSE).await;
        }
    }
    worker.live.settled.increment();
    // The sender is gone only where the run was given up.
    let _ = closing.wait_for(|close| *close).await;
    work.finish().await;
}

/// Runs `future` on a ring of its own.
pub fn runtime<F: Future>(future: F) -> Result<F::Output, Refusal> {
    let mut ring = tokio_uring::uring_builder();
    ring.setup_cqsize(limits::RING_COMPLETIONS);
    let mut builder = tokio_uring::builder();
    builder.entries(limits::RING_ENTRIES).uring_builder(&ring);
    let runtime = tokio_uring::Runtime::new(&builder).map_err(|error| {
        Refusal::new(
            exit::OS,
            format!(
                "no io_uring: {error}; the harness needs it: see /proc/sys/kernel/io_uring_disabled, `ulimit -l`, and whether a \
                 container forbids it"
            ),
        )
    })?;
    Ok(runtime.block_on(future))
}

/// Pins this thread.
pub fn pin(cpu: usize) -> Result<(), Refusal> {
    if core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
        return Ok(());
    }
    Err(Refusal::usage(format!("cannot run on CPU {cpu}; `nproc` and `taskset -p $$` show which there are")))
}
