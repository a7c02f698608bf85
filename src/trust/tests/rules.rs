//! Rules: what each kind of condition matches, and above all what it does not.

use super::pki::*;
use crate::config::{Condition, Rule};
use crate::trust::{Leaf, Reason, der, name::NameKey};
use proptest::prelude::*;
use rcgen::{DnType, DnValue};

fn policy(rules: Vec<Rule>, root: &Ca) -> std::sync::Arc<crate::trust::Policy> {
    Setup::new(&[root]).allow(rules).policy()
}

/// Whether a rule of these conditions admits a client with these names.
#[track_caller]
fn admits(conditions: &[Condition], names: &[(&str, &str)], cn: &str) -> bool {
    let root = Ca::root("Root");
    let client = root.client_with(cn, |params| names.iter().for_each(|(kind, value)| san(params, kind, value)));
    let decision = judge(&policy(vec![rule(conditions)], &root), &[&client]);
    match reason(&decision).0 {
        Reason::Ok => true,
        Reason::PolicyDenied => false,
        other => panic!("{other}: {}", reason(&decision).1),
    }
}

fn dns(pattern: &str) -> Condition {
    Condition::Dns(pattern.into())
}

fn uri(pattern: &str) -> Condition {
    Condition::Uri(pattern.into())
}

#[test]
fn no_list_admits_everybody_and_an_empty_one_nobody() {
    let root = Ca::root("Root");
    let client = root.client("acme");
    admitted(&Setup::new(&[&root]).policy(), &[&client]);
    let detail = refused(&policy(vec![], &root), &[&client], Reason::PolicyDenied);
    assert!(detail.contains("empty list"), "{detail}");
}

#[test]
fn any_rule_admits_and_within_a_rule_all_conditions_must_hold() {
    let both = [Condition::Cn("acme".into()), dns("a.example")];
    assert!(admits(&both, &[("dns", "a.example")], "acme"));
    assert!(!admits(&both, &[("dns", "a.example")], "other"));
    assert!(!admits(&both, &[("dns", "b.example")], "acme"));
    let root = Ca::root("Root");
    let rules = || vec![rule(&[Condition::Cn("a".into())]), rule(&[Condition::Cn("b".into())])];
    admitted(&policy(rules(), &root), &[&root.client("b")]);
    refused(&policy(rules(), &root), &[&root.client("c")], Reason::PolicyDenied);
}

#[test]
fn deny_wins_over_allow_and_needs_no_allow() {
    let root = Ca::root("Root");
    let old = || vec![rule(&[Condition::Cn("old".into())])];
    let both = Setup::new(&[&root]).allow(old()).deny(old()).policy();
    let detail = refused(&both, &[&root.client("old")], Reason::PolicyDenied);
    assert!(detail.contains("deny[0]"), "{detail}");
    let only = Setup::new(&[&root]).deny(old()).policy();
    refused(&only, &[&root.client("old")], Reason::PolicyDenied);
    admitted(&only, &[&root.client("new")]);
}

#[test]
fn kinds_of_names_are_never_taken_for_one_another() {
    let name = "api.bank.example";
    assert!(admits(&[dns(name)], &[("dns", name)], "x"));
    assert!(!admits(&[dns(name)], &[("uri", name), ("email", name)], name));
    assert!(!admits(&[Condition::Cn(name.into())], &[("dns", name), ("uri", name)], "x"));
    assert!(!admits(&[uri(name)], &[("dns", name), ("email", name)], name));
    assert!(!admits(&[Condition::Email("a@b.example".into())], &[("uri", "a@b.example")], "a@b.example"));
    assert!(!admits(&[dns("192.0.2.1")], &[("ip", "192.0.2.1")], "x"));
    assert!(!admits(&[Condition::Ip("192.0.2.1".parse().unwrap())], &[("dns", "192.0.2.1")], "192.0.2.1"));
}

