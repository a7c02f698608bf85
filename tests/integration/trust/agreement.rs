//! `explain` and a live handshake say the same of the same input, over chains that a seed generates; and what both say to
//! people tells them what to do.

use super::issue::List;
use super::outcome::{BOTH, Scene};
use crate::world::client::ClientSpec;
use crate::world::pki::{Ca, Credential, KeyKind, LeafSpec, self_signed};
use crate::world::process::{Output, run};
use crate::world::server::command;
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, NameConstraints};
use rustls_pki_types::CertificateDer;
use serde_json::Value;
use std::collections::BTreeSet;
use time::{Duration, OffsetDateTime};

const CHAINS: u64 = 40;
const REVOKED: u64 = 13;

/// A small generator of numbers (SplitMix64): the same seed gives the same chains.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % sides as u64) as usize
    }

    /// One in so many.
    fn rarely(&mut self, sides: usize) -> bool {
        self.below(sides) == 0
    }
}

/// Authorities of many makes, each with those above it up to and without its root.
struct Forest {
    trees: Vec<Vec<Ca>>,
}

impl Forest {
    fn grow(scene: &Scene) -> Forest {
        let root = || Ca::root("Somebody else");
        let anchor = &scene.world.pki.client_ca;
        let now = OffsetDateTime::now_utc();
        let late = anchor.intermediate_with("Late CA", |params| {
            (params.not_before, params.not_after) = (now - Duration::days(9), now - Duration::days(1));
        });
        let narrow = anchor.intermediate_with("Narrow CA", |params| {
            let permitted_subtrees = vec![GeneralSubtree::DnsName("bank.example".to_owned())];
            params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
        });
        let last =
            anchor.intermediate_with("Last CA", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
        let server_only = anchor.intermediate_with("Server CA", |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]
        });
        let no_ca = anchor.intermediate_with("No CA", |params| params.is_ca = IsCa::ExplicitNoCa);
        let listed = anchor.intermediate_with("Listed CA", |params| params.serial_number = Some(REVOKED.into()));
        let plain = anchor.intermediate("Issuing CA 1");
        let second = plain.intermediate("Issuing CA 2");
        let third = second.intermediate("Issuing CA 3");
        let past = last.intermediate("Past the last");
        let foreign = root().intermediate("Issuing CA 1");
        let trees = vec![
            vec![],
            vec![],
            vec![anchor.intermediate("Issuing CA 0")],
            vec![third, second, plain],
            vec![late],
            vec![narrow],
            vec![past, last],
            vec![server_only],
            vec![no_ca],
            vec![listed],
            vec![foreign],
            vec![root()],
        ];
        let all = trees.iter().flatten().map(|ca| List::of(&[REVOKED]).pem(ca));
        let lists: String = all.chain([List::of(&[REVOKED]).pem(anchor)]).collect();
        scene.world.write("all.crl", &lists);
        Forest { trees }
    }

    /// A chain as the dice fall.
    fn chain(&self, anchor: &Ca, dice: &mut Dice) -> Credential {
        let path = &self.trees[dice.below(self.trees.len())];
        let issuer = path.first().unwrap_or(anchor);
        let spec = leaf(dice);
        let mut credential = if dice.rarely(15) { self_signed(&spec) } else { issuer.leaf(&spec) };
        let mut rest: Vec<CertificateDer<'static>> = path.iter().map(|ca| ca.der.clone()).collect();
        if dice.rarely(6) {
            rest.pop();
        }
        if dice.rarely(6) {
            rest.reverse();
        }
        if dice.rarely(4) {
            rest.push(self.trees[3][dice.below(3)].der.clone());
        }
        if dice.rarely(8) {
            rest.push(anchor.der.clone());
        }
        credential.chain.extend(rest);
        credential
    }
}

