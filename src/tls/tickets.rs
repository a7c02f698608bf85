//! What a site's tickets bind, and which of those that come back are taken.
//!
//! rustls verifies no client again when it resumes, and binds a session to nothing but name and cipher suite. So the
//! ticket says which policy admitted which chain, when the full handshake was, and when all of it ends at the latest;
//! and whoever brings it goes through [`crate::trust::admit`] again before rustls sees what is inside. Any mismatch
//! declines the ticket, never the client: rustls then does a full handshake.

use super::Declined;
use super::scope::{self, Handshake, Proof};
use super::session_value::SessionValue;
use super::ticket_keys::TicketKeys;
use crate::config::{self, limits};
use crate::trust::{self, Admission, ChainDigest, Look, Policy, PolicyId, Presented, Reason};
use rustls::server::ProducesTickets;
use std::sync::Arc;

const FORMAT: u8 = 1;

/// What stands before rustls's bytes in a ticket. Times are seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bound {
    policy: PolicyId,
    chain: ChainDigest,
    issued: u64,
    /// The last full handshake, over any number of renewals.
    authenticated: u64,
    /// The last second of this session and of every renewal of it.
    end: u64,
}

impl Bound {
    const LEN: usize = 1 + 32 + 32 + 8 + 8 + 8;

    fn encode(&self) -> [u8; Bound::LEN] {
        let mut bytes = [0; Bound::LEN];
        bytes[0] = FORMAT;
        bytes[1..33].copy_from_slice(&self.policy.0);
        bytes[33..65].copy_from_slice(&self.chain.0);
        bytes[65..73].copy_from_slice(&self.issued.to_be_bytes());
        bytes[73..81].copy_from_slice(&self.authenticated.to_be_bytes());
        bytes[81..89].copy_from_slice(&self.end.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Bound> {
        let (format, rest) = bytes.split_first()?;
        let (policy, rest) = rest.split_first_chunk::<32>()?;
        let (chain, rest) = rest.split_first_chunk::<32>()?;
        let (issued, rest) = rest.split_first_chunk::<8>()?;
        let (authenticated, rest) = rest.split_first_chunk::<8>()?;
        let (end, rest) = rest.split_first_chunk::<8>()?;
        (*format == FORMAT && rest.is_empty()).then_some(Bound {
            policy: PolicyId(*policy),
            chain: ChainDigest(*chain),
            issued: u64::from_be_bytes(*issued),
            authenticated: u64::from_be_bytes(*authenticated),
            end: u64::from_be_bytes(*end),
        })
    }
}

/// A ticket that this connection brought and that held.
#[derive(Debug)]
pub(super) struct Opened {
    pub admission: Arc<Admission>,
    authenticated: u64,
    end: u64,
}

/// What tickets did in one handshake.
#[derive(Debug, Default)]
pub(super) struct TicketState {
    tried: u32,
    /// In the order in which rustls asked; it resumes the last one, or none.
    opened: Vec<Opened>,
    /// Why none was taken, so far.
    declined: Option<Declined>,
    issued: u32,
    /// Lifetime of the ticket sealed last.
    lifetime_secs: u32,
}

impl TicketState {
    /// A client that shows its certificate starts anew: nothing of a ticket that it also brought carries over.
    pub(super) fn forget_opened(&mut self) {
        self.opened.clear();
    }

    /// The ticket that a session with this chain can have come from.
    pub(super) fn opened_for(&self, chain: ChainDigest) -> Option<&Opened> {
        self.opened.iter().rev().find(|opened| opened.admission.digest() == chain)
    }

    /// Whom the ticket is for that was opened last.
    pub(super) fn last_opened(&self) -> Option<&Arc<Admission>> {
        self.opened.last().map(|opened| &opened.admission)
    }

    /// Why tickets were brought and none was taken; `None` where none was brought.
    pub(super) fn declined(&self) -> Option<Declined> {
        self.declined
    }

    /// A ticket that is ours tells more than one that we cannot read.
    fn decline(&mut self, why: Declined) {
        if matches!(self.declined, None | Some(Declined::UnknownKey)) {
            self.declined = Some(why);
        }
    }
}

/// The ticketer of one site.
#[derive(Debug)]
pub(super) struct SiteTickets {
    keys: Arc<TicketKeys>,
    policy: Arc<Policy>,
    lifetime_secs: u64,
    max_auth_age_secs: u64,
}

impl SiteTickets {
    pub(super) fn new(keys: Arc<TicketKeys>, policy: Arc<Policy>, config: &config::Tickets) -> SiteTickets {
        SiteTickets {
            keys,
            policy,
            lifetime_secs: config.lifetime.min(limits::TICKET_LIFETIME_MAX).as_secs(),
            max_auth_age_secs: config.max_auth_age.as_secs(),
        }
    }

    fn seal(&self, handshake: &mut Handshake, plain: &[u8]) -> Option<Vec<u8>> {
        if plain.len() > limits::TICKET_BYTES_MAX || !self.is_site_of(handshake) {
            return None;
        }
        let now = handshake.now.as_secs();
        let session = SessionValue::parse(plain)?;
        let chain = digest_of(&session);
        let (authenticated, end) = match handshake.tickets.opened_for(chain) {
            // One is enough to a client that is here with one: it used up one, not two.
            Some(_) if handshake.tickets.issued > 0 => return None,
            Some(_) => self.carried_over(&handshake.tickets),
            None => (now, self.end_of(&*admitted(handshake, &session, chain)?, now)),
        };
        let lifetime = end.checked_sub(now)?.min(self.lifetime_secs);
        if lifetime == 0 {
            return None;
        }
        let bound = Bound { policy: self.policy.id(), chain, issued: now, authenticated, end };
        let ticket = self.keys.seal(&bound.encode(), plain, handshake.now)?;
        handshake.tickets.issued += 1;
        handshake.tickets.lifetime_secs = u32::try_from(lifetime).unwrap_or(u32::MAX);
        Some(ticket)
    }

    fn open(&self, handshake: &mut Handshake, ticket: &[u8]) -> Result<Vec<u8>, Declined> {
        handshake.tickets.tried += 1;
        if handshake.tickets.tried > limits::TICKETS_TRIED_MAX || !self.is_site_of(handshake) {
            return Err(Declined::UnknownKey);
        }
        let plain = self.keys.open(ticket, handshake.now).ok_or(Declined::UnknownKey)?;
        let (bound, inner) = plain.split_at_checked(Bound::LEN).ok_or(Declined::UnknownKey)?;
        let bound = Bound::decode(bound).ok_or(Declined::UnknownKey)?;
        self.check(&bound, handshake.now.as_secs())?;
        let session = SessionValue::parse(inner).ok_or(Declined::UnknownKey)?;
        if session.sni != handshake.sni.as_deref() {
            return Err(Declined::Sni);
        }
        if digest_of(&session) != bound.chain {
            return Err(Declined::UnknownKey);
        }
        let admission = self.admit_again(handshake, &session)?;
        handshake.tickets.opened.push(Opened { admission, authenticated: bound.authenticated, end: bound.end });
        Ok(inner.to_vec())
    }

    fn check(&self, bound: &Bound, now: u64) -> Result<(), Declined> {
        let newest = now.saturating_add(limits::TICKET_CLOCK_SKEW_SECS);
        if bound.policy != self.policy.id() {
            return Err(Declined::Epoch);
        }
        if bound.issued > newest || bound.authenticated > newest {
            return Err(Declined::Expired);
        }
        if now > bound.authenticated.saturating_add(self.max_auth_age_secs) {
            return Err(Declined::AuthAge);
        }
        if now > bound.end || now > bound.issued.saturating_add(self.lifetime_secs) {
            return Err(Declined::Expired);
        }
        Ok(())
    }

    /// The client of a ticket is judged like any other, by the policy, the blocks and the clock of now.
    fn admit_again(&self, handshake: &Handshake, session: &SessionValue<'_>) -> Result<Arc<Admission>, Declined> {
        let verdict = match session.chain.split_first() {
            None => trust::admit_anonymous(&self.policy),
            Some((leaf, rest)) => {
                let environment = &handshake.environment;
                let blocks = environment.blocks.load();
                let presented = Presented { leaf, rest };
                trust::admit(&presented, handshake.now, &self.policy, &environment.cache, &blocks, Look::First).verdict
            }
        };
        verdict.map_err(|refusal| match refusal.reason {
            Reason::IdentityBlocked => Declined::Blocked,
            Reason::Expired | Reason::NotYetValid | Reason::CrlExpired => Declined::Expired,
            _ => Declined::Epoch,
        })
    }

    /// The end and the full handshake of a renewed session are the old one's. rustls does not say which of several
    /// tickets it took, so the earliest of all that held count.
    fn carried_over(&self, tickets: &TicketState) -> (u64, u64) {
        let of = |value: fn(&Opened) -> u64| tickets.opened.iter().map(value).min().unwrap_or(0);
        (of(|opened| opened.authenticated), of(|opened| opened.end))
    }

    fn end_of(&self, admission: &Admission, authenticated: u64) -> u64 {
        let by_age = authenticated.saturating_add(self.max_auth_age_secs);
        let ends = [admission.not_after(), admission.valid_until()];
        ends.into_iter().flatten().map(|end| end.as_secs()).fold(by_age, u64::min)
    }

    fn is_site_of(&self, handshake: &Handshake) -> bool {
        handshake.site.policy().id() == self.policy.id()
    }
}

impl ProducesTickets for SiteTickets {
    fn enabled(&self) -> bool {
        true
    }

    /// rustls asks right after [`ProducesTickets::encrypt`].
    fn lifetime(&self) -> u32 {
        scope::with(|handshake| handshake.tickets.lifetime_secs).unwrap_or(0)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        scope::with(|handshake| self.seal(handshake, plain)).flatten()
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        scope::with(|handshake| {
            let opened = self.open(handshake, ticket);
            opened.map_err(|why| handshake.tickets.decline(why)).ok()
        })
        .flatten()
    }
}

fn digest_of(session: &SessionValue<'_>) -> ChainDigest {
    match session.chain.split_first() {
        None => ChainDigest::of(None, &[]),
        Some((leaf, rest)) => ChainDigest::of(Some(leaf), rest),
    }
}

/// The admission of the full handshake that this session comes from: a chain must be the one that was verified, with
/// possession of its key proven.
fn admitted(handshake: &Handshake, session: &SessionValue<'_>, chain: ChainDigest) -> Option<Arc<Admission>> {
    if session.chain.is_empty() {
        return trust::admit_anonymous(handshake.site.policy()).ok();
    }
    match &handshake.decision {
        Some(Ok(admission)) if handshake.proof == Proof::Good && admission.digest() == chain => Some(admission.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::tests::support::*;

    /// What rustls would have sealed for a client without certificate.
    fn session(name: &str) -> Vec<u8> {
        let name = [&[1, name.len() as u8], name.as_bytes()].concat();
        [&name[..], &[3, 4, 0x13, 1, 1, 9, 0, 0, 0, 0, 0], &[0; 12]].concat()
    }

    /// A handshake with the first site of this world, and its ticketer.
    fn begin(world: &World, now: u64) -> (Option<Box<Handshake>>, Arc<dyn ProducesTickets>) {
        let site = world.tables[0].select(Some("a.test")).unwrap().clone();
        let ticketer = site.config().ticketer.clone();
        let handshake = Handshake::new(unix(now), world.environment.clone(), site, Some("a.test".to_owned()));
        (Some(Box::new(handshake)), ticketer)
    }

    fn ticket(world: &World, now: u64) -> Vec<u8> {
        let (mut handshake, ticketer) = begin(world, now);
        let _lent = scope::enter(&mut handshake);
        ticketer.encrypt(&session("a.test")).unwrap()
    }

    #[test]
    fn what_a_ticket_binds_is_read_back_and_no_other_format_is() {
        let bound = Bound {
            policy: PolicyId([1; 32]),
            chain: ChainDigest([2; 32]),
            issued: 3,
            authenticated: 4,
            end: u64::MAX,
        };
        let bytes = bound.encode();
        assert_eq!(Bound::decode(&bytes), Some(bound));
        assert_eq!(Bound::decode(&bytes[1..]), None);
        assert_eq!(Bound::decode(&[2; Bound::LEN]), None);
    }

    #[test]
    fn without_a_connection_nothing_is_sealed_or_opened() {
        let pki = Pki::new();
        let world = World::new(&pki, &one_site("", OFF));
        let good = ticket(&world, NOW);
        let (_, ticketer) = begin(&world, NOW);
        assert_eq!(ticketer.encrypt(&session("a.test")), None);
        assert_eq!(ticketer.decrypt(&good), None);
        assert_eq!(ticketer.lifetime(), 0);
    }

    #[test]
    fn behind_somebody_elses_ticket_our_own_is_still_taken() {
        let pki = Pki::new();
        let world = World::new(&pki, &one_site("", OFF));
        let other = World::new(&pki, &one_site("", OFF));
        let (mut handshake, ticketer) = begin(&world, NOW + 1);
        let (foreign, own) = (ticket(&other, NOW), ticket(&world, NOW));
        let lent = scope::enter(&mut handshake);
        assert_eq!(ticketer.decrypt(&foreign), None);
        assert_eq!(ticketer.decrypt(b""), None);
        assert_eq!(ticketer.decrypt(&own).as_deref(), Some(&session("a.test")[..]));
        drop(lent);
        let tickets = &handshake.unwrap().tickets;
        assert_eq!((tickets.tried, tickets.opened.len()), (3, 1));
    }

    #[test]
    fn only_so_many_tickets_are_tried() {
        let pki = Pki::new();
        let world = World::new(&pki, &one_site("", OFF));
        let own = ticket(&world, NOW);
        let (mut handshake, ticketer) = begin(&world, NOW + 1);
        let _lent = scope::enter(&mut handshake);
        for _ in 0..limits::TICKETS_TRIED_MAX {
            assert_eq!(ticketer.decrypt(b"nobody's"), None);
        }
        assert_eq!(ticketer.decrypt(&own), None);
    }

    #[test]
    fn a_renewed_ticket_keeps_the_earliest_full_handshake_and_end_of_all_that_were_opened() {
        let pki = Pki::new();
        let world = World::new(&pki, &one_site("", OFF));
        let (old, new) = (ticket(&world, NOW), ticket(&world, NOW + 600));
        for order in [[&old, &new], [&new, &old]] {
            let (mut handshake, ticketer) = begin(&world, NOW + 700);
            let lent = scope::enter(&mut handshake);
            for ticket in order {
                assert!(ticketer.decrypt(ticket).is_some());
            }
            let renewed = ticketer.encrypt(&session("a.test")).unwrap();
            assert_eq!(ticketer.encrypt(&session("a.test")), None, "one to a client that resumed");
            drop(lent);
            let plain = world.keys.open(&renewed, unix(NOW)).unwrap();
            let bound = Bound::decode(&plain[..Bound::LEN]).unwrap();
            assert_eq!((bound.issued, bound.authenticated, bound.end), (NOW + 700, NOW, NOW + 12 * HOUR));
        }
    }

    #[test]
    fn the_lifetime_that_is_reported_does_not_pass_the_end() {
        let pki = Pki::new();
        let world = World::new(&pki, &format!("[tickets]\nmax_auth_age = \"3h\"\n{}", one_site("", OFF)));
        let mut last = ticket(&world, NOW);
        for (later, lifetime) in [(0, 2 * HOUR), (HOUR, 2 * HOUR), (2 * HOUR, HOUR), (3 * HOUR - 5, 5)] {
            let (mut handshake, ticketer) = begin(&world, NOW + later);
            let _lent = scope::enter(&mut handshake);
            assert!(ticketer.decrypt(&last).is_some());
            last = ticketer.encrypt(&session("a.test")).unwrap();
            assert_eq!(u64::from(ticketer.lifetime()), lifetime);
        }
        let (mut handshake, ticketer) = begin(&world, NOW + 3 * HOUR);
        let _lent = scope::enter(&mut handshake);
        assert!(ticketer.decrypt(&last).is_some());
        assert_eq!(ticketer.encrypt(&session("a.test")), None, "of no use to anybody");
    }

    #[test]
    fn bytes_that_are_no_session_of_rustls_are_not_sealed() {
        let pki = Pki::new();
        let world = World::new(&pki, &one_site("", OFF));
        let (mut handshake, ticketer) = begin(&world, NOW);
        let _lent = scope::enter(&mut handshake);
        assert_eq!(ticketer.encrypt(b"anything"), None);
        assert_eq!(ticketer.encrypt(&vec![0; limits::TICKET_BYTES_MAX + 1]), None);
    }
}
