//! Listening sockets, one a worker and address, joined by SO_REUSEPORT.

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
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

#[cfg(test)]
mod tests {
    use super::*;

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
