//! What rustls's callbacks need to know of the connection that they are called for: a scoped thread-local.
//!
//! The verifier, the resolver, the ticketer and the clock that rustls calls get no connection. Each session therefore
//! lends its [`Handshake`] for exactly the length of one call into rustls: [`enter`] moves it in, the guard's drop moves
//! it out again, on unwinding too. Outside of such a call there is none, and every callback refuses. Nothing of one
//! connection can so be seen by another, whatever order they are served in.

use super::Environment;
use super::quota::{Quota, QuotaPlace};
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
    /// What the client's Finished must be was computed, and so the next that fails is the comparison.
    pub finished_compared: bool,
    /// How we signed.
    pub scheme: Option<SignatureScheme>,
    /// Which of the site's certificates was chosen.
    pub certificate: usize,
    pub tickets: TicketState,
    /// How many connections each identity may have.
    pub quota: Option<Quota>,
    /// This client's, once it has proven who it is.
    pub place: Option<QuotaPlace>,
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
            finished_compared: false,
            scheme: None,
            certificate: 0,
            tickets: TicketState::default(),
            quota: None,
            place: None,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::tests::support::*;
    use rustls::time_provider::TimeProvider;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn handshake(world: &World, now: u64) -> Option<Box<Handshake>> {
        let site = world.tables[0].select(None).unwrap().clone();
        Some(Box::new(Handshake::new(unix(now), world.environment.clone(), site, None)))
    }

    #[test]
    fn nobody_is_there_but_while_somebody_is_lent() {
        let pki = Pki::new();
        let world = World::new(&pki, &one_site("", OFF));
        let mut lent_out = handshake(&world, 7);
        assert_eq!(ScopeClock.current_time(), None);
        let lent = enter(&mut lent_out);
        assert_eq!(ScopeClock.current_time(), Some(unix(7)));
        drop(lent);
        assert_eq!(ScopeClock.current_time(), None);
        assert!(lent_out.is_some());
        let mut nobody = None;
        let _lent = enter(&mut nobody);
        assert_eq!(ScopeClock.current_time(), None);
    }

    #[test]
    fn a_panic_in_a_callback_or_around_it_leaves_nothing_behind() {
        let pki = Pki::new();
        let world = World::new(&pki, &one_site("", OFF));
        let mut lent_out = handshake(&world, 7);
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            let _lent = enter(&mut lent_out);
            let inner = catch_unwind(AssertUnwindSafe(|| with(|_| panic!("in a callback"))));
            assert!(inner.is_err());
            assert_eq!(ScopeClock.current_time(), Some(unix(7)), "the next callback still finds it");
            panic!("in rustls");
        }));
        assert!(unwound.is_err());
        assert_eq!(ScopeClock.current_time(), None);
        assert!(lent_out.is_some(), "it went home");
    }

    #[test]
    fn a_callback_within_a_callback_finds_nobody() {
        let pki = Pki::new();
        let world = World::new(&pki, &one_site("", OFF));
        let mut lent_out = handshake(&world, 7);
        let _lent = enter(&mut lent_out);
        assert_eq!(with(|_| with(|_| ()).is_none()), Some(true));
    }
}
