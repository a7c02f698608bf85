//! The first message: in the smallest pieces, cut at every length, with every byte spoilt, with more in it than anyone
//! needs.

use super::raw::{Kit, Raw};
use super::record::{DATA, HANDSHAKE, Version, last_alert, message, plain};
use super::siege::{Bounds, Siege};
use crate::world::process::sanitizer_factor;
use std::time::Duration;

const BOUNDS: Bounds = Bounds { cpu: Duration::from_secs(20), memory_kib: 24 << 10 };

/// Sends `bytes` in place of the hello and ends: what came back.
fn say(raw: &mut Raw, bytes: &[u8]) -> Vec<u8> {
    let _ = raw.send(bytes);
    raw.finish();
    raw.answer()
}

#[test]
fn every_message_of_the_client_may_come_in_records_of_one_byte_and_segments_of_one_byte() {
    let mut siege = Siege::lay();
    for kit in Kit::both(&siege.world.pki) {
        let mut raw = kit.connect(siege.address());
        let hello: Vec<u8> = raw.hello_message().chunks(1).flat_map(|byte| plain(HANDSHAKE, byte)).collect();
        for byte in hello {
            raw.send(&[byte]).unwrap();
        }
        raw.receive_flight().unwrap();
        let messages = raw.flight();
        let flight = raw.flight_in(&messages, 1);
        raw.send(&flight).unwrap();
        let mut sealer = raw.data_sealer();
        if raw.version == Version::Tls12 {
            // Its Finished alone was as many records as it has bytes.
            sealer = raw.handshake_sealer().skip(messages.last().unwrap().len() as u64);
        }
        for byte in b"byte by byte" {
            raw.send(&sealer.seal(DATA, &[*byte])).unwrap();
        }
        assert_eq!(raw.client.read_exactly(12).unwrap(), b"byte by byte", "{:?}", raw.version);
        siege.admitted(raw.address(), "in one-byte records");
    }
    siege.end("one-byte records", &BOUNDS);
}

#[test]
fn a_hello_cut_at_any_length_opens_nothing() {
    let mut siege = Siege::lay();
    for kit in Kit::both(&siege.world.pki) {
        let length = kit.connect(siege.address()).hello.len();
        for cut in 1..length {
            // As the network would cut it, and as a liar would, with lengths that fit.
            let mut raw = kit.connect(siege.address());
            let bytes = raw.hello[..cut].to_vec();
            let answer = say(&mut raw, &bytes);
            assert!(answer.is_empty(), "{cut}: {answer:02x?}");
            siege.refused(raw.address(), None, format!("the first {cut} bytes"));
            if cut < 9 || cut % 2 == 1 {
                continue;
            }
            let mut raw = kit.connect(siege.address());
            let body = raw.hello_message()[4..cut - 5].to_vec();
            let answer = say(&mut raw, &plain(HANDSHAKE, &message(1, &body)));
            assert!(matches!(last_alert(&answer), Some(10 | 40 | 47 | 50 | 70 | 109)), "{cut}: {answer:02x?}");
            siege.refused_with(raw.address(), &answer, format!("a hello of {} bytes", body.len()));
        }
    }
    siege.end("cut hellos", &BOUNDS);
}

#[test]
fn a_hello_with_any_byte_spoilt_opens_nothing() {
    let mut siege = Siege::lay();
    for kit in Kit::both(&siege.world.pki) {
        let length = kit.connect(siege.address()).hello.len();
        for place in 0..length {
            let mut raw = kit.connect(siege.address());
            let mut bytes = raw.hello.clone();
            bytes[place] ^= [0x01, 0x80, 0xff][place % 3];
            let answer = say(&mut raw, &bytes);
            // A byte that matters to nobody (of the random, say) still makes another handshake of it, which ends here.
            siege.refused_with(raw.address(), &answer, format!("byte {place} spoilt, {:?}", raw.version));
        }
    }
    siege.end("spoilt hellos", &BOUNDS);
}

