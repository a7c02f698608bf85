//! A reader of PROXY protocol headers, written from its specification and not from the product.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// A parsed v2 header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderV2 {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub tlvs: Vec<(u8, Vec<u8>)>,
    /// The header's bytes as they came.
    pub raw: Vec<u8>,
}

/// The SSL TLV.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssl {
    pub client: u8,
    pub verify: u32,
    pub tlvs: Vec<(u8, Vec<u8>)>,
}

impl HeaderV2 {
    /// The header at the front of `bytes`, and what follows it; `None` while it is not complete.
    pub fn read(bytes: &[u8]) -> Option<(HeaderV2, &[u8])> {
        let head = bytes.get(..16)?;
        assert_eq!(&head[..12], SIGNATURE, "no v2 signature: {head:02x?}");
        assert_eq!(head[12], 0x21, "version and command");
        let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
        let body = bytes.get(16..16 + length)?;
        let (source, destination, tlvs) = match head[13] {
            0x11 => {
                let ip = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&body[at..at + 4]).unwrap());
                (SocketAddr::from((ip(0), port(body, 8))), SocketAddr::from((ip(4), port(body, 10))), &body[12..])
            }
            0x21 => {
                let ip = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&body[at..at + 16]).unwrap());
                (SocketAddr::from((ip(0), port(body, 32))), SocketAddr::from((ip(16), port(body, 34))), &body[36..])
            }
            family => panic!("family {family:#x}"),
        };
        let header = HeaderV2 { source, destination, tlvs: read_tlvs(tlvs), raw: bytes[..16 + length].to_vec() };
        Some((header, &bytes[16 + length..]))
    }

    /// The value of a TLV, which may be there once only.
    pub fn tlv(&self, kind: u8) -> Option<&[u8]> {
        only(&self.tlvs, kind)
    }

    /// The same as text.
    pub fn text(&self, kind: u8) -> Option<&str> {
        self.tlv(kind).map(|value| std::str::from_utf8(value).unwrap())
    }

    /// The SSL TLV taken apart.
    pub fn ssl(&self) -> Option<Ssl> {
        let value = self.tlv(0x20)?;
        let verify = u32::from_be_bytes(value[1..5].try_into().unwrap());
        Some(Ssl { client: value[0], verify, tlvs: read_tlvs(&value[5..]) })
    }
}

impl Ssl {
    pub fn text(&self, kind: u8) -> Option<&str> {
        only(&self.tlvs, kind).map(|value| std::str::from_utf8(value).unwrap())
    }
}

fn port(body: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([body[at], body[at + 1]])
}

fn only(tlvs: &[(u8, Vec<u8>)], kind: u8) -> Option<&[u8]> {
    let mut values = tlvs.iter().filter(|(this, _)| *this == kind).map(|(_, value)| value.as_slice());
    let value = values.next();
    assert!(values.next().is_none(), "TLV {kind:#x} is there twice");
    value
}

fn read_tlvs(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut tlvs = Vec::new();
    while !bytes.is_empty() {
        let length = usize::from(u16::from_be_bytes([bytes[1], bytes[2]]));
        tlvs.push((bytes[0], bytes[3..3 + length].to_vec()));
        bytes = &bytes[3 + length..];
    }
    tlvs
}

/// Bit-by-bit CRC-32C (Castagnoli), slow and plain.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
        }
    }
    !crc
}

#[test]
fn reads_the_worked_example_of_the_conventions() {
    let hex = "0d0a0d0a000d0a515549540a211100bfcb007107c000020ac82201bb0100026832\
        0200106170692e62616e6b2e6578616d706c6505001001 92f3c4a1b27c4e8d10a2b3c4d5e6f7\
        20007e0700000000210007544c5376312e3322000d61636d652d7061796d656e7473230016544c535f\
        4145535f3132385f47434d5f534841323536240011 65636473612d776974682d53484132353625000545433235 36\
        26000e5832353531394d4c4b454d37363827001665636473615f7365637032353672315f736861323536030004892d2f57";
    let mut bytes = hex::decode(hex.replace(char::is_whitespace, "")).unwrap();
    let (header, rest) = HeaderV2::read(&bytes).unwrap();
    assert!(rest.is_empty());
    assert_eq!(header.source, "203.0.113.7:51234".parse().unwrap());
    assert_eq!(header.text(2), Some("api.bank.example"));
    let ssl = header.ssl().unwrap();
    assert_eq!((ssl.client, ssl.verify, ssl.text(0x22)), (7, 0, Some("acme-payments")));
    let end = bytes.len();
    bytes[end - 4..].fill(0);
    assert_eq!(crc32c(&bytes), 0x892d_2f57);
}
