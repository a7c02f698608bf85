//! The harness against small rustls servers on loopback, that share no code with it but the library both call.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use crate::load::pki::{self, Pki};
use crate::load::{exit, main};

/// What a test server does once a client is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Echo,
    /// Sends until the client is gone.
    Stream,
    /// Accepts TCP and never says a word.
    Silent,
    /// Echoes once, and leaves without a word.
    Fickle,
    /// Returns other bytes than it got.
    Liar,
    /// Answers whatever it reads with this status and five bytes.
    Http(u16),
}

struct Server {
    address: SocketAddr,
    /// Handshakes that a client certificate came with, and of those the resumed ones.
    full: Arc<AtomicUsize>,
    resumed: Arc<AtomicUsize>,
}

/// Serves with the PKI in `directory`, which also signs the clients that it lets in.
fn serve(directory: &Path, manner: Manner, adjust: impl FnOnce(&mut ServerConfig)) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (full, resumed) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let server = Server { address: listener.local_addr().unwrap(), full: full.clone(), resumed: resumed.clone() };
    let mut config = server_config(directory);
    adjust(&mut config);
    let config = Arc::new(config);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (config, full, resumed) = (config.clone(), full.clone(), resumed.clone());
            // A client's failure is the harness's to report.
            thread::spawn(move || talk(stream.unwrap(), config, manner, &full, &resumed).unwrap_or(()));
        }
    });
    server
}

fn server_config(directory: &Path) -> ServerConfig {
    let pki = Pki::open(Some(directory)).unwrap();
    let mut roots = RootCertStore::empty();
    pki.anchors().unwrap().into_iter().for_each(|anchor| roots.add(anchor).unwrap());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let server = pki::read_identity(&directory.join("server.pem"), &directory.join("server.key")).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(server.chain, server.key)
        .unwrap();
    config.ticketer = aws_lc_rs::Ticketer::new().unwrap();
    config
}

fn talk(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    manner: Manner,
    full: &AtomicUsize,
    resumed: &AtomicUsize,
) -> std::io::Result<()> {
    if manner == Manner::Silent {
        thread::sleep(Duration::from_secs(30));
        return Ok(());
    }
    stream.set_nodelay(true)?;
    let mut tls = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock)?;
    }
    let counter = if tls.conn.handshake_kind() == Some(rustls::HandshakeKind::Resumed) { resumed } else { full };
    counter.fetch_add(1, Ordering::Relaxed);
    let mut buffer = [0; 16384];
    if manner == Manner::Stream {
        loop {
            tls.write_all(&buffer)?;
        }
    }
    loop {
        let n = tls.read(&mut buffer)?;
        if n == 0 {
            tls.conn.send_close_notify();
            tls.conn.complete_io(&mut tls.sock)?;
            return Ok(());
        }
        match manner {
            Manner::Http(status) => write!(tls, "HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\nhello")?,
            Manner::Liar => tls.write_all(&[&[!buffer[0]], &buffer[1..n]].concat())?,
            _ => tls.write_all(&buffer[..n])?,
        }
        if manner == Manner::Fickle {
            return Ok(());
        }
    }
}

/// Runs the program as a user would, with a JSON report.
fn load(directory: &Path, line: &str) -> (u8, Value) {
    let report = directory.join(format!("report-{:?}.json", thread::current().id()));
    let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    words.insert(0, "countersign-load".to_owned());
    words.extend(["--pki".to_owned(), directory.display().to_string()]);
    words.extend(["--json".to_owned(), report.display().to_string()]);
    let code = main(words.into_iter().map(Into::into));
    let text = std::fs::read_to_string(&report).unwrap_or_default();
    (code, serde_json::from_str(&text).unwrap_or(Value::Null))
}

#[test]
fn full_handshakes_are_counted_by_both_sides_alike_and_none_is_resumed() {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(directory.path(), Manner::Echo, |_| {});
    let (code, report) = load(directory.path(), &format!("handshake {} --count 20 --connections 4", server.address));
    assert_eq!(code, exit::OK, "{report}");
    assert_eq!((&report["operations"], &report["errors"], &report["resumed"]), (&20.into(), &0.into(), &0.into()));
    assert_eq!(report["negotiated"]["version"], "1.3");
    // The probe made one full handshake and resumed it.
    assert_eq!((server.full.load(Ordering::Relaxed), server.resumed.load(Ordering::Relaxed)), (21, 1));
    assert!(report["latency_us"]["p99_99"].as_u64().unwrap() > 0);
}

