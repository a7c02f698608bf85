//! A second process, split off before the first has threads, secrets or a sandbox.

use std::io;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Splits off a process that does `work` with its end of a socket pair and then ends; answers our end. It ignores every
/// signal that it may: it ends with its work, which has to end when our end closes.
///
/// # Errors
/// What socketpair or fork says; a process that has threads already cannot be split.
pub fn split_off(work: impl FnOnce(UnixStream)) -> io::Result<UnixStream> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads > 1 {
        return Err(io::Error::other("a process with threads cannot be split"));
    }
    let (ours, theirs) = UnixStream::pair()?;
    // SAFETY: there is one thread, so that no lock is held by a thread that the new process lacks.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(ours);
            ignore_signals();
            let _ = catch_unwind(AssertUnwindSafe(|| work(theirs)));
            // SAFETY: ends this process alone; what the first one registered for its own exit is not run.
            unsafe { libc::_exit(0) }
        }
        _ => Ok(ours),
    }
}

/// Handlers that do nothing, not SIG_IGN and no mask: a program that is started from here begins with none of them.
fn ignore_signals() {
    extern "C" fn nothing(_: libc::c_int) {}
    for number in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2] {
        let handler: extern "C" fn(libc::c_int) = nothing;
        // SAFETY: the handler touches nothing at all; calls that it interrupts begin anew.
        unsafe { libc::signal(number, handler as libc::sighandler_t) };
    }
}
