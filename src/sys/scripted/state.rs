//! Everything that the scripted kernel knows: the clock, connections, descriptors, operations, and what went wrong.

use super::super::buffers::BufferSizes;
use super::super::kernel::Token;
use super::super::socket::Address;
use super::buffers::Group;
use super::dice::Dice;
use super::faults::Faults;
use super::files::{File, Files};
use super::flight::{Cancel, Fate, Flight, What};
use super::pipe::{Close, Pipe, Side};
use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Complaints kept; the first tell the cause.
const VIOLATIONS_MAX: usize = 20;

pub(super) struct State {
    pub base: Instant,
    pub now: Duration,
    /// The wall clock at the start, in seconds since 1970, jumps added.
    pub wall: i64,
    pub dice: Dice,
    pub faults: Faults,
    pub pipes: Vec<Pipe>,
    pub doors: Vec<Door>,
    pub servers: Vec<Server>,
    pub files: Files,
    pub flights: Vec<Flight>,
    pub groups: [Group; 2],
    /// When the world's tasks want to be looked at.
    pub alarms: BTreeSet<Duration>,
    /// Something changed that those tasks may wait for.
    pub stirred: bool,
    pub violations: Vec<String>,
    pub traced: bool,
    pub turns: u64,
    /// Panics that calls made.
    pub panics: u64,
}

/// A listening socket of the process under test.
#[derive(Debug)]
pub(super) struct Door {
    pub address: SocketAddr,
    pub backlog: VecDeque<usize>,
    pub open: bool,
}

/// A server that the process under test connects to.
#[derive(Debug)]
pub(super) struct Server {
    pub address: Address,
    pub mode: Mode,
    pub backlog: VecDeque<usize>,
    pub windows: (usize, usize),
    /// When each connect to it was started.
    pub attempts: Vec<Duration>,
}

/// How a server meets a connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Answers,
    /// RST, or ENOENT for a unix path.
    Refuses,
    /// The SYN is lost.
    Silent,
}

/// When a lost SYN is given up (Linux: tcp_syn_retries 6).
const CONNECT_GIVES_UP: Duration = Duration::from_secs(127);

/// What accept may say though somebody waits.
const ACCEPT_ERRORS: [i32; 6] =
    [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::ECONNABORTED, libc::EINTR];

