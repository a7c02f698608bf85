//! Who is refused, with which alert on the wire and which reason in the audit; beside each, who is let in. Of a refused
//! client nothing reaches the backend, not even a connection.

use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::{Client, ClientSpec, Ending, TLS12, TLS13};
use crate::world::config::ConfigText;
use crate::world::peers::{openssl, s_client};
use crate::world::pki::{Ca, Credential, KeyKind, LeafSpec, SERVER_NAME, self_signed};
use crate::world::server::Server;
use crate::world::wait::SOON;
use rcgen::ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
use rustls::SupportedProtocolVersion;
use std::io::{Read, Write};
use std::net::TcpStream;
use time::{Duration, OffsetDateTime};

const BOTH: [&[&SupportedProtocolVersion]; 2] = [TLS12, TLS13];

/// Holds that a client is refused in both versions with this alert and one of these reasons, and that the backend got
/// no further connection.
fn assert_refused(server: &Server, backend: &Backend, spec: ClientSpec, alert: u8, reasons: &[&str]) {
    let connections = backend.connections();
    let mut spec = spec;
    for versions in BOTH {
        spec = spec.versions(versions);
        let mut client = spec.connect(server.address());
        assert_eq!(client.refusal(), Ending::Alert(alert), "{reasons:?} {versions:?}");
        let line = server.audit_of(client.address, "refused");
        assert!(reasons.contains(&line["reason"].as_str().unwrap()), "{reasons:?}: {line}");
        assert_eq!((&line["decision"], line["our_alert"].as_u64()), (&"refuse".into(), Some(alert.into())), "{line}");
        assert!(!line["cert"]["proven"].as_bool().unwrap_or(false), "{line}");
    }
    assert_eq!(backend.connections(), connections, "{reasons:?}: the backend heard of it");
}

fn assert_admitted(server: &Server, spec: ClientSpec, what: &str) {
    let mut spec = spec;
    for versions in BOTH {
        spec = spec.versions(versions);
        let mut client = spec.connect(server.address());
        client.echo(b"ping").unwrap_or_else(|ending| panic!("{what} {versions:?}: {ending:?}"));
    }
}

fn with(world: &World, credential: &Credential) -> ClientSpec {
    ClientSpec::with(&world.pki, credential)
}

#[test]
fn refuses_a_client_without_a_certificate() {
    let world = World::new();
    let (server, backend) = world.serve_before(echo());
    let mut client = ClientSpec::anonymous(&world.pki).versions(TLS13).connect(server.address());
    assert_eq!(client.refusal(), Ending::Alert(116));
    assert_eq!(server.audit_of(client.address, "refused")["reason"], "no_cert");
    let mut client = ClientSpec::anonymous(&world.pki).versions(TLS12).connect(server.address());
    // certificate_required belongs to TLS 1.3; in 1.2 handshake_failure is the standard's word and 116 is what rustls says.
    let ending = client.refusal();
    assert!([Ending::Alert(40), Ending::Alert(116)].contains(&ending), "{ending:?}");
    assert_eq!(server.audit_of(client.address, "refused")["reason"], "no_cert");
    assert_eq!(backend.connections(), 0);
    assert_admitted(&server, ClientSpec::new(&world.pki), "with its certificate");
}

#[test]
fn refuses_strangers_and_lets_the_known_in() {
    let world = World::new();
    let (server, backend) = world.serve_before(echo());
    let stranger = Ca::root("Somebody else").leaf(&LeafSpec::client("stranger"));
    assert_refused(&server, &backend, with(&world, &stranger), 48, &["unknown_issuer"]);
    // The same names as the real authority, with another key.
    let forged = Ca::root("Test client CA").leaf(&LeafSpec::client("acme-payments"));
    assert_refused(&server, &backend, with(&world, &forged), 51, &["bad_signature"]);
    let own = self_signed(&LeafSpec::client("acme-payments"));
    assert_refused(&server, &backend, with(&world, &own), 48, &["unknown_issuer"]);
    assert_admitted(&server, ClientSpec::new(&world.pki), "the real one");
}

