//! Peers that do not speak TLS, or not a version of this century.

use super::raw::Kit;
use super::record::{Version, last_alert};
use super::siege::{Bounds, Siege};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Sends `bytes`, ends, and reads all that comes back.
fn tell(address: SocketAddr, bytes: &[u8]) -> (SocketAddr, Vec<u8>) {
    let mut tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(crate::world::wait::SOON)).unwrap();
    let local = tcp.local_addr().unwrap();
    // A server that has heard enough may have reset the connection.
    let _ = tcp.write_all(bytes);
    let _ = tcp.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = tcp.read_to_end(&mut answer);
    (local, answer)
}

/// Bytes that nobody can foresee and everybody can repeat.
fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

#[test]
fn who_does_not_speak_tls_is_told_so_at_most_by_an_alert() {
    let mut siege = Siege::lay();
    let http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let proxy2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\x7f\0\0\x01\x7f\0\0\x01\x11\x11\x22\x22";
    let sslv2 = [&[0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10][..], &noise(2, 37)].concat();
    let sslv2_for_tls = [&[0x80, 0x2e, 1, 3, 3, 0, 0x15, 0, 0, 0, 0x10][..], &noise(2, 37)].concat();
    let strangers: [(&str, &[u8]); 12] = [
        ("HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ("a long HTTP request", &[b"POST / HTTP/1.1\r\nX: "[..].to_vec(), vec![b'x'; 200_000]].concat()),
        ("HTTP/2", http2),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n"),
        ("SMTP", b"EHLO localhost\r\n"),
        ("PROXY v1 where none is expected", b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n"),
        ("PROXY v2 where none is expected", proxy2),
        ("SSL 2", &sslv2),
        ("SSL 2 that offers TLS", &sslv2_for_tls),
        ("zeroes", &[0; 100_000]),
        ("ones", &[0xff; 100_000]),
        ("a record that claims 64 KiB", &[&[22, 3, 1, 0xff, 0xff][..], &[1; 70_000]].concat()),
    ];
    for (what, bytes) in strangers {
        let (client, answer) = tell(siege.address(), bytes);
        assert!(answer.is_empty() || last_alert(&answer).is_some() && answer.len() == 7, "{what}: {answer:02x?}");
        siege.refused_with(client, &answer, what);
        let line = siege.server.audit_of(client, "refused");
        assert_eq!(line["reason"], "not_tls", "{what}: {line}");
    }
    siege.end("strangers", &Bounds { cpu: Duration::from_secs(4), memory_kib: 16 << 10 });
}

#[test]
fn noise_of_every_first_byte_and_length_opens_nothing() {
    let mut siege = Siege::lay();
    for first in 0..=255u8 {
        let bytes = [vec![first], noise(u64::from(first), usize::from(first) * 7)].concat();
        let (client, answer) = tell(siege.address(), &bytes);
        assert!(answer.is_empty() || last_alert(&answer).is_some(), "{first}: {answer:02x?}");
        siege.refused_with(client, &answer, format!("noise after {first:#04x}"));
    }
    // In a record of the right kind, so that more of it is looked at.
    for seed in 0..200u64 {
        let body = noise(seed, 40 + 7 * seed as usize);
        let hello = super::record::message(1, &[&[3, 3][..], &body].concat());
        let (client, answer) = tell(siege.address(), &super::record::plain(22, &hello));
        assert!(last_alert(&answer).is_some(), "{seed}: {answer:02x?}");
        siege.refused_with(client, &answer, format!("noise in a hello, seed {seed}"));
    }
    siege.end("noise", &Bounds { cpu: Duration::from_secs(5), memory_kib: 16 << 10 });
}

#[test]
fn a_hello_without_end_is_cut_off_at_its_bound() {
    let mut siege = Siege::lay();
    let endless = super::record::message(1, &vec![3; 60_000]);
    let records: Vec<u8> = endless.chunks(16 << 10).flat_map(|chunk| super::record::plain(22, chunk)).collect();
    let empty: Vec<u8> = (0..20_000).flat_map(|_| super::record::plain(22, &[])).collect();
    let kit = Kit::new(&siege.world.pki, Version::Tls13);
    let hello = kit.connect(siege.address());
    siege.silent(hello.address());
    let before_it: Vec<u8> =
        (0..10_000).flat_map(|_| super::record::plain(20, &[1])).chain(hello.hello.clone()).collect();
    let alerts: Vec<u8> = (0..10_000).flat_map(|_| super::record::plain(21, &[1, 100])).collect();
    drop(hello);
    for (what, bytes) in [
        ("a hello of 60 KB", &records),
        ("empty records", &empty),
        ("ChangeCipherSpec before the hello", &before_it),
        ("warnings before the hello", &alerts),
    ] {
        let (client, answer) = tell(siege.address(), bytes);
        // Where more was sent than the server wished to read, a reset may overtake the alert.
        siege.refused_with(client, &answer, what);
        assert_eq!(siege.server.audit_of(client, "refused")["reason"], "not_tls", "{what}");
    }
    siege.end("hellos without end", &Bounds { cpu: Duration::from_secs(4), memory_kib: 16 << 10 });
}
