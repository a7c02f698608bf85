//! HAProxy and nginx, as Debian ships them, understand our PROXY v2 header.

use crate::world::World;
use crate::world::client::ClientSpec;
use crate::world::config::ConfigText;
use crate::world::peers::{haproxy_echo, nginx_echo};
use crate::world::process::needs;
use crate::world::server::Server;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// One request: the answer, and the client's own address as the backend should know it.
fn ask(world: &World, server: &Server) -> (String, std::net::SocketAddr) {
    let mut client = ClientSpec::new(&world.pki).connect(server.address());
    client.handshake().unwrap();
    client.send(REQUEST).unwrap();
    let (answer, _) = client.read_to_end();
    (String::from_utf8(answer).unwrap(), client.address)
}

#[test]
fn haproxy_reads_addresses_name_and_connection_id() {
    if !needs("haproxy") {
        return;
    }
    let world = World::new();
    let (_haproxy, backend) = haproxy_echo(world.path());
    for tlvs in ["\"authority\", \"unique_id\", \"ssl\"", "\"alpn\", \"authority\", \"unique_id\", \"ssl\", \"crc32c\""]
    {
        let config = ConfigText::new(&backend.to_string()).backend("proxy_protocol = \"v2\"");
        let server = world.serve(&config.backend(&format!("proxy_tlvs = [{tlvs}]")));
        let (answer, client) = ask(&world, &server);
        let id = server.audit_of(client, "accepted")["conn_id"].as_str().unwrap().to_uppercase();
        let expected = format!("src={client} dst_port={} authority=localhost id={id}", server.address().port());
        assert!(answer.contains(&expected), "wanted {expected:?} in {answer:?}");
        drop(server);
    }
}

#[test]
fn nginx_reads_the_addresses() {
    if !needs("nginx") {
        return;
    }
    let world = World::new();
    let (_nginx, backend) = nginx_echo(world.path());
    for version in ["v2", "v1"] {
        let config = ConfigText::new(&backend.to_string()).backend(&format!("proxy_protocol = \"{version}\""));
        let server = world.serve(&config);
        let (answer, client) = ask(&world, &server);
        let expected = format!("src={client} dst_port={}", server.address().port());
        assert!(answer.contains(&expected), "{version}: wanted {expected:?} in {answer:?}");
        drop(server);
    }
}
