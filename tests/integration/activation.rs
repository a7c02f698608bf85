//! Sockets that a service manager opened and passes on: served, kept over reloads, restarts and hand-overs, and refused in
//! words where they are of no use.

use crate::hand_over::{exit_code, handed_over};
use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::{Client, ClientSpec};
use crate::world::config::{ConfigText, ListenerText};
use crate::world::pki::SERVER_NAME;
use crate::world::process::{Output, needs, run};
use crate::world::server::{Server, binary};
use crate::world::wait::{SOON, until};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

/// The program, started with these sockets: words of `activate.py`.
fn activated(world: &World, config: &ConfigText, sockets: &[&str]) -> Command {
    let config = config.write(world.path());
    let mut command = Command::new("python3");
    command.current_dir(world.path()).env_remove("NOTIFY_SOCKET");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/units/activate.py"));
    command.args(sockets).arg("--").arg(binary()).args(["run", "-c"]).arg(config);
    command
}

fn start(world: &World, config: &ConfigText, sockets: &[&str]) -> Server {
    Server::from_command(world.path(), &mut activated(world, config, sockets))
}

fn refused(world: &World, config: &ConfigText, sockets: &[&str]) -> Output {
    run(&mut activated(world, config, sockets))
}

/// One listener that wants the sockets of this name.
fn wanting(backend: &Backend, name: &str) -> ConfigText {
    let mut config = ConfigText::new(&backend.server).admin();
    config.listeners[0].lines = format!("address = [\"systemd:{name}\"]");
    config
}

fn visit(world: &World, address: SocketAddr) {
    Client::connect(&ClientSpec::new(&world.pki).build(), SERVER_NAME, address).echo(b"activated").unwrap();
}

#[test]
fn clients_are_served_on_however_many_sockets_there_are() {
    if !needs("python3") {
        return;
    }
    for engine in ["auto", "epoll"] {
        for sockets in [&["web=v4:1"][..], &["web=v4:2"], &["web=v4:3"], &["web=v4:2", "web=v6:1"]] {
            let world = World::new();
            let backend = Backend::tcp(echo());
            let config =
                wanting(&backend, "web").runtime(&format!("cpus = \"0-1\"\npin = false\nengine = \"{engine}\""));
            let server = start(&world, &config, sockets);
            assert_eq!(server.listeners.len(), sockets.len(), "{:?}", server.listeners);
            for (_, address) in &server.listeners {
                // Each of the sockets is somebody's: a queue that nobody empties would hang a client.
                for _ in 0..16 {
                    visit(&world, *address);
                }
            }
            server.stop();
        }
    }
}

#[test]
fn a_reload_takes_up_and_lays_down_what_was_passed_and_nobody_is_refused() {
    if !needs("python3") {
        return;
    }
    let world = World::new();
    let backend = Backend::tcp(echo());
    let config = wanting(&backend, "web");
    let server = start(&world, &config, &["web=v4:1", "spare=v4:1"]);
    let web = server.address();
    visit(&world, web);
    let log = server.process.stderr.text();
    assert!(log.contains("\"spare\" that no listener names"), "{log}");
    // The other one in its place: who comes to the first waits.
    wanting(&backend, "spare").write(world.path());
    server.ctl_done(&["reload"]);
    let listening = server.ctl_json(&["status"])["listeners"][0]["addresses"][0].as_str().unwrap().to_owned();
    let spare: SocketAddr = listening.parse().unwrap();
    assert_ne!(spare, web);
    visit(&world, spare);
    let mut waiting = TcpStream::connect(web).unwrap();
    waiting.write_all(b"no TLS").unwrap();
    // Both: who waited is taken, and refused for what he sent, not for when he came.
    let mut both = wanting(&backend, "web");
    both.listeners[0].lines = "address = [\"systemd:web\", \"systemd:spare\"]".to_owned();
    both.write(world.path());
    server.ctl_done(&["reload"]);
    visit(&world, web);
    visit(&world, spare);
    let local = waiting.local_addr().unwrap().to_string();
    server.wait_audit(|line| line["client"] == local.as_str() && line["reason"] == "not_tls");
    // A name that was not passed changes nothing.
    wanting(&backend, "missing").write(world.path());
    let reloaded = server.ctl(&["reload"]);
    assert_eq!(reloaded.code, Some(1));
    assert!(reloaded.text().contains("those that were passed are \"spare\", \"web\""), "{}", reloaded.text());
    visit(&world, web);
    server.stop();
}

#[test]
fn a_hand_over_passes_them_on_named_or_not() {
    if !needs("python3") {
        return;
    }
    let world = World::new();
    let backend = Backend::tcp(echo());
    let mut server = start(&world, &wanting(&backend, "web"), &["web=v4:1", "spare=v4:1"]);
    let web = server.address();
    visit(&world, web);
    let successor = handed_over(&server);
    assert_eq!(exit_code(&mut server), 0);
    for _ in 0..8 {
        visit(&world, web);
    }
    let mut both = wanting(&backend, "web");
    both.listeners
        .push(ListenerText { lines: "address = [\"systemd:spare\"]".to_owned(), ..ListenerText::new("spare") });
    both.sites[0].lines.push_str("\nlistener = \"public\"");
    both.write(world.path());
    server.ctl_done(&["reload"]);
    assert_eq!(server.ctl_json(&["status"])["listeners"][1]["addresses"].as_array().unwrap().len(), 1);
    visit(&world, web);
    successor.stop();
}

#[test]
fn who_comes_while_the_service_is_away_is_served_when_it_is_back() {
    if !needs("python3") {
        return;
    }
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = start(&world, &wanting(&backend, "web"), &["--twice", "web=v4:2"]);
    let address = server.address();
    visit(&world, address);
    let starts = || server.process.stderr.all().iter().filter(|line| line.starts_with("ready ")).count();
    server.process.signal("TERM");
    // Some of these come to the first, some to nobody, some to the second.
    let mut visits = 0;
    assert!(until(SOON, || {
        visit(&world, address);
        visits += 1;
        starts() == 2
    }));
    for _ in 0..8 {
        visit(&world, address);
    }
    assert_eq!(server.stop(), 0);
}

#[test]
fn what_nobody_can_be_accepted_on_is_refused_in_words() {
    if !needs("python3") {
        return;
    }
    let world = World::new();
    let backend = Backend::tcp(echo());
    for (socket, what) in [
        ("web=udp:1", "is a datagram socket; write ListenStream= in place of ListenDatagram="),
        ("web=unix:1", "is a unix socket; clients come by TCP"),
        ("web=connection:1", "is a connection and does not listen; write Accept=no"),
        ("other=v4:1", "those that were passed are \"other\"; write one of these, or set FileDescriptorName=web"),
    ] {
        let told = refused(&world, &wanting(&backend, "web"), &[socket]);
        assert_eq!(told.code, Some(78), "{socket}: {}", told.text());
        assert!(told.stderr.contains(what), "{socket}: {}", told.text());
    }
    let mut alone = crate::world::server::command(world.path());
    alone.args(["run", "-c"]).arg(wanting(&backend, "web").write(world.path()));
    // Meant for another process.
    alone.env("LISTEN_PID", "1").env("LISTEN_FDS", "1");
    let told = run(&mut alone);
    assert_eq!(told.code, Some(78), "{}", told.text());
    assert!(told.stderr.contains("none were passed to this process; start it by its socket unit"), "{}", told.text());
}
