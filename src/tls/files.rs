//! Reads certificates, keys and OCSP responses from files, each failure told as a [`Fault`] that says what to do.

use super::ticket_keys::Secret;
use crate::config::{Fault, FaultKind, limits};
use rustls_pki_types::pem::{self, PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The certificates of a PEM file, in its order; at least one.
pub(super) fn read_chain(path: &Path, key: &str) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let bytes = read(path, key)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) if bytes.first() == Some(&0x30) => Err(Fault::config(
            key,
            "the file is DER, not PEM",
            "convert it with `openssl x509 -inform der -in FILE -out FILE.pem`",
        )
        .at(path)),
        Ok(_) => Err(Fault::config(
            key,
            "no certificate in the file",
            "it must hold `-----BEGIN CERTIFICATE-----` blocks: the server's certificate first, then its intermediates",
        )
        .at(path)),
        Err(error) => Err(broken_pem(path, key, &error)),
    }
}

/// The first private key of a PEM file.
pub(super) fn read_key(path: &Path, key: &str) -> Result<PrivateKeyDer<'static>, Fault> {
    let bytes = read(path, key)?;
    if contains(&bytes, b"BEGIN ENCRYPTED PRIVATE KEY") || contains(&bytes, b"Proc-Type: 4,ENCRYPTED") {
        return Err(Fault::config(
            key,
            "the private key is encrypted",
            "write it without a passphrase to a file that only the service may read: `openssl pkey -in FILE -out FILE.plain`",
        )
        .at(path));
    }
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(&bytes) {
        match section {
            Ok((SectionKind::PrivateKey, der)) => return Ok(PrivatePkcs8KeyDer::from(der).into()),
            Ok((SectionKind::RsaPrivateKey, der)) => return Ok(PrivatePkcs1KeyDer::from(der).into()),
            Ok((SectionKind::EcPrivateKey, der)) => return Ok(PrivateSec1KeyDer::from(der).into()),
            Ok(_) => {}
            Err(error) => return Err(broken_pem(path, key, &error)),
        }
    }
    Err(Fault::config(
        key,
        "no private key in the file",
        "it must hold a `-----BEGIN PRIVATE KEY-----` block; see whether `chain` and `key` are swapped",
    )
    .at(path))
}

/// Secrets that hosts share for their ticket keys, in the order of the files. Their bytes count as they are, a final
/// newline included.
pub fn read_secrets(paths: &[PathBuf]) -> Result<Vec<Secret>, Vec<Fault>> {
    let (mut secrets, mut faults) = (Vec::new(), Vec::new());
    for path in paths {
        match read_secret(path, "tickets.secret_files") {
            Ok(secret) => secrets.push(secret),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(secrets) } else { Err(faults) }
}

fn read_secret(path: &Path, key: &str) -> Result<Secret, Fault> {
    let bytes = read(path, key)?;
    Secret::new(bytes.to_vec()).ok_or_else(|| {
        let message = format!("the file has {} bytes, and a secret at least {}", bytes.len(), Secret::BYTES_MIN);
        Fault::config(key, &message, "make one with `head -c 48 /dev/urandom > FILE`, the same on each host").at(path)
    })
}

/// A DER OCSP response that says anything at all about the certificate.
pub(super) fn read_ocsp(path: &Path, key: &str) -> Result<Vec<u8>, Fault> {
    let bytes = read(path, key)?.to_vec();
    if is_successful_ocsp(&bytes) {
        return Ok(bytes);
    }
    Err(Fault::config(
        key,
        "the file is not a successful OCSP response in DER",
        "fetch one with `openssl ocsp -issuer ISSUER.pem -cert SERVER.pem -url URL -respout FILE`, or leave `ocsp` out",
    )
    .at(path))
}

/// RFC 6960: `SEQUENCE { ENUMERATED successful(0), … }`.
fn is_successful_ocsp(bytes: &[u8]) -> bool {
    let head = match bytes {
        [0x30, len, ..] if *len < 0x80 => 2,
        [0x30, len, ..] => 2 + usize::from(len & 0x7f),
        _ => return false,
    };
    bytes.get(head..).is_some_and(|body| body.starts_with(&[0x0a, 1, 0]))
}

fn read(path: &Path, key: &str) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = std::fs::File::open(path).and_then(|file| file.take(limits::PEM_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() as u64 > limits::PEM_BYTES_MAX => Err(Fault::config(
            key,
            &format!("the file is longer than {} bytes", limits::PEM_BYTES_MAX),
            "see whether the path is right",
        )
        .at(path)),
        Ok(_) => Ok(bytes),
        Err(error) => Err(unreadable(path, key, &error)),
    }
}

fn unreadable(path: &Path, key: &str, error: &std::io::Error) -> Fault {
    match error.kind() {
        ErrorKind::NotFound => {
            Fault::config(key, "the file does not exist", "relative paths are relative to the configuration file")
                .at(path)
        }
        ErrorKind::PermissionDenied => Fault::config(
            key,
            "the file may not be read",
            "let the user that the service runs as read it, and enter the directories above it",
        )
        .at(path)
        .of_kind(FaultKind::Permission),
        _ => Fault::config(key, &format!("the file cannot be read: {error}"), "name a regular file").at(path),
    }
}

fn broken_pem(path: &Path, key: &str, error: &pem::Error) -> Fault {
    Fault::config(key, &format!("the file is not whole: {error}"), "copy it again; each BEGIN line needs its END line")
        .at(path)
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}
