//! The client's second flight: its messages cut, spoilt, left out, doubled, in the wrong order, too long, full of junk. What
//! is not the one right flight never leads to a backend.

use super::raw::{CERTIFICATE, CERTIFICATE_VERIFY, FINISHED, Kit, Raw};
use super::record::{CHANGE_CIPHER_SPEC, DATA, VERSIONS, Version, message, plain};
use super::siege::{Bounds, Siege};
use crate::world::client::{Ending, Tickets};
use crate::world::process::sanitizer_factor;
use std::time::Duration;

const BOUNDS: Bounds = Bounds { cpu: Duration::from_secs(30), memory_kib: 32 << 10 };

/// Sends `bytes` in place of the flight and ends: the alert, if one came.
fn deliver(raw: &mut Raw, bytes: &[u8]) -> Option<u8> {
    let _ = raw.send(bytes);
    raw.finish();
    match raw.ending() {
        Ending::Alert(alert) => Some(alert),
        Ending::Silence => panic!("nothing happened"),
        _ => None,
    }
}

/// Delivers the flight that `change` makes of the honest one.
fn attack(siege: &mut Siege, kit: &Kit, what: &str, change: impl FnOnce(&Raw, Vec<Vec<u8>>) -> Vec<u8>) -> Option<u8> {
    let mut raw = kit.greet(siege.address());
    let honest = raw.flight();
    let bytes = change(&raw, honest);
    let alert = deliver(&mut raw, &bytes);
    siege.refused(raw.address(), alert, format!("{what}, {:?}", kit.version));
    alert
}

/// Places in a message of this length: all of a short one, some of a long one, its ends among them.
fn places(length: usize) -> impl Iterator<Item = usize> {
    let step = (length / 60).max(1);
    (0..length).filter(move |place| place % step == 0 || *place + 4 > length || *place < 12)
}

/// How many messages the second flight has.
fn count(kit: &Kit) -> usize {
    match kit.version {
        Version::Tls12 => 4,
        Version::Tls13 => 3,
    }
}

/// Lengths of the messages, within a byte or two: those of signatures vary.
fn lengths(siege: &mut Siege, kit: &Kit) -> Vec<usize> {
    let mut raw = kit.greet(siege.address());
    siege.refused(raw.address(), None, "left after the server's flight");
    raw.flight().iter().map(Vec::len).collect()
}

#[test]
fn a_flight_with_any_message_cut_at_any_length_is_refused() {
    let mut siege = Siege::lay();
    for kit in Kit::both(&siege.world.pki) {
        for (index, length) in lengths(&mut siege, &kit).into_iter().enumerate() {
            for cut in places(length) {
                // With the length that it should have: what follows is taken for its rest.
                attack(&mut siege, &kit, &format!("message {index} cut at {cut}"), |raw, mut messages| {
                    let length = cut.min(messages[index].len() - 1);
                    messages[index].truncate(length);
                    raw.flight_of(&messages)
                });
                if cut < 4 {
                    continue;
                }
                // With a length that fits.
                let what = format!("message {index} shortened to {cut}");
                let alert = attack(&mut siege, &kit, &what, |raw, mut messages| {
                    let length = cut.min(messages[index].len() - 1);
                    messages[index] = message(messages[index][0], &messages[index][4..length]);
                    raw.flight_of(&messages)
                });
                assert!(matches!(alert, Some(10 | 20 | 40 | 42..=51 | 116)), "{what}: {alert:?}");
            }
        }
    }
    siege.end("cut flights", &BOUNDS);
}

#[test]
fn a_flight_with_any_byte_spoilt_is_refused() {
    let mut siege = Siege::lay();
    for kit in Kit::both(&siege.world.pki) {
        for (index, length) in lengths(&mut siege, &kit).into_iter().enumerate() {
            for place in places(length) {
                attack(&mut siege, &kit, &format!("byte {place} of message {index} spoilt"), |raw, mut messages| {
                    let place = place.min(messages[index].len() - 1);
                    messages[index][place] ^= [0x01, 0x80, 0xff][place % 3];
                    raw.flight_of(&messages)
                });
            }
        }
    }
    siege.end("spoilt flights", &BOUNDS);
}

