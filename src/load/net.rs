//! Sockets, buffers and deadlines of one harness thread.
//!
//! tokio-uring does not cancel what is dropped, so nothing in flight is ever dropped here: a time-out shuts the socket down,
//! and the operation then completes by itself and brings its buffer back.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use slab::Slab;
use socket2::{Domain, Protocol, Socket, Type};
use tokio_uring::net::TcpStream;

use crate::load::limits;

/// Starts a connection to `address`. The connect goes on in the kernel; the first send waits for it, so that the descriptor is
/// ours from the beginning and a connect, too, can be timed out by shutting down.
pub fn connect(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Ok(()) => {}
        // EINPROGRESS, for which std has no kind.
        Err(error) if error.raw_os_error() == Some(115) => {}
        Err(error) => return Err(error),
    }
    // The ring waits for readiness itself, but hands EAGAIN back where the descriptor says O_NONBLOCK.
    socket.set_nonblocking(false)?;
    Ok(TcpStream::from_std(socket.into()))
}

/// The loopback address that connection `n` of a large run comes from: one address has ports for about 28,000.
pub fn source_of(n: usize, connections: usize, target: SocketAddr) -> Option<IpAddr> {
    let loopback = matches!(target.ip(), IpAddr::V4(ip) if ip.is_loopback());
    if !loopback || connections <= limits::CONNECTIONS_PER_SOURCE {
        return None;
    }
    let host = u8::try_from(1 + n / limits::CONNECTIONS_PER_SOURCE).unwrap_or(254).min(254);
    Some(Ipv4Addr::new(127, 0, 0, host).into())
}

/// Buffers kept for reuse, so that the few in use stay in the CPU's cache and an idle connection holds none.
#[derive(Debug)]
pub struct Buffers {
    size: usize,
    free: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    pub fn new(size: usize) -> Buffers {
        Buffers { size, free: RefCell::new(Vec::new()) }
    }

    /// An empty buffer with room for at least the size of this pool.
    pub fn take(&self) -> Vec<u8> {
        self.free.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(self.size))
    }

    /// Takes a buffer back; one that grew a lot is let go.
    pub fn give(&self, mut buffer: Vec<u8>) {
        let mut free = self.free.borrow_mut();
        let fits = (self.size..=4 * self.size).contains(&buffer.capacity());
        if fits && free.len() < limits::BUFFERS_KEPT {
            buffer.clear();
            free.push(buffer);
        }
    }
}

/// The deadlines of one thread's connections, looked at every [`limits::WATCH_TICK`].
#[derive(Debug, Default)]
pub struct Watch {
    entries: RefCell<Slab<Weak<Entry>>>,
}

/// One connection's deadline.
#[derive(Debug)]
struct Entry {
    deadline: Cell<Option<Instant>>,
    expired: Cell<bool>,
    stream: Weak<TcpStream>,
}

impl Watch {
    /// Looks after `stream` for as long as the guard lives.
    pub fn guard(self: &Rc<Self>, stream: &Rc<TcpStream>) -> Guard {
        let entry = Entry { deadline: Cell::new(None), expired: Cell::new(false), stream: Rc::downgrade(stream) };
        let entry = Rc::new(entry);
        let key = self.entries.borrow_mut().insert(Rc::downgrade(&entry));
        Guard { watch: self.clone(), key, entry }
    }

    /// Shuts down every connection whose deadline has passed.
    pub fn expire(&self, now: Instant) {
        for (_, entry) in self.entries.borrow().iter() {
            let Some(entry) = entry.upgrade() else { continue };
            if entry.deadline.get().is_some_and(|deadline| deadline <= now) {
                entry.deadline.set(None);
                entry.expired.set(true);
                if let Some(stream) = entry.stream.upgrade() {
                    // It fails where the peer was faster: then the operation completes all the same.
                    let _ = stream.shutdown(std::net::Shutdown::Both);
                }
            }
        }
    }

    /// Runs [`Watch::expire`] for ever; a task of each thread.
    pub async fn keep(self: Rc<Self>) {
        let mut ticks = tokio::time::interval(limits::WATCH_TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.expire(Instant::now());
        }
    }
}

/// Sets and clears the deadline of one connection.
#[derive(Debug)]
pub struct Guard {
    watch: Rc<Watch>,
    key: usize,
    entry: Rc<Entry>,
}

impl Guard {
    /// From now on the connection has `time`.
    pub fn allow(&self, time: Duration) {
        self.entry.deadline.set(Instant::now().checked_add(time));
    }

    /// The connection may take for ever: it is idle.
    pub fn rest(&self) {
        self.entry.deadline.set(None);
    }

    /// Whether the connection was shut down for being late.
    pub fn expired(&self) -> bool {
        self.entry.expired.get()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.watch.entries.borrow_mut().remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn sources_are_spread_only_where_one_address_has_too_few_ports() {
        let target: SocketAddr = "127.0.0.1:443".parse().unwrap();
        assert_eq!(source_of(5, 1000, target), None);
        assert_eq!(source_of(0, 50_000, target), Some("127.0.0.1".parse().unwrap()));
        assert_eq!(source_of(45_000, 50_000, target), Some("127.0.0.3".parse().unwrap()));
        assert_eq!(source_of(0, 50_000, "192.0.2.1:443".parse().unwrap()), None);
    }

    #[test]
    fn a_silent_peer_is_timed_out_and_the_buffer_comes_back() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        tokio_uring::start(async move {
            let watch = Rc::new(Watch::default());
            let stream = Rc::new(connect(address, None).unwrap());
            let guard = watch.guard(&stream);
            guard.allow(Duration::from_millis(1));
            tokio_uring::spawn(watch.clone().keep());
            let (result, buffer) = stream.read(Vec::with_capacity(64)).await;
            assert_eq!(result.unwrap(), 0);
            assert!(guard.expired());
            assert_eq!(buffer.capacity(), 64);
            drop(guard);
            assert!(watch.entries.borrow().is_empty());
        });
    }

    #[test]
    fn a_refused_connection_is_an_error_of_the_connect_or_of_the_first_send() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        tokio_uring::start(async move {
            let error = match connect(address, None) {
                Err(error) => error,
                Ok(stream) => stream.write(vec![1u8]).submit().await.0.unwrap_err(),
            };
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        });
    }
}
