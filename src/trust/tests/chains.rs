//! Chains: every reason for which one is refused, beside one that is not.

use super::pki::*;
use crate::config::{Auth, Condition, limits};
use crate::trust::{Reason, certificate::Certificate};
use rcgen::{
    BasicConstraints, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose, NameConstraints,
    RsaKeySize,
};
use rustls_pki_types::CertificateDer;

#[test]
fn admits_a_client_of_an_anchor_and_refuses_one_of_a_stranger() {
    let (root, stranger) = (Ca::root("Root"), Ca::root("Stranger"));
    let policy = Setup::new(&[&root]).policy();
    let decision = judge(&policy, &[&root.client("acme")]);
    let admission = decision.verdict.unwrap();
    assert_eq!(admission.identity().unwrap().as_str(), "cn:acme");
    assert_eq!((admission.reason(), admission.verify(), admission.chain_len()), (Reason::Ok, 0, 1));
    assert_eq!(admission.not_after(), Some(at(NOW + 365 * DAY)));
    let detail = refused(&policy, &[&stranger.client("acme")], Reason::UnknownIssuer);
    assert!(detail.contains("CN=Stranger"), "{detail}");
}

#[test]
fn walks_intermediates_that_the_client_sent_in_any_order() {
    let root = Ca::root("Root");
    let upper = root.ca("Upper");
    let lower = upper.ca("Lower");
    let client = lower.client("acme");
    let policy = Setup::new(&[&root]).policy();
    admitted(&policy, &[&client, &lower.der, &upper.der]);
    admitted(&policy, &[&client, &upper.der, &lower.der]);
    admitted(&policy, &[&client, &lower.der, &upper.der, &root.der]);
    admitted(&policy, &[&client, &lower.der, &upper.der, &Ca::root("Unrelated").der]);
    refused(&policy, &[&client, &upper.der], Reason::UnknownIssuer);
}

#[test]
fn helpers_complete_a_chain_and_are_never_anchors() {
    let root = Ca::root("Root");
    let lower = root.ca("Lower");
    let client = lower.client("acme");
    admitted(&Setup::new(&[&root]).helpers(&[&lower]).policy(), &[&client]);
    let stranger = Ca::root("Stranger");
    let setup = Setup::new(&[&stranger]).helpers(&[&lower, &root]);
    refused(&setup.policy(), &[&client], Reason::UnknownIssuer);
}

#[test]
fn an_intermediate_may_be_an_anchor() {
    let root = Ca::root("Root");
    let (lower, other) = (root.ca("Lower"), root.ca("Other"));
    let policy = Setup::new(&[&lower]).policy();
    admitted(&policy, &[&lower.client("acme")]);
    refused(&policy, &[&other.client("acme"), &other.der, &root.der], Reason::UnknownIssuer);
}

#[test]
fn tells_openssls_numbers_for_unknown_issuers() {
    let (root, stranger) = (Ca::root("Root"), Ca::root("Stranger"));
    let policy = Setup::new(&[&root]).policy();
    let verify = |chain: &[&Cert]| judge(&policy, chain).verdict.unwrap_err().verify;
    let alone = Ca::root_with("acme", |params| *params = client_params("acme"));
    assert_eq!(verify(&[&alone.der]), 18);
    let self_signed_ca = Ca::root("acme");
    assert_eq!(verify(&[&self_signed_ca.der]), 18);
    assert_eq!(verify(&[&stranger.client("acme"), &stranger.der]), 19);
    assert_eq!(verify(&[&stranger.client("acme")]), 21);
    let lower = stranger.ca("Lower");
    assert_eq!(verify(&[&lower.client("acme"), &lower.der]), 20);
}

