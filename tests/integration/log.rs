//! The operator's log: what it says of refusals, in text and in JSON, whatever names clients send; and its silence about
//! TCP health checks.

use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::{Client, ClientSpec};
use crate::world::config::ConfigText;
use crate::world::pki::{Ca, LeafSpec, SERVER_NAME};
use crate::world::server::Server;
use crate::world::wait::{SOON, until};
use serde_json::Value;
use std::net::TcpStream;

/// A name that would forge a line, end a JSON string and clear a terminal.
const HOSTILE: &str = "x\",\"level\":\"ERROR\"}\n{\"level\":\"FORGED\"} \u{1b}[2J \u{202e}\u{2028}";

fn config(world_backend: &Backend, format: &str) -> ConfigText {
    let mut config = ConfigText::new(&world_backend.server);
    config.top = format!("log = {{ level = \"info\", format = \"{format}\" }}");
    config
}

#[test]
fn a_refusal_is_one_line_in_either_format_whatever_the_certificate_is_called() {
    for format in ["text", "json"] {
        let world = World::new();
        let backend = Backend::tcp(echo());
        let server = world.serve(&config(&backend, format));
        let stranger = Ca::root(HOSTILE).leaf(&LeafSpec::client(HOSTILE));
        assert!(ClientSpec::with(&world.pki, &stranger).connect(server.address()).echo(b"x").is_err());
        let refusals = || -> Vec<String> {
            let lines = server.process.stderr.all();
            lines.into_iter().filter(|line| line.contains("unknown_issuer")).collect()
        };
        assert!(until(SOON, || !refusals().is_empty()), "{}", server.process.stderr.text());
        assert_eq!(refusals().len(), 1, "{format}: {:?}", refusals());
        let text = server.process.stderr.text();
        assert!(!text.contains(['\u{1b}', '\u{202e}', '\u{2028}']), "{format}: {text:?}");
        for line in server.process.stderr.all() {
            assert!(!line.starts_with("{\"level\":\"FORGED"), "{line}");
            if format == "json" && !line.starts_with("ready ") {
                let line: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
                assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
            }
        }
    }
}

#[test]
fn a_tcp_health_check_leaves_no_trace_and_a_client_that_says_nothing_useful_does() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&config(&backend, "text").admin());
    for _ in 0..20 {
        drop(TcpStream::connect(server.address()).unwrap());
    }
    let mut client = ClientSpec::new(&world.pki).connect(server.address());
    client.echo(b"x").unwrap();
    server.audit_of(client.address, "accepted");
    let reset = Client::connect(&ClientSpec::anonymous(&world.pki).build(), SERVER_NAME, server.address()).echo(b"x");
    assert!(reset.is_err());
    let told = |what: &str| server.process.stderr.all().iter().filter(|line| line.contains(what)).count();
    assert!(until(SOON, || told("no_cert") == 1), "{}", server.process.stderr.text());
    assert_eq!(told("refused"), 1, "{}", server.process.stderr.text());
    let refused = || server.audit().into_iter().filter(|line| line["event"] == "refused").count();
    assert!(until(SOON, || refused() >= 1), "{:?}", server.audit());
    assert_eq!(refused(), 1, "{:?}", server.audit());
    let failures: f64 = {
        let admin = server.ready_value("admin").unwrap().parse().unwrap();
        let text = crate::world::http::get(admin, "/metrics").1;
        let of = |line: &&str| line.starts_with("countersign_handshake_failures_total");
        text.lines().filter(of).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    };
    assert_eq!(failures, 1.0);
}

#[test]
fn a_flood_of_refusals_is_summed_up_and_each_line_says_what_to_do() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&config(&backend, "text"));
    let anonymous = ClientSpec::anonymous(&world.pki).build();
    for _ in 0..300 {
        assert!(Client::connect(&anonymous, SERVER_NAME, server.address()).echo(b"x").is_err());
    }
    let refusals = || -> Vec<String> {
        server.process.stderr.all().into_iter().filter(|line| line.contains("reason=no_cert")).collect()
    };
    assert!(until(SOON, || !refusals().is_empty()), "{}", server.process.stderr.text());
    let lines = refusals();
    assert!(lines.iter().all(|line| line.contains("give the client its certificate")), "{:?}", lines.first());
}

#[test]
fn a_log_that_nobody_reads_holds_up_no_client_and_not_the_end() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let config = config(&backend, "text").admin().write(world.path());
    let unread = world.write("unread", "");
    // Whoever reads the log stops after the `ready` line, and keeps it open.
    let script = format!(
        "exec 3>&2; {{ '{}' run -c '{}' 2>&1 >/dev/null & echo $! >pid; wait $!; }} | \
         {{ while read -r line; do echo \"$line\" >&3; case $line in ready*) break; esac; done; while [ -e unread ]; do sleep 0.1; done; }}",
        crate::world::server::binary().display(),
        config.display()
    );
    let mut shell = std::process::Command::new("sh");
    let server = Server::from_command(world.path(), shell.current_dir(world.path()).args(["-c", &script]));
    // More than a pipe holds.
    let why = "w".repeat(480);
    for number in 0..180 {
        server.ctl_done(&["block", "--identity", &format!("cn:nobody-{number}"), "--why", &why]);
    }
    for _ in 0..20 {
        assert!(ClientSpec::anonymous(&world.pki).connect(server.address()).echo(b"x").is_err());
        ClientSpec::new(&world.pki).connect(server.address()).echo(b"x").unwrap();
    }
    server.ctl_done(&["status"]);
    let pid = std::fs::read_to_string(world.path().join("pid")).unwrap();
    assert!(std::process::Command::new("kill").args(["-TERM", pid.trim()]).status().unwrap().success(), "it is gone");
    let place = std::path::Path::new("/proc").join(pid.trim());
    assert!(until(SOON, || !place.exists()), "it waits for its log");
    std::fs::remove_file(unread).unwrap();
}
