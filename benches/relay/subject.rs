//! The processes that are measured, and those that measure: started here, ended when dropped.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A process of ours.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts `command` and waits until `ready` answers.
    pub fn start(command: &mut Command, ready: SocketAddr) -> Process {
        let child = command.stdout(Stdio::null()).spawn();
        let process = Process { child: child.unwrap_or_else(|e| panic!("{command:?} does not start: {e}")) };
        let begun = Instant::now();
        while TcpStream::connect(ready).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(10), "{command:?} does not listen on {ready}");
            std::thread::sleep(Duration::from_millis(20));
        }
        process
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that is free now.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
    listener.local_addr().expect("its address")
}

/// The program `name` of this package, or the one that the environment names.
pub fn program(variable: &str, built: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| PathBuf::from(built), PathBuf::from)
}

/// What CPU 0 and CPU 1 are there for: the measured process has 0 to itself.
pub fn load_program() -> PathBuf {
    program("COUNTERSIGN_LOAD_BIN", env!("CARGO_BIN_EXE_countersign-load"))
}

/// The server under test in front of `backend` (as the configuration writes it), one worker on CPU 0.
pub fn countersign(directory: &Path, engine: &str, listen: SocketAddr, backend: &str) -> Process {
    let config = directory.join(format!("{}.toml", listen.port()));
    let text = format!(
        "[runtime]\ncpus = \"0\"\nengine = \"{engine}\"\n[log]\nlevel = \"warn\"\n[[listener]]\nname = \"l\"\naddress = [\"{listen}\"]\n\
         [[site]]\nbackend = \"b\"\ncertificate = [{{ chain = \"pki/server.pem\", key = \"pki/server.key\" }}]\n\
         [site.client]\ntrust = [\"pki/ca.pem\"]\n[[backend]]\nname = \"b\"\nservers = [\"{backend}\"]\n"
    );
    std::fs::write(&config, text).expect("a configuration");
    let program = program("COUNTERSIGN_BIN", env!("CARGO_BIN_EXE_countersign"));
    Process::start(Command::new(program).arg("run").arg("-c").arg(config), listen)
}

/// This program again, as the relay written by hand.
pub fn epoll_relay(directory: &Path, listen: SocketAddr, backend: SocketAddr) -> Process {
    let this = std::env::current_exe().expect("this program");
    let mut command = Command::new(this);
    command.arg("--epoll-relay").args([listen.to_string(), backend.to_string()]).arg(directory.join("pki"));
    Process::start(&mut command, listen)
}

/// The echo that all relays share, on the generator's CPU.
pub fn backend(listen: SocketAddr, path: &Path) -> Process {
    let mut command = Command::new(load_program());
    command.args(["backend", "--mode", "echo", "--cpus", "1", "--listen"]).arg(listen.to_string());
    command.arg("--listen").arg(format!("unix:{}", path.display())).stderr(Stdio::null());
    Process::start(&mut command, listen)
}

/// What kind of CPU this is.
pub fn cpu_model() -> String {
    let Ok(file) = std::fs::File::open("/proc/cpuinfo") else { return "unknown CPU".to_owned() };
    let lines = BufReader::new(file).lines().map_while(Result::ok);
    let model =
        lines.filter_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, m)| m.to_owned())).next();
    model.unwrap_or_else(|| "unknown CPU".to_owned())
}
