//! The last refused attempts, for `ctl refusals`: whoever asks why a client does not get in need not search the audit,
//! and need not have one. Fed by the audit's writer; bounded in number and in the length of each text.

use super::text::{self, moment};
use crate::config::limits;
use crate::trust::Reason;
use crate::wire::audit::{ConnectionRecord, Event};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// Names of a certificate by which its refusals are found.
const NAMES_MAX: usize = 16;
/// How far back an attempt like the last one is looked for, to count it there.
const LIKE_THIS_MAX: usize = 64;

/// The memory.
#[derive(Debug, Default)]
pub struct Refusals {
    /// Oldest first.
    list: Mutex<VecDeque<Refused>>,
}

/// One attempt, or several of the same kind that followed each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Of the last attempt, as are the connection and the port.
    pub at: SystemTime,
    pub times: u64,
    pub conn_id: String,
    pub client: SocketAddr,
    pub listener: Arc<str>,
    pub site: Option<Arc<str>>,
    pub sni: Option<String>,
    pub certificate: Option<Shown>,
    /// Where the client is known and a block stood against it.
    pub identity: Option<String>,
    pub reason: Reason,
    pub detail: String,
    pub our_alert: Option<u8>,
    pub peer_alert: Option<u8>,
}

/// What of a certificate is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub subject: String,
    pub issuer: String,
    pub serial: String,
    pub sha256: [u8; 32],
    /// Printed identities that it could have.
    pub names: Vec<String>,
    pub proven: bool,
}

/// Which attempts are asked for; `None` asks for all.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub client: Option<IpAddr>,
    pub sha256: Option<[u8; 32]>,
    /// With its kind or without.
    pub identity: Option<String>,
    pub last: Option<Duration>,
}

impl Refusals {
    /// Remembers the attempt, if it is one that was refused.
    pub fn note(&self, record: &ConnectionRecord) {
        if record.event != Event::Refused {
            return;
        }
        let mut refused = Refused::of(record);
        let mut list = self.list();
        let recent = list.len().saturating_sub(LIKE_THIS_MAX)..list.len();
        if let Some(like) = recent.rev().find(|place| list[*place].is_like(&refused)) {
            refused.times += list.remove(like).map_or(0, |earlier| earlier.times);
        }
        if list.len() >= limits::REFUSALS_KEPT_MAX {
            list.pop_front();
        }
        list.push_back(refused);
    }

    /// Those that are asked for, oldest first.
    pub fn find(&self, wanted: &Wanted, now: SystemTime) -> Vec<Refused> {
        self.list().iter().filter(|refused| wanted.takes(refused, now)).cloned().collect()
    }

    fn list(&self) -> MutexGuard<'_, VecDeque<Refused>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refused {
    fn of(record: &ConnectionRecord) -> Refused {
        Refused {
            at: record.ts,
            times: 1,
            conn_id: record.conn_id.to_string(),
            client: SocketAddr::new(record.client.ip().to_canonical(), record.client.port()),
            listener: record.listener.clone(),
            site: record.site.clone(),
            sni: record.sni.as_deref().map(cut),
            certificate: Shown::of(record),
            identity: record.identity.as_deref().map(cut),
            reason: record.reason,
            detail: cut(&record.reason_detail),
            our_alert: record.our_alert,
            peer_alert: record.peer_alert,
        }
    }

    /// Another attempt of the same client with the same end.
    fn is_like(&self, other: &Refused) -> bool {
        self.client.ip() == other.client.ip()
            && (&self.listener, &self.site, &self.sni) == (&other.listener, &other.site, &other.sni)
            && self.reason == other.reason
            && self.certificate.as_ref().map(|shown| shown.sha256)
                == other.certificate.as_ref().map(|shown| shown.sha256)
    }

    /// For programs.
    pub fn in_json(&self) -> Value {
        let certificate = self.certificate.as_ref();
        json!({
            "ts": moment(self.at),
            "times": self.times,
            "conn_id": self.conn_id,
            "client": self.client,
            "listener": &*self.listener,
            "site": self.site.as_deref(),
            "identity": self.identity,
            "sni": self.sni,
            "subject": certificate.map(|shown| &shown.subject),
            "issuer": certificate.map(|shown| &shown.issuer),
            "serial": certificate.map(|shown| &shown.serial),
            "sha256": certificate.map(|shown| hex::encode(shown.sha256)),
            "names": certificate.map(|shown| &shown.names),
            "proven": certificate.map(|shown| shown.proven),
            "reason": self.reason.to_string(),
            "reason_detail": self.detail,
            "hint": hint(self.reason),
            "our_alert": self.our_alert,
            "peer_alert": self.peer_alert,
        })
    }

