//! Revocation, line by line of what has gone wrong elsewhere.

use super::pki::*;
use crate::config::{CrlExpired, CrlMissing, CrlScope, FaultKind};
use crate::trust::{Reason, crl::Crl as Parsed};
use rcgen::{CrlDistributionPoint, KeyPair, KeyUsagePurpose};
use std::time::Duration;

#[test]
fn a_revoked_client_is_refused_and_another_is_not() {
    let root = Ca::root("Root");
    let (good, bad) = (root.client("good"), root.client("bad"));
    let policy = Setup::new(&[&root]).crls(&[root.crl(&[&bad])]).policy();
    admitted(&policy, &[&good]);
    let detail = refused(&policy, &[&bad], Reason::Revoked);
    assert!(detail.contains("CN=Root") && detail.contains("2027-01-05"), "{detail}");
}

#[test]
fn without_crls_nothing_is_looked_up() {
    let root = Ca::root("Root");
    admitted(&Setup::new(&[&root]).policy(), &[&root.client("acme")]);
}

#[test]
fn a_stale_list_beside_a_newer_one_lets_no_revoked_client_in_whatever_the_order() {
    let root = Ca::root("Root");
    let bad = root.client("bad");
    let numbered = |number, revoked: &[&Cert]| Crl::of(&root).revoke(revoked).with(|c| c.number = Some(number)).sign();
    let (old, new) = (numbered(9, &[]), numbered(300, &[&bad]));
    for order in [vec![old.clone(), new.clone()], vec![new, old]] {
        let policy = Setup::new(&[&root]).crls(&order).policy();
        refused(&policy, &[&bad], Reason::Revoked);
        admitted(&policy, &[&root.client("good")]);
        assert_eq!(policy.crls().count(), 1);
    }
    // Without numbers thisUpdate decides.
    let dated = |this_update, revoked: &[&Cert]| {
        let list = Crl::of(&root).revoke(revoked);
        list.with(|c| (c.version, c.number, c.this_update) = (None, None, this_update)).sign()
    };
    let lists = [dated(NOW - 2 * DAY, &[&bad]), dated(NOW - DAY, &[])];
    admitted(&Setup::new(&[&root]).crls(&lists).policy(), &[&bad]);
}

#[test]
fn a_list_of_the_same_name_and_another_key_neither_hides_nor_replaces_the_right_one() {
    let (root, other) = (Ca::root("Root"), Ca::root("Root"));
    let (good, bad) = (root.client("good"), root.client("bad"));
    let wrong = Crl::of(&other).revoke(&[&good]).with(|c| c.number = Some(1000)).sign();
    let right = root.crl(&[&bad]);
    for order in [[wrong.clone(), right.clone()], [right, wrong.clone()]] {
        let setup = Setup::new(&[&root]).crls(&order);
        admitted(&setup.policy(), &[&good]);
        refused(&setup.policy(), &[&bad], Reason::Revoked);
        assert!(setup.warnings().iter().any(|warning| warning.contains("is not signed by any CN=Root")));
    }
    let detail = refused(&Setup::new(&[&root]).crls(&[wrong]).policy(), &[&good], Reason::CrlMissing);
    assert!(detail.contains("signed by another key"), "{detail}");
}

#[test]
fn a_forged_list_counts_for_nothing() {
    let root = Ca::root("Root");
    let bad = root.client("bad");
    let forged = Crl::of(&root).with(|c| c.number = Some(1000)).sign_with(&KeyPair::generate().unwrap());
    let policy = Setup::new(&[&root]).crls(&[forged.clone(), root.crl(&[&bad])]).policy();
    refused(&policy, &[&bad], Reason::Revoked);
    refused(&Setup::new(&[&root]).crls(&[forged]).policy(), &[&root.client("good")], Reason::CrlMissing);
}

