//! Authenticated clients that misuse an open connection: floods of what costs them little, messages that have no place
//! there, records that are none.

use super::raw::{Kit, Raw};
use super::record::{ALERT, CHANGE_CIPHER_SPEC, DATA, HANDSHAKE, Sealer, Version, message, plain};
use super::siege::{Bounds, Siege};
use crate::world::client::Ending;
use crate::world::goes_by_kernel;
use crate::world::wait::{SOON, repeated, until};
use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

const BOUNDS: Bounds = Bounds { cpu: Duration::from_secs(15), memory_kib: 24 << 10 };

const KEY_UPDATE_REQUESTED: [u8; 5] = [24, 0, 0, 1, 1];

/// An open connection of an attacker.
fn admitted(siege: &mut Siege, kit: &Kit, what: &str) -> (Raw, Sealer) {
    let (raw, sealer) = kit.open(siege.address());
    siege.admitted(raw.address(), format!("{what}, {:?}", kit.version));
    (raw, sealer)
}

/// Writes `bytes`, as far as the server reads them, and says how the connection ended.
fn flood(raw: &mut Raw, bytes: &[u8]) -> Ending {
    let _ = raw.send(bytes);
    raw.ending()
}

/// Holds that the server ended the connection for breach of protocol. A reset may overtake the alert where more was sent
/// than the server wished to read.
fn assert_ended(siege: &Siege, raw: &Raw, ending: &Ending, what: &str) {
    assert!(matches!(ending, Ending::Alert(_) | Ending::Reset | Ending::Fin), "{what}: {ending:?}");
    let line = siege.server.audit_of(raw.address(), "closed");
    assert_eq!(line["close_reason"], "tls_error", "{what}: {line}");
    if let Ending::Alert(alert) = ending {
        assert_eq!(line["our_alert"].as_u64(), Some(u64::from(*alert)), "{what}: {line}");
    }
}

#[test]
fn a_flood_of_key_updates_ends_the_connection() {
    let mut siege = Siege::lay();
    let kit = Kit::new(&siege.world.pki, Version::Tls13);
    for (what, request) in [("requested", 1), ("not requested", 0)] {
        let (mut raw, mut sealer) = admitted(&mut siege, &kit, what);
        let mut bytes = Vec::new();
        for _ in 0..repeated(10_000) {
            bytes.extend(sealer.seal(HANDSHAKE, &[24, 0, 0, 1, request]));
            sealer.update();
        }
        let ending = flood(&mut raw, &bytes);
        assert_ended(&siege, &raw, &ending, what);
    }
    siege.end("KeyUpdates", &BOUNDS);
}

#[test]
fn key_updates_with_data_between_are_answered_and_every_byte_comes_back() {
    if goes_by_kernel("1.3") {
        println!("skipped: the kernel path reads KeyUpdates no faster than 10 a second, and this test has 3000");
        return;
    }
    let mut siege = Siege::lay();
    let kit = Kit::new(&siege.world.pki, Version::Tls13);
    let (mut raw, mut sealer) = admitted(&mut siege, &kit, "KeyUpdates with data");
    let before = siege.cpu();
    for round in 0..repeated(60) as u8 {
        let mut bytes = Vec::new();
        for _ in 0..50 {
            bytes.extend(sealer.seal(HANDSHAKE, &KEY_UPDATE_REQUESTED));
            sealer.update();
            bytes.extend(sealer.seal(DATA, &[round]));
        }
        raw.send(&bytes).unwrap();
        assert_eq!(raw.client.read_exactly(50).unwrap(), [round; 50]);
    }
    println!("{:?} of CPU for KeyUpdates with a byte between each", siege.cpu() - before);
    raw.client.reset();
    siege.end("KeyUpdates with data", &BOUNDS);
}

#[test]
fn a_client_that_provokes_answers_and_reads_none_gets_few_or_is_read_no_further() {
    let mut siege = Siege::with(crate::world::backend::swallow(), |config| config);
    let (before, mut all) = (siege.metric("countersign_bytes_total"), 0);
    let kit = Kit::new(&siege.world.pki, Version::Tls13);
    // Nothing comes back from this backend: the handshake alone is done.
    let mut attackers = Vec::new();
    for _ in 0..repeated(4) {
        let mut raw = kit.greet(siege.address());
        raw.client.handshake().unwrap();
        siege.admitted(raw.address(), "reads no answer");
        raw.client.tcp.set_write_timeout(Some(Duration::from_millis(700))).unwrap();
        let mut sealer = raw.data_sealer();
        let mut sent = 0usize;
        for _ in 0..repeated(400) {
            let mut bytes = Vec::new();
            for _ in 0..50 {
                bytes.extend(sealer.seal(HANDSHAKE, &KEY_UPDATE_REQUESTED));
                sealer.update();
                bytes.extend(sealer.seal(DATA, b"x"));
            }
            if raw.send(&bytes).is_err() {
                break;
            }
            sent += 50;
        }
        all += sent;
        attackers.push((raw, sent));
    }
    // A byte went with each. The kernel path reads so few that the senders have given up long before.
    let read = || siege.metric("countersign_bytes_total") - before >= all as f64;
    assert!(goes_by_kernel("1.3") || until(SOON, read), "not all of {all} were read");
    for (mut raw, sent) in attackers {
        let answers = waiting(&mut raw.client.tcp);
        println!("{answers} bytes of answers to {sent} KeyUpdates");
        assert!(answers < sent.max(1000) * ANSWER / 10, "{answers} bytes of answers to {sent} KeyUpdates");
        raw.reset();
    }
    siege.end("answers not read", &BOUNDS);
}

