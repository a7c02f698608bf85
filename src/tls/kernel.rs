//! What is left of TLS once the kernel seals and opens the records: alerts, changes of keys, and the floods that rustls
//! would otherwise bound. No I/O; time is an argument.

use super::failure::Failure;
use crate::config::limits;
use crate::trust::Reason;
use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::{CipherSuite, ConnectionTrafficSecrets, ProtocolVersion, SupportedCipherSuite};
use std::fmt;
use std::time::{Duration, Instant};
use zeroize::{Zeroize, Zeroizing};

/// Why a connection, or the carrying of its bytes, stays in user space though the kernel could do TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    /// This kernel does not take the connection's version and suite.
    Suite,
    /// Bytes of a record that is not whole were read already, or something waits to be sent.
    Leftover,
    /// The client has ended its side already.
    Ended,
    /// The kernel refused the socket.
    Refused,
    /// No pipe was to be had for a moment: the kernel seals and opens, and bytes are carried from socket to socket.
    Pipes,
}

impl Stay {
    /// All of them, in the order of their counters.
    pub const ALL: [Stay; 5] = [Stay::Suite, Stay::Leftover, Stay::Ended, Stay::Refused, Stay::Pipes];

    /// The metric's label value.
    pub fn code(self) -> &'static str {
        match self {
            Stay::Suite => "suite",
            Stay::Leftover => "leftover",
            Stay::Ended => "ended",
            Stay::Refused => "refused",
            Stay::Pipes => "pipes",
        }
    }
}

/// Which bulk cipher a suite has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bulk {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
}

/// The keys of one direction. Wiped when dropped.
pub struct TrafficKeys {
    pub tls13: bool,
    pub bulk: Bulk,
    pub key: Zeroizing<Vec<u8>>,
    pub iv: [u8; 12],
    /// The number of the next record.
    pub sequence: u64,
}

impl fmt::Debug for TrafficKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrafficKeys").field("bulk", &self.bulk).finish_non_exhaustive()
    }
}

impl Drop for TrafficKeys {
    fn drop(&mut self) {
        self.iv.zeroize();
    }
}

impl TrafficKeys {
    fn new(tls13: bool, (sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Option<TrafficKeys> {
        let (bulk, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Bulk::Aes128Gcm, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Bulk::Aes256Gcm, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (Bulk::ChaCha20Poly1305, key, iv),
            _ => return None,
        };
        let key = Zeroizing::new(key.as_ref().to_vec());
        Some(TrafficKeys { tls13, bulk, key, iv: iv.as_ref().try_into().ok()?, sequence })
    }
}

/// A session that left user space, with its first keys.
#[derive(Debug)]
pub struct Departed {
    pub session: KernelSession,
    pub transmit: TrafficKeys,
    pub receive: TrafficKeys,
}

/// Version (1.3 or not) and bulk cipher of an established connection; `None` for what no kernel takes.
pub(super) fn suite_of(tls: &UnbufferedServerConnection) -> Option<(bool, Bulk)> {
    let bulk = match tls.negotiated_cipher_suite()?.suite() {
        CipherSuite::TLS13_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => Bulk::Aes128Gcm,
        CipherSuite::TLS13_AES_256_GCM_SHA384
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => Bulk::Aes256Gcm,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => Bulk::ChaCha20Poly1305,
        _ => return None,
    };
    Some((tls.protocol_version() == Some(ProtocolVersion::TLSv1_3), bulk))
}

/// Takes the secrets out. Nothing may be left that was received and not decrypted, or sealed and not sent.
pub(super) fn depart(tls: UnbufferedServerConnection, now: Instant) -> Result<Departed, Box<Failure>> {
    let (secrets, connection) = tls
        .dangerous_into_kernel_connection()
        .map_err(|error| lost(&format!("the session's secrets could not be taken: {error}")))?;
    let tls13 = connection.protocol_version() == ProtocolVersion::TLSv1_3;
    let keys = |secrets| TrafficKeys::new(tls13, secrets).ok_or_else(|| lost("secrets of an unknown kind"));
    let (transmit, receive) = (keys(secrets.tx)?, keys(secrets.rx)?);
    let records_max = match connection.negotiated_cipher_suite() {
        SupportedCipherSuite::Tls13(suite) => suite.common.confidentiality_limit,
        SupportedCipherSuite::Tls12(suite) => suite.common.confidentiality_limit,
    };
    let session = KernelSession { changes: Changes::new(now), connection, records_max, tls13, warnings: 0, hellos: 0 };
    Ok(Departed { session, transmit, receive })
}

/// The rest of a session.
pub struct KernelSession {
    connection: KernelConnection<ServerConnectionData>,
    records_max: u64,
    tls13: bool,
    changes: Changes,
    warnings: u32,
    hellos: u32,
}

impl fmt::Debug for KernelSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelSession").field("changes", &self.changes).finish_non_exhaustive()
    }
}

