//! What is known of each descriptor: who waits for it, what epoll is to tell of it, and whether a try is worth its call.

use super::super::kernel::{Operation, Token};
use rustix::event::epoll::EventFlags;
use std::os::fd::RawFd;

/// An operation that is not over.
#[derive(Debug)]
pub(super) struct Flight {
    pub token: Token,
    pub operation: Operation,
    /// Bytes of a send that are gone already.
    pub sent: u32,
}

/// Each descriptor has at most one operation on each side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Reads,
    Writes,
}

impl Side {
    pub const BOTH: [Side; 2] = [Side::Reads, Side::Writes];
}

/// The descriptor and side that an operation works on.
pub(super) fn place(operation: &Operation) -> (RawFd, Side) {
    match *operation {
        Operation::Accept { listener } => (listener, Side::Reads),
        Operation::Receive { socket, .. } => (socket, Side::Reads),
        Operation::Read { file, .. } => (file, Side::Reads),
        Operation::Send { socket, .. } | Operation::Connect { socket, .. } => (socket, Side::Writes),
    }
}

/// What epoll must tell for an operation. Errors and hang-ups it tells anyway.
pub(super) fn interest(operation: &Operation) -> EventFlags {
    let reads = EventFlags::IN | EventFlags::RDHUP | EventFlags::PRI | EventFlags::ET;
    match place(operation).1 {
        Side::Reads => reads,
        Side::Writes => reads | EventFlags::OUT,
    }
}

/// One descriptor.
#[derive(Debug)]
pub(super) struct Watch {
    /// Told apart from those that had the same number before.
    generation: u32,
    /// What epoll tells; empty before something had to wait.
    pub interest: EventFlags,
    /// A try may find something: nobody knows better, or epoll said so.
    readable: bool,
    writable: bool,
    /// The stream's end or an error has been told, once: reads go on until they find it, however little each brings.
    ends: bool,
    /// Urgent data have been told: a read stops short in front of them though more may lie behind.
    urgent: bool,
    reader: Option<Flight>,
    writer: Option<Flight>,
}

impl Watch {
    fn new(generation: u32) -> Watch {
        Watch {
            generation,
            interest: EventFlags::empty(),
            readable: true,
            writable: true,
            ends: false,
            urgent: false,
            reader: None,
            writer: None,
        }
    }

    /// What an event of `file` carries.
    pub fn key(&self, file: RawFd) -> u64 {
        u64::from(self.generation) << 32 | u64::from(file as u32)
    }

    pub fn may(&self, side: Side) -> bool {
        match side {
            Side::Reads => self.readable,
            Side::Writes => self.writable,
        }
    }

    pub fn is_taken(&self, side: Side) -> bool {
        self.slot(side).is_some()
    }

    pub fn take(&mut self, side: Side) -> Option<Flight> {
        self.slot_mut(side).take()
    }

    pub fn put(&mut self, side: Side, flight: Flight) {
        *self.slot_mut(side) = Some(flight);
    }

    /// Takes note of what epoll told; the sides whose operation is worth a try.
    pub fn note(&mut self, told: EventFlags) -> &'static [Side] {
        let over = told.intersects(EventFlags::HUP | EventFlags::ERR);
        self.ends |= over || told.contains(EventFlags::RDHUP);
        self.urgent |= told.contains(EventFlags::PRI);
        let reads = self.ends || told.intersects(EventFlags::IN | EventFlags::PRI);
        let writes = over || told.contains(EventFlags::OUT);
        self.readable |= reads;
        self.writable |= writes;
        match (reads, writes) {
            (true, true) => &Side::BOTH,
            (true, false) => &[Side::Reads],
            (false, true) => &[Side::Writes],
            (false, false) => &[],
        }
    }

    /// epoll tells of all that is and will be ready from now on; what was guessed before is forgotten.
    pub fn registered(&mut self, flags: EventFlags) {
        self.interest = flags;
        self.readable = false;
        self.writable &= !flags.contains(EventFlags::OUT);
    }

    /// A read filled its buffer, or brought less. Less means that the stream is empty and epoll will tell of more (epoll(7)),
    /// but not where the end was told already, or urgent data made the read stop.
    pub fn has_read(&mut self, filled: bool) {
        self.readable = filled || self.ends || self.urgent;
    }

    pub fn is_empty(&mut self) {
        self.readable = false;
        self.ends = false;
    }

    pub fn is_full(&mut self) {
        self.writable = false;
    }

    fn slot(&self, side: Side) -> &Option<Flight> {
        match side {
            Side::Reads => &self.reader,
            Side::Writes => &self.writer,
        }
    }

    fn slot_mut(&mut self, side: Side) -> &mut Option<Flight> {
        match side {
            Side::Reads => &mut self.reader,
            Side::Writes => &mut self.writer,
        }
    }
}

/// All descriptors, by number, and where each operation is.
#[derive(Debug, Default)]
pub(super) struct Watches {
    /// As many as the highest number so far; the limit of open descriptors bounds it.
    all: Vec<Watch>,
    /// By the token's slot. What is over lies here until the slot is used again.
    places: Vec<Option<(Token, RawFd)>>,
}

impl Watches {
    pub fn of(&mut self, file: RawFd) -> &mut Watch {
        let number = file.max(0) as usize;
        if number >= self.all.len() {
            self.all.resize_with(number + 1, || Watch::new(0));
        }
        &mut self.all[number]
    }

    /// The descriptor of an event, if it is still the one that was registered.
    pub fn of_key(&mut self, key: u64) -> Option<(RawFd, &mut Watch)> {
        let file = key as u32 as RawFd;
        let watch = self.all.get_mut(file as usize)?;
        (watch.key(file) == key).then_some((file, watch))
    }

    /// The number now stands for another file than before.
    pub fn renew(&mut self, file: RawFd) {
        let watch = self.of(file);
        debug_assert!(watch.reader.is_none() && watch.writer.is_none(), "descriptor {file} was closed in use");
        *watch = Watch::new(watch.generation.wrapping_add(1));
    }

    pub fn remember(&mut self, token: Token, file: RawFd) {
        if token.slot() >= self.places.len() {
            self.places.resize(token.slot() + 1, None);
        }
        self.places[token.slot()] = Some((token, file));
    }

    /// Where an operation is, unless it is over.
    pub fn find(&mut self, token: Token) -> Option<(RawFd, Side)> {
        let (_, file) = (*self.places.get(token.slot())?).filter(|(known, _)| *known == token)?;
        let watch = self.of(file);
        let holds = |side: &Side| watch.slot(*side).as_ref().is_some_and(|flight| flight.token == token);
        Side::BOTH.into_iter().find(holds).map(|side| (file, side))
    }
}
