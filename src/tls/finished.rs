//! Notes that rustls has computed what a client's Finished must be. rustls says `DecryptError` for a Finished that does not
//! fit and for a record that does not decrypt, and sends alert 51 for the one and 20 for the other; encrypted, they cannot
//! be told apart. The audit must say which was sent, so each suite's key schedule is wrapped: it computes what it always
//! did, and leaves a note with the handshake that is lent to rustls.

use super::key_changes;
use super::names::SUITES;
use super::scope;
use rustls::crypto::ActiveKeyExchange;
use rustls::crypto::hmac::Tag;
use rustls::crypto::tls12::Prf;
use rustls::crypto::tls13::{Hkdf, HkdfExpander, OkmBlock};
use rustls::{CipherSuiteCommon, Error, SupportedCipherSuite, Tls12CipherSuite, Tls13CipherSuite};
use std::sync::OnceLock;

/// The same suite with notes. One of a stranger's comes back as it is.
pub(super) fn noting(suite: SupportedCipherSuite) -> SupportedCipherSuite {
    static WRAPPED: OnceLock<Vec<SupportedCipherSuite>> = OnceLock::new();
    let wrapped = WRAPPED.get_or_init(|| SUITES.iter().map(|(suite, ..)| wrap(*suite)).collect());
    wrapped.iter().find(|known| known.suite() == suite.suite()).copied().unwrap_or(suite)
}

/// rustls wants what lives for ever: called once for each suite that there is.
fn wrap(suite: SupportedCipherSuite) -> SupportedCipherSuite {
    let common = |common: &CipherSuiteCommon| CipherSuiteCommon {
        suite: common.suite,
        hash_provider: common.hash_provider,
        confidentiality_limit: common.confidentiality_limit,
    };
    match suite {
        SupportedCipherSuite::Tls13(own) => SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
            common: common(&own.common),
            hkdf_provider: Box::leak(Box::new(NotingHkdf(own.hkdf_provider))),
            aead_alg: Box::leak(Box::new(key_changes::Noting(own.aead_alg))),
            quic: own.quic,
        }))),
        SupportedCipherSuite::Tls12(own) => SupportedCipherSuite::Tls12(Box::leak(Box::new(Tls12CipherSuite {
            common: common(&own.common),
            prf_provider: Box::leak(Box::new(NotingPrf(own.prf_provider))),
            kx: own.kx,
            sign: own.sign,
            aead_alg: own.aead_alg,
        }))),
    }
}

fn note() {
    // Outside of a handshake there is nobody to whom it matters.
    let _ = scope::with(|handshake| handshake.finished_compared = true);
}

struct NotingHkdf(&'static dyn Hkdf);

impl Hkdf for NotingHkdf {
    fn extract_from_zero_ikm(&self, salt: Option<&[u8]>) -> Box<dyn HkdfExpander> {
        self.0.extract_from_zero_ikm(salt)
    }

    fn extract_from_secret(&self, salt: Option<&[u8]>, secret: &[u8]) -> Box<dyn HkdfExpander> {
        self.0.extract_from_secret(salt, secret)
    }

    fn extract_from_kx_shared_secret(
        &self,
        salt: Option<&[u8]>,
        kx: Box<dyn ActiveKeyExchange>,
        peer_pub_key: &[u8],
    ) -> Result<Box<dyn HkdfExpander>, Error> {
        self.0.extract_from_kx_shared_secret(salt, kx, peer_pub_key)
    }

    fn expander_for_okm(&self, okm: &OkmBlock) -> Box<dyn HkdfExpander> {
        self.0.expander_for_okm(okm)
    }

    /// Binders and the server's Finished are made with it too: they come before our own flight, with which the note is
    /// taken back.
    fn hmac_sign(&self, key: &OkmBlock, message: &[u8]) -> Tag {
        note();
        self.0.hmac_sign(key, message)
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}

struct NotingPrf(&'static dyn Prf);

impl Prf for NotingPrf {
    fn for_key_exchange(
        &self,
        output: &mut [u8; 48],
        kx: Box<dyn ActiveKeyExchange>,
        peer_pub_key: &[u8],
        label: &[u8],
        seed: &[u8],
    ) -> Result<(), Error> {
        self.0.for_key_exchange(output, kx, peer_pub_key, label, seed)
    }

    fn for_secret(&self, output: &mut [u8], secret: &[u8], label: &[u8], seed: &[u8]) {
        // RFC 5246 section 7.4.9.
        if label == b"client finished" {
            note();
        }
        self.0.for_secret(output, secret, label, seed);
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}
