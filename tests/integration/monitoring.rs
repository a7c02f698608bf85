//! What is kept in `tuning/monitoring` fits what the program tells: promtool takes the rules, their own tests and a live
//! scrape, and each metric that a rule or the dashboard names is there. Series stay bounded whatever clients send.

use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::{Client, ClientSpec, Tickets};
use crate::world::config::ConfigText;
use crate::world::http::get;
use crate::world::pki::LeafSpec;
use crate::world::process::run;
use crate::world::server::Server;
use crate::world::wait::{SOON, until};
use serde_json::json;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning/monitoring").join(name)
}

/// Whether promtool is there; a reason is printed.
fn has_promtool() -> bool {
    let has = Command::new("promtool").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !has {
        println!("skipped: promtool (Debian's prometheus) is not installed");
    }
    has
}

/// A server with a CRL that has had a client of each kind: full, resumed, refused.
fn visited(world: &World, backend: &Backend) -> (Server, SocketAddr) {
    world.write("clients.crl", &world.pki.client_ca.crl(1, &[0x99]));
    let server = world.serve(&ConfigText::new(&backend.server).admin().client("crls = [\"clients.crl\"]"));
    let config = ClientSpec::new(&world.pki).tickets(&Tickets::new()).build();
    for _ in 0..2 {
        Client::connect(&config, crate::world::pki::SERVER_NAME, server.address()).echo(b"x").unwrap();
    }
    assert!(ClientSpec::anonymous(&world.pki).connect(server.address()).echo(b"x").is_err());
    let admin = server.ready_value("admin").unwrap().parse().unwrap();
    let counted = "countersign_client_cert_expires_timestamp_seconds{";
    assert!(until(SOON, || get(admin, "/metrics").1.contains(counted)), "{}", get(admin, "/metrics").1);
    (server, admin)
}

/// The metrics that a text names.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = |word: &&str| word.starts_with("countersign_") || word.starts_with("process_");
    words.filter(ours).collect()
}

#[test]
fn each_metric_of_the_rules_and_the_dashboard_is_in_a_live_scrape() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let (_server, admin) = visited(&world, &backend);
    let scrape = get(admin, "/metrics").1;
    let told: BTreeSet<&str> =
        scrape.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(['{', ' ']).next()).collect();
    for file in ["countersign.rules.yml", "countersign.rules.test.yml", "dashboard.json"] {
        let text = std::fs::read_to_string(kept(file)).unwrap();
        let named = metrics_in(&text);
        assert!(named.len() >= 15, "{file}: {named:?}");
        let missing: Vec<_> = named.iter().filter(|name| !told.contains(**name)).collect();
        assert!(missing.is_empty(), "{file} names {missing:?}, which are not in\n{scrape}");
    }
}

#[test]
fn the_dashboard_is_whole_and_no_panel_covers_another() {
    let text = std::fs::read_to_string(kept("dashboard.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let (mut ids, mut covered) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{} twice", panel["id"]);
        assert!(panel["type"] == "row" || !panel["targets"].as_array().unwrap().is_empty(), "{}", panel["title"]);
        let place = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{}", panel["title"]);
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(covered.insert((x, y)), "{} covers another panel", panel["title"]);
            }
        }
    }
}

#[test]
fn promtool_understands_each_expression_of_the_dashboard() {
    if !has_promtool() {
        return;
    }
    let text = std::fs::read_to_string(kept("dashboard.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let targets = dashboard["panels"].as_array().unwrap().iter().filter_map(|panel| panel["targets"].as_array());
    let mut rules = Vec::new();
    for target in targets.flatten().chain(dashboard["annotations"]["list"].as_array().unwrap()) {
        let expression = target["expr"].as_str().unwrap().replace("$__rate_interval", "1m").replace("$instance", ".*");
        assert!(!expression.contains('$'), "{expression}");
        rules.push(json!({ "record": format!("panel:{}", rules.len()), "expr": expression }));
    }
    assert!(rules.len() > 30, "{}", rules.len());
    let world = World::new();
    // JSON is YAML.
    let file = world.write("rules.yml", &json!({ "groups": [{ "name": "dashboard", "rules": rules }] }).to_string());
    let output = run(Command::new("promtool").args(["check", "rules"]).arg(file));
    assert_eq!(output.code, Some(0), "{}", output.text());
}

#[test]
fn promtool_takes_the_rules_and_each_alert_fires_on_its_fault_alone() {
    if !has_promtool() {
        return;
    }
    for arguments in [["check", "rules", "countersign.rules.yml"], ["test", "rules", "countersign.rules.test.yml"]] {
        let mut command = Command::new("promtool");
        command.args(&arguments[..2]).arg(kept(arguments[2]));
        let output = run(&mut command);
        assert_eq!(output.code, Some(0), "{arguments:?}: {}", output.text());
    }
}

#[test]
fn promtool_finds_nothing_to_say_of_a_live_scrape() {
    if !has_promtool() {
        return;
    }
    let world = World::new();
    let backend = Backend::tcp(echo());
    let (_server, admin) = visited(&world, &backend);
    let scrape = world.write("scrape.txt", &get(admin, "/metrics").1);
    let mut command = Command::new("sh");
    command.arg("-c").arg("promtool check metrics < \"$0\"").arg(scrape);
    let output = run(&mut command);
    assert_eq!((output.code, output.text().trim()), (Some(0), ""));
}

#[test]
fn a_crowd_of_clients_with_names_of_their_own_makes_no_more_series_than_its_bound() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let (server, admin) = visited(&world, &backend);
    let series = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
    let before = series(&get(admin, "/metrics").1);
    for number in 0..130 {
        let name = format!("crowd-{number}\"}} 1\nforged 1 \u{202e}{}", "n".repeat(number * 20));
        let leaf = world.pki.client_ca.leaf(&LeafSpec::client(&name));
        ClientSpec::with(&world.pki, &leaf).connect(server.address()).echo(b"x").unwrap();
    }
    let text = get(admin, "/metrics").1;
    // 100 identities in all, one of which was there before; and a kind of handshake that may have been new.
    assert!(series(&text) <= before + 100, "{before} series before, {} after", series(&text));
    assert!(!text.lines().any(|line| line.starts_with("forged")), "{text}");
    assert!(text.lines().all(|line| line.len() < 1000), "a label is too long");
    assert!(text.contains("countersign_identities_seen 131\n"), "{text}");
}
