//! `countersign pki`: its chains satisfy openssl, its broken certificates are refused for the reason that they name, and
//! its CRLs are taken.

use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::{ClientSpec, Ending, TLS12, TLS13};
use crate::world::config::ConfigText;
use crate::world::peers::openssl;
use crate::world::pki::Credential;
use crate::world::process::{Output, run};
use crate::world::server::{Server, command};
use std::path::Path;

fn pki(world: &World, arguments: &[&str]) -> Output {
    let output = run(command(world.path()).arg("pki").args(arguments));
    assert_eq!(output.code, Some(0), "{arguments:?}: {}", output.text());
    output
}

fn credential(world: &World, stem: &str) -> Credential {
    let file = |extension: &str| world.path().join(format!("{stem}.{extension}"));
    Credential::from_files(&file("pem"), &file("key"))
}

fn fresh() -> World {
    let world = World::new();
    pki(&world, &["init"]);
    pki(&world, &["server", "localhost", "127.0.0.1"]);
    world
}

fn config(backend: &Backend) -> ConfigText {
    let mut config = ConfigText::new(&backend.server);
    config.sites[0].lines =
        "backend = \"ledger\"\ncertificate = [{ chain = \"pki/server.pem\", key = \"pki/server.key\" }]".to_owned();
    config.sites[0].client = "trust = [\"pki/ca.pem\"]".to_owned();
    config
}

fn spec(world: &World, credential: &Credential) -> ClientSpec {
    let root = Credential::from_files(&world.path().join("pki/ca.pem"), &world.path().join("pki/server.key"));
    ClientSpec { roots: root.chain, ..ClientSpec::with(&world.pki, credential) }
}

/// The reason that the audit gives for refusing this client in TLS 1.3, and the alert that it got.
fn refusal(world: &World, server: &Server, credential: &Credential) -> (String, Ending) {
    let mut client = spec(world, credential).versions(TLS13).connect(server.address());
    let ending = client.refusal();
    (server.audit_of(client.address, "refused")["reason"].as_str().unwrap().to_owned(), ending)
}

#[test]
fn openssl_accepts_its_server_and_client_chains_of_every_kind_of_key() {
    let world = fresh();
    let verify = |purpose: &str, pem: &str| {
        let arguments =
            ["verify", "-x509_strict", "-purpose", purpose, "-CAfile", "pki/ca.pem", "-untrusted", pem, pem];
        openssl(world.path(), &arguments);
    };
    verify("sslserver", "pki/server.pem");
    for kind in ["p256", "p384", "ed25519", "rsa2048", "rsa3072"] {
        pki(&world, &["client", kind, "--key-type", kind, "--uri", "spiffe://bank.example/x"]);
        verify("sslclient", &format!("pki/{kind}.pem"));
    }
    let hosts = openssl(
        world.path(),
        &[
            "verify",
            "-CAfile",
            "pki/ca.pem",
            "-untrusted",
            "pki/server.pem",
            "-verify_hostname",
            "localhost",
            "pki/server.pem",
        ],
    );
    assert!(hosts.text().contains("OK"), "{}", hosts.text());
}

#[test]
fn keys_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let world = fresh();
    for entry in std::fs::read_dir(world.path().join("pki")).unwrap().map(Result::unwrap) {
        if entry.path().extension().is_some_and(|extension| extension == "key") {
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", entry.path().display());
        }
    }
}

#[test]
fn its_clients_get_in_and_each_broken_one_is_refused_for_its_fault() {
    let world = fresh();
    let backend = Backend::tcp(echo());
    let server = world.serve(&config(&backend));
    pki(&world, &["client", "good"]);
    for versions in [TLS12, TLS13] {
        spec(&world, &credential(&world, "pki/good")).versions(versions).connect(server.address()).echo(b"x").unwrap();
    }
    let connections = backend.connections();
    let cases = [
        ("expired", "expired", 45),
        ("not-yet-valid", "not_yet_valid", 45),
        ("wrong-purpose", "wrong_purpose", 43),
        ("missing-intermediate", "unknown_issuer missing_intermediate", 48),
        ("unknown-ca", "unknown_issuer", 48),
        ("self-signed", "unknown_issuer", 48),
        ("bad-signature", "bad_signature", 51),
        ("ca-as-leaf", "ca_as_leaf", 46),
        ("v1", "unsupported_version", 43),
    ];
    for (broken, reasons, alert) in cases {
        pki(&world, &["client", "bad", "--broken", broken, "--out", broken]);
        let (reason, ending) = refusal(&world, &server, &credential(&world, broken));
        assert!(reasons.split(' ').any(|wanted| wanted == reason), "{broken}: {reason}");
        assert_eq!(ending, Ending::Alert(alert), "{broken}");
    }
    assert_eq!(backend.connections(), connections);
}

