//! CRLs in the files that operators have: PEM and DER, many in one, old beside new, forged, for a part only, missing, run
//! out. What cannot be done justice to is refused at load, with its reason.

use super::issue::List;
use super::outcome::Scene;
use crate::world::peers::openssl;
use crate::world::pki::{Ca, Credential, LeafSpec};
use rcgen::CrlScope;
use time::{Duration, OffsetDateTime};

const REVOKED: u64 = 0x77;
const WITH_LIST: &str = "trust = [\"clients-ca.pem\"]\ncrls = [\"clients.crl\"]";

fn ca(scene: &Scene) -> &Ca {
    &scene.world.pki.client_ca
}

fn revoked(scene: &Scene) -> Credential {
    ca(scene).leaf(&LeafSpec::client("revoked").serial(REVOKED))
}

fn good(scene: &Scene) -> Credential {
    scene.world.pki.client.clone()
}

#[test]
fn pem_and_der_and_several_in_one_file_revoke() {
    let scene = Scene::new();
    let other = Ca::root("Partner CA");
    let list = List::of(&[REVOKED]);
    scene.world.write("partner-ca.pem", &other.pem);
    let partner = other.leaf(&LeafSpec::client("partner").serial(REVOKED));
    let partner_good = other.leaf(&LeafSpec::client("partner").serial(REVOKED + 1));
    let both = list.pem(ca(&scene)) + &list.pem(&other);
    let der = list.sign(ca(&scene)).der().to_vec();
    let trust = "trust = [\"clients-ca.pem\", \"partner-ca.pem\"]";
    for (name, bytes, of_partner) in [("both.pem", both.into_bytes(), true), ("one.der", der, false)] {
        std::fs::write(scene.world.path().join(name), bytes).unwrap();
        let server = scene.serve(&format!("{trust}\ncrls = [\"{name}\"]"));
        let detail = scene.refused(&server, &revoked(&scene), 44, "revoked");
        assert!(detail.contains("key compromise"), "{detail}");
        scene.admitted(&server, &good(&scene));
        match of_partner {
            true => {
                scene.refused(&server, &partner, 44, "revoked");
                scene.admitted(&server, &partner_good);
            }
            // The list of one issuer says nothing of another's clients, and that is no good news.
            false => {
                scene.refused(&server, &partner_good, 46, "crl_missing");
            }
        }
    }
}

#[test]
fn the_newest_list_counts_wherever_it_stands() {
    let scene = Scene::new();
    let (old, new) = (List::of(&[]).number(8).pem(ca(&scene)), List::of(&[REVOKED]).number(9).pem(ca(&scene)));
    scene.world.write("old.crl", &old);
    scene.world.write("new.crl", &new);
    scene.world.write("mixed.crl", &(old.clone() + &new + &old));
    for crls in ["\"old.crl\", \"new.crl\"", "\"new.crl\", \"old.crl\"", "\"mixed.crl\""] {
        let server = scene.serve(&format!("trust = [\"clients-ca.pem\"]\ncrls = [{crls}]"));
        scene.refused(&server, &revoked(&scene), 44, "revoked");
        scene.admitted(&server, &good(&scene));
    }
    let server = scene.serve("trust = [\"clients-ca.pem\"]\ncrls = [\"old.crl\"]");
    scene.admitted(&server, &revoked(&scene));
}

#[test]
fn a_list_of_the_same_name_under_another_key_changes_nothing() {
    let scene = Scene::new();
    let forger = Ca::root("Test client CA");
    // It is newer, revokes the good client, and knows nothing of the bad one.
    let forged = List::of(&[0x03a5b1]).number(99).pem(&forger);
    scene.world.write("forged.crl", &forged);
    scene.world.write("both.crl", &(forged + &List::of(&[REVOKED]).pem(ca(&scene))));
    let server = scene.serve("trust = [\"clients-ca.pem\"]\ncrls = [\"both.crl\"]");
    scene.refused(&server, &revoked(&scene), 44, "revoked");
    scene.admitted(&server, &good(&scene));
    drop(server);
    let server = scene.serve("trust = [\"clients-ca.pem\"]\ncrls = [\"forged.crl\"]");
    scene.refused(&server, &good(&scene), 46, "crl_missing");
    let told = scene.check("trust = [\"clients-ca.pem\"]\ncrls = [\"forged.crl\"]");
    assert!(told.text().contains("is not signed by"), "{}", told.text());
}

