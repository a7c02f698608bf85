//! The admin pages: alive, ready, metrics, status; and nothing to whom they are not for.

use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::{Client, ClientSpec, TLS13};
use crate::world::config::ConfigText;
use crate::world::http::get;
use crate::world::pki::{Ca, LeafSpec};
use crate::world::process::run;
use crate::world::server::{Server, command};
use crate::world::wait::{SOON, until_some};
use std::net::SocketAddr;
use time::{Duration, OffsetDateTime};

fn served(world: &World, backend: &Backend) -> (Server, SocketAddr) {
    let server = world.serve(&ConfigText::new(&backend.server).admin());
    let admin = server.ready_value("admin").unwrap().parse().unwrap();
    (server, admin)
}

/// The sum over all series of this name whose labels hold every one of `labels`.
fn metric(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let series = text.lines().filter(|line| {
        let end = line.find(['{', ' ']).unwrap_or(line.len());
        &line[..end] == name && labels.iter().all(|label| line.contains(label))
    });
    let values: Vec<f64> = series.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

/// Waits until a metric has this value: counters are gathered now and then.
fn assert_metric(admin: SocketAddr, name: &str, labels: &[&str], wanted: f64) {
    let mut last = None;
    let found = until_some(SOON, || {
        last = metric(&get(admin, "/metrics").1, name, labels);
        (last == Some(wanted)).then_some(())
    });
    assert!(found.is_some(), "{name} {labels:?} is {last:?}, not {wanted}");
}

#[test]
fn a_serving_process_is_alive_and_ready() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let (server, admin) = served(&world, &backend);
    assert_eq!(get(admin, "/healthz").0, 200);
    assert_eq!(get(admin, "/readyz").0, 200);
    assert_eq!(get(admin, "/no-such-page").0, 404);
    let status: serde_json::Value = serde_json::from_str(&get(admin, "/status").1).unwrap();
    assert!(status.to_string().contains(&server.address().port().to_string()), "{status}");
    assert_eq!(server.stop(), 0);
}

#[test]
fn metrics_count_what_happened() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let (server, admin) = served(&world, &backend);
    let mut client = ClientSpec::new(&world.pki).versions(TLS13).connect(server.address());
    client.echo(b"twelve bytes").unwrap();
    assert!(ClientSpec::anonymous(&world.pki).connect(server.address()).echo(b"x").is_err());
    let listener = "listener=\"public\"";
    assert_metric(admin, "countersign_connections_total", &[listener], 2.0);
    assert_metric(admin, "countersign_connections_active", &[listener], 1.0);
    assert_metric(admin, "countersign_handshakes_total", &[listener, "kind=\"full\""], 1.0);
    assert_metric(admin, "countersign_handshake_failures_total", &[listener, "reason=\"no_cert\""], 1.0);
    client.close_notify();
    client.read_to_end();
    assert_metric(admin, "countersign_connections_active", &[listener], 0.0);
    assert_metric(admin, "countersign_bytes_total", &[], 24.0);
    let text = get(admin, "/metrics").1;
    for name in [
        "countersign_handshake_seconds_bucket",
        "countersign_chain_cache_misses_total",
        "countersign_server_cert_expires_timestamp_seconds",
        "countersign_ca_expires_timestamp_seconds",
        "countersign_worker_busy_ratio",
        "countersign_handshakes_in_flight",
        "countersign_audit_dropped_total",
        "countersign_build_info",
    ] {
        assert!(metric(&text, name, &[]).is_some(), "{name} in\n{text}");
    }
}

