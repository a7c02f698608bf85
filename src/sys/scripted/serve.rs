//! What becomes of operations: the kernel's own work, one look at each of them a turn.

use super::super::kernel::Completion;
use super::super::socket::Address;
use super::faults::Canary;
use super::files::File;
use super::flight::{Fate, Flight, What};
use super::pipe::{Pipe, Readable, Side};
use super::state::{Mode, Server, State};

/// Where connects come from.
const OUR_ADDRESS: [u8; 4] = [127, 0, 0, 1];

/// What an operation had to say.
struct Word {
    result: i32,
    buffer: Option<u16>,
}

impl Word {
    fn of(result: i32) -> Option<Word> {
        Some(Word { result, buffer: None })
    }
}

impl State {
    /// Gives each operation its chance, in any order.
    pub fn serve(&mut self, completions: &mut Vec<Completion>) {
        let mut flights = std::mem::take(&mut self.flights);
        self.dice.shuffle(&mut flights);
        flights.retain_mut(|flight| !self.advance(flight, completions));
        self.flights = flights;
    }

    /// True: that was its last word.
    fn advance(&mut self, flight: &mut Flight, completions: &mut Vec<Completion>) -> bool {
        let cancelled = flight.cancel.is_some_and(|cancel| cancel.at <= self.now);
        if !cancelled && flight.not_before > self.now {
            return false;
        }
        if let What::Accept { .. } = flight.what {
            return self.accept(flight, cancelled, completions);
        }
        let loses = flight.cancel.is_some_and(|cancel| cancel.loses);
        let word = if cancelled && !loses { None } else { self.attempt(flight) };
        let word = match (&flight.what, word) {
            (_, Some(word)) => word,
            (_, None) if !cancelled => return false,
            (What::Send { done, .. }, None) if *done > 0 => Word { result: *done as i32, buffer: None },
            (_, None) => Word { result: -libc::ECANCELED, buffer: None },
        };
        if let What::Send { memory, .. } = &flight.what
            && !memory.is_unchanged()
        {
            self.violated(format!("the memory of {:?} changed under way", flight.what));
        }
        self.complete(flight, word, false, completions);
        true
    }

    fn complete(&mut self, flight: &Flight, word: Word, more: bool, completions: &mut Vec<Completion>) {
        let Word { result, buffer } = word;
        self.trace(|| format!("done  {:#x} {result}{}", flight.token.0, if more { ", more" } else { "" }));
        completions.push(Completion { token: flight.token, result, buffer, more });
    }

    fn attempt(&mut self, flight: &mut Flight) -> Option<Word> {
        let begun = matches!(flight.what, What::Send { done: 1.., .. });
        match flight.fate {
            Fate::Error(error) if !begun => {
                self.note_harm(flight, error);
                return Word::of(-error);
            }
            Fate::Severed(error) if !begun => {
                let pipe = self.pipe_of(flight.file()).filter(|pipe| !self.pipes[*pipe].is_broken(Side::Ours));
                if let Some(pipe) = pipe {
                    let arrival = self.arrival();
                    self.pipes[pipe].sever(Side::Ours, arrival);
                    return Word::of(-error);
                }
            }
            _ => {}
        }
        match &mut flight.what {
            What::Receive { .. } => self.receive(flight),
            What::Send { .. } => self.send(flight),
            What::Connect { .. } => self.connect(flight),
            What::Read { file, memory } => memory.read(*file).and_then(Word::of),
            What::Poll { file } => match self.files.of(*file) {
                Some(File::Door(door)) if self.doors[door].backlog.is_empty() => None,
                _ => Word::of(i32::from(libc::POLLIN)),
            },
            What::Accept { .. } => None,
        }
    }

    /// A connection to `server`, which finds it in its queue.
    fn meet(&mut self, server: usize) -> usize {
        let number = self.pipes.len();
        self.stirred = true;
        let Server { address, backlog, windows, .. } = &mut self.servers[server];
        backlog.push_back(number);
        let addresses = match address {
            Address::Ip(peer) => Some(((OUR_ADDRESS, 1024 + number as u16).into(), *peer)),
            Address::Unix(_) => None,
        };
        let pipe = Pipe::new(addresses.is_some(), addresses, *windows);
        self.pipes.push(pipe);
        number
    }

    /// Errors that a connection cannot get over are counted with it.
    fn note_harm(&mut self, flight: &Flight, error: i32) {
        let receive = matches!(flight.what, What::Receive { .. });
        let passing = matches!(error, libc::EINTR | libc::EAGAIN) || receive && error == libc::ENOBUFS;
        if let (false, Some(pipe)) = (passing, self.pipe_of(flight.file())) {
            self.pipes[pipe].facts.harm += 1;
        }
    }

