//! A connected stream socket and what a connection does with it.

use super::buffers::{Lease, Size};
use super::kernel::{End, Family, Operation};
use super::ktls::Port;
use super::operation::Flight;
use super::reactor::{Keep, Memory, Reactor};
use socket2::SockAddr;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::rc::Rc;

/// A descriptor and the reactor whose kernel closes it.
#[derive(Debug)]
pub(super) struct Descriptor {
    pub reactor: Rc<Reactor>,
    pub raw: RawFd,
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.reactor.kernel(|kernel| kernel.close(self.raw));
    }
}

/// Where to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Ip(SocketAddr),
    Unix(PathBuf),
}

/// What a socket is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Something to read, or the end.
    Read,
    /// Room to write.
    Write,
    /// That it broke, or that both directions ended.
    End,
}

/// A stream socket. It closes when it and every operation on it are gone.
#[derive(Debug, Clone)]
pub struct Socket {
    descriptor: Rc<Descriptor>,
    is_tcp: bool,
}

impl Socket {
    /// Takes over a connected TCP descriptor from this reactor's kernel.
    pub(super) fn accepted(reactor: &Rc<Reactor>, raw: RawFd) -> Socket {
        Socket { descriptor: Rc::new(Descriptor { reactor: reactor.clone(), raw }), is_tcp: true }
    }

    /// A new socket connected to `address`.
    ///
    /// # Errors
    /// What `socket` or `connect` says, or an unusable unix path.
    pub async fn connect(reactor: &Rc<Reactor>, address: &Address) -> io::Result<Socket> {
        let (family, target) = match address {
            Address::Ip(ip) => (if ip.is_ipv4() { Family::V4 } else { Family::V6 }, SockAddr::from(*ip)),
            Address::Unix(path) => (Family::Unix, SockAddr::unix(path)?),
        };
        let raw = reactor.kernel(|kernel| kernel.socket(family))?;
        let descriptor = Rc::new(Descriptor { reactor: reactor.clone(), raw });
        let socket = Socket { descriptor, is_tcp: family != Family::Unix };
        let target = Box::new(target);
        let operation =
            Operation::Connect { socket: raw, address: target.as_ptr().cast::<libc::sockaddr>(), len: target.len() };
        // SAFETY: the address lies in a box of its own that the operation keeps; moving the box does not move it.
        let flight = unsafe { Flight::start(reactor, operation, socket.keep(Memory::Address(target))) };
        check(flight.await.result)?;
        Ok(socket)
    }

    fn reactor(&self) -> &Rc<Reactor> {
        &self.descriptor.reactor
    }

    fn keep(&self, memory: Memory) -> Keep {
        Keep { descriptor: self.descriptor.clone(), memory }
    }

    /// Receives into a buffer of that group; `None` at the end of the stream. No buffer is held while nothing comes.
    ///
    /// Dropping the future may lose bytes that had just come: only a connection that ends may do so.
    pub async fn receive(&self, size: Size) -> io::Result<Option<Lease>> {
        loop {
            let operation = Operation::Receive { socket: self.descriptor.raw, group: size.group() };
            // SAFETY: the operation has no pointers; the descriptor is kept.
            let flight = unsafe { Flight::start(self.reactor(), operation, self.keep(Memory::None)) };
            let outcome = flight.await;
            let lease =
                outcome.buffer.map(|buffer| Lease::new(self.reactor(), size, buffer, outcome.result.max(0) as usize));
            match check(outcome.result) {
                Ok(0) => return Ok(None),
                Ok(_) => return Ok(lease),
                Err(error) => match error.raw_os_error() {
                    Some(libc::ENOBUFS) => self.reactor().buffer_free(size).await,
                    Some(libc::EINTR | libc::EAGAIN) => {}
                    _ => return Err(error),
                },
            }
        }
    }

