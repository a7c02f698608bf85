//! One candidate path to one anchor: webpki's verification, and what OpenSSL checks beyond it.
//!
//! webpki verifies signatures, dates, BasicConstraints, ExtendedKeyUsage and name constraints of the certificates below the
//! anchor. Checked here besides, as operators know it from OpenSSL: the anchor's own dates, CA flag, path length and
//! purpose; KeyUsage; the strength of every key, the leaf's included.

use super::anchors::Anchor;
use super::certificate::{Certificate, Key, key_usage};
use super::path::{Node, Origin};
use super::policy::Policy;
use super::revocation::Validity;
use super::{Reason, name, signature, text};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::time::Duration;
use webpki::{EndEntityCert, Error, KeyUsage};

/// Why verification failed. `verify` is the X509_V number, which is finer than the reason in places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub reason: Reason,
    pub verify: u32,
    pub detail: String,
}

impl Failure {
    pub(super) fn new(reason: Reason, detail: String) -> Failure {
        Failure { reason, verify: reason.x509_v(), detail }
    }

    pub(super) fn with_verify(self, verify: u32) -> Failure {
        Failure { verify, ..self }
    }
}

/// What is wrong with one path. webpki's errors are put in words only for the path that is told of: finding the bad
/// signature costs signatures.
#[derive(Debug, Clone)]
pub(super) enum Problem {
    Ours(Failure),
    Webpki(Error),
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Problem {
        Problem::Ours(failure)
    }
}

impl Problem {
    /// Of the problems of several paths the one that got furthest is told.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Problem::Ours(failure) => match failure.reason {
                Reason::PolicyDenied => 100,
                Reason::Revoked => 90,
                Reason::CrlExpired | Reason::CrlMissing => 80,
                Reason::Expired | Reason::NotYetValid => 70,
                Reason::WrongPurpose => 60,
                Reason::CaAsLeaf | Reason::NotACa => 55,
                Reason::ChainTooDeep => 50,
                Reason::WeakOrUnsupportedSig => 45,
                _ => 10,
            },
            Problem::Webpki(Error::CertExpired { .. } | Error::CertNotValidYet { .. }) => 70,
            Problem::Webpki(Error::NameConstraintViolation) => 65,
            Problem::Webpki(Error::RequiredEkuNotFoundContext(_)) => 60,
            Problem::Webpki(Error::CaUsedAsEndEntity | Error::EndEntityUsedAsCa) => 55,
            Problem::Webpki(Error::PathLenConstraintViolated) => 50,
            Problem::Webpki(Error::UnsupportedSignatureAlgorithmContext(_)) => 45,
            Problem::Webpki(Error::InvalidSignatureForPublicKey) => 40,
            Problem::Webpki(_) => 10,
        }
    }
}

/// A path to try.
#[derive(Clone, Copy)]
pub(super) struct Path<'p, 'a> {
    pub leaf: &'p Certificate<'a>,
    /// The leaf as webpki parsed it.
    pub end_entity: &'p EndEntityCert<'p>,
    /// From the leaf up.
    pub intermediates: &'p [&'p Node<'a>],
    pub anchor: &'p Anchor,
}

