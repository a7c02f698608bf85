//! Clients that are not let in: what they are told on the wire, what we are told, and that no other thing happens.

use super::support::*;
use crate::trust::Reason;
use rcgen::{BasicConstraints, IsCa, KeyPair};
use rustls::pki_types::CertificateDer;

/// A client with this chain and key at a site with this `[site.client]`, in both versions: refused with this reason and
/// the alert of the table, which the client sees.
#[track_caller]
fn refused_with(pki: &Pki, client_table: &str, chain: &[CertificateDer<'static>], key: &KeyPair, reason: Reason) {
    let world = World::new(pki, &one_site("", client_table));
    for version in VERSIONS {
        let (client, wallet) = Client::with_wallet(pki, version);
        wallet.hold(chain.to_vec(), rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into()));
        let outcome = world.connect(&client, "a.test");
        let failure = outcome.refused();
        assert_eq!(failure.reason, reason, "{failure}");
        assert_eq!(failure.our_alert, Some(reason.alert()), "{failure}");
        assert_eq!(failure.verify, reason.x509_v());
        assert_eq!(failure.chain_len, chain.len());
        assert!(!failure.proven && !failure.detail.is_empty());
        assert!(outcome.client_error.is_some());
    }
}

#[track_caller]
fn leaf_refused(pki: &Pki, client_table: &str, leaf: &Leaf, reason: Reason) {
    refused_with(pki, client_table, std::slice::from_ref(&leaf.der), &leaf.key, reason);
}

fn signed(pki: &Pki, change: impl FnOnce(&mut rcgen::CertificateParams)) -> Leaf {
    let mut params = pki.client_params("alice");
    change(&mut params);
    pki.sign(&params, KeyPair::generate().unwrap())
}

#[test]
fn a_client_without_certificate_is_told_that_one_is_required() {
    let pki = Pki::new();
    let world = World::new(&pki, &one_site("", REQUIRE));
    for version in VERSIONS {
        let outcome = world.connect(&Client::new(&pki, version, None), "a.test");
        let failure = outcome.refused();
        assert_eq!((failure.reason, failure.our_alert, failure.chain_len), (Reason::NoCert, Some(116), 0));
        assert_eq!(failure.site.as_ref().map(|site| site.name().to_string()).as_deref(), Some("s0"));
        assert_eq!(failure.sni.as_deref(), Some("a.test"));
        assert!(failure.version.is_some() && failure.cipher.is_some());
    }
}

#[test]
fn a_good_client_is_let_in_and_its_facts_are_told() {
    let pki = Pki::new();
    let world = World::new(&pki, &one_site("", REQUIRE));
    for version in VERSIONS {
        let outcome = world.connect(&Client::new(&pki, version, Some(&pki.client("alice"))), "a.test");
        let open = outcome.open();
        assert_eq!(open.admission.identity().map(|identity| identity.as_str()), Some("cn:alice"));
        assert_eq!(open.signature_scheme, Some("ecdsa_secp256r1_sha256"));
        assert_eq!(open.certificate.key_algorithm, "EC256");
        assert_eq!((open.sni.as_deref(), open.declined), (Some("a.test"), None));
    }
}

#[test]
fn dates_issuers_and_purposes_have_their_alerts() {
    let pki = Pki::new();
    leaf_refused(&pki, REQUIRE, &signed(&pki, |p| valid(p, NOW - 2 * DAY, NOW - DAY)), Reason::Expired);
    leaf_refused(&pki, REQUIRE, &signed(&pki, |p| valid(p, NOW + DAY, NOW + 2 * DAY)), Reason::NotYetValid);
    let server_only = signed(&pki, |p| p.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth]);
    leaf_refused(&pki, REQUIRE, &server_only, Reason::WrongPurpose);
    let ca = signed(&pki, |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    leaf_refused(&pki, REQUIRE, &ca, Reason::CaAsLeaf);
    let stranger = Pki::new().client("alice");
    let world = World::new(&pki, &one_site("", REQUIRE));
    let outcome = world.connect(&Client::new(&pki, &rustls::version::TLS13, Some(&stranger)), "a.test");
    assert_eq!(outcome.refused().our_alert, Some(outcome.refused().reason.alert()));
}

#[test]
fn a_certificate_that_cannot_be_read_and_one_of_version_1_have_their_alerts() {
    let pki = Pki::new();
    let alice = pki.client("alice");
    let junk = CertificateDer::from(vec![0x30, 3, 1, 2, 3]);
    refused_with(&pki, REQUIRE, &[junk], &alice.key, Reason::BadEncoding);
    let old = CertificateDer::from(version_1(&alice.der));
    refused_with(&pki, REQUIRE, &[old], &alice.key, Reason::UnsupportedVersion);
}

#[test]
fn a_client_that_no_rule_admits_is_told_access_denied() {
    let pki = Pki::new();
    let table = format!("{REQUIRE}\nallow = [{{ cn = \"bob\" }}]");
    leaf_refused(&pki, &table, &pki.client("alice"), Reason::PolicyDenied);
    let world = World::new(&pki, &one_site("", &table));
    world.connect(&Client::new(&pki, &rustls::version::TLS13, Some(&pki.client("bob"))), "a.test").open();
}

