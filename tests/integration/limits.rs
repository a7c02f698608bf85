//! Limits per identity and per source: they count only whom they should, and let the rest in.

use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::{Client, ClientSpec, TLS12, TLS13, Tickets};
use crate::world::config::ConfigText;
use crate::world::pki::{LeafSpec, SERVER_NAME, self_signed};
use crate::world::wait::{SOON, until};

#[test]
fn an_identity_has_no_more_connections_than_it_may() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let config = ConfigText::new(&backend.server).limits("connections_per_identity = 3");
    if !world.supports(&config) {
        return;
    }
    let server = world.serve(&config);
    for versions in [TLS12, TLS13] {
        let spec = ClientSpec::new(&world.pki).versions(versions);
        let mut held: Vec<Client> = (0..3).map(|_| spec.connect(server.address())).collect();
        for client in &mut held {
            client.echo(b"one of three").unwrap();
        }
        // Whoever holds the certificate but not its key does not count against its owner, and neither do others.
        let mut stolen = world.pki.client.clone();
        stolen.key = self_signed(&LeafSpec::client("thief")).key;
        assert!(ClientSpec::with(&world.pki, &stolen).connect(server.address()).echo(b"x").is_err());
        let mut fourth = spec.connect(server.address());
        assert!(fourth.echo(b"x").is_err(), "a fourth connection of {versions:?}");
        let line =
            server.wait_audit(|line| line["client"] == fourth.address.to_string() && line["decision"] == "refuse");
        assert_eq!(line["reason"], "rate_limited", "{line}");
        let other = world.pki.client_ca.leaf(&LeafSpec::client("other"));
        ClientSpec::with(&world.pki, &other).connect(server.address()).echo(b"x").unwrap();
        drop(held);
        assert!(until(SOON, || spec.connect(server.address()).echo(b"room again").is_ok()));
        assert!(until(SOON, || backend.seen(backend.connections() - 1).end.is_some()));
    }
}

#[test]
fn a_source_has_no_more_full_handshakes_a_second_than_it_may_but_resumes_freely() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let config = ConfigText::new(&backend.server).limits("full_handshakes_per_second_per_source = 5");
    if !world.supports(&config) {
        return;
    }
    let server = world.serve(&config);
    let client = ClientSpec::new(&world.pki).tickets(&Tickets::new()).build();
    let first = Client::connect(&client, SERVER_NAME, server.address()).echo(b"x");
    assert_eq!(first, Ok(()));
    let refused = (0..40).filter(|_| ClientSpec::new(&world.pki).connect(server.address()).echo(b"x").is_err()).count();
    assert!(refused > 10, "only {refused} of 40 were refused");
    let line = server.wait_audit(|line| line["event"] == "refused");
    assert_eq!(line["reason"], "rate_limited", "{line}");
    let mut resumed = Client::connect(&client, SERVER_NAME, server.address());
    resumed.echo(b"x").unwrap();
    assert!(resumed.resumed());
}

#[test]
fn silent_clients_may_hold_the_handshakes_up_until_their_deadline_and_no_longer() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let limits = "handshakes_in_flight = 2\nhandshake_timeout = \"1s\"";
    let server = world.serve(&ConfigText::new(&backend.server).limits(limits));
    let spec = ClientSpec::new(&world.pki);
    let mut open = spec.connect(server.address());
    open.echo(b"before").unwrap();
    let silent: Vec<_> = (0..6).map(|_| std::net::TcpStream::connect(server.address()).unwrap()).collect();
    let mut waits = spec.connect(server.address());
    open.echo(b"open connections do not notice").unwrap();
    waits.echo(b"its turn comes").unwrap();
    drop(silent);
}
