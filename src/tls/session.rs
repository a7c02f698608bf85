//! One connection's TLS, from the first byte to the last, without I/O.

mod ahead;
mod leaving;

pub use ahead::Cost;

use super::Environment;
use super::established::{self, Established};
use super::failure::{Failure, Stage, alert_in, alert_of, detail_of, plaintext_alert, reason_of};
use super::hello::{Greeting, Hello};
use super::key_changes::{KeyChanges, Made};
use super::quota::{Quota, QuotaPlace};
use super::records::{self, Drive, WriteError};
use super::scope::{self, Handshake, Proof};
use super::site::Site;
use super::table::SiteTable;
use crate::config::limits;
use crate::trust::Reason;
use rustls::server::UnbufferedServerConnection;
use rustls::{Error, HandshakeKind, PeerMisbehaved, ProtocolVersion};
use rustls_pki_types::UnixTime;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

/// A Finished that is not what it must be (RFC 8446 section 4.4.4).
const DECRYPT_ERROR: u8 = 51;

/// One client's TLS session. Call order: [`Session::feed`] with all that is received; once it answers
/// [`Status::Open`], [`Session::established`] says who is there and [`Session::encrypt`] may be called;
/// [`Session::close_notify`] when our side is done. After an error nothing more can be had of it.
pub struct Session {
    table: Arc<SiteTable>,
    environment: Rc<Environment>,
    quota: Option<Quota>,
    phase: Phase,
}

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Handshaking,
    /// The client is admitted; data flows.
    Open,
    /// The client has sent close_notify. What we send still reaches it.
    PeerClosed,
}

enum Phase {
    Hello(Box<Hello>),
    /// The ClientHello is whole; nothing was done with it yet.
    Greeted(Box<Greeting>, Cost),
    Running(Box<Running>),
    Ended,
}

/// A connection whose site is chosen.
struct Running {
    tls: UnbufferedServerConnection,
    site: Arc<Site>,
    /// Until the handshake is done.
    handshake: Option<Box<Handshake>>,
    established: Option<Box<Established>>,
    /// Received and not used up: a part of a record, or records with a part of a handshake message.
    carry: Vec<u8>,
    /// Nothing was sent yet, so nothing is encrypted.
    silent: bool,
    peer_closed: bool,
    close_sent: bool,
    /// A HelloRetryRequest went out, and the second ClientHello is still to come.
    retrying: bool,
    retried: bool,
    /// Counts the connection for its identity, until whoever keeps it takes it.
    place: Option<QuotaPlace>,
    made: Made,
}

impl Session {
    /// A session before its first byte.
    pub fn new(table: Arc<SiteTable>, environment: Rc<Environment>) -> Session {
        Session { table, environment, quota: None, phase: Phase::Hello(Box::default()) }
    }

    /// The same with a limit to the connections of each identity: see [`Session::take_place`].
    pub fn with_quota(self, quota: Option<Quota>) -> Session {
        Session { quota, ..self }
    }

