//! Data both ways: any pieces, half-closes, key updates, broken records, memory.

use super::support::*;
use crate::tls::{KeyChanges, Session, Status};
use crate::trust::Reason;
use proptest::prelude::*;
use rustls::version::{TLS12, TLS13};

fn open(version: &'static rustls::SupportedProtocolVersion) -> (Pki, Pipe) {
    let pki = Pki::new();
    let world = World::new(&pki, &one_site("", OFF));
    let outcome = world.connect(&Client::new(&pki, version, None), "a.test");
    outcome.open();
    (pki, outcome.into_pipe())
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
}

#[test]
fn data_of_any_length_goes_both_ways() {
    for version in VERSIONS {
        let (_pki, mut pipe) = open(version);
        for len in [0, 1, 16_384, 16_385, 100_000, 1 << 20] {
            let data = pattern(len);
            pipe.plain.clear();
            pipe.received.clear();
            pipe.say(&data).unwrap();
            assert!(pipe.plain == data, "{len} up");
            pipe.answer(&data);
            assert!(pipe.received == data, "{len} down");
        }
    }
}

#[test]
fn a_whole_connection_may_come_byte_by_byte() {
    let pki = Pki::new();
    let world = World::new(&pki, &one_site("", OFF));
    for version in VERSIONS {
        let mut pipe = Pipe::new(world.session(0), &Client::new(&pki, version, None), "a.test");
        pipe.chunk = 1;
        pipe.run().unwrap();
        let data = pattern(20_000);
        pipe.say(&data).unwrap();
        assert!(pipe.plain == data);
        pipe.client.send_close_notify();
        pipe.run().unwrap();
        assert_eq!(pipe.status, Status::PeerClosed);
    }
}

#[test]
fn encrypt_appends_to_what_is_there() {
    let (_pki, mut pipe) = open(&TLS13);
    let mut out = b"before".to_vec();
    pipe.session.encrypt(b"one", &mut out).unwrap();
    pipe.session.encrypt(b"two", &mut out).unwrap();
    assert!(out.starts_with(b"before"));
    pipe.deliver(&out[6..]);
    assert_eq!(pipe.received, b"onetwo");
}

#[test]
fn after_the_clients_close_we_may_still_send_and_after_ours_still_receive() {
    for version in VERSIONS {
        let (_pki, mut pipe) = open(version);
        pipe.client.send_close_notify();
        pipe.run().unwrap();
        assert_eq!(pipe.status, Status::PeerClosed);
        pipe.answer(b"still here");
        assert_eq!(pipe.received, b"still here");

        let (_pki, mut pipe) = open(version);
        let mut out = Vec::new();
        pipe.session.close_notify(&mut out);
        assert!(!out.is_empty());
        let mut state = &out[..];
        pipe.client.read_tls(&mut state).unwrap();
        assert!(pipe.client.process_new_packets().unwrap().peer_has_closed());
        pipe.say(b"late").unwrap();
        assert_eq!(pipe.plain, b"late");
        assert_eq!(pipe.status, Status::Open);
        out.clear();
        pipe.session.close_notify(&mut out);
        assert!(out.is_empty(), "a second close_notify");
        assert!(pipe.session.encrypt(b"too late", &mut out).is_err());
        assert!(out.is_empty());
    }
}

#[test]
fn what_comes_behind_a_close_notify_counts_for_nothing() {
    let (_pki, mut pipe) = open(&TLS13);
    pipe.client.send_close_notify();
    let mut bytes = Vec::new();
    pipe.client.write_tls(&mut bytes).unwrap();
    bytes.extend_from_slice(&[23, 3, 3, 0, 200, 1, 2, 3]);
    pipe.feed(&mut bytes).unwrap();
    assert_eq!(pipe.status, Status::PeerClosed);
    pipe.feed(&mut [9; 1000]).unwrap();
    assert_eq!(pipe.status, Status::PeerClosed);
    assert!(pipe.plain.is_empty());
    assert!(!pipe.session.has_partial_record());
}

#[test]
fn a_record_cut_in_two_is_waited_for_and_told_of() {
    let (_pki, mut pipe) = open(&TLS12);
    std::io::Write::write_all(&mut pipe.client.writer(), b"data").unwrap();
    let mut bytes = Vec::new();
    pipe.client.write_tls(&mut bytes).unwrap();
    let (head, tail) = bytes.split_at_mut(11);
    assert!(!pipe.session.has_partial_record());
    pipe.feed(head).unwrap();
    assert!(pipe.session.has_partial_record());
    pipe.feed(tail).unwrap();
    assert!(!pipe.session.has_partial_record());
    assert_eq!(pipe.plain, b"data");
}