    /// For people: some lines.
    pub fn in_text(&self) -> String {
        let times = if self.times > 1 { format!(" ({} times)", self.times) } else { String::new() };
        let site = self.site.as_deref().map(|site| format!("/{site}")).unwrap_or_default();
        let sni = self.sni.as_deref().map(|sni| format!(" sni {}", sni.escape_debug())).unwrap_or_default();
        let mut text =
            format!("{} {} {}{site}{sni} {}{times}\n", moment(self.at), self.client, self.listener, self.reason);
        if let Some(shown) = &self.certificate {
            let sha256 = hex::encode(shown.sha256);
            text.push_str(&format!("    {} serial {} sha256 {sha256}\n", shown.subject, shown.serial));
            text.push_str(&format!("    issued by {}\n", shown.issuer));
        }
        for line in [self.detail.as_str(), hint(self.reason)] {
            if !line.is_empty() {
                text.push_str(&format!("    {line}\n"));
            }
        }
        text
    }
}

impl Shown {
    fn of(record: &ConnectionRecord) -> Option<Shown> {
        let leaf = record.leaf.as_ref()?;
        let cn = leaf.cn.as_ref().map(|cn| format!("cn:{cn}"));
        Some(Shown {
            subject: cut(&leaf.subject),
            issuer: cut(&leaf.issuer),
            serial: cut(&leaf.serial),
            sha256: leaf.sha256,
            names: leaf.san.iter().chain(&cn).take(NAMES_MAX).map(|name| cut(name)).collect(),
            proven: record.proven,
        })
    }

    fn has(&self, identity: &str) -> bool {
        let by_digest = identity.strip_prefix("sha256:").is_some_and(|digest| digest == hex::encode(self.sha256));
        by_digest || self.names.iter().any(|name| is_called(name, identity))
    }
}

/// Whether a printed identity is the one that is asked for, with its kind or without.
fn is_called(printed: &str, asked: &str) -> bool {
    printed == asked || printed.split_once(':').is_some_and(|(_, value)| value == asked)
}

impl Wanted {
    fn takes(&self, refused: &Refused, now: SystemTime) -> bool {
        let certificate = refused.certificate.as_ref();
        // A clock that was set back makes an attempt look as if it were to come: it counts as new.
        self.last.is_none_or(|last| now.duration_since(refused.at).is_ok_and(|age| age <= last) || refused.at > now)
            && self.client.is_none_or(|client| client.to_canonical() == refused.client.ip())
            && self.sha256.is_none_or(|sha256| certificate.is_some_and(|shown| shown.sha256 == sha256))
            && self.identity.as_ref().is_none_or(|identity| {
                // A named rule's identity is in no certificate.
                certificate.is_some_and(|shown| shown.has(identity))
                    || refused.identity.as_deref().is_some_and(|own| is_called(own, identity))
                    || refused.detail.contains(identity.as_str())
            })
    }
}

/// At most so much of a text as is remembered.
fn cut(text: &str) -> String {
    text::cut(text, limits::REFUSAL_TEXT_BYTES_MAX)
}

/// What to do about it, where the detail of the attempt does not say it already.
fn hint(reason: Reason) -> &'static str {
    match reason {
        Reason::Expired => "the client needs a new certificate",
        Reason::NotYetValid => "compare the clocks of the CA, of the client and of this host",
        Reason::UnknownIssuer => "if the client is to get in, add its CA to site.client.trust",
        Reason::Revoked => "the CA has revoked it: the client needs a new certificate",
        Reason::CrlExpired => "fetch the CA's newest CRL and reload",
        Reason::CrlMissing => "add the CRL of that issuer to site.client.crls, or set crl_missing = \"allow\"",
        Reason::PolicyDenied => {
            "no rule of the site admits it, or a deny rule names it: `ctl explain CHAIN.pem` shows which"
        }
        Reason::IdentityBlocked => "`ctl blocked` shows by whom and why; `ctl unblock` ends it",
        Reason::PolicyIncompatible => "client and site have no version, suite or group in common: see site.tls",
        Reason::SniUnknown => "add the name to a site, or make a site without names the catch-all",
        Reason::AlpnNone => "client and site have no protocol in common: see site.alpn",
        Reason::PeerAlert(42..=51) => "the client does not trust the server's certificate: compare its CA and the name",
        Reason::PeerAlert(_) => "the client gave up: its own log says why",
        Reason::Timeout => "the client was too slow, or spoke no TLS: see listener.limits.handshake_timeout",
        Reason::TcpReset => "the client, or something on the way, cut the connection",
        Reason::NotTls => "the client does not speak TLS to this port",
        Reason::RateLimited => "see listener.limits",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