#[test]
fn a_list_that_begins_in_the_future_does_not_count_yet() {
    let scene = Scene::new();
    let now = OffsetDateTime::now_utc();
    let early = List::of(&[]).number(9).valid(now + Duration::hours(1), now + Duration::days(9));
    scene.world.write("clients.crl", &(early.pem(ca(&scene)) + &List::of(&[REVOKED]).pem(ca(&scene))));
    let server = scene.serve(WITH_LIST);
    scene.refused(&server, &revoked(&scene), 44, "revoked");
    scene.admitted(&server, &good(&scene));
}

#[test]
fn the_scope_says_whether_intermediates_are_looked_up_too() {
    let scene = Scene::new();
    let below = ca(&scene).intermediate_with("Issuing CA", |params| params.serial_number = Some(REVOKED.into()));
    let client = below.leaf(&LeafSpec::client("below")).with_rest(&[&below.der]);
    scene.world.write("root.crl", &List::of(&[REVOKED]).pem(ca(&scene)));
    scene.world.write("below.crl", &List::of(&[]).pem(&below));
    let crls = "trust = [\"clients-ca.pem\"]\ncrls = [\"root.crl\", \"below.crl\"]";
    let server = scene.serve(crls);
    let detail = scene.refused(&server, &client, 44, "revoked");
    assert!(detail.contains("Issuing CA"), "{detail}");
    drop(server);
    let server = scene.serve(&format!("{crls}\ncrl_scope = \"leaf\""));
    scene.admitted(&server, &client);
    drop(server);
    // The leaf's own issuer has to be covered in both.
    let server = scene.serve("trust = [\"clients-ca.pem\"]\ncrls = [\"root.crl\"]\ncrl_scope = \"leaf\"");
    scene.refused(&server, &client, 46, "crl_missing");
    drop(server);
    let server = scene
        .serve("trust = [\"clients-ca.pem\"]\ncrls = [\"root.crl\"]\ncrl_scope = \"leaf\"\ncrl_missing = \"allow\"");
    scene.admitted(&server, &client);
}

#[test]
fn a_list_for_a_part_of_the_certificates_speaks_for_no_other() {
    let scene = Scene::new();
    let point = "http://crl.example/1";
    let named = |uri: &str| {
        let uri = uri.to_owned();
        let spec = LeafSpec::client("part").serial(REVOKED);
        ca(&scene).leaf_with(&spec, |params| {
            params.crl_distribution_points = vec![rcgen::CrlDistributionPoint { uris: vec![uri] }];
        })
    };
    let (here, elsewhere) = (named(point), named("http://crl.example/2"));
    scene.world.write("clients.crl", &List::of(&[REVOKED]).partition(point, None).pem(ca(&scene)));
    let server = scene.serve(WITH_LIST);
    scene.refused(&server, &here, 44, "revoked");
    scene.refused(&server, &elsewhere, 46, "crl_missing");
    drop(server);
    scene.world.write("clients.crl", &List::of(&[]).partition(point, None).pem(ca(&scene)));
    let server = scene.serve(WITH_LIST);
    scene.admitted(&server, &here);
    drop(server);
    // A list of CA certificates alone says nothing of leaves.
    let cas = List::of(&[]).partition(point, Some(CrlScope::CaCertsOnly));
    scene.world.write("clients.crl", &cas.pem(ca(&scene)));
    let server = scene.serve(WITH_LIST);
    scene.refused(&server, &here, 46, "crl_missing");
}

