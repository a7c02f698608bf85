//! The program under test: started as users start it, waited for by its `ready` line, stopped by SIGTERM.

use super::process::{Output, Process, run};
use super::wait::{self, SOON};
use serde_json::Value;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The binary: `COUNTERSIGN_BIN`, else the one that cargo built for this run.
pub fn binary() -> PathBuf {
    match std::env::var_os("COUNTERSIGN_BIN") {
        // Cargo runs tests in the package's directory, and so a relative path means what the caller meant.
        Some(path) => std::fs::canonicalize(&path).unwrap_or_else(|error| panic!("COUNTERSIGN_BIN: {error}")),
        None => PathBuf::from(env!("CARGO_BIN_EXE_countersign")),
    }
}

/// The command, in `dir`, without anything of the caller's environment that could change it.
pub fn command(dir: &Path) -> Command {
    let mut command = Command::new(binary());
    command.current_dir(dir).env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC").env_remove("RUST_LOG");
    command
}

/// Whether the program has a hook for tests, by the environment's variable that it reads: a debug build has them, and a
/// release build must have none.
pub fn hooked(variable: &str) -> bool {
    let program = std::fs::read(binary()).unwrap();
    let hooked = program.windows(variable.len()).any(|window| window == variable.as_bytes());
    let release = binary().iter().any(|part| part == "release");
    assert!(!(hooked && release), "a release build knows {variable}");
    hooked
}

/// A running server.
pub struct Server {
    pub process: Process,
    any_path: AtomicBool,
    dir: PathBuf,
    /// Listener names and real addresses, as `ready` tells them.
    pub listeners: Vec<(String, SocketAddr)>,
    ready: String,
}

impl Server {
    /// Starts `countersign run -c CONFIG` and waits until it is ready.
    pub fn start(dir: &Path, config: &Path) -> Server {
        let mut command = command(dir);
        command.arg("run").arg("-c").arg(config);
        Server::from_command(dir, &mut command)
    }

    /// The same under `prlimit`, for tests of what happens when descriptors or memory are short.
    pub fn start_limited(dir: &Path, config: &Path, limit: &str) -> Server {
        let mut command = Command::new("prlimit");
        command.current_dir(dir).arg(limit).arg(binary()).args([OsString::from("run"), "-c".into(), config.into()]);
        Server::from_command(dir, &mut command)
    }

    /// Starts any command that ends in a running server.
    pub fn from_command(dir: &Path, command: &mut Command) -> Server {
        let mut process = Process::spawn(command);
        let ready = wait::until_some(SOON, || {
            let line = process.stderr.all().into_iter().find(|line| line.starts_with("ready "));
            if line.is_none() && process.ended().is_some() {
                process.wait(SOON);
                panic!("the server ended before it was ready:\n{}", process.stderr.text());
            }
            line
        });
        let ready = ready.unwrap_or_else(|| panic!("no `ready` line:\n{}", process.stderr.text()));
        let listeners = parse_listeners(&ready);
        Server { process, any_path: AtomicBool::new(false), dir: dir.to_owned(), listeners, ready }
    }

    /// The first listener's address.
    pub fn address(&self) -> SocketAddr {
        self.listeners[0].1
    }

    /// The address of the listener of this name.
    pub fn listener(&self, name: &str) -> SocketAddr {
        self.listeners.iter().find(|(listener, _)| listener == name).unwrap_or_else(|| panic!("{}", self.ready)).1
    }

    /// The value of `key=` in the `ready` line.
    pub fn ready_value(&self, key: &str) -> Option<&str> {
        value_of(&self.ready, key)
    }

    /// `countersign ctl` with these arguments to this server, by its configuration.
    pub fn ctl(&self, arguments: &[&str]) -> Output {
        run(command(&self.dir).args(["ctl", "-c", "countersign.toml"]).args(arguments))
    }

    /// The same where the server must do as asked; what it said.
    pub fn ctl_done(&self, arguments: &[&str]) -> String {
        let output = self.ctl(arguments);
        assert_eq!(output.code, Some(0), "ctl {arguments:?}: {}", output.text());
        output.stdout
    }

    /// The same as JSON.
    pub fn ctl_json(&self, arguments: &[&str]) -> Value {
        let output = self.ctl(&[arguments, &["--json"]].concat());
        serde_json::from_str(&output.stdout)
            .unwrap_or_else(|error| panic!("ctl {arguments:?}: {error}: {}", output.text()))
    }