#[test]
fn tells_a_missing_intermediate_from_an_unknown_issuer() {
    let root = Ca::root("Root");
    let lower = root.ca("Lower");
    let client = lower.client("acme");
    refused(&Setup::new(&[&root]).policy(), &[&client], Reason::UnknownIssuer);
    let by_crl = Setup::new(&[&root]).crls(&[root.crl(&[]), lower.crl(&[])]).policy();
    let detail = refused(&by_crl, &[&client], Reason::MissingIntermediate);
    assert!(detail.contains("CN=Lower") && detail.contains("intermediates"), "{detail}");
    let rule = rule(&[crate::config::Condition::Issuer("cn=lower".into())]);
    refused(&Setup::new(&[&root]).allow(vec![rule]).policy(), &[&client], Reason::MissingIntermediate);
    // AuthorityKeyIdentifier with the name of the issuer's issuer.
    let by_authority = lower.client_with("acme", |params| {
        params.use_authority_key_identifier_extension = false;
        let names = tlv(0xa1, &[&tlv(0xa4, &[&tlv(0x30, &[&root.name()])])]);
        extension(params, &[2, 5, 29, 35], false, tlv(0x30, &[&names, &tlv(0x82, &[&[1]])]));
    });
    refused(&Setup::new(&[&root]).policy(), &[&by_authority], Reason::MissingIntermediate);
    admitted(&Setup::new(&[&root]).policy(), &[&by_authority, &lower.der]);
}

#[test]
fn an_issuer_of_the_anchors_organization_is_taken_for_a_missing_intermediate() {
    let bank = |params: &mut rcgen::CertificateParams| {
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Bank");
    };
    let root = Ca::root_with("Root", bank);
    let lower = root.ca_with("Lower", bank);
    let other = root.ca_with("Lower", |params| {
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Other");
    });
    let policy = Setup::new(&[&root]).policy();
    refused(&policy, &[&lower.client("acme")], Reason::MissingIntermediate);
    refused(&policy, &[&other.client("acme")], Reason::UnknownIssuer);
}

#[test]
fn dates_count_to_the_second_at_both_ends() {
    let root = Ca::root("Root");
    let client = root.client_with("acme", |params| dates(params, NOW - 10, NOW + 10));
    let policy = Setup::new(&[&root]).policy();
    let reason_at = |seconds| {
        let decision = judge_at(&policy, &[&client], seconds);
        reason(&decision).0
    };
    assert_eq!(reason_at(NOW - 11), Reason::NotYetValid);
    assert_eq!(reason_at(NOW - 10), Reason::Ok);
    assert_eq!(reason_at(NOW + 10), Reason::Ok);
    assert_eq!(reason_at(NOW + 11), Reason::Expired);
}

#[test]
fn an_expired_intermediate_is_named() {
    let root = Ca::root("Root");
    let old = root.ca_with("Old", |params| dates(params, NOW - 20 * DAY, NOW - DAY));
    let policy = Setup::new(&[&root]).policy();
    let detail = refused(&policy, &[&old.client("acme"), &old.der], Reason::Expired);
    assert!(detail.contains("certificate 2") && detail.contains("CN=Old") && detail.contains("2027-01-14"), "{detail}");
}

#[test]
fn an_expired_anchor_ends_no_path_unless_its_successor_has_the_same_key() {
    let old = Ca::root_with("Root", |params| dates(params, NOW - 20 * DAY, NOW - DAY));
    let client = old.client("acme");
    let detail = refused(&Setup::new(&[&old]).policy(), &[&client], Reason::Expired);
    assert!(detail.contains("anchor CN=Root"), "{detail}");
    let mut params = ca_params("Root");
    params.serial_number = Some(7u64.into());
    let successor = params.self_signed(&old.key).unwrap().der().clone();
    let mut setup = Setup::new(&[&old]);
    let file = setup.file("CERTIFICATE", &[&successor]);
    setup.client.authorities[0].trust.push(file);
    admitted(&setup.policy(), &[&client]);
}

#[test]
fn a_re_keyed_ca_of_the_same_name_is_told_from_a_forgery() {
    let (trusted, other) = (Ca::root("Root"), Ca::root("Root"));
    let policy = Setup::new(&[&trusted]).policy();
    let detail = refused(&policy, &[&other.client("acme")], Reason::BadSignature);
    assert!(detail.contains("another key"), "{detail}");
    let client = trusted.client("acme");
    admitted(&policy, &[&client]);
    let mut forged = client.to_vec();
    let at = forged.windows(4).position(|window| window == b"acme").unwrap();
    forged[at] = b'A';
    let detail = refused(&policy, &[&CertificateDer::from(forged)], Reason::BadSignature);
    assert!(detail.contains("altered"), "{detail}");
    // Both keys in trust, in either order: each client finds its own.
    for order in [[&trusted, &other], [&other, &trusted]] {
        let both = Setup::new(&order).policy();
        admitted(&both, &[&client]);
        admitted(&both, &[&other.client("acme")]);
    }
}

