//! The verifier that rustls calls: asks `trust` about the chain, keeps its answer for the session, and turns a refusal
//! into the rustls error that yields the alert of our table.

use super::scope::{self, Handshake, Proof};
use crate::config::Auth;
use crate::trust::{self, Look, Policy, Presented, Reason, Refusal};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::fmt;
use std::sync::Arc;

/// Verifies the clients of one site. For modes that ask for a certificate; `off` has no verifier.
#[derive(Debug)]
pub(super) struct SiteVerifier {
    policy: Arc<Policy>,
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl SiteVerifier {
    pub(super) fn new(policy: Arc<Policy>, algorithms: WebPkiSupportedAlgorithms) -> SiteVerifier {
        let hints = policy.advertised().iter().map(|name| DistinguishedName::from(name.clone())).collect();
        SiteVerifier { policy, hints, algorithms }
    }

    fn admit(&self, handshake: &mut Handshake, presented: &Presented<'_>) -> Result<ClientCertVerified, Error> {
        if handshake.site.policy().id() != self.policy.id() {
            return Err(no_scope());
        }
        // Whatever tickets were opened: this client did not resume.
        handshake.tickets.forget_opened();
        handshake.proof = Proof::NotYet;
        let environment = handshake.environment.clone();
        let blocks = environment.blocks.load();
        let decision = trust::admit(presented, handshake.now, &self.policy, &environment.cache, &blocks, Look::First);
        let answer = match &decision.verdict {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(refusal) => Err(Error::InvalidCertificate(certificate_error(refusal.reason))),
        };
        handshake.decision = Some(decision.verdict);
        answer
    }

    /// Possession of the key is asked of every chain, cached or not, verified or not (mode `request`).
    fn prove(
        &self,
        check: impl FnOnce() -> Result<HandshakeSignatureValid, Error>,
    ) -> Result<HandshakeSignatureValid, Error> {
        scope::with(|handshake| {
            // Bad until shown to be good, should the check panic.
            handshake.proof = Proof::Bad;
            let valid = check()?;
            handshake.proof = Proof::Good;
            enter(handshake)?;
            Ok(valid)
        })
        .unwrap_or_else(|| Err(no_scope()))
    }
}

impl ClientCertVerifier for SiteVerifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        match self.policy.auth() {
            Auth::Require | Auth::Pin => true,
            Auth::Optional | Auth::Request | Auth::Off => false,
        }
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let presented = Presented { leaf: end_entity, rest: intermediates };
        scope::with(|handshake| self.admit(handshake, &presented)).unwrap_or_else(|| Err(no_scope()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.prove(|| verify_tls12_signature(message, cert, dss, &self.algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.prove(|| verify_tls13_signature(message, cert, dss, &self.algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Counts the connection for its identity, now that the client has proven to be it, or refuses it.
fn enter(handshake: &mut Handshake) -> Result<(), Error> {
    let Some(Ok(admission)) = handshake.decision.clone() else { return Ok(()) };
    handshake.take_place(admission.identity()).map_err(|detail| {
        let reason = Reason::RateLimited;
        let (leaf, chain_len, verify) = (admission.leaf().cloned(), admission.chain_len(), reason.x509_v());
        let identity = admission.identity().map(|identity| identity.text().clone());
        handshake.decision = Some(Err(Box::new(Refusal { reason, detail, leaf, chain_len, verify, identity })));
        Error::InvalidCertificate(certificate_error(reason))
    })
}

/// The rustls error that makes rustls send [`Reason::alert`]. Never `Error::General`: that becomes handshake_failure.
fn certificate_error(reason: Reason) -> CertificateError {
    match reason.alert() {
        42 => CertificateError::BadEncoding,
        43 => CertificateError::InvalidPurpose,
        44 => CertificateError::Revoked,
        45 => CertificateError::Expired,
        48 => CertificateError::UnknownIssuer,
        49 => CertificateError::ApplicationVerificationFailure,
        51 => CertificateError::BadSignature,
        _ => CertificateError::Other(OtherError(Arc::new(Refused(reason)))),
    }
}

fn no_scope() -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Refused(Reason::Internal)))))
}

#[derive(Debug)]
struct Refused(Reason);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Refused {}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::AlertDescription;

    #[test]
    fn every_refusal_becomes_the_error_that_yields_its_alert() {
        for reason in Reason::ALL {
            let sent = u8::from(AlertDescription::from(certificate_error(reason)));
            let wanted = match reason.alert() {
                // These are not refusals of a chain, or are sent by others; a chain refused with them gets 46.
                alert @ (10 | 40 | 80 | 112 | 116 | 120) => {
                    assert!(!matches!(alert, 42..=51));
                    46
                }
                alert => alert,
            };
            assert_eq!(sent, wanted, "{reason}");
        }
    }
}
