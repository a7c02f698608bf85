//! Moments that futures wait for. Deadlines that move with every byte are kept by their owners, who sleep again when
//! they wake too early, so that traffic costs no timer work.

use super::reactor::Reactor;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

#[derive(Debug, Default)]
pub(super) struct Timers {
    wakers: BTreeMap<(Instant, u64), Waker>,
    next: u64,
}

impl Timers {
    pub fn soonest(&self) -> Option<Instant> {
        self.wakers.keys().next().map(|(moment, _)| *moment)
    }

    /// Takes out the wakers of all moments that have come.
    pub fn take_due(&mut self, now: Instant) -> Vec<Waker> {
        let mut due = Vec::new();
        while let Some(entry) = self.wakers.first_entry()
            && entry.key().0 <= now
        {
            due.push(entry.remove());
        }
        due
    }

    fn insert(&mut self, moment: Instant, waker: Waker) -> (Instant, u64) {
        let key = (moment, self.next);
        self.next += 1;
        self.wakers.insert(key, waker);
        key
    }
}

/// Resolves once the reactor's clock has reached a moment.
#[derive(Debug)]
pub struct Sleep {
    reactor: Rc<Reactor>,
    moment: Instant,
    registered: Option<((Instant, u64), Waker)>,
}

impl Reactor {
    /// A future that waits for `moment`; past moments are ready at once.
    pub fn sleep_until(self: &Rc<Self>, moment: Instant) -> Sleep {
        Sleep { reactor: self.clone(), moment, registered: None }
    }

    /// Lets the loop look at the kernel once before the task goes on.
    pub async fn next_turn(self: &Rc<Self>) {
        // A moment that has come already fires with the next look at the timers; polled first, it would be ready now.
        self.sleep_until(self.now() + std::time::Duration::from_nanos(1)).await;
    }

    /// `future`, or `None` once `moment` has come.
    pub fn until<F: Future>(self: &Rc<Self>, moment: Instant, future: F) -> Until<F> {
        Until { future, sleep: self.sleep_until(moment) }
    }
}

pin_project_lite::pin_project! {
    /// What [`Reactor::until`] gives. By hand, because an async fn keeps room for its arguments twice.
    #[derive(Debug)]
    pub struct Until<F> {
        #[pin]
        future: F,
        sleep: Sleep,
    }
}

impl<F: Future> Future for Until<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Some(output));
        }
        Pin::new(this.sleep).poll(cx).map(|()| None)
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.reactor.now() >= this.moment {
            this.forget();
            return Poll::Ready(());
        }
        // A connection's timers are polled with its every byte: only a change of task touches the map.
        if !this.registered.as_ref().is_some_and(|(_, waker)| waker.will_wake(cx.waker())) {
            this.forget();
            let key = this.reactor.timers().insert(this.moment, cx.waker().clone());
            this.registered = Some((key, cx.waker().clone()));
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.forget();
    }
}

impl Sleep {
    fn forget(&mut self) {
        if let Some((key, _)) = self.registered.take() {
            // A waker is dropped outside the borrow: it may be the last hold on a task.
            let waker = self.reactor.timers().wakers.remove(&key);
            drop(waker);
        }
    }
}