    /// Takes all of `input` (which it overwrites). Plaintext is appended to `plain`, and only once the client is
    /// admitted; TLS bytes to send are appended to `out`, on failure too: then they end with our alert, if there is one.
    pub fn feed(
        &mut self,
        input: &mut [u8],
        now: UnixTime,
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Status, Box<Failure>> {
        let answer = match &mut self.phase {
            Phase::Hello(_) => match self.hear(input, now, out) {
                Ok(None) => return Ok(Status::Handshaking),
                Ok(Some(_)) => return self.feed(&mut [], now, plain, out),
                Err(failure) => Err(failure),
            },
            Phase::Greeted(greeting, _) => {
                let mut greeting = std::mem::take(&mut **greeting);
                greeting.bytes.extend_from_slice(input);
                self.greet(greeting, now, plain, out)
            }
            Phase::Running(running) => running.feed(input, now, plain, out),
            Phase::Ended => Err(ended()),
        };
        if answer.is_err() {
            self.phase = Phase::Ended;
        }
        answer
    }

    /// Appends `data`, of any length, as records to `out`. Works as long as [`Session::close_notify`] was not called,
    /// after the client's close_notify too.
    pub fn encrypt(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), Box<Failure>> {
        let answer = match &mut self.phase {
            Phase::Running(running) => running.encrypt(data, out),
            Phase::Hello(_) | Phase::Greeted(..) | Phase::Ended => Err(ended()),
        };
        if answer.is_err() {
            self.phase = Phase::Ended;
        }
        answer
    }

    /// Appends a close_notify: we send no more. What the client sends is still taken. Before the handshake is done,
    /// and the second time, it does nothing.
    pub fn close_notify(&mut self, out: &mut Vec<u8>) {
        if let Phase::Running(running) = &mut self.phase {
            running.close_notify(out);
        }
    }

    /// Changes of keys since the last time, on an open connection.
    pub fn take_key_changes(&mut self) -> KeyChanges {
        match &mut self.phase {
            Phase::Running(running) => running.made.take_changes(),
            _ => KeyChanges::default(),
        }
    }

    /// Who is there; `None` until the handshake is done.
    pub fn established(&self) -> Option<&Established> {
        self.running().and_then(|running| running.established.as_deref())
    }

    /// The site that the client's name led to, once known.
    pub fn site(&self) -> Option<&Arc<Site>> {
        self.running().map(|running| &running.site)
    }

    /// The name that the client asked for, lower case, once known.
    pub fn sni(&self) -> Option<&str> {
        let running = self.running()?;
        match (&running.established, &running.handshake) {
            (Some(established), _) => established.sni.as_deref(),
            (None, Some(handshake)) => handshake.sni.as_deref(),
            (None, None) => None,
        }
    }

    /// Whether the end of the TCP stream would now cut a record in two. An end without [`Status::PeerClosed`] is a
    /// truncation in any case.
    pub fn has_partial_record(&self) -> bool {
        match &self.phase {
            Phase::Hello(hello) => hello.has_begun(),
            Phase::Greeted(..) => true,
            Phase::Running(running) => !running.carry.is_empty(),
            Phase::Ended => false,
        }
    }

    fn running(&self) -> Option<&Running> {
        match &self.phase {
            Phase::Running(running) => Some(running),
            Phase::Hello(_) | Phase::Greeted(..) | Phase::Ended => None,
        }
    }

    /// Chooses the site, once, and begins the handshake with the bytes so far.
    fn greet(
        &mut self,
        greeting: Greeting,
        now: UnixTime,
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Status, Box<Failure>> {
        let Greeting { sni, mut bytes } = greeting;
        let Some(site) = self.table.select(sni.as_deref()) else { return Err(unknown_name(sni, out)) };
        let tls = UnbufferedServerConnection::new(site.config().clone())
            .map_err(|error| Box::new(Failure::new(Reason::Internal, &detail_of(&error))))?;
        let mut handshake = Handshake::new(now, self.environment.clone(), site.clone(), sni);
        handshake.quota = self.quota.take();
        let mut running = Box::new(Running {
            tls,
            site: site.clone(),
            handshake: Some(Box::new(handshake)),
            established: None,
            carry: Vec::new(),
            silent: true,
            peer_closed: false,
            close_sent: false,
            retrying: false,
            retried: false,
            place: None,
            made: Made::default(),
        });
        let status = running.feed(&mut bytes, now, plain, out);
        self.phase = Phase::Running(running);
        status
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match &self.phase {
            Phase::Hello(_) | Phase::Greeted(..) => "hello",
            Phase::Running(running) if running.established.is_none() => "handshake",
            Phase::Running(_) => "open",
            Phase::Ended => "ended",
        };
        f.debug_struct("Session").field("phase", &phase).finish_non_exhaustive()
    }
}

impl Running {
    fn feed(
        &mut self,
        input: &mut [u8],
        now: UnixTime,
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Status, Box<Failure>> {
        if let Some(handshake) = &mut self.handshake {
            handshake.now = now;
        }
        let (plain_start, out_start) = (plain.len(), out.len());
        let mut made = self.made;
        let taken = made.during(|| self.take(input, plain, out));
        self.made = made;
        self.silent &= out.len() == out_start;
        self.note_retry();
        if let Err(error) = taken {
            return Err(self.fail(&error, (plain, plain_start), (out, out_start)));
        }
        if let Some(mut handshake) = self.handshake.take_if(|_| !self.tls.is_handshaking()) {
            match Established::conclude(&self.tls, &mut handshake) {
                Ok(established) => {
                    self.established = Some(Box::new(established));
                    self.place = handshake.place.take();
                }
                Err(failure) => {
                    // Neither our Finished nor tickets for a client that is not let in, and nothing from it.
                    plain.truncate(plain_start);
                    out.truncate(out_start);
                    return Err(self.tell(failure, &handshake));
                }
            }
        }
        Ok(self.status())
    }

    fn status(&self) -> Status {
        match (&self.established, self.peer_closed) {
            (None, _) => Status::Handshaking,
            (Some(_), false) => Status::Open,
            (Some(_), true) => Status::PeerClosed,
        }
    }

    /// Completes the record that was begun, then takes the rest where it lies: of bulk data only the bytes of a record
    /// that spans two inputs are copied.
    fn take(&mut self, input: &mut [u8], plain: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), Error> {
        let lent = scope::enter(&mut self.handshake);
        let mut rest = input;
        while !self.carry.is_empty() && !rest.is_empty() && !self.peer_closed {
            let (now, later) = rest.split_at_mut(records::missing(&self.carry).min(rest.len()));
            self.carry.extend_from_slice(now);
            rest = later;
            let done = records::drive(&mut self.tls, &mut self.carry, plain, out)?;
            self.peer_closed |= done.peer_closed;
            match done.used == self.carry.len() {
                true => self.carry = Vec::new(),
                false => drop(self.carry.drain(..done.used)),
            }
        }
        if !rest.is_empty() && !self.peer_closed {
            let Drive { used, peer_closed } = records::drive(&mut self.tls, rest, plain, out)?;
            self.peer_closed |= peer_closed;
            keep(&mut self.carry, &rest[used..]);
        }
        if self.peer_closed {
            // What comes behind a close_notify counts for nothing (RFC 8446 section 6.1).
            self.carry = Vec::new();
        }
        drop(lent);
        Ok(())
    }

    fn encrypt(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), Box<Failure>> {
        if self.established.is_none() || self.close_sent {
            return Err(Box::new(Failure::new(Reason::Internal, "nothing may be sent now")));
        }
        if data.is_empty() {
            return Ok(());
        }
        let sealed = self.made.during(|| records::encrypt(&mut self.tls, &mut self.carry, data, out));
        sealed.map_err(|error| match error {
            WriteError::Tls(error) => Box::new(Failure::new(reason_of(&error, Stage::Later), &detail_of(&error))),
            WriteError::Exhausted => {
                // rustls has queued a close_notify.
                records::drain_after_error(&mut self.tls, out);
                let detail = "the keys of this TLS 1.2 connection are used up; clients of TLS 1.3 change theirs";
                Box::new(Failure::new(Reason::Internal, detail))
            }
            WriteError::NotOpen => Box::new(Failure::new(Reason::Internal, "the session cannot send")),
        })
    }

    fn close_notify(&mut self, out: &mut Vec<u8>) {
        if self.established.is_none() || self.close_sent {
            return;
        }
        self.close_sent = true;
        let start = out.len();
        if records::close_notify(&mut self.tls, &mut self.carry, out).is_err() {
            out.truncate(start);
        }
    }

    fn fail(
        &mut self,
        error: &Error,
        (plain, plain_start): (&mut Vec<u8>, usize),
        (out, out_start): (&mut Vec<u8>, usize),
    ) -> Box<Failure> {
        let last = records::drain_after_error(&mut self.tls, out);
        let alert = if self.is_wrong_finished(error) { DECRYPT_ERROR } else { alert_of(error) };
        let mut our_alert = last.map(|last| alert_in(&out[last..]).unwrap_or(alert));
        if last.is_none() && self.may_speak_plainly(error) {
            our_alert = Some(alert);
            out.extend_from_slice(&plaintext_alert(alert));
        }
        if self.close_sent {
            // Nothing may follow a close_notify.
            our_alert = None;
            out.truncate(out_start);
        }
        let mut failure = match self.handshake.take() {
            Some(handshake) => {
                plain.truncate(plain_start);
                let failure = why(error, &handshake);
                self.tell(failure, &handshake)
            }
            None => self.broken(error),
        };
        failure.our_alert = our_alert;
        if let Error::AlertReceived(alert) = error {
            failure.peer_alert = Some(u8::from(*alert));
        }
        failure
    }

    /// Behind a Finished that fits, the handshake is over.
    fn is_wrong_finished(&self, error: &Error) -> bool {
        let compared = self.handshake.as_ref().is_some_and(|handshake| handshake.finished_compared);
        compared && *error == Error::DecryptError && self.tls.is_handshaking()
    }

    /// rustls has no alert for a few errors. Before it encrypts, we can send one: while nothing was sent, after a
    /// HelloRetryRequest, and in a full handshake of TLS 1.2 up to the Finished that ends it.
    fn may_speak_plainly(&self, error: &Error) -> bool {
        let second_hello = *error == Error::PeerMisbehaved(PeerMisbehaved::ServerNameDifferedOnRetry);
        let tls12 = self.tls.protocol_version() == Some(ProtocolVersion::TLSv1_2);
        let full = tls12 && self.tls.is_handshaking() && self.tls.handshake_kind() == Some(HandshakeKind::Full);
        (self.silent || second_hello || full) && !matches!(error, Error::AlertReceived(_))
    }

    /// Adds what is known of the connection.
    fn tell(&self, failure: Box<Failure>, handshake: &Handshake) -> Box<Failure> {
        let mut failure = failure;
        failure.site = Some(self.site.clone());
        failure.sni.clone_from(&handshake.sni);
        failure.version = established::version_of(&self.tls);
        failure.cipher = established::cipher_of(&self.tls);
        failure
    }

    /// A connection that was open.
    fn broken(&self, error: &Error) -> Box<Failure> {
        let mut failure = Failure::new(reason_of(error, Stage::Later), &detail_of(error));
        failure.site = Some(self.site.clone());
        if let Some(established) = &self.established {
            failure.sni.clone_from(&established.sni);
            failure.leaf = established.admission.leaf().cloned();
            failure.chain_len = established.admission.chain_len();
            failure.verify = established.admission.verify();
            failure.proven = failure.leaf.is_some();
            failure.version = Some(established.version);
            failure.cipher = Some(established.cipher);
        }
        Box::new(failure)
    }
}

/// Keeps what was not used up, with room for the whole record, so that it is allocated once.
fn keep(carry: &mut Vec<u8>, left: &[u8]) {
    let room = match left.len() {
        0..5 => left.len(),
        // A header may claim 64 KiB; rustls refuses what is longer than a record may be.
        len => match len.saturating_add(records::missing(left)) {
            whole @ ..=limits::TLS_RECORD_BYTES_MAX => whole,
            _ => len,
        },
    };
    carry.reserve_exact(room);
    carry.extend_from_slice(left);
}

/// Why a handshake failed, in the order of who knows best: `trust`, the proof of the key, rustls.
fn why(error: &Error, handshake: &Handshake) -> Box<Failure> {
    let mut failure = match &handshake.decision {
        Some(Err(refusal)) => {
            let mut failure = established::refused((**refusal).clone());
            failure.proven = handshake.proof == Proof::Good;
            return failure;
        }
        Some(Ok(_)) if handshake.proof == Proof::Bad => {
            let detail = format!(
                "the client did not prove that it holds the certificate's key ({}); see whether its certificate and key \
                 belong together",
                detail_of(error)
            );
            Failure::new(Reason::BadSignature, &detail)
        }
        _ => Failure::new(reason_of(error, Stage::Later), &detail_of(error)),
    };
    if let Some(Ok(admission)) = &handshake.decision {
        failure.leaf = admission.leaf().cloned();
        failure.chain_len = admission.chain_len();
        failure.proven = handshake.proof == Proof::Good;
        if failure.reason == Reason::BadSignature {
            failure.verify = Reason::BadSignature.x509_v();
        }
    }
    Box::new(failure)
}

fn unknown_name(sni: Option<String>, out: &mut Vec<u8>) -> Box<Failure> {
    let alert = Reason::SniUnknown.alert();
    out.extend_from_slice(&plaintext_alert(alert));
    let detail = match &sni {
        Some(name) => format!("no site of this listener has the name {name}; add it to a site's `names`"),
        None => "the client sent no server name, and this listener has no site without `names`".to_owned(),
    };
    let mut failure = Failure::new(Reason::SniUnknown, &detail);
    failure.our_alert = Some(alert);
    failure.sni = sni;
    Box::new(failure)
}

fn ended() -> Box<Failure> {
    Box::new(Failure::new(Reason::Internal, "the session is over"))
}
