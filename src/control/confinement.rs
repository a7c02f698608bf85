//! What the process confines itself to before it has threads, by what its configuration names, and whether a reload stays
//! within it. Landlock only ever narrows: what lies outside takes a new process.
//!
//! To write: the directories of what is written. To read: the top-level directories (`/etc`, `/var`) of the files that are
//! named, and no narrower, for a reload may name new ones, and a renewal may lead a link to a new directory. Workers, who
//! read what strangers send, go further: no file at all ([`sys::give_up_files`]).

use super::block_book;
use crate::config::{AuditTarget, Config, Fault};
use crate::sys::{self, Confined, Reach};
use std::path::{Component, Path, PathBuf};

/// Of the kernel, for what is looked up there: CPU quotas, what is missing, usage.
const OF_THE_KERNEL: [&str; 3] = ["/proc", "/sys", "/dev"];
/// Where systemd made directories for the service (systemd.exec(5)).
const OF_THE_SERVICE: [&str; 3] = ["STATE_DIRECTORY", "LOGS_DIRECTORY", "RUNTIME_DIRECTORY"];

/// Within what the process is. By default nothing confines it.
#[derive(Debug, Default)]
pub struct Confinement(Option<Reach>);

/// What to say of it once there is a log.
pub type Told = Option<Result<Confined, String>>;

impl Confinement {
    /// Confines this thread, and all that it starts.
    pub fn enter(config: &Config) -> (Confinement, Told) {
        // Or all of what is above it would be within reach. What goes wrong is told by whoever reads it.
        if let Some(dir) = &config.runtime.state_dir {
            let _ = block_book::make(dir);
        }
        let reach = reach(config, |key| std::env::var(key).ok());
        let told = sys::confine(&reach);
        let holds = matches!(told, Ok(Confined::Wholly | Confined::Partly));
        (Confinement(holds.then_some(reach)), Some(told))
    }

    /// What `config` names that is out of reach.
    pub fn faults(&self, config: &Config) -> Vec<Fault> {
        let Some(reach) = &self.0 else { return Vec::new() };
        let unreadable = config.files().into_iter().filter(|file| {
            let file = resolved(file);
            !reach.reads.iter().chain(&reach.writes).any(|within| file.starts_with(within))
        });
        let unwritable = audit_file(config).filter(|file| {
            let file = resolved(file);
            !reach.writes.iter().any(|within| file.starts_with(within))
        });
        let fault = |(file, what): (&Path, &str)| {
            let message = format!("this process may not {what} there: at its start it confined itself to other places");
            let help = "hand over (SIGUSR2) or restart to apply it";
            config.locate(Fault::config("", &message, help).at(file))
        };
        unreadable.map(|file| (file, "read")).chain(unwritable.map(|file| (file, "write"))).map(fault).collect()
    }
}

/// One line for the operator.
pub fn tell(told: &Told) {
    let Some(told) = told else { return };
    match told {
        Ok(Confined::Wholly) => tracing::debug!("confined to its own files by Landlock"),
        Ok(Confined::Partly) => {
            tracing::info!("this kernel's Landlock is an older one: confined to its own files by what it knows");
        }
        Ok(Confined::Not) => tracing::warn!(
            "not confined to its own files: Landlock is missing in this kernel (CONFIG_SECURITY_LANDLOCK, and \
             \"landlock\" in the lsm= of its command line) or forbidden by a seccomp filter (systemd: \
             SystemCallFilter=landlock_create_ruleset landlock_add_rule landlock_restrict_self)"
        ),
        Err(error) => tracing::warn!("not confined to its own files: Landlock refuses: {error}; please report it"),
    }
}

