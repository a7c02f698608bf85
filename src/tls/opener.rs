//! Opens the records of a client whose answers the kernel seals. It reads what anybody may send: nothing here panics, and
//! after the first record that is not as it must be nothing more is opened.

use super::Failure;
use super::kernel::{TrafficKeys, lost, refuse};
use super::protection::{HEADER, PLAIN_MAX, Protection, TAG, VERSION};
use std::fmt;
use std::ops::Range;

/// The outer type of every record of TLS 1.3 on an open connection.
const DATA: u8 = 23;
const UNEXPECTED_MESSAGE: u8 = 10;
const BAD_RECORD_MAC: u8 = 20;
const RECORD_OVERFLOW: u8 = 22;
const DECODE_ERROR: u8 = 50;
/// Bytes of a record's body: RFC 8446 section 5.2, RFC 5246 section 6.2.3.
const BODY_MAX_TLS13: usize = PLAIN_MAX + 256;
const BODY_MAX_TLS12: usize = PLAIN_MAX + 2048;

/// One direction's records, opened in their order.
pub struct Opener {
    /// `None` after an error: what follows a bad record is not the client's.
    protection: Option<Protection>,
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").field("works", &self.protection.is_some()).finish()
    }
}

/// A record that was opened in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Its true content type.
    pub kind: u8,
    /// Where its plaintext lies in the bytes given.
    pub body: Range<usize>,
    /// How many of the bytes given it was.
    pub used: usize,
}

impl Opener {
    /// # Errors
    /// The key is not its cipher's.
    pub fn new(keys: &TrafficKeys) -> Result<Opener, Box<Failure>> {
        let protection = Protection::new(keys).ok_or_else(|| lost("a key of a wrong length"))?;
        Ok(Opener { protection: Some(protection) })
    }

    /// Opens the first record of `bytes`; `None` while it is not whole, and then nothing was changed.
    ///
    /// # Errors
    /// With the alert to send. The same again for whatever is given then.
    pub fn open(&mut self, bytes: &mut [u8]) -> Result<Option<Opened>, Box<Failure>> {
        let opened = match &mut self.protection {
            Some(protection) => open(protection, bytes),
            None => Err(lost("a record behind a bad one")),
        };
        if opened.is_err() {
            self.protection = None;
        }
        opened
    }
}

fn open(protection: &mut Protection, bytes: &mut [u8]) -> Result<Option<Opened>, Box<Failure>> {
    let Some((header, rest)) = bytes.split_first_chunk_mut::<HEADER>() else { return Ok(None) };
    let header = *header;
    let length = judge(protection, header)?;
    let Some(body) = rest.get_mut(..length) else { return Ok(None) };
    let opened = protection.open(header, body);
    let Some(plain) = opened else {
        return Err(refuse(BAD_RECORD_MAC, "a record that does not open under its key"));
    };
    let start = protection.explicit();
    let (kind, len) = match protection.is_tls13() {
        true => inner(&body[start..start + plain])?,
        false => (header[0], plain),
    };
    if len > PLAIN_MAX {
        return Err(refuse(RECORD_OVERFLOW, "a record of more than 2^14 bytes"));
    }
    let body = HEADER + start..HEADER + start + len;
    Ok(Some(Opened { kind, body, used: HEADER + length }))
}

/// The length of the body, of a header that may be.
fn judge(protection: &Protection, header: [u8; HEADER]) -> Result<usize, Box<Failure>> {
    let [kind, major, minor, high, low] = header;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let tls13 = protection.is_tls13();
    if [major, minor] != VERSION {
        return Err(refuse(DECODE_ERROR, "a record of an unknown version"));
    }
    if tls13 && kind != DATA {
        // Also change_cipher_spec, whose time ended with the handshake (RFC 8446 section 5).
        return Err(refuse(UNEXPECTED_MESSAGE, &format!("a bare record of type {kind} on an open connection")));
    }
    if length > if tls13 { BODY_MAX_TLS13 } else { BODY_MAX_TLS12 } {
        return Err(refuse(RECORD_OVERFLOW, "a record that is too long"));
    }
    if length < protection.explicit() + TAG {
        return Err(refuse(BAD_RECORD_MAC, "a record that is too short"));
    }
    Ok(length)
}

/// The content type of TLS 1.3's inner plaintext and how many bytes stand before it.
fn inner(plain: &[u8]) -> Result<(u8, usize), Box<Failure>> {
    if plain.len() > PLAIN_MAX + 1 {
        return Err(refuse(RECORD_OVERFLOW, "a record of more than 2^14 bytes, padding counted"));
    }
    match plain.iter().rposition(|byte| *byte != 0) {
        Some(at) => Ok((plain[at], at)),
        None => Err(refuse(UNEXPECTED_MESSAGE, "a record without a content type")),
    }
}
