//! The small print of running: where files are looked for, how many workers, what the log looks like, and signals that
//! must not end it.

use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::ClientSpec;
use crate::world::config::ConfigText;
use crate::world::server::{Server, command};
use crate::world::wait::{SOON, until};
use std::net::SocketAddr;
use std::path::Path;

#[test]
fn relative_paths_are_relative_to_the_configuration() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let config = ConfigText::new(&backend.server).write(world.path());
    let mut elsewhere = command(Path::new("/"));
    let server = Server::from_command(world.path(), elsewhere.arg("run").arg("-c").arg(&config));
    let mut client = ClientSpec::new(&world.pki).connect(server.address());
    client.echo(b"x").unwrap();
    server.audit_of(client.address, "accepted");
}

#[test]
fn there_is_one_worker_for_each_cpu_that_was_given() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&ConfigText::new(&backend.server).runtime("cpus = \"0\""));
    assert_eq!(server.ready_value("workers"), Some("1"));
    ClientSpec::new(&world.pki).connect(server.address()).echo(b"x").unwrap();
}

#[test]
fn a_listener_may_have_several_addresses() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let mut config = ConfigText::new(&backend.server);
    config.listeners[0].lines = "address = [\"127.0.0.1:0\", \"[::1]:0\"]".to_owned();
    let server = world.serve(&config);
    assert_eq!(server.listeners.len(), 2, "{:?}", server.listeners);
    for (name, address) in &server.listeners {
        assert_eq!(name, "public");
        ClientSpec::new(&world.pki).connect(*address).echo(b"x").unwrap();
    }
}

#[test]
fn the_log_is_json_when_told() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let mut config = ConfigText::new(&backend.server);
    config.top = "[log]\nformat = \"json\"\nlevel = \"debug\"".to_owned();
    let server = world.serve(&config);
    assert!(ClientSpec::anonymous(&world.pki).connect(server.address()).echo(b"x").is_err());
    assert!(until(SOON, || server.process.stderr.text().contains("no_cert")), "{}", server.process.stderr.text());
    for line in server.process.stderr.all().iter().filter(|line| !line.starts_with("ready ")) {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }
}

#[test]
fn signals_for_other_things_than_ending_do_not_end_it() {
    let world = World::new();
    let (mut server, _backend) = world.serve_before(echo());
    let mut client = ClientSpec::new(&world.pki).connect(server.address());
    client.echo(b"before").unwrap();
    for signal in ["HUP", "USR1", "USR2", "PIPE"] {
        server.process.signal(signal);
        client.echo(signal.as_bytes()).unwrap();
        ClientSpec::new(&world.pki).connect(server.address()).echo(b"a new one").unwrap();
        assert_eq!(server.process.ended(), None, "SIG{signal}");
    }
}

#[test]
fn a_closed_standard_error_does_not_end_it() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let config = ConfigText::new(&backend.server).write(world.path());
    // The shell gives the program a standard error that closes after the `ready` line: later lines meet a broken pipe.
    let script = format!(
        "exec 3>&2; {{ '{}' run -c '{}' 2>&1 >/dev/null & echo $! >pid; wait $!; }} | {{ while read -r line; do echo \"$line\" >&3; case $line in ready*) break; esac; done; }}; wait",
        crate::world::server::binary().display(),
        config.display()
    );
    let mut shell = std::process::Command::new("sh");
    let server = Server::from_command(world.path(), shell.current_dir(world.path()).args(["-c", &script]));
    for _ in 0..3 {
        assert!(ClientSpec::anonymous(&world.pki).connect(server.address()).echo(b"x").is_err());
        ClientSpec::new(&world.pki).connect(server.address()).echo(b"x").unwrap();
    }
    let pid = std::fs::read_to_string(world.path().join("pid")).unwrap();
    let status = std::process::Command::new("kill").args(["-TERM", pid.trim()]).status().unwrap();
    assert!(status.success(), "it is gone");
}

#[test]
fn a_unix_sockets_path_is_relative_to_the_configuration_too() {
    let world = World::new();
    let _backend = Backend::unix(world.path(), echo());
    let config = ConfigText::new("unix:backend.sock").write(world.path());
    let mut elsewhere = command(Path::new("/"));
    let server = Server::from_command(world.path(), elsewhere.arg("run").arg("-c").arg(&config));
    ClientSpec::new(&world.pki).connect(server.address()).echo(b"x").unwrap();
}

#[test]
fn a_reload_binds_one_address_beside_every_address() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let mut config = ConfigText::new(&backend.server).admin();
    config.listeners[0].lines = "address = [\"127.0.0.1:0\", \"0.0.0.0:0\"]".to_owned();
    let server = world.serve(&config);
    let addresses = &server.ctl_json(&["status"])["listeners"][0]["addresses"];
    let every: SocketAddr = addresses[1].as_str().unwrap().parse().unwrap();
    let one = SocketAddr::from(([127, 0, 0, 1], every.port()));
    config.listeners[0].lines = format!("address = [\"127.0.0.1:0\", \"0.0.0.0:0\", \"{one}\"]");
    config.write(world.path());
    server.ctl_done(&["reload"]);
    ClientSpec::new(&world.pki).connect(one).echo(b"x").unwrap();
    assert_eq!(server.stop(), 0);
}