fn leaf(dice: &mut Dice) -> LeafSpec {
    let now = OffsetDateTime::now_utc();
    let names = ["acme", "denied", "a, b = \"c\"", "zwölf\tDeichkämpfer", "bank.example"];
    let mut spec = LeafSpec::client(names[dice.below(names.len())]).serial(if dice.rarely(8) { REVOKED } else { 99 });
    match dice.below(4) {
        0 => spec = spec.dns("host.bank.example"),
        1 => spec = spec.dns("host.elsewhere.example"),
        2 => spec = spec.uri("spiffe://bank.example/payments/acme"),
        _ => {}
    }
    match dice.below(10) {
        0 => spec = spec.valid(now - Duration::days(9), now - Duration::days(1)),
        1 => spec = spec.valid(now + Duration::days(1), now + Duration::days(9)),
        2 => spec = spec.purposes(&[ExtendedKeyUsagePurpose::ServerAuth]),
        3 => spec = spec.purposes(&[]),
        4 => spec = spec.key(KeyKind::Rsa),
        _ => {}
    }
    spec
}

fn explain(scene: &Scene, arguments: &[&str]) -> Output {
    run(command(scene.world.path()).args(["explain", "-c", "countersign.toml"]).args(arguments))
}

#[test]
fn explain_says_of_generated_chains_what_a_live_handshake_says() {
    let scene = Scene::new();
    let forest = Forest::grow(&scene);
    let server =
        scene.serve("trust = [\"clients-ca.pem\"]\ncrls = [\"all.crl\"]\nmax_depth = 2\ndeny = [{ cn = \"denied\" }]");
    let mut reasons = BTreeSet::new();
    for seed in 0..CHAINS {
        let credential = forest.chain(&scene.world.pki.client_ca, &mut Dice(seed));
        credential.write(scene.world.path(), "generated");
        let versions = BOTH[(seed % 2) as usize];
        let mut client = ClientSpec::with(&scene.world.pki, &credential).versions(versions).connect(server.address());
        let lives = client.echo(b"x").is_ok();
        let _ = client.tcp.shutdown(std::net::Shutdown::Both);
        let line = server.audit_of(client.address, if lives { "accepted" } else { "refused" });
        let told = explain(&scene, &["--json", "generated.pem"]);
        let said: Value = serde_json::from_str(&told.stdout).unwrap_or_else(|_| panic!("seed {seed}: {}", told.text()));
        assert_eq!(
            (told.code, &said["admitted"]),
            (Some(i32::from(!lives)), &lives.into()),
            "seed {seed}: {said} {line}"
        );
        for field in ["decision", "reason", "identity", "rule", "verify"] {
            assert_eq!(said[field], line[field], "seed {seed}: {field} in {said} and {line}");
        }
        assert_eq!(said["alert"], line["our_alert"], "seed {seed}: {said} {line}");
        assert_eq!(said["cert"]["subject"], line["cert"]["subject"], "seed {seed}");
        if !lives {
            assert_eq!(said["reason_detail"], line["reason_detail"], "seed {seed}");
        }
        reasons.insert(said["reason"].as_str().unwrap().to_owned());
    }
    // The generator is worth something only while it reaches many verdicts, admission among them.
    assert!(reasons.len() >= 8 && reasons.contains("ok"), "{reasons:?}");
}

#[test]
fn hints_name_the_trusted_ca_of_another_key_and_the_intermediate_that_was_not_sent() {
    let scene = Scene::new();
    let forgotten = scene.world.pki.client_ca.intermediate("Forgotten CA");
    let lists = List::of(&[]).pem(&scene.world.pki.client_ca) + &List::of(&[]).pem(&forgotten);
    scene.world.write("all.crl", &lists);
    let server = scene.serve("trust = [\"clients-ca.pem\"]\ncrls = [\"all.crl\"]");
    let leaf = forgotten.leaf(&LeafSpec::client("forgetful"));
    let double = Ca::root("Test client CA").leaf(&LeafSpec::client("double"));
    let cases: [(&Credential, u8, &str, &[&str]); 2] = [
        (&leaf, 48, "missing_intermediate", &["did not send", "CN=Forgotten CA", "intermediates"]),
        (&double, 51, "bad_signature", &["CN=Test client CA", "another key"]),
    ];
    for (credential, alert, reason, words) in cases {
        let detail = scene.refused(&server, credential, alert, reason);
        credential.write(scene.world.path(), "hinted");
        let told = explain(&scene, &["hinted.pem"]);
        assert_eq!(told.code, Some(1), "{}", told.text());
        for word in words {
            assert!(detail.contains(word), "{word} in the audit: {detail}");
            assert!(told.stdout.contains(word), "{word} in {}", told.stdout);
        }
    }
    scene.admitted(&server, &leaf.with_rest(&[&forgotten.der]));
}
