//! What one worker counts. The worker alone writes; the control thread reads and adds up.

use super::gauges::Pause;
use crate::config::{Config, Site};
use crate::relay::{Limit, Took};
use crate::stats::{Counter, Histogram};
use crate::tls::{Declined, Stay};
use crate::trust::{CacheStats, Reason};
use crate::wire::audit::Path;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

/// Counters of one worker, as one generation of the configuration numbers its listeners, sites and servers. What a
/// reload keeps by name keeps its counts: the generations share them.
#[derive(Debug)]
pub struct Counters {
    /// One for each listener, by its index in the configuration.
    pub listeners: Vec<Arc<ListenerCounters>>,
    /// One for each site, by its index in the configuration.
    pub sites: Vec<Arc<SiteCounters>>,
    /// One for each server of each backend, by index.
    pub backends: Vec<Vec<Arc<ServerCounters>>>,
    /// What belongs to no generation.
    whole: Arc<WorkerCounters>,
}

/// Counters of one worker as a whole.
#[derive(Debug, Default)]
pub struct WorkerCounters {
    pub chain_cache: Arc<CacheStats>,
    /// Plaintext bytes from clients, user-space path.
    pub bytes_in: Counter,
    /// Plaintext bytes to clients.
    pub bytes_out: Counter,
    /// The same of the other paths, and what else the kernel path counts.
    pub kernel: KernelCounters,
    /// Audit records that found no room.
    pub audit_dropped: Counter,
    /// Accepting paused, by [`Pause`].
    pub accept_paused: [Counter; Pause::ALL.len()],
    /// Listening sockets that are accepted on or still emptied (a gauge).
    pub doors: Counter,
    /// Tasks that panicked, each ending its own connection alone.
    pub task_panics: Counter,
    /// Tickets not taken, by [`Declined`].
    pub resumption_declined: [Counter; Declined::ALL.len()],
    /// Clients refused for a limit, by [`Limit`].
    pub limited: [Counter; Limit::ALL.len()],
    /// Turns of the loop; a watchdog sees that it moves.
    pub turns: Counter,
    /// Microseconds spent outside the kernel wait.
    pub busy_micros: Counter,
}

/// What connections on the kernel path count.
#[derive(Debug, Default)]
pub struct KernelCounters {
    /// Sealed and opened by the kernel, carried through user space.
    pub ktls_in: Counter,
    pub ktls_out: Counter,
    /// Never in user space.
    pub splice_in: Counter,
    pub splice_out: Counter,
    /// Changes of clients' keys, and of ours, on any path.
    pub key_updates_in: Counter,
    pub key_updates_out: Counter,
    /// Connections that stayed in user space, by [`Stay`].
    pub stayed: [Counter; Stay::ALL.len()],
}

impl WorkerCounters {
    /// Plaintext bytes from clients by that path.
    pub fn bytes_in_by(&self, path: Path) -> &Counter {
        match path {
            Path::User => &self.bytes_in,
            Path::Ktls => &self.kernel.ktls_in,
            Path::Splice => &self.kernel.splice_in,
        }
    }

    /// Plaintext bytes from clients and to them, over all paths.
    pub fn bytes_moved(&self) -> (u64, u64) {
        let all = [Path::User, Path::Ktls, Path::Splice];
        let sum = |by: fn(&WorkerCounters, Path) -> &Counter| all.iter().map(|path| by(self, *path).value()).sum();
        (sum(WorkerCounters::bytes_in_by), sum(WorkerCounters::bytes_out_by))
    }

    /// Plaintext bytes to clients by that path.
    pub fn bytes_out_by(&self, path: Path) -> &Counter {
        match path {
            Path::User => &self.bytes_out,
            Path::Ktls => &self.kernel.ktls_out,
            Path::Splice => &self.kernel.splice_out,
        }
    }
}

impl Deref for Counters {
    type Target = WorkerCounters;

    fn deref(&self) -> &WorkerCounters {
        &self.whole
    }
}

