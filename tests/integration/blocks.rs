//! `ctl block`: from the moment it is answered a client gets in no more, fresh or resumed, and what it has open ends
//! within a second, on every worker; until `unblock`, or until the time is over.

use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::{Client, ClientSpec, Ending, TLS12, TLS13, Tickets};
use crate::world::config::ConfigText;
use crate::world::pki::{CLIENT_IDENTITY, Credential, LeafSpec, SERVER_NAME};
use crate::world::process::run;
use crate::world::server::{Server, command};
use crate::world::wait::{SOON, slowness, until};
use std::time::{Duration, Instant};

/// Connections of each client: enough to be on both workers.
const EACH: usize = 12;
/// What the contract allows from the answer to the end of a connection, and what a busy test machine may add.
fn at_once() -> Duration {
    Duration::from_millis(1000) + Duration::from_millis(1500) * slowness()
}

/// A server with an admin socket before an echo, and a client beside the standard one.
struct Served {
    world: World,
    backend: Backend,
    config: ConfigText,
    other: Credential,
}

impl Served {
    fn new() -> Served {
        let world = World::new();
        let backend = Backend::tcp(echo());
        let config = ConfigText::new(&backend.server).admin();
        let other = world.pki.client_ca.leaf(&LeafSpec::client("other").serial(0x77));
        Served { world, backend, config, other }
    }

    fn with_state(mut self) -> Served {
        self.config = self.config.runtime("state_dir = \"state\"");
        self
    }

    fn start(&self) -> Server {
        self.world.serve(&self.config)
    }

    /// Every selector that names the standard client.
    fn selectors(&self) -> Vec<Vec<String>> {
        let client = &self.world.pki.client;
        let pairs = [
            vec!["--serial", "03A5B1"],
            vec!["--serial", "3:a5:b1", "--issuer", "CN=Test client CA"],
            vec!["--sha256", &client.sha256()],
            vec!["--spki", &client.spki_sha256().to_uppercase()],
            vec!["--identity", CLIENT_IDENTITY],
        ]
        .map(|words| words.into_iter().map(str::to_owned).collect());
        pairs.to_vec()
    }
}

fn args<'a>(command: &'a str, selector: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    [&[command], &selector.iter().map(String::as_str).collect::<Vec<_>>()[..], more].concat()
}

fn opened(server: &Server, spec: &ClientSpec, number: usize) -> Vec<Client> {
    let open = |_| {
        let mut client = spec.connect(server.address());
        client.echo(b"open").unwrap();
        client
    };
    (0..number).map(open).collect()
}

/// How each connection ends, all of them before `at_latest`.
fn ends(clients: Vec<Client>, at_latest: Instant) -> Vec<Ending> {
    let end = |mut client: Client| {
        client.patience(at_latest.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)));
        client.read_to_end().1
    };
    clients.into_iter().map(end).collect()
}

#[test]
fn each_selector_ends_what_is_open_and_refuses_new_and_resumed_handshakes_until_unblocked() {
    let served = Served::new();
    let server = served.start();
    for selector in served.selectors() {
        for versions in [TLS12, TLS13] {
            let tickets = Tickets::new();
            let config = ClientSpec::new(&served.world.pki).versions(versions).tickets(&tickets).build();
            let visit = || {
                let mut client = Client::connect(&config, SERVER_NAME, server.address());
                client.echo(b"ping").map(|()| client.resumed())
            };
            assert_eq!(visit(), Ok(false));
            assert_eq!(visit(), Ok(true));
            let open = opened(&server, &ClientSpec::new(&served.world.pki).versions(versions), 2);
            let mut bystander = ClientSpec::with(&served.world.pki, &served.other).connect(server.address());
            bystander.echo(b"open").unwrap();

            server.ctl_done(&args("block", &selector, &[]));
            let blocked = Instant::now();
            assert_eq!(visit(), Err(Ending::Alert(49)), "{selector:?} {versions:?}: with a ticket");
            let mut fresh = ClientSpec::new(&served.world.pki).versions(versions).connect(server.address());
            assert_eq!(fresh.refusal(), Ending::Alert(49), "{selector:?} {versions:?}: a full handshake");
            let line = server.audit_of(fresh.address, "refused");
            assert_eq!(line["reason"], "identity_blocked", "{line}");
            assert_eq!(line["identity"], CLIENT_IDENTITY, "whom the block kept out: {line}");
            let addresses: Vec<_> = open.iter().map(|client| client.address).collect();
            assert_eq!(ends(open, blocked + at_once()), vec![Ending::CloseNotify; 2], "{selector:?} {versions:?}");
            for address in addresses {
                assert_eq!(server.audit_of(address, "closed")["close_reason"], "no_longer_admitted");
            }
            bystander.echo(b"still here").unwrap();
            ClientSpec::with(&served.world.pki, &served.other).connect(server.address()).echo(b"new").unwrap();

            server.ctl_done(&args("unblock", &selector, &[]));
            assert!(visit().is_ok(), "{selector:?} {versions:?}: unblocked");
        }
    }
    assert_eq!(server.ctl_json(&["blocked"]), serde_json::json!([]));
}

