//! Chains of every make, each refused one beside its nearest neighbour that is let in.

use super::outcome::Scene;
use crate::world::pki::{Ca, LeafSpec};
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, NameConstraints};
use time::{Duration, OffsetDateTime};

const TRUST: &str = "trust = [\"clients-ca.pem\"]";

/// A client below these authorities, which are sent, the nearest first.
fn below(path: &[&Ca], spec: LeafSpec) -> crate::world::pki::Credential {
    let rest: Vec<_> = path.iter().map(|ca| &ca.der).collect();
    path[0].leaf(&spec).with_rest(&rest)
}

#[test]
fn name_constraints_bind_the_names_below_them() {
    let scene = Scene::new();
    let server = scene.serve(TRUST);
    let narrow = scene.world.pki.client_ca.intermediate_with("Narrow CA", |params| {
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("partner.example".to_owned())],
            excluded_subtrees: vec![GeneralSubtree::DnsName("secret.partner.example".to_owned())],
        });
    });
    let client = |name: &str| below(&[&narrow], LeafSpec::client("x").dns(name));
    scene.admitted(&server, &client("host.partner.example"));
    for name in ["host.bank.example", "host.secret.partner.example", "notpartner.example"] {
        let detail = scene.refused(&server, &client(name), 46, "name_constraint");
        assert!(detail.contains("nameConstraints"), "{name}: {detail}");
    }
}

#[test]
fn an_intermediate_must_be_a_valid_authority_for_clients_itself() {
    let scene = Scene::new();
    let server = scene.serve(TRUST);
    let root = &scene.world.pki.client_ca;
    let now = OffsetDateTime::now_utc();
    let client = |ca: &Ca| below(&[ca], LeafSpec::client("x"));
    scene.admitted(&server, &client(&root.intermediate("Plain CA")));
    let late = root.intermediate_with("Late CA", |params| {
        (params.not_before, params.not_after) = (now - Duration::days(9), now - Duration::days(1));
    });
    scene.refused(&server, &client(&late), 45, "expired");
    let early = root.intermediate_with("Early CA", |params| params.not_before = now + Duration::hours(1));
    scene.refused(&server, &client(&early), 45, "not_yet_valid");
    let user = root.intermediate_with("No CA", |params| params.is_ca = IsCa::ExplicitNoCa);
    scene.refused(&server, &client(&user), 46, "not_a_ca");
    let purposes = |list: &[ExtendedKeyUsagePurpose]| {
        let list = list.to_vec();
        root.intermediate_with("Purposeful CA", |params| params.extended_key_usages = list)
    };
    scene.refused(&server, &client(&purposes(&[ExtendedKeyUsagePurpose::ServerAuth])), 43, "wrong_purpose");
    scene.admitted(&server, &client(&purposes(&[ExtendedKeyUsagePurpose::ClientAuth])));
    // The same name and another key: what it signed is nobody's.
    let (real, double) = (root.intermediate("Issuing CA"), Ca::root("Elsewhere").intermediate("Issuing CA"));
    let mixed = double.leaf(&LeafSpec::client("x")).with_rest(&[&real.der]);
    scene.refused(&server, &mixed, 51, "bad_signature");
    scene.admitted(&server, &client(&real));
}

#[test]
fn depth_counts_intermediates_alone_and_the_path_length_of_each_is_kept() {
    let scene = Scene::new();
    let root = &scene.world.pki.client_ca;
    let one = root.intermediate("One");
    let two = one.intermediate("Two");
    let server = scene.serve(&format!("{TRUST}\nmax_depth = 1"));
    // The root may come along, and counts for nothing.
    let with_root = one.leaf(&LeafSpec::client("x")).with_rest(&[&one.der, &root.der]);
    scene.admitted(&server, &with_root);
    scene.refused(&server, &below(&[&two, &one], LeafSpec::client("x")), 46, "chain_too_deep");
    drop(server);
    let server = scene.serve(&format!("{TRUST}\nmax_depth = 0"));
    scene.admitted(&server, &scene.world.pki.client);
    scene.refused(&server, &below(&[&one], LeafSpec::client("x")), 46, "chain_too_deep");
    drop(server);
    let server = scene.serve(&format!("{TRUST}\nmax_depth = 6"));
    let last = root.intermediate_with("Last", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    scene.admitted(&server, &below(&[&last], LeafSpec::client("x")));
    let past = last.intermediate("Past the last");
    scene.refused(&server, &below(&[&past, &last], LeafSpec::client("x")), 46, "chain_too_deep");
    scene.admitted(&server, &below(&[&two, &one], LeafSpec::client("x")));
}

#[test]
fn a_trusted_intermediate_is_an_anchor_and_its_root_is_none() {
    let scene = Scene::new();
    let root = Ca::root("Somebody else");
    let (trusted, other) = (root.intermediate("Trusted CA"), root.intermediate("Other CA"));
    scene.world.write("trusted.pem", &trusted.pem);
    let server = scene.serve("trust = [\"trusted.pem\"]");
    let client = |ca: &Ca| ca.leaf(&LeafSpec::client("x"));
    scene.admitted(&server, &client(&trusted));
    scene.admitted(&server, &client(&trusted).with_rest(&[&trusted.der, &root.der]));
    scene.refused(&server, &client(&other).with_rest(&[&other.der, &root.der]), 48, "unknown_issuer");
}

#[test]
fn helpers_complete_a_chain_and_are_never_anchors() {
    let scene = Scene::new();
    let helper = scene.world.pki.client_ca.intermediate("Forgotten CA");
    let foreign = Ca::root("Somebody else").intermediate("Foreign CA");
    scene.world.write("helpers.pem", &(helper.pem.clone() + &foreign.pem));
    let forgetful = helper.leaf(&LeafSpec::client("forgetful"));
    let server = scene.serve(TRUST);
    scene.refused(&server, &forgetful, 48, "unknown_issuer");
    drop(server);
    let server = scene.serve(&format!("{TRUST}\nintermediates = [\"helpers.pem\"]"));
    scene.admitted(&server, &forgetful);
    scene.refused(&server, &foreign.leaf(&LeafSpec::client("x")), 48, "missing_intermediate");
}
