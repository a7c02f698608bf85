//! Client to backend: records are opened by the kernel and go through a pipe.
//!
//! `splice` says 0 for an empty record as for the end, EINVAL for whatever is not data, and some errors only once: so
//! numbers of records tell the first two apart, `recvmsg` reads what is not data, and the first error is final.

use super::super::Host;
use super::super::end::Cause;
use super::super::transfer::{DirectionEnd, First};
use super::By;
use super::records::Next;
use super::transfer::{KernelTransfer, Misses};
use crate::config::limits;
use crate::sys::Interest;
use crate::sys::ktls::{ALERT, Direction, Record, Trouble};
use crate::sys::splice::Pipe;
use crate::tls::Said;
use crate::wire::audit::Path;
use std::io;
use std::time::Instant;

/// Why no more was moved into the pipe.
enum Stop {
    /// Enough for now.
    Enough,
    /// Nothing is there yet.
    Wait,
    /// What is next is no data, or the end: to be read by hand.
    ByHand(Expected),
    Broken(io::Error),
}

/// What reading by hand may find.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// Anything, also nothing.
    Anything,
    /// Something: the kernel said that it is there.
    Something,
}

/// What reading by hand came to.
enum Found {
    Moved,
    Nothing,
    Closed,
    ReceiverGone,
}

/// What the direction remembers from one read to the next.
#[derive(Default)]
struct Memory {
    misses: Misses,
    /// How many records had been received when splice last said 0.
    zero_at: Option<u64>,
    /// Empty records in a row.
    empty: u32,
}

