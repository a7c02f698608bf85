//! The scripted kernel as the reactor sees it.

use super::super::kernel::{Completion, End, Family, Kernel, Operation, Token, Wait};
use super::files::{File, Files};
use super::flight::{self, Incoming, Outgoing, What};
use super::net::Shared;
use super::pipe::Side;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

/// Turns after which a simulation that does not come to rest is given up.
const TURNS_MAX: u64 = 400_000;
/// Work between two waits costs at most this much time.
const TURN_COSTS_MAX: Duration = Duration::from_micros(20);
/// Oversleeping.
const SLEEPS_TOO_LONG_MAX: Duration = Duration::from_millis(5);

/// The kernel's side; [`super::Net`] is the world's.
pub(super) struct Scripted(pub Rc<Shared>);

impl Scripted {
    /// The moment until which a turn may sleep; `None`: for ever.
    fn deadline(&self, wait: Wait) -> Option<Duration> {
        let state = self.0.state.borrow();
        match wait {
            Wait::Not => Some(state.now),
            Wait::Until(moment) => Some(moment.saturating_duration_since(state.base)),
            Wait::Forever => None,
        }
    }

    /// Panics in the caller's task if chance will have it so, without the hook that would print it.
    fn panic_perhaps(&self, file: Option<RawFd>) {
        let panics = self.0.state.borrow_mut().panics_now(file);
        if panics {
            std::panic::resume_unwind(Box::new("a panic of the script"));
        }
    }

    /// Moves the clock to the next moment at which something may happen. False: the turn is over.
    fn sleep(&self, deadline: Option<Duration>) -> io::Result<bool> {
        let state = &mut *self.0.state.borrow_mut();
        if deadline.is_some_and(|deadline| deadline <= state.now) {
            return Ok(false);
        }
        let badly = state.dice.chance(state.faults.wakes_badly);
        if badly && state.dice.chance(500) {
            return Ok(false);
        }
        let next = [state.next_moment(), deadline].into_iter().flatten().min();
        let Some(next) = next else {
            if self.0.waiting() == 0 {
                // The last task of the world has just ended; whoever runs the loop will see it.
                return Ok(false);
            }
            state.violated("nothing will ever happen again, and the loop sleeps".to_owned());
            return Err(io::Error::other("the simulation is stuck"));
        };
        state.now = next;
        if badly {
            state.now += Duration::from_nanos(state.dice.below(SLEEPS_TOO_LONG_MAX.as_nanos() as u64));
        }
        Ok(true)
    }
}

impl Kernel for Scripted {
    unsafe fn start(&mut self, token: Token, operation: Operation) {
        let state = &mut *self.0.state.borrow_mut();
        let what = match operation {
            Operation::Accept { listener } => What::Accept { listener },
            Operation::Receive { socket, group } => What::Receive { socket, group },
            Operation::Send { socket, data, len } => {
                // SAFETY: the caller promises that the memory stays until the last completion.
                What::Send { socket, memory: unsafe { Outgoing::new(data, len) }, done: 0 }
            }
            Operation::Connect { socket, .. } => {
                // SAFETY: the caller promises that the address is valid.
                let target = unsafe { flight::target(&operation) };
                let to = state.servers.iter().position(|server| Some(&server.address) == target.as_ref());
                if let Some(to) = to {
                    state.servers[to].attempts.push(state.now);
                }
                What::Connect { socket, to, answered: false }
            }
            Operation::Read { file, data, len } => {
                // SAFETY: the caller promises that the memory stays until the last completion.
                What::Read { file, memory: unsafe { Incoming::new(data, len) } }
            }
            // Of listening sockets: elsewhere kernel TLS alone asks for it, and this kernel has none.
            Operation::Poll { file, .. } => What::Poll { file },
        };
        state.start(token, what);
    }

    fn cancel(&mut self, token: Token) {
        self.0.state.borrow_mut().cancel(token);
    }

