//! The client's records: who opens and seals them.

use super::{cipher_of, keys_of};
use crate::sys::ktls::{Cipher, Direction, Port, Record};
use crate::tls::{Bulk, TrafficKeys};
use std::io;

/// The records of one client in both directions. All calls return at once.
pub(in super::super) struct Records {
    port: Port,
    /// Which suite the client's records have.
    cipher: Cipher,
}

impl Records {
    pub fn new(port: Port, bulk: Bulk) -> Records {
        Records { port, cipher: cipher_of(bulk) }
    }

    /// Puts the keys of a direction into force, first or changed.
    pub fn install(&self, direction: Direction, keys: &TrafficKeys) -> io::Result<()> {
        self.port.install(direction, &keys_of(keys))
    }

    /// Records received under the present keys.
    pub fn received(&self) -> io::Result<u64> {
        self.port.received(self.cipher)
    }

    /// Records sealed under the present keys.
    pub fn sealed(&self) -> io::Result<u64> {
        self.port.sequence()
    }

    /// Reads data or one control record.
    pub fn receive(&self, into: &mut [u8]) -> io::Result<Record> {
        self.port.receive(into)
    }

    /// Sends a control record, all of it or an error.
    pub fn send(&self, kind: u8, body: &[u8]) -> io::Result<()> {
        self.port.send(kind, body)
    }

    /// Data was given to the socket to be sealed.
    pub fn count(&self, bytes: usize) {
        self.port.count(bytes);
    }

    /// Whether all that was sealed lies in TCP's own queue.
    pub fn is_flushed(&self) -> io::Result<bool> {
        self.port.is_flushed()
    }
}
