//! All workers: started together, told together.

use super::audit_queue::AuditQueue;
use super::counters::Counters;
use super::gauges::Gauges;
use super::snapshot::Snapshot;
use super::start_error::StartError;
use super::thread::{self, Command, Mailbox, RING, Setup, Shared};
use crate::config::{Config, Cpus, Pin, limits};
use crate::sys::{self, ListenOptions, affinity};
use crate::trust::{Blocks, SharedChainCache};
use crate::wire::audit::CloseReason;
use arc_swap::ArcSwap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The running workers.
#[derive(Debug)]
pub struct Pool {
    workers: Vec<RunningWorker>,
    counters: Vec<Arc<Counters>>,
    addresses: Vec<(Arc<str>, SocketAddr)>,
    gauges: Vec<Arc<Gauges>>,
    blocks: Arc<ArcSwap<Blocks>>,
}

#[derive(Debug)]
struct RunningWorker {
    mailbox: Mailbox,
    thread: JoinHandle<u64>,
}

/// After connections were asked to end: how long their last words may take.
const CUT_PATIENCE: Duration = Duration::from_millis(limits::GOODBYE_MS_MAX + 500);

impl Pool {
    /// Binds every address on every worker, starts the workers, and returns when each of them listens.
    ///
    /// # Errors
    /// The first thing that did not work; nothing keeps running then.
    pub fn start(snapshot: Arc<Snapshot>, audit: Option<Arc<AuditQueue>>) -> Result<Pool, StartError> {
        let config = snapshot.config().clone();
        let cpus = choose_cpus(&config)?;
        sys::probe(RING).map_err(StartError::Missing)?;
        let (mut sockets, addresses) = bind_all(&config, cpus.len())?;
        let gauges = gauges(&config);
        let shared = Shared {
            chains: Arc::new(SharedChainCache::new()),
            blocks: Arc::new(ArcSwap::from_pointee(Blocks::default())),
            gauges: gauges.clone(),
            audit,
        };
        let mut pool =
            Pool { workers: Vec::new(), counters: Vec::new(), addresses, gauges, blocks: shared.blocks.clone() };
        let (sender, heard) = mpsc::channel();
        for (index, cpu) in cpus.iter().enumerate() {
            let counters = Arc::new(Counters::for_config(&config));
            let mailbox = Mailbox::new().map_err(|error| internal("making a worker's eventfd", &error))?;
            let setup = Setup {
                index,
                cpu: *cpu,
                snapshot: snapshot.clone(),
                shared: shared.clone(),
                counters: counters.clone(),
                mailbox: mailbox.clone(),
                listeners: sockets.pop().unwrap_or_default(),
            };
            let sender = sender.clone();
            let ready = move |result| drop(sender.send(result));
            let thread = std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || thread::run(setup, ready))
                .map_err(|error| internal("starting a worker's thread", &error))?;
            pool.workers.push(RunningWorker { mailbox, thread });
            pool.counters.push(counters);
        }
        drop(sender);
        for _ in 0..pool.workers.len() {
            let result = heard.recv().unwrap_or_else(|_| Err(internal("starting a worker", &"it ended at once")));
            if let Err(error) = result {
                pool.join(true);
                return Err(error);
            }
        }
        Ok(pool)
    }

    /// The addresses that are listened on, with their listener's name; port 0 is resolved.
    pub fn local_addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
        self.addresses.clone()
    }

    /// Each worker's counters.
    pub fn counters(&self) -> &[Arc<Counters>] {
        &self.counters
    }

    /// The most connections that each listener takes, by its index.
    pub fn connection_limits(&self) -> Vec<u32> {
        self.gauges.iter().map(|gauges| gauges.connections_max()).collect()
    }

    /// Who is blocked; a stored value counts from the next handshake on.
    pub fn blocks(&self) -> &Arc<ArcSwap<Blocks>> {
        &self.blocks
    }

    /// Closes the listening sockets once what the kernel had accepted is taken. Open connections go on.
    pub fn stop_accepting(&self) {
        self.tell(|| Command::StopAccepting);
    }

    /// Connections open now, handshakes included.
    pub fn connections(&self) -> u64 {
        let active =
            |counters: &Arc<Counters>| counters.listeners.iter().map(|listener| listener.active.value()).sum::<u64>();
        self.counters.iter().map(active).sum()
    }

    /// Ends the workers. With `cut`, connections are asked to end and lost after a short patience; without, the workers
    /// go on until none is left. The result counts those that were asked to end or lost.
    pub fn join(self, cut: bool) -> u64 {
        let open = if cut { self.connections() } else { 0 };
        let patience = if cut { CUT_PATIENCE } else { Duration::from_secs(u32::MAX.into()) };
        if cut {
            self.tell(|| Command::EndAll(CloseReason::Drained));
        }
        let at_latest = Instant::now() + patience;
        self.tell(|| Command::Exit { at_latest });
        let lost: u64 = self.workers.into_iter().map(|worker| worker.thread.join().unwrap_or(0)).sum();
        open.max(lost)
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for worker in &self.workers {
            if !worker.mailbox.send(command()) {
                tracing::error!("a worker has stopped listening to commands; restart the service");
            }
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

/// A worker's listening sockets, each with the index of its listener.
type Sockets = Vec<(usize, TcpListener)>;

/// Bound addresses with their listener's name.
type Addresses = Vec<(Arc<str>, SocketAddr)>;

/// For each worker its listening sockets, and the addresses they share.
fn bind_all(config: &Config, workers: usize) -> Result<(Vec<Sockets>, Addresses), StartError> {
    let mut sockets: Vec<Sockets> = (0..workers).map(|_| Vec::new()).collect();
    let mut addresses = Vec::new();
    for (index, listener) in config.listeners.iter().enumerate() {
        let options = ListenOptions { keepalive: listener.tcp_keepalive, backlog: limits::ACCEPT_QUEUE };
        for wanted in &listener.addresses {
            let mut address = *wanted;
            let fault = |error| StartError::Bind { listener: listener.name.to_string(), address: *wanted, error };
            if address.port() != 0 {
                sys::probe_address(address).map_err(fault)?;
            }
            for own in &mut sockets {
                let socket = sys::listen(address, options).map_err(fault)?;
                // The first worker resolves port 0 for all.
                address = socket.local_addr().map_err(fault)?;
                own.push((index, socket));
            }
            addresses.push((listener.name.clone(), address));
        }
    }
    Ok((sockets, addresses))
}

fn gauges(config: &Config) -> Vec<Arc<Gauges>> {
    let descriptors = sys::limits::descriptor_limit().saturating_sub(limits::DESCRIPTORS_RESERVED);
    let by_descriptors = descriptors / 2 / config.listeners.len().max(1) as u64;
    let by_memory = sys::limits::memory_limit() / 2 / limits::CONNECTION_BYTES / config.listeners.len().max(1) as u64;
    let auto = u32::try_from(by_descriptors.min(by_memory).max(1)).unwrap_or(u32::MAX);
    let gauge = |listener: &crate::config::Listener| {
        Gauges::new(listener.limits.connections.unwrap_or(auto), listener.limits.handshakes_in_flight)
    };
    config.listeners.iter().map(gauge).collect()
}
