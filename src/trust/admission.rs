//! What an evaluation answers: an [`Admission`], which only this module's parent can make, or a [`Refusal`].

use super::leaf::Leaf;
use super::{ChainDigest, PolicyId, Reason};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::fmt;
use std::sync::Arc;

/// Who a client is, printed with its kind (`name:acme`, `uri:spiffe://…`, `sha256:…`). Only this module makes one:
/// holding it proves that [`evaluate`](super::evaluate) admitted the client.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    text: Arc<str>,
}

impl Identity {
    pub(super) fn new(text: String) -> Identity {
        Identity { text: text.into() }
    }

    /// The printed form.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The printed form, shared.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A client that may speak at one site. Its fields are private and nothing outside `trust` makes one: holding it proves
/// that the site's policy admitted these very certificates (or a client without one) between [`Admission::valid_from`]
/// and [`Admission::valid_until`].
#[derive(Debug, Clone)]
pub struct Admission {
    pub(super) identity: Option<Identity>,
    pub(super) rule: Option<Arc<str>>,
    pub(super) leaf: Option<Arc<Leaf>>,
    pub(super) rest: Arc<[CertificateDer<'static>]>,
    pub(super) digest: ChainDigest,
    pub(super) policy_id: PolicyId,
    pub(super) epoch: u64,
    /// When the evaluation was made.
    pub(super) judged_at: Option<UnixTime>,
    pub(super) not_after: Option<UnixTime>,
    pub(super) valid_from: Option<UnixTime>,
    pub(super) valid_until: Option<UnixTime>,
    pub(super) verify: u32,
    pub(super) reason: Reason,
    pub(super) detail: String,
    /// Every presented certificate was needed: only such chains are worth a place in the cache.
    pub(super) tidy: bool,
}

impl Admission {
    /// `None`: a client without certificate.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Text of the rule that admitted; `None` where the site has no rules or the mode asks none.
    pub fn rule(&self) -> Option<&Arc<str>> {
        self.rule.as_ref()
    }

    /// What the leaf says; `None` for a client without certificate.
    pub fn leaf(&self) -> Option<&Arc<Leaf>> {
        self.leaf.as_ref()
    }

    /// What the client sent behind the leaf, in its order.
    pub fn rest(&self) -> &Arc<[CertificateDer<'static>]> {
        &self.rest
    }

    /// Certificates presented, the leaf counted.
    pub fn chain_len(&self) -> usize {
        usize::from(self.leaf.is_some()) + self.rest.len()
    }

    /// Digest over the presented chain.
    pub fn digest(&self) -> ChainDigest {
        self.digest
    }

    /// The policy that admitted.
    pub fn policy_id(&self) -> PolicyId {
        self.policy_id
    }

    /// Its epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Last second at which every certificate of the verified chain is valid, anchors not counted. `None` where dates
    /// do not count: no certificate, mode `pin`, or mode `request` with a chain that failed.
    pub fn not_after(&self) -> Option<UnixTime> {
        self.not_after
    }

    /// First second at which the same evaluation would have had the same outcome.
    pub fn valid_from(&self) -> Option<UnixTime> {
        self.valid_from
    }

    /// Last second for which this answer may be reused: the end of the chain, its anchor included, and of the CRLs that
    /// it rests on (grace included). `None` as with [`Admission::not_after`].
    pub fn valid_until(&self) -> Option<UnixTime> {
        self.valid_until
    }

    /// X509_V number of what verification said: 0 unless the mode is `request`.
    pub fn verify(&self) -> u32 {
        self.verify
    }

    /// What verification said: [`Reason::Ok`] unless the mode is `request` and the chain failed.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// For the operator: why verification would have failed; empty with [`Reason::Ok`].
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Whether `now` lies where this answer may be reused.
    pub fn holds_at(&self, now: UnixTime) -> bool {
        self.valid_from.is_none_or(|from| from <= now) && self.valid_until.is_none_or(|until| now <= until)
    }
}

/// Why a client is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    /// For the operator: which certificate, which step, what to do. No control characters, bounded. Never sent to the client.
    pub detail: String,
    /// What the leaf says, where it could be read.
    pub leaf: Option<Arc<Leaf>>,
    /// Certificates presented.
    pub chain_len: usize,
    /// X509_V number.
    pub verify: u32,
    /// Who it would have been, printed: only where the chain was verified and a block alone stood against it.
    pub identity: Option<Arc<str>>,
}

/// The answer of [`evaluate`](super::evaluate).
#[derive(Debug, Clone)]
pub struct Decision {
    pub verdict: Result<Arc<Admission>, Box<Refusal>>,
    /// How it came to that; empty where nobody asked ([`admit`](super::admit)).
    pub steps: Vec<Step>,
}

/// One step of an evaluation, for `explain`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What was looked at, such as `path` or `crl`.
    pub name: &'static str,
    /// Which certificate, such as `leaf` or `certificate 2 (CN=…)`; empty where it is not about one.
    pub certificate: String,
    pub outcome: Outcome,
    /// What was found.
    pub note: String,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Pass,
    Fail,
    /// Not asked for by the policy, or a failure before it made it pointless.
    Skipped,
}