#[test]
fn sessions_are_resumed_in_both_versions() {
    for version in ["1.2", "1.3"] {
        let directory = tempfile::tempdir().unwrap();
        let server = serve(directory.path(), Manner::Echo, |_| {});
        let line = format!("handshake {} --resume --tls {version} --count 20 --connections 4", server.address);
        let (code, report) = load(directory.path(), &line);
        assert_eq!(code, exit::OK, "{version}: {report}");
        assert_eq!((&report["operations"], &report["resumed"]), (&20.into(), &20.into()), "{version}");
        assert_eq!(report["negotiated"]["version"], version);
        // One of the probe, one for each lane to start from.
        assert_eq!(server.full.load(Ordering::Relaxed), 5, "{version}");
    }
}

#[test]
fn a_server_without_tickets_is_waited_for_by_its_close_and_not_reported_as_resuming() {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(directory.path(), Manner::Echo, |config| {
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    });
    let line = format!("handshake {} --resume --count 6 --connections 2", server.address);
    let (code, report) = load(directory.path(), &line);
    assert_eq!(code, exit::OK, "{report}");
    assert_eq!((&report["operations"], &report["resumed"]), (&6.into(), &0.into()));
    assert!(report["notes"].to_string().contains("did not resume"), "{report}");
}

#[test]
fn refused_clients_are_errors_by_alert_and_not_handshakes() {
    let (directory, stranger) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = serve(directory.path(), Manner::Echo, |_| {});
    Pki::open(Some(stranger.path())).unwrap();
    let ca = directory.path().join("ca.pem");
    let line = format!("handshake {} --ca {} --count 6 --connections 2", server.address, ca.display());
    let (code, report) = load(stranger.path(), &line);
    assert_eq!(code, exit::UNAVAILABLE, "{report}");
    assert_eq!((&report["operations"], &report["errors"]), (&0.into(), &6.into()));
    assert_eq!(report["errors_by_kind"]["alert:unknown_ca"], 6);
    assert!(report["notes"].to_string().contains("--client-ca"), "says how to make it work: {report}");
}

#[test]
fn a_client_without_certificate_is_refused_where_one_is_demanded() {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(directory.path(), Manner::Echo, |_| {});
    let (code, report) = load(directory.path(), &format!("handshake {} --anonymous --count 2", server.address));
    assert_eq!(code, exit::UNAVAILABLE, "{report}");
    assert_eq!(report["errors_by_kind"]["alert:certificate_required"], 2, "{report}");
}

#[test]
fn requests_come_back_over_connections_that_stay_open() {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(directory.path(), Manner::Echo, |_| {});
    let line = format!("request {} --size 3000 --count 50 --connections 5 --identities 3", server.address);
    let (code, report) = load(directory.path(), &line);
    assert_eq!(code, exit::OK, "{report}");
    assert_eq!((&report["operations"], &report["bytes_in"]), (&50.into(), &150_000.into()));
    assert_eq!(server.full.load(Ordering::Relaxed), 6, "five, and the probe's");
}

