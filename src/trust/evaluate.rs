//! The one function that says who may speak: for the live path, `explain`, reloads and fuzzing alike.
//!
//! Order: the size of the message, the encoding of each certificate, candidate paths by name, each path's signatures and
//! dates, then, by the authority in which the path ends, CRLs, `deny` and `allow`. The first path that an authority admits
//! counts. A revoked leaf and a `deny` rule are final: no other path is tried then. An anchor that several authorities trust
//! is judged by each of them, in the order of the configuration.

use super::admission::{Admission, Decision, Outcome, Refusal, Step};
use super::certificate::Certificate;
use super::judgement::Judgement;
use super::leaf::Leaf;
use super::policy::Policy;
use super::rules::Subject;
use super::verify::{self, Failure};
use super::{ChainDigest, Presented, Reason, text};
use crate::config::Auth;
use rustls_pki_types::{CertificateDer, UnixTime};
use std::sync::Arc;
use std::time::Duration;
use webpki::EndEntityCert;

/// Would this policy let the client with this chain in at `now`? Every step is told.
pub fn evaluate(presented: &Presented<'_>, now: UnixTime, policy: &Policy) -> Decision {
    let mut trace = Trace { steps: Some(Vec::new()) };
    let verdict = judge(presented, Moment::at(now), policy, &mut trace);
    Decision { verdict, steps: trace.steps.unwrap_or_default() }
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
            judged_at: None,
            not_after: None,
            valid_from: None,
            valid_until: None,
            verify: 0,
            reason: Reason::Ok,
            detail: String::new(),
            tidy: false,
        })),
        Auth::Require | Auth::Pin => Err(Box::new(Refusal {
            reason: Reason::NoCert,
            detail:
                "the client sent no certificate and this site requires one; give the client its certificate and key"
                    .to_owned(),
            leaf: None,
            chain_len: 0,
            verify: Reason::NoCert.x509_v(),
            identity: None,
        })),
    }
}

impl Policy {
    /// Judges an open connection again by this (newer) policy. What time alone changes (a certificate or a CRL that
    /// merely ran out) does not end a connection here; a revocation, a withdrawn anchor or a rule does.
    pub fn rejudge(&self, admission: &Admission, now: UnixTime) -> Result<Arc<Admission>, Box<Refusal>> {
        let Some(leaf) = &admission.leaf else { return admit_anonymous(self) };
        let der = CertificateDer::from(leaf.der.as_slice());
        let presented = Presented { leaf: &der, rest: &admission.rest };
        let judge_at = |dates_at| {
            let moment = Moment { dates_at, forgive_expired_crls: true, ..Moment::at(now) };
            judge(&presented, moment, self, &mut Trace { steps: None })
        };
        match judge_at(seconds(now)) {
            Err(refusal) if matches!(refusal.reason, Reason::Expired | Reason::NotYetValid) => {
                match admission.judged_at {
                    Some(then) => judge_at(seconds(then)),
                    None => Err(refusal),
                }
            }
            verdict => verdict,
        }
    }
}

/// When a chain is judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub now: i64,
    /// The moment for which the certificates' dates count: now, but for connections that are open already.
    pub dates_at: i64,
    pub forgive_expired_crls: bool,
}

impl Moment {
    pub(super) fn at(now: UnixTime) -> Moment {
        Moment { now: seconds(now), dates_at: seconds(now), forgive_expired_crls: false }
    }
}

/// Takes the steps down where somebody asked for them.
pub(super) struct Trace {
    pub(super) steps: Option<Vec<Step>>,
}

impl Trace {
    pub(super) fn note(&mut self, name: &'static str, outcome: Outcome, about: impl FnOnce() -> (String, String)) {
        if let Some(steps) = &mut self.steps {
            let (certificate, note) = about();
            steps.push(Step { name, certificate: text::detail(&certificate), outcome, note: text::detail(&note) });
        }
    }
}

