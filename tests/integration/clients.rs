//! Clients that other people wrote get in, in both protocol versions and with both kinds of key, and the audit line
//! says who they are.

use crate::world::World;
use crate::world::backend::{Backend, Script, echo};
use crate::world::client::{ClientSpec, TLS12, TLS13};
use crate::world::config::ConfigText;
use crate::world::peers::{curl, s_client};
use crate::world::pki::{CLIENT_CN, CLIENT_IDENTITY, CLIENT_URI, KeyKind, LeafSpec, SERVER_NAME};
use crate::world::process::{needs, run};
use crate::world::server::Server;
use serde_json::Value;
use std::process::Command;
use std::sync::Arc;

/// Answers the first bytes with a small HTTP response and ends.
fn greet() -> Script {
    Arc::new(|mut conversation| {
        conversation.read();
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nhello!\n");
        conversation.finish();
        conversation.drain();
    })
}

/// The `closed` line of the `index`-th connection that ended.
fn closed(server: &Server, index: usize) -> Value {
    let nth = |server: &Server| server.audit().into_iter().filter(|line| line["event"] == "closed").nth(index);
    crate::world::wait::until_some(crate::world::wait::SOON, || nth(server)).expect("a closed line")
}

fn assert_is_standard_client(line: &Value, version: &str) {
    assert_eq!(line["tls"]["version"], version, "{line}");
    assert_eq!(line["identity"], CLIENT_IDENTITY, "{line}");
    assert_eq!(line["decision"], "admit", "{line}");
    assert_eq!(line["reason"], "ok", "{line}");
    assert_eq!(line["sni"], SERVER_NAME, "{line}");
}

#[test]
fn openssl_is_let_in_with_ecdsa_and_rsa_in_both_versions() {
    for server_key in [KeyKind::Ecdsa, KeyKind::Rsa] {
        let world = World::new();
        world.pki.server_ca.leaf(&LeafSpec::server(&[SERVER_NAME], server_key)).write(world.path(), "server");
        let rsa = LeafSpec::client(CLIENT_CN).uri(CLIENT_URI).key(KeyKind::Rsa);
        world.pki.client_ca.leaf(&rsa).write(world.path(), "client-rsa");
        let (server, _backend) = world.serve_before(greet());
        let mut index = 0;
        for (flag, version) in [("-tls1_2", "1.2"), ("-tls1_3", "1.3")] {
            for name in ["client", "client-rsa"] {
                let (chain, key) = (format!("{name}.pem"), format!("{name}.key"));
                let output = s_client(
                    world.path(),
                    server.address(),
                    &[flag, "-cert", &chain, "-key", &key],
                    b"GET / HTTP/1.1\r\n\r\n",
                );
                assert!(output.stdout.contains("hello!"), "{server_key:?} {flag} {name}: {}", output.text());
                let line = closed(&server, index);
                assert_is_standard_client(&line, version);
                index += 1;
            }
        }
        assert_eq!(server.stop(), 0);
    }
}

#[test]
fn rsa_beside_ecdsa_gives_each_client_the_one_it_can_use() {
    let world = World::new();
    world.pki.server_ca.leaf(&LeafSpec::server(&[SERVER_NAME], KeyKind::Rsa)).write(world.path(), "server-rsa");
    let backend = Backend::tcp(greet());
    let mut config = ConfigText::new(&backend.server);
    config.sites[0].lines =
        "name = \"payments\"\nbackend = \"ledger\"\ncertificate = [{ chain = \"server.pem\", key = \
                             \"server.key\" }, { chain = \"server-rsa.pem\", key = \"server-rsa.key\" }]"
            .to_owned();
    let server = world.serve(&config);
    for (cipher, shown) in [("ECDHE-ECDSA-AES128-GCM-SHA256", "256 bit"), ("ECDHE-RSA-AES128-GCM-SHA256", "2048 bit")] {
        let arguments = ["-tls1_2", "-cipher", cipher, "-cert", "client.pem", "-key", "client.key"];
        let output = s_client(world.path(), server.address(), &arguments, b"x\n");
        assert!(output.stdout.contains("hello!"), "{cipher}: {}", output.text());
        assert!(output.stdout.contains(&format!("Server public key is {shown}")), "{cipher}: {}", output.stdout);
    }
}

#[test]
fn curl_is_let_in_in_both_versions() {
    if !needs("curl") {
        return;
    }
    let world = World::new();
    let files = world.pki.client.write(world.path(), "client");
    let (server, _backend) = world.serve_before(greet());
    for (index, (version, flags)) in
        [("1.2", ["--tlsv1.2", "--tls-max", "1.2"]), ("1.3", ["--tlsv1.3", "--tls-max", "1.3"])].into_iter().enumerate()
    {
        let output = curl(world.path(), server.address(), Some(&files), &flags);
        assert_eq!((output.code, output.stdout.trim()), (Some(0), "hello!"), "{}", output.text());
        assert_is_standard_client(&closed(&server, index), version);
    }
    let output = curl(world.path(), server.address(), None, &[]);
    assert_ne!(output.code, Some(0), "curl without a certificate: {}", output.text());
}

