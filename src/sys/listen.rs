//! Listening sockets, one a worker and address, joined by SO_REUSEPORT.

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
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
    if !options.keepalive.is_zero() {
        let interval = options.keepalive.max(Duration::from_secs(1));
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(interval).with_interval(interval))?;
    }
    socket.bind(&address.into())?;
    socket.listen(options.backlog)?;
    Ok(socket.into())
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
