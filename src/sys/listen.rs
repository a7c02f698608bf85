//! Listening sockets, one a worker and address, joined by SO_REUSEPORT.

use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{IntoRawFd, RawFd};
use std::time::Duration;

/// How to listen.
#[derive(Debug, Clone, Copy)]
pub struct ListenOptions {
    /// Zero: no keepalive probes.
    pub keepalive: Duration,
    /// Length of the accept queue asked for; the kernel caps it at net.core.somaxconn.
    pub backlog: i32,
}

/// Binds and listens. Accepted sockets inherit TCP_NODELAY and keepalive. An IPv6 address takes IPv6 alone, so that
/// `0.0.0.0` and `[::]` can stand side by side.
///
/// # Errors
/// EADDRINUSE, EACCES, EADDRNOTAVAIL and their kind, for the caller to explain.
pub fn listen(address: SocketAddr, options: ListenOptions) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    keep_alive(&socket, options.keepalive)?;
    socket.bind(&address.into())?;
    socket.listen(options.backlog)?;
    Ok(socket.into())
}

/// Gives a socket that somebody else made what [`listen`] gives to its own, the queue's length apart.
///
/// # Errors
/// What setsockopt says.
pub fn adopt(socket: &TcpListener, options: ListenOptions) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    keep_alive(&socket, options.keepalive)
}

/// Changes the keepalive of a listening socket: connections accepted from now on inherit it.
///
/// # Errors
/// What setsockopt says.
pub fn set_keepalive(socket: &TcpListener, keepalive: Duration) -> io::Result<()> {
    keep_alive(&SockRef::from(socket), keepalive)
}

fn keep_alive(socket: &Socket, keepalive: Duration) -> io::Result<()> {
    if keepalive.is_zero() {
        return socket.set_keepalive(false);
    }
    let interval = keepalive.max(Duration::from_secs(1));
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(interval).with_interval(interval))
}

/// Whether somebody else listens there: SO_REUSEPORT would share the address silently with another process of the
/// same user, which for a terminator is a fault. A plain bind tells.
///
/// # Errors
/// EADDRINUSE if so, and whatever else a bind says.
pub fn probe_address(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Reuse of the address alone: connections of an earlier run in TIME_WAIT do not count, a listener does.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

/// A connection that waits in the queue of `listener`; `WouldBlock` where none does, or where another process that holds
/// the socket was faster. The socket is told each time not to wait: whoever else holds it may have told it otherwise.
pub(super) fn accept_waiting(listener: &Socket) -> io::Result<RawFd> {
    listener.set_nonblocking(true)?;
    listener.accept4(libc::SOCK_CLOEXEC).map(|(socket, _)| socket.into_raw_fd())
}

/// Lets a listening socket answer no further SYN, by a filter that drops them, while clients whose SYN was answered may
/// still finish: their ACK passes. A client whose SYN was dropped sends it again in a second, and meets whoever listens
/// then. A close would reset those who wait in the queue or are about to.
pub(super) fn begin_no_more(listener: &Socket) -> io::Result<()> {
    // The filter of a TCP socket sees the segment from its header on: byte 13 has the flags.
    const FLAGS_AT: u32 = 13;
    const SYN_AND_ACK: u32 = 0x12;
    const SYN: u32 = 0x02;
    let statement = |code: u32, k| SockFilter::new(code as u16, 0, 0, k);
    listener.attach_filter(&[
        statement(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, FLAGS_AT),
        statement(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, SYN_AND_ACK),
        SockFilter::new((libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, 0, 1, SYN),
        statement(libc::BPF_RET | libc::BPF_K, 0),
        statement(libc::BPF_RET | libc::BPF_K, u32::MAX),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_taken_and_who_comes_later_is_neither_taken_nor_reset() {
        let options = ListenOptions { keepalive: Duration::ZERO, backlog: 16 };
        let listener = Socket::from(listen("127.0.0.1:0".parse().unwrap(), options).unwrap());
        let address = listener.local_addr().unwrap();
        assert_eq!(accept_waiting(&listener).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let early = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        early.connect(&address).unwrap();
        begin_no_more(&listener).unwrap();
        let late = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let refused = late.connect_timeout(&address, Duration::from_millis(50)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
        let taken = accept_waiting(&listener).unwrap();
        // SAFETY: just accepted, owned by nobody else.
        let taken = unsafe { <Socket as std::os::fd::FromRawFd>::from_raw_fd(taken) };
        assert_eq!(taken.peer_addr().unwrap().as_socket(), early.local_addr().unwrap().as_socket());
        assert_eq!(accept_waiting(&listener).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn keepalive_can_be_set_changed_and_turned_off() {
        let options = ListenOptions { keepalive: Duration::from_secs(60), backlog: 16 };
        let socket = listen("127.0.0.1:0".parse().unwrap(), options).unwrap();
        let now = || SockRef::from(&socket).keepalive().unwrap().then(|| SockRef::from(&socket).tcp_keepalive_time());
        assert_eq!(now().unwrap().unwrap(), Duration::from_secs(60));
        set_keepalive(&socket, Duration::from_secs(7)).unwrap();
        assert_eq!(now().unwrap().unwrap(), Duration::from_secs(7));
        set_keepalive(&socket, Duration::ZERO).unwrap();
        assert!(now().is_none());
    }
}
