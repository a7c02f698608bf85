//! Go's crypto/tls.

use super::visitor::{Words, assert_every_pairing, assert_refusals, runs};
use super::{Bed, source};
use crate::world::process::needs;
use std::process::Command;

/// Built into the test's directory; the compiler's own cache makes all builds but the first quick. `None`, with a
/// printed reason, where there is no Go.
fn built(bed: &Bed) -> Command {
    let program = bed.path().join("go-client");
    assert!(runs(Command::new("go").args(["build", "-o"]).arg(&program).arg(source("client.go"))), "no Go program");
    Command::new(program)
}

#[test]
fn go_comes_in_every_pairing_and_resumes() {
    if needs("go") {
        assert_every_pairing(built);
    }
}

#[test]
fn go_is_told_why_it_is_refused() {
    // Go keeps its certificate to itself where none of the named authorities issued it: the reason is `no_cert` then.
    let words = Words {
        unasked: "no_cert",
        unknown_ca: [("1.2", "tls: unknown certificate authority"), ("1.3", "tls: unknown certificate authority")],
    };
    if needs("go") {
        assert_refusals(built, &words);
    }
}
