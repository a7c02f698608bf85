//! `gnutls-cli`.

use super::dialogue::talk;
use super::{Bed, Case, LAST_LINE, QUIET, lines_of_digits};
use crate::world::backend::echo;
use crate::world::process::needs;
use std::process::Command;

fn gnutls_cli(bed: &Bed, host: &str, credential: &str, version: &str, more: &[&str]) -> Command {
    let mut command = Command::new("gnutls-cli");
    command.current_dir(bed.path()).args(["--port", &bed.port().to_string(), "--x509cafile", "server-ca.pem"]);
    command.arg(format!("--sni-hostname={host}")).arg(format!("--verify-hostname={host}"));
    command.args(["--x509certfile", &format!("{credential}.pem"), "--x509keyfile", &format!("{credential}.key")]);
    command.arg(format!("--priority=NORMAL:-VERS-ALL:+VERS-TLS{version}")).args(more).arg("127.0.0.1");
    command
}

#[test]
fn gnutls_cli_comes_in_every_pairing_and_resumes() {
    if !needs("gnutls-cli") {
        return;
    }
    let bed = Bed::new(echo());
    let said = lines_of_digits(1000);
    let mut index = 0;
    for case in Case::all() {
        let run = |more: &[&str]| {
            let mut command = gnutls_cli(&bed, case.host(), case.credential(), case.version, more);
            let output = talk(&mut command, &said, LAST_LINE);
            assert_eq!(output.code, Some(0), "{case:?}: {}", output.text());
            assert!(output.stdout.contains(&said[..200]), "{case:?}: the echo differs");
            output
        };
        run(&[]);
        bed.assert_visit(&bed.nth("closed", index), case, false, said.len() as u64);
        // Comes twice by itself: first to get a session, without a byte of data, then with it.
        let output = run(&["--resume", "--waitresumption"]);
        assert!(output.stdout.contains("*** This is a resumed session"), "{case:?}: {}", output.text());
        bed.assert_visit(&bed.nth("closed", index + 1), case, false, 0);
        bed.assert_visit(&bed.nth("closed", index + 2), case, true, said.len() as u64);
        index += 3;
    }
    assert_eq!(bed.server.stop(), 0);
}

#[test]
fn gnutls_cli_is_told_why_it_is_refused() {
    if !needs("gnutls-cli") {
        return;
    }
    let bed = Bed::new(echo());
    // It sends its certificate whatever authorities are named. In TLS 1.3 it believes itself connected before the alert.
    let cases = [(QUIET, "1.2"), (QUIET, "1.3"), ("ecdsa.example", "1.2"), ("ecdsa.example", "1.3")];
    for (index, (host, version)) in cases.into_iter().enumerate() {
        let output = talk(&mut gnutls_cli(&bed, host, "stranger", version, &[]), "1\n", LAST_LINE);
        assert_ne!(output.code, Some(0), "{host} {version}: {}", output.text());
        assert!(output.text().contains("Received alert [48]: CA is unknown"), "{host} {version}: {}", output.text());
        assert_eq!(bed.nth("refused", index)["reason"], "unknown_issuer", "{host} {version}");
    }
    assert_eq!(bed.backend.connections(), 0, "the backend heard of it");
}