#[test]
fn a_list_that_ran_out_refuses_unless_told_otherwise() {
    let root = Ca::root("Root");
    let (good, bad) = (root.client("good"), root.client("bad"));
    let list = Crl::of(&root).revoke(&[&bad]).with(|c| c.next_update = Some(NOW + 100)).sign();
    let with = |expired| {
        let setup = Setup::new(&[&root]).crls(std::slice::from_ref(&list));
        setup.with(|setup| setup.client.authorities[0].crl_expired = expired).policy()
    };
    let reason_at = |policy: &crate::trust::Policy, cert, seconds| reason(&judge_at(policy, &[cert], seconds)).0;
    let refuse = with(CrlExpired::Refuse);
    assert_eq!(reason_at(&refuse, &good, NOW + 99), Reason::Ok);
    assert_eq!(reason_at(&refuse, &good, NOW + 100), Reason::CrlExpired);
    let grace = with(CrlExpired::Grace(Duration::from_secs(50)));
    assert_eq!(reason_at(&grace, &good, NOW + 149), Reason::Ok);
    assert_eq!(reason_at(&grace, &good, NOW + 150), Reason::CrlExpired);
    let allow = with(CrlExpired::Allow);
    assert_eq!(reason_at(&allow, &good, NOW + 200 * DAY), Reason::Ok);
    // Who is on a list that ran out is revoked all the same.
    for policy in [&refuse, &grace, &allow] {
        assert_eq!(reason_at(policy, &bad, NOW + 200 * DAY), Reason::Revoked);
    }
}

#[test]
fn an_answer_ends_when_its_list_does() {
    let root = Ca::root("Root");
    let list = Crl::of(&root).with(|c| (c.this_update, c.next_update) = (NOW - 5, Some(NOW + 100))).sign();
    let policy = Setup::new(&[&root]).crls(&[list]).policy();
    let admission = judge(&policy, &[&root.client("acme")]).verdict.unwrap();
    assert_eq!(admission.valid_until(), Some(at(NOW + 99)));
    assert_eq!(admission.valid_from(), Some(at(NOW - 5)));
    assert_eq!(admission.not_after(), Some(at(NOW + 365 * DAY)));
}

#[test]
fn a_list_from_the_future_is_not_used_and_takes_over_when_it_begins() {
    let root = Ca::root("Root");
    let bad = root.client("bad");
    let future = Crl::of(&root).revoke(&[&bad]).with(|c| (c.number, c.this_update) = (Some(2), NOW + 60)).sign();
    let setup = Setup::new(&[&root]).crls(std::slice::from_ref(&future));
    refused(&setup.policy(), &[&bad], Reason::CrlMissing);
    assert!(setup.warnings().iter().any(|warning| warning.contains("begins only on")));
    let both = Setup::new(&[&root]).crls(&[future, root.crl(&[])]).policy();
    let admission = judge(&both, &[&bad]).verdict.unwrap();
    assert_eq!(admission.valid_until(), Some(at(NOW + 59)));
    assert_eq!(reason(&judge_at(&both, &[&bad], NOW + 60)).0, Reason::Revoked);
}

#[test]
fn an_issuer_without_a_list_is_missing_unless_allowed() {
    let (root, other) = (Ca::root("Root"), Ca::root("Other"));
    let client = other.client("acme");
    let setup = || Setup::new(&[&root, &other]).crls(&[root.crl(&[])]);
    refused(&setup().policy(), &[&client], Reason::CrlMissing);
    admitted(&setup().policy(), &[&root.client("acme")]);
    let allow = setup().with(|setup| setup.client.authorities[0].crl_missing = CrlMissing::Allow);
    admitted(&allow.policy(), &[&client]);
    assert!(setup().warnings().iter().any(|warning| warning.contains("no CRL of the anchor CN=Other")));
}

#[test]
fn one_authoritys_lists_make_none_compulsory_for_another() {
    let (bank, partner) = (Ca::root("Bank"), Ca::root("Partner"));
    let revoked = bank.client("bad");
    let policy = Setup::new(&[&bank]).crls(&[bank.crl(&[&revoked])]).authority(&[&partner], |_| {}).policy();
    admitted(&policy, &[&partner.client("acme")]);
    admitted(&policy, &[&bank.client("acme")]);
    refused(&policy, &[&revoked], Reason::Revoked);
}

#[test]
fn the_whole_chain_is_looked_up_or_the_leaf_alone() {
    let root = Ca::root("Root");
    let lower = root.ca("Lower");
    let client = lower.client("acme");
    let chain = [&client, &lower.der];
    let setup = |crls: &[Vec<u8>], scope| Setup::new(&[&root]).crls(crls).with(|s| s.client.crl_scope = scope).policy();
    let both = [root.crl(&[&lower.der]), lower.crl(&[])];
    let detail = refused(&setup(&both, CrlScope::Chain), &chain, Reason::Revoked);
    assert!(detail.contains("certificate 2"), "{detail}");
    admitted(&setup(&both, CrlScope::Leaf), &chain);
    refused(&setup(&[lower.crl(&[])], CrlScope::Chain), &chain, Reason::CrlMissing);
    admitted(&setup(&[lower.crl(&[])], CrlScope::Leaf), &chain);
    refused(&setup(&[root.crl(&[]), lower.crl(&[&client])], CrlScope::Leaf), &chain, Reason::Revoked);
}

