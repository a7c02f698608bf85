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

/// Each descriptor has at most one operation on each side that moves bytes, and any number that only look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Reads,
    Writes,
    Looks,
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
        Operation::Poll { file, .. } => (file, Side::Looks),
    }
}

/// What epoll must tell for an operation. Errors and hang-ups it tells anyway.
pub(super) fn interest(operation: &Operation) -> EventFlags {
    let reads = EventFlags::IN | EventFlags::RDHUP | EventFlags::PRI | EventFlags::ET;
    match operation {
        Operation::Send { .. } | Operation::Connect { .. } => reads | EventFlags::OUT,
        Operation::Poll { events, .. } if events & libc::POLLOUT != 0 => reads | EventFlags::OUT,
        _ => reads,
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
    /// Whoever waits for readiness alone.
    lookers: Vec<Flight>,
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
            lookers: Vec::new(),
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
            Side::Looks => true,
        }
    }

    pub fn is_taken(&self, side: Side) -> bool {
        match side {
            Side::Reads => self.reader.is_some(),
            Side::Writes => self.writer.is_some(),
            Side::Looks => false,
        }
    }

    /// The operation on a side; of those that look, the one of this token.
    pub fn take(&mut self, side: Side, token: Token) -> Option<Flight> {
        match side {
            Side::Reads => self.reader.take_if(|flight| flight.token == token),
            Side::Writes => self.writer.take_if(|flight| flight.token == token),
            Side::Looks => {
                let place = self.lookers.iter().position(|flight| flight.token == token)?;
                Some(self.lookers.swap_remove(place))
            }
        }
    }

    pub fn put(&mut self, side: Side, flight: Flight) {
        match side {
            Side::Reads => self.reader = Some(flight),
            Side::Writes => self.writer = Some(flight),
            Side::Looks => self.lookers.push(flight),
        }
    }

    /// What waits on a side that moves bytes.
    pub fn waits(&self, side: Side) -> Option<Token> {
        match side {
            Side::Reads => self.reader.as_ref(),
            Side::Writes => self.writer.as_ref(),
            Side::Looks => None,
        }
        .map(|flight| flight.token)
    }

    /// One of those who look for what was told.
    pub fn take_looker(&mut self, told: EventFlags) -> Option<Flight> {
        let meant = |flight: &Flight| {
            let Operation::Poll { events, .. } = flight.operation else { return false };
            let always = EventFlags::ERR | EventFlags::HUP;
            told.intersects(EventFlags::from_bits_truncate(u32::from(events as u16)) | always)
        };
        let place = self.lookers.iter().position(meant)?;
        Some(self.lookers.swap_remove(place))
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

    /// A send failed. Its error was told once, and no event may come any more: the next is tried to fail as well.
    pub fn is_broken(&mut self) {
        self.writable = true;
    }

    fn is_idle(&self) -> bool {
        self.reader.is_none() && self.writer.is_none() && self.lookers.is_empty()
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
        debug_assert!(watch.is_idle(), "descriptor {file} was closed in use");
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
        if watch.lookers.iter().any(|flight| flight.token == token) {
            return Some((file, Side::Looks));
        }
        Side::BOTH.into_iter().find(|side| watch.waits(*side) == Some(token)).map(|side| (file, side))
    }
}
