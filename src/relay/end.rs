//! Why and how a connection ends.

use crate::wire::audit::CloseReason;
use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// What ended the transfer before both directions had ended in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The client's TCP stream ended without close_notify.
    Truncated,
    ClientReset,
    BackendReset,
    /// The TLS layer refused what the client sent, or the client sent a fatal alert.
    Tls {
        our_alert: Option<u8>,
        peer_alert: Option<u8>,
        detail: String,
    },
    /// Somebody outside the connection, or a timer.
    Asked(CloseReason),
}

impl Cause {
    /// The audit's word for it.
    pub fn close_reason(&self) -> CloseReason {
        match self {
            Cause::Truncated => CloseReason::Truncated,
            Cause::ClientReset => CloseReason::ClientReset,
            Cause::BackendReset => CloseReason::BackendReset,
            Cause::Tls { .. } => CloseReason::TlsError,
            Cause::Asked(reason) => *reason,
        }
    }
}

/// Ends a connection from outside: drain, a block, a reload.
#[derive(Debug, Default)]
pub struct EndSignal {
    reason: Cell<Option<CloseReason>>,
    waker: RefCell<Option<Waker>>,
}

impl EndSignal {
    /// Asks the connection to end; the first reason stands.
    pub fn end(&self, reason: CloseReason) {
        if self.reason.get().is_none() {
            self.reason.set(Some(reason));
        }
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether it was asked.
    pub fn reason(&self) -> Option<CloseReason> {
        self.reason.get()
    }

    /// Resolves when it is asked. One waiter at a time.
    pub async fn asked(&self) -> CloseReason {
        std::future::poll_fn(|cx| self.poll_asked(cx)).await
    }

    /// The same, to poll.
    pub(super) fn poll_asked(&self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        match self.reason.get() {
            Some(reason) => Poll::Ready(reason),
            None => {
                let old = self.waker.borrow_mut().replace(cx.waker().clone());
                drop(old);
                Poll::Pending
            }
        }
    }

    /// `future`, or the reason if it is asked first.
    pub(super) fn unless<F: Future>(&self, future: F) -> Unless<'_, F> {
        Unless { signal: self, future }
    }
}

pin_project_lite::pin_project! {
    /// What [`EndSignal::unless`] gives.
    pub(super) struct Unless<'a, F> {
        signal: &'a EndSignal,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Unless<'_, F> {
    type Output = Result<F::Output, CloseReason>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.future.poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => this.signal.poll_asked(cx).map(Err),
        }
    }
}
