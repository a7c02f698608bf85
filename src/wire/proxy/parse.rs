//! The reading side: bounded, incremental, strict. A header is believed as a whole or refused as a whole.

use super::{
    COMMAND_LOCAL, COMMAND_PROXY, FAMILY_TCP4, FAMILY_TCP6, FAMILY_UDP4, FAMILY_UDP6, FAMILY_UNIX_DATAGRAM,
    FAMILY_UNIX_STREAM, FAMILY_UNSPEC, FIXED_BYTES, SIGNATURE, V1_BYTES_MAX, tlv,
};
use crate::config::limits;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::str::FromStr;

/// What the bytes so far amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a header. If no more bytes come, the header is partial: refuse.
    NeedMore,
    /// A whole header.
    Header(Received),
}

/// A header that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The client. `None` where the header gives no TCP or UDP address (LOCAL, UNKNOWN, a unix socket): the
    /// connection's own addresses count then.
    pub source: Option<SocketAddr>,
    /// Where the client connected to; `None` together with `source`.
    pub destination: Option<SocketAddr>,
    /// Bytes that the header took; payload begins there.
    pub len: usize,
    /// Where the TLVs stand in the input, for [`tlvs`]; empty for v1.
    pub tlvs: Range<usize>,
}

/// Bytes that are no header, or one that must not be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(&'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

/// Reads the header that `input` begins with. Call again with more bytes (from the first one on) after
/// [`Parsed::NeedMore`]; that comes for at most `PROXY_HEADER_BYTES_MAX` bytes.
pub fn parse(input: &[u8]) -> Result<Parsed, Malformed> {
    const V1: &[u8] = b"PROXY ";
    if input.starts_with(&SIGNATURE) {
        return parse_v2(input);
    }
    if input.starts_with(V1) {
        return parse_v1(input);
    }
    if SIGNATURE.starts_with(input) || V1.starts_with(input) {
        return Ok(Parsed::NeedMore);
    }
    Err(Malformed("no PROXY header where one is required; send one, or take the peer out of accept_proxy_from"))
}

fn parse_v1(input: &[u8]) -> Result<Parsed, Malformed> {
    let window = &input[..input.len().min(V1_BYTES_MAX)];
    let Some(end) = window.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return if window.len() < V1_BYTES_MAX {
            Ok(Parsed::NeedMore)
        } else {
            Err(Malformed("PROXY v1 line longer than 107 bytes"))
        };
    };
    match (window[end], window.get(end + 1)) {
        (b'\r', Some(b'\n')) => {}
        (b'\r', None) if end + 1 < V1_BYTES_MAX => return Ok(Parsed::NeedMore),
        _ => return Err(Malformed("PROXY v1 line does not end with CRLF")),
    }
    let line = std::str::from_utf8(&window[..end]).map_err(|_| Malformed("PROXY v1 line is not ASCII"))?;
    let len = end + 2;
    let mut words = line.split(' ').skip(1);
    let addresses = match words.next() {
        // What follows UNKNOWN is to be ignored.
        Some("UNKNOWN") => {
            return Ok(Parsed::Header(Received { source: None, destination: None, len, tlvs: len..len }));
        }
        Some("TCP4") => v1_addresses::<Ipv4Addr>(words),
        Some("TCP6") => v1_addresses::<Ipv6Addr>(words),
        _ => return Err(Malformed("PROXY v1 protocol is none of TCP4, TCP6, UNKNOWN")),
    };
    let (source, destination) = addresses.ok_or(Malformed("PROXY v1 addresses or ports are not well formed"))?;
    Ok(Parsed::Header(Received { source: Some(source), destination: Some(destination), len, tlvs: len..len }))
}

/// Source address, destination address, source port, destination port, and no more.
fn v1_addresses<'a, A>(mut words: impl Iterator<Item = &'a str>) -> Option<(SocketAddr, SocketAddr)>
where
    A: FromStr + Into<IpAddr>,
{
    let source: A = words.next()?.parse().ok()?;
    let destination: A = words.next()?.parse().ok()?;
    let source_port = v1_port(words.next()?)?;
    let destination_port = v1_port(words.next()?)?;
    if words.next().is_some() {
        return None;
    }
    Some((SocketAddr::new(source.into(), source_port), SocketAddr::new(destination.into(), destination_port)))
}

/// Decimal without sign or leading zeros.
fn v1_port(word: &str) -> Option<u16> {
    let well_formed = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    if well_formed { word.parse().ok() } else { None }
}

