//! All workers: started together, told together.

use super::accepting::{Lent, ListenKey, Parting};
use super::audit_queue::AuditQueue;
use super::binding::{Bound, Sources, bind};
use super::counters::Counters;
use super::engine::Engine;
use super::gauges::Gauges;
use super::kernel_path;
use super::seen::Sightings;
use super::sessions::{Presence, Question};
use super::snapshot::Snapshot;
use super::standing::{Standings, standings};
use super::start_error::StartError;
use super::steering::Steering;
use super::thread::{self, Command, Mailbox, Publication, Setup, Shared};
use crate::config::{Config, Cpus, Listener, Pin, limits};
use crate::sys::{self, Passed, affinity};
use crate::trust::{Blocks, KnownChain, SharedChainCache};
use crate::wire::audit::CloseReason;
use arc_swap::ArcSwap;
use rustls_pki_types::UnixTime;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The running workers.
#[derive(Debug)]
pub struct Pool {
    engine: Engine,
    steering: Steering,
    workers: Vec<RunningWorker>,
    /// Taken by whoever joins.
    threads: Mutex<Vec<JoinHandle<u64>>>,
    blocks: Arc<ArcSwap<Blocks>>,
    /// Only the control side looks here; no worker does.
    present: Mutex<Present>,
    chains: Arc<SharedChainCache>,
    /// What the service manager passed; a reload may name what was not named before.
    passed: Vec<Passed>,
    /// The listening sockets are another process's: a generation that is published changes none.
    left: AtomicBool,
}

/// What another process hands over.
#[derive(Debug, Default)]
pub struct Inheritance {
    pub sockets: Vec<Lent>,
    pub chains: Vec<KnownChain>,
    /// What the service manager passed, to this process or to one before it.
    pub passed: Vec<Passed>,
}

#[derive(Debug)]
struct RunningWorker {
    mailbox: Mailbox,
}

/// What the workers serve now.
#[derive(Debug)]
struct Present {
    snapshot: Arc<Snapshot>,
    counters: Vec<Arc<Counters>>,
    gauges: Vec<Arc<Gauges>>,
    standings: Standings,
    addresses: Vec<(ListenKey, SocketAddr)>,
}

/// After connections were asked to end: how long their last words may take.
const CUT_PATIENCE: Duration = Duration::from_millis(limits::GOODBYE_MS_MAX + 500);

impl Pool {
    /// Binds every address on every worker, starts the workers, and returns when each of them listens.
    ///
    /// # Errors
    /// The first thing that did not work; nothing keeps running then.
    pub fn start(snapshot: Arc<Snapshot>, audit: Option<Arc<AuditQueue>>, blocks: Blocks) -> Result<Pool, StartError> {
        Pool::start_with(snapshot, audit, blocks, Inheritance::default())
    }

