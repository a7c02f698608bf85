//! `explain` gives the same answer as the live handshake, and says why; `certs` lists what is in use.

use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::ClientSpec;
use crate::world::config::ConfigText;
use crate::world::pki::{CLIENT_IDENTITY, Ca, Credential, LeafSpec};
use crate::world::process::{Output, run};
use crate::world::server::command;
use serde_json::Value;
use time::{Duration, OffsetDateTime};

fn explain(world: &World, arguments: &[&str]) -> Output {
    let output = run(command(world.path()).args(["explain", "-c", "countersign.toml"]).args(arguments));
    assert!(!output.text().contains("panicked"), "{}", output.text());
    output
}

#[test]
fn it_answers_as_the_live_handshake_does() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let config = ConfigText::new(&backend.server).client("deny = [{ cn = \"old\" }]");
    let server = world.serve(&config);
    let now = OffsetDateTime::now_utc();
    let leaf = |spec: LeafSpec| world.pki.client_ca.leaf(&spec);
    let cases: [(&str, Credential); 5] = [
        ("client", world.pki.client.clone()),
        ("stranger", Ca::root("Somebody else").leaf(&LeafSpec::client("stranger"))),
        ("late", leaf(LeafSpec::client("late").valid(now - Duration::days(3), now - Duration::days(1)))),
        ("denied", leaf(LeafSpec::client("old"))),
        ("server-purpose", leaf(LeafSpec::client("x").purposes(&[rcgen::ExtendedKeyUsagePurpose::ServerAuth]))),
    ];
    for (name, credential) in cases {
        credential.write(world.path(), name);
        let mut client = ClientSpec::with(&world.pki, &credential).connect(server.address());
        let live = client.echo(b"x").is_ok();
        let line = server.audit_of(client.address, if live { "accepted" } else { "refused" });
        let file = format!("{name}.pem");
        let text = explain(&world, &[&file]);
        assert_eq!(text.code, Some(i32::from(!live)), "{name}: {}", text.text());
        let reason = line["reason"].as_str().unwrap();
        assert!(live || text.stdout.contains(reason), "{name}: {reason} in {}", text.stdout);
        let json = explain(&world, &["--json", &file]);
        assert_eq!(json.code, Some(i32::from(!live)));
        let value: Value =
            serde_json::from_str(&json.stdout).unwrap_or_else(|error| panic!("{error}: {}", json.stdout));
        assert_eq!(value["reason"], reason, "{name}: {value}");
        if live {
            assert_eq!(value["identity"], CLIENT_IDENTITY, "{value}");
        }
    }
}

#[test]
fn it_looks_at_the_time_that_it_is_given() {
    let world = World::new();
    ConfigText::new("127.0.0.1:9").write(world.path());
    assert_eq!(explain(&world, &["client.pem"]).code, Some(0));
    let late = explain(&world, &["--at", "2099-01-01T00:00:00Z", "client.pem"]);
    assert_eq!(late.code, Some(1), "{}", late.text());
    assert!(late.stdout.contains("expired"), "{}", late.stdout);
    assert_eq!(explain(&world, &["--at", "tomorrow", "client.pem"]).code, Some(64));
}

#[test]
fn it_takes_the_site_of_the_name_that_it_is_given() {
    let world = World::new();
    let config = ConfigText::new("127.0.0.1:9").site("names = [\"localhost\"]");
    config.write(world.path());
    assert_eq!(explain(&world, &["--sni", "localhost", "client.pem"]).code, Some(0));
    let other = explain(&world, &["--sni", "other.example", "client.pem"]);
    assert_eq!(other.code, Some(1), "{}", other.text());
    assert!(other.stdout.contains("sni_unknown"), "{}", other.text());
}

#[test]
fn certs_lists_what_is_in_use_and_says_what_ends_soon() {
    let world = World::new();
    ConfigText::new("127.0.0.1:9").write(world.path());
    let certs =
        |arguments: &[&str]| run(command(world.path()).args(["certs", "-c", "countersign.toml"]).args(arguments));
    let list = certs(&[]);
    assert_eq!(list.code, Some(0), "{}", list.text());
    for part in ["localhost", "Test client CA"] {
        assert!(list.stdout.contains(part), "{part} in {}", list.stdout);
    }
    assert!(serde_json::from_str::<Value>(&certs(&["--json"]).stdout).is_ok());
    // The server's certificate lasts for 30 days, the authorities for a year.
    assert_eq!(certs(&["--expiring", "20d"]).code, Some(0));
    assert_eq!(certs(&["--expiring", "40d"]).code, Some(1));
}
