//! The same random chains before `openssl verify`: what it refuses we refuse, what it admits we admit.

use super::pki::*;
use crate::config::CrlScope;
use crate::trust::Reason;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rcgen::{
    BasicConstraints, DnType, ExtendedKeyUsagePurpose as Purpose, GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose,
    NameConstraints,
};
use std::process::Command;
use std::sync::OnceLock;

/// What may be odd about one certificate of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Oddity {
    None,
    Expired,
    Early,
    ServerPurpose,
    NoUsage,
    WrongUsage,
    NotACa,
    ShortPath,
    OtherKey,
    Revoked,
    Unsent,
    /// A subject that quoting, escaping and sorting could stumble over.
    OddName,
    /// A CA that may vouch for the leaf's name, and one that may not.
    Constrained,
    ConstrainedAway,
    P384,
    Ed25519,
    Rsa,
}

#[derive(Debug, Clone)]
struct Case {
    /// From the root down; the last is the leaf.
    oddities: Vec<Oddity>,
    turned: bool,
    with_crls: bool,
    without_key_ids: bool,
}

fn case() -> impl Strategy<Value = Case> {
    use Oddity::*;
    let oddity = prop_oneof![
        12 => Just(None),
        1 => prop::sample::select(vec![
            Expired, Early, ServerPurpose, NoUsage, WrongUsage, NotACa, ShortPath, OtherKey, Revoked, Unsent,
        ]),
        4 => prop::sample::select(vec![OddName, Constrained, ConstrainedAway, P384, Ed25519, Rsa]),
    ];
    (prop::collection::vec(oddity, 2..5), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(oddities, turned, with_crls, without_key_ids)| Case { oddities, turned, with_crls, without_key_ids },
    )
}

fn apply(oddity: Oddity, params: &mut rcgen::CertificateParams) {
    match oddity {
        Oddity::Expired => dates(params, NOW - 20 * DAY, NOW - DAY),
        Oddity::Early => dates(params, NOW + DAY, NOW + 20 * DAY),
        Oddity::ServerPurpose => params.extended_key_usages = vec![Purpose::ServerAuth],
        Oddity::NoUsage => params.key_usages = vec![],
        Oddity::WrongUsage if params.is_ca == IsCa::ExplicitNoCa => {
            params.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
        }
        Oddity::WrongUsage => params.key_usages = vec![KeyUsagePurpose::CrlSign],
        Oddity::NotACa => params.is_ca = IsCa::ExplicitNoCa,
        Oddity::ShortPath if params.is_ca != IsCa::ExplicitNoCa => {
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        }
        Oddity::OddName => {
            params.distinguished_name.push(DnType::OrganizationName, "a, b=c; \"d\" <ü> \\ + #\u{1F980}");
            params.distinguished_name.push(DnType::OrganizationalUnitName, " blanks at both ends ");
        }
        Oddity::Constrained => constrain(params, "allowed.example"),
        Oddity::ConstrainedAway => constrain(params, "elsewhere.example"),
        _ => {}
    }
}

/// Only a CA may constrain names.
fn constrain(params: &mut rcgen::CertificateParams, name: &str) {
    if params.is_ca != IsCa::ExplicitNoCa {
        let permitted_subtrees = vec![GeneralSubtree::DnsName(name.to_owned())];
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: vec![] });
    }
}

fn key(oddity: Oddity) -> KeyPair {
    static RSA: OnceLock<String> = OnceLock::new();
    match oddity {
        Oddity::P384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap(),
        Oddity::Ed25519 => KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(),
        // Slow to make, so one for all.
        Oddity::Rsa => {
            let pem = RSA.get_or_init(|| KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap().serialize_pem());
            KeyPair::from_pem(pem).unwrap()
        }
        _ => KeyPair::generate().unwrap(),
    }
}

