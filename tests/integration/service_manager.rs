//! What a service manager hears, by its protocol: readiness, reloads, stops, and a watchdog that starves when it should.

use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::{Client, ClientSpec};
use crate::world::config::ConfigText;
use crate::world::manager::Manager;
use crate::world::pki::{KeyKind, LeafSpec, SERVER_NAME};
use crate::world::server::{Server, binary, command};
use crate::world::wait::{SOON, until};
use std::time::Duration;

/// What a debug build reads, and a release build does not know.
const HANGS: &str = "COUNTERSIGN_TEST_HANG_SNI";

fn started(world: &World, manager: &Manager, config: &ConfigText, environment: &[(&str, &str)]) -> Server {
    let mut command = command(world.path());
    command.env("NOTIFY_SOCKET", manager.path()).envs(environment.iter().copied());
    command.arg("run").arg("-c").arg(config.write(world.path()));
    Server::from_command(world.path(), &mut command)
}

#[test]
fn start_reload_and_stop_are_told_in_their_order() {
    let world = World::new();
    let manager = Manager::new(world.path());
    let backend = Backend::tcp(echo());
    let mut server = started(&world, &manager, &ConfigText::new(&backend.server), &[]);
    manager.wait("READY=1");
    assert!(!manager.heard("WATCHDOG=1"), "nobody asked for it");
    manager.forget();
    server.process.signal("HUP");
    let reloading = manager.wait("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    manager.wait("READY=1");
    let mut client = ClientSpec::new(&world.pki).connect(server.address());
    client.echo(b"open").unwrap();
    manager.forget();
    server.process.signal("TERM");
    manager.wait("STOPPING=1");
    manager.wait("EXTEND_TIMEOUT_USEC=");
    client.close_notify();
    client.read_to_end();
    assert_eq!(server.wait_exit(SOON), 0);
}

#[test]
fn the_watchdog_is_fed_until_a_worker_hangs() {
    let program = std::fs::read(binary()).unwrap();
    let armed = program.windows(HANGS.len()).any(|window| window == HANGS.as_bytes());
    if !armed {
        println!("skipped: a release build cannot be made to hang");
        return;
    }
    let world = World::new();
    let name = "transfer.hang.example";
    let leaf = world.pki.server_ca.leaf(&LeafSpec::server(&[SERVER_NAME, name], KeyKind::Ecdsa));
    leaf.write(world.path(), "server");
    let manager = Manager::new(world.path());
    let backend = Backend::tcp(echo());
    let environment = [("WATCHDOG_USEC", "1000000"), (HANGS, "hang.example")];
    let server = started(&world, &manager, &ConfigText::new(&backend.server), &environment);
    for _ in 0..2 {
        manager.forget();
        manager.wait("WATCHDOG=1");
    }
    let mut client = Client::connect(&ClientSpec::new(&world.pki).build(), name, server.address());
    client.patience(Duration::from_millis(200));
    // The first bytes may come with the handshake's last ones, and so are not a matter of the transfer.
    let _ = client.echo(b"hang").and_then(|()| client.echo(b"hang"));
    let told = || server.process.stderr.text().contains("a worker does not turn");
    assert!(until(SOON, told), "nobody noticed");
    manager.forget();
    assert!(!manager.hears_within(Duration::from_secs(3), "WATCHDOG=1"), "it was fed though a worker hangs");
}