    /// One series of `/metrics`, by its name with labels.
    pub fn metric(&self, series: &str) -> f64 {
        let admin = self.ready_value("admin").unwrap().parse().unwrap();
        let (_, text) = super::http::get(admin, "/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
    }

    /// Every complete audit line so far.
    pub fn audit(&self) -> Vec<Value> {
        audit_lines(&self.dir.join("audit.jsonl"))
    }

    /// The first audit line of this event of this client, waited for.
    pub fn audit_of(&self, client: SocketAddr, event: &str) -> Value {
        let client = client.to_string();
        // The port may have been one of the hostile tests' probe before.
        let of_probe = |line: &Value| line["site"] == "probed";
        self.wait_audit(|line| line["event"] == event && line["client"] == client.as_str() && !of_probe(line))
    }

    /// The first audit line for which `wanted` holds, waited for.
    pub fn wait_audit(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        wait::until_some(SOON, || self.audit().into_iter().find(&wanted))
            .unwrap_or_else(|| panic!("no such audit line; there are:\n{}", self.audit_text()))
    }

    fn audit_text(&self) -> String {
        std::fs::read_to_string(self.dir.join("audit.jsonl")).unwrap_or_default()
    }

    /// Waits until the log holds this, so many times: it is written beside the work, and read here by a thread.
    pub fn logged(&self, what: &str, times: usize) {
        let told = || self.process.stderr.text().matches(what).count();
        assert!(wait::until(SOON, || told() >= times), "no {what:?}, {times} times:\n{}", self.process.stderr.text());
        assert_eq!(told(), times, "{what:?}:\n{}", self.process.stderr.text());
    }

    /// SIGTERM, and a wait for the end: the exit code. Nothing may have panicked.
    pub fn stop(mut self) -> i32 {
        self.process.signal("TERM");
        self.wait_exit(SOON)
    }

    /// Waits for the end: the exit code. Nothing may have panicked.
    pub fn wait_exit(&mut self, limit: Duration) -> i32 {
        let status = self.process.wait(limit).unwrap_or_else(|| panic!("did not end:\n{}", self.process.stderr.text()));
        assert!(!self.process.stderr.text().contains("panicked"), "{}", self.process.stderr.text());
        status.code().unwrap_or_else(|| panic!("ended by a signal: {status}\n{}", self.process.stderr.text()))
    }
}

impl Server {
    /// For tests whose clients may leave before the kernel could be given their keys.
    pub fn any_path(&self) {
        self.any_path.store(true, Ordering::SeqCst);
    }

    /// Holds that what came in took the path that this run is about, so that no test of it passes in user space unseen.
    /// A test that says itself what its listeners may do is left alone.
    fn took_the_right_path(&self) {
        let config = std::fs::read_to_string(self.dir.join("countersign.toml")).unwrap_or_default();
        let own = config.matches("ktls =").count() > 1 || config.contains("splice =");
        if !config.contains("ktls = \"auto\"") || own && std::env::var_os("COUNTERSIGN_TEST_LISTENER").is_none() {
            return;
        }
        let mut taken = String::new();
        for line in self.audit().iter().filter(|line| line["event"] == "accepted") {
            let (version, path) = (line["tls"]["version"].as_str().unwrap(), line["path"].as_str().unwrap());
            let wanted = super::path_of(version);
            let right = self.any_path.load(Ordering::SeqCst) || wanted.is_none_or(|wanted| wanted == path);
            assert!(right, "another path than this run is about: {line}");
            taken.push_str(&format!("{version} {path}\n"));
        }
        if let Ok(tally) = std::env::var("COUNTERSIGN_TEST_TALLY") {
            let mut file = std::fs::OpenOptions::new().append(true).create(true).open(tally).unwrap();
            std::io::Write::write_all(&mut file, taken.as_bytes()).unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.took_the_right_path();
        } else {
            println!("--- the server's log\n{}", self.process.stderr.text());
            println!("--- its audit\n{}", self.audit_text());
        }
    }
}

/// The complete lines of an audit file.
pub fn audit_lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let complete = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
    complete
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("audit line {line:?}: {error}")))
        .collect()
}

fn value_of<'a>(ready: &'a str, key: &str) -> Option<&'a str> {
    ready.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

/// `listeners=NAME=ADDRESS,ADDRESS;NAME=…` of the `ready` line, one entry an address.
fn parse_listeners(ready: &str) -> Vec<(String, SocketAddr)> {
    let list = value_of(ready, "listeners").unwrap_or_else(|| panic!("no listeners in {ready:?}"));
    let mut listeners = Vec::new();
    for item in list.split(';') {
        let (name, addresses) = item.split_once('=').unwrap_or_else(|| panic!("{item:?} in {ready:?}"));
        for address in addresses.split(',') {
            let address = address.parse().unwrap_or_else(|error| panic!("{item:?} in {ready:?}: {error}"));
            listeners.push((name.to_owned(), address));
        }
    }
    listeners
}
