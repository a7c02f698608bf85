//! The ground of every hostile test: a server with an attacked site and a probed one, and the reckoning at the end.

use super::record::last_alert;
use crate::world::backend::{Backend, Script, echo};
use crate::world::client::{Client, ClientSpec, Tickets};
use crate::world::config::{BackendText, ConfigText, SiteText};
use crate::world::pki::{KeyKind, LeafSpec, SERVER_NAME};
use crate::world::process::sanitizer_factor;
use crate::world::server::Server;
use crate::world::wait::{SOON, slowness, until};
use crate::world::{World, goes_by_kernel};
use serde_json::Value;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The name of the probe client's site.
pub const PROBED: &str = "probe.example";

/// Between two good handshakes of the probe.
const PROBE_EVERY: Duration = Duration::from_millis(20);

/// Half of the probe's rounds take less, whatever goes on: on a quiet machine they take milliseconds, and one that is held up
/// by the attack itself waits for the attackers' deadlines.
const PROBE_MEDIAN_MAX: Duration = Duration::from_secs(2);

/// What an attacker must have come to.
#[derive(Debug, Clone)]
struct Expected {
    what: String,
    /// The alert that was seen, where one could be read.
    alert: Option<u8>,
    /// `None`: a race decides whether it was let in.
    admitted: Option<bool>,
}

/// What an attack may cost the server; far above what it does cost, and far below what amplification would.
pub struct Bounds {
    pub cpu: Duration,
    pub memory_kib: u64,
}

/// One attack.
pub struct Siege {
    /// First, so that it has ended when the server does.
    probe: Probe,
    pub world: World,
    pub server: Server,
    /// Of the attacked site.
    pub backend: Backend,
    _steady: Backend,
    cpu: Duration,
    resident_kib: u64,
    attackers: HashMap<SocketAddr, Vec<Expected>>,
    silent: Vec<SocketAddr>,
    perhaps: Vec<SocketAddr>,
    reached: usize,
    start: Instant,
}

impl Siege {
    /// In the standard configuration before an echoing backend.
    pub fn lay() -> Siege {
        Siege::with(echo(), |config| config)
    }

    /// Before a backend of this script; `change` may add to the configuration. Its first site is the attacked one.
    pub fn with(script: Script, change: impl FnOnce(ConfigText) -> ConfigText) -> Siege {
        Siege::started(script, change, |world, config| Server::start(world.path(), &config.write(world.path())))
    }