/// What a control record meant.
#[derive(Debug)]
pub enum Said {
    /// close_notify: the client sends no more.
    Closed,
    /// Nothing that needs an answer.
    Nothing,
    /// A wish to renegotiate, to be declined with a no_renegotiation warning.
    Renegotiate,
    /// From here on the client's records are under these keys.
    NewKeys {
        keys: Box<TrafficKeys>,
        /// Our keys are to change too.
        answer: bool,
        /// The client changes its keys too fast: nothing more is read before this moment.
        not_before: Option<Instant>,
    },
}

/// Descriptions of alerts (RFC 8446 section 6).
const CLOSE_NOTIFY: u8 = 0;
const UNEXPECTED_MESSAGE: u8 = 10;
const ILLEGAL_PARAMETER: u8 = 47;
const DECODE_ERROR: u8 = 50;
const INTERNAL_ERROR: u8 = 80;
const USER_CANCELED: u8 = 90;

impl KernelSession {
    /// Records that may be sealed under one key.
    pub fn records_max(&self) -> u64 {
        self.records_max
    }

    /// Whether keys can be changed: TLS 1.2 has no way.
    pub fn changes_keys(&self) -> bool {
        self.tls13
    }

    /// Data came: what counts only without it begins anew.
    pub fn note_data(&mut self) {
        self.changes.bare = 0;
    }

    /// Judges a record that is not application data, as rustls would.
    pub fn control(&mut self, kind: u8, body: &[u8], now: Instant) -> Result<Said, Box<Failure>> {
        match (kind, self.tls13) {
            (21, _) => self.alert(body),
            (22, true) => self.key_update(body, now),
            (22, false) if body.first() == Some(&1) => {
                self.hellos += 1;
                match self.hellos <= limits::RENEGOTIATIONS_DECLINED_MAX {
                    true => Ok(Said::Renegotiate),
                    false => Err(refuse(UNEXPECTED_MESSAGE, "the client asks for renegotiation again and again")),
                }
            }
            (22, false) => Err(refuse(UNEXPECTED_MESSAGE, "a handshake message on an open connection")),
            _ => Err(refuse(UNEXPECTED_MESSAGE, &format!("a record of type {kind} on an open connection"))),
        }
    }

    /// New keys for what we send, to be put in force right behind our KeyUpdate.
    pub fn next_transmit_keys(&mut self) -> Result<TrafficKeys, Box<Failure>> {
        let next = self.connection.update_tx_secret();
        let keys = next.ok().and_then(|next| TrafficKeys::new(self.tls13, next));
        keys.ok_or_else(|| refuse(INTERNAL_ERROR, "no new keys can be made for what is sent"))
    }

    fn alert(&mut self, body: &[u8]) -> Result<Said, Box<Failure>> {
        let [level, description] = *body else { return Err(refuse(DECODE_ERROR, "an alert that is none")) };
        if !matches!(level, 1 | 2) {
            return Err(refuse(ILLEGAL_PARAMETER, "an alert of an unknown level"));
        }
        if description == CLOSE_NOTIFY {
            return Ok(Said::Closed);
        }
        if level == 2 {
            let mut failure =
                Failure::new(Reason::PeerAlert(description), &format!("the client sent alert {description}"));
            failure.peer_alert = Some(description);
            return Err(Box::new(failure));
        }
        self.warnings += 1;
        if self.warnings > limits::WARNINGS_MAX {
            return Err(refuse(UNEXPECTED_MESSAGE, "too many warnings"));
        }
        match self.tls13 && description != USER_CANCELED {
            true => Err(refuse(DECODE_ERROR, "a warning, which TLS 1.3 does not have")),
            false => Ok(Said::Nothing),
        }
    }

