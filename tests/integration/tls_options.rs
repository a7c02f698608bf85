//! What `[site.tls]` and `advertise` choose is what clients meet; ClientHellos in pieces are understood.

use crate::world::World;
use crate::world::backend::{Backend, echo, send_then_finish};
use crate::world::client::{Client, ClientSpec, TLS12, TLS13};
use crate::world::config::{ConfigText, SiteText};
use crate::world::peers::{openssl, s_client};
use crate::world::pki::SERVER_NAME;
use crate::world::process::Output;
use std::io::Write;
use std::sync::Arc;

fn ask_openssl(world: &World, config: &ConfigText, arguments: &[&str]) -> Output {
    let server = world.serve(config);
    let client = ["-cert", "client.pem", "-key", "client.key"];
    s_client(world.path(), server.address(), &[arguments, &client].concat(), b"x\n")
}

#[test]
fn the_cipher_suites_are_the_configured_ones_by_either_name() {
    let world = World::new();
    let backend = Backend::tcp(send_then_finish(b"hello!"));
    let config = ConfigText::new(&backend.server)
        .tls("cipher_suites = [\"TLS_AES_256_GCM_SHA384\", \"ECDHE-ECDSA-CHACHA20-POLY1305\"]");
    for (version, cipher) in [("-tls1_3", "TLS_AES_256_GCM_SHA384"), ("-tls1_2", "ECDHE-ECDSA-CHACHA20-POLY1305")] {
        let output = ask_openssl(&world, &config, &[version]);
        assert!(output.stdout.contains(&format!("Cipher is {cipher}")), "{version}: {}", output.text());
    }
    let refused = ask_openssl(&world, &config, &["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"]);
    assert!(refused.stderr.contains("alert number 40"), "{}", refused.text());
}

#[test]
fn the_groups_are_the_configured_ones_and_a_second_hello_is_asked_for() {
    let world = World::new();
    let backend = Backend::tcp(send_then_finish(b"hello!"));
    let config = ConfigText::new(&backend.server).tls("groups = [\"secp384r1\"]");
    let output = ask_openssl(&world, &config, &["-tls1_3", "-groups", "X25519:P-384"]);
    assert!(output.stdout.contains("ECDH, secp384r1") || output.stdout.contains("ECDH, P-384"), "{}", output.text());
    assert!(output.stdout.contains("hello!"), "{}", output.text());
    let refused = ask_openssl(&world, &config, &["-tls1_3", "-groups", "X25519"]);
    assert!(refused.stderr.contains("alert number 40"), "{}", refused.text());
}

#[test]
fn the_post_quantum_group_is_preferred() {
    let world = World::new();
    let (server, _backend) = world.serve_before(echo());
    let mut client = ClientSpec::new(&world.pki).versions(TLS13).connect(server.address());
    client.echo(b"x").unwrap();
    let line = server.audit_of(client.address, "accepted");
    assert_eq!(line["tls"]["group"], "X25519MLKEM768", "{line}");
}

#[test]
fn the_authorities_names_are_told_or_not_as_configured() {
    let world = World::new();
    let backend = Backend::tcp(send_then_finish(b"hello!"));
    let plain = ConfigText::new(&backend.server);
    world.write("list.pem", &world.pki.server_ca.pem);
    for version in ["-tls1_2", "-tls1_3"] {
        let told = ask_openssl(&world, &plain, &[version]);
        assert!(told.stdout.contains("Acceptable client certificate CA names\nCN = Test client CA"), "{}", told.stdout);
        let none = ask_openssl(&world, &plain.clone().client("advertise = \"none\""), &[version]);
        assert!(none.stdout.contains("No client certificate CA names sent"), "{}", none.stdout);
        let listed = ask_openssl(&world, &plain.clone().client("advertise = [\"list.pem\"]"), &[version]);
        assert!(listed.stdout.contains("CA names\nCN = Test server CA"), "{}", listed.stdout);
        assert!(listed.stdout.contains("hello!"), "what is told decides nothing: {}", listed.text());
    }
}

