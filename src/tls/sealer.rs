//! Seals what goes to a client whose own records the kernel opens.

use super::Failure;
use super::kernel::{TrafficKeys, lost};
use super::protection::{HEADER, PLAIN_MAX, Protection, TAG, VERSION};
use std::fmt;

/// The outer type of every record of TLS 1.3, and of data in both versions.
const DATA: u8 = 23;

/// Makes records, in the order of its calls: what it made goes out in that order, or the connection ends.
pub struct Sealer {
    protection: Protection,
    records_max: u64,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("sequence", &self.sequence()).finish_non_exhaustive()
    }
}

impl Sealer {
    /// Under these keys at most `records_max` records are sealed.
    ///
    /// # Errors
    /// The key is not its cipher's.
    pub fn new(keys: &TrafficKeys, records_max: u64) -> Result<Sealer, Box<Failure>> {
        let protection = Protection::new(keys).ok_or_else(|| lost("a key of a wrong length"))?;
        Ok(Sealer { protection, records_max })
    }

    /// The number of the next record.
    pub fn sequence(&self) -> u64 {
        self.protection.sequence()
    }

    /// Appends `data` to `out` as records of this content type; of no data one empty record.
    ///
    /// # Errors
    /// The key is used up: nothing may be sent under it any more.
    pub fn seal(&mut self, kind: u8, data: &[u8], out: &mut Vec<u8>) -> Result<(), Box<Failure>> {
        out.reserve(data.len() + (data.len() / PLAIN_MAX + 1) * (HEADER + self.added()));
        let (first, rest) = data.split_at(data.len().min(PLAIN_MAX));
        self.seal_one(kind, first, out)?;
        rest.chunks(PLAIN_MAX).try_for_each(|part| self.seal_one(kind, part, out))
    }

    /// Bytes that a record's body has beside the plaintext.
    fn added(&self) -> usize {
        self.protection.explicit() + usize::from(self.protection.is_tls13()) + TAG
    }

    fn seal_one(&mut self, kind: u8, data: &[u8], out: &mut Vec<u8>) -> Result<(), Box<Failure>> {
        if self.sequence() >= self.records_max {
            return Err(lost("the keys of this connection are used up"));
        }
        let tls13 = self.protection.is_tls13();
        // At most 2^14 and what is added: it fits into 16 bits.
        let [high, low] = ((data.len() + self.added()) as u16).to_be_bytes();
        let header = [if tls13 { DATA } else { kind }, VERSION[0], VERSION[1], high, low];
        let begin = out.len();
        out.extend_from_slice(&header);
        let explicit = self.protection.explicit();
        out.extend_from_slice(&self.protection.explicit_nonce()[..explicit]);
        let plain = out.len();
        out.extend_from_slice(data);
        if tls13 {
            out.push(kind);
        }
        let Some(tag) = self.protection.seal(header, &mut out[plain..]) else {
            // No plaintext may stay where ciphertext is expected.
            out.truncate(begin);
            return Err(lost("a record could not be sealed"));
        };
        out.extend_from_slice(&tag);
        Ok(())
    }
}
