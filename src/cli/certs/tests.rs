//! The list against a PKI made by `countersign pki`.

use super::*;
use crate::cli::countersign;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;

const DAY: i64 = 86_400;

/// A CA, a server certificate for 90 days, a CRL for 7, and two sites that share the trust file.
struct World {
    dir: TempDir,
}

impl World {
    fn new() -> World {
        let world = World { dir: tempfile::tempdir().unwrap() };
        world.pki(&["init"]);
        world.pki(&["server", "localhost", "--days", "90"]);
        world.pki(&["crl", "--days", "7"]);
        let config = r#"
            [[listener]]
            name = "public"
            address = ["127.0.0.1:8443"]
            [[site]]
            name = "payments"
            names = ["pay.example"]
            backend = "b"
            certificate = [{ chain = "server.pem", key = "server.key" }]
            [site.client]
            trust = ["ca.pem"]
            intermediates = ["intermediate.pem"]
            crls = ["crl.pem"]
            [[site]]
            name = "reports"
            names = ["reports.example"]
            backend = "b"
            certificate = [{ chain = "server.pem", key = "server.key" }]
            [site.client]
            trust = ["ca.pem"]
            [[backend]]
            name = "b"
            servers = ["127.0.0.1:9000"]
        "#;
        fs::write(world.path("countersign.toml"), config).unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn pki(&self, words: &[&str]) {
        let dir = ["--dir", self.dir.path().to_str().unwrap()];
        let line = ["countersign", "pki"].iter().chain(words).chain(&dir);
        assert_eq!(countersign(line.map(OsString::from)), exit::OK, "{words:?}");
    }

    fn inventory(&self) -> Inventory {
        Inventory::of(&Config::from_file(&self.path("countersign.toml")).expect("a good configuration"))
    }

    fn program(&self, words: &[&str]) -> u8 {
        let config = self.path("countersign.toml");
        let line = ["countersign", "certs", "-c", config.to_str().unwrap()];
        countersign(line.iter().chain(words).map(OsString::from))
    }
}

/// An hour after the files were made, so that no count of days stands on an edge.
fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp() + 3600
}

fn objects(text: &str) -> Vec<serde_json::Value> {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn lists_all_that_is_in_use_with_its_owners_soonest_expiry_first() {
    let world = World::new();
    let (text, code) = listing(world.inventory(), None, true, now());
    assert_eq!(code, exit::OK);
    let listed = objects(&text);
    let what: Vec<_> = listed.iter().map(|object| (object["role"].as_str().unwrap(), &object["days_left"])).collect();
    let (half, whole) = (1824, 3649);
    // The intermediate's CRL and the root's; the intermediate behind the server's leaf, and the helper; the root.
    let expected = [("crl", 6), ("crl", 6), ("server", 89), ("intermediate", half), ("intermediate", half)];
    let expected = expected.into_iter().chain([("trust anchor", whole)]);
    for (what, (role, days)) in what.iter().zip(expected) {
        assert_eq!((what.0, what.1), (role, &serde_json::json!(days)), "{text}");
    }
    assert_eq!(what.len(), 6, "{text}");
    assert_eq!(listed[2]["owners"], serde_json::json!(["public/payments", "public/reports"]));
    assert_eq!(listed[0]["owners"], serde_json::json!(["public/payments"]));
    assert_eq!(listed[2]["subject"], "CN=localhost");
    assert_eq!(listed[2]["issuer"], "CN=Countersign Development Issuing CA,O=Countersign Development");
    assert_eq!(listed[0]["serial"], serde_json::Value::Null);
    assert!(listed[2]["expires"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn the_table_has_a_line_for_each_and_no_more() {
    let world = World::new();
    let (text, _) = listing(world.inventory(), None, false, now());
    assert_eq!(text.lines().count(), 7, "{text}");
    assert!(text.lines().next().unwrap().contains("EXPIRES"));
    assert!(text.contains("public/payments,public/reports"), "{text}");
}

#[test]
fn what_runs_out_soon_is_listed_alone_and_exits_1() {
    let world = World::new();
    let within = |days: u64| {
        let (text, code) = listing(world.inventory(), Some(Duration::from_secs(days * 86_400)), true, now());
        (objects(&text).len(), code)
    };
    assert_eq!(within(6), (0, exit::OK));
    assert_eq!(within(30), (2, exit::REFUSED));
    assert_eq!(within(91), (3, exit::REFUSED));
}

#[test]
fn what_ran_out_already_counts_as_expiring_and_has_days_below_zero() {
    let world = World::new();
    let (text, code) = listing(world.inventory(), Some(Duration::ZERO), true, now() + 8 * DAY);
    assert_eq!(code, exit::REFUSED);
    let listed = objects(&text);
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0]["days_left"], -2, "ran out a day and a moment ago");
}

#[test]
fn the_program_answers_by_its_exit_code() {
    let world = World::new();
    assert_eq!(world.program(&[]), exit::OK);
    assert_eq!(world.program(&["--json", "--expiring", "30d"]), exit::REFUSED);
    assert_eq!(world.program(&["--expiring", "1d"]), exit::OK);
    assert_eq!(world.program(&["--expiring", "soon"]), exit::USAGE);
    fs::write(world.path("countersign.toml"), "nonsense").unwrap();
    assert_eq!(world.program(&[]), exit::CONFIG);
}

#[test]
fn a_file_that_is_missing_or_empty_is_a_fault_and_the_others_are_listed() {
    let world = World::new();
    for make in [|path: &Path| fs::remove_file(path).unwrap(), |path: &Path| fs::write(path, "").unwrap()] {
        make(&world.path("crl.pem"));
        let inventory = world.inventory();
        assert_eq!((inventory.entries.len(), inventory.faults.len()), (4, 1));
        assert!(inventory.faults[0].to_string().contains("crl.pem"));
        assert_eq!(listing(inventory, None, true, now()).1, exit::CONFIG);
    }
}

#[test]
fn junk_in_a_file_is_never_listed_in_part() {
    let world = World::new();
    let mut text = fs::read_to_string(world.path("ca.pem")).unwrap();
    text.push_str("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    fs::write(world.path("ca.pem"), text).unwrap();
    assert_eq!(world.inventory().faults.len(), 1);
}

#[test]
fn der_files_are_read_too() {
    let world = World::new();
    let der = CertificateDer::from_pem_file(world.path("ca.pem")).unwrap();
    fs::write(world.path("ca.pem"), &der).unwrap();
    let inventory = world.inventory();
    assert!(inventory.faults.is_empty());
    assert!(inventory.entries.iter().any(|entry| entry.role.name() == "trust anchor"));
}

#[test]
fn names_cannot_paint_the_terminal() {
    let world = World::new();
    let hostile = "evil\u{1b}[2J\n\u{2028}\u{202e},CN=root";
    world.pki(&["client", hostile, "--out", world.path("evil").to_str().unwrap()]);
    fs::copy(world.path("evil.pem"), world.path("intermediate.pem")).unwrap();
    let (text, _) = listing(world.inventory(), None, false, now());
    assert!(text.contains("CN=evil"), "{text}");
    assert!(text.chars().all(|c| c == '\n' || (!c.is_control() && !('\u{2028}'..='\u{202e}').contains(&c))));
    assert!(text.contains("\\,CN=root"), "a comma in a value is told from one between names: {text}");
}

#[test]
fn a_file_that_may_not_be_read_exits_77() {
    let world = World::new();
    fs::set_permissions(world.path("crl.pem"), fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(world.path("crl.pem")).is_ok() {
        return; // Root reads everything.
    }
    assert_eq!(world.program(&[]), exit::PERMISSION);
}
