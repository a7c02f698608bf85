//! Whatever a header tells, our own reader reads it back, and a client's texts stay within their TLVs.
#![no_main]

use countersign::config::ProxyTlvs;
use countersign::wire::audit::ConnectionId;
use countersign::wire::proxy::{Header, Parsed, Presence, Ssl, parse, tlv, tlvs, write_v1, write_v2};
use countersign_fuzz::Choices;
use libfuzzer_sys::fuzz_target;
use std::net::{IpAddr, SocketAddr};

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let wanted = choices.byte();
    let flag = |bit: u8| wanted & 1 << bit != 0;
    let wanted = ProxyTlvs {
        alpn: flag(0),
        authority: flag(1),
        unique_id: flag(2),
        ssl: flag(3),
        crc32c: flag(4),
        client_cert: flag(5),
    };
    let (source, destination) = (address(&mut choices), address(&mut choices));
    let unique_id = ConnectionId(choices.array());
    let presence = *choices.of(&[Presence::Full, Presence::Resumed, Presence::Anonymous]);
    let verify = choices.u32();
    let has_ssl = choices.bool();
    let alpn = choices.maybe(|choices| choices.bytes());
    let texts: [Option<String>; 6] = std::array::from_fn(|_| choices.maybe(Choices::text));
    let certificate = choices.maybe(|choices| {
        // Up to past what a length field can say.
        let mut der = choices.bytes().to_vec();
        der.resize(der.len() + 4 * usize::from(choices.u16()) * usize::from(choices.bool()), 7);
        der
    });
    let ssl = Ssl {
        version: if wanted.alpn { "1.3" } else { "1.2" },
        cn: texts[0].as_deref(),
        cipher: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        sig_alg: texts[1].as_deref(),
        key_alg: texts[2].as_deref(),
        group: texts[3].as_deref(),
        sig_scheme: texts[4].as_deref(),
        presence,
        verify,
    };
    let ssl = has_ssl.then_some(ssl);
    let authority = texts[5].as_deref();
    let header = Header { source, destination, alpn, authority, unique_id, ssl, client_cert: certificate.as_deref() };
    let mut out = b"before".to_vec();
    write_v2(&header, wanted, &mut out);
    let out = out.strip_prefix(b"before").expect("appends");
    check(&header, wanted, out);

    let mut line = Vec::new();
    write_v1(source, destination, &mut line);
    assert!(matches!(parse(&line), Ok(Parsed::Header(read)) if read.len == line.len()));
});

fn address(choices: &mut Choices<'_>) -> SocketAddr {
    let ip = if choices.bool() { IpAddr::from(choices.array::<4>()) } else { IpAddr::from(choices.array::<16>()) };
    SocketAddr::new(ip, choices.u16())
}

fn check(header: &Header<'_>, wanted: ProxyTlvs, out: &[u8]) {
    let inner_len = usize::from(u16::from_be_bytes([out[14], out[15]]));
    assert_eq!(out.len(), 16 + inner_len, "the length says what follows");
    let read = match parse(out) {
        Ok(Parsed::Header(read)) => read,
        // Our reader takes less than a client's certificate can need.
        Err(_) if out.len() > countersign::config::limits::PROXY_HEADER_BYTES_MAX => return,
        other => panic!("{other:?}"),
    };
    assert_eq!(read.len, out.len());
    let same = |read: Option<SocketAddr>, told: SocketAddr| {
        let read = read.expect("an address");
        assert_eq!((read.ip().to_canonical(), read.port()), (told.ip().to_canonical(), told.port()));
    };
    same(read.source, header.source);
    same(read.destination, header.destination);
    let found: Vec<(u8, &[u8])> = tlvs(&out[read.tlvs.clone()]).collect();
    let of = |kind: u8| {
        let mut all = found.iter().filter(|(found, _)| *found == kind).map(|(_, value)| *value);
        let first = all.next();
        assert!(all.next().is_none(), "TLV {kind} twice");
        first
    };
    assert_eq!(of(tlv::ALPN), header.alpn.filter(|alpn| wanted.alpn && alpn.len() <= 255));
    let authority = header.authority.filter(|name| wanted.authority && name.len() <= 255);
    assert_eq!(of(tlv::AUTHORITY), authority.map(str::as_bytes));
    assert_eq!(of(tlv::UNIQUE_ID), wanted.unique_id.then_some(&header.unique_id.0[..]));
    assert_eq!(of(tlv::CRC32C).is_some(), wanted.crc32c);
    let ssl = of(tlv::SSL);
    assert_eq!(ssl.is_some(), header.ssl.is_some() && (wanted.ssl || wanted.client_cert));
    if let (Some(value), Some(told)) = (ssl, header.ssl) {
        check_ssl(value, &told, wanted, header.client_cert);
    }
}

fn check_ssl(value: &[u8], told: &Ssl<'_>, wanted: ProxyTlvs, certificate: Option<&[u8]>) {
    let (client, verify) = (value[0], u32::from_be_bytes(value[1..5].try_into().expect("4 bytes")));
    let (bits, anonymous) = match told.presence {
        Presence::Full => (7, false),
        Presence::Resumed => (5, false),
        Presence::Anonymous => (1, true),
    };
    assert_eq!((client, verify), (bits, if anonymous { 1 } else { told.verify }));
    let mut used = 5;
    for (kind, inner) in tlvs(&value[5..]) {
        used += 3 + inner.len();
        let said = match kind {
            tlv::SSL_CN => told.cn.filter(|_| !anonymous).map(str::as_bytes),
            tlv::SSL_SIG_ALG => told.sig_alg.map(str::as_bytes),
            tlv::SSL_KEY_ALG => told.key_alg.map(str::as_bytes),
            tlv::SSL_GROUP => told.group.map(str::as_bytes),
            tlv::SSL_SIG_SCHEME => told.sig_scheme.map(str::as_bytes),
            tlv::SSL_CLIENT_CERT => certificate.filter(|_| !anonymous && wanted.client_cert),
            tlv::SSL_VERSION | tlv::SSL_CIPHER => Some(inner),
            other => panic!("TLV {other} within SSL"),
        };
        assert_eq!(Some(inner), said, "TLV {kind}: cut, or not asked for");
    }
    assert_eq!(used, value.len(), "inner TLVs fill their room");
}
