//! curl.

use super::{Bed, Case, QUIET, lines_of_digits};
use crate::world::backend::Script;
use crate::world::process::{Output, needs, run};
use std::process::Command;
use std::sync::Arc;

/// Answers a request with its own body, and ends.
fn echo_body() -> Script {
    Arc::new(|mut conversation| {
        let mut request = Vec::new();
        let body = loop {
            let Some(bytes) = conversation.read() else { return };
            request.extend(bytes);
            if let Some(body) = body_of(&request) {
                break body;
            }
        };
        conversation
            .send(format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes());
        conversation.send(body);
        conversation.finish();
        conversation.drain();
    })
}

/// The body, once all of it is there.
fn body_of(request: &[u8]) -> Option<&[u8]> {
    let end = request.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&request[..end]).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap().parse::<usize>().unwrap();
    (request.len() - end >= length).then_some(&request[end..])
}

/// Two requests to the same place: curl keeps sessions only as long as it runs.
fn curl(bed: &Bed, host: &str, credential: &str, version: &str) -> Output {
    let url = format!("https://{host}:{}/", bed.port());
    let mut command = Command::new("curl");
    command.current_dir(bed.path()).args([
        "--silent",
        "--show-error",
        "--verbose",
        "--max-time",
        "20",
        "--noproxy",
        "*",
    ]);
    command.args(["--cacert", "server-ca.pem", "--resolve", &format!("{host}:{}:127.0.0.1", bed.port())]);
    command.args(["--cert", &format!("{credential}.pem"), "--key", &format!("{credential}.key")]);
    command.args([&format!("--tlsv{version}"), "--tls-max", version, "--header", "Expect:"]);
    run(command.args(["--data-binary", "@payload", "-o", "first", &url, "-o", "second", &url]))
}

#[test]
fn curl_comes_in_every_pairing_and_resumes() {
    if !needs("curl") {
        return;
    }
    let bed = Bed::new(echo_body());
    let said = lines_of_digits(1000);
    bed.world.write("payload", &said);
    for (index, case) in Case::all().into_iter().enumerate() {
        let output = curl(&bed, case.host(), case.credential(), case.version);
        assert_eq!(output.code, Some(0), "{case:?}: {}", output.text());
        // curl's own word. For TLS 1.2 it turns tickets off (seen in 7.88) and would resume by session id alone, which
        // we do not offer: every visit is a full handshake then.
        let reuses = output.stderr.contains("re-using session ID") || output.stderr.contains("reusing session");
        assert!(reuses || case.version == "1.2", "{case:?}: {}", output.stderr);
        for (round, file) in ["first", "second"].into_iter().enumerate() {
            assert_eq!(std::fs::read_to_string(bed.path().join(file)).unwrap(), said, "{case:?}: {file}");
            let line = bed.nth("closed", 2 * index + round);
            // The heads come on top of the bodies, and are not the same there and back.
            let (bytes_in, bytes_out) = (line["bytes_in"].as_u64().unwrap(), line["bytes_out"].as_u64().unwrap());
            let body = said.len() as u64;
            assert!(bytes_in > body && bytes_out > body && bytes_in + bytes_out < 2 * body + 1000, "{line}");
            let mut without_heads = line.clone();
            (without_heads["bytes_in"], without_heads["bytes_out"]) = (body.into(), body.into());
            bed.assert_visit(&without_heads, case, round == 1 && reuses, body);
        }
    }
    assert_eq!(bed.server.stop(), 0);
}

#[test]
fn curl_is_told_why_it_is_refused() {
    if !needs("curl") {
        return;
    }
    let bed = Bed::new(echo_body());
    bed.world.write("payload", "x");
    // It sends its certificate whatever authorities are named. In TLS 1.2 it cannot connect (35); in 1.3 it believes
    // itself connected, sends the request and fails in reading the answer (56). It does not try the second request.
    let cases = [(QUIET, "1.2", 35), (QUIET, "1.3", 56), ("ecdsa.example", "1.2", 35), ("ecdsa.example", "1.3", 56)];
    for (host, version, code) in cases {
        let output = curl(&bed, host, "stranger", version);
        assert_eq!(output.code, Some(code), "{host} {version}: {}", output.text());
        assert!(output.stderr.contains("alert unknown ca"), "{host} {version}: {}", output.text());
    }
    for index in 0..cases.len() {
        assert_eq!(bed.nth("refused", index)["reason"], "unknown_issuer");
    }
    assert_eq!(bed.backend.connections(), 0, "the backend heard of it");
}
