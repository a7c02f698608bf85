//! One generation of the configuration as one worker serves it: the host of the connections that began under it.

use super::backends::{Balancer, ServerSeat};
use super::counters::{Counters, Kind};
use super::gauges::Gauges;
use super::host::WorkerHost;
use super::rejudge;
use super::snapshot::Snapshot;
use super::standing::Standings;
use crate::relay::{Entry, Host, Limit, Live, Pacer, Shelf, Took};
use crate::stats::Counter;
use crate::sys::Reactor;
use crate::sys::ktls::Direction;
use crate::sys::splice::Pipes;
use crate::tls::{Declined, Environment, Established, Quota, Stay};
use crate::trust::Identity;
use crate::wire::audit::{ConnectionRecord, Path};
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// A connection keeps the plan that it began with; new ones get the newest.
pub(super) struct Plan {
    pub snapshot: Arc<Snapshot>,
    /// By the listener's index.
    pub gauges: Vec<Arc<Gauges>>,
    pub counters: Arc<Counters>,
    pub worker: Rc<WorkerHost>,
    balancer: Balancer,
}

impl Plan {
    pub fn new(
        worker: Rc<WorkerHost>,
        snapshot: Arc<Snapshot>,
        counters: Arc<Counters>,
        gauges: Vec<Arc<Gauges>>,
        standings: Standings,
    ) -> Rc<Plan> {
        let balancer = Balancer::new(standings, worker.index, counters.clone());
        Rc::new(Plan { snapshot, gauges, counters, worker, balancer })
    }

    fn name_of(&self, live: &Live) -> Arc<str> {
        self.worker.listener_of(live.slot).unwrap_or_default()
    }

    fn site_index(&self, entry: &Entry, record: &ConnectionRecord) -> Option<usize> {
        let name = record.site.as_ref()?;
        entry.sites.sites().find(|site| site.name() == name).map(|site| site.index())
    }
}

impl Host for Plan {
    type Seat = ServerSeat;

    fn reactor(&self) -> &Rc<Reactor> {
        &self.worker.reactor
    }

    fn environment(&self) -> Rc<Environment> {
        self.worker.environment.clone()
    }

    fn shelf(&self) -> &Shelf {
        &self.worker.shelf
    }

    fn goodbye_time(&self) -> Duration {
        self.worker.goodbye_time()
    }

    fn pacer(&self) -> &Rc<Pacer> {
        &self.worker.pacer
    }

    fn quota(&self, entry: &Entry) -> Option<Quota> {
        let most = entry.limits.connections_per_identity;
        (most > 0).then(|| Quota { tally: self.gauges[entry.index].identities.clone(), most })
    }

    fn may_begin_full(&self, entry: &Entry, source: IpAddr) -> bool {
        let most = entry.limits.full_handshakes_per_second_per_source;
        most == 0 || self.gauges[entry.index].sources.take(source, most, self.worker.reactor.now())
    }

    fn limited(&self, limit: Limit) {
        self.counters.limited[limit as usize].increment();
    }

    fn bytes_in(&self, path: Path) -> &Counter {
        self.counters.bytes_in_by(path)
    }

    fn bytes_out(&self, path: Path) -> &Counter {
        self.counters.bytes_out_by(path)
    }

    fn pipes(&self) -> &Pipes {
        &self.worker.pipes
    }

    fn stayed(&self, why: Stay) {
        if let Some(place) = Stay::ALL.iter().position(|known| *known == why) {
            self.counters.kernel.stayed[place].increment();
        }
    }

    fn key_updated(&self, direction: Direction) {
        match direction {
            Direction::Receive => self.counters.kernel.key_updates_in.increment(),
            Direction::Transmit => self.counters.kernel.key_updates_out.increment(),
        }
    }

    fn choose(&self, entry: &Entry, backend: usize, who: Option<&Identity>, tried: &[usize]) -> Option<ServerSeat> {
        self.balancer.choose(
            backend,
            &entry.backends[backend],
            who.map(Identity::as_str),
            tried,
            self.worker.reactor.now(),
        )
    }

    fn connect_failed(&self, entry: &Entry, backend: usize, server: usize, error: &io::Error) {
        self.balancer.failed(backend, server, self.worker.reactor.now());
        if let Some(counters) = self.counters.server(backend, server) {
            counters.connect_failures.increment();
            counters.down.set(1);
        }
        if self.worker.may_log() {
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
        if self.worker.may_log() {
            let name = &entry.backends[backend].name;
            tracing::error!(backend = %name, "no server of this backend answers; clients are being turned away");
        }
    }

    fn handshake_over(&self, entry: &Entry, live: &Live) {
        self.worker.end_handshake(live.slot, &self.counters.listeners[entry.index]);
    }

    fn still_admitted(&self, live: &Live) -> bool {
        match self.worker.newest_plan() {
            // A handshake that began before a reload and ended after it is judged by the new value too.
            Some(newest) if !std::ptr::eq(&*newest, self) => rejudge::admits(&newest, &self.name_of(live), live),
            // So is one that a block overtook after its certificate was looked at.
            _ => !rejudge::is_blocked(&self.worker, live),
        }
    }

    fn handshake_done(&self, entry: &Entry, established: &Established, took: Took) {
        let kind = match (established.resumed, established.retried) {
            (true, _) => Kind::Resumed,
            (false, true) => Kind::Retried,
            (false, false) => Kind::Full,
        };
        self.counters.count_handshake(entry.index, established.version, kind, established.group, took);
        self.worker.note_client(&established.admission);
    }

    fn declined(&self, why: Declined) {
        if let Some(place) = Declined::ALL.iter().position(|known| *known == why) {
            self.counters.resumption_declined[place].increment();
        }
    }

    fn refused(&self, entry: &Entry, record: ConnectionRecord) {
        self.counters.count_failure(entry.index, self.site_index(entry, &record), record.reason);
        if self.worker.may_log() {
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
        self.worker.push(record);
    }

    fn accepted(&self, record: ConnectionRecord) {
        self.worker.push(record);
    }

    fn closed(&self, record: ConnectionRecord) {
        self.worker.note_traffic(&record);
        self.worker.push(record);
    }
}
