//! Why the workers could not be started.

use crate::config::ListenAddress;
use crate::sys::Missing;
use std::fmt;
use std::io;

/// They have no stable kind; by number on Linux.
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

/// Sorted by what the operator can do about it.
#[derive(Debug)]
pub enum StartError {
    /// A listener's address cannot be bound.
    Bind { listener: String, address: ListenAddress, error: io::Error },
    /// No socket of that name was passed; these were.
    NotPassed { listener: String, name: String, passed: Vec<String> },
    /// What was passed under that name is nothing to accept clients on.
    Unfit { listener: String, name: String, problem: String },
    /// The machine lacks something.
    Missing(Missing),
    /// `ktls = "require"`, and the kernel does not do all of it.
    KernelTls { found: String, advice: &'static str },
    /// The configuration names CPUs that this process may not use.
    Cpus { wanted: usize, allowed: Vec<usize> },
    /// Anything else: threads, descriptors.
    Internal { step: &'static str, error: String },
}

impl StartError {
    /// The exit code of contract section 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::Bind { error, .. } => match error.kind() {
                io::ErrorKind::AddrInUse => 69,
                io::ErrorKind::PermissionDenied => 77,
                io::ErrorKind::AddrNotAvailable => 78,
                _ => 71,
            },
            StartError::Missing(_) | StartError::KernelTls { .. } => 71,
            StartError::Cpus { .. } | StartError::NotPassed { .. } | StartError::Unfit { .. } => 78,
            StartError::Internal { .. } => 70,
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Bind { listener, address, error } => {
                write!(f, "listener {listener:?} cannot listen on {address}: {error}; ")?;
                match error.kind() {
                    io::ErrorKind::AddrInUse => {
                        write!(
                            f,
                            "stop whoever has it (`ss -ltnp 'sport = :{}'` tells) or choose another",
                            address.ip().map_or(0, |ip| ip.port())
                        )
                    }
                    io::ErrorKind::PermissionDenied => write!(
                        f,
                        "ports below 1024 want CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE)"
                    ),
                    io::ErrorKind::AddrNotAvailable => {
                        write!(f, "no interface of this host has that address; `ip address` lists them")
                    }
                    _ if matches!(error.raw_os_error(), Some(EMFILE | ENFILE)) => {
                        write!(f, "raise the limit of open files with `ulimit -n` or LimitNOFILE=")
                    }
                    _ => write!(f, "check the address and the host's network settings"),
                }
            }
            StartError::NotPassed { listener, name, passed } => {
                write!(f, "listener {listener:?} wants the sockets {name:?} of systemd, and ")?;
                match &passed[..] {
                    [] => write!(
                        f,
                        "none were passed to this process; start it by its socket unit (`systemctl start \
                         countersign.socket`), or write IP:port"
                    ),
                    _ => write!(
                        f,
                        "those that were passed are {}; write one of these, or set FileDescriptorName={name} in the \
                         socket unit and restart it and the service",
                        passed.join(", ")
                    ),
                }
            }
            StartError::Unfit { listener, name, problem } => {
                write!(f, "listener {listener:?} cannot accept on what systemd passed as {name:?}: it {problem}")
            }
            StartError::Missing(missing) => missing.fmt(f),
            StartError::KernelTls { found, advice } => {
                write!(f, "runtime.ktls = \"require\" asks for more than this kernel does ({found}); {advice}")
            }
            StartError::Cpus { wanted, allowed } => write!(
                f,
                "runtime.cpus names CPU {wanted}, which this process may not use; allowed are {allowed:?} (taskset, \
                 CPUAffinity= or a cpuset decide that)"
            ),
            StartError::Internal { step, error } => {
                write!(f, "{step} failed: {error}; try again, and report it if it stays")
            }
        }
    }
}

impl std::error::Error for StartError {}
