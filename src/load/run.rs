//! From arguments to exit code: sets a run up, watches it, and says what came of it.

use std::fs;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;

use crate::load::args::{BulkArgs, HandshakeArgs, IdleArgs, MixArgs, OutputArgs, RequestArgs, RunArgs, TargetArgs};
use crate::load::bulk::{self, Bulk};
use crate::load::client::Clients;
use crate::load::connection::Acceptance;
use crate::load::drive::{self, Bounds, LoopKind, Observer, Outcome, Progress, Scenario};
use crate::load::handshake::{Handshakes, Kind};
use crate::load::idle::Idle;
use crate::load::mix::{self, file};
use crate::load::pace::Stop;
use crate::load::paths::Paths;
use crate::load::pki::Pki;
use crate::load::probe::{self, Findings};
use crate::load::process::{Family, Machine, Sample};
use crate::load::request::{Protocol, Requests};
use crate::load::summary::{self, Observations};
use crate::load::target::{Reach, Target};
use crate::load::worker::{Acceptances, Plan};
use crate::load::{Refusal, exit, http, limits, signal, units};

/// What is run, in the words of the report.
pub struct Naming {
    pub scenario: String,
    pub operation: &'static str,
    pub size_bytes: Option<usize>,
}

pub fn handshake(args: &HandshakeArgs) -> Result<u8, Refusal> {
    let (kind, word) = if args.resume { (Kind::Resumed, "resumed") } else { (Kind::Full, "full") };
    let naming = Naming { scenario: format!("handshake ({word})"), operation: "handshakes", size_bytes: None };
    let lanes = if args.run.rate.is_some() { limits::LANES_OPEN_DEFAULT } else { 16 };
    let mut setup = Setup::new(&args.target, &args.run, naming, lanes)?;
    if args.resume && setup.findings.refused.is_none() && !setup.findings.resumes {
        setup
            .notes
            .push("the server did not resume the probe's session: the handshakes below are full ones".to_owned());
    }
    setup.run(Handshakes { kind })
}

pub fn request(args: &RequestArgs) -> Result<u8, Refusal> {
    let (scenario, size_bytes) = match &args.http {
        Some(path) => (format!("request (GET {path})"), None),
        None => (format!("request ({} echoed)", units::bytes(args.size as f64)), Some(args.size)),
    };
    let naming = Naming { scenario, operation: "requests", size_bytes };
    // Checked before anything is connected to.
    if let Some(path) = &args.http {
        http::get(path, "localhost")?;
    }
    let setup = Setup::new(&args.target, &args.run, naming, 16)?;
    let protocol = match &args.http {
        Some(path) => {
            let host = args.target.sni.as_deref().unwrap_or(&setup.plan.target.host);
            Protocol::Http(http::get(path, host)?.into())
        }
        None => Protocol::Echo(args.size),
    };
    setup.run(Requests { protocol })
}

pub fn bulk(args: &BulkArgs) -> Result<u8, Refusal> {
    let scenario = format!("bulk ({:?})", args.direction).to_lowercase();
    let naming = Naming { scenario, operation: bulk::OPERATION, size_bytes: Some(bulk::CHUNK) };
    let mut setup = Setup::new(&args.target, &args.run, naming, 1)?;
    Arc::make_mut(&mut setup.plan).buffer_bytes = limits::BULK_BYTES;
    setup.run(Bulk { direction: args.direction })
}

pub fn idle(args: &IdleArgs) -> Result<u8, Refusal> {
    if args.run.rate.is_some() || args.run.count.is_some() {
        return Err(Refusal::usage("idle holds --connections for --duration; leave out --rate and --count"));
    }
    let naming = Naming { scenario: "idle".to_owned(), operation: "connections", size_bytes: args.exchange };
    let mut setup = Setup::new(&args.target, &args.run, naming, 1000)?;
    setup.bounds.loop_kind = LoopKind::Hold;
    setup.run(Idle { exchange: args.exchange })
}

pub fn mix(args: &MixArgs) -> Result<u8, Refusal> {
    let mix = file::read(&args.scenario)?;
    let file = args.scenario.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let naming = Naming { scenario: format!("mix ({file})"), operation: "visits", size_bytes: None };
    let setup = Setup::new(&args.target, &args.run, naming, mix.connections)?;
    let seats = mix.seats(setup.plan.connections)?.into();
    let stranger = Clients::stranger(&args.target, setup.pki.as_ref())?;
    setup.run(mix::Scenario { mix: Arc::new(mix), seats, stranger })
}

