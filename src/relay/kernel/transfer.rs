//! Both directions of a connection on the kernel path, and what they share.

use super::super::deadlines::Deadlines;
use super::super::end::{Cause, EndSignal};
use super::super::transfer::{First, Marks, until_over, yield_until_polled};
use super::super::{Account, Host};
use super::{By, Entered, Records};
use crate::config::limits;
use crate::sys::ktls::{ALERT, Direction, Trouble};
use crate::sys::splice::PipeLoan;
use crate::sys::{Interest, Socket};
use crate::tls::{Failure, KernelSession, Stay, TrafficKeys};
use crate::wire::audit::Path;
use std::cell::{Cell, RefCell};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

/// The state that both directions share.
pub(in super::super) struct KernelTransfer<'a, H: Host> {
    pub(super) host: &'a Rc<H>,
    pub(super) account: &'a Account,
    pub(super) client: &'a Socket,
    pub(super) backend: &'a Socket,
    pub(super) records: Records,
    pub(super) session: RefCell<KernelSession>,
    by_pipes: bool,
    /// A pipe was wanted, and none to be had.
    went_without: Cell<bool>,
    pub(super) marks: Marks,
    /// The client asked for a change of our keys, and has not got it.
    pub(super) owed: Cell<bool>,
    pub(super) owed_waker: RefCell<Option<Waker>>,
    /// Bytes that may be sealed before the number of records is looked at again: each record has one at least.
    pub(super) unlooked: Cell<u64>,
}

/// What the transfer leaves for the one who closes the sockets.
pub(in super::super) struct KernelRemains {
    /// The backend already has the client's orderly end.
    pub upward_done: bool,
    /// The client already has the backend's orderly end.
    pub downward_done: bool,
    /// Something is half on its way to the client: nothing may follow that would look like an end.
    pub mid_way: bool,
    pub records: Records,
}

