//! What the terminator told the demonstration's backend about a connection: the PROXY v2 header, as an application
//! would read it.

use crate::wire::proxy::{Received, tlv, tlvs};
use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;
use std::net::SocketAddr;

/// A connection's facts, fields in the order in which they are printed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Identity {
    pub client: Client,
    pub tls: Tls,
    pub source: Option<SocketAddr>,
    /// The audit's `conn_id`.
    pub unique_id: Option<String>,
}

/// What is known of the client's certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Client {
    pub cn: Option<String>,
    /// SHA-256 of the certificate.
    pub sha256: Option<String>,
    /// 0: verified.
    pub verify: Option<u32>,
}

/// What is known of the TLS session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tls {
    pub version: Option<String>,
    pub cipher: Option<String>,
    pub group: Option<String>,
    pub sni: Option<String>,
    pub alpn: Option<String>,
    pub resumed: Option<bool>,
}

/// Bits of the SSL TLV's first byte: a certificate on this connection, and one in the session.
const ON_CONNECTION: u8 = 0x02;
const IN_SESSION: u8 = 0x04;

/// The SSL TLV before the TLVs inside it: `client` and `verify`.
const SSL_FIXED_BYTES: usize = 5;

impl Identity {
    /// Reads what `header`, found in `input`, says.
    pub fn of(header: &Received, input: &[u8]) -> Identity {
        let mut identity = Identity { source: header.source, ..Identity::default() };
        for (kind, value) in tlvs(input.get(header.tlvs.clone()).unwrap_or_default()) {
            match kind {
                tlv::ALPN => identity.tls.alpn = text(value),
                tlv::AUTHORITY => identity.tls.sni = text(value),
                tlv::UNIQUE_ID => identity.unique_id = Some(hex::encode(value)),
                tlv::SSL => identity.read_ssl(value),
                _ => {}
            }
        }
        identity
    }

    fn read_ssl(&mut self, value: &[u8]) {
        let Some((fixed, inner)) = value.split_first_chunk::<SSL_FIXED_BYTES>() else { return };
        let [bits, verify @ ..] = *fixed;
        self.client.verify = Some(u32::from_be_bytes(verify));
        // Without a certificate the header does not tell.
        self.tls.resumed = (bits & IN_SESSION != 0).then_some(bits & ON_CONNECTION == 0);
        for (kind, value) in tlvs(inner) {
            match kind {
                tlv::SSL_VERSION => self.tls.version = text(value),
                tlv::SSL_CIPHER => self.tls.cipher = text(value),
                tlv::SSL_GROUP => self.tls.group = text(value),
                tlv::SSL_CN => self.client.cn = text(value),
                tlv::SSL_CLIENT_CERT => self.client.sha256 = Some(hex::encode(digest(&SHA256, value))),
                _ => {}
            }
        }
    }
}

fn text(value: &[u8]) -> Option<String> {
    Some(String::from_utf8_lossy(value).into_owned())
}
