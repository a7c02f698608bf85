//! What a ticket is good for, and everything that it is not good for.

use super::support::*;
use crate::tls::{Declined, Status};
use crate::trust::{Blocked, Reason};
use rustls::client::{Resumption, Tls12Resumption};
use rustls::crypto::aws_lc_rs::cipher_suite;
use rustls::version::{TLS12, TLS13};
use std::sync::Arc;

#[test]
fn a_client_resumes_with_the_identity_of_its_full_handshake() {
    let pki = Pki::new();
    let world = World::new(&pki, &one_site("", REQUIRE));
    for version in VERSIONS {
        let client = Client::new(&pki, version, Some(&pki.client("alice")));
        let first = world.connect(&client, "a.test");
        let second = world.connect(&client, "a.test");
        let (first, second) = (first.open(), second.open());
        assert!(!first.resumed && second.resumed);
        assert_eq!(second.declined, None);
        assert_eq!(first.admission.identity(), second.admission.identity());
        assert_eq!(second.admission.identity().map(|identity| identity.as_str()), Some("cn:alice"));
        assert_eq!(first.admission.digest(), second.admission.digest());
        assert!(first.signature_scheme.is_some() && second.signature_scheme.is_none());
        assert_eq!(second.group.is_some(), version.version == rustls::ProtocolVersion::TLSv1_3);
    }
}

#[test]
fn an_anonymous_client_resumes_as_one() {
    let pki = Pki::new();
    for client_table in [OFF, OPTIONAL, REQUEST] {
        let world = World::new(&pki, &one_site("", client_table));
        for version in VERSIONS {
            let client = Client::new(&pki, version, None);
            world.connect(&client, "a.test").open();
            let outcome = world.connect(&client, "a.test");
            assert!(outcome.open().resumed);
            assert!(outcome.open().admission.identity().is_none());
        }
    }
}

#[test]
fn a_full_handshake_gives_two_tickets_and_a_resumed_one_gives_one() {
    let pki = Pki::new();
    let world = World::new(&pki, &one_site("", REQUIRE));
    let client = Client::new(&pki, &TLS13, Some(&pki.client("alice")));
    assert_eq!(world.connect(&client, "a.test").client.tls13_tickets_received(), 2);
    let outcome = world.connect(&client, "a.test");
    assert!(outcome.open().resumed);
    assert_eq!(outcome.client.tls13_tickets_received(), 1);
}

#[test]
fn a_ticket_of_another_site_listener_or_policy_leads_to_a_full_handshake() {
    let pki = Pki::new();
    let text = listener("l0")
        + &listener("l1")
        + &site_on("l0", "open", "", "", OPTIONAL)
        + &site_on("l1", "closed", "", "", REQUIRE)
        + &site_on("l1", "third", "\"b.test\"", "", OPTIONAL);
    let world = World::new(&pki, &text);
    for version in VERSIONS {
        for with_name in [true, false] {
            let mut client = Client::new(&pki, version, None);
            client.config.enable_sni = with_name;
            world.connect_to(0, &client, "a.test").open();
            let outcome = world.connect_to(1, &client, "a.test");
            assert_eq!(outcome.refused().reason, Reason::NoCert);
            assert_eq!(outcome.refused().our_alert, Some(116));
        }
        let alice = Client::new(&pki, version, Some(&pki.client("alice")));
        world.connect_to(0, &alice, "b.test").open();
        let outcome = world.connect_to(1, &alice, "b.test");
        assert_eq!((outcome.open().resumed, outcome.open().declined), (false, Some(Declined::Epoch)));
    }
}

#[test]
fn a_policy_that_changed_declines_and_a_restart_without_change_does_not() {
    let pki = Pki::new();
    let world = World::new(&pki, &one_site("", REQUIRE));
    for version in VERSIONS {
        let client = Client::new(&pki, version, Some(&pki.client("alice")));
        world.connect(&client, "a.test").open();
        let restarted = World::with_keys(&pki, &one_site("", REQUIRE), world.keys.clone());
        assert!(restarted.connect(&client, "a.test").open().resumed);
        let stricter = format!("{REQUIRE}\nallow = [{{ cn = \"alice\" }}]");
        let stricter = World::with_keys(&pki, &one_site("", &stricter), world.keys.clone());
        let outcome = stricter.connect(&client, "a.test");
        assert_eq!((outcome.open().resumed, outcome.open().declined), (false, Some(Declined::Epoch)));
        let other_keys = World::new(&pki, &one_site("", REQUIRE));
        world.connect(&client, "a.test").open();
        let outcome = other_keys.connect(&client, "a.test");
        assert_eq!((outcome.open().resumed, outcome.open().declined), (false, Some(Declined::UnknownKey)));
    }
}

