//! Where a client comes twice: two listeners, several sites, two client CAs with their CRLs, and a bystander under the
//! second CA whom nothing that happens to the first concerns.

use super::issue::List;
use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::{Client, ClientSpec, Ending, Tickets};
use crate::world::config::{BackendText, ConfigText, ListenerText, SiteText};
use crate::world::pki::{CLIENT_CN, CLIENT_URI, Ca, Credential, KeyKind, LeafSpec, SERVER_NAME};
use crate::world::process::run;
use crate::world::server::{Server, command};
use crate::world::wait::{SOON, until};
use rustls::{ClientConfig, SupportedProtocolVersion};
use serde_json::Value;
use std::net::Shutdown;
use std::sync::Arc;
use time::{Duration, OffsetDateTime};

/// The serial number of the client that the rows are about.
pub const SERIAL: u64 = 0x03a5b1;
const BYSTANDER: &str = "cn:bystander";

/// A site, and how a client reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Door {
    pub site: &'static str,
    pub listener: &'static str,
    pub sni: &'static str,
}

pub const PAYMENTS: Door = Door { site: "payments", listener: "public", sni: SERVER_NAME };
pub const OTHER: Door = Door { site: "other", listener: "public", sni: "other.example" };
/// Denies the client.
pub const STRICT: Door = Door { site: "strict", listener: "public", sni: "strict.example" };
/// Asks for no certificate.
pub const OPEN: Door = Door { site: "open", listener: "public", sni: "open.example" };
/// The same name as `PAYMENTS`, on another listener.
pub const SECOND: Door = Door { site: "second", listener: "second", sni: SERVER_NAME };

pub struct Stage {
    pub world: World,
    pub config: ConfigText,
    pub client: Credential,
    pub client_ends: OffsetDateTime,
    server: Option<Server>,
    bystander: Credential,
    backend: Backend,
}

/// One visit, with its audit line.
pub struct Visit {
    pub ending: Option<Ending>,
    pub resumed: bool,
    pub line: Value,
}

impl Stage {
    /// Nothing runs yet.
    pub fn new() -> Stage {
        let (world, partner) = (World::new(), Ca::root("Partner CA"));
        let names = [SERVER_NAME, OTHER.sni, STRICT.sni, OPEN.sni];
        world.pki.server_ca.leaf(&LeafSpec::server(&names, KeyKind::Ecdsa)).write(world.path(), "server");
        world.write("partner-ca.pem", &partner.pem);
        world.write("clients.crl", &List::of(&[]).pem(&world.pki.client_ca));
        world.write("partner.crl", &List::of(&[SERIAL]).pem(&partner));
        // The bystander's number is another one, for the client's is revoked at the partner's too: numbers are per issuer.
        let bystander = partner.leaf(&LeafSpec::client("bystander").serial(7));
        let backend = Backend::tcp(echo());
        let client = world.pki.client.clone();
        let client_ends = OffsetDateTime::now_utc() + Duration::days(30);
        Stage { config: config(&backend.server), world, client, client_ends, server: None, bystander, backend }
    }

    /// Gives the client a certificate that ends so soon.
    pub fn client_for(&mut self, life: Duration) {
        let now = OffsetDateTime::now_utc();
        self.client_ends = now + life;
        let spec = LeafSpec::client(CLIENT_CN).uri(CLIENT_URI).valid(now - Duration::hours(1), self.client_ends);
        self.client = self.world.pki.client_ca.leaf(&spec);
    }

    /// Lets the clients' CRL say this.
    pub fn publish(&self, list: &List) {
        self.world.write("clients.crl", &list.pem(&self.world.pki.client_ca));
    }