    fn turn(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()> {
        let deadline = self.deadline(wait);
        {
            let state = &mut *self.0.state.borrow_mut();
            state.turns += 1;
            if state.turns > TURNS_MAX {
                state.violated(format!("no rest after {TURNS_MAX} turns"));
                return Err(io::Error::other("the simulation does not end"));
            }
            state.now += Duration::from_nanos(state.dice.between(1000, TURN_COSTS_MAX.as_nanos() as u64));
        }
        let waiting = self.0.waiting();
        loop {
            self.0.state.borrow_mut().settle();
            self.0.poll_world();
            self.0.state.borrow_mut().serve(completions);
            let just_over = waiting > 0 && self.0.waiting() == 0;
            if !completions.is_empty() || just_over || !self.sleep(deadline)? {
                return Ok(());
            }
        }
    }

    fn buffers(&self, group: u16) -> usize {
        self.0.state.borrow().groups[group as usize].count()
    }

    fn buffer(&mut self, group: u16, buffer: u16) -> (*mut u8, usize) {
        let state = &mut *self.0.state.borrow_mut();
        let group = &state.groups[group as usize];
        let bytes = group.bytes();
        let Some(memory) = group.lent(buffer) else {
            state.violated(format!("buffer {buffer} is asked for and was not handed out"));
            return (NonNull::dangling().as_ptr(), 0);
        };
        (memory.as_ptr().cast(), bytes)
    }

    fn recycle(&mut self, group: u16, buffer: u16) {
        let state = &mut *self.0.state.borrow_mut();
        if !state.groups[group as usize].take_back(buffer) {
            state.violated(format!("buffer {buffer} of group {group} came back twice"));
        }
    }

    fn now(&self) -> Instant {
        let state = self.0.state.borrow();
        state.base + state.now
    }

    fn wall(&self) -> SystemTime {
        self.0.state.borrow().wall()
    }

    fn socket(&mut self, family: Family) -> io::Result<RawFd> {
        self.panic_perhaps(None);
        let state = &mut *self.0.state.borrow_mut();
        if state.dice.chance(state.faults.socket_fails) {
            let error = state.dice.pick(&[libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM]);
            return Err(io::Error::from_raw_os_error(error));
        }
        state.files.open(File::Fresh(family)).map_err(io::Error::from_raw_os_error)
    }

    fn accept_waiting(&mut self, listener: RawFd) -> io::Result<RawFd> {
        self.0.state.borrow_mut().accept_waiting(listener).map_err(io::Error::from_raw_os_error)
    }

    fn begin_no_more(&mut self, listener: RawFd) -> io::Result<()> {
        self.0.state.borrow_mut().begin_no_more(listener);
        Ok(())
    }

    fn close(&mut self, file: RawFd) {
        self.0.state.borrow_mut().close(file);
        if !Files::is_made_up(file) {
            // SAFETY: the reactor owns the descriptor and calls this once, when no operation uses it.
            drop(unsafe { OwnedFd::from_raw_fd(file) });
        }
    }

    fn shutdown_send(&mut self, socket: RawFd) -> io::Result<()> {
        self.panic_perhaps(Some(socket));
        let state = &mut *self.0.state.borrow_mut();
        let arrival = state.arrival();
        let ended = match state.pipe_of(socket) {
            Some(pipe) => state.pipes[pipe].fin(Side::Ours, arrival),
            None => Err(libc::ENOTCONN),
        };
        state.trace(|| format!("fin   {socket} {ended:?}"));
        ended.map_err(io::Error::from_raw_os_error)
    }

    fn reset_on_close(&mut self, socket: RawFd) {
        let state = &mut *self.0.state.borrow_mut();
        if let Some(File::Stream { pipe, .. }) = state.files.of(socket) {
            state.files.change(socket, File::Stream { pipe, abort: true });
        }
    }

    fn address(&mut self, socket: RawFd, end: End) -> io::Result<SocketAddr> {
        self.panic_perhaps(Some(socket));
        let state = self.0.state.borrow();
        let gone = || io::Error::from_raw_os_error(libc::ENOTCONN);
        let pipe = &state.pipes[state.pipe_of(socket).ok_or_else(gone)?];
        let (ours, peers) = pipe.addresses.ok_or(io::ErrorKind::Unsupported)?;
        match end {
            End::Local => Ok(ours),
            // Linux forgets the peer with the reset.
            End::Peer if pipe.is_broken(Side::Ours) => Err(gone()),
            End::Peer => Ok(peers),
        }
    }
}
