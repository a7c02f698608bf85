//! What this machine lacks, said so that the operator can get it.

use std::fmt;
use std::fs;
use std::io;

/// A worker's kernel interface cannot be had, and why as far as it can be found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// `kernel.io_uring_disabled` is 1 or 2.
    Disabled { value: u8 },
    /// io_uring_setup is refused though the sysctl allows it: a seccomp filter or another security module.
    Filtered,
    /// The system call does not exist.
    NoIoUring { release: String },
    /// A flag or feature is unknown.
    OldKernel { release: String },
    /// Locked or other memory is too small.
    Memory { memlock: String },
    /// No descriptor is left.
    Descriptors,
    /// Anything else.
    Other { step: &'static str, error: String },
}

impl Missing {
    /// Whether it is about io_uring: epoll may be had all the same.
    pub fn is_of_the_ring(&self) -> bool {
        !matches!(self, Missing::Descriptors)
    }

    /// Reads the machine's settings to find the cause behind `error`, which came up at `step`.
    pub(super) fn diagnose(step: &'static str, error: &io::Error) -> Missing {
        let setting = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let release = setting("/proc/sys/kernel/osrelease");
        match error.raw_os_error() {
            Some(libc::ENOSYS) => Missing::NoIoUring { release },
            Some(libc::EPERM | libc::EACCES) => match setting("/proc/sys/kernel/io_uring_disabled").parse() {
                Ok(value @ 1..) => Missing::Disabled { value },
                _ => Missing::Filtered,
            },
            Some(libc::EINVAL) => Missing::OldKernel { release },
            Some(libc::ENOMEM) => Missing::Memory { memlock: memlock() },
            Some(libc::EMFILE | libc::ENFILE) => Missing::Descriptors,
            _ => Missing::Other { step, error: error.to_string() },
        }
    }
}

fn memlock() -> String {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max locked memory")).unwrap_or_default();
    line.split_whitespace().nth(3).unwrap_or("unknown").to_owned()
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::Disabled { value } => write!(
                f,
                "io_uring is switched off (kernel.io_uring_disabled = {value}); allow it with `sysctl -w \
                 kernel.io_uring_disabled=0`{}",
                if *value == 1 { ", or put the service's group into kernel.io_uring_group" } else { "" }
            ),
            Missing::Filtered => write!(
                f,
                "io_uring is forbidden though kernel.io_uring_disabled allows it, most likely by a seccomp \
                 filter; allow io_uring_setup, io_uring_enter and io_uring_register (systemd: SystemCallFilter=\
                 io_uring_setup io_uring_enter io_uring_register; containers: a seccomp profile with these three)"
            ),
            Missing::NoIoUring { release } => write!(
                f,
                "this kernel ({release}) has no io_uring, or a sandbox hides it; run Linux 6.1 or later, and in a \
                 sandbox allow io_uring_setup, io_uring_enter and io_uring_register"
            ),
            Missing::OldKernel { release } => {
                write!(f, "this kernel ({release}) lacks io_uring features that are needed; run Linux 6.1 or later")
            }
            Missing::Memory { memlock } => write!(
                f,
                "the kernel has no memory for a ring (RLIMIT_MEMLOCK is {memlock} bytes); raise it with `ulimit -l \
                 unlimited` or LimitMEMLOCK=infinity, or raise the memory limit of the cgroup"
            ),
            Missing::Descriptors => {
                write!(f, "no file descriptor is left for a worker; raise the limit with `ulimit -n` or LimitNOFILE=")
            }
            Missing::Other { step, error } => {
                write!(f, "the kernel fails at {step}: {error}; `dmesg` and the sandbox's settings may tell why")
            }
        }
    }
}

impl std::error::Error for Missing {}
