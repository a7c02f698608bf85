//! The client's records: each direction's are opened or sealed by the kernel, or here.

use super::{cipher_of, keys_of};
use crate::config::limits;
use crate::relay::Shelf;
use crate::sys::Socket;
use crate::sys::ktls::{Cipher, DATA, Direction, Port, Record, Trouble};
use crate::tls::{Bulk, Departed, Failure, KernelSession, Opener, Sealer, TrafficKeys};
use std::cell::RefCell;
use std::io;

/// Who opens or seals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum By {
    Kernel,
    Us,
}

/// The records of one client in both directions. All calls return at once.
pub(in super::super) struct Records {
    port: Port,
    /// Which suite the client's records have.
    cipher: Cipher,
    /// `None`: the kernel opens.
    opening: Option<RefCell<Opening>>,
    /// `None`: the kernel seals.
    sealing: Option<RefCell<Sealing>>,
}

/// Records that are opened here.
struct Opening {
    opener: Opener,
    /// Received and not opened: a part of a record, or records behind one that is not data.
    bytes: Vec<u8>,
}

/// Records that are sealed here.
struct Sealing {
    sealer: Sealer,
    records_max: u64,
    /// Sealed and not sent. Nothing goes out but by this, so that records leave in the order in which they were sealed.
    bytes: Vec<u8>,
}

/// What stands next among the received records.
pub(in super::super) enum Next {
    /// All that is whole was opened.
    Missing,
    Empty,
    Control {
        kind: u8,
        body: Vec<u8>,
    },
}

impl Records {
    /// Puts the first keys into force.
    ///
    /// # Errors
    /// What the operator reads.
    pub fn new(
        port: Port,
        bulk: Bulk,
        (sealed, opened): (By, By),
        departed: Departed,
    ) -> Result<(Records, KernelSession), String> {
        let Departed { session, transmit, receive } = departed;
        let mut records = Records { port, cipher: cipher_of(bulk), opening: None, sealing: None };
        let by_kernel = |direction, keys: &TrafficKeys| {
            let installed = records.port.install(direction, &keys_of(keys));
            installed.map_err(|error| format!("the kernel did not take this connection's keys: {error}"))
        };
        let detail = |failure: Box<Failure>| failure.detail;
        match sealed {
            By::Kernel => by_kernel(Direction::Transmit, &transmit)?,
            By::Us => {}
        }
        match opened {
            By::Kernel => by_kernel(Direction::Receive, &receive)?,
            By::Us => {
                let opener = Opener::new(&receive).map_err(detail)?;
                records.opening = Some(RefCell::new(Opening { opener, bytes: Vec::new() }));
            }
        }
        if sealed == By::Us {
            let records_max = session.records_max();
            let sealer = Sealer::new(&transmit, records_max).map_err(detail)?;
            records.sealing = Some(RefCell::new(Sealing { sealer, records_max, bytes: Vec::new() }));
        }
        Ok((records, session))
    }

    /// Who does that direction.
    pub fn by(&self, direction: Direction) -> By {
        let ours = match direction {
            Direction::Transmit => self.sealing.is_some(),
            Direction::Receive => self.opening.is_some(),
        };
        if ours { By::Us } else { By::Kernel }
    }

    /// Puts changed keys into force. Of records that were sealed here and are not sent yet none is under them.
    ///
    /// # Errors
    /// What is to be said of it.
    pub fn change(&self, direction: Direction, keys: &TrafficKeys) -> Result<(), String> {
        let detail = |failure: Box<Failure>| failure.detail;
        match (direction, &self.opening, &self.sealing) {
            (Direction::Receive, Some(opening), _) => {
                opening.borrow_mut().opener = Opener::new(keys).map_err(detail)?;
            }
            (Direction::Transmit, _, Some(sealing)) => {
                let mut sealing = sealing.borrow_mut();
                sealing.sealer = Sealer::new(keys, sealing.records_max).map_err(detail)?;
            }
            _ => {
                let installed = self.port.install(direction, &keys_of(keys));
                installed.map_err(|error| format!("the kernel did not take new keys: {error}"))?;
            }
        }
        Ok(())
    }

    /// Whether our keys can be changed while the connection goes on.
    pub fn can_change_ours(&self) -> bool {
        self.sealing.is_some() || self.port.trust().changes_keys()
    }

    /// Records that the kernel received under the present keys.
    pub fn received(&self) -> io::Result<u64> {
        self.port.received(self.cipher)
    }

    /// Records sealed under the present keys.
    pub fn sealed(&self) -> io::Result<u64> {
        match &self.sealing {
            Some(sealing) => Ok(sealing.borrow().sealer.sequence()),
            None => self.port.sequence(),
        }
    }

    /// Reads data or one control record that the kernel opened.
    pub fn receive(&self, into: &mut [u8]) -> io::Result<Record> {
        self.port.receive(into)
    }

