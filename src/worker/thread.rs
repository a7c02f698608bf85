//! One worker's thread: kernel, accept loops, commands, until it is told to end.

use super::accepting::{Gate, Lent, Listening, Parting};
use super::audit_queue::AuditQueue;
use super::counters::Counters;
use super::engine::Engine;
use super::gauges::Gauges;
use super::host::WorkerHost;
use super::leaving;
use super::plan::Plan;
use super::rejudge::rejudge;
use super::seen::Sightings;
use super::sessions::{self, Presence, Question};
use super::snapshot::Snapshot;
use super::standing::Standings;
use super::start_error::StartError;
use crate::config::limits;
use crate::sys::{self, Remote, Runtime, Woken};
use crate::tls::Environment;
use crate::trust::{Blocks, LocalChainCache, SharedChainCache};
use crate::wire::audit::CloseReason;
use arc_swap::ArcSwap;
use crossbeam::queue::ArrayQueue;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// What the control thread asks of a worker.
#[derive(Debug)]
pub(super) enum Command {
    /// Serves the next generation: connections that it does not admit end. The sender is dropped once new connections
    /// begin with it.
    Publish(Box<Publication>, mpsc::Sender<()>),
    /// Looks through open connections after the blocks changed.
    Rejudge,
    /// Tells who is connected.
    WhoIsThere(Question, mpsc::Sender<Presence>),
    /// Tells who was let in since the last time.
    WhoWasSeen(mpsc::Sender<Sightings>),
    /// Gives the listening sockets up, and ends idle connections by that moment, spread over the time.
    StopAccepting(Parting, Instant),
    /// Duplicates the listening sockets, for another process.
    Lend(mpsc::Sender<Vec<Lent>>),
    /// Asks all connections to end.
    EndAll(CloseReason),
    /// Ends the loop once no connection is left, or at that moment with those that are.
    Exit { at_latest: Instant },
}

/// A generation on its way to one worker.
#[derive(Debug)]
pub(super) struct Publication {
    pub snapshot: Arc<Snapshot>,
    pub counters: Arc<Counters>,
    pub gauges: Vec<Arc<Gauges>>,
    pub standings: Standings,
    /// Sockets for addresses that the worker does not listen on yet.
    pub sockets: Vec<Listening>,
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

    /// The worker's side.
    pub fn listen(&self, runtime: &Runtime) -> std::io::Result<Woken> {
        self.remote.listen(runtime.reactor())
    }

    /// Hands a command over; false if the worker has not taken the last thousand.
    pub fn send(&self, command: Command) -> bool {
        let taken = self.commands.push(command).is_ok();
        self.remote.wake();
        taken
    }

    /// Makes the worker's loop turn, whatever there is to do.
    pub fn wake(&self) {
        self.remote.wake();
    }
}

/// What all workers share, apart from the snapshot.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub chains: Arc<SharedChainCache>,
    pub blocks: Arc<ArcSwap<Blocks>>,
    pub audit: Option<Arc<AuditQueue>>,
}

/// What one worker begins with.
pub(super) struct Setup {
    pub index: usize,
    /// The CPU to pin to.
    pub cpu: Option<usize>,
    pub shared: Shared,
    pub mailbox: Mailbox,
    pub first: Publication,
}

/// Runs a worker to its end. `ready` hears once whether it started; the result is the number of connections cut.
pub(super) fn run(engine: Engine, setup: Setup, ready: impl FnOnce(Result<(), StartError>)) -> u64 {
    if let Some(cpu) = setup.cpu
        && !sys::affinity::pin_to(cpu)
    {
        tracing::warn!(cpu, "this worker could not be pinned to its CPU; sched_setaffinity is refused");
    }
    let runtime = match engine.kernel() {
        Ok(kernel) => Runtime::new(kernel, limits::TASKS_PER_TURN_MAX),
        Err(missing) => {
            ready(Err(StartError::Missing(missing)));
            return 0;
        }
    };
    let woken = match setup.mailbox.listen(&runtime) {
        Ok(woken) => woken,
        Err(error) => {
            ready(Err(StartError::Internal { step: "waking a worker", error: error.to_string() }));
            return 0;
        }
    };
    // Strangers' bytes are read here, and no file ever is. Whether the kernel can, the process has said.
    if let Err(error) = sys::give_up_files() {
        tracing::warn!("a worker keeps its way to files: Landlock refuses: {error}; please report it");
    }
    let worker = Worker::start(setup, &runtime, woken);
    ready(Ok(()));
    worker.turn_until_over(&runtime)
}

