//! Operations in flight, and the memory that they use: the pointers of the reactor are followed here and nowhere else.

use super::super::kernel::{Operation, Token};
use socket2::{SockAddr, SockAddrStorage};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Duration;

use super::super::socket::Address;

/// An operation until its last completion.
#[derive(Debug)]
pub(super) struct Flight {
    pub token: Token,
    pub what: What,
    /// It does nothing before this moment.
    pub not_before: Duration,
    pub cancel: Option<Cancel>,
    pub fate: Fate,
}

/// A cancellation under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cancel {
    pub at: Duration,
    /// The operation completes as if nothing were, if it can at that moment.
    pub loses: bool,
}

/// What chance has in store for an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Good,
    Short,
    Error(i32),
    /// The connection breaks with it.
    Severed(i32),
}

#[derive(Debug)]
pub(super) enum What {
    Accept { listener: RawFd },
    Poll { file: RawFd },
    Receive { socket: RawFd, group: u16 },
    Send { socket: RawFd, memory: Outgoing, done: usize },
    Connect { socket: RawFd, to: Option<usize>, answered: bool },
    Read { file: RawFd, memory: Incoming },
}

/// Memory that a send reads, and what was in it at the start.
#[derive(Debug)]
pub(super) struct Outgoing {
    data: *const u8,
    len: usize,
    print: u64,
}

/// Memory that a read writes.
#[derive(Debug)]
pub(super) struct Incoming {
    data: *mut u8,
    len: usize,
}

impl Flight {
    pub fn file(&self) -> RawFd {
        match self.what {
            What::Accept { listener } => listener,
            What::Poll { file } => file,
            What::Receive { socket, .. } | What::Send { socket, .. } | What::Connect { socket, .. } => socket,
            What::Read { file, .. } => file,
        }
    }
}

impl Outgoing {
    /// # Safety
    /// As for [`super::super::kernel::Kernel::start`]: valid and untouched until the last completion.
    pub unsafe fn new(data: *const u8, len: u32) -> Outgoing {
        let mut memory = Outgoing { data, len: len as usize, print: 0 };
        memory.print = fingerprint(memory.bytes());
        memory
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: whoever made this promised that the memory stays valid until the operation's last completion, and
        // this value goes with that completion.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }

    /// Whether it still holds what it held at the start.
    pub fn is_unchanged(&self) -> bool {
        fingerprint(self.bytes()) == self.print
    }
}

impl Incoming {
    /// # Safety
    /// As for [`super::super::kernel::Kernel::start`].
    pub unsafe fn new(data: *mut u8, len: u32) -> Incoming {
        Incoming { data, len: len as usize }
    }

    /// Reads a real descriptor if something is there; `None` if not.
    pub fn read(&mut self, file: RawFd) -> Option<i32> {
        let mut poll = libc::pollfd { fd: file, events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid struct, no waiting.
        let ready = unsafe { libc::poll(&mut poll, 1, 0) };
        if ready != 1 {
            return None;
        }
        // SAFETY: whoever made this promised that many writable bytes.
        let count = unsafe { libc::read(file, self.data.cast(), self.len) };
        Some(count as i32)
    }
}

/// Where a connect goes.
///
/// # Safety
/// `address` points to `len` bytes of a socket address.
pub(super) unsafe fn target(operation: &Operation) -> Option<Address> {
    let Operation::Connect { address, len, .. } = *operation else { return None };
    let mut storage = SockAddrStorage::zeroed();
    let room = size_of::<SockAddrStorage>();
    let to: *mut u8 = (&raw mut storage).cast();
    // SAFETY: the caller's promise for the source; the storage is larger than any address, and the length is bounded.
    unsafe { std::ptr::copy_nonoverlapping(address.cast(), to, (len as usize).min(room)) };
    // SAFETY: the storage holds an address of that length.
    let address = unsafe { SockAddr::new(storage, len) };
    match address.as_socket() {
        Some(ip) => Some(Address::Ip(ip)),
        None => address.as_pathname().map(|path| Address::Unix(PathBuf::from(path))),
    }
}

/// Tells whether bytes changed (FNV-1a's steps on words).
fn fingerprint(bytes: &[u8]) -> u64 {
    let step = |hash: u64, word: u64| (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(0xcbf2_9ce4_8422_2325, |hash, word| step(hash, u64::from_le_bytes(*word)));
    rest.iter().fold(hash, |hash, byte| step(hash, u64::from(*byte)))
}
