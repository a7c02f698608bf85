//! The audit cannot be forged by what clients send, can be rotated, and does what was asked where it cannot be written.

use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::{Client, ClientSpec};
use crate::world::config::ConfigText;
use crate::world::http::{get, try_get};
use crate::world::pki::{LeafSpec, SERVER_NAME};
use crate::world::server::{Server, audit_lines, binary};
use crate::world::wait::{SOON, uninterrupted, until};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn names_with_quotes_commas_and_newlines_cannot_forge_a_line() {
    let world = World::new();
    let (server, _backend) = world.serve_before(echo());
    let hostile = "x\",\"decision\":\"admit\"}\n{\"event\":\"forged\",O=Bank\u{1b}[2J\\";
    let nasty = world.pki.client_ca.leaf(&LeafSpec::client(hostile));
    let mut client = ClientSpec::with(&world.pki, &nasty).connect(server.address());
    client.echo(b"x").unwrap();
    let line = server.audit_of(client.address, "accepted");
    let lines = server.audit();
    assert!(lines.iter().all(|line| line["event"] != "forged"), "{lines:?}");
    for text in [line["identity"].as_str().unwrap(), line["cert"]["subject"].as_str().unwrap()] {
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
    let log = server.process.stderr.text();
    assert!(!log.contains('\u{1b}'), "{log:?}");
}

#[test]
fn a_very_long_name_does_not_break_anything() {
    let world = World::new();
    let (server, _backend) = world.serve_before(echo());
    let long = world.pki.client_ca.leaf(&LeafSpec::client(&"n".repeat(4096)).uri(&format!("urn:{}", "u".repeat(4096))));
    let mut client = ClientSpec::with(&world.pki, &long).connect(server.address());
    client.echo(b"x").unwrap();
    server.audit_of(client.address, "accepted");
}

#[test]
fn sigusr1_opens_the_file_anew() {
    let world = World::new();
    let (server, _backend) = world.serve_before(echo());
    let spec = ClientSpec::new(&world.pki);
    let mut first = spec.connect(server.address());
    first.echo(b"x").unwrap();
    server.audit_of(first.address, "accepted");
    let (file, moved) = (world.path().join("audit.jsonl"), world.path().join("audit.1"));
    std::fs::rename(&file, &moved).unwrap();
    server.process.signal("USR1");
    assert!(until(SOON, || file.exists()), "no new file");
    let mut second = spec.connect(server.address());
    second.echo(b"x").unwrap();
    server.audit_of(second.address, "accepted");
    let old = audit_lines(&moved);
    assert!(old.iter().all(|line| line["client"] != second.address.to_string()), "{old:?}");
    drop((first, second));
    assert_eq!(server.stop(), 0);
}

#[test]
fn it_goes_to_standard_output_when_told() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let mut config = ConfigText::new(&backend.server);
    config.audit = Some("path = \"-\"".to_owned());
    let server = world.serve(&config);
    let mut client = ClientSpec::new(&world.pki).connect(server.address());
    client.echo(b"x").unwrap();
    let address = client.address.to_string();
    let told = until(SOON, || server.process.stdout.all().iter().any(|line| line.contains(&address)));
    assert!(told, "{}", server.process.stdout.text());
    for line in server.process.stdout.all() {
        assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{line}");
    }
}

