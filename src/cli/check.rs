//! `countersign check`: loads what a run would load, and says what is wrong or unwise with it.

mod places;

use super::exit;
use crate::config::{Config, Examined, Fault, FaultKind};
use crate::worker::{Snapshot, kernel_tls, kernel_tls_lack};
use clap::Args;
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

/// Arguments of `check`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 nothing wrong (warnings at most), 77 a file may not be read, 78 bad configuration."
)]
pub struct CheckArgs {
    /// The configuration file
    #[arg(short, long = "config", value_name = "FILE")]
    config: PathBuf,
    /// Print one JSON object in place of text
    #[arg(long)]
    json: bool,
}

/// Answers the exit code.
pub fn check(args: CheckArgs) -> u8 {
    let examined = with_files(Examined::of_file(&args.config));
    let Examined { config, found } = &examined;
    let report = if args.json { in_json(config.as_ref(), found) } else { in_text(config.as_ref(), found) };
    // A reader that went away takes nothing from the answer: the exit code tells it too.
    let _ = std::io::stdout().lock().write_all(report.as_bytes());
    exit_code(found)
}

/// Adds what is wrong or unwise with the files that the configuration names, each thing once: sites share files.
fn with_files(examined: Examined) -> Examined {
    let Examined { config, mut found } = examined;
    if let Some(config) = &config {
        let loaded = Snapshot::load(&Arc::new(config.clone()), 0, UnixTime::now());
        found.extend(loaded.map_or_else(|faults| faults, |(_, warnings)| warnings));
        found.extend(places::faults(config));
        found.extend(kernel_tls_warning(config));
    }
    let mut said = HashSet::new();
    found.retain(|fault| said.insert(fault.to_string()));
    Examined { config, found }
}

/// A run would not start here; but the configuration may be meant for another machine.
fn kernel_tls_warning(config: &Config) -> Option<Fault> {
    let (found, advice) = kernel_tls_lack(config.runtime.ktls)?;
    let message = format!("asks for more kernel TLS than this machine does ({found}): a run would exit 71 here");
    Some(config.locate(Fault::warning("runtime.ktls", &message, advice)))
}

/// 0 without faults; the code of permission only where nothing else is wrong.
fn exit_code(found: &[Fault]) -> u8 {
    let mut faults = found.iter().filter(|fault| fault.kind != FaultKind::Warning).peekable();
    if faults.peek().is_none() {
        return exit::OK;
    }
    if faults.all(|fault| fault.kind == FaultKind::Permission) { exit::PERMISSION } else { exit::CONFIG }
}

fn in_text(config: Option<&Config>, found: &[Fault]) -> String {
    let mut text = String::new();
    for fault in found {
        let kind = if fault.kind == FaultKind::Warning { "warning: " } else { "" };
        text.push_str(&format!("{kind}{fault}\n"));
    }
    if let Some(config) = config.filter(|_| exit_code(found) == exit::OK) {
        let (listeners, sites, backends) = (config.listeners.len(), config.sites.len(), config.backends.len());
        let counts = [(listeners, "listener"), (sites, "site"), (backends, "backend")].map(count);
        text.push_str(&format!("kernel TLS: {}\n", kernel_tls(config.runtime.ktls)));
        text.push_str(&format!("ok: {}\n", counts.join(", ")));
    }
    text
}

fn count((number, noun): (usize, &str)) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn in_json(config: Option<&Config>, found: &[Fault]) -> String {
    let of_kind = |warnings: bool| -> Vec<Value> {
        found.iter().filter(|fault| (fault.kind == FaultKind::Warning) == warnings).map(fault_in_json).collect()
    };
    let ok = exit_code(found) == exit::OK;
    let counts = config.filter(|_| ok).map(|config| {
        json!({ "listeners": config.listeners.len(), "sites": config.sites.len(), "backends": config.backends.len() })
    });
    let kernel_tls = config.filter(|_| ok).map(|config| kernel_tls(config.runtime.ktls));
    let (faults, warnings) = (of_kind(false), of_kind(true));
    let report =
        json!({ "ok": ok, "faults": faults, "warnings": warnings, "counts": counts, "kernel_tls": kernel_tls });
    format!("{report}\n")
}

