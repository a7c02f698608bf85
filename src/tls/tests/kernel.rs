//! What is left of TLS where the kernel seals and opens: how a session leaves user space with nothing lost, and what is made
//! of control records, whatever is in them.

use super::support::*;
use crate::config::limits;
use crate::tls::{KernelSession, Said};
use crate::trust::Reason;
use proptest::prelude::*;
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use std::collections::HashSet;
use std::io::Write;
use std::time::{Duration, Instant};

/// A session of that version behind its handshake, without its keys.
fn departed(version: &'static SupportedProtocolVersion, now: Instant) -> KernelSession {
    let pki = Pki::new();
    let world = World::new(&pki, &one_site("", OFF));
    let outcome = world.connect(&Client::new(&pki, version, None), "a.test");
    outcome.open();
    assert_eq!(outcome.session.leaving().map(|(tls13, _)| tls13), Ok(version.version == TLS13.version));
    outcome.session.into_kernel(now).unwrap().session
}

/// What a record of that kind comes to: the alert that we send or the client sent, or what is to be done.
fn verdict(session: &mut KernelSession, kind: u8, body: &[u8]) -> Result<&'static str, (Option<u8>, Option<u8>)> {
    match session.control(kind, body, Instant::now()) {
        Ok(Said::Closed) => Ok("closed"),
        Ok(Said::Nothing) => Ok("nothing"),
        Ok(Said::Renegotiate) => Ok("renegotiate"),
        Ok(Said::NewKeys { answer: true, .. }) => Ok("new keys both ways"),
        Ok(Said::NewKeys { answer: false, .. }) => Ok("new keys"),
        Err(failure) => Err((failure.our_alert, failure.peer_alert)),
    }
}

#[test]
fn control_records_are_judged_as_in_user_space() {
    let ours = |alert| Err((Some(alert), None));
    let (both, tls12, tls13) = (&[&TLS12, &TLS13][..], &[&TLS12][..], &[&TLS13][..]);
    type Case<'a> =
        (&'a [&'static SupportedProtocolVersion], u8, &'a [u8], Result<&'static str, (Option<u8>, Option<u8>)>);
    let cases: &[Case<'_>] = &[
        (both, 21, &[1, 0], Ok("closed")),
        (both, 21, &[2, 0], Ok("closed")),
        (both, 21, &[2, 80], Err((None, Some(80)))),
        (both, 21, &[1, 90], Ok("nothing")),
        (tls12, 21, &[1, 41], Ok("nothing")),
        (tls13, 21, &[1, 41], ours(50)),
        (both, 21, &[1], ours(50)),
        (both, 21, &[], ours(50)),
        (both, 21, &[1, 0, 1, 0], ours(50)),
        (both, 21, &[3, 0], ours(47)),
        (tls13, 22, &[24, 0, 0, 1, 0], Ok("new keys")),
        (tls13, 22, &[24, 0, 0, 1, 1], Ok("new keys both ways")),
        (tls13, 22, &[24, 0, 0, 1, 2], ours(47)),
        (tls12, 22, &[24, 0, 0, 1, 0], ours(10)),
        (both, 22, &[24, 0, 0, 1], ours(10)),
        (both, 22, &[], ours(10)),
        // Another message behind it would be under the old keys.
        (tls13, 22, &[24, 0, 0, 1, 0, 24, 0, 0, 1, 0], ours(10)),
        // A NewSessionTicket is a server's to send.
        (both, 22, &[4, 0, 0, 0], ours(10)),
        (tls12, 22, &[1, 0, 0, 0], Ok("renegotiate")),
        (tls13, 22, &[1, 0, 0, 0], ours(10)),
        (both, 20, &[1], ours(10)),
        (both, 24, &[1, 0, 16], ours(10)),
        (both, 99, b"what is this", ours(10)),
    ];
    for (versions, kind, body, wanted) in cases {
        for version in *versions {
            let mut session = departed(version, Instant::now());
            assert_eq!(verdict(&mut session, *kind, body), *wanted, "{kind} {body:?} {version:?}");
        }
    }
}

#[test]
fn wishes_to_renegotiate_and_warnings_are_taken_so_often_and_no_more() {
    let mut session = departed(&TLS12, Instant::now());
    for _ in 0..limits::RENEGOTIATIONS_DECLINED_MAX {
        assert_eq!(verdict(&mut session, 22, &[1, 0, 0, 0]), Ok("renegotiate"));
    }
    assert_eq!(verdict(&mut session, 22, &[1, 0, 0, 0]), Err((Some(10), None)));
    for version in VERSIONS {
        let mut session = departed(version, Instant::now());
        for _ in 0..limits::WARNINGS_MAX {
            assert_eq!(verdict(&mut session, 21, &[1, 90]), Ok("nothing"));
            // Data between them gives none back.
            session.note_data();
        }
        assert_eq!(verdict(&mut session, 21, &[1, 90]), Err((Some(10), None)));
    }
}

/// One record after the pause before it, or data (`None`).
type Step = (u16, Option<(u8, Vec<u8>)>);

