//! Who may speak: anchors, CRLs, rules, identity, the verified-chain cache, the block list, and the one [`evaluate`].
//!
//! Pure: time is an argument, files are read only by the loading functions, nothing here knows of sockets or TLS state.

#![forbid(unsafe_code)]

mod admission;
mod anchors;
mod blocks;
mod cache;
mod certificate;
mod crl;
mod der;
mod diagnose;
mod evaluate;
mod judgement;
mod leaf;
mod load;
mod loader;
mod name;
mod path;
mod pattern;
mod pem;
mod policy;
mod reason;
mod revocation;
mod rules;
mod signature;
mod text;
mod verify;

pub use admission::{Admission, Decision, Identity, Outcome, Refusal, Step};
pub use blocks::{Block, Blocked, Blocks};
pub use cache::{CacheStats, KnownChain, LocalChainCache, Look, SharedChainCache, admit, refuse_blocked};
pub use evaluate::{admit_anonymous, evaluate};
pub use leaf::Leaf;
pub use loader::Loader;
pub use policy::{AnchorFacts, CrlFacts, Policy};
pub use reason::Reason;

use aws_lc_rs::digest;
use rustls_pki_types::CertificateDer;

/// Digest of all that decides about clients at a site; the same on every host and after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PolicyId(pub [u8; 32]);

/// SHA-256 over every byte of a presented chain, each certificate with its length before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChainDigest(pub [u8; 32]);

impl ChainDigest {
    /// The digest of a leaf and what came behind it; `None` is a client without certificate.
    pub fn of(leaf: Option<&CertificateDer<'_>>, rest: &[CertificateDer<'_>]) -> ChainDigest {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"countersign presented chain\0");
        for certificate in leaf.into_iter().chain(rest) {
            context.update(&(certificate.len() as u64).to_be_bytes());
            context.update(certificate);
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.finish().as_ref());
        ChainDigest(bytes)
    }
}

/// A chain as the client sent it: leaf first, then whatever it added.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    pub leaf: &'a CertificateDer<'a>,
    pub rest: &'a [CertificateDer<'a>],
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// Appends a part of a canonical encoding: its length, then its bytes.
fn encode_part(part: &[u8], out: &mut Vec<u8>) {
    out.extend((part.len() as u64).to_be_bytes());
    out.extend(part);
}

#[cfg(test)]
pub(crate) mod tests;