#[test]
fn a_block_ends_the_connections_of_every_worker_and_of_nobody_else() {
    let served = Served::new();
    let server = served.start();
    let blocked = opened(&server, &ClientSpec::new(&served.world.pki), EACH);
    let mut others = opened(&server, &ClientSpec::with(&served.world.pki, &served.other), EACH);
    server.ctl_done(&["block", "--identity", CLIENT_IDENTITY]);
    let at_latest = Instant::now() + at_once();
    // Also while the clients leave their sockets open.
    let listed = || server.ctl_json(&["sessions", "--identity", CLIENT_IDENTITY])["connections"] == 0;
    assert!(until(at_latest.saturating_duration_since(Instant::now()), listed));
    assert_eq!(ends(blocked, at_latest), vec![Ending::CloseNotify; EACH]);
    for other in &mut others {
        other.echo(b"still here").unwrap();
    }
    let ended = |line: &serde_json::Value| line["close_reason"] == "no_longer_admitted";
    assert!(until(SOON, || server.audit().iter().filter(|line| ended(line)).count() == EACH));
    let wrong = server.audit().into_iter().find(|line| ended(line) && line["identity"] != CLIENT_IDENTITY);
    assert_eq!(wrong, None);
}

#[test]
fn a_client_that_is_let_in_by_nobodys_certificate_is_not_touched_by_blocks() {
    let served = Served::new();
    let config = served.config.clone().client("auth = \"optional\"");
    let server = served.world.serve(&config);
    let mut anonymous = ClientSpec::anonymous(&served.world.pki).connect(server.address());
    anonymous.echo(b"open").unwrap();
    server.ctl_done(&["block", "--identity", CLIENT_IDENTITY]);
    let mut client = ClientSpec::new(&served.world.pki).connect(server.address());
    assert_eq!(client.refusal(), Ending::Alert(49), "a blocked client is not let in as an anonymous one");
    anonymous.echo(b"still here").unwrap();
}

#[test]
fn a_block_made_for_a_time_runs_out_by_itself() {
    let served = Served::new();
    let server = served.start();
    server.ctl_done(&["block", "--identity", CLIENT_IDENTITY, "--for", "1s"]);
    let visit = || ClientSpec::new(&served.world.pki).connect(server.address()).echo(b"x");
    assert_eq!(visit(), Err(Ending::Alert(49)));
    assert!(until(SOON, || visit().is_ok()), "it ran out");
    assert!(until(SOON, || server.metric("countersign_blocks") == 0.0), "and is off the list");
}

#[test]
fn a_block_survives_a_reload() {
    let served = Served::new();
    let server = served.start();
    server.ctl_done(&["block", "--identity", CLIENT_IDENTITY]);
    // With a change that touches every client, and one that touches none.
    for client in ["", "max_depth = 3"] {
        served.config.clone().client(client).write(served.world.path());
        server.ctl_done(&["reload"]);
        let mut client = ClientSpec::new(&served.world.pki).connect(server.address());
        assert_eq!(client.refusal(), Ending::Alert(49));
    }
}

