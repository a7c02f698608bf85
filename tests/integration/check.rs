//! `check` says every fault with its place and what to write, warns of what is unwise, and opens what a run would open.

use crate::world::World;
use crate::world::config::{BackendText, ConfigText, SiteText};
use crate::world::process::{Output, run};
use crate::world::server::command;

fn check(world: &World, config: &ConfigText) -> Output {
    config.write(world.path());
    let output = run(command(world.path()).args(["check", "-c", "countersign.toml"]));
    assert!(!output.text().contains("panicked"), "{}", output.text());
    output
}

fn plain() -> ConfigText {
    ConfigText::new("127.0.0.1:9")
}

#[test]
fn a_good_configuration_passes() {
    let world = World::new();
    let output = check(&world, &plain());
    assert_eq!(output.code, Some(0), "{}", output.text());
}

#[test]
fn the_least_that_runs_is_one_listener_certificate_trust_and_server() {
    let world = World::new();
    world.write(
        "countersign.toml",
        "[[listener]]\naddress = [\"127.0.0.1:0\"]\n[[site]]\ncertificate = [{ chain = \"server.pem\", key = \"server.key\" }]\n\
         [site.client]\ntrust = [\"clients-ca.pem\"]\n[[backend]]\nservers = [\"127.0.0.1:9\"]\n",
    );
    let output = run(command(world.path()).args(["check", "-c", "countersign.toml"]));
    assert_eq!(output.code, Some(0), "{}", output.text());
}

#[test]
fn every_fault_is_named_with_file_line_and_key_in_one_go() {
    let world = World::new();
    let config = plain()
        .limits("idle_timeot = \"5s\"")
        .client("max_depth = 7")
        .backend("balanse = \"round_robin\"")
        .tickets("rotate = \"soon\"");
    let output = check(&world, &config);
    assert_eq!(output.code, Some(78), "{}", output.text());
    let text = output.text();
    let source = config.render();
    for (key, hint) in [("idle_timeot", "idle_timeout"), ("balanse", "balance"), ("rotate", "1h"), ("max_depth", "6")] {
        let line = 1 + source.lines().position(|line| line.starts_with(key)).unwrap();
        let told = text.lines().find(|told| told.contains(key) && told.contains(&format!("countersign.toml:{line}:")));
        let told = told.unwrap_or_else(|| panic!("{key} at line {line} in:\n{text}"));
        assert!(told.contains(hint), "what to write instead of {key}: {told}");
    }
}

#[test]
fn a_backend_on_another_host_must_be_asked_for() {
    let world = World::new();
    let away = ConfigText::new("192.0.2.1:9000");
    let output = check(&world, &away);
    assert_eq!(output.code, Some(78), "{}", output.text());
    assert!(output.text().contains("allow_remote"), "{}", output.text());
    assert_eq!(check(&world, &away.backend("allow_remote = true")).code, Some(0));
    let name = check(&world, &ConfigText::new("ledger.example:9000"));
    assert_eq!(name.code, Some(78), "a host name: {}", name.text());
}

/// A named strict site, and a catch-all that asks for nothing.
fn lax_catch_all(backend: &str) -> ConfigText {
    let mut config = plain().site("names = [\"localhost\"]");
    let mut lax = SiteText::new(backend).add("name = \"lax\"");
    lax.client = "auth = \"optional\"\ntrust = [\"clients-ca.pem\"]".to_owned();
    config.sites.push(lax);
    config.backends.push(BackendText::new("other", &["127.0.0.1:10"]));
    config
}

#[test]
fn a_catch_all_that_asks_less_is_warned_of_and_refused_before_the_same_backend() {
    let world = World::new();
    let apart = check(&world, &lax_catch_all("other"));
    assert_eq!(apart.code, Some(0), "{}", apart.text());
    assert!(apart.text().contains("catch-all") && apart.text().to_lowercase().contains("warn"), "{}", apart.text());
    let same = check(&world, &lax_catch_all("ledger"));
    assert_eq!(same.code, Some(78), "{}", same.text());
    assert!(same.text().contains("catch-all"), "{}", same.text());
}

#[test]
fn two_catch_alls_and_one_name_twice_are_refused() {
    let world = World::new();
    let mut two = plain();
    two.sites.push(SiteText::new("ledger").add("name = \"second\""));
    assert_eq!(check(&world, &two).code, Some(78));
    let mut twice = plain().site("names = [\"localhost\"]");
    twice.sites.push(SiteText::new("ledger").add("names = [\"LocalHost\"]"));
    let output = check(&world, &twice);
    assert_eq!(output.code, Some(78), "{}", output.text());
}

#[test]
fn check_opens_the_files_that_a_run_would_open() {
    let world = World::new();
    let mut config = plain();
    config.sites[0].client = "trust = [\"absent.pem\"]".to_owned();
    let output = check(&world, &config);
    assert_eq!(output.code, Some(78), "{}", output.text());
    assert!(output.text().contains("absent.pem"), "{}", output.text());
}

#[test]
fn a_site_that_verifies_clients_needs_somebody_to_trust() {
    let world = World::new();
    for client in ["", "trust = []"] {
        let mut config = plain();
        config.sites[0].client = client.to_owned();
        let output = check(&world, &config);
        assert_eq!(output.code, Some(78), "{client:?}: {}", output.text());
    }
}

#[test]
fn rules_by_name_under_several_anchors_are_warned_of() {
    let world = World::new();
    world.write("second-ca.pem", &world.pki.server_ca.pem);
    let mut config = plain();
    config.sites[0].client =
        "trust = [\"clients-ca.pem\", \"second-ca.pem\"]\nallow = [{ dns = \"*.partners.example\" }]".to_owned();
    let output = check(&world, &config);
    assert_eq!(output.code, Some(0), "{}", output.text());
    assert!(output.text().to_lowercase().contains("warn"), "{}", output.text());
}

#[test]
fn json_is_one_object_that_says_the_same() {
    let world = World::new();
    plain().limits("idle_timeot = \"5s\"").write(world.path());
    let output = run(command(world.path()).args(["check", "-c", "countersign.toml", "--json"]));
    assert_eq!(output.code, Some(78), "{}", output.text());
    let value: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert!(value.to_string().contains("idle_timeot"), "{value}");
}
