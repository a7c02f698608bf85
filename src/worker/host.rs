//! The worker as its connections see it: counters, audit, backends, the table of who is connected.

use super::audit_queue::AuditQueue;
use super::backends::{Balancer, ServerSeat};
use super::counters::{Counters, Kind};
use super::gauges::{HandshakePlace, Place};
use crate::config::{OnFull, limits};
use crate::relay::{Entry, Host, Live, Shelf};
use crate::stats::Counter;
use crate::sys::Reactor;
use crate::tls::{Declined, Environment, Established};
use crate::trust::Identity;
use crate::wire::audit::{CloseReason, ConnectionId, ConnectionRecord, Record};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

/// One worker's state around its connections.
pub(super) struct WorkerHost {
    pub reactor: Rc<Reactor>,
    pub environment: Rc<Environment>,
    pub shelf: Shelf,
    pub counters: Arc<Counters>,
    pub audit: Option<Arc<AuditQueue>>,
    pub on_full: OnFull,
    pub balancer: Balancer,
    pub table: RefCell<Slab<Resident>>,
    pub quiet: Quiet,
}

/// Keeps the operator's log readable under attack: so many lines a second, then a sum.
#[derive(Debug)]
pub(super) struct Quiet {
    second: Cell<Instant>,
    lines: Cell<u32>,
    silenced: Cell<u64>,
}

impl Quiet {
    pub fn new(now: Instant) -> Quiet {
        Quiet { second: Cell::new(now), lines: Cell::default(), silenced: Cell::default() }
    }

    /// Whether one more line may be written now.
    fn allows(&self, now: Instant) -> bool {
        if now.saturating_duration_since(self.second.get()) >= Duration::from_secs(1) {
            self.second.set(now);
            self.lines.set(0);
            let silenced = self.silenced.replace(0);
            if silenced > 0 {
                tracing::warn!(lines = silenced, "log lines left out in the last seconds; the audit has them all");
            }
        }
        let allowed = self.lines.get() < limits::LOG_LINES_PER_SECOND_MAX;
        if allowed {
            self.lines.set(self.lines.get() + 1);
        } else {
            self.silenced.set(self.silenced.get() + 1);
        }
        allowed
    }
}

/// One connection in the table.
pub(super) struct Resident {
    live: Rc<Live>,
    handshake: Option<HandshakePlace>,
}

/// Everything that one connection holds in the worker; its drop, also by a panic, gives it all back.
pub(super) struct Tenancy {
    host: Rc<WorkerHost>,
    key: usize,
    listener: usize,
    _place: Place,
}

impl WorkerHost {
    /// Takes a new connection into the table.
    pub fn admit(self: &Rc<Self>, entry: &Entry, place: Place, handshake: HandshakePlace) -> (Rc<Live>, Tenancy) {
        let mut table = self.table.borrow_mut();
        let vacant = table.vacant_entry();
        let key = vacant.key();
        let live = Rc::new(Live::new(self.connection_id(), key));
        vacant.insert(Resident { live: live.clone(), handshake: Some(handshake) });
        let counters = &self.counters.listeners[entry.index];
        counters.connections.increment();
        counters.active.increment();
        counters.handshakes_in_flight.increment();
        (live, Tenancy { host: self.clone(), key, listener: entry.index, _place: place })
    }

    /// Whether new connections must be turned away because the audit cannot be written.
    pub fn audit_refuses(&self) -> bool {
        self.on_full == OnFull::Refuse && self.audit.as_ref().is_some_and(|audit| audit.is_full() || audit.is_failing())
    }

    /// Asks all connections to end.
    pub fn end_all(&self, reason: CloseReason) {
        let all: Vec<_> = self.table.borrow().iter().map(|(_, resident)| resident.live.clone()).collect();
        all.iter().for_each(|live| live.signal.end(reason));
    }

    fn connection_id(&self) -> ConnectionId {
        let mut random = [0; 10];
        // Without randomness the time still tells connections apart well enough for a log.
        let _ = aws_lc_rs::rand::fill(&mut random);
        let millis = self.reactor.wall().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        ConnectionId::new(millis as u64, random)
    }