    /// Reads what the client sent and we open, as much as a record can be; 0: the end of the stream.
    pub fn read(&self, client: &Socket, shelf: &Shelf) -> io::Result<usize> {
        let Some(opening) = &self.opening else { return Err(io::ErrorKind::Unsupported.into()) };
        let bytes = &mut opening.borrow_mut().bytes;
        if bytes.capacity() == 0 {
            *bytes = shelf.take();
        }
        let known = bytes.len();
        bytes.resize(known + limits::TLS_RECORD_BYTES_MAX, 0);
        let read = client.receive_now(&mut bytes[known..]);
        bytes.truncate(known + read.as_ref().unwrap_or(&0));
        if read.is_err() {
            // Whoever waits holds no more than a part of a record.
            let part = bytes.as_slice().to_vec();
            shelf.give(std::mem::replace(bytes, part));
        }
        read
    }

    /// Opens what was read, up to the first record that is not data, and appends the data to `plain`.
    ///
    /// # Errors
    /// What the client did wrong; the data before it is in `plain`.
    pub fn open(&self, plain: &mut Vec<u8>) -> Result<Next, Box<Failure>> {
        let Some(opening) = &self.opening else { return Ok(Next::Missing) };
        let Opening { opener, bytes } = &mut *opening.borrow_mut();
        let mut used = 0;
        let next = loop {
            let opened = match opener.open(&mut bytes[used..]) {
                Ok(Some(opened)) => opened,
                Ok(None) => break Ok(Next::Missing),
                Err(failure) => break Err(failure),
            };
            let body = &bytes[used..][opened.body];
            used += opened.used;
            match opened.kind {
                DATA if body.is_empty() => break Ok(Next::Empty),
                DATA => plain.extend_from_slice(body),
                kind => break Ok(Next::Control { kind, body: body.to_vec() }),
            }
        };
        bytes.drain(..used);
        next
    }

    /// Sends a control record, all of it or an error. An error does not promise that no part of it was sent:
    /// [`Records::is_mid_way`] says.
    pub fn send(&self, client: &Socket, kind: u8, body: &[u8]) -> io::Result<()> {
        if self.sealing.is_none() {
            return self.port.send(kind, body);
        }
        if self.flush(client)? > 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.seal(kind, body, Vec::new)?;
        if self.flush(client)? == 0 { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    /// Seals records here, to be sent by [`Records::flush`]; `room` gives a buffer.
    pub fn seal(&self, kind: u8, data: &[u8], room: impl FnOnce() -> Vec<u8>) -> io::Result<()> {
        let Some(sealing) = &self.sealing else { return Err(io::ErrorKind::Unsupported.into()) };
        let Sealing { sealer, bytes, .. } = &mut *sealing.borrow_mut();
        if bytes.capacity() == 0 {
            *bytes = room();
        }
        sealer.seal(kind, data, bytes).map_err(|failure| io::Error::other(failure.detail))
    }

    /// Sends what was sealed here as far as there is room: how many bytes are left.
    pub fn flush(&self, client: &Socket) -> io::Result<usize> {
        let Some(sealing) = &self.sealing else { return Ok(0) };
        let bytes = &mut sealing.borrow_mut().bytes;
        if bytes.is_empty() {
            return Ok(0);
        }
        match client.send_now(bytes) {
            Ok(sent) => drop(bytes.drain(..sent)),
            Err(error) if Trouble::of(&error) == Trouble::NotNow => {}
            Err(error) => return Err(error),
        }
        Ok(bytes.len())
    }

    /// The emptied buffer of what was sealed here.
    pub fn take_room(&self) -> Vec<u8> {
        let sealing = self.sealing.as_ref();
        sealing.map(|sealing| std::mem::take(&mut sealing.borrow_mut().bytes)).unwrap_or_default()
    }

    /// Whether records that were sealed here wait to be sent, or parts of them.
    pub fn is_mid_way(&self) -> bool {
        self.sealing.as_ref().is_some_and(|sealing| !sealing.borrow().bytes.is_empty())
    }

    /// Data was given to the socket for the kernel to seal.
    pub fn count(&self, bytes: usize) {
        self.port.count(bytes);
    }

    /// Whether all that was sealed lies in TCP's own queue.
    pub fn is_flushed(&self) -> io::Result<bool> {
        match self.sealing {
            Some(_) => Ok(!self.is_mid_way()),
            None => self.port.is_flushed(),
        }
    }

    /// Reads and drops what a client sends that is told goodbye: how much it was, at least; `None` at the end.
    pub fn swallow(&self, client: &Socket, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        if self.opening.is_some() {
            return client.receive_now(buffer).map(|count| (count > 0).then_some(count));
        }
        Ok(match self.port.receive(buffer)? {
            Record::Data(count) => Some(count),
            Record::Control { len, .. } => Some(len),
            Record::End => None,
        })
    }
}
