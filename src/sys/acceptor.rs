//! A listening socket of one worker, as a stream of connections.

use super::kernel::Operation;
use super::operation::Flight;
use super::reactor::{Keep, Memory, Reactor};
use super::socket::{Descriptor, Socket, check};
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::rc::Rc;
use std::task::{Context, Poll};

/// Accepts for as long as it lives. Dropping it closes the listening socket; what the kernel had already accepted for
/// it is closed too, and what waits in the kernel's queue is reset: take with [`Acceptor::stop`] and
/// [`Acceptor::take_waiting`] first what came.
#[derive(Debug)]
pub struct Acceptor {
    descriptor: Rc<Descriptor>,
    reactor: Rc<Reactor>,
    flight: Option<Flight>,
    stopping: bool,
}

impl Acceptor {
    /// Takes over a bound and listening socket.
    pub fn new(reactor: &Rc<Reactor>, listener: TcpListener) -> Acceptor {
        debug_assert!(listener.as_raw_fd() >= 0);
        let descriptor = Rc::new(Descriptor { reactor: reactor.clone(), raw: listener.into_raw_fd() });
        Acceptor { descriptor, reactor: reactor.clone(), flight: None, stopping: false }
    }

    /// The next connection. After an error the caller waits a little before it asks again: the kernel lacks
    /// descriptors or memory, or the connection was gone already.
    pub async fn accept(&mut self) -> io::Result<Socket> {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await.unwrap_or_else(|| Err(io::ErrorKind::NotConnected.into()))
    }

    /// Stops accepting and resolves to what had come before; `None` once there is no more.
    pub async fn stop(&mut self) -> Option<Socket> {
        if !std::mem::replace(&mut self.stopping, true)
            && let Some(flight) = &self.flight
        {
            flight.cancel();
        }
        loop {
            match std::future::poll_fn(|cx| self.poll_accept(cx)).await {
                Some(Ok(socket)) => return Some(socket),
                Some(Err(_)) => {}
                None => return None,
            }
        }
    }

    /// After [`Acceptor::stop`]: lets no further connection begin. Those that began may still come to the queue.
    ///
    /// # Errors
    /// What setsockopt says; connections then go on beginning.
    pub fn begin_no_more(&self) -> io::Result<()> {
        self.reactor.kernel(|kernel| kernel.begin_no_more(self.descriptor.raw))
    }

    /// After [`Acceptor::stop`]: waits until somebody waits in the kernel's queue, and leaves them there. Another process
    /// that holds the socket may be faster.
    ///
    /// # Errors
    /// What poll says.
    pub async fn knocked(&self) -> io::Result<()> {
        debug_assert!(self.flight.is_none(), "a look at the queue beside an accept");
        let operation = Operation::Poll { file: self.descriptor.raw, events: libc::POLLIN };
        let keep = Keep { descriptor: self.descriptor.clone(), memory: Memory::None };
        // SAFETY: the operation has no pointers; the descriptor is kept.
        let flight = unsafe { Flight::start(&self.reactor, operation, keep) };
        check(flight.await.result).map(|_| ())
    }

    /// After [`Acceptor::stop`]: a connection that waits in the kernel's queue, `None` where none does.
    ///
    /// # Errors
    /// The kernel lacks descriptors or memory.
    pub fn take_waiting(&self) -> io::Result<Option<Socket>> {
        match self.reactor.kernel(|kernel| kernel.accept_waiting(self.descriptor.raw)) {
            Ok(raw) => Ok(Some(Socket::accepted(&self.reactor, raw))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Accepts again after [`Acceptor::stop`].
    pub fn resume(&mut self) {
        self.stopping = false;
    }

    /// Whether the kernel may be taking connections by itself: until [`Acceptor::stop`] has come to its end.
    pub fn is_taking(&self) -> bool {
        self.flight.is_some()
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Socket>>> {
        loop {
            if self.flight.is_none() && self.stopping {
                return Poll::Ready(None);
            }
            let flight = self.flight.get_or_insert_with(|| {
                let operation = Operation::Accept { listener: self.descriptor.raw };
                let keep = Keep { descriptor: self.descriptor.clone(), memory: Memory::None };
                // SAFETY: the operation has no pointers; the descriptor is kept.
                unsafe { Flight::start(&self.reactor, operation, keep) }
            });
            match flight.poll_next(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => self.flight = None,
                Poll::Ready(Some(outcome)) => match check(outcome.result) {
                    Ok(raw) => return Poll::Ready(Some(Ok(Socket::accepted(&self.reactor, raw)))),
                    Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => {}
                    Err(error) => return Poll::Ready(Some(Err(error))),
                },
            }
        }
    }
}
