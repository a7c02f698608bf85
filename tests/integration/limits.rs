//! Limits per identity and per source: they count only whom they should, and let the rest in.

use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::{Client, ClientSpec, Ending, TLS12, TLS13, Tickets};
use crate::world::config::ConfigText;
use crate::world::pki::{CLIENT_IDENTITY, LeafSpec, SERVER_NAME, self_signed};
use crate::world::wait::{SOON, until};

#[test]
fn an_identity_has_no_more_connections_than_it_may() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let config = ConfigText::new(&backend.server).limits("connections_per_identity = 3").admin();
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
        assert_eq!(fourth.refusal(), Ending::Alert(49), "a fourth connection of {versions:?}");
        let line =
            server.wait_audit(|line| line["client"] == fourth.address.to_string() && line["decision"] == "refuse");
        assert_eq!((&line["event"], &line["reason"]), (&"refused".into(), &"rate_limited".into()), "{line}");
        assert_eq!((&line["our_alert"], &line["cert"]["proven"]), (&49.into(), &true.into()), "{line}");
        let other = world.pki.client_ca.leaf(&LeafSpec::client("other"));
        ClientSpec::with(&world.pki, &other).connect(server.address()).echo(b"x").unwrap();
        drop(held);
        assert!(until(SOON, || spec.connect(server.address()).echo(b"room again").is_ok()));
        assert!(until(SOON, || backend.seen(backend.connections() - 1).end.is_some()));
    }
    assert_eq!(server.metric("countersign_identity_limited_total{limit=\"connections_per_identity\"}"), 2.0);
}

#[test]
fn a_resumed_session_counts_for_its_identity_as_a_full_one_does() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&ConfigText::new(&backend.server).limits("connections_per_identity = 1"));
    for versions in [TLS12, TLS13] {
        let spec = ClientSpec::new(&world.pki).versions(versions).tickets(&Tickets::new());
        let config = spec.build();
        let connect = || Client::connect(&config, SERVER_NAME, server.address());
        connect().echo(b"a ticket").unwrap();
        let mut held = None;
        assert!(until(SOON, || {
            let mut client = connect();
            let admitted = client.echo(b"resumed").is_ok();
            held = Some(client).filter(|_| admitted);
            held.is_some()
        }));
        assert!(held.as_ref().unwrap().resumed());
        let mut second = connect();
        assert_eq!(second.refusal(), Ending::Alert(49), "{versions:?}");
        let line = server.audit_of(second.address, "refused");
        assert_eq!(line["reason"], "rate_limited", "{line}");
        assert_eq!(line["cert"]["subject"], "CN=acme-payments", "{line}");
        assert_eq!(line["identity"], CLIENT_IDENTITY, "{line}");
        held.unwrap().close_notify();
        assert!(until(SOON, || connect().echo(b"room again").is_ok()));
    }
}

#[test]
fn a_source_has_no_more_full_handshakes_a_second_than_it_may_but_resumes_freely() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let config = ConfigText::new(&backend.server).limits("full_handshakes_per_second_per_source = 5").admin();
    let server = world.serve(&config);
    let client = ClientSpec::new(&world.pki).tickets(&Tickets::new()).build();
    let first = Client::connect(&client, SERVER_NAME, server.address()).echo(b"x");
    assert_eq!(first, Ok(()));
    let endings = (0..40).filter_map(|_| ClientSpec::new(&world.pki).connect(server.address()).echo(b"x").err());
    let refused = endings.inspect(|ending| assert_eq!(*ending, Ending::Alert(49))).count();
    assert!(refused > 10, "only {refused} of 40 were refused");
    let limited = server.metric("countersign_identity_limited_total{limit=\"full_handshakes_per_second_per_source\"}");
    assert_eq!(limited, refused as f64);
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
