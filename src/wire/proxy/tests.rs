//! Both sides of the header against the specification's words, against each other, and against junk.

use super::*;
use crate::config::{ProxyTlvs, limits};
use crate::wire::audit::ConnectionId;
use proptest::prelude::*;
use std::net::SocketAddr;

const NO_TLVS: ProxyTlvs =
    ProxyTlvs { alpn: false, authority: false, unique_id: false, ssl: false, crc32c: false, client_cert: false };
const ALL_TLVS: ProxyTlvs =
    ProxyTlvs { alpn: true, authority: true, unique_id: true, ssl: true, crc32c: true, client_cert: true };

fn header() -> Header<'static> {
    Header {
        source: "203.0.113.7:51234".parse().unwrap(),
        destination: "192.0.2.10:443".parse().unwrap(),
        alpn: Some(b"h2"),
        authority: Some("api.bank.example"),
        unique_id: ConnectionId(hex::decode("0192f3c4a1b27c4e8d10a2b3c4d5e6f7").unwrap().try_into().unwrap()),
        ssl: Some(Ssl {
            version: "1.3",
            cn: Some("acme-payments"),
            cipher: "TLS_AES_128_GCM_SHA256",
            sig_alg: Some("ecdsa-with-SHA256"),
            key_alg: Some("EC256"),
            group: Some("X25519MLKEM768"),
            sig_scheme: Some("ecdsa_secp256r1_sha256"),
            presence: Presence::Full,
            verify: 0,
        }),
        client_cert: Some(b"DER"),
    }
}

fn v2(header: &Header<'_>, wanted: ProxyTlvs) -> Vec<u8> {
    let mut out = Vec::new();
    write_v2(header, wanted, &mut out);
    out
}

fn v1(source: &str, destination: &str) -> String {
    let mut out = Vec::new();
    write_v1(source.parse().unwrap(), destination.parse().unwrap(), &mut out);
    String::from_utf8(out).unwrap()
}

fn received(input: &[u8]) -> Received {
    match parse(input) {
        Ok(Parsed::Header(received)) => received,
        other => panic!("{other:?} for {input:02x?}"),
    }
}

fn refusal(input: &[u8]) -> String {
    parse(input).expect_err("refused").to_string()
}

/// The SSL TLV's `client`, `verify` and what stands inside.
fn ssl_of(bytes: &[u8]) -> (u8, u32, Vec<(u8, Vec<u8>)>) {
    let received = received(bytes);
    let (_, value) = tlvs(&bytes[received.tlvs]).find(|(kind, _)| *kind == tlv::SSL).expect("an SSL TLV");
    let verify = u32::from_be_bytes(value[1..5].try_into().unwrap());
    (value[0], verify, tlvs(&value[5..]).map(|(kind, value)| (kind, value.to_vec())).collect())
}

#[test]
fn writes_the_worked_example_byte_for_byte() {
    let expected = hex::decode(concat!(
        "0d0a0d0a000d0a515549540a211100bf",
        "cb007107c000020ac82201bb01000268",
        "320200106170692e62616e6b2e657861",
        "6d706c650500100192f3c4a1b27c4e8d",
        "10a2b3c4d5e6f720007e070000000021",
        "0007544c5376312e3322000d61636d65",
        "2d7061796d656e7473230016544c535f",
        "4145535f3132385f47434d5f53484132",
        "353624001165636473612d776974682d",
        "53484132353625000545433235362600",
        "0e5832353531394d4c4b454d37363827",
        "001665636473615f7365637032353672",
        "315f736861323536030004892d2f57",
    ))
    .unwrap();
    assert_eq!(expected.len(), 207);
    let without_certificate = ProxyTlvs { client_cert: false, ..ALL_TLVS };
    assert_eq!(hex::encode(v2(&header(), without_certificate)), hex::encode(&expected));
    let back = received(&expected);
    assert_eq!((back.source, back.destination), (Some(header().source), Some(header().destination)));
    assert_eq!(back.len, 207);
}

