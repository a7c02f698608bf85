//! Makes a report of what was counted and sampled, and finds what is wrong with it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::load::drive::{LoopKind, Outcome};
use crate::load::failure::Failures;
use crate::load::process::{Machine, Memory, Sample, ThreadUse, Usage};
use crate::load::report::{ClientKind, Harness, PerOperation, Report, Server, Settings, fell_behind};
use crate::load::run::Setup;
use crate::load::worker::{ClassTally, Tally};
use crate::load::{bulk, limits, units};

/// The server's samples at the moments that matter, where `--pid` was given.
#[derive(Debug, Default)]
pub struct Observations {
    /// Before the first connection of the run.
    pub before: Option<Sample>,
    /// With every connection open.
    pub open: Option<Sample>,
    /// When measuring began.
    pub start: Option<Sample>,
    pub after: Option<Sample>,
    /// All CPUs when measuring began.
    pub machine: Machine,
    pub steal_share: f64,
}

/// Everything, put together.
pub fn report(setup: &Setup, outcome: &Outcome, seen: &Observations) -> Report {
    let (tally, plan, bounds) = (&outcome.tally, &setup.plan, &setup.bounds);
    let elapsed_seconds = outcome.elapsed.as_secs_f64();
    let hold = bounds.loop_kind == LoopKind::Hold;
    let operations = if hold { opened(setup, tally) } else { tally.operations };
    let harness = harness(&outcome.threads, tally.operations);
    let latencies = if hold { &tally.prepare_latencies } else { &tally.latencies };
    let settings = Settings {
        connections: plan.connections,
        rate_per_second: None,
        closed_loop: true,
        threads: plan.threads,
        identities: plan.clients.count(),
        warmup_seconds: bounds.warmup.as_secs_f64(),
        timeout_seconds: plan.timeout.as_secs_f64(),
        size_bytes: setup.naming.size_bytes,
    };
    Report {
        program: "countersign-load",
        version: env!("CARGO_PKG_VERSION"),
        scenario: setup.naming.scenario.clone(),
        target: plan.target.to_string(),
        settings: settings.loop_kind(bounds.loop_kind),
        negotiated: setup.findings.negotiated.clone(),
        elapsed_seconds,
        operations,
        operation: setup.naming.operation,
        operations_per_second: operations as f64 / elapsed_seconds.max(1e-9),
        resumed: tally.resumed,
        bytes_in: tally.bytes_in,
        bytes_out: tally.bytes_out,
        errors: tally.failures.total(),
        errors_by_kind: by_kind(&tally.failures),
        prepare_errors_by_kind: by_kind(&tally.prepare_failures),
        error_example: tally.example.clone(),
        not_begun: tally.not_begun,
        closed_late: tally.closed_late,
        latency_us: latencies.summary(),
        latency_curve: latencies.curve(),
        start_lag_us: if matches!(bounds.loop_kind, LoopKind::Open(_)) { tally.start_lag.summary() } else { None },
        clients: tally.classes.iter().map(|(name, class)| kind(name, class)).collect(),
        server: server(setup, tally, operations, seen),
        paths: None,
        notes: notes(setup, outcome, &harness, seen),
        harness,
    }
}

fn kind(name: &'static str, class: &ClassTally) -> ClientKind {
    ClientKind {
        kind: name,
        operations: class.operations,
        errors_by_kind: by_kind(&class.failures),
        endings: by_kind(&class.endings),
        latency_us: class.latencies.summary(),
    }
}

/// Connections that `idle` got open, and that stayed so.
fn opened(setup: &Setup, tally: &Tally) -> u64 {
    (setup.plan.connections as u64).saturating_sub(tally.prepare_failures.total() + tally.failures.total())
}

fn by_kind(failures: &Failures) -> BTreeMap<String, u64> {
    failures.iter().map(|(kind, n)| (kind.to_owned(), n)).collect()
}

fn server(setup: &Setup, tally: &Tally, operations: u64, seen: &Observations) -> Option<Server> {
    let (before, open) = (seen.before.as_ref()?, seen.open.as_ref()?);
    // A run that was stopped before it was measured has a start of none.
    let (start, after) = (seen.start.as_ref().unwrap_or(open), seen.after.as_ref()?);
    // A process that is gone took its counters along.
    if after.is_of_nobody() {
        return None;
    }
    let usage = after.since(start);
    let bytes = (tally.bytes_in + tally.bytes_out) as f64;
    let hold = setup.bounds.loop_kind == LoopKind::Hold;
    let is_bulk = setup.naming.operation == bulk::OPERATION;
    Some(Server {
        pid: setup.run.pid,
        cpu_us_per_operation: if hold || is_bulk { None } else { PerOperation::new(&usage, operations) },
        cpu_seconds_per_gib: (is_bulk && bytes > 0.0).then(|| usage.cpu_seconds * (1u64 << 30) as f64 / bytes),
        memory_before: before.memory,
        memory_open: open.memory,
        memory_after: after.memory,
        memory_per_connection: if hold && tally.failures.total() == 0 {
            growth(&before.memory, &open.memory, operations)
        } else {
            None
        },
        usage,
    })
}