/// The evaluation itself.
pub(super) fn judge(
    presented: &Presented<'_>,
    moment: Moment,
    policy: &Policy,
    trace: &mut Trace,
) -> Result<Arc<Admission>, Box<Refusal>> {
    if policy.auth == Auth::Off {
        trace.note("mode", Outcome::Pass, || (String::new(), "auth = \"off\": no certificate is asked for".to_owned()));
        return admit_anonymous(policy);
    }
    let chain_len = 1 + presented.rest.len();
    let refuse = |failure: Failure, leaf: Option<Arc<Leaf>>| {
        let Failure { reason, verify, detail } = failure;
        Err(Box::new(Refusal { reason, detail: text::detail(&detail), leaf, chain_len, verify, identity: None }))
    };
    let too_big = check_size(presented, policy).err();
    let read = match &too_big {
        Some(failure) if presented.leaf.len() > policy.chain_bytes_max => Err(failure.clone()),
        _ => read_leaf(presented.leaf),
    };
    let (certificate, leaf) = match read {
        Ok(read) => read,
        Err(failure) => {
            let failure = too_big.unwrap_or(failure);
            trace.note("encoding", Outcome::Fail, || ("leaf".to_owned(), failure.detail.clone()));
            return refuse(failure, None);
        }
    };
    if let Some(failure) = too_big {
        trace.note("size", Outcome::Fail, || (String::new(), failure.detail.clone()));
        return refuse(failure, Some(leaf));
    }
    let checked = parse_again(presented.leaf, &certificate)
        .and_then(|end_entity| Ok((end_entity, Subject::of(&certificate, &leaf).map_err(|_| malformed())?)));
    let (end_entity, subject) = match checked {
        Ok(checked) => checked,
        Err(failure) => {
            trace.note("encoding", Outcome::Fail, || ("leaf".to_owned(), failure.detail.clone()));
            return refuse(failure, Some(leaf));
        }
    };
    trace.note("encoding", Outcome::Pass, || ("leaf".to_owned(), format!("{}, serial {}", leaf.subject, leaf.serial)));
    let mut judgement =
        Judgement { policy, moment, certificate: &certificate, end_entity: &end_entity, subject, trace };
    match judgement.by_mode(presented.rest, &leaf) {
        Ok(admitted) => Ok(Arc::new(admitted.into_admission(presented, leaf, policy, moment))),
        Err(failure) => refuse(failure, Some(leaf)),
    }
}

fn read_leaf<'a>(der: &'a CertificateDer<'a>) -> Result<(Certificate<'a>, Arc<Leaf>), Failure> {
    let certificate = Certificate::parse(der).map_err(|_| malformed())?;
    let leaf = Leaf::of(&certificate).map_err(|_| malformed())?;
    Ok((certificate, Arc::new(leaf)))
}

fn malformed() -> Failure {
    verify::explain_encoding(&webpki::Error::BadDer, "the client's certificate")
}

fn check_size(presented: &Presented<'_>, policy: &Policy) -> Result<(), Failure> {
    let count = 1 + presented.rest.len();
    if count > policy.chain_certificates_max {
        let detail = format!(
            "the client sent {count} certificates, the listener takes {} (client_chain_certificates)",
            policy.chain_certificates_max
        );
        return Err(Failure::new(Reason::ChainTooBig, detail));
    }
    let bytes = presented.leaf.len() + presented.rest.iter().map(|certificate| certificate.len()).sum::<usize>();
    if bytes > policy.chain_bytes_max {
        let detail = format!(
            "the client's chain has {bytes} bytes, the listener takes {} (client_chain_bytes)",
            policy.chain_bytes_max
        );
        return Err(Failure::new(Reason::ChainTooBig, detail));
    }
    Ok(())
}

/// webpki's own reading of the leaf, which must show the same as ours.
fn parse_again<'p>(der: &'p CertificateDer<'p>, ours: &Certificate<'_>) -> Result<EndEntityCert<'p>, Failure> {
    let called = "the client's certificate";
    if ours.version != 3 {
        return Err(verify::explain_encoding(&webpki::Error::UnsupportedCertVersion, called));
    }
    let theirs = EndEntityCert::try_from(der).map_err(|error| verify::explain_encoding(&error, called))?;
    if theirs.serial() != ours.serial || theirs.issuer() != ours.issuer || theirs.subject() != ours.subject {
        return Err(verify::explain_encoding(&webpki::Error::BadDer, called));
    }
    Ok(theirs)
}

pub(super) fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

pub(super) fn unix_time(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}