#[test]
fn with_a_state_directory_a_block_survives_a_restart_and_so_does_its_end() {
    let served = Served::new().with_state();
    let server = served.start();
    let told = server.ctl_done(&["block", "--identity", CLIENT_IDENTITY, "--why", "lost laptop"]);
    assert!(!told.contains("restart"), "{told}");
    assert_eq!(server.stop(), 0);
    let server = served.start();
    let mut client = ClientSpec::new(&served.world.pki).connect(server.address());
    assert_eq!(client.refusal(), Ending::Alert(49));
    let blocked = server.ctl_json(&["blocked"]);
    assert_eq!(blocked[0]["why"], "lost laptop", "{blocked}");
    server.ctl_done(&["unblock", "--identity", CLIENT_IDENTITY]);
    drop(server); // killed: what was answered is on the disk
    let server = served.start();
    ClientSpec::new(&served.world.pki).connect(server.address()).echo(b"x").unwrap();
}

#[test]
fn without_a_state_directory_a_restart_forgets_and_the_answer_says_so() {
    let served = Served::new();
    let server = served.start();
    let told = server.ctl_done(&["block", "--identity", CLIENT_IDENTITY]);
    assert!(told.contains("a restart forgets the block"), "{told}");
    drop(server);
    let server = served.start();
    ClientSpec::new(&served.world.pki).connect(server.address()).echo(b"x").unwrap();
}

#[test]
fn blocks_that_cannot_be_understood_refuse_the_start() {
    let served = Served::new().with_state();
    std::fs::create_dir(served.world.path().join("state")).unwrap();
    served.world.write("state/blocks.json", "{\"version\":1,\"blocks\":[{\"identity\":\"cn:a\"");
    served.config.write(served.world.path());
    for subcommand in ["run", "check"] {
        let output = run(command(served.world.path()).args([subcommand, "-c", "countersign.toml"]));
        assert_eq!(output.code, Some(78), "{}", output.text());
        assert!(output.text().contains("blocks.json") && output.text().contains("move it away"), "{}", output.text());
    }
    assert_eq!(served.backend.connections(), 0);
}

#[test]
fn a_handshake_that_a_block_overtakes_is_turned_away() {
    let served = Served::new();
    let server = served.start();
    // Twenty clients in the middle of their handshake: certificate not sent yet.
    let mut clients: Vec<_> =
        (0..20).map(|_| ClientSpec::new(&served.world.pki).versions(TLS12).connect(server.address())).collect();
    for client in &mut clients {
        client.tls.write_tls(&mut client.tcp).unwrap();
    }
    server.ctl_done(&["block", "--identity", CLIENT_IDENTITY]);
    for mut client in clients {
        let ending = client.echo(b"x").unwrap_err();
        assert!([Ending::Alert(49), Ending::CloseNotify].contains(&ending), "{ending:?}");
    }
    assert_eq!(served.backend.connections(), 0);
}

#[test]
fn who_blocked_whom_is_in_the_audit_also_where_it_was_refused() {
    let served = Served::new();
    let server = served.start();
    server.ctl_done(&["block", "--identity", CLIENT_IDENTITY, "--for", "1h", "--why", "lost laptop"]);
    assert_eq!(server.ctl(&["block", "--identity", "acme"]).code, Some(1));
    assert_eq!(server.ctl(&["unblock", "--identity", "cn:nobody"]).code, Some(1));
    let line = server.wait_audit(|line| line["event"] == "admin" && line["ok"] == true);
    let me = run(std::process::Command::new("id").arg("-u")).stdout;
    assert_eq!(line["uid"], me.trim().parse::<u32>().unwrap(), "{line}");
    assert!(line["pid"].as_i64().unwrap() > 1, "{line}");
    let command = line["command"].as_str().unwrap();
    for part in ["block", CLIENT_IDENTITY, "3600s", "lost laptop"] {
        assert!(command.contains(part), "{line}");
    }
    server.wait_audit(|line| {
        line["event"] == "admin" && line["ok"] == false && line["command"] == "unblock --identity \"cn:nobody\""
    });
}
