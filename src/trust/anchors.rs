//! The certificates that a site was given: anchors, in which chains end, and helper intermediates, which only complete them.

use super::certificate::{BasicConstraints, Certificate, Key};
use super::policy::AnchorFacts;
use super::{name, revocation};
use rustls_pki_types::{CertificateDer, TrustAnchor};
use std::collections::HashMap;

/// A trust anchor: one certificate of a trust file.
#[derive(Debug)]
pub(super) struct Anchor {
    pub der: CertificateDer<'static>,
    /// As webpki wants it: name, key, name constraints.
    pub trust: TrustAnchor<'static>,
    /// Content of the Name's SEQUENCE.
    pub subject: Box<[u8]>,
    /// Tag and length included.
    pub spki: Box<[u8]>,
    pub spki_sha256: [u8; 32],
    pub key_id: Option<Box<[u8]>>,
    pub key: Key,
    pub not_before: i64,
    pub not_after: i64,
    /// May issue certificates; otherwise it vouches for itself alone.
    pub is_ca: bool,
    pub path_len: Option<u64>,
    pub allows_client_auth: bool,
    pub may_sign_crls: bool,
    pub facts: AnchorFacts,
    /// Indices of the authorities that trust it, in their order.
    pub authorities: Vec<usize>,
}

impl Anchor {
    /// `Err` is webpki's objection.
    pub(super) fn new(der: &CertificateDer<'static>, authority: usize) -> Result<Anchor, webpki::Error> {
        let trust = webpki::anchor_from_trusted_cert(der)?.to_owned();
        let certificate = Certificate::parse(der).map_err(|_| webpki::Error::BadDer)?;
        let path_len = match certificate.basic_constraints() {
            Ok(Some(BasicConstraints { ca: true, path_len })) => path_len,
            _ => None,
        };
        Ok(Anchor {
            der: der.clone(),
            trust,
            subject: certificate.subject.into(),
            spki: certificate.spki.into(),
            spki_sha256: super::sha256(certificate.spki),
            key_id: certificate.subject_key_id().map(Into::into),
            key: certificate.key(),
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            is_ca: certificate.is_ca(),
            path_len,
            allows_client_auth: certificate.allows_client_auth(),
            may_sign_crls: revocation::may_sign_crls(&certificate),
            facts: AnchorFacts { name: name::print(certificate.subject), not_after: certificate.not_after },
            authorities: vec![authority],
        })
    }

    pub(super) fn is_valid_at(&self, now: i64) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

/// Certificates by subject (content of the Name's SEQUENCE).
#[derive(Debug, Default)]
pub(super) struct BySubject {
    indices: HashMap<Box<[u8]>, Vec<usize>>,
}

impl BySubject {
    pub(super) fn insert(&mut self, subject: &[u8], index: usize) {
        self.indices.entry(subject.into()).or_default().push(index);
    }

    pub(super) fn get(&self, subject: &[u8]) -> &[usize] {
        self.indices.get(subject).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn subjects(&self) -> impl Iterator<Item = (&[u8], &[usize])> {
        self.indices.iter().map(|(subject, indices)| (&**subject, indices.as_slice()))
    }
}
