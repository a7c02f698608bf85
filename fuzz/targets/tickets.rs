//! Tickets as clients bring them back. One that was changed never opens; one that was not opens for the site, the name
//! and the time that it was made for, and for no other; and even under our own key no content opens that does not name
//! this policy.
#![no_main]

use countersign::tls::TicketProbe;
use countersign_fuzz::Choices;
use countersign_fuzz::pki::{NOW, unix};
use countersign_fuzz::world::{World, environment};
use libfuzzer_sys::fuzz_target;
use rustls_pki_types::CertificateDer;
use std::rc::Rc;

struct Tickets {
    world: World,
    chain: Vec<CertificateDer<'static>>,
}

thread_local! {
    static TICKETS: Tickets = {
        let world = World::new();
        let chain = vec![world.files.pki.good.der.clone(), world.files.pki.intermediate.der.clone()];
        Tickets { world, chain }
    };
}

fuzz_target!(|data: &[u8]| TICKETS.with(|tickets| {
    let mut choices = Choices::new(data);
    match choices.byte() % 4 {
        0 => assert_eq!(tickets.at("a.test", 0).open(choices.rest()), None, "a ticket out of nothing"),
        1 => tickets.any_session(&mut choices),
        2 => tickets.elsewhere(&mut choices),
        _ => tickets.changed(&mut choices),
    }
}));

impl Tickets {
    fn at(&self, name: &str, later: u64) -> TicketProbe {
        TicketProbe {
            site: self.world.table.select(Some(name)).expect("a site").clone(),
            environment: Rc::new(environment()),
            sni: Some(name.to_owned()),
            now: unix(NOW + later),
        }
    }

    /// The chain that clients of this site show, and rustls's session with it.
    fn session(&self, name: &str) -> (&[CertificateDer<'static>], Vec<u8>) {
        let chain = if name == "a.test" { &self.chain[..] } else { &[] };
        let mut session = vec![1, name.len() as u8];
        session.extend(name.as_bytes());
        session.extend([3, 4, 0x13, 1, 1, 9, 0]);
        session.push(u8::from(!chain.is_empty()));
        if !chain.is_empty() {
            let length = |len: usize| [(len >> 16) as u8, (len >> 8) as u8, len as u8];
            session.extend(length(chain.iter().map(|der| der.len() + 3).sum()));
            for der in chain {
                session.extend(length(der.len()));
                session.extend_from_slice(der);
            }
        }
        session.extend([0; 3 + 12]);
        (chain, session)
    }

    fn ticket(&self, name: &str) -> (Vec<u8>, Vec<u8>) {
        let (chain, session) = self.session(name);
        let ticket = self.at(name, 0).seal(chain, &session).expect("a ticket");
        (ticket, session)
    }

    fn changed(&self, choices: &mut Choices<'_>) {
        let name = *choices.of(&["a.test", "b.test", "x.wild.test"]);
        let (ticket, session) = self.ticket(name);
        let mut edited = ticket.clone();
        while !choices.is_empty() {
            choices.edit(&mut edited);
        }
        let expected = (edited == ticket).then_some(session);
        assert_eq!(self.at(name, 1).open(&edited), expected, "opens if and only if nothing was changed");
    }

    fn elsewhere(&self, choices: &mut Choices<'_>) {
        const NAMES: [&str; 4] = ["a.test", "b.test", "x.wild.test", "y.wild.test"];
        let (from, to) = (*choices.of(&NAMES), *choices.of(&NAMES));
        let later = u64::from(choices.u16()) * 8;
        let (ticket, session) = self.ticket(from);
        let opened = self.at(to, later).open(&ticket);
        // The lifetime is two hours; keys rotate each hour and two old ones are kept.
        let good = from == to && later <= 7200;
        assert_eq!(opened, good.then_some(session), "{from} at {to} after {later} s");
        let mut unnamed = self.at(from, 1);
        unnamed.sni = choices.maybe(Choices::text);
        let same = unnamed.sni.as_deref() == Some(from);
        assert_eq!(unnamed.open(&ticket).is_some(), same, "under {:?}", unnamed.sni);
    }

    /// Only what reads as a session of this very chain is sealed; it comes back as it was.
    fn any_session(&self, choices: &mut Choices<'_>) {
        let name = *choices.of(&["a.test", "b.test", "x.wild.test"]);
        let (chain, mut session) = self.session(name);
        if choices.bool() {
            session = choices.rest().to_vec();
        } else {
            while !choices.is_empty() {
                choices.edit(&mut session);
            }
        }
        let Some(ticket) = self.at(name, 0).seal(chain, &session) else { return };
        let opened = self.at(name, 1).open(&ticket);
        assert!(opened.is_none_or(|opened| opened == session));
    }
}
