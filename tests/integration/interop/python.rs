//! Python's own ssl module (OpenSSL underneath, with an interface of its own).

use super::visitor::{Words, assert_every_pairing, assert_refusals};
use super::{Bed, source};
use crate::world::process::needs;
use std::process::Command;

fn client(_: &Bed) -> Command {
    let mut command = Command::new("python3");
    command.arg(source("client.py"));
    command
}

#[test]
fn python_comes_in_every_pairing_and_resumes() {
    if needs("python3") {
        assert_every_pairing(client);
    }
}

#[test]
fn python_is_told_why_it_is_refused() {
    // OpenSSL sends its certificate whatever authorities are named.
    let words = Words {
        unasked: "unknown_issuer",
        unknown_ca: [("1.2", "TLSV1_ALERT_UNKNOWN_CA"), ("1.3", "TLSV1_ALERT_UNKNOWN_CA")],
    };
    if needs("python3") {
        assert_refusals(client, &words);
    }
}
