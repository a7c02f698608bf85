//! One TLS connection of the harness: rustls's buffered client over tokio-uring, on owned buffers.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion};
use tokio_uring::net::TcpStream;

use crate::load::client::iana_name;
use crate::load::failure::Failure;
use crate::load::limits;
use crate::load::net::{self, Guard};
use crate::load::worker::Worker;

/// A connection whose handshake is done, as far as the client can tell (see [`Connection::accepted`]).
pub struct Connection {
    worker: Rc<Worker>,
    stream: Rc<TcpStream>,
    guard: Guard,
    tls: RefCell<ClientConnection>,
    /// The peer's close_notify came.
    closed: Cell<bool>,
}

/// How the harness learns that a TLS 1.3 server let it in: the client's own side is done before the server has looked at the
/// certificate, so that a handshake without this would count refusals as successes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// By the first session ticket, which comes after the server's verdict.
    Ticket,
    /// By an orderly answer to our close_notify: for servers that send no tickets.
    Close,
}

/// What a receive brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Something; plaintext, if any, went to the sink.
    Data,
    /// The peer's close_notify: nothing will follow.
    Closed,
}

impl Connection {
    /// Connects and shakes hands. The deadline runs from here until [`Connection::rest`] or the next `allow`.
    pub async fn open(worker: &Rc<Worker>, config: Arc<ClientConfig>, lane: usize) -> Result<Connection, Failure> {
        let target = &worker.plan.target;
        let source = net::source_of(lane, worker.plan.connections, target.address);
        let stream = Rc::new(net::connect(target.address, source)?);
        let guard = worker.watch.guard(&stream);
        guard.allow(worker.plan.timeout);
        let mut tls = ClientConnection::new(config, target.name.clone())?;
        tls.set_buffer_limit(None);
        let connection =
            Connection { worker: worker.clone(), stream, guard, tls: RefCell::new(tls), closed: Cell::new(false) };
        let mut early = Vec::new();
        connection.flush().await?;
        while connection.tls.borrow().is_handshaking() {
            if connection.receive(&mut early).await? == Received::Closed {
                return Err(Failure::Ended);
            }
            connection.flush().await?;
        }
        Ok(connection)
    }

    /// Waits until the server has shown that it let this client in. With [`Acceptance::Close`] the connection is over then.
    pub async fn accepted(&self, acceptance: Acceptance) -> Result<(), Failure> {
        let mut sink = Vec::new();
        // In TLS 1.2 the server's Finished is the last message: it has decided already.
        if self.version() == Some(ProtocolVersion::TLSv1_2) {
            return Ok(());
        }
        match acceptance {
            Acceptance::Ticket => {
                while self.tickets() == 0 && sink.is_empty() {
                    if self.receive(&mut sink).await? == Received::Closed {
                        return Ok(());
                    }
                }
                Ok(())
            }
            Acceptance::Close => self.farewell().await,
        }
    }

    /// Waits at most `time` for a session ticket; for the probe, whose connection ends with it.
    pub async fn ticket_within(&self, time: Duration) -> Result<bool, Failure> {
        self.guard.allow(time);
        let mut sink = Vec::new();
        while self.tickets() == 0 {
            match self.receive(&mut sink).await {
                Ok(Received::Data) => {}
                Ok(Received::Closed) | Err(Failure::TimedOut) => return Ok(false),
                Err(failure) => return Err(failure),
            }
        }
        Ok(true)
    }

    /// One receive. Appends plaintext to `sink`.
    pub async fn receive(&self, sink: &mut Vec<u8>) -> Result<Received, Failure> {
        if self.closed.get() {
            return Ok(Received::Closed);
        }
        let (result, buffer) = self.stream.read(self.worker.buffers.take()).await;
        let outcome = match result {
            Ok(0) => Err(Failure::Ended),
            Ok(n) => self.decrypt(&buffer[..n], sink),
            Err(error) => Err(error.into()),
        };
        self.worker.buffers.give(buffer);
        if let Err(Failure::Tls(_) | Failure::Certificate(_)) = outcome {
            // The alert that says what we did not like; whether it still arrives does not matter.
            let _ = self.flush().await;
        }
        outcome.map_err(|failure| self.blame(failure))
    }

    /// Encrypts and sends all of `data`.
    pub async fn send(&self, data: &[u8]) -> Result<(), Failure> {
        self.tls.borrow_mut().writer().write_all(data)?;
        self.flush().await
    }

    /// Sends a KeyUpdate, and asks for the peer's.
    pub async fn refresh_keys(&self) -> Result<(), Failure> {
        self.tls.borrow_mut().refresh_traffic_keys()?;
        self.flush().await
    }

