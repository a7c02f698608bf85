//! What a finished handshake came to, and the last look at the client before anything is relayed.

use super::failure::Failure;
use super::scope::{Handshake, Proof};
use super::site::Site;
use super::{Declined, ServerCertificate, names};
use crate::trust::{self, Admission, ChainDigest, Look, Presented, Reason, Refusal};
use rustls::server::UnbufferedServerConnection;
use rustls::{HandshakeKind, ProtocolVersion};
use rustls_pki_types::UnixTime;
use std::sync::Arc;

/// A connection whose client was admitted. Only a finished handshake makes one.
#[derive(Debug, Clone)]
pub struct Established {
    pub site: Arc<Site>,
    /// Fresh for this connection, resumed or not.
    pub admission: Arc<Admission>,
    /// `1.2` or `1.3`.
    pub version: &'static str,
    /// IANA name.
    pub cipher: &'static str,
    /// IANA name; `None` in a TLS 1.2 resumption, which has no key exchange.
    pub group: Option<&'static str>,
    pub resumed: bool,
    /// A full handshake with a HelloRetryRequest.
    pub retried: bool,
    /// Lower case.
    pub sni: Option<String>,
    pub alpn: Option<Vec<u8>>,
    /// IANA name of how we signed; `None` where nothing was signed (a resumption).
    pub signature_scheme: Option<&'static str>,
    /// The certificate of ours that was chosen.
    pub certificate: Arc<ServerCertificate>,
    /// The client brought tickets, and this is why none was taken.
    pub declined: Option<Declined>,
    /// When the client's chain runs out, for `end_at_expiry`.
    pub ends_at: Option<UnixTime>,
}

impl Established {
    /// Judges the client of a finished handshake once more, by what rustls now holds of it.
    pub(super) fn conclude(
        tls: &UnbufferedServerConnection,
        handshake: &mut Handshake,
    ) -> Result<Established, Box<Failure>> {
        let kind = tls.handshake_kind();
        let resumed = kind == Some(HandshakeKind::Resumed);
        let admission = admit(tls, handshake, resumed)?;
        // A full handshake has its place already. A resumed one gets it here: it, too, has just proven who it is.
        if let Err(detail) = handshake.take_place(admission.identity()) {
            return Err(full(&admission, &detail));
        }
        let site = &handshake.site;
        let (Some(cipher), Some(certificate)) =
            (cipher_of(tls), site.certificates().get(handshake.certificate).cloned())
        else {
            return Err(Box::new(Failure::new(Reason::Internal, "a handshake without suite or certificate")));
        };
        Ok(Established {
            ends_at: admission.not_after(),
            admission,
            version: version_of(tls).unwrap_or("1.2"),
            cipher,
            group: tls.negotiated_key_exchange_group().map(|group| names::group_name(group.name())),
            resumed,
            retried: kind == Some(HandshakeKind::FullWithHelloRetryRequest),
            sni: handshake.sni.clone(),
            alpn: tls.alpn_protocol().map(<[u8]>::to_vec),
            signature_scheme: handshake.scheme.filter(|_| !resumed).map(names::scheme_name),
            certificate,
            declined: handshake.tickets.declined().filter(|_| !resumed),
            site: site.clone(),
        })
    }
}

/// `1.2` or `1.3`, once agreed.
pub(super) fn version_of(tls: &UnbufferedServerConnection) -> Option<&'static str> {
    match tls.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => Some("1.3"),
        Some(ProtocolVersion::TLSv1_2) => Some("1.2"),
        _ => None,
    }
}

/// IANA name of the suite, once agreed.
pub(super) fn cipher_of(tls: &UnbufferedServerConnection) -> Option<&'static str> {
    tls.negotiated_cipher_suite().map(|suite| names::iana_cipher_name(suite.suite()))
}

/// The chain that rustls holds is judged again, whatever was said of it before (the cache makes that cheap). Beyond
/// that, a full handshake has to have proven the key, and a resumed one has to come from a ticket that we opened in
/// this very connection.
fn admit(
    tls: &UnbufferedServerConnection,
    handshake: &Handshake,
    resumed: bool,
) -> Result<Arc<Admission>, Box<Failure>> {
    let policy = handshake.site.policy();
    let chain = tls.peer_certificates().and_then(<[_]>::split_first);
    let verdict = match chain {
        None => trust::admit_anonymous(policy),
        Some((leaf, rest)) => {
            let blocks = handshake.environment.blocks.load();
            let presented = Presented { leaf, rest };
            trust::admit(&presented, handshake.now, policy, &handshake.environment.cache, &blocks, Look::Again).verdict
        }
    };
    let admission = verdict.map_err(|refusal| refused(*refusal))?;
    let digest = chain.map_or_else(|| ChainDigest::of(None, &[]), |(leaf, rest)| ChainDigest::of(Some(leaf), rest));
    let holds = admission.policy_id() == policy.id()
        && admission.digest() == digest
        && match (resumed, chain) {
            (true, _) => handshake.tickets.opened_for(digest).is_some(),
            (false, Some(_)) => handshake.proof == Proof::Good,
            (false, None) => handshake.decision.is_none(),
        };
    if holds {
        return Ok(admission);
    }
    Err(Box::new(Failure::new(Reason::Internal, "the session is not the one whose client was judged; refused")))
}

/// A client that may have no more connections.
fn full(admission: &Admission, detail: &str) -> Box<Failure> {
    let mut failure = Box::new(Failure::new(Reason::RateLimited, detail));
    failure.leaf = admission.leaf().cloned();
    failure.chain_len = admission.chain_len();
    failure.verify = Reason::RateLimited.x509_v();
    failure.proven = failure.leaf.is_some();
    failure.identity = admission.identity().map(|identity| identity.text().clone());
    failure
}

/// A refusal of `trust` as a failure of the connection.
pub(super) fn refused(refusal: Refusal) -> Box<Failure> {
    let mut failure = Failure::new(refusal.reason, &refusal.detail);
    failure.leaf = refusal.leaf;
    failure.chain_len = refusal.chain_len;
    failure.verify = refusal.verify;
    failure.identity = refusal.identity;
    Box::new(failure)
}