    /// Sends all of `bytes` and gives the vector back for reuse.
    pub async fn send(&self, mut bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        // Most messages fit into the socket's buffer: one call, and no trip through the loop. Errors come up again below.
        let now = self.reactor().kernel(|kernel| kernel.send_now(self.descriptor.raw, &bytes));
        let mut sent = now.unwrap_or(0);
        while sent < bytes.len() {
            let left = bytes.len() - sent;
            let data = bytes[sent..].as_ptr();
            let len = u32::try_from(left).unwrap_or(u32::MAX);
            let operation = Operation::Send { socket: self.descriptor.raw, data, len };
            // SAFETY: the vector goes into the operation's slot and is not touched there; its heap block stays put.
            let flight = unsafe { Flight::start(self.reactor(), operation, self.keep(Memory::Bytes(bytes))) };
            let outcome = flight.await;
            bytes = match outcome.keep.map(|keep| keep.memory) {
                Some(Memory::Bytes(bytes)) => bytes,
                _ => return (Err(io::Error::other("a send came back without its bytes")), Vec::new()),
            };
            match check(outcome.result) {
                Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), bytes),
                Ok(n) => sent += n as usize,
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) => {}
                Err(error) => return (Err(error), bytes),
            }
        }
        (Ok(()), bytes)
    }

    /// Waits until that holds, or the socket broke. It may wake for nothing: whoever then tries again and again without
    /// success has to pause.
    pub async fn ready(&self, interest: Interest) -> io::Result<()> {
        let events = match interest {
            Interest::Read => libc::POLLIN | libc::POLLRDHUP,
            Interest::Write => libc::POLLOUT,
            Interest::End => 0,
        };
        let operation = Operation::Poll { file: self.descriptor.raw, events };
        // SAFETY: the operation has no pointers; the descriptor is kept.
        let flight = unsafe { Flight::start(self.reactor(), operation, self.keep(Memory::None)) };
        check(flight.await.result).map(|_| ())
    }

    /// Makes direct calls, `splice` among them, return rather than wait: of a socket of the real kernel. From then on
    /// [`Socket::receive`] and [`Socket::send`] are not for it, for their operations would return as well.
    pub fn make_nonblocking(&self) -> io::Result<()> {
        // SAFETY: a call without pointers on a descriptor that is open.
        let flags = unsafe { libc::fcntl(self.descriptor.raw, libc::F_GETFL) };
        if flags < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: as above.
        let set = unsafe { libc::fcntl(self.descriptor.raw, libc::F_SETFL, flags | libc::O_NONBLOCK) };
        if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Sends what fits without waiting; of a socket of the real kernel.
    pub fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        self.reactor().kernel(|kernel| kernel.send_now(self.descriptor.raw, bytes))
    }

    /// Reads what is there, at most `into`, without waiting; of a socket of the real kernel. 0: the end.
    pub fn receive_now(&self, into: &mut [u8]) -> io::Result<usize> {
        let (data, len) = (into.as_mut_ptr().cast(), into.len());
        // SAFETY: the pointer and length are those of a slice that lives during the call.
        let read = unsafe { libc::recv(self.descriptor.raw, data, len, libc::MSG_DONTWAIT) };
        usize::try_from(read).map_err(|_| io::Error::last_os_error())
    }

    /// The same, but leaves it there.
    pub fn peek_now(&self, into: &mut [u8]) -> io::Result<usize> {
        let (data, len) = (into.as_mut_ptr().cast(), into.len());
        // SAFETY: the pointer and length are those of a slice that lives during the call.
        let read = unsafe { libc::recv(self.descriptor.raw, data, len, libc::MSG_PEEK | libc::MSG_DONTWAIT) };
        usize::try_from(read).map_err(|_| io::Error::last_os_error())
    }

    /// Throws away what is there, at most `count` bytes; of a TCP socket without keys.
    pub fn discard_now(&self, count: usize) -> io::Result<usize> {
        let flags = libc::MSG_TRUNC | libc::MSG_DONTWAIT;
        // SAFETY: with this flag TCP copies nothing (tcp(7)), so that no memory is named.
        let gone = unsafe { libc::recv(self.descriptor.raw, std::ptr::null_mut(), count, flags) };
        usize::try_from(gone).map_err(|_| io::Error::last_os_error())
    }

    /// The way to kernel TLS, where this socket's kernel may be trusted with any.
    pub fn kernel_tls(&self) -> Option<Port> {
        let trust = self.reactor().kernel(|kernel| kernel.tls()).filter(|trust| self.is_tcp && trust.seals_any())?;
        Some(Port::new(self.clone(), trust))
    }

    /// For direct calls of this module's neighbours, which last no longer than the socket.
    pub(super) fn raw(&self) -> RawFd {
        self.descriptor.raw
    }

    /// Ends the sending direction: FIN, or the end of file on a unix socket.
    pub fn shutdown_send(&self) -> io::Result<()> {
        self.reactor().kernel(|kernel| kernel.shutdown_send(self.descriptor.raw))
    }

    /// Makes the close a reset, so that the peer cannot take the end for an orderly one. A unix socket has no reset.
    pub fn reset_on_close(&self) {
        if self.is_tcp {
            self.reactor().kernel(|kernel| kernel.reset_on_close(self.descriptor.raw));
        }
    }

    /// Whether it is a TCP socket (else unix).
    pub fn is_tcp(&self) -> bool {
        self.is_tcp
    }

    /// The IP address of one end.
    pub fn address(&self, end: End) -> io::Result<SocketAddr> {
        self.reactor().kernel(|kernel| kernel.address(self.descriptor.raw, end))
    }
}

/// A result as the kernel gives it.
pub(super) fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result) }
}
