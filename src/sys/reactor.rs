//! Operations in flight, their wakers, timers, and who waits for a buffer. One thread.

use super::buffers::{BufferPool, Size};
use super::kernel::{Completion, Kernel, Operation, Token, Wait};
use super::operation::Outcome;
use super::socket::Descriptor;
use super::timers::Timers;
use slab::Slab;
use std::cell::{Cell, RefCell, RefMut};
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime};

/// What an operation owns until its last completion. Never read by us meanwhile.
#[derive(Debug)]
pub(super) struct Keep {
    /// The descriptor in use: it is closed only when nothing uses it any more.
    #[allow(dead_code, reason = "held for its drop")]
    pub descriptor: Rc<Descriptor>,
    pub memory: Memory,
}

/// Memory that an operation reads or writes.
#[derive(Debug)]
pub(super) enum Memory {
    None,
    Bytes(Vec<u8>),
    Address(#[allow(dead_code, reason = "held for the kernel")] Box<socket2::SockAddr>),
}

/// What the group of a receive is, to give its buffer back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Brings {
    Nothing,
    Buffer(Size),
    Descriptor,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    brings: Brings,
    results: VecDeque<(i32, Option<u16>)>,
    /// The kernel has said its last word.
    complete: bool,
    /// The future is gone; results are given back as they come.
    orphan: bool,
    waker: Option<Waker>,
    keep: Option<Keep>,
}

struct Inner {
    kernel: Box<dyn Kernel>,
    slots: Slab<Slot>,
    generation: u32,
}

/// The loop's state, shared by all futures of one thread through an [`Rc`].
pub struct Reactor {
    inner: RefCell<Inner>,
    now: Cell<Instant>,
    timers: RefCell<Timers>,
    pools: [BufferPool; 2],
    spawned: RefCell<Vec<Pin<Box<dyn Future<Output = ()>>>>>,
    completions: RefCell<Vec<Completion>>,
    busy: Cell<Duration>,
}

impl std::fmt::Debug for Reactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reactor").finish_non_exhaustive()
    }
}

impl Reactor {
    /// A reactor over `kernel`.
    pub fn new(kernel: Box<dyn Kernel>) -> Rc<Reactor> {
        let now = kernel.now();
        let pools = Size::ALL.map(|size| BufferPool::new(kernel.buffers(size.group())));
        Rc::new(Reactor {
            inner: RefCell::new(Inner { kernel, slots: Slab::with_capacity(256), generation: 0 }),
            now: Cell::new(now),
            timers: RefCell::default(),
            pools,
            spawned: RefCell::default(),
            completions: RefCell::default(),
            busy: Cell::default(),
        })
    }

    /// The monotonic clock as of this turn.
    pub fn now(&self) -> Instant {
        self.now.get()
    }

    /// The wall clock, read now.
    pub fn wall(&self) -> SystemTime {
        self.inner.borrow().kernel.wall()
    }

    /// The monotonic clock, read now.
    pub fn precise_now(&self) -> Instant {
        self.inner.borrow().kernel.now()
    }