#[test]
fn a_list_of_an_intermediate_that_clients_bring_is_verified_when_it_comes() {
    let root = Ca::root("Root");
    let (lower, impostor) = (root.ca("Lower"), Ca::root("Lower"));
    let (good, bad) = (lower.client("good"), lower.client("bad"));
    let setup = Setup::new(&[&root]).crls(&[root.crl(&[]), impostor.crl(&[&good]), lower.crl(&[&bad])]);
    let policy = setup.policy();
    admitted(&policy, &[&good, &lower.der]);
    refused(&policy, &[&bad, &lower.der], Reason::Revoked);
    admitted(&policy, &[&good, &lower.der]);
    assert!(setup.warnings().iter().any(|warning| warning.contains("verified only once a client presents")));
    let helped = Setup::new(&[&root]).helpers(&[&lower]).crls(&[root.crl(&[]), lower.crl(&[&bad])]);
    assert_eq!(helped.warnings(), Vec::<String>::new());
    refused(&helped.policy(), &[&bad], Reason::Revoked);
}

#[test]
fn an_issuer_that_may_not_sign_lists_covers_nobody() {
    let root = Ca::root_with("Root", |params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]);
    let setup = Setup::new(&[&root]).crls(&[root.crl(&[])]);
    let detail = refused(&setup.policy(), &[&root.client("acme")], Reason::CrlMissing);
    assert!(detail.contains("KeyUsage"), "{detail}");
    let free = Ca::root_with("Root", |params| params.key_usages = vec![]);
    admitted(&Setup::new(&[&free]).crls(&[free.crl(&[])]).policy(), &[&free.client("acme")]);
}

fn point(uri: &str) -> Vec<u8> {
    tlv(0xa0, &[&tlv(0xa0, &[&tlv(0x86, &[uri.as_bytes()])])])
}

fn with_scope<'c>(ca: &'c Ca, parts: &[&[u8]]) -> Crl<'c> {
    let value = tlv(0x30, parts);
    Crl::of(ca).with(|crl| crl.extensions.push(raw_extension("2.5.29.28", true, &value)))
}

#[test]
fn a_list_for_one_distribution_point_covers_those_that_name_it() {
    let root = Ca::root("Root");
    let at_point = |uri: &str| {
        let point = CrlDistributionPoint { uris: vec![uri.to_owned()] };
        root.client_with("acme", |params| params.crl_distribution_points = vec![point])
    };
    let (one, two) = (at_point("http://crl/1"), at_point("http://crl/2"));
    let list = |uri: &str, revoked: &[&Cert]| with_scope(&root, &[&point(uri)]).revoke(revoked).sign();
    let policy = Setup::new(&[&root]).crls(&[list("http://crl/1", &[])]).policy();
    admitted(&policy, &[&one]);
    refused(&policy, &[&two], Reason::CrlMissing);
    refused(&policy, &[&root.client("no point")], Reason::CrlMissing);
    // A newer list of another point replaces nothing.
    let newer = with_scope(&root, &[&point("http://crl/2")]).with(|c| c.number = Some(99)).sign();
    let policy = Setup::new(&[&root]).crls(&[newer, list("http://crl/1", &[&one])]).policy();
    refused(&policy, &[&one], Reason::Revoked);
    admitted(&policy, &[&two]);
    // A complete list covers everybody, wherever their own lists are.
    admitted(&Setup::new(&[&root]).crls(&[root.crl(&[])]).policy(), &[&one]);
}

#[test]
fn lists_for_users_or_for_cas_cover_only_those() {
    let root = Ca::root("Root");
    let lower = root.ca("Lower");
    let (direct, below) = (root.client("direct"), lower.client("below"));
    let users = with_scope(&root, &[&tlv(0x81, &[&[0xff]])]).sign();
    let cas = with_scope(&root, &[&tlv(0x82, &[&[0xff]])]).sign();
    let setup = |root_lists: &[&Vec<u8>]| {
        let mut lists = vec![lower.crl(&[])];
        lists.extend(root_lists.iter().map(|list| (*list).clone()));
        Setup::new(&[&root]).crls(&lists).policy()
    };
    admitted(&setup(&[&users]), &[&direct]);
    refused(&setup(&[&users]), &[&below, &lower.der], Reason::CrlMissing);
    refused(&setup(&[&cas]), &[&direct], Reason::CrlMissing);
    admitted(&setup(&[&cas]), &[&below, &lower.der]);
    admitted(&setup(&[&cas, &users]), &[&direct]);
}