#[test]
fn a_broken_record_ends_the_connection_with_bad_record_mac_after_the_data_before_it() {
    for version in VERSIONS {
        let (_pki, mut pipe) = open(version);
        let mut bytes = Vec::new();
        for data in [b"good", b"evil"] {
            std::io::Write::write_all(&mut pipe.client.writer(), data).unwrap();
            pipe.client.write_tls(&mut bytes).unwrap();
        }
        *bytes.last_mut().unwrap() ^= 1;
        let failure = pipe.feed(&mut bytes).expect_err("was taken");
        assert_eq!((failure.reason, failure.our_alert), (Reason::BadEncoding, Some(20)));
        assert_eq!(pipe.plain, b"good");
        let seen = Some(rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac));
        assert_eq!(pipe.client_error, seen);
        assert!(pipe.session.encrypt(b"more", &mut Vec::new()).is_err());
    }
}

#[test]
fn an_oversized_record_is_refused_at_its_header() {
    let (_pki, mut pipe) = open(&TLS13);
    let failure = pipe.feed(&mut [23, 3, 3, 0xff, 0xff]).expect_err("was taken");
    assert_eq!((failure.reason, failure.our_alert), (Reason::BadEncoding, Some(50)));
}

#[test]
fn a_fatal_alert_of_the_client_is_recorded_and_not_answered() {
    for version in VERSIONS {
        let pki = Pki::new();
        let world = World::new(&pki, &one_site("", OFF));
        let mut client = Client::new(&pki, version, None);
        client.clock.set(NOW + 2000 * DAY);
        client.config.time_provider = std::sync::Arc::new(client.clock.clone());
        let mut pipe = Pipe::new(world.session(0), &client, "a.test");
        let mut failure = None;
        while failure.is_none() && pipe.client.wants_write() {
            let mut bytes = Vec::new();
            pipe.client.write_tls(&mut bytes).unwrap();
            failure = pipe.feed(&mut bytes).err();
        }
        let failure = failure.expect("the client accepted an expired certificate");
        assert_eq!(failure.reason, Reason::PeerAlert(45));
        assert_eq!((failure.our_alert, failure.peer_alert), (None, Some(45)));
    }
}

#[test]
fn key_updates_are_taken_and_answered_and_a_flood_of_them_is_not() {
    let (_pki, mut pipe) = open(&TLS13);
    assert_eq!(pipe.session.take_key_changes(), KeyChanges::default());
    for _ in 0..100 {
        pipe.client.refresh_traffic_keys().unwrap();
        pipe.say(b"x").unwrap();
        pipe.answer(b"y");
        assert_eq!(pipe.session.take_key_changes(), KeyChanges { ours: 1, clients: 1 });
    }
    assert_eq!(pipe.plain, [b'x'; 100]);
    assert_eq!(pipe.received, [b'y'; 100]);
    let flood = (0..64).try_for_each(|_| {
        pipe.client.refresh_traffic_keys().unwrap();
        pipe.run()
    });
    assert_eq!(flood.expect_err("was taken").reason, Reason::BadEncoding);
}

/// Encrypts records of TLS 1.3 with a client's own keys, to say what rustls clients never say.
struct Sealer {
    key: aws_lc_rs::aead::LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Sealer {
    fn of(client: rustls::ClientConnection) -> Sealer {
        let (sequence, secrets) = client.dangerous_extract_secrets().unwrap().tx;
        let rustls::ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else { panic!("another suite") };
        let key = aws_lc_rs::aead::UnboundKey::new(&aws_lc_rs::aead::AES_128_GCM, key.as_ref()).unwrap();
        Sealer { key: aws_lc_rs::aead::LessSafeKey::new(key), iv: iv.as_ref().try_into().unwrap(), sequence }
    }

    fn record(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        let mut nonce = self.iv;
        for (byte, by) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= by;
        }
        self.sequence += 1;
        let mut inner = [content, &[kind]].concat();
        let head = [23, 3, 3, 0, (inner.len() + 16) as u8];
        let nonce = aws_lc_rs::aead::Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce, aws_lc_rs::aead::Aad::from(head), &mut inner).unwrap();
        [&head[..], &inner].concat()
    }
}

const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

fn open_with_sealer() -> (Pki, Pipe, Sealer) {
    let pki = Pki::new();
    let world = World::new(&pki, &one_site("", OFF));
    let mut client = Client::new(&pki, &TLS13, None);
    client.config.enable_secret_extraction = true;
    let outcome = world.connect(&client, "a.test");
    outcome.open();
    let mut pipe = outcome.into_pipe();
    // The client proper is of no more use: its keys are ours now.
    let spent = std::mem::replace(&mut pipe.client, client.connection("a.test"));
    (pki, pipe, Sealer::of(spent))
}

#[test]
fn a_key_update_split_over_records_is_put_together_though_we_send_in_between() {
    for chunk in [1, 3, 1000] {
        let (_pki, mut pipe, mut sealer) = open_with_sealer();
        pipe.client_error = Some(rustls::Error::HandshakeNotComplete);
        pipe.chunk = chunk;
        let mut out = Vec::new();
        for (i, part) in KEY_UPDATE.chunks(2).enumerate() {
            assert_eq!(pipe.session.has_partial_record(), i > 0);
            pipe.feed(&mut sealer.record(22, part)).unwrap();
            pipe.session.encrypt(b"meanwhile", &mut out).unwrap();
        }
        assert!(!pipe.session.has_partial_record());
        // It was taken: a record with the old keys is none any more.
        let failure = pipe.feed(&mut sealer.record(23, b"old keys")).expect_err("was taken");
        assert_eq!((failure.reason, failure.our_alert), (Reason::BadEncoding, Some(20)));
    }
}