#[test]
fn a_revoked_client_is_told_so_and_a_fault_of_our_crl_is_not_told_as_its() {
    let pki = Pki::new();
    let alice = signed(&pki, |p| p.serial_number = Some(77_u64.into()));
    let table = format!("{REQUIRE}\ncrls = [\"ca.crl\"]");
    let write = |revoked: &[u64], this: u64, next: u64| {
        let crl = rcgen::CertificateRevocationListParams {
            this_update: date(this),
            next_update: date(next),
            crl_number: 1_u64.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .iter()
                .map(|serial| rcgen::RevokedCertParams {
                    serial_number: (*serial).into(),
                    revocation_time: date(NOW - DAY),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        pki.write("ca.crl", &crl.signed_by(&pki.issuer).unwrap().pem().unwrap());
    };
    write(&[77], NOW - DAY, NOW + DAY);
    leaf_refused(&pki, &table, &alice, Reason::Revoked);
    write(&[], NOW - DAY, NOW + DAY);
    let world = World::new(&pki, &one_site("", &table));
    for version in VERSIONS {
        let client = Client::new(&pki, version, Some(&alice));
        world.connect(&client, "a.test").open();
        // The list runs out while the process lives and the session could still be resumed.
        client.clock.set(NOW + DAY + 60);
        let outcome = world.connect(&client, "a.test");
        assert_eq!((outcome.refused().reason, outcome.refused().our_alert), (Reason::CrlExpired, Some(46)));
    }
}

#[test]
fn whoever_shows_a_certificate_without_its_key_is_refused_though_the_chain_is_cached() {
    let pki = Pki::new();
    for table in [REQUIRE, OPTIONAL, REQUEST] {
        let world = World::new(&pki, &one_site("", table));
        for version in VERSIONS {
            let alice = pki.client("alice");
            world.connect(&Client::new(&pki, version, Some(&alice)), "a.test").open();
            let (thief, wallet) = Client::with_wallet(&pki, version);
            wallet.hold(vec![alice.der.clone()], pki.client("thief").key_der());
            let outcome = world.connect(&thief, "a.test");
            let failure = outcome.refused();
            assert_eq!((failure.reason, failure.our_alert), (Reason::BadSignature, Some(51)));
            assert!(!failure.proven);
            assert_eq!(failure.leaf.as_ref().map(|leaf| leaf.der.clone()).as_deref(), Some(alice.der.as_ref()));
            assert_eq!((failure.chain_len, failure.verify), (1, 7));
        }
    }
}

#[test]
fn optional_refuses_a_bad_certificate_and_request_lets_it_in_with_what_is_wrong_with_it() {
    let pki = Pki::new();
    let expired = signed(&pki, |p| valid(p, NOW - 2 * DAY, NOW - DAY));
    leaf_refused(&pki, OPTIONAL, &expired, Reason::Expired);
    let world = World::new(&pki, &one_site("", REQUEST));
    for version in VERSIONS {
        let client = Client::new(&pki, version, Some(&expired));
        for resumed in [false, true] {
            let outcome = world.connect(&client, "a.test");
            let open = outcome.open();
            assert_eq!((open.admission.reason(), open.admission.verify()), (Reason::Expired, 10));
            assert_eq!(open.resumed, resumed);
        }
    }
}

#[test]
fn pin_admits_the_pinned_key_whatever_its_issuer_and_nobody_else() {
    let pki = Pki::new();
    let own = named("self");
    let key = KeyPair::generate().unwrap();
    let pinned = own.self_signed(&key).unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, pinned.der());
    let table = format!("auth = \"pin\"\nallow = [{{ sha256 = \"{}\" }}]", hex::encode(digest));
    let world = World::new(&pki, &one_site("", &table));
    let pinned = Leaf { der: pinned.der().clone(), pem: pinned.pem(), key };
    for version in VERSIONS {
        let client = Client::new(&pki, version, Some(&pinned));
        assert!(!world.connect(&client, "a.test").open().resumed);
        assert!(world.connect(&client, "a.test").open().resumed);
        let outcome = world.connect(&Client::new(&pki, version, Some(&pki.client("alice"))), "a.test");
        assert_eq!(outcome.refused().our_alert, Some(outcome.refused().reason.alert()));
        let outcome = world.connect(&Client::new(&pki, version, None), "a.test");
        assert_eq!(outcome.refused().reason, Reason::NoCert);
    }
}

#[test]
fn a_chain_past_what_rustls_takes_is_too_big() {
    let pki = Pki::new();
    let world = World::new(&pki, &one_site("", REQUIRE));
    let alice = pki.client("alice");
    for version in VERSIONS {
        let (client, wallet) = Client::with_wallet(&pki, version);
        wallet.hold(vec![alice.der.clone(); 300], alice.key_der());
        let outcome = world.connect(&client, "a.test");
        let failure = outcome.refused();
        assert_eq!(failure.reason, Reason::ChainTooBig, "{failure}");
        // Encrypted, where rustls has no alert for it, there is none.
        let tls12 = version.version == rustls::ProtocolVersion::TLSv1_2;
        assert_eq!(failure.our_alert, tls12.then_some(50));
    }
}

#[test]
fn plaintext_of_a_client_that_is_refused_is_never_given_away() {
    let pki = Pki::new();
    let world = World::new(&pki, &one_site("", REQUIRE));
    for version in VERSIONS {
        let client = Client::new(&pki, version, None);
        let mut pipe = Pipe::new(world.session(0), &client, "a.test");
        std::io::Write::write_all(&mut pipe.client.writer(), b"let me in").unwrap();
        assert!(pipe.run().is_err());
        assert!(pipe.plain.is_empty());
    }
}
