//! Loading: every file that is not what it should be is refused, with where and what to do; and the policy's digest.

use super::pki::*;
use crate::config::{Advertise, Auth, Condition, CrlExpired, CrlMissing, CrlScope, FaultKind, limits};
use crate::trust::{Loader, Policy};
use std::os::unix::fs::PermissionsExt;

#[test]
fn an_empty_trust_file_never_means_no_verification() {
    let root = Ca::root("Root");
    for bytes in [&b""[..], b"\n\n", b"# nothing\n"] {
        let setup = Setup::new(&[&root]).with(|setup| {
            let file = setup.raw_file(bytes);
            setup.client.authorities[0].trust = vec![file];
        });
        let faults = setup.faults();
        assert_eq!((faults[0].kind, faults[0].key.as_str()), (FaultKind::Config, "site.client.trust"));
        assert!(faults[0].message.contains("no certificate") && !faults[0].help.is_empty(), "{faults:?}");
    }
    let setup = Setup::new(&[&root]).with(|setup| setup.client.authorities[0].trust.clear());
    assert!(setup.faults()[0].message.contains("no anchor"));
}

#[test]
fn an_empty_crl_file_never_means_no_revocation() {
    let root = Ca::root("Root");
    for (label, ders) in [("X509 CRL", vec![]), ("CERTIFICATE", vec![root.der.as_ref()])] {
        let setup = Setup::new(&[&root]).with(|setup| {
            let file = setup.file(label, &ders);
            setup.client.authorities[0].crls.push(file);
        });
        let faults = setup.faults();
        assert_eq!((faults[0].kind, faults[0].key.as_str()), (FaultKind::Config, "site.client.crls"));
    }
}

#[test]
fn missing_and_unreadable_files_have_their_kinds() {
    let root = Ca::root("Root");
    let missing =
        Setup::new(&[&root]).with(|setup| setup.client.authorities[0].trust[0] = "/nonexistent/ca.pem".into());
    assert_eq!(missing.faults()[0].kind, FaultKind::Config);
    let directory = Setup::new(&[&root]).with(|setup| setup.client.authorities[0].trust[0] = "/".into());
    assert!(directory.faults()[0].message.contains("not a regular file"));
    let setup = Setup::new(&[&root]);
    let path = &setup.client.authorities[0].trust[0];
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o000)).unwrap();
    // Root reads everything: there the file loads all the same.
    if std::fs::File::open(path).is_err() {
        assert_eq!(setup.faults()[0].kind, FaultKind::Permission);
    }
}

#[test]
fn damage_is_found_with_its_line() {
    let root = Ca::root("Root");
    let fault = |bytes: &[u8]| {
        let setup = Setup::new(&[&root]).with(|setup| {
            let file = setup.raw_file(bytes);
            setup.client.authorities[0].trust = vec![file];
        });
        setup.faults().remove(0)
    };
    let found = fault(b"\n-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n");
    assert_eq!(found.line, Some(2), "{found}");
    let found = fault(b"-----BEGIN CERTIFICATE-----\nMA A=\n");
    assert!(found.message.contains("cut off"), "{found}");
    let found = fault(b"-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n");
    assert!(found.help.contains("private key out"), "{found}");
    let found = fault(b"-----BEGIN TRUSTED CERTIFICATE-----\nMAA=\n-----END TRUSTED CERTIFICATE-----\n");
    assert!(found.help.contains("openssl x509"), "{found}");
    assert!(fault(&[0x30, 0x82, 1]).message.contains("neither PEM nor DER"));
    assert!(fault(&[0x30, 0x03, 2, 1, 0]).message.contains("not a well-formed"));
}

#[test]
fn trust_files_may_be_der_and_hold_several() {
    let (a, b) = (Ca::root("A"), Ca::root("B"));
    let setup = Setup::new(&[&a]).with(|setup| {
        let file = setup.raw_file(&[a.der.as_ref(), b.der.as_ref()].concat());
        setup.client.authorities[0].trust = vec![file];
    });
    let policy = setup.policy();
    admitted(&policy, &[&a.client("acme")]);
    admitted(&policy, &[&b.client("acme")]);
    assert_eq!(policy.anchors().map(|anchor| anchor.name.as_str()).collect::<Vec<_>>(), ["CN=A", "CN=B"]);
}

#[test]
fn a_file_is_read_once_for_all_sites() {
    let root = Ca::root("Root");
    let setup = Setup::new(&[&root]).crls(&[root.crl(&[])]);
    let (site, listener) = setup.config();
    let mut loader = Loader::new();
    let load = |loader: &mut Loader| Policy::load(&site, &listener, 1, at(NOW), loader).unwrap().0;
    let one = load(&mut loader);
    std::fs::remove_file(&site.client.authorities[0].trust[0]).unwrap();
    std::fs::remove_file(&site.client.authorities[0].crls[0]).unwrap();
    let two = load(&mut loader);
    assert_eq!(one.id(), two.id());
    let lists =
        |policy: &Policy| policy.authorities[0].revocation.iter().map(std::sync::Arc::as_ptr).collect::<Vec<_>>();
    assert_eq!(lists(&one), lists(&two));
}

#[test]
fn what_is_unwise_is_said_and_loaded() {
    let old = Ca::root_with("Old", |params| dates(params, NOW - 10 * DAY, NOW - DAY));
    let future = Ca::root_with("Future", |params| dates(params, NOW + DAY, NOW + 10 * DAY));
    let server = Ca::root_with("Server", |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    });
    let good = Ca::root("Good");
    let warnings = Setup::new(&[&old, &future, &server, &good]).warnings();
    for (name, part) in [("Old", "expired on"), ("Future", "valid only from"), ("Server", "without clientAuth")] {
        let found = warnings.iter().find(|warning| warning.contains(name)).unwrap();
        assert!(found.contains(part) && found.contains(".pem:"), "{found}");
    }
    assert!(!warnings.iter().any(|warning| warning.contains("Good")));
    let helpers = Setup::new(&[&good]).helpers(&[&good, &old]);
    assert!(helpers.warnings().iter().all(|warning| warning.contains("is a root")));
}