impl<'a, H: Host> KernelTransfer<'a, H> {
    pub fn new(
        host: &'a Rc<H>,
        account: &'a Account,
        (client, backend): (&'a Socket, &'a Socket),
        entered: Entered,
    ) -> KernelTransfer<'a, H> {
        let Entered { records, session, by_pipes } = entered;
        account.live().moved.touch(host.reactor().now());
        let (marks, owed, owed_waker, unlooked, went_without) = Default::default();
        let session = RefCell::new(session);
        KernelTransfer {
            host,
            account,
            client,
            backend,
            records,
            session,
            by_pipes,
            went_without,
            marks,
            owed,
            owed_waker,
            unlooked,
        }
    }

    /// Moves bytes until both directions have ended, one breaks, a deadline comes, or `signal` asks for the end.
    /// `None`: both directions ended in order.
    pub async fn run(&self, first: First, deadlines: &Deadlines, signal: &EndSignal) -> Option<Cause> {
        let both = pin!(futures_lite::future::try_zip(self.upward(first), self.downward()));
        let watched = pin!(self.watch_client());
        until_over(&**self.host, self.account, (deadlines, signal), both, watched).await
    }

    /// What is left when it is over.
    pub fn into_remains(self) -> KernelRemains {
        KernelRemains {
            upward_done: self.marks.upward_done.get(),
            downward_done: self.marks.downward_done.get(),
            mid_way: self.marks.sending.get() || self.records.is_mid_way(),
            records: self.records,
        }
    }

    /// A pipe, if the bytes of this direction are to go through one and there is one.
    pub(super) fn pipe(&self, direction: Direction) -> Option<PipeLoan<'a>> {
        if !self.by_pipes || self.records.by(direction) == By::Us {
            return None;
        }
        let pipe = self.host.pipes().take();
        if pipe.is_none() && !self.went_without.replace(true) {
            self.host.stayed(Stay::Pipes);
        }
        pipe
    }

    /// The way of bytes that go through user space.
    pub(super) fn carried(&self, direction: Direction) -> Path {
        match self.records.by(direction) {
            By::Kernel => Path::Ktls,
            By::Us => Path::User,
        }
    }

    pub(super) fn touch(&self) {
        self.account.live().moved.touch(self.host.reactor().now());
    }

    /// Counts what went to the client by that path.
    pub(super) fn went_down(&self, path: Path, count: usize) {
        self.account.live().moved.downward(self.host.reactor().now());
        self.account.count_out(count);
        self.host.bytes_out(path).add(count as u64);
        self.unlooked.set(self.unlooked.get().saturating_sub(count as u64));
    }

    /// Counts what went to the backend by that path.
    pub(super) fn went_up(&self, path: Path, count: usize) {
        match count {
            0 => self.touch(),
            _ => self.account.live().moved.upward(self.host.reactor().now()),
        }
        self.account.count_in(count);
        self.host.bytes_in(path).add(count as u64);
    }

    pub(super) fn install(&self, direction: Direction, keys: &TrafficKeys) -> Result<(), Cause> {
        self.records.change(direction, keys).map_err(|detail| self.tell(Some(INTERNAL_ERROR), &detail))
    }

    /// A failure of the client's, told to it if it can still be told.
    pub(super) fn refuse(&self, failure: &Failure) -> Cause {
        match failure.peer_alert {
            Some(alert) => Cause::Tls { our_alert: None, peer_alert: Some(alert), detail: failure.detail.clone() },
            None => self.tell(failure.our_alert, &failure.detail),
        }
    }

    /// Sends a fatal alert at once, if there is room for it: the kernel keeps records whole. The first error of a socket
    /// is final for reading, and is reported once; so the alert may go at the second attempt.
    pub(super) fn tell(&self, alert: Option<u8>, detail: &str) -> Cause {
        let attempts = if self.records.by(Direction::Transmit) == By::Kernel { 2 } else { 1 };
        let sent = |alert: &u8| (0..attempts).any(|_| self.say_now(ALERT, &[FATAL, *alert]));
        let our_alert = alert.filter(|_| !self.marks.downward_done.get()).filter(sent);
        Cause::Tls { our_alert, peer_alert: None, detail: detail.to_owned() }
    }

    /// Sends a control record at once, if that can be done; what we seal does not go between the bytes of another record,
    /// nor behind our close_notify.
    pub(super) fn say_now(&self, kind: u8, body: &[u8]) -> bool {
        let may = self.records.by(Direction::Transmit) == By::Kernel || !self.marks.sending.get();
        may && self.records.send(self.client, kind, body).is_ok()
    }

    /// Keys of ours are to change, and the kernel that has them cannot do it.
    pub(super) fn cannot_change(&self, why: &str) -> Cause {
        let detail = format!(
            "{why}, and this kernel cannot change them; write ktls = \"auto\" for the listener, or run Linux 6.14 or later"
        );
        self.tell(Some(INTERNAL_ERROR), &detail)
    }

    /// What an error of the client's socket means. Errors of the kernel's TLS layer are not TCP's.
    pub(super) fn broken(&self, error: &io::Error) -> Cause {
        match Trouble::of(error) {
            Trouble::BadRecord => self.tell(Some(BAD_RECORD_MAC), "a record that does not open under its key"),
            Trouble::TooLong => self.tell(Some(RECORD_OVERFLOW), "a record that is too long"),
            Trouble::NoData => self.tell(Some(DECODE_ERROR), "a record that is none"),
            Trouble::NoKeys => self.tell(Some(INTERNAL_ERROR), "the kernel waits for keys"),
            Trouble::NotNow | Trouble::Broken => Cause::ClientReset,
        }
    }

    /// Waits until `socket` is ready. Readiness that brings nothing, again and again, must not make the loop spin.
    pub(super) async fn wait(&self, socket: &Socket, interest: Interest, misses: &Misses) {
        if socket.ready(interest).await.is_err() || misses.many() {
            let pause = Duration::from_millis(limits::KERNEL_TLS_PAUSE_MS);
            self.host.reactor().sleep_until(self.host.reactor().now() + pause).await;
        }
    }

    /// Sends all of `bytes` from user space, and tells of each part that went.
    pub(super) async fn send_all(&self, to: &Socket, mut bytes: &[u8], went: impl Fn(usize)) -> io::Result<()> {
        let misses = Misses::default();
        while !bytes.is_empty() {
            match to.send_now(bytes) {
                Ok(sent) if sent > 0 => {
                    misses.hit();
                    went(sent);
                    bytes = &bytes[sent..];
                }
                Err(error) if Trouble::of(&error) != Trouble::NotNow => return Err(error),
                _ => self.wait(to, Interest::Write, &misses).await,
            }
        }
        Ok(())
    }

    /// After the client's close_notify only one thing is still of interest from it: that it went away.
    async fn watch_client(&self) -> Cause {
        while !self.marks.upward_done.get() {
            yield_until_polled().await;
        }
        let misses = Misses::default();
        self.wait(self.client, Interest::End, &misses).await;
        let patience = Duration::from_millis(limits::GONE_CLIENT_MS);
        self.host.reactor().sleep_until(self.host.reactor().now() + patience).await;
        Cause::ClientReset
    }
}

/// Times in a row that a socket was ready and had nothing.
#[derive(Debug, Default)]
pub(super) struct Misses(Cell<u32>);

impl Misses {
    pub fn hit(&self) {
        self.0.set(0);
    }

    /// Whether it was more than the one time that every wait ends with.
    pub fn repeated(&self) -> bool {
        self.0.get() > 1
    }

    fn many(&self) -> bool {
        self.0.set(self.0.get().saturating_add(1));
        self.0.get() > limits::KERNEL_TLS_MISSES_MAX
    }
}

const FATAL: u8 = 2;
const BAD_RECORD_MAC: u8 = 20;
const RECORD_OVERFLOW: u8 = 22;
const DECODE_ERROR: u8 = 50;
const INTERNAL_ERROR: u8 = 80;