fn step() -> impl Strategy<Value = Step> {
    let update = (0..2u8).prop_map(|request| Some((22, vec![24, 0, 0, 1, request])));
    let alert = (0..4u8, any::<u8>()).prop_map(|(level, what)| Some((21, vec![level, what])));
    let any_record = (prop_oneof![20..25u8, any::<u8>()], proptest::collection::vec(any::<u8>(), 0..40)).prop_map(Some);
    let what = prop_oneof![6 => update, 1 => alert, 1 => any_record, 3 => Just(None)];
    (prop_oneof![4 => Just(0), 1 => 0..2000u16], what)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn no_record_makes_it_panic_each_change_brings_other_keys_and_floods_are_bounded(
        tls13 in any::<bool>(),
        steps in proptest::collection::vec(step(), 1..300),
    ) {
        let start = Instant::now();
        let mut session = departed(if tls13 { &TLS13 } else { &TLS12 }, start);
        let (mut now, mut seen, mut bare, mut taken) = (start, HashSet::new(), 0, 0_u32);
        for (pause, record) in steps {
            now += Duration::from_millis(pause.into());
            let Some((kind, body)) = record else {
                session.note_data();
                bare = 0;
                continue;
            };
            match session.control(kind, &body, now) {
                Ok(Said::NewKeys { keys, answer, not_before }) => {
                    (bare, taken) = (bare + 1, taken + 1);
                    prop_assert!(tls13 && kind == 22);
                    prop_assert_eq!(answer, body == [24, 0, 0, 1, 1]);
                    prop_assert_eq!(keys.sequence, 0);
                    prop_assert!(seen.insert(keys.key.to_vec()), "the same key again");
                    prop_assert!(bare <= limits::KEY_UPDATES_BARE_MAX);
                    if let Some(moment) = not_before {
                        prop_assert!(moment > now && moment <= now + 2 * limits::KEY_UPDATE_PERIOD);
                        now = moment;
                    }
                    // The burst, and from then on the rate.
                    let by_rate = (now - start).as_millis() / limits::KEY_UPDATE_PERIOD.as_millis();
                    prop_assert!(u128::from(taken) <= u128::from(limits::KEY_UPDATES_BURST_MAX) + by_rate + 1);
                    if answer {
                        let ours = session.next_transmit_keys().unwrap();
                        prop_assert!(ours.sequence == 0 && seen.insert(ours.key.to_vec()), "the same key again");
                    }
                }
                Ok(_) => prop_assert!(kind == 21 || (kind == 22 && !tls13)),
                Err(failure) => {
                    prop_assert!(matches!(failure.reason, Reason::BadEncoding | Reason::PeerAlert(_)));
                    prop_assert!(failure.our_alert.is_some() != failure.peer_alert.is_some());
                    return Ok(());
                }
            }
        }
    }

    /// Looked at in any pieces, the handshake's end is found to the byte: what the client says behind it stays.
    #[test]
    fn a_handshake_is_read_to_its_end_and_no_further(
        tls13 in any::<bool>(),
        pieces in proptest::collection::vec(1..3000usize, 1..40),
    ) {
        let pki = Pki::new();
        let world = World::new(&pki, &one_site("", REQUIRE));
        let client = Client::new(&pki, if tls13 { &TLS13 } else { &TLS12 }, Some(&pki.client("alice")));
        let mut pipe = Pipe::new(world.session(0), &client, "a.test");
        let (mut waiting, mut pieces) = (Vec::new(), pieces.into_iter().cycle());
        // rustls keeps what is written before the handshake is done, and sends it right behind.
        pipe.client.writer().write_all(b"behind").unwrap();
        for _ in 0..10_000 {
            while pipe.client.wants_write() {
                pipe.client.write_tls(&mut waiting).unwrap();
            }
            if waiting.is_empty() || pipe.session.established().is_some() {
                break;
            }
            let piece = pieces.next().unwrap_or(1).min(waiting.len());
            let (mut out, now) = (Vec::new(), pipe.clock.now());
            let used = match pipe.session.reads_exactly() {
                false => {
                    pipe.session.feed(&mut waiting[..piece], now, &mut pipe.plain, &mut out).unwrap();
                    piece
                }
                true => {
                    let mut seen = waiting[..piece].to_vec();
                    let (fed, used) = pipe.session.feed_to_the_end(&mut seen, now, &mut pipe.plain, &mut out);
                    fed.unwrap();
                    prop_assert!(used > 0);
                    used
                }
            };
            waiting.drain(..used);
            pipe.deliver(&out);
        }
        // What the client says once it heard our last flight, in TLS 1.2.
        while pipe.client.wants_write() {
            pipe.client.write_tls(&mut waiting).unwrap();
        }
        prop_assert!(pipe.session.established().is_some() && pipe.plain.is_empty());
        prop_assert!(pipe.session.leaving().is_ok());
        prop_assert_eq!((waiting[0], usize::from(u16::from_be_bytes([waiting[3], waiting[4]])) + 5), (23, waiting.len()));
    }
}
