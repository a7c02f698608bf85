//! What becomes of one client's chain: by mode, by path, by authority.

use super::admission::{Admission, Outcome};
use super::certificate::Certificate;
use super::evaluate::{Moment, Trace, unix_time};
use super::leaf::Leaf;
use super::path::{self, Origin, Search};
use super::policy::{Authority, Policy};
use super::revocation::{self, Clock, IssuerKey, Status, Validity};
use super::rules::{self, Compiled, Subject};
use super::verify::{self, Failure, Path, Problem};
use super::{ChainDigest, Identity, Presented, Reason, diagnose, text};
use crate::config::{Auth, CrlScope};
use rustls_pki_types::CertificateDer;
use std::sync::Arc;
use webpki::EndEntityCert;

/// What a mode made of a client that it lets in.
pub(super) struct Admitted {
    identity: Identity,
    rule: Option<Arc<str>>,
    /// `None`: dates do not count.
    validity: Option<Chain>,
    /// What verification said, in mode `request`.
    failure: Option<Failure>,
    tidy: bool,
}

/// For how long a verified chain holds.
#[derive(Clone, Copy)]
struct Chain {
    /// The certificates below the anchor.
    certificates: Validity,
    /// The anchor and the CRLs as well.
    all: Validity,
}

impl Admitted {
    pub(super) fn into_admission(
        self,
        presented: &Presented<'_>,
        leaf: Arc<Leaf>,
        policy: &Policy,
        moment: Moment,
    ) -> Admission {
        let owned = presented.rest.iter().map(|certificate| certificate.clone().into_owned());
        let (reason, verify, detail) = match self.failure {
            Some(failure) => (failure.reason, failure.verify, text::detail(&failure.detail)),
            None => (Reason::Ok, 0, String::new()),
        };
        Admission {
            identity: Some(self.identity),
            rule: self.rule,
            leaf: Some(leaf),
            rest: owned.collect(),
            digest: ChainDigest::of(Some(presented.leaf), presented.rest),
            policy_id: policy.id,
            epoch: policy.epoch,
            judged_at: Some(unix_time(moment.now)),
            not_after: self.validity.map(|chain| unix_time(chain.certificates.until)),
            valid_from: self.validity.map(|chain| unix_time(chain.all.from)),
            valid_until: self.validity.map(|chain| unix_time(chain.all.until)),
            verify,
            reason,
            detail,
            tidy: self.tidy,
        }
    }
}

/// One client's chain, read, on its way through the policy.
pub(super) struct Judgement<'e, 'a> {
    pub policy: &'e Policy,
    pub moment: Moment,
    pub certificate: &'e Certificate<'a>,
    pub end_entity: &'e EndEntityCert<'e>,
    pub subject: Subject<'e>,
    pub trace: &'e mut Trace,
}

/// A path that some authority admits.
struct Verified {
    chain: Chain,
    rule: Option<Ruling>,
    tidy: bool,
}

/// The rule that admits: its text, and the operator's name for whom it admits.
struct Ruling {
    text: Arc<str>,
    name: Option<Arc<str>>,
}

/// Why an authority does not admit a path.
enum Denied {
    /// Another path or authority may still admit.
    Here(Failure),
    /// Nothing else may.
    Final(Failure),
}

