//! Backend servers that are checked, go and come back, and those that an operator takes out.

use crate::world::World;
use crate::world::backend::{Backend, echo, refusing_address, swallow};
use crate::world::client::{Client, ClientSpec};
use crate::world::config::ConfigText;
use crate::world::server::Server;
use crate::world::wait::{SOON, until};

const QUICK: &str = "[backend.health]\ninterval = \"50ms\"\ntimeout = \"2s\"\nrise = 2\nfall = 2";

fn config(servers: &[&str], lines: &str) -> ConfigText {
    let mut config = ConfigText::new(servers[0]).backend(lines).admin();
    config.backends[0].servers = servers.iter().map(|server| (*server).to_owned()).collect();
    config
}

fn connect(world: &World, server: &Server) -> Client {
    let mut client = ClientSpec::new(&world.pki).connect(server.address());
    client.handshake().unwrap();
    client
}

fn is_up(server: &Server, backend: &str) -> bool {
    server.metric(&format!("countersign_backend_up{{backend=\"ledger\",server=\"{backend}\"}}")) == 1.0
}

#[test]
fn a_server_is_found_down_without_a_client_and_up_again_without_a_restart() {
    let world = World::new();
    let backend = Backend::unix(world.path(), echo());
    let name = backend.server.clone();
    let server = world.serve(&config(&[&name], QUICK));
    connect(&world, &server).echo(b"before").unwrap();
    assert!(is_up(&server, &name));
    for round in 0..2 {
        // Killed: nobody listens any more.
        std::fs::remove_file(world.path().join("backend.sock")).unwrap();
        assert!(until(SOON, || !is_up(&server, &name)), "round {round}");
        let mut client = connect(&world, &server);
        assert!(client.echo(b"x").is_err());
        let line = server.audit_of(client.address, "closed");
        assert_eq!(line["close_reason"], "backend_unavailable", "{line}");
        let _back = Backend::unix(world.path(), echo());
        assert!(until(SOON, || is_up(&server, &name)), "round {round}");
        connect(&world, &server).echo(b"again").unwrap();
        if round == 0 {
            // For the next round to end as this one began.
            std::mem::forget(_back);
        }
    }
    server.logged("backend server is down, and it was the last", 2);
    server.logged("backend server is up again", 2);
    drop(backend);
}

#[test]
fn a_server_that_is_down_is_not_tried_while_another_is_up() {
    let world = World::new();
    let (held, away) = refusing_address();
    let backend = Backend::tcp(echo());
    let server = world.serve(&config(&[&away, &backend.server], &format!("balance = \"round_robin\"\n{QUICK}")));
    assert!(until(SOON, || !is_up(&server, &away)));
    let failures = format!("countersign_backend_connect_failures_total{{backend=\"ledger\",server=\"{away}\"}}");
    let before = server.metric(&failures);
    for _ in 0..10 {
        connect(&world, &server).echo(b"x").unwrap();
    }
    assert_eq!(server.metric(&failures), before);
    let status = server.ctl_json(&["status"]);
    assert_eq!(
        (&status["backends"][0]["servers"][0]["up"], &status["backends"][0]["servers"][1]["up"]),
        (&false.into(), &true.into())
    );
    held.listen(64).unwrap();
    assert!(until(SOON, || is_up(&server, &away)));
}

#[test]
fn a_server_behind_the_proxy_protocol_gets_a_header_that_says_that_nobody_is_there() {
    let world = World::new();
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for (protocol, header) in [("v2", &local[..]), ("v1", b"PROXY UNKNOWN\r\n"), ("off", b"")] {
        let backend = Backend::tcp(swallow());
        let _server = world.serve(&config(&[&backend.server], &format!("proxy_protocol = \"{protocol}\"\n{QUICK}")));
        assert!(until(SOON, || backend.connections() > 1));
        assert_eq!(backend.wait_end(0).received, header, "{protocol}");
    }
}

#[test]
fn an_operator_drains_a_server_and_brings_it_back() {
    let world = World::new();
    let (one, two) = (Backend::tcp(echo()), Backend::tcp(echo()));
    let text = config(&[&one.server, &two.server], "balance = \"round_robin\"");
    let server = world.serve(&text);
    let mut held: Vec<Client> = (0..8).map(|_| connect(&world, &server)).collect();
    held.iter_mut().for_each(|client| client.echo(b"open").unwrap());
    let spread = (one.connections(), two.connections());
    assert!(spread.0 > 0 && spread.1 > 0, "{spread:?}");
    for state in ["drain", "down"] {
        let told = server.ctl_done(&["backend", "ledger", &one.server, state]);
        assert!(told.contains(&format!("{} stay", spread.0)), "{told}");
        // The reload changes nothing of it.
        server.ctl_done(&["reload"]);
        let before = one.connections();
        (0..8).for_each(|_| connect(&world, &server).echo(b"elsewhere").unwrap());
        assert_eq!(one.connections(), before);
        held.iter_mut().for_each(|client| client.echo(b"still open").unwrap());
        assert!(!is_up(&server, &one.server));
        let status = server.ctl_json(&["status"]);
        assert_eq!(status["backends"][0]["servers"][0]["state"], state, "{status}");
    }
    let line =
        server.wait_audit(|line| line["event"] == "admin" && line["command"].as_str().unwrap().ends_with(" drain"));
    assert_eq!(line["command"], format!("backend ledger {} drain", one.server), "{line}");
    let last = server.ctl_json(&["backend", "ledger", &two.server, "down"]);
    assert_eq!((&last["state"], &last["servers_left"]), (&"down".into(), &0.into()), "{last}");
    assert!(connect(&world, &server).echo(b"nobody").is_err());
    server.ctl_done(&["backend", "ledger", &one.server, "ready"]);
    connect(&world, &server).echo(b"back").unwrap();
    assert!(is_up(&server, &one.server));
}

#[test]
fn a_server_that_is_not_there_is_refused_by_name() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&config(&[&backend.server], ""));
    for (arguments, named) in [
        (["backend", "lodger", "127.0.0.1:1", "drain"], "ledger"),
        (["backend", "ledger", "127.0.0.1:1", "drain"], &*backend.server),
    ] {
        let output = server.ctl(&arguments);
        assert_eq!(output.code, Some(1), "{}", output.text());
        assert!(output.stderr.contains(named), "{}", output.text());
    }
}