#[test]
fn appends_to_what_the_buffer_holds() {
    let mut out = b"kept".to_vec();
    write_v2(&header(), ALL_TLVS, &mut out);
    assert_eq!(&out[..4], b"kept");
    assert_eq!(received(&out[4..]).len, out.len() - 4);
}

#[test]
fn a_health_check_says_local_and_leaves_the_addresses_to_the_connection() {
    let mut out = Vec::new();
    write_local(&mut out);
    assert_eq!(hex::encode(&out), "0d0a0d0a000d0a515549540a20000000");
    assert_eq!(received(&out), Received { source: None, destination: None, len: 16, tlvs: 16..16 });
    out.clear();
    write_v1_unknown(&mut out);
    assert_eq!(received(&out), Received { source: None, destination: None, len: 15, tlvs: 15..15 });
}

#[test]
fn v1_lines_name_their_family() {
    assert_eq!(v1("203.0.113.7:51234", "192.0.2.10:443"), "PROXY TCP4 203.0.113.7 192.0.2.10 51234 443\r\n");
    assert_eq!(v1("[2001:db8::7]:1", "[2001:db8::10]:65535"), "PROXY TCP6 2001:db8::7 2001:db8::10 1 65535\r\n");
    let full = "[1111:2222:3333:4444:5555:6666:7777:8888]:65535";
    assert!(v1(full, full).len() <= V1_BYTES_MAX);
}

#[test]
fn mixed_families_are_promoted_and_mapped_ones_demoted() {
    assert_eq!(v1("203.0.113.7:1", "[2001:db8::10]:2"), "PROXY TCP6 ::ffff:203.0.113.7 2001:db8::10 1 2\r\n");
    assert_eq!(v1("[::ffff:203.0.113.7]:1", "[::ffff:192.0.2.10]:2"), "PROXY TCP4 203.0.113.7 192.0.2.10 1 2\r\n");
    let with = |source: &str, destination: &str| {
        let header = Header { source: source.parse().unwrap(), destination: destination.parse().unwrap(), ..header() };
        v2(&header, NO_TLVS)
    };
    let promoted = with("203.0.113.7:1", "[2001:db8::10]:2");
    assert_eq!(promoted[13], 0x21);
    assert_eq!(received(&promoted).source, Some("[::ffff:203.0.113.7]:1".parse().unwrap()));
    let demoted = with("[::ffff:203.0.113.7]:1", "192.0.2.10:2");
    assert_eq!(demoted[13], 0x11);
    assert_eq!(received(&demoted).source, Some("203.0.113.7:1".parse().unwrap()));
    assert_eq!(with("[2001:db8::7]:1", "[::1]:2")[13], 0x21);
}

#[test]
fn the_client_bits_tell_full_resumed_and_anonymous_apart() {
    let with = |presence, verify| {
        let ssl = Ssl { presence, verify, ..header().ssl.unwrap() };
        ssl_of(&v2(&Header { ssl: Some(ssl), ..header() }, ALL_TLVS))
    };
    let has = |inner: &[(u8, Vec<u8>)], kind| inner.iter().any(|(found, _)| *found == kind);
    let (bits, verify, inner) = with(Presence::Full, 0);
    assert_eq!((bits, verify), (0x07, 0));
    assert!(has(&inner, tlv::SSL_CN) && has(&inner, tlv::SSL_CLIENT_CERT));
    let (bits, verify, inner) = with(Presence::Resumed, 0);
    assert_eq!((bits, verify), (0x05, 0));
    assert!(has(&inner, tlv::SSL_CN) && has(&inner, tlv::SSL_CLIENT_CERT));
    assert_eq!(with(Presence::Full, 20).1, 20);
    let (bits, verify, inner) = with(Presence::Anonymous, 0);
    assert_eq!((bits, verify), (0x01, 1), "no certificate is never a verified one");
    assert!(!has(&inner, tlv::SSL_CN) && !has(&inner, tlv::SSL_CLIENT_CERT));
}

