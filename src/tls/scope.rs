//! What rustls's callbacks need to know of the connection that they are called for: a scoped thread-local.
//!
//! The verifier, the resolver, the ticketer and the clock that rustls calls get no connection. Each session therefore
//! lends its [`Handshake`] for exactly the length of one call into rustls: [`enter`] moves it in, the guard's drop moves
//! it out again, on unwinding too. Outside of such a call there is none, and every callback refuses. Nothing of one
//! connection can so be seen by another, whatever order they are served in.

use super::Environment;
use super::site::Site;
use super::tickets::TicketState;
use crate::trust::{Admission, Refusal};
use rustls::SignatureScheme;
use rustls_pki_types::UnixTime;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

thread_local! {
    static CURRENT: Cell<Option<Box<Handshake>>> = const { Cell::new(None) };
}

/// One connection's handshake, as its callbacks see and change it.
#[derive(Debug)]
pub(super) struct Handshake {
    pub now: UnixTime,
    pub environment: Rc<Environment>,
    pub site: Arc<Site>,
    /// As the ClientHello has it, lower case.
    pub sni: Option<String>,
    /// What `trust` said of the chain that this client presented in this handshake.
    pub decision: Option<Result<Arc<Admission>, Box<Refusal>>>,
    pub proof: Proof,
    /// How we signed.
    pub scheme: Option<SignatureScheme>,
    /// Which of the site's certificates was chosen.
    pub certificate: usize,
    pub tickets: TicketState,
}

/// Whether the client has shown that it holds the key of its certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    NotYet,
    Good,
    Bad,
}

impl Handshake {
    pub(super) fn new(now: UnixTime, environment: Rc<Environment>, site: Arc<Site>, sni: Option<String>) -> Handshake {
        Handshake {
            now,
            environment,
            site,
            sni,
            decision: None,
            proof: Proof::NotYet,
            scheme: None,
            certificate: 0,
            tickets: TicketState::default(),
        }
    }
}

/// Lends `handshake` to the callbacks of this thread until the guard is dropped. `None` lends nothing: an open
/// connection has no handshake, and no callback is due.
pub(super) fn enter(handshake: &mut Option<Box<Handshake>>) -> Lent<'_> {
    let outer = CURRENT.replace(handshake.take());
    Lent { home: handshake, outer }
}

/// While it lives, callbacks see the handshake that was lent.
pub(super) struct Lent<'a> {
    home: &'a mut Option<Box<Handshake>>,
    /// Sessions do not nest; should they, the outer one gets its own back.
    outer: Option<Box<Handshake>>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        *self.home = CURRENT.replace(self.outer.take());
    }
}

/// Runs `f` on the handshake that is lent now. `None` where there is none: the caller has to refuse.
pub(super) fn with<R>(f: impl FnOnce(&mut Handshake) -> R) -> Option<R> {
    struct Returned(Option<Box<Handshake>>);
    impl Drop for Returned {
        fn drop(&mut self) {
            CURRENT.set(self.0.take());
        }
    }
    let mut returned = Returned(CURRENT.take());
    returned.0.as_deref_mut().map(f)
}

/// The clock that rustls reads: the time that the caller of this call gave.
#[derive(Debug)]
pub(super) struct ScopeClock;

impl rustls::time_provider::TimeProvider for ScopeClock {
    fn current_time(&self) -> Option<UnixTime> {
        with(|handshake| handshake.now)
    }
}
