//! What the reactor asks of a kernel. Three may stand here: io_uring, epoll, and a scripted one for simulations.

use super::direct;
use super::ktls::Trust;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::time::{Instant, SystemTime};

/// Names one operation in flight: a slot's index and its generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

impl Token {
    pub(super) fn new(slot: usize, generation: u32) -> Token {
        Token(u64::from(generation) << 32 | slot as u64)
    }

    /// A small number that no other operation in flight has.
    pub(super) fn slot(self) -> usize {
        (self.0 & u64::from(u32::MAX)) as usize
    }

    pub(super) fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// An operation to start. Pointers stay valid and unaliased until the operation's last completion: the reactor keeps
/// what they point to in the operation's slot.
#[derive(Debug, Clone, Copy)]
pub enum Operation {
    /// Many completions, each with a new descriptor, until one without `more`.
    Accept { listener: RawFd },
    /// One completion: bytes in a buffer of group `group`, 0 for the end, or ENOBUFS.
    Receive { socket: RawFd, group: u16 },
    /// One completion: bytes sent, perhaps fewer than `len`.
    Send { socket: RawFd, data: *const u8, len: u32 },
    /// One completion: 0.
    Connect { socket: RawFd, address: *const libc::sockaddr, len: u32 },
    /// One completion: bytes read, at most `len` (the eventfd of [`super::Remote`]).
    Read { file: RawFd, data: *mut u8, len: u32 },
    /// One completion: those of `events` (as of poll(2)) that hold, and errors and hang-ups in any case.
    Poll { file: RawFd, events: i16 },
}

/// What became of an operation.
#[derive(Debug, Clone, Copy)]
pub struct Completion {
    pub token: Token,
    /// As the system call would have returned it: a count or descriptor, or a negated errno.
    pub result: i32,
    /// The buffer that was filled, of the group that the operation named.
    pub buffer: Option<u16>,
    /// More completions of the same operation follow.
    pub more: bool,
}

/// How long a turn may sleep.
#[derive(Debug, Clone, Copy)]
pub enum Wait {
    /// Not at all: tasks are ready.
    Not,
    /// Until a completion, or this moment.
    Until(Instant),
    /// Until a completion.
    Forever,
}

/// Which family a new socket belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
    Unix,
}

/// Which end of a connected socket an address is asked of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Local,
    Peer,
}

/// A kernel. One thread; the methods are called by the reactor alone. Those with a body need no ring and no watch; only a
/// kernel that simulates them has its own.
pub trait Kernel {
    /// Queues an operation; its completions come from later turns.
    ///
    /// # Safety
    /// Pointers in `operation` must stay valid, and what they point to untouched, until the completion without `more`.
    unsafe fn start(&mut self, token: Token, operation: Operation);

    /// Asks that an operation end early. It still completes, as cancelled or as what it became before.
    fn cancel(&mut self, token: Token);

    /// Submits what is queued and collects completions, sleeping at most as `wait` says.
    fn turn(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()>;

    /// How many buffers a group has.
    fn buffers(&self, group: u16) -> usize;

    /// Where the bytes of a buffer lie and how many it has. The buffer was handed out by a completion.
    fn buffer(&mut self, group: u16, buffer: u16) -> (*mut u8, usize);

    /// Takes a buffer back.
    fn recycle(&mut self, group: u16, buffer: u16);

    /// The monotonic clock.
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// The wall clock.
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    /// A new stream socket, close-on-exec, without Nagle's delay.
    fn socket(&mut self, family: Family) -> io::Result<RawFd>;

    /// Takes a connection that waits in a listening socket's queue, without waiting for one: `WouldBlock`. For sockets on
    /// which no [`Operation::Accept`] is under way; an [`Operation::Poll`] may be.
    fn accept_waiting(&mut self, _listener: RawFd) -> io::Result<RawFd> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Lets a listening socket begin no further connection; those that began already may still come to its queue.
    fn begin_no_more(&mut self, listener: RawFd) -> io::Result<()> {
        direct::begin_no_more(listener)
    }

    /// Closes a descriptor that no operation uses any more.
    fn close(&mut self, file: RawFd);

    /// Sends what fits without waiting; `WouldBlock` where nothing does, or where only operations send.
    fn send_now(&mut self, _socket: RawFd, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Ends the sending direction.
    fn shutdown_send(&mut self, socket: RawFd) -> io::Result<()> {
        direct::shutdown_send(socket)
    }

    /// Makes the coming close of a TCP socket a reset.
    fn reset_on_close(&mut self, socket: RawFd) {
        direct::reset_on_close(socket);
    }

    /// What kernel TLS may be trusted with on this kernel's sockets; `None` where they are none of the real kernel's.
    fn tls(&self) -> Option<&'static Trust> {
        None
    }

    /// The IP address of one end; an error for a unix socket.
    fn address(&mut self, socket: RawFd, end: End) -> io::Result<SocketAddr> {
        direct::address(socket, end)
    }
}
