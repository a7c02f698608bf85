//! The small clients of ours on other languages' own TLS all speak alike. Arguments: the port, then any number of
//! `HOST/CREDENTIAL/VERSION`; each is visited twice, the second time with the session of the first. They run in the
//! directory with the certificates and print a line for each visit, with the port they came from:
//!
//!     visit HOST/CREDENTIAL/VERSION port=N resumed=true|false version=1.2|1.3 bytes=N group=NAME|-
//!     refused HOST/CREDENTIAL/VERSION port=N THE LIBRARY'S OWN WORDS

use super::{Bed, Case, QUIET};
use crate::world::backend::echo;
use crate::world::process::{Output, Process};
use crate::world::wait::SOON;
use serde_json::Value;
use std::process::Command;

/// What these clients send on every visit.
const BYTES: u64 = 100_000;

/// A compiler or a virtual machine may have to start first, on a busy machine.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);

/// What a library makes of refusals.
pub struct Words {
    /// The audit's reason where a client whose issuer is not among the advertised authorities comes all the same.
    pub unasked: &'static str,
    /// What the library says of alert 48, by version.
    pub unknown_ca: [(&'static str, &'static str); 2],
}

/// Every pairing, full and resumed.
pub fn assert_every_pairing(client: impl Fn(&Bed) -> Command) {
    let bed = Bed::new(echo());
    let cases = Case::all();
    let names: Vec<String> =
        cases.iter().map(|case| format!("{}/{}/{}", case.host(), case.credential(), case.version)).collect();
    let output = visit(&bed, client(&bed), &names);
    for (case, name) in cases.iter().zip(&names) {
        let lines: Vec<&str> =
            output.stdout.lines().filter(|line| line.starts_with(&format!("visit {name} "))).collect();
        assert_eq!(lines.len(), 2, "{name}: {}", output.text());
        for (line, resumed) in lines.iter().zip([false, true]) {
            let audit = audit_of(&bed, line, "closed");
            bed.assert_visit(&audit, *case, resumed, BYTES);
            assert_eq!(word(line, "resumed"), resumed.to_string(), "the client's own word: {line}");
            assert_eq!(word(line, "version"), case.version, "{line}");
            if word(line, "group") != "-" && !resumed {
                let audited = audit["tls"]["group"].as_str().unwrap().to_lowercase();
                assert_eq!(word(line, "group").to_lowercase(), audited, "{line}");
            }
        }
    }
    assert_eq!(bed.server.stop(), 0);
}

/// A client of an issuer that is unknown: the reason in the audit and what the library says of it.
pub fn assert_refusals(client: impl Fn(&Bed) -> Command, words: &Words) {
    let bed = Bed::new(echo());
    let names: Vec<String> = [QUIET, "ecdsa.example"]
        .iter()
        .flat_map(|host| ["1.2", "1.3"].map(|version| format!("{host}/stranger/{version}")))
        .collect();
    let output = visit(&bed, client(&bed), &names);
    for name in &names {
        let line = output.stdout.lines().find(|line| line.starts_with(&format!("refused {name} ")));
        let line = line.unwrap_or_else(|| panic!("{name}: {}", output.text()));
        let audit = audit_of(&bed, line, "refused");
        let quiet = name.starts_with(QUIET);
        let reason = if quiet { "unknown_issuer" } else { words.unasked };
        assert_eq!(audit["reason"], reason, "{line}: {audit}");
        if reason == "unknown_issuer" {
            let (_, said) = words.unknown_ca.iter().find(|(version, _)| name.ends_with(version)).unwrap();
            assert!(line.contains(said), "{line}");
            assert_eq!(audit["our_alert"], 48, "{audit}");
        }
    }
    assert_eq!(bed.backend.connections(), 0, "the backend heard of it");
}

fn visit(bed: &Bed, mut command: Command, names: &[String]) -> Output {
    command.current_dir(bed.path()).arg(bed.port().to_string()).args(names);
    let mut process = Process::spawn(&mut command);
    let status = process.wait(PATIENCE).unwrap_or_else(|| panic!("{command:?} did not end"));
    let output = Output { code: status.code(), stdout: process.stdout.text(), stderr: process.stderr.text() };
    assert_eq!(output.code, Some(0), "{command:?}: {}", output.text());
    output
}

fn audit_of(bed: &Bed, line: &str, event: &str) -> Value {
    let address = format!("127.0.0.1:{}", word(line, "port"));
    bed.server.audit_of(address.parse().unwrap(), event)
}

/// The value of `key=` in a line.
fn word<'a>(line: &'a str, key: &str) -> &'a str {
    let words = line.split_whitespace().filter_map(|word| word.split_once('='));
    words.into_iter().find(|(name, _)| *name == key).unwrap_or_else(|| panic!("no {key} in {line:?}")).1
}

/// Runs something that must be there before any test, such as a compiler; `false` with a printed reason where it fails.
pub fn runs(command: &mut Command) -> bool {
    let mut process = Process::spawn(command);
    let ended = process.wait(PATIENCE.max(SOON)).is_some_and(|status| status.success());
    if !ended {
        println!("skipped: {command:?} failed: {}{}", process.stdout.text(), process.stderr.text());
    }
    ended
}
