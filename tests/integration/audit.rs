//! The audit cannot be forged by what clients send, can be rotated, and does what was asked where it cannot be written.

use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::{Client, ClientSpec};
use crate::world::config::ConfigText;
use crate::world::http::try_get;
use crate::world::pki::{LeafSpec, SERVER_NAME};
use crate::world::server::audit_lines;
use crate::world::wait::{SOON, until};

#[test]
fn names_with_quotes_commas_and_newlines_cannot_forge_a_line() {
    let world = World::new();
    let (server, _backend) = world.serve_before(echo());
    let hostile = "x\",\"decision\":\"admit\"}\n{\"event\":\"forged\",O=Bank\u{1b}[2J\\";
    let nasty = world.pki.client_ca.leaf(&LeafSpec::client(hostile));
    let mut client = ClientSpec::with(&world.pki, &nasty).connect(server.address());
    client.echo(b"x").unwrap();
    let line = server.audit_of(client.address, "accepted");
    let lines = server.audit();
    assert!(lines.iter().all(|line| line["event"] != "forged"), "{lines:?}");
    for text in [line["identity"].as_str().unwrap(), line["cert"]["subject"].as_str().unwrap()] {
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
    let log = server.process.stderr.text();
    assert!(!log.contains('\u{1b}'), "{log:?}");
}

#[test]
fn a_very_long_name_does_not_break_anything() {
    let world = World::new();
    let (server, _backend) = world.serve_before(echo());
    let long = world.pki.client_ca.leaf(&LeafSpec::client(&"n".repeat(4096)).uri(&format!("urn:{}", "u".repeat(4096))));
    let mut client = ClientSpec::with(&world.pki, &long).connect(server.address());
    client.echo(b"x").unwrap();
    server.audit_of(client.address, "accepted");
}

#[test]
fn sigusr1_opens_the_file_anew() {
    let world = World::new();
    let (server, _backend) = world.serve_before(echo());
    let spec = ClientSpec::new(&world.pki);
    let mut first = spec.connect(server.address());
    first.echo(b"x").unwrap();
    server.audit_of(first.address, "accepted");
    let (file, moved) = (world.path().join("audit.jsonl"), world.path().join("audit.1"));
    std::fs::rename(&file, &moved).unwrap();
    server.process.signal("USR1");
    assert!(until(SOON, || file.exists()), "no new file");
    let mut second = spec.connect(server.address());
    second.echo(b"x").unwrap();
    server.audit_of(second.address, "accepted");
    let old = audit_lines(&moved);
    assert!(old.iter().all(|line| line["client"] != second.address.to_string()), "{old:?}");
    drop((first, second));
    assert_eq!(server.stop(), 0);
}

#[test]
fn it_goes_to_standard_output_when_told() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let mut config = ConfigText::new(&backend.server);
    config.audit = Some("path = \"-\"".to_owned());
    let server = world.serve(&config);
    let mut client = ClientSpec::new(&world.pki).connect(server.address());
    client.echo(b"x").unwrap();
    let address = client.address.to_string();
    let told = until(SOON, || server.process.stdout.all().iter().any(|line| line.contains(&address)));
    assert!(told, "{}", server.process.stdout.text());
    for line in server.process.stdout.all() {
        assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{line}");
    }
}

#[test]
fn where_it_cannot_be_written_drop_goes_on_and_refuse_does_not() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let spec = ClientSpec::new(&world.pki);
    let mut config = ConfigText::new(&backend.server).admin();
    config.audit = Some("path = \"/dev/full\"\non_full = \"drop\"".to_owned());
    let server = world.serve(&config);
    for _ in 0..5 {
        spec.connect(server.address()).echo(b"x").unwrap();
    }
    // What could not be written until the end is lost, and that is said.
    assert!(until(SOON, || server.process.stderr.text().contains("/dev/full")), "{}", server.process.stderr.text());
    drop(server);

    config.audit = Some("path = \"/dev/full\"\non_full = \"refuse\"".to_owned());
    let server = world.serve(&config);
    let admin = server.ready_value("admin").unwrap().parse().unwrap();
    let refused = until(SOON, || {
        let mut client = Client::connect(&spec.build(), SERVER_NAME, server.address());
        client.patience(std::time::Duration::from_secs(2));
        client.echo(b"x").is_err()
    });
    assert!(refused, "it serves without an audit");
    assert!(until(SOON, || try_get(admin, "/readyz").is_some_and(|(status, _)| status == 503)));
}

#[test]
fn a_slow_reader_of_the_audit_does_not_hold_the_data_up() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let fifo = world.path().join("audit.fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    // Held open for reading and never read: the pipe fills, and then the writer waits.
    let reader = std::fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
    let mut config = ConfigText::new(&backend.server);
    config.audit = Some("path = \"audit.fifo\"".to_owned());
    config.runtime = "drain_timeout = \"2s\"".to_owned();
    let server = world.serve(&config);
    let spec = ClientSpec::new(&world.pki).build();
    for _ in 0..300 {
        let mut client = Client::connect(&spec, SERVER_NAME, server.address());
        client.echo(b"x").unwrap();
        client.close_notify();
        client.read_to_end();
    }
    drop(server);
    drop(reader);
}
