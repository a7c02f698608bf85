//! What the machine may lack: io_uring forbidden in each way, memory for rings, a backend that does not answer, room in
//! the accept queue. (Descriptors are in `descriptors.rs`.)
//!
//! How it is simulated, each for one process alone: a seccomp filter, installed by a few lines of Python before `exec`,
//! answers io_uring_setup with the error that the kernel would give (EPERM for a sandbox and for `io_uring_disabled`,
//! ENOSYS for a kernel without it, ENOMEM for a tiny RLIMIT_MEMLOCK where the kernel charges rings to it); the value of
//! `kernel.io_uring_disabled` is a file mounted over it in a mount namespace of its own.

use super::siege::{Bounds, Siege};
use crate::world::World;
use crate::world::backend::{Backend, echo, refusing_address};
use crate::world::client::{ClientSpec, Ending};
use crate::world::config::ConfigText;
use crate::world::process::{Output, needs, run};
use crate::world::server::{Server, binary};
use crate::world::wait::SOON;
use socket2::{Domain, Socket, Type};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

/// Answers io_uring_setup (425 on every architecture) with the error number of the first argument, and runs the rest.
const FILTER: &str = r#"
import ctypes, os, struct, sys
load_number, equal, give = 0x20, 0x15, 0x06
program = b"".join(struct.pack("HBBI", *step) for step in [
    (load_number, 0, 0, 0), (equal, 0, 1, 425), (give, 0, 0, 0x00050000 | int(sys.argv[1])), (give, 0, 0, 0x7fff0000)])
buffer = ctypes.create_string_buffer(program)
class Filter(ctypes.Structure):
    _fields_ = [("count", ctypes.c_ushort), ("steps", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
filter = Filter(4, ctypes.addressof(buffer))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(filter), 0, 0) == 0, ctypes.get_errno()
os.execv(sys.argv[2], sys.argv[2:])
"#;

fn filtered(world: &World, errno: &str) -> Command {
    let mut command = Command::new("python3");
    command.current_dir(world.path()).args(["-c", FILTER, errno]).arg(binary()).args(["run", "-c", "countersign.toml"]);
    command
}

/// A world whose configuration insists on io_uring.
fn world() -> World {
    let world = World::new();
    ConfigText::new("127.0.0.1:9").replace_runtime("engine = \"io_uring\"").write(world.path());
    world
}

/// Holds that it ended with 71 and said all of this.
fn assert_lacks(output: &Output, told: &[&str]) {
    assert_eq!(output.code, Some(71), "{}", output.text());
    for text in told {
        assert!(output.stderr.contains(text), "{text:?} is not said: {}", output.stderr);
    }
}

#[test]
fn a_sandbox_that_forbids_an_io_uring_that_is_insisted_on_exits_71_and_says_what_to_allow() {
    if !needs("python3") {
        return;
    }
    let world = world();
    let output = run(&mut filtered(&world, "1"));
    assert_lacks(&output, &["seccomp", "io_uring_setup", "io_uring_enter", "io_uring_register", "SystemCallFilter="]);
    let output = run(&mut filtered(&world, "38"));
    assert_lacks(&output, &["no io_uring", "Linux 6.1"]);
    let output = run(&mut filtered(&world, "12"));
    assert_lacks(&output, &["RLIMIT_MEMLOCK", "LimitMEMLOCK=infinity", "ulimit -l"]);
}

#[test]
fn a_sandbox_that_forbids_io_uring_is_served_in_over_epoll_and_told_why() {
    if !needs("python3") {
        return;
    }
    let cases = [("1", "seccomp"), ("38", "no io_uring"), ("12", "RLIMIT_MEMLOCK"), ("22", "Linux 6.1")];
    for (errno, why) in cases {
        let world = World::new();
        let backend = Backend::tcp(echo());
        ConfigText::new(&backend.server).replace_runtime("engine = \"auto\"").admin().write(world.path());
        let server = Server::from_command(world.path(), &mut filtered(&world, errno));
        assert_eq!(server.ready_value("engine"), Some("epoll"));
        server.logged("io_uring cannot be used", 1);
        let log = server.process.stderr.all();
        let warning = log.iter().find(|line| line.contains("WARN") && line.contains("io_uring cannot be used"));
        assert!(warning.is_some_and(|line| line.contains(why) && line.contains("engine = \"epoll\"")), "{log:?}");
        ClientSpec::new(&world.pki).connect(server.address()).echo(&[7; 100_000]).unwrap();
        assert_eq!(server.ctl_json(&["status"])["engine"], "epoll");
        assert_eq!(server.stop(), 0);
    }
}

#[test]
fn epoll_that_is_asked_for_serves_without_a_look_at_io_uring() {
    if !needs("python3") {
        return;
    }
    let world = World::new();
    let backend = Backend::tcp(echo());
    ConfigText::new(&backend.server).replace_runtime("engine = \"epoll\"").write(world.path());
    // What would answer with this number ends the process instead.
    let mut command = Command::new("python3");
    let deadly = FILTER.replace("0x00050000 | int(sys.argv[1])", "0x80000000");
    command.current_dir(world.path()).args(["-c", &deadly, "0"]).arg(binary()).args(["run", "-c", "countersign.toml"]);
    let server = Server::from_command(world.path(), &mut command);
    assert!(!server.process.stderr.text().contains("io_uring"), "{}", server.process.stderr.text());
    ClientSpec::new(&world.pki).connect(server.address()).echo(b"not a word of it").unwrap();
    assert_eq!(server.stop(), 0);
}

#[test]
fn an_io_uring_that_is_insisted_on_and_switched_off_by_the_sysctl_exits_71_and_names_the_sysctl() {
    let root = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0;
    if !needs("python3") || !needs("unshare") {
        return;
    }
    if !root {
        println!("skipped: only root may mount over a sysctl");
        return;
    }
    let world = world();
    for value in ["1", "2"] {
        world.write("disabled", &format!("{value}\n"));
        let mount = "mount --bind disabled /proc/sys/kernel/io_uring_disabled && exec python3 -c \"$@\"";
        let mut command = Command::new("unshare");
        command.current_dir(world.path()).args(["--mount", "sh", "-c", mount, "sh", FILTER, "1"]);
        let output = run(command.arg(binary()).args(["run", "-c", "countersign.toml"]));
        if output.stderr.contains("permission denied") || output.stderr.contains("Operation not permitted") {
            println!("skipped: this machine forbids mounts: {}", output.stderr);
            return;
        }
        let disabled = format!("kernel.io_uring_disabled = {value}");
        assert_lacks(&output, &[&disabled, "sysctl -w kernel.io_uring_disabled=0"]);
    }
}

#[test]
fn a_tiny_limit_of_locked_memory_either_does_not_matter_or_is_named() {
    if !needs("prlimit") || !needs("setpriv") {
        return;
    }
    let world = world();
    let mut command = Command::new("setpriv");
    command.current_dir(world.path()).args(["--bounding-set", "-ipc_lock", "--inh-caps", "-ipc_lock"]);
    command.args(["prlimit", "--memlock=4096:4096"]).arg(binary()).args(["run", "-c", "countersign.toml"]);
    let mut process = crate::world::process::Process::spawn(&mut command);
    let ready = crate::world::wait::until_some(SOON, || {
        let ready = process.stderr.all().iter().any(|line| line.starts_with("ready "));
        (ready || process.ended().is_some()).then_some(ready)
    });
    if ready == Some(true) {
        println!("this kernel does not charge rings to RLIMIT_MEMLOCK, or not to this user");
        return;
    }
    let code = process.wait(SOON).and_then(|status| status.code());
    let output = Output { code, stdout: String::new(), stderr: process.stderr.text() };
    assert_lacks(&output, &["RLIMIT_MEMLOCK is 4096", "LimitMEMLOCK=infinity"]);
}

/// A socket whose accept queue is full: further connections are neither taken nor refused.
fn deaf() -> (Socket, Vec<TcpStream>, String) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let fill = || TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok();
    let fillers = std::iter::from_fn(fill).collect();
    (socket, fillers, address.to_string())
}

