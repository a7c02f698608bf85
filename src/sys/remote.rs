//! Waking a worker from another thread: an eventfd whose read is always armed on the worker's ring.

use super::kernel::Operation;
use super::operation::Flight;
use super::reactor::{Keep, Memory, Reactor};
use super::socket::Descriptor;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

/// The waking side; clones wake the same worker.
#[derive(Debug, Clone)]
pub struct Remote {
    event: Arc<OwnedFd>,
}

impl Remote {
    /// # Errors
    /// EMFILE and its kind.
    pub fn new() -> io::Result<Remote> {
        // SAFETY: a system call without pointers.
        let raw = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call above just made this descriptor; nobody else owns it.
        let event = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(Remote { event: Arc::new(event) })
    }

    /// Wakes the worker; any number of wakes before it looks are one.
    pub fn wake(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight readable bytes. It could fail only at 2^64 - 1 unread wakes.
        unsafe { libc::write(self.event.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// The worker's side.
    ///
    /// # Errors
    /// EMFILE and its kind.
    pub fn listen(&self, reactor: &Rc<Reactor>) -> io::Result<Woken> {
        let raw = self.event.try_clone()?.into_raw_fd();
        Ok(Woken { descriptor: Rc::new(Descriptor { reactor: reactor.clone(), raw }) })
    }
}

/// Where a worker hears wakes.
#[derive(Debug)]
pub struct Woken {
    descriptor: Rc<Descriptor>,
}

impl Woken {
    /// Resolves after the next wake.
    pub async fn next(&self) -> io::Result<()> {
        let mut bytes = vec![0u8; 8];
        let operation = Operation::Read { file: self.descriptor.raw, data: bytes.as_mut_ptr(), len: 8 };
        let keep = Keep { descriptor: self.descriptor.clone(), memory: Memory::Bytes(bytes) };
        // SAFETY: the vector lies in the operation's slot and is not touched there.
        let flight = unsafe { Flight::start(&self.descriptor.reactor, operation, keep) };
        super::socket::check(flight.await.result).map(|_| ())
    }
}
