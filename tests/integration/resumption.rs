//! Sessions resume on whatever worker takes the connection, as the same identity; never at another site, and never past
//! their end.

use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::{Client, ClientSpec, TLS12, TLS13, Tickets};
use crate::world::config::{BackendText, ConfigText, ListenerText, SiteText};
use crate::world::pki::{CLIENT_IDENTITY, Ca, KeyKind, LeafSpec, SERVER_NAME};
use crate::world::server::Server;
use crate::world::wait::{SOON, until};
use rustls::ClientConfig;
use rustls::client::Tls12Resumption;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use time::OffsetDateTime;

const BOTH: [&[&rustls::SupportedProtocolVersion]; 2] = [TLS12, TLS13];

/// One connection through the echo; whether it was resumed.
fn visit(config: &Arc<ClientConfig>, name: &str, address: SocketAddr) -> (bool, SocketAddr) {
    let mut client = Client::connect(config, name, address);
    client.echo(b"ping").unwrap();
    client.close_notify();
    client.read_to_end();
    (client.resumed(), client.address)
}

fn keeping_tickets(
    world: &World,
    versions: &'static [&'static rustls::SupportedProtocolVersion],
) -> (Arc<ClientConfig>, Arc<Tickets>) {
    let tickets = Tickets::new();
    (ClientSpec::new(&world.pki).versions(versions).tickets(&tickets).build(), tickets)
}

#[test]
fn a_session_resumes_on_any_worker_as_the_same_identity() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&ConfigText::new(&backend.server));
    for versions in BOTH {
        let (config, _) = keeping_tickets(&world, versions);
        assert!(!visit(&config, SERVER_NAME, server.address()).0, "the first one is a full handshake");
        // Each connection has a source port of its own, and so the kernel spreads them over all workers.
        for round in 0..30 {
            let (resumed, address) = visit(&config, SERVER_NAME, server.address());
            assert!(resumed, "round {round} of {versions:?}");
            let line = server.audit_of(address, "accepted");
            assert_eq!((&line["identity"], &line["tls"]["resumed"]), (&CLIENT_IDENTITY.into(), &true.into()), "{line}");
            assert_eq!(line["cert"]["sha256"], world.pki.client.sha256(), "{line}");
            assert_eq!(line["cert"]["proven"], true, "{line}");
        }
    }
    assert_eq!(server.stop(), 0);
}

/// Two sites on two listeners, one of which asks for no certificate.
fn two_listeners(backend: &str) -> ConfigText {
    let mut config = ConfigText::new(backend);
    config.listeners.push(ListenerText::new("open"));
    config.sites[0] = SiteText::new("ledger").add("name = \"strict\"\nlistener = \"public\"");
    let mut open = SiteText::new("other").add("name = \"open\"\nlistener = \"open\"");
    open.client = "auth = \"off\"".to_owned();
    config.sites.push(open);
    config.backends.push(BackendText::new("other", &[backend]));
    config
}

#[test]
fn a_ticket_of_a_site_without_certificates_does_not_open_one_that_demands_them() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&two_listeners(&backend.server));
    for versions in BOTH {
        let config = ClientSpec::anonymous(&world.pki).versions(versions).tickets(&Tickets::new()).build();
        assert!(!visit(&config, SERVER_NAME, server.listener("open")).0);
        assert!(visit(&config, SERVER_NAME, server.listener("open")).0, "it resumes where it came from");
        let connections = backend.connections();
        let mut client = Client::connect(&config, SERVER_NAME, server.listener("public"));
        let refused = client.echo(b"ping");
        assert!(refused.is_err(), "a session without a certificate opened the strict site in {versions:?}");
        assert_eq!(server.audit_of(client.address, "refused")["reason"], "no_cert");
        assert_eq!(backend.connections(), connections);
    }
}

#[test]
fn a_ticket_of_a_listener_that_trusts_others_does_not_open_this_one() {
    let world = World::new();
    let others = Ca::root("Other clients' CA");
    world.write("other-ca.pem", &others.pem);
    let guest = others.leaf(&LeafSpec::client("guest"));
    let backend = Backend::tcp(echo());
    let mut config = two_listeners(&backend.server);
    config.sites[1].client = "trust = [\"other-ca.pem\"]".to_owned();
    let server = world.serve(&config);
    for versions in BOTH {
        let config = ClientSpec::with(&world.pki, &guest).versions(versions).tickets(&Tickets::new()).build();
        visit(&config, SERVER_NAME, server.listener("open"));
        assert!(visit(&config, SERVER_NAME, server.listener("open")).0, "it resumes where it came from");
        let connections = backend.connections();
        let mut client = Client::connect(&config, SERVER_NAME, server.listener("public"));
        assert!(client.echo(b"ping").is_err(), "a guest elsewhere came in here in {versions:?}");
        drop(client.tcp);
        assert_eq!(server.audit_of(client.address, "refused")["reason"], "unknown_issuer");
        assert_eq!(backend.connections(), connections);
    }
}

