//! The floor for small messages: a relay written by hand for nothing else. One thread, epoll, no bounds, no deadlines, no
//! back-pressure, no metrics; rustls shakes hands, then its secrets are taken out and records are opened and sealed in place
//! by the AEAD itself. No server can be like this; the distance to it is what a real one costs.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use countersign::load::pki::{self, Pki};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustls::crypto::aws_lc_rs as provider;
use rustls::server::WebPkiClientVerifier;
use rustls::{ConnectionTrafficSecrets, RootCertStore, ServerConfig, ServerConnection};

/// Header, content type and tag of a TLS 1.3 record.
const HEADER: usize = 5;
const OVERHEAD: usize = 1 + 16;
const LISTENER: u64 = u64::MAX;

/// Serves for ever.
pub fn serve(listen: SocketAddr, backend: SocketAddr, directory: &Path) -> io::Result<()> {
    let config = Arc::new(server_config(directory));
    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    let mut relay = Relay { poll, backend, config, pairs: HashMap::new(), next: 0, scratch: vec![0; 64 * 1024] };
    let mut events = Vec::with_capacity(256);
    loop {
        events.clear();
        epoll::wait(&relay.poll, spare_capacity(&mut events), None)?;
        for event in &events {
            match event.data.u64() {
                LISTENER => relay.accept(&listener)?,
                key => relay.turn(key),
            }
        }
    }
}

