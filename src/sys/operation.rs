//! One operation in flight, as the future that started it sees it.

use super::kernel::{Operation, Token};
use super::reactor::{Keep, Reactor};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// What one completion of an operation brought.
#[derive(Debug)]
pub(super) struct Outcome {
    pub result: i32,
    pub buffer: Option<u16>,
    /// What the operation kept, with its last completion.
    pub keep: Option<Keep>,
}

/// A started operation. Dropped before its end, it is cancelled and its late results are given back.
#[derive(Debug)]
pub(super) struct Flight {
    reactor: Rc<Reactor>,
    token: Token,
    ended: bool,
}

impl Flight {
    /// Starts `operation`; `keep` owns all that its pointers and descriptors refer to.
    ///
    /// # Safety
    /// The pointers in `operation` point into what `keep` owns, which is not moved or touched while it lies there.
    pub unsafe fn start(reactor: &Rc<Reactor>, operation: Operation, keep: Keep) -> Flight {
        // SAFETY: the caller's promise, passed on unchanged.
        let token = unsafe { reactor.start(operation, keep) };
        Flight { reactor: reactor.clone(), token, ended: false }
    }

    /// Asks the kernel to end it; what it still brings comes through [`Flight::poll_next`].
    pub fn cancel(&self) {
        if !self.ended {
            self.reactor.cancel(self.token);
        }
    }

    /// The next completion; `None` after the last one.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Outcome>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match self.reactor.poll_slot(self.token, cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready((outcome, ended)) => {
                self.ended = ended;
                Poll::Ready(Some(outcome))
            }
        }
    }
}

impl Future for Flight {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        self.poll_next(cx).map(|outcome| outcome.expect("a one-shot operation is awaited once"))
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.ended {
            self.reactor.abandon(self.token);
        }
    }
}
