//! A loaded site and clients for it, in memory. The PKI is the load harness's: a leaf, an intermediate, a root, all P-256.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use countersign::config::Config;
use countersign::load::pki::{self, Pki};
use countersign::tls::{Environment, Session, Status};
use countersign::trust::{Blocks, LocalChainCache, SharedChainCache};
use countersign::worker::Snapshot;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use rustls_pki_types::{ServerName, UnixTime};
use std::time::{Duration, Instant};

/// A server that lets `identity` in.
pub struct World {
    pub snapshot: Arc<Snapshot>,
    pub identity: pki::Identity,
    anchors: Vec<rustls_pki_types::CertificateDer<'static>>,
    _directory: tempfile::TempDir,
}

impl World {
    pub fn new() -> World {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let pki = Pki::open(Some(directory.path())).expect("a PKI");
        let config = Config::from_text(&configuration(directory.path()), None).expect("a good configuration");
        let (snapshot, _) = Snapshot::load(&Arc::new(config), 1, UnixTime::now()).expect("files that fit");
        let identity = pki.identities(1).expect("a client").remove(0);
        World { snapshot, identity, anchors: pki.anchors().expect("anchors"), _directory: directory }
    }

    /// A worker's environment with empty caches.
    pub fn environment(&self) -> Rc<Environment> {
        let cache = LocalChainCache::new(Arc::new(SharedChainCache::new()), Arc::default());
        Rc::new(Environment {
            cache: Rc::new(cache),
            blocks: Arc::new(arc_swap::ArcSwap::from_pointee(Blocks::default())),
        })
    }

    pub fn session(&self, environment: &Rc<Environment>) -> Session {
        Session::new(self.snapshot.entries()[0].sites.clone(), environment.clone())
    }

    /// A client of one version, X25519 alone; `resumption` says whether it keeps tickets.
    pub fn client(
        &self,
        version: &'static rustls::SupportedProtocolVersion,
        resumption: Resumption,
    ) -> Arc<ClientConfig> {
        let mut provider = aws_lc_rs::default_provider();
        // The curve of the certificate has to stay, or TLS 1.2 finds no suite.
        provider.kx_groups = vec![aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1];
        let mut roots = RootCertStore::empty();
        self.anchors.iter().for_each(|anchor| roots.add(anchor.clone()).expect("an anchor"));
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .expect("a version that the provider has")
            .with_root_certificates(roots)
            .with_client_auth_cert(self.identity.chain.clone(), self.identity.key.clone_key())
            .expect("a key that fits");
        config.resumption = resumption;
        Arc::new(config)
    }
}

fn configuration(directory: &Path) -> String {
    let at = |name: &str| directory.join(name).display().to_string();
    format!(
        "[[listener]]\nname = \"l\"\naddress = [\"127.0.0.1:8443\"]\n\
         [[site]]\nbackend = \"b\"\ncertificate = [{{ chain = {:?}, key = {:?} }}]\n[site.client]\ntrust = [{:?}]\n\
         [[backend]]\nname = \"b\"\nservers = [\"127.0.0.1:9000\"]\n",
        at("server.pem"),
        at("server.key"),
        at("ca.pem")
    )
}

/// Shakes hands until both sides are done and the client has its tickets; gives the time that the server's side took.
pub fn shake(client: &Arc<ClientConfig>, make: impl FnOnce() -> Session, now: UnixTime) -> (Duration, Session) {
    let name = ServerName::try_from("localhost").expect("a name");
    let mut client = ClientConnection::new(client.clone(), name).expect("a client");
    let (mut wire, mut plain, mut out) = (Vec::new(), Vec::new(), Vec::new());
    let begun = Instant::now();
    let mut session = make();
    let mut spent = begun.elapsed();
    for _ in 0..10 {
        wire.clear();
        while client.wants_write() {
            client.write_tls(&mut wire).expect("memory");
        }
        out.clear();
        let begun = Instant::now();
        let status = session.feed(&mut wire, now, &mut plain, &mut out).expect("a client that is let in");
        spent += begun.elapsed();
        let mut sent = &out[..];
        while !sent.is_empty() {
            client.read_tls(&mut sent).expect("memory");
            client.process_new_packets().expect("a good server");
        }
        if status == Status::Open && !client.wants_write() {
            return (spent, session);
        }
    }
    panic!("the handshake does not end");
}
