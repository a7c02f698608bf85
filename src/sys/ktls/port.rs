//! A client's socket whose TLS the kernel does.

use super::super::socket::Socket;
use super::keys::{self, Cipher, Direction, Keys};
use super::message::{self, Record};
use super::trial::Trust;
use super::{attach, given_to_tcp};
use std::cell::Cell;
use std::io;

/// A socket of a kernel that passed the trial. Call order: [`Port::attach`], [`Port::install`] for both directions; then the rest.
#[derive(Debug)]
pub struct Port {
    socket: Socket,
    trust: &'static Trust,
    /// What TCP had been given before the kernel sealed anything.
    base: Cell<u64>,
    sealed: Cell<Sealed>,
}

/// What the kernel was given to seal under all keys so far.
#[derive(Debug, Clone, Copy, Default)]
struct Sealed {
    /// Of data and control records.
    plain: u64,
    /// Under keys that were changed since.
    records_before: u64,
    /// Of the present keys.
    cipher: Option<Cipher>,
    sequence_first: u64,
    overhead: u64,
}

impl Port {
    pub(in super::super) fn new(socket: Socket, trust: &'static Trust) -> Port {
        Port { socket, trust, base: Cell::default(), sealed: Cell::default() }
    }

    /// What the kernel may be trusted with.
    pub fn trust(&self) -> &'static Trust {
        self.trust
    }

    /// Puts the kernel's TLS layer on the socket. On an error nothing has changed.
    pub fn attach(&self) -> io::Result<()> {
        self.base.set(given_to_tcp(self.socket.raw())?);
        attach(self.socket.raw())
    }

    /// Gives the kernel the keys of a direction, first or changed.
    pub fn install(&self, direction: Direction, keys: &Keys) -> io::Result<()> {
        let before = self.sealed.get();
        let records = match (direction, before.cipher) {
            (Direction::Transmit, Some(_)) => self.sent_records()?,
            _ => 0,
        };
        keys.install(self.socket.raw(), direction)?;
        if direction == Direction::Transmit {
            self.sealed.set(Sealed {
                plain: before.plain,
                records_before: before.records_before + records,
                cipher: Some(keys.cipher),
                sequence_first: keys.sequence,
                overhead: keys.record_overhead(),
            });
        }
        Ok(())
    }

    /// Records received so far under the present keys, counted with those before the kernel took over.
    pub fn received(&self, cipher: Cipher) -> io::Result<u64> {
        keys::sequence(self.socket.raw(), Direction::Receive, cipher)
    }

    /// Records sealed under the present keys, counted with those before the kernel took over.
    pub fn sequence(&self) -> io::Result<u64> {
        let cipher = self.sealed.get().cipher.ok_or(io::ErrorKind::NotConnected)?;
        keys::sequence(self.socket.raw(), Direction::Transmit, cipher)
    }

    fn sent_records(&self) -> io::Result<u64> {
        Ok(self.sequence()?.saturating_sub(self.sealed.get().sequence_first))
    }

    /// Reads data or one control record without waiting.
    pub fn receive(&self, into: &mut [u8]) -> io::Result<Record> {
        message::receive(self.socket.raw(), into)
    }

    /// Sends a control record without waiting, all of it or an error.
    pub fn send(&self, kind: u8, data: &[u8]) -> io::Result<()> {
        message::send(self.socket.raw(), kind, data)?;
        self.count(data.len());
        Ok(())
    }

    /// Data was given to the socket to be sealed, by whatever way.
    pub fn count(&self, bytes: usize) {
        let mut sealed = self.sealed.get();
        sealed.plain += bytes as u64;
        self.sealed.set(sealed);
    }

    /// Whether all that was sealed lies in TCP's own queue. Records that do not yet would be lost, without a word, by a
    /// shutdown or close: the kernel's TLS layer keeps them apart.
    pub fn is_flushed(&self) -> io::Result<bool> {
        let sealed = self.sealed.get();
        let records = sealed.records_before + self.sent_records()?;
        let expected = self.base.get() + sealed.plain + records * sealed.overhead;
        match given_to_tcp(self.socket.raw()) {
            Ok(given) => Ok(given >= expected),
            // Nobody can tell while acknowledgements pour in: not yet.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
        }
    }
}
