//! Names to sites, and what is said to those who come with none of them, or without TLS.

use super::support::*;
use crate::config::limits;
use crate::tls::Status;
use crate::trust::Reason;
use rustls::version::TLS13;
use std::sync::Arc;

/// The bytes of a ClientHello.
fn hello(client: &Client, name: &str) -> Vec<u8> {
    let mut connection = client.connection(name);
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

/// The same handshake bytes in records of so many.
fn fragmented(hello: &[u8], size: usize) -> Vec<u8> {
    let record = |part: &[u8]| [&[22, 3, 1, 0, part.len() as u8], part].concat();
    hello[5..].chunks(size).flat_map(record).collect()
}

#[test]
fn a_name_finds_the_exact_site_before_the_wildcard_and_the_wildcard_before_the_catch_all() {
    let pki = Pki::new();
    let text = sites(&[("\"a.wild.test\"", "", OFF), ("\"*.wild.test\"", "", OFF), ("", "", OFF)]);
    let world = World::new(&pki, &text);
    let found = |name: Option<&str>| world.tables[0].select(name).map(|site| site.name().to_string());
    assert_eq!(found(Some("a.wild.test")).as_deref(), Some("s0"));
    assert_eq!(found(Some("A.Wild.TEST.")).as_deref(), Some("s0"));
    assert_eq!(found(Some("b.wild.test")).as_deref(), Some("s1"));
    assert_eq!(found(Some("c.b.wild.test")).as_deref(), Some("s2"), "a wildcard is one label");
    assert_eq!(found(Some("wild.test")).as_deref(), Some("s2"));
    assert_eq!(found(Some(".wild.test")).as_deref(), Some("s2"));
    assert_eq!(found(None).as_deref(), Some("s2"));
}

#[test]
fn without_a_catch_all_an_unknown_name_and_no_name_get_unrecognized_name() {
    let pki = Pki::new();
    let world = World::new(&pki, &sites(&[("\"a.test\"", "", OFF)]));
    let mut client = Client::new(&pki, &TLS13, None);
    assert_eq!(world.connect(&client, "a.test").open().site.name().as_ref(), "s0");
    for name in ["b.test", "a.a.test"] {
        let outcome = world.connect(&client, name);
        let failure = outcome.refused();
        assert_eq!((failure.reason, failure.our_alert), (Reason::SniUnknown, Some(112)));
        assert_eq!(failure.sni.as_deref(), Some(name));
    }
    client.config.enable_sni = false;
    let outcome = world.connect(&client, "a.test");
    assert_eq!((outcome.refused().reason, outcome.refused().our_alert), (Reason::SniUnknown, Some(112)));
}

#[test]
fn the_hello_may_come_in_any_pieces() {
    let pki = Pki::new();
    let world = World::new(&pki, &sites(&[("\"a.test\"", "", OFF)]));
    let client = Client::new(&pki, &TLS13, None);
    for size in [1, 7, 64] {
        for chunk in [1, 5, 100_000] {
            let mut session = world.session(0);
            let mut bytes = fragmented(&hello(&client, "A.test"), size);
            let (mut plain, mut out) = (Vec::new(), Vec::new());
            for part in bytes.chunks_mut(chunk) {
                assert!(out.is_empty());
                session.feed(part, unix(NOW), &mut plain, &mut out).unwrap();
            }
            assert_eq!(session.sni(), Some("a.test"));
            assert_eq!(out.first(), Some(&22), "fragments of {size}, fed {chunk} at once");
        }
    }
}

#[test]
fn a_hello_that_never_ends_is_refused_at_the_bound_whether_it_comes_at_once_or_in_bytes() {
    let pki = Pki::new();
    let world = World::new(&pki, &sites(&[("\"a.test\"", "", OFF)]));
    for (size, chunk) in [(1, 1), (200, 3), (255, 1 << 20)] {
        // A handshake header that promises 60,000 bytes.
        let endless = [vec![0; 5], vec![1, 0, 0xea, 0x60], vec![0; 60_000]].concat();
        let mut bytes = fragmented(&endless, size);
        let mut session = world.session(0);
        let (mut fed, mut out) = (0, Vec::new());
        let failure = bytes.chunks_mut(chunk).find_map(|part| {
            fed += part.len();
            session.feed(part, unix(NOW), &mut Vec::new(), &mut out).err()
        });
        let failure = failure.expect("was taken");
        assert_eq!((failure.reason, failure.our_alert), (Reason::NotTls, Some(50)));
        assert_eq!(out, [21, 3, 3, 0, 2, 2, 50]);
        assert!(chunk > 1000 || fed <= limits::CLIENT_HELLO_BYTES_MAX + chunk, "{fed}");
    }
}

#[test]
fn what_is_not_tls_is_said_to_be_so() {
    let pki = Pki::new();
    let world = World::new(&pki, &sites(&[("\"a.test\"", "", OFF)]));
    let ssl2 = [&[0x80, 0x2e, 1, 0, 2][..], &[0; 50]].concat();
    let alert = [21, 3, 1, 0, 2, 2, 48];
    let data = [23, 3, 3, 0, 4, 1, 2, 3, 4];
    let finished = [22, 3, 1, 0, 4, 20, 0, 0, 0];
    let nonsense = [22, 3, 1, 0, 6, 1, 0, 0, 2, 9, 9];
    for (bytes, number) in [
        (&b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"[..], 50),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", 50),
        (&ssl2, 50),
        (&alert, 10),
        (&data, 10),
        (&finished, 10),
        (&nonsense, 50),
        (&[0; 10], 50),
    ] {
        let (mut session, mut out) = (world.session(0), Vec::new());
        let failure = session.feed(&mut bytes.to_vec(), unix(NOW), &mut Vec::new(), &mut out).expect_err("was taken");
        assert_eq!(failure.reason, Reason::NotTls, "{bytes:x?}");
        assert_eq!(failure.our_alert, Some(number), "{bytes:x?}");
        assert_eq!(out, [21, 3, 3, 0, 2, 2, number]);
        let again = session.feed(&mut [1], unix(NOW), &mut Vec::new(), &mut out).expect_err("went on after the end");
        assert_eq!(again.reason, Reason::Internal);
    }
}

#[test]
fn a_client_of_an_old_version_is_told_protocol_version() {
    let pki = Pki::new();
    let modern = World::new(&pki, &one_site("[site.tls]\nmin_version = \"1.3\"", OFF));
    let client = Client::new(&pki, &rustls::version::TLS12, None);
    let outcome = modern.connect(&client, "a.test");
    assert_eq!((outcome.refused().reason, outcome.refused().our_alert), (Reason::PolicyIncompatible, Some(70)));
    assert_eq!(outcome.refused().site.as_ref().map(|site| site.name().to_string()).as_deref(), Some("s0"));
    // A TLS 1.1 client: old version, one suite, no extensions.
    let body = [&[3, 2][..], &[7; 32], &[0, 0, 2, 0xc0, 0x13, 1, 0]].concat();
    let message = [&[1, 0, 0, body.len() as u8][..], &body].concat();
    let mut record = [&[22, 3, 1, 0, message.len() as u8][..], &message].concat();
    let (mut session, mut out) = (modern.session(0), Vec::new());
    let failure = session.feed(&mut record, unix(NOW), &mut Vec::new(), &mut out).expect_err("was taken");
    assert_eq!((failure.reason, failure.our_alert), (Reason::PolicyIncompatible, Some(70)));
    assert_eq!(out, [21, 3, 3, 0, 2, 2, 70]);
}

#[test]
fn no_common_suite_or_group_is_a_failed_handshake() {
    let pki = Pki::new();
    let only =
        "[site.tls]\nmin_version = \"1.3\"\ncipher_suites = [\"TLS_AES_256_GCM_SHA384\"]\ngroups = [\"secp384r1\"]";
    let world = World::new(&pki, &one_site(only, OFF));
    let mut client = Client::new(&pki, &TLS13, None);
    let outcome = world.connect(&client, "a.test");
    assert_eq!((outcome.open().cipher, outcome.open().group), ("TLS_AES_256_GCM_SHA384", Some("secp384r1")));
    assert!(outcome.open().retried, "the client had guessed another group");
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
    client.config = with_provider(&pki, provider);
    let outcome = world.connect(&client, "a.test");
    assert_eq!((outcome.refused().reason, outcome.refused().our_alert), (Reason::PolicyIncompatible, Some(40)));
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites = vec![rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    client.config = with_provider(&pki, provider);
    let outcome = world.connect(&client, "a.test");
    assert_eq!((outcome.refused().reason, outcome.refused().our_alert), (Reason::PolicyIncompatible, Some(40)));
}

fn with_provider(pki: &Pki, provider: rustls::crypto::CryptoProvider) -> rustls::ClientConfig {
    let clock = Client::new(pki, &TLS13, None).clock;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(pki.ca.clone()).unwrap();
    rustls::ClientConfig::builder_with_details(Arc::new(provider), Arc::new(clock))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

#[test]
fn our_order_of_suites_decides_not_the_clients() {
    let pki = Pki::new();
    for version in VERSIONS {
        let client = Client::new(&pki, version, None);
        let ours = World::new(&pki, &one_site("", OFF));
        let first = ours.connect(&client, "a.test").open().cipher;
        assert!(first.ends_with("AES_128_GCM_SHA256"), "{first}");
        let text = "[site.tls]\ncipher_suites = [\"TLS_CHACHA20_POLY1305_SHA256\", \"ECDHE-ECDSA-CHACHA20-POLY1305\", \
                    \"TLS_AES_128_GCM_SHA256\", \"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256\"]";
        let chosen = World::new(&pki, &one_site(text, OFF)).connect(&client, "a.test").open().cipher;
        assert!(chosen.contains("CHACHA20"), "{chosen}");
    }
}

#[test]
fn application_protocols_are_chosen_in_our_order_and_none_in_common_is_alert_120() {
    let pki = Pki::new();
    for version in VERSIONS {
        let world = World::new(&pki, &one_site("alpn = [\"two\", \"one\"]", OFF));
        let outcome = world.connect(&Client::new(&pki, version, None).alpn(&["one", "two"]), "a.test");
        assert_eq!(outcome.open().alpn.as_deref(), Some(&b"two"[..]));
        let outcome = world.connect(&Client::new(&pki, version, None).alpn(&["three"]), "a.test");
        assert_eq!((outcome.refused().reason, outcome.refused().our_alert), (Reason::AlpnNone, Some(120)));
        let outcome = world.connect(&Client::new(&pki, version, None), "a.test");
        assert_eq!(outcome.open().alpn, None, "a client that offers none is not refused");
        let plain = World::new(&pki, &one_site("", OFF));
        let outcome = plain.connect(&Client::new(&pki, version, None).alpn(&["one"]), "a.test");
        assert_eq!(outcome.open().alpn, None);
    }
}

#[test]
fn a_second_hello_with_another_name_is_refused() {
    let pki = Pki::new();
    let world = World::new(&pki, &one_site("[site.tls]\ngroups = [\"secp384r1\"]", OFF));
    let client = Client::new(&pki, &TLS13, None);
    let mut pipe = Pipe::new(world.session(0), &client, "a.test");
    let mut first = Vec::new();
    pipe.client.write_tls(&mut first).unwrap();
    pipe.feed(&mut first).unwrap();
    assert_eq!(pipe.status, Status::Handshaking);
    let mut second = Vec::new();
    while pipe.client.wants_write() {
        pipe.client.write_tls(&mut second).unwrap();
    }
    let at = second.windows(6).position(|window| window == b"a.test").expect("no name in the second hello");
    second[at] = b'b';
    let failure = pipe.feed(&mut second).expect_err("was taken");
    assert_eq!((failure.reason, failure.our_alert), (Reason::BadEncoding, Some(47)));
    assert!(matches!(pipe.client_error, Some(rustls::Error::AlertReceived(_))), "{:?}", pipe.client_error);
}

#[test]
fn a_hello_changed_in_any_byte_is_taken_or_refused_with_an_alert_of_its_own() {
    let pki = Pki::new();
    let world = World::new(&pki, &sites(&[("\"a.test\"", "", OPTIONAL)]));
    for version in VERSIONS {
        let good = hello(&Client::new(&pki, version, None), "a.test");
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << (at % 8);
            let (mut session, mut plain, mut out) = (world.session(0), Vec::new(), Vec::new());
            if let Err(failure) = session.feed(&mut bytes, unix(NOW), &mut plain, &mut out) {
                assert!(failure.our_alert.is_some() || failure.peer_alert.is_some(), "byte {at}: {failure}");
                assert!(failure.our_alert.is_none() || !out.is_empty(), "byte {at}: {failure}");
                assert_ne!(failure.reason, Reason::Internal, "byte {at}: {failure}");
            }
            assert!(plain.is_empty());
        }
    }
}
