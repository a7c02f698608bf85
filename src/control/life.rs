//! The life of `run`: what is done in which order until the `ready` line, what signals do, and how it ends.

use super::admin::{self, Surface};
use super::audit::{Target, Writer};
use super::drain::{Drain, Outcome, drain};
use super::failure::{Exit, StartFailure};
use super::logging;
use super::pool;
use super::readiness::Phase;
use super::service::Service;
use super::signals::{self, Asked};
use super::state::{Facts, Generation, State, VERSION};
use crate::config::{Config, Fault, limits};
use crate::wire::audit::Record;
use crate::worker::audit_queue::AuditQueue;
use sd_notify::NotifyState;
use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use tokio::sync::mpsc;

/// Tells somebody that the process serves.
pub type Announce = Box<dyn FnOnce(&Ready)>;

/// What one run does differently from the ordinary.
#[derive(Default)]
pub struct Options {
    /// Called instead of printing the `ready` line.
    pub announce: Option<Announce>,
}

/// What is true once the process serves. Its text is the `ready` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// Each listener with its bound addresses.
    pub listeners: Vec<(Arc<str>, Vec<SocketAddr>)>,
    pub workers: usize,
    pub pid: u32,
    pub admin: Option<SocketAddr>,
    pub probe: Option<SocketAddr>,
    /// The configuration's file, or `-` where it came from flags.
    pub config: String,
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listeners: Vec<String> = self.listeners.iter().map(listener_text).collect();
        write!(f, "ready listeners={} workers={} pid={}", listeners.join(";"), self.workers, self.pid)?;
        if let Some(admin) = self.admin {
            write!(f, " admin={admin}")?;
        }
        if let Some(probe) = self.probe {
            write!(f, " probe={probe}")?;
        }
        write!(f, " config={}", self.config)
    }
}

/// What was loaded from the files that the configuration names.
pub struct Loaded<L> {
    pub snapshot: L,
    pub facts: Facts,
    /// Legal but unwise, found in those files.
    pub warnings: Vec<Fault>,
}

/// Runs until a signal. Answers the exit code; what went wrong has been printed.
pub fn run(config: Config, options: Options) -> u8 {
    logging::take_panics();
    run_with(config, options, pool::load, pool::start, signals::listen)
}

/// The same with a choice of workers and of where signals come from.
fn run_with<L, S: Service>(
    config: Config,
    options: Options,
    load: impl FnOnce(&Arc<Config>) -> Result<Loaded<L>, StartFailure>,
    start: impl FnOnce(L, Option<Arc<AuditQueue>>) -> Result<S, StartFailure>,
    signals: impl FnOnce() -> io::Result<mpsc::Receiver<Asked>>,
) -> u8 {
    let log = match logging::start(&config.log) {
        Ok(log) => log,
        Err(error) => return lacks("a thread for the log", &error).tell(),
    };
    let code = match serve(config, options, load, start, signals) {
        Ok(exit) => exit.code(),
        Err(failure) => {
            log.flush(limits::LOG_END_TIME_MAX);
            failure.tell()
        }
    };
    log.flush(limits::LOG_END_TIME_MAX);
    code
}

fn lacks(what: &str, error: &io::Error) -> StartFailure {
    let message = format!("the system does not give {what}: {error}; raise the limits of this process and try again");
    StartFailure::new(Exit::Os, message)
}

