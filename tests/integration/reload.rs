//! A reload replaces everything at once or nothing: under load, with broken files, while connections are open.

use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::{Client, ClientSpec, Ending, TLS12, TLS13, Tickets};
use crate::world::config::{ConfigText, ListenerText, SiteText};
use crate::world::pki::{Ca, Credential, KeyKind, LeafSpec, SERVER_NAME};
use crate::world::server::{Server, command};
use crate::world::wait::{SOON, slowness, uninterrupted, until};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What the contract allows from the answer to the end of a connection, and what a busy test machine may add.
fn at_once() -> Duration {
    Duration::from_millis(1000) + Duration::from_millis(1500) * slowness()
}
/// Connections of each client: enough to be on both workers.
const EACH: usize = 12;

/// A server that knows two CAs of clients, with a client of each and a second one of the first.
struct Served {
    world: World,
    backend: Backend,
    /// Serial 0x66, of the standard CA.
    sibling: Credential,
    /// Of the second CA.
    guest: Credential,
    config: ConfigText,
}

impl Served {
    fn new() -> Served {
        let world = World::new();
        let backend = Backend::tcp(echo());
        let second_ca = Ca::root("Second client CA");
        let sibling = world.pki.client_ca.leaf(&LeafSpec::client("sibling").serial(0x66));
        let guest = second_ca.leaf(&LeafSpec::client("guest").serial(0x99));
        let mut config = ConfigText::new(&backend.server).admin();
        config.sites[0].client =
            "trust = [\"clients-ca.pem\", \"second-ca.pem\"]\ncrls = [\"clients.crl\", \"second.crl\"]".to_owned();
        world.write("second-ca.pem", &second_ca.pem);
        world.write("clients.crl", &world.pki.client_ca.crl(1, &[]));
        world.write("second.crl", &second_ca.crl(1, &[]));
        Served { world, backend, sibling, guest, config }
    }

    fn start(&self) -> Server {
        self.world.serve(&self.config)
    }

    fn spec(&self, credential: &Credential) -> ClientSpec {
        ClientSpec::with(&self.world.pki, credential)
    }

    /// Rewrites the configuration with other lines in the client's table.
    fn rewrite_client(&self, client: &str) {
        let mut config = self.config.clone();
        config.sites[0].client = client.to_owned();
        config.write(self.world.path());
    }
}

fn opened(server: &Server, spec: &ClientSpec) -> Vec<Client> {
    let open = |_| {
        let mut client = spec.connect(server.address());
        client.echo(b"open").unwrap();
        client
    };
    (0..EACH).map(open).collect()
}

fn all_end(clients: Vec<Client>, at_latest: Instant) {
    for mut client in clients {
        client.patience(at_latest.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)));
        assert_eq!(client.read_to_end().1, Ending::CloseNotify);
    }
}

fn all_go_on(clients: &mut [Client]) {
    for client in clients {
        client.echo(b"still here").unwrap();
    }
}

fn reloads(server: &Server) -> Vec<Value> {
    server.audit().into_iter().filter(|line| line["event"] == "reload").collect()
}