    /// Sends what TLS has to send.
    pub async fn flush(&self) -> Result<(), Failure> {
        let mut out = self.worker.buffers.take();
        {
            let mut tls = self.tls.borrow_mut();
            while tls.wants_write() {
                tls.write_tls(&mut out)?;
            }
        }
        if out.is_empty() {
            self.worker.buffers.give(out);
            return Ok(());
        }
        let (result, out) = self.stream.write_all(out).await;
        self.worker.buffers.give(out);
        result.map_err(|error| self.blame(error.into()))
    }

    /// Receives until the peer ends the connection: how it did.
    pub async fn ended(&self) -> Failure {
        let mut sink = Vec::new();
        loop {
            sink.clear();
            match self.receive(&mut sink).await {
                Ok(Received::Data) => {}
                Ok(Received::Closed) => return Failure::Ended,
                Err(failure) => return failure,
            }
        }
    }

    /// Our close_notify and FIN, for whoever waits in [`Connection::ended`] for the peer's.
    pub async fn goodbye(&self) -> Result<(), Failure> {
        self.guard.allow(limits::CLOSE_WAIT.min(self.worker.plan.timeout));
        self.tls.borrow_mut().send_close_notify();
        self.flush().await?;
        // An error means that the peer has ended the connection already, which a receive then says.
        let _ = self.stream.shutdown(Shutdown::Write);
        Ok(())
    }

    /// Ends the connection as a well-behaved client does, and waits a little for the peer to do the same, so that its work for
    /// this connection falls into the operation that caused it. Whether it does is the peer's affair.
    pub async fn close(self) {
        self.guard.allow(limits::CLOSE_WAIT.min(self.worker.plan.timeout));
        let farewell = self.farewell().await;
        if let Err(Failure::TimedOut) = farewell {
            self.worker.tally.borrow_mut().closed_late += 1;
        }
    }

    /// Ends the connection without a word; what is in flight on it completes at once.
    pub fn abort(&self) {
        // It fails where the peer was faster, which is as good.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Our close_notify and FIN, then whatever the peer still sends, until its end.
    async fn farewell(&self) -> Result<(), Failure> {
        self.tls.borrow_mut().send_close_notify();
        self.flush().await?;
        // An error means that the peer has ended the connection already, which the receive below then says.
        let _ = self.stream.shutdown(Shutdown::Write);
        let mut sink = Vec::new();
        loop {
            sink.clear();
            match self.receive(&mut sink).await {
                Ok(Received::Data) => {}
                // A bare FIN is no truncation of anything here: we have said goodbye first.
                Ok(Received::Closed) | Err(Failure::Ended) => return Ok(()),
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Gives the connection the run's time-out from now on.
    pub fn allow(&self) {
        self.guard.allow(self.worker.plan.timeout);
    }

    /// Lets the connection wait without a deadline.
    pub fn rest(&self) {
        self.guard.rest();
    }

    /// Whether the server took our ticket.
    pub fn resumed(&self) -> bool {
        self.tls.borrow().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    pub fn version(&self) -> Option<ProtocolVersion> {
        self.tls.borrow().protocol_version()
    }

    /// What was negotiated, by the names of the registries.
    pub fn negotiated(&self) -> Negotiated {
        let tls = self.tls.borrow();
        let version = match tls.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "1.2",
            Some(ProtocolVersion::TLSv1_3) => "1.3",
            _ => "unknown",
        };
        Negotiated {
            version: version.to_owned(),
            cipher: tls.negotiated_cipher_suite().map(|s| iana_name(s.suite())).unwrap_or_default(),
            group: tls.negotiated_key_exchange_group().map(|g| format!("{:?}", g.name())),
            alpn: tls.alpn_protocol().map(|p| String::from_utf8_lossy(p).into_owned()),
        }
    }

    fn tickets(&self) -> u32 {
        self.tls.borrow().tls13_tickets_received()
    }

    fn decrypt(&self, mut bytes: &[u8], sink: &mut Vec<u8>) -> Result<Received, Failure> {
        let mut tls = self.tls.borrow_mut();
        while !bytes.is_empty() {
            // After close_notify rustls takes nothing more.
            if tls.read_tls(&mut bytes)? == 0 {
                break;
            }
            let state = tls.process_new_packets()?;
            let (old, new) = (sink.len(), state.plaintext_bytes_to_read());
            sink.resize(old + new, 0);
            tls.reader().read_exact(&mut sink[old..])?;
            if state.peer_has_closed() {
                self.closed.set(true);
            }
        }
        // Data in front of the close_notify is delivered first; the next call tells of the close.
        Ok(if self.closed.get() && sink.is_empty() { Received::Closed } else { Received::Data })
    }

    /// A connection that we shut down ourselves fails in many ways; all of them are the time-out.
    fn blame(&self, failure: Failure) -> Failure {
        if self.guard.expired() { Failure::TimedOut } else { failure }
    }
}

/// What a handshake agreed on.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Negotiated {
    pub version: String,
    pub cipher: String,
    pub group: Option<String>,
    pub alpn: Option<String>,
}