#[test]
fn gnutls_is_let_in_in_both_versions() {
    if !needs("gnutls-cli") {
        return;
    }
    let world = World::new();
    let (server, _backend) = world.serve_before(greet());
    for (index, (version, priority)) in
        [("1.2", "NORMAL:-VERS-ALL:+VERS-TLS1.2"), ("1.3", "NORMAL:-VERS-ALL:+VERS-TLS1.3")].into_iter().enumerate()
    {
        let script = format!(
            "printf 'GET / HTTP/1.1\\r\\n\\r\\n' | timeout 20 gnutls-cli --x509cafile server-ca.pem --x509certfile client.pem \
             --x509keyfile client.key --priority {priority} --port {} localhost",
            server.address().port()
        );
        let output = run(Command::new("sh").current_dir(world.path()).args(["-c", &script]));
        assert!(output.stdout.contains("hello!"), "{version}: {}", output.text());
        assert_is_standard_client(&closed(&server, index), version);
    }
}

#[test]
fn the_audit_tells_who_came_with_what_and_how_much_was_said() {
    let world = World::new();
    let (server, _backend) = world.serve_before(echo());
    for (versions, version, cipher_prefix) in [(TLS12, "1.2", "TLS_ECDHE_ECDSA_WITH_"), (TLS13, "1.3", "TLS_")] {
        let mut client = ClientSpec::new(&world.pki).versions(versions).connect(server.address());
        client.echo(b"twelve bytes").unwrap();
        let accepted = server.audit_of(client.address, "accepted");
        assert_is_standard_client(&accepted, version);
        client.close_notify();
        client.read_to_end();
        let line = server.audit_of(client.address, "closed");
        assert_is_standard_client(&line, version);
        assert_eq!(line["conn_id"], accepted["conn_id"]);
        assert!(line["tls"]["cipher"].as_str().unwrap().starts_with(cipher_prefix), "{line}");
        assert_eq!(line["tls"]["resumed"], false);
        assert_eq!((&line["listener"], &line["site"]), (&"public".into(), &"payments".into()), "{line}");
        assert_eq!((line["bytes_in"].as_u64(), line["bytes_out"].as_u64()), (Some(12), Some(12)), "{line}");
        assert!(line["backend"].as_str().unwrap().contains("ledger"), "{line}");
        assert_eq!(line["path"], "user", "{line}");
        assert!(line["duration_ms"].as_f64().is_some() && line["handshake_ms"].as_f64().is_some(), "{line}");
        assert_certificate_fields(&line["cert"], &world);
    }
    assert_eq!(server.stop(), 0);
}

fn assert_certificate_fields(cert: &Value, world: &World) {
    use base64::Engine;
    let sha256 = world.pki.client.sha256();
    let thumbprint = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(hex::decode(&sha256).unwrap());
    assert_eq!(cert["subject"], format!("CN={CLIENT_CN}"), "{cert}");
    assert_eq!(cert["issuer"], "CN=Test client CA", "{cert}");
    assert_eq!(u64::from_str_radix(cert["serial"].as_str().unwrap(), 16), Ok(0x03a5b1), "{cert}");
    assert_eq!(cert["sha256"], sha256, "{cert}");
    assert_eq!(cert["x5t_s256"], thumbprint, "{cert}");
    assert_eq!(cert["san"], serde_json::json!([format!("uri:{CLIENT_URI}")]), "{cert}");
    assert_eq!((&cert["chain_len"], &cert["proven"]), (&1.into(), &true.into()), "{cert}");
}

#[test]
fn the_audit_names_the_identity_by_rule_uri_dns_email_cn_and_hash() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let allow = "allow = [{ name = \"acme\", cn = \"by-rule\" }, { dns = \"*.partner.example\" }, { email = \"a@b.example\" }, \
                 { cn = \"by-cn\" }, { uri = \"spiffe://bank.example/**\" }, { serial = \"77\" }]";
    let server = world.serve(&ConfigText::new(&backend.server).client(allow));
    let mail = LeafSpec { emails: vec!["a@b.example".to_owned()], ..LeafSpec::client("x") };
    let nameless = LeafSpec { cn: None, ou: Some("unit".to_owned()), ..LeafSpec::client("x").serial(0x77) };
    let nameless = world.pki.client_ca.leaf(&nameless);
    let hash = format!("sha256:{}", nameless.sha256());
    let leaf = |spec: &LeafSpec| world.pki.client_ca.leaf(spec);
    let cases = [
        (leaf(&LeafSpec::client("by-rule").uri("spiffe://bank.example/x")), "name:acme"),
        (
            leaf(&LeafSpec::client("x").dns("a.partner.example").uri("spiffe://bank.example/y")),
            "uri:spiffe://bank.example/y",
        ),
        (leaf(&LeafSpec::client("x").dns("a.partner.example")), "dns:a.partner.example"),
        (leaf(&mail), "email:a@b.example"),
        (leaf(&LeafSpec::client("by-cn")), "cn:by-cn"),
        (nameless, hash.as_str()),
    ];
    for (credential, identity) in &cases {
        let mut client = ClientSpec::with(&world.pki, credential).connect(server.address());
        client.echo(b"x").unwrap_or_else(|ending| panic!("{identity}: {ending:?}"));
        assert_eq!(server.audit_of(client.address, "accepted")["identity"], *identity);
    }
}
