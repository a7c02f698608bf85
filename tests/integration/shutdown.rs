//! How the process ends: drained where it can be, by its deadline where not, at once on a second signal.

use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::{Client, ClientSpec, Ending};
use crate::world::config::ConfigText;
use crate::world::http::try_get;
use crate::world::pki::SERVER_NAME;
use crate::world::server::Server;
use crate::world::wait::{SOON, slowness, until};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn stop_line(server: &Server) -> serde_json::Value {
    server.wait_audit(|line| line["event"] == "stop")
}

fn refuses_connections(address: SocketAddr) -> bool {
    until(SOON, || TcpStream::connect(address).is_err())
}

#[test]
fn an_idle_process_ends_at_once_on_sigterm_and_on_sigint() {
    for signal in ["TERM", "INT"] {
        let world = World::new();
        let (mut server, _backend) = world.serve_before(echo());
        let start = Instant::now();
        server.process.signal(signal);
        assert_eq!(server.wait_exit(SOON), 0, "SIG{signal}");
        assert!(start.elapsed() < Duration::from_secs(5), "SIG{signal}: {:?}", start.elapsed());
        assert_eq!(stop_line(&server)["event"], "stop");
    }
}

#[test]
fn an_open_connection_may_finish_while_no_new_one_is_taken() {
    let world = World::new();
    let (mut server, _backend) = world.serve_before(echo());
    let mut client = ClientSpec::new(&world.pki).connect(server.address());
    client.echo(b"before").unwrap();
    server.process.signal("TERM");
    assert!(refuses_connections(server.address()), "it still takes connections");
    client.echo(b"while it drains").unwrap();
    assert_eq!(server.process.ended(), None);
    client.close_notify();
    assert_eq!(client.read_to_end(), (Vec::new(), Ending::CloseNotify));
    assert_eq!(server.wait_exit(SOON), 0);
    assert_eq!(server.audit_of(client.address, "closed")["close_reason"], "done");
}

#[test]
fn the_drain_deadline_cuts_what_is_open_and_the_exit_says_so() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let mut server = world.serve(&ConfigText::new(&backend.server).replace_runtime("drain_timeout = \"1s\""));
    let mut client = ClientSpec::new(&world.pki).connect(server.address());
    client.echo(b"before").unwrap();
    let start = Instant::now();
    server.process.signal("TERM");
    assert_eq!(server.wait_exit(SOON), 1);
    let took = start.elapsed();
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(6) * slowness(), "{took:?}");
    let (_, ending) = client.read_to_end();
    assert_ne!(ending, Ending::Silence);
    assert_eq!(server.audit_of(client.address, "closed")["close_reason"], "drained");
    stop_line(&server);
}

#[test]
fn a_second_signal_ends_it_now() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let mut server = world.serve(&ConfigText::new(&backend.server).replace_runtime("drain_timeout = \"10m\""));
    let mut client = ClientSpec::new(&world.pki).connect(server.address());
    client.echo(b"before").unwrap();
    server.process.signal("TERM");
    assert!(refuses_connections(server.address()));
    let start = Instant::now();
    server.process.signal("TERM");
    assert_eq!(server.wait_exit(SOON), 1);
    assert!(start.elapsed() < Duration::from_secs(5) * slowness(), "{:?}", start.elapsed());
}

#[test]
fn the_drain_delay_keeps_taking_connections_while_readyz_already_says_no() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let config = ConfigText::new(&backend.server).admin().runtime("drain_delay = \"5s\"");
    let mut server = world.serve(&config);
    let admin: SocketAddr = server.ready_value("admin").unwrap().parse().unwrap();
    assert_eq!(try_get(admin, "/readyz").map(|(status, _)| status), Some(200));
    let start = Instant::now();
    server.process.signal("TERM");
    let refused = until(SOON, || try_get(admin, "/readyz").is_some_and(|(status, _)| status == 503));
    assert!(refused && start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert_eq!(try_get(admin, "/healthz").map(|(status, _)| status), Some(200));
    let mut client = ClientSpec::new(&world.pki).connect(server.address());
    client.echo(b"a late one").unwrap();
    client.close_notify();
    client.read_to_end();
    assert_eq!(server.wait_exit(SOON), 0);
    assert!(start.elapsed() > Duration::from_millis(4800), "{:?}", start.elapsed());
}

