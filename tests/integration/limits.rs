//! Limits per identity and per source: they count only whom they should, and let the rest in.

use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::{Client, ClientSpec, Ending, TLS12, TLS13, Tickets};
use crate::world::config::ConfigText;
use crate::world::pki::{CLIENT_IDENTITY, Credential, LeafSpec, SERVER_NAME, self_signed};
use crate::world::server::Server;
use crate::world::wait::{SOON, until};
use rustls::SupportedProtocolVersion;
use std::io::Write;
use std::net::SocketAddr;

type Versions = &'static [&'static SupportedProtocolVersion];

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

/// A client that is past a limit.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Past {
    /// Shows so many certificates that its chain does not need.
    Superfluous(usize),
    /// Its certificate's issuer is no anchor, but one below.
    Deep,
    /// Another connection of the same identity is open.
    SecondOfItsIdentity,
    /// One of many from its source.
    OneOfMany,
    /// Never ends its ClientHello.
    Unfinished,
}

/// The lines of `[listener.limits]` and `[site.client]`, who is past them, the alert that it gets, the reason, and the site
/// that the metric names: none is known where the name never came.
type Row = (&'static str, &'static str, Past, Option<u8>, &'static str, &'static str);

#[rustfmt::skip]
const ROWS: [Row; 6] = [
    ("client_chain_bytes = \"1KiB\"", "", Past::Superfluous(3), Some(46), "chain_too_big", "payments"),
    ("client_chain_certificates = 3", "", Past::Superfluous(3), Some(46), "chain_too_big", "payments"),
    ("", "max_depth = 0", Past::Deep, Some(46), "chain_too_deep", "payments"),
    ("connections_per_identity = 1", "", Past::SecondOfItsIdentity, Some(49), "rate_limited", "payments"),
    ("full_handshakes_per_second_per_source = 1", "", Past::OneOfMany, Some(49), "rate_limited", "payments"),
    ("handshake_timeout = \"500ms\"", "", Past::Unfinished, None, "timeout", ""),
];

impl Past {
    /// Comes, and holds that it is refused so; whose refusal it was.
    fn come(self, world: &World, server: &Server, versions: Versions, alert: Option<u8>) -> SocketAddr {
        let refused = |credential: &Credential| {
            let mut client = ClientSpec::with(&world.pki, credential).versions(versions).connect(server.address());
            (client.refusal(), client.address)
        };
        let known = &world.pki.client;
        let (ending, address) = match self {
            Past::Superfluous(count) => {
                let others = (0..count).map(|n| world.pki.client_ca.leaf(&LeafSpec::client(&format!("other {n}"))));
                let others: Vec<_> = others.map(|mut other| other.chain.swap_remove(0)).collect();
                refused(&known.with_rest(&others.iter().collect::<Vec<_>>()))
            }
            Past::Deep => {
                let lower = world.pki.client_ca.intermediate("Lower");
                refused(&lower.leaf(&LeafSpec::client("deep")).with_rest(&[&lower.der]))
            }
            Past::SecondOfItsIdentity => {
                let mut first = ClientSpec::with(&world.pki, known).connect(server.address());
                // The one of the row before has perhaps not been seen to leave yet.
                let first_is_in = until(SOON, || {
                    first = ClientSpec::with(&world.pki, known).connect(server.address());
                    first.echo(b"first").is_ok()
                });
                assert!(first_is_in);
                refused(known)
            }
            Past::OneOfMany => {
                // On a slow machine more than a second may pass between two.
                let mut many = (0..1000).map(|_| ClientSpec::with(&world.pki, known).versions(versions));
                let refused = many.find_map(|spec| {
                    let mut client = spec.connect(server.address());
                    client.echo(b"x").err().map(|ending| (ending, client.address))
                });
                refused.expect("nobody of them was refused")
            }
            Past::Unfinished => {
                let mut client = ClientSpec::with(&world.pki, known).versions(versions).connect(server.address());
                let mut hello = Vec::new();
                client.tls.write_tls(&mut hello).unwrap();
                client.tcp.write_all(&hello[..40]).unwrap();
                (client.read_to_end().1, client.address)
            }
        };
        match alert {
            Some(alert) => assert_eq!(ending, Ending::Alert(alert), "{self:?} {versions:?}"),
            None => assert!(!matches!(ending, Ending::Silence | Ending::CloseNotify), "{self:?}: {ending:?}"),
        }
        address
    }
}

#[test]
fn each_limit_refuses_with_its_alert_is_counted_by_reason_and_told_in_the_audit() {
    for (limits, client, past, alert, reason, site) in ROWS {
        let world = World::new();
        let backend = Backend::tcp(echo());
        let server = world.serve(&ConfigText::new(&backend.server).limits(limits).client(client).admin());
        let key = if limits.is_empty() { client } else { limits }.split(' ').next().unwrap();
        let series =
            format!("countersign_handshake_failures_total{{listener=\"public\",site=\"{site}\",reason=\"{reason}\"}}");
        for versions in [TLS12, TLS13] {
            let before = server.metric(&series);
            let address = past.come(&world, &server, versions, alert);
            let line = server.audit_of(address, "refused");
            assert_eq!((line["reason"].as_str(), line["decision"].as_str()), (Some(reason), Some("refuse")), "{line}");
            assert_eq!(line["our_alert"].as_u64(), alert.map(u64::from), "{line}");
            assert!(line["reason_detail"].as_str().unwrap().contains(key), "the detail names {key}: {line}");
            let own = |line: &&serde_json::Value| line["event"] == "refused" && line["reason"] == reason;
            let counted = until(SOON, || server.metric(&series) == server.audit().iter().filter(own).count() as f64);
            assert!(counted && server.metric(&series) > before, "{key} {versions:?}: {}", server.metric(&series));
        }
    }
}