/// Every ordered choice out of `0..count`, the empty one too.
fn choices(count: usize) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    let mut from = 0;
    while from < all.len() {
        let longer: Vec<Vec<usize>> = (0..count)
            .filter(|next| !all[from].contains(next))
            .map(|next| [&all[from][..], &[next]].concat())
            .collect();
        all.extend(longer);
        from += 1;
    }
    all
}

#[test]
fn messages_left_out_or_in_any_other_order_are_refused() {
    let mut siege = Siege::lay();
    for kit in Kit::both(&siege.world.pki) {
        let right: Vec<usize> = (0..count(&kit)).collect();
        for choice in choices(count(&kit)) {
            if choice == right {
                continue;
            }
            attack(&mut siege, &kit, &format!("messages {choice:?}"), |raw, messages| {
                let chosen: Vec<Vec<u8>> = choice.iter().map(|index| messages[*index].clone()).collect();
                // Data behind it, in the hope that the server takes the handshake for done.
                [raw.flight_of(&chosen), raw.data_sealer().seal(DATA, b"let me in")].concat()
            });
        }
        for doubled in 0..count(&kit) - 1 {
            let alert = attack(&mut siege, &kit, &format!("message {doubled} twice"), |raw, mut messages| {
                messages.insert(doubled, messages[doubled].clone());
                raw.flight_of(&messages)
            });
            assert_eq!(alert, Some(10), "message {doubled} twice");
        }
    }
    siege.end("flights out of order", &BOUNDS);
}

#[test]
fn data_before_the_handshake_is_done_is_refused_under_any_keys() {
    let mut siege = Siege::lay();
    for kit in Kit::both(&siege.world.pki) {
        for upto in 0..count(&kit) {
            attack(&mut siege, &kit, &format!("plain data after {upto} messages"), |raw, messages| {
                [raw.flight_of(&messages[..upto]), plain(DATA, b"let me in")].concat()
            });
            attack(&mut siege, &kit, &format!("data after {upto} messages"), |raw, messages| {
                let mut sealer = raw.handshake_sealer();
                if raw.version == Version::Tls13 {
                    sealer = sealer.skip(upto as u64);
                }
                [raw.flight_of(&messages[..upto]), sealer.seal(DATA, b"let me in")].concat()
            });
            attack(&mut siege, &kit, &format!("ChangeCipherSpec after {upto} messages"), |raw, messages| {
                let early = plain(CHANGE_CIPHER_SPEC, &[1]).repeat(50);
                [raw.flight_of(&messages[..upto]), early, raw.handshake_sealer().seal(DATA, b"let me in")].concat()
            });
        }
    }
    siege.end("early data of other kinds", &BOUNDS);
}

/// A CertificateVerify with the signature (and scheme) that `change` makes.
fn verify(honest: &[u8], change: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>)) -> Vec<u8> {
    let (mut scheme, mut signature) = (honest[4..6].to_vec(), honest[8..].to_vec());
    change(&mut scheme, &mut signature);
    message(CERTIFICATE_VERIFY, &[scheme, super::hello::long(&signature)].concat())
}

/// Replaces the CertificateVerify, asserts that it was noticed as what it is.
fn with_verify(siege: &mut Siege, kit: &Kit, what: &str, change: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>)) -> u8 {
    let mut raw = kit.greet(siege.address());
    let mut messages = raw.flight();
    let index = messages.iter().position(|message| message[0] == CERTIFICATE_VERIFY).unwrap();
    messages[index] = verify(&messages[index], change);
    let bytes = raw.flight_of(&messages);
    let alert = deliver(&mut raw, &bytes).unwrap_or_else(|| panic!("{what}: no alert"));
    siege.refused(raw.address(), Some(alert), what);
    let line = siege.server.audit_of(raw.address(), "refused");
    assert_eq!((&line["cert"]["proven"], &line["decision"]), (&false.into(), &"refuse".into()), "{what}: {line}");
    alert
}