#[test]
fn tls_12_suites_go_out_with_their_openssl_names() {
    let cipher_of = |version, cipher| {
        let ssl = Ssl { version, cipher, ..header().ssl.unwrap() };
        let (_, _, inner) = ssl_of(&v2(&Header { ssl: Some(ssl), ..header() }, ALL_TLVS));
        let text = |kind| {
            let (_, value) = inner.iter().find(|(found, _)| *found == kind).unwrap();
            String::from_utf8(value.clone()).unwrap()
        };
        (text(tlv::SSL_VERSION), text(tlv::SSL_CIPHER))
    };
    let expected = ("TLSv1.2".to_owned(), "ECDHE-RSA-AES128-GCM-SHA256".to_owned());
    assert_eq!(cipher_of("1.2", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"), expected);
    let expected = ("TLSv1.3".to_owned(), "TLS_AES_256_GCM_SHA384".to_owned());
    assert_eq!(cipher_of("1.3", "TLS_AES_256_GCM_SHA384"), expected);
}

#[test]
fn only_the_tlvs_that_were_asked_for_are_sent() {
    assert_eq!(v2(&header(), NO_TLVS).len(), 28);
    let kinds = |wanted| {
        let bytes = v2(&header(), wanted);
        let received = received(&bytes);
        tlvs(&bytes[received.tlvs]).map(|(kind, _)| kind).collect::<Vec<_>>()
    };
    assert_eq!(kinds(ProxyTlvs { authority: true, ..NO_TLVS }), [tlv::AUTHORITY]);
    assert_eq!(
        kinds(ALL_TLVS),
        [tlv::ALPN, tlv::AUTHORITY, tlv::UNIQUE_ID, tlv::SSL, tlv::CRC32C],
        "the checksum is last"
    );
    let (_, _, inner) = ssl_of(&v2(&header(), ProxyTlvs { client_cert: true, ..NO_TLVS }));
    assert_eq!(inner, [(tlv::SSL_CLIENT_CERT, b"DER".to_vec())]);
}

#[test]
fn a_connection_without_tls_has_no_ssl_tlv() {
    let plain = v2(&Header { ssl: None, ..header() }, ALL_TLVS);
    let received = received(&plain);
    assert!(tlvs(&plain[received.tlvs]).all(|(kind, _)| kind != tlv::SSL));
}

#[test]
fn a_name_too_long_is_left_out_whole() {
    let name = "a".repeat(256);
    let has_authority = |authority| {
        let bytes = v2(&Header { authority: Some(authority), ..header() }, ALL_TLVS);
        let received = received(&bytes);
        tlvs(&bytes[received.tlvs]).any(|(kind, _)| kind == tlv::AUTHORITY)
    };
    assert!(has_authority(&name[..255]));
    assert!(!has_authority(&name));
}

#[test]
fn a_common_name_too_long_is_left_out_and_the_ssl_tlv_stays_within_haproxys_bound() {
    let name = "n".repeat(4096);
    let with = |cn| {
        let ssl = Ssl { cn: Some(cn), ..header().ssl.unwrap() };
        ssl_of(&v2(&Header { ssl: Some(ssl), client_cert: None, ..header() }, ALL_TLVS)).2
    };
    let longest = with(&name[..limits::PROXY_TEXT_BYTES_MAX]);
    assert!(longest.iter().any(|(kind, _)| *kind == tlv::SSL_CN));
    assert!(5 + longest.iter().map(|(_, value)| 3 + value.len()).sum::<usize>() <= 1024);
    assert!(with(&name).iter().all(|(kind, _)| *kind != tlv::SSL_CN));
}

#[test]
fn a_certificate_that_does_not_fit_is_left_out_and_one_that_just_fits_is_not() {
    let all_but = v2(&Header { client_cert: None, ..header() }, ALL_TLVS).len();
    let room = 65_535 - (all_but - 16) - 3;
    let der = vec![0x30; room + 1];
    let length_with = |der| v2(&Header { client_cert: Some(der), ..header() }, ALL_TLVS).len();
    assert_eq!(length_with(&der[..room]), 16 + 65_535);
    assert_eq!(length_with(&der), all_but);
    assert_eq!(length_with(&vec![0x30; 200_000]), all_but);
}

#[test]
fn every_truncation_needs_more_and_payload_is_not_touched() {
    let line = v1("203.0.113.7:51234", "[2001:db8::10]:443").into_bytes();
    for whole in [line, v2(&header(), ALL_TLVS), v2(&header(), NO_TLVS)] {
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]), Ok(Parsed::NeedMore), "{end} bytes");
        }
        let with_payload = [&whole[..], b"\x16\x03\x01payload\r\n"].concat();
        assert_eq!(received(&with_payload).len, whole.len());
    }
}