#[test]
fn refuses_what_is_out_of_date() {
    let world = World::new();
    let (server, backend) = world.serve_before(echo());
    let now = OffsetDateTime::now_utc();
    let leaf = |from, to| world.pki.client_ca.leaf(&LeafSpec::client("x").valid(from, to));
    let expired = leaf(now - Duration::days(2), now - Duration::minutes(1));
    assert_refused(&server, &backend, with(&world, &expired), 45, &["expired"]);
    let early = leaf(now + Duration::hours(1), now + Duration::days(2));
    assert_refused(&server, &backend, with(&world, &early), 45, &["not_yet_valid"]);
    let good = leaf(now - Duration::minutes(1), now + Duration::minutes(10));
    assert_admitted(&server, with(&world, &good), "a valid one");
}

#[test]
fn refuses_a_certificate_for_another_purpose() {
    let world = World::new();
    let (server, backend) = world.serve_before(echo());
    let leaf = |purposes: &[_]| world.pki.client_ca.leaf(&LeafSpec::client("x").purposes(purposes));
    assert_refused(&server, &backend, with(&world, &leaf(&[ServerAuth])), 43, &["wrong_purpose"]);
    assert_admitted(&server, with(&world, &leaf(&[ServerAuth, ClientAuth])), "both purposes");
    assert_admitted(&server, with(&world, &leaf(&[])), "no purposes named");
    // anyExtendedKeyUsage alone: not accepted by the path validation; what matters is that it is told in that case.
    let mut client = with(&world, &leaf(&[Any])).connect(server.address());
    if client.echo(b"x").is_err() {
        assert_eq!(server.audit_of(client.address, "refused")["reason"], "wrong_purpose");
    }
}

#[test]
fn refuses_a_leaf_whose_intermediate_is_missing_and_lets_it_in_with_it() {
    let world = World::new();
    let (server, backend) = world.serve_before(echo());
    let intermediate = world.pki.client_ca.intermediate("Issuing CA");
    let leaf = intermediate.leaf(&LeafSpec::client("below"));
    assert_refused(&server, &backend, with(&world, &leaf), 48, &["unknown_issuer", "missing_intermediate"]);
    assert_admitted(&server, with(&world, &leaf.with_rest(&[&intermediate.der])), "with its intermediate");
    drop(server);
    world.write("helper.pem", &intermediate.pem);
    let server = world.serve(&ConfigText::new(&backend.server).client("intermediates = [\"helper.pem\"]"));
    assert_admitted(&server, with(&world, &leaf), "helped by the configuration");
    // A helper is never an anchor: one whose own issuer is not trusted helps nobody.
    let elsewhere = Ca::root("Somebody else");
    let foreign = elsewhere.intermediate("Foreign issuing CA");
    drop(server);
    world.write("helper.pem", &foreign.pem);
    let server = world.serve(&ConfigText::new(&backend.server).client("intermediates = [\"helper.pem\"]"));
    let leaf = foreign.leaf(&LeafSpec::client("foreign"));
    assert_refused(&server, &backend, with(&world, &leaf), 48, &["unknown_issuer", "missing_intermediate"]);
}

#[test]
fn refuses_chains_deeper_or_longer_than_configured() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let config = ConfigText::new(&backend.server).client("max_depth = 1").limits("client_chain_certificates = 3");
    let server = world.serve(&config);
    let one = world.pki.client_ca.intermediate("One");
    let two = one.intermediate("Two");
    let deep = two.leaf(&LeafSpec::client("deep")).with_rest(&[&two.der, &one.der]);
    assert_refused(&server, &backend, with(&world, &deep), 46, &["chain_too_deep"]);
    let shallow = one.leaf(&LeafSpec::client("shallow"));
    assert_admitted(&server, with(&world, &shallow.with_rest(&[&one.der])), "one intermediate");
    let padded = shallow.with_rest(&[&one.der, &two.der, &two.der]);
    assert_refused(&server, &backend, with(&world, &padded), 46, &["chain_too_big"]);
}