impl<'p, 'a> Path<'p, 'a> {
    /// Verifies the whole path at `at` (seconds since the Unix epoch). The answer is for how long it holds, the anchor
    /// included.
    pub(super) fn verify(&self, policy: &Policy, at: i64) -> Result<Validity, Problem> {
        self.check_anchor(at)?;
        self.check_keys_and_usage()?;
        let intermediates: Vec<CertificateDer<'_>> =
            self.intermediates.iter().map(|node| CertificateDer::from(node.certificate.der)).collect();
        let outcome = self.end_entity.verify_for_usage(
            policy.algorithms,
            std::slice::from_ref(&self.anchor.trust),
            &intermediates,
            UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at).unwrap_or(0))),
            KeyUsage::client_auth(),
            None,
            None,
        );
        let verified = match outcome {
            Ok(path) => path.intermediate_certificates().count(),
            Err(error) => return Err(Problem::Webpki(error)),
        };
        // webpki was given one way only; anything else than that way is a fault of ours and lets nobody in.
        if verified != intermediates.len() {
            let detail = "webpki found another path than it was given".to_owned();
            return Err(Failure::new(Reason::Internal, detail).into());
        }
        Ok(self.validity().and(Validity { from: self.anchor.not_before, until: self.anchor.not_after }))
    }

    /// Dates of the certificates below the anchor.
    pub(super) fn validity(&self) -> Validity {
        self.certificates().fold(Validity::ALWAYS, |all, (certificate, _)| {
            all.and(Validity { from: certificate.not_before, until: certificate.not_after })
        })
    }

    /// The certificates from the leaf up with where they come from.
    pub(super) fn certificates(&self) -> impl Iterator<Item = (&'p Certificate<'a>, Origin)> + use<'p, 'a> {
        let leaf = std::iter::once((self.leaf, Origin::Presented(0)));
        leaf.chain(self.intermediates.iter().map(|node| (&node.certificate, node.origin)))
    }

    fn check_anchor(&self, at: i64) -> Result<(), Failure> {
        let anchor = self.anchor;
        let called = || format!("the anchor {}", text::short(&anchor.facts.name));
        let fail = |reason, what: String| Err(Failure::new(reason, format!("{} {what}", called())));
        if at > anchor.not_after {
            let what = format!("expired on {}; put its successor into trust", text::date(anchor.not_after));
            return fail(Reason::Expired, what);
        }
        if at < anchor.not_before {
            return fail(Reason::NotYetValid, format!("is valid only from {}", text::date(anchor.not_before)));
        }
        if !anchor.is_ca && (anchor.der.as_ref() != self.leaf.der || !self.intermediates.is_empty()) {
            let what = "is no CA certificate and vouches for itself alone; put the issuing CA into trust";
            return fail(Reason::NotACa, what.to_owned());
        }
        let depth = self.intermediates.len() as u64;
        if let Some(most) = anchor.path_len.filter(|most| depth > *most) {
            let what = format!("allows {most} intermediates below it, the path has {depth}");
            return fail(Reason::ChainTooDeep, what).map_err(|failure| failure.with_verify(PATH_LENGTH_EXCEEDED));
        }
        if !anchor.allows_client_auth {
            let what = "has an ExtendedKeyUsage without clientAuth: it is not for client certificates";
            return fail(Reason::WrongPurpose, what.to_owned());
        }
        match weakness(anchor.key) {
            Some(what) => {
                fail(Reason::WeakOrUnsupportedSig, what).map_err(|failure| failure.with_verify(CA_KEY_TOO_SMALL))
            }
            None => Ok(()),
        }
    }

    fn check_keys_and_usage(&self) -> Result<(), Failure> {
        if is_ca_by_constraints(self.leaf) {
            return Err(ca_as_leaf());
        }
        for (i, (certificate, origin)) in self.certificates().enumerate() {
            if let Some(what) = weakness(certificate.key()) {
                let detail = format!("{} {what}", label(certificate, origin));
                let verify = if i == 0 { Reason::WeakOrUnsupportedSig.x509_v() } else { CA_KEY_TOO_SMALL };
                return Err(Failure::new(Reason::WeakOrUnsupportedSig, detail).with_verify(verify));
            }
            if i > 0 && !certificate.may(key_usage::CERT_SIGN) {
                let called = label(certificate, origin);
                let detail = format!("{called} has a KeyUsage without keyCertSign: it may not issue certificates");
                return Err(Failure::new(Reason::NotACa, detail).with_verify(KEYUSAGE_NO_CERTSIGN));
            }
        }
        if !self.leaf.may(key_usage::DIGITAL_SIGNATURE | key_usage::KEY_AGREEMENT) {
            let detail = "the client's certificate has a KeyUsage without digitalSignature: it cannot sign a handshake; \
                          have it issued with keyUsage = digitalSignature";
            return Err(Failure::new(Reason::WrongPurpose, detail.to_owned()));
        }
        Ok(())
    }

    /// webpki's error in our words: it does not say which certificate it means, the certificates themselves do.
    pub(super) fn explain(&self, problem: Problem, policy: &Policy, at: i64) -> Failure {
        let error = match problem {
            Problem::Ours(failure) => return failure,
            Problem::Webpki(error) => error,
        };
        match &error {
            Error::CertExpired { .. } | Error::CertNotValidYet { .. } | Error::InvalidCertValidity => self.explain_dates(at),
            Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => {
                let which = self.first(|certificate| !certificate.allows_client_auth());
                let detail = format!(
                    "{which} has an ExtendedKeyUsage without clientAuth; have it issued with extendedKeyUsage = clientAuth"
                );
                Failure::new(Reason::WrongPurpose, detail)
            }
            Error::CaUsedAsEndEntity => ca_as_leaf(),
            Error::EndEntityUsedAsCa => {
                let odd = self.certificates().skip(1).find(|(certificate, _)| !is_ca_by_constraints(certificate));
                let which = odd.map_or_else(|| "an issuer of the chain".to_owned(), |(c, origin)| label(c, origin));
                let detail = format!("{which} is not a CA certificate (basicConstraints CA:TRUE is missing), yet issued another");
                Failure::new(Reason::NotACa, detail)
            }
            Error::PathLenConstraintViolated => Failure::new(
                Reason::ChainTooDeep,
                "a CA in the chain allows fewer intermediates below it than there are (pathLenConstraint)".to_owned(),
            )
            .with_verify(PATH_LENGTH_EXCEEDED),
            Error::NameConstraintViolation
            | Error::MalformedNameConstraint
            | Error::InvalidNetworkMaskConstraint
            | Error::MaximumNameConstraintComparisonsExceeded => Failure::new(
                Reason::NameConstraint,
                "a CA of the chain may not issue for these names (nameConstraints; those on directory names and URIs are \
                 refused whatever they say)"
                    .to_owned(),
            ),
            Error::InvalidSignatureForPublicKey | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
                self.explain_signature(policy)
            }
            Error::UnsupportedSignatureAlgorithmContext(_) => {
                let supported = |certificate: &Certificate<'_>| {
                    let id = certificate.signature_algorithm;
                    policy.algorithms.iter().any(|known| known.signature_alg_id().as_ref() == id)
                };
                let which = self.first(|certificate| !supported(certificate));
                let detail = format!(
                    "{which} is signed with an algorithm that is not accepted (SHA-1, MD5 or an unknown one); have it issued \
                     with SHA-256 or better"
                );
                Failure::new(Reason::WeakOrUnsupportedSig, detail).with_verify(CA_MD_TOO_WEAK)
            }
            other => explain_encoding(other, "a certificate of the chain"),
        }
    }

    fn explain_dates(&self, at: i64) -> Failure {
        let odd = self.certificates().find(|(certificate, _)| !certificate.is_valid_at(at));
        let Some((certificate, origin)) = odd else {
            return Failure::new(Reason::Expired, "a certificate of the chain has no sensible dates".to_owned());
        };
        let called = label(certificate, origin);
        if at < certificate.not_before {
            let from = text::date(certificate.not_before);
            let detail = format!("{called} is valid only from {from}; check the clocks of the CA and of this host");
            return Failure::new(Reason::NotYetValid, detail);
        }
        let detail = format!("{called} expired on {}; have it renewed", text::date(certificate.not_after));
        Failure::new(Reason::Expired, detail)
    }

    /// Which signature is bad. Verifies the path's signatures once more, from the anchor down, and only where there is
    /// more than one: this is part of the bound on what a chain costs.
    fn explain_signature(&self, policy: &Policy) -> Failure {
        let mut issuer = (text::short(&self.anchor.facts.name), &*self.anchor.spki, true);
        let mut downward: Vec<_> = self.certificates().collect();
        downward.reverse();
        for (certificate, origin) in downward {
            let last = certificate.der == self.leaf.der;
            let bad = (last && self.intermediates.is_empty())
                || signature::verify(
                    policy.algorithms,
                    issuer.1,
                    certificate.signature_algorithm,
                    certificate.tbs,
                    certificate.signature,
                )
                .is_err();
            if bad {
                let called = label(certificate, origin);
                return explain_issuer(&called, certificate, self.anchor, &issuer.0, issuer.2);
            }
            issuer = (text::short(&name::print(certificate.subject)), certificate.spki, false);
        }
        Failure::new(Reason::BadSignature, "a signature in the chain does not verify".to_owned())
    }

    fn first(&self, is_odd: impl Fn(&Certificate<'_>) -> bool) -> String {
        let odd = self.certificates().find(|(certificate, _)| is_odd(certificate));
        odd.map_or_else(|| "a certificate of the chain".to_owned(), |(certificate, origin)| label(certificate, origin))
    }
}

