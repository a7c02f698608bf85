//! System calls on sockets that wait for nothing and so are the same whichever kernel stands behind the reactor.

use super::kernel::{End, Family};
use super::listen;
use socket2::{Domain, SockRef, Socket, Type};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// A new stream socket, close-on-exec, without Nagle's delay.
pub(super) fn socket(family: Family) -> io::Result<Socket> {
    let domain = match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
        Family::Unix => Domain::UNIX,
    };
    let socket = Socket::new(domain, Type::STREAM.cloexec(), None)?;
    if family != Family::Unix {
        socket.set_tcp_nodelay(true)?;
    }
    Ok(socket)
}

/// A descriptor for the length of a call; it stays with its owner.
pub(super) fn borrow<'a>(file: RawFd) -> BorrowedFd<'a> {
    // SAFETY: the reactor calls its kernel with descriptors that it holds open during the call, and no borrow outlives
    // the call of the kernel that made it.
    unsafe { BorrowedFd::borrow_raw(file) }
}

pub(super) fn accept_waiting(listener: RawFd) -> io::Result<RawFd> {
    listen::accept_waiting(&SockRef::from(&borrow(listener)))
}

pub(super) fn begin_no_more(listener: RawFd) -> io::Result<()> {
    listen::begin_no_more(&SockRef::from(&borrow(listener)))
}

/// Closes a descriptor that the reactor gives up.
pub(super) fn close(file: RawFd) {
    // SAFETY: the reactor owns the descriptor and gives it up once, when no operation uses it.
    drop(unsafe { OwnedFd::from_raw_fd(file) });
}

pub(super) fn send_now(socket: RawFd, bytes: &[u8]) -> io::Result<usize> {
    SockRef::from(&borrow(socket)).send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
}

pub(super) fn shutdown_send(socket: RawFd) -> io::Result<()> {
    SockRef::from(&borrow(socket)).shutdown(Shutdown::Write)
}

pub(super) fn reset_on_close(socket: RawFd) {
    // It can fail only on what is no socket.
    let _ = SockRef::from(&borrow(socket)).set_linger(Some(Duration::ZERO));
}

pub(super) fn address(socket: RawFd, end: End) -> io::Result<SocketAddr> {
    let socket = borrow(socket);
    let address = match end {
        End::Local => SockRef::from(&socket).local_addr(),
        End::Peer => SockRef::from(&socket).peer_addr(),
    }?;
    address.as_socket().ok_or_else(|| io::ErrorKind::Unsupported.into())
}

/// Says whether calls on what lies behind a descriptor may wait. It holds for all descriptors of the same file.
pub(super) fn set_waiting(file: RawFd, waits: bool) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(borrow(file), !waits)?)
}
