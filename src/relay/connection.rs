//! The whole life of one connection.

use super::deadlines::Deadlines;
use super::end::{Cause, EndSignal};
use super::handshake::{Greeted, handshake, say_goodbye};
use super::kernel::{self, Entered, KernelTransfer, Way};
use super::moved::Moved;
use super::transfer::{First, Remains, Transfer};
use super::{Account, Entry, Host, Seat, Took, upstream};
use crate::sys::{End, Socket};
use crate::tls::Session;
use crate::trust::Admission;
use crate::wire::audit::{CloseReason, ConnectionId, ConnectionRecord, Event};
use std::cell::{OnceCell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

/// A connection as the rest of the worker sees it.
#[derive(Debug)]
pub struct Live {
    pub conn_id: ConnectionId,
    /// The worker's own number for it.
    pub slot: usize,
    /// Ends it from outside.
    pub signal: EndSignal,
    /// From where it comes.
    pub client: OnceCell<SocketAddr>,
    /// Whom it serves, once the handshake is done.
    pub admission: OnceCell<Arc<Admission>>,
    /// At which site.
    pub site: OnceCell<Arc<str>>,
    /// When its bytes last moved, and which way.
    pub moved: Moved,
    /// What a panic kept from being written down.
    unwritten: RefCell<Option<Box<ConnectionRecord>>>,
}

impl Live {
    /// A connection that was just accepted.
    pub fn new(conn_id: ConnectionId, slot: usize) -> Live {
        let (signal, client, admission, site, moved, unwritten) = Default::default();
        Live { conn_id, slot, signal, client, admission, site, moved, unwritten }
    }

    /// The record that a panic kept from being written down, once.
    pub fn take_unwritten(&self) -> Option<ConnectionRecord> {
        self.unwritten.take().map(|record| *record)
    }

    /// Leaves a record for [`Live::take_unwritten`]. Called while a panic unwinds, and so it must not panic itself.
    pub(super) fn leave(&self, record: ConnectionRecord) {
        if let Ok(mut unwritten) = self.unwritten.try_borrow_mut() {
            *unwritten = Some(Box::new(record));
        }
    }
}

/// Serves one accepted connection to its end. Every way out has written its audit record.
pub async fn serve<H: Host>(host: Rc<H>, entry: Arc<Entry>, client: Socket, live: Rc<Live>) {
    let Ok(peer) = client.address(End::Peer) else {
        // Gone between accept and now; there is not even an address to write down.
        host.handshake_over(&entry, &live);
        return;
    };
    let mut account = Account::open(host.reactor(), &entry, &live, peer);
    let greeted = handshake(&host, &entry, &client, &mut account, &live).await;
    host.handshake_over(&entry, &live);
    match greeted {
        Ok(greeted) => serve_admitted(&host, &entry, client, &live, &mut account, greeted).await,
        Err(refused) => {
            // A TCP health check says nothing: nothing was asked, nothing was refused.
            if refused.spoke {
                host.refused(&entry, account.record(Event::Refused, None));
            }
            if refused.alerted {
                say_goodbye(&host, &client).await;
            }
        }
    }
}

async fn serve_admitted<H: Host>(
    host: &Rc<H>,
    entry: &Entry,
    client: Socket,
    live: &Live,
    account: &mut Account,
    greeted: Box<Greeted>,
) {
    let Greeted { session, early, peer_closed, cpu, place: _place } = *greeted;
    let Some(established) = session.established() else { return };
    let wall = account.established(established);
    host.handshake_done(entry, established, Took { wall, cpu });
    if let Some(why) = established.declined {
        host.declined(why);
    }
    let _ = live.admission.set(established.admission.clone());
    let _ = live.site.set(established.site.name().clone());
    if !host.still_admitted(live) {
        return turn_away(host, &client, session, account, CloseReason::NoLongerAdmitted).await;
    }
    let not_after = established.ends_at.filter(|_| entry.limits.end_at_expiry);
    let connecting = upstream::connect(host, entry, established);
    let (backend, seat) = match live.signal.unless(connecting).await {
        Ok(Some(connected)) => connected,
        Ok(None) => return turn_away(host, &client, session, account, CloseReason::BackendUnavailable).await,
        Err(reason) => return turn_away(host, &client, session, account, reason).await,
    };
    let no_fin = NoFin(Some(&backend));
    #[cfg(debug_assertions)]
    super::fault::panic_if_asked("connected", session.sni());
    account.backend(&entry.backend(&established.site).1.servers[seat.server()].label);
    let mut first = host.shelf().take();
    upstream::write_header(entry, account, &client, established, &mut first);
    first.extend_from_slice(&early);
    let first = First { bytes: first, early: early.len(), peer_closed };
    drop(early);
    let deadlines = Deadlines {
        idle_timeout: entry.limits.idle_timeout,
        not_after,
        oldest: (!entry.limits.max_age.is_zero()).then(|| account.accepted_at() + entry.limits.max_age),
    };
    match kernel::enter(host, entry, (&client, &backend), session) {
        Way::User(session) => {
            host.accepted(account.record(Event::Accepted, None));
            let transfer = Transfer::new(host, account, (&client, &backend), *session);
            let cause = transfer.run(first, &deadlines, &live.signal).await;
            no_fin.disarm();
            let remains = transfer.into_remains();
            write_down(host, account, cause.as_ref());
            if let Some(cause) = cause {
                finish(host, client, backend, cause, remains).await;
            }
        }
        Way::Kernel(entered) => {
            no_fin.disarm();
            // Boxed, so that connections in user space have no room for it.
            Box::pin(by_kernel(host, live, account, (client, backend), (*entered, first, deadlines))).await;
        }
        Way::Lost(detail) => {
            no_fin.disarm();
            host.accepted(account.record(Event::Accepted, None));
            // No byte of the client's was read yet, and none can be answered: what is sent now would not be sealed.
            write_down(host, account, Some(&Cause::Tls { our_alert: None, peer_alert: None, detail }));
            client.reset_on_close();
            backend.reset_on_close();
        }
    }
    drop(seat);
}

/// Moves the bytes by the kernel path, and closes both sockets.
async fn by_kernel<H: Host>(
    host: &Rc<H>,
    live: &Live,
    account: &mut Account,
    (client, backend): (Socket, Socket),
    (entered, first, deadlines): (Entered, First, Deadlines),
) {
    let no_fin = NoFin(Some(&backend));
    account.path(entered.path());
    host.accepted(account.record(Event::Accepted, None));
    let transfer = KernelTransfer::new(host, account, (&client, &backend), entered);
    let cause = transfer.run(first, &deadlines, &live.signal).await;
    no_fin.disarm();
    let remains = transfer.into_remains();
    write_down(host, account, cause.as_ref());
    if let Some(cause) = cause {
        kernel::finish(host, client, backend, cause, remains).await;
    }
}

/// The last record of a connection that had a backend.
fn write_down<H: Host>(host: &Rc<H>, account: &mut Account, cause: Option<&Cause>) {
    let reason = cause.map_or(CloseReason::Done, Cause::close_reason);
    if let Some(Cause::Tls { our_alert, peer_alert, detail }) = cause {
        account.alerts(*our_alert, *peer_alert, detail);
    }
    host.closed(account.record(Event::Closed, Some(reason)));
}

/// Makes a backend see a reset where a panic ends the connection, or the worker's own end: the end of file that a plain
/// close sends would look orderly.
struct NoFin<'a>(Option<&'a Socket>);