/// Counters of one listener in one worker.
#[derive(Debug)]
pub struct ListenerCounters {
    pub connections: Counter,
    /// A gauge.
    pub active: Counter,
    /// A gauge.
    pub handshakes_in_flight: Counter,
    /// Finished ones by [`VERSIONS`], [`KINDS`] and [`GROUPS`]; see [`Counters::count_handshake`].
    pub handshakes: [[[Counter; GROUPS.len()]; KINDS.len()]; VERSIONS.len()],
    /// By [`Reason::index`], those that ended before a site was known; see [`Counters::count_failure`].
    pub failures: [Counter; Reason::ALL.len()],
    /// Accept to established, by [`KINDS`].
    pub handshake_time: [Histogram; KINDS.len()],
    /// CPU time in TLS, by [`KINDS`].
    pub handshake_cpu: [Histogram; KINDS.len()],
}

/// Counters of one site in one worker.
#[derive(Debug)]
pub struct SiteCounters {
    /// By [`Reason::index`].
    pub failures: [Counter; Reason::ALL.len()],
}

/// Protocol versions that have counters of their own.
pub const VERSIONS: [&str; 2] = ["1.2", "1.3"];

/// Kinds of a handshake; `hrr` is a full one that took a HelloRetryRequest.
pub const KINDS: [&str; 3] = ["full", "resumed", "hrr"];

/// Key exchange groups that have counters of their own, then any other one, then no key exchange at all (a TLS 1.2
/// resumption).
pub const GROUPS: [&str; 6] = ["X25519MLKEM768", "X25519", "secp256r1", "secp384r1", "other", "none"];

/// Places in [`KINDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Full = 0,
    Resumed = 1,
    Retried = 2,
}

/// Counters of one server of a backend in one worker.
#[derive(Debug, Default)]
pub struct ServerCounters {
    /// A gauge.
    pub active: Counter,
    pub connections: Counter,
    pub connect_failures: Counter,
    /// A gauge: 1 while this worker holds the server to be down, 0 else.
    pub down: Counter,
}

impl Counters {
    /// Zeroes for everything that `config` names.
    pub fn for_config(config: &Config) -> Counters {
        let servers: Vec<usize> = config.backends.iter().map(|backend| backend.servers.len()).collect();
        let mut counters = Counters::new(config.listeners.len(), &servers);
        counters.sites = config.sites.iter().map(|_| Arc::default()).collect();
        counters
    }

    /// Zeroes for `listeners` listeners and backends with so many servers each; no site.
    pub fn new(listeners: usize, servers: &[usize]) -> Counters {
        Counters {
            listeners: (0..listeners).map(|_| Arc::default()).collect(),
            sites: Vec::new(),
            backends: servers.iter().map(|n| (0..*n).map(|_| Arc::default()).collect()).collect(),
            whole: Arc::default(),
        }
    }

    /// Counters for the next configuration: what it still has by name goes on counting where it was.
    pub fn next(&self, old: &Config, new: &Config) -> Counters {
        let mut next = Counters::for_config(new);
        next.whole = self.whole.clone();
        for (listener, counters) in new.listeners.iter().zip(&mut next.listeners) {
            keep(counters, old.listeners.iter().position(|known| known.name == listener.name), &self.listeners);
        }
        let listener_of = |config: &Config, site: &Site| config.listeners[site.listener].name.clone();
        for (site, counters) in new.sites.iter().zip(&mut next.sites) {
            let same = |known: &Site| known.name == site.name && listener_of(old, known) == listener_of(new, site);
            keep(counters, old.sites.iter().position(same), &self.sites);
        }
        for (backend, servers) in new.backends.iter().zip(&mut next.backends) {
            let Some(place) = old.backends.iter().position(|known| known.name == backend.name) else { continue };
            for (server, counters) in backend.servers.iter().zip(servers) {
                keep(
                    counters,
                    old.backends[place].servers.iter().position(|known| known == server),
                    &self.backends[place],
                );
            }
        }
        next
    }