#[test]
fn multi_valued_fields_match_if_any_value_does() {
    let names = [
        ("dns", "a.example"),
        ("dns", "b.example"),
        ("uri", "x:1"),
        ("uri", "x:2"),
        ("ip", "192.0.2.1"),
        ("ip", "::1"),
    ];
    assert!(admits(&[dns("b.example"), uri("x:2"), Condition::Ip("::1".parse().unwrap())], &names, "x"));
    assert!(!admits(&[dns("c.example")], &names, "x"));
    assert!(!admits(&[Condition::Ip("::ffff:192.0.2.1".parse().unwrap())], &names, "x"));
    let root = Ca::root("Root");
    let client = root.client_with("acme", |params| {
        params.distinguished_name.push(DnType::OrganizationalUnitName, "settlement");
        params.distinguished_name.push(DnType::OrganizationName, "Bank");
    });
    for (condition, expected) in [
        (Condition::Ou("settlement".into()), true),
        (Condition::Ou("Settlement".into()), false),
        (Condition::Ou("Bank".into()), false),
        (Condition::O("Bank".into()), true),
        (Condition::O("acme".into()), false),
    ] {
        let decision = judge(&policy(vec![rule(std::slice::from_ref(&condition))], &root), &[&client]);
        assert_eq!(decision.verdict.is_ok(), expected, "{condition:?}");
    }
}

#[test]
fn a_name_is_never_cut_at_a_nul_or_a_newline() {
    for odd in ["acme\0.evil", "acme\n", "acme ", " acme", "ACME", "acme\0"] {
        assert!(!admits(&[Condition::Cn("acme".into())], &[], odd), "{odd:?}");
    }
    assert!(admits(&[Condition::Cn("acme".into())], &[], "acme"));
    assert!(!admits(&[dns("a.example")], &[("dns", "a.example\0.evil.example")], "x"));
    assert!(!admits(&[uri("spiffe://bank/*")], &[("uri", "spiffe://bank/a\n")], "x"));
}

#[test]
fn a_common_name_matches_whatever_string_type_carries_it_and_no_broken_one() {
    let root = Ca::root("Root");
    let by = |value: DnValue| {
        let client = root.client_with("", |params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, value);
        });
        judge(&policy(vec![rule(&[Condition::Cn("acme".into())])], &root), &[&client]).verdict.is_ok()
    };
    assert!(by(DnValue::PrintableString("acme".try_into().unwrap())));
    assert!(by(DnValue::BmpString("acme".try_into().unwrap())));
    assert!(by(DnValue::UniversalString("acme".try_into().unwrap())));
    assert!(by(DnValue::Ia5String("acme".try_into().unwrap())));
    assert!(!by(DnValue::Ia5String("acme.".try_into().unwrap())));
}

#[test]
fn host_names_and_mail_domains_have_no_case_all_else_has() {
    assert!(admits(&[dns("API.bank.example")], &[("dns", "api.BANK.example")], "x"));
    assert!(admits(&[Condition::Email("ops@Bank.Example".into())], &[("email", "ops@bank.example")], "x"));
    assert!(!admits(&[Condition::Email("Ops@bank.example".into())], &[("email", "ops@bank.example")], "x"));
    assert!(!admits(&[uri("spiffe://bank/A")], &[("uri", "spiffe://bank/a")], "x"));
}

