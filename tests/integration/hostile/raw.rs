//! The attacker: rustls makes the honest messages and reads what comes back; what is written is the test's.

use super::record::{CHANGE_CIPHER_SPEC, HANDSHAKE, Sealer, Secrets, VERSIONS, Version, messages, plain, records};
use crate::world::client::{Client, Ending, Tickets};
use crate::world::pki::{Credential, Pki, SERVER_NAME};
use crate::world::wait::uninterrupted;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;

/// What attackers of one kind share.
pub struct Kit {
    config: Arc<ClientConfig>,
    secrets: Arc<Secrets>,
    pub version: Version,
}

impl Kit {
    /// With the standard client's certificate and key.
    pub fn new(pki: &Pki, version: Version) -> Kit {
        Kit::with(pki, version, &pki.client, None)
    }

    /// One of each version.
    pub fn both(pki: &Pki) -> [Kit; 2] {
        VERSIONS.map(|version| Kit::new(pki, version))
    }

    pub fn with(pki: &Pki, version: Version, credential: &Credential, tickets: Option<&Arc<Tickets>>) -> Kit {
        let mut provider = default_provider();
        provider.cipher_suites =
            vec![cipher_suite::TLS13_AES_128_GCM_SHA256, cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256];
        provider.kx_groups = vec![kx_group::X25519];
        let key = provider.key_provider.load_private_key(credential.key.clone_key()).unwrap();
        let certified = CertifiedKey::new(credential.chain.clone(), key);
        let mut roots = RootCertStore::empty();
        roots.add(pki.server_ca.der.clone()).unwrap();
        let versions = match version {
            Version::Tls12 => crate::world::client::TLS12,
            Version::Tls13 => crate::world::client::TLS13,
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(versions).unwrap();
        let resolver = Arc::new(SingleCertAndKey::from(certified));
        let mut config = builder.with_root_certificates(roots).with_client_cert_resolver(resolver);
        config.resumption = tickets.map_or(Resumption::disabled(), |tickets| Resumption::store(tickets.clone()));
        let secrets = Arc::new(Secrets::default());
        config.key_log = secrets.clone();
        Kit { config: Arc::new(config), secrets, version }
    }

    /// Connects, with the hello made and not sent.
    pub fn connect(&self, address: SocketAddr) -> Raw {
        let mut client = Client::connect(&self.config, SERVER_NAME, address);
        let mut hello = Vec::new();
        client.tls.write_tls(&mut hello).unwrap();
        Raw { client, hello, server_random: Vec::new(), secrets: self.secrets.clone(), version: self.version }
    }

    /// Past the server's flight; its own was not sent.
    pub fn greet(&self, address: SocketAddr) -> Raw {
        let mut raw = self.connect(address);
        let hello = raw.hello.clone();
        raw.send(&hello).unwrap();
        raw.receive_flight().unwrap_or_else(|ending| panic!("no answer to a good hello: {ending:?}"));
        raw
    }

    /// Through an honest handshake and one echo, so that it is let in beyond doubt.
    pub fn open(&self, address: SocketAddr) -> (Raw, Sealer) {
        let mut raw = self.greet(address);
        raw.client.handshake().unwrap();
        let mut sealer = raw.data_sealer();
        raw.send(&sealer.seal(super::record::DATA, b"let in")).unwrap();
        assert_eq!(raw.client.read_exactly(6).unwrap(), b"let in");
        (raw, sealer)
    }
}

/// One connection.
pub struct Raw {
    pub client: Client,
    /// The records of the ClientHello.
    pub hello: Vec<u8>,
    server_random: Vec<u8>,
    secrets: Arc<Secrets>,
    pub version: Version,
}

impl Raw {
    pub fn address(&self) -> SocketAddr {
        self.client.address
    }

    /// The ClientHello as a message, without the record's header.
    pub fn hello_message(&self) -> &[u8] {
        &self.hello[5..]
    }

    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.client.tcp.write_all(bytes)
    }

    /// Nothing more will be sent.
    pub fn finish(&self) {
        // The server may have reset the connection already.
        let _ = self.client.tcp.shutdown(Shutdown::Write);
    }

