//! Which request gets which answer. What changes something is written to the audit, with who asked for it.

use super::{Answer, Peer, Request};
use crate::config::limits;
use crate::control::desk::Desk;
use crate::control::readiness::Phase;
use crate::control::refusals::Wanted;
use crate::control::service::{Explained, Rotated, Service};
use crate::control::signals::Asked;
use crate::control::status::Status;
use crate::control::text::beginning;
use crate::wire::audit::Record;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde_json::Value;
use serde_json::value::RawValue;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

/// The answer to whoever would change something while a new process takes over: it would be lost.
pub(super) const GIVING: &str = "a new process is taking over from this one; give the command again in a moment";

impl<S: Service> Desk<S> {
    /// Does what is asked.
    pub(super) async fn answer(self: &Arc<Self>, request: Request, peer: Peer) -> Answer {
        let command = Command(&request).to_string();
        let changes = !request.only_asks();
        let answer = match request {
            _ if changes && self.giving.load(Ordering::SeqCst) => Answer::refused(GIVING),
            Request::Status => self.status().await,
            Request::Reload => self.reload_asked().await,
            Request::Drain { timeout_ms } => self.drain_asked(timeout_ms.map(Duration::from_millis)).await,
            Request::Block { client, for_seconds, why } => self.block(&client, for_seconds, why, peer).await,
            Request::Unblock { client } => self.unblock(&client).await,
            Request::Blocked => self.blocked(),
            Request::RotateTickets => self.rotate_tickets(),
            Request::Explain { listener, sni, chain } => self.explain(listener, sni, &chain),
            Request::Refusals { client, sha256, identity, last_seconds } => {
                match sha256.as_deref().map(super::blocking::digest).transpose() {
                    Ok(sha256) => {
                        self.refusals(&Wanted { client, sha256, identity, last: last_seconds.map(Duration::from_secs) })
                    }
                    Err(problem) => Answer::refused(problem),
                }
            }
            Request::Sessions { identity } => self.sessions(identity).await,
            Request::Identities { expiring_seconds } => {
                self.identities(expiring_seconds.map(Duration::from_secs)).await
            }
            Request::Backend { backend, server, state } => self.set_server(&backend, &server, state),
        };
        if changes {
            let result = beginning(&answer.text, limits::AUDIT_TEXT_BYTES_MAX).to_owned();
            tracing::info!(uid = peer.uid, pid = peer.pid, command, ok = answer.ok, "admin command");
            let Peer { uid, pid } = peer;
            self.audit(Record::Admin { ts: SystemTime::now(), uid, pid, command, ok: answer.ok, result });
        }
        answer
    }

    async fn status(&self) -> Answer {
        self.state.ask_for_clients().await;
        let generation = self.state.generation();
        let status = Status::of(&self.state, &generation, Instant::now(), SystemTime::now());
        Answer { data: RawValue::from_string(status.to_json()).ok(), ..Answer::done(status.in_text()) }
    }

    async fn reload_asked(self: &Arc<Self>) -> Answer {
        match self.reload().await {
            Ok(lines) => Answer::done(lines.join("\n")),
            Err(lines) => Answer::refused(lines.join("\n")),
        }
    }

    async fn drain_asked(&self, patience: Option<Duration>) -> Answer {
        if self.state.readiness.phase() == Phase::Draining {
            return Answer::refused("the server is draining already; a second SIGTERM ends it at once");
        }
        let open = self.service.connections();
        if self.asked.send(Asked::Drain(patience)).await.is_err() {
            return Answer::refused("the server is ending already");
        }
        let patience = patience.unwrap_or(self.state.generation().config.runtime.drain_timeout);
        Answer::done(format!("draining; {open} connections have {patience:?} to end"))
    }

    fn rotate_tickets(&self) -> Answer {
        match self.service.rotate_tickets(UnixTime::now()) {
            Rotated::Yes => Answer::done("tickets are sealed with a new key from now on"),
            Rotated::NoTickets => Answer::refused("tickets are off (tickets.enabled)"),
            Rotated::Derived => Answer::refused(
                "ticket keys come from tickets.secret_files, each in its time; to change the secret, add the new one to \
                 that list on every host and reload, then put it first, then take the old one away",
            ),
            Rotated::Failed => Answer::refused("no key could be made: the system's random source failed; try again"),
        }
    }

    fn explain(&self, listener: Option<String>, sni: Option<String>, chain: &[String]) -> Answer {
        let decode = |text: &String| STANDARD.decode(text).map(CertificateDer::from);
        let Ok(chain) = chain.iter().map(decode).collect::<Result<Vec<_>, _>>() else {
            return Answer::refused("the chain is not base64");
        };
        let asked = Explained { listener, sni, chain };
        match self.service.explain(&asked, UnixTime::now()) {
            Ok(explanation) => Answer::told(explanation.text, &explanation.json),
            Err(problem) => Answer::refused(problem),
        }
    }

    fn refusals(&self, wanted: &Wanted) -> Answer {
        let found = self.refusals.find(wanted, SystemTime::now());
        let json: Vec<Value> = found.iter().map(|refused| refused.in_json()).collect();
        let mut text: String = found.iter().map(|refused| refused.in_text()).collect();
        if found.is_empty() {
            text = format!("none; the last {} refusals since the start are remembered\n", limits::REFUSALS_KEPT_MAX);
        }
        Answer::told(text, &json)
    }
}

impl Request {
    fn only_asks(&self) -> bool {
        match self {
            Request::Status
            | Request::Blocked
            | Request::Explain { .. }
            | Request::Refusals { .. }
            | Request::Sessions { .. }
            | Request::Identities { .. } => true,
            Request::Reload
            | Request::Drain { .. }
            | Request::Block { .. }
            | Request::Unblock { .. }
            | Request::RotateTickets
            | Request::Backend { .. } => false,
        }
    }
}

/// A request as it would be typed, for the audit.
struct Command<'r>(&'r Request);

impl fmt::Display for Command<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Request::Status => f.write_str("status"),
            Request::Reload => f.write_str("reload"),
            Request::Drain { timeout_ms: None } => f.write_str("drain"),
            Request::Drain { timeout_ms: Some(timeout) } => write!(f, "drain {timeout}ms"),
            Request::Block { client, for_seconds, why } => {
                write!(f, "block {client}")?;
                for_seconds.map_or(Ok(()), |seconds| write!(f, " --for {seconds}s"))?;
                why.as_ref().map_or(Ok(()), |why| write!(f, " --why {why:?}"))
            }
            Request::Unblock { client } => write!(f, "unblock {client}"),
            Request::Blocked => f.write_str("blocked"),
            Request::RotateTickets => f.write_str("tickets rotate"),
            Request::Explain { .. } => f.write_str("explain"),
            Request::Refusals { .. } => f.write_str("refusals"),
            Request::Sessions { .. } => f.write_str("sessions"),
            Request::Identities { .. } => f.write_str("identities"),
            Request::Backend { backend, server, state } => {
                write!(f, "backend {backend} {server} {}", crate::worker::Wanted::from(*state).word())
            }
        }
    }
}
