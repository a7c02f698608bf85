//! The life of `run`: what is done in which order until the `ready` line, what signals do, and how it ends.

use super::admin::{self, Surface};
use super::audit::{Target, Writer};
use super::block_book::BlockBook;
use super::confinement::{self, Confinement};
use super::ctl::{self, Opened};
use super::desk::Desk;
use super::drain::{Drain, Outcome, drain};
use super::failure::{Exit, StartFailure};
use super::handover::{
    Described, Doors, Elder, Given, HandedOver, Helper, Legacy, Predecessor, Resumption, Succession,
};
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
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// What it takes to hand over, and to take over; `None`: it does neither.
    pub succession: Option<Succession>,
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
    start: impl FnOnce(Arc<S::Snapshot>, Arc<AuditQueue>, Blocks, Given<'_>) -> Result<S, StartFailure>,
    signals: impl FnOnce(&mpsc::Sender<Asked>) -> io::Result<()>,
) -> u8 {
    // Before there are threads; whoever starts programs has been split off. What serves within another program, as the
    // demonstration does, leaves that as it is.
    let (confinement, told) = match options.succession {
        Some(_) => Confinement::enter(&config),
        None => Default::default(),
    };
    let (log, level) = match logging::start(&config.log) {
        Ok(started) => started,
        Err(error) => return lacks("a thread for the log", &error).tell(),
    };
    confinement::tell(&told);
    let code = match serve(config, options, (load, level, confinement), start, signals) {
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
    // EMFILE and ENFILE have no kind of their own.
    let help = match error.raw_os_error() {
        Some(23 | 24) => "raise the limit of open files with `ulimit -n` or LimitNOFILE=",
        _ => "raise the limits of this process and try again",
    };
    let message = format!("the system does not give {what}: {error}; {help}");
    StartFailure::new(Exit::Os, message)
}

/// Starts, serves, drains. Errors are those of the start.
fn serve<S: Service>(
    config: Config,
    options: Options,
    (load, log, confinement): (Load<S::Snapshot>, LogLevel, Confinement),
    start: impl FnOnce(Arc<S::Snapshot>, Arc<AuditQueue>, Blocks, Given<'_>) -> Result<S, StartFailure>,
    signals: impl FnOnce(&mpsc::Sender<Asked>) -> io::Result<()>,
) -> Result<Exit, StartFailure> {
    let config = Arc::new(config);
    warn(&config.warnings);
    let Options { announce, succession } = options;
    let (helper, predecessor, passed) = match succession {
        Some(Succession { helper, predecessor, passed }) => (helper, predecessor, passed),
        None => (Err("this command serves for a while only".to_owned()), None, Vec::new()),
    };
    let mut legacy = predecessor.as_ref().map(Predecessor::read).transpose()?;
    // Before the files are read: a change while they are is to be seen as one.
    let watch = Watch::new(watch::look_at(&config));
    let loaded = load(&config, None).map_err(|faults| StartFailure::of_faults(&faults))?;
    warn(&loaded.warnings);
    let target = config.audit.as_ref().map(|audit| Target::open(&audit.target)).transpose()?;
    let (book, blocks) = open_blocks(&config, legacy.as_ref())?;
    let (queue, refusals) = (Arc::new(AuditQueue::default()), Arc::new(Refusals::default()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| lacks("an event loop", &error))?;
    let _inside = runtime.enter();
    let (asked, mut heard) = mpsc::channel(signals::WAITING_MAX);
    // Before the workers, so that a signal that comes from here on finds somebody who drains.
    signals(&asked).map_err(|error| lacks("signal handlers", &error))?;
    let given = Given { legacy: legacy.as_mut(), passed };
    let service = Arc::new(start(loaded.snapshot, Arc::clone(&queue), blocks, given)?);
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
        block_ends: Default::default(),
        blocks_changed: Notify::default(),
        watch,
        load,
        confinement,
        asked,
        reloading: tokio::sync::Mutex::default(),
        reload_is_waiting: AtomicBool::default(),
        turning: Mutex::default(),
        doors: Doors::default(),
        giving: AtomicBool::default(),
        elder: Elder::default(),
    };
    let running = Running { desk: Arc::new(desk), announce, helper, succeeds: predecessor.zip(legacy) };
    let exit = runtime.block_on(running.live(&mut heard));
    // A worker that hangs must not keep the process.
    runtime.shutdown_background();
    exit
}

/// Reads the blocks that an earlier run left, and sees whether they can be written. While the process before still serves,
/// its list counts, and it is the one who writes.
fn open_blocks(config: &Config, legacy: Option<&Legacy>) -> Result<(BlockBook, Blocks), StartFailure> {
    let (book, blocks) = BlockBook::open(config.runtime.state_dir.as_deref())?;
    if let Some(legacy) = legacy {
        return Ok((book, legacy.blocks.purge(UnixTime::now())));
    }
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
    /// Who starts a new program; else why there is nobody.
    helper: Result<Arc<Helper>, String>,
    /// From whom it takes over, and what.
    succeeds: Option<(Predecessor, Legacy)>,
}

/// Why it serves no more.
enum Ending {
    /// The time for open connections may come with it.
    Stop(Option<Duration>),
    HandedOver(HandedOver),
}

impl<S: Service> Running<S> {
    async fn live(mut self, heard: &mut mpsc::Receiver<Asked>) -> Result<Exit, StartFailure> {
        if self.succeeds.is_some() {
            // The workers take connections already, and whoever asks the admin sockets asks about the service.
            self.desk.state.readiness.advance(Phase::Ready);
        }
        let (admin, probe) = self.open_admin()?;
        let generation = self.desk.state.generation();
        let socket = match generation.config.admin.as_ref().and_then(|admin| admin.socket.as_deref()) {
            Some(path) => {
                let handed = self.legacy().and_then(|legacy| legacy.socket(path));
                Some(ctl::open(path, &self.desk, handed)?)
            }
            None => None,
        };
        self.take_over().await?;
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
        let ending = self.until_it_ends(heard).await;
        drop(generation);
        let exit = match ending {
            Ending::Stop(timeout) => self.stop(timeout, heard).await,
            Ending::HandedOver(handed) => {
                if let Some(Opened::Socket(file)) = socket {
                    file.leave();
                }
                return Ok(self.retire(handed, heard).await);
            }
        };
        // The socket answers to the end.
        drop(socket);
        Ok(exit)
    }

    fn legacy(&mut self) -> Option<&mut Legacy> {
        self.succeeds.as_mut().map(|(_, legacy)| legacy)
    }

    /// Binds and answers the admin addresses.
    fn open_admin(&mut self) -> Result<(Option<SocketAddr>, Option<SocketAddr>), StartFailure> {
        let generation = self.desk.state.generation();
        let Some(config) = &generation.config.admin else { return Ok((None, None)) };
        let mut addresses = (None, None);
        for (key, wanted, surface) in
            [("admin.http", config.http, Surface::Full), ("admin.probe", config.probe, Surface::Probe)]
        {
            let Some(wanted) = wanted else { continue };
            let is_probe = surface == Surface::Probe;
            let handed = self.legacy().and_then(|legacy| legacy.admin(is_probe, wanted));
            let bound = admin::bind(key, wanted, surface, handed)?;
            let (described, address) = match is_probe {
                true => (Described::AdminProbe { address: wanted }, &mut addresses.1),
                false => (Described::AdminHttp { address: wanted }, &mut addresses.0),
            };
            *address = Some(bound.address);
            let served = bound.serve(Arc::clone(&self.desk.state));
            let (socket, accepting) = served.map_err(|error| lacks("an admin socket", &error))?;
            self.desk.doors.add(described, socket, accepting);
        }
        Ok(addresses)
    }

    /// Where there is a process before: tells it that this one serves, and goes on alone when it lets go.
    async fn take_over(&mut self) -> Result<(), StartFailure> {
        let Some((predecessor, legacy)) = self.succeeds.take() else { return Ok(()) };
        let taking = tokio::task::spawn_blocking(move || predecessor.take_over());
        let fault = |_| StartFailure::new(Exit::Internal, "a fault of ours while taking over: the log says where");
        let (blocks, elder) = taking.await.map_err(fault)??;
        let blocks = blocks.purge(UnixTime::now());
        self.desk.service.set_blocks(blocks.clone());
        self.desk.state.note_blocks(blocks.len());
        if let Err(failure) = self.desk.book.store_first(&blocks) {
            tracing::error!("the blocks are in force and not stored: {failure}");
        }
        self.desk.elder.set(elder);
        tracing::info!(from = legacy.from, "took over; before: {}", legacy.resumption);
        tokio::spawn(Arc::clone(&self.desk).tell_resumption(legacy.resumption));
        Ok(())
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
            // One write: another process, the one that hands over, writes there too.
            None => drop(io::stderr().write_all(format!("{ready}\n").as_bytes())),
        }
        notify(&[NotifyState::Ready, NotifyState::Status("serving")]);
    }

    /// Does what is asked until that is an end.
    async fn until_it_ends(&self, heard: &mut mpsc::Receiver<Asked>) -> Ending {
        while let Some(asked) = heard.recv().await {
            match asked {
                Asked::Stop => return Ending::Stop(None),
                Asked::Drain(timeout) => return Ending::Stop(timeout),
                Asked::HandOver => match self.hand_over(heard).await {
                    Some(ending @ Ending::HandedOver(_)) => return ending,
                    not_handed_over => {
                        self.desk.giving.store(false, Ordering::SeqCst);
                        if let Some(ending) = not_handed_over {
                            return ending;
                        }
                    }
                },
                other => self.do_asked(other),
            }
        }
        Ending::Stop(None)
    }

    /// What is asked that is no end, while draining too.
    fn do_asked(&self, asked: Asked) {
        match asked {
            Asked::Stop | Asked::Drain(_) => {}
            Asked::Reload => self.desk.reload_soon(),
            Asked::HandOver => tracing::warn!("not now: this process is handing over, or about to end"),
            Asked::ReopenLogs => {
                self.desk.writer.reopen();
                tracing::info!("log files are opened anew");
            }
        }
    }

    /// Brings up a new process and lets it go on alone. `None`: it did not come up, and this one goes on as before.
    async fn hand_over(&self, heard: &mut mpsc::Receiver<Asked>) -> Option<Ending> {
        let helper = match &self.helper {
            Ok(helper) => Arc::clone(helper),
            Err(why) => return self.desk.not_handed_over(why),
        };
        let _no_reload = self.desk.reloading.lock().await;
        self.desk.giving.store(true, Ordering::SeqCst);
        tracing::info!("handing over: {}", Resumption::of(&self.desk.service.counters()));
        let mut coming = std::pin::pin!(self.desk.bring_up_heir(helper));
        let heir = loop {
            tokio::select! {
                heir = &mut coming => break heir,
                asked = heard.recv() => match asked {
                    None | Some(Asked::Stop) => return Some(Ending::Stop(None)),
                    Some(Asked::Drain(timeout)) => return Some(Ending::Stop(timeout)),
                    Some(other) => self.do_asked(other),
                },
            }
        };
        match heir.and_then(|heir| self.desk.let_go(heir)) {
            Ok(handed) => Some(Ending::HandedOver(handed)),
            Err(why) => self.desk.not_handed_over(&why),
        }
    }

    async fn stop(self, timeout: Option<Duration>, heard: &mut mpsc::Receiver<Asked>) -> Exit {
        self.desk.turn_to_draining();
        notify(&[NotifyState::Stopping, NotifyState::Status("draining")]);
        tokio::spawn(ask_for_time());
        tracing::info!(connections = self.desk.service.connections(), "draining");
        let runtime = self.desk.state.generation().config.runtime.clone();
        let plan = Drain::begin(Instant::now(), runtime.drain_delay, timeout.unwrap_or(runtime.drain_timeout));
        self.drain_and_end(plan, heard).await
    }

    /// Another process serves; connections that are here may end here.
    async fn retire(self, handed: HandedOver, heard: &mut mpsc::Receiver<Asked>) -> Exit {
        let connections = self.desk.service.connections();
        tracing::info!(to = handed.pid, connections, "handed over: the new process serves, this one drains");
        // Probes that are here already ask about the service, which goes on.
        self.desk.state.readiness.retire();
        self.desk.turn_to_draining();
        self.desk.doors.leave();
        let plan = Drain::retired(Instant::now(), self.desk.state.generation().config.runtime.drain_timeout);
        self.desk.service.leave_sockets(plan.deadline());
        handed.follow(Arc::clone(&self.desk));
        if let Ok(helper) = &self.helper {
            helper.release();
        }
        self.drain_and_end(plan, heard).await
    }

    async fn drain_and_end(self, plan: Drain, heard: &mut mpsc::Receiver<Asked>) -> Exit {
        let Desk { state, service, .. } = &*self.desk;
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