#[test]
fn a_wrong_signature_is_refused_though_the_chain_is_in_the_cache() {
    let mut siege = Siege::lay();
    for kit in Kit::both(&siege.world.pki) {
        // On every worker, most likely: it is the steering of the kernel that decides.
        for _ in 0..12 {
            let (raw, _) = kit.open(siege.address());
            siege.admitted(raw.address(), "the owner of the key");
        }
        let mut other = Vec::new();
        let mut raw = kit.greet(siege.address());
        let honest = raw.flight();
        siege.refused(raw.address(), None, "left after the server's flight");
        let found = honest.iter().find(|message| message[0] == CERTIFICATE_VERIFY).unwrap();
        verify(found, |_, signature| other.clone_from(signature));
        let alert =
            with_verify(&mut siege, &kit, "the signature of another connection", |_, signature| *signature = other);
        assert_eq!(alert, 51);
        for bit in 0..40 {
            let alert = with_verify(&mut siege, &kit, &format!("bit {bit} flipped"), |_, signature| {
                let place = signature.len() - 1 - bit % signature.len().min(64);
                signature[place] ^= 1 << (bit % 8);
            });
            assert_eq!(alert, 51);
        }
        let alert = with_verify(&mut siege, &kit, "no signature at all", |_, signature| signature.clear());
        assert_eq!(alert, 51);
        // Zeroes for both numbers satisfy a careless equation.
        let zeroes = [0x30, 6, 2, 1, 0, 2, 1, 0];
        let alert = with_verify(&mut siege, &kit, "a signature of zeroes", |_, signature| *signature = zeroes.to_vec());
        assert_eq!(alert, 51);
        for scheme in [[4, 1], [8, 4], [5, 3], [8, 7], [2, 3], [2, 1], [0, 0], [0xff, 0xff]] {
            let alert = with_verify(&mut siege, &kit, &format!("scheme {scheme:?}"), |own, _| *own = scheme.to_vec());
            assert!(matches!(alert, 40 | 47 | 51), "scheme {scheme:?}: {alert}");
        }
    }
    siege.end("wrong signatures", &BOUNDS);
}

#[test]
fn a_wrong_finished_and_a_broken_record_are_told_apart_full_and_resumed() {
    let mut siege = Siege::lay();
    for version in VERSIONS {
        let tickets = Tickets::new();
        let kit = Kit::with(&siege.world.pki, version, &siege.world.pki.client, Some(&tickets));
        for resumed in [false, true] {
            let what = format!("{version:?}, resumed: {resumed}");
            let mut raw = kit.greet(siege.address());
            let mut messages = raw.flight();
            assert_eq!(messages.len() == 1, resumed, "{what}: {messages:02x?}");
            *messages.last_mut().unwrap().last_mut().unwrap() ^= 1;
            let bytes = raw.flight_of(&messages);
            assert_eq!(deliver(&mut raw, &bytes), Some(51), "a wrong Finished, {what}");
            siege.refused(raw.address(), Some(51), format!("a wrong Finished, {what}"));

            let mut raw = kit.greet(siege.address());
            let messages = raw.flight();
            let mut bytes = raw.flight_of(&messages);
            *bytes.last_mut().unwrap() ^= 1;
            assert_eq!(deliver(&mut raw, &bytes), Some(20), "a broken record, {what}");
            siege.refused(raw.address(), Some(20), format!("a broken record, {what}"));

            let (raw, _) = kit.open(siege.address());
            siege.admitted(raw.address(), "the right one, which brings tickets");
        }
    }
    siege.end("wrong Finished", &BOUNDS);
}

/// A Certificate message with these entries.
fn certificate(version: Version, entries: &[Vec<u8>]) -> Vec<u8> {
    let size = |length: usize| u32::try_from(length).unwrap().to_be_bytes()[1..].to_vec();
    let mut list = Vec::new();
    for entry in entries {
        list.extend([size(entry.len()), entry.clone()].concat());
        if version == Version::Tls13 {
            list.extend([0, 0]);
        }
    }
    let context: &[u8] = if version == Version::Tls13 { &[0] } else { &[] };
    message(CERTIFICATE, &[context, &size(list.len()), &list].concat())
}

