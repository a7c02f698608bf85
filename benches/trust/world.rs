//! A PKI of a chosen depth, its CRLs, and a site that judges by them, in memory but for the files that it is loaded from.

use crate::cpu_time;
use countersign::config::Config;
use countersign::tls::{Environment, Session, Status};
use countersign::trust::{Blocks, LocalChainCache, SharedChainCache};
use countersign::worker::Snapshot;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

type Ca = Issuer<'static, KeyPair>;

/// The serial number of the client's leaf.
pub const CLIENT_SERIAL: u64 = 42;

/// A server that lets one client in.
pub struct World {
    pub snapshot: Arc<Snapshot>,
    pub chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    server_root: CertificateDer<'static>,
    _directory: tempfile::TempDir,
}

/// What the sites of a world have in common.
pub struct Shape {
    /// Between the leaf and the anchor; the client sends them.
    pub intermediates: usize,
    /// `None`: no CRLs. Else one for every issuer of the chain, and the leaf's issuer revokes these.
    pub revoked: Option<Vec<u64>>,
}

impl World {
    pub fn new(shape: &Shape) -> World {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (chain, key) = write_clients(directory.path(), shape);
        let server_root = write_server(directory.path());
        let text = configuration(directory.path(), 1, shape.revoked.is_some());
        let snapshot = load(&text);
        World { snapshot, chain, key, server_root, _directory: directory }
    }

    /// A worker's environment with empty caches.
    pub fn environment(&self) -> Rc<Environment> {
        let cache = LocalChainCache::new(Arc::new(SharedChainCache::new()), Arc::default());
        let blocks = Arc::new(arc_swap::ArcSwap::from_pointee(Blocks::default()));
        Rc::new(Environment { cache: Rc::new(cache), blocks })
    }

    /// A client of one version, X25519 alone; `resumption` says whether it keeps tickets.
    pub fn client(&self, version: &'static SupportedProtocolVersion, resumption: Resumption) -> Arc<ClientConfig> {
        let mut provider = aws_lc_rs::default_provider();
        // The curve of the certificate has to stay, or TLS 1.2 finds no suite.
        provider.kx_groups = vec![aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1];
        let mut roots = RootCertStore::empty();
        roots.add(self.server_root.clone()).expect("an anchor");
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .expect("a version that the provider has")
            .with_root_certificates(roots)
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .expect("a key that fits");
        config.resumption = resumption;
        Arc::new(config)
    }

    /// A handshake until the client has its tickets: the CPU time of the server's side, and whether it was resumed.
    pub fn shake(&self, client: &Arc<ClientConfig>, environment: &Rc<Environment>) -> (Duration, bool) {
        let name = ServerName::try_from("localhost").expect("a name");
        let mut client = ClientConnection::new(client.clone(), name).expect("a client");
        let (mut wire, mut plain, mut out) = (Vec::new(), Vec::new(), Vec::new());
        let now = UnixTime::now();
        let begun = cpu_time();
        let mut session = Session::new(self.snapshot.entries()[0].sites.clone(), environment.clone());
        let mut spent = cpu_time() - begun;
        for _ in 0..10 {
            wire.clear();
            while client.wants_write() {
                client.write_tls(&mut wire).expect("memory");
            }
            out.clear();
            let begun = cpu_time();
            let status = session.feed(&mut wire, now, &mut plain, &mut out).expect("a client that is let in");
            spent += cpu_time() - begun;
            let mut sent = &out[..];
            while !sent.is_empty() {
                client.read_tls(&mut sent).expect("memory");
                client.process_new_packets().expect("a good server");
            }
            if status == Status::Open && !client.wants_write() {
                return (spent, session.established().expect("it is open").resumed);
            }
        }
        panic!("the handshake does not end");
    }
}

/// Loads a configuration text as `run` and `check` do.
pub fn load(text: &str) -> Arc<Snapshot> {
    let config = Config::from_text(text, None).expect("a good configuration");
    Snapshot::load(&Arc::new(config), 1, UnixTime::now()).expect("files that fit").0
}