#[test]
fn serials_digests_and_policies_are_exact() {
    let root = Ca::root("Root");
    let client = root.client_with("acme", |params| {
        params.serial_number = Some(vec![0x83, 0xa5, 0xb1].into());
        let policy = tlv(0x30, &[&tlv(0x30, &[&oid("1.3.6.1.4.1.99999.1")])]);
        extension(params, &[2, 5, 29, 32], false, policy);
    });
    let leaf = judge(&Setup::new(&[&root]).policy(), &[&client]).verdict.unwrap().leaf().unwrap().clone();
    assert_eq!(leaf.serial, "83a5b1");
    let holds = |condition| judge(&policy(vec![rule(&[condition])], &root), &[&client]).verdict.is_ok();
    assert!(holds(Condition::Serial(vec![0x83, 0xa5, 0xb1])));
    assert!(holds(Condition::Serial(vec![0, 0, 0x83, 0xa5, 0xb1])));
    assert!(!holds(Condition::Serial(vec![0x83, 0xa5])));
    assert!(holds(Condition::Sha256(leaf.sha256)));
    assert!(!holds(Condition::Sha256(leaf.spki_sha256)));
    assert!(holds(Condition::SpkiSha256(leaf.spki_sha256)));
    assert!(!holds(Condition::SpkiSha256(leaf.sha256)));
    assert!(holds(Condition::PolicyOid("1.3.6.1.4.1.99999.1".into())));
    assert!(!holds(Condition::PolicyOid("1.3.6.1.4.1.99999".into())));
    assert!(!holds(Condition::PolicyOid("1.3.6.1.4.1.99999.1.1".into())));
}

#[test]
fn issuers_are_compared_as_names() {
    let root = Ca::root_with("Partner  Issuing CA", |params| {
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CountryName, "GB");
        params.distinguished_name.push(DnType::OrganizationName, "Bank, Ltd");
        params.distinguished_name.push(DnType::CommonName, "Partner  Issuing CA");
    });
    let client = root.client("acme");
    let holds = |written: &str| {
        judge(&policy(vec![rule(&[Condition::Issuer(written.into())])], &root), &[&client]).verdict.is_ok()
    };
    assert!(holds("CN=Partner Issuing CA,O=Bank\\, Ltd,C=GB"));
    assert!(holds("cn = partner issuing ca , 2.5.4.10=\"bank, ltd\", c=gb"));
    assert!(holds("CN=Partner Issuing CA,O=Bank\\2c Ltd,C=#13024742"));
    for other in [
        "C=GB,O=Bank\\, Ltd,CN=Partner Issuing CA",
        "CN=Partner Issuing CA,O=Bank\\, Ltd",
        "CN=Partner Issuing CA+O=Bank\\, Ltd,C=GB",
        "CN=PartnerIssuing CA,O=Bank\\, Ltd,C=GB",
        "CN=Partner Issuing CA,OU=Bank\\, Ltd,C=GB",
    ] {
        assert!(!holds(other), "{other}");
    }
    let turned =
        Setup::new(&[&root]).allow(vec![rule(&[Condition::Issuer("C=GB,O=Bank\\, Ltd,CN=Partner Issuing CA".into())])]);
    assert!(turned.warnings().iter().any(|warning| warning.contains("wrong way round")));
}

#[test]
fn the_identity_is_the_rules_name_else_the_first_name_of_the_best_kind() {
    let root = Ca::root("Root");
    let identity = |rules: Option<Vec<Rule>>, names: &[(&str, &str)], cn: &str| {
        let client = root.client_with(cn, |params| names.iter().for_each(|(kind, value)| san(params, kind, value)));
        let mut setup = Setup::new(&[&root]);
        setup.client.authorities[0].allow = rules;
        let admission = judge(&setup.policy(), &[&client]).verdict.unwrap();
        (admission.identity().unwrap().as_str().to_owned(), hex::encode(admission.leaf().unwrap().sha256))
    };
    let all = [("email", "a@b.example"), ("dns", "A.example"), ("uri", "x:1"), ("uri", "x:2"), ("ip", "::1")];
    let rules = || Some(vec![named("acme", &[Condition::Cn("cn".into())])]);
    assert_eq!(identity(rules(), &all, "cn").0, "name:acme");
    assert_eq!(identity(Some(vec![rule(&[Condition::Cn("cn".into())])]), &all, "cn").0, "uri:x:1");
    assert_eq!(identity(None, &all, "cn").0, "uri:x:1");
    assert_eq!(identity(None, &all[..2], "cn").0, "dns:a.example");
    assert_eq!(identity(None, &all[..1], "cn").0, "email:a@b.example");
    assert_eq!(identity(None, &[("ip", "::1")], "cn").0, "cn:cn");
    for cn in ["", &"x".repeat(3000)] {
        let (identity, sha256) = identity(None, &[], cn);
        assert_eq!(identity, format!("sha256:{sha256}"));
    }
}

