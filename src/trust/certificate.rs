//! One certificate as its raw parts, and the extensions that decisions need. A view into the DER: nothing is copied.
//!
//! webpki parses the leaf and the path again by its own reader; both are equally strict, and what this view shows of
//! issuer, subject, serial and key is the same slice of the same bytes.

use super::der::{self, Malformed, Reader, Value, tag};
use crate::config::limits;

/// A certificate's parts. Version 1 is read as well, so that a refusal can name it.
#[derive(Debug, Clone)]
pub(super) struct Certificate<'a> {
    pub der: &'a [u8],
    /// What the issuer signed, tag and length included.
    pub tbs: &'a [u8],
    /// Content of the AlgorithmIdentifier.
    pub signature_algorithm: &'a [u8],
    pub signature: &'a [u8],
    /// 1, 2 or 3.
    pub version: u8,
    /// Content of the INTEGER.
    pub serial: &'a [u8],
    /// Content of the Name's SEQUENCE.
    pub issuer: &'a [u8],
    pub subject: &'a [u8],
    /// Seconds since the Unix epoch.
    pub not_before: i64,
    pub not_after: i64,
    /// Tag and length included.
    pub spki: &'a [u8],
    extensions: Vec<Extension<'a>>,
}

#[derive(Debug, Clone, Copy)]
struct Extension<'a> {
    oid: &'a [u8],
    value: &'a [u8],
}

/// What an AuthorityKeyIdentifier says.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AuthorityKey<'a> {
    pub key_id: Option<&'a [u8]>,
    /// GeneralNames of the issuer's own issuer.
    pub issuer: Option<&'a [u8]>,
}

/// A name in a SubjectAltName; only the kinds that rules and identities use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GeneralName<'a> {
    Email(&'a [u8]),
    Dns(&'a [u8]),
    Uri(&'a [u8]),
    Ip(std::net::IpAddr),
    Other,
}

/// BasicConstraints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BasicConstraints {
    pub ca: bool,
    pub path_len: Option<u64>,
}

/// KeyUsage bits as [`der::flags`] places them.
pub(super) mod key_usage {
    pub const DIGITAL_SIGNATURE: u16 = 1 << 15;
    pub const KEY_AGREEMENT: u16 = 1 << 11;
    pub const CERT_SIGN: u16 = 1 << 10;
    pub const CRL_SIGN: u16 = 1 << 9;
}

/// What kind of key a SubjectPublicKeyInfo holds, as far as its strength is judged here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// Bits of the modulus.
    Rsa(usize),
    /// A kind that TLS clients can sign with.
    Fine,
    /// Another algorithm or curve.
    Unsupported,
}

const ID_CE: [u8; 2] = [0x55, 0x1d];
const EKU_CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];

impl<'a> Certificate<'a> {
    /// Reads a certificate; trailing bytes, doubled extensions and anything that is not DER are refused.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Certificate<'a>, Malformed> {
        let mut outer = Reader::new(der::only(bytes, tag::SEQUENCE)?.content);
        let tbs = outer.expect(tag::SEQUENCE)?;
        let signature_algorithm = outer.expect(tag::SEQUENCE)?.content;
        let signature = der::whole_bits(outer.expect(tag::BIT_STRING)?)?;
        outer.end()?;

