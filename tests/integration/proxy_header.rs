//! What the PROXY header tells a backend, read byte by byte.

use crate::world::World;
use crate::world::backend::{Backend, send_then_finish, swallow};
use crate::world::client::{Client, ClientSpec, TLS12, TLS13, Tickets};
use crate::world::config::ConfigText;
use crate::world::pki::{CLIENT_CN, Ca, KeyKind, LeafSpec, SERVER_NAME};
use crate::world::proxy::{HeaderV2, crc32c};
use crate::world::server::Server;
use crate::world::wait::{self, SOON};

/// The header of the `index`-th connection, waited for.
fn header(backend: &Backend, index: usize) -> HeaderV2 {
    wait::until_some(SOON, || HeaderV2::read(&backend.seen(index).received).map(|(header, _)| header))
        .unwrap_or_else(|| panic!("no header: {:02x?}", backend.seen(index)))
}

fn v2(world: &World, backend: &Backend, add: impl Fn(ConfigText) -> ConfigText) -> Server {
    world.serve(&add(ConfigText::new(&backend.server).backend("proxy_protocol = \"v2\"")))
}

fn open(spec: &ClientSpec, server: &Server) -> Client {
    let mut client = spec.connect(server.address());
    client.handshake().unwrap();
    client
}

#[test]
fn v2_tells_addresses_name_id_and_the_clients_certificate_in_both_versions() {
    let world = World::new();
    let backend = Backend::tcp(swallow());
    let server = v2(&world, &backend, |config| config);
    for (index, (versions, version, cipher)) in
        [(TLS12, "TLSv1.2", "ECDHE-ECDSA-"), (TLS13, "TLSv1.3", "TLS_")].into_iter().enumerate()
    {
        let mut client = open(&ClientSpec::new(&world.pki).versions(versions), &server);
        client.send(b"payload").unwrap();
        let header = header(&backend, index);
        assert_eq!((header.source, header.destination), (client.address, server.address()));
        assert_eq!(header.text(0x02), Some(SERVER_NAME));
        assert_eq!(header.tlv(0x01), None, "no ALPN was negotiated");
        let line = server.audit_of(client.address, "accepted");
        assert_eq!(line["conn_id"], hex::encode(header.tlv(0x05).unwrap()));
        let ssl = header.ssl().unwrap();
        assert_eq!((ssl.client, ssl.verify), (0x07, 0));
        assert_eq!((ssl.text(0x21), ssl.text(0x22)), (Some(version), Some(CLIENT_CN)));
        assert!(ssl.text(0x23).unwrap().starts_with(cipher), "{ssl:?}");
        assert_eq!(ssl.text(0x24), Some("ecdsa-with-SHA256"));
        assert_eq!(ssl.text(0x25), Some("EC256"));
        let group = if version == "TLSv1.3" { "X25519MLKEM768" } else { "X25519" };
        assert!(ssl.text(0x26).is_some_and(|name| name.eq_ignore_ascii_case(group)), "{ssl:?}");
        assert_eq!(ssl.text(0x27), Some("ecdsa_secp256r1_sha256"));
        let all = backend.wait_bytes(index, header.raw.len() + 7);
        assert_eq!(&all[header.raw.len()..], b"payload", "the payload follows the header");
    }
}

#[test]
fn v2_tells_the_key_of_an_rsa_server() {
    let world = World::new();
    world.pki.server_ca.leaf(&LeafSpec::server(&[SERVER_NAME], KeyKind::Rsa)).write(world.path(), "server");
    let backend = Backend::tcp(swallow());
    let server = v2(&world, &backend, |config| config);
    let _client = open(&ClientSpec::new(&world.pki), &server);
    let ssl = header(&backend, 0).ssl().unwrap();
    assert_eq!(ssl.text(0x25), Some("RSA2048"));
    assert!(ssl.text(0x27).is_some_and(|scheme| scheme.starts_with("rsa_pss_rsae_sha")), "{ssl:?}");
}

#[test]
fn v2_carries_the_checksum_the_certificate_and_the_protocol_when_asked() {
    let world = World::new();
    let backend = Backend::tcp(swallow());
    let server = v2(&world, &backend, |config| {
        let tlvs = "proxy_tlvs = [\"alpn\", \"authority\", \"unique_id\", \"ssl\", \"crc32c\", \"client_cert\"]";
        config.backend(tlvs).site("alpn = [\"bank/1\"]")
    });
    let spec = ClientSpec { alpn: vec![b"bank/1".to_vec()], ..ClientSpec::new(&world.pki) };
    let client = open(&spec, &server);
    let header = header(&backend, 0);
    assert_eq!(header.tlv(0x01), Some(&b"bank/1"[..]));
    assert_eq!(server.audit_of(client.address, "accepted")["alpn"], "bank/1");
    let checksum = header.tlv(0x03).unwrap().to_vec();
    let at = header.raw.len() - 4;
    assert_eq!(&header.raw[at..], checksum, "the checksum comes last");
    let mut zeroed = header.raw.clone();
    zeroed[at..].fill(0);
    assert_eq!(crc32c(&zeroed).to_be_bytes(), checksum.as_slice());
    let der = header.ssl().unwrap().tlvs.into_iter().find(|(kind, _)| *kind == 0x28);
    assert_eq!(der.map(|(_, der)| der), Some(world.pki.client.chain[0].to_vec()));
}