    /// Starts a task of its own; it is first polled in this turn or the next.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.spawned.borrow_mut().push(Box::pin(task));
    }

    /// Time spent outside the kernel's wait so far.
    pub fn busy(&self) -> Duration {
        self.busy.get()
    }

    /// Operations that the kernel has not finished.
    pub fn in_flight(&self) -> usize {
        self.inner.borrow().slots.len()
    }

    pub(super) fn take_spawned(&self) -> Vec<Pin<Box<dyn Future<Output = ()>>>> {
        std::mem::take(&mut *self.spawned.borrow_mut())
    }

    pub(super) fn timers(&self) -> RefMut<'_, Timers> {
        self.timers.borrow_mut()
    }

    /// The kernel for a direct call. Nothing that runs meanwhile may come back here.
    pub(super) fn kernel<T>(&self, call: impl FnOnce(&mut dyn Kernel) -> T) -> T {
        call(&mut *self.inner.borrow_mut().kernel)
    }

    /// Starts an operation.
    ///
    /// # Safety
    /// The pointers in `operation` point into what `keep` owns.
    pub(super) unsafe fn start(&self, operation: Operation, keep: Keep) -> Token {
        let inner = &mut *self.inner.borrow_mut();
        inner.generation = inner.generation.wrapping_add(1);
        let brings = match operation {
            Operation::Accept { .. } => Brings::Descriptor,
            Operation::Receive { group, .. } => Brings::Buffer(Size::of_group(group)),
            _ => Brings::Nothing,
        };
        let index = inner.slots.insert(Slot {
            generation: inner.generation,
            brings,
            results: VecDeque::new(),
            complete: false,
            orphan: false,
            waker: None,
            keep: Some(keep),
        });
        let token = Token::new(index, inner.generation);
        // SAFETY: `keep` lies in the slot until the completion without `more`, so what the pointers name stays.
        unsafe { inner.kernel.start(token, operation) };
        token
    }

    pub(super) fn poll_slot(&self, token: Token, cx: &mut Context<'_>) -> Poll<(Outcome, bool)> {
        let mut guard = self.inner.borrow_mut();
        let index = token.slot();
        let slot = &mut guard.slots[index];
        let Some((result, buffer)) = slot.results.pop_front() else {
            if slot.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                return Poll::Pending;
            }
            let old = slot.waker.replace(cx.waker().clone());
            drop(guard);
            drop(old);
            return Poll::Pending;
        };
        let ended = slot.complete && slot.results.is_empty();
        let keep = if ended { guard.slots.remove(index).keep } else { None };
        Poll::Ready((Outcome { result, buffer, keep }, ended))
    }

    /// Asks the kernel to end an operation whose future still listens.
    pub(super) fn cancel(&self, token: Token) {
        let index = token.slot();
        let inner = &mut *self.inner.borrow_mut();
        if !inner.slots[index].complete {
            inner.kernel.cancel(token);
        }
    }

    /// The future is gone: cancel, and give back what came or will come.
    pub(super) fn abandon(&self, token: Token) {
        let (index, generation) = (token.slot(), token.generation());
        let mut inner = self.inner.borrow_mut();
        let Some(slot) = inner.slots.get_mut(index).filter(|slot| slot.generation == generation) else { return };
        let (brings, results) = (slot.brings, std::mem::take(&mut slot.results));
        let waker = slot.waker.take();
        slot.orphan = true;
        let ended = if slot.complete {
            Some(inner.slots.remove(index))
        } else {
            inner.kernel.cancel(token);
            None
        };
        drop(inner);
        for (result, buffer) in results {
            self.give_back(brings, result, buffer);
        }
        // Dropped only now: a descriptor closes through the kernel that was borrowed above.
        drop((ended, waker));
    }

    /// One turn: submit, sleep as long as `wait` and the timers allow, hand out completions, fire timers.
    pub(super) fn turn(&self, ready: bool) -> io::Result<()> {
        let wait = match (ready, self.timers.borrow().soonest()) {
            (true, _) => Wait::Not,
            (false, Some(moment)) => Wait::Until(moment),
            (false, None) => Wait::Forever,
        };
        let mut completions = std::mem::take(&mut *self.completions.borrow_mut());
        let result = {
            let inner = &mut *self.inner.borrow_mut();
            let before = inner.kernel.now();
            self.busy.set(self.busy.get() + before.saturating_duration_since(self.now.get()));
            let result = inner.kernel.turn(wait, &mut completions);
            self.now.set(inner.kernel.now());
            result
        };
        for completion in completions.drain(..) {
            self.complete(completion);
        }
        *self.completions.borrow_mut() = completions;
        let due = self.timers.borrow_mut().take_due(self.now.get());
        due.into_iter().for_each(Waker::wake);
        result
    }

    fn complete(&self, completion: Completion) {
        let (index, generation) = (completion.token.slot(), completion.token.generation());
        let mut inner = self.inner.borrow_mut();
        let Some(slot) = inner.slots.get_mut(index).filter(|slot| slot.generation == generation) else {
            debug_assert!(false, "a completion for no operation: {completion:?}");
            return;
        };
        slot.complete = !completion.more;
        if let (Brings::Buffer(size), Some(_)) = (slot.brings, completion.buffer) {
            self.pools[size.group() as usize].taken();
        }
        if !slot.orphan {
            slot.results.push_back((completion.result, completion.buffer));
            let waker = slot.waker.take();
            drop(inner);
            if let Some(waker) = waker {
                waker.wake();
            }
            return;
        }
        let brings = slot.brings;
        let ended = slot.complete.then(|| inner.slots.remove(index));
        drop(inner);
        self.give_back(brings, completion.result, completion.buffer);
        drop(ended);
    }

    fn give_back(&self, brings: Brings, result: i32, buffer: Option<u16>) {
        match (brings, buffer) {
            (Brings::Buffer(size), Some(buffer)) => self.recycle(size, buffer),
            (Brings::Descriptor, _) if result >= 0 => self.kernel(|kernel| kernel.close(result)),
            _ => {}
        }
    }

    pub(super) fn recycle(&self, size: Size, buffer: u16) {
        self.kernel(|kernel| kernel.recycle(size.group(), buffer));
        self.pools[size.group() as usize].returned();
    }

    /// Waits until a buffer of that size is free.
    pub(super) async fn buffer_free(&self, size: Size) {
        self.pools[size.group() as usize].free().await;
    }
}