#[test]
fn the_first_rule_that_matches_names_the_client() {
    let root = Ca::root("Root");
    let rules = vec![named("first", &[Condition::Cn("acme".into())]), named("second", &[Condition::Cn("acme".into())])];
    let admission = judge(&policy(rules, &root), &[&root.client("acme")]).verdict.unwrap();
    assert_eq!(admission.identity().unwrap().as_str(), "name:first");
    assert_eq!(&**admission.rule().unwrap(), "allow[0] first (cn=acme)");
}

#[test]
fn a_rule_by_name_under_several_anchors_is_warned_of_unless_narrowed() {
    let (a, b) = (Ca::root("A"), Ca::root("B"));
    let by_name = rule(&[Condition::Cn("acme".into())]);
    let narrowed = rule(&[Condition::Cn("acme".into()), Condition::Issuer("CN=A".into())]);
    let pinned = rule(&[Condition::Sha256([1; 32])]);
    let warned =
        |setup: Setup| setup.warnings().iter().any(|warning| warning.contains("admits that name from any of 2 CAs"));
    assert!(warned(Setup::new(&[&a, &b]).allow(vec![by_name.clone()])));
    assert!(!warned(Setup::new(&[&a, &b]).allow(vec![narrowed, pinned])));
    assert!(!warned(Setup::new(&[&a]).allow(vec![by_name.clone()])));
    assert!(!warned(
        Setup::new(&[&a]).allow(vec![by_name.clone()]).authority(&[&b], |b| b.allow = Some(vec![by_name]))
    ));
}

#[test]
fn a_client_is_judged_by_the_authority_that_its_chain_ends_in() {
    let (bank, partner) = (Ca::root("Bank"), Ca::root("Partner"));
    let by_cn = |cn: &str| vec![rule(&[Condition::Cn(cn.into())])];
    let setup = Setup::new(&[&bank]).allow(by_cn("a")).authority(&[&partner], |next| {
        next.allow = Some(by_cn("b"));
        next.deny = by_cn("a");
    });
    let policy = setup.policy();
    admitted(&policy, &[&bank.client("a")]);
    admitted(&policy, &[&partner.client("b")]);
    refused(&policy, &[&bank.client("b")], Reason::PolicyDenied);
    refused(&policy, &[&partner.client("a")], Reason::PolicyDenied);
}

#[test]
fn an_anchor_of_two_authorities_is_judged_by_both_and_deny_and_revocation_are_final() {
    let root = Ca::root("Root");
    let by_cn = |cn: &str| vec![rule(&[Condition::Cn(cn.into())])];
    let (bad, odd) = (root.client("bad"), root.client("odd"));
    let list = root.crl(&[&bad]);
    let setup = Setup::new(&[&root]).allow(by_cn("a")).authority(&[&root], |next| {
        next.allow = Some([by_cn("b"), by_cn("bad"), by_cn("odd")].concat());
        next.deny = by_cn("odd");
    });
    let policy = setup.crls(&[list]).policy();
    admitted(&policy, &[&root.client("a")]);
    admitted(&policy, &[&root.client("b")]);
    refused(&policy, &[&root.client("c")], Reason::PolicyDenied);
    refused(&policy, &[&bad], Reason::Revoked);
    refused(&policy, &[&odd], Reason::PolicyDenied);
}

