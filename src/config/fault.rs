//! What is said of a configuration that is wrong or unwise: place, message, help, and the exit code it leads to.

use std::path::{Path, PathBuf};

/// A thing wrong (or unwise) in the configuration, said so that the operator can mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file the fault is in: the configuration, or a file that it names.
    pub file: Option<PathBuf>,
    /// Line in that file, from 1.
    pub line: Option<usize>,
    /// The dotted key, such as `site.client.max_depth` or `listener[1].limits.idle_timeout`.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to write or do instead.
    pub help: String,
    /// Which exit code it leads to.
    pub kind: FaultKind,
}

/// Sorts faults by exit code (contract section 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// Exit 78, a missing file included.
    Config,
    /// Exit 77: a file that may not be read.
    Permission,
    /// No exit: legal but unwise.
    Warning,
}

impl Fault {
    /// A fault that leads to exit 78, without a place yet.
    pub fn config(key: &str, message: &str, help: &str) -> Fault {
        Fault {
            file: None,
            line: None,
            key: key.to_owned(),
            message: message.to_owned(),
            help: help.to_owned(),
            kind: FaultKind::Config,
        }
    }

    /// Something legal but unwise, without a place yet.
    pub fn warning(key: &str, message: &str, help: &str) -> Fault {
        Fault { kind: FaultKind::Warning, ..Fault::config(key, message, help) }
    }

    /// The same fault in that file.
    pub fn at(self, file: &Path) -> Fault {
        Fault { file: Some(file.to_owned()), ..self }
    }

    /// The same fault on that line, counted from 1.
    pub fn on_line(self, line: Option<usize>) -> Fault {
        Fault { line, ..self }
    }

    /// The same fault with the exit code of another kind.
    pub fn of_kind(self, kind: FaultKind) -> Fault {
        Fault { kind, ..self }
    }
}

impl std::fmt::Display for Fault {
    /// `file:line: key: message; help`, absent parts left out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", file.display())?;
            if let Some(line) = self.line {
                write!(f, "{line}:")?;
            }
            write!(f, " ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}", self.message)?;
        if !self.help.is_empty() {
            write!(f, "; {}", self.help)?;
        }
        Ok(())
    }
}
