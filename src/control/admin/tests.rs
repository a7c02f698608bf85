use super::*;
use crate::config::{Audit, AuditTarget, OnFull};
use crate::control::fixture;
use crate::control::readiness::Phase;
use crate::worker::audit_queue::AuditQueue;
use crate::worker::counters::Counters;
use std::future::Future;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn state() -> State {
    let config = Arc::new(fixture::config());
    let counters = vec![Arc::new(Counters::for_config(&config))];
    let mut generation = fixture::generation(config, counters);
    generation.addresses = vec![(Arc::from("public"), "127.0.0.1:8443".parse().unwrap())];
    State::new(generation, None)
}

/// Runs `test` against a server on a port of its own.
fn with_server<F: Future>(surface: Surface, state: State, test: impl FnOnce(SocketAddr, Arc<State>) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let state = Arc::new(state);
        let bound = bind("admin.http", "127.0.0.1:0".parse().unwrap(), surface, None).unwrap();
        let address = bound.address;
        bound.serve(Arc::clone(&state)).unwrap();
        tokio::time::timeout(std::time::Duration::from_secs(60), test(address, state)).await.unwrap();
    });
}

/// One request on a connection of its own; the whole answer.
async fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // The server may close with our bytes unread; what it said before counts.
    let _ = stream.read_to_string(&mut answer).await;
    answer
}

async fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, String, String) {
    let answer = raw(address, &format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_lowercase(), body.to_owned())
}

#[test]
fn readiness_follows_the_process_while_health_stays() {
    with_server(Surface::Full, state(), |address, state| async move {
        for (phase, code, word) in
            [(Phase::Starting, 503, "starting\n"), (Phase::Ready, 200, "ready\n"), (Phase::Draining, 503, "draining\n")]
        {
            state.readiness.advance(phase);
            let (answered, _, body) = ask(address, "GET", "/readyz").await;
            assert_eq!((answered, body.as_str()), (code, word));
            assert_eq!(ask(address, "GET", "/healthz").await.0, 200);
        }
    });
}

#[test]
fn an_audit_that_cannot_be_kept_makes_unready_only_where_it_refuses_connections() {
    for (on_full, code) in [(OnFull::Refuse, 503), (OnFull::Drop, 200)] {
        let mut config = fixture::config();
        config.audit = Some(Audit { target: AuditTarget::Stdout, on_full });
        let queue = Arc::new(AuditQueue::default());
        queue.set_failing(true);
        let state = State::new(fixture::generation(Arc::new(config), Vec::new()), Some(queue));
        state.readiness.advance(Phase::Ready);
        with_server(Surface::Full, state, |address, _| async move {
            assert_eq!(ask(address, "GET", "/readyz").await.0, code);
        });
    }
}

#[test]
fn metrics_are_prometheus_text() {
    with_server(Surface::Full, state(), |address, _| async move {
        let (code, head, body) = ask(address, "GET", "/metrics").await;
        assert_eq!(code, 200);
        assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
        assert!(body.contains("\ncountersign_connections_total{listener=\"public\"} 0\n"), "{body}");
    });
}

#[test]
fn status_is_json_that_names_listeners_sites_and_backends() {
    with_server(Surface::Full, state(), |address, state| async move {
        state.generation().counters[0].listeners[0].active.add(2);
        let (code, head, body) = ask(address, "GET", "/status").await;
        assert_eq!(code, 200);
        assert!(head.contains("content-type: application/json"), "{head}");
        let status: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status["listeners"][0]["addresses"][0], "127.0.0.1:8443");
        assert_eq!(status["listeners"][0]["connections"], 2);
        assert_eq!(status["workers"][0]["connections"], 2);
        assert_eq!(status["totals"]["connections"], 2);
        assert_eq!(status["sites"][1]["listener"], "partners");
        assert_eq!(status["backends"][0]["servers"][1]["address"], "unix:/run/ledger.sock");
        assert_eq!(status["config"]["sha256"], "ab".repeat(32));
        assert_eq!(status["pid"], std::process::id());
    });
}

