//! The CRLs of one authority, by issuer, and the question that they answer: is this certificate revoked?

use super::certificate::{Certificate, key_usage};
use super::crl::{Crl, reason_text};
use super::{name, text};
use crate::config::{CrlExpired, CrlMissing};
use std::collections::HashMap;
use std::sync::Arc;

/// The CRLs of one authority and what to do where they fall short.
#[derive(Debug)]
pub(super) struct Revocation {
    by_issuer: HashMap<Box<[u8]>, Vec<Arc<Crl>>>,
    missing: CrlMissing,
    expired: CrlExpired,
}

/// Who issued the certificate in question: a CA whose own certificate has been verified.
#[derive(Clone, Copy)]
pub(super) struct IssuerKey<'a> {
    pub spki: &'a [u8],
    pub spki_sha256: [u8; 32],
    pub may_sign_crls: bool,
}

/// When the question is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    pub now: i64,
    /// A CRL that merely ran out is no reason: for connections that are open already.
    pub forgive_expired: bool,
}

/// What the CRLs say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// Not revoked, or not to be looked up; for so long.
    Good(Validity, String),
    Revoked(String),
    Expired(String),
    Missing(String),
}

/// For how long an answer holds, in seconds since the Unix epoch, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub from: i64,
    pub until: i64,
}

impl Validity {
    pub(super) const ALWAYS: Validity = Validity { from: i64::MIN, until: i64::MAX };

    pub(super) fn and(self, other: Validity) -> Validity {
        Validity { from: self.from.max(other.from), until: self.until.min(other.until) }
    }
}

impl Revocation {
    /// Of the lists, those that a newer one has not replaced at `now`. Ask each [`Crl::is_signed_by`] with the keys that
    /// are known before: only lists of one known signer can replace each other.
    pub(super) fn new(crls: Vec<Arc<Crl>>, missing: CrlMissing, expired: CrlExpired, now: i64) -> Revocation {
        let mut by_issuer: HashMap<Box<[u8]>, Vec<Arc<Crl>>> = HashMap::new();
        for crl in crls {
            by_issuer.entry(crl.issuer.clone()).or_default().push(crl);
        }
        by_issuer.values_mut().for_each(|lists| drop_replaced(lists, now));
        Revocation { by_issuer, missing, expired }
    }

    /// Whether nothing is looked up at all.
    pub(super) fn is_off(&self) -> bool {
        self.by_issuer.is_empty()
    }

