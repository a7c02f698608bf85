//! Reload: reads the configuration again with every file that it names, checks all of it, and only then puts it in the
//! place of the old one. Whatever is wrong, the old one stays, and every fault is told.

use super::audit::Target;
use super::desk::Desk;
use super::notify::notify;
use super::readiness::Phase;
use super::service::Service;
use super::state::{Facts, Generation};
use super::watch::{self, Prints};
use crate::config::{Admin, Config, Fault, Runtime};
use crate::wire::audit::Record;
use sd_notify::NotifyState;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

/// What was loaded from the files that a configuration names.
pub struct Loaded<L> {
    pub snapshot: Arc<L>,
    pub facts: Facts,
    /// Legal but unwise, found in those files.
    pub warnings: Vec<Fault>,
}

/// Loads what comes after a snapshot, or the first one.
pub type Load<L> = Arc<dyn Fn(&Arc<Config>, Option<&L>) -> Result<Loaded<L>, Vec<Fault>> + Send + Sync>;

/// How a reload ended: what to tell whoever asked, a line each.
pub type Reloaded = Result<Vec<String>, Vec<String>>;

impl<S: Service> Desk<S> {
    /// Reloads, after reloads that were asked for before. Files are read on a thread of their own.
    pub async fn reload(self: &Arc<Self>) -> Reloaded {
        let _turn = self.reloading.lock().await;
        self.reload_is_waiting.store(false, Ordering::SeqCst);
        match NotifyState::monotonic_usec_now() {
            Ok(now) => notify(&[NotifyState::Reloading, now, NotifyState::Status("reloading")]),
            Err(_) => notify(&[NotifyState::Reloading]),
        }
        let desk = Arc::clone(self);
        let reloaded = tokio::task::spawn_blocking(move || desk.reload_now()).await;
        let reloaded = reloaded.unwrap_or_else(|_| {
            Err(vec!["a fault of ours: the log says where; please report it. The old configuration stays".to_owned()])
        });
        self.tell(&reloaded);
        if reloaded.is_ok() {
            self.elder.tell_reloaded();
        }
        if self.state.readiness.phase() != Phase::Draining {
            notify(&[NotifyState::Ready, NotifyState::Status("serving")]);
        }
        reloaded
    }

    /// To the log, the audit and the metrics.
    fn tell(&self, reloaded: &Reloaded) {
        let (ok, lines) = match reloaded {
            Ok(lines) => (true, lines),
            Err(lines) => (false, lines),
        };
        for line in lines {
            match ok {
                true => tracing::info!("{line}"),
                false => tracing::error!("not reloaded: {line}"),
            }
        }
        self.state.note_reload(ok, SystemTime::now());
        let digest = self.state.generation().config.digest;
        self.audit(Record::Reload { ts: SystemTime::now(), digest, ok, detail: lines.join("\n") });
    }

    /// The whole of it; blocks on files.
    fn reload_now(&self) -> Reloaded {
        let old = self.state.generation();
        // Before anything is read, so that a change while it is being read is seen as one.
        let before = watch::look_at(&old.config);
        if let Some(file) = old.config.file.as_deref().filter(|file| is_fifo(file)) {
            self.watch.loaded(before);
            return Err(in_lines(&[fifo(file)]));
        }
        let config = match &old.config.file {
            Some(file) => Config::from_file(file),
            // Flags: the same again, but what is in the files may be new.
            None => Ok((*old.config).clone()),
        };
        let config = match config {
            Ok(config) => Arc::new(config),
            Err(faults) => {
                self.watch.loaded(before);
                return Err(in_lines(&faults));
            }
        };
        let looked = watch::look_at(&config);
        let reloaded = self.load_and_publish(&old, &config);
        self.watch.loaded(to_watch(before, looked, &config, reloaded.is_ok()));
        reloaded
    }

    fn load_and_publish(&self, old: &Generation, config: &Arc<Config>) -> Reloaded {
        let fifos: Vec<Fault> = config.files().into_iter().filter(|file| is_fifo(file)).map(fifo).collect();
        if !fifos.is_empty() {
            return Err(in_lines(&fifos));
        }
        let mut faults = frozen(&old.config, config);
        let out_of_reach = self.confinement.faults(config);
        if !out_of_reach.is_empty() {
            faults.extend(out_of_reach);
            return Err(in_lines(&faults));
        }
        let target = new_target(&old.config, config).unwrap_or_else(|fault| {
            faults.push(fault);
            None
        });
        let loaded = match (self.load)(config, Some(&self.service.snapshot())) {
            Ok(loaded) if faults.is_empty() => loaded,
            Ok(_) => return Err(in_lines(&faults)),
            Err(found) => {
                faults.extend(found);
                return Err(in_lines(&faults));
            }
        };
        let Loaded { snapshot, facts, warnings } = loaded;
        self.publish(&snapshot, config, facts)?;
        if let Some(target) = target {
            self.writer.write_to(target);
        }
        self.log.set_level(&config.log.level);
        let mut lines = vec![format!("reloaded: {}", summary(config))];
        let warnings = config.warnings.iter().chain(&warnings);
        lines.extend(warnings.map(|warning| format!("warning: {warning}")));
        lines.dedup();
        Ok(lines)
    }

