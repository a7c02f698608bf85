//! The life of `run`: what is done in which order until the `ready` line, what signals do, and how it ends.

use super::admin::{self, Surface};
use super::audit::{Target, Writer};
use super::block_book::BlockBook;
use super::ctl::{self, Opened};
use super::desk::Desk;
use super::drain::{Drain, Outcome, drain};
use super::failure::{Exit, StartFailure};
use super::logging::{self, LogLevel};
use super::notify::{ask_for_time, feed_watchdog, notify};
use super::pool;
use super::readiness::Phase;
use super::refusals::Refusals;
use super::reload::Load;
use super::service::Service;
use super::signals::{self, Asked};
use super::state::{Generation, State, VERSION};
use super::watch::{self, Watch};
use crate::config::{Config, Fault, limits};
use crate::trust::Blocks;
use crate::wire::audit::Record;
use crate::worker::Engine;
use crate::worker::audit_queue::AuditQueue;
use rustls_pki_types::UnixTime;
use sd_notify::NotifyState;
use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Notify, mpsc};

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
    pub engine: Engine,
    pub pid: u32,
    pub admin: Option<SocketAddr>,
    pub probe: Option<SocketAddr>,
    /// The configuration's file, or `-` where it came from flags.
    pub config: String,
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listeners: Vec<String> = self.listeners.iter().map(listener_text).collect();
        write!(
            f,
            "ready listeners={} workers={} engine={} pid={}",
            listeners.join(";"),
            self.workers,
            self.engine,
            self.pid
        )?;
        if let Some(admin) = self.admin {
            write!(f, " admin={admin}")?;
        }
        if let Some(probe) = self.probe {
            write!(f, " probe={probe}")?;
        }
        write!(f, " config={}", self.config)
    }
}

/// Runs until a signal. Answers the exit code; what went wrong has been printed.
pub fn run(config: Config, options: Options) -> u8 {
    logging::take_panics();
    run_with(config, options, Arc::new(pool::load), pool::start, signals::listen)
}