/// A worker over any kernel.
pub(super) struct Worker {
    pub host: Rc<WorkerHost>,
    turned: Arc<Counters>,
    exit_at: Rc<Cell<Option<Instant>>>,
}

impl Worker {
    /// Puts accept loops and the ear for commands into `runtime`, which then has to turn.
    pub fn start(setup: Setup, runtime: &Runtime, woken: Woken) -> Worker {
        let reactor = runtime.reactor().clone();
        let Setup { index, shared, mailbox, first, .. } = setup;
        let turned = first.counters.clone();
        let cache = Rc::new(LocalChainCache::new(shared.chains.clone(), turned.chain_cache.clone()));
        let environment = Environment { cache, blocks: shared.blocks.clone() };
        let host = Rc::new(WorkerHost::new(index, reactor.clone(), environment, shared.audit.clone()));
        let plan = Plan::new(host.clone(), first.snapshot, first.counters, first.gauges, first.standings);
        host.set_newest_plan(Some(plan.clone()));
        let gate = Gate::open(plan, first.sockets);
        let exit_at = Rc::new(Cell::new(None));
        reactor.spawn(obey(gate, woken, mailbox, exit_at.clone()));
        Worker { host, turned, exit_at }
    }

    /// Turns until told to exit; the number of connections cut then.
    pub fn turn_until_over(&self, runtime: &Runtime) -> u64 {
        let mut busy = Duration::ZERO;
        let over = || {
            let counters = &self.turned;
            counters.turns.increment();
            let now_busy = self.host.reactor.busy();
            counters.busy_micros.add((now_busy - busy).as_micros() as u64);
            busy += Duration::from_micros((now_busy - busy).as_micros() as u64);
            match self.exit_at.get() {
                Some(at) => {
                    let rest = counters.doors.value() == 0 && self.host.table.borrow().is_empty();
                    rest || self.host.reactor.now() >= at
                }
                None => false,
            }
        };
        if let Err(error) = runtime.run_until(over) {
            tracing::error!(%error, "the loop of a worker failed; its connections are lost. Please report this");
        }
        // Not before: until the last turn a handshake is judged by the newest plan.
        self.host.set_newest_plan(None);
        self.host.table.borrow().len() as u64
    }
}

/// Takes commands as they come.
async fn obey(gate: Rc<Gate>, woken: Woken, mailbox: Mailbox, exit_at: Rc<Cell<Option<Instant>>>) {
    let host = gate.plan().worker.clone();
    loop {
        while let Some(command) = mailbox.commands.pop() {
            match command {
                Command::Publish(publication, taken) => {
                    publish(&gate, &host, *publication);
                    drop(taken);
                }
                Command::Rejudge => rejudge(&host),
                Command::WhoIsThere(question, to) => {
                    host.reactor.spawn(sessions::answer(host.clone(), question, to));
                }
                Command::WhoWasSeen(to) => {
                    if let Err(mpsc::SendError(sightings)) = to.send(host.seen.take()) {
                        host.seen.put_back(sightings);
                    }
                }
                Command::StopAccepting(parting, until) => {
                    gate.stop(parting);
                    host.reactor.spawn(leaving::end_idle(host.clone(), until));
                }
                Command::Lend(to) => drop(to.send(gate.lend())),
                Command::EndAll(reason) => host.end_all(reason),
                Command::Exit { at_latest } => {
                    gate.stop(Parting::Emptied);
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

fn publish(gate: &Rc<Gate>, host: &Rc<WorkerHost>, publication: Publication) {
    let Publication { snapshot, counters, gauges, standings, sockets } = publication;
    let plan = Plan::new(host.clone(), snapshot, counters, gauges, standings);
    host.set_newest_plan(Some(plan.clone()));
    gate.replace(plan, sockets);
    rejudge(host);
}
