//! Several client CAs at one site: each client is judged by the authority that its chain ends in, and by no other. A named
//! rule is the identity, whatever certificate its owner has at the time.

use super::issue::List;
use super::outcome::Scene;
use crate::world::pki::{Ca, LeafSpec};

const LISTED: u64 = 0x55;

/// The bank has rules and a CRL; the partner has other rules and none.
fn authorities(scene: &mut Scene) -> (crate::world::server::Server, Ca) {
    let partner = Ca::root("Partner CA");
    scene.world.write("partner-ca.pem", &partner.pem);
    scene.world.write("clients.crl", &List::of(&[LISTED]).pem(&scene.world.pki.client_ca));
    let mut config = scene.config("");
    config.sites[0].more = "[[site.client.authority]]\ntrust = [\"clients-ca.pem\"]\ncrls = [\"clients.crl\"]\n\
        allow = [{ uri = \"spiffe://bank.example/payments/*\" }, { dns = \"*.bank.example\" }]\n\
        deny = [{ cn = \"old\" }]\n\
        [[site.client.authority]]\ntrust = [\"partner-ca.pem\"]\nallow = [{ name = \"partner\", dns = \"*.partner.example\" }]\n"
        .to_owned();
    (scene.world.serve(&config), partner)
}

#[test]
fn each_authority_admits_by_its_own_rules_alone() {
    let mut scene = Scene::new();
    let (server, partner) = authorities(&mut scene);
    let bank = &scene.world.pki.client_ca;
    let (ours, theirs) = ("host.bank.example", "host.partner.example");
    let named = |ca: &Ca, name: &str| ca.leaf(&LeafSpec::client("x").dns(name));
    assert_eq!(scene.admitted(&server, &named(bank, ours))["identity"], "dns:host.bank.example");
    let line = scene.admitted(&server, &named(&partner, theirs));
    assert_eq!(line["identity"], "name:partner", "{line}");
    // A CA cannot mint the names of another.
    scene.refused(&server, &named(bank, theirs), 49, "policy_denied");
    scene.refused(&server, &named(&partner, ours), 49, "policy_denied");
    // `deny` is the bank's own too.
    scene.refused(&server, &bank.leaf(&LeafSpec::client("old").dns(ours)), 49, "policy_denied");
    scene.admitted(&server, &partner.leaf(&LeafSpec::client("old").dns(theirs)));
}

#[test]
fn the_crl_of_one_authority_does_not_make_crls_compulsory_for_another() {
    let mut scene = Scene::new();
    let (server, partner) = authorities(&mut scene);
    let bank = &scene.world.pki.client_ca;
    let leaf = |ca: &Ca, name: &str, serial| ca.leaf(&LeafSpec::client("x").dns(name).serial(serial));
    scene.refused(&server, &leaf(bank, "host.bank.example", LISTED), 44, "revoked");
    scene.admitted(&server, &leaf(bank, "host.bank.example", LISTED + 1));
    scene.admitted(&server, &leaf(&partner, "host.partner.example", LISTED));
    // Below the bank, an issuer that no CRL covers is refused; below the partner it is not.
    let (ours, theirs) = (bank.intermediate("Bank issuing CA"), partner.intermediate("Partner issuing CA"));
    let below = |ca: &Ca, name: &str| leaf(ca, name, 3).with_rest(&[&ca.der]);
    scene.refused(&server, &below(&ours, "host.bank.example"), 46, "crl_missing");
    scene.admitted(&server, &below(&theirs, "host.partner.example"));
}

#[test]
fn a_named_rule_is_the_identity_over_renewals_of_the_certificate() {
    let scene = Scene::new();
    let server = scene.serve(
        "trust = [\"clients-ca.pem\"]\nallow = [{ name = \"acme\", uri = \"spiffe://bank.example/payments/acme\" }, \
         { uri = \"spiffe://bank.example/**\" }]",
    );
    let mut seen = Vec::new();
    for serial in [1, 2] {
        // Another key, another number, another common name.
        let spec = LeafSpec::client(&format!("acme {serial}")).uri("spiffe://bank.example/payments/acme");
        let line = scene.admitted(&server, &scene.world.pki.client_ca.leaf(&spec.serial(serial)));
        assert_eq!(line["identity"], "name:acme", "{line}");
        assert!(line["rule"].as_str().is_some_and(|rule| !rule.is_empty()), "{line}");
        seen.push(line["cert"]["sha256"].as_str().unwrap().to_owned());
    }
    assert_ne!(seen[0], seen[1]);
    let other = scene.world.pki.client_ca.leaf(&LeafSpec::client("x").uri("spiffe://bank.example/a/b"));
    assert_eq!(scene.admitted(&server, &other)["identity"], "uri:spiffe://bank.example/a/b");
}

#[test]
fn check_warns_of_lists_of_rules_that_admit_nobody_or_repeat_themselves() {
    let scene = Scene::new();
    let trust = "trust = [\"clients-ca.pem\"]";
    for (rules, wanted) in [
        ("allow = []", "admits nobody"),
        ("allow = [{ cn = \"a\" }, { cn = \"b\" }, { cn = \"a\" }]", "repeats the rule"),
        ("deny = [{ cn = \"a\" }, { cn = \"a\" }]", "repeats the rule"),
    ] {
        let told = scene.check(&format!("{trust}\n{rules}"));
        assert_eq!(told.code, Some(0), "a warning is no fault: {}", told.text());
        assert!(told.text().contains(wanted), "{rules}: {}", told.text());
    }
    let told =
        scene.check(&format!("{trust}\nallow = [{{ cn = \"a\" }}, {{ cn = \"b\" }}]\ndeny = [{{ cn = \"c\" }}]"));
    assert!(!told.text().contains("admits nobody") && !told.text().contains("repeats"), "{}", told.text());
}
