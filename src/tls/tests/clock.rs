//! The server's wall clock jumps, forward and back; nobody else's does. Whoever is let in is let in by the clock of that
//! moment, resumed or not, and once the clock is right again everything is as it was.

use super::support::*;
use crate::trust::Reason;
use rustls::SupportedProtocolVersion;

/// What is to become of a visit.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Visit {
    /// By a full handshake or a resumed one: which depends on the tickets that the client has left.
    LetIn,
    Full,
    Resumed,
    Refused(Reason),
}

use Visit::{Full, LetIn, Refused, Resumed};

const RIGHT: i64 = 0;
const AHEAD: i64 = DAY as i64;
const BEHIND: i64 = -AHEAD;

/// From when to when the certificate is valid, by the right clock; then by how much the clock is wrong at each visit.
type Case = ((i64, i64), &'static [(i64, Visit)]);

const WEEK: i64 = 7 * AHEAD;
const HALF_DAY: i64 = AHEAD / 2;

#[rustfmt::skip]
const CASES: [Case; 7] = [
    // The certificate holds throughout: tickets are too old, or of a time to come, and the client shows itself anew.
    ((-WEEK, WEEK), &[(RIGHT, Full), (RIGHT, Resumed), (AHEAD, Full), (RIGHT, LetIn), (RIGHT, LetIn)]),
    ((-WEEK, WEEK), &[(RIGHT, Full), (BEHIND, Full), (BEHIND, Resumed), (RIGHT, Full), (RIGHT, Resumed)]),
    // No number of jumps makes an authentication last longer than max_auth_age.
    ((-WEEK, WEEK), &[(BEHIND, Full), (RIGHT, Full), (AHEAD, Full), (RIGHT, Full), (BEHIND, Full)]),
    // It runs out while the clock is ahead.
    ((-WEEK, HALF_DAY), &[(RIGHT, Full), (AHEAD, Refused(Reason::Expired)), (RIGHT, LetIn), (BEHIND, LetIn)]),
    ((-WEEK, -HALF_DAY), &[(RIGHT, Refused(Reason::Expired)), (BEHIND, Full), (RIGHT, Refused(Reason::Expired))]),
    // It is not valid yet while the clock is behind.
    ((-HALF_DAY, WEEK), &[(RIGHT, Full), (BEHIND, Refused(Reason::NotYetValid)), (RIGHT, LetIn), (AHEAD, LetIn)]),
    ((HALF_DAY, WEEK), &[(RIGHT, Refused(Reason::NotYetValid)), (AHEAD, Full), (RIGHT, Refused(Reason::NotYetValid))]),
];

fn server_clock(pki: &Pki, wrong_by: i64) -> Clock {
    let clock = Client::new(pki, VERSIONS[0], None).clock;
    clock.set(NOW.saturating_add_signed(wrong_by));
    clock
}

fn visit(world: &World, client: &Client, clock: Clock) -> Visit {
    let mut pipe = Pipe::new(world.session(0), client, "a.test");
    pipe.clock = clock;
    let failure = pipe.run().err();
    let outcome = pipe.into_outcome(failure);
    if outcome.failure.is_some() {
        return Refused(outcome.refused().reason);
    }
    assert_eq!(outcome.open().admission.identity().map(|identity| identity.as_str()), Some("cn:alice"));
    if outcome.open().resumed { Resumed } else { Full }
}

fn play(pki: &Pki, version: &'static SupportedProtocolVersion, ((from, until), visits): Case) {
    let world = World::new(pki, &one_site("", REQUIRE));
    let mut params = pki.client_params("alice");
    valid(&mut params, NOW.saturating_add_signed(from), NOW.saturating_add_signed(until));
    let alice = pki.sign(&params, rcgen::KeyPair::generate().unwrap());
    let client = Client::new(pki, version, Some(&alice));
    for (place, (wrong_by, expected)) in visits.iter().enumerate() {
        let found = visit(&world, &client, server_clock(pki, *wrong_by));
        let met = match expected {
            LetIn => matches!(found, Full | Resumed),
            _ => found == *expected,
        };
        assert!(met, "{version:?} {visits:?}: visit {place} was {found:?}");
    }
}

#[test]
fn a_clock_that_jumps_a_day_lets_nobody_in_whom_it_should_not_and_shuts_nobody_out_for_good() {
    let pki = Pki::new();
    for version in VERSIONS {
        for case in CASES {
            play(&pki, version, case);
        }
    }
}