#[test]
fn refuses_a_chain_of_too_many_bytes() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&ConfigText::new(&backend.server).limits("client_chain_bytes = \"1KiB\""));
    let mut big = LeafSpec::client("big");
    big.dns = (0..60).map(|number| format!("name-{number}.partner.example")).collect();
    assert_refused(&server, &backend, with(&world, &world.pki.client_ca.leaf(&big)), 46, &["chain_too_big"]);
    assert_admitted(&server, ClientSpec::new(&world.pki), "a small one");
}

#[test]
fn refuses_an_authority_that_comes_as_a_client() {
    let world = World::new();
    let (server, backend) = world.serve_before(echo());
    let authority = world.pki.client_ca.intermediate("I am a CA").as_client();
    assert_refused(&server, &backend, with(&world, &authority), 46, &["ca_as_leaf"]);
}

#[test]
fn refuses_the_v1_leaf_of_most_how_to_texts_and_says_how_to_make_a_v3_one() {
    let world = World::new();
    let ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let run = |arguments: &[&str]| openssl(world.path(), arguments);
    run(&[
        &["req", "-x509"][..],
        &ec,
        &["-days", "2", "-subj", "/CN=How-to CA", "-keyout", "ca.key", "-out", "ca.pem"],
    ]
    .concat());
    run(&[&["req"][..], &ec, &["-subj", "/CN=how-to", "-keyout", "v.key", "-out", "v.csr"]].concat());
    let sign = ["x509", "-req", "-in", "v.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"];
    run(&[&sign[..], &["-out", "v1.pem"]].concat());
    world.write("ext", "basicConstraints = CA:FALSE\n");
    run(&[&sign[..], &["-extfile", "ext", "-out", "v3.pem"]].concat());
    let shown = run(&["x509", "-in", "v1.pem", "-noout", "-text"]);
    if !shown.stdout.contains("Version: 1") {
        println!("skipped: this openssl makes v3 certificates even without extensions");
        return;
    }
    let backend = Backend::tcp(echo());
    let mut config = ConfigText::new(&backend.server);
    config.sites[0].client = "trust = [\"ca.pem\"]".to_owned();
    let server = world.serve(&config);
    let credential = |name: &str| Credential::from_files(&world.path().join(name), &world.path().join("v.key"));
    let mut client = with(&world, &credential("v1.pem")).connect(server.address());
    assert_eq!(client.refusal(), Ending::Alert(43));
    let line = server.audit_of(client.address, "refused");
    assert_eq!(line["reason"], "unsupported_version", "{line}");
    let detail = line["reason_detail"].as_str().unwrap();
    assert!((detail.contains("v3") || detail.contains("version 3")) && detail.contains("-extfile"), "{detail}");
    assert_refused(&server, &backend, with(&world, &credential("v1.pem")), 43, &["unsupported_version"]);
    assert_admitted(&server, with(&world, &credential("v3.pem")), "the v3 one");
}

#[test]
fn refuses_whom_no_rule_admits_and_whom_a_rule_denies() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let config = ConfigText::new(&backend.server);
    let server = world
        .serve(&config.client("allow = [{ uri = \"spiffe://bank.example/payments/*\" }]\ndeny = [{ cn = \"old\" }]"));
    let leaf = |cn: &str, uri: &str| world.pki.client_ca.leaf(&LeafSpec::client(cn).uri(uri));
    let refused = [
        leaf("x", "spiffe://bank.example/payments/a/b"),
        leaf("x", "spiffe://bank.example/other/a"),
        leaf("old", "spiffe://bank.example/payments/a"),
        // A URI that stands in another field is not a URI.
        world.pki.client_ca.leaf(&LeafSpec::client("spiffe://bank.example/payments/a")),
    ];
    for credential in &refused {
        assert_refused(&server, &backend, with(&world, credential), 49, &["policy_denied"]);
    }
    assert_admitted(&server, with(&world, &leaf("x", "spiffe://bank.example/payments/a")), "as the rule says");
}

#[test]
fn an_empty_allow_list_admits_nobody() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&ConfigText::new(&backend.server).client("allow = []"));
    assert_refused(&server, &backend, ClientSpec::new(&world.pki), 49, &["policy_denied"]);
}