fn growth(before: &Memory, open: &Memory, connections: u64) -> Option<Memory> {
    let each = |open: u64, before: u64| open.saturating_sub(before) / connections;
    (connections > 0).then(|| Memory { rss: each(open.rss, before.rss), pss: each(open.pss, before.pss) })
}

fn harness(threads: &[ThreadUse], operations: u64) -> Harness {
    let cpu_seconds = threads.iter().map(|t| t.cpu_seconds).sum();
    let busiest = threads.iter().map(|t| t.busy_share).fold(0.0, f64::max);
    Harness {
        cpu_seconds,
        cpu_us_per_operation: (operations > 0).then(|| cpu_seconds * 1e6 / operations as f64),
        busiest_thread_share: busiest,
        threads: threads.to_vec(),
        was_bottleneck: threads.iter().any(|t| t.wanted_share() > limits::BUSY_SHARE_NOTED),
    }
}

/// What to know before believing the figures.
fn notes(setup: &Setup, outcome: &Outcome, harness: &Harness, seen: &Observations) -> Vec<String> {
    let (mut notes, tally) = (setup.notes.clone(), &outcome.tally);
    notes.extend(busy_note(outcome, harness));
    if seen.steal_share > limits::STEAL_SHARE_NOTED {
        let share = 100.0 * seen.steal_share;
        notes
            .push(format!("the hypervisor took {share:.1} % of the CPU time: compare only runs that were interleaved"));
    }
    if fell_behind(tally.not_begun, tally.operations + tally.failures.total()) {
        let n = units::count(tally.not_begun);
        let slow = if harness.was_bottleneck { "the harness" } else { "the target" };
        notes.push(format!(
            "{n} operations were due and never began: {slow} is slower than --rate, and the latencies are a lower bound"
        ));
    }
    let open = matches!(setup.bounds.loop_kind, LoopKind::Open(_));
    if let Some(lag) =
        tally.start_lag.summary().filter(|lag| open && Duration::from_micros(lag.p99) > limits::START_LAG_NOTED)
    {
        let late = units::micros(lag.p99 as f64);
        notes.push(format!(
            "1 % of the operations began {late} or more late, for want of a free connection or of CPU for the harness"
        ));
    }
    if tally.closed_late > 0 {
        let n = units::count(tally.closed_late);
        notes.push(format!(
            "{n} connections were not ended by the server within {:?} of our close_notify",
            limits::CLOSE_WAIT
        ));
    }
    if setup.bounds.loop_kind == LoopKind::Hold && tally.failures.total() > 0 {
        let n = units::count(tally.failures.total());
        notes.push(format!("the server ended {n} of the connections while they were held: do not divide its memory"));
    }
    notes.extend(trust_note(setup, tally));
    notes.extend(cost_note(seen));
    notes
}

/// How the harness was for want of CPU.
fn busy_note(outcome: &Outcome, harness: &Harness) -> Option<String> {
    let waited = 100.0 * outcome.threads.iter().map(|t| t.wait_share).fold(0.0, f64::max);
    let own = "rate and latency are the harness's own, only CPU per operation is the server's";
    if harness.busiest_thread_share > limits::BUSY_SHARE_NOTED {
        return Some(format!("a harness thread used all of its CPU: {own}; use more --threads or fewer --connections"));
    }
    if harness.was_bottleneck {
        return Some(format!(
            "a harness thread always had work and waited for a CPU {waited:.0} % of the time: {own}; give it a CPU of its own \
             (--cpus), or fewer --connections"
        ));
    }
    (waited > 100.0 * limits::WAIT_SHARE_NOTED).then(|| {
        format!("the harness waited for a CPU {waited:.0} % of the time: something else runs there; see --cpus")
    })
}

/// A server that does not know the client's CA is the usual first stumble.
fn trust_note(setup: &Setup, tally: &Tally) -> Option<String> {
    let unknown = |failures: &Failures| failures.iter().any(|(kind, _)| kind == "alert:unknown_ca");
    let pki = setup.pki.as_ref().filter(|_| unknown(&tally.failures) || unknown(&tally.prepare_failures))?;
    Some(format!("the server does not trust the harness's clients; let it use this PKI:\n{}", pki.instructions()))
}

/// Ticks of a hundredth of a second split user and system time badly where there are few of them.
fn cost_note(seen: &Observations) -> Option<String> {
    let after = seen.after.as_ref()?;
    if after.is_of_nobody() {
        return Some("the server's process ended during the run: there are no figures of it".to_owned());
    }
    let usage: Usage = after.since(seen.start.as_ref()?);
    (usage.cpu_seconds < 0.2)
        .then(|| "the server used less than 0.2 s of CPU: too little to divide; run longer for CPU figures".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_harness_that_always_had_work_was_the_bottleneck_with_or_without_a_cpu() {
        let thread = |busy: f64, wait: f64| {
            let mut thread = ThreadUse::now();
            (thread.busy_share, thread.wait_share) = (busy, wait);
            thread
        };
        for (busy, wait, expected) in [(0.97, 0.0, true), (0.28, 0.71, true), (0.4, 0.3, false), (0.0, 0.0, false)] {
            let own = harness(&[thread(0.1, 0.0), thread(busy, wait)], 10);
            assert_eq!(own.was_bottleneck, expected, "{busy} busy, {wait} waiting");
        }
    }
}