fn parse_v2(input: &[u8]) -> Result<Parsed, Malformed> {
    // Judge each byte of the fixed part as soon as it is there: a peer that is wrong hears of it early.
    if input.get(12).is_some_and(|command| !matches!(*command, COMMAND_LOCAL | COMMAND_PROXY)) {
        return Err(Malformed("PROXY v2 version or command unknown"));
    }
    let Some(fixed) = input.first_chunk::<FIXED_BYTES>() else { return Ok(Parsed::NeedMore) };
    let (command, family) = (fixed[12], fixed[13]);
    let len = FIXED_BYTES + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if len > limits::PROXY_HEADER_BYTES_MAX {
        return Err(Malformed("PROXY v2 header too long; have its sender leave TLVs out"));
    }
    let addresses = if command == COMMAND_LOCAL { 0 } else { addresses_bytes(family)? };
    if len < FIXED_BYTES + addresses {
        return Err(Malformed("PROXY v2 header too short for its address family"));
    }
    let Some(header) = input.get(..len) else { return Ok(Parsed::NeedMore) };
    // LOCAL and UNSPEC: the receiver ignores all that follows.
    if command == COMMAND_LOCAL || family == FAMILY_UNSPEC {
        return Ok(Parsed::Header(Received { source: None, destination: None, len, tlvs: len..len }));
    }
    let body = FIXED_BYTES + addresses;
    check_tlvs(header, body)?;
    let (source, destination) = v2_addresses(family, &header[FIXED_BYTES..body]).unzip();
    Ok(Parsed::Header(Received { source, destination, len, tlvs: body..len }))
}

/// Bytes of the address block of `family`.
fn addresses_bytes(family: u8) -> Result<usize, Malformed> {
    match family {
        FAMILY_UNSPEC => Ok(0),
        FAMILY_TCP4 | FAMILY_UDP4 => Ok(12),
        FAMILY_TCP6 | FAMILY_UDP6 => Ok(36),
        FAMILY_UNIX_STREAM | FAMILY_UNIX_DATAGRAM => Ok(216),
        _ => Err(Malformed("PROXY v2 address family unknown")),
    }
}

/// Addresses of a TCP connection; the specification has the others fall back to the connection's own.
fn v2_addresses(family: u8, block: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    fn both<const N: usize>(block: &[u8]) -> Option<(SocketAddr, SocketAddr)>
    where
        IpAddr: From<[u8; N]>,
    {
        let (source, rest) = block.split_first_chunk::<N>()?;
        let (destination, ports) = rest.split_first_chunk::<N>()?;
        let [a, b, c, d] = *ports.first_chunk::<4>()?;
        let source = SocketAddr::new(IpAddr::from(*source), u16::from_be_bytes([a, b]));
        let destination = SocketAddr::new(IpAddr::from(*destination), u16::from_be_bytes([c, d]));
        Some((source, destination))
    }
    match family {
        FAMILY_TCP4 => both::<4>(block),
        FAMILY_TCP6 => both::<16>(block),
        _ => None,
    }
}

/// TLVs fill their room exactly, and a checksum, where there is one, holds.
fn check_tlvs(header: &[u8], body: usize) -> Result<(), Malformed> {
    let mut at = body;
    let mut sum = None;
    let mut tlvs = tlvs(&header[body..]);
    for (kind, value) in tlvs.by_ref() {
        let value_at = at + 3;
        at = value_at + value.len();
        if kind != tlv::CRC32C {
            continue;
        }
        let expected = value.try_into().map_err(|_| Malformed("PROXY v2 checksum is not four bytes long"))?;
        if sum.replace((value_at, u32::from_be_bytes(expected))).is_some() {
            return Err(Malformed("PROXY v2 header has two checksums"));
        }
    }
    if !tlvs.rest.is_empty() {
        return Err(Malformed("PROXY v2 TLV reaches past the end of the header"));
    }
    let Some((sum_at, expected)) = sum else { return Ok(()) };
    let computed = [&header[..sum_at], &[0; 4], &header[sum_at + 4..]]
        .iter()
        .fold(0, |so_far, part| crc32c::crc32c_append(so_far, part));
    if computed == expected { Ok(()) } else { Err(Malformed("PROXY v2 checksum does not hold")) }
}

/// The TLVs in `bytes`: those of a header (`&input[received.tlvs]`), or those inside the SSL TLV after its first five
/// bytes. Ends early where one reaches past the end, which [`parse`] has ruled out for the outer ones.
pub fn tlvs(bytes: &[u8]) -> Tlvs<'_> {
    Tlvs { rest: bytes }
}

/// Iterator of [`tlvs`]: type and value.
#[derive(Debug, Clone)]
pub struct Tlvs<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let ([kind, high, low], rest) = self.rest.split_first_chunk::<3>()?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
        self.rest = rest;
        Some((*kind, value))
    }
}