#[test]
fn optional_lets_a_client_without_a_certificate_in_and_refuses_a_bad_one() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&ConfigText::new(&backend.server).client("auth = \"optional\""));
    let stranger = Ca::root("Somebody else").leaf(&LeafSpec::client("stranger"));
    assert_refused(&server, &backend, with(&world, &stranger), 48, &["unknown_issuer"]);
    assert_admitted(&server, ClientSpec::anonymous(&world.pki), "anonymous");
    assert_admitted(&server, ClientSpec::new(&world.pki), "known");
}

#[test]
fn request_lets_strangers_in_but_never_with_a_key_that_is_not_theirs() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&ConfigText::new(&backend.server).client("auth = \"request\""));
    let stranger = Ca::root("Somebody else").leaf(&LeafSpec::client("stranger"));
    assert_admitted(&server, with(&world, &stranger), "a stranger");
    let mut stolen = stranger.clone();
    stolen.key = self_signed(&LeafSpec::client("thief")).key;
    for versions in BOTH {
        let connections = backend.connections();
        let mut client = with(&world, &stolen).versions(versions).connect(server.address());
        let ending = client.refusal();
        assert!(matches!(ending, Ending::Alert(_)), "{ending:?}");
        let line = server.audit_of(client.address, "refused");
        assert_eq!(line["cert"]["proven"], false, "{line}");
        assert_eq!(backend.connections(), connections);
    }
}

#[test]
fn a_valid_chain_with_a_key_that_is_not_its_own_is_refused() {
    let world = World::new();
    let (server, backend) = world.serve_before(echo());
    // The chain is in the cache then: possession of the key is to be proven all the same.
    assert_admitted(&server, ClientSpec::new(&world.pki), "the owner");
    let connections = backend.connections();
    let mut stolen = world.pki.client.clone();
    stolen.key = self_signed(&LeafSpec::client("thief")).key;
    for versions in BOTH {
        let mut client = with(&world, &stolen).versions(versions).connect(server.address());
        assert_eq!(client.refusal(), Ending::Alert(51), "decrypt_error");
        let line = server.audit_of(client.address, "refused");
        assert_eq!((&line["cert"]["proven"], &line["decision"]), (&false.into(), &"refuse".into()), "{line}");
    }
    assert_eq!(backend.connections(), connections);
}

#[test]
fn pin_admits_only_what_a_hash_names_whatever_its_issuer_and_dates() {
    let world = World::new();
    let now = OffsetDateTime::now_utc();
    let expired = LeafSpec::client("pinned").valid(now - Duration::days(9), now - Duration::days(1));
    let (pinned, other) = (self_signed(&expired), self_signed(&LeafSpec::client("pinned")));
    let backend = Backend::tcp(echo());
    let mut config = ConfigText::new(&backend.server);
    config.sites[0].client =
        format!("auth = \"pin\"\nallow = [{{ name = \"acme\", sha256 = \"{}\" }}]", pinned.sha256());
    let server = world.serve(&config);
    let connections = backend.connections();
    for versions in BOTH {
        let mut client = with(&world, &other).versions(versions).connect(server.address());
        assert!(matches!(client.refusal(), Ending::Alert(_)));
        let mut client = ClientSpec::anonymous(&world.pki).versions(versions).connect(server.address());
        assert!(matches!(client.refusal(), Ending::Alert(_)));
        assert_eq!(server.audit_of(client.address, "refused")["reason"], "no_cert");
    }
    assert_eq!(backend.connections(), connections);
    assert_admitted(&server, with(&world, &pinned), "the pinned one");
}

