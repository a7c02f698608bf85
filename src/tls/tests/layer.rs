//! Records of our own, against rustls at the other end: what one seals the other opens, and what is not as it must be ends
//! everything.

use super::support::*;
use crate::tls::kernel::TrafficKeys;
use crate::tls::protection::Protection;
use crate::tls::{Bulk, Departed, KernelSession, Opened, Opener, Said, Sealer};
use proptest::prelude::*;
use rustls::{ClientConnection, SupportedProtocolVersion, version};
use std::io::{Read, Write};
use std::time::Instant;
use zeroize::Zeroizing;

const SUITES: [(&str, &SupportedProtocolVersion); 6] = [
    ("TLS13_AES_128_GCM_SHA256", &version::TLS13),
    ("TLS13_AES_256_GCM_SHA384", &version::TLS13),
    ("TLS13_CHACHA20_POLY1305_SHA256", &version::TLS13),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", &version::TLS12),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", &version::TLS12),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", &version::TLS12),
];
const DATA: u8 = 23;

/// A rustls client, and what is left of its session here.
struct Connection {
    client: ClientConnection,
    session: KernelSession,
    opener: Opener,
    sealer: Sealer,
}

impl Connection {
    fn new((suite, version): (&str, &'static SupportedProtocolVersion)) -> Connection {
        let pki = Pki::new();
        let suite = suite.replace("TLS13_", "TLS_");
        let world = World::new(&pki, &one_site(&format!("[site.tls]\ncipher_suites = [\"{suite}\"]"), REQUIRE));
        let leaf = pki.client("client");
        let outcome = world.connect(&Client::new(&pki, version, Some(&leaf)), "a.test");
        assert_eq!(outcome.open().cipher, suite);
        let Departed { session, transmit, receive } = outcome.session.into_kernel(Instant::now()).unwrap();
        let sealer = Sealer::new(&transmit, session.records_max()).unwrap();
        Connection { client: outcome.client, session, opener: Opener::new(&receive).unwrap(), sealer }
    }

    /// What the client has to send.
    fn sent(&mut self) -> Vec<u8> {
        let mut sent = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut sent).unwrap();
        }
        sent
    }

    /// What the client reads of these bytes.
    fn read(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        while !bytes.is_empty() {
            self.client.read_tls(&mut bytes).unwrap();
            let count = self.client.process_new_packets().unwrap().plaintext_bytes_to_read();
            let start = all.len();
            all.resize(start + count, 0);
            self.client.reader().read_exact(&mut all[start..]).unwrap();
        }
        all
    }
}

/// The type and plaintext of each whole record.
fn open_all(opener: &mut Opener, bytes: &mut [u8]) -> Vec<(u8, Vec<u8>)> {
    let (mut all, mut start) = (Vec::new(), 0);
    while let Some(Opened { kind, body, used }) = opener.open(&mut bytes[start..]).unwrap() {
        all.push((kind, bytes[start..][body].to_vec()));
        start += used;
    }
    assert_eq!(start, bytes.len());
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn what_one_end_seals_the_other_opens(
        suite in 0..SUITES.len(),
        pieces in proptest::collection::vec((1usize..40_000, any::<u8>()), 1..6),
        cut in 1usize..30_000,
    ) {
        let mut connection = Connection::new(SUITES[suite]);
        for (len, seed) in pieces {
            let data: Vec<u8> = (0..len).map(|at| (at / 3) as u8 ^ seed).collect();
            let mut sealed = Vec::new();
            connection.sealer.seal(DATA, &data, &mut sealed).unwrap();
            prop_assert_eq!(connection.read(&sealed), data.clone());
            connection.client.writer().write_all(&data).unwrap();
            let (mut carry, mut opened) = (Vec::new(), Vec::new());
            for part in connection.sent().chunks(cut) {
                carry.extend_from_slice(part);
                while let Some(record) = connection.opener.open(&mut carry).unwrap() {
                    prop_assert_eq!(record.kind, DATA);
                    opened.extend_from_slice(&carry[record.body]);
                    carry.drain(..record.used);
                }
            }
            prop_assert!(carry.is_empty());
            prop_assert_eq!(opened, data);
        }
    }

    #[test]
    fn a_record_changed_anywhere_does_not_open_and_nothing_behind_it_does(
        suite in 0..SUITES.len(),
        bit in 0usize..8 * 60,
    ) {
        let mut connection = Connection::new(SUITES[suite]);
        connection.client.writer().write_all(&[7; 40]).unwrap();
        let mut spoilt = connection.sent();
        connection.client.writer().write_all(b"behind").unwrap();
        let mut behind = connection.sent();
        let place = bit / 8 % spoilt.len();
        spoilt[place] ^= 1 << (bit % 8);
        match connection.opener.open(&mut spoilt) {
            Ok(opened) => prop_assert!(opened.is_none() && matches!(place, 3 | 4), "{opened:?} of byte {place}"),
            Err(failure) => {
                prop_assert!(matches!(failure.our_alert, Some(10 | 20 | 22 | 50)), "{failure}");
                prop_assert!(connection.opener.open(&mut behind).is_err());
            }
        }
    }

    #[test]
    fn whatever_is_said_the_opener_answers_and_uses_no_more_than_it_got(
        tls13: bool,
        start in proptest::collection::vec(any::<u8>(), 0..6),
        len in 0usize..40_000,
    ) {
        let mut bytes = start;
        bytes.resize(bytes.len() + len, 5);
        let mut opener = Opener::new(&keys(tls13, Bulk::Aes128Gcm)).unwrap();
        if let Ok(Some(opened)) = opener.open(&mut bytes) {
            prop_assert!(opened.used <= bytes.len() && opened.body.end <= opened.used);
        }
    }
}

