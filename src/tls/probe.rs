//! A site's tickets without a connection around them, for fuzzing: what rustls would ask of the ticketer within one
//! handshake. In no other build.

use super::scope::{self, Handshake, Proof};
use super::{Environment, Site};
use crate::trust::{self, Presented};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::rc::Rc;
use std::sync::Arc;

/// One client's handshake with a site, as far as tickets see it.
#[derive(Debug)]
pub struct TicketProbe {
    pub site: Arc<Site>,
    pub environment: Rc<Environment>,
    pub sni: Option<String>,
    pub now: UnixTime,
}

impl TicketProbe {
    /// A ticket around `session` (rustls's encoding) for a client that showed `chain` and proved its key. `None` where
    /// the site gives none.
    pub fn seal(&self, chain: &[CertificateDer<'_>], session: &[u8]) -> Option<Vec<u8>> {
        let mut handshake = self.handshake();
        if let (Some((leaf, rest)), Some(handshake)) = (chain.split_first(), &mut handshake) {
            let decision = trust::evaluate(&Presented { leaf, rest }, self.now, self.site.policy());
            handshake.decision = Some(decision.verdict);
            handshake.proof = Proof::Good;
        }
        let _lent = scope::enter(&mut handshake);
        self.site.config().ticketer.encrypt(session)
    }

    /// The session in a ticket that this client brings; `None` where it is declined.
    pub fn open(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let mut handshake = self.handshake();
        let _lent = scope::enter(&mut handshake);
        self.site.config().ticketer.decrypt(ticket)
    }

    fn handshake(&self) -> Option<Box<Handshake>> {
        let site = self.site.clone();
        Some(Box::new(Handshake::new(self.now, self.environment.clone(), site, self.sni.clone())))
    }
}
