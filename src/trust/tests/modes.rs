//! The five modes, and judging open connections again.

use super::pki::*;
use crate::config::{Auth, Condition, CrlExpired};
use crate::trust::{Reason, admit_anonymous};

#[test]
fn only_require_and_pin_refuse_a_client_without_certificate() {
    let root = Ca::root("Root");
    for (auth, lets_in) in
        [(Auth::Require, false), (Auth::Optional, true), (Auth::Request, true), (Auth::Pin, false), (Auth::Off, true)]
    {
        let policy = Setup::new(&[&root]).auth(auth).with(|setup| pin(setup, &[])).policy();
        match admit_anonymous(&policy) {
            Ok(admission) => {
                assert!(lets_in, "{auth:?}");
                assert!(admission.identity().is_none() && admission.leaf().is_none() && admission.chain_len() == 0);
            }
            Err(refusal) => {
                assert!(!lets_in, "{auth:?}");
                assert_eq!(refusal.reason, Reason::NoCert);
            }
        }
    }
}

fn pin(setup: &mut Setup, digests: &[[u8; 32]]) {
    if setup.client.auth == Auth::Pin {
        setup.client.authorities = vec![authority()];
        setup.client.authorities[0].allow =
            Some(digests.iter().map(|digest| rule(&[Condition::Sha256(*digest)])).collect());
    }
}

#[test]
fn optional_refuses_a_bad_certificate_all_the_same() {
    let root = Ca::root("Root");
    let policy = Setup::new(&[&root]).auth(Auth::Optional).policy();
    admitted(&policy, &[&root.client("acme")]);
    refused(&policy, &[&Ca::root("Stranger").client("acme")], Reason::UnknownIssuer);
}

#[test]
fn request_lets_in_what_fails_and_says_so_but_gives_it_no_name() {
    let (root, stranger) = (Ca::root("Root"), Ca::root("Stranger"));
    let victim = |params: &mut rcgen::CertificateParams| san(params, "uri", "spiffe://bank/victim");
    let policy = Setup::new(&[&root]).auth(Auth::Request).allow(vec![]).policy();
    let good = judge(&policy, &[&root.client_with("a", victim)]).verdict.unwrap();
    assert_eq!((good.reason(), good.verify()), (Reason::Ok, 0));
    assert_eq!(good.identity().unwrap().as_str(), "uri:spiffe://bank/victim");
    assert!(good.not_after().is_some());
    let bad = judge(&policy, &[&stranger.client_with("a", victim)]).verdict.unwrap();
    assert_eq!((bad.reason(), bad.verify()), (Reason::UnknownIssuer, 21));
    assert!(bad.identity().unwrap().as_str().starts_with("sha256:") && bad.detail().contains("CN=Stranger"));
    assert_eq!((bad.not_after(), bad.valid_until()), (None, None));
    let old = root.client_with("a", |params| dates(params, NOW - 10 * DAY, NOW - DAY));
    assert_eq!(judge(&policy, &[&old]).verdict.unwrap().reason(), Reason::Expired);
    let without_trust = Setup::bare().auth(Auth::Request).policy();
    assert_eq!(judge(&without_trust, &[&root.client("a")]).verdict.unwrap().reason(), Reason::UnknownIssuer);
}

#[test]
fn request_obeys_deny_for_any_certificate() {
    let (root, stranger) = (Ca::root("Root"), Ca::root("Stranger"));
    let deny = vec![rule(&[Condition::Cn("old".into())])];
    let policy = Setup::new(&[&root]).auth(Auth::Request).deny(deny).policy();
    for ca in [&root, &stranger] {
        refused(&policy, &[&ca.client("old")], Reason::PolicyDenied);
        assert!(judge(&policy, &[&ca.client("new")]).verdict.is_ok());
    }
}

#[test]
fn pin_admits_what_a_rule_names_whatever_its_issuer_and_dates() {
    let old = Ca::root_with("acme", |params| {
        *params = client_params("acme");
        dates(params, NOW - 10 * DAY, NOW - DAY);
    });
    let other = Ca::root_with("acme", |params| *params = client_params("acme"));
    let digest = crate::trust::sha256(&old.der);
    let policy = Setup::bare().auth(Auth::Pin).with(|setup| pin(setup, &[digest])).policy();
    let admission = judge(&policy, &[&old.der]).verdict.unwrap();
    assert_eq!(admission.identity().unwrap().as_str(), "cn:acme");
    assert_eq!((admission.not_after(), admission.reason()), (None, Reason::Ok));
    let detail = refused(&policy, &[&other.der], Reason::PolicyDenied);
    assert!(detail.contains(&hex::encode(crate::trust::sha256(&other.der))), "{detail}");
    assert!(policy.advertised().is_empty());
}

