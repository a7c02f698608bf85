//! What can be told of a handshake before it is done: what it will cost, and whether its client may come in at all.

use super::{Phase, Running, Session};
use crate::config::limits;
use crate::tls::failure::{Failure, plaintext_alert};
use crate::tls::offer;
use crate::tls::quota::{Quota, QuotaPlace};
use crate::tls::scope::Handshake;
use crate::trust::{Identity, Reason};
use rustls::HandshakeKind;
use rustls_pki_types::UnixTime;

/// What the next step of a handshake costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// Key exchange and symmetric keys.
    Resumed,
    /// Signatures as well.
    Full,
}

impl Session {
    /// Takes all of `input`, up to a whole ClientHello and no further; `Some` once it is there, and [`Session::feed`] (with
    /// nothing, or with what came since) goes on. So whoever calls may wait for the time that the handshake will cost. A
    /// hint: a client that brings a ticket of ours may still end in a full handshake.
    pub fn hear(&mut self, input: &[u8], now: UnixTime, out: &mut Vec<u8>) -> Result<Option<Cost>, Box<Failure>> {
        let Phase::Hello(hello) = &mut self.phase else { return Ok(Some(self.cost())) };
        match hello.feed(input, out) {
            Ok(None) => Ok(None),
            Ok(Some(greeting)) => {
                let cost = self.guess(&greeting.sni, &greeting.bytes, now);
                self.phase = Phase::Greeted(Box::new(greeting), cost);
                Ok(Some(cost))
            }
            Err(failure) => {
                self.phase = Phase::Ended;
                Err(failure)
            }
        }
    }

    /// What the next [`Session::feed`] may cost.
    pub fn cost(&self) -> Cost {
        match &self.phase {
            Phase::Greeted(_, cost) => *cost,
            Phase::Running(running) if running.tls.handshake_kind() != Some(HandshakeKind::Resumed) => Cost::Full,
            _ => Cost::Resumed,
        }
    }

    /// Whether no resumption can come of this handshake any more.
    pub fn is_full(&self) -> bool {
        self.running().is_some_and(|running| match running.tls.handshake_kind() {
            Some(HandshakeKind::Full) => true,
            Some(HandshakeKind::FullWithHelloRetryRequest) => !running.retrying,
            _ => false,
        })
    }

    /// Why to refuse a client that resumes, whose present step is the first that tells so, and that has as many
    /// connections as it may. It has proven nothing yet, so it is counted nowhere; but there is no use in going on.
    pub fn resumes_in_vain(&self) -> Option<String> {
        let running = self.running()?;
        let resumed = running.tls.handshake_kind() == Some(HandshakeKind::Resumed);
        let handshake = running.handshake.as_ref().filter(|_| resumed)?;
        let quota = handshake.quota.as_ref()?;
        let who = handshake.tickets.last_opened()?.identity()?;
        (!quota.has_room(who.as_str())).then(|| too_many(quota))
    }

    /// Refuses a client before anything but a HelloRetryRequest was sent: `out`, which was not sent either, becomes the
    /// alert.
    pub fn refuse(&mut self, reason: Reason, detail: &str, out: &mut Vec<u8>) -> Box<Failure> {
        out.clear();
        out.extend_from_slice(&plaintext_alert(reason.alert()));
        let mut failure = Box::new(Failure::new(reason, detail));
        match std::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Greeted(greeting, _) => {
                failure.site = self.table.select(greeting.sni.as_deref()).cloned();
                failure.sni = greeting.sni;
            }
            Phase::Running(running) => {
                if let Some(handshake) = &running.handshake {
                    failure = running.tell(failure, handshake);
                    let admission = handshake.tickets.last_opened();
                    failure.leaf = admission.and_then(|admission| admission.leaf().cloned());
                    failure.chain_len = admission.map_or(0, |admission| admission.chain_len());
                    failure.identity = admission.and_then(|one| one.identity()).map(|who| who.text().clone());
                }
            }
            Phase::Hello(_) | Phase::Ended => {}
        }
        failure.our_alert = Some(reason.alert());
        failure
    }

    /// The client's place among the connections of its identity, to be held as long as the connection lasts.
    pub fn take_place(&mut self) -> Option<QuotaPlace> {
        match &mut self.phase {
            Phase::Running(running) => running.place.take(),
            _ => None,
        }
    }

    /// A name that leads nowhere costs nothing: it is refused.
    fn guess(&self, sni: &Option<String>, bytes: &[u8], now: UnixTime) -> Cost {
        let Some(site) = self.table.select(sni.as_deref()) else { return Cost::Resumed };
        let message = offer::message(&bytes[..bytes.len().min(limits::CLIENT_HELLO_BYTES_MAX)]);
        match offer::tickets(&message).into_iter().any(|ticket| site.has_sealed(ticket, now)) {
            true => Cost::Resumed,
            false => Cost::Full,
        }
    }
}

impl Running {
    /// Notes whether a HelloRetryRequest has just gone out.
    pub(super) fn note_retry(&mut self) {
        let retried = self.tls.handshake_kind() == Some(HandshakeKind::FullWithHelloRetryRequest);
        self.retrying = retried && !std::mem::replace(&mut self.retried, retried);
    }
}

impl Handshake {
    /// Takes the client's place among the connections of its identity, once it has proven to be that client.
    pub(in crate::tls) fn take_place(&mut self, who: Option<&Identity>) -> Result<(), String> {
        let (Some(quota), Some(who), None) = (&self.quota, who, &self.place) else { return Ok(()) };
        self.place = quota.enter(who.text());
        match self.place {
            Some(_) => Ok(()),
            None => Err(too_many(quota)),
        }
    }
}

/// For the operator.
pub(in crate::tls) fn too_many(quota: &Quota) -> String {
    let most = quota.most;
    format!("this client has as many connections as it may, {most}; see listener.limits.connections_per_identity")
}
