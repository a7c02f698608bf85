//! Certificates and keys that load, and those that do not, with what is said of them.

use super::support::*;
use crate::config::{Config, Fault, FaultKind};
use crate::tls::{Site, SiteSource};
use crate::trust::{Loader, Policy};
use rcgen::KeyPair;
use std::sync::Arc;

fn load(pki: &Pki, site: &str) -> Result<(Arc<Site>, Vec<Fault>), Vec<Fault>> {
    let text = one_site(site, OFF);
    load_text(pki, &text)
}

fn load_text(pki: &Pki, text: &str) -> Result<(Arc<Site>, Vec<Fault>), Vec<Fault>> {
    let config = Config::from_text(text, Some(&pki.dir.path().join("test.toml"))).unwrap();
    let (policy, _) = Policy::load(&config.sites[0], &config.listeners[0], 1, unix(NOW), &mut Loader::new()).unwrap();
    let (site, tickets) = (&config.sites[0], &config.tickets);
    Site::load(&SiteSource { index: 0, site, policy, ticket_keys: None, tickets, now: unix(NOW), may_leave: false })
}

fn entry(chain: &str, key: &str) -> String {
    format!("certificate = [{{ chain = \"{chain}\", key = \"{key}\" }}]")
}

/// The one fault of a site that does not load.
#[track_caller]
fn fault(pki: &Pki, site: &str) -> Fault {
    let mut faults = load(pki, site).expect_err("loaded");
    assert_eq!(faults.len(), 1, "{faults:?}");
    let fault = faults.remove(0);
    assert!(!fault.help.is_empty(), "{fault}");
    assert!(fault.file.is_some(), "{fault}");
    fault
}

/// The warnings of one that does.
#[track_caller]
fn warnings(pki: &Pki, site: &str) -> String {
    let (_, warnings) = load(pki, site).expect("did not load");
    assert!(warnings.iter().all(|fault| fault.kind == FaultKind::Warning));
    warnings.iter().map(|fault| format!("{fault}\n")).collect()
}

#[test]
fn a_good_certificate_loads_without_a_word_and_tells_its_facts() {
    let pki = Pki::new();
    let (site, warnings) = load(&pki, "").unwrap();
    assert_eq!(warnings, []);
    let facts = &site.certificates()[0];
    assert_eq!((facts.signature_algorithm, &facts.key_algorithm[..]), ("ecdsa-with-SHA256", "EC256"));
    assert_eq!(facts.subject, "CN=server");
    assert_eq!(facts.not_after, (NOW + 365 * DAY) as i64);
    assert_eq!(facts.names, ["a.test", "b.test", "*.wild.test"]);
    assert!(facts.serial.len() >= 2 && facts.serial.bytes().all(|digit| digit.is_ascii_hexdigit()));
}

#[test]
fn every_kind_of_key_is_named_as_openssl_does() {
    let pki = Pki::new();
    for (algorithm, name) in [
        (&rcgen::PKCS_ECDSA_P384_SHA384, "EC384"),
        (&rcgen::PKCS_ED25519, "ED25519"),
        (&rcgen::PKCS_RSA_SHA256, "RSA2048"),
    ] {
        pki.write_leaf("other", &pki.server(KeyPair::generate_for(algorithm).unwrap()));
        let (site, _) = load(&pki, &entry("other.pem", "other.key")).unwrap();
        assert_eq!(site.certificates()[0].key_algorithm, name);
    }
}

#[test]
fn a_missing_file_and_one_that_may_not_be_read_differ() {
    let pki = Pki::new();
    let missing = fault(&pki, &entry("gone.pem", "server.key"));
    assert_eq!(missing.kind, FaultKind::Config);
    assert!(missing.message.contains("does not exist"), "{missing}");
    let both = load(&pki, &entry("gone.pem", "gone.key")).expect_err("loaded");
    assert_eq!(both.len(), 2, "all that is wrong is said at once");
    let directory = fault(&pki, &entry("server.pem", "."));
    assert!(directory.message.contains("cannot be read"), "{directory}");
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let pki = Pki::new();
    pki.write_leaf("other", &pki.server(KeyPair::generate().unwrap()));
    let fault = fault(&pki, &entry("server.pem", "other.key"));
    assert!(fault.message.contains("does not belong"), "{fault}");
}

#[test]
fn an_encrypted_key_is_named_as_such_in_both_of_its_forms() {
    let pki = Pki::new();
    pki.write("new.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    pki.write(
        "old.key",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
    );
    for name in ["new.key", "old.key"] {
        let fault = fault(&pki, &entry("server.pem", name));
        assert!(fault.message.contains("encrypted") && fault.help.contains("openssl pkey"), "{fault}");
    }
}