#[test]
fn a_ticket_for_another_name_of_the_same_site_is_declined() {
    let pki = Pki::new();
    let world = World::new(&pki, &one_site("", REQUIRE));
    for version in VERSIONS {
        let client = Client::new(&pki, version, Some(&pki.client("alice")));
        world.connect(&client, "a.test").open();
        let outcome = world.connect(&client, "b.test");
        assert_eq!((outcome.open().resumed, outcome.open().declined), (false, Some(Declined::Sni)));
    }
}

#[test]
fn renewing_tickets_for_ever_ends_at_max_auth_age() {
    let pki = Pki::new();
    let world = World::new(&pki, &one_site("", REQUIRE));
    for version in VERSIONS {
        let client = Client::new(&pki, version, Some(&pki.client("alice")));
        assert!(!world.connect(&client, "a.test").open().resumed);
        for step in 1..=30 {
            client.clock.advance(HOUR / 2);
            let outcome = world.connect(&client, "a.test");
            // Twelve hours after the full handshakes the client has to show itself again.
            let (full, declined) = (step == 25, (step == 25).then_some(Declined::AuthAge));
            // In TLS 1.2 the client sees by the ticket's lifetime that it is of no use.
            let declined = declined.filter(|_| !outcome.open().resumed && outcome.open().declined.is_some());
            assert_eq!((outcome.open().resumed, outcome.open().declined), (!full, declined), "step {step}");
        }
    }
}

#[test]
fn a_ticket_older_than_its_lifetime_is_not_brought_and_one_from_the_future_is_declined() {
    let pki = Pki::new();
    let world = World::new(&pki, &one_site("", REQUIRE));
    for version in VERSIONS {
        let client = Client::new(&pki, version, Some(&pki.client("alice")));
        world.connect(&client, "a.test").open();
        client.clock.advance(2 * HOUR + 1);
        assert!(!world.connect(&client, "a.test").open().resumed);
        // The server's clock goes back a day; the client's own does not.
        let mut pipe = Pipe::new(world.session(0), &client, "a.test");
        pipe.clock = Client::new(&pki, version, None).clock;
        pipe.clock.set(NOW - DAY / 2);
        let failure = pipe.run().err();
        let outcome = pipe.into_outcome(failure);
        assert_eq!((outcome.open().resumed, outcome.open().declined), (false, Some(Declined::Expired)));
    }
}

#[test]
fn a_server_whose_client_ignores_lifetimes_declines_by_itself() {
    let pki = Pki::new();
    let world = World::new(&pki, &one_site("", REQUIRE));
    for version in VERSIONS {
        let client = Client::new(&pki, version, Some(&pki.client("alice")));
        for (later, why) in [(2 * HOUR + 1, Declined::Expired), (12 * HOUR + 1, Declined::AuthAge)] {
            world.connect(&client, "a.test").open();
            let mut pipe = Pipe::new(world.session(0), &client, "a.test");
            pipe.clock = Client::new(&pki, version, None).clock;
            pipe.clock.set(NOW + later);
            let failure = pipe.run().err();
            let outcome = pipe.into_outcome(failure);
            assert_eq!((outcome.open().resumed, outcome.open().declined), (false, Some(why)));
        }
    }
}

#[test]
fn a_session_ends_with_the_chain_that_it_rests_on() {
    let pki = Pki::new();
    let world = World::new(&pki, &one_site("", REQUIRE));
    for version in VERSIONS {
        let mut params = pki.client_params("alice");
        valid(&mut params, NOW - DAY, NOW + HOUR);
        let alice = pki.sign(&params, rcgen::KeyPair::generate().unwrap());
        let client = Client::new(&pki, version, Some(&alice));
        let outcome = world.connect(&client, "a.test");
        assert_eq!(outcome.open().ends_at, Some(unix(NOW + HOUR)));
        client.clock.advance(HOUR - 60);
        let outcome = world.connect(&client, "a.test");
        assert!(outcome.open().resumed);
        assert_eq!(outcome.open().ends_at, Some(unix(NOW + HOUR)));
        client.clock.advance(61);
        let outcome = world.connect(&client, "a.test");
        assert_eq!((outcome.refused().reason, outcome.refused().our_alert), (Reason::Expired, Some(45)));
    }
}

