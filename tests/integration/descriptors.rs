//! Descriptors run out: accepting pauses without spinning or flooding the log, open connections go on, and accepting
//! begins again when there is room.

use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::{ClientSpec, Ending};
use crate::world::config::ConfigText;
use crate::world::process::needs;
use crate::world::server::Server;
use crate::world::wait::{SOON, until};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How many connections are thrown at a server with fewer descriptors than that.
const CROWD: usize = 400;

fn run_out(limits: &str) {
    if !needs("prlimit") {
        return;
    }
    let world = World::new();
    let backend = Backend::tcp(echo());
    let config = ConfigText::new(&backend.server).limits("handshake_timeout = \"60s\"").limits(limits);
    let server = Server::start_limited(world.path(), &config.write(world.path()), "--nofile=160:160");
    if !server.process.shows_descriptors() {
        return;
    }
    let spec = ClientSpec::new(&world.pki);
    let mut early = spec.connect(server.address());
    early.echo(b"before").unwrap();

    let crowd: Vec<TcpStream> = (0..CROWD).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    let (mut last, mut since) = (0, Instant::now());
    let settled = until(SOON, || {
        let now = server.process.descriptors();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        since.elapsed() > Duration::from_millis(500)
    });
    // A few that the test's own parents left open may lie above the limit.
    assert!(settled && last <= 180, "{last} descriptors");
    let cpu = server.process.cpu_time();
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        early.echo(b"still served").unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
    let spent = server.process.cpu_time() - cpu;
    assert!(spent < Duration::from_millis(600), "it spins: {spent:?} of CPU in 2 s");
    let log = server.process.stderr.all().len();
    assert!(log < 100, "it floods its log: {log} lines");
    println!("{last} descriptors, {spent:?} of CPU in 2 s, {log} log lines");

    drop(crowd);
    let back = until(SOON, || {
        let mut client = spec.connect(server.address());
        client.patience(Duration::from_secs(2));
        client.echo(b"after").is_ok()
    });
    assert!(back, "it does not accept again");
    early.echo(b"to the end").unwrap();
    drop(early);
    assert_eq!(server.stop(), 0);
}

#[test]
fn accepting_pauses_and_recovers_with_the_limit_left_to_the_program() {
    run_out("");
}

#[test]
fn accepting_pauses_and_recovers_when_the_system_says_no() {
    run_out("connections = 100000");
}

/// Connections that wait in the kernel's queues of an address: for a listening socket, Linux shows them as `rx_queue`.
fn queued(address: SocketAddr) -> usize {
    let SocketAddr::V4(address) = address else { panic!("{address}") };
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let ours = table.lines().filter(|line| line.contains(&local));
    let sockets = ours.map(|line| line.split_whitespace().collect::<Vec<_>>());
    let listening = sockets.filter(|fields| fields[1] == local && fields[3] == "0A");
    listening.map(|fields| usize::from_str_radix(fields[4].split_once(':').unwrap().1, 16).unwrap()).sum()
}

/// A crowd comes at once where `limit` leaves room for ten: ten are taken and all others wait in the kernel's queue, none
/// of them in a descriptor of ours; when there is room, they are served.
fn a_crowd_waits_in_the_queue(engine: &str, limit: &str) {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let config = ConfigText::new(&backend.server)
        .runtime(&format!("engine = \"{engine}\""))
        .limits(&format!("{limit} = 10\nhandshake_timeout = \"120s\""))
        .admin();
    let server = world.serve(&config);
    if !server.process.shows_descriptors() {
        return;
    }
    let active = || server.metric("countersign_connections_active{listener=\"public\"}") as usize;
    let paused = || {
        let of = |worker| {
            server.metric(&format!("countersign_accept_paused_total{{worker=\"{worker}\",reason=\"{limit}\"}}"))
        };
        of(0) + server.ready_value("workers").map_or(0.0, |workers| if workers == "1" { 0.0 } else { of(1) })
    };
    assert_eq!((active(), paused()), (0, 0.0));
    let before = server.process.descriptors();
    let crowd: Vec<TcpStream> = (0..CROWD).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    let settled = until(SOON, || active() == 10 && queued(server.address()) == CROWD - 10);
    assert!(settled, "{} are served, {} wait", active(), queued(server.address()));
    // To be wrong it would have to take one more in these looks.
    for _ in 0..10 {
        assert_eq!((active(), queued(server.address())), (10, CROWD - 10));
        // The scrape and its like hold a few.
        assert!(server.process.descriptors() <= before + 10 + 5);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(paused() >= 1.0);
    assert!(server.process.stderr.text().contains(&format!("limit=\"{limit}\"")), "the log says which limit");
    let waits = std::thread::spawn({
        let (spec, address) = (ClientSpec::new(&world.pki), server.address());
        move || spec.connect(address).echo(b"its turn comes")
    });
    drop(crowd);
    waits.join().unwrap().unwrap();
    assert!(until(SOON, || active() == 0 && queued(server.address()) == 0));
}

#[test]
fn a_burst_past_the_number_of_connections_waits_in_the_kernels_queue() {
    for engine in ["auto", "epoll"] {
        a_crowd_waits_in_the_queue(engine, "connections");
    }
}

#[test]
fn a_burst_past_the_number_of_handshakes_waits_in_the_kernels_queue() {
    for engine in ["auto", "epoll"] {
        a_crowd_waits_in_the_queue(engine, "handshakes_in_flight");
    }
}

#[test]
fn past_the_configured_number_of_connections_the_next_ones_wait_for_their_turn() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&ConfigText::new(&backend.server).limits("connections = 4"));
    let spec = ClientSpec::new(&world.pki);
    let mut served: Vec<_> = (0..4).map(|_| spec.connect(server.address())).collect();
    served.iter_mut().for_each(|client| client.echo(b"hello").unwrap());
    let mut next = spec.connect(server.address());
    next.patience(Duration::from_millis(300));
    assert_eq!(next.echo(b"too early"), Err(Ending::Silence));
    drop(served.pop());
    next.patience(SOON);
    next.echo(b"room again").unwrap();
}
