//! Certificates with one fault each, for those who test that they are refused.

use super::authority::{self, Authority, Ca};
use super::failure::PkiError;
use super::keys::{self, KeyType};
use super::leaf::{self, LeafRequest, Role};
use clap::ValueEnum;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SigningKey};
use time::{Duration, OffsetDateTime};

/// What is wrong with a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Broken {
    /// It ran out yesterday
    Expired,
    /// It is valid from tomorrow on
    NotYetValid,
    /// It is for the other end of a connection
    WrongPurpose,
    /// The intermediate is missing in the file
    MissingIntermediate,
    /// A CA that nobody trusts signed it
    UnknownCa,
    /// It is its own issuer
    SelfSigned,
    /// Another key than the issuer's signed it
    BadSignature,
    /// It says that it is a CA
    CaAsLeaf,
    /// It is of X.509 version 1, as many how-to texts make them
    V1,
    /// Its RSA key is short
    WeakKey,
}

impl Broken {
    /// For the registry and the terminal.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Broken::Expired => "expired",
            Broken::NotYetValid => "not yet valid",
            Broken::WrongPurpose => "wrong extended key usage",
            Broken::MissingIntermediate => "intermediate missing in the file",
            Broken::UnknownCa => "issued by a CA that nobody trusts",
            Broken::SelfSigned => "self-signed",
            Broken::BadSignature => "signed by another key than its issuer's",
            Broken::CaAsLeaf => "a CA certificate in a leaf's place",
            Broken::V1 => "X.509 version 1",
            Broken::WeakKey => "weak key",
        }
    }

    /// Whether it carries our intermediate's name and signature, so that revoking it means something.
    pub(super) fn is_ours(self) -> bool {
        !matches!(self, Broken::UnknownCa | Broken::SelfSigned | Broken::BadSignature)
    }
}

/// The chain for `key`, leaf first, with its fault.
pub(super) fn chain(
    authority: &Authority,
    request: &LeafRequest,
    broken: Broken,
    key: &KeyPair,
    now: OffsetDateTime,
) -> Result<Vec<Vec<u8>>, PkiError> {
    let params = broken_params(authority, request, broken, now)?;
    let intermediate = &authority.intermediate;
    let leaf = match broken {
        Broken::WeakKey => return Err(weak_key()),
        Broken::SelfSigned => return Ok(vec![params.self_signed(key)?.der().to_vec()]),
        Broken::UnknownCa => return stranger(&params, key, now),
        Broken::BadSignature => {
            let other_key = KeyPair::generate_for(intermediate.key.algorithm())?;
            params.signed_by(key, &Issuer::from_ca_cert_der(&intermediate.der, &other_key)?)?
        }
        _ => params.signed_by(key, &intermediate.issuer()?)?,
    };
    let leaf = if broken == Broken::V1 { version_1(leaf.der(), intermediate)? } else { leaf.der().to_vec() };
    if broken == Broken::MissingIntermediate {
        return Ok(vec![leaf]);
    }
    Ok(vec![leaf, intermediate.der.to_vec()])
}

/// The faults that lie in what the certificate says.
fn broken_params(
    authority: &Authority,
    request: &LeafRequest,
    broken: Broken,
    now: OffsetDateTime,
) -> Result<CertificateParams, PkiError> {
    let mut params = leaf::params(request, authority, now)?;
    match broken {
        Broken::Expired => {
            params.not_after = now - Duration::DAY;
            params.not_before = params.not_after - request.validity;
        }
        Broken::NotYetValid => {
            params.not_before = now + Duration::DAY;
            params.not_after = params.not_before + request.validity;
        }
        Broken::WrongPurpose => {
            let other = match request.role {
                Role::Server => Role::Client,
                Role::Client => Role::Server,
            };
            params.extended_key_usages = vec![leaf::purpose(other)];
        }
        Broken::CaAsLeaf => {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages.push(KeyUsagePurpose::KeyCertSign);
        }
        _ => {}
    }
    Ok(params)
}

/// A certificate of a CA that is made for it and forgotten.
fn stranger(params: &CertificateParams, key: &KeyPair, now: OffsetDateTime) -> Result<Vec<Vec<u8>>, PkiError> {
    let ca_key = keys::generate(KeyType::P256)?;
    let ca_params = authority::ca_params("Somebody Else", "CA", 0, params.not_after + Duration::DAY, now)?;
    let ca = ca_params.self_signed(&ca_key)?;
    let leaf = params.signed_by(key, &Issuer::from_params(&ca_params, &ca_key))?;
    Ok(vec![leaf.der().to_vec(), ca.der().to_vec()])
}

fn weak_key() -> PkiError {
    PkiError::usage(
        "a weak key cannot be made here: the cryptographic library refuses RSA below 2048 bits",
        "try: openssl req -new -newkey rsa:1024 -nodes -keyout weak.key -subj /CN=weak -out weak.csr && openssl x509 \
         -req -in weak.csr -CA pki/intermediate.pem -CAkey pki/intermediate.key -set_serial 0x41 -days 30 -extfile \
         <(echo extendedKeyUsage=clientAuth) -out weak.pem",
    )
}

/// The same certificate without its version and extensions, signed anew: rcgen writes version 3 only.
fn version_1(der: &[u8], ca: &Ca) -> Result<Vec<u8>, PkiError> {
    let unreadable = || PkiError::from(rcgen::Error::CouldNotParseCertificate);
    let certificate = elements(contents(der).ok_or_else(unreadable)?).ok_or_else(unreadable)?;
    let [tbs, algorithm, _signature] = certificate[..] else { return Err(unreadable()) };
    let tbs = elements(contents(tbs).ok_or_else(unreadable)?).ok_or_else(unreadable)?;
    // Version [0] and extensions [3] go; serial, algorithm, issuer, validity, subject and key stay.
    let kept: Vec<&[u8]> = tbs.into_iter().filter(|element| !matches!(element[0], 0xa0 | 0xa3)).collect();
    let tbs = wrapped(0x30, &kept.concat());
    let signature = ca.key.sign(&tbs)?;
    // A bit string begins with the number of unused bits.
    let signature = wrapped(0x03, &[&[0], &signature[..]].concat());
    Ok(wrapped(0x30, &[&tbs, algorithm, &signature[..]].concat()))
}

/// What the element at the beginning of `der` holds, without its tag and length.
fn contents(der: &[u8]) -> Option<&[u8]> {
    let (element, head) = first(der)?;
    Some(&element[head..])
}

/// The elements of a sequence's contents, each whole.
fn elements(mut rest: &[u8]) -> Option<Vec<&[u8]>> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (element, _) = first(rest)?;
        found.push(element);
        rest = &rest[element.len()..];
    }
    Some(found)
}

/// The first element of `der`, and the bytes of its tag and length.
fn first(der: &[u8]) -> Option<(&[u8], usize)> {
    let (head, len) = match *der.get(1)? {
        short @ 0..=0x7f => (2, usize::from(short)),
        0x81 => (3, usize::from(*der.get(2)?)),
        0x82 => (4, usize::from(u16::from_be_bytes([*der.get(2)?, *der.get(3)?]))),
        _ => return None,
    };
    Some((der.get(..head + len)?, head))
}

/// An element of that tag.
fn wrapped(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len().to_be_bytes();
    let length = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    let mut der = vec![tag];
    if contents.len() < 0x80 {
        der.push(contents.len() as u8);
    } else {
        der.push(0x80 | length.len() as u8);
        der.extend_from_slice(length);
    }
    der.extend_from_slice(contents);
    der
}