    /// The same with a server that is started in some way of the test's own.
    pub fn started(
        script: Script,
        change: impl FnOnce(ConfigText) -> ConfigText,
        start: impl FnOnce(&World, &ConfigText) -> Server,
    ) -> Siege {
        let (world, backend, steady) = (World::new(), Backend::tcp(script), Backend::tcp(echo()));
        let names = [SERVER_NAME, PROBED, "*.boom.example"];
        world.pki.server_ca.leaf(&LeafSpec::server(&names, KeyKind::Ecdsa)).write(world.path(), "server");
        let mut config = ConfigText::new(&backend.server).admin();
        config.sites.push(SiteText::new("steady").add("name = \"probed\"").add(&format!("names = [\"{PROBED}\"]")));
        config.backends.push(BackendText::new("steady", &[&steady.server]));
        let config = change(config);
        let server = start(&world, &config);
        let probe = Probe::start(&world, &server);
        assert!(until(SOON, || probe.rounds() >= 10 || probe.has_failed()), "the probe does not get through");
        let (cpu, resident_kib) = (server.process.cpu_time(), server.process.resident_kib());
        let (attackers, silent, perhaps, reached) = Default::default();
        let start = Instant::now();
        Siege {
            world,
            server,
            backend,
            _steady: steady,
            probe,
            cpu,
            resident_kib,
            attackers,
            silent,
            perhaps,
            reached,
            start,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// This attacker spoke and must have been refused; `alert` is what it read, if it read one.
    pub fn refused(&mut self, client: SocketAddr, alert: Option<u8>, what: impl Into<String>) {
        self.expect(client, Expected { what: what.into(), alert, admitted: Some(false) });
    }

    /// The same from a plaintext answer.
    pub fn refused_with(&mut self, client: SocketAddr, answer: &[u8], what: impl Into<String>) {
        self.refused(client, last_alert(answer), what);
    }

    /// This attacker was let in before it attacked.
    pub fn admitted(&mut self, client: SocketAddr, what: impl Into<String>) {
        self.expect(client, Expected { what: what.into(), alert: None, admitted: Some(true) });
    }

    /// This one spoke, and a race decides whether it was let in before it left.
    pub fn either(&mut self, client: SocketAddr, what: impl Into<String>) {
        self.expect(client, Expected { what: what.into(), alert: None, admitted: None });
    }

    /// This many connections reached the backend of which the audit does not say so.
    pub fn reached(&mut self, connections: usize) {
        self.reached += connections;
    }

    /// This one spoke, and a race decides whether anything of it was seen before it left.
    pub fn perhaps(&mut self, client: SocketAddr) {
        self.perhaps.push(client);
    }

    /// This one never said a byte: no line is owed for it.
    pub fn silent(&mut self, client: SocketAddr) {
        self.silent.push(client);
    }

    fn expect(&mut self, client: SocketAddr, expected: Expected) {
        self.attackers.entry(client).or_default().push(expected);
    }

    /// The value of a metric, summed over its labels.
    pub fn metric(&self, name: &str) -> f64 {
        let admin = self.server.ready_value("admin").unwrap().parse().unwrap();
        let (_, page) = crate::world::http::get(admin, "/metrics");
        let lines =
            page.lines().filter(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} ")));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// CPU time of the server since the beginning.
    pub fn cpu(&self) -> Duration {
        self.server.process.cpu_time() - self.cpu
    }

    /// The reckoning, and an orderly end of the server.
    pub fn end(self, what: &str, bounds: &Bounds) {
        let server = self.reckon(what, bounds);
        assert_eq!(server.stop(), 0);
    }

    /// The reckoning alone.
    pub fn reckon(self, what: &str, bounds: &Bounds) -> Server {
        let lines = self.settled_lines();
        self.compare(&lines);
        self.probed(what, bounds)
    }

    /// Of the reckoning what does not ask for the attackers one by one.
    pub fn probed(mut self, what: &str, bounds: &Bounds) -> Server {
        let peak = high_water_kib(&self.server) - self.resident_kib.min(high_water_kib(&self.server));
        let (cpu, attackers) = (self.cpu(), self.attackers.values().map(Vec::len).sum::<usize>());
        // A short attack may fall between two rounds: one that began after it has to end well.
        let rounds = self.probe.rounds() + 2;
        let served = until(SOON, || self.probe.rounds() >= rounds || self.probe.has_failed());
        let (told, median) = self.probe.stop();
        assert!(served, "{what}: the probe is not served any more: {told}");
        if goes_by_kernel("1.2") {
            self.rests(what);
        }
        println!(
            "{what}: {attackers} attackers in {:?}; server: {cpu:?} of CPU, {peak} KiB; {told}",
            self.start.elapsed()
        );
        let factor = sanitizer_factor();
        assert!(median < PROBE_MEDIAN_MAX * factor * slowness(), "{what}: the probe was held up: {told}");
        assert!(
            cpu < bounds.cpu * factor * slowness(),
            "{what}: {cpu:?} of CPU, at most {:?} were expected",
            bounds.cpu
        );
        let memory_kib = bounds.memory_kib * u64::from(factor);
        assert!(peak < memory_kib, "{what}: {peak} KiB, at most {memory_kib} were expected");
        self.server
    }

    /// Holds that nothing goes on once the attack is over: readiness that brings nothing must not keep a worker busy.
    fn rests(&self, what: &str) {
        let (before, start) = (self.cpu(), Instant::now());
        std::thread::sleep(Duration::from_millis(1500));
        let (spent, wall) = (self.cpu() - before, start.elapsed());
        assert!(spent < wall / 3, "{what}: {spent:?} of CPU in {wall:?} after its end");
    }

    /// By client, its lines once each attacker has all that it is owed.
    fn settled_lines(&self) -> HashMap<SocketAddr, Vec<Value>> {
        let mut lines = HashMap::new();
        until(SOON, || {
            lines = by_client(self.server.audit());
            self.attackers.iter().all(|(client, expected)| {
                let of_client = lines.get(client).map_or(&[][..], Vec::as_slice);
                let count = |event: &str| of_client.iter().filter(|line| line["event"] == event).count();
                count("refused") + count("accepted") >= expected.len() && count("closed") >= count("accepted")
            })
        });
        lines
    }

    fn compare(&self, lines: &HashMap<SocketAddr, Vec<Value>>) {
        let mut admitted = 0;
        for (client, expected) in &self.attackers {
            let of_client = lines.get(client).map_or(&[][..], Vec::as_slice);
            let begun: Vec<&Value> = of_client.iter().filter(|line| line["event"] != "closed").collect();
            assert_eq!(begun.len(), expected.len(), "{expected:?}: {of_client:#?}");
            for (line, expected) in begun.iter().zip(expected) {
                compare_one(line, expected);
                admitted += usize::from(line["event"] == "accepted");
            }
            let closed = of_client.iter().filter(|line| line["event"] == "closed").count();
            let accepted = begun.iter().filter(|line| line["event"] == "accepted").count();
            assert_eq!(closed, accepted, "{expected:?}: {of_client:#?}");
        }
        for client in &self.silent {
            let used = self.attackers.contains_key(client) || self.perhaps.contains(client);
            assert!(used || !lines.contains_key(client), "a line for one that said nothing: {:?}", lines[client]);
        }
        for client in &self.perhaps {
            let of_client = lines.get(client).map_or(0, Vec::len);
            let used =
                self.attackers.contains_key(client) || self.perhaps.iter().filter(|one| *one == client).count() > 1;
            assert!(used || of_client <= 1, "{:?}", lines[client]);
        }
        assert_eq!(
            self.backend.connections(),
            admitted + self.reached,
            "connections that reached the attacked backend"
        );
    }
}

fn compare_one(line: &Value, expected: &Expected) {
    if let Some(admitted) = expected.admitted {
        assert_eq!(line["event"], if admitted { "accepted" } else { "refused" }, "{}: {line}", expected.what);
    }
    assert_ne!(line["reason"], "internal", "{}: {line}", expected.what);
    let Some(alert) = expected.alert else { return };
    assert_eq!(line["our_alert"].as_u64(), Some(alert.into()), "{}: {line}", expected.what);
}

/// Without the probe's lines: it may get a port that an attacker had before.
fn by_client(lines: Vec<Value>) -> HashMap<SocketAddr, Vec<Value>> {
    let mut all: HashMap<SocketAddr, Vec<Value>> = HashMap::new();
    for line in lines.into_iter().filter(|line| line["site"] != "probed") {
        if let Some(client) = line["client"].as_str().and_then(|client| client.parse().ok()) {
            all.entry(client).or_default().push(line);
        }
    }
    all
}

/// The most memory that the server has had, in KiB.
fn high_water_kib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// A client that does what clients do, over and over, at a site that nobody attacks.
struct Probe {
    stopped: Arc<AtomicBool>,
    rounds: Arc<std::sync::atomic::AtomicUsize>,
    handle: Option<JoinHandle<Vec<Duration>>>,
}

impl Probe {
    fn start(world: &World, server: &Server) -> Probe {
        let (stopped, rounds): (Arc<AtomicBool>, Arc<std::sync::atomic::AtomicUsize>) = Default::default();
        let config = ClientSpec::new(&world.pki).tickets(&Tickets::new()).build();
        let (stop, count, address) = (stopped.clone(), rounds.clone(), server.address());
        let handle = std::thread::spawn(move || {
            let mut latencies = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                let start = Instant::now();
                let mut client = Client::connect(&config, PROBED, address);
                client.echo(b"unharmed").unwrap_or_else(|ending| panic!("the probe was harmed: {ending:?}"));
                latencies.push(start.elapsed());
                client.close_notify();
                count.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(PROBE_EVERY * slowness());
            }
            latencies
        });
        Probe { stopped, rounds, handle: Some(handle) }
    }

    fn rounds(&self) -> usize {
        self.rounds.load(Ordering::SeqCst)
    }

    fn has_failed(&self) -> bool {
        self.handle.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends it: what it saw, and the median of its rounds. An error of its own is the test's failure.
    fn stop(&mut self) -> (String, Duration) {
        self.stopped.store(true, Ordering::SeqCst);
        let handle = self.handle.take().expect("it is stopped once");
        let mut latencies = handle.join().expect("the probe client saw an error");
        latencies.sort_unstable();
        let at = |share: usize| latencies[(latencies.len() - 1) * share / 100];
        let told =
            format!("probe: {} rounds, median {:?}, 99 % {:?}, longest {:?}", latencies.len(), at(50), at(99), at(100));
        (told, at(50))
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        if let Some(handle) = self.handle.take() {
            // The test has failed already; what the probe saw does not matter any more.
            let _ = handle.join();
        }
    }
}
