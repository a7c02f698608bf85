//! Sites: their names, references, certificates, TLS, and how a catch-all stands to named sites.

use super::super::*;
use super::{LEAST, instead, refused, taken, warned, with};

/// A second site with these lines, on the same listener and backend.
fn second(lines: &str) -> String {
    format!(
        "[[site]]\n{lines}\ncertificate = [{{ chain = \"s.pem\", key = \"s.key\" }}]\n[site.client]\ntrust = [\"t.pem\"]\n"
    )
}

/// A named site that requires a certificate, and a catch-all of this mode on this backend.
fn beside_a_catch_all(auth: &str, backend: &str) -> String {
    let named = with("site", "names = [\"a.example\"]\nbackend = \"one\"")
        .replace("[[backend]]", "[[backend]]\nname = \"one\"");
    let other = "[[backend]]\nname = \"two\"\nservers = [\"127.0.0.1:9001\"]\n";
    let catch_all = second(&format!("name = \"rest\"\nbackend = \"{backend}\""))
        .replace("trust", &format!("auth = \"{auth}\"\ntrust"));
    // Both backends are in use whatever the catch-all names.
    let third = second("names = [\"b.example\"]\nbackend = \"two\"");
    format!("{named}{other}{catch_all}{third}")
}

#[test]
fn the_name_of_a_site_is_its_own_or_its_first_name_or_the_listener_s() {
    let name = |text: &str| taken(text).sites[0].name.to_string();
    assert_eq!(name(&with("site", "name = \"payments\"\nnames = [\"A.example\"]")), "payments");
    assert_eq!(name(&with("site", "names = [\"A.example\", \"b.example\"]")), "a.example");
    assert_eq!(name(&with("listener", "name = \"public\"")), "public");
    let clash = format!("{LEAST}{}", second("name = \"default\"\nnames = [\"a.example\"]"));
    refused(&clash, "site[1].name", "is the name of the site of line 4 too");
}

#[test]
fn the_same_name_at_two_listeners_is_two_sites() {
    let two = |listener: &str, name: &str| {
        let first = with("listener", "name = \"inside\"").replace("[[site]]", "[[site]]\nlistener = \"inside\"\nNAME");
        let outside = "[[listener]]\nname = \"outside\"\naddress = [\"127.0.0.1:8444\"]\n";
        let other = second(&format!("listener = \"{listener}\"\nnames = [\"b.example\"]\n{name}"));
        first.replace("NAME", name).replace("[[site]]", &format!("{outside}[[site]]")) + &other
    };
    let config = taken(&two("outside", "name = \"api\""));
    assert_eq!(config.sites.iter().map(|site| &*site.name).collect::<Vec<_>>(), ["api", "api"]);
    assert_ne!(config.sites[0].listener, config.sites[1].listener);
    refused(&two("inside", "name = \"api\""), "site[1].name", "is the name of the site of line");
}

#[test]
fn references_are_found_or_the_nearest_is_named() {
    let named = with("listener", "name = \"public\"");
    taken(&named.replace("[[site]]", "[[site]]\nlistener = \"public\""));
    refused(&named.replace("[[site]]", "[[site]]\nlistener = \"publik\""), "site.listener", "did you mean \"public\"?");
    refused(&with("site", "backend = \"ledger\""), "site.backend", "there is no backend \"ledger\"");
}

#[test]
fn names_are_dns_names() {
    taken(&with("site", "names = [\"api.bank.example\", \"*.partners.bank.example\"]"));
    for (names, words) in [
        ("[]", "leave it out"),
        ("[\"*\"]", "leave `names` out"),
        ("[\"127.0.0.1\"]", "clients send no address"),
        ("[\"*.*.example\"]", "one whole label"),
        ("[\"a*.example\"]", "one whole label"),
        ("[\"a.example.\"]", "write \"a.example\""),
        ("[\"bücher.example\"]", "xn--"),
    ] {
        let key = if names == "[]" { "site.names" } else { "site.names[0]" };
        refused(&with("site", &format!("names = {names}")), key, words);
    }
    warned(&with("site", "names = [\"a.example\", \"A.EXAMPLE\"]"), "site.names[1]", "twice");
}

#[test]
fn a_name_leads_to_one_site_of_a_listener() {
    let first = with("site", "names = [\"a.example\", \"*.b.example\"]");
    taken(&format!("{first}{}", second("names = [\"x.b.example\", \"*.a.example\"]")));
    refused(
        &format!("{first}{}", second("name = \"s\"\nnames = [\"A.Example\"]")),
        "site[1].names[0]",
        "leads to the site of line 5 already",
    );
    refused(&format!("{first}{}", second("names = [\"c.example\", \"*.B.example\"]")), "site[1].names[1]", "already");
}

#[test]
fn a_listener_has_one_catch_all() {
    refused(&format!("{LEAST}{}", second("name = \"s\"")), "site[1].names", "takes every other name");
    taken(&format!("{LEAST}{}", second("names = [\"a.example\"]")));
}

#[test]
fn a_catch_all_may_not_be_a_weaker_way_into_the_same_backend() {
    for auth in ["off", "request", "optional"] {
        let faults = super::faults_of(&beside_a_catch_all(auth, "one"));
        assert_eq!(faults.len(), 1, "{auth}: {faults:#?}");
        super::assert_said(&faults[0], "site[1].client.auth", "lead to the same backend");
    }
    taken(&beside_a_catch_all("require", "one"));
}

