//! What one connection has done so far, for its audit lines.

use super::{Entry, Live};
use crate::sys::Reactor;
use crate::tls::{Established, Failure};
use crate::trust::Reason;
use crate::wire::audit::{CloseReason, ConnectionId, ConnectionRecord, Event, Path, TlsFacts};
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Facts and totals of one connection.
#[derive(Debug)]
pub struct Account {
    /// Boxed: a future keeps room for each place that a value moves through.
    record: Box<ConnectionRecord>,
    accepted_at: Instant,
    /// Where the client connected to, as a PROXY header says; `None`: to us.
    destination: Option<SocketAddr>,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    /// The last event that was written down.
    told: Cell<Option<Event>>,
    live: Rc<Live>,
    reactor: Rc<Reactor>,
}

impl Account {
    /// Opens the account at accept.
    pub fn open(reactor: &Rc<Reactor>, entry: &Entry, live: &Rc<Live>, client: SocketAddr) -> Account {
        let record = Box::new(ConnectionRecord {
            ts: reactor.wall(),
            conn_id: live.conn_id,
            event: Event::Refused,
            listener: entry.name.clone(),
            site: None,
            client,
            sni: None,
            alpn: None,
            tls: None,
            leaf: None,
            chain_len: 0,
            proven: false,
            identity: None,
            rule: None,
            reason: Reason::Internal,
            reason_detail: String::new(),
            verify: 0,
            epoch: 0,
            our_alert: None,
            peer_alert: None,
            handshake_micros: 0,
            backend: None,
            path: Path::User,
            bytes_in: 0,
            bytes_out: 0,
            close_reason: None,
            duration_micros: 0,
        });
        let (bytes_in, bytes_out, told) = Default::default();
        let (live, reactor) = (live.clone(), reactor.clone());
        let (accepted_at, destination) = (reactor.now(), None);
        Account { record, accepted_at, destination, bytes_in, bytes_out, told, live, reactor }
    }

    /// The connection as the worker sees it.
    pub fn live(&self) -> &Live {
        &self.live
    }

    pub fn conn_id(&self) -> ConnectionId {
        self.record.conn_id
    }

    #[cfg(debug_assertions)]
    pub fn sni(&self) -> Option<&str> {
        self.record.sni.as_deref()
    }

    pub fn client(&self) -> SocketAddr {
        self.record.client
    }

    /// What a balancer in front of us says of its client. HAProxy writes IPv4 in the form of IPv6 where one end is IPv6;
    /// a client has one name in the audit all the same.
    pub fn proxied(&mut self, source: SocketAddr, destination: Option<SocketAddr>) {
        self.record.client = SocketAddr::new(source.ip().to_canonical(), source.port());
        self.destination = destination;
    }

    /// Where the client connected to, if it was not to us.
    pub fn destination(&self) -> Option<SocketAddr> {
        self.destination
    }

    pub fn accepted_at(&self) -> Instant {
        self.accepted_at
    }

    /// Plaintext bytes passed on to the backend.
    pub fn count_in(&self, n: usize) {
        self.bytes_in.set(self.bytes_in.get() + n as u64);
    }

    /// Plaintext bytes passed on to the client.
    pub fn count_out(&self, n: usize) {
        self.bytes_out.set(self.bytes_out.get() + n as u64);
    }

    /// Writes down how the handshake ended well; returns how long it took.
    pub fn established(&mut self, established: &Established) -> Duration {
        let took = self.reactor.precise_now().saturating_duration_since(self.accepted_at);
        let admission = &established.admission;
        let record = &mut self.record;
        record.site = Some(established.site.name().clone());
        record.sni = established.sni.clone();
        record.alpn = established.alpn.clone();
        record.tls = Some(TlsFacts {
            version: established.version,
            cipher: established.cipher,
            group: established.group,
            resumed: established.resumed,
        });
        record.leaf = admission.leaf().cloned();
        record.chain_len = admission.chain_len();
        record.proven = admission.leaf().is_some();
        record.identity = admission.identity().map(|identity| identity.as_str().into());
        record.rule = admission.rule().cloned();
        record.reason = admission.reason();
        record.reason_detail = admission.detail().to_owned();
        record.verify = admission.verify();
        record.epoch = admission.epoch();
        record.handshake_micros = took.as_micros() as u64;
        took
    }

    /// Writes down how the handshake failed.
    pub fn failed(&mut self, failure: &Failure) {
        let record = &mut self.record;
        record.site = failure.site.as_ref().map(|site| site.name().clone());
        record.epoch = failure.site.as_ref().map_or(0, |site| site.policy().epoch());
        record.sni = failure.sni.clone();
        record.tls = failure.version.zip(failure.cipher).map(|(version, cipher)| TlsFacts {
            version,
            cipher,
            group: None,
            resumed: false,
        });
        record.leaf = failure.leaf.clone();
        record.identity = failure.identity.clone();
        record.chain_len = failure.chain_len;
        record.proven = failure.proven;
        record.verify = failure.verify;
        record.reason = failure.reason;
        record.reason_detail = failure.detail.clone();
        record.our_alert = failure.our_alert;
        record.peer_alert = failure.peer_alert;
        record.handshake_micros = self.accepted_at.elapsed_at(self.reactor.precise_now());
    }

    /// Writes down a refusal that TLS knows nothing of.
    pub fn refused(&mut self, reason: Reason, detail: &str) {
        self.record.reason = reason;
        self.record.reason_detail = detail.to_owned();
    }

    /// The server that will get the bytes.
    pub fn backend(&mut self, label: &Arc<str>) {
        self.record.backend = Some(label.clone());
    }

    /// Which way the bytes go.
    pub fn path(&mut self, path: Path) {
        self.record.path = path;
    }

    /// Alerts that ended an open connection.
    pub fn alerts(&mut self, ours: Option<u8>, peers: Option<u8>, detail: &str) {
        self.record.our_alert = ours;
        self.record.peer_alert = peers;
        if !detail.is_empty() {
            self.record.reason_detail = detail.to_owned();
        }
    }

    /// The record of this moment, to be written down.
    pub fn record(&self, event: Event, close_reason: Option<CloseReason>) -> ConnectionRecord {
        let mut record = (*self.record).clone();
        record.ts = self.reactor.wall();
        record.event = event;
        self.told.set(Some(event));
        record.close_reason = close_reason;
        record.bytes_in = self.bytes_in.get();
        record.bytes_out = self.bytes_out.get();
        record.duration_micros = self.accepted_at.elapsed_at(self.reactor.precise_now());
        record
    }
}

impl Drop for Account {
    /// A panic is the one way out on which nobody wrote the last record: it is left for whoever catches the panic.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let record = match self.told.get() {
            None => {
                self.refused(Reason::Internal, "a fault of ours ended this connection; the log says where");
                self.record(Event::Refused, None)
            }
            Some(Event::Accepted) => self.record(Event::Closed, Some(CloseReason::Internal)),
            Some(_) => return,
        };
        self.live.leave(record);
    }
}

trait ElapsedAt {
    fn elapsed_at(self, now: Instant) -> u64;
}

impl ElapsedAt for Instant {
    /// Microseconds from `self` to `now`.
    fn elapsed_at(self, now: Instant) -> u64 {
        now.saturating_duration_since(self).as_micros() as u64
    }
}
