//! One worker's thread: ring, accept loops, commands, until it is told to end.

use super::accepting::{Gate, accept_loop};
use super::audit_queue::AuditQueue;
use super::backends::Balancer;
use super::counters::Counters;
use super::gauges::Gauges;
use super::host::{Quiet, WorkerHost};
use super::snapshot::Snapshot;
use super::start_error::StartError;
use crate::config::{OnFull, limits};
use crate::relay::Shelf;
use crate::sys::{self, Acceptor, BufferSizes, Remote, RingOptions, Runtime, Uring, Woken};
use crate::tls::Environment;
use crate::trust::{Blocks, LocalChainCache, SharedChainCache};
use crate::wire::audit::CloseReason;
use arc_swap::ArcSwap;
use crossbeam::queue::ArrayQueue;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The sizes of every worker's ring.
pub(super) const RING: RingOptions = RingOptions {
    entries: limits::RING_ENTRIES,
    completions: limits::RING_COMPLETIONS,
    buffers: BufferSizes { small: limits::SMALL_BUFFERS, large: limits::LARGE_BUFFERS },
};

/// What the control thread asks of a worker.
#[derive(Debug)]
pub(super) enum Command {
    /// Closes the listening sockets.
    StopAccepting,
    /// Asks all connections to end.
    EndAll(CloseReason),
    /// Ends the loop once no connection is left, or at that moment with those that are.
    Exit { at_latest: Instant },
}

/// A worker's letter box: other threads put in and wake, the worker takes out.
#[derive(Debug, Clone)]
pub(super) struct Mailbox {
    commands: Arc<ArrayQueue<Command>>,
    remote: Remote,
}

impl Mailbox {
    pub fn new() -> std::io::Result<Mailbox> {
        Ok(Mailbox { commands: Arc::new(ArrayQueue::new(limits::COMMAND_QUEUE_MAX)), remote: Remote::new()? })
    }

    /// Hands a command over; false if the worker has not taken the last thousand.
    pub fn send(&self, command: Command) -> bool {
        let taken = self.commands.push(command).is_ok();
        self.remote.wake();
        taken
    }
}

/// What all workers share, apart from the snapshot.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub chains: Arc<SharedChainCache>,
    pub blocks: Arc<ArcSwap<Blocks>>,
    pub gauges: Vec<Arc<Gauges>>,
    pub audit: Option<Arc<AuditQueue>>,
}

/// What one worker begins with.
pub(super) struct Setup {
    pub index: usize,
    /// The CPU to pin to.
    pub cpu: Option<usize>,
    pub snapshot: Arc<Snapshot>,
    pub shared: Shared,
    pub counters: Arc<Counters>,
    pub mailbox: Mailbox,
    /// Listening sockets with the index of their listener.
    pub listeners: Vec<(usize, TcpListener)>,
}

/// Runs a worker to its end. `ready` hears once whether it started; the result is the number of connections cut.
pub(super) fn run(setup: Setup, ready: impl FnOnce(Result<(), StartError>)) -> u64 {
    if let Some(cpu) = setup.cpu
        && !sys::affinity::pin_to(cpu)
    {
        tracing::warn!(cpu, "this worker could not be pinned to its CPU; sched_setaffinity is refused");
    }
    let runtime = match Uring::new(RING) {
        Ok(uring) => Runtime::new(Box::new(uring), limits::TASKS_PER_TURN_MAX),
        Err(missing) => {
            ready(Err(StartError::Missing(missing)));
            return 0;
        }
    };
    let woken = match setup.mailbox.remote.listen(runtime.reactor()) {
        Ok(woken) => woken,
        Err(error) => {
            ready(Err(StartError::Internal { step: "waking a worker", error: error.to_string() }));
            return 0;
        }
    };
    let worker = Worker::start(setup, &runtime, woken);
    ready(Ok(()));
    worker.turn_until_over(&runtime)
}

struct Worker {
    host: Rc<WorkerHost>,
    exit_at: Rc<Cell<Option<Instant>>>,
}

impl Worker {
    fn start(setup: Setup, runtime: &Runtime, woken: Woken) -> Worker {
        let reactor = runtime.reactor().clone();
        let config = setup.snapshot.config();
        let servers: Vec<usize> = config.backends.iter().map(|backend| backend.servers.len()).collect();
        let cache = Rc::new(LocalChainCache::new(setup.shared.chains.clone(), setup.counters.chain_cache.clone()));
        let host = Rc::new(WorkerHost {
            environment: Rc::new(Environment { cache, blocks: setup.shared.blocks.clone() }),
            shelf: Shelf::new(limits::SEND_BUFFERS_KEPT_MAX),
            balancer: Balancer::new(&servers, setup.index, setup.counters.clone()),
            counters: setup.counters,
            audit: setup.shared.audit.clone(),
            on_full: config.audit.as_ref().map_or(OnFull::Drop, |audit| audit.on_full),
            table: RefCell::new(Slab::new()),
            quiet: Quiet::new(reactor.now()),
            reactor: reactor.clone(),
        });
        let gate = Rc::new(Gate::new(setup.snapshot.entries().to_vec(), setup.shared.gauges.clone()));
        for (listener, socket) in setup.listeners {
            let acceptor = Acceptor::new(&reactor, socket);
            reactor.spawn(accept_loop(host.clone(), gate.clone(), listener, acceptor));
        }
        let exit_at = Rc::new(Cell::new(None));
        reactor.spawn(obey(host.clone(), gate, woken, setup.mailbox, exit_at.clone()));
        Worker { host, exit_at }
    }

    fn turn_until_over(&self, runtime: &Runtime) -> u64 {
        let mut busy = Duration::ZERO;
        let over = || {
            let counters = &self.host.counters;
            counters.turns.increment();
            let now_busy = self.host.reactor.busy();
            counters.busy_micros.add((now_busy - busy).as_micros() as u64);
            busy += Duration::from_micros((now_busy - busy).as_micros() as u64);
            match self.exit_at.get() {
                Some(at) => self.host.table.borrow().is_empty() || self.host.reactor.now() >= at,
                None => false,
            }
        };
        if let Err(error) = runtime.run_until(over) {
            tracing::error!(%error, "the ring of a worker failed; its connections are lost. Please report this");
        }
        self.host.table.borrow().len() as u64
    }
}

/// Takes commands as they come.
async fn obey(
    host: Rc<WorkerHost>,
    gate: Rc<Gate>,
    woken: Woken,
    mailbox: Mailbox,
    exit_at: Rc<Cell<Option<Instant>>>,
) {
    loop {
        while let Some(command) = mailbox.commands.pop() {
            match command {
                Command::StopAccepting => gate.stop(),
                Command::EndAll(reason) => host.end_all(reason),
                Command::Exit { at_latest } => {
                    gate.stop();
                    exit_at.set(Some(at_latest));
                    let reactor = host.reactor.clone();
                    // The loop must turn at that moment even if nothing else happens.
                    host.reactor.spawn(async move { reactor.sleep_until(at_latest).await });
                }
            }
        }
        if let Err(error) = woken.next().await {
            tracing::error!(%error, "a worker cannot hear the control thread any more; restart the service");
            return;
        }
    }
}