    pub fn start(&mut self) {
        self.server = Some(self.world.serve(&self.config));
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    pub fn restart(&mut self) {
        assert_eq!(self.server.take().unwrap().stop(), 0);
        self.start();
    }

    /// SIGHUP with the configuration as it is now, and a wait until the audit says that it was taken.
    pub fn reload(&self) {
        self.config.write(self.world.path());
        let reloads = || self.server().audit().into_iter().filter(|line| line["event"] == "reload").collect::<Vec<_>>();
        let before = reloads().len();
        self.server().process.signal("HUP");
        assert!(until(SOON, || reloads().len() > before), "no reload");
        let line = reloads().pop().unwrap();
        assert_eq!(line["ok"], true, "{line}");
    }

    /// `countersign ctl`, which must succeed.
    pub fn ctl(&self, arguments: &[&str]) {
        let output = run(command(self.world.path()).args(["ctl", "--socket", "admin.sock"]).args(arguments));
        assert_eq!(output.code, Some(0), "{arguments:?}: {}", output.text());
    }

    /// What a client keeps between its visits. rustls binds sessions to it.
    pub fn brings(
        &self,
        credential: &Credential,
        versions: &'static [&'static SupportedProtocolVersion],
    ) -> (Arc<ClientConfig>, Arc<Tickets>) {
        let tickets = Tickets::new();
        (ClientSpec::with(&self.world.pki, credential).versions(versions).tickets(&tickets).build(), tickets)
    }

    /// Through the door, one message there and back, and out again.
    pub fn visit(&self, client: &Arc<ClientConfig>, door: Door) -> Visit {
        let server = self.server();
        let heard = self.backend.connections();
        let mut client = Client::connect(client, door.sni, server.listener(door.listener));
        let ending = client.echo(b"ping").err();
        let resumed = client.resumed();
        if ending.is_none() {
            client.close_notify();
            client.read_to_end();
        } else {
            // The server waits a little for the client to take its leave too.
            let _ = client.tcp.shutdown(Shutdown::Both);
            assert_eq!(self.backend.connections(), heard, "the backend heard of a client that was refused");
        }
        let event = if ending.is_none() { "accepted" } else { "refused" };
        Visit { ending, resumed, line: server.audit_of(client.address, event) }
    }

    /// The bystander comes, too, and gets in whatever happened.
    pub fn bystander_visits(&self, client: &Arc<ClientConfig>) {
        let visit = self.visit(client, PAYMENTS);
        assert_eq!((visit.ending, &visit.line["identity"]), (None, &BYSTANDER.into()), "{}", visit.line);
    }

    pub fn bystander(&self) -> &Credential {
        &self.bystander
    }
}

fn site(door: Door, client: &str) -> SiteText {
    let lines = format!("name = \"{}\"\nlistener = \"{}\"\nnames = [\"{}\"]", door.site, door.listener, door.sni);
    let mut site = SiteText::new(if door == OPEN { "open" } else { "ledger" }).add(&lines);
    client.clone_into(&mut site.client);
    site
}

/// What the sites trust. Rows rewrite parts of it.
pub const TRUST: &str = "trust = [\"clients-ca.pem\", \"partner-ca.pem\"]";
pub const CRLS: &str = "crls = [\"clients.crl\", \"partner.crl\"]";
/// Stands where a row may put a rule of its own.
pub const DENY: &str = "deny = [{ cn = \"nobody\" }]";

fn config(backend: &str) -> ConfigText {
    let mut config = ConfigText::new(backend);
    config.listeners.push(ListenerText::new("second"));
    config.backends.push(BackendText::new("open", &[backend]));
    let client = format!("{TRUST}\n{CRLS}\n{DENY}");
    let strict = client.replace("nobody", CLIENT_CN);
    config.sites = vec![
        site(PAYMENTS, &client),
        site(OTHER, &client),
        site(STRICT, &strict),
        site(OPEN, "auth = \"off\""),
        site(SECOND, &client),
    ];
    config
}

/// Puts `new` in the place of `old` in every site's table of clients.
pub fn rewrite(config: &mut ConfigText, old: &str, new: &str) {
    for site in &mut config.sites {
        site.client = site.client.replace(old, new);
    }
}
