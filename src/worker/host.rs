//! What a worker has whatever the configuration: its loop, its caches, the table of who is connected.

use super::audit_queue::AuditQueue;
use super::counters::{Counters, ListenerCounters};
use super::gauges::{HandshakePlace, Place};
use super::kernel_path;
use super::plan::Plan;
use super::rejudge::Rejudging;
use super::seen::Seen;
use crate::config::{OnFull, limits};
use crate::relay::{Entry, Live, Pacer, Shelf, StepsPerTurn};
use crate::sys::Reactor;
use crate::sys::splice::Pipes;
use crate::tls::Environment;
use crate::trust::Admission;
use crate::wire::audit::{CloseReason, ConnectionId, ConnectionRecord, Record};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

const STEPS_PER_TURN: StepsPerTurn =
    StepsPerTurn { resumed: limits::RESUMED_STEPS_PER_TURN, full: limits::FULL_STEPS_PER_TURN };

/// One worker's state around its connections.
pub(super) struct WorkerHost {
    pub index: usize,
    pub reactor: Rc<Reactor>,
    pub environment: Rc<Environment>,
    pub shelf: Shelf,
    pub pacer: Rc<Pacer>,
    pub pipes: Pipes,
    pub audit: Option<Arc<AuditQueue>>,
    pub table: RefCell<Slab<Resident>>,
    pub rejudging: Rejudging,
    /// Who was let in.
    pub seen: Seen,
    newest: RefCell<Option<Rc<Plan>>>,
    /// All connections were told to end: none may take its time any more.
    cut: Cell<bool>,
    quiet: Quiet,
}

/// Keeps the operator's log readable under attack: so many lines a second, then a sum.
#[derive(Debug)]
struct Quiet {
    second: Cell<Instant>,
    lines: Cell<u32>,
    silenced: Cell<u64>,
}

/// One connection in the table.
pub(super) struct Resident {
    pub live: Rc<Live>,
    /// The site's place is asked of the newest plan: by names, for indices change.
    pub listener: Arc<str>,
    handshake: Option<HandshakePlace>,
}

/// Everything that one connection holds in the worker; its drop, also by a panic, gives it all back.
pub(super) struct Tenancy {
    worker: Rc<WorkerHost>,
    key: usize,
    counters: Arc<ListenerCounters>,
    _place: Place,
}

impl WorkerHost {
    pub fn new(
        index: usize,
        reactor: Rc<Reactor>,
        environment: Environment,
        audit: Option<Arc<AuditQueue>>,
    ) -> WorkerHost {
        let quiet = Quiet { second: Cell::new(reactor.now()), lines: Cell::default(), silenced: Cell::default() };
        WorkerHost {
            index,
            environment: Rc::new(environment),
            pacer: Pacer::new(reactor.clone(), STEPS_PER_TURN),
            shelf: Shelf::new(limits::SEND_BUFFERS_KEPT_MAX),
            pipes: Pipes::new(kernel_path::pipe_bounds()),
            audit,
            table: RefCell::new(Slab::new()),
            rejudging: Rejudging::default(),
            seen: Seen::default(),
            newest: RefCell::default(),
            cut: Cell::default(),
            quiet,
            reactor,
        }
    }

    /// Takes a new connection into the table.
    pub fn admit(
        self: &Rc<Self>,
        entry: &Entry,
        counters: &Counters,
        places: (Place, HandshakePlace),
    ) -> (Rc<Live>, Tenancy) {
        let (place, handshake) = places;
        let mut table = self.table.borrow_mut();
        let vacant = table.vacant_entry();
        let key = vacant.key();
        let live = Rc::new(Live::new(self.connection_id(), key));
        vacant.insert(Resident { live: live.clone(), listener: entry.name.clone(), handshake: Some(handshake) });
        let counters = counters.listeners[entry.index].clone();
        counters.connections.increment();
        counters.active.increment();
        counters.handshakes_in_flight.increment();
        (live, Tenancy { worker: self.clone(), key, counters, _place: place })
    }

    /// Whether new connections must be turned away because the audit cannot be written.
    pub fn audit_refuses(&self, plan: &Plan) -> bool {
        let on_full = plan.snapshot.config().audit.as_ref().map_or(OnFull::Drop, |audit| audit.on_full);
        on_full == OnFull::Refuse && self.audit.as_ref().is_some_and(|audit| audit.is_full() || audit.is_failing())
    }

    /// The plan that new connections begin with; `None` before the first and after the end.
    pub fn newest_plan(&self) -> Option<Rc<Plan>> {
        self.newest.borrow().clone()
    }

    /// Sets it. The plan holds this worker: `None` breaks that circle at the end.
    pub fn set_newest_plan(&self, plan: Option<Rc<Plan>>) {
        let old = std::mem::replace(&mut *self.newest.borrow_mut(), plan);
        drop(old);
    }

    /// Through which listener the connection in `slot` came.
    pub fn listener_of(&self, slot: usize) -> Option<Arc<str>> {
        self.table.borrow().get(slot).map(|resident| resident.listener.clone())
    }

    /// How long a client may take to read last words.
    pub fn goodbye_time(&self) -> Duration {
        Duration::from_millis(if self.cut.get() { limits::GOODBYE_CUT_MS_MAX } else { limits::GOODBYE_MS_MAX })
    }

    /// Tells all connections to end at once.
    pub fn end_all(&self, reason: CloseReason) {
        self.cut.set(true);
        let all: Vec<_> = self.table.borrow().iter().map(|(_, resident)| resident.live.clone()).collect();
        all.iter().for_each(|live| live.signal.end(reason));
    }

    /// Whether one more line may go to the operator's log.
    pub fn may_log(&self) -> bool {
        self.quiet.allows(self.reactor.now())
    }

    /// The handshake of the connection in `slot` is over; a second call does nothing.
    pub fn end_handshake(&self, slot: usize, counters: &ListenerCounters) {
        let place = self.table.borrow_mut().get_mut(slot).and_then(|resident| resident.handshake.take());
        if place.is_some() {
            counters.handshakes_in_flight.decrement();
        }
    }

    /// A client was let in.
    pub fn note_client(&self, admission: &Admission) {
        self.seen.note_admission(admission, self.reactor.wall());
    }

    /// A connection ended.
    pub fn note_traffic(&self, record: &ConnectionRecord) {
        self.seen.note_traffic(record);
    }

    pub fn push(&self, record: ConnectionRecord) {
        if let Some(audit) = &self.audit {
            audit.push(Record::Connection(Box::new(record)));
        }
    }

    fn connection_id(&self) -> ConnectionId {
        let mut random = [0; 10];
        // Without randomness the time still tells connections apart well enough for a log.
        let _ = aws_lc_rs::rand::fill(&mut random);
        let millis = self.reactor.wall().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        ConnectionId::new(millis as u64, random)
    }
}

impl Drop for Tenancy {
    fn drop(&mut self) {
        self.worker.end_handshake(self.key, &self.counters);
        let resident = self.worker.table.borrow_mut().try_remove(self.key);
        drop(resident);
        self.counters.active.decrement();
    }
}

impl Quiet {
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