#[test]
fn keys_change_in_both_directions() {
    for suite in &SUITES[..3] {
        let mut connection = Connection::new(*suite);
        for round in 0..3u8 {
            connection.client.refresh_traffic_keys().unwrap();
            let mut update = connection.sent();
            let records = open_all(&mut connection.opener, &mut update);
            let [(22, body)] = &records[..] else { panic!("{records:?}") };
            let said = connection.session.control(22, body, Instant::now()).unwrap();
            let Said::NewKeys { keys, answer: true, .. } = said else { panic!("{said:?}") };
            connection.opener = Opener::new(&keys).unwrap();
            connection.session.note_data();
            let mut out = Vec::new();
            connection.sealer.seal(22, &[24, 0, 0, 1, 0], &mut out).unwrap();
            let keys = connection.session.next_transmit_keys().unwrap();
            connection.sealer = Sealer::new(&keys, connection.session.records_max()).unwrap();
            connection.sealer.seal(DATA, &[round; 100], &mut out).unwrap();
            assert_eq!(connection.read(&out), [round; 100]);
            connection.client.writer().write_all(&[round; 50]).unwrap();
            let mut sent = connection.sent();
            assert_eq!(open_all(&mut connection.opener, &mut sent), [(DATA, vec![round; 50])]);
        }
    }
}

#[test]
fn our_end_is_an_end_to_the_client_and_its_end_is_one_here() {
    for suite in SUITES {
        let mut connection = Connection::new(suite);
        let mut out = Vec::new();
        connection.sealer.seal(21, &[1, 0], &mut out).unwrap();
        connection.client.read_tls(&mut &out[..]).unwrap();
        assert!(connection.client.process_new_packets().unwrap().peer_has_closed());
        connection.client.send_close_notify();
        let mut sent = connection.sent();
        let records = open_all(&mut connection.opener, &mut sent);
        assert_eq!(records, [(21, vec![1, 0])]);
        assert!(matches!(connection.session.control(21, &records[0].1, Instant::now()), Ok(Said::Closed)));
    }
}

#[test]
fn a_used_up_key_seals_nothing_more_and_leaves_no_plaintext() {
    let mut sealer = Sealer::new(&keys(true, Bulk::Aes256Gcm), 4).unwrap();
    let mut out = Vec::new();
    sealer.seal(DATA, b"two", &mut out).unwrap();
    sealer.seal(DATA, &[], &mut out).unwrap();
    let len = out.len();
    assert!(sealer.seal(DATA, b"four", &mut out).is_err());
    assert_eq!((out.len(), sealer.sequence()), (len, 4));
}

#[test]
fn keys_of_a_wrong_length_are_refused() {
    let mut wrong = keys(true, Bulk::Aes256Gcm);
    wrong.key.pop();
    assert!(Opener::new(&wrong).is_err() && Sealer::new(&wrong, 9).is_err());
}

