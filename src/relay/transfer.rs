//! Bytes both ways over an open connection. Each direction reads only when its last bytes are sent, so that back-pressure
//! needs no bookkeeping; one direction alone writes to the client, so that records leave in the order they were sealed.

use super::deadlines::Deadlines;
use super::end::{Cause, EndSignal};
use super::handshake::unix_now;
use super::sizing::Sizing;
use super::{Account, Host};
use crate::config::limits;
use crate::sys::ktls::Direction;
use crate::sys::{Lease, Size, Sleep, Socket};
use crate::tls::{KeyChanges, Session, Status};
use crate::wire::audit::{CloseReason, Path};
use std::cell::{Cell, RefCell};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How one direction ended without ending the connection at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DirectionEnd {
    Orderly,
    /// The side it writes to is gone; the other direction may still have something to deliver.
    ReceiverGone,
}

/// The state that both directions share.
pub(super) struct Transfer<'a, H: Host> {
    pub host: &'a Rc<H>,
    pub account: &'a Account,
    pub client: &'a Socket,
    pub backend: &'a Socket,
    pub session: RefCell<Session>,
    marks: Marks,
    /// TLS bytes that the upward direction has for the client (alerts, key updates).
    replies: RefCell<Vec<u8>>,
    replies_waker: RefCell<Option<Waker>>,
}

/// How far the two directions are.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// A send toward the client is under way, or failed: nothing else may be written between or behind its bytes.
    pub sending: Cell<bool>,
    /// The backend has the client's orderly end.
    pub upward_done: Cell<bool>,
    /// The client has the backend's orderly end.
    pub downward_done: Cell<bool>,
    /// A send to the backend failed.
    pub backend_broke: Cell<bool>,
    /// A send to the client failed.
    pub client_broke: Cell<bool>,
}

/// What the transfer leaves for the one who closes the sockets.
pub(super) struct Remains {
    /// The backend already has the client's orderly end.
    pub upward_done: bool,
    /// The client already has the backend's orderly end.
    pub downward_done: bool,
    /// A record is half on its way to the client: nothing sensible can follow.
    pub mid_record: bool,
    /// TLS bytes not sent yet.
    pub replies: Vec<u8>,
    pub session: Session,
}