#[test]
fn a_full_handshake_gives_two_tickets_and_a_resumption_one() {
    let world = World::new();
    let (server, _backend) = world.serve_before(echo());
    let (config, tickets) = keeping_tickets(&world, TLS13);
    visit(&config, SERVER_NAME, server.address());
    assert_eq!(tickets.count(), 2);
    assert!(visit(&config, SERVER_NAME, server.address()).0);
    assert_eq!(tickets.count(), 2, "one used, one given");
}

#[test]
fn a_ticket_of_another_site_is_a_full_handshake() {
    let world = World::new();
    let names = LeafSpec::server(&["a.example", "b.example"], KeyKind::Ecdsa);
    world.pki.server_ca.leaf(&names).write(world.path(), "server");
    let backend = Backend::tcp(echo());
    let mut config = ConfigText::new(&backend.server);
    config.sites =
        ["a.example", "b.example"].map(|name| SiteText::new("ledger").add(&format!("names = [\"{name}\"]"))).to_vec();
    let server = world.serve(&config);
    for versions in BOTH {
        let (config, tickets) = keeping_tickets(&world, versions);
        visit(&config, "a.example", server.address());
        assert!(visit(&config, "a.example", server.address()).0);
        assert!(!visit(&config, "b.example", server.address()).0, "{versions:?}");
        tickets.keep_newest();
        assert!(visit(&config, "b.example", server.address()).0, "and from then on its own tickets work");
    }
}

#[test]
fn a_ticket_is_no_good_after_a_restart_with_random_keys() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&ConfigText::new(&backend.server));
    for versions in BOTH {
        let (config, _) = keeping_tickets(&world, versions);
        visit(&config, SERVER_NAME, server.address());
        let second = world.serve(&ConfigText::new(&backend.server));
        assert!(!visit(&config, SERVER_NAME, second.address()).0);
        assert_eq!(second.stop(), 0);
    }
}

#[test]
fn hosts_with_the_same_secret_resume_each_others_sessions() {
    let world = World::new();
    world.write("fleet.secret", &"s3cret! ".repeat(8));
    let backend = Backend::tcp(echo());
    let config = ConfigText::new(&backend.server).tickets("secret_files = [\"fleet.secret\"]");
    if !world.supports(&config) {
        return;
    }
    let (one, two) = (world.serve(&config), world.serve(&config));
    for versions in BOTH {
        let (client, _) = keeping_tickets(&world, versions);
        visit(&client, SERVER_NAME, one.address());
        let (resumed, address) = visit(&client, SERVER_NAME, two.address());
        assert!(resumed, "{versions:?}");
        assert_eq!(two.audit_of(address, "accepted")["identity"], CLIENT_IDENTITY);
    }
    // A host whose rules differ does not take them.
    let stricter = world.serve(&config.client("deny = [{ cn = \"nobody\" }]"));
    for versions in BOTH {
        let (client, _) = keeping_tickets(&world, versions);
        visit(&client, SERVER_NAME, one.address());
        assert!(!visit(&client, SERVER_NAME, stricter.address()).0, "{versions:?}");
    }
}

/// Comes back again and again, each time with the newest ticket, until the server asks for a full handshake: how long
/// that took since the first one.
fn lasts(server: &Server, config: &Arc<ClientConfig>, tickets: &Tickets) -> Duration {
    let start = Instant::now();
    assert!(!visit(config, SERVER_NAME, server.address()).0);
    assert!(visit(config, SERVER_NAME, server.address()).0, "it must resume at first");
    let ended = until(SOON, || {
        tickets.keep_newest();
        !visit(config, SERVER_NAME, server.address()).0
    });
    assert!(ended, "renewed for ever");
    start.elapsed()
}

#[test]
fn renewals_do_not_carry_a_session_past_max_auth_age() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&ConfigText::new(&backend.server).tickets("max_auth_age = \"3s\""));
    for versions in BOTH {
        let (config, tickets) = keeping_tickets(&world, versions);
        let lasted = lasts(&server, &config, &tickets);
        assert!((2..8).contains(&lasted.as_secs()), "{versions:?}: {lasted:?}");
    }
}

/// The last audit line of a connection: in the last second of its certificate it may still be let in, and be ended at
/// once.
fn outcome(server: &Server, client: SocketAddr) -> serde_json::Value {
    let client = client.to_string();
    server.wait_audit(|line| line["client"] == client.as_str() && line["event"] != "accepted")
}

