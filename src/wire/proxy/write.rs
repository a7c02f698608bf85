//! The writing side. What a client chose (names, certificate) can neither overflow a length field nor make a TLV that
//! common receivers choke on: what is too long is left out whole, never cut, because a cut name is another name.

use super::{COMMAND_LOCAL, COMMAND_PROXY, FAMILY_TCP4, FAMILY_TCP6, FAMILY_UNSPEC, SIGNATURE, tlv};
use crate::config::{ProxyTlvs, limits};
use crate::wire::audit::ConnectionId;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// All that a v2 header can tell; which of it is sent is the backend's [`ProxyTlvs`].
#[derive(Debug, Clone, Copy)]
pub struct Header<'a> {
    /// The client.
    pub source: SocketAddr,
    /// Where it connected to.
    pub destination: SocketAddr,
    /// The negotiated protocol.
    pub alpn: Option<&'a [u8]>,
    /// The SNI; left out if longer than 255 bytes.
    pub authority: Option<&'a str>,
    pub unique_id: ConnectionId,
    /// `None` for a connection without TLS.
    pub ssl: Option<Ssl<'a>>,
    /// DER of the client's leaf; goes inside the SSL TLV, and is the first thing left out where room is short.
    pub client_cert: Option<&'a [u8]>,
}

/// What the SSL TLV tells.
#[derive(Debug, Clone, Copy)]
pub struct Ssl<'a> {
    /// `1.2` or `1.3`; written as `TLSv1.2` or `TLSv1.3`.
    pub version: &'a str,
    /// Common name of the client's certificate.
    pub cn: Option<&'a str>,
    /// IANA name; a TLS 1.2 suite is written with its OpenSSL name, as receivers expect.
    pub cipher: &'a str,
    /// What signed our own certificate, such as `ecdsa-with-SHA256`.
    pub sig_alg: Option<&'a str>,
    /// The key of our own certificate, such as `EC256`.
    pub key_alg: Option<&'a str>,
    /// Key exchange group, such as `X25519MLKEM768`.
    pub group: Option<&'a str>,
    /// Scheme of our own handshake signature, such as `ecdsa_secp256r1_sha256`.
    pub sig_scheme: Option<&'a str>,
    pub presence: Presence,
    /// X509_V number; 0 = verified. Not asked where `presence` is [`Presence::Anonymous`].
    pub verify: u32,
}

/// Where the client showed its certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// In a full handshake on this connection.
    Full,
    /// Earlier in the session that this connection resumed.
    Resumed,
    /// Nowhere.
    Anonymous,
}

impl Presence {
    /// The `client` bits: 0x01 TLS, 0x02 certificate on this connection, 0x04 certificate in this session.
    fn bits(self) -> u8 {
        match self {
            Presence::Full => 0x07,
            Presence::Resumed => 0x05,
            Presence::Anonymous => 0x01,
        }
    }
}

/// Appends a v1 line: `PROXY TCP4 source destination port port`.
pub fn write_v1(source: SocketAddr, destination: SocketAddr, out: &mut Vec<u8>) {
    let (family, from, to): (_, IpAddr, IpAddr) = match pair(source.ip(), destination.ip()) {
        Pair::V4(from, to) => ("TCP4", from.into(), to.into()),
        Pair::V6(from, to) => ("TCP6", from.into(), to.into()),
    };
    let line = format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port());
    out.extend_from_slice(line.as_bytes());
}

/// Appends the v1 line of a connection of our own, such as a health check.
pub fn write_v1_unknown(out: &mut Vec<u8>) {
    out.extend_from_slice(b"PROXY UNKNOWN\r\n");
}

/// Appends the v2 header of a connection of our own, such as a health check: LOCAL, no addresses.
pub fn write_local(out: &mut Vec<u8>) {
    out.extend_from_slice(&SIGNATURE);
    out.extend_from_slice(&[COMMAND_LOCAL, FAMILY_UNSPEC, 0, 0]);
}