        let mut reader = Reader::new(tbs.content);
        let version = version(&mut reader)?;
        let serial = reader.expect(tag::INTEGER)?.content;
        reader.expect(tag::SEQUENCE)?;
        let issuer = reader.expect(tag::SEQUENCE)?.content;
        let (not_before, not_after) = validity(reader.expect(tag::SEQUENCE)?)?;
        let subject = reader.expect(tag::SEQUENCE)?.content;
        let spki = reader.expect(tag::SEQUENCE)?.whole;
        // issuerUniqueID and subjectUniqueID: nobody uses them, webpki refuses them in a path.
        reader.optional(tag::context(1))?;
        reader.optional(tag::context(2))?;
        let extensions = match reader.optional(tag::constructed(3))? {
            Some(value) => extensions(value)?,
            None => Vec::new(),
        };
        reader.end()?;
        if serial.is_empty() || (version < 3 && !extensions.is_empty()) {
            return Err(Malformed);
        }
        Ok(Certificate {
            der: bytes,
            tbs: tbs.whole,
            signature_algorithm,
            signature,
            version,
            serial,
            issuer,
            subject,
            not_before,
            not_after,
            spki,
            extensions,
        })
    }

    /// Issuer and subject are the same name. The signature is not looked at.
    pub(super) fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }

    pub(super) fn is_valid_at(&self, now: i64) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// A standard extension by the last arc of its OID (2.5.29.n).
    fn standard(&self, n: u8) -> Option<&'a [u8]> {
        let wanted = [ID_CE[0], ID_CE[1], n];
        self.extensions.iter().find(|extension| extension.oid == wanted).map(|extension| extension.value)
    }

    pub(super) fn basic_constraints(&self) -> Result<Option<BasicConstraints>, Malformed> {
        let Some(bytes) = self.standard(19) else { return Ok(None) };
        let mut reader = Reader::new(der::only(bytes, tag::SEQUENCE)?.content);
        let ca = der::default_false(&mut reader)?;
        let path_len = reader.optional(tag::INTEGER)?.map(|value| der::small(value.content)).transpose()?;
        reader.end()?;
        Ok(Some(BasicConstraints { ca, path_len }))
    }

    pub(super) fn key_usage(&self) -> Result<Option<u16>, Malformed> {
        self.standard(15).map(|bytes| der::only(bytes, tag::BIT_STRING).and_then(der::flags)).transpose()
    }

    /// Whether a KeyUsage, if there is one, has any of these bits.
    pub(super) fn may(&self, bits: u16) -> bool {
        matches!(self.key_usage(), Ok(usage) if usage.is_none_or(|usage| usage & bits != 0))
    }

    /// Whether the certificate may issue others: as OpenSSL's `X509_check_ca` has it, a CA by BasicConstraints; without
    /// them a self-issued version 1 root, or a version 3 one whose KeyUsage says keyCertSign.
    pub(super) fn is_ca(&self) -> bool {
        if !self.may(key_usage::CERT_SIGN) {
            return false;
        }
        match self.basic_constraints() {
            Ok(Some(constraints)) => constraints.ca,
            Ok(None) if self.version < 3 => self.is_self_issued(),
            Ok(None) => matches!(self.key_usage(), Ok(Some(_))),
            Err(Malformed) => false,
        }
    }

    /// Whether an ExtendedKeyUsage, if there is one, names clientAuth. As in webpki and OpenSSL, anyExtendedKeyUsage
    /// does not stand for it.
    pub(super) fn allows_client_auth(&self) -> bool {
        let Some(bytes) = self.standard(37) else { return true };
        let Ok(list) = der::only(bytes, tag::SEQUENCE) else { return false };
        let mut reader = Reader::new(list.content);
        while let Ok(oid) = reader.expect(tag::OID) {
            if oid.content == EKU_CLIENT_AUTH {
                return true;
            }
        }
        false
    }

    pub(super) fn subject_key_id(&self) -> Option<&'a [u8]> {
        der::only(self.standard(14)?, tag::OCTET_STRING).ok().map(|value| value.content)
    }

    pub(super) fn authority_key(&self) -> AuthorityKey<'a> {
        self.standard(35).and_then(|bytes| authority_key(bytes).ok()).unwrap_or_default()
    }

    pub(super) fn alternative_names(&self) -> Result<Vec<GeneralName<'a>>, Malformed> {
        match self.standard(17) {
            Some(bytes) => general_names(der::only(bytes, tag::SEQUENCE)?.content),
            None => Ok(Vec::new()),
        }
    }

    /// The full names (whole GeneralName values) of CRLDistributionPoints that stand for a complete CRL of the issuer
    /// itself; `None` without that extension. Points by reason or with another CRL issuer are left out.
    pub(super) fn distribution_points(&self) -> Result<Option<Vec<&'a [u8]>>, Malformed> {
        let Some(bytes) = self.standard(31) else { return Ok(None) };
        let mut list = Reader::new(der::only(bytes, tag::SEQUENCE)?.content);
        let mut names = Vec::new();
        while !list.at_end() {
            let mut point = Reader::new(list.expect(tag::SEQUENCE)?.content);
            let name = point.optional(tag::constructed(0))?;
            let reasons = point.optional(tag::context(1))?;
            let issuer = point.optional(tag::constructed(2))?;
            point.end()?;
            if let (Some(name), None, None) = (name, reasons, issuer) {
                names.extend(full_names(name)?.unwrap_or_default());
            }
        }
        Ok(Some(names))
    }

    /// The OIDs (content) of CertificatePolicies.
    pub(super) fn policies(&self) -> Result<Vec<&'a [u8]>, Malformed> {
        let Some(bytes) = self.standard(32) else { return Ok(Vec::new()) };
        let mut list = Reader::new(der::only(bytes, tag::SEQUENCE)?.content);
        let mut oids = Vec::new();
        while !list.at_end() {
            oids.push(Reader::new(list.expect(tag::SEQUENCE)?.content).expect(tag::OID)?.content);
        }
        Ok(oids)
    }

    /// The kind and strength of the key.
    pub(super) fn key(&self) -> Key {
        key(self.spki).unwrap_or(Key::Unsupported)
    }
}

fn version(reader: &mut Reader<'_>) -> Result<u8, Malformed> {
    let Some(value) = reader.optional(tag::constructed(0))? else { return Ok(1) };
    match der::only(value.content, tag::INTEGER)?.content {
        [0] => Ok(1),
        [1] => Ok(2),
        [2] => Ok(3),
        _ => Err(Malformed),
    }
}

