//! The one function that says who may speak.

use super::admission::{Admission, Decision, Refusal};
use super::policy::Policy;
use super::{ChainDigest, Presented, Reason};
use crate::config::Auth;
use rustls_pki_types::UnixTime;
use std::sync::Arc;

/// Would this policy let the client with this chain in at `now`?
pub fn evaluate(presented: &Presented<'_>, now: UnixTime, policy: &Policy) -> Decision {
    let _ = (now, policy);
    let refusal = Refusal {
        reason: Reason::Internal,
        detail: "client certificates are not yet supported".to_owned(),
        leaf: None,
        chain_len: 1 + presented.rest.len(),
        verify: 0,
    };
    Decision { verdict: Err(Box::new(refusal)), steps: Vec::new() }
}

/// The answer to a client without certificate: let in by `off`, `optional` and `request`, refused with `no_cert` otherwise.
pub fn admit_anonymous(policy: &Policy) -> Result<Arc<Admission>, Box<Refusal>> {
    match policy.auth {
        Auth::Off | Auth::Optional | Auth::Request => Ok(Arc::new(Admission {
            identity: None,
            rule: None,
            leaf: None,
            rest: Arc::from([]),
            digest: ChainDigest::of(None, &[]),
            policy_id: policy.id,
            epoch: policy.epoch,
            not_after: None,
            valid_from: None,
            valid_until: None,
            verify: 0,
            reason: Reason::Ok,
            detail: String::new(),
        })),
        Auth::Require | Auth::Pin => Err(Box::new(Refusal {
            reason: Reason::NoCert,
            detail:
                "the client sent no certificate and this site requires one; give the client its certificate and key"
                    .to_owned(),
            leaf: None,
            chain_len: 0,
            verify: Reason::NoCert.x509_v(),
        })),
    }
}

impl Policy {
    /// Judges an open connection again by this (newer) policy. What time alone changes (a certificate or a CRL that
    /// merely ran out) does not end a connection here; a revocation, a withdrawn anchor or a rule does.
    pub fn rejudge(&self, admission: &Admission, now: UnixTime) -> Result<Arc<Admission>, Box<Refusal>> {
        match &admission.leaf {
            None => admit_anonymous(self),
            Some(leaf) => {
                let der = rustls_pki_types::CertificateDer::from(leaf.der.as_slice());
                evaluate(&Presented { leaf: &der, rest: &admission.rest }, now, self).verdict
            }
        }
    }
}
