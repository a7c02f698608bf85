//! `accept_proxy_from`: from these networks a PROXY header is required and believed, from others it is neither.

use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::ClientSpec;
use crate::world::config::ConfigText;
use crate::world::proxy::HeaderV2;
use crate::world::server::Server;
use crate::world::wait::SOON;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

const ORIGIN: &str = "203.0.113.7:51234";
const V1: &[u8] = b"PROXY TCP4 203.0.113.7 192.0.2.10 51234 443\r\n";

fn v2() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend([203, 0, 113, 7, 192, 0, 2, 10]);
    header.extend(51234u16.to_be_bytes());
    header.extend(443u16.to_be_bytes());
    header
}

fn behind(world: &World, backend: &Backend, networks: &str) -> Option<Server> {
    let mut config = ConfigText::new(&backend.server).backend("proxy_protocol = \"v2\"\nproxy_tlvs = []");
    config.listeners[0].lines.push_str(&format!("\naccept_proxy_from = [{networks}]"));
    world.supports(&config).then(|| world.serve(&config))
}

#[test]
fn a_header_of_either_version_tells_the_client_and_is_passed_on() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let Some(server) = behind(&world, &backend, "\"127.0.0.0/8\"") else { return };
    let origin: SocketAddr = ORIGIN.parse().unwrap();
    for (index, header) in [V1.to_vec(), v2()].into_iter().enumerate() {
        let mut client = ClientSpec::new(&world.pki).connect(server.address());
        // In pieces: the header and the ClientHello need not come together.
        let (first, second) = header.split_at(9);
        client.tcp.write_all(first).unwrap();
        client.tcp.write_all(second).unwrap();
        client.handshake().unwrap();
        client.send(b"payload").unwrap();
        let seen = backend.wait_bytes(index, 28 + 7);
        let (header, rest) = HeaderV2::read(&seen).unwrap();
        assert_eq!((header.source, rest), (origin, &b"payload"[..]));
        client.close_notify();
    }
    let accepted = server.audit().into_iter().filter(|line| line["event"] == "accepted");
    assert!(accepted.inspect(|line| assert_eq!(line["client"], ORIGIN)).count() > 0);
}

#[test]
fn without_the_header_that_is_required_nothing_is_served() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let Some(server) = behind(&world, &backend, "\"127.0.0.0/8\"") else { return };
    let mut client = ClientSpec::new(&world.pki).connect(server.address());
    assert!(client.echo(b"x").is_err());
    assert_eq!(server.wait_audit(|line| line["event"] == "refused")["decision"], "refuse");
    assert_eq!(backend.connections(), 0);
}

#[test]
fn a_header_from_elsewhere_is_not_believed() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let Some(server) = behind(&world, &backend, "\"192.0.2.0/24\"") else { return };
    let mut tcp = TcpStream::connect(server.address()).unwrap();
    tcp.set_read_timeout(Some(SOON)).unwrap();
    tcp.write_all(V1).unwrap();
    let mut answer = Vec::new();
    let _ = tcp.read_to_end(&mut answer);
    let line = server.audit_of(tcp.local_addr().unwrap(), "refused");
    assert_eq!(line["reason"], "not_tls", "{line}");
    let mut client = ClientSpec::new(&world.pki).connect(server.address());
    client.handshake().unwrap();
    client.send(b"x").unwrap();
    assert_eq!(HeaderV2::read(&backend.wait_bytes(0, 28)).unwrap().0.source, client.address);
}
