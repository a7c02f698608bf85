//! Places that a run would write to: whether it could, without making anything there.

use crate::config::{ADMIN_SOCKET, AuditTarget, Config, Fault, FaultKind};
use crate::control::BlockBook;
use rustix::fs::{Access, access};
use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// What is wrong with each. Directories that a unit makes at the start may be missing before: a warning.
pub(super) fn faults(config: &Config) -> Vec<Fault> {
    let left = config.runtime.state_dir.as_deref().and_then(BlockBook::fault_of);
    let state = || state_fault(config);
    [audit_fault(config), left.or_else(state), socket_fault(config)].into_iter().flatten().collect()
}

fn audit_fault(config: &Config) -> Option<Fault> {
    let AuditTarget::File(path) = &config.audit.as_ref()?.target else { return None };
    // Opening a FIFO would wait for its reader.
    if path.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo()) {
        return None;
    }
    let error = match OpenOptions::new().append(true).open(path) {
        Ok(_) => return None,
        // The run makes the file, but not the directory.
        Err(error) if error.kind() == ErrorKind::NotFound => may_make(path).err()?,
        Err(error) => error,
    };
    let kind = match error.kind() {
        ErrorKind::PermissionDenied => FaultKind::Permission,
        _ => FaultKind::Config,
    };
    let help = "make the directory and let the user that runs this write there, or choose another path";
    Some(at(config, path, Fault::config("audit.path", &format!("cannot be written: {error}"), help).of_kind(kind)))
}

fn state_fault(config: &Config) -> Option<Fault> {
    let dir = config.runtime.state_dir.as_deref()?;
    // The run makes its last part.
    let error = if dir.exists() { may_write_in(dir).err()? } else { may_make(dir).err()? };
    let help = "let the user that runs this write there (StateDirectory= in a unit does)";
    Some(at(config, dir, Fault::warning("runtime.state_dir", &format!("a run could not start now: {error}"), help)))
}

fn socket_fault(config: &Config) -> Option<Fault> {
    let path = config.admin.as_ref()?.socket.as_deref()?;
    // Where it is by default a run goes on without.
    let error = may_make(path).err().filter(|_| path != Path::new(ADMIN_SOCKET))?;
    let help = "let the user that runs this write in its directory (RuntimeDirectory= in a unit does)";
    Some(at(config, path, Fault::warning("admin.socket", &format!("a run could not start now: {error}"), help)))
}

fn may_make(path: &Path) -> io::Result<()> {
    may_write_in(path.parent().unwrap_or(path))
}

fn may_write_in(directory: &Path) -> io::Result<()> {
    Ok(access(directory, Access::WRITE_OK | Access::EXEC_OK)?)
}

/// The line that names the path; the file alone where it is a default.
fn at(config: &Config, path: &Path, fault: Fault) -> Fault {
    let located = config.locate(fault.clone().at(path));
    if located.file.as_deref() != Some(path) {
        return located;
    }
    config.locate(Fault { message: format!("{}: {}", path.display(), fault.message), ..fault })
}

#[cfg(test)]
mod tests {
    use super::super::tests::file_with;
    use super::*;

    fn of(file: &Path) -> Vec<Fault> {
        faults(&Config::from_file(file).unwrap())
    }

    #[test]
    fn an_audit_file_is_not_made_and_its_directory_must_be_there() {
        let (directory, file) = file_with("[audit]\npath = \"audit.jsonl\"");
        assert_eq!(of(&file), []);
        assert!(!directory.path().join("audit.jsonl").exists());
        let (_directory, file) = file_with("[audit]\npath = \"no/audit.jsonl\"");
        let fault = of(&file).remove(0);
        assert_eq!((fault.line, fault.key.as_str()), (Some(2), "audit.path"), "{fault}");
        assert_eq!(fault.kind, FaultKind::Config);
    }

    #[test]
    fn a_default_path_that_is_not_there_is_said_of_the_configuration() {
        let (_directory, file) = file_with("[audit]");
        // Where somebody has installed the service there is nothing to say.
        for fault in of(&file) {
            assert_eq!((fault.file.as_deref(), fault.key.as_str()), (Some(file.as_path()), "audit.path"));
            assert!(fault.message.starts_with("/var/log/countersign/audit.jsonl: "), "{fault}");
        }
    }

    #[test]
    fn directories_for_state_and_socket_may_come_later_and_are_warned_of() {
        let table = |place: &str| format!("[runtime]\nstate_dir = \"{place}/a\"\n[admin]\nsocket = \"{place}/s\"");
        let (directory, file) = file_with(&table("there"));
        std::fs::create_dir(directory.path().join("there")).unwrap();
        assert_eq!(of(&file), []);
        assert!(!directory.path().join("there/a").exists());
        let (_directory, file) = file_with(&table("nowhere"));
        let found = of(&file);
        let at: Vec<_> = found.iter().map(|fault| (fault.key.as_str(), fault.kind)).collect();
        assert_eq!(at, [("runtime.state_dir", FaultKind::Warning), ("admin.socket", FaultKind::Warning)], "{found:?}");
        assert!(found.iter().all(|fault| fault.file.as_deref() == Some(file.as_path())), "{found:?}");
    }
}