#[test]
fn lists_that_cannot_be_done_justice_are_refused_with_their_reason() {
    let root = Ca::root("Root");
    let with = |oid: &str, critical, value: &[u8]| {
        let extension = raw_extension(oid, critical, value);
        Crl::of(&root).with(|crl| crl.extensions.push(extension)).sign()
    };
    let entry_with = |extension: Vec<u8>| Crl::of(&root).with(|c| c.entries.push(entry(&[7], &[extension]))).sign();
    let number = tlv(0x02, &[&[1]]);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (with("2.5.29.27", true, &number), "delta CRL"),
        (with("1.2.3.4", true, &number), "critical extension 1.2.3.4"),
        (with("2.5.29.20", false, &number), "not a well-formed CRL"),
        (with_scope(&root, &[&tlv(0x84, &[&[0xff]])]).sign(), "indirect CRL"),
        (with_scope(&root, &[&tlv(0x83, &[&[1, 6]])]).sign(), "some revocation reasons"),
        (with_scope(&root, &[&tlv(0x85, &[&[0xff]])]).sign(), "attribute certificates"),
        (with_scope(&root, &[&tlv(0x81, &[&[0xff]]), &tlv(0x82, &[&[0xff]])]).sign(), "leaves nobody"),
        (with_scope(&root, &[&tlv(0xa0, &[&tlv(0xa1, &[&tlv(0x30, &[])])])]).sign(), "relative to its issuer"),
        (entry_with(raw_extension("2.5.29.29", true, &tlv(0x30, &[]))), "indirect CRL"),
        (entry_with(raw_extension("1.2.3.5", true, &number)), "critical extension 1.2.3.5"),
        (Crl::of(&root).with(|c| c.next_update = None).sign(), "no nextUpdate"),
        (Crl::of(&root).with(|c| c.version = Some(7)).sign(), "neither a version 1 nor"),
        (Crl::of(&root).with(|c| c.version = None).sign(), "neither a version 1 nor"),
    ];
    for (list, part) in cases {
        let faults = Setup::new(&[&root]).crls(&[list]).faults();
        assert!(faults[0].message.contains(part), "{part}: {faults:?}");
        assert_eq!(
            (faults[0].kind, faults[0].line, faults[0].key.as_str()),
            (FaultKind::Config, Some(1), "site.client.crls")
        );
    }
    let harmless = Crl::of(&root).with(|crl| {
        crl.extensions.push(raw_extension("1.2.3.4", false, &number));
        crl.extensions.push(raw_extension("2.5.29.46", false, &tlv(0x30, &[])));
        crl.entries.push(entry(&[7], &[raw_extension("2.5.29.21", false, &tlv(0x0a, &[&[1]]))]));
        crl.entries.push(entry(&[8], &[raw_extension("1.2.3.5", false, &number)]));
    });
    admitted(&Setup::new(&[&root]).crls(&[harmless.sign()]).policy(), &[&root.client("acme")]);
}

#[test]
fn a_list_without_extensions_is_taken_as_version_1() {
    let root = Ca::root("Root");
    let bad = root.client("bad");
    let list = Crl::of(&root).revoke(&[&bad]).with(|c| (c.version, c.number) = (None, None)).sign();
    let policy = Setup::new(&[&root]).crls(&[list]).policy();
    refused(&policy, &[&bad], Reason::Revoked);
    admitted(&policy, &[&root.client("good")]);
}

#[test]
fn remove_from_crl_in_a_complete_list_counts_as_revoked() {
    let root = Ca::root("Root");
    let client = root.client("acme");
    let removed = raw_extension("2.5.29.21", false, &tlv(0x0a, &[&[8]]));
    let serial = parse(&client).serial.to_vec();
    let list = Crl::of(&root).with(|crl| crl.entries.push(entry(&serial, &[removed]))).sign();
    let setup = Setup::new(&[&root]).crls(&[list]);
    refused(&setup.policy(), &[&client], Reason::Revoked);
    assert!(setup.warnings().iter().any(|warning| warning.contains("removeFromCRL")));
}

