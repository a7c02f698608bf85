//! What the development CA makes, judged by OpenSSL and by webpki: neither shares code with what made it.

use super::files::{Overwrite, Readers, Staged};
use super::registry::Registry;
use super::*;
use crate::cli::exit;
use clap::{Parser, ValueEnum};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use tempfile::TempDir;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: PkiArgs,
}

/// One directory with a CA in it.
struct World {
    dir: TempDir,
}

impl World {
    fn new() -> World {
        let world = World { dir: tempfile::tempdir().unwrap() };
        world.run(&["init"]).expect("a new CA");
        world
    }

    /// `countersign pki …` in this directory.
    fn run(&self, words: &[&str]) -> Result<Done, PkiError> {
        let dir = self.dir.path().to_str().unwrap();
        let line = Line::try_parse_from(["pki"].iter().chain(words).chain(&["--dir", dir])).expect("arguments");
        run(line.args.command, OffsetDateTime::now_utc())
    }

    fn refused(&self, words: &[&str]) -> PkiError {
        match self.run(words) {
            Ok(_) => panic!("{words:?} was done"),
            Err(error) => error,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn registry(&self) -> Registry {
        Registry::load(self.dir.path()).unwrap()
    }

    /// Output of `openssl` in this directory, both streams.
    fn openssl(&self, line: &str) -> String {
        let output = Command::new("openssl")
            .args(line.split_whitespace())
            .current_dir(self.dir.path())
            .output()
            .expect("openssl is installed");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    fn verify(&self, options: &str, name: &str) -> String {
        self.openssl(&format!("verify -x509_strict {options} -CAfile ca.pem -untrusted {name}.pem {name}.pem"))
    }

    /// What webpki says of a client's chain.
    fn webpki(&self, name: &str) -> Result<(), webpki::Error> {
        let chain = certificates(&self.path(&format!("{name}.pem")));
        let anchors = certificates(&self.path("ca.pem"));
        let anchors: Vec<_> = anchors.iter().map(|der| webpki::anchor_from_trusted_cert(der).unwrap()).collect();
        let leaf = webpki::EndEntityCert::try_from(&chain[0])?;
        leaf.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            &chain[1..],
            UnixTime::now(),
            webpki::KeyUsage::client_auth(),
            None,
            None,
        )
        .map(|_| ())
    }
}

fn certificates(path: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path).unwrap().collect::<Result<_, _>>().unwrap()
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn openssl_accepts_what_is_made_without_options() {
    let world = World::new();
    world.run(&["server", "localhost", "127.0.0.1", "::1"]).unwrap();
    world.run(&["client", "alice"]).unwrap();
    for names in ["-verify_hostname localhost", "-verify_ip 127.0.0.1", "-verify_ip ::1"] {
        assert_eq!(world.verify(&format!("-purpose sslserver {names}"), "server"), "server.pem: OK\n");
    }
    assert_eq!(world.verify("-purpose sslclient", "alice"), "alice.pem: OK\n");
    assert!(world.verify("-purpose sslclient", "server").contains("purpose"), "a server is no client");
    assert!(world.verify("-purpose sslserver -verify_hostname example.org", "server").contains("hostname mismatch"));
}

#[test]
fn webpki_accepts_a_client_and_the_servers_names() {
    let world = World::new();
    world.run(&["server", "localhost", "*.bank.example"]).unwrap();
    world.run(&["client", "alice"]).unwrap();
    assert_eq!(world.webpki("alice"), Ok(()));
    assert!(matches!(world.webpki("server"), Err(webpki::Error::RequiredEkuNotFoundContext(_))));
    let server = certificates(&world.path("server.pem"));
    let leaf = webpki::EndEntityCert::try_from(&server[0]).unwrap();
    for name in ["localhost", "api.bank.example"] {
        assert!(leaf.verify_is_valid_for_subject_name(&name.try_into().unwrap()).is_ok(), "{name}");
    }
    assert!(leaf.verify_is_valid_for_subject_name(&"bank.example".try_into().unwrap()).is_err());
}

#[test]
fn a_client_certificate_says_what_was_asked_for() {
    let world = World::new();
    let names =
        ["--uri", "spiffe://bank.example/a", "--dns", "a.example", "--email", "a@b.example", "--ip", "192.0.2.1"];
    world.run(&[&["client", "alice", "--ou", "Settlement", "--o", "Bank"], &names[..]].concat()).unwrap();
    let text = world.openssl("x509 -in alice.pem -noout -text");
    for part in [
        "Version: 3 (0x2)",
        "Subject: O = Bank, OU = Settlement, CN = alice",
        "URI:spiffe://bank.example/a, DNS:a.example, email:a@b.example, IP Address:192.0.2.1",
        "X509v3 Key Usage: critical\n                Digital Signature\n",
        "X509v3 Extended Key Usage: \n                TLS Web Client Authentication\n",
        "X509v3 Basic Constraints: critical\n                CA:FALSE\n",
        "X509v3 Subject Key Identifier",
        "X509v3 Authority Key Identifier",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn the_cas_may_sign_certificates_and_crls_and_nothing_else() {
    let world = World::new();
    for (name, below) in [("root", 1), ("intermediate", 0)] {
        let text = world.openssl(&format!("x509 -in {name}.pem -noout -text"));
        assert!(text.contains(&format!("CA:TRUE, pathlen:{below}")), "{text}");
        assert!(text.contains("X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign\n"), "{text}");
    }
    assert_eq!(fs::read(world.path("ca.pem")).unwrap(), fs::read(world.path("root.pem")).unwrap());
}

#[test]
fn serials_are_positive_random_and_of_one_length() {
    let world = World::new();
    for name in ["a", "b", "c", "d"] {
        world.run(&["client", name]).unwrap();
    }
    let mut serials: Vec<String> = world.registry().certificates.iter().map(|issued| issued.serial.clone()).collect();
    assert!(serials.iter().all(|serial| serial.len() == 32 && (b'4'..=b'7').contains(&serial.as_bytes()[0])));
    serials.sort();
    serials.dedup();
    assert_eq!(serials.len(), 5);
}

#[test]
fn every_kind_of_key_is_accepted_and_read_by_openssl() {
    let world = World::new();
    for kind in KeyType::value_variants().iter().filter(|kind| !matches!(kind, KeyType::Rsa3072 | KeyType::Rsa4096)) {
        let name = kind.to_possible_value().unwrap().get_name().to_owned();
        world.run(&["client", &name, "--key-type", &name]).unwrap();
        assert_eq!(world.verify("-purpose sslclient", &name), format!("{name}.pem: OK\n"));
        assert_eq!(world.webpki(&name), Ok(()));
        let of_key = world.openssl(&format!("pkey -in {name}.key -pubout"));
        assert!(of_key.starts_with("-----BEGIN PUBLIC KEY"), "{of_key}");
        assert_eq!(of_key, world.openssl(&format!("x509 -in {name}.pem -noout -pubkey")));
    }
}

#[test]
fn a_ca_may_have_any_kind_of_key() {
    for kind in ["p384", "ed25519", "rsa2048"] {
        let world = World { dir: tempfile::tempdir().unwrap() };
        world.run(&["init", "--key-type", kind]).unwrap();
        world.run(&["client", "alice"]).unwrap();
        world.run(&["client", "forged", "--broken", "bad-signature"]).unwrap();
        world.run(&["crl"]).unwrap();
        assert_eq!(world.verify("-crl_check_all -CRLfile crl.pem", "alice"), "alice.pem: OK\n", "{kind}");
        assert_eq!(world.webpki("alice"), Ok(()), "{kind}");
        assert!(world.webpki("forged").is_err(), "{kind}");
    }
}

#[test]
fn keys_are_for_their_owner_alone_and_nothing_temporary_stays() {
    let world = World::new();
    world.run(&["server", "localhost"]).unwrap();
    for name in ["root.key", "intermediate.key", "server.key"] {
        assert_eq!(mode(&world.path(name)), 0o600, "{name}");
    }
    assert_ne!(mode(&world.path("ca.pem")) & 0o044, 0);
    let left = fs::read_dir(world.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().ends_with(".tmp")));
}

#[test]
fn nothing_is_overwritten_unless_forced() {
    let world = World::new();
    world.run(&["client", "alice"]).unwrap();
    let before = fs::read(world.path("alice.key")).unwrap();
    let error = world.refused(&["client", "alice"]);
    assert_eq!(error.exit_code(), exit::REFUSED);
    assert!(error.to_string().contains("--force"), "{error}");
    fs::remove_file(world.path("alice.key")).unwrap();
    assert_eq!(world.refused(&["client", "alice"]).exit_code(), exit::REFUSED, "half of the pair is there");
    assert!(!world.path("alice.key").exists(), "and no key was left beside it");
    world.run(&["client", "alice", "--force"]).unwrap();
    assert_ne!(fs::read(world.path("alice.key")).unwrap(), before);
    assert_eq!(mode(&world.path("alice.key")), 0o600);
    assert_eq!(world.verify("", "alice"), "alice.pem: OK\n");
}

#[test]
fn a_forced_key_never_takes_over_the_mode_of_the_file_before_it() {
    let world = World::new();
    fs::write(world.path("alice.key"), "mine").unwrap();
    fs::set_permissions(world.path("alice.key"), fs::Permissions::from_mode(0o666)).unwrap();
    world.run(&["client", "alice", "--force"]).unwrap();
    assert_eq!(mode(&world.path("alice.key")), 0o600);
}

#[test]
fn a_second_init_is_refused_and_a_forced_one_starts_afresh() {
    let world = World::new();
    world.run(&["crl"]).unwrap();
    let error = world.refused(&["init"]);
    assert_eq!(error.exit_code(), exit::REFUSED);
    world.run(&["client", "alice"]).unwrap();
    world.run(&["init", "--force"]).unwrap();
    assert_eq!(world.registry().certificates.len(), 1);
    assert!(!world.path("crl.pem").exists(), "a CRL of the CA before would refuse everybody");
    assert!(!world.verify("", "alice").contains("OK"));
}

#[test]
fn no_certificate_can_take_the_place_of_the_cas_files() {
    let world = World::new();
    let before = fs::read(world.path("root.key")).unwrap();
    for name in ["root", "intermediate", "ca", "crl", "pki"] {
        assert_eq!(world.refused(&["client", name, "--force"]).exit_code(), exit::USAGE, "{name}");
    }
    let out = world.path("../").join(world.dir.path().file_name().unwrap()).join("root");
    assert_eq!(world.refused(&["client", "x", "--force", "--out", out.to_str().unwrap()]).exit_code(), exit::USAGE);
    assert_eq!(fs::read(world.path("root.key")).unwrap(), before);
    let elsewhere = tempfile::tempdir().unwrap();
    let out = elsewhere.path().join("root");
    world.run(&["client", "x", "--out", out.to_str().unwrap()]).unwrap();
    assert!(out.with_extension("pem").exists());
}

#[test]
fn names_from_outside_stay_in_the_directory() {
    assert_eq!(leaf::stem_of("alice.example"), "alice.example");
    assert_eq!(leaf::stem_of("../../etc/passwd"), "_.._.._etc_passwd");
    assert_eq!(leaf::stem_of("-rf"), "_-rf");
    assert_eq!(leaf::stem_of(""), "_");
    assert_eq!(leaf::stem_of(&"n".repeat(4096)).len(), 64);
    let world = World::new();
    let long = "n".repeat(4096);
    for name in ["a\nb", "Zoë, \"quoted\"; CN=bob", &long] {
        world.run(&["client", name]).unwrap();
        assert_eq!(world.webpki(&leaf::stem_of(name)), Ok(()));
    }
}

#[test]
fn refuses_names_that_no_certificate_can_carry() {
    let world = World::new();
    for words in [
        ["server", "local host"].as_slice(),
        &["server", "bücher.example"],
        &["server", "a.*.example"],
        &["client", "alice", "--uri", "no-scheme"],
        &["client", "alice", "--uri", "spiffe://a b"],
        &["client", "alice", "--dns", "under score"],
        &["client", "alice", "--email", "nobody"],
    ] {
        let error = world.refused(words);
        assert_eq!(error.exit_code(), exit::USAGE, "{words:?}");
        assert!(error.to_string().contains("; write "), "{error}");
    }
    assert!(!world.path("alice.key").exists());
}

#[test]
fn a_revoked_client_is_refused_once_the_crl_is_written() {
    let world = World::new();
    world.run(&["client", "alice"]).unwrap();
    world.run(&["client", "bob"]).unwrap();
    world.run(&["crl"]).unwrap();
    let check = "-crl_check_all -CRLfile crl.pem";
    assert_eq!(world.verify(check, "alice"), "alice.pem: OK\n");
    let alice = world.path("alice.pem");
    world.run(&["revoke", alice.to_str().unwrap(), "--reason", "key-compromise"]).unwrap();
    world.run(&["crl"]).unwrap();
    assert!(world.verify(check, "alice").contains("error 23"));
    assert_eq!(world.verify(check, "bob"), "bob.pem: OK\n");
    let text = world.openssl("crl -in crl.pem -noout -text");
    assert!(text.contains("Key Compromise") && text.contains("X509v3 CRL Number"), "{text}");
    assert_eq!(world.registry().crl_number, 2);
    let again = world.run(&["revoke", alice.to_str().unwrap()]).unwrap();
    assert!(again.note.unwrap().contains("before"));
}

#[test]
fn serials_are_found_in_any_spelling_and_unknown_ones_refused() {
    let world = World::new();
    world.run(&["client", "alice"]).unwrap();
    let serial = world.registry().certificates[1].serial.to_uppercase();
    let colons: Vec<&str> = (0..16).map(|i| &serial[2 * i..2 * i + 2]).collect();
    world.run(&["revoke", "--serial", &format!("00:{}", colons.join(":"))]).unwrap();
    assert!(world.registry().certificates[1].revoked.is_some());
    assert_eq!(world.refused(&["revoke", "--serial", "0123"]).exit_code(), exit::REFUSED);
    assert_eq!(world.refused(&["revoke", "--serial", "xyz"]).exit_code(), exit::USAGE);
}

#[test]
fn the_intermediate_can_be_revoked_and_a_certificate_of_another_ca_cannot() {
    let world = World::new();
    world.run(&["client", "alice"]).unwrap();
    world.run(&["revoke", world.path("intermediate.pem").to_str().unwrap()]).unwrap();
    world.run(&["crl"]).unwrap();
    let verdict = world.verify("-crl_check_all -CRLfile crl.pem", "alice");
    assert!(verdict.contains("error 23 at 1 depth"), "{verdict}");
    let other = World::new();
    other.run(&["client", "mallory"]).unwrap();
    let error = world.refused(&["revoke", other.path("mallory.pem").to_str().unwrap()]);
    assert_eq!(error.exit_code(), exit::REFUSED, "same names, another key");
    assert!(error.to_string().contains("not issued by"), "{error}");
}

#[test]
fn a_certificate_that_the_registry_lost_can_still_be_revoked_by_its_file() {
    let world = World::new();
    let before = fs::read(world.path("pki.json")).unwrap();
    world.run(&["client", "alice"]).unwrap();
    fs::write(world.path("pki.json"), before).unwrap();
    world.run(&["revoke", world.path("alice.pem").to_str().unwrap()]).unwrap();
    world.run(&["crl"]).unwrap();
    assert!(world.verify("-crl_check_all -CRLfile crl.pem", "alice").contains("error 23"));
}

#[test]
fn an_expired_crl_is_expired() {
    let world = World::new();
    world.run(&["client", "alice"]).unwrap();
    world.run(&["crl", "--expired"]).unwrap();
    assert!(world.verify("-crl_check_all -CRLfile crl.pem", "alice").contains("error 12"));
}

#[test]
fn broken_certificates_are_broken_in_the_way_asked_for() {
    let world = World::new();
    let cases = [
        ("expired", "error 10"),
        ("not-yet-valid", "error 9"),
        ("wrong-purpose", "error 26"),
        ("missing-intermediate", "error 20"),
        ("unknown-ca", "error 19"),
        ("self-signed", "error 18"),
        ("bad-signature", "error 7"),
    ];
    for (how, expected) in cases {
        world.run(&["client", how, "--broken", how]).unwrap();
        let verdict =
            world.openssl(&format!("verify -purpose sslclient -CAfile ca.pem -untrusted {how}.pem {how}.pem"));
        assert!(verdict.contains(&format!("{expected} at")), "{how}: {verdict}");
        assert!(world.webpki(how).is_err(), "{how}");
    }
}

#[test]
fn broken_certificates_that_openssl_lets_pass_are_refused_by_webpki() {
    let world = World::new();
    world.run(&["client", "ca", "--broken", "ca-as-leaf", "--out", world.path("ca-leaf").to_str().unwrap()]).unwrap();
    assert_eq!(world.webpki("ca-leaf"), Err(webpki::Error::CaUsedAsEndEntity));
    world.run(&["client", "v1", "--broken", "v1"]).unwrap();
    assert_eq!(world.webpki("v1"), Err(webpki::Error::UnsupportedCertVersion));
    let text = world.openssl("x509 -in v1.pem -noout -text");
    assert!(text.contains("Version: 1 (0x0)") && !text.contains("X509v3"), "{text}");
    assert!(world.openssl("verify -CAfile ca.pem -untrusted v1.pem v1.pem").contains("OK"), "its signature holds");
}

#[test]
fn what_cannot_be_made_is_refused_with_the_command_that_makes_it() {
    let world = World::new();
    let error = world.refused(&["client", "weak", "--broken", "weak-key"]);
    assert_eq!(error.exit_code(), exit::USAGE);
    assert!(error.to_string().contains("openssl req"), "{error}");
}

#[test]
fn servers_can_be_broken_too() {
    let world = World::new();
    world.run(&["server", "localhost", "--broken", "expired"]).unwrap();
    assert!(world.verify("-purpose sslserver", "server").contains("error 10"));
}

#[test]
fn without_a_ca_every_command_says_how_to_make_one() {
    let world = World { dir: tempfile::tempdir().unwrap() };
    for words in [["client", "alice"].as_slice(), &["server", "localhost"], &["crl"], &["revoke", "--serial", "01"]] {
        let error = world.refused(words);
        assert_eq!(error.exit_code(), exit::CONFIG);
        assert!(error.to_string().contains("pki init"), "{error}");
    }
}

#[test]
fn a_key_that_is_not_the_cas_is_noticed_before_it_signs() {
    let world = World::new();
    fs::copy(world.path("root.key"), world.path("intermediate.key")).unwrap();
    let error = world.refused(&["client", "alice"]);
    assert_eq!(error.exit_code(), exit::CONFIG);
    assert!(error.to_string().contains("another's"), "{error}");
}

#[test]
fn commands_at_the_same_time_lose_nothing() {
    let world = World::new();
    std::thread::scope(|scope| {
        for name in ["a", "b", "c", "d", "e", "f"] {
            let world = &world;
            scope.spawn(move || world.run(&["client", name]).unwrap());
        }
    });
    assert_eq!(world.registry().certificates.len(), 7);
}

#[test]
fn files_that_cannot_all_be_published_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut staged = Staged::default();
    for name in ["first", "second"] {
        staged.put(&dir.path().join(name), b"new", Readers::Owner, Overwrite::No).unwrap();
    }
    fs::write(dir.path().join("second"), b"somebody was faster").unwrap();
    assert!(staged.commit().is_err());
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["second"]);
    assert_eq!(fs::read(dir.path().join("second")).unwrap(), b"somebody was faster");
}

#[test]
fn a_demonstration_finds_its_pki_again_and_renews_what_runs_out() {
    let world = World { dir: tempfile::tempdir().unwrap() };
    let dir = world.dir.path().join("demo");
    let made = demo(&dir).unwrap();
    let of = |pki: &DemoPki| fs::read(&pki.server_chain).unwrap();
    let before = of(&made);
    assert_eq!(of(&demo(&dir).unwrap()), before);
    for key in [&made.server_key, &made.client_key] {
        assert_eq!(mode(key), 0o600);
    }
    let verify = |file: &str| world.openssl(&format!("verify -CAfile demo/ca.pem -untrusted demo/{file} demo/{file}"));
    assert!(verify("server.pem").ends_with("OK\n") && verify("client.pem").ends_with("OK\n"));
    super::demo::demo_at(&dir, OffsetDateTime::now_utc() + Duration::days(400)).unwrap();
    assert_ne!(of(&made), before);
}

#[test]
fn paths_are_shown_as_a_shell_takes_them() {
    assert_eq!(shown(Path::new("pki/ca.pem")), "pki/ca.pem");
    assert_eq!(shown(Path::new("my pki/it's")), r"'my pki/it'\''s'");
}