#[test]
fn where_it_cannot_be_written_drop_goes_on_and_refuse_does_not() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let spec = ClientSpec::new(&world.pki);
    let mut config = ConfigText::new(&backend.server).admin();
    config.audit = Some("path = \"/dev/full\"\non_full = \"drop\"".to_owned());
    let server = world.serve(&config);
    for _ in 0..5 {
        spec.connect(server.address()).echo(b"x").unwrap();
    }
    // What could not be written until the end is lost, and that is said.
    assert!(until(SOON, || server.process.stderr.text().contains("/dev/full")), "{}", server.process.stderr.text());
    drop(server);

    config.audit = Some("path = \"/dev/full\"\non_full = \"refuse\"".to_owned());
    let server = world.serve(&config);
    let admin = server.ready_value("admin").unwrap().parse().unwrap();
    let refused = until(SOON, || {
        // It may be reset before the connection is seen to be made.
        let Ok(tcp) = TcpStream::connect_timeout(&server.address(), SOON) else { return true };
        let mut client = Client::over(tcp, &spec.build(), SERVER_NAME);
        client.patience(Duration::from_secs(2));
        client.echo(b"x").is_err()
    });
    assert!(refused, "it serves without an audit");
    assert!(until(SOON, || try_get(admin, "/readyz").is_some_and(|(status, _)| status == 503)));
}

#[test]
fn a_slow_reader_of_the_audit_does_not_hold_the_data_up() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let fifo = world.path().join("audit.fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    // Held open for reading and never read: the pipe fills, and then the writer waits.
    let reader = std::fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
    let mut config = ConfigText::new(&backend.server);
    config.audit = Some("path = \"audit.fifo\"".to_owned());
    config.runtime = "drain_timeout = \"2s\"".to_owned();
    let server = world.serve(&config);
    let spec = ClientSpec::new(&world.pki).build();
    for _ in 0..300 {
        let mut client = Client::connect(&spec, SERVER_NAME, server.address());
        client.echo(b"x").unwrap();
        client.close_notify();
        client.read_to_end();
    }
    drop(server);
    drop(reader);
}

#[test]
fn a_file_that_may_not_grow_ends_nothing_and_another_one_takes_over_where_it_stopped() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let config = ConfigText::new(&backend.server).admin().write(world.path());
    let server = Server::start_limited(world.path(), &config, "--fsize=8192");
    let spec = ClientSpec::new(&world.pki);
    let full = until(SOON, || {
        spec.connect(server.address()).echo(b"x").unwrap();
        server.process.stderr.text().contains("the audit cannot be written")
    });
    assert!(full, "{}", server.process.stderr.text());
    let mut last = spec.connect(server.address());
    last.echo(b"x").unwrap();
    let (file, moved) = (world.path().join("audit.jsonl"), world.path().join("audit.1"));
    std::fs::rename(&file, &moved).unwrap();
    server.process.signal("USR1");
    server.audit_of(last.address, "accepted");
    let cut = std::fs::read_to_string(&moved).unwrap();
    let whole = cut.rsplit_once('\n').unwrap().0;
    let (old, new) = (whole.lines().count(), server.audit().len());
    assert!(old > 0 && new > 0, "{old} lines, then {new}");
    // The line that was cut short in the full file stands whole in the other: none is lost.
    let admin = server.ready_value("admin").unwrap().parse().unwrap();
    assert!(get(admin, "/metrics").1.contains("countersign_audit_dropped_total 0\n"));
}

