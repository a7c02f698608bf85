//! `[site.client]`: modes, authorities, CRLs and rules.

use super::super::*;
use super::{LEAST, instead, refused, taken, warned, with};

const TRUST: &str = "trust = [\"clients-ca.pem\"]";
const HEX: &str = "bfaf1f7e070f9fa8dd62905f158da73f84a1136624fbafcc9393c8f7287a69eb";

/// [`LEAST`] with these lines as the whole of `[site.client]`.
fn client(lines: &str) -> String {
    instead(TRUST, lines)
}

/// [`LEAST`] with this `allow`.
fn allow(rules: &str) -> String {
    with("site.client", &format!("allow = [{rules}]"))
}

fn conditions(rule: &str) -> Vec<Condition> {
    taken(&allow(rule)).sites[0].client.authorities[0].allow.as_ref().unwrap()[0].conditions.clone()
}

#[test]
fn trust_is_demanded_where_clients_are_verified() {
    for auth in ["require", "optional"] {
        taken(&client(&format!("auth = \"{auth}\"\n{TRUST}")));
        refused(&client(&format!("auth = \"{auth}\"")), "site.client.trust", "is missing");
        refused(&client(&format!("auth = \"{auth}\"\ntrust = []")), "site.client.trust", "is empty");
    }
    refused(&LEAST.replace("[site.client]\ntrust = [\"clients-ca.pem\"]", ""), "site.client.trust", "in [site.client]");
    refused(&with("site.client", "auth = \"requires\""), "site.client.auth", "did you mean \"require\"?");
}

#[test]
fn request_and_off_do_without_trust() {
    assert_eq!(taken(&client("auth = \"request\"")).sites[0].client.authorities.len(), 1);
    assert_eq!(taken(&client("auth = \"off\"")).sites[0].client.authorities, []);
    warned(&client(&format!("auth = \"off\"\n{TRUST}\ndeny = []")), "site.client.auth", "`trust`, `deny` is not used");
    warned(&client("auth = \"request\"\nallow = [{ cn = \"a\" }]"), "site.client.auth", "lets every client in");
}

#[test]
fn pin_demands_rules_that_each_name_a_certificate_or_key() {
    let pin = |rules: &str| client(&format!("auth = \"pin\"\nallow = [{rules}]"));
    let good = format!("{{ name = \"acme\", sha256 = \"{HEX}\" }}, {{ spki_sha256 = \"{HEX}\", cn = \"a\" }}");
    let authorities = &taken(&pin(&good)).sites[0].client.authorities;
    assert_eq!((authorities.len(), authorities[0].trust.len()), (1, 0));
    refused(&pin("{ cn = \"a\" }"), "site.client.allow", "names no certificate or key");
    refused(&pin(""), "site.client.allow", "admits only the certificates and keys");
    refused(&client("auth = \"pin\""), "site.client.allow", "admits only the certificates and keys");
    refused(
        &client("auth = \"pin\"\n[[site.client.authority]]\ntrust = [\"a\"]"),
        "site.client.authority",
        "asks no CA",
    );
    let with_trust = client(&format!("auth = \"pin\"\n{TRUST}\nallow = [{{ sha256 = \"{HEX}\" }}]"));
    warned(&with_trust, "site.client.auth", "`trust` is not used");
}

#[test]
fn advertise_is_a_word_or_files() {
    let advertise = |value: &str| with("site.client", &format!("advertise = {value}"));
    let of = |value: &str| taken(&advertise(value)).sites[0].client.advertise.clone();
    assert_eq!(of("\"none\""), Advertise::None);
    assert_eq!(of("\"trust\""), Advertise::Trust);
    assert_eq!(of("[\"l.pem\"]"), Advertise::Files(vec!["/etc/countersign/l.pem".into()]));
    refused(&advertise("\"l.pem\""), "site.client.advertise", "is not known");
    refused(&advertise("[]"), "site.client.advertise", "write \"none\"");
}

#[test]
fn depth_is_from_zero_to_six() {
    for depth in [0, 6] {
        assert_eq!(taken(&with("site.client", &format!("max_depth = {depth}"))).sites[0].client.max_depth, depth);
    }
    for depth in ["7", "-1", "99999999999999999999"] {
        refused(&with("site.client", &format!("max_depth = {depth}")), "site.client.max_depth", "from 0 to 6");
    }
}

#[test]
fn crls_have_words_or_a_grace() {
    let crl = |line: &str| with("site.client", &format!("crls = [\"a.crl\"]\n{line}"));
    let expired =
        |value: &str| taken(&crl(&format!("crl_expired = {value}"))).sites[0].client.authorities[0].crl_expired;
    assert_eq!(expired("\"refuse\""), CrlExpired::Refuse);
    assert_eq!(expired("\"24h\""), CrlExpired::Grace(std::time::Duration::from_secs(86400)));
    assert_eq!(taken(&crl("crl_scope = \"leaf\"")).sites[0].client.crl_scope, CrlScope::Leaf);
    warned(&crl("crl_expired = \"allow\""), "site.client.crl_expired", "lets revoked clients in");
    warned(&crl("crl_missing = \"allow\""), "site.client.crl_missing", "unchecked");
    refused(&crl("crl_expired = \"grace\""), "site.client.crl_expired", "a grace such as \"24h\"");
    refused(&crl("crl_expired = \"24\""), "site.client.crl_expired", "has no unit");
    refused(&crl("crl_expired = \"0s\""), "site.client.crl_expired", "may not be zero");
    warned(&with("site.client", "crl_expired = \"24h\""), "site.client.crl_expired", "no effect without `crls`");
}