/// A run that is about to start: everything checked, the target probed.
pub struct Setup {
    pub plan: Arc<Plan>,
    pub bounds: Bounds,
    pub naming: Naming,
    pub run: RunArgs,
    pub findings: Findings,
    pub pki: Option<Pki>,
    pub notes: Vec<String>,
    family: Option<Family>,
}

impl Setup {
    fn new(target: &TargetArgs, run: &RunArgs, naming: Naming, connections: usize) -> Result<Setup, Refusal> {
        run.output.files().try_for_each(writable)?;
        let written = target.target.as_deref().or(target.target_option.as_deref()).unwrap_or_default();
        let resolved = Target::resolve(written, target.sni.as_deref(), Reach::new(target.yes_remote))?;
        let family = match (&run.cgroup, run.pid) {
            (Some(directory), _) => Some(Family::of_cgroup(directory)?),
            (None, Some(pid)) => Some(Family::new(pid)?),
            (None, None) => None,
        };
        let connections = run.connections.unwrap_or(connections);
        let notes = descriptors(connections)?;
        let (clients, pki) = Clients::build(target)?;
        if let Some(pki) = pki.as_ref().filter(|pki| pki.made_now()) {
            eprintln!("made a throw-away PKI; the server has to know it:\n{}", pki.instructions());
        }
        // Until the probe knows better: what is true of TLS 1.2, and of servers that send tickets.
        let acceptance = Acceptances { full: Acceptance::Ticket, resumed: Acceptance::Ticket };
        let threads = threads(run, connections);
        let mut plan = Arc::new(Plan {
            target: resolved,
            clients,
            connections,
            threads,
            timeout: run.timeout,
            buffer_bytes: limits::RECEIVE_BYTES,
            acceptance,
        });
        let findings = probe::probe(&plan).map_err(|refusal| advise(refusal, pki.as_ref()))?;
        Arc::make_mut(&mut plan).acceptance = findings.acceptance;
        let loop_kind = run.rate.map_or(LoopKind::Closed, LoopKind::Open);
        let bounds =
            Bounds { loop_kind, warmup: run.warmup, duration: run.duration, count: run.count, cpus: run.cpus.clone() };
        Ok(Setup { plan, bounds, naming, run: run.clone(), findings, pki, notes, family })
    }

    fn run<S: Scenario>(self, scenario: S) -> Result<u8, Refusal> {
        let stop = Stop::default();
        signal::stop_at_interrupt(&stop)?;
        let mut watcher = Watcher::new(&self);
        let paths = self.run.metrics.as_deref().map(Paths::ask).transpose()?;
        let outcome = drive::run(scenario, &self.plan, &self.bounds, &stop, &mut watcher)?;
        watcher.finish();
        let mut report = summary::report(&self, &outcome, &watcher.seen);
        if let (Some(before), Some(address)) = (paths, &self.run.metrics) {
            match Paths::ask(address) {
                Ok(after) => report.paths = Some(after.since(before)),
                Err(refusal) => report.notes.push(refusal.to_string()),
            }
        }
        publish(&report, &self.run.output)?;
        Ok(code(&outcome, self.bounds.loop_kind))
    }
}

/// 0 if all went well, 1 if some failed, 69 if nothing succeeded.
fn code(outcome: &Outcome, loop_kind: LoopKind) -> u8 {
    let tally = &outcome.tally;
    let failed = tally.failures.total() + tally.prepare_failures.total();
    let prepared = tally.prepare_latencies.len();
    if loop_kind == LoopKind::Hold && failed > 0 {
        return if prepared > tally.failures.total() { exit::FAILED } else { exit::UNAVAILABLE };
    }
    match (tally.operations.max(prepared.min(1)), failed) {
        (_, 0) => exit::OK,
        (0, _) => exit::UNAVAILABLE,
        _ if tally.operations == 0 && tally.failures.total() > 0 => exit::UNAVAILABLE,
        _ => exit::FAILED,
    }
}

/// Adds what a PKI's owner has to tell the server, where the server and the harness do not know each other.
fn advise(refusal: Refusal, pki: Option<&Pki>) -> Refusal {
    match pki {
        Some(pki) if refusal.message.contains("not trusted") => Refusal::new(
            refusal.code,
            format!("{}\nor let the server use the harness's PKI:\n{}", refusal, pki.instructions()),
        ),
        _ => refusal,
    }
}