#[test]
fn tls_1_2_sessions_are_resumed_by_ticket_too() {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(directory.path(), Manner::Echo, |config| {
        // Nothing but the ticket may bring a session back.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    });
    let line = format!("handshake {} --resume --tls 1.2 --count 20 --connections 2", server.address);
    let (code, report) = load(directory.path(), &line);
    assert_eq!(code, exit::OK, "{report}");
    assert_eq!((&report["resumed"], &report["negotiated"]["version"]), (&20.into(), &"1.2".into()), "{report}");
}

#[test]
fn a_mix_tells_its_good_clients_from_the_hostile_and_how_these_ended() {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(directory.path(), Manner::Echo, |_| {});
    let scenario = directory.path().join("mix.toml");
    let text = ["new", "resumed", "long_lived", "slow", "half_handshake", "wrong_certificate", "key_updates"]
        .map(|kind| match kind {
            "slow" => "[[client]]\nkind = \"slow\"\nshare = 1\nsize = 4\npause = \"1ms\"\n".to_owned(),
            "half_handshake" => "[[client]]\nkind = \"half_handshake\"\nshare = 1\nhold = \"60ms\"\n".to_owned(),
            kind => format!("[[client]]\nkind = {kind:?}\nshare = 1\n"),
        })
        .concat();
    std::fs::write(&scenario, text).unwrap();
    let line = format!("mix {} {} --duration 2s --connections 8", scenario.display(), server.address);
    let (code, report) = load(directory.path(), &line);
    assert_eq!(code, exit::OK, "{report}");
    let kind = |name: &str| {
        let kinds = report["clients"].as_array().unwrap();
        kinds.iter().find(|k| k["kind"] == name).unwrap_or_else(|| panic!("no {name} in {report}")).clone()
    };
    let done = |name: &str| kind(name)["operations"].as_u64().unwrap();
    for name in ["new", "resumed", "long_lived", "slow", "half_handshake", "wrong_certificate", "key_updates"] {
        assert!(done(name) > 0, "{name}: {report}");
    }
    let good: u64 = ["new", "resumed", "long_lived", "slow"].map(done).iter().sum();
    assert_eq!(report["operations"], good, "hostile visits are no throughput");
    assert_eq!(report["resumed"], done("resumed"), "{report}");
    assert_eq!(kind("half_handshake")["endings"]["held"], done("half_handshake"), "{report}");
    assert!(kind("wrong_certificate")["endings"]["let in"].is_null(), "{report}");
    assert!(kind("key_updates")["endings"]["borne"].is_null(), "rustls bears 32 in a row, not 100: {report}");
    std::fs::write(&scenario, "[[client]]\nkind = \"now\"\nshare = 1\n").unwrap();
    assert_eq!(load(directory.path(), &line).0, exit::CONFIG);
}

#[test]
fn an_answer_with_other_bytes_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(directory.path(), Manner::Liar, |_| {});
    let line = format!("request {} --size 100 --count 4 --connections 1", server.address);
    let (code, report) = load(directory.path(), &line);
    assert_eq!(code, exit::UNAVAILABLE, "{report}");
    assert_eq!(report["errors_by_kind"]["mismatch"], 4);
}

#[test]
fn http_answers_are_read_to_their_end_and_a_bad_status_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    for (status, code, done) in [(200, exit::OK, 10), (503, exit::UNAVAILABLE, 0)] {
        let server = serve(directory.path(), Manner::Http(status), |_| {});
        let line = format!("request {} --http=/status --count 10 --connections 2", server.address);
        let (ended, report) = load(directory.path(), &line);
        assert_eq!(ended, code, "{report}");
        assert_eq!(report["operations"], done);
        assert_eq!(report["errors_by_kind"]["status:503"].as_u64().unwrap_or(0), 10 - done);
    }
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(directory.path(), Manner::Echo, |_| {});
    let line = format!("request {} --rate 50 --duration 2s --connections 4 --size 10", server.address);
    let (code, report) = load(directory.path(), &line);
    assert_eq!(code, exit::OK, "{report}");
    let (done, late) = (report["operations"].as_u64().unwrap(), report["not_begun"].as_u64().unwrap());
    assert_eq!(done + late, 100, "{report}");
    assert!(done > 50, "{report}");
}

#[test]
fn bytes_are_moved_each_way() {
    let directory = tempfile::tempdir().unwrap();
    let echo = serve(directory.path(), Manner::Echo, |_| {});
    let stream = serve(directory.path(), Manner::Stream, |_| {});
    for (server, direction, down, up) in [(&stream, "down", 3, 0), (&echo, "up", 0, 3), (&echo, "both", 3, 3)] {
        let line = format!("bulk {} --direction {direction} --count 3", server.address);
        let (code, report) = load(directory.path(), &line);
        assert_eq!(code, exit::OK, "{direction}: {report}");
        assert_eq!(
            (&report["bytes_in"], &report["bytes_out"]),
            (&(down << 20).into(), &(up << 20).into()),
            "{direction}"
        );
    }
}

#[test]
fn idle_connections_are_opened_held_and_told_apart_from_the_servers_own_memory() {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(directory.path(), Manner::Echo, |_| {});
    let line =
        format!("idle {} --connections 20 --duration 100ms --pid {} --exchange 10", server.address, std::process::id());
    let (code, report) = load(directory.path(), &line);
    assert_eq!(code, exit::OK, "{report}");
    assert_eq!(report["operations"], 20);
    assert!(report["server"]["memory_open"]["rss"].as_u64().unwrap() > 0);
    assert!(report["server"]["memory_per_connection"].is_object(), "{report}");
}