#[test]
fn a_list_that_ran_out_refuses_everybody_but_where_that_is_allowed() {
    let scene = Scene::new();
    let now = OffsetDateTime::now_utc();
    let stale = List::of(&[REVOKED]).valid(now - Duration::days(9), now - Duration::hours(1));
    scene.world.write("clients.crl", &stale.pem(ca(&scene)));
    for (setting, lets_in) in [("refuse", false), ("30m", false), ("24h", true), ("allow", true)] {
        let server = scene.serve(&format!("{WITH_LIST}\ncrl_expired = \"{setting}\""));
        match lets_in {
            true => {
                scene.admitted(&server, &good(&scene));
                scene.refused(&server, &revoked(&scene), 44, "revoked");
            }
            false => {
                let detail = scene.refused(&server, &good(&scene), 46, "crl_expired");
                assert!(detail.contains("ran out") && detail.contains("reload"), "{detail}");
                scene.refused(&server, &revoked(&scene), 44, "revoked");
            }
        }
    }
}

/// A CRL by `openssl ca`, with these extensions.
fn openssl_crl(scene: &Scene, extensions: &str) {
    let (world, own) = (&scene.world, ca(scene).as_client());
    own.write(world.path(), "ca");
    world.write("index.txt", "");
    world.write("crlnumber", "05\n");
    world.write(
        "ca.cnf",
        &format!(
            "[ca]\ndefault_ca = d\n[d]\ndatabase = index.txt\ncrlnumber = crlnumber\ndefault_md = sha256\n\
             default_crl_days = 9\n[e]\n{extensions}\n[idp]\nfullname = URI:http://crl.example/1\nindirectCRL = TRUE\n\
             [reasons]\nfullname = URI:http://crl.example/1\nonlysomereasons = keyCompromise\n"
        ),
    );
    let sign = ["ca", "-config", "ca.cnf", "-gencrl", "-cert", "ca.pem", "-keyfile", "ca.key", "-crlexts", "e"];
    openssl(world.path(), &[&sign[..], &["-out", "clients.crl"]].concat());
}

#[test]
fn lists_of_kinds_that_are_not_supported_are_refused_at_load_with_their_reason() {
    let scene = Scene::new();
    let cases = [
        ("2.5.29.27 = critical, ASN1:INTEGER:4", "delta CRL"),
        ("issuingDistributionPoint = critical, @idp", "indirect CRL"),
        ("issuingDistributionPoint = critical, @reasons", "some revocation reasons only"),
        ("1.2.3.4 = critical, ASN1:INTEGER:4", "critical extension 1.2.3.4"),
    ];
    for (extensions, why) in cases {
        openssl_crl(&scene, extensions);
        let told = scene.check(WITH_LIST);
        assert_eq!(told.code, Some(78), "{why}: {}", told.text());
        assert!(told.text().contains(why) && told.text().contains("clients.crl"), "{why}: {}", told.text());
    }
    openssl_crl(&scene, "authorityKeyIdentifier = keyid:always");
    let told = scene.check(WITH_LIST);
    assert_eq!(told.code, Some(0), "a plain one of the same making: {}", told.text());
}

#[test]
fn files_without_a_list_never_mean_that_nobody_is_revoked() {
    let scene = Scene::new();
    let list = List::of(&[REVOKED]).pem(ca(&scene));
    let half = &list[..list.len() / 2];
    let certificate = &scene.world.pki.client_ca.pem;
    for (what, text) in [("empty", ""), ("half", half), ("blank", "\n\n"), ("a certificate", certificate)] {
        scene.world.write("clients.crl", text);
        let told = scene.check(WITH_LIST);
        assert_eq!(told.code, Some(78), "{what}: {}", told.text());
        assert!(told.text().contains("clients.crl"), "{what}: {}", told.text());
    }
    std::fs::remove_file(scene.world.path().join("clients.crl")).unwrap();
    assert_eq!(scene.check(WITH_LIST).code, Some(78));
    scene.world.write("clients.crl", &list);
    assert_eq!(scene.check(WITH_LIST).code, Some(0));
}