    /// Whether there is a CRL of a CA with this name (content of the SEQUENCE).
    pub(super) fn knows(&self, issuer: &[u8]) -> bool {
        self.by_issuer.contains_key(issuer)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Crl>> {
        self.by_issuer.values().flatten()
    }

    /// Looks a certificate up in the newest list of each scope that its issuer signed. Any list that names it revokes
    /// it, one that ran out too; one that is in date must cover it.
    pub(super) fn check(
        &self,
        certificate: &Certificate<'_>,
        is_leaf: bool,
        issuer: IssuerKey<'_>,
        clock: Clock,
    ) -> Status {
        let Ok(points) = certificate.distribution_points() else {
            return self.missing("its CRLDistributionPoints cannot be read".to_owned(), certificate, Validity::ALWAYS);
        };
        let named = self.by_issuer.get(certificate.issuer).map(Vec::as_slice).unwrap_or_default();
        let mut found = Applicable::default();
        for crl in named {
            if !crl.scope.covers(is_leaf, points.as_deref()) {
                found.note = "the CRLs of its issuer are for other distribution points or kinds of certificate";
            } else if !crl.is_signed_by(issuer.spki, &issuer.spki_sha256) {
                found.note = "the CRL with its issuer's name was signed by another key";
            } else if !issuer.may_sign_crls {
                found.note = "its issuer's KeyUsage does not allow to sign CRLs";
            } else if crl.this_update > clock.now {
                found.note = "the CRL of its issuer begins in the future";
                // From then on it is the one that counts.
                found.validity.until = found.validity.until.min(crl.this_update - 1);
            } else {
                found.keep_newest(crl);
            }
        }
        self.judge(found, certificate, clock)
    }

    fn judge(&self, found: Applicable<'_>, certificate: &Certificate<'_>, clock: Clock) -> Status {
        if let Some((crl, entry)) =
            found.crls.iter().find_map(|crl| crl.find(certificate.serial).map(|entry| (crl, entry)))
        {
            return Status::Revoked(format!(
                "{} revoked it on {} ({}), says the CRL of {}",
                text::short(&name::print(&crl.issuer)),
                text::date(entry.since),
                reason_text(entry.reason),
                text::date(crl.this_update)
            ));
        }
        // The list that will be in date longest is the one to rest on.
        let Some(best) = found.crls.iter().max_by_key(|crl| crl.next_update) else {
            return self.missing(found.note.to_owned(), certificate, found.validity);
        };
        let note = format!("not in the CRL of {} ({} entries)", text::date(best.this_update), best.len());
        let until = match self.expired {
            CrlExpired::Allow => i64::MAX,
            CrlExpired::Refuse => best.next_update - 1,
            CrlExpired::Grace(grace) => {
                best.next_update.saturating_add(i64::try_from(grace.as_secs()).unwrap_or(i64::MAX)) - 1
            }
        };
        if clock.now > until && !clock.forgive_expired {
            return Status::Expired(format!(
                "the CRL of {} ran out on {}; fetch the new one and reload",
                text::short(&name::print(&best.issuer)),
                text::date(best.next_update)
            ));
        }
        let from = found.crls.iter().map(|crl| crl.this_update).max().unwrap_or(i64::MIN);
        Status::Good(found.validity.and(Validity { from, until }), note)
    }

    fn missing(&self, note: String, certificate: &Certificate<'_>, validity: Validity) -> Status {
        match self.missing {
            CrlMissing::Allow => Status::Good(validity, format!("no CRL, which crl_missing allows: {note}")),
            CrlMissing::Refuse => Status::Missing(format!(
                "no usable CRL covers certificates of {}: {note}; add its CRL to crls, or set crl_missing = \"allow\"",
                text::short(&name::print(certificate.issuer))
            )),
        }
    }
}

/// The CRLs that tell of one certificate, one for each scope.
struct Applicable<'a> {
    crls: Vec<&'a Crl>,
    note: &'static str,
    validity: Validity,
}

impl Default for Applicable<'_> {
    fn default() -> Self {
        Applicable { crls: Vec::new(), note: "none has its issuer's name", validity: Validity::ALWAYS }
    }
}

impl<'a> Applicable<'a> {
    fn keep_newest(&mut self, crl: &'a Crl) {
        match self.crls.iter_mut().find(|other| other.scope == crl.scope) {
            Some(other) if crl.age() > other.age() => *other = crl,
            Some(_) => {}
            None => self.crls.push(crl),
        }
    }
}

/// Drops lists of one issuer that a newer one of the same key and scope has replaced. A list that begins in the future
/// replaces nothing yet, and one whose signer is not known yet is kept beside the others.
fn drop_replaced(lists: &mut Vec<Arc<Crl>>, now: i64) {
    let replaces = |newer: &Crl, older: &Crl| {
        newer.this_update <= now
            && newer.signer().is_some()
            && newer.signer() == older.signer()
            && newer.scope == older.scope
            && newer.age() > older.age()
    };
    let all = lists.clone();
    lists.retain(|list| !all.iter().any(|other| replaces(other, list)));
    // The same list named by two files counts once.
    lists.sort_by_key(|list| list.digest);
    lists.dedup_by_key(|list| list.digest);
}

/// Whether a CA certificate's KeyUsage lets it sign CRLs.
pub(super) fn may_sign_crls(certificate: &Certificate<'_>) -> bool {
    certificate.may(key_usage::CRL_SIGN)
}
