//! What a leaf says, in the forms that logs, headers and rules need.

/// Facts of a leaf certificate. Text is escaped: no control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    pub der: Vec<u8>,
    /// RFC 4514 text, most specific RDN first.
    pub subject: String,
    pub issuer: String,
    /// Lower-case hex of the integer, at least two digits.
    pub serial: String,
    /// Seconds since the Unix epoch.
    pub not_before: i64,
    pub not_after: i64,
    pub sha256: [u8; 32],
    pub spki_sha256: [u8; 32],
    /// `kind:value`: `uri:`, `dns:`, `email:`, `ip:`; in the certificate's order.
    pub san: Vec<String>,
    /// First common name of the subject.
    pub cn: Option<String>,
}