#[test]
fn a_blocked_client_does_not_resume_and_another_does() {
    let pki = Pki::new();
    for version in VERSIONS {
        let world = World::new(&pki, &one_site("", REQUIRE));
        let alice = Client::new(&pki, version, Some(&pki.client("alice")));
        let bob = Client::new(&pki, version, Some(&pki.client("bob")));
        world.connect(&alice, "a.test").open();
        world.connect(&bob, "a.test").open();
        world.block(Blocked::Identity("cn:alice".to_owned()));
        let outcome = world.connect(&alice, "a.test");
        assert_eq!((outcome.refused().reason, outcome.refused().our_alert), (Reason::IdentityBlocked, Some(49)));
        assert!(world.connect(&bob, "a.test").open().resumed);
    }
}

#[test]
fn a_block_that_comes_before_the_last_byte_of_the_handshake_counts() {
    let pki = Pki::new();
    for version in VERSIONS {
        let world = World::new(&pki, &one_site("", REQUIRE));
        let alice = Client::new(&pki, version, Some(&pki.client("alice")));
        for _full_then_resumed in 0..2 {
            let mut pipe = Pipe::new(world.session(0), &alice, "a.test");
            let mut failure = None;
            while failure.is_none() {
                let mut bytes = Vec::new();
                while pipe.client.wants_write() {
                    pipe.client.write_tls(&mut bytes).unwrap();
                }
                let at = bytes.len().checked_sub(1).expect("was let in");
                let (most, last) = bytes.split_at_mut(at);
                pipe.feed(most).unwrap();
                if pipe.session.site().is_some() {
                    world.block(Blocked::Identity("cn:alice".to_owned()));
                }
                failure = pipe.feed(last).err();
            }
            let failure = failure.unwrap();
            assert_eq!(failure.reason, Reason::IdentityBlocked);
            // Behind our Finished there is no alert to be had. A rustls client of TLS 1.3 sends its certificate and its
            // Finished in one record: there the verifier came to know of the block.
            assert!(matches!(failure.our_alert, None | Some(49)));
            assert!(failure.leaf.is_some() && failure.site.is_some());
            assert!(pipe.session.established().is_none());
            assert!(pipe.plain.is_empty());
            world.environment.blocks.store(Arc::default());
            world.connect(&alice, "a.test").open();
        }
    }
}

#[test]
fn tls_1_2_sessions_are_not_resumed_by_their_id() {
    let pki = Pki::new();
    let world = World::new(&pki, &one_site("", REQUIRE));
    let mut client = Client::new(&pki, &TLS12, Some(&pki.client("alice")));
    client.config.resumption = Resumption::in_memory_sessions(8).tls12_resumption(Tls12Resumption::SessionIdOnly);
    for _ in 0..3 {
        assert!(!world.connect(&client, "a.test").open().resumed);
    }
}

#[test]
fn a_client_that_takes_no_tickets_and_a_site_that_gives_none_do_full_handshakes() {
    let pki = Pki::new();
    for version in VERSIONS {
        let world = World::new(&pki, &one_site("", REQUIRE));
        let mut client = Client::new(&pki, version, Some(&pki.client("alice")));
        client.config.resumption = Resumption::disabled();
        let without = World::new(&pki, &format!("[tickets]\nenabled = false\n{}", one_site("", REQUIRE)));
        let other = Client::new(&pki, version, Some(&pki.client("alice")));
        for _ in 0..2 {
            assert!(!world.connect(&client, "a.test").open().resumed);
            let outcome = without.connect(&other, "a.test");
            assert!(!outcome.open().resumed);
            assert_eq!(outcome.client.tls13_tickets_received(), 0);
        }
    }
}

