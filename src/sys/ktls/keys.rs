//! Traffic keys as the kernel takes them (linux/tls.h).

use super::{SOL_TLS, option, set_option};
use std::io;
use std::os::fd::RawFd;
use zeroize::{Zeroize, Zeroizing};

/// Suites that this program hands over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cipher {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
}

impl Cipher {
    /// All of them.
    pub const ALL: [Cipher; 3] = [Cipher::Aes128Gcm, Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305];

    /// The kernel's number, bytes of the key, and how many of the 12 bytes of IV are salt.
    fn shape(self) -> (u16, usize, usize) {
        match self {
            Cipher::Aes128Gcm => (51, 16, 4),
            Cipher::Aes256Gcm => (52, 32, 4),
            Cipher::ChaCha20Poly1305 => (54, 32, 0),
        }
    }
}

/// The protocol version of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Tls12,
    Tls13,
}

impl Version {
    /// Both.
    pub const ALL: [Version; 2] = [Version::Tls12, Version::Tls13];

    fn number(self) -> u16 {
        match self {
            Version::Tls12 => 0x0303,
            Version::Tls13 => 0x0304,
        }
    }
}

/// Which way keys are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Transmit,
    Receive,
}

impl Direction {
    fn option(self) -> i32 {
        match self {
            Direction::Transmit => 1,
            Direction::Receive => 2,
        }
    }
}

/// The keys of one direction, from record `sequence` on. Wiped when dropped.
#[derive(Clone)]
pub struct Keys {
    pub version: Version,
    pub cipher: Cipher,
    pub key: Zeroizing<Vec<u8>>,
    pub iv: [u8; 12],
    pub sequence: u64,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("version", &self.version).field("cipher", &self.cipher).finish_non_exhaustive()
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.iv.zeroize();
    }
}

impl Keys {
    /// Bytes that encryption adds to each record.
    pub fn record_overhead(&self) -> u64 {
        let (header, tag, content_type, explicit_nonce) = (5, 16, 1, 8);
        match (self.version, self.cipher) {
            (Version::Tls13, _) => header + content_type + tag,
            (Version::Tls12, Cipher::ChaCha20Poly1305) => header + tag,
            (Version::Tls12, _) => header + explicit_nonce + tag,
        }
    }

    /// `struct tls12_crypto_info_*`: version, suite, IV, key, salt, sequence number.
    fn encoded(&self, direction: Direction) -> io::Result<Zeroizing<Vec<u8>>> {
        let (suite, key_bytes, salt_bytes) = self.cipher.shape();
        if self.key.len() != key_bytes {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut iv = self.iv;
        if (self.version, direction) == (Version::Tls12, Direction::Transmit) && salt_bytes > 0 {
            // The kernel counts TLS 1.2's explicit nonce up from what it is given, while the records before were sealed
            // under this value XOR their number: the other half of the range keeps the two apart for ever.
            iv[salt_bytes] ^= 0x80;
        }
        let mut info = Zeroizing::new(Vec::with_capacity(56));
        info.extend_from_slice(&self.version.number().to_ne_bytes());
        info.extend_from_slice(&suite.to_ne_bytes());
        info.extend_from_slice(&iv[salt_bytes..]);
        info.extend_from_slice(&self.key);
        info.extend_from_slice(&iv[..salt_bytes]);
        info.extend_from_slice(&self.sequence.to_be_bytes());
        iv.zeroize();
        Ok(info)
    }

    pub(super) fn install(&self, socket: RawFd, direction: Direction) -> io::Result<()> {
        set_option(socket, SOL_TLS, direction.option(), &self.encoded(direction)?)
    }
}

/// The number of the next record of a direction whose keys are in the kernel.
pub(super) fn sequence(socket: RawFd, direction: Direction, cipher: Cipher) -> io::Result<u64> {
    let (_, key_bytes, _) = cipher.shape();
    // IV and salt are 12 bytes together; the key comes along and is wiped.
    let mut info = Zeroizing::new(vec![0; 4 + 12 + key_bytes + 8]);
    let known = option(socket, SOL_TLS, direction.option(), &mut info)?;
    let tail = info.len() - 8;
    let number = info[tail..].try_into().ok().filter(|_| known == info.len());
    number.map(u64::from_be_bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(version: Version, cipher: Cipher) -> Keys {
        let key = Zeroizing::new(vec![7; cipher.shape().1]);
        Keys { version, cipher, key, iv: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], sequence: 258 }
    }

    #[test]
    fn keys_lie_as_the_kernels_header_has_them() {
        let info = keys(Version::Tls13, Cipher::Aes128Gcm).encoded(Direction::Transmit).unwrap();
        assert_eq!(info.len(), 40);
        assert_eq!(info[..4], [4, 3, 51, 0]);
        assert_eq!(info[4..12], [5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(info[12..28], [7; 16]);
        assert_eq!(info[28..32], [1, 2, 3, 4]);
        assert_eq!(info[32..], [0, 0, 0, 0, 0, 0, 1, 2]);
        let info = keys(Version::Tls13, Cipher::ChaCha20Poly1305).encoded(Direction::Receive).unwrap();
        assert_eq!((info.len(), &info[4..16]), (56, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12][..]));
    }

    #[test]
    fn explicit_nonces_of_the_kernel_never_meet_those_of_the_handshake() {
        let sent = keys(Version::Tls12, Cipher::Aes256Gcm);
        let info = sent.encoded(Direction::Transmit).unwrap();
        let first = u64::from_be_bytes(info[4..12].try_into().unwrap());
        let before = u64::from_be_bytes(sent.iv[4..].try_into().unwrap());
        for number in 0..300 {
            assert!((before ^ number).wrapping_sub(first) > 1 << 40);
        }
        let received = sent.encoded(Direction::Receive).unwrap();
        assert_eq!(received[4..12], sent.iv[4..]);
    }

    #[test]
    fn a_key_of_the_wrong_length_is_refused() {
        let mut wrong = keys(Version::Tls13, Cipher::Aes128Gcm);
        wrong.cipher = Cipher::Aes256Gcm;
        assert!(wrong.encoded(Direction::Transmit).is_err());
    }
}