/// A KeyUpdate in a record.
const ANSWER: usize = 5 + 5 + 1 + 16;

/// Bytes that have come and were not read.
fn waiting(tcp: &mut TcpStream) -> usize {
    tcp.set_nonblocking(true).unwrap();
    let (mut buffer, mut all) = (vec![0; 64 << 10], 0);
    while let Ok(read @ 1..) = tcp.read(&mut buffer) {
        all += read;
    }
    all
}

#[test]
fn a_flood_of_empty_records_ends_the_connection_and_one_of_single_bytes_arrives() {
    let mut siege = Siege::lay();
    for kit in Kit::both(&siege.world.pki) {
        let (mut raw, mut sealer) = admitted(&mut siege, &kit, "empty records");
        let bytes: Vec<u8> = (0..5000).flat_map(|_| sealer.seal(DATA, &[])).collect();
        let ending = flood(&mut raw, &bytes);
        assert_ended(&siege, &raw, &ending, "empty records");

        let (mut raw, mut sealer) = admitted(&mut siege, &kit, "single bytes");
        let before = siege.cpu();
        let sent: Vec<u8> = (0..repeated(10_000)).map(|n| n as u8).collect();
        for chunk in sent.chunks(1000) {
            let bytes: Vec<u8> = chunk.iter().flat_map(|byte| sealer.seal(DATA, &[*byte])).collect();
            raw.send(&bytes).unwrap();
            assert_eq!(raw.client.read_exactly(chunk.len()).unwrap(), chunk);
        }
        println!("{:?} of CPU for {} records of a byte", siege.cpu() - before, sent.len());
        raw.reset();
    }
    siege.end("small records", &BOUNDS);
}

#[test]
fn warnings_and_change_cipher_specs_end_the_connection_when_they_are_many() {
    let mut siege = Siege::lay();
    for kit in Kit::both(&siege.world.pki) {
        for (what, kind, body) in [
            ("no_renegotiation warnings", ALERT, [1, 100]),
            ("user_canceled warnings", ALERT, [1, 90]),
            ("unknown warnings", ALERT, [1, 222]),
        ] {
            let (mut raw, mut sealer) = admitted(&mut siege, &kit, what);
            let bytes: Vec<u8> = (0..5000).flat_map(|_| sealer.seal(kind, &body)).collect();
            let ending = flood(&mut raw, &bytes);
            assert_ended(&siege, &raw, &ending, what);
        }
        let (mut raw, _) = admitted(&mut siege, &kit, "plain ChangeCipherSpec");
        let ending = flood(&mut raw, &plain(CHANGE_CIPHER_SPEC, &[1]).repeat(5000));
        assert_ended(&siege, &raw, &ending, "plain ChangeCipherSpec");
        let (mut raw, mut sealer) = admitted(&mut siege, &kit, "sealed ChangeCipherSpec");
        let bytes: Vec<u8> = (0..5000).flat_map(|_| sealer.seal(CHANGE_CIPHER_SPEC, &[1])).collect();
        let ending = flood(&mut raw, &bytes);
        assert_ended(&siege, &raw, &ending, "sealed ChangeCipherSpec");
    }
    siege.end("warnings", &BOUNDS);
}

#[test]
fn handshake_messages_that_have_no_place_on_an_open_connection_end_it() {
    let step = if repeated(2) == 1 { 2 } else { 1 };
    let mut siege = Siege::lay();
    for kit in Kit::both(&siege.world.pki) {
        for kind in (0..30u8).step_by(step).chain([67, 254, 255]) {
            // A hello in TLS 1.2 is a wish to renegotiate; KeyUpdate has a place in TLS 1.3.
            if kind == 1 && kit.version == Version::Tls12 {
                continue;
            }
            let what = format!("a message of type {kind}");
            let (mut raw, mut sealer) = admitted(&mut siege, &kit, &what);
            let bytes = sealer.seal(HANDSHAKE, &message(kind, &[2; 40]));
            let ending = flood(&mut raw, &bytes);
            assert!(matches!(ending, Ending::Alert(_)), "{what} {:?}: {ending:?}", kit.version);
            assert_ended(&siege, &raw, &ending, &what);
        }
    }
    siege.end("messages out of place", &BOUNDS);
}