#[test]
fn the_bad_signature_of_a_longer_chain_is_found() {
    let root = Ca::root("Root");
    let (lower, impostor) = (root.ca("Lower"), Ca::root("Lower"));
    let policy = Setup::new(&[&root]).policy();
    let client = impostor.client("acme");
    let detail = refused(&policy, &[&client, &lower.der], Reason::BadSignature);
    assert!(detail.starts_with("the client's certificate") && detail.contains("CN=Lower"), "{detail}");
    admitted(&policy, &[&lower.client("acme"), &lower.der]);
}

#[test]
fn a_version_1_leaf_is_refused_with_the_way_to_make_a_version_3_one() {
    let root = Ca::root("Root");
    let key = KeyPair::generate().unwrap();
    let v3 = root.sign(&client_params("acme"), &key);
    let view = parse(&v3);
    let name = tlv(0x30, &[&root.name()]);
    let validity = tlv(0x30, &[&utc(NOW - DAY), &utc(NOW + DAY)]);
    let subject = tlv(0x30, &[view.subject]);
    let tbs = tlv(0x30, &[&tlv(0x02, &[&[9]]), &algorithm(), &name, &validity, &subject, view.spki]);
    let v1 = CertificateDer::from(signed(&tbs, &root.key));
    for auth in [Auth::Require, Auth::Optional, Auth::Request] {
        let policy = Setup::new(&[&root]).auth(auth).policy();
        let detail = refused(&policy, &[&v1], Reason::UnsupportedVersion);
        assert!(detail.contains("openssl x509 -req") && detail.contains("-extfile"), "{detail}");
        admitted(&policy, &[&v3]);
    }
    let refusal = judge(&Setup::new(&[&root]).policy(), &[&v1]).verdict.unwrap_err();
    assert_eq!(refusal.leaf.unwrap().subject, "CN=acme");
}

#[test]
fn a_version_1_root_is_an_anchor() {
    let mut root = Ca::root("Root");
    let view = parse(&root.der);
    let name = tlv(0x30, &[view.subject]);
    let validity = tlv(0x30, &[&utc(NOW - DAY), &utc(NOW + DAY)]);
    let tbs = tlv(0x30, &[&tlv(0x02, &[&[9]]), &algorithm(), &name, &validity, &name, view.spki]);
    let client = root.client("acme");
    root.der = CertificateDer::from(signed(&tbs, &root.key));
    let policy = Setup::new(&[&root]).policy();
    admitted(&policy, &[&client]);
    admitted(&policy, &[&client, &root.der]);
}

#[test]
fn the_purpose_must_be_client_auth_where_one_is_given() {
    let root = Ca::root("Root");
    let policy = Setup::new(&[&root]).policy();
    let with = |purposes: Vec<ExtendedKeyUsagePurpose>| {
        root.client_with("acme", |params| params.extended_key_usages = purposes)
    };
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
    admitted(&policy, &[&with(vec![])]);
    admitted(&policy, &[&with(vec![ServerAuth, ClientAuth])]);
    let detail = refused(&policy, &[&with(vec![ServerAuth])], Reason::WrongPurpose);
    assert!(detail.contains("extendedKeyUsage = clientAuth"), "{detail}");
    refused(&policy, &[&with(vec![Any])], Reason::WrongPurpose);
    let server_ca = root.ca_with("Servers", |params| params.extended_key_usages = vec![ServerAuth]);
    let detail = refused(&policy, &[&server_ca.client("acme"), &server_ca.der], Reason::WrongPurpose);
    assert!(detail.contains("CN=Servers"), "{detail}");
    let server_root = Ca::root_with("Server Root", |params| params.extended_key_usages = vec![ServerAuth]);
    refused(&Setup::new(&[&server_root]).policy(), &[&server_root.client("acme")], Reason::WrongPurpose);
}

#[test]
fn the_key_usage_of_a_client_must_let_it_sign() {
    let root = Ca::root("Root");
    let policy = Setup::new(&[&root]).policy();
    let with = |usages: Vec<KeyUsagePurpose>| root.client_with("acme", |params| params.key_usages = usages);
    admitted(&policy, &[&with(vec![])]);
    admitted(&policy, &[&with(vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment])]);
    refused(&policy, &[&with(vec![KeyUsagePurpose::KeyEncipherment])], Reason::WrongPurpose);
}

