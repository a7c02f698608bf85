//! Descriptors run out: accepting pauses without spinning or flooding the log, open connections go on, and accepting
//! begins again when there is room.

use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::ClientSpec;
use crate::world::config::ConfigText;
use crate::world::process::needs;
use crate::world::server::Server;
use crate::world::wait::{SOON, until};
use std::net::TcpStream;
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

/// Over the configured number: each worker may already be waiting for one when the last place is taken.
const SLACK: usize = 4;

#[test]
fn past_the_configured_number_of_connections_the_next_ones_wait() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&ConfigText::new(&backend.server).limits("connections = 4"));
    let spec = ClientSpec::new(&world.pki);
    let mut served = Vec::new();
    let mut waiting = Vec::new();
    for _ in 0..4 + 2 * SLACK {
        let mut client = spec.connect(server.address());
        client.patience(Duration::from_millis(500));
        match client.echo(b"hello") {
            Ok(()) => served.push(client),
            Err(_) => waiting.push(client),
        }
    }
    assert!((4..=4 + SLACK).contains(&served.len()), "{} were served at once", served.len());
    let mut next = spec.connect(server.address());
    drop(served);
    drop(waiting);
    next.echo(b"room again").unwrap();
}

#[test]
fn a_burst_does_not_pass_the_configured_number_of_connections() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let config =
        ConfigText::new(&backend.server).limits("connections = 10").limits("handshake_timeout = \"60s\"").admin();
    let server = world.serve(&config);
    let crowd: Vec<TcpStream> = (0..CROWD).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    // What the kernel had accepted before the pause took hold waits for its turn; it is not served.
    let mut most = 0;
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        most = most.max(server.metric("countersign_connections_active{listener=\"public\"}") as usize);
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(crowd);
    assert!(most >= 10, "only {most} were taken");
    assert!(most <= 10 + SLACK, "{most} connections were taken where 10 are allowed");
}
