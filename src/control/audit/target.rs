//! Where audit lines go: a file, standard output, the journal.

use super::journal::{self, Journal};
use crate::config::AuditTarget;
use crate::control::failure::{Exit, StartFailure};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Permissions of a new file, less the umask: the audit names clients.
const FILE_MODE: u32 = 0o640;

/// `EMSGSIZE`: a datagram that is too long, today and at the next attempt.
const MESSAGE_TOO_LONG: i32 = 90;

/// An open target.
#[derive(Debug)]
pub enum Target {
    File { path: PathBuf, file: File },
    Stdout(File),
    Journal(Journal),
}

/// What opening a target again gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// What it was before: half a line can go on.
    Same,
    /// Something else.
    Another,
}

impl Target {
    /// Opens what the configuration names.
    pub fn open(target: &AuditTarget) -> Result<Target, StartFailure> {
        match target {
            AuditTarget::File(path) => {
                let file = open_file(path).map_err(|error| file_failure(path, &error))?;
                Ok(Target::File { path: path.clone(), file })
            }
            AuditTarget::Stdout => {
                let owned = io::stdout().as_fd().try_clone_to_owned().map_err(|error| {
                    StartFailure::new(
                        Exit::Os,
                        format!(
                            "audit.path: standard output cannot be used: {error}; start with it open, or name a file"
                        ),
                    )
                })?;
                Ok(Target::Stdout(File::from(owned)))
            }
            AuditTarget::Journald => {
                let journal = Journal::open(Path::new(journal::SOCKET)).map_err(|error| {
                    let message = format!(
                        "audit.path: the journal does not answer at {}: {error}; start systemd-journald, or name a file",
                        journal::SOCKET
                    );
                    StartFailure::new(Exit::Os, message)
                })?;
                Ok(Target::Journal(journal))
            }
        }
    }

    /// Writes some of `lines`, which begin and end with whole ones except for what was written before. Answers how
    /// many bytes went.
    pub fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        match self {
            Target::File { file, .. } | Target::Stdout(file) => file.write(lines),
            Target::Journal(journal) => {
                let end = lines.iter().position(|byte| *byte == b'\n').unwrap_or(lines.len());
                journal.send(&lines[..end])?;
                Ok((end + 1).min(lines.len()))
            }
        }
    }

    /// Whether the target will refuse this very line however often it is tried.
    pub fn never_takes(&self, error: &io::Error) -> bool {
        matches!(self, Target::Journal(_)) && error.raw_os_error() == Some(MESSAGE_TOO_LONG)
    }

    /// Opens it again. On an error the old one stays.
    pub fn reopen(&mut self) -> io::Result<Opened> {
        match self {
            Target::File { path, file } => {
                let new = open_file(path)?;
                let same = is_same(file, &new);
                *file = new;
                Ok(if same { Opened::Same } else { Opened::Another })
            }
            Target::Stdout(_) => Ok(Opened::Same),
            Target::Journal(journal) => {
                journal.reopen()?;
                Ok(Opened::Same)
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::File { path, .. } => write!(f, "{}", path.display()),
            Target::Stdout(_) => f.write_str("standard output"),
            Target::Journal(_) => f.write_str("the journal"),
        }
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(FILE_MODE);
    // Opening a FIFO for writing alone waits for a reader, which may never come.
    if path.metadata().is_ok_and(|found| found.file_type().is_fifo()) {
        options.read(true).create(false);
    }
    options.open(path)
}

fn is_same(one: &File, other: &File) -> bool {
    match (one.metadata(), other.metadata()) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

fn file_failure(path: &Path, error: &io::Error) -> StartFailure {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => StartFailure::new(
            Exit::Permission,
            format!("audit.path: {path} may not be written; give this user the right to, or name another file"),
        ),
        io::ErrorKind::NotFound => StartFailure::new(
            Exit::Config,
            format!("audit.path: the directory of {path} does not exist; create it, or name another file"),
        ),
        _ => StartFailure::new(
            Exit::Config,
            format!("audit.path: {path} cannot be opened: {error}; name a file that can be appended to"),
        ),
    }
}