#[test]
fn refuses_a_name_that_no_site_has_and_no_name_at_all() {
    let world = World::new();
    let wild = world.pki.server_ca.leaf(&LeafSpec::server(&[SERVER_NAME, "*.partners.example"], KeyKind::Ecdsa));
    wild.write(world.path(), "server");
    let backend = Backend::tcp(echo());
    let server = world.serve(&ConfigText::new(&backend.server).site("names = [\"localhost\", \"*.partners.example\"]"));
    let spec = ClientSpec::new(&world.pki);
    for versions in BOTH {
        let config = ClientSpec::new(&world.pki).versions(versions).build();
        for name in ["other.example", "a.b.partners.example", "partners.example"] {
            let mut client = Client::connect(&config, name, server.address());
            assert_eq!(client.refusal(), Ending::Alert(112), "{name}");
            let line = server.audit_of(client.address, "refused");
            assert_eq!((&line["reason"], &line["sni"]), (&"sni_unknown".into(), &name.into()), "{line}");
        }
        let silent = ClientSpec { sni: false, ..ClientSpec::new(&world.pki) }.versions(versions).build();
        let mut client = Client::connect(&silent, SERVER_NAME, server.address());
        assert_eq!(client.refusal(), Ending::Alert(112), "no name");
        assert_eq!(server.audit_of(client.address, "refused")["reason"], "sni_unknown");
    }
    assert_eq!(backend.connections(), 0);
    for name in [SERVER_NAME, "a.partners.example", "LOCALHOST"] {
        let mut client = Client::connect(&spec.build(), name, server.address());
        client.echo(b"x").unwrap_or_else(|ending| panic!("{name}: {ending:?}"));
    }
}

#[test]
fn refuses_when_no_application_protocol_fits() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&ConfigText::new(&backend.server).site("alpn = [\"bank/1\"]"));
    let offering = |name: &[u8]| ClientSpec { alpn: vec![name.to_vec()], ..ClientSpec::new(&world.pki) };
    assert_refused(&server, &backend, offering(b"h2"), 120, &["alpn_none"]);
    assert_admitted(&server, offering(b"bank/1"), "the right protocol");
    assert_admitted(&server, ClientSpec::new(&world.pki), "none offered");
}

#[test]
fn refuses_old_protocol_versions() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&ConfigText::new(&backend.server));
    let arguments = ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0", "-cert", "client.pem", "-key", "client.key"];
    let output = s_client(world.path(), server.address(), &arguments, b"");
    assert!(output.stderr.contains("alert number 70"), "{}", output.text());
    assert_eq!(server.wait_audit(|line| line["event"] == "refused")["reason"], "policy_incompatible");
    drop(server);
    let server = world.serve(&ConfigText::new(&backend.server).tls("min_version = \"1.3\""));
    let mut client = ClientSpec::new(&world.pki).versions(TLS12).connect(server.address());
    assert_eq!(client.refusal(), Ending::Alert(70));
    assert_eq!(server.audit_of(client.address, "refused")["reason"], "policy_incompatible");
    assert_eq!(backend.connections(), 0);
    ClientSpec::new(&world.pki).versions(TLS13).connect(server.address()).echo(b"x").unwrap();
}

#[test]
fn refuses_plain_http_and_noise() {
    let world = World::new();
    let (server, backend) = world.serve_before(echo());
    for bytes in
        [&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], b"SSH-2.0-OpenSSH_9.2\r\n", &[0x80, 0x2e, 1, 0, 2, 0, 0]]
    {
        let mut tcp = TcpStream::connect(server.address()).unwrap();
        tcp.set_read_timeout(Some(SOON)).unwrap();
        tcp.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let _ = tcp.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer[0] == 21, "only an alert may answer: {answer:02x?}");
        let line = server.audit_of(tcp.local_addr().unwrap(), "refused");
        assert_eq!(line["reason"], "not_tls", "{line}");
        let alert = answer.get(6).map(|alert| u64::from(*alert));
        assert_eq!(line["our_alert"].as_u64(), alert, "{line} {answer:02x?}");
    }
    assert_eq!(backend.connections(), 0);
}