impl NoFin<'_> {
    /// From here on the connection's own end decides.
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for NoFin<'_> {
    fn drop(&mut self) {
        if let Some(backend) = self.0 {
            backend.reset_on_close();
        }
    }
}

/// Ends a connection that will have no backend: in order, for TLS has nothing to complain of.
async fn turn_away<H: Host>(
    host: &Rc<H>,
    client: &Socket,
    mut session: Session,
    account: &Account,
    reason: CloseReason,
) {
    host.closed(account.record(Event::Closed, Some(reason)));
    let mut out = host.shelf().take();
    session.close_notify(&mut out);
    last_words(host, client, out).await;
}

/// Closes both sockets as the cause demands (contract section 3).
async fn finish<H: Host>(host: &Rc<H>, client: Socket, backend: Socket, cause: Cause, remains: Remains) {
    let Remains { upward_done, downward_done, mid_record, mut replies, mut session } = remains;
    if !upward_done {
        // The client's bytes ended in no orderly way, and the backend must not take it for one. Where the backend is
        // gone already this does nothing; a send that failed for want of memory leaves it there.
        backend.reset_on_close();
    }
    drop(backend);
    match cause {
        Cause::BackendReset | Cause::ClientReset => client.reset_on_close(),
        Cause::Truncated => {}
        _ if mid_record => client.reset_on_close(),
        Cause::Tls { .. } if !downward_done => last_words(host, &client, replies).await,
        Cause::Asked(_) if !downward_done => {
            session.close_notify(&mut replies);
            last_words(host, &client, replies).await;
        }
        Cause::Tls { .. } | Cause::Asked(_) => {}
    }
}

/// Sends an alert or close_notify to a client that may not read any more.
async fn last_words<H: Host>(host: &Rc<H>, client: &Socket, bytes: Vec<u8>) {
    let deadline = host.reactor().now() + host.goodbye_time();
    if let Some((Ok(()), bytes)) = host.reactor().until(deadline, client.send(bytes)).await {
        host.shelf().give(bytes);
        say_goodbye(host, client).await;
    }
}
