//! The JSON line of a [`Record`]: names and nesting of the contract's section 5. Every key is always there; what is not
//! known is `null`. What a client sent can neither end the line, nor end a string, nor make the line long.

use super::text::{Bounded, LogFormatter, Moment, Texts};
use super::{CloseReason, ConnectionRecord, Event, Path, Record};
use crate::config::limits;
use crate::trust::Leaf;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use std::fmt::{self, Write};
use std::net::SocketAddr;

/// Appends one JSON object and a newline, together at most [`limits::AUDIT_LINE_BYTES_MAX`] bytes.
pub fn write_line(record: &Record, out: &mut Vec<u8>) {
    let start = out.len();
    let mut serializer = serde_json::Serializer::with_formatter(&mut *out, LogFormatter);
    let written = Line::from(record).serialize(&mut serializer);
    // Neither a vector nor these types can fail; a broken line must not be left behind should that ever change.
    if written.is_err() {
        out.truncate(start);
        return;
    }
    out.push(b'\n');
    debug_assert!(out.len() - start <= limits::AUDIT_LINE_BYTES_MAX);
}

/// Any line: the parts that only one event has follow the common two.
#[derive(Serialize)]
#[serde(untagged)]
enum Line<'a> {
    Connection(Box<ConnectionLine<'a>>),
    Start {
        ts: Moment,
        event: &'static str,
        version: &'a str,
        digest: Hex<'a>,
        listeners: Texts<'a>,
        workers: usize,
    },
    Stop {
        ts: Moment,
        event: &'static str,
        digest: Hex<'a>,
        drained: bool,
        connections_cut: u64,
    },
    Reload {
        ts: Moment,
        event: &'static str,
        digest: Hex<'a>,
        ok: bool,
        detail: Option<Bounded<'a>>,
    },
    Admin {
        ts: Moment,
        event: &'static str,
        uid: u32,
        pid: i32,
        command: Bounded<'a>,
        ok: bool,
        result: Option<Bounded<'a>>,
    },
}

impl<'a> From<&'a Record> for Line<'a> {
    fn from(record: &'a Record) -> Self {
        match record {
            Record::Connection(record) => Line::Connection(Box::new(ConnectionLine::from(&**record))),
            Record::Start { ts, version, digest, listeners, workers } => Line::Start {
                ts: Moment::from(*ts),
                event: "start",
                version,
                digest: Hex(digest),
                listeners: Texts(listeners),
                workers: *workers,
            },
            Record::Stop { ts, digest, drained, connections_cut } => Line::Stop {
                ts: Moment::from(*ts),
                event: "stop",
                digest: Hex(digest),
                drained: *drained,
                connections_cut: *connections_cut,
            },
            Record::Reload { ts, digest, ok, detail } => Line::Reload {
                ts: Moment::from(*ts),
                event: "reload",
                digest: Hex(digest),
                ok: *ok,
                detail: unless_empty(detail),
            },
            Record::Admin { ts, uid, pid, command, ok, result } => Line::Admin {
                ts: Moment::from(*ts),
                event: "admin",
                uid: *uid,
                pid: *pid,
                command: Bounded::Text(command),
                ok: *ok,
                result: unless_empty(result),
            },
        }
    }
}

/// A connection's line; the order of the fields is that of the contract.
#[derive(Serialize)]
struct ConnectionLine<'a> {
    ts: Moment,
    conn_id: Hex<'a>,
    event: &'static str,
    listener: Bounded<'a>,
    site: Option<Bounded<'a>>,
    client: SocketAddr,
    sni: Option<Bounded<'a>>,
    alpn: Option<Bounded<'a>>,
    tls: Option<TlsLine>,
    cert: Option<CertLine<'a>>,
    identity: Option<Bounded<'a>>,
    rule: Option<Bounded<'a>>,
    decision: &'static str,
    reason: Shown<crate::trust::Reason>,
    reason_detail: Option<Bounded<'a>>,
    verify: u32,
    epoch: u64,
    our_alert: Option<u8>,
    peer_alert: Option<u8>,
    handshake_ms: f64,
    backend: Option<Bounded<'a>>,
    path: &'static str,
    bytes_in: u64,
    bytes_out: u64,
    close_reason: Option<&'static str>,
    duration_ms: f64,
}

#[derive(Serialize)]
struct TlsLine {
    version: &'static str,
    cipher: &'static str,
    group: Option<&'static str>,
    resumed: bool,
}

