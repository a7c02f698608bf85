//! What protects the records of one direction (RFC 8446 section 5.2, RFC 5246 section 6.2.3.3 with RFC 5288 and 7905): key,
//! nonces, additional data, the count of records. For connections whose other direction the kernel has, and rustls is gone.

use super::kernel::{Bulk, TrafficKeys};
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroize;

/// Bytes of a record's header: content type, version, length.
pub(super) const HEADER: usize = 5;
/// Bytes of the tag of all three ciphers.
pub(super) const TAG: usize = 16;
/// Bytes of the nonce that TLS 1.2 with AES-GCM writes into each record.
pub(super) const EXPLICIT: usize = 8;
/// Bytes of plaintext in a record.
pub(super) const PLAIN_MAX: usize = 1 << 14;
/// What every record of TLS 1.3, and of 1.2, calls its version.
pub(super) const VERSION: [u8; 2] = [3, 3];

/// The keys of one direction, ready to use. Wiped when dropped, the cipher's own copy by aws-lc.
pub(super) struct Protection {
    tls13: bool,
    bulk: Bulk,
    key: LessSafeKey,
    iv: [u8; 12],
    /// The number of the next record.
    sequence: u64,
}

impl Drop for Protection {
    fn drop(&mut self) {
        self.iv.zeroize();
    }
}

impl Protection {
    /// `None`: the key is not as long as its cipher's is.
    pub fn new(keys: &TrafficKeys) -> Option<Protection> {
        let algorithm = match keys.bulk {
            Bulk::Aes128Gcm => &AES_128_GCM,
            Bulk::Aes256Gcm => &AES_256_GCM,
            Bulk::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, &keys.key).ok()?);
        Some(Protection { tls13: keys.tls13, bulk: keys.bulk, key, iv: keys.iv, sequence: keys.sequence })
    }

    pub fn is_tls13(&self) -> bool {
        self.tls13
    }

    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Bytes between a record's header and its ciphertext.
    pub fn explicit(&self) -> usize {
        if self.tls13 || self.bulk == Bulk::ChaCha20Poly1305 { 0 } else { EXPLICIT }
    }

    /// The nonce of the next record that is sealed: the IV XOR its number. With an explicit part the last 8 bytes are it.
    fn nonce(&self) -> [u8; 12] {
        let mut nonce = self.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= number;
        }
        nonce
    }

    /// What the record carries of its nonce; as long as [`Protection::explicit`] says.
    pub fn explicit_nonce(&self) -> [u8; EXPLICIT] {
        let mut explicit = [0; EXPLICIT];
        explicit.copy_from_slice(&self.nonce()[4..]);
        explicit
    }

    /// TLS 1.3: the header. TLS 1.2: number, type, version, and the length of the plaintext.
    fn additional(&self, header: [u8; HEADER], plain: usize) -> ([u8; 8 + HEADER], usize) {
        let mut additional = [0; 8 + HEADER];
        if self.tls13 {
            additional[..HEADER].copy_from_slice(&header);
            return (additional, HEADER);
        }
        additional[..8].copy_from_slice(&self.sequence.to_be_bytes());
        additional[8..11].copy_from_slice(&header[..3]);
        // No record is longer than 2^14 and something.
        additional[11..].copy_from_slice(&(plain as u16).to_be_bytes());
        (additional, 8 + HEADER)
    }

    /// Seals `data` in place and gives the tag. `None` where the cipher refuses, or the numbers are used up.
    pub fn seal(&mut self, header: [u8; HEADER], data: &mut [u8]) -> Option<[u8; TAG]> {
        let next = self.sequence.checked_add(1)?;
        let (additional, len) = self.additional(header, data.len());
        let nonce = Nonce::assume_unique_for_key(self.nonce());
        let sealed = self.key.seal_in_place_separate_tag(nonce, Aad::from(&additional[..len]), data);
        self.sequence = next;
        sealed.ok()?.as_ref().try_into().ok()
    }

    /// Opens a record's body (explicit nonce, ciphertext, tag) in place: how many bytes of plaintext then lie behind the
    /// explicit nonce. `None`: it does not open under this key, or the numbers are used up.
    pub fn open(&mut self, header: [u8; HEADER], body: &mut [u8]) -> Option<usize> {
        let next = self.sequence.checked_add(1)?;
        let explicit = self.explicit();
        let plain = body.len().checked_sub(explicit + TAG)?;
        let (additional, len) = self.additional(header, plain);
        let (said, sealed) = body.split_at_mut_checked(explicit)?;
        let mut nonce = if explicit == 0 { self.nonce() } else { self.iv };
        if explicit > 0 {
            nonce[4..].copy_from_slice(said);
        }
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = self.key.open_in_place(nonce, Aad::from(&additional[..len]), sealed).ok()?;
        self.sequence = next;
        Some(opened.len())
    }
}