#[test]
fn names_are_advertised_as_told() {
    let (root, other) = (Ca::root("Root"), Ca::root("Other"));
    let named = |ca: &Ca| tlv(0x30, &[&ca.name()]);
    let with = |advertise| Setup::new(&[&root, &root]).with(|setup| setup.client.advertise = advertise);
    assert_eq!(with(Advertise::Trust).policy().advertised(), [named(&root)]);
    assert!(with(Advertise::None).policy().advertised().is_empty());
    let listed = Setup::new(&[&root]).with(|setup| {
        let file = setup.file("CERTIFICATE", &[&other.der]);
        setup.client.advertise = Advertise::Files(vec![file]);
    });
    assert_eq!(listed.policy().advertised(), [named(&other)]);
    for auth in [Auth::Off, Auth::Pin] {
        let setup = with(Advertise::Trust).auth(auth).allow(vec![rule(&[Condition::Sha256([0; 32])])]);
        assert!(setup.policy().advertised().is_empty());
    }
}

#[test]
fn too_long_a_list_of_names_is_refused_and_a_long_one_warned_of() {
    let long = |count: usize| {
        let cas: Vec<Ca> = (0..count).map(|i| Ca::root(&format!("{i} {}", "x".repeat(4000)))).collect();
        Setup::new(&cas.iter().collect::<Vec<_>>())
    };
    assert!(long(limits::ADVERTISED_BYTES_MAX / 4000 + 1).faults()[0].message.contains("more than TLS can carry"));
    let warned = |setup: &Setup| setup.warnings().iter().any(|warning| warning.contains("bytes of every handshake"));
    assert!(warned(&long(limits::ADVERTISED_BYTES_WISE / 4000 + 1)));
    assert!(!warned(&long(limits::ADVERTISED_BYTES_WISE / 4100)));
}

#[test]
fn the_policy_id_changes_with_all_that_decides_and_with_nothing_else() {
    let (root, other) = (Ca::root("Root"), Ca::root("Other"));
    let bad = root.client("bad");
    let (list, longer) = (root.crl(&[]), root.crl(&[&bad]));
    let a = || rule(&[Condition::Cn("a".into())]);
    let b = || named("b", &[Condition::Cn("b".into()), Condition::O("o".into())]);
    let base = || Setup::new(&[&root]).crls(std::slice::from_ref(&list)).allow(vec![a(), b()]).deny(vec![a(), b()]);
    let id = base().policy().id();
    assert_eq!(base().policy().id(), id, "files elsewhere, same contents");

    let (site, listener) = base().config();
    let _ = (site, listener);
    let turned = named("b", &[Condition::O("o".into()), Condition::Cn("b".into())]);
    assert_eq!(base().deny(vec![turned.clone(), a()]).policy().id(), id, "the order of deny and of conditions");
    assert_eq!(base().with(|s| s.client.advertise = Advertise::None).policy().id(), id, "what is advertised");
    assert_eq!(base().load_at(NOW + 100 * DAY).unwrap().0.id(), id, "when it was loaded");

    let authority = |change: fn(&mut crate::config::Authority)| base().with(|s| change(&mut s.client.authorities[0]));
    let changed = [
        base().auth(Auth::Optional),
        base().with(|setup| setup.site_name = "other"),
        base().with(|setup| setup.client.max_depth = 3),
        base().with(|setup| setup.client.crl_scope = CrlScope::Leaf),
        base().helpers(&[&other]),
        base().crls(&[longer]),
        authority(|authority| authority.crl_missing = CrlMissing::Allow),
        authority(|authority| authority.crl_expired = CrlExpired::Allow),
        authority(|authority| authority.crl_expired = CrlExpired::Grace(std::time::Duration::from_secs(1))),
        authority(|authority| authority.allow = None),
        authority(|authority| authority.allow = Some(vec![])),
        authority(|authority| authority.deny = vec![]),
        base().allow(vec![b(), a()]),
        base().allow(vec![a()]),
        base().authority(&[&other], |_| {}),
        Setup::new(&[&root, &other]).crls(std::slice::from_ref(&list)).allow(vec![a(), b()]).deny(vec![a(), b()]),
    ];
    let mut ids: Vec<_> = changed.iter().map(|setup| setup.policy().id()).collect();
    ids.push(id);
    let distinct: std::collections::HashSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len());
    let two = |first, second| Setup::new(&[first, second]).policy().id();
    assert_eq!(two(&root, &other), two(&other, &root), "the order of anchors");
}

#[test]
fn the_digest_of_a_chain_covers_every_byte_and_where_certificates_part() {
    use crate::trust::ChainDigest;
    let cert = |bytes: &[u8]| Cert::from(bytes.to_vec());
    let of = |leaf: &[u8], rest: &[&[u8]]| {
        ChainDigest::of(Some(&cert(leaf)), &rest.iter().map(|bytes| cert(bytes)).collect::<Vec<_>>())
    };
    let all =
        [of(b"ab", &[]), of(b"a", &[b"b"]), of(b"b", &[b"a"]), of(b"a", &[b"b", b""]), ChainDigest::of(None, &[])];
    let distinct: std::collections::HashSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len());
    assert_eq!(of(b"a", &[b"b"]), all[1]);
}