#[derive(Serialize)]
struct CertLine<'a> {
    subject: Bounded<'a>,
    issuer: Bounded<'a>,
    serial: Bounded<'a>,
    not_before: Moment,
    not_after: Moment,
    sha256: Hex<'a>,
    x5t_s256: String,
    san: Texts<'a>,
    chain_len: usize,
    proven: bool,
}

impl<'a> From<&'a ConnectionRecord> for ConnectionLine<'a> {
    fn from(record: &'a ConnectionRecord) -> Self {
        let text = |text: &'a Option<_>| text.as_deref().map(Bounded::Text);
        ConnectionLine {
            ts: Moment::from(record.ts),
            conn_id: Hex(&record.conn_id.0),
            event: event_name(record.event),
            listener: Bounded::Text(&record.listener),
            site: text(&record.site),
            client: record.client,
            sni: record.sni.as_deref().map(Bounded::Text),
            alpn: record.alpn.as_deref().map(Bounded::Bytes),
            tls: record.tls.as_ref().map(|tls| TlsLine {
                version: tls.version,
                cipher: tls.cipher,
                group: tls.group,
                resumed: tls.resumed,
            }),
            cert: record.leaf.as_deref().map(|leaf| cert_line(leaf, record)),
            identity: text(&record.identity),
            rule: text(&record.rule),
            decision: if record.event == Event::Refused { "refuse" } else { "admit" },
            reason: Shown(record.reason),
            reason_detail: unless_empty(&record.reason_detail),
            verify: record.verify,
            epoch: record.epoch,
            our_alert: record.our_alert,
            peer_alert: record.peer_alert,
            handshake_ms: millis(record.handshake_micros),
            backend: text(&record.backend),
            path: path_name(record.path),
            bytes_in: record.bytes_in,
            bytes_out: record.bytes_out,
            close_reason: record.close_reason.map(CloseReason::code),
            duration_ms: millis(record.duration_micros),
        }
    }
}

fn cert_line<'a>(leaf: &'a Leaf, record: &ConnectionRecord) -> CertLine<'a> {
    CertLine {
        subject: Bounded::Text(&leaf.subject),
        issuer: Bounded::Text(&leaf.issuer),
        serial: Bounded::Text(&leaf.serial),
        not_before: Moment::from_unix_seconds(leaf.not_before),
        not_after: Moment::from_unix_seconds(leaf.not_after),
        sha256: Hex(&leaf.sha256),
        x5t_s256: URL_SAFE_NO_PAD.encode(leaf.sha256),
        san: Texts(&leaf.san),
        chain_len: record.chain_len,
        proven: record.proven,
    }
}

fn event_name(event: Event) -> &'static str {
    match event {
        Event::Accepted => "accepted",
        Event::Closed => "closed",
        Event::Refused => "refused",
    }
}

fn path_name(path: Path) -> &'static str {
    match path {
        Path::User => "user",
        Path::Ktls => "ktls",
        Path::Splice => "splice",
    }
}

impl CloseReason {
    /// The code printed in audit lines; never renamed.
    pub fn code(self) -> &'static str {
        match self {
            CloseReason::Done => "done",
            CloseReason::Truncated => "truncated",
            CloseReason::ClientReset => "client_reset",
            CloseReason::BackendReset => "backend_reset",
            CloseReason::IdleTimeout => "idle_timeout",
            CloseReason::MaxAge => "max_age",
            CloseReason::CertificateExpired => "certificate_expired",
            CloseReason::NoLongerAdmitted => "no_longer_admitted",
            CloseReason::BackendUnavailable => "backend_unavailable",
            CloseReason::Drained => "drained",
            CloseReason::TlsError => "tls_error",
            CloseReason::Internal => "internal",
        }
    }
}

fn unless_empty(text: &str) -> Option<Bounded<'_>> {
    if text.is_empty() { None } else { Some(Bounded::Text(text)) }
}

/// Milliseconds with at most three decimals: below 2^53 microseconds (285 years) the shortest form of the quotient has
/// no more, so longer ones count as that.
fn millis(micros: u64) -> f64 {
    micros.min(1 << 53) as f64 / 1000.0
}

/// Bytes as lower-case hex.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| {
            f.write_char(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'))?;
            f.write_char(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'))
        })
    }
}

impl Serialize for Hex<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A value by its printed form.
struct Shown<T>(T);

impl<T: fmt::Display> Serialize for Shown<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}