#[test]
fn v2_holds_only_what_was_asked_for() {
    let world = World::new();
    let backend = Backend::tcp(swallow());
    let server = v2(&world, &backend, |config| config.backend("proxy_tlvs = []"));
    let client = open(&ClientSpec::new(&world.pki), &server);
    let header = header(&backend, 0);
    assert_eq!((header.source, header.tlvs.len()), (client.address, 0));
}

#[test]
fn v2_marks_an_anonymous_client_and_one_that_failed_verification() {
    let world = World::new();
    let backend = Backend::tcp(swallow());
    let optional = v2(&world, &backend, |config| config.client("auth = \"optional\""));
    let _anonymous = open(&ClientSpec::anonymous(&world.pki), &optional);
    let ssl = header(&backend, 0).ssl().unwrap();
    assert_eq!((ssl.client, ssl.verify, ssl.text(0x22)), (0x01, 1, None));
    drop(optional);

    let request = v2(&world, &backend, |config| config.client("auth = \"request\""));
    let stranger = Ca::root("Somebody else").leaf(&LeafSpec::client("stranger"));
    let client = open(&ClientSpec::with(&world.pki, &stranger), &request);
    let ssl = header(&backend, 1).ssl().unwrap();
    assert_eq!((ssl.client, ssl.text(0x22)), (0x07, Some("stranger")));
    assert!([18, 19, 20, 21].contains(&ssl.verify), "{ssl:?}");
    let line = request.audit_of(client.address, "accepted");
    assert_eq!(
        (line["verify"].as_u64(), &line["reason"]),
        (Some(ssl.verify.into()), &"unknown_issuer".into()),
        "{line}"
    );
    let _anonymous = open(&ClientSpec::anonymous(&world.pki), &request);
    assert_eq!(header(&backend, 2).ssl().unwrap().client, 0x01);
}

#[test]
fn v2_marks_a_resumed_session_and_keeps_its_certificate() {
    let world = World::new();
    let backend = Backend::tcp(crate::world::backend::echo());
    let server = v2(&world, &backend, |config| config.backend("proxy_tlvs = [\"ssl\", \"client_cert\"]"));
    let mut index = 0;
    for versions in [TLS12, TLS13] {
        let config = ClientSpec::new(&world.pki).versions(versions).tickets(&Tickets::new()).build();
        let mut ssl = Vec::new();
        for expected in [false, true] {
            let mut client = Client::connect(&config, SERVER_NAME, server.address());
            client.handshake().unwrap();
            let header = header(&backend, index);
            client.read_exactly(header.raw.len()).unwrap();
            assert_eq!(client.resumed(), expected);
            ssl.push(header.ssl().unwrap());
            index += 1;
        }
        assert_eq!((ssl[0].client, ssl[1].client), (0x07, 0x05));
        assert_eq!((ssl[0].verify, ssl[1].verify), (0, 0));
        for kind in [0x22, 0x28] {
            let value = |ssl: &crate::world::proxy::Ssl| ssl.tlvs.iter().find(|(this, _)| *this == kind).cloned();
            assert_eq!(value(&ssl[0]), value(&ssl[1]), "TLV {kind:#x}");
            assert!(value(&ssl[0]).is_some(), "TLV {kind:#x}");
        }
    }
}

#[test]
fn v2_tells_ipv6_addresses() {
    let world = World::new();
    let backend = Backend::tcp(swallow());
    let mut config = ConfigText::new(&backend.server).backend("proxy_protocol = \"v2\"");
    config.listeners[0].lines = "address = [\"[::1]:0\"]".to_owned();
    let server = world.serve(&config);
    let client = open(&ClientSpec::new(&world.pki), &server);
    let header = header(&backend, 0);
    assert_eq!((header.source, header.destination), (client.address, server.address()));
}

#[test]
fn v2_reaches_a_unix_backend_and_one_that_speaks_first() {
    let world = World::new();
    let backend = Backend::unix(world.path(), send_then_finish(b"220 ready"));
    let server = v2(&world, &backend, |config| config);
    let mut client = open(&ClientSpec::new(&world.pki), &server);
    assert_eq!(client.read_exactly(9).unwrap(), b"220 ready");
    assert_eq!(header(&backend, 0).source, client.address);
}

#[test]
fn v1_is_one_line_before_the_payload() {
    let world = World::new();
    let backend = Backend::tcp(swallow());
    let server = world.serve(&ConfigText::new(&backend.server).backend("proxy_protocol = \"v1\""));
    let mut client = open(&ClientSpec::new(&world.pki), &server);
    client.send(b"payload").unwrap();
    let (client, server) = (client.address, server.address());
    let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\npayload", client.port(), server.port());
    assert_eq!(backend.wait_bytes(0, expected.len()), expected.as_bytes());
}

#[test]
fn off_adds_nothing() {
    let world = World::new();
    let (server, backend) = world.serve_before(swallow());
    let mut client = open(&ClientSpec::new(&world.pki), &server);
    client.send(b"payload").unwrap();
    client.close_notify();
    assert_eq!(backend.wait_end(0).received, b"payload");
}
