//! rustls clients: with a clock, with a memory for tickets that asks for no name, with whatever certificate.

use super::pki::{Leaf, Pki};
use super::support::{NOW, unix};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ClientConnection, NamedGroup, RootCertStore, SupportedProtocolVersion};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The clock of client and server in a test.
#[derive(Debug, Clone)]
pub struct Clock(Arc<AtomicU64>);

impl Clock {
    pub fn advance(&self, secs: u64) {
        self.0.fetch_add(secs, Ordering::SeqCst);
    }

    pub fn set(&self, secs: u64) {
        self.0.store(secs, Ordering::SeqCst);
    }

    pub fn now(&self) -> UnixTime {
        unix(self.0.load(Ordering::SeqCst))
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.now())
    }
}

/// A rustls client with its clock.
pub struct Client {
    pub config: ClientConfig,
    pub clock: Clock,
}

/// Keeps sessions for whatever name: what an attacker's client does.
#[derive(Debug)]
pub struct AnyName(ClientSessionMemoryCache);

impl Client {
    pub fn new(pki: &Pki, version: &'static SupportedProtocolVersion, identity: Option<&Leaf>) -> Client {
        Client::with_chain(pki, version, identity.map(|leaf| (vec![leaf.der.clone()], leaf.key_der())))
    }

    pub fn with_chain(
        pki: &Pki,
        version: &'static SupportedProtocolVersion,
        identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    ) -> Client {
        let clock = Clock(Arc::new(AtomicU64::new(NOW)));
        let mut roots = RootCertStore::empty();
        roots.add(pki.ca.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_details(provider, Arc::new(clock.clone()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::store(Arc::new(AnyName(ClientSessionMemoryCache::new(64))));
        Client { config, clock }
    }

    pub fn alpn(mut self, protocols: &[&str]) -> Client {
        self.config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        self
    }

    pub fn connection(&self, name: &str) -> ClientConnection {
        ClientConnection::new(Arc::new(self.config.clone()), ServerName::try_from(name.to_owned()).unwrap()).unwrap()
    }
}

fn any() -> ServerName<'static> {
    ServerName::try_from("any.invalid").unwrap()
}

impl ClientSessionStore for AnyName {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(any(), group);
    }
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(&any())
    }
    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(any(), value);
    }
    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&any())
    }
    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&any());
    }
    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(any(), value);
    }
    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&any())
    }
}

/// A client whose certificate can be changed, or left out, without rustls taking it for another client.
#[derive(Debug, Default)]
pub struct Wallet(std::sync::Mutex<Option<Arc<rustls::sign::CertifiedKey>>>);

impl Wallet {
    pub fn hold(&self, chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) {
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
        *self.0.lock().unwrap() = Some(Arc::new(rustls::sign::CertifiedKey::new(chain, key)));
    }

    pub fn hold_leaf(&self, leaf: &Leaf) {
        self.hold(vec![leaf.der.clone()], leaf.key_der());
    }

    pub fn empty(&self) {
        *self.0.lock().unwrap() = None;
    }
}

impl rustls::client::ResolvesClientCert for Wallet {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        self.0.lock().unwrap().clone()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl Client {
    /// A client with a wallet: it sends whatever stands in it, fitting or not.
    pub fn with_wallet(pki: &Pki, version: &'static SupportedProtocolVersion) -> (Client, Arc<Wallet>) {
        let mut client = Client::new(pki, version, None);
        let wallet = Arc::new(Wallet::default());
        client.config.client_auth_cert_resolver = wallet.clone();
        (client, wallet)
    }
}

/// Trusts every server.
#[derive(Debug)]
pub struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
