//! Connections end when their time is up: handshakes by an absolute deadline, idle ones, old ones, and those whose
//! certificate runs out; and not before.

use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::{ClientSpec, Ending, TLS12, TLS13};
use crate::world::config::ConfigText;
use crate::world::pki::LeafSpec;
use crate::world::server::Server;
use crate::world::wait::slowness;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use time::OffsetDateTime;

/// An idle timeout that a busy client of this machine keeps clear of.
fn idle() -> Duration {
    Duration::from_secs(if slowness() > 1 { 3 } else { 1 })
}

fn idle_timeout() -> String {
    format!("idle_timeout = \"{}s\"", idle().as_secs())
}

/// Opens a connection, and measures how long it lives without a byte said after the first echo.
fn silent_life(server: &Server, spec: &ClientSpec) -> (Duration, Ending, std::net::SocketAddr) {
    let mut client = spec.connect(server.address());
    client.echo(b"hello").unwrap();
    let start = Instant::now();
    let (_, ending) = client.read_to_end();
    (start.elapsed(), ending, client.address)
}

#[test]
fn a_handshake_has_an_absolute_deadline_however_slowly_it_moves() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&ConfigText::new(&backend.server).limits("handshake_timeout = \"2s\""));
    let mut hello = Vec::new();
    ClientSpec::new(&world.pki).connect(server.address()).tls.write_tls(&mut hello).unwrap();
    let mut tcp = TcpStream::connect(server.address()).unwrap();
    tcp.set_read_timeout(Some(Duration::from_millis(250))).unwrap();
    let start = Instant::now();
    // A byte every quarter of a second: the wait for an answer that does not come is the pause.
    for byte in hello {
        let mut answer = [0; 64];
        let ended = tcp.write_all(&[byte]).is_err()
            || match tcp.read(&mut answer) {
                Ok(0) => true,
                Ok(_) => false,
                Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
            };
        if ended {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "each byte bought more time");
    }
    assert!(start.elapsed() > Duration::from_millis(1500), "it ended too early: {:?}", start.elapsed());
    let line = server.audit_of(tcp.local_addr().unwrap(), "refused");
    assert_eq!(line["reason"], "timeout", "{line}");
    assert_eq!(backend.connections(), 0);
    // Beside it: a client that is done in time may stay as long as it likes.
    let mut client = ClientSpec::new(&world.pki).connect(server.address());
    client.echo(b"hello").unwrap();
    client.patience(Duration::from_millis(3000));
    assert_eq!(client.read(), Err(Ending::Silence));
    client.echo(b"still here").unwrap();
}

#[test]
fn a_client_that_says_nothing_at_all_is_ended_by_the_same_deadline() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&ConfigText::new(&backend.server).limits("handshake_timeout = \"1s\""));
    let mut tcp = TcpStream::connect(server.address()).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let start = Instant::now();
    let mut answer = Vec::new();
    let _ = tcp.read_to_end(&mut answer);
    assert!((900..5000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    // One that never said a byte may be a load balancer's look whether the port is open: no line is owed for it.
    assert_eq!(backend.connections(), 0);
}

#[test]
fn an_idle_connection_ends_and_a_busy_one_does_not() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&ConfigText::new(&backend.server).limits(&idle_timeout()));
    let spec = ClientSpec::new(&world.pki);
    let mut busy = spec.connect(server.address());
    busy.echo(b"hello").unwrap();
    busy.patience(idle() * 3 / 10);
    for _ in 0..10 {
        assert_eq!(busy.read(), Err(Ending::Silence));
        busy.echo(b"again").unwrap();
    }
    let (life, ending, address) = silent_life(&server, &spec);
    assert!(life > idle() * 8 / 10 && life < idle() * 5 * slowness(), "{life:?}");
    assert_ne!(ending, Ending::Silence);
    let line = server.audit_of(address, "closed");
    assert_eq!(line["close_reason"], "idle_timeout", "{line}");
}

#[test]
fn a_connection_ends_at_its_greatest_age_even_while_it_is_busy() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&ConfigText::new(&backend.server).limits("max_age = \"2s\""));
    let mut client = ClientSpec::new(&world.pki).connect(server.address());
    let start = Instant::now();
    let ending = loop {
        if let Err(ending) = client.echo(b"tick") {
            break ending;
        }
        assert!(start.elapsed() < Duration::from_secs(10) * slowness(), "it has no end");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(ending, Ending::CloseNotify, "an orderly end");
    assert!(start.elapsed() > Duration::from_millis(1800), "{:?}", start.elapsed());
    let line = server.audit_of(client.address, "closed");
    assert_eq!(line["close_reason"], "max_age", "{line}");
}

#[test]
fn a_connection_ends_with_its_clients_certificate_unless_told_otherwise() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let (now, seconds) = (OffsetDateTime::now_utc(), if slowness() > 1 { 20 } else { 5 });
    let short = LeafSpec::client("short").valid(now - time::Duration::hours(1), now + time::Duration::seconds(seconds));
    let spec = ClientSpec::with(&world.pki, &world.pki.client_ca.leaf(&short));
    let server = world.serve(&ConfigText::new(&backend.server));
    let lenient = world.serve(&ConfigText::new(&backend.server).limits("end_at_expiry = false"));
    let mut stays = spec.connect(lenient.address());
    stays.echo(b"hello").unwrap();
    let (life, _, address) = silent_life(&server, &spec);
    assert!(life < Duration::from_secs(seconds.unsigned_abs()) + Duration::from_secs(4) * slowness(), "{life:?}");
    let line = server.audit_of(address, "closed");
    assert_eq!(line["close_reason"], "certificate_expired", "{line}");
    stays.echo(b"still here").unwrap();
}

#[test]
fn a_client_that_never_reads_is_idle_once_nothing_moves() {
    let world = World::new();
    let endless = std::sync::Arc::new(
        |mut conversation: crate::world::backend::Conversation| {
            while conversation.send(&[7; 64 << 10]) {}
        },
    );
    let backend = Backend::tcp(endless);
    let server = world.serve(&ConfigText::new(&backend.server).limits(&idle_timeout()));
    for versions in [TLS12, TLS13] {
        let mut client = ClientSpec::new(&world.pki).versions(versions).connect(server.address());
        client.handshake().unwrap();
        let line = server.audit_of(client.address, "closed");
        assert_eq!(line["close_reason"], "idle_timeout", "{line}");
    }
}

#[test]
fn a_half_closed_connection_is_idle_once_nothing_moves() {
    let world = World::new();
    let mute = std::sync::Arc::new(|mut conversation: crate::world::backend::Conversation| {
        conversation.drain();
        std::thread::sleep(Duration::from_secs(6) * slowness());
    });
    let backend = Backend::tcp(mute);
    let server = world.serve(&ConfigText::new(&backend.server).limits(&idle_timeout()));
    let mut client = ClientSpec::new(&world.pki).connect(server.address());
    client.handshake().unwrap();
    client.close_notify();
    let start = Instant::now();
    let (_, ending) = client.read_to_end();
    assert!(start.elapsed() < Duration::from_secs(4) * slowness(), "{:?}", start.elapsed());
    assert_ne!(ending, Ending::Silence);
    assert_eq!(server.audit_of(client.address, "closed")["close_reason"], "idle_timeout");
}