/// Appends a v2 header with those of its TLVs that `wanted` names. At most 16 + 65,535 bytes.
pub fn write_v2(header: &Header<'_>, wanted: ProxyTlvs, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&SIGNATURE);
    out.push(COMMAND_PROXY);
    put_addresses(header, out);
    let body = start + super::FIXED_BYTES;
    if let Some(alpn) = header.alpn.filter(|alpn| wanted.alpn && alpn.len() <= usize::from(u8::MAX)) {
        put_tlv(tlv::ALPN, alpn, out);
    }
    let fits = |name: &&str| wanted.authority && name.len() <= limits::PROXY_AUTHORITY_BYTES_MAX;
    if let Some(authority) = header.authority.filter(fits) {
        put_tlv(tlv::AUTHORITY, authority.as_bytes(), out);
    }
    if wanted.unique_id {
        put_tlv(tlv::UNIQUE_ID, &header.unique_id.0, out);
    }
    if let Some(ssl) = header.ssl.filter(|_| wanted.ssl || wanted.client_cert) {
        let reserved = if wanted.crc32c { CRC_TLV_BYTES } else { 0 };
        let room = usize::from(u16::MAX).saturating_sub(out.len() - body + reserved);
        put_ssl(&ssl, header.client_cert, wanted, room, out);
    }
    if wanted.crc32c {
        put_tlv(tlv::CRC32C, &[0; 4], out);
    }
    put_length(body, out);
    if wanted.crc32c {
        let sum = crc32c::crc32c(&out[start..]);
        let at = out.len() - 4;
        out[at..].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Type, length and sum.
const CRC_TLV_BYTES: usize = 7;

/// The family byte, room for the length, addresses and ports.
fn put_addresses(header: &Header<'_>, out: &mut Vec<u8>) {
    match pair(header.source.ip(), header.destination.ip()) {
        Pair::V4(source, destination) => {
            out.extend_from_slice(&[FAMILY_TCP4, 0, 0]);
            out.extend_from_slice(&source.octets());
            out.extend_from_slice(&destination.octets());
        }
        Pair::V6(source, destination) => {
            out.extend_from_slice(&[FAMILY_TCP6, 0, 0]);
            out.extend_from_slice(&source.octets());
            out.extend_from_slice(&destination.octets());
        }
    }
    out.extend_from_slice(&header.source.port().to_be_bytes());
    out.extend_from_slice(&header.destination.port().to_be_bytes());
}

/// Two addresses of one family, which is all that the formats can say.
enum Pair {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

/// IPv4 where both are (mapped ones count), else IPv6 with the IPv4 one mapped.
fn pair(source: IpAddr, destination: IpAddr) -> Pair {
    let mapped = |ip| match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    match (source.to_canonical(), destination.to_canonical()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => Pair::V4(source, destination),
        (source, destination) => Pair::V6(mapped(source), mapped(destination)),
    }
}

/// The SSL TLV, at most `room` bytes with its head.
fn put_ssl(ssl: &Ssl<'_>, client_cert: Option<&[u8]>, wanted: ProxyTlvs, room: usize, out: &mut Vec<u8>) {
    let start = out.len();
    let anonymous = ssl.presence == Presence::Anonymous;
    let verify = if anonymous { 1 } else { ssl.verify };
    out.extend_from_slice(&[tlv::SSL, 0, 0, ssl.presence.bits()]);
    out.extend_from_slice(&verify.to_be_bytes());
    if wanted.ssl {
        put_ssl_texts(ssl, anonymous, out);
    }
    if let Some(der) = client_cert.filter(|der| {
        let used = out.len() - start;
        wanted.client_cert && !anonymous && used + TLV_HEAD_BYTES + der.len() <= room
    }) {
        put_tlv(tlv::SSL_CLIENT_CERT, der, out);
    }
    put_length(start + TLV_HEAD_BYTES, out);
}

/// Type and length.
const TLV_HEAD_BYTES: usize = 3;

fn put_ssl_texts(ssl: &Ssl<'_>, anonymous: bool, out: &mut Vec<u8>) {
    let version = if ssl.version.ends_with("1.3") { "TLSv1.3" } else { "TLSv1.2" };
    let cn = ssl.cn.filter(|_| !anonymous);
    let texts = [
        (tlv::SSL_VERSION, Some(version)),
        (tlv::SSL_CN, cn),
        (tlv::SSL_CIPHER, Some(openssl_name(ssl.cipher))),
        (tlv::SSL_SIG_ALG, ssl.sig_alg),
        (tlv::SSL_KEY_ALG, ssl.key_alg),
        (tlv::SSL_GROUP, ssl.group),
        (tlv::SSL_SIG_SCHEME, ssl.sig_scheme),
    ];
    for (kind, text) in texts {
        if let Some(text) = text.filter(|text| text.len() <= limits::PROXY_TEXT_BYTES_MAX) {
            put_tlv(kind, text.as_bytes(), out);
        }
    }
}

/// OpenSSL's name of a suite: its own for TLS 1.2, IANA's for TLS 1.3.
fn openssl_name(iana: &str) -> &str {
    match iana {
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" => "ECDHE-ECDSA-AES128-GCM-SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384" => "ECDHE-ECDSA-AES256-GCM-SHA384",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256" => "ECDHE-ECDSA-CHACHA20-POLY1305",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256" => "ECDHE-RSA-AES128-GCM-SHA256",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384" => "ECDHE-RSA-AES256-GCM-SHA384",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256" => "ECDHE-RSA-CHACHA20-POLY1305",
        other => other,
    }
}

/// One TLV. Callers bound `value` below 64 KiB; the conversion cannot wrap silently.
fn put_tlv(kind: u8, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&[kind, 0, 0]);
    let body = out.len();
    out.extend_from_slice(value);
    put_length(body, out);
}

/// Fills in the two bytes before `body` with the length of what follows them.
fn put_length(body: usize, out: &mut [u8]) {
    // Only a bug of this module could make it longer: every variable part is bounded before it is written.
    let length = u16::try_from(out.len() - body).expect("parts of a PROXY header are bounded");
    out[body - 2..body].copy_from_slice(&length.to_be_bytes());
}