#[test]
fn refuses_what_is_no_header() {
    assert!(refusal(b"\x16\x03\x01\x02\x00").contains("accept_proxy_from"));
    assert!(refusal(b"GET / HTTP/1.1\r\n").contains("accept_proxy_from"));
    assert!(refusal(b"PROXZ").contains("accept_proxy_from"));
    assert!(refusal(b"\r\n\r\n\0\r\nQUIT\r").contains("accept_proxy_from"));
}

#[test]
fn refuses_v1_lines_that_are_not_exactly_formed() {
    for line in [
        "PROXY TCP4 203.0.113.7 192.0.2.10 51234 443\n",
        "PROXY TCP4 203.0.113.7 192.0.2.10 51234 443\rX",
        "PROXY TCP4 203.0.113.7 192.0.2.10 51234 443 \r\n",
        "PROXY TCP4  203.0.113.7 192.0.2.10 51234 443\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.10 51234\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.10 051234 443\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.10 +1 443\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.10 65536 443\r\n",
        "PROXY TCP4 203.0.113.07 192.0.2.10 1 443\r\n",
        "PROXY TCP4 2001:db8::7 2001:db8::10 1 443\r\n",
        "PROXY TCP6 203.0.113.7 192.0.2.10 1 443\r\n",
        "PROXY TCP6 fe80::1%eth0 2001:db8::10 1 443\r\n",
        "PROXY tcp4 203.0.113.7 192.0.2.10 1 443\r\n",
        "PROXY UDP4 203.0.113.7 192.0.2.10 1 443\r\n",
        "PROXY \r\n",
        "PROXY UNKNOWNX\r\n",
    ] {
        assert!(parse(line.as_bytes()).is_err(), "{line:?}");
    }
    assert!(parse(b"PROXY UNKNOWN ffff::1 whatever 1 2\r\n").is_ok(), "what follows UNKNOWN is ignored");
}

#[test]
fn a_v1_line_ends_within_107_bytes_or_is_refused() {
    let of = |len: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(len - 16)).into_bytes();
    assert_eq!(received(&of(107)).len, 107);
    assert!(parse(&of(108)).is_err());
    assert_eq!(parse(&of(200)[..106]), Ok(Parsed::NeedMore));
    assert!(refusal(&of(200)[..107]).contains("107"));
    assert_eq!(parse(&of(107)[..106]), Ok(Parsed::NeedMore), "the CR is there, the LF may still come");
    assert!(parse(&of(108)[..107]).is_err(), "its LF would be the 108th");
}

/// A v2 header by hand.
fn raw(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, body].concat()
}

#[test]
fn refuses_v2_headers_of_another_version_command_or_family() {
    let body = [0; 12];
    assert!(parse(&raw(0x21, 0x11, &body)).is_ok());
    assert!(refusal(&raw(0x11, 0x11, &body)).contains("version"));
    assert!(refusal(&raw(0x22, 0x11, &body)).contains("command"));
    assert!(refusal(&raw(0x21, 0x13, &body)).contains("family"));
    assert!(refusal(&raw(0x21, 0x41, &body)).contains("family"));
    assert!(refusal(&raw(0x22, 0x11, &body)[..13]).contains("command"), "as soon as the byte is there");
}