    /// All that comes, undeciphered.
    pub fn answer(&mut self) -> Vec<u8> {
        let mut answer = Vec::new();
        let _ = self.client.tcp.read_to_end(&mut answer);
        answer
    }

    /// How it ended, whatever data came before.
    pub fn ending(&mut self) -> Ending {
        self.client.read_to_end().1
    }

    /// Reads the server's first flight.
    pub fn receive_flight(&mut self) -> Result<(), Ending> {
        let mut buffer = [0; 16 << 10];
        loop {
            let read = uninterrupted(|| self.client.tcp.read(&mut buffer));
            let read = read.map_err(|error| Ending::Other(error.to_string()))?;
            if read == 0 {
                return Err(Ending::Fin);
            }
            if self.server_random.is_empty() {
                self.server_random = buffer[11..43].to_vec();
            }
            let mut rest = &buffer[..read];
            while !rest.is_empty() {
                self.client.tls.read_tls(&mut rest).unwrap();
                match self.client.tls.process_new_packets() {
                    Ok(_) => {}
                    Err(rustls::Error::AlertReceived(alert)) => return Err(Ending::Alert(alert.into())),
                    Err(error) => return Err(Ending::Other(error.to_string())),
                }
            }
            let done = match self.version {
                Version::Tls12 => self.client.tls.wants_write(),
                Version::Tls13 => !self.client.tls.is_handshaking(),
            };
            if done {
                return Ok(());
            }
        }
    }

    /// The honest second flight, taken from rustls before it is sent: Certificate, (ClientKeyExchange,)
    /// CertificateVerify, Finished.
    pub fn flight(&mut self) -> Vec<Vec<u8>> {
        let mut bytes = Vec::new();
        while self.client.tls.wants_write() {
            self.client.tls.write_tls(&mut bytes).unwrap();
        }
        let mut opener = self.handshake_sealer();
        let mut encrypted = false;
        let mut all = Vec::new();
        for (kind, body) in records(&bytes) {
            match kind {
                CHANGE_CIPHER_SPEC => encrypted = true,
                _ if encrypted => all.extend(opener.open(kind, body)),
                _ => all.extend_from_slice(body),
            }
        }
        messages(&all)
    }

    /// A second flight of these messages, each in as many records as it needs; in TLS 1.2 ChangeCipherSpec comes before
    /// Finished.
    pub fn flight_of(&self, messages: &[Vec<u8>]) -> Vec<u8> {
        self.flight_in(messages, 16 << 10)
    }

    /// The same in records of at most so many bytes.
    pub fn flight_in(&self, messages: &[Vec<u8>], piece: usize) -> Vec<u8> {
        let mut sealer = self.handshake_sealer();
        let mut encrypted = self.version == Version::Tls13;
        let mut bytes = Vec::new();
        for message in messages {
            if message.first() == Some(&FINISHED) && !encrypted {
                bytes.extend(plain(CHANGE_CIPHER_SPEC, &[1]));
                encrypted = true;
            }
            for chunk in message.chunks(piece) {
                match encrypted {
                    true => bytes.extend(sealer.seal(HANDSHAKE, chunk)),
                    false => bytes.extend(plain(HANDSHAKE, chunk)),
                }
            }
        }
        bytes
    }

    /// The keys of the second flight.
    pub fn handshake_sealer(&self) -> Sealer {
        let random = &self.hello[11..43];
        match self.version {
            Version::Tls13 => Sealer::tls13(self.secrets.of("CLIENT_HANDSHAKE_TRAFFIC_SECRET", random)),
            Version::Tls12 => Sealer::tls12(&self.secrets.of("CLIENT_RANDOM", random), random, &self.server_random),
        }
    }

    /// The keys behind Finished.
    pub fn data_sealer(&self) -> Sealer {
        match self.version {
            Version::Tls13 => Sealer::tls13(self.secrets.of("CLIENT_TRAFFIC_SECRET_0", &self.hello[11..43])),
            Version::Tls12 => self.handshake_sealer().skip(1),
        }
    }

    /// Closes with a reset.
    pub fn reset(self) {
        self.client.reset();
    }
}

pub const CERTIFICATE: u8 = 11;
pub const CERTIFICATE_VERIFY: u8 = 15;
pub const FINISHED: u8 = 20;