#[test]
fn metrics_are_the_text_format_and_their_labels_are_bounded_whatever_clients_send() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let (server, admin) = served(&world, &backend);
    let config = ClientSpec::anonymous(&world.pki).build();
    let visit = |name: &str| assert!(Client::connect(&config, name, server.address()).echo(b"x").is_err());
    visit("first.example");
    assert_metric(admin, "countersign_handshake_failures_total", &[], 1.0);
    let before = get(admin, "/metrics").1.lines().count();
    for number in 0..30 {
        visit(&format!("name-{number}.example"));
    }
    assert_metric(admin, "countersign_handshake_failures_total", &[], 31.0);
    let text = get(admin, "/metrics").1;
    assert!(!text.contains("name-7.example"), "what clients send is in a label");
    let after = text.lines().count();
    assert!(after < before + 20, "{before} lines before, {after} after");
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(name.starts_with("countersign_") || name.starts_with("process_"), "{line}");
        let kind = name.split('{').next().unwrap();
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| kind.strip_suffix(end)).unwrap_or(kind);
        assert!(
            text.contains(&format!("# TYPE {kind} ")) || text.contains(&format!("# TYPE {family} ")),
            "{line} has no type"
        );
    }
}

#[test]
fn clients_are_counted_by_when_they_run_out_with_the_audit_off_too() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let mut config = ConfigText::new(&backend.server).admin();
    config.audit = None;
    let server = world.serve(&config);
    let admin = server.ready_value("admin").unwrap().parse().unwrap();
    assert_metric(admin, "countersign_client_certs_expiring", &["within=\"90d\""], 0.0);
    let (now, hour) = (OffsetDateTime::now_utc(), Duration::HOUR);
    for (name, ends) in [("soon", hour), ("later", 6 * 24 * hour), ("last", 80 * 24 * hour), ("far", 900 * 24 * hour)] {
        let leaf = world.pki.client_ca.leaf(&LeafSpec::client(name).valid(now - hour, now + ends));
        ClientSpec::with(&world.pki, &leaf).connect(server.address()).echo(b"x").unwrap();
    }
    // Nobody's word but a trusted CA's gets a name into the metrics.
    let stranger = Ca::root("Strangers").leaf(&LeafSpec::client("stranger"));
    assert!(ClientSpec::with(&world.pki, &stranger).connect(server.address()).echo(b"x").is_err());
    for (within, number) in [("1d", 1.0), ("7d", 2.0), ("14d", 2.0), ("30d", 2.0), ("90d", 3.0)] {
        assert_metric(admin, "countersign_client_certs_expiring", &[&format!("within=\"{within}\"")], number);
    }
    assert_metric(admin, "countersign_identities_seen", &[], 4.0);
    let text = get(admin, "/metrics").1;
    let ends = metric(&text, "countersign_client_cert_expires_timestamp_seconds", &["identity=\"cn:soon\"", "issuer="]);
    let now = metric(&text, "process_clock_time_seconds", &[]).unwrap();
    assert!((3000.0..=3600.0).contains(&(ends.unwrap() - now)), "{ends:?} at {now}");
    assert!(!text.contains("stranger"), "{text}");
    assert_metric(admin, "countersign_handshake_cpu_seconds_count", &["kind="], 4.0);
}

#[test]
fn the_probe_has_health_and_readiness_alone() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let mut config = ConfigText::new(&backend.server);
    config.admin = Some("http = \"127.0.0.1:0\"\nprobe = \"127.0.0.1:0\"".to_owned());
    let server = world.serve(&config);
    let probe: SocketAddr = server.ready_value("probe").unwrap().parse().unwrap();
    assert_eq!((get(probe, "/healthz").0, get(probe, "/readyz").0), (200, 200));
    assert_eq!((get(probe, "/metrics").0, get(probe, "/status").0), (404, 404));
}

#[test]
fn an_admin_address_that_others_can_reach_must_be_asked_for() {
    let world = World::new();
    for (lines, code) in [("http = \"0.0.0.0:0\"", 78), ("http = \"0.0.0.0:0\"\nallow_remote = true", 0)] {
        let mut config = ConfigText::new("127.0.0.1:9");
        config.admin = Some(lines.to_owned());
        config.write(world.path());
        let output = run(command(world.path()).args(["check", "-c", "countersign.toml"]));
        assert_eq!(output.code, Some(code), "{lines}: {}", output.text());
    }
}
