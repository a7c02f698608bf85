//! What the admin pages tell of, gathered in one place and shared by whoever answers.

use super::clients::Clients;
use super::readiness::{Phase, Readiness};
use super::service::{AskSeen, Service, Waker};
use crate::config::{Config, OnFull};
use crate::tls::TicketKeys;
use crate::worker::audit_queue::AuditQueue;
use crate::worker::counters::Counters;
use crate::worker::{Engine, Standings};
use arc_swap::ArcSwap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Notify;

/// The version that is printed everywhere.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The running process as its admin pages see it.
pub struct State {
    generation: ArcSwap<Generation>,
    /// Told when there is another generation.
    pub replaced: Notify,
    pub started: Instant,
    pub started_at: SystemTime,
    pub readiness: Readiness,
    /// Makes every worker turn once.
    pub waker: Option<Waker>,
    pub audit: Option<Arc<AuditQueue>>,
    /// Who was let in.
    pub clients: Clients,
    /// What asks the workers for it.
    pub ask_seen: Option<AskSeen>,
    last_load: Mutex<LastLoad>,
    /// Why the last hand-over failed, and when.
    failed_hand_over: Mutex<Option<(SystemTime, String)>>,
    /// How many there are.
    blocks: AtomicUsize,
    busy: Mutex<Busy>,
}

/// How the last load of a configuration went; the start counts as the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastLoad {
    pub ok: bool,
    /// When it was tried.
    pub at: SystemTime,
    /// When one last took effect.
    pub ok_at: SystemTime,
}

/// What a reload replaces, as one value: whoever takes it sees names, numbers and counters that belong together.
pub struct Generation {
    pub config: Arc<Config>,
    /// Listeners' names with their bound addresses.
    pub addresses: Vec<(Arc<str>, SocketAddr)>,
    /// One for each worker.
    pub counters: Vec<Arc<Counters>>,
    /// The most connections that each listener takes, by its index.
    pub connection_limits: Vec<u32>,
    pub engine: Engine,
    /// What is known and wanted of each backend server.
    pub standings: Standings,
    pub facts: Facts,
    /// What seals tickets; `None` where they are off.
    pub ticket_keys: Option<Arc<TicketKeys>>,
}

/// What the files that were loaded say of their own ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Counts the loads of this process.
    pub epoch: u64,
    /// SHA-256 over the policies of all sites: the same on every host that decides alike.
    pub policies: [u8; 32],
    pub server_certificates: Vec<ServerCertificate>,
    pub anchors: Vec<Anchor>,
    pub crls: Vec<Crl>,
}

/// A server certificate in use. Times are seconds since the Unix epoch, here and below.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerCertificate {
    /// The site's first name, or the site's own name where it has none.
    pub sni: String,
    pub serial: String,
    pub not_after: i64,
}

/// A trust anchor in use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Anchor {
    pub name: String,
    pub not_after: i64,
}

/// A CRL in use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Crl {
    pub issuer: String,
    pub next_update: i64,
    pub entries: u64,
}

/// How busy the workers were between the last two looks.
#[derive(Debug, Default)]
struct Busy {
    looked: Option<Instant>,
    micros: Vec<u64>,
    ratios: Vec<f64>,
}

/// Looks closer together than this tell nothing new.
const BUSY_LOOK_MIN: Duration = Duration::from_millis(500);

impl Generation {
    /// What `service` serves by this configuration.
    pub fn of(config: Arc<Config>, facts: Facts, service: &impl Service) -> Generation {
        Generation {
            config,
            addresses: service.local_addresses(),
            counters: service.counters(),
            connection_limits: service.connection_limits(),
            engine: service.engine(),
            standings: service.standings(),
            facts,
            ticket_keys: service.ticket_keys(),
        }
    }

    /// The addresses that a listener is bound to.
    pub fn addresses_of(&self, listener: &str) -> impl Iterator<Item = SocketAddr> {
        self.addresses.iter().filter(move |(name, _)| **name == *listener).map(|(_, address)| *address)
    }
}

impl State {
    /// The state of a process that is about to serve.
    pub fn new(generation: Generation, audit: Option<Arc<AuditQueue>>) -> State {
        let now = SystemTime::now();
        State {
            generation: ArcSwap::from_pointee(generation),
            replaced: Notify::new(),
            started: Instant::now(),
            started_at: now,
            readiness: Readiness::default(),
            waker: None,
            audit,
            clients: Clients::default(),
            ask_seen: None,
            last_load: Mutex::new(LastLoad { ok: true, at: now, ok_at: now }),
            failed_hand_over: Mutex::default(),
            blocks: AtomicUsize::new(0),
            busy: Mutex::default(),
        }
    }