fn server_config(directory: &Path) -> ServerConfig {
    let pki = Pki::open(Some(directory)).expect("the PKI that the parent made");
    let mut roots = RootCertStore::empty();
    pki.anchors().expect("anchors").into_iter().for_each(|anchor| roots.add(anchor).expect("an anchor"));
    let provider = Arc::new(provider::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().expect("anchors");
    let server = pki::read_identity(&directory.join("server.pem"), &directory.join("server.key"))
        .expect("the server's certificate");
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_client_cert_verifier(verifier)
        .with_single_cert(server.chain, server.key)
        .expect("a key that fits");
    config.enable_secret_extraction = true;
    // A ticket would be the last thing sent with rustls's own record counter.
    config.send_tls13_tickets = 0;
    config
}

struct Relay {
    poll: rustix::fd::OwnedFd,
    backend: SocketAddr,
    config: Arc<ServerConfig>,
    pairs: HashMap<u64, Pair>,
    next: u64,
    scratch: Vec<u8>,
}

/// A client and its backend connection; events of the client bear an even key, of the backend the odd one behind it.
struct Pair {
    client: TcpStream,
    backend: Option<TcpStream>,
    stage: Stage,
}

enum Stage {
    /// Reads record by record, so that nothing of the application's is in rustls's hands when its secrets are taken.
    Handshake {
        tls: Box<ServerConnection>,
        record: Vec<u8>,
    },
    Open {
        open: Keys,
        seal: Keys,
        partial: Vec<u8>,
    },
    Over,
}

impl Relay {
    fn accept(&mut self, listener: &TcpListener) -> io::Result<()> {
        while let Ok((client, _)) = listener.accept() {
            client.set_nonblocking(true)?;
            client.set_nodelay(true)?;
            let tls = ServerConnection::new(self.config.clone()).map_err(io::Error::other)?;
            let key = self.next;
            self.next += 2;
            epoll::add(&self.poll, &client, epoll::EventData::new_u64(key), epoll::EventFlags::IN)?;
            let stage = Stage::Handshake { tls: Box::new(tls), record: Vec::new() };
            self.pairs.insert(key, Pair { client, backend: None, stage });
        }
        Ok(())
    }

    /// One event. Whatever goes wrong ends the pair.
    fn turn(&mut self, key: u64) {
        let even = key & !1;
        let Some(mut pair) = self.pairs.remove(&even) else { return };
        let outcome = match (&mut pair.stage, key & 1) {
            (Stage::Handshake { .. }, _) => self.shake(even, &mut pair),
            (Stage::Open { .. }, 0) => pair.up(&mut self.scratch),
            _ => pair.down(&mut self.scratch),
        };
        if matches!(outcome, Ok(true)) {
            self.pairs.insert(even, pair);
        }
    }

    fn shake(&mut self, key: u64, pair: &mut Pair) -> io::Result<bool> {
        while let Stage::Handshake { tls, record } = &mut pair.stage {
            let wanted = match record.len() {
                n if n < HEADER => HEADER,
                _ => HEADER + usize::from(u16::from_be_bytes([record[3], record[4]])),
            };
            if record.len() < wanted {
                match pair.client.read(&mut self.scratch[..wanted - record.len()]) {
                    Ok(0) => return Ok(false),
                    Ok(n) => record.extend_from_slice(&self.scratch[..n]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                    Err(error) => return Err(error),
                }
                continue;
            }
            tls.read_tls(&mut &record[..])?;
            record.clear();
            tls.process_new_packets().map_err(io::Error::other)?;
            while tls.wants_write() {
                tls.write_tls(&mut pair.client)?;
            }
            if !tls.is_handshaking() {
                let Stage::Handshake { tls, .. } = std::mem::replace(&mut pair.stage, Stage::Over) else {
                    return Ok(false);
                };
                let secrets = tls.dangerous_extract_secrets().map_err(io::Error::other)?;
                let (open, seal) = (Keys::new(secrets.rx)?, Keys::new(secrets.tx)?);
                pair.stage = Stage::Open { open, seal, partial: Vec::new() };
                let backend = TcpStream::connect(self.backend)?;
                backend.set_nodelay(true)?;
                backend.set_nonblocking(true)?;
                epoll::add(&self.poll, &backend, epoll::EventData::new_u64(key + 1), epoll::EventFlags::IN)?;
                pair.backend = Some(backend);
            }
        }
        Ok(true)
    }
}

impl Pair {
    /// Client to backend: every whole record that is there, in one send.
    fn up(&mut self, scratch: &mut [u8]) -> io::Result<bool> {
        let (Stage::Open { open, partial, .. }, Some(backend)) = (&mut self.stage, &mut self.backend) else {
            return Ok(false);
        };
        let kept = partial.len();
        scratch[..kept].copy_from_slice(partial);
        partial.clear();
        let end = match self.client.read(&mut scratch[kept..]) {
            Ok(0) => return Ok(false),
            Ok(n) => kept + n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        };
        let (mut at, mut plain) = (0, 0);
        while end - at >= HEADER {
            let length = usize::from(u16::from_be_bytes([scratch[at + 3], scratch[at + 4]]));
            if end - at < HEADER + length {
                break;
            }
            let Some(bytes) = open.open(&mut scratch[at..at + HEADER + length])? else { return Ok(false) };
            scratch.copy_within(at + HEADER..at + HEADER + bytes, plain);
            plain += bytes;
            at += HEADER + length;
        }
        // A part of a record is rare here: everything the generator sends fits into one segment of loopback.
        partial.extend_from_slice(&scratch[at..end]);
        backend.write_all(&scratch[..plain])?;
        Ok(true)
    }

    /// Backend to client: one record.
    fn down(&mut self, scratch: &mut [u8]) -> io::Result<bool> {
        let (Stage::Open { seal, .. }, Some(backend)) = (&mut self.stage, &mut self.backend) else { return Ok(false) };
        match backend.read(&mut scratch[HEADER..HEADER + 16 * 1024]) {
            Ok(0) => Ok(false),
            Ok(n) => {
                let length = seal.seal(scratch, n)?;
                self.client.write_all(&scratch[..length])?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// One direction's key, IV and record counter (RFC 8446 section 5.3).
struct Keys {
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Keys {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> io::Result<Keys> {
        let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else {
            return Err(io::Error::other("this relay speaks TLS_AES_128_GCM_SHA256 alone"));
        };
        let key = UnboundKey::new(&AES_128_GCM, key.as_ref()).map_err(io::Error::other)?;
        let iv = iv.as_ref().try_into().map_err(io::Error::other)?;
        Ok(Keys { key: LessSafeKey::new(key), iv, sequence })
    }

    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, counter) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= counter;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    /// Opens a record in place; the length of its plaintext behind the header, or `None` for what is no application data.
    fn open(&mut self, record: &mut [u8]) -> io::Result<Option<usize>> {
        let (header, body) = record.split_at_mut(HEADER);
        let nonce = self.nonce();
        let plain = self.key.open_in_place(nonce, Aad::from(&*header), body).map_err(io::Error::other)?;
        Ok(plain.iter().rposition(|byte| *byte != 0).filter(|last| plain[*last] == 23))
    }

    /// Seals `n` bytes that stand behind the room for a header; the length of the record.
    fn seal(&mut self, buffer: &mut [u8], n: usize) -> io::Result<usize> {
        let length = u16::try_from(n + OVERHEAD).map_err(io::Error::other)?.to_be_bytes();
        let header = [23, 3, 3, length[0], length[1]];
        buffer[..HEADER].copy_from_slice(&header);
        buffer[HEADER + n] = 23;
        let (data, rest) = buffer[HEADER..].split_at_mut(n + 1);
        let nonce = self.nonce();
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(header), data).map_err(io::Error::other)?;
        rest[..16].copy_from_slice(tag.as_ref());
        Ok(HEADER + n + OVERHEAD)
    }
}
