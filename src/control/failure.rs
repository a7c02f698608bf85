//! Why a start did not happen: one sentence for the operator and the exit code.

use crate::config::{Fault, FaultKind};
use std::fmt;
use std::io::{self, Write};

/// How the process ends (contract section 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Clean, or drained.
    Clean,
    /// Connections were cut.
    Cut,
    /// An address is in use.
    Unavailable,
    /// A fault of ours.
    Internal,
    /// The operating system lacks something.
    Os,
    /// Something may not be opened or bound.
    Permission,
    /// Bad configuration.
    Config,
}

impl Exit {
    /// The number that the process ends with.
    pub fn code(self) -> u8 {
        match self {
            Exit::Clean => 0,
            Exit::Cut => 1,
            Exit::Unavailable => 69,
            Exit::Internal => 70,
            Exit::Os => 71,
            Exit::Permission => 77,
            Exit::Config => 78,
        }
    }
}

/// A start that failed. The text ends with what to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartFailure {
    pub code: u8,
    pub message: String,
}

impl StartFailure {
    /// What went wrong and how the process ends for it.
    pub fn new(exit: Exit, message: impl Into<String>) -> StartFailure {
        StartFailure { code: exit.code(), message: message.into() }
    }

    /// All that is wrong with a configuration, a line each. Permission decides the code only where nothing else is
    /// wrong: a configuration that needs mending needs it first.
    pub fn of_faults(faults: &[Fault]) -> StartFailure {
        let permission_alone = faults.iter().all(|fault| fault.kind != FaultKind::Config) && !faults.is_empty();
        let lines: Vec<String> = faults.iter().map(Fault::to_string).collect();
        let exit = if permission_alone { Exit::Permission } else { Exit::Config };
        StartFailure::new(exit, lines.join("\n"))
    }

    /// Says it on standard error, plainly: whoever starts the program by hand reads it. Answers the exit code.
    pub fn tell(&self) -> u8 {
        let mut errors = io::stderr().lock();
        for line in self.message.lines() {
            // Where standard error is gone, the exit code still tells.
            let _ = writeln!(errors, "countersign: {line}");
        }
        self.code
    }

    /// A socket of ours that could not be bound.
    pub fn of_bind(what: &str, address: &str, error: &io::Error) -> StartFailure {
        match error.kind() {
            io::ErrorKind::AddrInUse => StartFailure::new(
                Exit::Unavailable,
                format!(
                    "{what}: {address} is in use by another process; stop that one (`ss -ltnp` shows it) or choose another address"
                ),
            ),
            io::ErrorKind::AddrNotAvailable => StartFailure::new(
                Exit::Config,
                format!("{what}: this host has no address {address}; `ip address` lists those it has"),
            ),
            io::ErrorKind::PermissionDenied => StartFailure::new(
                Exit::Permission,
                format!(
                    "{what}: {address} may not be bound; ports below 1024 need CAP_NET_BIND_SERVICE, or choose a higher one"
                ),
            ),
            _ => StartFailure::new(
                Exit::Os,
                format!(
                    "{what}: {address} cannot be bound: {error}; try another address, or see `ip address` and the limits of this process"
                ),
            ),
        }
    }
}

impl fmt::Display for StartFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(kind: FaultKind) -> Fault {
        Fault::config("site.certificate", "cannot be read", "chmod it").of_kind(kind)
    }

    #[test]
    fn faults_of_permission_alone_exit_77_and_any_other_fault_makes_it_78() {
        assert_eq!(StartFailure::of_faults(&[fault(FaultKind::Permission)]).code, 77);
        let both = StartFailure::of_faults(&[fault(FaultKind::Permission), fault(FaultKind::Config)]);
        assert_eq!(both.code, 78);
        assert_eq!(both.message.lines().count(), 2, "every fault is said");
    }

    #[test]
    fn an_address_in_use_is_named_and_exits_69() {
        let failure = StartFailure::of_bind("admin.http", "127.0.0.1:9180", &io::ErrorKind::AddrInUse.into());
        assert_eq!(failure.code, 69);
        assert!(failure.message.contains("127.0.0.1:9180"), "{failure}");
    }

    #[test]
    fn a_port_that_may_not_be_bound_exits_77() {
        assert_eq!(StartFailure::of_bind("a", "b", &io::ErrorKind::PermissionDenied.into()).code, 77);
    }
}