#[test]
fn files_with_the_wrong_things_in_them_are_told_apart() {
    let pki = Pki::new();
    assert!(fault(&pki, &entry("server.pem", "server.pem")).message.contains("no private key"));
    assert!(fault(&pki, &entry("server.key", "server.key")).message.contains("no certificate"));
    pki.write("cut.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n");
    assert!(fault(&pki, &entry("cut.pem", "server.key")).message.contains("not whole"));
    pki.write("junk.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert!(fault(&pki, &entry("junk.pem", "server.key")).message.contains("not well formed"));
    std::fs::write(pki.dir.path().join("der.pem"), pki.ca.as_ref()).unwrap();
    assert!(fault(&pki, &entry("der.pem", "server.key")).help.contains("openssl x509 -inform der"));
    pki.write("bad.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    assert!(fault(&pki, &entry("server.pem", "bad.key")).message.contains("no key of a kind"));
}

#[test]
fn a_chain_out_of_order_is_refused_and_one_in_order_is_not() {
    let pki = Pki::new();
    let ca = std::fs::read_to_string(pki.dir.path().join("ca.pem")).unwrap();
    let server = std::fs::read_to_string(pki.dir.path().join("server.pem")).unwrap();
    pki.write("good.pem", &format!("{server}{ca}"));
    assert_eq!(warnings(&pki, &entry("good.pem", "server.key")), "");
    pki.write("twice.pem", &format!("{server}{server}"));
    assert!(fault(&pki, &entry("twice.pem", "server.key")).message.contains("did not issue"));
    pki.write("reverse.pem", &format!("{ca}{server}"));
    assert!(fault(&pki, &entry("reverse.pem", "server.key")).message.contains("did not issue"));
}

#[test]
fn a_version_1_certificate_is_refused_with_the_way_to_a_version_3_one() {
    let pki = Pki::new();
    let key = KeyPair::generate().unwrap();
    let leaf = pki.server(key);
    pki.write("v1.pem", &pem_of(&version_1(&leaf.der)));
    pki.write("v1.key", &leaf.key.serialize_pem());
    let fault = fault(&pki, &entry("v1.pem", "v1.key"));
    assert!(fault.message.contains("version 1") && fault.help.contains("-extfile"), "{fault}");
}

#[test]
fn dates_names_and_purposes_that_will_not_serve_are_warned_of() {
    let pki = Pki::new();
    let with = |change: &dyn Fn(&mut rcgen::CertificateParams)| {
        let mut params = named("server");
        params.subject_alt_names = vec![rcgen::SanType::DnsName("a.test".try_into().unwrap())];
        valid(&mut params, NOW - DAY, NOW + DAY);
        change(&mut params);
        pki.write_leaf("odd", &pki.sign(&params, KeyPair::generate().unwrap()));
        warnings(&pki, &entry("odd.pem", "odd.key"))
    };
    assert_eq!(with(&|_| {}), "");
    assert!(with(&|params| valid(params, NOW - 2 * DAY, NOW - DAY)).contains("has expired"));
    assert!(with(&|params| valid(params, NOW + DAY, NOW + 2 * DAY)).contains("not valid yet"));
    assert!(with(&|params| params.subject_alt_names.clear()).contains("no DNS name"));
    assert!(
        with(&|params| params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth])
            .contains("serverAuth")
    );
    let text = sites(&[("\"a.test\", \"*.wild.test\", \"other.test\", \"*.b.test\"", "", OFF)]);
    let (_, found) = load_text(&pki, &text).unwrap();
    let found: Vec<_> = found.iter().map(|fault| fault.message.rsplit(' ').next().unwrap()).collect();
    assert_eq!(found, ["other.test", "*.b.test"]);
}

#[test]
fn an_ocsp_file_must_be_a_successful_response() {
    let pki = Pki::new();
    let with = |bytes: &[u8]| {
        std::fs::write(pki.dir.path().join("server.ocsp"), bytes).unwrap();
        load(&pki, "certificate = [{ chain = \"server.pem\", key = \"server.key\", ocsp = \"server.ocsp\" }]")
    };
    assert!(with(&[0x30, 3, 0x0a, 1, 0]).is_ok());
    assert!(with(&[0x30, 0x82, 0, 3, 0x0a, 1, 0]).is_ok());
    for bad in [&[0x30, 3, 0x0a, 1, 6][..], b"", b"-----BEGIN", &[0x30, 0xff]] {
        let faults = with(bad).expect_err("loaded");
        assert!(faults[0].message.contains("OCSP"), "{faults:?}");
    }
}

#[test]
fn suites_that_serve_no_version_of_the_site_are_refused() {
    let pki = Pki::new();
    let text = "[site.tls]\nmin_version = \"1.3\"\ncipher_suites = [\"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256\"]";
    // The configuration may refuse it already.
    let config = Config::from_text(&one_site(text, OFF), Some(&pki.dir.path().join("test.toml")));
    if config.is_ok() {
        let faults = load(&pki, text).expect_err("loaded");
        assert!(faults[0].key.contains("cipher_suites"), "{faults:?}");
    }
}
