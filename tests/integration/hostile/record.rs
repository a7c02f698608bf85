//! TLS records as the suite's own client writes them: any content, any type, under the real keys.

use aws_lc_rs::{aead, hkdf, hmac};
use std::collections::HashMap;
use std::sync::Mutex;

pub const CHANGE_CIPHER_SPEC: u8 = 20;
pub const ALERT: u8 = 21;
pub const HANDSHAKE: u8 = 22;
pub const DATA: u8 = 23;

/// The version that a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Tls12,
    Tls13,
}

/// Both.
pub const VERSIONS: [Version; 2] = [Version::Tls12, Version::Tls13];

/// What rustls calls a secret, and the client random of its connection.
type SecretName = (String, Vec<u8>);

/// Every secret that rustls logs.
#[derive(Debug, Default)]
pub struct Secrets(Mutex<HashMap<SecretName, Vec<u8>>>);

impl rustls::KeyLog for Secrets {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        self.0.lock().unwrap().insert((label.to_owned(), client_random.to_vec()), secret.to_vec());
    }
}

impl Secrets {
    pub fn of(&self, label: &str, client_random: &[u8]) -> Vec<u8> {
        let key = (label.to_owned(), client_random.to_vec());
        self.0.lock().unwrap().get(&key).unwrap_or_else(|| panic!("no secret {label} yet")).clone()
    }
}

/// A plaintext record.
pub fn plain(kind: u8, data: &[u8]) -> Vec<u8> {
    let mut record = vec![kind, 3, 3];
    record.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
    record.extend_from_slice(data);
    record
}

/// A handshake message.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes()[1..]);
    message.extend_from_slice(body);
    message
}

/// The type and body of each whole record.
pub fn records(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut all = Vec::new();
    while let [kind, _, _, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((body, next)) = rest.split_at_checked(length) else { break };
        all.push((*kind, body));
        bytes = next;
    }
    all
}

/// The whole handshake messages, headers included.
pub fn messages(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let [_, a, b, c, ..] = bytes {
        let length = 4 + usize::from(*a) * 65536 + usize::from(*b) * 256 + usize::from(*c);
        let Some((message, next)) = bytes.split_at_checked(length) else { break };
        all.push(message.to_vec());
        bytes = next;
    }
    all
}

/// The alert of the last record, where that is a plaintext alert.
pub fn last_alert(bytes: &[u8]) -> Option<u8> {
    match records(bytes).last() {
        Some((ALERT, [_, alert])) => Some(*alert),
        _ => None,
    }
}

/// One direction's keys of AES-128-GCM with SHA-256, the only suites that the suite's own client offers.
pub struct Sealer {
    version: Version,
    secret: Vec<u8>,
    key: aead::LessSafeKey,
    iv: Vec<u8>,
    sequence: u64,
}

impl Sealer {
    /// From a traffic secret of TLS 1.3.
    pub fn tls13(secret: Vec<u8>) -> Sealer {
        let key = aes(&expand_label(&secret, "key", 16));
        let iv = expand_label(&secret, "iv", 12);
        Sealer { version: Version::Tls13, secret, key, iv, sequence: 0 }
    }

    /// The client's keys of TLS 1.2, before its Finished.
    pub fn tls12(master: &[u8], client_random: &[u8], server_random: &[u8]) -> Sealer {
        let seed = [b"key expansion", server_random, client_random].concat();
        let block = prf(master, &seed, 40);
        let (key, iv) = (aes(&block[..16]), block[32..36].to_vec());
        Sealer { version: Version::Tls12, secret: Vec::new(), key, iv, sequence: 0 }
    }

    /// Leaves records out, as if they had been written.
    pub fn skip(mut self, records: u64) -> Sealer {
        self.sequence += records;
        self
    }

    /// The next record.
    pub fn seal(&mut self, kind: u8, data: &[u8]) -> Vec<u8> {
        let (nonce, aad, header) = self.frame(kind, data.len());
        let mut body = data.to_vec();
        if self.version == Version::Tls13 {
            body.push(kind);
        }
        self.key.seal_in_place_append_tag(nonce, aead::Aad::from(aad), &mut body).unwrap();
        self.sequence += 1;
        [header, body].concat()
    }

    /// What the next record of the own flight held.
    pub fn open(&mut self, kind: u8, body: &[u8]) -> Vec<u8> {
        let explicit = if self.version == Version::Tls12 { 8 } else { 0 };
        let length = body.len() - explicit - 16 - usize::from(self.version == Version::Tls13);
        let (mut nonce, aad, _) = self.frame(kind, length);
        if self.version == Version::Tls12 {
            // rustls chooses other explicit nonces than ours.
            let chosen = [&self.iv[..], &body[..explicit]].concat();
            nonce = aead::Nonce::try_assume_unique_for_key(&chosen).unwrap();
        }
        let mut body = body[explicit..].to_vec();
        self.key.open_in_place(nonce, aead::Aad::from(aad), &mut body).unwrap();
        self.sequence += 1;
        body.truncate(length);
        body
    }

    /// The next generation of keys of TLS 1.3.
    pub fn update(&mut self) {
        *self = Sealer::tls13(expand_label(&self.secret, "traffic upd", 32));
    }

    /// Nonce, additional data, and what stands before the ciphertext.
    fn frame(&self, kind: u8, length: usize) -> (aead::Nonce, Vec<u8>, Vec<u8>) {
        let sequence = self.sequence.to_be_bytes();
        let length = u16::try_from(length).unwrap();
        match self.version {
            Version::Tls13 => {
                let mut nonce: [u8; 12] = self.iv.as_slice().try_into().unwrap();
                nonce[4..].iter_mut().zip(sequence).for_each(|(byte, other)| *byte ^= other);
                let header = [&[DATA, 3, 3], &(length + 17).to_be_bytes()[..]].concat();
                (aead::Nonce::assume_unique_for_key(nonce), header.clone(), header)
            }
            Version::Tls12 => {
                let nonce: [u8; 12] = [&self.iv, &sequence[..]].concat().try_into().unwrap();
                let aad = [&sequence[..], &[kind, 3, 3], &length.to_be_bytes()].concat();
                let header = [&[kind, 3, 3], &(length + 24).to_be_bytes()[..], &sequence].concat();
                (aead::Nonce::assume_unique_for_key(nonce), aad, header)
            }
        }
    }
}

fn aes(key: &[u8]) -> aead::LessSafeKey {
    aead::LessSafeKey::new(aead::UnboundKey::new(&aead::AES_128_GCM, key).unwrap())
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Expand-Label with an empty context (RFC 8446 section 7.1).
fn expand_label(secret: &[u8], label: &str, length: usize) -> Vec<u8> {
    let label = format!("tls13 {label}");
    let mut info = u16::try_from(length).unwrap().to_be_bytes().to_vec();
    info.push(u8::try_from(label.len()).unwrap());
    info.extend_from_slice(label.as_bytes());
    info.push(0);
    let mut out = vec![0; length];
    let key = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, secret);
    key.expand(&[&info], Length(length)).unwrap().fill(&mut out).unwrap();
    out
}

/// P_SHA256 (RFC 5246 section 5).
fn prf(secret: &[u8], seed: &[u8], length: usize) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let mut chain = hmac::sign(&key, seed);
    let mut out = Vec::new();
    while out.len() < length {
        out.extend_from_slice(hmac::sign(&key, &[chain.as_ref(), seed].concat()).as_ref());
        chain = hmac::sign(&key, chain.as_ref());
    }
    out.truncate(length);
    out
}