impl<'e, 'a: 'e> Judgement<'e, 'a> {
    /// What the site's mode says of a client with this chain.
    pub(super) fn by_mode(&mut self, rest: &'e [CertificateDer<'a>], leaf: &Leaf) -> Result<Admitted, Failure> {
        match self.policy.auth {
            Auth::Pin => self.pinned(leaf),
            Auth::Request => self.requested(rest, leaf),
            Auth::Require | Auth::Optional | Auth::Off => self.verified(rest, leaf),
        }
    }

    /// Where nobody verifies the chain: the client still has to prove that it holds the key, and no proof by this one
    /// could be checked.
    fn check_key_can_prove(&mut self) -> Result<(), Failure> {
        let Some(what) = verify::weakness(self.certificate.key()) else { return Ok(()) };
        let failure = Failure::new(Reason::WeakOrUnsupportedSig, format!("the client's certificate {what}"));
        self.trace.note("key", Outcome::Fail, || ("leaf".to_owned(), failure.detail.clone()));
        Err(failure)
    }

    /// Mode `pin`: what a rule names by digest, whatever its issuer and dates.
    fn pinned(&mut self, leaf: &Leaf) -> Result<Admitted, Failure> {
        self.check_denied_anywhere()?;
        let policy = self.policy;
        let rules = policy.authorities.iter().flat_map(|authority| authority.allow.iter().flatten());
        let Some(rule) = rules.filter(|rule| rule.pins()).find(|rule| rule.matches(&self.subject)) else {
            let detail = format!(
                "no rule names this certificate; to let it in add {{ sha256 = \"{}\" }} to allow",
                hex::encode(leaf.sha256)
            );
            self.trace.note("allow", Outcome::Fail, || (String::new(), detail.clone()));
            return Err(Failure::new(Reason::PolicyDenied, detail));
        };
        self.trace.note("allow", Outcome::Pass, || (String::new(), format!("{} matches", rule.text)));
        self.check_key_can_prove()?;
        // Under a pinned key anybody who holds it can write any name into a certificate of his own.
        let identity = match &rule.name {
            Some(name) => named(name),
            None if rule.pins_certificate() => leaf.identity_by_name(),
            None => leaf.identity_by_digest(),
        };
        Ok(Admitted { identity, rule: Some(rule.text.clone()), validity: None, failure: None, tidy: false })
    }

    /// Mode `request`: everybody but whom `deny` names, with what verification would have said.
    fn requested(&mut self, rest: &'e [CertificateDer<'a>], leaf: &Leaf) -> Result<Admitted, Failure> {
        self.check_denied_anywhere()?;
        self.check_key_can_prove()?;
        Ok(match self.verify_chain(rest) {
            Ok(verified) => Admitted {
                identity: leaf.identity_by_name(),
                rule: None,
                validity: Some(verified.chain),
                failure: None,
                tidy: verified.tidy,
            },
            // Nobody vouches for the names of such a certificate: it is known by its digest alone.
            Err(failure) => Admitted {
                identity: leaf.identity_by_digest(),
                rule: None,
                validity: None,
                failure: Some(failure),
                tidy: false,
            },
        })
    }

    /// Modes `require` and `optional`.
    fn verified(&mut self, rest: &'e [CertificateDer<'a>], leaf: &Leaf) -> Result<Admitted, Failure> {
        let Verified { chain, rule, tidy } = self.verify_chain(rest)?;
        let (rule, name) = rule.map_or((None, None), |ruling| (Some(ruling.text), ruling.name));
        let identity = name.map_or_else(|| leaf.identity_by_name(), |name| named(&name));
        Ok(Admitted { identity, rule, validity: Some(chain), failure: None, tidy })
    }

    /// `deny` of every authority: for the modes in which a chain may end in none.
    fn check_denied_anywhere(&mut self) -> Result<(), Failure> {
        let policy = self.policy;
        for authority in &policy.authorities {
            self.check_denied(authority)?;
        }
        Ok(())
    }

    fn check_denied(&mut self, authority: &Authority) -> Result<(), Failure> {
        match rules::first_match(&authority.deny, &self.subject) {
            Some(rule) => {
                self.trace.note("deny", Outcome::Fail, || (String::new(), format!("{} matches", rule.text)));
                Err(Failure::new(Reason::PolicyDenied, format!("the rule {} shuts this client out", rule.text)))
            }
            None => {
                if !authority.deny.is_empty() {
                    self.trace.note("deny", Outcome::Pass, || (String::new(), "no rule matches".to_owned()));
                }
                Ok(())
            }
        }
    }

    /// Finds a path that verifies and that its authority admits.
    fn verify_chain(&mut self, rest: &'e [CertificateDer<'a>]) -> Result<Verified, Failure> {
        let mut presented = Vec::with_capacity(rest.len());
        for (i, der) in rest.iter().enumerate() {
            presented.push(Certificate::parse(der).map_err(|_| {
                let called = format!("certificate {} of the chain", i + 2);
                self.trace.note("encoding", Outcome::Fail, || (called.clone(), "not well-formed".to_owned()));
                verify::explain_encoding(&webpki::Error::BadDer, &called)
            })?);
        }
        let policy = self.policy;
        let search = path::search(self.certificate, presented, policy, self.moment.now);
        let mut told: Option<(Problem, usize, usize)> = None;
        for (i, candidate) in search.candidates.iter().enumerate() {
            for j in 0..candidate.anchors.len() {
                match self.try_path(&search, i, j)? {
                    Ok(verified) => return Ok(verified),
                    Err(problem) if told.as_ref().is_none_or(|(other, ..)| problem.rank() > other.rank()) => {
                        told = Some((problem, i, j));
                    }
                    Err(_) => {}
                }
            }
        }
        Err(match told {
            Some((problem, i, j)) => {
                let intermediates = on_path(&search, i);
                let failure = self.path(&search, &intermediates, i, j).explain(problem, policy, self.moment.dates_at);
                self.trace.note("verdict", Outcome::Fail, || (String::new(), failure.detail.clone()));
                failure
            }
            None => {
                let failure = diagnose::no_path(self.certificate, &search, policy, rest.len() + 1);
                self.trace.note("path", Outcome::Fail, || ("leaf".to_owned(), failure.detail.clone()));
                failure
            }
        })
    }

    fn path<'p>(
        &self,
        search: &'p Search<'e>,
        intermediates: &'p [&'p path::Node<'e>],
        candidate: usize,
        anchor: usize,
    ) -> Path<'p, 'e>
    where
        'e: 'p,
    {
        Path {
            leaf: self.certificate,
            end_entity: self.end_entity,
            intermediates,
            anchor: search.candidates[candidate].anchors[anchor],
        }
    }

    /// One candidate with one of its anchors. The outer error is final.
    fn try_path(
        &mut self,
        search: &Search<'e>,
        candidate: usize,
        anchor: usize,
    ) -> Result<Result<Verified, Problem>, Failure> {
        let intermediates = on_path(search, candidate);
        let path = self.path(search, &intermediates, candidate, anchor);
        let validity = match path.verify(self.policy, self.moment.dates_at) {
            Ok(validity) => validity,
            Err(problem) => {
                self.trace.note("path", Outcome::Fail, || (print_path(&path), "does not verify".to_owned()));
                return Ok(Err(problem));
            }
        };
        self.trace.note("path", Outcome::Pass, || {
            (print_path(&path), format!("verified, valid until {}", text::date(validity.until)))
        });
        let used = intermediates.iter().filter(|node| node.origin != Origin::Helper).count();
        let anchor_sent = search.nodes.iter().any(|node| node.certificate.der == path.anchor.der.as_ref());
        let sent = search.nodes.iter().filter(|node| node.origin != Origin::Helper).count();
        let tidy = sent == used + usize::from(anchor_sent);

        let mut told: Option<Failure> = None;
        let mut admitted: Option<Verified> = None;
        for index in &path.anchor.authorities {
            match self.judge_by(&self.policy.authorities[*index], &path, validity) {
                Ok((chain, rule)) if admitted.is_none() => admitted = Some(Verified { chain, rule, tidy }),
                Ok(_) => {}
                Err(Denied::Here(failure)) => told = told.or(Some(failure)),
                Err(Denied::Final(failure)) => return Err(failure),
            }
        }
        Ok(match (admitted, told) {
            (Some(verified), _) => Ok(verified),
            (None, Some(failure)) => Err(failure.into()),
            (None, None) => Err(Failure::new(Reason::Internal, "the anchor belongs to no authority".to_owned()).into()),
        })
    }

    /// CRLs and rules of one authority.
    fn judge_by(
        &mut self,
        authority: &Authority,
        path: &Path<'_, 'e>,
        validity: Validity,
    ) -> Result<(Chain, Option<Ruling>), Denied> {
        let crls = self.check_revocation(authority, path)?;
        self.check_denied(authority).map_err(Denied::Final)?;
        let chain = Chain { certificates: path.validity(), all: validity.and(crls) };
        let allow = match (&authority.allow, self.policy.auth) {
            // `request` passes by `allow`.
            (Some(allow), auth) if auth != Auth::Request => allow,
            _ => return Ok((chain, None)),
        };
        match rules::first_match(allow, &self.subject) {
            Some(rule) => {
                self.trace.note("allow", Outcome::Pass, || (String::new(), format!("{} matches", rule.text)));
                Ok((chain, Some(Ruling { text: rule.text.clone(), name: rule.name.clone() })))
            }
            None => {
                let detail = no_rule(allow, path);
                self.trace.note("allow", Outcome::Fail, || (String::new(), detail.clone()));
                Err(Denied::Here(Failure::new(Reason::PolicyDenied, detail)))
            }
        }
    }

    fn check_revocation(&mut self, authority: &Authority, path: &Path<'_, 'e>) -> Result<Validity, Denied> {
        let mut all = Validity::ALWAYS;
        if authority.revocation.is_off() {
            self.trace.note("crl", Outcome::Skipped, || (String::new(), "no crls are configured".to_owned()));
            return Ok(all);
        }
        let clock = Clock { now: self.moment.now, forgive_expired: self.moment.forgive_expired_crls };
        let depth = if self.policy.crl_scope == CrlScope::Leaf { 1 } else { usize::MAX };
        for (i, (certificate, origin)) in path.certificates().enumerate().take(depth) {
            let issuer = match path.intermediates.get(i) {
                Some(node) => IssuerKey {
                    spki: node.certificate.spki,
                    spki_sha256: super::sha256(node.certificate.spki),
                    may_sign_crls: revocation::may_sign_crls(&node.certificate),
                },
                None => IssuerKey {
                    spki: &path.anchor.spki,
                    spki_sha256: path.anchor.spki_sha256,
                    may_sign_crls: path.anchor.may_sign_crls,
                },
            };
            let called = || verify::label(certificate, origin);
            let failure = match authority.revocation.check(certificate, i == 0, issuer, clock) {
                Status::Good(validity, note) => {
                    self.trace.note("crl", Outcome::Pass, || (called(), note));
                    all = all.and(validity);
                    continue;
                }
                Status::Revoked(note) => Failure::new(Reason::Revoked, format!("{} is revoked: {note}", called())),
                Status::Expired(note) => Failure::new(Reason::CrlExpired, format!("{}: {note}", called())),
                Status::Missing(note) => Failure::new(Reason::CrlMissing, format!("{}: {note}", called())),
            };
            self.trace.note("crl", Outcome::Fail, || (called(), failure.detail.clone()));
            let revoked_leaf = i == 0 && failure.reason == Reason::Revoked;
            return Err(if revoked_leaf { Denied::Final(failure) } else { Denied::Here(failure) });
        }
        Ok(all)
    }
}

fn on_path<'s, 'a>(search: &'s Search<'a>, candidate: usize) -> Vec<&'s path::Node<'a>> {
    search.candidates[candidate].intermediates.iter().map(|i| &search.nodes[*i]).collect()
}

fn print_path(path: &Path<'_, '_>) -> String {
    let mut out = String::from("leaf");
    for node in path.intermediates {
        out.push_str(" < ");
        out.push_str(&text::short(&super::name::print(node.certificate.subject)));
    }
    out.push_str(" < anchor ");
    out.push_str(&text::short(&path.anchor.facts.name));
    out
}

fn no_rule(allow: &[Compiled], path: &Path<'_, '_>) -> String {
    if allow.is_empty() {
        return "allow is an empty list, which admits nobody; leave it out to admit every verified client".to_owned();
    }
    format!(
        "verified by {}, but none of {} allow rules matches; add one for this client or correct its certificate",
        text::short(&path.anchor.facts.name),
        allow.len()
    )
}

fn named(name: &str) -> Identity {
    Identity::new(format!("name:{}", text::escaped(name)))
}
