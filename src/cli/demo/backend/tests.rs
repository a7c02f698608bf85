use super::*;
use crate::config::ProxyTlvs;
use crate::wire::audit::ConnectionId;
use crate::wire::proxy::{Header, Presence, Ssl};
use std::io::{Read, Write};
use std::time::Duration;

const ALL: ProxyTlvs =
    ProxyTlvs { alpn: true, authority: true, unique_id: true, ssl: true, crc32c: true, client_cert: true };

fn header(presence: Presence) -> Vec<u8> {
    let mut out = Vec::new();
    let header = Header {
        source: "203.0.113.7:51234".parse().unwrap(),
        destination: "192.0.2.10:443".parse().unwrap(),
        alpn: None,
        authority: Some("localhost"),
        unique_id: ConnectionId([0x01; 16]),
        ssl: Some(Ssl {
            version: "1.3",
            cn: Some("demo-client"),
            cipher: "TLS13_AES_128_GCM_SHA256",
            presence,
            verify: 0,
            sig_alg: None,
            key_alg: None,
            group: Some("X25519"),
            sig_scheme: None,
        }),
        client_cert: Some(b"certificate"),
    };
    proxy::write_v2(&header, ALL, &mut out);
    out
}

/// Sends `bytes` on a connection of its own and answers all that comes back.
fn exchange(bytes: &[u8]) -> String {
    let mut stream = std::net::TcpStream::connect(start().unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    // A backend that refuses may reset with our bytes unread; what it said before counts.
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn ask(requests: &str) -> String {
    let mut bytes = header(Presence::Full);
    bytes.extend_from_slice(requests.as_bytes());
    exchange(&bytes)
}

fn body(answer: &str) -> serde_json::Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[test]
fn the_answer_tells_what_the_header_told() {
    let answer = body(&ask("GET /hello?a=b HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    assert_eq!(answer["method"], "GET");
    assert_eq!(answer["path"], "/hello?a=b");
    assert_eq!(answer["source"], "203.0.113.7:51234");
    assert_eq!(answer["client"]["cn"], "demo-client");
    assert_eq!(answer["client"]["verify"], 0);
    let sha256 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"certificate");
    assert_eq!(answer["client"]["sha256"], hex::encode(sha256));
    assert_eq!(answer["tls"]["version"], "TLSv1.3");
    assert_eq!(answer["tls"]["sni"], "localhost");
    assert_eq!(answer["tls"]["resumed"], false);
    assert_eq!(answer["unique_id"], "01".repeat(16));
}

#[test]
fn a_resumed_session_is_told_from_a_full_handshake_and_from_no_certificate() {
    let (full, resumed, unknown) = (false.into(), true.into(), serde_json::Value::Null);
    for (presence, resumed) in [(Presence::Full, full), (Presence::Resumed, resumed), (Presence::Anonymous, unknown)] {
        let mut bytes = header(presence);
        bytes.extend_from_slice(b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(body(&exchange(&bytes))["tls"]["resumed"], resumed);
    }
}

#[test]
fn requests_follow_each_other_on_one_connection_whatever_their_bodies() {
    let answer = ask(concat!(
        "POST /1 HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        "POST /2 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nTrailer: x\r\n\r\n",
        "GET /3 HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET /never HTTP/1.1\r\n\r\n",
    ));
    for path in ["/1", "/2", "/3"] {
        assert!(answer.contains(&format!("\"path\": \"{path}\"")), "{answer}");
    }
    assert!(!answer.contains("/never"), "{answer}");
}

#[test]
fn a_client_that_waits_is_told_to_go_on_and_head_gets_no_body() {
    let answer = ask("POST / HTTP/1.1\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\nx");
    assert!(answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"), "{answer}");
    let answer = ask("HEAD / HTTP/1.1\r\n\r\n");
    assert!(answer.ends_with("\r\n\r\n") && !answer.contains("content-length: 0"), "{answer}");
}

#[test]
fn a_request_that_can_be_read_in_two_ways_is_refused() {
    for head in [
        "Content-Length: 1\r\nTransfer-Encoding: chunked",
        "Content-Length: 1\r\nContent-Length: 1",
        "Content-Length: +1",
        "Transfer-Encoding: gzip, chunked",
    ] {
        let answer = ask(&format!("POST / HTTP/1.1\r\n{head}\r\n\r\nx"));
        assert!(answer.starts_with("HTTP/1.1 400"), "{head}: {answer}");
    }
    let answer = ask("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[test]
fn heads_and_bodies_are_bounded() {
    let long = "x".repeat(limits::DEMO_HEAD_BYTES_MAX);
    assert!(ask(&format!("GET / HTTP/1.1\r\nA: {long}")).starts_with("HTTP/1.1 431"));
    let many: String = (0..=limits::DEMO_HEADERS_MAX).map(|i| format!("H{i}: x\r\n")).collect();
    assert!(ask(&format!("GET / HTTP/1.1\r\n{many}\r\n")).starts_with("HTTP/1.1 431"));
    let length = limits::DEMO_BODY_BYTES_MAX + 1;
    assert!(ask(&format!("POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n")).starts_with("HTTP/1.1 413"));
    let chunk = format!("{length:x}\r\n");
    let answer = ask(&format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"));
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[test]
fn nobody_is_answered_without_the_terminators_header() {
    assert_eq!(exchange(b"GET / HTTP/1.1\r\n\r\n"), "");
    assert_eq!(exchange(&header(Presence::Full)[..20]), "");
}
