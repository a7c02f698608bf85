//! `tickets.secret_files`: sessions outlive a restart, and go from host to host.

use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::{Client, ClientSpec, TLS12, TLS13, Tickets};
use crate::world::config::ConfigText;
use crate::world::pki::SERVER_NAME;
use crate::world::process::run;
use crate::world::server::{Server, command};
use crate::world::wait::{SOON, until};
use rustls::ClientConfig;
use std::sync::Arc;

fn visit(config: &Arc<ClientConfig>, server: &Server) -> bool {
    let mut client = Client::connect(config, SERVER_NAME, server.address());
    client.echo(b"ping").unwrap();
    client.resumed()
}

fn clients(world: &World) -> [Arc<ClientConfig>; 2] {
    [TLS12, TLS13].map(|versions| ClientSpec::new(&world.pki).versions(versions).tickets(&Tickets::new()).build())
}

fn config(backend: &Backend, files: &str) -> ConfigText {
    ConfigText::new(&backend.server).admin().tickets(&format!("secret_files = {files}"))
}

#[test]
fn sessions_outlive_a_restart_and_resume_at_a_host_with_the_same_secret() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    world.write("fleet.secret", &"fleet secret ".repeat(4));
    let config = config(&backend, "[\"fleet.secret\"]");
    let server = world.serve(&config);
    let clients = clients(&world);
    clients.iter().for_each(|client| assert!(!visit(client, &server)));
    drop(server);
    let server = world.serve(&config);
    clients.iter().for_each(|client| assert!(visit(client, &server), "after a restart"));
    let other = config.clone();
    let other = ConfigText { admin: Some("http = \"\"\nsocket = \"other.sock\"".to_owned()), ..other };
    let other = world.serve(&other);
    clients.iter().for_each(|client| assert!(visit(client, &other), "at another host"));
    assert!(!server.process.stderr.text().contains("ticket keys are random"));
    let output = server.ctl(&["tickets", "rotate", "--socket", "admin.sock"]);
    assert!(output.code == Some(1) && output.stderr.contains("secret_files"), "{}", output.text());
}

#[test]
fn a_secret_is_replaced_with_two_files_and_two_reloads_and_no_session_is_lost() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    world.write("old.secret", &"an old secret ".repeat(4));
    world.write("new.secret", &"a new secret, ".repeat(4));
    let server = world.serve(&config(&backend, "[\"old.secret\"]"));
    let clients = clients(&world);
    clients.iter().for_each(|client| assert!(!visit(client, &server)));
    for files in ["[\"new.secret\", \"old.secret\"]", "[\"new.secret\"]"] {
        config(&backend, files).write(world.path());
        server.ctl_done(&["reload"]);
        clients.iter().for_each(|client| assert!(visit(client, &server), "{files}"));
        // Every ticket in hand is of the present first secret then.
        clients.iter().for_each(|client| assert!(visit(client, &server), "{files}"));
    }
    world.write("new.secret", &"somebody else's".repeat(4));
    server.ctl_done(&["reload"]);
    clients.iter().for_each(|client| assert!(!visit(client, &server), "another secret in the same file"));
}

#[test]
fn a_secret_that_is_missing_or_short_refuses_the_start_and_a_reload() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    world.write("good.secret", &"a good secret ".repeat(4));
    let server = world.serve(&config(&backend, "[\"good.secret\"]"));
    world.write("short.secret", &"x".repeat(31));
    for (file, says) in [("short.secret", "31 bytes"), ("missing.secret", "does not exist")] {
        config(&backend, &format!("[\"good.secret\", \"{file}\"]")).write(world.path());
        for subcommand in ["run", "check"] {
            let output = run(command(world.path()).args([subcommand, "-c", "countersign.toml"]));
            assert_eq!(output.code, Some(78), "{subcommand}: {}", output.text());
            assert!(output.text().contains(file) && output.text().contains(says), "{}", output.text());
        }
        let output = server.ctl(&["reload"]);
        assert!(output.code == Some(1) && output.stderr.contains(file), "{}", output.text());
        assert!(!output.stderr.contains("a good secret"), "secrets are not told");
    }
    let clients = clients(&world);
    clients.iter().for_each(|client| assert!(!visit(client, &server)));
    clients.iter().for_each(|client| assert!(visit(client, &server)));
}

#[test]
fn a_server_without_a_secret_says_once_what_a_restart_costs() {
    let world = World::new();
    let (server, _backend) = world.serve_before(echo());
    let told = || server.process.stderr.all().iter().filter(|line| line.contains("ticket keys are random")).count();
    assert!(until(SOON, || told() == 1));
    server.process.signal("HUP");
    server.wait_audit(|line| line["event"] == "reload");
    assert_eq!(told(), 1);
}