    /// A KeyUpdate has a record of its own: keys change behind it (RFC 8446 section 5.1). One in pieces is lawful, but
    /// the kernel stops reading at its first byte.
    fn key_update(&mut self, body: &[u8], now: Instant) -> Result<Said, Box<Failure>> {
        let [24, 0, 0, 1, request] = *body else {
            return Err(refuse(UNEXPECTED_MESSAGE, "a handshake message that the kernel path does not take"));
        };
        if request > 1 {
            return Err(refuse(ILLEGAL_PARAMETER, "a KeyUpdate with an unknown request"));
        }
        let not_before = self.changes.note(now).ok_or_else(|| refuse(UNEXPECTED_MESSAGE, "KeyUpdates without data"))?;
        let next = self.connection.update_rx_secret();
        let keys = next.ok().and_then(|next| TrafficKeys::new(true, next));
        let keys = keys.ok_or_else(|| refuse(INTERNAL_ERROR, "no new keys can be made for what is received"))?;
        Ok(Said::NewKeys { keys: Box::new(keys), answer: request == 1, not_before })
    }
}

pub(super) fn refuse(alert: u8, detail: &str) -> Box<Failure> {
    let mut failure = Failure::new(Reason::BadEncoding, detail);
    failure.our_alert = Some(alert);
    Box::new(failure)
}

/// A fault of ours.
pub(super) fn lost(detail: &str) -> Box<Failure> {
    Box::new(Failure::new(Reason::Internal, detail))
}

/// How often the client changes its keys.
#[derive(Debug)]
struct Changes {
    /// In a row, without data between.
    bare: u32,
    /// When the next one is due at the sustained rate, if all allowed in a burst were used.
    due: Instant,
}

impl Changes {
    fn new(now: Instant) -> Changes {
        Changes { bare: 0, due: now }
    }

    /// Counts one: the moment before which nothing more is to be read, if any. `None`: too many without data.
    fn note(&mut self, now: Instant) -> Option<Option<Instant>> {
        self.bare += 1;
        if self.bare > limits::KEY_UPDATES_BARE_MAX {
            return None;
        }
        let costs = if self.bare > 1 { 2 } else { 1 };
        self.due = self.due.max(now) + limits::KEY_UPDATE_PERIOD * costs;
        let burst: Duration = limits::KEY_UPDATE_PERIOD * limits::KEY_UPDATES_BURST_MAX;
        Some(self.due.checked_sub(burst).filter(|moment| *moment > now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_updates_beyond_a_burst_are_slowed_to_the_rate_and_later_free_again() {
        let start = Instant::now();
        let mut changes = Changes::new(start);
        for _ in 0..limits::KEY_UPDATES_BURST_MAX {
            assert_eq!(changes.note(start), Some(None));
            changes.bare = 0;
        }
        let wait = changes.note(start).unwrap().unwrap();
        assert_eq!(wait, start + limits::KEY_UPDATE_PERIOD);
        changes.bare = 0;
        let later = start + limits::KEY_UPDATE_PERIOD * (limits::KEY_UPDATES_BURST_MAX + 1);
        assert_eq!(changes.note(later), Some(None));
    }

    #[test]
    fn key_updates_without_data_cost_double_and_end_at_their_limit() {
        let start = Instant::now();
        let mut changes = Changes::new(start);
        let answers: Vec<_> = (0..=limits::KEY_UPDATES_BARE_MAX).map(|_| changes.note(start)).collect();
        assert!(answers[..limits::KEY_UPDATES_BARE_MAX as usize].iter().all(Option::is_some));
        assert_eq!(answers.last(), Some(&None));
        let spent = changes.due - start;
        assert_eq!(spent, limits::KEY_UPDATE_PERIOD * (2 * limits::KEY_UPDATES_BARE_MAX - 1));
    }
}