impl<H: Host> KernelTransfer<'_, H> {
    pub(super) async fn upward(&self, first: First) -> Result<DirectionEnd, Cause> {
        let First { bytes, early, peer_closed } = first;
        debug_assert!(!peer_closed, "a client that ended stays in user space");
        if bytes.is_empty() {
            self.host.shelf().give(bytes);
        } else if !self.carry_up(bytes, early, Path::User).await {
            return Ok(DirectionEnd::ReceiverGone);
        }
        let mut memory = Memory::default();
        loop {
            let found = match self.records.by(Direction::Receive) {
                By::Kernel => self.opened_by_kernel(&mut memory).await?,
                By::Us => self.opened_here(&mut memory).await?,
            };
            match found {
                Found::Moved => {
                    memory.misses.hit();
                    // Nothing of this waits while both ends keep up: others must have their turn.
                    futures_lite::future::yield_now().await;
                }
                Found::Nothing => self.wait(self.client, Interest::Read, &memory.misses).await,
                Found::ReceiverGone => return Ok(DirectionEnd::ReceiverGone),
                Found::Closed => break,
            }
        }
        if self.backend.shutdown_send().is_err() {
            self.marks.backend_broke.set(true);
            return Ok(DirectionEnd::ReceiverGone);
        }
        self.marks.upward_done.set(true);
        Ok(DirectionEnd::Orderly)
    }

    async fn opened_by_kernel(&self, memory: &mut Memory) -> Result<Found, Cause> {
        match self.spliced(memory).await? {
            None => Ok(Found::ReceiverGone),
            Some(Stop::Enough) => Ok(Found::Moved),
            Some(Stop::Wait) => Ok(Found::Nothing),
            Some(Stop::ByHand(expected)) => self.by_hand(expected, memory).await,
            Some(Stop::Broken(error)) => Err(self.broken(&error)),
        }
    }

    /// Takes what was read: data up to the first record that is none, and that record. Reads more when nothing is left.
    async fn opened_here(&self, memory: &mut Memory) -> Result<Found, Cause> {
        let mut plain = self.host.shelf().take();
        let next = self.records.open(&mut plain);
        let count = plain.len();
        if count == 0 {
            self.host.shelf().give(plain);
        } else {
            self.note_data(memory);
            if !self.carry_up(plain, count, Path::User).await {
                return Ok(Found::ReceiverGone);
            }
        }
        match next.map_err(|failure| self.refuse(&failure))? {
            Next::Empty => self.note_empty(memory).map(|()| Found::Moved),
            Next::Control { kind, body } => self.obey(self.judge(kind, &body)?).await,
            Next::Missing => match self.records.read(self.client, self.host.shelf()) {
                Ok(0) => Err(self.ended()),
                Ok(_) => {
                    self.touch();
                    Ok(Found::Moved)
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Found::Moved),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Found::Nothing),
                Err(error) => Err(self.broken(&error)),
            },
        }
    }

    /// The end of the client's stream, which no close_notify announced.
    fn ended(&self) -> Cause {
        // A reset is told once, there to a send: what a receive then sees as the end is none.
        if self.marks.client_broke.get() { Cause::ClientReset } else { Cause::Truncated }
    }

    /// What a record that is not data means.
    fn judge(&self, kind: u8, body: &[u8]) -> Result<Said, Cause> {
        self.touch();
        let said = self.session.borrow_mut().control(kind, body, self.host.reactor().now());
        said.map_err(|failure| self.refuse(&failure))
    }

    /// Moves what is there through a pipe. `None`: the backend is gone.
    async fn spliced(&self, memory: &mut Memory) -> Result<Option<Stop>, Cause> {
        let Some(mut pipe) = self.pipe(Direction::Receive) else { return Ok(Some(Stop::ByHand(Expected::Anything))) };
        let stop = self.fill(&mut pipe, memory)?;
        let misses = Misses::default();
        while !pipe.is_empty() {
            match pipe.drain(self.backend) {
                Ok(moved) if moved > 0 => {
                    misses.hit();
                    self.went_up(Path::Splice, moved);
                }
                Err(error) if is_final(&error) => {
                    self.marks.backend_broke.set(true);
                    return Ok(None);
                }
                _ => self.wait(self.backend, Interest::Write, &misses).await,
            }
        }
        Ok(Some(stop))
    }

    /// One record a call comes into the pipe. Never waits.
    fn fill(&self, pipe: &mut Pipe, memory: &mut Memory) -> Result<Stop, Cause> {
        let enough = pipe.capacity().min(limits::PIPE_FILL_BYTES);
        while pipe.len() < enough {
            match pipe.fill_records(self.client, enough - pipe.len()) {
                Ok(0) => {
                    let received = self.records.received().map_err(|error| self.broken(&error))?;
                    if memory.zero_at == Some(received) {
                        // Nothing was received since it last said 0: no record is empty, the stream is at its end.
                        return Ok(Stop::ByHand(Expected::Anything));
                    }
                    memory.zero_at = Some(received);
                    self.note_empty(memory)?;
                }
                Ok(_) => self.note_data(memory),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(if pipe.is_empty() { Stop::Wait } else { Stop::Enough });
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if Trouble::of(&error) == Trouble::NoData => {
                    return Ok(Stop::ByHand(Expected::Something));
                }
                Err(error) => return Ok(Stop::Broken(error)),
            }
        }
        Ok(Stop::Enough)
    }

    fn note_data(&self, memory: &mut Memory) {
        memory.empty = 0;
        self.session.borrow_mut().note_data();
        #[cfg(debug_assertions)]
        super::super::fault::panic_if_asked("transfer", self.account.sni());
        #[cfg(debug_assertions)]
        super::super::fault::hang_if_asked("transfer", self.account.sni());
    }

    fn note_empty(&self, memory: &mut Memory) -> Result<(), Cause> {
        self.touch();
        memory.empty += 1;
        match memory.empty > limits::EMPTY_RECORDS_MAX {
            true => Err(self.tell(Some(UNEXPECTED_MESSAGE), "too many empty records")),
            false => Ok(()),
        }
    }

    /// Reads one record, or a buffer of data, into user space.
    async fn by_hand(&self, expected: Expected, memory: &mut Memory) -> Result<Found, Cause> {
        let mut buffer = self.host.shelf().take();
        buffer.resize(limits::TLS_PLAIN_BYTES_MAX, 0);
        let record = self.records.receive(&mut buffer);
        match record {
            Ok(Record::Data(0)) => {
                self.host.shelf().give(buffer);
                self.note_empty(memory)?;
                Ok(Found::Moved)
            }
            Ok(Record::Data(count)) => {
                buffer.truncate(count);
                self.note_data(memory);
                match self.carry_up(buffer, count, Path::Ktls).await {
                    true => Ok(Found::Moved),
                    false => Ok(Found::ReceiverGone),
                }
            }
            Ok(Record::Control { kind, len }) => {
                let said = self.judge(kind, &buffer[..len]);
                self.host.shelf().give(buffer);
                self.obey(said?).await
            }
            Ok(Record::End) => Err(self.ended()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Found::Moved),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => match expected {
                Expected::Anything => Ok(Found::Nothing),
                // The kernel said that something is there and does not give it: it said so of a broken record, once.
                Expected::Something => {
                    Err(self.tell(Some(UNEXPECTED_MESSAGE), "a record that the kernel does not give"))
                }
            },
            Err(error) => Err(self.broken(&error)),
        }
    }

    async fn obey(&self, said: Said) -> Result<Found, Cause> {
        match said {
            Said::Closed => return Ok(Found::Closed),
            Said::Nothing => {}
            Said::Renegotiate => {
                // A warning that finds no room is not missed by anybody.
                self.say_now(ALERT, &[WARNING, NO_RENEGOTIATION]);
            }
            Said::NewKeys { keys, answer, not_before } => {
                self.install(Direction::Receive, &keys)?;
                self.host.key_updated(Direction::Receive);
                if answer && !self.records.can_change_ours() {
                    return Err(self.cannot_change("the client asks for new keys of ours"));
                }
                if answer {
                    self.owed.set(true);
                    let waker = self.owed_waker.borrow_mut().take();
                    if let Some(waker) = waker {
                        waker.wake();
                    }
                }
                if let Some(moment) = not_before {
                    self.hold_back(moment).await?;
                }
            }
        }
        Ok(Found::Moved)
    }

    /// Reads nothing before that moment. A client that is gone is not waited for: what it left unread may be thousands of
    /// changes of keys.
    async fn hold_back(&self, moment: Instant) -> Result<(), Cause> {
        let rest = async {
            self.host.reactor().sleep_until(moment).await;
            Ok(())
        };
        let gone = async {
            self.wait(self.client, Interest::End, &Misses::default()).await;
            if self.marks.downward_done.get() {
                // Both directions may be at their end in order, which looks the same.
                std::future::pending::<()>().await;
            }
            Err(Cause::ClientReset)
        };
        futures_lite::future::or(rest, gone).await
    }

    /// Sends bytes from user space to the backend; the last `count` are the client's own. False: the backend is gone.
    async fn carry_up(&self, bytes: Vec<u8>, count: usize, path: Path) -> bool {
        let sent = self.send_all(self.backend, &bytes, |_| ()).await;
        self.host.shelf().give(bytes);
        if sent.is_err() {
            self.marks.backend_broke.set(true);
            return false;
        }
        self.went_up(path, count);
        true
    }
}

/// Whether an error ends the writing, rather than put it off.
pub(super) fn is_final(error: &io::Error) -> bool {
    !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

const WARNING: u8 = 1;
const UNEXPECTED_MESSAGE: u8 = 10;
const NO_RENEGOTIATION: u8 = 100;
