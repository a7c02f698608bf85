//! `countersign top`: one look as text, and what it says where it cannot look.

use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::ClientSpec;
use crate::world::config::ConfigText;
use crate::world::pki::CLIENT_IDENTITY;
use crate::world::process::run;
use crate::world::server::command;

#[test]
fn one_look_shows_load_handshakes_refusals_backends_expiry_and_clients_in_80_columns() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&ConfigText::new(&backend.server).admin());
    let mut open = ClientSpec::new(&world.pki).connect(server.address());
    open.echo(b"x").unwrap();
    assert!(ClientSpec::anonymous(&world.pki).connect(server.address()).echo(b"x").is_err());
    let output = run(command(world.path()).args(["top", "--once", "-c", "countersign.toml"]));
    assert_eq!(output.code, Some(0), "{}", output.text());
    let beginning = &CLIENT_IDENTITY[..8];
    for part in ["ready", "1 connections", "full", "no_cert", "ledger", &backend.server, "server", beginning] {
        assert!(output.stdout.contains(part), "{part} in\n{}", output.stdout);
    }
    assert!(output.stdout.lines().all(|line| line.chars().count() <= 80), "{}", output.stdout);
    assert_eq!(output.stdout.lines().count(), 24, "{}", output.stdout);
}

#[test]
fn a_server_that_is_drained_or_taken_down_is_told_from_one_that_is_up() {
    let world = World::new();
    let (one, other) = (Backend::tcp(echo()), Backend::tcp(echo()));
    let mut config = ConfigText::new(&one.server).admin();
    config.backends[0].servers.push(other.server.clone());
    let server = world.serve(&config);
    let word_of = |address: &str| {
        let output = run(command(world.path()).args(["top", "--once", "-c", "countersign.toml"]));
        let line = output.stdout.lines().find(|line| line.contains(address)).map(str::to_owned);
        line.unwrap_or_else(|| panic!("{address} in\n{}", output.text())).split_whitespace().nth(2).unwrap().to_owned()
    };
    assert_eq!((&*word_of(&one.server), &*word_of(&other.server)), ("up", "up"));
    server.ctl_done(&["backend", "ledger", &one.server, "drain"]);
    assert_eq!((&*word_of(&one.server), &*word_of(&other.server)), ("drain", "up"));
    server.ctl_done(&["backend", "ledger", &one.server, "down"]);
    assert_eq!((&*word_of(&one.server), &*word_of(&other.server)), ("off", "up"));
    server.ctl_done(&["backend", "ledger", &one.server, "ready"]);
    assert_eq!((&*word_of(&one.server), &*word_of(&other.server)), ("up", "up"));
}

#[test]
fn without_a_terminal_or_a_server_it_says_so_and_what_to_do() {
    let world = World::new();
    let no_terminal = run(command(world.path()).args(["top", "--socket", "none.sock"]));
    assert_eq!(no_terminal.code, Some(64), "{}", no_terminal.text());
    assert!(no_terminal.stderr.contains("--once"), "{}", no_terminal.text());
    let nobody = run(command(world.path()).args(["top", "--once", "--socket", "none.sock"]));
    assert_eq!(nobody.code, Some(69), "{}", nobody.text());
    assert!(nobody.stderr.contains("is the server running"), "{}", nobody.text());
}
