//! Child processes with their output kept line by line, stopped by id, never by name.

use super::wait;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Lines of one output stream, growing as the process writes.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn collect(&self, stream: impl Read + Send + 'static) -> std::thread::JoinHandle<()> {
        let lines = self.0.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while matches!(reader.read_until(b'\n', &mut line), Ok(read) if read > 0) {
                lines.lock().unwrap().push(String::from_utf8_lossy(&line).trim_end().to_owned());
                line.clear();
            }
        })
    }

    /// All of them so far.
    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// All of them as one text.
    pub fn text(&self) -> String {
        self.all().join("\n")
    }
}

/// A child that is killed when it goes out of scope.
pub struct Process {
    child: Child,
    status: Option<ExitStatus>,
    readers: Vec<std::thread::JoinHandle<()>>,
    pub stdout: Lines,
    pub stderr: Lines,
}

impl Process {
    pub fn spawn(command: &mut Command) -> Process {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (stdout, stderr) = (Lines::default(), Lines::default());
        let readers = vec![stdout.collect(child.stdout.take().unwrap()), stderr.collect(child.stderr.take().unwrap())];
        Process { child, status: None, readers, stdout, stderr }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status().unwrap();
        assert!(status.success(), "could not send SIG{name} to process {}", self.id());
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().unwrap();
        }
        self.status
    }

    /// Waits for the end, at most `limit`, with all output read.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let status = wait::until_some(limit, || self.ended())?;
        for reader in self.readers.drain(..) {
            // A grandchild that kept the pipe open would hold the reader for ever: it is left behind then.
            wait::until(Duration::from_secs(5), || reader.is_finished());
        }
        self.assert_sane();
        Some(status)
    }

    /// Where the program was built with a sanitizer, it has nothing to say.
    fn assert_sane(&self) {
        let told = self.stderr.text();
        assert!(!told.contains("Sanitizer:"), "{told}");
    }

    /// CPU time used so far, user and system (`/proc/PID/stat`).
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        // The name in brackets may hold spaces: fields are counted from behind it; utime and stime are the 12th and 13th.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Resident memory in KiB (`/proc/PID/status`).
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Whether descriptors can be counted: the program shields itself, and so only root may. A reason is printed.
    pub fn shows_descriptors(&self) -> bool {
        let shows = std::fs::read_dir(format!("/proc/{}/fd", self.id())).is_ok();
        if !shows {
            println!("skipped: only root may count the descriptors of a process that shields itself");
        }
        shows
    }

    /// Descriptors open now.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap().count()
    }

    /// Numbers that no descriptor has now, the lowest first.
    pub fn free_descriptors(&self) -> impl Iterator<Item = u64> {
        let directory = format!("/proc/{}/fd", self.id());
        (0..).filter(move |number| std::fs::symlink_metadata(format!("{directory}/{number}")).is_err())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            // It may end between the look and the kill; either way it is gone after `wait`.
            let _ = self.child.kill();
            let _ = self.child.wait();
        } else if !self.readers.is_empty() && !std::thread::panicking() {
            // It ended by itself, and the test did not ask how.
            self.wait(Duration::ZERO);
        }
    }
}

/// What a program that runs to its end said.
#[derive(Debug)]
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Both streams, for searching.
    pub fn text(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }
}

/// Runs a command to its end, at most `wait::SOON`.
pub fn run(command: &mut Command) -> Output {
    let mut process = Process::spawn(command);
    let status = process.wait(wait::SOON).unwrap_or_else(|| panic!("{command:?} did not end"));
    Output { code: status.code(), stdout: process.stdout.text(), stderr: process.stderr.text() }
}

/// How many times the memory and CPU time of a release or debug build a program may take: a sanitizer's lane says so.
pub fn sanitizer_factor() -> u32 {
    std::env::var("SANITIZER_FACTOR").map_or(1, |factor| factor.parse().unwrap())
}

#[test]
#[should_panic(expected = "heap-use-after-free")]
fn a_report_of_a_sanitizer_fails_the_test_whatever_it_waits_for() {
    let mut process =
        Process::spawn(Command::new("sh").args(["-c", "echo ERROR: AddressSanitizer: heap-use-after-free >&2"]));
    assert!(wait::until(wait::SOON, || process.ended().is_some()));
}

/// Whether a program is on this machine.
pub fn installed(program: &str) -> bool {
    Command::new("sh").args(["-c", &format!("command -v {program} >/dev/null 2>&1")]).status().unwrap().success()
}

/// `false`, with a printed reason, where a test cannot run.
pub fn needs(program: &str) -> bool {
    let there = installed(program);
    if !there {
        println!("skipped: {program} is not installed");
    }
    there
}
