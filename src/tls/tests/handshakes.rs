//! What a handshake agrees on: certificates, signatures, staples, pieces.

use super::support::*;
use crate::trust::Reason;
use rcgen::KeyPair;
use rustls::SignatureScheme;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::TLS12;
use std::sync::{Arc, Mutex};

/// A server verifier that offers few schemes and keeps the staple that it is shown.
#[derive(Debug)]
struct Choosy {
    schemes: Vec<SignatureScheme>,
    staple: Mutex<Vec<u8>>,
}

impl ServerCertVerifier for Choosy {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        staple: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.staple.lock().unwrap() = staple.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

fn choosy(
    pki: &Pki,
    version: &'static rustls::SupportedProtocolVersion,
    schemes: &[SignatureScheme],
) -> (Client, Arc<Choosy>) {
    let mut client = Client::new(pki, version, None);
    let verifier = Arc::new(Choosy { schemes: schemes.to_vec(), staple: Mutex::default() });
    client.config.dangerous().set_certificate_verifier(verifier.clone());
    (client, verifier)
}

#[test]
fn of_two_certificates_the_one_that_the_client_can_check_is_chosen_ecdsa_first() {
    let pki = Pki::new();
    pki.write_leaf("rsa", &pki.server(KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap()));
    let both =
        "certificate = [{ chain = \"rsa.pem\", key = \"rsa.key\" }, { chain = \"server.pem\", key = \"server.key\" }]";
    let world = World::new(&pki, &one_site(both, OFF));
    for version in VERSIONS {
        let outcome = world.connect(&Client::new(&pki, version, None), "a.test");
        assert_eq!(outcome.open().certificate.key_algorithm, "EC256");
        assert_eq!(outcome.open().signature_scheme, Some("ecdsa_secp256r1_sha256"));
        let (client, _) = choosy(&pki, version, &[SignatureScheme::RSA_PSS_SHA256]);
        let outcome = world.connect(&client, "a.test");
        assert_eq!(outcome.open().certificate.key_algorithm, "RSA2048");
        assert_eq!(outcome.open().signature_scheme, Some("rsa_pss_rsae_sha256"));
    }
}

#[test]
fn a_client_that_can_check_none_of_them_gets_handshake_failure() {
    let pki = Pki::new();
    let world = World::new(&pki, &one_site("", OFF));
    pki.write_leaf("p384", &pki.server(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap()));
    let stronger = World::new(&pki, &one_site("certificate = [{ chain = \"p384.pem\", key = \"p384.key\" }]", OFF));
    for version in VERSIONS {
        let (rsa, _) = choosy(&pki, version, &[SignatureScheme::RSA_PSS_SHA256]);
        let (p256, _) = choosy(&pki, version, &[SignatureScheme::ECDSA_NISTP256_SHA256]);
        for outcome in [world.connect(&rsa, "a.test"), stronger.connect(&p256, "a.test")] {
            let failure = outcome.refused();
            assert_eq!((failure.reason, failure.our_alert), (Reason::PolicyIncompatible, Some(40)), "{failure}");
        }
    }
}

#[test]
fn the_ocsp_response_is_stapled() {
    let pki = Pki::new();
    let response = [0x30, 3, 0x0a, 1, 0];
    std::fs::write(pki.dir.path().join("server.ocsp"), response).unwrap();
    let site = "certificate = [{ chain = \"server.pem\", key = \"server.key\", ocsp = \"server.ocsp\" }]";
    let world = World::new(&pki, &one_site(site, OFF));
    for version in VERSIONS {
        let schemes = [SignatureScheme::ECDSA_NISTP256_SHA256];
        let (client, verifier) = choosy(&pki, version, &schemes);
        world.connect(&client, "a.test").open();
        assert_eq!(*verifier.staple.lock().unwrap(), response);
    }
}

#[test]
fn the_names_of_the_anchors_are_sent_where_asked_for() {
    #[derive(Debug, Default)]
    struct Asked(Mutex<Option<Vec<Vec<u8>>>>);
    impl rustls::client::ResolvesClientCert for Asked {
        fn resolve(&self, hints: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
            *self.0.lock().unwrap() = Some(hints.iter().map(|hint| hint.to_vec()).collect());
            None
        }
        fn has_certs(&self) -> bool {
            true
        }
    }
    let pki = Pki::new();
    for version in VERSIONS {
        for (table, asked, names) in [
            (OFF.to_owned(), false, 0),
            (OPTIONAL.to_owned(), true, 1),
            (format!("{OPTIONAL}\nadvertise = \"none\""), true, 0),
        ] {
            let world = World::new(&pki, &one_site("", &table));
            let resolver = Arc::new(Asked::default());
            let mut client = Client::new(&pki, version, None);
            client.config.client_auth_cert_resolver = resolver.clone();
            world.connect(&client, "a.test").open();
            let seen = resolver.0.lock().unwrap().clone();
            assert_eq!((seen.is_some(), seen.map_or(0, |names| names.len())), (asked, names), "{table}");
        }
    }
}

/// TLS 1.2 sends the client's certificate in the clear, so its messages can be cut here as an odd client would.
#[test]
fn handshake_messages_may_be_cut_into_tiny_records() {
    let pki = Pki::new();
    let world = World::new(&pki, &one_site("", REQUIRE));
    for (size, chunk) in [(1, 1), (7, 100_000), (7, 3), (100, 64)] {
        let client = Client::new(&pki, &TLS12, Some(&pki.client("alice")));
        let mut pipe = Pipe::new(world.session(0), &client, "a.test");
        pipe.chunk = chunk;
        loop {
            let mut bytes = Vec::new();
            while pipe.client.wants_write() {
                pipe.client.write_tls(&mut bytes).unwrap();
            }
            if bytes.is_empty() {
                break;
            }
            pipe.feed(&mut cut_plain_handshake(&bytes, size)).unwrap();
        }
        pipe.say(b"data").unwrap();
        assert_eq!(pipe.plain, b"data");
    }
}

/// Cuts handshake records up to the change of cipher.
fn cut_plain_handshake(bytes: &[u8], size: usize) -> Vec<u8> {
    let (mut rest, mut cut, mut plain) = (bytes, Vec::new(), true);
    while let [kind, _, _, high, low, ..] = rest {
        let (record, later) = rest.split_at(5 + usize::from(u16::from_be_bytes([*high, *low])));
        plain &= *kind == 22;
        match plain {
            true => {
                cut.extend(record[5..].chunks(size).flat_map(|part| [&[22, 3, 3, 0, part.len() as u8], part].concat()))
            }
            false => cut.extend_from_slice(record),
        }
        rest = later;
    }
    cut
}
