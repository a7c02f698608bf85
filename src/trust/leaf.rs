//! What a leaf says, in the forms that logs, headers and rules need.

use super::certificate::{Certificate, GeneralName};
use super::der::{self, Malformed};
use super::name::{self, NameKey};
use super::{Identity, text};
use crate::config::limits;

/// Facts of a leaf certificate. Text is escaped: no control characters. A claim, not a proof: see [`Admission`](super::Admission).
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

impl Leaf {
    /// The facts of this certificate; refused where its names cannot be read.
    pub(super) fn of(certificate: &Certificate<'_>) -> Result<Leaf, Malformed> {
        let san = certificate.alternative_names()?.into_iter().filter_map(print_alternative).collect();
        let rdns = name::rdns(certificate.subject)?;
        name::rdns(certificate.issuer)?;
        let cn = rdns.iter().flatten().find(|attribute| attribute.oid == name::CN);
        Ok(Leaf {
            der: certificate.der.to_vec(),
            subject: name::print(certificate.subject),
            issuer: name::print(certificate.issuer),
            serial: print_serial(certificate.serial),
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            sha256: super::sha256(certificate.der),
            spki_sha256: super::sha256(certificate.spki),
            san,
            cn: cn.and_then(|attribute| name::decode(attribute.value)).map(|value| escape(&value)),
        })
    }

    /// The issuer in the form in which names are compared; read from the certificate itself, not from its text.
    pub(super) fn issuer_key(&self) -> Option<NameKey> {
        NameKey::of_der(Certificate::parse(&self.der).ok()?.issuer)
    }

    /// The identity that this certificate's names give: first URI SAN, else DNS, else email, else CN, else its digest.
    /// Only for a certificate whose names somebody trusted vouches for.
    pub(super) fn identity_by_name(&self) -> Identity {
        let first =
            |kind: &str| self.san.iter().find(|san| san.strip_prefix(kind).is_some_and(|name| !name.is_empty()));
        let text = match (first("uri:"), first("dns:"), first("email:")) {
            (Some(uri), _, _) => uri.clone(),
            // Host names have no case: a renewal that spells it otherwise is the same client.
            (None, Some(dns), _) => dns.to_ascii_lowercase(),
            (None, None, Some(email)) => email.clone(),
            (None, None, None) => match &self.cn {
                Some(cn) if !cn.is_empty() => format!("cn:{cn}"),
                _ => return self.identity_by_digest(),
            },
        };
        if text.len() > limits::IDENTITY_BYTES_MAX {
            return self.identity_by_digest();
        }
        Identity::new(text)
    }

    /// The identity of a certificate whose names nobody vouches for.
    pub(super) fn identity_by_digest(&self) -> Identity {
        Identity::new(format!("sha256:{}", hex::encode(self.sha256)))
    }
}

fn print_alternative(name: GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::Uri(bytes) => Some(format!("uri:{}", text::ascii(bytes))),
        GeneralName::Dns(bytes) => Some(format!("dns:{}", text::ascii(bytes))),
        GeneralName::Email(bytes) => Some(format!("email:{}", text::ascii(bytes))),
        GeneralName::Ip(address) => Some(format!("ip:{address}")),
        GeneralName::Other => None,
    }
}

/// Lower-case hex of an INTEGER's value: `03a5b1`, and `-7f` for the negative ones that careless issuers make.
pub(super) fn print_serial(content: &[u8]) -> String {
    match der::unsigned(content) {
        Some([]) => "00".to_owned(),
        Some(bytes) => hex::encode(bytes),
        None => {
            let mut magnitude = der::shortest_integer(content).to_vec();
            magnitude.iter_mut().for_each(|byte| *byte = !*byte);
            for byte in magnitude.iter_mut().rev() {
                let (sum, carry) = byte.overflowing_add(1);
                *byte = sum;
                if !carry {
                    break;
                }
            }
            format!("-{}", hex::encode(magnitude))
        }
    }
}

/// A common name: escaped, and the backslash too, so that two different names never print alike.
fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => text::push_hex(b'\\', &mut out),
            _ => text::push_escaped(c, &mut out),
        }
    }
    out
}