#[test]
fn padding_is_taken_off_and_too_much_of_it_refused() {
    let open = |body: &[u8]| opened_by_alert(true, (DATA, [3, 3]), body);
    assert_eq!(open(&[&b"data"[..], &[DATA], &[0; 900]].concat()), Ok((DATA, b"data".to_vec())));
    assert_eq!(open(&[&b"data"[..], &[DATA]].concat()), Ok((DATA, b"data".to_vec())));
    assert_eq!(open(&[DATA]), Ok((DATA, Vec::new())));
    assert_eq!(open(&[0; 300]), Err(Some(10)));
    assert_eq!(open(&[]), Err(Some(10)));
    let longest = [&vec![1; 1 << 14][..], &[DATA]].concat();
    assert_eq!(open(&longest), Ok((DATA, vec![1; 1 << 14])));
    assert_eq!(open(&[&longest[..], &[0]].concat()), Err(Some(22)));
    assert_eq!(open(&vec![1; (1 << 14) + 241]), Err(Some(22)));
}

#[test]
fn bare_records_wrong_versions_and_long_ones_are_refused() {
    let whole = |tls13, header, body: &[u8]| opened_by_alert(tls13, header, body);
    // change_cipher_spec and alerts that nothing protects, and one that something does.
    assert_eq!(whole(true, (20, [3, 3]), &[1, DATA]), Err(Some(10)));
    assert_eq!(whole(true, (21, [3, 3]), &[1, 0, DATA]), Err(Some(10)));
    assert_eq!(whole(true, (DATA, [3, 4]), &[DATA]), Err(Some(50)));
    assert_eq!(whole(false, (DATA, [3, 1]), &[1]), Err(Some(50)));
    assert_eq!(whole(false, (21, [3, 3]), &[1, 0]), Ok((21, vec![1, 0])));
    assert_eq!(whole(false, (DATA, [3, 3]), &vec![1; 1 << 14]), Ok((DATA, vec![1; 1 << 14])));
    assert_eq!(whole(false, (DATA, [3, 3]), &vec![1; (1 << 14) + 1]), Err(Some(22)));
    for tls13 in [true, false] {
        let mut opener = Opener::new(&keys(tls13, Bulk::Aes128Gcm)).unwrap();
        assert!(opener.open(&mut [DATA, 3, 3, 0]).unwrap().is_none());
        // The header alone is enough to say so.
        let failure = opener.open(&mut [DATA, 3, 3, 0x50, 0]).unwrap_err();
        assert_eq!(failure.our_alert, Some(22));
        let mut opener = Opener::new(&keys(tls13, Bulk::Aes128Gcm)).unwrap();
        assert_eq!(opener.open(&mut [DATA, 3, 3, 0, 3, 1, 2, 3]).unwrap_err().our_alert, Some(20));
    }
}

fn keys(tls13: bool, bulk: Bulk) -> TrafficKeys {
    let key = Zeroizing::new(vec![9; if bulk == Bulk::Aes128Gcm { 16 } else { 32 }]);
    TrafficKeys { tls13, bulk, key, iv: [3; 12], sequence: 2 }
}

/// What comes of a record with this header and exactly this inner plaintext: its type and bytes, or the alert.
fn opened_by_alert(tls13: bool, (kind, version): (u8, [u8; 2]), inner: &[u8]) -> Result<(u8, Vec<u8>), Option<u8>> {
    let keys = keys(tls13, Bulk::Aes128Gcm);
    let mut protection = Protection::new(&keys).unwrap();
    let explicit = protection.explicit();
    let [high, low] = ((explicit + inner.len() + 16) as u16).to_be_bytes();
    let header = [kind, version[0], version[1], high, low];
    let nonce = protection.explicit_nonce();
    let mut sealed = inner.to_vec();
    let tag = protection.seal(header, &mut sealed).unwrap();
    let mut record = [&header[..], &nonce[..explicit], &sealed, &tag].concat();
    let opened = Opener::new(&keys).unwrap().open(&mut record).map_err(|failure| failure.our_alert)?;
    let opened = opened.expect("it is whole");
    assert_eq!(opened.used, record.len());
    Ok((opened.kind, record[opened.body].to_vec()))
}
