//! A client that comes once in each version, and what must come of it.

use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::{ClientSpec, Ending, TLS12, TLS13};
use crate::world::config::ConfigText;
use crate::world::pki::Credential;
use crate::world::process::{Output, run};
use crate::world::server::{Server, command};
use rustls::SupportedProtocolVersion;
use serde_json::Value;

pub const BOTH: [&[&SupportedProtocolVersion]; 2] = [TLS12, TLS13];

/// A world with an echoing backend; a server for each configuration that a test wants to look at.
pub struct Scene {
    pub world: World,
    pub backend: Backend,
}

impl Scene {
    pub fn new() -> Scene {
        Scene { world: World::new(), backend: Backend::tcp(echo()) }
    }

    /// A server whose one site has these lines in its table of clients.
    pub fn serve(&self, client: &str) -> Server {
        self.world.serve(&self.config(client))
    }

    pub fn config(&self, client: &str) -> ConfigText {
        let mut config = ConfigText::new(&self.backend.server);
        client.clone_into(&mut config.sites[0].client);
        config
    }

    /// What `check` says of such a configuration.
    pub fn check(&self, client: &str) -> Output {
        self.config(client).write(self.world.path());
        run(command(self.world.path()).args(["check", "-c", "countersign.toml"]))
    }

    /// Holds that this client is let in, and gives its audit line.
    pub fn admitted(&self, server: &Server, credential: &Credential) -> Value {
        let mut line = Value::Null;
        for versions in BOTH {
            let spec = ClientSpec::with(&self.world.pki, credential).versions(versions);
            let mut client = spec.connect(server.address());
            let ending = client.echo(b"ping").err();
            line = server.audit_of(client.address, if ending.is_some() { "refused" } else { "accepted" });
            assert_eq!((ending, &line["reason"], &line["decision"]), (None, &"ok".into(), &"admit".into()), "{line}");
        }
        line
    }

    /// Holds that this client is refused with this alert and reason, that the backend hears nothing of it, and gives
    /// the audit line's detail.
    pub fn refused(&self, server: &Server, credential: &Credential, alert: u8, reason: &str) -> String {
        let heard = self.backend.connections();
        let mut detail = String::new();
        for versions in BOTH {
            let spec = ClientSpec::with(&self.world.pki, credential).versions(versions);
            let mut client = spec.connect(server.address());
            let ending = client.refusal();
            assert_eq!(ending, Ending::Alert(alert), "{reason} {versions:?}");
            let line = server.audit_of(client.address, "refused");
            let told = (line["reason"].as_str(), line["our_alert"].as_u64(), &line["decision"]);
            assert_eq!(told, (Some(reason), Some(alert.into()), &"refuse".into()), "{line}");
            detail = line["reason_detail"].as_str().unwrap().to_owned();
        }
        assert_eq!(self.backend.connections(), heard, "{reason}: the backend heard of it");
        detail
    }
}
