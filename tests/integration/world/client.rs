//! A TLS client on rustls's buffered API over a plain socket, with every way to end a connection in the test's hands.

use super::goes_by_kernel;
use super::pki::{Credential, Pki, SERVER_NAME};
use super::wait::{SOON, slowness, uninterrupted};
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls12Resumption, Tls13ClientSessionValue,
};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, NamedGroup, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, ServerName};
use socket2::SockRef;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How a connection ended, as the client saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    CloseNotify,
    /// The TCP stream ended without close_notify.
    Fin,
    Reset,
    /// A fatal alert of the server's, by number.
    Alert(u8),
    /// Nothing came for longer than any test waits.
    Silence,
    Other(String),
}

/// Both versions, as `versions` wants them.
pub const TLS12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
pub const TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// What a client offers that says nothing of it: both, and in a run about a kernel that takes TLS 1.2 alone, that.
fn usual_versions() -> &'static [&'static SupportedProtocolVersion] {
    if goes_by_kernel("1.2") && !goes_by_kernel("1.3") { TLS12 } else { rustls::ALL_VERSIONS }
}

/// What a client brings. Made into a `ClientConfig`, which must be kept where sessions are to be resumed: rustls binds
/// them to it.
pub struct ClientSpec {
    pub versions: &'static [&'static SupportedProtocolVersion],
    pub roots: Vec<CertificateDer<'static>>,
    pub credential: Option<Credential>,
    pub alpn: Vec<Vec<u8>>,
    pub tickets: Option<Arc<Tickets>>,
    pub tls12_resumption: Tls12Resumption,
    pub sni: bool,
}

impl ClientSpec {
    /// The standard client of a PKI.
    pub fn new(pki: &Pki) -> ClientSpec {
        ClientSpec { credential: Some(pki.client.clone()), ..ClientSpec::anonymous(pki) }
    }

    /// A client without a certificate.
    pub fn anonymous(pki: &Pki) -> ClientSpec {
        ClientSpec {
            versions: usual_versions(),
            roots: vec![pki.server_ca.der.clone()],
            credential: None,
            alpn: Vec::new(),
            tickets: None,
            tls12_resumption: Tls12Resumption::SessionIdOrTickets,
            sni: true,
        }
    }

    pub fn with(pki: &Pki, credential: &Credential) -> ClientSpec {
        ClientSpec { credential: Some(credential.clone()), ..ClientSpec::anonymous(pki) }
    }

    pub fn versions(mut self, versions: &'static [&'static SupportedProtocolVersion]) -> ClientSpec {
        self.versions = versions;
        self
    }

    pub fn tickets(mut self, tickets: &Arc<Tickets>) -> ClientSpec {
        self.tickets = Some(tickets.clone());
        self
    }

    pub fn build(&self) -> Arc<ClientConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        for root in &self.roots {
            roots.add(root.clone()).unwrap();
        }
        let builder = ClientConfig::builder_with_provider(provider.clone());
        let builder = builder.with_protocol_versions(self.versions).unwrap().with_root_certificates(roots);
        let mut config = match &self.credential {
            None => builder.with_no_client_auth(),
            // No look at the certificate: broken ones are to be sent as they are.
            Some(credential) => {
                let key = provider.key_provider.load_private_key(credential.key.clone_key()).unwrap();
                let certified = CertifiedKey::new(credential.chain.clone(), key);
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
            }
        };
        config.alpn_protocols.clone_from(&self.alpn);
        config.enable_sni = self.sni;
        let resumption = match &self.tickets {
            None => Resumption::disabled(),
            Some(tickets) => Resumption::store(tickets.clone()),
        };
        config.resumption = resumption.tls12_resumption(self.tls12_resumption);
        Arc::new(config)
    }

    /// Connects to `address` under the standard server name; the handshake is still to be done.
    pub fn connect(&self, address: SocketAddr) -> Client {
        Client::connect(&self.build(), SERVER_NAME, address)
    }
}

/// A session store that hands out what it has, whatever the server's name: so that a test may carry a ticket elsewhere.
#[derive(Debug, Default)]
pub struct Tickets {
    tls13: Mutex<VecDeque<Tls13ClientSessionValue>>,
    tls12: Mutex<Option<Tls12ClientSessionValue>>,
}

impl Tickets {
    pub fn new() -> Arc<Tickets> {
        Arc::default()
    }

    /// TLS 1.3 tickets in hand.
    pub fn count(&self) -> usize {
        self.tls13.lock().unwrap().len()
    }