/// Stops the load when the test is over, also when it failed.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn reloads_under_load_fail_no_handshake_and_lose_no_connection() {
    let served = Served::new();
    let server = served.start();
    let (stop, visits) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut open = opened(&server, &ClientSpec::new(&served.world.pki));
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&stop);
        for versions in [TLS12, TLS13] {
            for keeps_tickets in [false, true] {
                let (served, server, stop, visits) = (&served, &server, &stop, &visits);
                scope.spawn(move || {
                    let mut spec = ClientSpec::new(&served.world.pki).versions(versions);
                    if keeps_tickets {
                        spec = spec.tickets(&Tickets::new());
                    }
                    let config = spec.build();
                    while !stop.load(Ordering::SeqCst) {
                        let mut client = Client::connect(&config, SERVER_NAME, server.address());
                        client.echo(b"under load").unwrap();
                        visits.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        }
        for number in 2..10 {
            let before = visits.load(Ordering::SeqCst);
            // Now and then nothing changes, mostly the policy does.
            if number % 3 != 0 {
                served.world.write("clients.crl", &served.world.pki.client_ca.crl(number, &[0x1000 + number]));
            }
            server.ctl_done(&["reload"]);
            assert!(until(SOON, || visits.load(Ordering::SeqCst) > before + 8), "clients go on");
        }
    });
    all_go_on(&mut open);
    drop(open);
    assert_eq!(reloads(&server).len(), 8);
    assert_eq!(server.stop(), 0);
}

#[test]
fn broken_files_leave_everything_as_it_is_and_are_all_told() {
    let served = Served::new();
    let server = served.start();
    let mut open = opened(&server, &ClientSpec::new(&served.world.pki));
    let pki = &served.world.pki;
    let whole = std::fs::read_to_string(served.world.path().join("server.pem")).unwrap();
    let other =
        pki.server_ca.leaf(&LeafSpec::server(&[SERVER_NAME], KeyKind::Ecdsa)).write(served.world.path(), "other");
    let other_key = std::fs::read_to_string(other.key).unwrap();
    let config = served.config.render();
    let cases: Vec<(&str, Option<String>)> = vec![
        ("server.pem", Some(whole[..whole.len() / 2].to_owned())),
        ("server.pem", Some(String::new())),
        ("server.pem", None),
        ("server.key", Some(other_key)),
        ("clients-ca.pem", Some(String::new())),
        ("clients-ca.pem", Some("not a certificate".to_owned())),
        ("clients-ca.pem", None),
        ("clients.crl", Some(String::new())),
        ("clients.crl", Some(served.world.pki.client_ca.crl(2, &[1])[..100].to_owned())),
        ("countersign.toml", Some(config[..config.len() / 2].to_owned())),
        ("countersign.toml", Some(String::new())),
        ("countersign.toml", Some(config.replace("backend = \"ledger\"", "backend = \"leger\""))),
        ("countersign.toml", None),
    ];
    for (count, (file, text)) in cases.into_iter().enumerate() {
        let path = served.world.path().join(file);
        let good = std::fs::read(&path).unwrap();
        match &text {
            Some(text) => std::fs::write(&path, text).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        // Without the file there is no socket to read from it.
        let output = server.ctl(&["reload", "--socket", "admin.sock"]);
        assert_eq!(output.code, Some(1), "{file} {text:?}: {}", output.text());
        assert!(output.stderr.contains(file), "{file} {text:?}: {}", output.text());
        all_go_on(&mut open);
        ClientSpec::new(pki).connect(server.address()).echo(b"new").unwrap();
        let line = reloads(&server).pop().unwrap();
        assert_eq!(line["ok"], false, "{line}");
        assert!(line["detail"].as_str().unwrap().contains(file), "{line}");
        assert_eq!(server.metric("countersign_config_last_reload_successful"), 0.0);
        std::fs::write(&path, good).unwrap();
        assert_eq!(reloads(&server).len(), count + 1);
    }
    server.ctl_done(&["reload"]);
    assert_eq!(server.metric("countersign_config_last_reload_successful"), 1.0);
    drop(open);
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_refused_and_does_not_hold_up_the_next_reload() {
    let served = Served::new();
    let server = served.start();
    for file in ["clients.crl", "countersign.toml"] {
        let path = served.world.path().join(file);
        std::fs::rename(&path, served.world.path().join("aside")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let output = server.ctl(&["reload", "--socket", "admin.sock"]);
        assert!(output.code == Some(1) && output.stderr.contains("is a pipe"), "{file}: {}", output.text());
        std::fs::rename(served.world.path().join("aside"), &path).unwrap();
        server.ctl_done(&["reload"]);
    }
}

#[test]
fn two_faults_are_told_at_once() {
    let served = Served::new();
    let server = served.start();
    served.world.write("server.key", "");
    served.world.write("second-ca.pem", "");
    let output = server.ctl(&["reload"]);
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.contains("server.key") && output.stderr.contains("second-ca.pem"), "{}", output.stderr);
}

#[test]
fn what_only_a_restart_can_change_is_refused_by_its_key() {
    let served = Served::new();
    let server = served.start();
    let mut changed = served.config.clone().runtime("drain_delay = \"1s\"");
    changed.admin = changed.admin.map(|admin| format!("{admin}\nprobe = \"127.0.0.1:0\""));
    changed.top = "[log]\nformat = \"json\"".to_owned();
    changed.write(served.world.path());
    let output = server.ctl(&["reload"]);
    assert_eq!(output.code, Some(1));
    for key in ["runtime.drain_delay", "admin.probe", "log.format", "restart to apply"] {
        assert!(output.stderr.contains(key), "{key}: {}", output.stderr);
    }
    let told = || server.process.stderr.text();
    let is_told = || told().contains("runtime.drain_delay") && told().contains("restart to apply");
    assert!(until(SOON, is_told), "the log says it too: {}", told());
    served.config.write(served.world.path());
    server.ctl_done(&["reload"]);
}

/// A change that shuts one client out: what is open of it ends, of others nothing does, and neither a fresh handshake nor
/// a ticket gets it in again.
fn shuts_out(served: &Served, shut: &Credential, stay: &[&Credential], reason: &str, change: impl FnOnce()) {
    let server = served.start();
    let specs: Vec<_> =
        [TLS12, TLS13].map(|versions| served.spec(shut).versions(versions).tickets(&Tickets::new()).build()).to_vec();
    for config in &specs {
        Client::connect(config, SERVER_NAME, server.address()).echo(b"for the ticket").unwrap();
    }
    let victims = opened(&server, &served.spec(shut));
    let mut others: Vec<_> = stay.iter().map(|credential| opened(&server, &served.spec(credential))).collect();
    change();
    server.ctl_done(&["reload"]);
    let reloaded = Instant::now();
    for config in &specs {
        let mut client = Client::connect(config, SERVER_NAME, server.address());
        assert!(client.echo(b"again").is_err(), "{reason}: with a ticket");
        assert_eq!(server.audit_of(client.address, "refused")["reason"], reason);
    }
    let addresses: Vec<_> = victims.iter().map(|client| client.address).collect();
    all_end(victims, reloaded + at_once());
    for address in addresses {
        assert_eq!(server.audit_of(address, "closed")["close_reason"], "no_longer_admitted");
    }
    others.iter_mut().for_each(|clients| all_go_on(clients));
    for credential in stay {
        served.spec(credential).connect(server.address()).echo(b"new").unwrap();
    }
    let ended = server.audit().into_iter().filter(|line| line["close_reason"] == "no_longer_admitted").count();
    assert_eq!(ended, EACH, "these and no others");
    drop(others);
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_newly_revoked_certificate_ends_its_connections_and_no_others() {
    let served = Served::new();
    shuts_out(&served, &served.sibling, &[&served.world.pki.client, &served.guest], "revoked", || {
        served.world.write("clients.crl", &served.world.pki.client_ca.crl(2, &[0x66]));
    });
}

#[test]
fn a_withdrawn_anchor_ends_the_connections_of_its_clients_and_no_others() {
    let served = Served::new();
    shuts_out(&served, &served.guest, &[&served.world.pki.client, &served.sibling], "unknown_issuer", || {
        served.rewrite_client("trust = [\"clients-ca.pem\"]\ncrls = [\"clients.crl\"]");
    });
}

#[test]
fn an_anchor_withdrawn_in_its_file_ends_the_connections_of_its_clients() {
    let served = Served::new();
    shuts_out(&served, &served.guest, &[&served.world.pki.client], "unknown_issuer", || {
        served.world.write("second-ca.pem", &served.world.pki.client_ca.pem);
        served.world.write("second.crl", &served.world.pki.client_ca.crl(1, &[]));
    });
}

#[test]
fn a_rule_that_no_longer_admits_ends_the_connections_that_it_admitted() {
    let served = Served::new();
    shuts_out(&served, &served.sibling, &[&served.world.pki.client, &served.guest], "policy_denied", || {
        let client = &served.config.sites[0].client;
        served.rewrite_client(&format!("{client}\nallow = [{{ cn = \"acme-payments\" }}, {{ cn = \"guest\" }}]"));
    });
}

#[test]
fn a_deny_rule_ends_the_connections_of_whom_it_names() {
    let served = Served::new();
    shuts_out(&served, &served.sibling, &[&served.world.pki.client, &served.guest], "policy_denied", || {
        let client = &served.config.sites[0].client;
        served.rewrite_client(&format!("{client}\ndeny = [{{ cn = \"sibling\" }}]"));
    });
}

#[test]
fn a_renewed_server_certificate_loses_no_connection_and_no_session() {
    let served = Served::new();
    let server = served.start();
    let mut open = opened(&server, &ClientSpec::new(&served.world.pki));
    let configs = [TLS12, TLS13]
        .map(|versions| ClientSpec::new(&served.world.pki).versions(versions).tickets(&Tickets::new()).build());
    let visit = |config| {
        let mut client = Client::connect(config, SERVER_NAME, server.address());
        client.echo(b"ping").unwrap();
        client.resumed()
    };
    configs.iter().for_each(|config| assert!(!visit(config)));
    let spec = LeafSpec::server(&[SERVER_NAME], KeyKind::Ecdsa).serial(0xbeef);
    let renewed = served.world.pki.server_ca.leaf(&spec);
    renewed.write(served.world.path(), "server");
    server.ctl_done(&["reload"]);
    let mut fresh = ClientSpec::new(&served.world.pki).connect(server.address());
    fresh.echo(b"ping").unwrap();
    assert_eq!(fresh.tls.peer_certificates().unwrap()[0], renewed.chain[0], "new handshakes see the new one");
    all_go_on(&mut open);
    configs.iter().for_each(|config| assert!(visit(config), "a ticket of before the reload"));
    assert!(server.metric("countersign_server_cert_expires_timestamp_seconds{sni=\"payments\",serial=\"beef\"}") > 0.0);
}

#[test]
fn sighup_is_a_reload_too() {
    let served = Served::new();
    let server = served.start();
    let victims = opened(&server, &served.spec(&served.sibling));
    served.world.write("clients.crl", &served.world.pki.client_ca.crl(2, &[0x66]));
    server.process.signal("HUP");
    server.wait_audit(|line| line["event"] == "reload" && line["ok"] == true);
    all_end(victims, Instant::now() + at_once());
    served.world.write("clients.crl", "");
    server.process.signal("HUP");
    let line = server.wait_audit(|line| line["event"] == "reload" && line["ok"] == false);
    assert!(line["detail"].as_str().unwrap().contains("clients.crl"), "{line}");
    assert!(until(SOON, || server.process.stderr.text().contains("not reloaded")), "{}", server.process.stderr.text());
    ClientSpec::new(&served.world.pki).connect(server.address()).echo(b"x").unwrap();
}

#[test]
fn a_server_started_by_flags_reads_its_files_again_on_sighup() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let mut run = command(world.path());
    run.args(["run", "--listen", "127.0.0.1:0", "--backend", &backend.server, "--certificate", "server.pem"]);
    run.args(["--key", "server.key", "--client-ca", "clients-ca.pem"]);
    let server = Server::from_command(world.path(), &mut run);
    let mut open = ClientSpec::new(&world.pki).connect(server.address());
    open.echo(b"open").unwrap();
    let others = Ca::root("Other clients' CA");
    let guest = others.leaf(&LeafSpec::client("guest"));
    world.write("clients-ca.pem", &others.pem);
    server.process.signal("HUP");
    assert!(until(SOON, || server.process.stderr.text().contains("reloaded: ")), "{}", server.process.stderr.text());
    assert_eq!(open.read_to_end().1, Ending::CloseNotify, "its CA was withdrawn");
    ClientSpec::with(&world.pki, &guest).connect(server.address()).echo(b"new").unwrap();
    assert!(ClientSpec::new(&world.pki).connect(server.address()).echo(b"x").is_err());
}

#[test]
fn watched_files_are_reloaded_once_each_time_they_change_and_a_failure_is_not_repeated() {
    let served = Served::new();
    let server = served.world.serve(&served.config.clone().runtime("watch = \"100ms\""));
    let results = || reloads(&server).iter().map(|line| line["ok"] == true).collect::<Vec<_>>();
    let victims = opened(&server, &served.spec(&served.sibling));
    served.world.write("clients.crl", &served.world.pki.client_ca.crl(2, &[0x66]));
    assert!(until(SOON, || results() == [true]), "{:?}", reloads(&server));
    all_end(victims, Instant::now() + at_once());
    // By rename, as most programs write; and broken.
    served.world.write("new", "");
    std::fs::rename(served.world.path().join("new"), served.world.path().join("clients-ca.pem")).unwrap();
    assert!(until(SOON, || results() == [true, false]), "{:?}", reloads(&server));
    let looks = Duration::from_millis(600);
    assert!(!until(looks, || results().len() > 2), "a failure is not tried again by itself");
    ClientSpec::new(&served.world.pki).connect(server.address()).echo(b"x").unwrap();
    served.world.write("clients-ca.pem", &served.world.pki.client_ca.pem);
    assert!(until(SOON, || results() == [true, false, true]), "{:?}", reloads(&server));
    // The configuration itself, and a file that it names for the first time and that comes late.
    let client = &served.config.sites[0].client.replace("\"second-ca.pem\"", "\"second-ca.pem\", \"third-ca.pem\"");
    let mut config = served.config.clone().runtime("watch = \"100ms\"");
    config.sites[0].client = format!("{client}\ncrl_missing = \"allow\"");
    config.write(served.world.path());
    assert!(until(SOON, || results() == [true, false, true, false]), "{:?}", reloads(&server));
    served.world.write("third-ca.pem", &Ca::root("Third client CA").pem);
    assert!(until(SOON, || results() == [true, false, true, false, true]), "{:?}", reloads(&server));
}

#[test]
fn a_reload_adds_and_gives_up_listeners_and_sites_and_the_pages_follow() {
    let served = Served::new();
    let server = served.start();
    let mut open = opened(&server, &ClientSpec::new(&served.world.pki));
    let mut config = served.config.clone();
    config.listeners.push(ListenerText::new("partners"));
    let mut site = SiteText::new("ledger").add("name = \"partners\"\nlistener = \"partners\"");
    site.client = "trust = [\"second-ca.pem\"]".to_owned();
    config.sites[0] = config.sites[0].clone().add("listener = \"public\"");
    config.sites.push(site);
    config.write(served.world.path());
    server.ctl_done(&["reload"]);
    all_go_on(&mut open);
    let status = server.ctl_json(&["status"]);
    assert_eq!(status["listeners"][1]["name"], "partners", "{status}");
    assert_eq!(status["listeners"][0]["connections"], EACH, "{status}");
    let partners = status["listeners"][1]["addresses"][0].as_str().unwrap().parse().unwrap();
    let mut guest = served.spec(&served.guest).connect(partners);
    guest.echo(b"x").unwrap();
    assert_eq!(server.metric("countersign_connections_active{listener=\"partners\"}"), 1.0);
    served.config.write(served.world.path());
    server.ctl_done(&["reload"]);
    assert_eq!(guest.read_to_end().1, Ending::CloseNotify, "its site is gone");
    assert!(until(SOON, || std::net::TcpStream::connect(partners).is_err()), "nobody listens there any more");
    all_go_on(&mut open);
    assert_eq!(served.backend.connections(), EACH + 1);
}

#[test]
fn an_address_in_use_leaves_the_old_listeners_as_they_are() {
    let served = Served::new();
    let server = served.start();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = served.config.clone();
    config.listeners[0].lines = format!("address = [\"127.0.0.1:0\", \"{}\"]", taken.local_addr().unwrap());
    config.write(served.world.path());
    let output = server.ctl(&["reload"]);
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.contains("in use"), "{}", output.stderr);
    ClientSpec::new(&served.world.pki).connect(server.address()).echo(b"x").unwrap();
}

#[test]
fn level_of_the_log_and_place_of_the_audit_follow_a_reload() {
    let served = Served::new();
    let server = served.start();
    let mut config = served.config.clone();
    config.audit = Some("path = \"second.jsonl\"".to_owned());
    config.top = "[log]\nlevel = \"error\"".to_owned();
    config.write(served.world.path());
    server.ctl_done(&["reload"]);
    let mut refused = ClientSpec::anonymous(&served.world.pki).connect(server.address());
    assert!(refused.echo(b"x").is_err());
    let second = served.world.path().join("second.jsonl");
    let client = refused.address.to_string();
    let written = || crate::world::server::audit_lines(&second).iter().any(|line| line["client"] == client.as_str());
    assert!(until(SOON, written), "the new file has it");
    assert!(!server.audit().iter().any(|line| line["client"] == client.as_str()), "the old one has not");
    assert!(!server.process.stderr.text().contains(&client), "nothing below an error is logged");
    config.audit = Some("path = \"missing/third.jsonl\"".to_owned());
    config.write(served.world.path());
    let output = server.ctl(&["reload"]);
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.contains("missing/third.jsonl"), "{}", output.stderr);
}

#[test]
fn the_service_manager_hears_of_a_reload_and_its_end() {
    let served = Served::new();
    let socket = std::os::unix::net::UnixDatagram::bind(served.world.path().join("notify")).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let path = served.config.write(served.world.path());
    let mut run = command(served.world.path());
    run.args(["run", "-c"]).arg(path).env("NOTIFY_SOCKET", served.world.path().join("notify"));
    let server = Server::from_command(served.world.path(), &mut run);
    let heard = || {
        let mut buffer = [0; 4096];
        let n = uninterrupted(|| socket.recv(&mut buffer)).unwrap();
        String::from_utf8_lossy(&buffer[..n]).into_owned()
    };
    assert!(heard().contains("READY=1"));
    server.ctl_done(&["reload"]);
    let reloading = heard();
    assert!(reloading.contains("RELOADING=1") && reloading.contains("MONOTONIC_USEC="), "{reloading}");
    assert!(heard().contains("READY=1"));
}