#[test]
fn a_ca_certificate_is_no_client_and_a_client_is_no_ca() {
    let root = Ca::root("Root");
    let policy = Setup::new(&[&root]).policy();
    refused(&policy, &[&root.ca("Lower").der], Reason::CaAsLeaf);
    let client = Ca { params: client_params("middle"), ..root.ca_with("middle", |p| *p = client_params("middle")) };
    let detail = refused(&policy, &[&client.client("acme"), &client.der], Reason::NotACa);
    assert!(detail.contains("CN=middle"), "{detail}");
    admitted(&policy, &[&client.der]);
    let no_sign = root.ca_with("NoSign", |params| params.key_usages = vec![KeyUsagePurpose::CrlSign]);
    let detail = refused(&policy, &[&no_sign.client("acme"), &no_sign.der], Reason::NotACa);
    assert!(detail.contains("keyCertSign"), "{detail}");
}

#[test]
fn a_leaf_among_the_anchors_vouches_for_itself_alone() {
    let own = Ca::root_with("partner", |params| *params = client_params("partner"));
    let setup = Setup::new(&[&own]);
    let policy = setup.policy();
    admitted(&policy, &[&own.der]);
    refused(&policy, &[&own.client("minted")], Reason::NotACa);
    assert!(setup.warnings().iter().any(|warning| warning.contains("vouches for itself alone")));
}

#[test]
fn name_constraints_bind_what_is_below() {
    let root = Ca::root("Root");
    let bound = root.ca_with("Bound", |params| {
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("partner.example".into())],
            excluded_subtrees: vec![],
        });
    });
    let policy = Setup::new(&[&root]).policy();
    let with = |name: &str| bound.client_with("acme", |params| san(params, "dns", name));
    admitted(&policy, &[&with("a.partner.example"), &bound.der]);
    refused(&policy, &[&with("api.bank.example"), &bound.der], Reason::NameConstraint);
}

#[test]
fn the_depth_is_the_sites_and_the_cas_own() {
    let root = Ca::root("Root");
    let (a, b);
    a = root.ca("A");
    b = a.ca("B");
    let client = b.client("acme");
    let chain = [&client, &b.der, &a.der];
    let with = |depth| Setup::new(&[&root]).with(|setup| setup.client.max_depth = depth).policy();
    admitted(&with(2), &chain);
    let detail = refused(&with(1), &chain, Reason::ChainTooDeep);
    assert!(detail.contains("max_depth is 1"), "{detail}");
    admitted(&with(0), &[&root.client("acme")]);
    refused(&with(0), &[&a.client("acme"), &a.der], Reason::ChainTooDeep);

    let short = |n| IsCa::Ca(BasicConstraints::Constrained(n));
    let a = root.ca_with("A", |params| params.is_ca = short(0));
    let b = a.ca("B");
    admitted(&with(4), &[&a.client("acme"), &a.der]);
    refused(&with(4), &[&b.client("acme"), &b.der, &a.der], Reason::ChainTooDeep);
    let root = Ca::root_with("Short", |params| params.is_ca = short(0));
    let a = root.ca("A");
    let policy = Setup::new(&[&root]).policy();
    admitted(&policy, &[&root.client("acme")]);
    refused(&policy, &[&a.client("acme"), &a.der], Reason::ChainTooDeep);
}

#[test]
fn a_chain_is_bounded_in_certificates_and_bytes() {
    let root = Ca::root("Root");
    let client = root.client("acme");
    let others: Vec<Cert> = (0..8).map(|i| Ca::root(&format!("Other {i}")).der).collect();
    let mut chain = vec![&client];
    chain.extend(&others[..7]);
    let policy = Setup::new(&[&root]).policy();
    admitted(&policy, &chain);
    chain.push(&others[7]);
    refused(&policy, &chain, Reason::ChainTooBig);
    // The log still tells whose chain it was.
    assert_eq!(judge(&policy, &chain).verdict.unwrap_err().leaf.unwrap().subject, "CN=acme");
    let bytes = |max| Setup::new(&[&root]).with(|setup| setup.chain_bytes_max = max).policy();
    admitted(&bytes(client.len()), &[&client]);
    refused(&bytes(client.len() - 1), &[&client], Reason::ChainTooBig);
}