    fn accept(&mut self, flight: &mut Flight, cancelled: bool, completions: &mut Vec<Completion>) -> bool {
        let Some(File::Door(door)) = self.files.of(flight.file()) else { return true };
        let forgets = self.faults.canary == Some(Canary::ForgetsEnd);
        if let Fate::Error(error) = flight.fate {
            self.complete(flight, Word { result: -error, buffer: None }, forgets, completions);
            return true;
        }
        while !cancelled || flight.cancel.is_some_and(|cancel| cancel.loses) {
            let Some(pipe) = self.doors[door].backlog.front().copied() else { break };
            let opened = self.files.open(File::Stream { pipe, abort: false });
            let number = match opened {
                Ok(number) => number,
                Err(error) => {
                    self.complete(flight, Word { result: -error, buffer: None }, false, completions);
                    return true;
                }
            };
            self.doors[door].backlog.pop_front();
            self.pipes[pipe].facts.taken_at = Some(self.now);
            let ends = cancelled || self.dice.chance(self.faults.accept_ends);
            self.complete(flight, Word { result: number, buffer: None }, !ends || forgets, completions);
            if ends {
                return true;
            }
            flight.not_before = self.now + self.faults.lateness(&mut self.dice);
            if flight.not_before > self.now {
                return false;
            }
        }
        if cancelled {
            self.complete(flight, Word { result: -libc::ECANCELED, buffer: None }, forgets, completions);
        }
        cancelled
    }

    fn receive(&mut self, flight: &mut Flight) -> Option<Word> {
        let What::Receive { socket, group } = flight.what else { return None };
        let Some(pipe) = self.pipe_of(socket) else { return Word::of(-libc::EBADF) };
        let available = match self.pipes[pipe].readable(Side::Ours) {
            Readable::Nothing => return None,
            Readable::Error(error) => {
                self.pipes[pipe].error_told(Side::Ours);
                return Word::of(-error);
            }
            Readable::End => {
                // Some kernels bring the buffer along with the end of file, some do not.
                let buffer = if self.dice.chance(200) { self.fill(group, &[]) } else { None };
                return Some(Word { result: 0, buffer });
            }
            Readable::Bytes(available) => available,
        };
        if self.groups[group as usize].free().next().is_none() {
            return Word::of(-libc::ENOBUFS);
        }
        let whole = available.min(self.groups[group as usize].bytes());
        let count = match flight.fate {
            Fate::Short => self.dice.between(1, whole as u64) as usize,
            _ => whole,
        };
        let mut bytes = self.pipes[pipe].take(Side::Ours, count);
        self.stirred = true;
        if flight.cancel.is_none() {
            self.pipes[pipe].facts.read_by_us += count as u64;
        }
        match self.faults.canary {
            Some(Canary::LosesByte) if count > 1 => drop(bytes.pop()),
            Some(Canary::RepeatsByte) if count < whole => bytes.push(bytes[count - 1]),
            _ => {}
        }
        let buffer = self.fill(group, &bytes);
        Some(Word { result: bytes.len() as i32, buffer })
    }

    /// A buffer with `bytes`.
    fn fill(&mut self, group: u16, bytes: &[u8]) -> Option<u16> {
        let number = group as usize;
        let mut choices: Vec<u16> = self.groups[number].free().collect();
        if self.faults.canary == Some(Canary::LendsBufferTwice) {
            choices.extend(self.groups[number].taken());
        }
        let buffer = *choices.get(self.dice.below(choices.len() as u64) as usize)?;
        if !self.groups[number].hand_out(buffer, bytes) {
            self.violated(format!("buffer {buffer} of group {group} was written to after it had been given back"));
        }
        Some(buffer)
    }

    fn send(&mut self, flight: &mut Flight) -> Option<Word> {
        let Flight { what, fate, not_before, .. } = flight;
        let What::Send { socket, memory, done } = what else { return None };
        let Some(pipe) = self.pipe_of(*socket) else { return Word::of(-libc::EBADF) };
        let room = match self.pipes[pipe].room(Side::Ours) {
            Ok(room) => room,
            Err(_) if *done > 0 => return Word::of(*done as i32),
            Err(error) => {
                self.pipes[pipe].error_told(Side::Ours);
                return Word::of(-error);
            }
        };
        let left = &memory.bytes()[*done..];
        let mut count = left.len().min(room);
        if count == 0 {
            return None;
        }
        if *fate == Fate::Short {
            count = self.dice.between(1, count as u64) as usize;
        }
        let arrival = self.now + self.faults.journey(&mut self.dice);
        let lost = usize::from(self.faults.canary == Some(Canary::SendsLess) && count > 1);
        self.pipes[pipe].send(Side::Ours, &left[..count - lost], arrival);
        *done += count;
        if *done == memory.bytes().len() || *fate == Fate::Short {
            return Word::of(*done as i32);
        }
        *not_before = self.now + self.faults.lateness(&mut self.dice);
        None
    }

    fn connect(&mut self, flight: &mut Flight) -> Option<Word> {
        let What::Connect { socket, to, answered } = &mut flight.what else { return None };
        let Some(server) = *to else { return Word::of(-libc::ECONNREFUSED) };
        if *answered {
            return Word::of(0);
        }
        match self.servers[server].mode {
            Mode::Refuses => return Word::of(-libc::ECONNREFUSED),
            Mode::Silent => return Word::of(-libc::ETIMEDOUT),
            Mode::Answers => {}
        }
        *answered = true;
        flight.not_before = self.now + self.faults.journey(&mut self.dice);
        let pipe = self.meet(server);
        self.files.change(*socket, File::Stream { pipe, abort: false });
        None
    }
}