/// The same with a choice of workers and of where signals come from.
fn run_with<S: Service>(
    config: Config,
    options: Options,
    load: Load<S::Snapshot>,
    start: impl FnOnce(Arc<S::Snapshot>, Arc<AuditQueue>, Blocks) -> Result<S, StartFailure>,
    signals: impl FnOnce(&mpsc::Sender<Asked>) -> io::Result<()>,
) -> u8 {
    let (log, level) = match logging::start(&config.log) {
        Ok(started) => started,
        Err(error) => return lacks("a thread for the log", &error).tell(),
    };
    let code = match serve(config, options, (load, level), start, signals) {
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
fn serve<S: Service>(
    config: Config,
    options: Options,
    (load, log): (Load<S::Snapshot>, LogLevel),
    start: impl FnOnce(Arc<S::Snapshot>, Arc<AuditQueue>, Blocks) -> Result<S, StartFailure>,
    signals: impl FnOnce(&mpsc::Sender<Asked>) -> io::Result<()>,
) -> Result<Exit, StartFailure> {
    let config = Arc::new(config);
    warn(&config.warnings);
    // Before the files are read: a change while they are is to be seen as one.
    let watch = Watch::new(watch::look_at(&config));
    let loaded = load(&config, None).map_err(|faults| StartFailure::of_faults(&faults))?;
    warn(&loaded.warnings);
    let target = config.audit.as_ref().map(|audit| Target::open(&audit.target)).transpose()?;
    let (book, blocks) = open_blocks(&config)?;
    let (queue, refusals) = (Arc::new(AuditQueue::default()), Arc::new(Refusals::default()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| lacks("an event loop", &error))?;
    let _inside = runtime.enter();
    let (asked, mut heard) = mpsc::channel(signals::WAITING_MAX);
    // Before the workers, so that a signal that comes from here on finds somebody who drains.
    signals(&asked).map_err(|error| lacks("signal handlers", &error))?;
    let service = Arc::new(start(loaded.snapshot, Arc::clone(&queue), blocks)?);
    let writer = Writer::start(target, Arc::clone(&queue), Arc::clone(&refusals))
        .map_err(|error| lacks("a thread for the audit", &error))?;
    let mut state = State::new(Generation::of(config, loaded.facts, &*service), Some(queue));
    state.waker = Some(service.waker());
    state.ask_seen = Some(service.seen());
    state.note_blocks(service.blocks().len());
    let desk = Desk {
        state: Arc::new(state),
        service,
        writer,
        log,
        refusals,
        book,
        blocking: Mutex::default(),
        blocks_changed: Notify::default(),
        watch,
        load,
        asked,
        reloading: tokio::sync::Mutex::default(),
        reload_is_waiting: AtomicBool::default(),
        turning: Mutex::default(),
    };
    let running = Running { desk: Arc::new(desk), announce: options.announce };
    let exit = runtime.block_on(running.live(&mut heard));
    // A worker that hangs must not keep the process.
    runtime.shutdown_background();
    exit
}

/// Reads the blocks that an earlier run left, and sees whether they can be written.
fn open_blocks(config: &Config) -> Result<(BlockBook, Blocks), StartFailure> {
    let (book, blocks) = BlockBook::open(config.runtime.state_dir.as_deref())?;
    let blocks = blocks.purge(UnixTime::now());
    book.store_first(&blocks)?;
    if !blocks.is_empty() {
        tracing::info!(blocks = blocks.len(), "blocks of an earlier run are in force");
    }
    Ok((book, blocks))
}

fn say_what_a_restart_costs(config: &Config) {
    if config.tickets.enabled && config.tickets.secret_files.is_empty() {
        tracing::info!(
            "ticket keys are random: after a restart every client needs a full handshake, and no other host resumes \
             its session; tickets.secret_files keeps them"
        );
    }
}

/// A process whose workers run.
struct Running<S: Service> {
    desk: Arc<Desk<S>>,
    announce: Option<Announce>,
}

impl<S: Service> Running<S> {
    async fn live(mut self, heard: &mut mpsc::Receiver<Asked>) -> Result<Exit, StartFailure> {
        let (admin, probe) = self.open_admin()?;
        let generation = self.desk.state.generation();
        let path = generation.config.admin.as_ref().and_then(|admin| admin.socket.as_deref());
        let socket = path.map(|path| ctl::open(path, &self.desk)).transpose()?;
        tokio::spawn(Arc::clone(&self.desk).purge_blocks());
        tokio::spawn(Arc::clone(&self.desk.state).look_at_clients());
        if let Some(patience) = sd_notify::watchdog_enabled() {
            tokio::spawn(feed_watchdog(Arc::clone(&self.desk.state), patience));
        }
        tokio::spawn(Arc::clone(&self.desk).check_backends());
        let watch = generation.config.runtime.watch;
        if !watch.is_zero() {
            tokio::spawn(Arc::clone(&self.desk).watch(watch));
        }
        self.say_ready(admin, probe);
        // After the line that others wait for.
        tracing::info!(engine = %generation.engine, workers = generation.counters.len(), "serving");
        say_what_a_restart_costs(&generation.config);
        if let Some(Opened::Nowhere(why)) = &socket {
            tracing::warn!("{why}");
        }
        let timeout = self.until_asked_to_stop(heard).await.unwrap_or(generation.config.runtime.drain_timeout);
        drop(generation);
        let exit = self.stop(timeout, heard).await;
        // The socket answers to the end.
        drop(socket);
        Ok(exit)
    }

    /// Binds and answers the admin addresses.
    fn open_admin(&self) -> Result<(Option<SocketAddr>, Option<SocketAddr>), StartFailure> {
        let generation = self.desk.state.generation();
        let Some(config) = &generation.config.admin else { return Ok((None, None)) };
        let http = config.http.map(|address| admin::bind("admin.http", address, Surface::Full)).transpose()?;
        let probe = config.probe.map(|address| admin::bind("admin.probe", address, Surface::Probe)).transpose()?;
        let addresses = (http.as_ref().map(|bound| bound.address), probe.as_ref().map(|bound| bound.address));
        for bound in [http, probe].into_iter().flatten() {
            bound.serve(Arc::clone(&self.desk.state)).map_err(|error| lacks("an admin socket", &error))?;
        }
        Ok(addresses)
    }

    /// Tells everybody who waits for it: the audit, the probes, the terminal, the service manager.
    fn say_ready(&mut self, admin: Option<SocketAddr>, probe: Option<SocketAddr>) {
        let generation = self.desk.state.generation();
        let ready = ready(&generation, admin, probe);
        self.desk.audit(Record::Start {
            ts: SystemTime::now(),
            version: VERSION,
            digest: generation.config.digest,
            listeners: ready.listeners.iter().map(listener_text).collect(),
            workers: ready.workers,
        });
        self.desk.state.readiness.advance(Phase::Ready);
        match self.announce.take() {
            Some(announce) => announce(&ready),
            // A closed standard error is no reason not to serve.
            None => drop(writeln!(io::stderr(), "{ready}")),
        }
        notify(&[NotifyState::Ready, NotifyState::Status("serving")]);
    }

    /// Does what is asked until that is to stop; then the time for open connections, if it came with one.
    async fn until_asked_to_stop(&self, heard: &mut mpsc::Receiver<Asked>) -> Option<Duration> {
        while let Some(asked) = heard.recv().await {
            match asked {
                Asked::Stop => return None,
                Asked::Drain(timeout) => return timeout,
                other => self.do_asked(other),
            }
        }
        None
    }

    /// What is asked other than to stop, while draining too.
    fn do_asked(&self, asked: Asked) {
        match asked {
            Asked::Stop | Asked::Drain(_) => {}
            Asked::Reload => self.desk.reload_soon(),
            Asked::HandOver => tracing::warn!("handing over to a new binary is not yet supported; restart instead"),
            Asked::ReopenLogs => {
                self.desk.writer.reopen();
                tracing::info!("log files are opened anew");
            }
        }
    }

    async fn stop(self, timeout: Duration, heard: &mut mpsc::Receiver<Asked>) -> Exit {
        let Desk { state, service, .. } = &*self.desk;
        self.desk.turn_to_draining();
        notify(&[NotifyState::Stopping, NotifyState::Status("draining")]);
        tokio::spawn(ask_for_time());
        tracing::info!(connections = service.connections(), "draining");
        let plan = Drain::begin(Instant::now(), state.generation().config.runtime.drain_delay, timeout);
        let Outcome { cut } = drain(service, plan, heard, &|asked| self.do_asked(asked)).await;
        let digest = state.generation().config.digest;
        self.desk.audit(Record::Stop { ts: SystemTime::now(), digest, drained: cut == 0, connections_cut: cut });
        tracing::info!(connections_cut = cut, "stopped");
        if !self.desk.writer.finish(limits::AUDIT_END_TIME_MAX) {
            tracing::error!("audit lines are lost: they could not be written before the end");
        }
        if cut == 0 { Exit::Clean } else { Exit::Cut }
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
        engine: generation.engine,
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

#[cfg(test)]
mod tests;
