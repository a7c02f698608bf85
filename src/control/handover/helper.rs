//! The helper: a process of its own, split off before there are threads, secrets or a sandbox, that starts the new program
//! when asked and nothing else. It ends with its owner, or when the new program is on its own.

use super::VARIABLE;
use super::frame::{Channel, Frame, Kind};
use crate::config::limits;
use crate::sys;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

/// The way to the helper.
#[derive(Debug)]
pub struct Helper(Channel);

impl Helper {
    /// Splits it off. Only before this process has threads.
    ///
    /// # Errors
    /// What the system says.
    pub fn split_off() -> io::Result<Helper> {
        let program = Program::of_this_process();
        let owner = std::process::id();
        let stream = sys::split_off(move |stream| {
            // Neither are the service manager's sockets, nor
            // the way to the process before: as long as somebody holds it, it seems to be alive.
            drop(super::taking::passed_sockets(owner));
            drop(std::env::var(VARIABLE).ok().and_then(|number| sys::inherited_socket(number.parse().ok()?).ok()));
            serve(&Channel::new(stream), &program);
        })?;
        let channel = Channel::new(stream);
        channel.patience(Some(limits::HAND_OVER_WORD_TIME_MAX))?;
        Ok(Helper(channel))
    }

    /// Starts the new program with its end of the socket pair; its process id.
    pub fn start(&self, end: OwnedFd) -> Result<u32, String> {
        let asked = self.0.send(Kind::START, b"", &[end.as_fd()]);
        let answer = asked.and_then(|()| self.0.receive()).map_err(|error| format!("the helper is gone: {error}"))?;
        match answer {
            Some(Frame { kind: Kind::START, bytes, .. }) if bytes.len() == 4 => {
                Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            }
            Some(frame) => Err(String::from_utf8_lossy(&frame.bytes).into_owned()),
            None => Err("the helper is gone; restart the service".to_owned()),
        }
    }

    /// Ends the helper; what it started goes on.
    pub fn release(&self) {
        self.0.end();
    }

    /// Ends the program that was started last; how it ended.
    pub fn end_program(&self) -> String {
        let answer = self.0.send(Kind::KILL, b"", &[]).and_then(|()| self.0.receive());
        match answer {
            Ok(Some(frame)) => String::from_utf8_lossy(&frame.bytes).into_owned(),
            _ => "it may still be there: the helper is gone".to_owned(),
        }
    }
}

/// What to start: the file that now is where this program was started from, with the same arguments.
#[derive(Debug)]
struct Program {
    file: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    fn of_this_process() -> Program {
        let arguments: Vec<OsString> = std::env::args_os().collect();
        let named = arguments.first().map(PathBuf::from).and_then(|name| find(&name));
        let file = named.or_else(|| std::env::current_exe().ok()).unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
        Program { file, arguments }
    }

    fn start(&self, end: OwnedFd) -> Result<Child, String> {
        let failed = |error: io::Error| format!("{} cannot be started: {error}", self.file.display());
        rustix::io::fcntl_setfd(&end, rustix::io::FdFlags::empty()).map_err(|error| failed(error.into()))?;
        let mut command = Command::new(&self.file);
        if let Some((name, rest)) = self.arguments.split_first() {
            command.arg0(name).args(rest);
        }
        command.env(VARIABLE, end.as_raw_fd().to_string());
        // These name the old process; its sockets come over the socket pair.
        for other in ["WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
            command.env_remove(other);
        }
        command.spawn().map_err(failed)
    }
}

/// Where a program name leads, links not followed: an upgrade may set them anew.
fn find(name: &Path) -> Option<PathBuf> {
    let is_program =
        |path: &PathBuf| path.metadata().is_ok_and(|of| of.is_file() && of.permissions().mode() & 0o111 != 0);
    if name.components().count() > 1 {
        return std::path::absolute(name).ok().filter(is_program);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(is_program)
}

/// The helper's life.
fn serve(channel: &Channel, program: &Program) {
    let mut child: Option<Child> = None;
    while let Ok(Some(Frame { kind, mut descriptors, .. })) = channel.receive() {
        let answered = match (kind, descriptors.pop()) {
            (Kind::START, Some(end)) => match program.start(end) {
                Ok(started) => {
                    let id = started.id();
                    child = Some(started);
                    channel.send(Kind::START, &id.to_be_bytes(), &[])
                }
                Err(problem) => channel.send(Kind::REFUSED, problem.as_bytes(), &[]),
            },
            (Kind::KILL, _) => channel.send(Kind::KILL, ended(child.take()).as_bytes(), &[]),
            _ => Ok(()),
        };
        if answered.is_err() {
            return;
        }
    }
}

/// Ends a program; how it ended, by itself or by this.
fn ended(child: Option<Child>) -> String {
    let Some(mut child) = child else { return "it was not started".to_owned() };
    // It closes its end of the socket pair a moment before it is gone.
    for _ in 0..20 {
        if let Ok(Some(status)) = child.try_wait() {
            return format!("it ended with {status}");
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let _ = child.kill();
    child.wait().map_or_else(|error| error.to_string(), |status| format!("it was ended: {status}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_its_path_and_by_its_name() {
        assert_eq!(find(Path::new("/bin/sh")), Some(PathBuf::from("/bin/sh")));
        assert!(find(Path::new("sh")).is_some_and(|found| found.is_absolute()));
        assert_eq!(find(Path::new("/proc/version")), None, "not a program");
        assert_eq!(find(Path::new("no-such-program-anywhere")), None);
    }
}