#[test]
fn status_is_a_page_for_whoever_asks_for_one() {
    with_server(Surface::Full, state(), |address, _| async move {
        for (accept, kind) in [
            ("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", "text/html"),
            ("TEXT/HTML;q=1", "text/html"),
            ("*/*", "application/json"),
            ("application/json", "application/json"),
            ("nottext/html", "application/json"),
        ] {
            let request = format!("GET /status HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
            let answer = raw(address, &request).await.to_lowercase();
            assert!(answer.contains(&format!("content-type: {kind}")), "{accept}: {answer}");
            assert!(answer.contains("vary: accept"), "{answer}");
            assert!(answer.contains("content-security-policy: default-src 'none'"), "{answer}");
        }
    });
}

#[test]
fn an_unknown_path_is_told_which_there_are() {
    with_server(Surface::Full, state(), |address, _| async move {
        for path in ["/", "/metrics/", "/../etc/passwd", "//metrics"] {
            let (code, _, body) = ask(address, "GET", path).await;
            assert_eq!(code, 404, "{path}");
            assert!(body.contains("/metrics\n"), "{body}");
        }
        assert_eq!(ask(address, "GET", "/healthz?verbose").await.0, 200, "a query is not part of the path");
    });
}

#[test]
fn the_probe_address_has_the_probes_and_nothing_else() {
    with_server(Surface::Probe, state(), |address, state| async move {
        state.readiness.advance(Phase::Ready);
        assert_eq!(ask(address, "GET", "/healthz").await.0, 200);
        assert_eq!(ask(address, "GET", "/readyz").await.0, 200);
        for path in ["/metrics", "/status"] {
            let (code, _, body) = ask(address, "GET", path).await;
            assert_eq!(code, 404);
            assert!(!body.contains("/metrics"), "{body}");
        }
    });
}

#[test]
fn only_get_and_head_are_taken() {
    with_server(Surface::Full, state(), |address, _| async move {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"] {
            let (code, head, _) = ask(address, method, "/healthz").await;
            assert_eq!(code, 405, "{method}");
            assert!(head.contains("allow: get, head"), "{head}");
        }
        let (code, head, body) = ask(address, "HEAD", "/status").await;
        assert_eq!((code, body.as_str()), (200, ""));
        assert!(!head.contains("content-length: 0"), "{head}");
    });
}

#[test]
fn a_head_past_its_bounds_is_refused() {
    with_server(Surface::Full, state(), |address, _| async move {
        let long = "x".repeat(limits::ADMIN_HEAD_BYTES_MAX * 2);
        let answer = raw(address, &format!("GET /healthz HTTP/1.1\r\nHost: x\r\nA: {long}\r\n\r\n")).await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
        let many: String = (0..=limits::ADMIN_HEADERS_MAX).map(|i| format!("H{i}: x\r\n")).collect();
        let answer = raw(address, &format!("GET /healthz HTTP/1.1\r\n{many}\r\n")).await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(ask(address, "GET", "/healthz").await.0, 200, "others are answered still");
    });
}

#[test]
fn connections_that_ask_nothing_do_not_keep_a_probe_from_its_answer() {
    with_server(Surface::Probe, state(), |address, _| async move {
        let mut idle = Vec::new();
        for _ in 0..limits::ADMIN_CONNECTIONS_MAX * 2 {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        assert_eq!(ask(address, "GET", "/healthz").await.0, 200);
        let mut first = [0];
        assert!(matches!(idle[0].read(&mut first).await, Ok(0) | Err(_)), "the oldest gave way");
    });
}

#[test]
fn an_address_in_use_is_said_so() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let failure = bind("admin.http", address, Surface::Full, None).unwrap_err();
    assert_eq!(failure.code, 69);
    assert!(failure.message.contains(&address.to_string()), "{failure}");
}