/// Starts, serves, drains. Errors are those of the start.
fn serve<L, S: Service>(
    config: Config,
    options: Options,
    load: impl FnOnce(&Arc<Config>) -> Result<Loaded<L>, StartFailure>,
    start: impl FnOnce(L, Option<Arc<AuditQueue>>) -> Result<S, StartFailure>,
    signals: impl FnOnce() -> io::Result<mpsc::Receiver<Asked>>,
) -> Result<Exit, StartFailure> {
    let config = Arc::new(config);
    warn(&config.warnings);
    let Loaded { snapshot, facts, warnings } = load(&config)?;
    warn(&warnings);
    let target = config.audit.as_ref().map(|audit| Target::open(&audit.target)).transpose()?;
    let queue = target.as_ref().map(|_| Arc::new(AuditQueue::default()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| lacks("an event loop", &error))?;
    let _inside = runtime.enter();
    // Before the workers, so that a signal that comes from here on finds somebody who drains.
    let mut signals = signals().map_err(|error| lacks("signal handlers", &error))?;
    let service = start(snapshot, queue.clone())?;
    let writer = match (target, &queue) {
        (Some(target), Some(queue)) => {
            Some(Writer::start(target, Arc::clone(queue)).map_err(|error| lacks("a thread for the audit", &error))?)
        }
        _ => None,
    };
    let mut state = State::new(Generation::of(Arc::clone(&config), facts, &service), queue);
    state.waker = Some(service.waker());
    let running = Running { state: Arc::new(state), writer, announce: options.announce };
    let exit = runtime.block_on(running.live(service, &mut signals));
    // A worker that hangs must not keep the process.
    runtime.shutdown_background();
    exit
}

/// A process whose workers run.
struct Running {
    state: Arc<State>,
    writer: Option<Writer>,
    announce: Option<Announce>,
}

impl Running {
    async fn live<S: Service>(mut self, service: S, signals: &mut mpsc::Receiver<Asked>) -> Result<Exit, StartFailure> {
        let (admin, probe) = self.open_admin()?;
        self.say_ready(admin, probe);
        self.until_asked_to_stop(signals).await;
        Ok(self.stop(service, signals).await)
    }

    /// Binds and answers the admin addresses.
    fn open_admin(&self) -> Result<(Option<SocketAddr>, Option<SocketAddr>), StartFailure> {
        let generation = self.state.generation();
        let Some(config) = &generation.config.admin else { return Ok((None, None)) };
        let http = config.http.map(|address| admin::bind("admin.http", address, Surface::Full)).transpose()?;
        let probe = config.probe.map(|address| admin::bind("admin.probe", address, Surface::Probe)).transpose()?;
        let addresses = (http.as_ref().map(|bound| bound.address), probe.as_ref().map(|bound| bound.address));
        for bound in [http, probe].into_iter().flatten() {
            bound.serve(Arc::clone(&self.state)).map_err(|error| lacks("an admin socket", &error))?;
        }
        Ok(addresses)
    }

    /// Tells everybody who waits for it: the audit, the probes, the terminal, the service manager.
    fn say_ready(&mut self, admin: Option<SocketAddr>, probe: Option<SocketAddr>) {
        let generation = self.state.generation();
        let ready = ready(&generation, admin, probe);
        self.audit(Record::Start {
            ts: SystemTime::now(),
            version: VERSION,
            digest: generation.config.digest,
            listeners: ready.listeners.iter().map(listener_text).collect(),
            workers: ready.workers,
        });
        self.state.readiness.advance(Phase::Ready);
        match self.announce.take() {
            Some(announce) => announce(&ready),
            // A closed standard error is no reason not to serve.
            None => drop(writeln!(io::stderr(), "{ready}")),
        }
        notify(&[NotifyState::Ready, NotifyState::Status("serving")]);
    }

    async fn until_asked_to_stop(&self, signals: &mut mpsc::Receiver<Asked>) {
        while let Some(asked) = signals.recv().await {
            match asked {
                Asked::Stop => return,
                other => self.do_asked(other),
            }
        }
    }

    /// What signals other than those to stop do, while draining too.
    fn do_asked(&self, asked: Asked) {
        match asked {
            Asked::Stop => {}
            Asked::Reload => tracing::warn!("reload is not yet supported; restart to apply"),
            Asked::HandOver => tracing::warn!("handing over to a new binary is not yet supported; restart instead"),
            Asked::ReopenLogs => {
                if let Some(writer) = &self.writer {
                    writer.reopen();
                }
                tracing::info!("log files are opened anew");
            }
        }
    }

    async fn stop<S: Service>(self, service: S, signals: &mut mpsc::Receiver<Asked>) -> Exit {
        let runtime = self.state.generation().config.runtime.clone();
        self.state.readiness.advance(Phase::Draining);
        notify(&[NotifyState::Stopping, NotifyState::Status("draining")]);
        tracing::info!(connections = service.connections(), "draining");
        let plan = Drain::begin(Instant::now(), runtime.drain_delay, runtime.drain_timeout);
        let Outcome { cut } = drain(service, plan, signals, &|asked| self.do_asked(asked)).await;
        self.audit(Record::Stop {
            ts: SystemTime::now(),
            digest: self.state.generation().config.digest,
            drained: cut == 0,
            connections_cut: cut,
        });
        tracing::info!(connections_cut = cut, "stopped");
        if let Some(writer) = self.writer
            && !writer.finish(limits::AUDIT_END_TIME_MAX)
        {
            tracing::error!("audit lines are lost: they could not be written before the end");
        }
        if cut == 0 { Exit::Clean } else { Exit::Cut }
    }

    fn audit(&self, record: Record) {
        if let Some(queue) = &self.state.audit {
            queue.push(record);
        }
    }
}

/// What the `ready` line says.
fn ready(generation: &Generation, admin: Option<SocketAddr>, probe: Option<SocketAddr>) -> Ready {
    let listener = |listener: &crate::config::Listener| {
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for address in generation.addresses_of(&listener.name) {
            // Each worker has a socket of its own on the same address.
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        (Arc::clone(&listener.name), addresses)
    };
    Ready {
        listeners: generation.config.listeners.iter().map(listener).collect(),
        workers: generation.counters.len(),
        pid: std::process::id(),
        admin,
        probe,
        config: generation.config.file.as_ref().map_or_else(|| "-".to_owned(), |file| file.display().to_string()),
    }
}

fn listener_text((name, addresses): &(Arc<str>, Vec<SocketAddr>)) -> String {
    let addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    format!("{name}={}", addresses.join(","))
}

fn warn(faults: &[Fault]) {
    for fault in faults {
        tracing::warn!("{fault}");
    }
}

/// Tells the service manager, where there is one.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told; is NOTIFY_SOCKET reachable?");
    }
}

#[cfg(test)]
mod tests;