impl State {
    pub fn new(dice: Dice, faults: Faults, buffers: BufferSizes, wall: SystemTime) -> State {
        let groups = [buffers.small, buffers.large].map(|(count, bytes)| Group::new(count, bytes));
        State {
            base: Instant::now(),
            now: Duration::ZERO,
            wall: wall.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64),
            dice,
            pipes: Vec::new(),
            doors: Vec::new(),
            servers: Vec::new(),
            files: Files::new(faults.descriptors_max, faults.reuses_numbers),
            faults,
            flights: Vec::new(),
            groups,
            alarms: BTreeSet::new(),
            stirred: true,
            violations: Vec::new(),
            traced: false,
            turns: 0,
            panics: 0,
        }
    }

    pub fn wall(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.wall.max(0) as u64) + self.now
    }

    /// Notes a breach of the rules.
    pub fn violated(&mut self, what: String) {
        self.trace(|| format!("VIOLATED {what}"));
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(what);
        }
    }

    pub fn trace(&self, line: impl FnOnce() -> String) {
        if self.traced {
            eprintln!("{:>14.6} {}", self.now.as_secs_f64(), line());
        }
    }

    /// Whether the call that is being made, on this descriptor, is to panic.
    pub fn panics_now(&mut self, file: Option<RawFd>) -> bool {
        let panics = self.dice.chance(self.faults.panics);
        if panics {
            self.panics += 1;
            self.trace(|| format!("panic in a call on {file:?}"));
            if let Some(pipe) = file.and_then(|file| self.pipe_of(file)) {
                self.pipes[pipe].facts.harm += 1;
            }
        }
        panics
    }

    /// When a parcel sent now arrives.
    pub fn arrival(&mut self) -> Duration {
        self.now + self.faults.journey(&mut self.dice)
    }

    /// The connection behind one of our descriptors.
    pub fn pipe_of(&self, file: RawFd) -> Option<usize> {
        match self.files.of(file) {
            Some(File::Stream { pipe, .. }) => Some(pipe),
            _ => None,
        }
    }

    /// Lets arrive what is due, everywhere.
    pub fn settle(&mut self) {
        let latency = self.faults.journey(&mut self.dice);
        let now = self.now;
        for pipe in &mut self.pipes {
            self.stirred |= pipe.settle(now, latency);
        }
        while self.alarms.first().is_some_and(|alarm| *alarm <= now) {
            self.alarms.pop_first();
            self.stirred = true;
        }
    }

    /// The next moment at which anything can change by itself.
    pub fn next_moment(&self) -> Option<Duration> {
        let later = |moment: &Duration| *moment > self.now;
        let flights = self.flights.iter().flat_map(|flight| {
            let cancel = flight.cancel.map(|cancel| cancel.at);
            [Some(flight.not_before), cancel].into_iter().flatten()
        });
        let pipes = self.pipes.iter().filter_map(Pipe::next_moment);
        flights.chain(pipes).chain(self.alarms.first().copied()).filter(later).min()
    }

    /// Takes an operation in.
    pub fn start(&mut self, token: Token, what: What) {
        let fate = self.fate_of(&what);
        let not_before = self.now + self.faults.lateness(&mut self.dice) + self.inherent_delay(&what);
        let flight = Flight { token, what, not_before, cancel: None, fate };
        self.trace(|| format!("start {:#x} {:?} {:?}", token.0, flight.what, fate));
        self.check_start(&flight);
        self.flights.push(flight);
    }

    fn check_start(&mut self, flight: &Flight) {
        let file = flight.file();
        let fits = match (&flight.what, self.files.of(file)) {
            (What::Accept { .. } | What::Poll { .. }, Some(File::Door(_))) => true,
            (What::Receive { .. } | What::Send { .. }, Some(File::Stream { .. })) => true,
            (What::Connect { .. }, Some(File::Fresh(_))) => true,
            (What::Read { .. }, None) => !Files::is_made_up(file),
            _ => false,
        };
        if !fits {
            self.violated(format!("{:?} on a descriptor that is {:?}", flight.what, self.files.of(file)));
        }
        if self.flights.iter().any(|other| other.token == flight.token) {
            self.violated(format!("token {:#x} names two operations", flight.token.0));
        }
        let same = |other: &&Flight| {
            let kind = std::mem::discriminant(&other.what) == std::mem::discriminant(&flight.what);
            kind && other.file() == file && other.cancel.is_none()
        };
        if let Some(other) = self.flights.iter().find(same) {
            self.violated(format!("{:?} beside {:?}: their order is chance", flight.what, other.what));
        }
    }

    fn fate_of(&mut self, what: &What) -> Fate {
        let State { dice, faults, .. } = self;
        let chances: [(u32, &[i32]); 3] = match what {
            What::Accept { .. } => [(faults.accept_fails, &ACCEPT_ERRORS), (0, &[]), (0, &[])],
            What::Receive { .. } => [
                (faults.interrupted, &[libc::EINTR, libc::EAGAIN]),
                (faults.no_buffer, &[libc::ENOBUFS]),
                (faults.fails, &[libc::ENOMEM, libc::EIO]),
            ],
            What::Send { .. } => [
                (faults.interrupted, &[libc::EINTR, libc::EAGAIN]),
                (faults.fails, &[libc::ENOMEM, libc::ENOBUFS, libc::EIO]),
                (0, &[]),
            ],
            What::Connect { .. } => {
                use libc::{EADDRNOTAVAIL, EAGAIN, ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT};
                let errors = &[EADDRNOTAVAIL, EAGAIN, ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT];
                [(faults.connect_fails, errors), (0, &[]), (0, &[])]
            }
            What::Read { .. } | What::Poll { .. } => [(0, &[]); 3],
        };
        for (chance, errors) in chances {
            if dice.chance(chance) {
                return Fate::Error(dice.pick(errors));
            }
        }
        let streams = matches!(what, What::Receive { .. } | What::Send { .. });
        match streams {
            true if dice.chance(faults.severs) => {
                Fate::Severed(dice.pick(&[libc::ECONNRESET, libc::ETIMEDOUT, libc::EHOSTUNREACH]))
            }
            true if dice.chance(faults.short) => Fate::Short,
            _ => Fate::Good,
        }
    }

    fn inherent_delay(&mut self, what: &What) -> Duration {
        match what {
            What::Connect { to: Some(server), .. } if self.servers[*server].mode == Mode::Silent => CONNECT_GIVES_UP,
            What::Connect { .. } => self.faults.journey(&mut self.dice),
            _ => Duration::ZERO,
        }
    }

    /// Asks an operation to end.
    pub fn cancel(&mut self, token: Token) {
        let at = self.now + self.faults.lateness(&mut self.dice).min(Duration::from_millis(1));
        let loses = self.dice.chance(self.faults.cancel_races);
        self.trace(|| format!("cancel {:#x}{}", token.0, if loses { ", too late" } else { "" }));
        match self.flights.iter_mut().find(|flight| flight.token == token) {
            Some(flight) => drop(flight.cancel.get_or_insert(Cancel { at, loses })),
            None => self.violated(format!("cancel of {:#x}, which has said its last word", token.0)),
        }
    }

    /// Who waits first at a door.
    pub fn accept_waiting(&mut self, listener: RawFd) -> Result<RawFd, i32> {
        let beside = |flight: &&Flight| flight.file() == listener && matches!(flight.what, What::Accept { .. });
        if let Some(flight) = self.flights.iter().find(beside) {
            self.violated(format!("accept on descriptor {listener} beside {:?}", flight.what));
        }
        let Some(File::Door(door)) = self.files.of(listener) else { return Err(libc::EBADF) };
        let pipe = *self.doors[door].backlog.front().ok_or(libc::EAGAIN)?;
        if self.dice.chance(self.faults.accept_fails) {
            return Err(self.dice.pick(&ACCEPT_ERRORS));
        }
        let file = self.files.open(File::Stream { pipe, abort: false })?;
        self.doors[door].backlog.pop_front();
        self.pipes[pipe].facts.taken_at = Some(self.now);
        self.trace(|| format!("taken {pipe} as {file}"));
        Ok(file)
    }

    /// Nobody new finds the door open.
    pub fn begin_no_more(&mut self, listener: RawFd) {
        if let Some(File::Door(door)) = self.files.of(listener) {
            self.doors[door].open = false;
        }
    }

    /// Closes a descriptor; a real one is left to the caller.
    pub fn close(&mut self, file: RawFd) {
        self.trace(|| format!("close {file} {:?}", self.files.of(file)));
        if let Some(flight) = self.flights.iter().find(|flight| flight.file() == file) {
            self.violated(format!("close of descriptor {file} under {:?}", flight.what));
        }
        match self.files.close(file) {
            Some(File::Door(door)) => {
                self.doors[door].open = false;
                for pipe in std::mem::take(&mut self.doors[door].backlog) {
                    self.close_pipe(pipe, true);
                }
            }
            Some(File::Stream { pipe, abort }) => self.close_pipe(pipe, abort),
            Some(File::Fresh(_)) => {}
            None if Files::is_made_up(file) => self.violated(format!("close of descriptor {file}, which is not open")),
            None => {}
        }
    }

    fn close_pipe(&mut self, pipe: usize, abort: bool) {
        let softened = self.faults.canary == Some(super::Canary::SoftensReset);
        let how = if abort && !softened { Close::Abort } else { Close::Orderly };
        let kept = self.dice.below(4) as usize;
        let arrival = self.arrival();
        self.pipes[pipe].close(Side::Ours, how, kept, arrival);
    }

    /// What should have been given back by now.
    pub fn leaks(&self) -> Vec<String> {
        let mut leaks = Vec::new();
        leaks.extend(self.flights.iter().map(|flight| format!("still in flight: {:?}", flight.what)));
        leaks.extend(self.files.sockets().map(|(file, what)| format!("still open: {file} {what:?}")));
        if leaks.is_empty() && self.files.len() > 0 {
            leaks.push("a listening socket is still open".to_owned());
        }
        for (number, group) in self.groups.iter().enumerate() {
            leaks.extend(group.taken().map(|buffer| format!("buffer {buffer} of group {number} never came back")));
        }
        leaks
    }
}