fn validity(value: Value<'_>) -> Result<(i64, i64), Malformed> {
    let mut reader = Reader::new(value.content);
    let both = (der::time(reader.any()?)?, der::time(reader.any()?)?);
    reader.end()?;
    Ok(both)
}

fn extensions(tagged: Value<'_>) -> Result<Vec<Extension<'_>>, Malformed> {
    let mut reader = Reader::new(der::only(tagged.content, tag::SEQUENCE)?.content);
    let mut all: Vec<Extension<'_>> = Vec::new();
    while !reader.at_end() {
        let mut parts = Reader::new(reader.expect(tag::SEQUENCE)?.content);
        let oid = parts.expect(tag::OID)?.content;
        der::default_false(&mut parts)?;
        let value = parts.expect(tag::OCTET_STRING)?.content;
        parts.end()?;
        if all.len() >= limits::EXTENSIONS_MAX || all.iter().any(|other| other.oid == oid) {
            return Err(Malformed);
        }
        all.push(Extension { oid, value });
    }
    Ok(all)
}

fn authority_key(bytes: &[u8]) -> Result<AuthorityKey<'_>, Malformed> {
    let mut reader = Reader::new(der::only(bytes, tag::SEQUENCE)?.content);
    let key_id = reader.optional(tag::context(0))?.map(|value| value.content);
    let issuer = reader.optional(tag::constructed(1))?.map(|value| value.content);
    Ok(AuthorityKey { key_id, issuer })
}

fn general_names(bytes: &[u8]) -> Result<Vec<GeneralName<'_>>, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut names = Vec::new();
    while !reader.at_end() {
        let value = reader.any()?;
        if names.len() >= limits::ALTERNATIVE_NAMES_MAX {
            return Err(Malformed);
        }
        names.push(match value.tag {
            0x81 => GeneralName::Email(value.content),
            0x82 => GeneralName::Dns(value.content),
            0x86 => GeneralName::Uri(value.content),
            0x87 => ip(value.content).map_or(GeneralName::Other, GeneralName::Ip),
            0xa0 | 0xa3 | 0xa4 | 0xa5 | 0x88 => GeneralName::Other,
            _ => return Err(Malformed),
        });
    }
    Ok(names)
}

fn ip(bytes: &[u8]) -> Option<std::net::IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(four.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(Into::into)
}

/// The GeneralNames of a DistributionPointName; `None` where it is relative to the issuer.
pub(super) fn full_names(point_name: Value<'_>) -> Result<Option<Vec<&[u8]>>, Malformed> {
    let mut choice = Reader::new(point_name.content);
    let value = choice.any()?;
    choice.end()?;
    match value.tag {
        0xa0 => {}
        0xa1 => return Ok(None),
        _ => return Err(Malformed),
    }
    let mut reader = Reader::new(value.content);
    let mut names = Vec::new();
    while !reader.at_end() {
        names.push(reader.any()?.whole);
    }
    Ok(Some(names))
}

/// The Names (content) among the directoryName entries of GeneralNames.
pub(super) fn directory_names(general_names: &[u8]) -> Vec<&[u8]> {
    let mut reader = Reader::new(general_names);
    let mut names = Vec::new();
    while let Ok(value) = reader.any() {
        if value.tag == tag::constructed(4)
            && let Ok(name) = der::only(value.content, tag::SEQUENCE)
        {
            names.push(name.content);
        }
    }
    names
}

/// The kind and strength of the key in a SubjectPublicKeyInfo.
pub(super) fn key(spki: &[u8]) -> Result<Key, Malformed> {
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
    const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
    const CURVES: [&[u8]; 3] =
        [&[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7], &[0x2b, 0x81, 4, 0, 34], &[0x2b, 0x81, 4, 0, 35]];
    const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
    /// id-ml-dsa-44, -65 and -87 without their last arc.
    const ML_DSA: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3];

    let mut outer = Reader::new(der::only(spki, tag::SEQUENCE)?.content);
    let mut algorithm = Reader::new(outer.expect(tag::SEQUENCE)?.content);
    let bits = der::whole_bits(outer.expect(tag::BIT_STRING)?)?;
    outer.end()?;
    let oid = algorithm.expect(tag::OID)?.content;
    Ok(match oid {
        RSA => {
            let modulus = Reader::new(der::only(bits, tag::SEQUENCE)?.content).expect(tag::INTEGER)?.content;
            let modulus = der::unsigned(modulus).ok_or(Malformed)?;
            Key::Rsa(modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize))
        }
        EC if algorithm.expect(tag::OID).is_ok_and(|curve| CURVES.contains(&curve.content)) => Key::Fine,
        ED25519 => Key::Fine,
        _ if oid.strip_prefix(ML_DSA).is_some_and(|last| matches!(last, [17..=19])) => Key::Fine,
        _ => Key::Unsupported,
    })
}
