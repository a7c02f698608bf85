//! `compare`: Countersign and its peers on this machine, side by side, with the same settings, in slices that take turns.
//!
//! For each scenario every program is started afresh on the servers' CPU, tried out, and measured A B C A B C …, until the
//! slices agree or a bound is reached. What cannot take part in a scenario is named with its reason; the rest goes on.

use std::fs;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crate::load::args::{BackendMode, TargetArgs, TlsVersion};
use crate::load::backend::{Backend, Manner};
use crate::load::client::Clients;
use crate::load::connection::Acceptance;
use crate::load::floor::Floor;
use crate::load::pace::Stop;
use crate::load::paths::Paths;
use crate::load::pki::Pki;
use crate::load::probe;
use crate::load::process::{Family, Machine};
use crate::load::target::{Reach, Target};
use crate::load::units::Cpus;
use crate::load::worker::{Acceptances, Plan};
use crate::load::{Refusal, exit, limits, run, signal};

use args::CompareArgs;
use child::{Child, Nursery};
use machine::MachineNote;
use peer::{Kind, Missing, Peer};
use recipe::{GROUP, Place, SUITE};
use report::{Comparison, Row};
use scenario::{Scenario, Socket};
use slice::{Attempt, Cut, Slice};

pub mod args;
pub mod child;
pub mod machine;
pub mod peer;
pub mod recipe;
pub mod report;
pub mod scenario;
pub mod series;
pub mod slice;
pub mod table;

/// The whole command.
pub fn compare(args: &CompareArgs) -> Result<u8, Refusal> {
    args.output.files().try_for_each(run::writable)?;
    let scenarios = Scenario::chosen(args)?;
    let (peers, missing) = peer::find(args)?;
    let mut course = Course::new(args, peers)?;
    course.tell(&missing);
    let end = Instant::now() + args.duration;
    let mut rows = Vec::new();
    for scenario in &scenarios {
        if course.stop.is_set() || Instant::now() >= end {
            break;
        }
        rows.push(course.row(scenario, end)?);
    }
    course.clear_line();
    let interrupted = course.stop.is_set();
    let comparison = Comparison::new(args, &course, missing, rows, interrupted);
    run::publish(&comparison, &args.output)?;
    Ok(comparison.code())
}

/// Everything that stays the same from scenario to scenario.
pub struct Course<'a> {
    args: &'a CompareArgs,
    peers: Vec<Peer>,
    clients: Clients,
    server_cpu: usize,
    generator_cpus: Cpus,
    machine: MachineNote,
    stop: Stop,
    nursery: Nursery,
    terminal: bool,
    backends: Vec<(BackendMode, Backend)>,
    directory: Directory,
}