    fn end_handshake(&self, slot: usize, listener: usize) {
        let place = self.table.borrow_mut().get_mut(slot).and_then(|resident| resident.handshake.take());
        if place.is_some() {
            self.counters.listeners[listener].handshakes_in_flight.decrement();
        }
    }

    fn push(&self, record: ConnectionRecord) {
        if let Some(audit) = &self.audit {
            audit.push(Record::Connection(Box::new(record)));
        }
    }

    fn site_index(&self, entry: &Entry, record: &ConnectionRecord) -> Option<usize> {
        let name = record.site.as_ref()?;
        entry.sites.sites().find(|site| site.name() == name).map(|site| site.index())
    }
}

impl Drop for Tenancy {
    fn drop(&mut self) {
        self.host.end_handshake(self.key, self.listener);
        let resident = self.host.table.borrow_mut().try_remove(self.key);
        drop(resident);
        self.host.counters.listeners[self.listener].active.decrement();
    }
}

impl Host for WorkerHost {
    type Seat = ServerSeat;

    fn reactor(&self) -> &Rc<Reactor> {
        &self.reactor
    }

    fn environment(&self) -> Rc<Environment> {
        self.environment.clone()
    }

    fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    fn bytes_in(&self) -> &Counter {
        &self.counters.bytes_in
    }

    fn bytes_out(&self) -> &Counter {
        &self.counters.bytes_out
    }

    fn choose(&self, entry: &Entry, backend: usize, _who: Option<&Identity>, tried: &[usize]) -> Option<ServerSeat> {
        self.balancer.choose(backend, &entry.backends[backend], tried, self.reactor.now())
    }

    fn connect_failed(&self, entry: &Entry, backend: usize, server: usize, error: &io::Error) {
        self.balancer.failed(backend, server, self.reactor.now());
        if let Some(counters) = self.counters.server(backend, server) {
            counters.connect_failures.increment();
            counters.down.set(1);
        }
        if self.quiet.allows(self.reactor.now()) {
            let label = &entry.backends[backend].servers[server].label;
            tracing::warn!(server = %label, %error, "backend server does not answer; trying the next");
        }
    }

    fn connected(&self, backend: usize, server: usize) {
        self.balancer.answered(backend, server);
        if let Some(counters) = self.counters.server(backend, server) {
            counters.connections.increment();
            counters.down.set(0);
        }
    }

    fn backend_down(&self, entry: &Entry, backend: usize) {
        if self.quiet.allows(self.reactor.now()) {
            let name = &entry.backends[backend].name;
            tracing::error!(backend = %name, "no server of this backend answers; clients are being turned away");
        }
    }

    fn handshake_over(&self, entry: &Entry, live: &Live) {
        self.end_handshake(live.slot, entry.index);
    }

    fn handshake_done(&self, entry: &Entry, established: &Established, took: Duration) {
        let kind = match (established.resumed, established.retried) {
            (true, _) => Kind::Resumed,
            (false, true) => Kind::Retried,
            (false, false) => Kind::Full,
        };
        let micros = took.as_micros() as u64;
        self.counters.count_handshake(entry.index, established.version, kind, established.group, micros);
    }

    fn declined(&self, why: Declined) {
        if let Some(place) = Declined::ALL.iter().position(|known| *known == why) {
            self.counters.resumption_declined[place].increment();
        }
    }

    fn refused(&self, entry: &Entry, record: ConnectionRecord) {
        self.counters.count_failure(entry.index, self.site_index(entry, &record), record.reason);
        if self.quiet.allows(self.reactor.now()) {
            tracing::info!(
                conn_id = %record.conn_id,
                client = %record.client,
                listener = %record.listener,
                reason = %record.reason,
                subject = record.leaf.as_ref().map(|leaf| leaf.subject.as_str()),
                "refused: {}",
                record.reason_detail
            );
        }
        self.push(record);
    }

    fn accepted(&self, record: ConnectionRecord) {
        self.push(record);
    }

    fn closed(&self, record: ConnectionRecord) {
        self.push(record);
    }
}
