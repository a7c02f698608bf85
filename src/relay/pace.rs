//! When a handshake's next step may run. A step costs up to a quarter of a millisecond of a core, so each turn of the loop has room
//! for a few: the rest wait for a later turn, in which the traffic of open connections comes first, then resumptions,
//! then full handshakes, each kind in the order in which it came. Some of each kind run in every turn: nobody starves.

use crate::sys::Reactor;
use crate::tls::Cost;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};
use std::time::Instant;

/// How many steps one turn of a loop may run.
#[derive(Debug, Clone, Copy)]
pub struct StepsPerTurn {
    pub resumed: usize,
    pub full: usize,
}

/// One worker's queue of handshakes that wait for their turn.
#[derive(Debug)]
pub struct Pacer {
    reactor: Rc<Reactor>,
    per_turn: StepsPerTurn,
    queue: RefCell<Queue>,
}

#[derive(Debug)]
struct Queue {
    /// The turn that `left` is for.
    turn: Instant,
    left: StepsPerTurn,
    resumed: VecDeque<Weak<Waiter>>,
    full: VecDeque<Weak<Waiter>>,
    /// Whether a task lets them go, turn by turn.
    releasing: bool,
}

/// A step that waits. Whoever gives up drops it.
#[derive(Debug, Default)]
struct Waiter {
    released: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Pacer {
    pub fn new(reactor: Rc<Reactor>, per_turn: StepsPerTurn) -> Rc<Pacer> {
        let (resumed, full) = Default::default();
        let queue = Queue { turn: reactor.now(), left: per_turn, resumed, full, releasing: false };
        Rc::new(Pacer { reactor, per_turn, queue: RefCell::new(queue) })
    }

    /// Takes a step of this turn, if one is left and nobody waits who comes first.
    pub fn try_begin(&self, cost: Cost) -> bool {
        let queue = &mut *self.queue.borrow_mut();
        if queue.turn != self.reactor.now() && !queue.releasing {
            queue.turn = self.reactor.now();
            queue.left = self.per_turn;
        }
        let (left, first) = match cost {
            Cost::Resumed => (&mut queue.left.resumed, queue.resumed.is_empty()),
            Cost::Full => (&mut queue.left.full, queue.full.is_empty() && queue.resumed.is_empty()),
        };
        let free = first && *left > 0;
        *left -= usize::from(free);
        free
    }

    /// Waits for a step.
    pub async fn begin(self: &Rc<Self>, cost: Cost) {
        if self.try_begin(cost) {
            return;
        }
        let waiter = Rc::new(Waiter::default());
        let start = {
            let queue = &mut *self.queue.borrow_mut();
            match cost {
                Cost::Resumed => queue.resumed.push_back(Rc::downgrade(&waiter)),
                Cost::Full => queue.full.push_back(Rc::downgrade(&waiter)),
            }
            !std::mem::replace(&mut queue.releasing, true)
        };
        if start {
            self.reactor.spawn(release(self.clone()));
        }
        std::future::poll_fn(|cx| match waiter.released.get() {
            true => Poll::Ready(()),
            false => {
                let old = waiter.waker.borrow_mut().replace(cx.waker().clone());
                drop(old);
                Poll::Pending
            }
        })
        .await;
    }

    /// Those whose turn has come, and whether others are left.
    fn next_turn(&self) -> (Vec<Rc<Waiter>>, bool) {
        let queue = &mut *self.queue.borrow_mut();
        queue.turn = self.reactor.now();
        queue.left = self.per_turn;
        let mut due = take(&mut queue.resumed, &mut queue.left.resumed);
        due.extend(take(&mut queue.full, &mut queue.left.full));
        queue.releasing = !queue.resumed.is_empty() || !queue.full.is_empty();
        (due, queue.releasing)
    }
}

/// The first `left` of a queue that still wait.
fn take(queue: &mut VecDeque<Weak<Waiter>>, left: &mut usize) -> Vec<Rc<Waiter>> {
    let mut due = Vec::new();
    while *left > 0
        && let Some(waiter) = queue.pop_front()
    {
        if let Some(waiter) = waiter.upgrade() {
            *left -= 1;
            due.push(waiter);
        }
    }
    due
}

/// Lets a bounded number go in each turn. Its timer fires behind the turn's completions, and so what those woke runs
/// before whom it wakes.
async fn release(pacer: Rc<Pacer>) {
    loop {
        pacer.reactor.next_turn().await;
        let (due, more) = pacer.next_turn();
        for waiter in due {
            waiter.released.set(true);
            let waker = waiter.waker.take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        if !more {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