#[test]
fn a_handshake_in_flight_does_not_hold_the_end_up_past_its_deadline() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let mut server = world.serve(&ConfigText::new(&backend.server).limits("handshake_timeout = \"2s\""));
    if !server.process.shows_descriptors() {
        return;
    }
    let before = server.process.descriptors();
    let _silent = TcpStream::connect(server.address()).unwrap();
    assert!(until(SOON, || server.process.descriptors() > before), "it is not taken");
    let start = Instant::now();
    server.process.signal("TERM");
    let code = server.wait_exit(SOON);
    assert!(code == 0 && start.elapsed() < Duration::from_secs(8), "{code} after {:?}", start.elapsed());
}

#[test]
fn the_audit_begins_with_start_and_ends_with_stop_and_both_name_the_configuration() {
    let world = World::new();
    let (mut server, _backend) = world.serve_before(echo());
    let mut client = ClientSpec::new(&world.pki).connect(server.address());
    client.echo(b"x").unwrap();
    client.close_notify();
    client.read_to_end();
    server.process.signal("TERM");
    assert_eq!(server.wait_exit(SOON), 0);
    let lines = server.audit();
    let events: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["start", "accepted", "closed", "stop"]);
    let text = lines[0].to_string();
    use aws_lc_rs::digest::{SHA256, digest};
    let file = std::fs::read(world.path().join("countersign.toml")).unwrap();
    let sha256 = hex::encode(digest(&SHA256, &file));
    assert!(text.contains(&sha256) && lines[3].to_string().contains(&sha256), "{text} lacks {sha256}");
}

#[test]
fn who_waits_in_the_kernels_queue_when_accepting_stops_is_still_served() {
    const WAITING: usize = 24;
    let world = World::new();
    let backend = Backend::tcp(echo());
    let config = ConfigText::new(&backend.server).replace_runtime("drain_timeout = \"60s\"").limits("connections = 1");
    let mut server = world.serve(&config);
    let mut first = ClientSpec::new(&world.pki).connect(server.address());
    first.echo(b"takes the only place").unwrap();
    let config = ClientSpec::new(&world.pki).build();
    let address = server.address();
    let waiting: Vec<Client> = (0..WAITING).map(|_| Client::connect(&config, SERVER_NAME, address)).collect();
    server.process.signal("TERM");
    assert!(refuses_connections(address), "it still takes connections");
    first.close_notify();
    first.read_to_end();
    std::thread::scope(|scope| {
        for mut client in waiting {
            scope.spawn(move || {
                client.patience(Duration::from_secs(60));
                client.echo(b"waited").unwrap();
                client.close_notify();
                assert_eq!(client.read_to_end().1, Ending::CloseNotify);
            });
        }
    });
    assert_eq!(server.wait_exit(SOON), 0);
    assert_eq!(backend.connections(), 1 + WAITING);
}

#[test]
fn an_idle_herd_leaves_spread_over_the_time_and_who_talks_stays() {
    const HERD: usize = 40;
    let world = World::new();
    let backend = Backend::tcp(echo());
    let mut server = world.serve(&ConfigText::new(&backend.server).replace_runtime("drain_timeout = \"15s\""));
    let config = ClientSpec::new(&world.pki).build();
    let open = |_| {
        let mut client = Client::connect(&config, SERVER_NAME, server.address());
        client.echo(b"open").unwrap();
        client
    };
    let herd: Vec<Client> = (0..HERD).map(open).collect();
    let mut talker = open(0);
    server.process.signal("TERM");
    let left = AtomicUsize::new(HERD);
    let mut ends: Vec<Instant> = std::thread::scope(|scope| {
        let leave = |mut client: Client| {
            let left = &left;
            move || {
                assert_eq!(client.read_to_end().1, Ending::CloseNotify);
                left.fetch_sub(1, Ordering::SeqCst);
                Instant::now()
            }
        };
        let leaving: Vec<_> = herd.into_iter().map(|client| scope.spawn(leave(client))).collect();
        // Half of them tell that it stays; the last of them leave shortly before whoever talks is cut as well.
        while left.load(Ordering::SeqCst) > HERD / 2 && leaving.iter().any(|thread| !thread.is_finished()) {
            talker.echo(b"still talking").unwrap();
            std::thread::sleep(Duration::from_millis(50));
        }
        talker.echo(b"not idle, not ended").unwrap();
        talker.close_notify();
        assert_eq!(talker.read_to_end().1, Ending::CloseNotify);
        leaving.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    // On a busy machine a last one may be cut: that the code then says so is for other tests.
    server.wait_exit(SOON);
    ends.sort();
    // Most of them come back to somebody else, and not all at once.
    let spread = ends[HERD * 9 / 10] - ends[HERD / 10];
    assert!(spread > Duration::from_millis(1500), "{spread:?}");
    assert!(server.audit().iter().filter(|line| line["close_reason"] == "drained").count() >= HERD);
}