#[test]
fn closing_with_half_a_message_received_works() {
    let (_pki, mut pipe, mut sealer) = open_with_sealer();
    pipe.feed(&mut sealer.record(22, &KEY_UPDATE[..2])).unwrap();
    let mut out = Vec::new();
    pipe.session.close_notify(&mut out);
    assert_eq!(out.len(), 5 + 2 + 1 + 16);
}

#[test]
fn data_in_the_middle_of_a_handshake_message_is_refused() {
    let (_pki, mut pipe, mut sealer) = open_with_sealer();
    pipe.feed(&mut sealer.record(22, &KEY_UPDATE[..2])).unwrap();
    let failure = pipe.feed(&mut sealer.record(23, b"data")).expect_err("was taken");
    // rustls has no alert for it, and what is encrypted we cannot write.
    assert_eq!((failure.reason, failure.our_alert), (Reason::BadEncoding, None));
    assert!(pipe.plain.is_empty());
}

#[test]
fn after_our_close_nothing_more_is_said_even_on_errors() {
    let (_pki, mut pipe) = open(&TLS13);
    pipe.session.close_notify(&mut Vec::new());
    let mut out = Vec::new();
    let mut broken = [&[23, 3, 3, 0, 30][..], &[7; 30]].concat();
    let answer = pipe.session.feed(&mut broken, unix(NOW), &mut Vec::new(), &mut out);
    assert_eq!(answer.expect_err("was taken").our_alert, None);
    assert!(out.is_empty());
}

#[test]
fn empty_records_are_taken_but_not_many() {
    let (_pki, mut pipe, mut sealer) = open_with_sealer();
    for _ in 0..32 {
        pipe.feed(&mut sealer.record(23, b"")).unwrap();
    }
    assert_eq!(pipe.feed(&mut sealer.record(23, b"")).expect_err("was taken").reason, Reason::BadEncoding);
}

#[test]
fn a_session_is_small() {
    println!("Session: {} bytes inline", size_of::<Session>());
    println!("Failure: {} bytes, boxed", size_of::<crate::tls::Failure>());
    println!("Established: {} bytes, boxed", size_of::<crate::tls::Established>());
    println!("rustls connection: {} bytes inline", size_of::<rustls::server::UnbufferedServerConnection>());
    assert!(size_of::<Session>() <= 64);
}

/// Run it by name with `--ignored --nocapture`: what one idle session costs, from the growth of the process.
#[test]
#[ignore = "a measurement"]
fn memory_of_idle_sessions() {
    let pki = Pki::new();
    let alice = pki.client("alice");
    let mut kept = Vec::new();
    for client_table in [OFF, REQUIRE] {
        let world = World::new(&pki, &one_site("", client_table));
        for version in VERSIONS {
            let client = Client::new(&pki, version, Some(&alice));
            let mut sessions = Vec::with_capacity(2100);
            for _ in 0..100 {
                sessions.push(world.connect(&client, "a.test").session);
            }
            let before = resident_bytes();
            for _ in 0..2000 {
                sessions.push(world.connect(&client, "a.test").session);
            }
            let each = (resident_bytes() - before) / 2000;
            println!("{:?}, {}: {each} bytes", version.version, client_table.lines().next().unwrap_or_default());
            kept.push(sessions);
        }
    }
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn plaintext_arrives_exactly_once_and_in_order_however_it_is_cut(
        writes in prop::collection::vec(0_usize..40_000, 1..6),
        cuts in prop::collection::vec(1_usize..20_000, 1..40),
        tls13 in any::<bool>(),
    ) {
        let (_pki, mut pipe) = open(if tls13 { &TLS13 } else { &TLS12 });
        let mut bytes = Vec::new();
        let mut sent = Vec::new();
        for (i, len) in writes.iter().enumerate() {
            let data = pattern(len + i);
            for piece in data.chunks(16 << 10) {
                std::io::Write::write_all(&mut pipe.client.writer(), piece).unwrap();
                while pipe.client.wants_write() {
                    pipe.client.write_tls(&mut bytes).unwrap();
                }
            }
            if i % 2 == 1 && tls13 {
                pipe.client.refresh_traffic_keys().unwrap();
                pipe.client.write_tls(&mut bytes).unwrap();
            }
            sent.extend_from_slice(&data);
        }
        let mut rest = &mut bytes[..];
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let cut = (*cuts.next().unwrap()).min(rest.len());
            let (now, later) = rest.split_at_mut(cut);
            pipe.feed(now).unwrap();
            rest = later;
        }
        prop_assert!(pipe.plain == sent);
        prop_assert!(!pipe.session.has_partial_record());
    }
}