#[test]
fn serials_are_compared_as_integers() {
    let root = Ca::root("Root");
    let client = root.client_with("acme", |params| params.serial_number = Some(vec![0x80, 1].into()));
    assert_eq!(parse(&client).serial, [0, 0x80, 1]);
    let listing = |serial: &[u8]| Crl::of(&root).with(|c| c.entries.push(entry(serial, &[]))).sign();
    for same in [&[0, 0x80, 1][..], &[0, 0, 0x80, 1]] {
        refused(&Setup::new(&[&root]).crls(&[listing(same)]).policy(), &[&client], Reason::Revoked);
    }
    for other in [&[0x80, 1][..], &[1], &[0x80], &[0, 0x80, 1, 0]] {
        admitted(&Setup::new(&[&root]).crls(&[listing(other)]).policy(), &[&client]);
    }
}

#[test]
fn many_lists_in_one_file_in_der_and_pem() {
    let (root, other) = (Ca::root("Root"), Ca::root("Other"));
    let (a, b) = (root.client("a"), other.client("b"));
    let lists = [root.crl(&[&a]), other.crl(&[&b])];
    let in_pem = Setup::new(&[&root, &other]).crls(&lists);
    let in_der = Setup::new(&[&root, &other]).with(|setup| {
        let file = setup.raw_file(&lists.concat());
        setup.client.authorities[0].crls.push(file);
    });
    for policy in [in_pem.policy(), in_der.policy()] {
        refused(&policy, &[&a], Reason::Revoked);
        refused(&policy, &[&b], Reason::Revoked);
        assert_eq!(policy.crls().map(|crl| crl.entries).collect::<Vec<_>>(), [1, 1]);
    }
}

#[test]
fn rcgens_own_lists_are_read() {
    let root = Ca::root("Root");
    let bad = root.client("bad");
    let moment = |seconds| time::OffsetDateTime::from_unix_timestamp(seconds).unwrap();
    let params = rcgen::CertificateRevocationListParams {
        this_update: moment(NOW - DAY),
        next_update: moment(NOW + DAY),
        crl_number: 5u64.into(),
        issuing_distribution_point: None,
        revoked_certs: vec![rcgen::RevokedCertParams {
            serial_number: parse(&bad).serial.to_vec().into(),
            revocation_time: moment(NOW - DAY),
            reason_code: Some(rcgen::RevocationReason::KeyCompromise),
            invalidity_date: Some(moment(NOW - DAY)),
        }],
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    let issuer = rcgen::Issuer::from_params(&root.params, &root.key);
    let list = params.signed_by(&issuer).unwrap().der().to_vec();
    let detail = refused(&Setup::new(&[&root]).crls(&[list]).policy(), &[&bad], Reason::Revoked);
    assert!(detail.contains("key compromise"), "{detail}");
}

/// A list of `count` entries with serial numbers of 16 bytes, every second number.
fn long_list(root: &Ca, count: u64) -> Vec<u8> {
    let serial = |i: u64| {
        let mut bytes = [0x55; 16];
        bytes[4..12].copy_from_slice(&(i.wrapping_mul(0x9e37_79b9_7f4a_7c15) & !1).to_be_bytes());
        bytes
    };
    Crl::of(root).with(|crl| crl.entries.extend((0..count).map(|i| entry(&serial(i), &[])))).sign()
}

fn look_all_up(count: u64) {
    let root = Ca::root("Root");
    let list = long_list(&root, count);
    let parsed = Parsed::parse(&list).unwrap();
    assert_eq!(parsed.len(), count as usize);
    let mut bytes = [0x55; 16];
    for i in (0..count).step_by(1 + count as usize / 5000) {
        bytes[4..12].copy_from_slice(&(i.wrapping_mul(0x9e37_79b9_7f4a_7c15) & !1).to_be_bytes());
        assert!(parsed.find(&bytes).is_some());
        bytes[11] |= 1;
        assert!(parsed.find(&bytes).is_none());
    }
    let setup = Setup::new(&[&root]).crls(&[list]);
    admitted(&setup.policy(), &[&root.client("acme")]);
}

#[test]
fn every_entry_of_a_list_of_a_hundred_thousand_is_found_and_no_other() {
    look_all_up(100_000);
}

#[test]
#[ignore = "five seconds in a debug build; run it when the parser changes"]
fn every_entry_of_a_list_of_a_million_is_found_and_no_other() {
    look_all_up(1_000_000);
}