fn explain_issuer(
    called: &str,
    certificate: &Certificate<'_>,
    anchor: &Anchor,
    issuer: &str,
    is_anchor: bool,
) -> Failure {
    let wanted = certificate.authority_key().key_id;
    let other_key = is_anchor && super::path::mismatch(wanted, anchor.key_id.as_deref()) == 2;
    let detail = if other_key {
        format!(
            "{called} was issued by a CA named {issuer}, which you trust under another key (key identifier {} is not {}); \
             add the CA's new certificate to trust if this is the same CA",
            hex::encode(wanted.unwrap_or_default()),
            hex::encode(anchor.key_id.as_deref().unwrap_or_default())
        )
    } else {
        format!("{called} does not carry a valid signature of {issuer}: it was altered, or another CA uses that name")
    };
    Failure::new(Reason::BadSignature, detail)
}

/// Errors of parsing, of whatever certificate.
pub(super) fn explain_encoding(error: &Error, called: &str) -> Failure {
    match error {
        Error::UnsupportedCertVersion => Failure::new(
            Reason::UnsupportedVersion,
            format!(
                "{called} is an X.509 version 1 certificate, which has no extensions and cannot be restricted to clients; \
                 issue it as version 3: `printf 'basicConstraints=CA:FALSE\\nkeyUsage=digitalSignature\\n\
                 extendedKeyUsage=clientAuth\\n' > v3.ext`, then `openssl x509 -req -in client.csr -CA ca.pem -CAkey \
                 ca.key -CAcreateserial -days 90 -extfile v3.ext -out client.pem`"
            ),
        ),
        Error::UnsupportedCriticalExtension => Failure::new(
            Reason::BadEncoding,
            format!(
                "{called} has a critical extension that is not known here; have it issued without, or not critical"
            ),
        ),
        _ => Failure::new(Reason::BadEncoding, format!("{called} is not a well-formed X.509 certificate ({error})")),
    }
}