#[test]
fn a_weaker_catch_all_with_a_backend_of_its_own_is_warned_of() {
    let text =
        beside_a_catch_all("optional", "three") + "[[backend]]\nname = \"three\"\nservers = [\"127.0.0.1:9003\"]\n";
    let found = Examined::of_text(&text, None);
    assert!(found.config.is_some());
    assert_eq!(found.found.len(), 2, "one for each stricter site: {:#?}", found.found);
    super::assert_said(&found.found[0], "site[1].client.auth", "asks less of clients than the site \"a.example\"");
    let shared = text.replace("127.0.0.1:9003", "127.0.0.1:9000");
    let found = Examined::of_text(&shared, None).found;
    super::assert_said(&found[0], "site[1].client.auth", "both reach 127.0.0.1:9000");
}

#[test]
fn a_site_has_certificates() {
    refused(
        &instead("certificate = [{ chain = \"server.pem\", key = \"server.key\" }]", ""),
        "site.certificate",
        "is missing",
    );
    refused(&instead("[{ chain = \"server.pem\", key = \"server.key\" }]", "[]"), "site.certificate", "is empty");
    refused(&instead(", key = \"server.key\"", ""), "site.certificate[0].key", "is missing");
    refused(&instead("\"server.pem\"", "\"\""), "site.certificate[0].chain", "is empty");
    let faults = super::faults_of(&instead("chain =", "cert ="));
    let keys: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(keys, ["site.certificate[0].cert", "site.certificate[0].chain"]);
}

#[test]
fn several_certificates_and_a_lone_one_without_brackets_are_taken() {
    let two = "[{ chain = \"e.pem\", key = \"e.key\", ocsp = \"e.ocsp\" }, { chain = \"r.pem\", key = \"r.key\" }]";
    assert_eq!(
        taken(&instead("[{ chain = \"server.pem\", key = \"server.key\" }]", two)).sites[0].certificates.len(),
        2
    );
    let lone = "{ chain = \"server.pem\", key = \"server.key\" }";
    let lone = taken(&instead(&format!("[{lone}]"), lone));
    assert_eq!(lone.sites, taken(LEAST).sites);
}

#[test]
fn alpn_is_a_list_of_protocols_each_once() {
    assert_eq!(
        taken(&with("site", "alpn = [\"h2\", \"http/1.1\"]")).sites[0].alpn,
        [b"h2".to_vec(), b"http/1.1".to_vec()]
    );
    refused(&with("site", "alpn = [\"\"]"), "site.alpn[0]", "is empty");
    refused(&with("site", "alpn = [\"h2\", \"h2\"]"), "site.alpn[1]", "twice");
    refused(&with("site", &format!("alpn = [\"{}\"]", "x".repeat(256))), "site.alpn[0]", "255 bytes");
}

fn tls(lines: &str) -> String {
    instead("[site.client]", &format!("[site.tls]\n{lines}\n[site.client]"))
}

#[test]
fn suites_and_groups_become_iana_names() {
    let site = &taken(&tls(
        "cipher_suites = [\"TLS_AES_128_GCM_SHA256\", \"ECDHE-ECDSA-AES256-GCM-SHA384\"]\ngroups = [\"x25519\", \"P-256\"]",
    ))
    .sites[0];
    assert_eq!(site.tls.cipher_suites, ["TLS_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"]);
    assert_eq!(site.tls.groups, ["X25519", "secp256r1"]);
    refused(&tls("cipher_suites = [\"AES256-SHA\"]"), "site.tls.cipher_suites[0]", "not a cipher suite offered here");
    refused(&tls("groups = [\"secp521r1\"]"), "site.tls.groups[0]", "not a group offered here");
    refused(&tls("groups = [\"P-256\", \"secp256r1\"]"), "site.tls.groups[1]", "twice");
}

#[test]
fn the_suites_leave_a_version_to_speak() {
    const TLS12: &str = "\"ECDHE-RSA-AES128-GCM-SHA256\"";
    const TLS13: &str = "\"TLS_AES_128_GCM_SHA256\"";
    let text = |min: &str, suites: &str| tls(&format!("min_version = \"{min}\"\ncipher_suites = [{suites}]"));
    refused(&text("1.3", TLS12), "site.tls.cipher_suites", "no suite of TLS 1.3");
    warned(&text("1.3", &format!("{TLS12}, {TLS13}")), "site.tls.cipher_suites", "never uses");
    warned(&text("1.2", TLS12), "site.tls.cipher_suites", "no suite of TLS 1.3, so that it is off");
    warned(&text("1.2", TLS13), "site.tls.cipher_suites", "no suite of TLS 1.2, so that it is off");
    taken(&text("1.2", &format!("{TLS12}, {TLS13}")));
    taken(&text("1.3", TLS13));
    refused(&tls("min_version = \"1.1\""), "site.tls.min_version", "below TLS 1.2");
    refused(&tls("min_version = 1.2"), "site.tls.min_version", "write \"1.2\" or \"1.3\"");
    warned(&tls("groups = [\"X25519MLKEM768\"]"), "site.tls.groups", "no TLS 1.2 client");
    taken(&tls("min_version = \"1.3\"\ngroups = [\"X25519MLKEM768\"]"));
}
