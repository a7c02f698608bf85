//! The epoll kernel, for containers and hosts that forbid io_uring: each operation is tried without waiting, and only what
//! must wait asks epoll, which then tells when to try again.
//!
//! Edge-triggered, and registered once for as long as the descriptor lives: a request that is relayed costs no epoll_ctl,
//! where level-triggered or one-shot interest would cost one for each wait. The price is that a report comes once: what
//! is known of a descriptor is kept in its [`Watch`] until a try finds nothing more. Both directions are registered
//! together only where something had to wait for room; unix sockets would report every read of their peer otherwise.

mod attempt;
mod buffers;
mod watch;

use super::buffers::BufferSizes;
use super::direct;
use super::kernel::{Completion, Family, Kernel, Operation, Token, Wait};
use super::missing::Missing;
use attempt::Verdict;
use buffers::Group;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use std::io;
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};
use watch::{Flight, Side, Watches};

/// Bounds of one loop.
#[derive(Debug, Clone, Copy)]
pub struct EpollOptions {
    /// Descriptors that one turn hears of; the rest are heard of in the next.
    pub events: usize,
    /// Connections that one turn takes from one listener.
    pub accepts: usize,
    pub buffers: BufferSizes,
}

/// epoll waits in whole milliseconds, rounded up. A moment closer than this is awaited awake: a task that asked for no more
/// than the next turn would sleep a thousand times too long otherwise.
const AWAKE_MAX: Duration = Duration::from_micros(50);

/// Longer sleeps would take a system call that sandboxes may not know; waking for nothing this seldom costs nothing.
const ASLEEP_MAX: Duration = Duration::from_secs(3600);

/// A unix socket whose backlog is full says so at once, and nothing tells when there is room: tried again after this.
const CROWDED_PAUSE: Duration = Duration::from_millis(5);

/// An epoll descriptor and what is known of the descriptors in it.
pub struct Epoll {
    poll: OwnedFd,
    watches: Watches,
    groups: [Group; 2],
    /// To be tried in the next turn, heard of or not.
    untried: Vec<Token>,
    /// Its memory, while the other is gone through.
    trying: Vec<Token>,
    /// Connects that found a full backlog.
    crowded: Vec<Token>,
    crowded_until: Instant,
    /// Cancelled, and not told yet.
    ended: Vec<Completion>,
    events: Vec<epoll::Event>,
    accepts: usize,
}

impl Epoll {
    /// An empty epoll.
    ///
    /// # Errors
    /// What is missing on this machine.
    pub fn new(options: EpollOptions) -> Result<Epoll, Missing> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|error| Missing::diagnose("epoll_create1", &error.into()))?;
        let groups = [options.buffers.small, options.buffers.large].map(|(count, bytes)| Group::new(count, bytes));
        Ok(Epoll {
            poll,
            watches: Watches::default(),
            groups,
            untried: Vec::new(),
            trying: Vec::new(),
            crowded: Vec::new(),
            crowded_until: Instant::now(),
            ended: Vec::new(),
            events: Vec::with_capacity(options.events.max(1)),
            accepts: options.accepts.max(1),
        })
    }

    /// Tries an operation that waits on `side` of a descriptor, and waits on if it must.
    fn attempt(&mut self, token: Token, (file, side): (RawFd, Side), completions: &mut Vec<Completion>) {
        let Some(mut flight) = self.watches.of(file).take(side, token) else { return };
        let verdict = self.perform(&mut flight, completions);
        let verdict = match verdict {
            Verdict::Wait => self.register(file, &flight.operation).map_or_else(Verdict::Over, |()| Verdict::Wait),
            other => other,
        };
        if let Verdict::Over(result) = verdict {
            completions.push(Completion { token, result, buffer: None, more: false });
            return;
        }
        if let Verdict::Filled(count, buffer) = verdict {
            completions.push(Completion { token, result: count, buffer: Some(buffer), more: false });
            return;
        }
        self.watches.of(file).put(side, flight);
        match verdict {
            // An event and a try of the same turn may both ask for it.
            Verdict::Again if !self.untried.contains(&token) => self.untried.push(token),
            Verdict::Crowded => {
                if self.crowded.is_empty() {
                    self.crowded_until = Instant::now() + CROWDED_PAUSE;
                }
                self.crowded.push(token);
            }
            _ => {}
        }
    }

    /// Makes sure that epoll tells when `operation` is worth another try. What is ready already it tells in this turn, and
    /// so nothing is lost between the try and the registration.
    fn register(&mut self, file: RawFd, operation: &Operation) -> Result<(), i32> {
        let watch = self.watches.of(file);
        let wanted = watch::interest(operation);
        if watch.interest.contains(wanted) {
            return Ok(());
        }
        let (data, flags) = (epoll::EventData::new_u64(watch.key(file)), watch.interest | wanted);
        let borrowed = direct::borrow(file);
        let result = if watch.interest.is_empty() {
            epoll::add(&self.poll, borrowed, data, flags)
        } else {
            epoll::modify(&self.poll, borrowed, data, flags)
        };
        // ENOSPC is fs.epoll.max_user_watches: a shortage, like that of memory, and treated as one by those who accept.
        result.map_err(|_| -libc::ENOMEM)?;
        watch.registered(flags);
        Ok(())
    }

    /// Tries what was started since the last turn, and what could not be told from its event alone.
    fn try_new(&mut self, completions: &mut Vec<Completion>) {
        if !self.crowded.is_empty() && self.crowded_until <= Instant::now() {
            self.untried.append(&mut self.crowded);
        }
        let mut trying = std::mem::replace(&mut self.untried, std::mem::take(&mut self.trying));
        for token in trying.drain(..) {
            if let Some(place) = self.watches.find(token) {
                self.attempt(token, place, completions);
            }
        }
        self.trying = trying;
    }

    fn hear(&mut self, event: epoll::Event, completions: &mut Vec<Completion>) {
        let data = event.data;
        let Some((file, watch)) = self.watches.of_key(data.u64()) else { return };
        let told = event.flags;
        let worth_it = watch.note(told);
        while let Some(flight) = watch.take_looker(told) {
            let result = told.bits() as i32;
            completions.push(Completion { token: flight.token, result, buffer: None, more: false });
        }
        let waiting = Side::BOTH.map(|side| watch.waits(side).filter(|_| worth_it.contains(&side)));
        // Reads first: a reset is told once, and whoever reads must not take it for an orderly end.
        for (side, token) in Side::BOTH.into_iter().zip(waiting) {
            if let Some(token) = token {
                self.attempt(token, (file, side), completions);
            }
        }
    }

    /// How long this turn may sleep; `None`: for ever.
    fn patience(&self, wait: Wait, busy: bool) -> Option<Duration> {
        let until = |moment: Instant| match moment.saturating_duration_since(Instant::now()) {
            soon if soon <= AWAKE_MAX => Duration::ZERO,
            later => later.min(ASLEEP_MAX),
        };
        let asked = match wait {
            _ if busy => Some(Duration::ZERO),
            Wait::Not => Some(Duration::ZERO),
            Wait::Until(moment) => Some(until(moment)),
            Wait::Forever => None,
        };
        let crowded = (!self.crowded.is_empty()).then(|| until(self.crowded_until));
        [asked, crowded].into_iter().flatten().min()
    }
}

