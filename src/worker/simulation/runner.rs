//! Plays seeds on all CPUs, tells how far it is, and says how to see a failing one again.

use super::fixture::Fixture;
use super::script::Script;
use super::statistics::Statistics;
use super::verdict;
use super::world::{self, Aftermath};
use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// It goes on past so many seeds that fail, for what they have in common.
const FAILURES_MAX: usize = 5;
/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(10);

/// Plays one seed; what is wrong with it.
pub fn check(seed: u64, change: impl FnOnce(&mut Script)) -> (Option<Aftermath>, Vec<String>) {
    let fixture = Fixture::of_thread();
    let mut script = Script::roll(seed, &fixture);
    change(&mut script);
    let played = catch_unwind(AssertUnwindSafe(|| world::play(seed, script, &fixture, false)));
    // A panic leaves lines of the audit behind.
    while fixture.audit.pop().is_some() {}
    match played {
        Ok(aftermath) => {
            let wrong = verdict::judge(&aftermath);
            (Some(aftermath), wrong)
        }
        Err(panic) => (None, vec![format!("a panic: {}", text_of(&*panic))]),
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("of no text")
}

/// Plays a range of seeds. Panics with the seeds that failed.
pub fn run(seeds: Range<u64>, tells: bool) -> Statistics {
    let next = AtomicU64::new(seeds.start);
    let failures = Mutex::new(Vec::new());
    let statistics = Mutex::new(Statistics::default());
    let over = AtomicBool::new(false);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, |cpus| cpus.get());
        let workers: Vec<_> =
            (0..threads).map(|_| scope.spawn(|| play_some(&next, seeds.end, &failures, &statistics))).collect();
        if tells {
            scope.spawn(|| tell(&next, &seeds, begun, &over));
        }
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        over.store(true, Ordering::Relaxed);
    });
    let failures = failures.into_inner().unwrap();
    let played = next.load(Ordering::Relaxed).min(seeds.end) - seeds.start;
    let seconds = begun.elapsed().as_secs_f64();
    eprintln!("{played} seeds in {seconds:.1} s, {:.0} a second", played as f64 / seconds);
    assert!(failures.is_empty(), "{} seeds broke a rule, the first of them {}", failures.len(), failures[0]);
    statistics.into_inner().unwrap()
}

fn play_some(next: &AtomicU64, end: u64, failures: &Mutex<Vec<u64>>, statistics: &Mutex<Statistics>) {
    let mut own = Statistics::default();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end || failures.lock().unwrap().len() >= FAILURES_MAX {
            break;
        }
        let (aftermath, wrong) = check(seed, |_| ());
        if let Some(aftermath) = &aftermath {
            own.add(aftermath);
        }
        if !wrong.is_empty() {
            // At once: whoever ends the run early is to know.
            print(seed, &wrong);
            failures.lock().unwrap().push(seed);
        }
    }
    statistics.lock().unwrap().merge(&own);
}

fn tell(next: &AtomicU64, seeds: &Range<u64>, begun: Instant, over: &AtomicBool) {
    let mut told = Instant::now();
    while !over.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(100));
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            let played = next.load(Ordering::Relaxed).min(seeds.end) - seeds.start;
            let rate = played as f64 / begun.elapsed().as_secs_f64();
            eprintln!("{played} of {} seeds, {rate:.0} a second", seeds.end - seeds.start);
        }
    }
}

fn print(seed: u64, wrong: &[String]) {
    let what: String = wrong.iter().map(|what| format!("    {what}\n")).collect();
    eprintln!(
        "seed {seed}:\n{what}    see it again: SIM_SEED={seed} SIM_TRACE=1 cargo test --lib simulation::one_seed -- --nocapture"
    );
}

/// Plays one seed with all that is known of it.
pub fn replay(seed: u64, traced: bool) {
    let fixture = Fixture::of_thread();
    let script = Script::roll(seed, &fixture);
    eprintln!("{script:#?}");
    if traced {
        // Another test may have set one; the trace is whole without it.
        let _ = tracing_subscriber::fmt().with_writer(std::io::stderr).without_time().try_init();
    }
    let aftermath = world::play(seed, script, &fixture, traced);
    for after in &aftermath.clients {
        eprintln!("{:#?}\n{:#?}", after.client, after.backends);
    }
    for record in &aftermath.records {
        let mut line = Vec::new();
        let record = crate::wire::audit::Record::Connection(Box::new(record.clone()));
        crate::wire::audit::write_line(&record, &mut line);
        eprint!("{}", String::from_utf8_lossy(&line));
    }
    let wrong = verdict::judge(&aftermath);
    if !wrong.is_empty() {
        print(seed, &wrong);
        panic!("seed {seed} breaks a rule");
    }
}
