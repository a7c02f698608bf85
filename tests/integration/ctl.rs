//! The admin socket and `countersign ctl`.

use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::{Client, ClientSpec, TLS12, TLS13, Tickets};
use crate::world::config::ConfigText;
use crate::world::pki::{CLIENT_IDENTITY, Ca, LeafSpec, SERVER_NAME};
use crate::world::process::run;
use crate::world::server::{Server, command};
use crate::world::wait::{SOON, until};
use serde_json::json;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use time::OffsetDateTime;

fn served() -> (World, Server, Backend) {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&ConfigText::new(&backend.server).admin());
    (world, server, backend)
}

#[test]
fn the_socket_is_for_its_owner_alone_and_gone_when_the_server_ends() {
    let (world, server, _backend) = served();
    let socket = world.path().join("admin.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(server.stop(), 0);
    assert!(!socket.exists());
}

#[test]
fn status_tells_what_the_page_tells() {
    let (world, server, _backend) = served();
    let mut open = ClientSpec::new(&world.pki).connect(server.address());
    open.echo(b"x").unwrap();
    let status = server.ctl_json(&["status"]);
    assert_eq!(status["state"], "ready");
    assert_eq!(status["listeners"][0]["connections"], 1, "{status}");
    let text = server.ctl_done(&["status"]);
    for part in ["ready", "listener public on 127.0.0.1:", "1 connections", "backend ledger"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn options_stand_on_either_side_and_the_socket_is_found_three_ways() {
    let (world, server, _backend) = served();
    let socket = world.path().join("admin.sock").display().to_string();
    let config = world.path().join("countersign.toml").display().to_string();
    let found = [
        vec!["ctl", "--socket", &socket, "status"],
        vec!["ctl", "status", "--socket", &socket],
        vec!["ctl", "-c", &config, "status", "--json"],
        vec!["ctl", "--json", "status", "-c", "countersign.toml"],
        vec!["ctl", "--socket", &socket, "-c", "/nonexistent.toml", "status"],
    ];
    for arguments in found {
        let output = run(command(world.path()).args(&arguments));
        assert_eq!(output.code, Some(0), "{arguments:?}: {}", output.text());
        assert!(output.stdout.contains("ready"), "{arguments:?}: {}", output.text());
    }
    drop(server);
}

#[test]
fn without_a_server_it_exits_69_and_says_what_to_try() {
    let (world, server, _backend) = served();
    let socket = world.path().join("admin.sock");
    drop(server); // killed: its socket stays behind
    assert!(socket.exists());
    for path in [socket.as_path(), &world.path().join("none.sock")] {
        let output = run(command(world.path()).args(["ctl", "status", "--socket"]).arg(path));
        assert_eq!(output.code, Some(69), "{}", output.text());
        assert!(output.stderr.contains("--socket"), "{}", output.stderr);
    }
    assert_eq!(run(command(world.path()).args(["ctl", "explode"])).code, Some(64));
    assert_eq!(run(command(world.path()).args(["ctl", "block"])).code, Some(64));
    assert_eq!(run(command(world.path()).args(["ctl", "backend", "ledger", "127.0.0.1:9", "off"])).code, Some(64));
}

#[test]
fn a_socket_left_by_a_killed_server_gives_way_and_that_of_a_live_one_does_not() {
    let (world, server, backend) = served();
    let second = run(command(world.path()).args(["run", "-c", "countersign.toml"]));
    assert_eq!(second.code, Some(69), "{}", second.text());
    assert!(second.stderr.contains("admin.sock"), "{}", second.stderr);
    server.ctl_done(&["status"]);
    drop(server);
    let server = world.serve(&ConfigText::new(&backend.server).admin());
    server.ctl_done(&["status"]);
}

#[test]
fn a_server_whose_usual_socket_has_no_directory_runs_without_one() {
    if std::path::Path::new("/run/countersign").exists() {
        println!("skipped: /run/countersign is there");
        return;
    }
    let world = World::new();
    let backend = Backend::tcp(echo());
    let mut config = ConfigText::new(&backend.server);
    config.admin = Some("http = \"127.0.0.1:0\"".to_owned());
    let server = world.serve(&config);
    let told = || server.process.stderr.all().iter().any(|line| line.contains("no admin socket"));
    assert!(until(SOON, told), "{}", server.process.stderr.text());
    config.admin = Some("socket = \"missing/admin.sock\"\nhttp = \"\"".to_owned());
    config.write(world.path());
    let output = run(command(world.path()).args(["run", "-c", "countersign.toml"]));
    assert_eq!(output.code, Some(78), "one that was asked for is missed: {}", output.text());
}

#[test]
fn nonsense_on_the_socket_hurts_nobody() {
    let (world, server, _backend) = served();
    let mut silent = Vec::new();
    for bytes in [&b"\n"[..], b"{}\n", b"\0\0\0\n", b"{\"command\":\"reload\"", &vec![b'x'; 1 << 20]] {
        let mut stream = UnixStream::connect(world.path().join("admin.sock")).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        // The server may have closed before all of it is written.
        let _ = stream.write_all(bytes);
        if bytes.ends_with(b"\n") {
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            assert!(answer.contains("\"ok\":false"), "{answer}");
        } else {
            silent.push(stream);
        }
    }
    server.ctl_done(&["status"]);
    assert!(!server.audit().iter().any(|line| line["event"] == "reload"), "half a request is none");
}

#[test]
fn explain_asks_the_running_server_with_its_blocks() {
    let (world, server, _backend) = served();
    let offline = run(command(world.path()).args(["explain", "-c", "countersign.toml", "client.pem"]));
    let online = server.ctl(&["explain", "client.pem"]);
    assert_eq!((offline.code, online.code), (Some(0), Some(0)), "{}", online.text());
    let bare = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with("at ") && !line.contains("blocks"));
        lines.collect::<Vec<_>>().join("\n")
    };
    assert_eq!(bare(&offline.stdout), bare(&online.stdout));
    server.ctl_done(&["block", "--identity", CLIENT_IDENTITY]);
    let blocked = server.ctl(&["explain", "client.pem"]);
    assert_eq!(blocked.code, Some(1), "{}", blocked.text());
    assert!(blocked.stdout.contains("identity_blocked"), "{}", blocked.text());
    let json = server.ctl_json(&["explain", "client.pem"]);
    assert_eq!((&json["admitted"], &json["reason"]), (&json!(false), &json!("identity_blocked")), "{json}");
    // The file on disk has changed, the server has not been told.
    world.write("clients-ca.pem", &Ca::root("Another").pem);
    server.ctl_done(&["unblock", "--identity", CLIENT_IDENTITY]);
    assert_eq!(server.ctl(&["explain", "client.pem"]).code, Some(0));
    server.ctl_done(&["reload"]);
    let json = server.ctl_json(&["explain", "client.pem"]);
    assert_eq!(json["reason"], "unknown_issuer", "{json}");
    assert_eq!(server.ctl(&["explain", "--listener", "none", "client.pem"]).code, Some(1));
}

#[test]
fn refusals_are_remembered_without_an_audit_too() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let mut config = ConfigText::new(&backend.server).admin();
    config.audit = None;
    let server = world.serve(&config);
    let stranger = Ca::root("Strangers").leaf(&LeafSpec::client("stranger").uri("spiffe://elsewhere/stranger"));
    assert!(ClientSpec::with(&world.pki, &stranger).connect(server.address()).echo(b"x").is_err());
    assert!(ClientSpec::anonymous(&world.pki).connect(server.address()).echo(b"x").is_err());
    ClientSpec::new(&world.pki).connect(server.address()).echo(b"x").unwrap();
    let reasons = |arguments: &[&str]| {
        let list = server.ctl_json(&[&["refusals"], arguments].concat());
        // Two workers may hand theirs in in any order.
        let mut reasons: Vec<_> =
            list.as_array().unwrap().iter().map(|one| one["reason"].as_str().unwrap().to_owned()).collect();
        reasons.sort();
        reasons
    };
    assert!(until(SOON, || reasons(&[]) == ["no_cert", "unknown_issuer"]), "{:?}", reasons(&[]));
    assert_eq!(reasons(&["--sha256", &stranger.sha256()]), ["unknown_issuer"]);
    assert_eq!(reasons(&["--identity", "uri:spiffe://elsewhere/stranger"]), ["unknown_issuer"]);
    assert_eq!(reasons(&["--client", "127.0.0.1", "--last", "1h"]), ["no_cert", "unknown_issuer"]);
    assert_eq!(reasons(&["--client", "192.0.2.1"]), [""; 0]);
    let text = server.ctl_done(&["refusals", "--last", "1h"]);
    for part in ["unknown_issuer", "CN=stranger", "Strangers", &stranger.sha256(), "no_cert"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!world.path().join("audit.jsonl").exists());
}