#[test]
fn renewals_do_not_carry_a_session_past_its_certificate() {
    let world = World::new();
    let (server, _backend) = world.serve_before(echo());
    for versions in BOTH {
        let now = OffsetDateTime::now_utc();
        let spec = LeafSpec::client("short").valid(now - time::Duration::hours(1), now + time::Duration::seconds(4));
        let short = world.pki.client_ca.leaf(&spec);
        let tickets = Tickets::new();
        let config = ClientSpec::with(&world.pki, &short).versions(versions).tickets(&tickets).build();
        let start = Instant::now();
        visit(&config, SERVER_NAME, server.address());
        assert!(visit(&config, SERVER_NAME, server.address()).0, "it must resume at first");
        let expired = until(SOON, || {
            tickets.keep_newest();
            let mut client = Client::connect(&config, SERVER_NAME, server.address());
            client.echo(b"ping").is_err() && outcome(&server, client.address)["reason"] == "expired"
        });
        assert!(expired && start.elapsed() < Duration::from_secs(10), "{versions:?}: let in {:?}", start.elapsed());
    }
}

#[test]
fn a_ticket_older_than_its_lifetime_is_a_full_handshake() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&ConfigText::new(&backend.server).tickets("lifetime = \"2s\"\nrotate = \"1s\""));
    // In TLS 1.3 the client itself drops tickets that are too old by the server's own word; in 1.2 the server decides.
    let (config, _) = keeping_tickets(&world, TLS12);
    visit(&config, SERVER_NAME, server.address());
    let spare = {
        // A connection that is refused a new ticket would not show it: the same ticket is used again after its time.
        let (config, tickets) = keeping_tickets(&world, TLS13);
        visit(&config, SERVER_NAME, server.address());
        assert!(tickets.count() > 0, "no ticket was given");
        config
    };
    let start = Instant::now();
    assert!(until(SOON, || start.elapsed() > Duration::from_millis(3500)));
    assert!(!visit(&config, SERVER_NAME, server.address()).0, "TLS 1.2");
    assert!(!visit(&spare, SERVER_NAME, server.address()).0, "TLS 1.3");
}

#[test]
fn tickets_switched_off_means_no_tickets_and_full_handshakes() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&ConfigText::new(&backend.server).tickets("enabled = false"));
    for versions in BOTH {
        let (config, tickets) = keeping_tickets(&world, versions);
        for _ in 0..3 {
            assert!(!visit(&config, SERVER_NAME, server.address()).0);
            assert_eq!(tickets.count(), 0);
        }
    }
}

#[test]
fn a_client_that_knows_session_ids_alone_does_full_handshakes() {
    let world = World::new();
    let (server, _backend) = world.serve_before(echo());
    let mut spec = ClientSpec::new(&world.pki).versions(TLS12).tickets(&Tickets::new());
    spec.tls12_resumption = Tls12Resumption::SessionIdOnly;
    let config = spec.build();
    for _ in 0..5 {
        assert!(!visit(&config, SERVER_NAME, server.address()).0);
    }
}

#[test]
fn an_anonymous_session_resumes_as_anonymous() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&ConfigText::new(&backend.server).client("auth = \"optional\""));
    for versions in BOTH {
        let config = ClientSpec::anonymous(&world.pki).versions(versions).tickets(&Tickets::new()).build();
        visit(&config, SERVER_NAME, server.address());
        let (resumed, address) = visit(&config, SERVER_NAME, server.address());
        assert!(resumed, "{versions:?}");
        let line = server.audit_of(address, "accepted");
        assert!(line["identity"].is_null() && line["cert"].is_null(), "{line}");
    }
}

#[test]
fn openssl_resumes_too() {
    use crate::world::peers::s_client;
    let world = World::new();
    let script = Arc::new(|mut conversation: crate::world::backend::Conversation| {
        conversation.read();
        conversation.send(b"hello!");
        conversation.finish();
        conversation.drain();
    });
    let (server, _backend) = world.serve_before(script);
    for version in ["-tls1_2", "-tls1_3"] {
        let client = [version, "-cert", "client.pem", "-key", "client.key"];
        let first =
            s_client(world.path(), server.address(), &[&client[..], &["-sess_out", "session"]].concat(), b"x\n");
        assert!(first.stdout.contains("hello!"), "{}", first.text());
        let second =
            s_client(world.path(), server.address(), &[&client[..], &["-sess_in", "session"]].concat(), b"x\n");
        assert!(second.stdout.contains("Reused, TLSv1"), "{version}: {}", second.text());
        assert!(second.stdout.contains("hello!"), "{}", second.text());
    }
}