#[test]
fn a_rule_that_cannot_be_compiled_is_a_fault_at_its_line() {
    let root = Ca::root("Root");
    for bad in [
        Condition::Issuer("not a name".into()),
        dns("a*.example"),
        uri("spiffe://*"),
        Condition::PolicyOid("1.x".into()),
    ] {
        let rule = Rule { line: Some(12), ..rule(&[bad]) };
        let faults = Setup::new(&[&root]).allow(vec![rule]).faults();
        assert_eq!((faults.len(), faults[0].line, faults[0].key.as_str()), (1, Some(12), "site.client.allow[0]"));
    }
    assert!(!Setup::new(&[&root]).deny(vec![rule(&[])]).faults().is_empty());
}

#[test]
fn a_negative_serial_prints_and_matches_no_rule() {
    assert_eq!(crate::trust::leaf::print_serial(&[0x81]), "-7f");
    assert_eq!(crate::trust::leaf::print_serial(&[0xff, 0x00]), "-0100");
    assert_eq!(crate::trust::leaf::print_serial(&[0]), "00");
    assert_eq!(der::unsigned(&[0x81]), None);
}

#[test]
fn config_and_trust_agree_on_what_an_issuer_looks_like() {
    for written in
        ["CN=A,O=B,C=GB", "cn = a , o = b", "1.2.3.4=#0c0161", "CN=\"a, b\",O=c", "CN=a\\,b", "OU=x+CN=y,DC=z", "CN="]
    {
        assert!(NameKey::of_text(written).is_ok(), "{written}");
    }
    for bad in ["", "CN", "XX=a", "CN=a,", "CN=\"a", "CN=a\\", "CN=#zz", "CN=a\"b", "1..2=a"] {
        assert!(NameKey::of_text(bad).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn the_printed_form_of_a_name_reads_back_as_the_same_name(
        parts in proptest::collection::vec((0usize..5, "\\PC{0,12}|[ #,+\"\\\\<>;=a\u{0}\n]{0,6}"), 1..5),
    ) {
        let kinds = [DnType::CommonName, DnType::OrganizationName, DnType::OrganizationalUnitName, DnType::CountryName,
            DnType::CustomDnType(vec![1, 2, 3, 4])];
        let content: Vec<u8> = parts.iter().flat_map(|(kind, value)| {
            let number = match &kinds[*kind] {
                DnType::CommonName => "2.5.4.3",
                DnType::OrganizationName => "2.5.4.10",
                DnType::OrganizationalUnitName => "2.5.4.11",
                DnType::CountryName => "2.5.4.6",
                _ => "1.2.3.4",
            };
            tlv(0x31, &[&tlv(0x30, &[&oid(number), &tlv(0x0c, &[value.as_bytes()])])])
        }).collect();
        let printed = crate::trust::name::print(&content);
        prop_assert!(!printed.chars().any(char::is_control));
        prop_assert_eq!(NameKey::of_text(&printed), Ok(NameKey::of_der(&content).unwrap()), "{}", printed);
    }

    #[test]
    fn reading_a_written_name_never_panics(written in "\\PC{0,60}|[CNO=,+;#\"\\\\ a0-9.]{0,40}") {
        let _ = NameKey::of_text(&written);
    }
}

#[test]
fn leaf_facts_are_in_the_forms_that_logs_and_headers_need() {
    let root = Ca::root("Root");
    let client = root.client_with("acme", |params| {
        params.distinguished_name.push(DnType::OrganizationName, "Bank");
        for (kind, value) in [("dns", "a.example"), ("uri", "spiffe://b/c"), ("ip", "2001:db8::1"), ("email", "a@b")] {
            san(params, kind, value);
        }
    });
    let leaf = judge(&Setup::new(&[&root]).policy(), &[&client]).verdict.unwrap().leaf().unwrap().clone();
    assert_eq!(leaf.subject, "O=Bank,CN=acme");
    assert_eq!(leaf.san, ["dns:a.example", "uri:spiffe://b/c", "ip:2001:db8::1", "email:a@b"]);
    assert_eq!((leaf.cn.as_deref(), leaf.not_after), (Some("acme"), NOW + 365 * DAY));
    assert_eq!(Leaf::of(&parse(&client)).unwrap(), *leaf);
}
