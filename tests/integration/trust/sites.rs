//! Several sites on a listener: the name chooses, and with it everything else of the site.

use super::outcome::BOTH;
use crate::world::World;
use crate::world::backend::{Backend, echo, send_then_finish};
use crate::world::client::{Client, ClientSpec, Ending, TLS12, TLS13};
use crate::world::config::{BackendText, ConfigText, SiteText};
use crate::world::peers::s_client;
use crate::world::pki::{CLIENT_CN, CLIENT_IDENTITY, KeyKind, LeafSpec, SERVER_NAME};
use crate::world::server::Server;

const EXACT: &str = "api.bank.example";
const WILD: &str = "a.partners.bank.example";
const INNER: &str = "inner.partners.bank.example";
/// No label and two labels where the star stands for one.
const NONE: &str = "partners.bank.example";
const TWO: &str = "a.b.partners.bank.example";
const OTHER: &str = "b.c.example";

fn site(name: &str, names: &str, more: &str) -> SiteText {
    SiteText::new("ledger").add(&format!("name = \"{name}\"\n{names}\n{more}"))
}

/// One listener with an exact name, a wildcard, an exact name below the wildcard, and a catch-all that asks for nothing
/// and therefore has a backend of its own.
fn several(world: &World, backend: &str) -> ConfigText {
    let names = [SERVER_NAME, EXACT, "*.partners.bank.example", NONE, TWO, OTHER];
    world.pki.server_ca.leaf(&LeafSpec::server(&names, KeyKind::Ecdsa)).write(world.path(), "server");
    let mut config = ConfigText::new(backend);
    let mut exact = site("exact", "names = [\"Api.Bank.Example\"]", "alpn = [\"bank/1\"]");
    exact.tls =
        "min_version = \"1.3\"\ngroups = [\"secp384r1\"]\ncipher_suites = [\"TLS_AES_256_GCM_SHA384\"]".to_owned();
    let wild = site("wild", "names = [\"*.partners.bank.example\"]", "alpn = [\"bank/2\"]");
    let mut inner = site("inner", "names = [\"inner.partners.bank.example\"]", "");
    inner.client.push_str(&format!("\ndeny = [{{ cn = \"{CLIENT_CN}\" }}]"));
    let mut rest = SiteText::new("open").add("name = \"rest\"");
    rest.client = "auth = \"off\"".to_owned();
    config.sites = vec![exact, wild, inner, rest];
    config.backends.push(BackendText::new("open", &[backend]));
    config
}

/// The site that the audit names for a client that asks for `name`.
fn site_of(server: &Server, spec: &ClientSpec, name: &str) -> String {
    let mut client = Client::connect(&spec.build(), name, server.address());
    let event = if client.echo(b"x").is_ok() { "accepted" } else { "refused" };
    server.audit_of(client.address, event)["site"].as_str().unwrap().to_owned()
}

#[test]
fn the_name_chooses_the_site_in_any_case_and_the_catch_all_takes_the_rest() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&several(&world, &backend.server));
    for versions in BOTH {
        let spec = ClientSpec::new(&world.pki).versions(versions);
        let cases = [
            (EXACT, "exact"),
            ("API.bank.EXAMPLE", "exact"),
            (WILD, "wild"),
            ("A.Partners.Bank.Example", "wild"),
            (INNER, "inner"),
            (OTHER, "rest"),
            (NONE, "rest"),
            (TWO, "rest"),
            (SERVER_NAME, "rest"),
        ];
        for (name, wanted) in cases {
            if wanted == "exact" && versions == TLS12 {
                continue;
            }
            assert_eq!(site_of(&server, &spec, name), wanted, "{name} {versions:?}");
        }
        let silent = ClientSpec { sni: false, ..ClientSpec::new(&world.pki).versions(versions) };
        assert_eq!(site_of(&server, &silent, SERVER_NAME), "rest", "no name at all");
    }
}

#[test]
fn an_exact_name_below_a_wildcard_keeps_its_own_rules() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&several(&world, &backend.server));
    for versions in BOTH {
        let config = ClientSpec::new(&world.pki).versions(versions).build();
        for name in [INNER, "INNER.partners.bank.example"] {
            let mut client = Client::connect(&config, name, server.address());
            assert_eq!(client.refusal(), Ending::Alert(49), "{name}");
            assert_eq!(server.audit_of(client.address, "refused")["reason"], "policy_denied");
        }
        let mut client = Client::connect(&config, WILD, server.address());
        client.echo(b"x").unwrap();
        assert_eq!(server.audit_of(client.address, "accepted")["identity"], CLIENT_IDENTITY);
    }
}