#[test]
fn sessions_and_identities_list_who_is_connected() {
    let (world, server, _backend) = served();
    let other = world.pki.client_ca.leaf(&LeafSpec::client("other"));
    let open = |spec: ClientSpec| {
        let mut client = spec.connect(server.address());
        client.echo(b"x").unwrap();
        client
    };
    let clients: Vec<Client> = (0..6).map(|_| open(ClientSpec::new(&world.pki))).collect();
    let single = open(ClientSpec::with(&world.pki, &other));
    let list = server.ctl_json(&["sessions"]);
    assert_eq!(list["connections"], 7, "{list}");
    let of_one = server.ctl_json(&["sessions", "--identity", "cn:other"]);
    assert_eq!(of_one["connections"], 1, "{of_one}");
    let session = &of_one["sessions"][0];
    assert_eq!(session["client"], single.address.to_string(), "{session}");
    assert_eq!((&session["site"], &session["listener"]), (&json!("payments"), &json!("public")), "{session}");
    let line = server.audit_of(single.address, "accepted");
    assert_eq!(session["conn_id"], line["conn_id"], "the audit knows it by the same name");
    let identities = server.ctl_json(&["identities"]);
    let told: Vec<_> = identities["identities"].as_array().unwrap().iter().collect();
    let counts: Vec<_> = told.iter().map(|one| (&one["identity"], &one["connections"])).collect();
    assert_eq!(counts, [(&json!("cn:other"), &json!(1)), (&json!(CLIENT_IDENTITY), &json!(6))]);
    assert_eq!(told[0]["sha256"], other.sha256(), "{}", told[0]);
    assert!(server.ctl_done(&["sessions"]).contains(CLIENT_IDENTITY));
    drop(clients);
    assert!(until(SOON, || server.ctl_json(&["identities"])["identities"].as_array().unwrap().len() == 1));
}