#[test]
fn weak_keys_and_signatures_are_refused_and_named() {
    let root = Ca::root("Root");
    let policy = Setup::new(&[&root]).policy();
    let strong = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    admitted(&policy, &[&root.sign(&client_params("acme"), &strong)]);
    let client = root.client("acme");
    // A key of 1024 bits: the modulus' length is all that is looked at before a signature counts.
    let spki = tlv(
        0x30,
        &[
            &tlv(0x30, &[&oid("1.2.840.113549.1.1.1"), &[5, 0]]),
            &tlv(0x03, &[&[0], &tlv(0x30, &[&tlv(0x02, &[&[0], &[0xc5; 128]]), &tlv(0x02, &[&[1, 0, 1]])])]),
        ],
    );
    let weak = replace_in_tbs(&client, parse(&client).spki, &spki, &root.key);
    let digests = [crate::trust::sha256(&weak), crate::trust::sha256(&client)].map(Condition::Sha256);
    let mut pinned = authority();
    pinned.allow = Some(digests.map(|digest| rule(&[digest])).into());
    let pin = Setup::bare().auth(Auth::Pin).with(|setup| setup.client.authorities = vec![pinned]);
    // Without a signature that can be checked nobody proves possession, whatever else a mode forgives.
    for policy in [&policy, &Setup::new(&[&root]).auth(Auth::Request).policy(), &pin.policy()] {
        admitted(policy, &[&client]);
        let detail = refused(policy, &[&weak], Reason::WeakOrUnsupportedSig);
        assert!(detail.contains("1024 bits"), "{detail}");
    }
    let sha1 = tlv(0x30, &[&oid("1.2.840.10045.4.1")]);
    let bytes = String::from_utf8_lossy(&hex_of(&client)).replace(&hex::encode(algorithm()), &hex::encode(&sha1));
    let by_sha1 = rebuild(&CertificateDer::from(hex::decode(bytes).unwrap()));
    let detail = refused(&policy, &[&by_sha1], Reason::WeakOrUnsupportedSig);
    assert!(detail.contains("SHA-1"), "{detail}");
}

fn hex_of(der: &Cert) -> Vec<u8> {
    hex::encode(der).into_bytes()
}

/// The lengths of the outer two SEQUENCEs set right again.
fn rebuild(der: &Cert) -> Cert {
    let header = |bytes: &[u8]| if bytes[1] < 0x80 { 2 } else { 2 + usize::from(bytes[1] & 0x7f) };
    let body = &der[header(der)..];
    let (inner, old) = (&body[header(body)..], 2 * (algorithm().len() - tlv(0x30, &[&oid("1.2.840.10045.4.1")]).len()));
    let length = body[2..header(body)].iter().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte)) - old / 2;
    let (tbs, rest) = inner.split_at(length);
    CertificateDer::from(tlv(0x30, &[&tlv(0x30, &[tbs]), rest]))
}

fn replace_in_tbs(der: &Cert, old: &[u8], new: &[u8], key: &KeyPair) -> Cert {
    let tbs = parse(der).tbs;
    let content = &tbs[if tbs[1] < 0x80 { 2 } else { 2 + usize::from(tbs[1] & 0x7f) }..];
    let at = content.windows(old.len()).position(|window| window == old).unwrap();
    let tbs = tlv(0x30, &[&content[..at], new, &content[at + old.len()..]]);
    CertificateDer::from(signed(&tbs, key))
}

#[test]
fn what_is_no_certificate_is_refused_wherever_it_stands() {
    let root = Ca::root("Root");
    let client = root.client("acme");
    let junk = CertificateDer::from(b"junk".to_vec());
    let policy = Setup::new(&[&root]).policy();
    refused(&policy, &[&junk], Reason::BadEncoding);
    let detail = refused(&policy, &[&client, &junk], Reason::BadEncoding);
    assert!(detail.contains("certificate 2"), "{detail}");
    let mut trailing = client.to_vec();
    trailing.push(0);
    refused(&policy, &[&CertificateDer::from(trailing)], Reason::BadEncoding);
    admitted(&policy, &[&client]);
}

#[test]
fn a_certificate_with_a_thousand_names_is_refused_before_any_rule_looks_at_them() {
    let root = Ca::root("Root");
    let policy = Setup::new(&[&root]).policy();
    let with = |count| root.client_with("acme", |params| (0..count).for_each(|i| san(params, "dns", &format!("n{i}"))));
    admitted(&policy, &[&with(limits::ALTERNATIVE_NAMES_MAX)]);
    refused(&policy, &[&with(limits::ALTERNATIVE_NAMES_MAX + 1)], Reason::BadEncoding);
}

