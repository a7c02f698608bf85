//! Why a client was let in or refused: the stable codes, their X509_V number and the TLS alert that goes with them.

use std::fmt;

/// One code for one cause; printed in audit lines and metrics, never renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    Ok,
    NoCert,
    UnsupportedVersion,
    Expired,
    NotYetValid,
    UnknownIssuer,
    MissingIntermediate,
    Revoked,
    CrlExpired,
    CrlMissing,
    BadSignature,
    WeakOrUnsupportedSig,
    BadEncoding,
    WrongPurpose,
    CaAsLeaf,
    NotACa,
    NameConstraint,
    ChainTooDeep,
    ChainTooBig,
    PolicyDenied,
    IdentityBlocked,
    RateLimited,
    PolicyIncompatible,
    SniUnknown,
    AlpnNone,
    /// The peer sent this fatal alert.
    PeerAlert(u8),
    Timeout,
    TcpReset,
    NotTls,
    Internal,
}

impl Reason {
    /// All codes, `PeerAlert` once; the order is that of [`Reason::index`].
    pub const ALL: [Reason; 30] = [
        Reason::Ok,
        Reason::NoCert,
        Reason::UnsupportedVersion,
        Reason::Expired,
        Reason::NotYetValid,
        Reason::UnknownIssuer,
        Reason::MissingIntermediate,
        Reason::Revoked,
        Reason::CrlExpired,
        Reason::CrlMissing,
        Reason::BadSignature,
        Reason::WeakOrUnsupportedSig,
        Reason::BadEncoding,
        Reason::WrongPurpose,
        Reason::CaAsLeaf,
        Reason::NotACa,
        Reason::NameConstraint,
        Reason::ChainTooDeep,
        Reason::ChainTooBig,
        Reason::PolicyDenied,
        Reason::IdentityBlocked,
        Reason::RateLimited,
        Reason::PolicyIncompatible,
        Reason::SniUnknown,
        Reason::AlpnNone,
        Reason::PeerAlert(0),
        Reason::Timeout,
        Reason::TcpReset,
        Reason::NotTls,
        Reason::Internal,
    ];

    /// The place in [`Reason::ALL`]; bounds the label sets of metrics.
    pub fn index(self) -> usize {
        let this = match self {
            Reason::PeerAlert(_) => Reason::PeerAlert(0),
            other => other,
        };
        Reason::ALL.iter().position(|reason| *reason == this).unwrap_or(0)
    }

    /// The code without an alert's number: `peer_alert` for every [`Reason::PeerAlert`].
    pub fn code(self) -> &'static str {
        match self {
            Reason::Ok => "ok",
            Reason::NoCert => "no_cert",
            Reason::UnsupportedVersion => "unsupported_version",
            Reason::Expired => "expired",
            Reason::NotYetValid => "not_yet_valid",
            Reason::UnknownIssuer => "unknown_issuer",
            Reason::MissingIntermediate => "missing_intermediate",
            Reason::Revoked => "revoked",
            Reason::CrlExpired => "crl_expired",
            Reason::CrlMissing => "crl_missing",
            Reason::BadSignature => "bad_signature",
            Reason::WeakOrUnsupportedSig => "weak_or_unsupported_sig",
            Reason::BadEncoding => "bad_encoding",
            Reason::WrongPurpose => "wrong_purpose",
            Reason::CaAsLeaf => "ca_as_leaf",
            Reason::NotACa => "not_a_ca",
            Reason::NameConstraint => "name_constraint",
            Reason::ChainTooDeep => "chain_too_deep",
            Reason::ChainTooBig => "chain_too_big",
            Reason::PolicyDenied => "policy_denied",
            Reason::IdentityBlocked => "identity_blocked",
            Reason::RateLimited => "rate_limited",
            Reason::PolicyIncompatible => "policy_incompatible",
            Reason::SniUnknown => "sni_unknown",
            Reason::AlpnNone => "alpn_none",
            Reason::PeerAlert(_) => "peer_alert",
            Reason::Timeout => "timeout",
            Reason::TcpReset => "tcp_reset",
            Reason::NotTls => "not_tls",
            Reason::Internal => "internal",
        }
    }

    /// OpenSSL's X509_V number for `verify` in audit lines and PROXY v2; 0 where a chain is not at fault.
    pub fn x509_v(self) -> u32 {
        match self {
            Reason::Expired => 10,
            Reason::NotYetValid => 9,
            Reason::UnknownIssuer | Reason::MissingIntermediate => 20,
            Reason::Revoked => 23,
            Reason::CrlExpired => 12,
            Reason::CrlMissing => 3,
            Reason::BadSignature => 7,
            Reason::WeakOrUnsupportedSig => 66,
            Reason::BadEncoding | Reason::UnsupportedVersion => 34,
            Reason::WrongPurpose => 26,
            Reason::CaAsLeaf | Reason::NotACa => 24,
            Reason::NameConstraint => 47,
            Reason::ChainTooDeep | Reason::ChainTooBig => 22,
            Reason::PolicyDenied | Reason::IdentityBlocked | Reason::RateLimited => 50,
            _ => 0,
        }
    }

    /// The alert that a client gets for a chain refused with this reason (RFC 8446 section 6.2).
    pub fn alert(self) -> u8 {
        match self {
            Reason::NoCert => 116,
            Reason::UnsupportedVersion | Reason::WrongPurpose => 43,
            Reason::Expired | Reason::NotYetValid => 45,
            Reason::UnknownIssuer | Reason::MissingIntermediate => 48,
            Reason::Revoked => 44,
            Reason::BadSignature | Reason::WeakOrUnsupportedSig => 51,
            Reason::BadEncoding => 42,
            Reason::PolicyDenied | Reason::IdentityBlocked | Reason::RateLimited => 49,
            Reason::PolicyIncompatible => 40,
            Reason::SniUnknown => 112,
            Reason::AlpnNone => 120,
            Reason::NotTls => 10,
            Reason::Internal => 80,
            _ => 46,
        }
    }
}

impl fmt::Display for Reason {
    /// The code; `peer_alert:48` for an alert of the peer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::PeerAlert(alert) => write!(f, "peer_alert:{alert}"),
            other => f.write_str(other.code()),
        }
    }
}