fn is_ca_by_constraints(certificate: &Certificate<'_>) -> bool {
    matches!(certificate.basic_constraints(), Ok(Some(constraints)) if constraints.ca)
}

fn ca_as_leaf() -> Failure {
    let detail = "the client presented a CA certificate (basicConstraints CA:TRUE) as its own; have one issued for the \
                  client, or name this one in a rule of auth = \"pin\"";
    Failure::new(Reason::CaAsLeaf, detail.to_owned())
}

/// What is wrong with a key, if anything.
pub(super) fn weakness(key: Key) -> Option<String> {
    match key {
        Key::Fine | Key::Rsa(2048..=8192) => None,
        Key::Rsa(bits @ ..2048) => Some(format!("has an RSA key of {bits} bits; 2048 is the least, P-256 is better")),
        Key::Rsa(bits) => Some(format!("has an RSA key of {bits} bits; 8192 is the most")),
        Key::Unsupported => {
            Some("has a key of a kind that is not accepted; use RSA, P-256, P-384, P-521 or Ed25519".to_owned())
        }
    }
}

/// How a certificate is called in details: `the client's certificate`, `certificate 2 (CN=…)`, `the helper CN=…`.
pub(super) fn label(certificate: &Certificate<'_>, origin: Origin) -> String {
    match origin {
        Origin::Presented(0) => "the client's certificate".to_owned(),
        Origin::Presented(i) => {
            format!("certificate {} of the chain ({})", i + 1, text::short(&name::print(certificate.subject)))
        }
        Origin::Helper => format!("the helper intermediate {}", text::short(&name::print(certificate.subject))),
    }
}

/// X509_V numbers that are finer than a reason.
const PATH_LENGTH_EXCEEDED: u32 = 25;
const KEYUSAGE_NO_CERTSIGN: u32 = 32;
const CA_KEY_TOO_SMALL: u32 = 67;
const CA_MD_TOO_WEAK: u32 = 68;
