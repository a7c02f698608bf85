//! What the process may use of the machine.

use std::io;

/// Raises the soft limit of open descriptors to the hard one and returns it.
///
/// # Errors
/// What getrlimit or setrlimit says.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid pointer to a plain struct that the call fills.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: a valid pointer to a plain struct.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit.rlim_cur)
}

/// The present soft limit of open descriptors.
pub fn descriptor_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid pointer to a plain struct that the call fills.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == 0 { limit.rlim_cur } else { 1024 }
}

/// Keeps key material out of core dumps and away from other processes of the same user (PR_SET_DUMPABLE 0).
pub fn forbid_core_dumps() {
    // SAFETY: a system call without pointers.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
}

/// Writes to a socket or pipe whose reader is gone fail with EPIPE, and those past the limit of a file's size
/// (`LimitFSIZE=`) with EFBIG; neither ends the process.
pub fn ignore_failed_writes() {
    // SAFETY: SIG_IGN is a valid disposition and installs no code.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    // SAFETY: as above.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Memory that this process may use: the machine's, or less where a cgroup says so. Bytes.
pub fn memory_limit() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse::<u64>().ok());
    let machine = kib.map_or(1 << 30, |kib| kib << 10);
    let number = |path: &str| std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let membership = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = membership.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").trim_end_matches('/');
    let group = number(&format!("/sys/fs/cgroup{own}/memory.max")).or_else(|| number("/sys/fs/cgroup/memory.max"));
    group.map_or(machine, |limit| limit.min(machine))
}
