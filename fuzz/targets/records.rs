//! Records as anybody may send them on an open connection whose keys we have: nothing opens but what was sealed, whole or
//! in pieces the answer is the same, and behind a bad record nothing opens.
#![no_main]

use countersign::tls::{Bulk, Opened, Opener, Sealer, TrafficKeys};
use libfuzzer_sys::fuzz_target;
use zeroize::Zeroizing;

const DATA: u8 = 23;
const PLAIN_MAX: usize = 1 << 14;

fn keys(choice: u8) -> TrafficKeys {
    let bulk = [Bulk::Aes128Gcm, Bulk::Aes256Gcm, Bulk::ChaCha20Poly1305][usize::from(choice / 2 % 3)];
    let key = Zeroizing::new(vec![7; if bulk == Bulk::Aes128Gcm { 16 } else { 32 }]);
    TrafficKeys { tls13: choice & 1 == 1, bulk, key, iv: [5; 12], sequence: u64::from(choice) }
}

fuzz_target!(|data: &[u8]| {
    let [choice, kind, place, change, rest @ ..] = data else { return };
    let keys = keys(*choice);
    unsealed(&keys, rest);
    sealed(&keys, *kind, rest);
    changed(&keys, rest, usize::from(*place), *change);
});

/// What nobody sealed does not open.
fn unsealed(keys: &TrafficKeys, bytes: &[u8]) {
    let mut opener = Opener::new(keys).expect("keys fit");
    let whole = opener.open(&mut bytes.to_vec());
    assert!(!matches!(whole, Ok(Some(_))), "a forgery opened");
    if whole.is_err() {
        assert!(opener.open(&mut []).is_err(), "it goes on behind a bad record");
    }
    // A prefix is not judged otherwise than the whole.
    for end in 0..bytes.len().min(8) {
        match Opener::new(keys).expect("keys fit").open(&mut bytes[..end].to_vec()) {
            Ok(opened) => assert_eq!(opened, None),
            Err(failure) => {
                let whole = whole.as_ref().expect_err("a prefix is refused, and the whole is not");
                assert_eq!(failure.our_alert, whole.our_alert);
            }
        }
    }
}

/// Content and type, zeroes at the end and all, come out as TLS has them.
fn sealed(keys: &TrafficKeys, kind: u8, content: &[u8]) {
    let mut bytes = Vec::new();
    Sealer::new(keys, u64::MAX).expect("keys fit").seal(kind, content, &mut bytes).expect("keys last");
    let mut opener = Opener::new(keys).expect("keys fit");
    let first = &content[..content.len().min(PLAIN_MAX)];
    let inner = [first, &[kind]].concat();
    let expected = match (keys.tls13, inner.iter().rposition(|byte| *byte != 0)) {
        (false, _) => Some((kind, first)),
        (true, None) => None,
        (true, Some(at)) => Some((inner[at], &inner[..at])),
    };
    match (opener.open(&mut bytes), expected) {
        (Ok(Some(Opened { kind, body, used })), Some(expected)) => {
            assert!(body.end <= used && used <= bytes.len());
            assert_eq!((kind, &bytes[body]), expected);
        }
        (Err(failure), None) => assert_eq!(failure.our_alert, Some(10)),
        (opened, _) => panic!("{opened:?}"),
    }
}

/// A sealed record with one byte changed is refused, or asks for more than there is; and so is what follows.
fn changed(keys: &TrafficKeys, content: &[u8], place: usize, change: u8) {
    if change == 0 || content.len() > PLAIN_MAX {
        return;
    }
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let mut sealer = Sealer::new(keys, u64::MAX).expect("keys fit");
    sealer.seal(DATA, content, &mut first).expect("keys last");
    sealer.seal(DATA, b"behind", &mut second).expect("keys last");
    let place = place % first.len();
    first[place] ^= change;
    let mut opener = Opener::new(keys).expect("keys fit");
    match opener.open(&mut first) {
        Ok(None) => assert!(matches!(place, 3 | 4), "{place}"),
        Err(_) => assert!(opener.open(&mut second).is_err()),
        Ok(Some(opened)) => panic!("{opened:?} with byte {place} changed"),
    }
}