#[test]
fn its_clients_get_in_with_every_kind_of_key() {
    let world = fresh();
    let backend = Backend::tcp(echo());
    let server = world.serve(&config(&backend));
    for kind in ["p256", "p384", "ed25519", "rsa2048", "rsa3072"] {
        pki(&world, &["client", kind, "--key-type", kind]);
        for versions in [TLS12, TLS13] {
            let mut client =
                spec(&world, &credential(&world, &format!("pki/{kind}"))).versions(versions).connect(server.address());
            client.echo(b"x").unwrap_or_else(|ending| panic!("{kind} {versions:?}: {ending:?}"));
        }
    }
}

#[test]
fn a_revoked_client_is_refused_and_another_is_not() {
    let world = fresh();
    pki(&world, &["client", "good"]);
    pki(&world, &["client", "bad"]);
    pki(&world, &["revoke", "pki/bad.pem"]);
    pki(&world, &["crl"]);
    let backend = Backend::tcp(echo());
    let server = world.serve(&config(&backend).client("crls = [\"pki/crl.pem\"]"));
    let revoked = refusal(&world, &server, &credential(&world, "pki/bad"));
    assert_eq!(revoked, ("revoked".to_owned(), Ending::Alert(44)));
    spec(&world, &credential(&world, "pki/good")).connect(server.address()).echo(b"x").unwrap();
    assert_eq!(backend.connections(), 1);
}

#[test]
fn a_crl_that_ran_out_refuses_as_our_own_fault_unless_it_is_allowed() {
    let world = fresh();
    pki(&world, &["client", "good"]);
    pki(&world, &["crl", "--expired"]);
    let backend = Backend::tcp(echo());
    let strict = config(&backend).client("crls = [\"pki/crl.pem\"]");
    let server = world.serve(&strict);
    let good = credential(&world, "pki/good");
    assert_eq!(refusal(&world, &server, &good), ("crl_expired".to_owned(), Ending::Alert(46)));
    assert_eq!(backend.connections(), 0);
    for lenient in ["crl_expired = \"allow\"", "crl_expired = \"3000d\""] {
        let server = world.serve(&strict.clone().client(lenient));
        spec(&world, &good).connect(server.address()).echo(b"x").unwrap();
    }
}

#[test]
fn a_crl_that_covers_another_issuer_alone_is_a_missing_one() {
    let world = fresh();
    pki(&world, &["client", "good"]);
    pki(&world, &["init", "--dir", "elsewhere"]);
    pki(&world, &["crl", "--dir", "elsewhere"]);
    let trust = "trust = [\"pki/ca.pem\", \"elsewhere/ca.pem\"]\ncrls = [\"elsewhere/crl.pem\"]";
    let backend = Backend::tcp(echo());
    let mut strict = config(&backend);
    strict.sites[0].client = trust.to_owned();
    let server = world.serve(&strict);
    let good = credential(&world, "pki/good");
    assert_eq!(refusal(&world, &server, &good), ("crl_missing".to_owned(), Ending::Alert(46)));
    let lenient = world.serve(&strict.client("crl_missing = \"allow\""));
    spec(&world, &good).connect(lenient.address()).echo(b"x").unwrap();
}

#[test]
fn what_is_there_already_is_not_overwritten() {
    let world = fresh();
    let before = std::fs::read(world.path().join("pki/root.key")).unwrap();
    let again = run(command(world.path()).args(["pki", "init"]));
    assert_ne!(again.code, Some(0), "{}", again.text());
    assert_eq!(std::fs::read(world.path().join("pki/root.key")).unwrap(), before);
    assert!(Path::new(&world.path().join("pki/server.pem")).exists());
}