/// Ours and OpenSSL's answer.
fn both(case: &Case) -> (bool, Reason, String) {
    let mut chain: Vec<Ca> = Vec::new();
    for (i, oddity) in case.oddities.iter().enumerate() {
        let is_leaf = i + 1 == case.oddities.len();
        let cn = format!("Level {i}");
        let mut params = if is_leaf { client_params(&cn) } else { ca_params(&cn) };
        params.use_authority_key_identifier_extension = !case.without_key_ids;
        if is_leaf {
            san(&mut params, "dns", "host.allowed.example");
        }
        apply(*oddity, &mut params);
        // Signed by a key that is not in the chain, under the right name.
        let stranger = chain.last().map(|issuer| Ca::root_with("", |other| *other = issuer.params.clone()));
        let issuer = if *oddity == Oddity::OtherKey { stranger.as_ref() } else { chain.last() };
        let key = key(*oddity);
        let der = match issuer {
            None => params.self_signed(&key).unwrap().der().clone(),
            Some(issuer) => issuer.sign(&params, &key),
        };
        chain.push(Ca { params, key, der });
    }
    let lists: Vec<Vec<u8>> = chain[..chain.len() - 1]
        .iter()
        .enumerate()
        .map(|(i, ca)| match case.oddities[i + 1] {
            Oddity::Revoked => ca.crl(&[&chain[i + 1].der]),
            _ => ca.crl(&[]),
        })
        .collect();
    let mut sent: Vec<&Cert> =
        (1..chain.len() - 1).rev().filter(|i| case.oddities[*i] != Oddity::Unsent).map(|i| &chain[i].der).collect();
    if case.turned {
        sent.reverse();
    }
    let leaf = &chain[chain.len() - 1].der;
    let mut setup = Setup::new(&[&chain[0]]).with(|setup| setup.client.crl_scope = CrlScope::Chain);
    if case.with_crls {
        setup = setup.crls(&lists);
    }
    let theirs = openssl(&mut setup, leaf, &sent, &lists, case.with_crls);
    let mut presented = vec![leaf];
    presented.extend(&sent);
    let decision = judge(&setup.policy(), &presented);
    let (found, detail) = reason(&decision);
    (decision.verdict.is_ok() == theirs.0, found, format!("{detail} | {}", theirs.1))
}

fn openssl(setup: &mut Setup, leaf: &Cert, sent: &[&Cert], lists: &[Vec<u8>], with_crls: bool) -> (bool, String) {
    let ders = |list: &[&Cert]| list.iter().map(|der| der.to_vec()).collect::<Vec<_>>();
    let file = |setup: &mut Setup, label: &str, ders: &[Vec<u8>]| {
        setup.file(label, &ders.iter().map(Vec::as_slice).collect::<Vec<_>>()).display().to_string()
    };
    let trust = setup.client.authorities[0].trust[0].display().to_string();
    let mut arguments: Vec<String> = ["verify", "-no-CApath", "-no-CAstore", "-purpose", "sslclient", "-CAfile"]
        .iter()
        .map(|part| (*part).to_owned())
        .collect();
    arguments.extend([trust, "-attime".to_owned(), NOW.to_string()]);
    if !sent.is_empty() {
        arguments.extend(["-untrusted".to_owned(), file(setup, "CERTIFICATE", &ders(sent))]);
    }
    if with_crls {
        arguments.extend(["-crl_check_all".to_owned(), "-CRLfile".to_owned(), file(setup, "X509 CRL", lists)]);
    }
    arguments.push(file(setup, "CERTIFICATE", &ders(&[leaf])));
    let output = Command::new("openssl").args(&arguments).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn openssl_verify_gives_the_same_answers() {
    if Command::new("openssl").arg("version").output().is_err() {
        println!("skipped: there is no openssl program here");
        return;
    }
    // Thousands in the slow lane: DIFFERENTIAL_CASES=3000.
    let cases = std::env::var("DIFFERENTIAL_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(96);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let (mut let_in, mut refused) = (0, 0);
    runner
        .run(&case(), |case| {
            let (agreed, found, detail) = both(&case);
            prop_assert!(agreed, "{found}: {detail}");
            Ok(())
        })
        .unwrap();
    for oddity in [Oddity::None, Oddity::Expired, Oddity::ServerPurpose, Oddity::OtherKey, Oddity::NotACa] {
        let case = Case {
            oddities: vec![Oddity::None, oddity, Oddity::None],
            turned: false,
            with_crls: false,
            without_key_ids: false,
        };
        let (agreed, found, detail) = both(&case);
        assert!(agreed, "{found}: {detail}");
        if found == Reason::Ok { let_in += 1 } else { refused += 1 }
    }
    assert_eq!((let_in, refused), (1, 4));
}