/// The hello's message with this extension behind its own ones, and the lengths put right.
fn with_extension(hello: &[u8], kind: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = hello[4..].to_vec();
    let at = extensions_at(&bytes);
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(body);
    let length = u16::try_from(bytes.len() - at - 2).unwrap();
    bytes[at..at + 2].copy_from_slice(&length.to_be_bytes());
    message(1, &bytes)
}

/// Where the length of the extensions stands in the body of a hello.
pub fn extensions_at(body: &[u8]) -> usize {
    let session = 35 + usize::from(body[34]);
    let suites = session + 2 + usize::from(u16::from_be_bytes([body[session], body[session + 1]]));
    suites + 1 + usize::from(body[suites])
}

/// A vector with a length of two bytes before it.
pub fn long(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

#[test]
fn hundreds_of_offered_sessions_cost_little() {
    let mut siege = Siege::lay();
    let kit = Kit::new(&siege.world.pki, Version::Tls13);
    let before = siege.cpu();
    for round in 0..100 {
        let mut raw = kit.connect(siege.address());
        let identities: Vec<u8> =
            (0..400u16).flat_map(|n| [long(&[&n.to_be_bytes()[..], &[7; 30]].concat()), vec![0; 4]].concat()).collect();
        let binders: Vec<u8> = (0..400).flat_map(|_| [&[32][..], &[7; 32]].concat()).collect();
        let hello = with_extension(raw.hello_message(), 41, &[long(&identities), long(&binders)].concat());
        let records: Vec<u8> = hello.chunks(16 << 10).flat_map(|chunk| plain(HANDSHAKE, chunk)).collect();
        let answer = say(&mut raw, &records);
        siege.refused_with(raw.address(), &answer, format!("400 sessions, round {round}"));
    }
    let each = (siege.cpu() - before) / 100;
    println!("{each:?} of CPU for a hello with 400 sessions");
    assert!(each < Duration::from_millis(60) * sanitizer_factor(), "{each:?} for one hello");
    siege.end("hundreds of sessions", &BOUNDS);
}

#[test]
fn early_data_never_reaches_a_backend() {
    let mut siege = Siege::lay();
    let kit = Kit::new(&siege.world.pki, Version::Tls13);
    for (what, records, size) in [("a little", 3, 100), ("much", 60, 16 << 10), ("many small ones", 20_000, 1)] {
        let mut raw = kit.connect(siege.address());
        let hello = with_extension(raw.hello_message(), 42, &[]);
        let mut bytes = plain(HANDSHAKE, &hello);
        (0..records).for_each(|_| bytes.extend(plain(DATA, &vec![b'!'; size])));
        let answer = say(&mut raw, &bytes);
        siege.refused(raw.address(), None, format!("early data: {what}"));
        assert!(answer.len() < 16 << 10, "{what}: {} bytes in answer", answer.len());
    }
    siege.end("early data", &BOUNDS);
}

#[test]
fn extensions_by_the_thousand_twice_and_of_every_kind_cost_little() {
    let mut siege = Siege::lay();
    for kit in Kit::both(&siege.world.pki) {
        for kind in (0..70u16).chain([0x0a0a, 0x4469, 0xfe0d, 0xff01]) {
            for body in [&[][..], &[0], &[0, 0], &[0, 1, 0], &[0xff; 40]] {
                let mut raw = kit.connect(siege.address());
                let hello = with_extension(raw.hello_message(), kind, body);
                let answer = say(&mut raw, &plain(HANDSHAKE, &hello));
                siege.refused_with(raw.address(), &answer, format!("extension {kind} of {} bytes", body.len()));
            }
        }
        let mut raw = kit.connect(siege.address());
        let mut hello = raw.hello_message().to_vec();
        for kind in 0x5000..0x5800u16 {
            hello = with_extension(&hello, kind, &[]);
        }
        let answer = say(&mut raw, &plain(HANDSHAKE, &hello));
        siege.refused_with(raw.address(), &answer, "2048 unknown extensions");
    }
    siege.end("extensions", &BOUNDS);
}