#[test]
fn a_client_that_stops_before_its_certificate_never_reaches_the_backend() {
    let world = World::new();
    let (server, backend) = world.serve_before(echo());
    for versions in BOTH {
        let mut client = ClientSpec::new(&world.pki).versions(versions).connect(server.address());
        client.tls.write_tls(&mut client.tcp).unwrap();
        let mut first = [0; 1];
        client.tcp.read_exact(&mut first).unwrap();
        let address = client.address;
        drop(client);
        let line = server.audit_of(address, "refused");
        assert_eq!(line["decision"], "refuse", "{line}");
    }
    drop(TcpStream::connect(server.address()).unwrap());
    assert_eq!(backend.connections(), 0);
}

#[test]
fn what_a_refused_client_sent_early_never_reaches_the_backend() {
    let world = World::new();
    let (server, backend) = world.serve_before(echo());
    let stranger = Ca::root("Somebody else").leaf(&LeafSpec::client("stranger"));
    for round in 0..20 {
        let mut client = with(&world, &stranger).versions(TLS13).connect(server.address());
        client.handshake().unwrap();
        // The client thinks itself done and sends data with its Finished. The alert must survive the unread bytes.
        let _ = client.send(&[b'!'; 30_000]);
        assert_eq!(client.read_to_end(), (Vec::new(), Ending::Alert(48)), "round {round}");
        server.audit_of(client.address, "refused");
    }
    assert_eq!(backend.connections(), 0);
}

#[test]
fn superfluous_and_misordered_certificates_do_no_harm() {
    let world = World::new();
    let (server, _backend) = world.serve_before(echo());
    let one = world.pki.client_ca.intermediate("One");
    let two = one.intermediate("Two");
    let elsewhere = Ca::root("Somebody else");
    let leaf = two.leaf(&LeafSpec::client("below"));
    let root = &world.pki.client_ca.der;
    let chains: [(&str, &[_]); 5] = [
        ("in order", &[&two.der, &one.der]),
        ("with the root", &[&two.der, &one.der, root]),
        ("the other way round", &[root, &one.der, &two.der]),
        ("with strangers among them", &[&elsewhere.der, &one.der, &elsewhere.der, &two.der]),
        ("with each twice", &[&two.der, &two.der, &one.der, &one.der]),
    ];
    for (what, rest) in chains {
        assert_admitted(&server, with(&world, &leaf.with_rest(rest)), what);
    }
}

#[test]
fn refuses_weak_keys_and_signatures() {
    let world = World::new();
    let run = |arguments: &[&str]| openssl(world.path(), arguments);
    let rsa = |bits: &'static str| ["-newkey", bits, "-nodes"];
    run(&[
        &["req", "-x509"][..],
        &rsa("rsa:2048"),
        &["-subj", "/CN=CA", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem"],
    ]
    .concat());
    world.write("ext", "basicConstraints = CA:FALSE\n");
    let issue = |name: &str, bits: &'static str, digest: &str| {
        let (key, csr, pem) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
        run(&[&["req"][..], &rsa(bits), &["-subj", "/CN=x", "-keyout", &key, "-out", &csr]].concat());
        run(&[
            "x509",
            "-req",
            "-in",
            &csr,
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "ext",
            digest,
            "-out",
            &pem,
        ]);
        Credential::from_files(&world.path().join(pem), &world.path().join(key))
    };
    let backend = Backend::tcp(echo());
    let mut config = ConfigText::new(&backend.server);
    config.sites[0].client = "trust = [\"ca.pem\"]".to_owned();
    let server = world.serve(&config);
    assert_admitted(&server, with(&world, &issue("good", "rsa:2048", "-sha256")), "a strong one");
    let sha1 = issue("sha1", "rsa:2048", "-sha1");
    assert_refused(&server, &backend, with(&world, &sha1), 51, &["weak_or_unsupported_sig"]);
    // rustls signs with no such key, and so openssl brings it.
    issue("short", "rsa:1024", "-sha256");
    let connections = backend.connections();
    for version in ["-tls1_2", "-tls1_3"] {
        let weak = [version, "-cert", "short.pem", "-key", "short.key", "-cipher", "DEFAULT:@SECLEVEL=0"];
        let output = s_client(world.path(), server.address(), &weak, b"x");
        assert!(output.stderr.contains("SSL alert number"), "{version}: {}", output.text());
    }
    assert_eq!(backend.connections(), connections);
}