#[test]
fn who_has_not_renewed_is_named_connected_or_not_until_the_old_certificate_was_replaced() {
    let (world, server, _backend) = served();
    let now = OffsetDateTime::now_utc();
    let visit = |name: &str, days: i64| {
        let spec = LeafSpec::client(name).valid(now - time::Duration::DAY, now + time::Duration::days(days));
        let leaf = world.pki.client_ca.leaf(&spec);
        ClientSpec::with(&world.pki, &leaf).connect(server.address()).echo(b"x").unwrap();
        leaf
    };
    let late = visit("late", 5);
    visit("early", 300);
    visit("middle", 20);
    let names = |within: &str| -> Vec<String> {
        let list = server.ctl_json(&["identities", "--expiring", within]);
        assert_eq!(list["seen"], 3, "{list}");
        list["identities"].as_array().unwrap().iter().map(|one| one["identity"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("1d"), [""; 0]);
    assert_eq!(names("14d"), ["cn:late"]);
    assert_eq!(names("30d"), ["cn:late", "cn:middle"]);
    let entry = &server.ctl_json(&["identities", "--expiring", "14d"])["identities"][0];
    assert_eq!(entry["sha256"], late.sha256(), "{entry}");
    let text = server.ctl_done(&["identities", "--expiring", "14d"]);
    assert!(text.contains("cn:late") && text.contains("1 of 3 clients"), "{text}");
    // Another host may still have the old one: a new certificate does not take it off the list at once.
    visit("late", 300);
    assert_eq!(names("14d"), ["cn:late"]);
}

#[test]
fn a_new_ticket_key_opens_the_tickets_of_as_many_before_it_as_are_kept() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&ConfigText::new(&backend.server).admin().tickets("keep = 1"));
    for versions in [TLS12, TLS13] {
        let config = ClientSpec::new(&world.pki).versions(versions).tickets(&Tickets::new()).build();
        let visit = || {
            let mut client = Client::connect(&config, SERVER_NAME, server.address());
            client.echo(b"ping").unwrap();
            client.resumed()
        };
        assert!(!visit());
        server.ctl_done(&["tickets", "rotate"]);
        assert!(visit(), "the key before is kept");
        server.ctl_done(&["tickets", "rotate"]);
        server.ctl_done(&["tickets", "rotate"]);
        assert!(!visit(), "two keys later it is gone");
    }
    server.wait_audit(|line| line["event"] == "admin" && line["command"] == "tickets rotate");
}

#[test]
fn drain_is_sigterm_with_a_time_of_its_own() {
    let (world, mut server, _backend) = served();
    let mut open = ClientSpec::new(&world.pki).connect(server.address());
    open.echo(b"x").unwrap();
    let told = server.ctl_done(&["drain", "700ms"]);
    assert!(told.contains("1 connections"), "{told}");
    open.echo(b"still here").unwrap();
    assert!(until(SOON, || std::net::TcpStream::connect(server.address()).is_err()), "accepting has stopped");
    let again = server.ctl(&["drain"]);
    assert!(matches!(again.code, Some(1 | 69)), "{}", again.text());
    assert_eq!(server.wait_exit(SOON), 1, "the connection was cut");
    let admin = server.wait_audit(|line| line["event"] == "admin");
    assert_eq!(admin["command"], "drain 700ms", "{admin}");
}

#[test]
fn drain_without_connections_ends_at_once_and_well() {
    let (_world, mut server, _backend) = served();
    server.ctl_done(&["drain"]);
    assert_eq!(server.wait_exit(SOON), 0);
}