#[test]
fn a_long_chain_gets_no_ticket_that_would_break_its_client() {
    let pki = Pki::new();
    let world = World::new(&pki, &one_site("", REQUIRE));
    for version in VERSIONS {
        let mut params = pki.client_params("alice");
        params.subject_alt_names = (0..300)
            .map(|i| {
                rcgen::SanType::DnsName(format!("a-rather-long-host-name-{i:05}.alice.example").try_into().unwrap())
            })
            .collect();
        let alice = pki.sign(&params, rcgen::KeyPair::generate().unwrap());
        assert!(alice.der.len() > crate::config::limits::TICKET_BYTES_MAX);
        let client = Client::new(&pki, version, Some(&alice));
        for _ in 0..2 {
            let outcome = world.connect(&client, "a.test");
            assert!(!outcome.open().resumed);
            assert_eq!(outcome.client.tls13_tickets_received(), 0);
        }
    }
}

/// The client brings a ticket that opens, but comes with another suite: rustls does a full handshake, in which it shows
/// no certificate. Nothing of the ticket's client may stick to it.
#[test]
fn a_ticket_that_opened_but_was_not_used_leaves_no_trace() {
    let pki = Pki::new();
    let world = World::new(&pki, &one_site("", OPTIONAL));
    let (mut client, wallet) = Client::with_wallet(&pki, &TLS13);
    wallet.hold_leaf(&pki.client("alice"));
    let anybody = Arc::new(Anybody);
    client.config = with_suite(&client.config, anybody.clone(), cipher_suite::TLS13_AES_128_GCM_SHA256);
    world.connect(&client, "a.test").open();
    wallet.empty();
    client.config = with_suite(&client.config, anybody, cipher_suite::TLS13_CHACHA20_POLY1305_SHA256);
    let outcome = world.connect(&client, "a.test");
    assert_eq!((outcome.open().resumed, outcome.open().cipher), (false, "TLS_CHACHA20_POLY1305_SHA256"));
    assert!(outcome.open().admission.identity().is_none());
    let outcome = world.connect(&client, "a.test");
    assert!(outcome.open().resumed);
    assert!(outcome.open().admission.identity().is_none());
}

#[test]
fn a_full_handshake_counts_anew_whatever_ticket_was_opened_before_it() {
    let pki = Pki::new();
    let world = World::new(&pki, &one_site("", REQUIRE));
    let (mut client, wallet) = Client::with_wallet(&pki, &TLS13);
    wallet.hold_leaf(&pki.client("alice"));
    let anybody = Arc::new(Anybody);
    client.config = with_suite(&client.config, anybody.clone(), cipher_suite::TLS13_AES_128_GCM_SHA256);
    world.connect(&client, "a.test").open();
    client.clock.advance(HOUR);
    client.config = with_suite(&client.config, anybody, cipher_suite::TLS13_CHACHA20_POLY1305_SHA256);
    assert!(!world.connect(&client, "a.test").open().resumed);
    for hour in 1..=12 {
        client.clock.advance(HOUR);
        assert!(world.connect(&client, "a.test").open().resumed, "{hour} hours after it");
    }
    client.clock.advance(1);
    assert!(!world.connect(&client, "a.test").open().resumed);
}

/// The same client (store, verifier, certificates) with one suite.
fn with_suite(
    from: &rustls::ClientConfig,
    verifier: Arc<Anybody>,
    suite: rustls::SupportedCipherSuite,
) -> rustls::ClientConfig {
    let provider =
        rustls::crypto::CryptoProvider { cipher_suites: vec![suite], ..rustls::crypto::aws_lc_rs::default_provider() };
    let mut config = rustls::ClientConfig::builder_with_details(Arc::new(provider), from.time_provider.clone())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(from.client_auth_cert_resolver.clone());
    config.resumption = from.resumption.clone();
    config
}

#[test]
fn a_resumed_connection_carries_data_and_can_be_resumed_from_byte_by_byte() {
    let pki = Pki::new();
    let world = World::new(&pki, &one_site("", REQUIRE));
    for version in VERSIONS {
        let client = Client::new(&pki, version, Some(&pki.client("alice")));
        world.connect(&client, "a.test").open();
        for _ in 0..3 {
            let mut pipe = Pipe::new(world.session(0), &client, "a.test");
            pipe.chunk = 1;
            pipe.run().unwrap();
            pipe.say(b"hello").unwrap();
            pipe.answer(b"world");
            assert_eq!((&pipe.plain[..], &pipe.received[..]), (&b"hello"[..], &b"world"[..]));
            assert!(pipe.session.established().is_some_and(|established| established.resumed));
            assert_eq!(pipe.status, Status::Open);
        }
    }
}