#[test]
fn a_pinned_key_gives_no_name_that_its_holder_wrote_himself() {
    let own = Ca::root_with("victim", |params| *params = client_params("victim"));
    let key = crate::trust::sha256(parse(&own.der).spki);
    let with = |named: Option<&str>| {
        let mut pinned = authority();
        let mut pin = rule(&[Condition::SpkiSha256(key)]);
        pin.name = named.map(Into::into);
        pinned.allow = Some(vec![pin]);
        let setup = Setup::bare().auth(Auth::Pin).with(|setup| setup.client.authorities = vec![pinned]);
        judge(&setup.policy(), &[&own.der]).verdict.unwrap().identity().unwrap().as_str().to_owned()
    };
    assert_eq!(with(Some("acme")), "name:acme");
    assert!(with(None).starts_with("sha256:"));
}

#[test]
fn pin_needs_rules_by_digest_and_obeys_deny() {
    let own = Ca::root_with("acme", |params| *params = client_params("acme"));
    let by_cn = rule(&[Condition::Cn("acme".into())]);
    let setup = |allow, deny| {
        let mut pinned = authority();
        (pinned.allow, pinned.deny) = (allow, deny);
        Setup::bare().auth(Auth::Pin).with(|setup| setup.client.authorities = vec![pinned])
    };
    assert!(setup(Some(vec![by_cn.clone()]), vec![]).load().is_err());
    let pinned = || Some(vec![rule(&[Condition::Sha256(crate::trust::sha256(&own.der))])]);
    admitted(&setup(pinned(), vec![]).policy(), &[&own.der]);
    refused(&setup(pinned(), vec![by_cn]).policy(), &[&own.der], Reason::PolicyDenied);
    refused(&setup(None, vec![]).policy(), &[&own.der], Reason::PolicyDenied);
}

#[test]
fn a_reload_ends_what_it_no_longer_admits_and_nothing_that_time_alone_changed() {
    let (root, other) = (Ca::root("Root"), Ca::root("Other"));
    let client = root.client_with("acme", |params| dates(params, NOW - DAY, NOW + DAY));
    let list = |revoked: &[&Cert]| Crl::of(&root).revoke(revoked).with(|c| c.next_update = Some(NOW + 100)).sign();
    let old = Setup::new(&[&root]).crls(&[list(&[])]).policy();
    let admission = judge(&old, &[&client]).verdict.unwrap();
    let reason_of = |setup: Setup, seconds| match setup.policy().rejudge(&admission, at(seconds)) {
        Ok(_) => Reason::Ok,
        Err(refusal) => refusal.reason,
    };
    let same = || Setup::new(&[&root]).crls(&[list(&[])]);
    assert_eq!(reason_of(same(), NOW), Reason::Ok);
    // The list ran out, the certificate too: neither ends a connection that is open.
    assert_eq!(reason_of(same(), NOW + 200), Reason::Ok);
    assert_eq!(reason_of(same(), NOW + 2 * DAY), Reason::Ok);
    // What was withdrawn does, even when the certificate ran out meanwhile.
    for seconds in [NOW, NOW + 2 * DAY] {
        assert_eq!(reason_of(Setup::new(&[&root]).crls(&[list(&[&client])]), seconds), Reason::Revoked);
        assert_eq!(reason_of(Setup::new(&[&other]), seconds), Reason::UnknownIssuer);
        let rules = vec![rule(&[Condition::Cn("else".into())])];
        assert_eq!(reason_of(same().allow(rules.clone()), seconds), Reason::PolicyDenied);
        assert_eq!(reason_of(same().deny(vec![rule(&[Condition::Cn("acme".into())])]), seconds), Reason::PolicyDenied);
    }
    let anonymous = admit_anonymous(&Setup::new(&[&root]).auth(Auth::Optional).policy()).unwrap();
    assert!(same().policy().rejudge(&anonymous, at(NOW)).is_err());
    assert!(Setup::new(&[&root]).auth(Auth::Optional).policy().rejudge(&anonymous, at(NOW)).is_ok());
}

#[test]
fn a_renewed_anchor_of_the_same_key_ends_no_connection() {
    let root = Ca::root("Root");
    let client = root.client("acme");
    let admission = judge(&Setup::new(&[&root]).policy(), &[&client]).verdict.unwrap();
    let mut params = ca_params("Root");
    dates(&mut params, NOW + 10, NOW + 1000 * DAY);
    let renewed = Ca { der: params.self_signed(&root.key).unwrap().der().clone(), ..root };
    let policy = Setup::new(&[&renewed]).load_at(NOW + 20).unwrap().0;
    assert!(policy.rejudge(&admission, at(NOW + 20)).is_ok());
}

#[test]
fn grace_counts_when_judging_again_as_it_does_at_first() {
    let root = Ca::root("Root");
    let list = Crl::of(&root).with(|crl| crl.next_update = Some(NOW + 100)).sign();
    let setup = Setup::new(&[&root]).crls(&[list]).with(|s| s.client.authorities[0].crl_expired = CrlExpired::Allow);
    let admission = judge_at(&setup.policy(), &[&root.client("acme")], NOW + DAY).verdict.unwrap();
    assert!(setup.policy().rejudge(&admission, at(NOW + 2 * DAY)).is_ok());
    assert_eq!(admission.valid_until(), Some(at(NOW + 365 * DAY)));
}