fn reach(config: &Config, variable: impl Fn(&str) -> Option<String>) -> Reach {
    let mut reach = Reach::default();
    let mut write_in = |dir: Option<&Path>| reach.writes.extend(dir.map(resolved));
    if let Some(file) = audit_file(config) {
        write_in(file.parent());
        write_in(resolved(file).parent());
    } else if config.audit.is_none() {
        // A reload may add an audit; a relative path leads here.
        write_in(config.file.as_deref().map(absolute).as_deref().and_then(Path::parent));
    }
    write_in(config.runtime.state_dir.as_deref());
    write_in(config.admin.as_ref().and_then(|admin| admin.socket.as_deref()?.parent()));
    for of_systemd in OF_THE_SERVICE.into_iter().filter_map(&variable) {
        of_systemd.split(':').for_each(|dir| write_in(Some(Path::new(dir))));
    }
    for file in config.files() {
        reach.reads.extend([top(&absolute(file)), top(&resolved(file))]);
    }
    reach.reads.extend(OF_THE_KERNEL.map(PathBuf::from));
    reach.reads = reach.reads.iter().map(|path| resolved(path)).collect();
    for paths in [&mut reach.reads, &mut reach.writes] {
        paths.sort_unstable();
        paths.dedup();
    }
    // systemd may be told by a socket without a path.
    reach.abstract_sockets = variable("NOTIFY_SOCKET").is_some_and(|path| path.starts_with('@'));
    reach
}

fn audit_file(config: &Config) -> Option<&Path> {
    match config.audit.as_ref().map(|audit| &audit.target) {
        Some(AuditTarget::File(path)) => Some(path),
        _ => None,
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Links followed as far as there is something; the rest as it is.
fn resolved(path: &Path) -> PathBuf {
    let path = absolute(path);
    let there = existing(&path);
    match (there.canonicalize(), path.strip_prefix(&there)) {
        (Ok(real), Ok(rest)) if rest.as_os_str().is_empty() => real,
        (Ok(real), Ok(rest)) => real.join(rest),
        _ => path,
    }
}

/// The path, or the nearest directory above it that exists.
fn existing(path: &Path) -> PathBuf {
    let path = absolute(path);
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")).to_owned()
}

/// `/etc` of `/etc/countersign/server.pem`; `/` of `/server.pem`.
fn top(path: &Path) -> PathBuf {
    let dir = path.parent().unwrap_or(path);
    dir.components().filter(|part| *part != Component::CurDir).take(2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::fixture;

    #[test]
    fn reading_reaches_as_far_as_the_top_level_directory() {
        assert_eq!(top(Path::new("/etc/countersign/live/server.pem")), Path::new("/etc"));
        assert_eq!(top(Path::new("/etc/server.pem")), Path::new("/etc"));
        assert_eq!(top(Path::new("/server.pem")), Path::new("/"));
    }

    #[test]
    fn what_does_not_exist_yet_is_told_by_what_does() {
        let world = tempfile::tempdir().unwrap();
        let real = world.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("there")).unwrap();
        std::os::unix::fs::symlink(real.join("there"), real.join("link")).unwrap();
        assert_eq!(resolved(&real.join("link/a/b")), real.join("there/a/b"));
        assert_eq!(existing(&real.join("there/a/b")), real.join("there"));
        std::os::unix::fs::symlink(real.join("nowhere"), real.join("broken")).unwrap();
        assert_eq!(resolved(&real.join("broken")), real.join("broken"));
    }

    #[test]
    fn an_audit_elsewhere_is_out_of_reach_and_one_beside_it_is_not() {
        let world = tempfile::tempdir().unwrap();
        let real = world.path().canonicalize().unwrap();
        let audited = |path: &Path| {
            let mut config = fixture::config();
            let target = AuditTarget::File(path.to_owned());
            config.audit = Some(crate::config::Audit { target, on_full: crate::config::OnFull::Drop });
            config
        };
        for dir in ["a", "b"] {
            std::fs::create_dir(real.join(dir)).unwrap();
        }
        let reach = super::reach(&audited(&real.join("a/audit.jsonl")), |_| None);
        assert_eq!(reach.writes, [real.join("a")]);
        assert!(!reach.abstract_sockets);
        let confinement = Confinement(Some(reach));
        let unwritable = |path: &Path| {
            let faults = confinement.faults(&audited(path));
            faults.iter().filter(|fault| fault.message.contains("may not write")).count()
        };
        assert_eq!(unwritable(&real.join("a/other.jsonl")), 0);
        assert_eq!(unwritable(&real.join("a/later/other.jsonl")), 0);
        assert_eq!(unwritable(&real.join("b/audit.jsonl")), 1);
        std::os::unix::fs::symlink(real.join("b/audit.jsonl"), real.join("a/link.jsonl")).unwrap();
        std::fs::write(real.join("b/audit.jsonl"), "").unwrap();
        assert_eq!(unwritable(&real.join("a/link.jsonl")), 1);
        assert!(Confinement::default().faults(&audited(&real.join("b/audit.jsonl"))).is_empty());
    }
}
