//! Chooses among a site's certificates, and notes for the session which one and how it signs.

use super::credentials::Credentials;
use super::scope;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use std::sync::Arc;

/// The certificates of one site, in the order in which they are tried.
#[derive(Debug)]
pub(super) struct SiteResolver {
    certified: Vec<Arc<CertifiedKey>>,
}

impl SiteResolver {
    pub(super) fn new(credentials: Vec<Credentials>) -> SiteResolver {
        SiteResolver { certified: credentials.into_iter().map(|credentials| Arc::new(credentials.certified)).collect() }
    }
}

impl ResolvesServerCert for SiteResolver {
    /// The first certificate whose key can sign in a way that the client offers. Where none can, the first one all the
    /// same: rustls then finds that out by itself and sends handshake_failure, where `None` would make access_denied.
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let offered = client_hello.signature_schemes();
        let fits = |certified: &Arc<CertifiedKey>| choose(&*certified.key, offered).is_some();
        let index = self.certified.iter().position(fits).unwrap_or(0);
        scope::with(|handshake| handshake.certificate = index)?;
        self.certified.get(index).cloned()
    }
}

fn choose(key: &dyn SigningKey, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
    key.choose_scheme(offered)
}

/// A key that notes the scheme that rustls signs with.
#[derive(Debug)]
pub(super) struct NotingKey(pub Arc<dyn SigningKey>);

impl SigningKey for NotingKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let signer = self.0.choose_scheme(offered)?;
        let scheme = signer.scheme();
        // The resolver asks as well; rustls, which signs, asks last.
        scope::with(|handshake| handshake.scheme = Some(scheme));
        Some(signer)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        self.0.public_key()
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm()
    }
}