#[test]
fn idle_connections_that_the_server_ended_were_not_held() {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(directory.path(), Manner::Fickle, |_| {});
    let line =
        format!("idle {} --connections 3 --duration 2s --pid {} --exchange 10", server.address, std::process::id());
    let (code, report) = load(directory.path(), &line);
    assert_eq!(code, exit::UNAVAILABLE, "{report}");
    assert_eq!((&report["operations"], &report["errors"]), (&0.into(), &3.into()), "{report}");
    assert!(report["server"]["memory_per_connection"].is_null(), "{report}");
    assert!(report["notes"].to_string().contains("while they were held"), "{report}");
}

#[test]
fn a_server_process_that_ended_during_the_run_has_no_figures() {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(directory.path(), Manner::Echo, |_| {});
    let mut process = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let line = format!("handshake {} --count 4 --connections 1 --pid {}", server.address, process.id());
    assert!(load(directory.path(), &line).1["server"].is_object(), "while it lives there are");
    let line = format!("handshake {} --duration 3s --connections 1 --pid {}", server.address, process.id());
    let ending = thread::spawn(move || {
        thread::sleep(Duration::from_millis(500));
        process.kill().unwrap();
        process.wait().unwrap();
    });
    let (code, report) = load(directory.path(), &line);
    ending.join().unwrap();
    // Where the kill came before the look at the process, that is refused.
    assert!(code == exit::UNAVAILABLE || report["server"].is_null(), "{report}");
    assert!(code == exit::UNAVAILABLE || report["notes"].to_string().contains("ended during the run"), "{report}");
}

#[test]
fn a_silent_server_a_closed_port_and_a_foreign_certificate_end_the_run_before_it_starts() {
    let (directory, stranger) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let silent = serve(directory.path(), Manner::Silent, |_| {});
    let (code, _) = load(directory.path(), &format!("handshake {} --timeout 200ms --count 1", silent.address));
    assert_eq!(code, exit::UNAVAILABLE);
    // Bound, so that nobody else gets the port, and not listening.
    let closed = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    closed.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let unused = closed.local_addr().unwrap().as_socket().unwrap();
    assert_eq!(load(directory.path(), &format!("handshake {unused} --count 1")).0, exit::UNAVAILABLE);
    let server = serve(directory.path(), Manner::Echo, |_| {});
    assert_eq!(load(stranger.path(), &format!("handshake {} --count 1", server.address)).0, exit::UNAVAILABLE);
}

#[test]
fn a_report_that_cannot_be_written_is_refused_before_the_run() {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(directory.path(), Manner::Echo, |_| {});
    let address = server.address.to_string();
    let pki = directory.path().display().to_string();
    let words = ["countersign-load", "handshake", &address, "--pki", &pki, "--json", "/nowhere/at/all.json"];
    assert_eq!(main(words.map(Into::into)), exit::CONFIG);
    assert_eq!(server.full.load(Ordering::Relaxed), 0);
}

#[test]
fn every_run_may_leave_a_page_with_its_figures() {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(directory.path(), Manner::Echo, |_| {});
    let page = directory.path().join("page.html");
    let line = format!("request {} --count 20 --html {}", server.address, page.display());
    assert_eq!(load(directory.path(), &line).0, exit::OK);
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("1.00 KiB echoed") && page.contains("<path") && page.contains("p99.99"), "{page}");
    let nowhere = format!("request {} --count 1 --html /nowhere/at/all.html", server.address);
    assert_eq!(load(directory.path(), &nowhere).0, exit::CONFIG);
}

#[test]
fn what_the_user_got_wrong_is_refused_before_anything_is_connected_to() {
    let directory = tempfile::tempdir().unwrap();
    for line in [
        "handshake 192.0.2.1:443",
        "handshake",
        "handshake 127.0.0.1:1 --unknown",
        "nonsense",
        "mix",
        "mix benches/mix.toml 192.0.2.1:443",
        "handshake 127.0.0.1:1 --pid 1 --cgroup x",
        "compare --peer a=b",
        "idle 127.0.0.1:1 --rate 5",
        "request 127.0.0.1:1 --http=no-slash",
    ] {
        assert_eq!(load(directory.path(), line).0, exit::USAGE, "{line}");
    }
    for line in ["--help", "--version", "handshake --help"] {
        let words = std::iter::once("countersign-load").chain(line.split(' ')).map(Into::into);
        assert_eq!(main(words), exit::OK, "{line}");
    }
}
