//! Receive buffers: small hot groups shared by all connections of a worker. An idle connection holds none.

use super::reactor::Reactor;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// The two groups of buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    Small,
    Large,
}

impl Size {
    pub(super) const ALL: [Size; 2] = [Size::Small, Size::Large];

    /// The group's number toward the kernel.
    pub fn group(self) -> u16 {
        match self {
            Size::Small => 0,
            Size::Large => 1,
        }
    }

    pub(super) fn of_group(group: u16) -> Size {
        if group == 0 { Size::Small } else { Size::Large }
    }
}

/// Count (a power of two) and bytes of each group's buffers.
#[derive(Debug, Clone, Copy)]
pub struct BufferSizes {
    pub small: (u16, usize),
    pub large: (u16, usize),
}

/// A filled receive buffer. It goes back to its group when dropped.
pub struct Lease {
    reactor: Rc<Reactor>,
    size: Size,
    buffer: u16,
    bytes: NonNull<[u8]>,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lease({:?}, {} bytes)", self.size, self.len())
    }
}

impl Lease {
    /// The first `len` bytes of a buffer that a completion handed over.
    pub(super) fn new(reactor: &Rc<Reactor>, size: Size, buffer: u16, len: usize) -> Lease {
        let (pointer, capacity) = reactor.kernel(|kernel| kernel.buffer(size.group(), buffer));
        let pointer = NonNull::new(pointer).expect("a buffer's memory is mapped");
        let bytes = NonNull::slice_from_raw_parts(pointer, len.min(capacity));
        Lease { reactor: reactor.clone(), size, buffer, bytes }
    }

    /// Whether the kernel filled it to the last byte: more is likely waiting.
    pub fn is_full(&self) -> bool {
        let (_, capacity) = self.reactor.kernel(|kernel| kernel.buffer(self.size.group(), self.buffer));
        self.len() == capacity
    }
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the kernel handed this buffer over and gets it back only in `drop`; the reactor that owns the memory
        // is kept alive by `self.reactor`.
        unsafe { self.bytes.as_ref() }
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and a buffer has one lease at a time.
        unsafe { self.bytes.as_mut() }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.reactor.recycle(self.size, self.buffer);
    }
}

/// How many buffers of a group are free, and who waits for one, first come first served.
#[derive(Debug)]
pub(super) struct BufferPool {
    free: Cell<usize>,
    waiting: RefCell<VecDeque<(u64, Waker)>>,
    tickets: Cell<u64>,
}

impl BufferPool {
    pub fn new(free: usize) -> BufferPool {
        BufferPool { free: Cell::new(free), waiting: RefCell::default(), tickets: Cell::new(0) }
    }

    pub fn taken(&self) {
        self.free.set(self.free.get().saturating_sub(1));
    }

    pub fn returned(&self) {
        self.free.set(self.free.get() + 1);
        self.wake_next();
    }

    /// Resolves when a buffer is free; the one who waited longest hears of it first.
    pub async fn free(&self) {
        let ticket = self.tickets.get();
        self.tickets.set(ticket + 1);
        let mut waiter = Waiter { pool: self, ticket, state: Waiting::New };
        std::future::poll_fn(|cx| waiter.poll(cx.waker())).await;
    }

    fn wake_next(&self) {
        let next = self.waiting.borrow_mut().pop_front();
        if let Some((_, waker)) = next {
            waker.wake();
        }
    }
}

#[derive(PartialEq)]
enum Waiting {
    New,
    Queued,
    Over,
}

struct Waiter<'a> {
    pool: &'a BufferPool,
    ticket: u64,
    state: Waiting,
}

impl Waiter<'_> {
    fn poll(&mut self, waker: &Waker) -> Poll<()> {
        let mut waiting = self.pool.waiting.borrow_mut();
        let place = waiting.iter_mut().find(|(ticket, _)| *ticket == self.ticket);
        match (&self.state, place) {
            (Waiting::Queued, Some(place)) => {
                place.1 = waker.clone();
                Poll::Pending
            }
            // Woken, or a buffer was free from the start: all may have come back before this one began to wait.
            (Waiting::Queued, None) => {
                self.state = Waiting::Over;
                Poll::Ready(())
            }
            _ if self.pool.free.get() > 0 => {
                self.state = Waiting::Over;
                Poll::Ready(())
            }
            _ => {
                waiting.push_back((self.ticket, waker.clone()));
                self.state = Waiting::Queued;
                Poll::Pending
            }
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if self.state != Waiting::Queued {
            return;
        }
        let mut waiting = self.pool.waiting.borrow_mut();
        let before = waiting.len();
        waiting.retain(|(ticket, _)| *ticket != self.ticket);
        // It had been woken and did not live to use the buffer: the next in the queue may.
        if waiting.len() == before {
            drop(waiting);
            self.pool.wake_next();
        }
    }
}