#[test]
fn refuses_v2_headers_whose_lengths_disagree() {
    assert!(refusal(&raw(0x21, 0x11, &[0; 11])).contains("too short"));
    assert!(refusal(&raw(0x21, 0x21, &[0; 35])).contains("too short"));
    assert!(refusal(&raw(0x21, 0x31, &[0; 215])).contains("too short"));
    let with_tlv = |tlv: &[u8]| raw(0x21, 0x11, &[&[0; 12][..], tlv].concat());
    assert!(parse(&with_tlv(&[4, 0, 0])).is_ok());
    assert!(refusal(&with_tlv(&[4, 0, 1])).contains("past the end"));
    assert!(refusal(&with_tlv(&[4, 0])).contains("past the end"));
    assert!(refusal(&with_tlv(&[4, 0, 0, 4, 0xff, 0xff])).contains("past the end"));
}

#[test]
fn refuses_a_v2_header_past_the_bound_before_it_is_all_there() {
    let long = raw(0x21, 0x11, &vec![0; limits::PROXY_HEADER_BYTES_MAX - 15]);
    assert!(refusal(&long[..16]).contains("too long"));
    let longest = raw(0x20, 0x00, &vec![0; limits::PROXY_HEADER_BYTES_MAX - 16]);
    assert_eq!(parse(&longest[..16]), Ok(Parsed::NeedMore));
    assert_eq!(received(&longest).len, limits::PROXY_HEADER_BYTES_MAX);
}

#[test]
fn a_checksum_that_is_there_must_hold() {
    let good = v2(&header(), ALL_TLVS);
    assert!(parse(&good).is_ok());
    // The type byte of the checksum itself cannot be told from another TLV's.
    for at in (16..good.len()).filter(|at| *at != good.len() - 7) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        assert!(parse(&bad).is_err(), "byte {at}");
    }
    let body = |tlvs: &[u8]| raw(0x21, 0x11, &[&[0; 12][..], tlvs].concat());
    assert!(refusal(&body(&[3, 0, 3, 0, 0, 0])).contains("four bytes"));
    let sum = crc32c::crc32c(&body(&[3, 0, 4, 0, 0, 0, 0])).to_be_bytes();
    let tlv = [&[3, 0, 4][..], &sum].concat();
    assert!(parse(&body(&tlv)).is_ok());
    assert!(refusal(&body(&[&tlv[..], &tlv].concat())).contains("two checksums"));
}

#[test]
fn the_checksum_need_not_be_last() {
    let before = [&[0; 12][..], &[3, 0, 4]].concat();
    let after = [1, 0, 2, b'h', b'2'];
    let zeroed = raw(0x21, 0x11, &[&before[..], &[0; 4], &after].concat());
    let sum = crc32c::crc32c(&zeroed).to_be_bytes();
    let whole = raw(0x21, 0x11, &[&before[..], &sum, &after].concat());
    assert!(parse(&whole).is_ok());
}

#[test]
fn local_unspec_unix_and_datagrams_fall_back_to_the_connections_own_addresses() {
    for input in [
        raw(0x20, 0x00, &[]),
        raw(0x20, 0x11, &[0xff; 12]),
        raw(0x20, 0xff, &[0xff; 5]),
        raw(0x21, 0x00, &[0xff; 5]),
        raw(0x21, 0x31, &[0; 216]),
        raw(0x21, 0x32, &[0; 216]),
        raw(0x21, 0x12, &[1; 12]),
        raw(0x21, 0x22, &[1; 36]),
    ] {
        let received = received(&input);
        assert_eq!((received.source, received.destination, received.len), (None, None, input.len()));
    }
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        any::<([u8; 4], u16)>().prop_map(|(ip, port)| SocketAddr::new(ip.into(), port)),
        any::<([u8; 16], u16)>().prop_map(|(ip, port)| SocketAddr::new(ip.into(), port)),
    ]
}