impl<'a, H: Host> Transfer<'a, H> {
    pub fn new(
        host: &'a Rc<H>,
        account: &'a Account,
        (client, backend): (&'a Socket, &'a Socket),
        session: Session,
    ) -> Transfer<'a, H> {
        account.live().moved.touch(host.reactor().now());
        let (marks, replies, replies_waker) = Default::default();
        Transfer { host, account, client, backend, session: RefCell::new(session), marks, replies, replies_waker }
    }

    /// Moves bytes until both directions have ended, one breaks, a deadline comes, or `signal` asks for the end.
    /// `first` goes to the backend before anything else; its last `early` bytes are the client's.
    ///
    /// `None`: both directions ended in order.
    pub async fn run(&self, first: First, deadlines: &Deadlines, signal: &EndSignal) -> Option<Cause> {
        let both = pin!(futures_lite::future::try_zip(self.upward(first), self.downward()));
        let watched = pin!(self.watch_client());
        until_over(&**self.host, self.account, (deadlines, signal), both, watched).await
    }

    /// What is left when it is over.
    pub fn into_remains(self) -> Remains {
        Remains {
            upward_done: self.marks.upward_done.get(),
            downward_done: self.marks.downward_done.get(),
            mid_record: self.marks.sending.get(),
            replies: self.replies.into_inner(),
            session: self.session.into_inner(),
        }
    }

    /// Client to backend.
    async fn upward(&self, first: First) -> Result<DirectionEnd, Cause> {
        let First { bytes, early, peer_closed } = first;
        if bytes.is_empty() {
            self.host.shelf().give(bytes);
        } else if !self.to_backend(bytes, early).await {
            return Ok(DirectionEnd::ReceiverGone);
        }
        let mut closed = peer_closed;
        let mut sizing = Sizing::new();
        while !closed {
            let lease = match self.client.receive(sizing.size()).await {
                Ok(Some(lease)) => lease,
                // A reset is told once, here to a send: what a receive then sees as the end is none.
                Ok(None) if self.marks.client_broke.get() => return Err(Cause::ClientReset),
                Ok(None) => return Err(Cause::Truncated),
                Err(_) => return Err(Cause::ClientReset),
            };
            sizing.note(&lease);
            self.touch();
            let mut plain = self.host.shelf().take();
            closed = self.open_records(lease, &mut plain)? == Status::PeerClosed;
            let count = plain.len();
            if count == 0 {
                self.host.shelf().give(plain);
            } else if !self.to_backend(plain, count).await {
                return Ok(DirectionEnd::ReceiverGone);
            }
            self.replies_drained().await;
        }
        if self.backend.shutdown_send().is_err() {
            self.marks.backend_broke.set(true);
            return Ok(DirectionEnd::ReceiverGone);
        }
        self.marks.upward_done.set(true);
        Ok(DirectionEnd::Orderly)
    }

    /// Decrypts what came; what TLS has to answer is queued for the downward direction.
    fn open_records(&self, mut lease: Lease, plain: &mut Vec<u8>) -> Result<Status, Cause> {
        let mut out = self.host.shelf().take();
        let mut session = self.session.borrow_mut();
        let fed = session.feed(&mut lease, unix_now(&**self.host), plain, &mut out);
        #[cfg(debug_assertions)]
        super::fault::panic_if_asked("transfer", session.sni());
        #[cfg(debug_assertions)]
        super::fault::hang_if_asked("transfer", session.sni());
        self.count_key_changes(&mut session);
        drop(session);
        drop(lease);
        if out.is_empty() {
            self.host.shelf().give(out);
        } else {
            self.replies.borrow_mut().append(&mut out);
            let waker = self.replies_waker.borrow_mut().take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        fed.map_err(|failure| Cause::Tls {
            our_alert: failure.our_alert,
            peer_alert: failure.peer_alert,
            detail: failure.detail.clone(),
        })
    }

    /// Sends to the backend; its last `count` bytes are the client's own. False: the backend is gone.
    async fn to_backend(&self, bytes: Vec<u8>, count: usize) -> bool {
        let (sent, bytes) = self.backend.send(bytes).await;
        self.host.shelf().give(bytes);
        if sent.is_err() {
            // What it still had to say is read by the other direction, which then knows not to call it an orderly end.
            self.marks.backend_broke.set(true);
            return false;
        }
        match count {
            0 => self.touch(),
            _ => self.account.live().moved.upward(self.host.reactor().now()),
        }
        self.account.count_in(count);
        self.host.bytes_in(Path::User).add(count as u64);
        true
    }

    /// Backend to client.
    async fn downward(&self) -> Result<DirectionEnd, Cause> {
        let mut sizing = Sizing::new();
        loop {
            let received = match self.receive_or_reply(sizing.size()).await {
                Ok(received) => received,
                Err(Gone) => return Ok(DirectionEnd::ReceiverGone),
            };
            match received {
                Ok(Some(lease)) => {
                    sizing.note(&lease);
                    if self.seal_and_send(lease).await.is_err() {
                        return Ok(DirectionEnd::ReceiverGone);
                    }
                }
                Ok(None) if self.marks.backend_broke.get() => return Err(Cause::BackendReset),
                Ok(None) => break,
                Err(_) => return Err(Cause::BackendReset),
            }
        }
        let mut out = std::mem::take(&mut *self.replies.borrow_mut());
        self.session.borrow_mut().close_notify(&mut out);
        let told = self.to_client(out).await.is_ok() && self.client.shutdown_send().is_ok();
        // A client that ended in order and is gone before our own close_notify has missed nothing.
        if !told && !self.marks.upward_done.get() {
            return Ok(DirectionEnd::ReceiverGone);
        }
        self.marks.downward_done.set(true);
        Ok(DirectionEnd::Orderly)
    }

    async fn seal_and_send(&self, lease: Lease) -> Result<(), Gone> {
        self.touch();
        let count = lease.len();
        let mut out = std::mem::take(&mut *self.replies.borrow_mut());
        if out.capacity() == 0 {
            out = self.host.shelf().take();
        }
        let sealed = self.session.borrow_mut().encrypt(&lease, &mut out);
        drop(lease);
        self.count_key_changes(&mut self.session.borrow_mut());
        if sealed.is_err() {
            return Err(Gone);
        }
        self.to_client(out).await?;
        self.account.live().moved.downward(self.host.reactor().now());
        self.account.count_out(count);
        self.host.bytes_out(Path::User).add(count as u64);
        Ok(())
    }

    fn count_key_changes(&self, session: &mut Session) {
        let KeyChanges { ours, clients } = session.take_key_changes();
        (0..clients).for_each(|_| self.host.key_updated(Direction::Receive));
        (0..ours).for_each(|_| self.host.key_updated(Direction::Transmit));
    }

    async fn to_client(&self, bytes: Vec<u8>) -> Result<(), Gone> {
        self.marks.sending.set(true);
        let (sent, bytes) = self.client.send(bytes).await;
        // After a failed send the client's next record would not be the next: nothing may follow, not even an alert.
        self.marks.sending.set(sent.is_err());
        self.marks.client_broke.set(sent.is_err());
        self.host.shelf().give(bytes);
        self.touch();
        sent.map_err(|_| Gone)
    }

    /// The backend's next bytes; meanwhile replies of the TLS layer are sent as they come.
    async fn receive_or_reply(&self, size: Size) -> Result<io::Result<Option<Lease>>, Gone> {
        let mut receiving = pin!(self.backend.receive(size));
        loop {
            match std::future::poll_fn(|cx| self.poll_next(receiving.as_mut(), cx)).await {
                Some(received) => return Ok(received),
                None => {
                    let replies = std::mem::take(&mut *self.replies.borrow_mut());
                    self.to_client(replies).await?;
                }
            }
        }
    }

    /// `None`: replies wait to be sent.
    fn poll_next<F>(&self, receiving: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<Option<F::Output>>
    where
        F: Future,
    {
        if !self.replies.borrow().is_empty() {
            return Poll::Ready(None);
        }
        let old = self.replies_waker.borrow_mut().replace(cx.waker().clone());
        drop(old);
        receiving.poll(cx).map(Some)
    }

    /// A client that provokes replies and does not read them is read no further.
    async fn replies_drained(&self) {
        while self.replies.borrow().len() > limits::REPLY_BYTES_MAX && !self.marks.downward_done.get() {
            let soon = self.host.reactor().now() + Duration::from_millis(limits::REPLY_POLL_MS);
            self.host.reactor().sleep_until(soon).await;
        }
    }

    fn touch(&self) {
        self.account.live().moved.touch(self.host.reactor().now());
    }

    /// After the client's close_notify only one thing is still of interest from it: that it went away.
    async fn watch_client(&self) -> Cause {
        while !self.marks.upward_done.get() {
            // Woken together with the upward direction: all futures of a connection are one task.
            yield_until_polled().await;
        }
        loop {
            // Boxed: most connections never come here, and have no room for it.
            match Box::pin(self.client.receive(Size::Small)).await {
                Ok(Some(_)) => {}
                Ok(None) => std::future::pending().await,
                Err(_) => break,
            }
        }
        // It said goodbye and went, as many clients do. A backend that ends now as well ended in order.
        let patience = Duration::from_millis(limits::GONE_CLIENT_MS);
        self.host.reactor().sleep_until(self.host.reactor().now() + patience).await;
        Cause::ClientReset
    }
}

/// Runs both directions of a connection on any path to their end, or to whatever comes first: a deadline, `signal`, or what
/// watches the client. `None`: both ended in order.
pub(super) fn until_over<H: Host>(
    host: &H,
    account: &Account,
    (deadlines, signal): (&Deadlines, &EndSignal),
    mut both: Pin<&mut impl Future<Output = Result<(DirectionEnd, DirectionEnd), Cause>>>,
    mut watched: Pin<&mut impl Future<Output = Cause>>,
) -> impl Future<Output = Option<Cause>> {
    let mut sleep = None;
    std::future::poll_fn(move |cx| {
        if let Poll::Ready(ended) = both.as_mut().poll(cx) {
            return Poll::Ready(match ended {
                Ok((DirectionEnd::Orderly, DirectionEnd::Orderly)) => None,
                Ok((DirectionEnd::ReceiverGone, _)) => Some(Cause::BackendReset),
                Ok((_, DirectionEnd::ReceiverGone)) => Some(Cause::ClientReset),
                Err(cause) => Some(cause),
            });
        }
        if let Poll::Ready(reason) = signal.poll_asked(cx) {
            return Poll::Ready(Some(Cause::Asked(reason)));
        }
        if let Poll::Ready(reason) = poll_deadlines(host, account, deadlines, &mut sleep, cx) {
            return Poll::Ready(Some(Cause::Asked(reason)));
        }
        watched.as_mut().poll(cx).map(Some)
    })
}

/// Ready when the time is up. The moment of the next look moves with the bytes; `sleep` does not, and only its end makes it
/// look: traffic costs no timer work.
fn poll_deadlines<H: Host>(
    host: &H,
    account: &Account,
    deadlines: &Deadlines,
    sleep: &mut Option<Sleep>,
    cx: &mut Context<'_>,
) -> Poll<CloseReason> {
    loop {
        if let Some(sleep) = sleep
            && Pin::new(sleep).poll(cx).is_pending()
        {
            return Poll::Pending;
        }
        let reactor = host.reactor();
        let now = reactor.now();
        let last_byte = account.live().moved.last().unwrap_or(now);
        match deadlines.next(now, unix_now(host), last_byte) {
            Err(reason) => return Poll::Ready(reason),
            Ok(moment) => *sleep = Some(reactor.sleep_until(moment)),
        }
    }
}

/// What goes to the backend first.
pub(super) struct First {
    pub bytes: Vec<u8>,
    /// How many of the last bytes came from the client.
    pub early: usize,
    pub peer_closed: bool,
}

/// The client can no longer be written to.
struct Gone;

/// Pending once; polled again whenever the task is.
pub(super) async fn yield_until_polled() {
    let mut polled = false;
    std::future::poll_fn(|_| if std::mem::replace(&mut polled, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}
