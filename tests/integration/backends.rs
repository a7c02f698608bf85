//! Which server a connection goes to, and what happens when one or all of them are away.

use crate::world::World;
use crate::world::backend::{Backend, echo, refusing_address, send_then_finish};
use crate::world::client::{Client, ClientSpec, Ending};
use crate::world::config::ConfigText;
use crate::world::server::Server;
use socket2::{Domain, Socket, Type};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

fn serve(world: &World, servers: &[&str], line: &str) -> Server {
    let mut config = ConfigText::new(servers[0]).backend(line);
    config.backends[0].servers = servers.iter().map(|server| (*server).to_owned()).collect();
    world.serve(&config)
}

fn open(world: &World, server: &Server) -> Client {
    let mut client = ClientSpec::new(&world.pki).connect(server.address());
    client.handshake().unwrap();
    client
}

/// A server whose queue of connections is full: a further attempt hears nothing.
struct Stuck {
    address: SocketAddr,
    _listener: Socket,
    _fillers: Vec<Socket>,
}

impl Stuck {
    fn new() -> Stuck {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut fillers = Vec::new();
        while TcpStream::connect_timeout(&address, Duration::from_millis(300)).is_ok_and(|tcp| {
            fillers.push(Socket::from(tcp));
            true
        }) {
            assert!(fillers.len() < 64, "the queue does not fill");
        }
        Stuck { address, _listener: listener, _fillers: fillers }
    }
}

#[test]
fn a_server_that_refuses_is_passed_over_for_one_that_answers() {
    let world = World::new();
    let (_held, refusing) = refusing_address();
    let backend = Backend::tcp(echo());
    let server = serve(&world, &[&refusing, &backend.server], "balance = \"round_robin\"");
    for _ in 0..10 {
        let mut client = open(&world, &server);
        client.echo(b"ping").unwrap();
        let line = server.audit_of(client.address, "accepted");
        assert!(line["backend"].as_str().unwrap().contains(&backend.server), "{line}");
    }
    assert_eq!(backend.connections(), 10);
}

#[test]
fn a_server_that_does_not_answer_is_given_up_after_the_connect_timeout() {
    let world = World::new();
    let stuck = Stuck::new();
    let backend = Backend::tcp(echo());
    let line = "balance = \"round_robin\"\nconnect_timeout = \"500ms\"";
    let server = serve(&world, &[&stuck.address.to_string(), &backend.server], line);
    for _ in 0..4 {
        let start = Instant::now();
        open(&world, &server).echo(b"ping").unwrap();
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
}

#[test]
fn a_unix_socket_that_is_not_there_is_passed_over_too() {
    let world = World::new();
    let backend = Backend::unix(world.path(), echo());
    let away = format!("unix:{}", world.path().join("away.sock").display());
    let server = serve(&world, &[&away, &backend.server], "balance = \"round_robin\"");
    for _ in 0..4 {
        open(&world, &server).echo(b"ping").unwrap();
    }
}

#[test]
fn with_all_servers_away_the_client_is_ended_and_the_audit_says_why() {
    let world = World::new();
    let (_one, first) = refusing_address();
    let (_two, second) = refusing_address();
    let server = serve(&world, &[&first, &second], "");
    let mut client = open(&world, &server);
    let (bytes, ending) = client.read_to_end();
    assert!(bytes.is_empty());
    assert_ne!(ending, Ending::Silence);
    let line =
        server.wait_audit(|line| line["client"] == client.address.to_string() && !line["close_reason"].is_null());
    assert_eq!(line["close_reason"], "backend_unavailable", "{line}");
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_server_that_comes_back_is_used_again() {
    let world = World::new();
    let (held, address) = refusing_address();
    let server = serve(&world, &[&address], "");
    assert!(open(&world, &server).echo(b"ping").is_err());
    held.listen(16).unwrap();
    held.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let worked = crate::world::wait::until(crate::world::wait::SOON, || {
        let mut client = open(&world, &server);
        let taken = held.accept().map(|(socket, _)| socket);
        client.send(b"x").is_ok() && taken.is_ok()
    });
    assert!(worked);
}

#[test]
fn round_robin_spreads_evenly() {
    let world = World::new();
    let (one, two) = (Backend::tcp(echo()), Backend::tcp(echo()));
    let server = serve(&world, &[&one.server, &two.server], "balance = \"round_robin\"");
    for _ in 0..20 {
        open(&world, &server).echo(b"ping").unwrap();
    }
    let spread = (one.connections(), two.connections());
    // Each worker goes round for itself.
    assert!(spread.0 >= 8 && spread.1 >= 8, "{spread:?}");
}

#[test]
fn least_connections_goes_where_fewest_are_open() {
    let world = World::new();
    let (one, two) = (Backend::tcp(echo()), Backend::tcp(echo()));
    let server = serve(&world, &[&one.server, &two.server], "balance = \"least_connections\"");
    let mut held = Vec::new();
    for _ in 0..16 {
        let mut client = open(&world, &server);
        client.echo(b"ping").unwrap();
        held.push(client);
    }
    let spread = (one.connections(), two.connections());
    assert!(spread.0 >= 6 && spread.1 >= 6, "{spread:?}");
}

#[test]
fn identity_hash_keeps_an_identity_at_its_server() {
    let world = World::new();
    let (one, two) = (Backend::tcp(echo()), Backend::tcp(echo()));
    let server = serve(&world, &[&one.server, &two.server], "balance = \"identity_hash\"");
    for _ in 0..10 {
        open(&world, &server).echo(b"ping").unwrap();
    }
    let spread = [one.connections(), two.connections()];
    assert!(spread.contains(&10) && spread.contains(&0), "{spread:?}");
}

#[test]
fn a_server_that_speaks_first_is_heard_before_the_client_says_a_word() {
    let world = World::new();
    let (server, _backend) = world.serve_before(send_then_finish(b"220 ready\r\n"));
    assert_eq!(open(&world, &server).read_exactly(11).unwrap(), b"220 ready\r\n");
}