#[test]
fn authorities_take_the_place_of_the_short_form() {
    let two = "[[site.client.authority]]\ntrust = [\"a.pem\"]\nallow = [{ cn = \"a\" }]\n[[site.client.authority]]\ntrust = [\"b.pem\"]\ncrls = [\"b.crl\"]\n";
    let authorities = &taken(&client(two)).sites[0].client.authorities;
    assert_eq!(authorities.len(), 2);
    assert!(authorities[0].crls.is_empty() && authorities[1].allow.is_none());
    for line in [TRUST, "crls = []", "crl_missing = \"allow\"", "crl_expired = \"allow\"", "allow = []", "deny = []"] {
        let key = format!("site.client.{}", line.split(' ').next().unwrap());
        refused(&client(&format!("{line}\n{two}")), &key, "takes its place");
    }
    refused(&client(&two.replace("b.pem", "a.pem")), "site.client.authority[1].trust", "two authorities");
    refused(&client(&two.replace("trust = [\"b.pem\"]", "")), "site.client.authority[1].trust", "is missing");
    refused(&client("authority = []"), "site.client.authority", "is empty");
}

#[test]
fn a_file_that_stands_twice_is_warned_of() {
    warned(&client("trust = [\"a.pem\", \"a.pem\"]"), "site.client.trust", "twice");
}

#[test]
fn a_rule_has_conditions_in_comparable_form() {
    assert_eq!(conditions("{ dns = \"*.Partners.example\" }"), [Condition::Dns("*.partners.example".to_owned())]);
    assert_eq!(conditions("{ serial = \"00:03:a5\" }"), [Condition::Serial(vec![3, 0xa5])]);
    assert_eq!(conditions("{ ip = \"2001:DB8::1\" }"), [Condition::Ip("2001:db8::1".parse().unwrap())]);
    assert_eq!(conditions("{ policy_oid = \"1.3.6.1\" }"), [Condition::PolicyOid("1.3.6.1".to_owned())]);
    assert_eq!(conditions("{ email = \"a@b.example\", o = \"Bank\" }").len(), 2);
}

#[test]
fn refuses_conditions_that_could_match_nobody_or_more_than_meant() {
    for (rule, key, words) in [
        ("{}", "", "has no condition"),
        ("{ name = \"acme\" }", "", "has no condition"),
        ("{ cn = \"\" }", ".cn", "is empty"),
        ("{ cn = [\"a\"] }", ".cn", "a second one is a second rule"),
        ("{ dns = \"*ner.example\" }", ".dns", "one whole label"),
        ("{ uri = \"spiffe://*/a\" }", ".uri", "authority"),
        ("{ uri = \"*\" }", ".uri", "no scheme"),
        ("{ ip = \"10.0.0.0/8\" }", ".ip", "is a network"),
        ("{ serial = 12 }", ".serial", "in hex"),
        ("{ serial = \"xyz\" }", ".serial", "not a serial number"),
        ("{ issuer = \"Partner CA\" }", ".issuer", "CN=Partner Issuing CA"),
        ("{ issuer = \"/C=GB/CN=CA\" }", ".issuer", "write \"CN=CA,C=GB\""),
        ("{ sha256 = \"ab12\" }", ".sha256", "not a SHA-256"),
        ("{ spki_sha256 = \"yTvZ\" }", ".spki_sha256", "not a SHA-256"),
        ("{ policy_oid = \"anyPolicy\" }", ".policy_oid", "not an OID"),
        ("{ email = \"batch\" }", ".email", "not an e-mail"),
        ("{ san = \"a\" }", ".san", "known here"),
        ("\"a\"", "", "a table in braces"),
    ] {
        // The unknown key leaves a rule without conditions, which is a fault of its own.
        if key == ".san" {
            super::assert_said(&super::faults_of(&allow(rule))[0], "site.client.allow[0].san", "is not a known key");
            continue;
        }
        refused(&allow(rule), &format!("site.client.allow[0]{key}"), words);
        let deny = with("site.client", &format!("deny = [{rule}]"));
        refused(&deny, &format!("site.client.deny[0]{key}"), words);
    }
}

#[test]
fn warns_of_rules_that_say_nothing_new() {
    warned(&allow(""), "site.client.allow", "admits nobody");
    warned(&allow("{ cn = \"a\" }, { cn = \"a\" }"), "site.client.allow[1]", "repeats the rule of line");
    taken(&allow("{ name = \"a\", cn = \"a\" }, { name = \"b\", cn = \"a\" }"));
    let both = with("site.client", "allow = [{ cn = \"a\" }]\ndeny = [{ cn = \"a\" }]");
    warned(&both, "site.client.allow", "a rule of `deny` says the same");
    warned(&allow("{ cn = \"*.example\" }"), "site.client.allow[0].cn", "stands for itself");
}

#[test]
fn a_named_rule_keeps_its_name() {
    let config = taken(&allow("{ name = \"acme\", cn = \"a\" }"));
    let rule = &config.sites[0].client.authorities[0].allow.as_ref().unwrap()[0];
    assert_eq!(rule.name.as_deref(), Some("acme"));
    refused(&allow("{ name = \"\", cn = \"a\" }"), "site.client.allow[0].name", "is empty");
}
