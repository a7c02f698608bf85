//! The processes under test: started on the servers' CPU, ended with all their children whatever happens.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::load::pace::Stop;
use crate::load::{drive, limits};

/// The process groups that are alive, so that a second Ctrl-C can end them before it ends this program.
#[derive(Clone, Debug, Default)]
pub struct Nursery(Arc<Mutex<Vec<Pid>>>);

impl Nursery {
    /// Ends them all, at once and without a word.
    pub fn kill_all(&self) {
        for group in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            // One that has just ended needs no signal.
            let _ = kill_process_group(*group, Signal::KILL);
        }
    }

    fn add(&self, group: Pid) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(group);
    }

    fn remove(&self, group: Pid) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|one| *one != group);
    }
}

/// A running program, in a process group of its own. Ends when dropped.
#[derive(Debug)]
pub struct Child {
    child: std::process::Child,
    group: Pid,
    log: PathBuf,
    nursery: Nursery,
}

impl Child {
    /// Starts `words` on `cpu`, with what it says going to `log`.
    pub fn start(words: &[String], cpu: usize, log: &Path, nursery: &Nursery) -> Result<Child, String> {
        let said = |e: io::Error| format!("{} does not start: {e}", words[0]);
        let out = File::create(log).map_err(said)?;
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).process_group(0);
        command.stdout(out.try_clone().map_err(said)?).stderr(out);
        // A thread's CPUs are its children's: no window in which the program runs elsewhere.
        let spawned = std::thread::scope(|scope| {
            let spawn = scope.spawn(|| {
                drive::pin(cpu).map_err(|refusal| io::Error::other(refusal.message))?;
                command.spawn()
            });
            spawn.join().unwrap_or_else(|_| Err(io::Error::other("the thread that starts it died")))
        });
        let child = spawned.map_err(said)?;
        let group = Pid::from_child(&child);
        nursery.add(group);
        Ok(Child { child, group, log: log.to_path_buf(), nursery: nursery.clone() })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until somebody listens on `address`; says why, where it does not come to that.
    pub fn wait_until_it_listens(&mut self, address: SocketAddr, stop: &Stop) -> Result<(), String> {
        let end = Instant::now() + limits::COMPARE_START;
        loop {
            if TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok() {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("it ended ({status}){}", self.last_words()));
            }
            if stop.is_set() {
                return Err("interrupted".to_owned());
            }
            if Instant::now() >= end {
                let seconds = limits::COMPARE_START.as_secs();
                return Err(format!("it did not listen on {address} within {seconds} s{}", self.last_words()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where it ended by itself meanwhile: how, and with which words.
    pub fn has_ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok()??;
        Some(format!("it ended ({status}){}", self.last_words()))
    }

    /// The last line that it said, of a bounded length.
    fn last_words(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let tail = String::from_utf8_lossy(&text[text.len().saturating_sub(4096)..]).into_owned();
        let line = tail.lines().rev().map(str::trim).find(|line| !line.is_empty());
        let clean = |line: &str| line.chars().filter(|c| !c.is_control()).take(300).collect::<String>();
        line.map(|line| format!("; it said: {}", clean(line))).unwrap_or_default()
    }
}

impl Drop for Child {
    /// Asks first: a master that is killed leaves its workers behind. The rest of the group is killed.
    fn drop(&mut self) {
        // It fails where the program has ended already, as it should.
        let _ = kill_process_group(self.group, Signal::TERM);
        let end = Instant::now() + limits::COMPARE_END;
        while Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = kill_process_group(self.group, Signal::KILL);
        let _ = self.child.wait();
        self.nursery.remove(self.group);
    }
}

/// A loopback port that nobody uses now.
pub fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(script: &str, directory: &Path) -> Child {
        let words = ["sh", "-c", script].map(str::to_owned);
        let cpu = core_affinity::get_core_ids().unwrap()[0].id;
        Child::start(&words, cpu, &directory.join("log"), &Nursery::default()).unwrap()
    }

    #[test]
    fn a_program_that_ends_or_does_not_start_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let mut child = start("echo first; echo no such port >&2; exit 3", directory.path());
        let why = child.wait_until_it_listens(free_address().unwrap(), &Stop::default()).unwrap_err();
        assert!(why.contains("exit status: 3") && why.contains("no such port"), "{why}");
        let missing = ["/nowhere/at/all".to_owned()];
        let why = Child::start(&missing, 0, &directory.path().join("log"), &Nursery::default()).unwrap_err();
        assert!(why.contains("does not start"), "{why}");
    }

    #[test]
    fn its_children_end_with_it_even_where_they_are_deaf() {
        let directory = tempfile::tempdir().unwrap();
        let script = format!("trap '' TERM; sleep 600 & echo $! >{}; wait", directory.path().join("pid").display());
        let child = start(&script, directory.path());
        let pid = loop {
            let text = std::fs::read_to_string(directory.path().join("pid")).unwrap_or_default();
            if let (true, Ok(pid)) = (text.ends_with('\n'), text.trim().parse::<u32>()) {
                break pid;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        drop(child);
        let end = Instant::now() + Duration::from_secs(20);
        // Whoever adopts it may take a moment to bury it.
        let alive = || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
        while alive() {
            assert!(Instant::now() < end, "{pid} still runs");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