    /// Forgets all but the newest ticket, so that it is the next one used.
    pub fn keep_newest(&self) {
        let mut tickets = self.tls13.lock().unwrap();
        let surplus = tickets.len().saturating_sub(1);
        tickets.drain(..surplus);
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        *self.tls12.lock().unwrap() = Some(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.tls12.lock().unwrap().clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        *self.tls12.lock().unwrap() = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.tls13.lock().unwrap().push_back(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.tls13.lock().unwrap().pop_front()
    }
}

/// One connection.
pub struct Client {
    pub tls: ClientConnection,
    pub tcp: TcpStream,
    /// The client's own address, by which its audit lines are found.
    pub address: SocketAddr,
}

impl Client {
    /// TCP only; the handshake comes with the first call that needs it.
    pub fn connect(config: &Arc<ClientConfig>, name: &str, address: SocketAddr) -> Client {
        Client::over(TcpStream::connect_timeout(&address, SOON * slowness()).unwrap(), config, name)
    }

    /// The same over a connection that the test has made.
    pub fn over(tcp: TcpStream, config: &Arc<ClientConfig>, name: &str) -> Client {
        tcp.set_read_timeout(Some(SOON * slowness())).unwrap();
        tcp.set_write_timeout(Some(SOON * slowness())).unwrap();
        tcp.set_nodelay(true).unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let local = tcp.local_addr().unwrap();
        Client { tls: ClientConnection::new(config.clone(), name).unwrap(), tcp, address: local }
    }

    /// Until both Finished messages are through as this side sees them. In TLS 1.3 the server may still refuse.
    pub fn handshake(&mut self) -> Result<(), Ending> {
        while self.tls.is_handshaking() {
            self.flush()?;
            if self.tls.is_handshaking() {
                self.receive()?;
            }
        }
        self.flush()
    }

    /// The handshake, and then the end that follows without a byte of data.
    pub fn refusal(&mut self) -> Ending {
        let ending = match self.handshake() {
            Err(ending) => ending,
            Ok(()) => {
                let (bytes, ending) = self.read_to_end();
                assert!(bytes.is_empty(), "data came before the refusal: {bytes:?}");
                ending
            }
        };
        // The server waits a little for the client to take its leave too; it may be gone already.
        let _ = self.tcp.shutdown(Shutdown::Both);
        ending
    }

    /// The handshake, and one message there and back through an echoing backend.
    pub fn echo(&mut self, message: &[u8]) -> Result<(), Ending> {
        self.handshake()?;
        self.send(message)?;
        let back = self.read_exactly(message.len())?;
        assert_eq!(back, message, "the echo differs");
        Ok(())
    }

    /// Whether the session was resumed; asked after the handshake.
    pub fn resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Ending> {
        for chunk in bytes.chunks(16 << 10) {
            self.tls.writer().write_all(chunk).unwrap();
            self.flush()?;
        }
        Ok(())
    }

    /// Bytes from the server, as many as there are, at least one.
    pub fn read(&mut self) -> Result<Vec<u8>, Ending> {
        let mut buffer = vec![0u8; 64 << 10];
        loop {
            match self.tls.reader().read(&mut buffer) {
                Ok(0) => return Err(Ending::CloseNotify),
                Ok(read) => {
                    buffer.truncate(read);
                    return Ok(buffer);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.receive()?,
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(Ending::Fin),
                Err(error) => return Err(Ending::Other(error.to_string())),
            }
        }
    }

    /// This many bytes; what came is thrown away if the connection ends before.
    pub fn read_exactly(&mut self, count: usize) -> Result<Vec<u8>, Ending> {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(self.read()?);
        }
        Ok(all)
    }

    /// All bytes, and how they ended.
    pub fn read_to_end(&mut self) -> (Vec<u8>, Ending) {
        let mut all = Vec::new();
        loop {
            match self.read() {
                Ok(bytes) => all.extend(bytes),
                Err(ending) => return (all, ending),
            }
        }
    }

    /// Ends the outgoing direction in order; the other stays open.
    pub fn close_notify(&mut self) {
        self.tls.send_close_notify();
        self.flush().unwrap();
    }

    /// Ends the outgoing TCP direction, without close_notify unless that was sent before.
    pub fn finish_tcp(&self) {
        self.tcp.shutdown(Shutdown::Write).unwrap();
    }

    /// Closes with a reset.
    pub fn reset(self) {
        SockRef::from(&self.tcp).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Reads are given up after this long, with `Ending::Silence`.
    pub fn patience(&self, limit: Duration) {
        self.tcp.set_read_timeout(Some(limit)).unwrap();
    }

    fn flush(&mut self) -> Result<(), Ending> {
        while self.tls.wants_write() {
            if let Err(error) = uninterrupted(|| self.tls.write_tls(&mut self.tcp)) {
                // What the server said before it closed matters more than that it closed.
                return Err(match self.receive() {
                    Err(Ending::Alert(alert)) => Ending::Alert(alert),
                    _ => ending_of(&error),
                });
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<(), Ending> {
        match uninterrupted(|| self.tls.read_tls(&mut self.tcp)) {
            Ok(0) if self.tls.is_handshaking() => return Err(Ending::Fin),
            Ok(_) => {}
            Err(error) => return Err(ending_of(&error)),
        }
        match self.tls.process_new_packets() {
            Ok(_) => Ok(()),
            Err(rustls::Error::AlertReceived(alert)) => Err(Ending::Alert(alert.into())),
            Err(error) => Err(Ending::Other(error.to_string())),
        }
    }
}

fn ending_of(error: &std::io::Error) -> Ending {
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Ending::Reset,
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Ending::Silence,
        _ => Ending::Other(error.to_string()),
    }
}
