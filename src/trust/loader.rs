//! Reads trust, intermediate and CRL files, each once, however many sites name it.

use super::certificate::Certificate;
use super::crl::Crl;
use super::der::Reader;
use super::pem::{self, BadPem};
use crate::config::{Fault, FaultKind, limits};
use rustls_pki_types::CertificateDer;
use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files read so far. Make one for each load or reload and drop it afterwards: what is in use is shared by the policies.
#[derive(Debug, Default)]
pub struct Loader {
    certificates: HashMap<PathBuf, Once<Vec<Located<CertificateDer<'static>>>>>,
    crls: HashMap<PathBuf, Once<Vec<Located<Arc<Crl>>>>>,
}

/// The outcome of reading one file once.
type Once<T> = Result<Arc<T>, Box<Fault>>;

/// Something in a file and the line it begins at; 0 in a DER file.
#[derive(Debug, Clone)]
pub(super) struct Located<T> {
    pub what: T,
    pub line: Option<usize>,
}

impl Loader {
    /// Nothing read yet.
    pub fn new() -> Loader {
        Loader::default()
    }

    /// The certificates of a PEM or DER file, at least one, each readable. The fault has no key yet.
    pub(super) fn certificates(&mut self, path: &Path) -> Once<Vec<Located<CertificateDer<'static>>>> {
        let read = || read_certificates(path).map(Arc::new).map_err(Box::new);
        self.certificates.entry(path.to_owned()).or_insert_with(read).clone()
    }

    /// The CRLs of a PEM or DER file, at least one, each usable. The fault has no key yet.
    pub(super) fn crls(&mut self, path: &Path) -> Once<Vec<Located<Arc<Crl>>>> {
        let read = || read_crls(path).map(Arc::new).map_err(Box::new);
        self.crls.entry(path.to_owned()).or_insert_with(read).clone()
    }
}

fn read_certificates(path: &Path) -> Result<Vec<Located<CertificateDer<'static>>>, Fault> {
    const HELP: &str = "give PEM certificates (-----BEGIN CERTIFICATE-----) or DER";
    let mut all = Vec::new();
    for (label, der, line) in values(path, limits::PEM_BYTES_MAX, HELP)? {
        match label.as_deref() {
            None | Some("CERTIFICATE" | "X509 CERTIFICATE") => {}
            Some("TRUSTED CERTIFICATE") => {
                return Err(fault(
                    path,
                    line,
                    "this is a certificate in OpenSSL's own trust format".to_owned(),
                    "rewrite it with `openssl x509 -in FILE -out FILE`",
                ));
            }
            Some(other) => {
                let help = if other.ends_with("PRIVATE KEY") { "take the private key out of this file" } else { HELP };
                return Err(fault(path, line, format!("a {other} does not belong here"), help));
            }
        }
        if Certificate::parse(&der).is_err() {
            return Err(fault(path, line, "this is not a well-formed X.509 certificate".to_owned(), HELP));
        }
        all.push(Located { what: CertificateDer::from(der), line });
    }
    if all.is_empty() {
        return Err(fault(path, None, "has no certificate in it".to_owned(), HELP));
    }
    Ok(all)
}

fn read_crls(path: &Path) -> Result<Vec<Located<Arc<Crl>>>, Fault> {
    const HELP: &str = "give PEM CRLs (-----BEGIN X509 CRL-----) or DER";
    let mut all = Vec::new();
    for (label, der, line) in values(path, limits::CRL_BYTES_MAX, HELP)? {
        if let Some(other) = label.filter(|label| label != "X509 CRL" && label != "CRL") {
            return Err(fault(path, line, format!("a {other} does not belong here"), HELP));
        }
        let crl = Crl::parse(&der).map_err(|unusable| fault(path, line, unusable.to_string(), unusable.help()))?;
        all.push(Located { what: Arc::new(crl), line });
    }
    if all.is_empty() {
        return Err(fault(path, None, "has no CRL in it, which would mean no revocation at all".to_owned(), HELP));
    }
    Ok(all)
}

/// The DER values of a file, with their PEM label and line.
type Values = Vec<(Option<String>, Vec<u8>, Option<usize>)>;

fn values(path: &Path, bytes_max: u64, help: &str) -> Result<Values, Fault> {
    let bytes = read(path, bytes_max)?;
    if !pem::is_der(&bytes) {
        let blocks = pem::blocks(&bytes)
            .map_err(|BadPem { line, message }| fault(path, Some(line), message, "write the file again"))?;
        return Ok(blocks.into_iter().map(|block| (Some(block.label), block.der, Some(block.line))).collect());
    }
    let mut reader = Reader::new(&bytes);
    let mut values = Vec::new();
    while !reader.at_end() {
        let value = reader.any().map_err(|_| fault(path, None, "is neither PEM nor DER".to_owned(), help))?;
        values.push((None, value.whole.to_vec(), None));
        if values.len() > limits::PEM_BLOCKS_MAX {
            return Err(fault(path, None, format!("has more than {} values", limits::PEM_BLOCKS_MAX), help));
        }
    }
    Ok(values)
}

/// The bytes of a regular file of bounded size.
fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Fault> {
    let failed = |error: std::io::Error| unreadable(path, &error);
    // Asked before opening: a pipe would keep us waiting for its writer.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(fault(path, None, "is not a regular file".to_owned(), "name a file"));
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(bytes_max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > bytes_max {
        let message = format!("is larger than {} MiB", bytes_max >> 20);
        return Err(fault(path, None, message, "split it, or check that this is the file you mean"));
    }
    Ok(bytes)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Fault {
    let (kind, message, help) = match error.kind() {
        ErrorKind::NotFound => {
            (FaultKind::Config, "there is no such file".to_owned(), "create it, or correct the path")
        }
        ErrorKind::PermissionDenied => (
            FaultKind::Permission,
            "may not be read by this user".to_owned(),
            "give the user that runs countersign the right to read it",
        ),
        _ => (FaultKind::Config, format!("cannot be read: {error}"), "check the path"),
    };
    Fault { kind, ..fault(path, None, message, help) }
}

fn fault(path: &Path, line: Option<usize>, message: String, help: &str) -> Fault {
    Fault {
        file: Some(path.to_owned()),
        line,
        key: String::new(),
        message,
        help: help.to_owned(),
        kind: FaultKind::Config,
    }
}