/// Half the CPUs, so that the server has the other half, and never more threads than connections.
fn threads(run: &RunArgs, connections: usize) -> usize {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let named = run.cpus.as_ref().map(|cpus| cpus.0.len()).filter(|n| *n > 0);
    run.threads.or(named).unwrap_or_else(|| (cpus / 2).max(1)).min(connections)
}

/// Room for the connections and what else is open; a note where there is not.
pub fn descriptors(connections: usize) -> Result<Vec<String>, Refusal> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = connections as u64 + 512;
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(Vec::new());
    }
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.maximum.is_none_or(|maximum| maximum >= wanted) && setrlimit(Resource::Nofile, raised).is_ok() {
        return Ok(Vec::new());
    }
    Err(Refusal::new(
        exit::OS,
        format!("{connections} connections need {wanted} descriptors; raise `ulimit -n`, or use fewer --connections"),
    ))
}

/// A report in its forms.
pub trait Publish {
    fn json(&self) -> String;
    fn table(&self) -> String;
    fn html(&self) -> String;
}

/// Prints the table, or JSON where "-" was named, and writes the files.
pub fn publish(report: &impl Publish, output: &OutputArgs) -> Result<(), Refusal> {
    if let Some(path) = &output.html {
        fs::write(path, report.html()).map_err(|e| unwritable(path, &e))?;
    }
    match output.json.as_deref() {
        Some(path) if path == Path::new("-") => print(&report.json()),
        Some(path) => {
            fs::write(path, report.json()).map_err(|e| unwritable(path, &e))?;
            print(&report.table());
        }
        None => print(&report.table()),
    }
    Ok(())
}

/// Finds out before the run, not after it, that its report cannot be written.
pub fn writable(path: &Path) -> Result<(), Refusal> {
    if path == Path::new("-") {
        return Ok(());
    }
    let opened = fs::OpenOptions::new().append(true).create(true).open(path);
    opened.map(drop).map_err(|e| unwritable(path, &e))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Refusal {
    let denied = error.kind() == std::io::ErrorKind::PermissionDenied;
    let code = if denied { exit::PERMISSION } else { exit::CONFIG };
    Refusal::new(code, format!("{}: {error}; name a file that can be written", path.display()))
}

/// A reader that went away is no reason to panic.
fn print(text: &str) {
    if cfg!(test) {
        // The only way out that the test runner captures.
        print!("{text}");
        return;
    }
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Draws the progress line and samples the server at the right moments.
struct Watcher<'a> {
    setup: &'a Setup,
    seen: Observations,
    terminal: bool,
    drawn: bool,
}

impl<'a> Watcher<'a> {
    fn new(setup: &'a Setup) -> Watcher<'a> {
        let terminal = !setup.run.output.quiet && std::io::stderr().is_terminal();
        let seen = Observations { before: setup.family.as_ref().map(Family::sample), ..Observations::default() };
        Watcher { setup, seen, terminal, drawn: false }
    }

    fn sample(&self) -> Option<Sample> {
        self.setup.family.as_ref().map(Family::sample)
    }

    fn finish(&mut self) {
        if self.seen.after.is_none() {
            self.seen.after = self.sample();
        }
        self.seen.steal_share = Machine::now().steal_share_since(&self.seen.machine);
        if self.drawn {
            eprint!("\r\x1b[K");
        }
    }
}

impl Observer for Watcher<'_> {
    fn progress(&mut self, progress: &Progress<'_>) {
        if !self.terminal {
            return;
        }
        self.drawn = true;
        let sum = |of: fn(&crate::load::worker::Live) -> u64| progress.lives.iter().map(|l| of(l)).sum::<u64>();
        let line = match progress.window {
            None => format!("connecting: {} of {}", sum(|l| l.ready.value()), self.setup.plan.connections),
            Some(window) => {
                let gone = window.measure_from.elapsed().as_secs_f64();
                let failed = sum(|l| l.failed.value());
                format!(
                    "{gone:.0} s: {} {}, {failed} failed",
                    units::count(sum(|l| l.done.value())),
                    self.setup.naming.operation
                )
            }
        };
        eprint!("\r\x1b[K{line}");
    }

    fn prepared(&mut self) {
        self.seen.open = self.sample();
    }

    fn measuring(&mut self) {
        self.seen.machine = Machine::now();
        self.seen.start = self.sample();
    }

    fn measured(&mut self) {
        self.seen.after = self.sample();
        // Memory with everything open is looked at as late as possible: allocators settle.
        if self.setup.bounds.loop_kind == LoopKind::Hold {
            self.seen.open = self.seen.after.clone();
        }
    }
}