    /// What is served now.
    pub fn generation(&self) -> Arc<Generation> {
        self.generation.load_full()
    }

    /// Another generation took over.
    pub fn replace(&self, generation: Generation) {
        self.generation.store(Arc::new(generation));
        self.replaced.notify_one();
    }

    /// How many blocks are in force.
    pub fn blocks(&self) -> usize {
        self.blocks.load(Ordering::Relaxed)
    }

    /// There are so many blocks now.
    pub fn note_blocks(&self, number: usize) {
        self.blocks.store(number, Ordering::Relaxed);
    }

    /// When the last hand-over failed, and why.
    pub fn failed_hand_over(&self) -> Option<(SystemTime, String)> {
        self.failed_hand_over.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A hand-over ended so.
    pub fn note_hand_over(&self, ok: bool, result: &str) {
        let failed = (!ok).then(|| (SystemTime::now(), result.to_owned()));
        *self.failed_hand_over.lock().unwrap_or_else(PoisonError::into_inner) = failed;
    }

    /// How the last load went.
    pub fn last_load(&self) -> LastLoad {
        *self.last_load.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reload was tried.
    pub fn note_reload(&self, ok: bool, at: SystemTime) {
        let mut last = self.last_load.lock().unwrap_or_else(PoisonError::into_inner);
        *last = LastLoad { ok, at, ok_at: if ok { at } else { last.ok_at } };
    }

    /// Why no connection should be sent here now; `None` when all is well.
    pub fn unready(&self) -> Option<&'static str> {
        match self.readiness.phase() {
            Phase::Ready if self.audit_refuses() => Some("audit cannot be written"),
            Phase::Ready => None,
            Phase::Draining if self.readiness.is_retired() => None,
            phase => Some(phase.word()),
        }
    }

    /// Whether connections are refused because the audit cannot be kept.
    fn audit_refuses(&self) -> bool {
        let refuse = self.generation.load().config.audit.as_ref().is_some_and(|audit| audit.on_full == OnFull::Refuse);
        refuse && self.audit.as_ref().is_some_and(|queue| queue.is_failing())
    }

    /// Audit records lost so far, wherever.
    pub fn audit_dropped(&self) -> u64 {
        let workers: u64 = self.generation.load().counters.iter().map(|counters| counters.audit_dropped.value()).sum();
        workers + self.audit.as_ref().map_or(0, |queue| queue.dropped())
    }

    /// For each worker the share of time that it was busy since the last look, 0 to 1.
    pub fn busy_ratios(&self, now: Instant) -> Vec<f64> {
        let micros = self.generation.load().counters.iter().map(|counters| counters.busy_micros.value()).collect();
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.look(now, self.started, micros);
        busy.ratios.clone()
    }
}

impl Busy {
    fn look(&mut self, now: Instant, started: Instant, micros: Vec<u64>) {
        let past = now.saturating_duration_since(self.looked.unwrap_or(started));
        if self.looked.is_some() && past < BUSY_LOOK_MIN {
            return;
        }
        let ratio = |(i, micros): (usize, &u64)| {
            let before = self.micros.get(i).copied().unwrap_or(0);
            (micros.saturating_sub(before) as f64 / past.as_micros().max(1) as f64).min(1.0)
        };
        self.ratios = micros.iter().enumerate().map(ratio).collect();
        self.looked = Some(now);
        self.micros = micros;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_busy_half_of_the_time_since_the_last_look_is_half_busy() {
        let start = Instant::now();
        let mut busy = Busy::default();
        busy.look(start + Duration::from_secs(1), start, vec![1_000_000, 0]);
        assert_eq!(busy.ratios, [1.0, 0.0]);
        busy.look(start + Duration::from_secs(3), start, vec![2_000_000, 0]);
        assert_eq!(busy.ratios, [0.5, 0.0]);
    }

    #[test]
    fn a_second_look_right_after_the_first_repeats_its_answer() {
        let start = Instant::now();
        let mut busy = Busy::default();
        busy.look(start + Duration::from_secs(1), start, vec![500_000]);
        busy.look(start + Duration::from_millis(1001), start, vec![500_900]);
        assert_eq!(busy.ratios, [0.5]);
    }
}
