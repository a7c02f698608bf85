//! Clients, backends and scanners that other people wrote. Each client comes in TLS 1.2 and 1.3, with ECDSA and RSA on
//! either side, in a full and in a resumed handshake; it sends data both ways through an echoing backend and ends in
//! order. Its own word and the audit's must agree.
//!
//! What the programs make of a refusal differs, and stands as a table beside each of them.

mod curl;
mod dialogue;
mod envoy;

mod gnutls;
mod go;
mod java;
mod openssl;
mod python;
mod rustls_client;
mod scanners;

mod visitor;

use crate::world::World;
use crate::world::backend::{Backend, Script};
use crate::world::config::{ConfigText, SiteText};
use crate::world::pki::{CLIENT_CN, CLIENT_IDENTITY, CLIENT_URI, Ca, Credential, KeyKind, LeafSpec};
use crate::world::server::Server;
use crate::world::wait::{SOON, until_some};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The site that names no authorities in its CertificateRequest, so that also clients which choose by those names show
/// their certificate, whatever its issuer.
const QUIET: &str = "quiet.example";

/// One pairing of keys and version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Case {
    server: KeyKind,
    client: KeyKind,
    version: &'static str,
}

impl Case {
    /// Every pairing.
    fn all() -> Vec<Case> {
        let kinds = [KeyKind::Ecdsa, KeyKind::Rsa];
        let pairs = kinds.iter().flat_map(|server| kinds.iter().map(|client| (*server, *client)));
        pairs.flat_map(|(server, client)| ["1.2", "1.3"].map(|version| Case { server, client, version })).collect()
    }

    /// The name of the site with this server's key.
    fn host(&self) -> &'static str {
        match self.server {
            KeyKind::Ecdsa => "ecdsa.example",
            KeyKind::Rsa => "rsa.example",
        }
    }

    /// The client's files, without their endings.
    fn credential(&self) -> &'static str {
        match self.client {
            KeyKind::Ecdsa => "client-ecdsa",
            KeyKind::Rsa => "client-rsa",
        }
    }
}

/// The server with a site for each kind of key, and files for clients: `server-ca.pem`, `client-ecdsa`, `client-rsa`
/// and `stranger` (`.pem` and `.key`), whose issuer nobody trusts.
struct Bed {
    world: World,
    server: Server,
    backend: Backend,
    ecdsa: Credential,
    rsa: Credential,
}

impl Bed {
    fn new(script: Script) -> Bed {
        let world = World::new();
        let roots =
            [Ca::root_with("Test RSA server CA", KeyKind::Rsa), Ca::root_with("Test RSA client CA", KeyKind::Rsa)];
        let [servers, clients] = &roots;
        let names = ["ecdsa.example", QUIET];
        world.pki.server_ca.leaf(&LeafSpec::server(&names, KeyKind::Ecdsa)).write(world.path(), "server-ecdsa");
        servers.leaf(&LeafSpec::server(&["rsa.example"], KeyKind::Rsa)).write(world.path(), "server-rsa");
        world.write("server-ca.pem", &format!("{}{}", world.pki.server_ca.pem, servers.pem));
        world.write("clients-ca.pem", &format!("{}{}", world.pki.client_ca.pem, clients.pem));
        let spec = LeafSpec::client(CLIENT_CN).uri(CLIENT_URI);
        let (ecdsa, rsa) = (world.pki.client_ca.leaf(&spec), clients.leaf(&spec.clone().key(KeyKind::Rsa)));
        ecdsa.write(world.path(), "client-ecdsa");
        rsa.write(world.path(), "client-rsa");
        Ca::root("Somebody else").leaf(&spec).write(world.path(), "stranger");

        let backend = Backend::tcp(script);
        let mut config = ConfigText::new(&backend.server);
        config.sites = vec![site("ecdsa.example", "ecdsa"), site("rsa.example", "rsa"), site(QUIET, "ecdsa")];
        config.sites[2].client.push_str("\nadvertise = \"none\"");
        let server = world.serve(&config);
        Bed { world, server, backend, ecdsa, rsa }
    }

    fn path(&self) -> &Path {
        self.world.path()
    }

    fn port(&self) -> u16 {
        self.server.address().port()
    }

    /// The line of the `index`-th connection that ended in this way (`closed` or `refused`), waited for.
    fn nth(&self, event: &str, index: usize) -> Value {
        let nth = || self.server.audit().into_iter().filter(|line| line["event"] == event).nth(index);
        until_some(SOON, nth).unwrap_or_else(|| panic!("no {event} line number {index}"))
    }

    /// Holds that this `closed` line is that of an orderly visit with data both ways, `bytes` in each direction.
    fn assert_visit(&self, line: &Value, case: Case, resumed: bool, bytes: u64) {
        assert_eq!(line["tls"]["version"], case.version, "{case:?}: {line}");
        assert_eq!(line["tls"]["resumed"], resumed, "{case:?}: {line}");
        assert_eq!((&line["site"], &line["sni"]), (&case.host().into(), &case.host().into()), "{case:?}: {line}");
        let credential = if case.client == KeyKind::Rsa { &self.rsa } else { &self.ecdsa };
        assert_eq!(line["cert"]["sha256"], credential.sha256(), "{case:?}: {line}");
        assert_eq!((&line["identity"], &line["reason"]), (&CLIENT_IDENTITY.into(), &"ok".into()), "{case:?}: {line}");
        assert_eq!(line["close_reason"], "done", "{case:?}: {line}");
        let counted = (line["bytes_in"].as_u64(), line["bytes_out"].as_u64());
        assert_eq!(counted, (Some(bytes), Some(bytes)), "{case:?}: {line}");
        let suite = line["tls"]["cipher"].as_str().unwrap();
        let expected = match (case.version, case.server) {
            ("1.2", KeyKind::Ecdsa) => "TLS_ECDHE_ECDSA_WITH_",
            ("1.2", KeyKind::Rsa) => "TLS_ECDHE_RSA_WITH_",
            _ => "TLS13_",
        };
        assert!(suite.replace("TLS_AES", "TLS13_AES").replace("TLS_CHA", "TLS13_CHA").starts_with(expected), "{line}");
    }
}

fn site(name: &str, key: &str) -> SiteText {
    let mut site = SiteText::new("ledger");
    site.lines = format!(
        "name = \"{name}\"\nnames = [\"{name}\"]\nbackend = \"ledger\"\ncertificate = [{{ chain = \"server-{key}.pem\", key = \
         \"server-{key}.key\" }}]"
    );
    site
}

/// A small source file of ours in another language, beside this one.
fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/interop").join(name)
}

/// What the programs that we drive by a pipe send: lines of digits, which none of them takes for a command, and a last
/// line that occurs nowhere else.
fn lines_of_digits(count: usize) -> String {
    let mut text: String = (0..count).map(|line| format!("{:0>63}\n", line * 7919)).collect();
    text.push_str(LAST_LINE);
    text.push('\n');
    text
}

const LAST_LINE: &str = "31415926535897932384626433832795028841971693993751";