fn fault_in_json(fault: &Fault) -> Value {
    json!({
        "file": fault.file.as_ref().map(|file| file.display().to_string()),
        "line": fault.line,
        "key": fault.key,
        "message": fault.message,
        "help": fault.help,
        "kind": match fault.kind {
            FaultKind::Config => "config",
            FaultKind::Permission => "permission",
            FaultKind::Warning => "warning",
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// A directory with [`LEAST`] and this table before it.
    pub(super) fn file_with(table: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("c.toml");
        std::fs::write(&file, format!("{table}\n{LEAST}")).unwrap();
        (directory, file)
    }

    const LEAST: &str = "[[listener]]\naddress = [\"127.0.0.1:0\"]\n[[site]]\n\
        certificate = [{ chain = \"s.pem\", key = \"s.key\" }]\n[site.client]\ntrust = [\"ca.pem\"]\n\
        [[backend]]\nservers = [\"127.0.0.1:9000\"]\n";

    fn examine(text: &str) -> Examined {
        Examined::of_text(text, Some(Path::new("c.toml")))
    }

    #[test]
    fn a_sound_configuration_ends_with_its_counts() {
        let Examined { config, found } = examine(LEAST);
        let text = in_text(config.as_ref(), &found);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("kernel TLS: kernel "), "{text}");
        assert_eq!(lines[1..], ["ok: 1 listener, 1 site, 1 backend"]);
        assert_eq!(exit_code(&found), exit::OK);
    }

    #[test]
    fn each_fault_is_one_line_with_file_line_key_and_help() {
        let Examined { config, found } = examine(&LEAST.replace("trust", "max_depth = 7\ntrust"));
        let text = in_text(config.as_ref(), &found);
        assert_eq!(
            text,
            "c.toml:6: site.client.max_depth: 7 is out of range; write a whole number from 0 to 6, without quotes\n"
        );
        assert_eq!(exit_code(&found), exit::CONFIG);
    }

    #[test]
    fn warnings_alone_are_said_and_exit_zero() {
        let Examined { config, found } = examine(&LEAST.replace("trust", "allow = []\ntrust"));
        let text = in_text(config.as_ref(), &found);
        assert!(text.starts_with("warning: c.toml:6: site.client.allow: is empty"), "{text}");
        assert!(text.ends_with("ok: 1 listener, 1 site, 1 backend\n"), "{text}");
        assert_eq!(exit_code(&found), exit::OK);
    }

    #[test]
    fn permission_is_the_code_only_where_nothing_else_is_wrong() {
        let permission = Fault::config("", "may not be read", "").of_kind(FaultKind::Permission);
        let config = Fault::config("log.level", "is not known", "");
        let warning = Fault::warning("log.level", "is unwise", "");
        assert_eq!(exit_code(&[permission.clone(), warning.clone()]), exit::PERMISSION);
        assert_eq!(exit_code(&[permission, config]), exit::CONFIG);
        assert_eq!(exit_code(&[warning]), exit::OK);
    }

    #[test]
    fn json_has_the_same_in_fields() {
        let Examined { config, found } = examine(&LEAST.replace("trust", "bogus = 1\nallow = []\ntrust"));
        let value: Value = serde_json::from_str(&in_json(config.as_ref(), &found)).unwrap();
        assert_eq!(value["ok"], false);
        assert_eq!(value["faults"][0]["key"], "site.client.bogus");
        assert_eq!(value["faults"][0]["line"], 6);
        assert_eq!(value["warnings"][0]["kind"], "warning");
        assert_eq!(value["counts"], Value::Null);
    }

    #[test]
    fn files_that_are_not_there_are_said_at_the_lines_that_name_them() {
        let (_directory, file) = file_with("");
        let found = with_files(Examined::of_file(&file)).found;
        assert!(!found.is_empty());
        for fault in found {
            assert_eq!(fault.file.as_ref(), Some(&file), "{fault}");
            assert!(fault.line.is_some() && !fault.help.is_empty(), "{fault:?}");
        }
    }
}
