//! Whole configurations, the refusal beside the acceptance.

mod arbitrary;
mod clients;
mod every_key;
mod flags;
mod parts;
mod sites;
mod the_contract;

use super::{Config, Examined, Fault, FaultKind};
use std::path::Path;

/// The least that runs.
pub(super) const LEAST: &str = r#"
[[listener]]
address = ["127.0.0.1:0"]
[[site]]
certificate = [{ chain = "server.pem", key = "server.key" }]
[site.client]
trust = ["clients-ca.pem"]
[[backend]]
servers = ["127.0.0.1:9000"]
"#;

pub(super) fn faults_of(text: &str) -> Vec<Fault> {
    Config::from_text(text, None).err().unwrap_or_default()
}

/// A text that must be taken, without a warning.
#[track_caller]
fn taken(text: &str) -> Config {
    let config = Config::from_text(text, Some(Path::new("/etc/countersign/c.toml"))).unwrap_or_else(|faults| {
        panic!("refused: {faults:#?}\n{text}");
    });
    assert_eq!(config.warnings, [], "{text}");
    config
}

/// A text with exactly one fault: at this key, with these words in message or help.
#[track_caller]
fn refused(text: &str, key: &str, words: &str) {
    let faults = faults_of(text);
    assert_eq!(faults.len(), 1, "{faults:#?}\n{text}");
    assert_said(&faults[0], key, words);
}

/// A text that is taken, with exactly one warning.
#[track_caller]
fn warned(text: &str, key: &str, words: &str) {
    let Examined { config, found } = Examined::of_text(text, None);
    assert!(config.is_some(), "{found:#?}\n{text}");
    assert_eq!(found.len(), 1, "{found:#?}\n{text}");
    assert_eq!(found[0].kind, FaultKind::Warning);
    assert_said(&found[0], key, words);
}

#[track_caller]
fn assert_said(fault: &Fault, key: &str, words: &str) {
    assert_eq!(fault.key, key, "{fault}");
    assert!(fault.to_string().contains(words), "{fault}");
    assert!(fault.line.is_some() && !fault.help.is_empty(), "{fault:?}");
}

/// [`LEAST`] with more lines in one of its tables.
fn with(table: &str, lines: &str) -> String {
    let header = match table {
        "listener" | "site" | "backend" => format!("[[{table}]]"),
        "site.client" => "[site.client]".to_owned(),
        _ => return format!("[{table}]\n{lines}\n{LEAST}"),
    };
    assert!(LEAST.contains(&header));
    LEAST.replace(&header, &format!("{header}\n{lines}"))
}

/// [`LEAST`] with other lines in place of these.
fn instead(old: &str, new: &str) -> String {
    assert!(LEAST.contains(old), "{old}");
    LEAST.replace(old, new)
}

#[test]
fn says_all_faults_at_once_in_the_order_of_the_file() {
    let text = "[runtime]\ncpus = 3\n[log]\nlevel = \"loud\"\n[[listener]]\naddress = [\"x\"]\n[[site]]\nbogus = 1\n";
    let faults = faults_of(text);
    let keys: Vec<(&str, Option<usize>)> = faults.iter().map(|fault| (fault.key.as_str(), fault.line)).collect();
    assert_eq!(
        keys,
        [
            ("backend", Some(1)),
            ("runtime.cpus", Some(2)),
            ("log.level", Some(4)),
            ("listener.address[0]", Some(6)),
            ("site.certificate", Some(7)),
            ("site.client.trust", Some(7)),
            ("site.bogus", Some(8)),
        ]
    );
}

#[test]
fn a_fault_stands_on_its_own_line_also_within_lists() {
    let text = with("site.client", "allow = [\n  { cn = \"a\" },\n  { dns = \"**\" },\n]");
    let faults = faults_of(&text);
    let line = 1 + text.lines().position(|line| line.contains("**")).unwrap();
    assert_eq!(faults.len(), 1);
    assert_eq!((faults[0].key.as_str(), faults[0].line), ("site.client.allow[1].dns", Some(line)));
}

#[test]
fn names_the_nearest_known_key_or_where_the_key_belongs() {
    refused(&with("listener", "adress = []"), "listener.adress", "did you mean `address`?");
    refused(&with("site", "crl_scope = \"leaf\""), "site.crl_scope", "it belongs in `site.client`");
    refused(&with("log", "colour = true"), "log.colour", "known here: level, format");
}

#[test]
fn what_is_not_toml_is_said_with_its_line_and_nothing_else() {
    let fault = &faults_of("[log]\nlevel = \n")[0];
    assert_eq!((fault.line, faults_of("[log]\nlevel = \n").len()), (Some(2), 1), "{fault}");
    refused("[log]\nlevel = \"info\"\nlevel = \"warn\"\n", "level", "a second time");
    refused("[[site]]\n[site]\n", "site", "a second time");
}

#[test]
fn refuses_control_characters_in_any_text() {
    for escaped in ["\\u0000", "\\n", "\\u001b", "\\u0085"] {
        refused(&with("listener", &format!("name = \"a{escaped}b\"")), "listener.name", "control character");
    }
    taken(&with("listener", "name = \"ä b\""));
}

#[test]
fn paths_are_relative_to_the_file() {
    let config = taken(LEAST);
    assert_eq!(config.sites[0].certificates[0].chain, Path::new("/etc/countersign/server.pem"));
    assert_eq!(config.sites[0].client.authorities[0].trust, [Path::new("/etc/countersign/clients-ca.pem")]);
    let config = taken(&instead("\"server.key\"", "\"/keys/server.key\""));
    assert_eq!(config.sites[0].certificates[0].key, Path::new("/keys/server.key"));
}

#[test]
fn the_digest_is_that_of_the_text() {
    let other = format!("{LEAST}# a comment\n");
    assert_eq!(taken(LEAST).digest, taken(LEAST).digest);
    assert_ne!(taken(LEAST).digest, taken(&other).digest);
}
