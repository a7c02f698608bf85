//! The audit's records and their one-line JSON form (contract section 5). Workers make records; the control side
//! writes them.

mod line;
mod text;

#[cfg(test)]
mod tests;

pub use line::write_line;

use crate::trust::{Leaf, Reason};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

/// 16 bytes, a UUID version 7: time-ordered, printed as 32 lower-case hex digits; the same bytes are the PROXY v2 UNIQUE_ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub [u8; 16]);

impl ConnectionId {
    /// The identifier of a connection accepted at `unix_millis` (RFC 9562 section 5.7: 48 bits of time, the version, the
    /// variant, and what is left of `random`).
    pub fn new(unix_millis: u64, random: [u8; 10]) -> ConnectionId {
        let mut id = [0; 16];
        id[..6].copy_from_slice(&unix_millis.to_be_bytes()[2..]);
        id[6..].copy_from_slice(&random);
        id[6] = 0x70 | (id[6] & 0x0f);
        id[8] = 0x80 | (id[8] & 0x3f);
        ConnectionId(id)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// One line of the audit.
#[derive(Debug, Clone)]
pub enum Record {
    Connection(Box<ConnectionRecord>),
    /// The process began to serve; `digest` is SHA-256 of the configuration.
    Start {
        ts: SystemTime,
        version: &'static str,
        digest: [u8; 32],
        listeners: Vec<String>,
        workers: usize,
    },
    /// The process stopped; `drained` tells whether every connection had ended.
    Stop {
        ts: SystemTime,
        digest: [u8; 32],
        drained: bool,
        connections_cut: u64,
    },
    /// A reload was tried.
    Reload {
        ts: SystemTime,
        digest: [u8; 32],
        ok: bool,
        detail: String,
    },
    /// Somebody used the admin socket.
    Admin {
        ts: SystemTime,
        uid: u32,
        pid: i32,
        command: String,
        ok: bool,
        result: String,
    },
}

/// Which moment of a connection a record tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Handshake done, backend chosen.
    Accepted,
    /// All over; totals are final.
    Closed,
    /// Never reached a backend.
    Refused,
}

/// Which way the bytes of a connection went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    User,
    Ktls,
    Splice,
}

/// Facts of a finished (or part finished) handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFacts {
    /// `1.2` or `1.3`.
    pub version: &'static str,
    /// IANA name.
    pub cipher: &'static str,
    /// IANA name of the key exchange group; `None` in a TLS 1.2 resumption.
    pub group: Option<&'static str>,
    pub resumed: bool,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// Both directions ended in order.
    Done,
    /// The client's TCP stream ended without close_notify.
    Truncated,
    /// The client reset the connection.
    ClientReset,
    /// The backend reset the connection.
    BackendReset,
    /// No byte either way for `idle_timeout`.
    IdleTimeout,
    /// `max_age` reached.
    MaxAge,
    /// The client's certificate ran out.
    CertificateExpired,
    /// A block, or a reload that no longer admits the client.
    NoLongerAdmitted,
    /// No backend server could be reached.
    BackendUnavailable,
    /// The process drains and the deadline passed.
    Drained,
    /// The client broke the TLS protocol or sent a fatal alert.
    TlsError,
    /// A fault of ours; the log says which.
    Internal,
}

/// What is known of one connection at one moment.
#[derive(Debug, Clone)]
pub struct ConnectionRecord {
    pub ts: SystemTime,
    pub conn_id: ConnectionId,
    pub event: Event,
    pub listener: Arc<str>,
    pub site: Option<Arc<str>>,
    pub client: SocketAddr,
    /// As the TLS stack parsed it.
    pub sni: Option<String>,
    /// The negotiated protocol.
    pub alpn: Option<Vec<u8>>,
    pub tls: Option<TlsFacts>,
    pub leaf: Option<Arc<Leaf>>,
    /// Certificates presented.
    pub chain_len: usize,
    /// Whether the client proved possession of the key (CertificateVerify, or a session that had it).
    pub proven: bool,
    /// Printed identity.
    pub identity: Option<Arc<str>>,
    /// Text of the rule that decided.
    pub rule: Option<Arc<str>>,
    pub reason: Reason,
    /// For the operator: which certificate, which step, what to do. Never goes to the client.
    pub reason_detail: String,
    /// X509_V number.
    pub verify: u32,
    pub epoch: u64,
    pub our_alert: Option<u8>,
    pub peer_alert: Option<u8>,
    pub handshake_micros: u64,
    /// `name/server`.
    pub backend: Option<Arc<str>>,
    pub path: Path,
    /// Plaintext bytes from the client.
    pub bytes_in: u64,
    /// Plaintext bytes to the client.
    pub bytes_out: u64,
    /// Only with [`Event::Closed`] and [`Event::Refused`].
    pub close_reason: Option<CloseReason>,
    pub duration_micros: u64,
}