/// DER that goes deeper than anyone would write by hand.
fn nested(levels: usize) -> Vec<u8> {
    let mut inner = Vec::new();
    for _ in 0..levels {
        let length = u16::try_from(inner.len()).unwrap().to_be_bytes();
        inner = [&[0x30, 0x82, length[0], length[1]][..], &inner].concat();
    }
    inner
}

fn junk(good: &[u8]) -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let noise = |seed: u8| (0..300u32).map(|n| (n * n) as u8 ^ seed).collect::<Vec<u8>>();
    let trailing = [good, &[0]].concat();
    let doubled = [good, good].concat();
    vec![
        ("noise", vec![noise(1)]),
        ("eight times noise", (0..8).map(noise).collect()),
        ("an empty certificate", vec![Vec::new()]),
        ("eight empty certificates", vec![Vec::new(); 8]),
        ("a byte behind the certificate", vec![trailing]),
        ("two certificates in one", vec![doubled]),
        ("a length of 4 GiB", vec![vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x30]]),
        ("an indefinite length", vec![[&[0x30, 0x80][..], &[0x30, 0x80].repeat(5000)].concat()]),
        ("thousands of levels", vec![nested(7000)]),
        ("thousands of levels as an intermediate", vec![good.to_vec(), nested(7000)]),
        ("noise as intermediates", [vec![good.to_vec()], (0..7).map(noise).collect()].concat()),
        ("sixty times the same", vec![good.to_vec(); 60]),
        ("ten thousand certificates of a byte", vec![vec![0x30]; 10_000]),
        ("a certificate of 60 KB", vec![vec![0x30; 60_000]]),
        ("a certificate of 64 KiB", vec![vec![0x30; 65_536]]),
        ("a certificate of 300 KB", vec![vec![0x30; 300_000]]),
    ]
}

#[test]
fn chains_of_junk_are_refused_for_what_they_are() {
    let mut siege =
        Siege::with(crate::world::backend::echo(), |config| config.limits("client_chain_bytes = \"64KiB\""));
    let good = siege.world.pki.client.chain[0].to_vec();
    for version in VERSIONS {
        let kit = Kit::new(&siege.world.pki, version);
        for (what, entries) in junk(&good) {
            let before = siege.cpu();
            for _ in 0..5 {
                let mut raw = kit.greet(siege.address());
                let mut messages = raw.flight();
                messages[0] = certificate(version, &entries);
                let bytes = raw.flight_of(&messages);
                let alert = deliver(&mut raw, &bytes);
                siege.refused(raw.address(), alert, what);
                let line = siege.server.audit_of(raw.address(), "refused");
                let reason = line["reason"].as_str().unwrap();
                let known = ["bad_encoding", "chain_too_big", "bad_signature", "unknown_issuer"].contains(&reason);
                assert!(known && line["cert"]["proven"] != true, "{what} {version:?}: {line}");
            }
            let each = (siege.cpu() - before) / 5;
            assert!(each < Duration::from_millis(150) * sanitizer_factor(), "{what} {version:?}: {each:?} for one");
        }
    }
    siege.end("chains of junk", &BOUNDS);
}

#[test]
fn a_message_that_claims_megabytes_is_not_waited_for() {
    let mut siege = Siege::lay();
    for kit in Kit::both(&siege.world.pki) {
        for kind in [CERTIFICATE, CERTIFICATE_VERIFY, FINISHED, 16] {
            let alert = attack(&mut siege, &kit, &format!("type {kind} of 16 MB"), |raw, mut messages| {
                messages[0] = [&[kind, 0xff, 0xff, 0xff][..], &vec![0; 100_000]].concat();
                if kind == FINISHED && raw.version == Version::Tls12 {
                    messages.truncate(1);
                }
                raw.flight_of(&messages)
            });
            println!("type {kind} of 16 MB, {:?}: alert {alert:?}", kit.version);
        }
    }
    siege.end("messages of megabytes", &BOUNDS);
}