fn any_tlvs() -> impl Strategy<Value = ProxyTlvs> {
    any::<[bool; 6]>().prop_map(|[alpn, authority, unique_id, ssl, crc32c, client_cert]| ProxyTlvs {
        alpn,
        authority,
        unique_id,
        ssl,
        crc32c,
        client_cert,
    })
}

/// What the other side sees: IPv4 where both are.
fn same(ours: SocketAddr, theirs: Option<SocketAddr>) -> bool {
    theirs.is_some_and(|theirs| ours.port() == theirs.port() && ours.ip().to_canonical() == theirs.ip().to_canonical())
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        source in any_address(),
        destination in any_address(),
        wanted in any_tlvs(),
        alpn in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)),
        authority in proptest::option::of(".{0,300}"),
        cn in proptest::option::of(".{0,600}"),
        der in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..2000)),
    ) {
        let ssl = Ssl { cn: cn.as_deref(), ..header().ssl.unwrap() };
        let written = Header {
            source,
            destination,
            alpn: alpn.as_deref(),
            authority: authority.as_deref(),
            ssl: Some(ssl),
            client_cert: der.as_deref(),
            ..header()
        };
        let bytes = v2(&written, wanted);
        let back = received(&bytes);
        prop_assert!(same(source, back.source) && same(destination, back.destination));
        prop_assert_eq!(back.len, bytes.len());
        let found = |kind| tlvs(&bytes[back.tlvs.clone()]).find(|(found, _)| *found == kind).map(|(_, value)| value);
        prop_assert_eq!(found(tlv::ALPN), alpn.as_deref().filter(|alpn| wanted.alpn && alpn.len() <= 255));
        let name = authority.as_deref().filter(|name| wanted.authority && name.len() <= 255);
        prop_assert_eq!(found(tlv::AUTHORITY), name.map(str::as_bytes));
        prop_assert_eq!(found(tlv::CRC32C).is_some(), wanted.crc32c);
        if wanted.ssl || wanted.client_cert {
            let (_, _, inner) = ssl_of(&bytes);
            let cert = inner.iter().find(|(kind, _)| *kind == tlv::SSL_CLIENT_CERT).map(|(_, value)| value.clone());
            prop_assert_eq!(cert, der.filter(|_| wanted.client_cert));
        }
    }

    #[test]
    fn v1_lines_are_read_back(source in any_address(), destination in any_address()) {
        let mut line = Vec::new();
        write_v1(source, destination, &mut line);
        prop_assert!(line.len() <= V1_BYTES_MAX);
        let back = received(&line);
        prop_assert!(same(source, back.source) && same(destination, back.destination));
        prop_assert_eq!(back.len, line.len());
    }

    #[test]
    fn junk_never_panics_and_more_is_asked_for_only_within_the_bound(
        prefix in prop_oneof![
            Just(&b""[..]), Just(&b"PROXY "[..]), Just(&b"PROXY TCP4 "[..]), Just(&SIGNATURE[..]),
            Just(&b"\r\n\r\n\0\r\nQUIT\n\x21\x11"[..]), Just(&b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0"[..]),
        ],
        junk in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let input = [prefix, &junk].concat();
        match parse(&input) {
            Ok(Parsed::NeedMore) => prop_assert!(input.len() < limits::PROXY_HEADER_BYTES_MAX),
            Ok(Parsed::Header(received)) => {
                prop_assert!(received.len <= input.len() && received.tlvs.end <= received.len);
                // Bytes behind the header change nothing; bytes of it taken away make it incomplete.
                prop_assert_eq!(parse(&input[..received.len]), Ok(Parsed::Header(received.clone())));
                prop_assert_eq!(parse(&input[..received.len - 1]), Ok(Parsed::NeedMore));
            }
            Err(_) => {}
        }
    }
}
