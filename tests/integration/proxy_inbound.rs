//! `accept_proxy_from`: from these networks a PROXY header is required and believed, from others it is neither.

use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::{Client, ClientSpec};
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

/// A v2 header with this command, family and rest.
fn v2_of(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, family]);
    header.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
    header.extend(rest);
    header
}

/// The addresses of [`v2`] and these TLVs.
fn v2_with(tlvs: &[u8]) -> Vec<u8> {
    v2_of(0x21, 0x11, &[&v2()[16..], tlvs].concat())
}

/// A v2 header that ends in its checksum, computed bit by bit.
fn v2_with_checksum() -> Vec<u8> {
    let mut header = v2_with(&[3, 0, 4, 0, 0, 0, 0]);
    let sum = !header.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 })
    });
    let place = header.len() - 4;
    header[place..].copy_from_slice(&sum.to_be_bytes());
    header
}

/// Connects, and sends the header in the same segment as the ClientHello.
fn greet(world: &World, server: &Server, header: &[u8]) -> Client {
    let mut client = ClientSpec::new(&world.pki).connect(server.address());
    let mut bytes = header.to_vec();
    client.tls.write_tls(&mut bytes).unwrap();
    client.tcp.write_all(&bytes).unwrap();
    client
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

#[test]
fn a_header_in_one_segment_with_the_hello_with_tlvs_and_checksum_is_taken() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let Some(server) = behind(&world, &backend, "\"127.0.0.0/8\"") else { return };
    // ALPN, an unknown custom type, and padding; then a checksum that holds.
    let tlvs = [&[1, 0, 2, b'h', b'2', 0xea, 0, 3, 1, 2, 3, 4, 1, 0][..], &[0; 256]].concat();
    let v6 = b"PROXY TCP6 2001:db8::7 2001:db8::10 51234 443\r\n".to_vec();
    let v6_origin: SocketAddr = "[2001:db8::7]:51234".parse().unwrap();
    let origin: SocketAddr = ORIGIN.parse().unwrap();
    // IPv4 in the form of IPv6, as HAProxy writes where one end is IPv6: passed on like that, told by its own name.
    let mixed = b"PROXY TCP6 ::ffff:203.0.113.8 2001:db8::10 51235 443\r\n".to_vec();
    let mixed_origin: SocketAddr = "[::ffff:203.0.113.8]:51235".parse().unwrap();
    let headers = [(v2_with(&tlvs), origin), (v2_with_checksum(), origin), (v6, v6_origin), (mixed, mixed_origin)];
    for (index, (header, source)) in headers.into_iter().enumerate() {
        let mut client = greet(&world, &server, &header);
        client.handshake().unwrap();
        client.send(b"payload").unwrap();
        assert_eq!(HeaderV2::read(&backend.wait_bytes(index, 28)).unwrap().0.source, source);
        let told = SocketAddr::new(source.ip().to_canonical(), source.port()).to_string();
        let line = server.wait_audit(|line| line["event"] == "accepted" && line["client"] == told);
        assert_eq!(line["reason"], "ok", "{line}");
    }
}

#[test]
fn a_balancer_that_speaks_for_itself_or_for_nobody_known_is_its_own_client() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let Some(server) = behind(&world, &backend, "\"127.0.0.1\"") else { return };
    let unix = v2_of(0x21, 0x31, &[0; 216]);
    let headers = [
        v2_of(0x20, 0, &[]),
        v2_of(0x20, 0x11, &[9; 12]),
        v2_of(0x21, 0, &[7; 5]),
        unix,
        b"PROXY UNKNOWN\r\n".to_vec(),
    ];
    for (index, header) in headers.into_iter().enumerate() {
        let mut client = greet(&world, &server, &header);
        client.handshake().unwrap();
        client.send(b"payload").unwrap();
        assert_eq!(HeaderV2::read(&backend.wait_bytes(index, 28)).unwrap().0.source, client.address);
        assert_eq!(server.audit_of(client.address, "accepted")["decision"], "admit");
    }
}

#[test]
fn a_header_that_is_spoilt_or_does_not_end_is_refused_with_its_reason() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let mut config = ConfigText::new(&backend.server).limits("handshake_timeout = \"1s\"").admin();
    config.listeners[0].lines.push_str("\naccept_proxy_from = [\"127.0.0.0/8\"]");
    let server = world.serve(&config);
    let mut wrong_sum = v2_with_checksum();
    *wrong_sum.last_mut().unwrap() ^= 1;
    let spoilt = [
        (wrong_sum, "checksum"),
        (v2_with(&[1, 0, 9, b'h']), "past the end"),
        (v2_of(0x22, 0x11, &[0; 12]), "version or command"),
        (v2_of(0x21, 0x41, &[0; 12]), "family"),
        (v2_of(0x21, 0x11, &[0; 4]), "too short"),
        (b"PROXY TCP4 203.0.113.7 192.0.2.10 51234 99999\r\n".to_vec(), "ports"),
        (b"PROXY TCP4 203.0.113.7 192.0.2.10 51234 443\n".to_vec(), "CRLF"),
        (b"GET / HTTP/1.1\r\n".to_vec(), "accept_proxy_from"),
    ];
    let refused =
        || server.metric("countersign_handshake_failures_total{listener=\"public\",site=\"\",reason=\"not_tls\"}");
    for (count, (header, detail)) in spoilt.iter().enumerate() {
        let mut client = greet(&world, &server, header);
        assert!(client.echo(b"x").is_err());
        let line = server.audit_of(client.address, "refused");
        assert_eq!(line["reason"], "not_tls", "{line}");
        assert!(line["reason_detail"].as_str().unwrap().contains(detail), "{line}");
        assert_eq!(refused(), (count + 1) as f64);
    }
    let mut slow = TcpStream::connect(server.address()).unwrap();
    slow.write_all(&V1[..20]).unwrap();
    let line = server.audit_of(slow.local_addr().unwrap(), "refused");
    assert_eq!(line["reason"], "timeout", "{line}");
    assert!(line["reason_detail"].as_str().unwrap().contains("PROXY"), "{line}");
    assert_eq!(backend.connections(), 0);
}

#[test]
fn a_balancers_health_checks_leave_no_trace() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let Some(server) = behind(&world, &backend, "\"127.0.0.0/8\"") else { return };
    for header in [&b""[..], &v2_of(0x20, 0, &[]), V1] {
        let mut tcp = TcpStream::connect(server.address()).unwrap();
        tcp.write_all(header).unwrap();
        tcp.shutdown(std::net::Shutdown::Write).unwrap();
        tcp.set_read_timeout(Some(SOON)).unwrap();
        // It is over when our end is closed as well.
        let _ = tcp.read_to_end(&mut Vec::new());
    }
    let mut client = greet(&world, &server, V1);
    client.handshake().unwrap();
    server.wait_audit(|line| line["event"] == "accepted");
    assert!(server.audit().iter().all(|line| line["event"] != "refused"), "{:?}", server.audit());
    assert!(!server.process.stderr.text().contains("refused"));
}
