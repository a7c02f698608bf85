//! Why a TLS connection ended badly: rustls's errors in our reasons and alerts.

use super::site::Site;
use crate::trust::{Leaf, Reason};
use rustls::{AlertDescription, Error, InvalidMessage, PeerIncompatible, PeerMisbehaved};
use std::fmt;
use std::sync::Arc;

/// A handshake that was refused, or a connection that broke the protocol. All that the audit needs.
#[derive(Debug, Clone)]
pub struct Failure {
    pub reason: Reason,
    /// For the operator; never sent to the client. No control characters.
    pub detail: String,
    /// The alert that stands at the end of the output.
    pub our_alert: Option<u8>,
    /// The alert that the client sent.
    pub peer_alert: Option<u8>,
    /// Known once the ClientHello was complete and its name led somewhere.
    pub site: Option<Arc<Site>>,
    pub sni: Option<String>,
    pub leaf: Option<Arc<Leaf>>,
    /// Certificates that the client presented.
    pub chain_len: usize,
    /// X509_V number; 0 where the chain is not at fault.
    pub verify: u32,
    /// Whether the client proved that it holds the leaf's key.
    pub proven: bool,
    /// `1.2` or `1.3`, once agreed.
    pub version: Option<&'static str>,
    /// IANA name, once agreed.
    pub cipher: Option<&'static str>,
    /// Printed: a client that a block alone stood against.
    pub identity: Option<Arc<str>>,
}

impl Failure {
    /// One that knows nothing but its reason.
    pub(super) fn new(reason: Reason, detail: &str) -> Failure {
        Failure {
            reason,
            detail: detail.to_owned(),
            our_alert: None,
            peer_alert: None,
            site: None,
            sni: None,
            leaf: None,
            chain_len: 0,
            verify: 0,
            proven: false,
            version: None,
            cipher: None,
            identity: None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.detail)
    }
}

impl std::error::Error for Failure {}

/// When an error came up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Before a whole ClientHello: whoever is there may not speak TLS at all.
    Hello,
    /// After it.
    Later,
}

/// The stable code for an error of rustls's:
///
/// | what happened | reason |
/// |---|---|
/// | no certificate where one is required | `no_cert` |
/// | the client sent an alert | `peer_alert` with its number |
/// | no version, suite, group, scheme or extension in common | `policy_incompatible` |
/// | no application protocol in common | `alpn_none` |
/// | a message past rustls's 64 KiB, which can only be the client's chain | `chain_too_big` |
/// | anything malformed before the ClientHello is whole | `not_tls` |
/// | anything malformed, out of order, or not decryptable after it | `bad_encoding` |
/// | what only we can be at fault for | `internal` |
///
/// A chain that was refused and a bad CertificateVerify (`bad_signature`) are told by the session, which knows more.
pub(super) fn reason_of(error: &Error, stage: Stage) -> Reason {
    match error {
        Error::NoCertificatesPresented => Reason::NoCert,
        Error::AlertReceived(alert) => Reason::PeerAlert(u8::from(*alert)),
        Error::NoApplicationProtocol => Reason::AlpnNone,
        Error::PeerIncompatible(_) => Reason::PolicyIncompatible,
        Error::InvalidCertificate(_) => Reason::BadSignature,
        Error::InvalidMessage(
            InvalidMessage::CertificatePayloadTooLarge | InvalidMessage::HandshakePayloadTooLarge,
        ) if stage == Stage::Later => Reason::ChainTooBig,
        Error::InvalidMessage(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::PeerMisbehaved(_)
        | Error::DecryptError
        | Error::PeerSentOversizedRecord => match stage {
            Stage::Hello => Reason::NotTls,
            Stage::Later => Reason::BadEncoding,
        },
        // TLS 1.2 with a key that signs in no way that the client and the suite allow; rustls has no better word.
        Error::General(text) if text == "incompatible signing key" => Reason::PolicyIncompatible,
        _ => Reason::Internal,
    }
}

/// The alert that rustls sends for an error, or that we send where it sends none. For the audit: on the wire an alert
/// may already be encrypted. A Finished that does not fit (51) has the error of a broken record (20): the session knows.
pub(super) fn alert_of(error: &Error) -> u8 {
    let alert = match error {
        Error::NoCertificatesPresented => AlertDescription::CertificateRequired,
        Error::AlertReceived(_) => AlertDescription::DecodeError,
        Error::NoApplicationProtocol => AlertDescription::NoApplicationProtocol,
        Error::PeerIncompatible(why) => alert_of_incompatible(why),
        Error::InvalidCertificate(error) => AlertDescription::from(error.clone()),
        Error::InvalidMessage(error) => AlertDescription::from(*error),
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            AlertDescription::UnexpectedMessage
        }
        Error::PeerMisbehaved(why) => alert_of_misbehaved(why),
        Error::DecryptError => AlertDescription::BadRecordMac,
        Error::PeerSentOversizedRecord => AlertDescription::RecordOverflow,
        Error::General(text) if text == "incompatible signing key" => AlertDescription::HandshakeFailure,
        _ => AlertDescription::InternalError,
    };
    u8::from(alert)
}

fn alert_of_incompatible(why: &PeerIncompatible) -> AlertDescription {
    match why {
        PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled
        | PeerIncompatible::SupportedVersionsExtensionRequired => AlertDescription::ProtocolVersion,
        PeerIncompatible::NullCompressionRequired | PeerIncompatible::UncompressedEcPointsRequired => {
            AlertDescription::IllegalParameter
        }
        _ => AlertDescription::HandshakeFailure,
    }
}

