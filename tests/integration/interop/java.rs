//! Java's own TLS, from a PKCS#12 file that OpenSSL made.

use super::visitor::{Words, assert_every_pairing, assert_refusals};
use super::{Bed, source};
use crate::world::peers::openssl;
use crate::world::process::needs;
use std::process::Command;

fn client(bed: &Bed) -> Command {
    for name in ["client-ecdsa", "client-rsa", "stranger"] {
        let (chain, key, store) = (format!("{name}.pem"), format!("{name}.key"), format!("{name}.p12"));
        let export = ["pkcs12", "-export", "-in", &chain, "-inkey", &key, "-out", &store, "-passout", "pass:changeit"];
        openssl(bed.path(), &export);
    }
    let mut command = Command::new("java");
    // One small program that runs for a second: the plain collector and the first compiler are the quickest.
    command.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]).arg(source("Client.java"));
    command
}

#[test]
fn java_comes_in_every_pairing_and_resumes() {
    if needs("java") {
        assert_every_pairing(client);
    }
}

#[test]
fn java_is_told_why_it_is_refused() {
    // Java keeps its certificate to itself where none of the named authorities issued it: the reason is `no_cert` then.
    let words = Words { unasked: "no_cert", unknown_ca: [("1.2", "unknown_ca"), ("1.3", "unknown_ca")] };
    if needs("java") {
        assert_refusals(client, &words);
    }
}