#[test]
fn nobody_renegotiates() {
    let mut siege = Siege::lay();
    let kit = Kit::new(&siege.world.pki, Version::Tls12);
    // Once: it is declined with a warning, and the connection goes on as the same client.
    let (mut raw, mut sealer) = admitted(&mut siege, &kit, "asks once");
    let hello = raw.hello_message().to_vec();
    raw.send(&sealer.seal(HANDSHAKE, &hello)).unwrap();
    raw.send(&sealer.seal(DATA, b"still me")).unwrap();
    assert_eq!(raw.client.read_exactly(8).unwrap(), b"still me");
    raw.reset();
    // Again and again, which is how handshakes were made to cost (CVE-2011-1473).
    let (mut raw, mut sealer) = admitted(&mut siege, &kit, "asks again and again");
    let bytes: Vec<u8> = (0..1000).flat_map(|_| sealer.seal(HANDSHAKE, &hello)).collect();
    let ending = flood(&mut raw, &bytes);
    assert_ended(&siege, &raw, &ending, "asks again and again");
    // In the clear, as an attacker in between would.
    for kit in Kit::both(&siege.world.pki) {
        let (mut raw, _) = admitted(&mut siege, &kit, "a plain hello");
        let hello = raw.hello.clone();
        let ending = flood(&mut raw, &hello);
        assert_ended(&siege, &raw, &ending, "a plain hello");
    }
    siege.end("renegotiation", &BOUNDS);
}

#[test]
fn broken_records_end_the_connection_at_once() {
    let mut siege = Siege::lay();
    for kit in Kit::both(&siege.world.pki) {
        let spoil = |sealer: &mut Sealer, place: usize| {
            let mut record = sealer.seal(DATA, b"a good record");
            let place = place.min(record.len() - 1);
            record[place] ^= 0x40;
            record
        };
        type Make<'a> = Box<dyn Fn(&mut Sealer) -> Vec<u8> + 'a>;
        let mut ways: Vec<(String, Make<'_>)> = vec![
            ("a record too long by a byte".to_owned(), Box::new(|sealer| sealer.seal(DATA, &[7; (16 << 10) + 1]))),
            ("a header of 64 KiB".to_owned(), Box::new(|_| [&[DATA, 3, 3, 0xff, 0xff][..], &[7; 70_000]].concat())),
            ("a record of nothing".to_owned(), Box::new(|_| plain(DATA, &[]))),
            ("a record shorter than its tag".to_owned(), Box::new(|_| plain(DATA, &[7; 15]))),
            (
                "the second record first".to_owned(),
                Box::new(|sealer| {
                    sealer.seal(DATA, b"first");
                    sealer.seal(DATA, b"second")
                }),
            ),
            (
                "a record twice".to_owned(),
                Box::new(|sealer| {
                    let record = sealer.seal(DATA, b"");
                    [&record[..], &record].concat()
                }),
            ),
            ("an alert of one byte".to_owned(), Box::new(|sealer| sealer.seal(ALERT, &[1]))),
            ("an empty alert".to_owned(), Box::new(|sealer| sealer.seal(ALERT, &[]))),
        ];
        for kind in [0u8, 19, 24, 25, 99, 255] {
            ways.push((format!("content of type {kind}"), Box::new(move |sealer| sealer.seal(kind, b"what is it"))));
        }
        for place in [5, 9, 14, 20, 30, 99] {
            ways.push((format!("byte {place} spoilt"), Box::new(move |sealer| spoil(sealer, place))));
        }
        let kernel = goes_by_kernel(if kit.version == Version::Tls12 { "1.2" } else { "1.3" });
        for (what, make) in &ways {
            if kernel && kit.version == Version::Tls12 && what == "a record of nothing" {
                // The kernel waits for the explicit nonce as well before it looks at the header.
                continue;
            }
            let (mut raw, mut sealer) = admitted(&mut siege, &kit, what);
            let bytes = make(&mut sealer);
            let ending = flood(&mut raw, &bytes);
            // On the kernel path no alert can be sent after a record that does not open.
            let mute = kernel && ending == Ending::Reset;
            assert!(mute || matches!(ending, Ending::Alert(_)), "{what} {:?}: {ending:?}", kit.version);
            assert_ended(&siege, &raw, &ending, what);
            let index = siege.backend.connections() - 1;
            let seen = siege.backend.wait_end(index);
            assert_eq!(seen.end, Some(crate::world::backend::End::Reset), "{what}: an orderly end at the backend");
        }
    }
    siege.end("broken records", &BOUNDS);
}

#[test]
fn what_comes_behind_a_close_notify_counts_for_nothing() {
    let mut siege = Siege::lay();
    for kit in Kit::both(&siege.world.pki) {
        let (mut raw, mut sealer) = admitted(&mut siege, &kit, "data behind its end");
        let mut bytes = sealer.seal(DATA, b"last");
        bytes.extend(sealer.seal(ALERT, &[1, 0]));
        (0..3000).for_each(|_| bytes.extend(sealer.seal(DATA, b"too late")));
        let _ = raw.send(&bytes);
        let index = siege.backend.connections() - 1;
        let seen = siege.backend.wait_end(index);
        assert_eq!((seen.received, seen.end), (b"let inlast".to_vec(), Some(crate::world::backend::End::Fin)));
    }
    siege.end("data behind close_notify", &BOUNDS);
}
