//! PROXY protocol v1 and v2 (HAProxy's `proxy-protocol.txt`): the header that tells a backend who the client is, and
//! the same header read from a balancer in front of us. Pure: no sockets, and nothing here decides whom to believe.
//!
//! Send a header in one write, before any payload. A peer that ends its stream while [`parse`] still says
//! [`Parsed::NeedMore`] sent a partial header: refuse it.

mod parse;
mod write;

#[cfg(test)]
mod tests;

pub use parse::{Malformed, Parsed, Received, Tlvs, parse, tlvs};
pub use write::{Header, Presence, Ssl, write_local, write_v1, write_v1_unknown, write_v2};

/// Types of TLVs; those of the SSL group stand inside [`SSL`](tlv::SSL).
pub mod tlv {
    /// The negotiated application protocol.
    pub const ALPN: u8 = 0x01;
    /// The server name that the client asked for.
    pub const AUTHORITY: u8 = 0x02;
    /// CRC32C of the whole header with this value zero.
    pub const CRC32C: u8 = 0x03;
    /// An opaque identifier of the connection.
    pub const UNIQUE_ID: u8 = 0x05;
    /// `client` (1 byte), `verify` (4 bytes), then the ones below.
    pub const SSL: u8 = 0x20;
    /// `TLSv1.2` or `TLSv1.3`.
    pub const SSL_VERSION: u8 = 0x21;
    /// Common name of the client's certificate.
    pub const SSL_CN: u8 = 0x22;
    /// Cipher suite in OpenSSL's spelling.
    pub const SSL_CIPHER: u8 = 0x23;
    /// What signed our certificate.
    pub const SSL_SIG_ALG: u8 = 0x24;
    /// The key of our certificate.
    pub const SSL_KEY_ALG: u8 = 0x25;
    /// Key exchange group.
    pub const SSL_GROUP: u8 = 0x26;
    /// Scheme of our handshake signature.
    pub const SSL_SIG_SCHEME: u8 = 0x27;
    /// The client's leaf, DER.
    pub const SSL_CLIENT_CERT: u8 = 0x28;
}

/// The twelve bytes that open a v2 header.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED_BYTES: usize = 16;
/// The longest v1 line, CRLF included, for any family.
const V1_BYTES_MAX: usize = 107;

const COMMAND_LOCAL: u8 = 0x20;
const COMMAND_PROXY: u8 = 0x21;

const FAMILY_UNSPEC: u8 = 0x00;
const FAMILY_TCP4: u8 = 0x11;
const FAMILY_UDP4: u8 = 0x12;
const FAMILY_TCP6: u8 = 0x21;
const FAMILY_UDP6: u8 = 0x22;
const FAMILY_UNIX_STREAM: u8 = 0x31;
const FAMILY_UNIX_DATAGRAM: u8 = 0x32;