/// This many sites which all trust the same.
pub fn configuration(directory: &Path, sites: usize, with_crls: bool) -> String {
    let at = |name: &str| directory.join(name).display().to_string();
    let mut text = "[[listener]]\nname = \"l\"\naddress = [\"127.0.0.1:8443\"]\n".to_owned();
    for site in 0..sites {
        // The first is the catch-all.
        let names = if site == 0 { String::new() } else { format!("names = [\"site{site}.example\"]\n") };
        let crls = if with_crls { format!("crls = [{:?}]\n", at("clients.crl")) } else { String::new() };
        text += &format!(
            "[[site]]\nname = \"s{site}\"\n{names}backend = \"b\"\ncertificate = [{{ chain = {:?}, key = {:?} }}]\n\
             [site.client]\ntrust = [{:?}]\n{crls}",
            at("server.pem"),
            at("server.key"),
            at("clients-ca.pem")
        );
    }
    text + "[[backend]]\nname = \"b\"\nservers = [\"127.0.0.1:9000\"]\n"
}

fn ca(name: &str, above: Option<&Ca>) -> (Ca, CertificateDer<'static>, String) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().expect("a key");
    let certificate = match above {
        None => params.self_signed(&key),
        Some(above) => params.signed_by(&key, above),
    };
    let certificate = certificate.expect("a certificate");
    (Issuer::new(params, key), certificate.der().clone(), certificate.pem())
}

fn leaf(ca: &Ca, purpose: ExtendedKeyUsagePurpose) -> (CertificateDer<'static>, String, KeyPair) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.serial_number = Some(SerialNumber::from(CLIENT_SERIAL));
    let now = OffsetDateTime::now_utc();
    (params.not_before, params.not_after) = (now - time::Duration::hours(1), now + time::Duration::days(30));
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, ca).expect("a certificate");
    (certificate.der().clone(), certificate.pem(), key)
}

fn write_server(directory: &Path) -> CertificateDer<'static> {
    let (root, der, _) = ca("Server root", None);
    let (_, pem, key) = leaf(&root, ExtendedKeyUsagePurpose::ServerAuth);
    write(directory, "server.pem", pem.as_bytes());
    write(directory, "server.key", key.serialize_pem().as_bytes());
    der
}

/// Writes the clients' anchor and CRLs; gives the chain that the client sends, and its key.
fn write_clients(directory: &Path, shape: &Shape) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let (root, _, pem) = ca("Clients root", None);
    write(directory, "clients-ca.pem", pem.as_bytes());
    let (mut issuers, mut sent) = (vec![root], Vec::new());
    for depth in 0..shape.intermediates {
        let (below, der, _) = ca(&format!("Clients issuing CA {depth}"), issuers.last());
        issuers.push(below);
        sent.insert(0, der);
    }
    let issuing = issuers.last().expect("a root at least");
    let (der, _, key) = leaf(issuing, ExtendedKeyUsagePurpose::ClientAuth);
    sent.insert(0, der);
    if let Some(revoked) = &shape.revoked {
        let lists = issuers.iter().enumerate().map(|(i, issuer)| {
            let of_leaves = i + 1 == issuers.len();
            crl(issuer, if of_leaves { revoked.as_slice() } else { &[7] })
        });
        write(directory, "clients.crl", lists.collect::<String>().as_bytes());
    }
    (sent, PrivateKeyDer::try_from(key.serialize_der()).expect("a key"))
}

fn crl(issuer: &Ca, revoked: &[u64]) -> String {
    let now = OffsetDateTime::now_utc();
    let entry = |serial: &u64| {
        // As CAs make them: 16 bytes that look random, and each number only once.
        let number = u128::from(*serial).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) >> 1;
        RevokedCertParams {
            serial_number: SerialNumber::from_slice(&number.to_be_bytes()),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        }
    };
    let params = CertificateRevocationListParams {
        this_update: now - time::Duration::hours(1),
        next_update: now + time::Duration::days(7),
        crl_number: SerialNumber::from(1u64),
        issuing_distribution_point: None,
        revoked_certs: revoked.iter().map(entry).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).expect("a CRL").pem().expect("its PEM form")
}

fn write(directory: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(directory.join(name), bytes).expect("a file that can be written");
}

/// Writes the files of a world, and no more: for a process of its own that loads them.
pub fn write_files(directory: &Path, shape: &Shape) {
    write_clients(directory, shape);
    write_server(directory);
}