#[test]
fn each_site_has_its_own_application_protocols() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&several(&world, &backend.server));
    let visit = |name: &str, offered: &[u8]| {
        let spec = ClientSpec { alpn: vec![offered.to_vec()], ..ClientSpec::new(&world.pki) };
        let mut client = Client::connect(&spec.build(), name, server.address());
        (client.echo(b"x"), client)
    };
    for (name, wanted, other) in [(EXACT, "bank/1", "bank/2"), (WILD, "bank/2", "bank/1")] {
        let (done, client) = visit(name, wanted.as_bytes());
        assert_eq!((done, client.tls.alpn_protocol()), (Ok(()), Some(wanted.as_bytes())), "{name}");
        assert_eq!(server.audit_of(client.address, "accepted")["alpn"], wanted);
        let (refused, client) = visit(name, other.as_bytes());
        assert_eq!(refused, Err(Ending::Alert(120)), "{name}");
        assert_eq!(server.audit_of(client.address, "refused")["reason"], "alpn_none");
    }
    // A site without protocols negotiates none, whatever is offered.
    let (done, client) = visit(OTHER, b"bank/1");
    assert_eq!((done, client.tls.alpn_protocol()), (Ok(()), None));
}

#[test]
fn each_site_has_its_own_versions_suites_and_groups() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&several(&world, &backend.server));
    let spec = ClientSpec::new(&world.pki).versions(TLS12);
    let mut old = Client::connect(&spec.build(), EXACT, server.address());
    assert_eq!(old.refusal(), Ending::Alert(70), "a site for TLS 1.3 alone");
    assert_eq!(server.audit_of(old.address, "refused")["reason"], "policy_incompatible");
    assert_eq!(site_of(&server, &spec, WILD), "wild", "its neighbour still takes TLS 1.2");
    let config = ClientSpec::new(&world.pki).versions(TLS13).build();
    for (name, group, suite) in
        [(EXACT, "secp384r1", "TLS13_AES_256_GCM_SHA384"), (WILD, "X25519MLKEM768", "TLS13_AES_")]
    {
        let mut client = Client::connect(&config, name, server.address());
        client.echo(b"x").unwrap();
        let line = server.audit_of(client.address, "accepted");
        assert_eq!(line["tls"]["group"], group, "{line}");
        let cipher = line["tls"]["cipher"].as_str().unwrap().replace("TLS_", "TLS13_");
        assert!(cipher.starts_with(suite), "{line}");
    }
}

#[test]
fn rsa_stands_beside_ecdsa_and_the_client_chooses() {
    let world = World::new();
    world.pki.server_ca.leaf(&LeafSpec::server(&[SERVER_NAME], KeyKind::Rsa)).write(world.path(), "rsa");
    let backend = Backend::tcp(send_then_finish(b"hello!"));
    let mut config = ConfigText::new(&backend.server);
    let one = "certificate = [{ chain = \"server.pem\", key = \"server.key\" }]";
    let both = one.replace("}]", "}, { chain = \"rsa.pem\", key = \"rsa.key\" }]");
    config.sites[0].lines = config.sites[0].lines.replace(one, &both);
    let server = world.serve(&config);
    let client = ["-cert", "client.pem", "-key", "client.key"];
    let cases: [(&[&str], &str); 4] = [
        (&["-tls1_3", "-sigalgs", "rsa_pss_rsae_sha256:ecdsa_secp256r1_sha256"], "ECDSA"),
        (&["-tls1_3", "-sigalgs", "rsa_pss_rsae_sha256", "-client_sigalgs", "ecdsa_secp256r1_sha256"], "RSA-PSS"),
        (&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"], "ECDSA"),
        (&["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"], "RSA"),
    ];
    for (arguments, wanted) in cases {
        let said = s_client(world.path(), server.address(), &[arguments, &client].concat(), b"x\n");
        assert!(said.stdout.contains(&format!("Peer signature type: {wanted}")), "{arguments:?}: {}", said.text());
        assert!(said.stdout.contains("hello!"), "{arguments:?}: {}", said.text());
    }
    // With the ECDSA certificate alone, a client that wants RSA finds nothing.
    drop(server);
    config.sites[0].lines = config.sites[0].lines.replace(&both, one);
    let server = world.serve(&config);
    let said = s_client(
        world.path(),
        server.address(),
        &[&["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"], &client[..]].concat(),
        b"x\n",
    );
    assert!(said.stderr.contains("alert number 40"), "{}", said.text());
}