impl<'a> Course<'a> {
    fn new(args: &'a CompareArgs, peers: Vec<Peer>) -> Result<Course<'a>, Refusal> {
        let (server_cpu, generator_cpus) = cpus(args.cpus.as_ref())?;
        let machine = MachineNote::look(server_cpu, &generator_cpus.0);
        let directory = Directory::new()?;
        let pki = Pki::open(Some(&directory.0.join("pki")))?;
        drop(pki);
        let target = TargetArgs {
            pki: Some(directory.0.join("pki")),
            tls: Some(TlsVersion::V13),
            cipher_suites: vec![SUITE.to_owned()],
            groups: vec![GROUP.to_owned()],
            identities: 1,
            ..TargetArgs::default()
        };
        let (clients, _) = Clients::build(&target)?;
        // What the programs inherit; each of them needs two for a connection.
        run::descriptors(2 * args.idle as usize + 2048)?;
        let (stop, nursery) = (Stop::default(), Nursery::default());
        let (first, last) = (stop.clone(), nursery.clone());
        let scratch = directory.0.clone();
        signal::on_interrupts(move |nth| match nth {
            1 => first.set(),
            _ => {
                last.kill_all();
                let _ = fs::remove_dir_all(&scratch);
                std::process::exit(signal::INTERRUPTED);
            }
        })?;
        let terminal = !args.output.quiet && std::io::stderr().is_terminal();
        Ok(Course {
            args,
            peers,
            clients,
            server_cpu,
            generator_cpus,
            machine,
            stop,
            nursery,
            terminal,
            backends: Vec::new(),
            directory,
        })
    }

    /// Who takes part, and who does not.
    fn tell(&self, missing: &[Missing]) {
        if self.args.output.quiet {
            return;
        }
        let named = |p: &Peer| format!("{} {}", p.name, p.version).trim_end().to_owned();
        eprintln!("comparing {}", self.peers.iter().map(named).collect::<Vec<_>>().join(", "));
        for one in missing {
            eprintln!("without {}: {}", one.name, one.why);
        }
    }

    /// One scenario over all programs.
    fn row(&mut self, scenario: &Scenario, end: Instant) -> Result<Row, Refusal> {
        let backend = self.backend(scenario)?;
        let floor = Floor::measure_on(self.server_cpu)?;
        let mut row = Row::new(scenario, floor);
        let mut field: Vec<Runner> = Vec::new();
        for peer in &self.peers.clone() {
            self.draw(scenario, &format!("starting {}", peer.name));
            match self.start(peer, scenario, &backend) {
                Ok(runner) => field.push(runner),
                Err(why) => row.leave_out(peer, why),
            }
        }
        let most = scenario.slices(self.args.slices);
        let machine = Machine::now();
        for round in 1..=most {
            for runner in field.iter_mut().filter(|runner| runner.out.is_none()) {
                self.draw(scenario, &format!("round {round} of at most {most}, {}", runner.peer.name));
                self.slice(scenario, runner, &backend);
            }
            let agreed = field.iter().filter(|r| r.out.is_none()).all(|r| r.spread() * 100.0 <= self.args.spread);
            if (round >= limits::COMPARE_SLICES_MIN && agreed) || Instant::now() >= end || self.stop.is_set() {
                break;
            }
        }
        row.steal_share = Machine::now().steal_share_since(&machine);
        for runner in field {
            let paths = runner.paths();
            match runner.out {
                Some(_) if self.stop.is_set() && !runner.slices.is_empty() => {
                    row.take(&runner.peer, runner.slices, paths);
                }
                Some(why) => row.leave_out(&runner.peer, why),
                None => row.take(&runner.peer, runner.slices, paths),
            }
        }
        Ok(row)
    }

    /// One slice of one program; a program that fails is out of this scenario.
    fn slice(&self, scenario: &Scenario, runner: &mut Runner, backend: &str) {
        if self.stop.is_set() {
            return;
        }
        if scenario.wants_fresh_process() && !runner.slices.is_empty() {
            match self.start(&runner.peer, scenario, backend) {
                Ok(fresh) => {
                    runner.child = fresh.child;
                    runner.plan = fresh.plan;
                    runner.family = fresh.family;
                    runner.admin = fresh.admin;
                }
                Err(why) => {
                    runner.out = Some(why);
                    return;
                }
            }
        }
        match self.undisturbed(scenario, runner) {
            Ok(Some(slice)) => runner.slices.push(slice),
            Ok(None) if self.stop.is_set() => {}
            Ok(None) => runner.out = Some("nothing was finished within its slices; use a longer --slice".to_owned()),
            Err(_) if self.stop.is_set() => {}
            Err(refusal) => runner.out = Some(runner.child.has_ended().unwrap_or(refusal.message)),
        }
    }

    /// A slice as good as can be had.
    fn undisturbed(&self, scenario: &Scenario, runner: &Runner) -> Result<Option<Slice>, Refusal> {
        let mut last = None;
        for attempt in 0..=limits::COMPARE_REPEATS_EMPTY {
            if attempt > limits::COMPARE_REPEATS && last.is_some() {
                break;
            }
            let length = (self.args.slice * 2u32.pow(attempt)).min(self.args.slice.max(limits::COMPARE_REPEAT_MAX));
            let cut = Cut { length, cpus: self.generator_cpus.clone() };
            match slice::run(scenario, &runner.plan, &runner.family, &cut, &self.stop)? {
                Attempt::Good(slice) => return Ok(Some(slice)),
                Attempt::Disturbed(slice) => last = slice.or(last),
            }
            if self.stop.is_set() || scenario.wants_fresh_process() {
                break;
            }
        }
        Ok(last)
    }

    /// Starts one program and sees that it does what it is to do.
    fn start(&self, peer: &Peer, scenario: &Scenario, backend: &str) -> Result<Runner, String> {
        let said = |e: std::io::Error| e.to_string();
        let directory = self.directory.0.join(&peer.name);
        fs::create_dir_all(&directory).map_err(said)?;
        let place = Place {
            pki: self.directory.0.join("pki"),
            listen: child::free_address().map_err(said)?,
            admin: child::free_address().map_err(said)?,
            backend: backend.to_owned(),
            cpu: self.server_cpu,
            connections: scenario.connections.max(256),
            directory,
        };
        let words = recipe::command(peer, &place).map_err(said)?;
        let mut child = Child::start(&words, self.server_cpu, &place.directory.join("log"), &self.nursery)?;
        child.wait_until_it_listens(place.listen, &self.stop)?;
        let target = Target::resolve(&place.listen.to_string(), None, Reach::LoopbackOnly).map_err(|r| r.message)?;
        let acceptance = Acceptances { full: Acceptance::Ticket, resumed: Acceptance::Ticket };
        let mut plan = Plan {
            target,
            clients: self.clients.clone(),
            connections: scenario.connections,
            threads: self.generator_cpus.0.len().min(scenario.connections),
            timeout: limits::TIMEOUT_DEFAULT,
            buffer_bytes: scenario.buffer_bytes(),
            acceptance,
        };
        let findings = probe::probe(&Arc::new(plan.clone())).map_err(|refusal| refusal.message)?;
        if let Some(why) = findings.refused {
            return Err(child.has_ended().unwrap_or(why));
        }
        if let Some(got) = findings.negotiated.filter(|n| n.cipher != SUITE || n.group.as_deref() != Some(GROUP)) {
            return Err(format!("it negotiated {} with {}", got.cipher, got.group.unwrap_or_default()));
        }
        plan.acceptance = findings.acceptance;
        let family = Family::new(child.pid()).map_err(|refusal| refusal.message)?;
        let (plan, slices) = (Arc::new(plan), Vec::new());
        let admin = place.admin.to_string();
        Ok(Runner { peer: peer.clone(), child, plan, family, admin, slices, out: None })
    }

    /// The address of the backend that `scenario` needs; each kind is started once, on the generator's CPUs.
    fn backend(&mut self, scenario: &Scenario) -> Result<String, Refusal> {
        let behind = scenario.behind;
        if !self.backends.iter().any(|(mode, _)| *mode == behind.mode) {
            let socket = self.directory.0.join(format!("{:?}.sock", behind.mode).to_lowercase());
            let listen = ["127.0.0.1:0".to_owned(), format!("unix:{}", socket.display())];
            let manner = Manner::new(behind.mode, false, 0);
            let cpus = &self.generator_cpus.0;
            let backend = Backend::start(&listen, Reach::LoopbackOnly, &manner, cpus.len(), cpus)?;
            self.backends.push((behind.mode, backend));
        }
        let found = self.backends.iter().find(|(mode, _)| *mode == behind.mode);
        let index = if behind.socket == Socket::Tcp { 0 } else { 1 };
        let address = found.and_then(|(_, backend)| backend.addresses.get(index).cloned());
        address.ok_or_else(|| Refusal::new(exit::INTERNAL, "the backend has no address, please report it"))
    }

    fn draw(&self, scenario: &Scenario, what: &str) {
        if self.terminal {
            eprint!("\r\x1b[K{}: {what}", scenario.name);
        }
    }

    fn clear_line(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}

/// One program in one scenario.
struct Runner {
    peer: Peer,
    child: Child,
    plan: Arc<Plan>,
    family: Family,
    admin: String,
    slices: Vec<Slice>,
    /// Why it does not go on.
    out: Option<String>,
}

impl Runner {
    /// By which path it moved its bytes, where it is one that can say so.
    fn paths(&self) -> Option<Paths> {
        let ours = matches!(&self.peer.kind, Kind::Known(program, _) if program.is_countersign());
        ours.then(|| Paths::ask(&self.admin).ok()).flatten()
    }

    fn spread(&self) -> f64 {
        series::spread(&self.slices.iter().map(|s| s.figure).collect::<Vec<_>>())
    }
}

/// The servers' CPU, and the generator's; the same one where there is no other.
fn cpus(wanted: Option<&Cpus>) -> Result<(usize, Cpus), Refusal> {
    let allowed: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|c| c.id).collect();
    let list = wanted.map_or_else(|| allowed.iter().copied().take(2).collect(), |cpus| cpus.0.clone());
    if let Some(cpu) = list.iter().find(|cpu| !allowed.contains(cpu)) {
        return Err(Refusal::usage(format!("--cpus: CPU {cpu} may not be used here; there are {allowed:?}")));
    }
    match list.split_first() {
        None => Err(Refusal::new(exit::OS, "which CPUs may be used cannot be seen; name them with --cpus 0,1")),
        Some((only, [])) => Ok((*only, Cpus(vec![*only]))),
        Some((server, generator)) => Ok((*server, Cpus(generator.to_vec()))),
    }
}

/// A scratch directory that is removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Result<Directory, Refusal> {
        use std::os::unix::fs::DirBuilderExt;
        let base = std::env::temp_dir();
        // Its name need not be secret: where it exists already, whoever made it is not obeyed.
        for n in 0..1000 {
            let path = base.join(format!("countersign-compare-{}-{n}", std::process::id()));
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Directory(path)),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => {
                    let message = format!("no scratch directory in {}: {e}; set TMPDIR", base.display());
                    return Err(Refusal::new(exit::OS, message));
                }
            }
        }
        Err(Refusal::new(exit::OS, format!("no free name for a scratch directory in {}", base.display())))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What cannot be removed lies in the temporary directory, where it is looked after.
        let _ = fs::remove_dir_all(&self.0);
    }
}