impl Kernel for Epoll {
    unsafe fn start(&mut self, token: Token, operation: Operation) {
        let (file, side) = watch::place(&operation);
        let watch = self.watches.of(file);
        // For as long as the process lives and for its heirs: the calls below must not wait. It can fail only on what is
        // neither, and then they say so.
        if matches!(operation, Operation::Accept { .. })
            || matches!(operation, Operation::Read { .. }) && watch.interest.is_empty()
        {
            let _ = direct::set_waiting(file, false);
        }
        if watch.is_taken(side) {
            debug_assert!(false, "two operations on one side of descriptor {file}: their order would be chance");
            self.ended.push(Completion { token, result: -libc::EBUSY, buffer: None, more: false });
            return;
        }
        let worth_trying = watch.may(side) || !watch.interest.contains(watch::interest(&operation));
        watch.put(side, Flight { token, operation, sent: 0 });
        self.watches.remember(token, file);
        if worth_trying {
            self.untried.push(token);
        }
    }

    fn cancel(&mut self, token: Token) {
        let Some((file, side)) = self.watches.find(token) else { return };
        let Some(flight) = self.watches.of(file).take(side, token) else { return };
        let result = if flight.sent > 0 { flight.sent as i32 } else { -libc::ECANCELED };
        self.ended.push(Completion { token, result, buffer: None, more: false });
    }

    fn turn(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()> {
        completions.append(&mut self.ended);
        self.try_new(completions);
        let busy = !completions.is_empty() || !self.untried.is_empty();
        let patience = self
            .patience(wait, busy)
            .map(|patience| Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: patience.subsec_nanos().into() });
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        let heard = epoll::wait(&self.poll, spare_capacity(&mut events), patience.as_ref());
        for event in events.drain(..) {
            self.hear(event, completions);
        }
        self.events = events;
        match heard {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn buffers(&self, group: u16) -> usize {
        self.groups[group as usize].count()
    }

    fn buffer(&mut self, group: u16, buffer: u16) -> (*mut u8, usize) {
        self.groups[group as usize].buffer(buffer)
    }

    fn recycle(&mut self, group: u16, buffer: u16) {
        self.groups[group as usize].take_back(buffer);
    }

    fn socket(&mut self, family: Family) -> io::Result<RawFd> {
        let socket = direct::socket(family)?;
        socket.set_nonblocking(true)?;
        let file = socket.into_raw_fd();
        self.watches.renew(file);
        Ok(file)
    }

    fn accept_waiting(&mut self, listener: RawFd) -> io::Result<RawFd> {
        let file = direct::accept_waiting(listener)?;
        self.watches.renew(file);
        // It cannot fail on a socket.
        let _ = direct::set_waiting(file, false);
        Ok(file)
    }

    fn close(&mut self, file: RawFd) {
        let watch = self.watches.of(file);
        if !watch.interest.is_empty() {
            // Closing alone would not end it where another descriptor names the same file. It cannot fail on what is
            // registered, and what it would leave behind is told from newer descriptors by the generation.
            let _ = epoll::delete(&self.poll, direct::borrow(file));
        }
        self.watches.renew(file);
        direct::close(file);
    }

    fn send_now(&mut self, socket: RawFd, bytes: &[u8]) -> io::Result<usize> {
        let sent = direct::send_now(socket, bytes);
        match &sent {
            Ok(count) if *count == bytes.len() => {}
            Ok(_) => self.watches.of(socket).is_full(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.watches.of(socket).is_full(),
            Err(_) => self.watches.of(socket).is_broken(),
        }
        sent
    }
}
