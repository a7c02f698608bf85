//! Who may speak: anchors, CRLs, rules, identity, the verified-chain cache, the block list, and the one [`evaluate`].
//!
//! Pure: time is an argument, files are read only by the loading functions, nothing here knows of sockets or TLS state.

#![forbid(unsafe_code)]

mod reason;

pub use reason::Reason;

use crate::stats::Counter;
use rustls_pki_types::CertificateDer;
use std::sync::Arc;

/// Digest of all that decides about clients at a site; the same on every host and after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PolicyId(pub [u8; 32]);

/// SHA-256 over every byte of a presented chain, each certificate with its length before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChainDigest(pub [u8; 32]);

/// A chain as the client sent it: leaf first, then whatever it added.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    pub leaf: &'a CertificateDer<'a>,
    pub rest: &'a [CertificateDer<'a>],
}

/// What the leaf says, in the forms that logs, headers and rules need. Text is escaped: no control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    pub der: Vec<u8>,
    /// RFC 4514 text, most specific RDN first.
    pub subject: String,
    pub issuer: String,
    /// Lower-case hex of the integer, at least two digits.
    pub serial: String,
    /// Seconds since the Unix epoch.
    pub not_before: i64,
    pub not_after: i64,
    pub sha256: [u8; 32],
    pub spki_sha256: [u8; 32],
    /// `kind:value`: `uri:`, `dns:`, `email:`, `ip:`; in the certificate's order.
    pub san: Vec<String>,
    /// First common name of the subject.
    pub cn: Option<String>,
}

/// Who a client is, printed with its kind (`name:acme`, `uri:spiffe://…`, `sha256:…`). Only this module makes one:
/// holding it proves that [`evaluate`] admitted the client.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    text: Arc<str>,
}

impl Identity {
    /// The printed form.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// What one worker's chain cache did.
#[derive(Debug, Default)]
pub struct CacheStats {
    pub hits: Counter,
    pub misses: Counter,
    pub evictions: Counter,
    /// Entries now (a gauge).
    pub entries: Counter,
}