/// Connections that are refused at once, until `enough`.
fn flood(address: SocketAddr, enough: impl Fn() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(120);
    while Instant::now() < end {
        for _ in 0..500 {
            let Ok(mut stream) = TcpStream::connect(address) else { continue };
            // The answer does not matter, and a reset keeps no port.
            let _ = stream.write_all(b"GET / HTTP/1.0\r\n\r\n");
            let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
        if enough() {
            return true;
        }
    }
    false
}

#[test]
#[ignore = "fills a queue of 16384 records twice: half a minute"]
fn under_load_a_blocked_pipe_and_a_full_disk_cost_lines_that_are_counted_and_nothing_else() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let fifo = world.path().join("audit.fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    // Held open for reading and never read.
    let reader = std::fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
    for (path, on_full) in [("audit.fifo", "drop"), ("/dev/full", "drop"), ("audit.fifo", "refuse")] {
        let mut config = ConfigText::new(&backend.server).admin();
        config.audit = Some(format!("path = \"{path}\"\non_full = \"{on_full}\""));
        config.runtime = "drain_timeout = \"2s\"".to_owned();
        let mut server = world.serve(&config);
        let admin: SocketAddr = server.ready_value("admin").unwrap().parse().unwrap();
        let spec = ClientSpec::new(&world.pki);
        let mut open = spec.connect(server.address());
        open.echo(b"before").unwrap();
        let dropped = || {
            let text = get(admin, "/metrics").1;
            let line = text.lines().find_map(|line| line.strip_prefix("countersign_audit_dropped_total ")).unwrap();
            line.parse::<u64>().unwrap()
        };
        let unready = || try_get(admin, "/readyz").is_some_and(|(status, _)| status == 503);
        match on_full {
            "drop" => assert!(flood(server.address(), || dropped() > 100), "{path}: nothing was dropped"),
            _ => assert!(flood(server.address(), unready), "{path}: still ready"),
        }
        open.echo(b"what is open goes on").unwrap();
        // Who is refused may be reset before the connection is known to stand.
        let served = TcpStream::connect(server.address()).is_ok_and(|tcp| {
            let mut new = Client::over(tcp, &spec.build(), SERVER_NAME);
            new.patience(Duration::from_secs(5));
            new.echo(b"new").is_ok()
        });
        assert_eq!(served, on_full == "drop", "{path} {on_full}");
        drop(open);
        server.process.signal("TERM");
        server.wait_exit(SOON);
        assert!(server.process.stderr.text().contains("audit lines are lost"), "{}", server.process.stderr.text());
    }
    drop(reader);
}

#[test]
fn the_journal_gets_each_line_as_an_entry_with_fields() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let journal = world.path().join("journal");
    std::fs::create_dir(&journal).unwrap();
    let mut config = ConfigText::new(&backend.server);
    config.audit = Some("path = \"journald\"".to_owned());
    let config = config.write(world.path());
    // The journal's place is fixed: a mount namespace of the server's own has another there.
    let in_namespace = |journal: bool| {
        let link = if journal { "ln -s \"$0/journal\" /run/systemd/journal &&" } else { "" };
        let script = format!("mount -t tmpfs tmpfs /run && mkdir /run/systemd && {link} exec \"$1\" run -c \"$2\"");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script]).arg(world.path()).arg(binary()).arg(&config);
        command.current_dir(world.path()).env_remove("NOTIFY_SOCKET");
        command
    };
    let allowed = Command::new("unshare").args(["--mount", "mount", "-t", "tmpfs", "tmpfs", "/run"]).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        println!("skipped: a mount namespace needs root");
        return;
    }
    let absent = crate::world::process::run(&mut in_namespace(false));
    assert_eq!(absent.code, Some(71), "{}", absent.text());
    assert!(absent.text().contains("start systemd-journald, or name a file"), "{}", absent.text());

    let listening = UnixDatagram::bind(journal.join("socket")).unwrap();
    listening.set_read_timeout(Some(SOON)).unwrap();
    let server = Server::from_command(world.path(), &mut in_namespace(true));
    let mut client = ClientSpec::new(&world.pki).connect(server.address());
    client.echo(b"x").unwrap();
    let mut entry = vec![0; 256 << 10];
    let told = loop {
        let length = uninterrupted(|| listening.recv(&mut entry)).expect("no entry of the client");
        let text = String::from_utf8_lossy(&entry[..length]).into_owned();
        if text.contains("COUNTERSIGN_EVENT=accepted\n") {
            break text;
        }
    };
    let field = |name: &str| {
        let value = told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_else(|| panic!("no {name} in {told}")).to_owned()
    };
    let line: serde_json::Value = serde_json::from_str(&field("MESSAGE")).unwrap();
    assert_eq!(line["client"], client.address.to_string());
    assert_eq!(field("COUNTERSIGN_IDENTITY"), line["identity"].as_str().unwrap());
    assert_eq!(field("SYSLOG_IDENTIFIER"), "countersign");
    drop(client);
    assert_eq!(server.stop(), 0);
}