fn alert_of_misbehaved(why: &PeerMisbehaved) -> AlertDescription {
    match why {
        PeerMisbehaved::IncorrectBinder => AlertDescription::DecryptError,
        PeerMisbehaved::MissingBinderInPskExtension => AlertDescription::DecodeError,
        PeerMisbehaved::MissingPskModesExtension | PeerMisbehaved::MissingPskExtensionInSecondClientHello => {
            AlertDescription::MissingExtension
        }
        PeerMisbehaved::KeyEpochWithPendingFragment
        | PeerMisbehaved::IllegalMiddleboxChangeCipherSpec
        | PeerMisbehaved::MessageInterleavedWithHandshakeMessage
        | PeerMisbehaved::TooManyEmptyFragments
        | PeerMisbehaved::TooMuchEarlyDataReceived => AlertDescription::UnexpectedMessage,
        _ => AlertDescription::IllegalParameter,
    }
}

/// For the operator, without control characters.
pub(super) fn detail_of(error: &Error) -> String {
    let hint = match error {
        Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered | PeerIncompatible::Tls12NotOfferedOrEnabled) => {
            "; the client speaks only versions older than `min_version`"
        }
        Error::NoCertificatesPresented => {
            "; this site requires a client certificate: give the client its certificate and key"
        }
        Error::NoApplicationProtocol => "; compare the client's ALPN protocols with the site's `alpn`",
        Error::AlertReceived(AlertDescription::UnknownCA | AlertDescription::BadCertificate) => {
            "; the client does not trust the server's certificate: give it the CA, or send the intermediates"
        }
        _ => "",
    };
    format!("{error}{hint}").chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A fatal alert as the first thing we say: nothing is encrypted yet (RFC 8446 section 6).
pub(super) fn plaintext_alert(alert: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, alert]
}

/// The number in an alert record that is not encrypted.
pub(super) fn alert_in(record: &[u8]) -> Option<u8> {
    match record {
        [21, _, _, 0, 2, _level, alert] => Some(*alert),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{CertificateError, ContentType, HandshakeType};

    fn inappropriate() -> Error {
        Error::InappropriateMessage { expect_types: vec![ContentType::Handshake], got_type: ContentType::Alert }
    }

    #[test]
    fn each_kind_of_error_has_its_reason() {
        let handshake =
            Error::InappropriateHandshakeMessage { expect_types: Vec::new(), got_type: HandshakeType::Finished };
        let table = [
            (Error::NoCertificatesPresented, "no_cert"),
            (Error::AlertReceived(AlertDescription::UnknownCA), "peer_alert:48"),
            (Error::NoApplicationProtocol, "alpn_none"),
            (PeerIncompatible::NoCipherSuitesInCommon.into(), "policy_incompatible"),
            (Error::General("incompatible signing key".to_owned()), "policy_incompatible"),
            (Error::InvalidCertificate(CertificateError::BadSignature), "bad_signature"),
            (InvalidMessage::MessageTooShort.into(), "bad_encoding"),
            (InvalidMessage::CertificatePayloadTooLarge.into(), "chain_too_big"),
            (InvalidMessage::HandshakePayloadTooLarge.into(), "chain_too_big"),
            (inappropriate(), "bad_encoding"),
            (handshake, "bad_encoding"),
            (PeerMisbehaved::IncorrectBinder.into(), "bad_encoding"),
            (Error::DecryptError, "bad_encoding"),
            (Error::PeerSentOversizedRecord, "bad_encoding"),
            (Error::FailedToGetCurrentTime, "internal"),
            (Error::FailedToGetRandomBytes, "internal"),
            (Error::General("anything else".to_owned()), "internal"),
        ];
        for (error, reason) in table {
            assert_eq!(reason_of(&error, Stage::Later).to_string(), reason, "{error:?}");
        }
    }

    #[test]
    fn what_is_malformed_before_the_hello_is_whole_is_not_tls_but_an_old_version_is_incompatible() {
        assert_eq!(reason_of(&InvalidMessage::InvalidContentType.into(), Stage::Hello), Reason::NotTls);
        assert_eq!(reason_of(&InvalidMessage::HandshakePayloadTooLarge.into(), Stage::Hello), Reason::NotTls);
        assert_eq!(reason_of(&inappropriate(), Stage::Hello), Reason::NotTls);
        let old = PeerIncompatible::SignatureAlgorithmsExtensionRequired.into();
        assert_eq!(reason_of(&old, Stage::Hello), Reason::PolicyIncompatible);
    }

    #[test]
    fn each_kind_of_error_has_its_alert() {
        let table = [
            (Error::NoCertificatesPresented, 116),
            (Error::NoApplicationProtocol, 120),
            (PeerIncompatible::NoKxGroupsInCommon.into(), 40),
            (PeerIncompatible::Tls12NotOffered.into(), 70),
            (PeerIncompatible::UncompressedEcPointsRequired.into(), 47),
            (Error::InvalidCertificate(CertificateError::Expired), 45),
            (InvalidMessage::MessageTooShort.into(), 50),
            (inappropriate(), 10),
            (PeerMisbehaved::IncorrectBinder.into(), 51),
            (PeerMisbehaved::MissingPskModesExtension.into(), 109),
            (PeerMisbehaved::ServerNameDifferedOnRetry.into(), 47),
            (PeerMisbehaved::KeyEpochWithPendingFragment.into(), 10),
            (Error::DecryptError, 20),
            (Error::PeerSentOversizedRecord, 22),
            (Error::FailedToGetCurrentTime, 80),
        ];
        for (error, alert) in table {
            assert_eq!(alert_of(&error), alert, "{error:?}");
        }
    }

    #[test]
    fn an_alert_of_ours_is_read_back_and_an_encrypted_one_is_not() {
        assert_eq!(alert_in(&plaintext_alert(112)), Some(112));
        assert_eq!(alert_in(&[21, 3, 3, 0, 3, 1, 2, 3]), None);
    }
}