    /// Puts the new value in place, unless the process has begun to stop: sockets that a reload opens would not be
    /// closed any more then.
    fn publish(&self, snapshot: &Arc<S::Snapshot>, config: &Arc<Config>, facts: Facts) -> Result<(), Vec<String>> {
        let _not_draining = self.turning.lock().unwrap_or_else(PoisonError::into_inner);
        if self.state.readiness.phase() == Phase::Draining {
            return Err(vec!["the server is draining; start it again with the new configuration".to_owned()]);
        }
        self.service
            .publish(snapshot)
            .map_err(|failure| failure.message.lines().map(str::to_owned).collect::<Vec<_>>())?;
        self.state.replace(Generation::of(Arc::clone(config), facts, &*self.service));
        Ok(())
    }
}

/// Reading one would wait for a writer who may never come, and every later reload with it.
fn is_fifo(file: &Path) -> bool {
    file.metadata().is_ok_and(|of| of.file_type().is_fifo())
}

fn fifo(file: &Path) -> Fault {
    Fault::config("", "is a pipe, which a reload does not read", "put a regular file there").at(file)
}

fn in_lines(faults: &[Fault]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for fault in faults.iter().map(Fault::to_string) {
        // Sites share files, and each of them says what is wrong.
        if !lines.contains(&fault) {
            lines.push(fault);
        }
    }
    lines
}

fn summary(config: &Config) -> String {
    let count = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
    let (listeners, sites, backends) = (config.listeners.len(), config.sites.len(), config.backends.len());
    [count(listeners, "listener"), count(sites, "site"), count(backends, "backend")].join(", ")
}

/// What to watch from now on, as it was when the load began. After a failure the files of the old configuration too, for
/// it is still the one that serves.
fn to_watch(before: Prints, looked: Prints, config: &Config, ok: bool) -> Prints {
    let named = config.files();
    let mut prints = looked;
    prints.extend(before.into_iter().filter(|(path, _)| !ok || named.contains(path.as_path())));
    prints
}

/// The audit's new place, if it has one: `Some(None)` is nowhere.
fn new_target(old: &Config, new: &Config) -> Result<Option<Option<Target>>, Fault> {
    let target = |config: &Config| config.audit.as_ref().map(|audit| audit.target.clone());
    if target(old) == target(new) {
        return Ok(None);
    }
    let opened = target(new).map(|target| Target::open(&target)).transpose();
    opened.map(Some).map_err(|failure| Fault::config("", &failure.message, ""))
}

/// What changed of that which only a start can apply.
fn frozen(old: &Config, new: &Config) -> Vec<Fault> {
    let mut keys = Vec::new();
    runtime_changes(&old.runtime, &new.runtime, &mut keys);
    match (&old.admin, &new.admin) {
        (Some(old), Some(new)) => admin_changes(old, new, &mut keys),
        (None, None) => {}
        _ => keys.push("admin"),
    }
    if old.log.format != new.log.format {
        keys.push("log.format");
    }
    let fault = |key: &str| {
        let fault =
            Fault::config(key, "has changed, and a reload cannot apply that", "restart to apply, or undo the change");
        match &new.file {
            Some(file) => fault.at(file),
            None => fault,
        }
    };
    keys.into_iter().map(fault).collect()
}

fn runtime_changes(old: &Runtime, new: &Runtime, keys: &mut Vec<&'static str>) {
    let same = [
        ("runtime.cpus", old.cpus == new.cpus),
        ("runtime.pin", old.pin == new.pin),
        ("runtime.engine", old.engine == new.engine),
        ("runtime.steering", old.steering == new.steering),
        ("runtime.ktls", old.ktls == new.ktls),
        ("runtime.drain_delay", old.drain_delay == new.drain_delay),
        ("runtime.drain_timeout", old.drain_timeout == new.drain_timeout),
        ("runtime.state_dir", old.state_dir == new.state_dir),
        ("runtime.watch", old.watch == new.watch),
    ];
    keys.extend(same.into_iter().filter(|(_, same)| !same).map(|(key, _)| key));
    if keys.is_empty() && old != new {
        keys.push("runtime");
    }
}

fn admin_changes(old: &Admin, new: &Admin, keys: &mut Vec<&'static str>) {
    let same = [
        ("admin.http", old.http == new.http),
        ("admin.probe", old.probe == new.probe),
        ("admin.socket", old.socket == new.socket),
        ("admin.allow_remote", old.allow_remote == new.allow_remote),
    ];
    keys.extend(same.into_iter().filter(|(_, same)| !same).map(|(key, _)| key));
}
