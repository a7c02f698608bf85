//! The process confines itself to its own files (Landlock): what it does every day works, and what it never does is
//! refused by the kernel, though the user that runs it may.

use crate::hand_over::{exit_code, handed_over};
use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::ClientSpec;
use crate::world::config::ConfigText;
use crate::world::process::needs;
use crate::world::server::{Server, binary};
use crate::world::wait::{SOON, until};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// Answers 38 to system call 444: a kernel without Landlock. Loads the number of the call, compares, two answers.
const WITHOUT: &str = r#"
import ctypes, os, struct, sys
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, 444), (0x06, 0, 0, 0x00050000 | 38), (0x06, 0, 0, 0x7FFF0000)]
code = b"".join(struct.pack("HBBI", *step) for step in steps)
buffer = ctypes.create_string_buffer(code, len(code))
class Filter(ctypes.Structure):
    _fields_ = [("count", ctypes.c_ushort), ("steps", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
filter = Filter(len(steps), ctypes.addressof(buffer))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(filter), 0, 0) == 0, ctypes.get_errno()
os.execv(sys.argv[1], sys.argv[1:])
"#;

/// Whether this kernel confines; a reason is printed.
fn confines(server: &Server) -> bool {
    let confines = !server.process.stderr.text().contains("not confined");
    if !confines {
        println!("skipped: this kernel has no Landlock");
    }
    confines
}

/// Where the audit goes: a directory beside others.
fn config(backend: &Backend, audit: &str) -> ConfigText {
    let mut config = ConfigText::new(&backend.server).admin().runtime("state_dir = \"state\"");
    config.admin = Some("http = \"127.0.0.1:0\"\nsocket = \"run/admin.sock\"".to_owned());
    config.audit = Some(format!("path = \"{audit}\""));
    config
}

fn world() -> World {
    let world = World::new();
    for dir in ["run", "logs", "elsewhere", "later"] {
        std::fs::create_dir(world.path().join(dir)).unwrap();
    }
    world
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

#[test]
fn the_kernel_refuses_to_write_elsewhere_and_rotation_goes_on_within_reach() {
    let world = world();
    let backend = Backend::tcp(echo());
    let server = world.serve(&config(&backend, "logs/audit.jsonl"));
    if !confines(&server) {
        return;
    }
    let (audit, rotated) = (world.path().join("logs/audit.jsonl"), world.path().join("logs/audit.1"));
    let stolen = world.path().join("elsewhere/stolen");
    let visit = || ClientSpec::new(&world.pki).connect(server.address()).echo(b"confined").unwrap();
    visit();
    // A name that leads out of the directory is a write like any other to the user, and not to Landlock.
    std::fs::rename(&audit, &rotated).unwrap();
    symlink(&stolen, &audit).unwrap();
    server.process.signal("USR1");
    assert!(until(SOON, || server.process.stderr.text().contains("Permission denied")), "nothing was refused");
    visit();
    assert!(!stolen.exists(), "it was written");
    let before = lines(&rotated);
    visit();
    assert!(until(SOON, || lines(&rotated) > before), "the old file goes on");
    std::fs::remove_file(&audit).unwrap();
    server.process.signal("USR1");
    assert!(until(SOON, || audit.exists()), "a new file within reach is made");
    visit();
    assert!(until(SOON, || lines(&audit) > 0));
    server.stop();
}

#[test]
fn a_reload_within_reach_is_applied_and_one_outside_is_refused_and_applied_by_a_hand_over() {
    let world = world();
    let backend = Backend::tcp(echo());
    let mut server = world.serve(&config(&backend, "logs/audit.jsonl"));
    if !confines(&server) {
        return;
    }
    let ctl = |arguments: &[&str]| {
        let mut command = crate::world::server::command(world.path());
        crate::world::process::run(command.args(["ctl", "-c", "countersign.toml"]).args(arguments))
    };
    let address = server.address();
    let visit = || ClientSpec::new(&world.pki).connect(address).echo(b"confined").unwrap();
    // Certificates in a directory that nobody had named, as renewals make them.
    for file in ["server.pem", "server.key"] {
        std::fs::rename(world.path().join(file), world.path().join("later").join(file)).unwrap();
    }
    let mut renewed = config(&backend, "logs/audit.jsonl");
    renewed.sites[0].lines = renewed.sites[0].lines.replace("\"server.", "\"later/server.");
    renewed.write(world.path());
    assert_eq!(ctl(&["reload"]).code, Some(0), "{}", server.process.stderr.text());
    assert_eq!(ctl(&["block", "--identity", "cn:somebody-else"]).code, Some(0));
    visit();
    renewed.audit = Some("path = \"elsewhere/audit.jsonl\"".to_owned());
    renewed.write(world.path());
    let refused = ctl(&["reload"]);
    assert_eq!(refused.code, Some(1));
    let told = "this process may not write there: at its start it confined itself to other places; hand over (SIGUSR2)";
    assert!(refused.text().contains(told), "{}", refused.text());
    assert!(!world.path().join("elsewhere/audit.jsonl").exists());
    visit();
    let second = handed_over(&server);
    assert_eq!(exit_code(&mut server), 0);
    visit();
    let audit = world.path().join("elsewhere/audit.jsonl");
    assert!(until(SOON, || lines(&audit) > 1), "the new process writes where it was told");
    assert_eq!(ctl(&["reload"]).code, Some(0));
    assert_eq!(ctl(&["block", "--identity", "cn:another"]).code, Some(0));
    second.stop();
}

#[test]
fn a_kernel_without_landlock_serves_and_says_so_once() {
    if !needs("python3") {
        return;
    }
    let world = World::new();
    let backend = Backend::tcp(echo());
    let config = ConfigText::new(&backend.server).write(world.path());
    let mut command = Command::new("python3");
    command.current_dir(world.path()).env_remove("NOTIFY_SOCKET");
    command.args(["-c", WITHOUT]).arg(binary()).args(["run", "-c"]).arg(config);
    let server = Server::from_command(world.path(), &mut command);
    ClientSpec::new(&world.pki).connect(server.address()).echo(b"not confined").unwrap();
    let log = server.process.stderr.all();
    let told = log.iter().filter(|line| line.contains("not confined") && line.contains("WARN")).count();
    assert_eq!(told, 1, "{log:?}");
    server.stop();
}