    /// The counters of one server, if the configuration has it.
    pub fn server(&self, backend: usize, server: usize) -> Option<&ServerCounters> {
        self.backends.get(backend)?.get(server).map(|counters| &**counters)
    }

    /// Counts one finished handshake.
    pub fn count_handshake(&self, listener: usize, version: &str, kind: Kind, group: Option<&str>, took: Took) {
        let Some(counters) = self.listeners.get(listener) else { return };
        let version = usize::from(version != VERSIONS[0]);
        counters.handshakes[version][kind as usize][group_index(group)].increment();
        counters.handshake_time[kind as usize].record(micros(took.wall));
        counters.handshake_cpu[kind as usize].record(micros(took.cpu));
    }

    /// Counts one failed handshake, once: with its site where that was known, else with the listener.
    pub fn count_failure(&self, listener: usize, site: Option<usize>, reason: Reason) {
        if let Some(site) = site.and_then(|site| self.sites.get(site)) {
            site.failures[reason.index()].increment();
        } else if let Some(listener) = self.listeners.get(listener) {
            listener.failures[reason.index()].increment();
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Takes over the counters that were at `place`, if there are any.
fn keep<T>(counters: &mut Arc<T>, place: Option<usize>, known: &[Arc<T>]) {
    if let Some(known) = place.and_then(|place| known.get(place)) {
        *counters = known.clone();
    }
}

/// The place in [`GROUPS`].
fn group_index(group: Option<&str>) -> usize {
    let name = group.unwrap_or("none");
    GROUPS.iter().position(|known| *known == name).unwrap_or(GROUPS.len() - 2)
}

impl Default for SiteCounters {
    fn default() -> Self {
        SiteCounters { failures: std::array::from_fn(|_| Counter::default()) }
    }
}

impl Default for ListenerCounters {
    fn default() -> Self {
        ListenerCounters {
            connections: Counter::default(),
            active: Counter::default(),
            handshakes_in_flight: Counter::default(),
            handshakes: Default::default(),
            failures: std::array::from_fn(|_| Counter::default()),
            handshake_time: Default::default(),
            handshake_cpu: Default::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOK: Took = Took { wall: Duration::from_micros(300), cpu: Duration::from_micros(200) };

    #[test]
    fn a_failure_is_counted_once_with_its_site_or_else_with_its_listener() {
        let mut counters = Counters::new(1, &[1]);
        counters.sites.push(Arc::default());
        counters.count_failure(0, Some(0), Reason::Revoked);
        counters.count_failure(0, None, Reason::NotTls);
        assert_eq!(counters.sites[0].failures[Reason::Revoked.index()].value(), 1);
        assert_eq!(counters.listeners[0].failures[Reason::Revoked.index()].value(), 0);
        assert_eq!(counters.listeners[0].failures[Reason::NotTls.index()].value(), 1);
    }

    #[test]
    fn a_group_that_nobody_foresaw_is_counted_as_other_and_an_absent_one_as_none() {
        let counters = Counters::new(1, &[]);
        counters.count_handshake(0, "1.3", Kind::Full, Some("X25519"), TOOK);
        counters.count_handshake(0, "1.3", Kind::Full, Some("sect163k1"), TOOK);
        counters.count_handshake(0, "1.2", Kind::Resumed, None, TOOK);
        let handshakes = &counters.listeners[0].handshakes;
        assert_eq!(handshakes[1][0][1].value(), 1);
        assert_eq!(handshakes[1][0][4].value(), 1);
        assert_eq!(handshakes[0][1][5].value(), 1);
        assert_eq!(counters.listeners[0].handshake_time[1].counts().iter().sum::<u64>(), 1);
    }

    #[test]
    fn a_listener_or_site_out_of_range_counts_nothing_and_does_not_panic() {
        let counters = Counters::new(1, &[]);
        counters.count_failure(7, Some(9), Reason::Internal);
        counters.count_handshake(7, "1.3", Kind::Full, None, TOOK);
        assert_eq!(counters.listeners[0].failures.iter().map(Counter::value).sum::<u64>(), 0);
    }
}
