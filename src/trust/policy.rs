//! All that decides about the clients of one site, as one immutable value.

use super::anchors::{Anchor, BySubject};
use super::diagnose::Acquaintances;
use super::revocation::Revocation;
use super::rules::Compiled;
use super::{PolicyId, name};
use crate::config::{Auth, CrlScope};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm};

/// All that decides about the clients of one site. Holding one proves that every file it names was read and understood.
#[derive(Debug)]
pub struct Policy {
    pub(super) id: PolicyId,
    pub(super) epoch: u64,
    pub(super) auth: Auth,
    pub(super) advertised: Vec<Vec<u8>>,
    pub(super) anchors: Vec<Anchor>,
    pub(super) anchors_by_subject: BySubject,
    pub(super) helpers: Vec<CertificateDer<'static>>,
    pub(super) helpers_by_subject: BySubject,
    pub(super) authorities: Vec<Authority>,
    pub(super) acquaintances: Acquaintances,
    pub(super) crls: Vec<CrlFacts>,
    pub(super) crl_scope: CrlScope,
    pub(super) max_depth: usize,
    pub(super) chain_bytes_max: usize,
    pub(super) chain_certificates_max: usize,
    pub(super) algorithms: &'static [&'static dyn SignatureVerificationAlgorithm],
}

/// What goes with some of the anchors.
#[derive(Debug)]
pub(super) struct Authority {
    pub revocation: Revocation,
    /// `None`: every verified client.
    pub allow: Option<Vec<Compiled>>,
    pub deny: Vec<Compiled>,
}

/// An anchor, for metrics and `certs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnchorFacts {
    /// RFC 4514 text of the subject.
    pub name: String,
    /// Seconds since the Unix epoch.
    pub not_after: i64,
}

/// A CRL, for metrics and `certs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrlFacts {
    /// RFC 4514 text of the issuer.
    pub issuer: String,
    /// Seconds since the Unix epoch.
    pub this_update: i64,
    pub next_update: i64,
    /// Certificates that it revokes.
    pub entries: usize,
}

impl Policy {
    /// Digest of all that decides about clients here.
    pub fn id(&self) -> PolicyId {
        self.id
    }

    /// The counter of its load.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What is asked of clients.
    pub fn auth(&self) -> Auth {
        self.auth
    }

    /// DER Names for CertificateRequest.
    pub fn advertised(&self) -> &[Vec<u8>] {
        &self.advertised
    }

    /// The anchors of all authorities.
    pub fn anchors(&self) -> impl Iterator<Item = &AnchorFacts> {
        self.anchors.iter().map(|anchor| &anchor.facts)
    }

    /// The CRLs of all authorities, by issuer.
    pub fn crls(&self) -> impl Iterator<Item = &CrlFacts> {
        self.crls.iter()
    }
}

/// What is told of these authorities' CRLs, each once.
pub(super) fn crl_facts(authorities: &[Authority]) -> Vec<CrlFacts> {
    let lists = authorities.iter().flat_map(|authority| authority.revocation.iter());
    let mut lists: Vec<_> = lists.map(|crl| (name::print(&crl.issuer), crl)).collect();
    lists.sort_by(|(a, x), (b, y)| (a, x.this_update, x.digest).cmp(&(b, y.this_update, y.digest)));
    lists.dedup_by_key(|(_, crl)| crl.digest);
    let facts = |(issuer, crl): (String, &std::sync::Arc<super::crl::Crl>)| CrlFacts {
        issuer,
        this_update: crl.this_update,
        next_update: crl.next_update,
        entries: crl.len(),
    };
    lists.into_iter().map(facts).collect()
}