#[test]
fn a_site_that_wants_no_certificate_asks_for_none() {
    let world = World::new();
    let backend = Backend::tcp(send_then_finish(b"hello!"));
    let mut config = ConfigText::new(&backend.server);
    config.sites[0] = SiteText::new("ledger");
    config.sites[0].client = "auth = \"off\"".to_owned();
    let output = ask_openssl(&world, &config, &["-tls1_2"]);
    assert!(output.stdout.contains("No client certificate CA names sent"), "{}", output.text());
    assert!(output.stdout.contains("hello!"), "{}", output.text());
}

#[test]
fn a_client_hello_may_come_in_many_records_and_segments() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&ConfigText::new(&backend.server).site("names = [\"localhost\"]"));
    for versions in [TLS12, TLS13] {
        let mut config = (*ClientSpec::new(&world.pki).versions(versions).build()).clone();
        config.max_fragment_size = Some(64);
        let mut client = Client::connect(&Arc::new(config), SERVER_NAME, server.address());
        client.echo(b"in small records").unwrap();

        let mut client = ClientSpec::new(&world.pki).versions(versions).connect(server.address());
        let mut hello = Vec::new();
        client.tls.write_tls(&mut hello).unwrap();
        for byte in hello {
            client.tcp.write_all(&[byte]).unwrap();
        }
        client.echo(b"byte by byte").unwrap();
    }
}

#[test]
fn key_updates_are_answered_and_change_nothing() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&ConfigText::new(&backend.server).admin());
    let changes =
        |direction: &str| server.metric(&format!("countersign_keyupdates_total{{direction=\"{direction}\"}}"));
    let mut client = ClientSpec::new(&world.pki).versions(TLS13).connect(server.address());
    client.echo(b"no change yet").unwrap();
    assert_eq!((changes("in"), changes("out")), (0.0, 0.0));
    for _ in 0..20 {
        client.echo(b"before").unwrap();
        client.tls.refresh_traffic_keys().unwrap();
        client.echo(b"after").unwrap();
    }
    // A client that changes its keys in this way asks for a change of ours.
    assert_eq!((changes("in"), changes("out")), (20.0, 20.0));
    drop(client);
    assert_eq!(server.stop(), 0);
}

#[test]
fn an_ocsp_answer_is_stapled_as_it_lies_in_its_file() {
    let world = World::new();
    let run = |arguments: &[&str]| openssl(world.path(), arguments);
    let ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    run(&[&["req", "-x509"][..], &ec, &["-subj", "/CN=CA", "-keyout", "ca.key", "-out", "server-ca.pem"]].concat());
    run(&[&["req"][..], &ec, &["-subj", "/CN=localhost", "-keyout", "server.key", "-out", "s.csr"]].concat());
    world.write("ext", "subjectAltName = DNS:localhost\n");
    run(&[
        "x509",
        "-req",
        "-in",
        "s.csr",
        "-CA",
        "server-ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-extfile",
        "ext",
        "-out",
        "server.pem",
    ]);
    let shown = run(&["x509", "-in", "server.pem", "-noout", "-serial"]).stdout;
    let serial = shown.trim().rsplit('=').next().unwrap();
    world.write("index.txt", &format!("V\t301231235959Z\t\t{serial}\tunknown\t/CN=localhost\n"));
    run(&["ocsp", "-issuer", "server-ca.pem", "-cert", "server.pem", "-reqout", "r.der"]);
    run(&[
        "ocsp",
        "-index",
        "index.txt",
        "-rsigner",
        "server-ca.pem",
        "-rkey",
        "ca.key",
        "-CA",
        "server-ca.pem",
        "-reqin",
        "r.der",
        "-respout",
        "server.ocsp",
        "-ndays",
        "2",
    ]);
    let backend = Backend::tcp(send_then_finish(b"hello!"));
    let mut config = ConfigText::new(&backend.server);
    config.sites[0].lines =
        "backend = \"ledger\"\ncertificate = [{ chain = \"server.pem\", key = \"server.key\", ocsp = \
                             \"server.ocsp\" }]"
            .to_owned();
    for version in ["-tls1_2", "-tls1_3"] {
        let output = ask_openssl(&world, &config, &[version, "-status"]);
        assert!(output.stdout.contains("OCSP Response Status: successful"), "{version}: {}", output.text());
        assert!(output.stdout.contains("hello!"), "{version}: {}", output.text());
    }
}
