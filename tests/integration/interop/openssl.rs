//! `openssl s_client`.

use super::dialogue::talk;
use super::{Bed, Case, LAST_LINE, QUIET, lines_of_digits};
use crate::world::backend::echo;
use std::process::Command;

fn s_client(bed: &Bed, host: &str, credential: &str, version: &str, more: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    command.current_dir(bed.path()).args(["s_client", "-connect", &bed.server.address().to_string()]);
    command.args(["-servername", host, "-verify_hostname", host, "-CAfile", "server-ca.pem", "-verify_return_error"]);
    command.args(["-cert", &format!("{credential}.pem"), "-key", &format!("{credential}.key")]);
    command.arg(format!("-tls{}", version.replace('.', "_"))).args(more);
    command
}

#[test]
fn s_client_comes_in_every_pairing_and_resumes() {
    let bed = Bed::new(echo());
    let said = lines_of_digits(1000);
    let mut index = 0;
    for case in Case::all() {
        for (option, word) in [("-sess_out", "New, "), ("-sess_in", "Reused, ")] {
            let mut command = s_client(&bed, case.host(), case.credential(), case.version, &[option, "session.pem"]);
            let output = talk(&mut command, &said, LAST_LINE);
            assert_eq!(output.code, Some(0), "{case:?}: {}", output.text());
            assert!(output.stdout.contains(&format!("{word}TLSv{}", case.version)), "{case:?}: {}", output.text());
            assert!(output.stdout.contains(&said[..200]), "{case:?}: the echo differs");
            let line = bed.nth("closed", index);
            bed.assert_visit(&line, case, option == "-sess_in", said.len() as u64);
            index += 1;
        }
    }
    assert_eq!(bed.server.stop(), 0);
}

#[test]
fn s_client_is_told_why_it_is_refused() {
    let bed = Bed::new(echo());
    // It sends its certificate whatever authorities are named. In TLS 1.3 it believes itself connected first, and says
    // so, before the alert comes.
    for (index, (host, version)) in
        [(QUIET, "1.2"), (QUIET, "1.3"), ("ecdsa.example", "1.2"), ("ecdsa.example", "1.3")].into_iter().enumerate()
    {
        let output = talk(&mut s_client(&bed, host, "stranger", version, &[]), "1\n", LAST_LINE);
        assert_eq!(output.code, Some(1), "{host} {version}: {}", output.text());
        assert!(output.stderr.contains("alert unknown ca"), "{host} {version}: {}", output.text());
        assert_eq!(bed.nth("refused", index)["reason"], "unknown_issuer");
    }
    assert_eq!(bed.backend.connections(), 0, "the backend heard of it");
}