#[test]
fn unknown_critical_extensions_are_refused_others_are_not() {
    let root = Ca::root("Root");
    let policy = Setup::new(&[&root]).policy();
    let with = |critical| root.client_with("acme", |params| extension(params, &[1, 2, 3, 4], critical, vec![5, 0]));
    admitted(&policy, &[&with(false)]);
    let detail = refused(&policy, &[&with(true)], Reason::BadEncoding);
    assert!(detail.contains("critical extension"), "{detail}");
}

#[test]
fn an_extension_that_stands_twice_is_refused_for_two_readers_could_take_different_ones() {
    let root = Ca::root("Root");
    let policy = Setup::new(&[&root]).policy();
    let with = |arcs: [u64; 2]| {
        root.client_with("acme", |params| {
            arcs.iter().for_each(|arc| extension(params, &[1, 2, 3, *arc], false, vec![5, 0]));
        })
    };
    admitted(&policy, &[&with([4, 5])]);
    refused(&policy, &[&with([4, 4])], Reason::BadEncoding);
}

#[test]
fn a_cross_signed_ca_leads_to_whichever_anchor_is_trusted() {
    let (old, new) = (Ca::root("Old"), Ca::root("New"));
    let lower = old.ca("Lower");
    let by_new = new.cross_sign(&lower);
    let client = lower.client("acme");
    let chain = [&client, &lower.der, &by_new];
    admitted(&Setup::new(&[&old]).policy(), &chain);
    admitted(&Setup::new(&[&new]).policy(), &chain);
    // A root that moved below another one: its old certificate has run out, its cross certificate has not.
    let expired = Ca::root_with("Moved", |params| dates(params, NOW - 20 * DAY, NOW - DAY));
    let mut moved = ca_params("Moved");
    moved.serial_number = Some(3u64.into());
    let moved = new.sign(&moved, &expired.key);
    let policy = Setup::new(&[&expired, &new]).policy();
    admitted(&policy, &[&expired.client("acme"), &moved]);
    refused(&policy, &[&expired.client("acme")], Reason::Expired);
}

#[test]
fn a_ca_that_changed_its_key_by_a_self_issued_certificate_is_followed() {
    let old = Ca::root("CA");
    let new = old.ca("CA");
    let client = new.client("acme");
    let policy = Setup::new(&[&old]).policy();
    admitted(&policy, &[&client, &new.der]);
    refused(&policy, &[&client], Reason::BadSignature);
}

#[test]
fn details_never_carry_what_forges_a_line() {
    let root = Ca::root("Root\n{\"event\":\"accepted\"}\u{202e}");
    let stranger = Ca::root("Stranger\r\n\0");
    let policy = Setup::new(&[&root]).policy();
    refused(&policy, &[&stranger.client("a\nb")], Reason::UnknownIssuer);
    let long = Ca::root(&"x".repeat(4000));
    let detail = refused(&policy, &[&long.client("acme")], Reason::UnknownIssuer);
    assert!(detail.len() <= limits::REASON_DETAIL_BYTES_MAX);
    let admission = judge(&policy, &[&root.client("a\nb\0,\"+")]).verdict.unwrap();
    let leaf = admission.leaf().unwrap();
    assert_eq!(leaf.subject, "CN=a\\0ab\\00\\,\\\"\\+");
    assert!(!leaf.issuer.chars().any(char::is_control) && !leaf.issuer.contains('\u{202e}'));
    assert_eq!(admission.identity().unwrap().as_str(), "cn:a\\0ab\\00,\"+");
}

#[test]
fn what_two_readers_see_of_a_certificate_is_the_same() {
    let root = Ca::root("Root");
    let client = root.client_with("acme", |params| san(params, "uri", "spiffe://bank.example/a"));
    let ours = Certificate::parse(&client).unwrap();
    let theirs = webpki::EndEntityCert::try_from(&client).unwrap();
    assert_eq!((ours.serial, ours.issuer, ours.subject), (theirs.serial(), theirs.issuer(), theirs.subject()));
    assert_eq!(ours.spki, theirs.subject_public_key_info().as_ref());
    let (_, third) = x509_parser::parse_x509_certificate(&client).unwrap();
    assert_eq!(ours.not_after, third.validity().not_after.timestamp());
    assert_eq!(third.tbs_certificate.as_ref(), ours.tbs);
}