    /// The same, with what another process hands over: its listening sockets go on with their queues, each at the listener
    /// of its name and address, or else of its address. Sockets that nobody wants are closed.
    ///
    /// # Errors
    /// As with [`Pool::start`].
    pub fn start_with(
        snapshot: Arc<Snapshot>,
        audit: Option<Arc<AuditQueue>>,
        blocks: Blocks,
        inheritance: Inheritance,
    ) -> Result<Pool, StartError> {
        let config = snapshot.config().clone();
        let cpus = choose_cpus(&config)?;
        let engine = Engine::choose(config.runtime.engine, cpus.len())?;
        kernel_path::look(config.runtime.ktls, engine)?;
        let Inheritance { sockets: inherited, chains: known_chains, passed } = inheritance;
        let sources = Sources { known: &[], inherited, passed: &passed };
        let Bound { mut sockets, addresses } = bind(&config.listeners, sources, cpus.len())?;
        let steering = Steering::choose(config.runtime.steering, &cpus);
        steering.apply(&sockets);
        let counters: Vec<_> = cpus.iter().map(|_| Arc::new(Counters::for_config(&config))).collect();
        let gauges = gauges(&config, &[], &[]);
        let standings = standings(&config, None);
        let blocks = Arc::new(ArcSwap::from_pointee(blocks));
        let chains = Arc::new(SharedChainCache::new());
        learn(&chains, &known_chains, &snapshot);
        let shared = Shared { chains: chains.clone(), blocks: blocks.clone(), audit };
        let (sender, heard) = mpsc::channel();
        let (mut workers, mut threads) = (Vec::new(), Vec::new());
        for (index, cpu) in cpus.iter().enumerate() {
            let mailbox = Mailbox::new().map_err(|error| internal("making a worker's eventfd", &error))?;
            let first = Publication {
                snapshot: snapshot.clone(),
                counters: counters[index].clone(),
                gauges: gauges.clone(),
                standings: standings.clone(),
                sockets: std::mem::take(&mut sockets[index]),
            };
            let setup = Setup { index, cpu: *cpu, shared: shared.clone(), mailbox: mailbox.clone(), first };
            let sender = sender.clone();
            let ready = move |result| drop(sender.send(result));
            let thread = std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || thread::run(engine, setup, ready))
                .map_err(|error| internal("starting a worker's thread", &error))?;
            workers.push(RunningWorker { mailbox });
            threads.push(thread);
        }
        drop(sender);
        let present = Mutex::new(Present { snapshot, counters, gauges, standings, addresses });
        let left = AtomicBool::default();
        let threads = Mutex::new(threads);
        let pool = Pool { engine, steering, workers, threads, blocks, present, chains, passed, left };
        for _ in 0..pool.workers.len() {
            let result = heard.recv().unwrap_or_else(|_| Err(internal("starting a worker", &"it ended at once")));
            if let Err(error) = result {
                pool.join(true);
                return Err(error);
            }
        }
        Ok(pool)
    }

    /// Serves the next generation: new connections begin with it, open ones are judged by it, addresses are added and
    /// given up as it says. What listeners, sites and servers keep by name keeps its counts. Returns when every worker
    /// has begun with it, so that no handshake after that is judged by the old one.
    ///
    /// # Errors
    /// An address that cannot be bound; the old generation then goes on unchanged.
    pub fn publish(&self, snapshot: &Arc<Snapshot>) -> Result<(), StartError> {
        let mut present = self.present();
        let (old, new) = (present.snapshot.config().clone(), snapshot.config().clone());
        let Bound { mut sockets, addresses } = match self.left.load(Ordering::SeqCst) {
            true => Bound {
                sockets: self.workers.iter().map(|_| Vec::new()).collect(),
                addresses: present.addresses.clone(),
            },
            false => {
                let sources = Sources { known: &present.addresses, inherited: Vec::new(), passed: &self.passed };
                bind(&new.listeners, sources, self.workers.len())?
            }
        };
        self.steering.apply(&sockets);
        let counters: Vec<_> = present.counters.iter().map(|counters| Arc::new(counters.next(&old, &new))).collect();
        let gauges = gauges(&new, &old.listeners, &present.gauges);
        let standings = standings(&new, Some((&old, &present.standings)));
        let (taken, all_taken) = mpsc::channel();
        for (index, worker) in self.workers.iter().enumerate() {
            let publication = Publication {
                snapshot: snapshot.clone(),
                counters: counters[index].clone(),
                gauges: gauges.clone(),
                standings: standings.clone(),
                sockets: std::mem::take(&mut sockets[index]),
            };
            worker.tell(Command::Publish(Box::new(publication), taken.clone()));
        }
        *present = Present { snapshot: snapshot.clone(), counters, gauges, standings, addresses };
        drop((present, taken));
        // Nobody sends: the channel ends when the last worker has dropped its end.
        if all_taken.recv_timeout(limits::WORKER_ANSWER_TIME_MAX) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::error!("a worker has not taken the new configuration in time; see /healthz");
        }
        Ok(())
    }

    /// What the workers stand on.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// The addresses that are listened on, with their listener's name; port 0 is resolved.
    pub fn local_addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
        self.present().addresses.iter().map(|(key, bound)| (key.listener.clone(), *bound)).collect()
    }

    /// Each worker's counters, numbered as the newest generation numbers its listeners, sites and servers.
    pub fn counters(&self) -> Vec<Arc<Counters>> {
        self.present().counters.clone()
    }

    /// What the workers serve now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.present().snapshot.clone()
    }

    /// The most connections that each listener takes, by its index.
    pub fn connection_limits(&self) -> Vec<u32> {
        self.present().gauges.iter().map(|gauges| gauges.connections_max()).collect()
    }

    /// What is known and wanted of each backend server.
    pub fn standings(&self) -> Standings {
        self.present().standings.clone()
    }

    /// Who is blocked.
    pub fn blocks(&self) -> Arc<Blocks> {
        self.blocks.load_full()
    }

    /// Blocks count from the next handshake on, and end the connections of those whom they name.
    pub fn set_blocks(&self, blocks: Blocks) {
        self.blocks.store(Arc::new(blocks));
        self.tell(|| Command::Rejudge);
    }

    /// What wakes every worker for a turn of its loop: `turns` of [`Counters`] then tells whether it does turn.
    pub fn waker(&self) -> impl Fn() + Send + Sync + use<> {
        let mailboxes: Vec<Mailbox> = self.workers.iter().map(|worker| worker.mailbox.clone()).collect();
        move || mailboxes.iter().for_each(Mailbox::wake)
    }

    /// Asks every worker who is connected; each answers once, in a moment, into the channel.
    pub fn who_is_there(&self, question: &Question) -> mpsc::Receiver<Presence> {
        let (to, answers) = mpsc::channel();
        self.tell(|| Command::WhoIsThere(question.clone(), to.clone()));
        answers
    }

    /// What asks every worker whom it has let in since it was last asked; each answers once, at once.
    pub fn seen(&self) -> impl Fn() -> mpsc::Receiver<Sightings> + Send + Sync + use<> {
        let mailboxes: Vec<Mailbox> = self.workers.iter().map(|worker| worker.mailbox.clone()).collect();
        move || {
            let (to, answers) = mpsc::channel();
            for mailbox in &mailboxes {
                mailbox.send(Command::WhoWasSeen(to.clone()));
            }
            answers
        }
    }

    /// Closes the listening sockets once everybody in their queues is taken. Open connections go on; those that are idle
    /// end by `until`, spread over the time.
    pub fn stop_accepting(&self, until: Instant) {
        self.tell(|| Command::StopAccepting(Parting::Emptied, until));
    }

    /// What another process needs to go on from here: duplicates of the listening sockets, and chains that it need not
    /// verify while clients wait.
    pub fn bequeath(&self) -> Inheritance {
        let (to, answers) = mpsc::channel();
        self.tell(|| Command::Lend(to.clone()));
        drop(to);
        let at_latest = Instant::now() + limits::WORKER_ANSWER_TIME_MAX;
        let mut sockets = Vec::new();
        while let Ok(lent) = answers.recv_timeout(at_latest.saturating_duration_since(Instant::now())) {
            sockets.extend(lent);
        }
        let chains = self.chains.chains(limits::HANDED_CHAINS_MAX, limits::HANDED_CHAINS_BYTES_MAX);
        let again = |one: &Passed| {
            let socket = one.socket.as_ref().ok()?.try_clone().ok()?;
            Some(Passed { name: one.name.clone(), socket: Ok(socket) })
        };
        Inheritance { sockets, chains, passed: self.passed.iter().filter_map(again).collect() }
    }

    /// Leaves the listening sockets to the process that got them: what was accepted here already is served here. Idle
    /// connections end by `until`, spread over the time.
    pub fn leave_sockets(&self, until: Instant) {
        self.left.store(true, Ordering::SeqCst);
        self.tell(|| Command::StopAccepting(Parting::LivesOn, until));
    }

    /// Whether listening sockets are still accepted on or emptied.
    pub fn is_accepting(&self) -> bool {
        self.present().counters.iter().any(|counters| counters.doors.value() > 0)
    }

    /// Connections open now, handshakes included.
    pub fn connections(&self) -> u64 {
        let active =
            |counters: &Arc<Counters>| counters.listeners.iter().map(|listener| listener.active.value()).sum::<u64>();
        self.present().counters.iter().map(active).sum()
    }

    /// Ends the workers. With `cut`, connections are asked to end and lost after a short patience; without, the workers
    /// go on until none is left. The result counts those that were asked to end or lost; a second call finds none.
    pub fn join(&self, cut: bool) -> u64 {
        let open = if cut { self.connections() } else { 0 };
        let patience = if cut { CUT_PATIENCE } else { Duration::from_secs(u32::MAX.into()) };
        if cut {
            self.tell(|| Command::EndAll(CloseReason::Drained));
        }
        let at_latest = Instant::now() + patience;
        self.tell(|| Command::Exit { at_latest });
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let lost: u64 = threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum();
        open.max(lost)
    }

    fn tell(&self, command: impl Fn() -> Command) {
        self.workers.iter().for_each(|worker| worker.tell(command()));
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RunningWorker {
    fn tell(&self, command: Command) {
        if !self.mailbox.send(command) {
            tracing::error!("a worker has stopped listening to commands; restart the service");
        }
    }
}

fn internal(step: &'static str, error: &dyn std::fmt::Display) -> StartError {
    StartError::Internal { step, error: error.to_string() }
}

/// One entry for each worker: the CPU to pin it to, if any.
fn choose_cpus(config: &Config) -> Result<Vec<Option<usize>>, StartError> {
    let allowed = affinity::allowed_cpus();
    let quota = affinity::cpu_quota();
    let cpus = match &config.runtime.cpus {
        Cpus::Auto => {
            let most = quota.map_or(allowed.len(), |quota| (quota.ceil() as usize).max(1));
            allowed.iter().copied().take(most).collect()
        }
        Cpus::List(list) => {
            if let Some(wanted) = list.iter().find(|cpu| !allowed.contains(cpu)) {
                return Err(StartError::Cpus { wanted: *wanted, allowed });
            }
            list.clone()
        }
    };
    let pin = match config.runtime.pin {
        Pin::Always => true,
        Pin::Never => false,
        Pin::Auto => quota.is_none_or(|quota| quota >= allowed.len() as f64),
    };
    Ok(cpus.into_iter().map(|cpu| pin.then_some(cpu)).collect())
}

/// Judges chains that another process knew, for a bounded time: clients wait meanwhile.
fn learn(cache: &SharedChainCache, chains: &[KnownChain], snapshot: &Snapshot) {
    let begun = Instant::now();
    let mut learnt = 0_usize;
    for chain in chains {
        if begun.elapsed() >= limits::HANDED_CHAINS_TIME_MAX {
            break;
        }
        let policy = snapshot.policies().iter().find(|policy| policy.id() == chain.policy);
        learnt += usize::from(policy.is_some_and(|policy| cache.learn(chain, policy, UnixTime::now())));
    }
    if !chains.is_empty() {
        tracing::info!(known = chains.len(), learnt, "chains of the process before were judged anew");
    }
}

/// A gauge for each listener of `config`; listeners that there were keep theirs, with the new limits.
fn gauges(config: &Config, old: &[Listener], known: &[Arc<Gauges>]) -> Vec<Arc<Gauges>> {
    let share = config.listeners.len().max(1) as u64;
    let descriptors = sys::limits::descriptor_limit().saturating_sub(limits::DESCRIPTORS_RESERVED);
    let by_memory = sys::limits::memory_limit() / 2 / limits::CONNECTION_BYTES;
    // On the kernel path the workers' pipes need some too.
    let pipes = match kernel_path::is_used(config.runtime.ktls) {
        true => 2 * (kernel_path::pipe_bounds().used_max * affinity::allowed_cpus().len()) as u64,
        false => 0,
    };
    let descriptors = descriptors.saturating_sub(pipes);
    let auto = u32::try_from((descriptors / 2).min(by_memory) / share).unwrap_or(u32::MAX).max(1);
    let gauge = |listener: &Listener| {
        let (connections, handshakes) =
            (listener.limits.connections.unwrap_or(auto), listener.limits.handshakes_in_flight);
        let place = old.iter().position(|known| known.name == listener.name);
        match place.and_then(|place| known.get(place)) {
            None => Gauges::new(connections, handshakes),
            Some(kept) => {
                kept.set_limits(connections, handshakes);
                kept.clone()
            }
        }
    };
    config.listeners.iter().map(gauge).collect()
}