#[test]
fn a_backend_that_cannot_be_reached_costs_its_own_clients_alone() {
    let (_bound, refusing) = refusing_address();
    let (_socket, _fillers, deaf) = deaf();
    for (what, address) in [("refuses", refusing), ("does not answer", deaf)] {
        let siege = Siege::with(echo(), |mut config| {
            config.backends[0].servers = vec![address];
            config.backend("connect_timeout = \"1s\"")
        });
        let spec = ClientSpec::new(&siege.world.pki);
        let mut clients: Vec<_> = (0..40).map(|_| spec.connect(siege.address())).collect();
        clients.iter_mut().for_each(|client| client.handshake().unwrap());
        let start = Instant::now();
        for client in &mut clients {
            assert_eq!(client.read_to_end(), (Vec::new(), Ending::CloseNotify), "{what}");
            let line = siege.server.audit_of(client.address, "closed");
            assert_eq!(line["close_reason"], "backend_unavailable", "{what}: {line}");
        }
        assert!(start.elapsed() < Duration::from_secs(8), "{what}: {:?}", start.elapsed());
        siege.end(&format!("a backend that {what}"), &Bounds { cpu: Duration::from_secs(6), memory_kib: 16 << 10 });
    }
}

/// Both workers' queues of 4096, and some.
const QUEUED: usize = 8400;

#[test]
#[ignore = "slow lane: ten thousand sockets"]
fn connections_that_found_the_accept_queue_full_are_served_when_there_is_room() {
    let pid = std::process::id().to_string();
    let raised = Command::new("prlimit").args(["--pid", &pid, "--nofile=20000:20000"]).status();
    if !raised.is_ok_and(|status| status.success()) {
        println!("skipped: this process may not have 20,000 descriptors");
        return;
    }
    let siege = Siege::started(
        echo(),
        |config| config.limits("connections = 12000\nhandshakes_in_flight = 12000"),
        |world, config| Server::start_limited(world.path(), &config.write(world.path()), "--nofile=20000:20000"),
    );
    siege.server.process.signal("STOP");
    let connect = |_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        // In progress, and perhaps for long.
        let _ = socket.connect(&siege.address().into());
        socket
    };
    let queued: Vec<Socket> = (0..QUEUED).map(connect).collect();
    siege.server.process.signal("CONT");
    let mut client = ClientSpec::new(&siege.world.pki).connect(siege.address());
    client.echo(b"in the queue with the others").unwrap();
    drop(queued);
    drop(client);
    let gone = crate::world::wait::until(SOON, || siege.metric("countersign_connections_active") <= 1.0);
    assert!(gone, "{} connections are left", siege.metric("countersign_connections_active"));
    let mut server =
        siege.probed("a full accept queue", &Bounds { cpu: Duration::from_secs(20), memory_kib: 160 << 10 });
    server.process.signal("TERM");
    assert_eq!(server.wait_exit(SOON), 0);
}
