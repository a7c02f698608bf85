//! What can go wrong in the development CA, with the exit code it leads to and what to try.

use super::exit;
use std::fmt;
use std::io;
use std::path::Path;

/// A fault, said so that whoever typed the command can mend it.
#[derive(Debug)]
pub struct PkiError {
    code: u8,
    message: String,
    help: String,
}

impl PkiError {
    fn new(code: u8, message: impl Into<String>, help: impl Into<String>) -> PkiError {
        PkiError { code, message: message.into(), help: help.into() }
    }

    /// The command asks for what cannot be.
    pub(super) fn usage(message: impl Into<String>, help: impl Into<String>) -> PkiError {
        PkiError::new(exit::USAGE, message, help)
    }

    /// The command could be done, but should not.
    pub(super) fn refused(message: impl Into<String>, help: impl Into<String>) -> PkiError {
        PkiError::new(exit::REFUSED, message, help)
    }

    /// A file of the CA is missing or broken.
    pub(super) fn broken_file(path: &Path, what: impl fmt::Display, help: impl Into<String>) -> PkiError {
        PkiError::new(exit::CONFIG, format!("{}: {what}", path.display()), help)
    }

    /// The system refused an operation on `path`.
    pub(super) fn io(path: &Path, error: &io::Error) -> PkiError {
        let (code, help) = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                (exit::PERMISSION, "run as the directory's owner, or choose another --dir")
            }
            io::ErrorKind::NotFound => {
                (exit::CONFIG, "make the directory first; a CA is made by: countersign pki init --dir DIR")
            }
            io::ErrorKind::AlreadyExists => return PkiError::taken(path),
            _ => (exit::OS, "look at the disk's free space and the directory's mount options"),
        };
        PkiError::new(code, format!("{}: {error}", path.display()), help)
    }

    /// Something of that name is there.
    pub(super) fn taken(path: &Path) -> PkiError {
        let message = format!("{}: there is such a file already", path.display());
        PkiError::refused(message, "choose another name with --out, or overwrite with --force")
    }

    /// The exit code it leads to.
    pub fn exit_code(&self) -> u8 {
        self.code
    }
}

impl From<rcgen::Error> for PkiError {
    fn from(error: rcgen::Error) -> Self {
        PkiError::new(exit::INTERNAL, format!("the certificate could not be made: {error}"), "try another --key-type")
    }
}

impl fmt::Display for PkiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.help)
    }
}

impl std::error::Error for PkiError {}

impl From<PkiError> for io::Error {
    fn from(error: PkiError) -> Self {
        let kind = match error.code {
            exit::PERMISSION => io::ErrorKind::PermissionDenied,
            exit::REFUSED => io::ErrorKind::AlreadyExists,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}
