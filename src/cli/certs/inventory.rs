//! What a configuration's files hold. Each file is read once, however many sites name it.

use crate::config::{Advertise, Config, Fault, FaultKind, Site, limits};
use aws_lc_rs::digest::{SHA256, digest};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, RelativeDistinguishedName, X509Name};

/// All that could be read, soonest expiry first, and what could not.
pub(super) struct Inventory {
    pub(super) entries: Vec<Entry>,
    pub(super) faults: Vec<Fault>,
}

/// What something is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Server,
    TrustAnchor,
    Intermediate,
    Advertised,
    Crl,
}

impl Role {
    pub(super) fn name(self) -> &'static str {
        match self {
            Role::Server => "server",
            Role::TrustAnchor => "trust anchor",
            Role::Intermediate => "intermediate",
            Role::Advertised => "advertised",
            Role::Crl => "crl",
        }
    }

    /// The key of the configuration that names its files.
    fn key(self) -> &'static str {
        match self {
            Role::Server => "site.certificate",
            Role::TrustAnchor => "site.client.trust",
            Role::Intermediate => "site.client.intermediates",
            Role::Advertised => "site.client.advertise",
            Role::Crl => "site.client.crls",
        }
    }
}

/// One certificate or CRL.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) role: Role,
    /// `listener/site`, each that uses it.
    pub(super) owners: Vec<String>,
    pub(super) file: PathBuf,
    /// RFC 4514 text; of a CRL the issuer.
    pub(super) subject: String,
    pub(super) issuer: String,
    /// `None` for a CRL.
    pub(super) serial: Option<String>,
    pub(super) sha256: String,
    /// Seconds since the Unix epoch; `None` for a CRL without nextUpdate.
    pub(super) expires: Option<i64>,
}

impl Entry {
    /// Whole days until it runs out; below zero from the second on when it did.
    pub(super) fn days_left(&self, now: i64) -> Option<i64> {
        self.expires.map(|expires| expires.saturating_sub(now).div_euclid(86_400))
    }

    /// RFC 3339.
    pub(super) fn expires_text(&self) -> Option<String> {
        OffsetDateTime::from_unix_timestamp(self.expires?).ok()?.format(&Rfc3339).ok()
    }
}

impl Inventory {
    pub(super) fn of(config: &Config) -> Inventory {
        let mut inventory = Inventory { entries: Vec::new(), faults: Vec::new() };
        for ((role, file), owners) in files_of(config) {
            match entries(role, &file) {
                Ok(found) => {
                    inventory.entries.extend(found.into_iter().map(|entry| Entry { owners: owners.clone(), ..entry }))
                }
                Err(fault) => inventory.faults.push(fault),
            }
        }
        // What never runs out comes last.
        inventory.entries.sort_by_key(|entry| (entry.expires.unwrap_or(i64::MAX), entry.role));
        inventory
    }
}

/// Every file with the sites that name it.
fn files_of(config: &Config) -> BTreeMap<(Role, PathBuf), Vec<String>> {
    let mut files: BTreeMap<(Role, PathBuf), Vec<String>> = BTreeMap::new();
    for site in &config.sites {
        let owner = format!("{}/{}", config.listeners[site.listener].name, site.name);
        for (role, file) in files_of_site(site) {
            let owners = files.entry((role, file.to_owned())).or_default();
            if owners.last() != Some(&owner) {
                owners.push(owner.clone());
            }
        }
    }
    files
}

fn files_of_site(site: &Site) -> Vec<(Role, &Path)> {
    fn with(role: Role, files: &[PathBuf]) -> impl Iterator<Item = (Role, &Path)> {
        files.iter().map(move |file| (role, file.as_path()))
    }
    let mut files: Vec<_> = site.certificates.iter().map(|files| (Role::Server, files.chain.as_path())).collect();
    files.extend(with(Role::Intermediate, &site.client.intermediates));
    if let Advertise::Files(advertised) = &site.client.advertise {
        files.extend(with(Role::Advertised, advertised));
    }
    for authority in &site.client.authorities {
        files.extend(with(Role::TrustAnchor, &authority.trust));
        files.extend(with(Role::Crl, &authority.crls));
    }
    files
}

/// What one file holds, without owners.
fn entries(role: Role, file: &Path) -> Result<Vec<Entry>, Fault> {
    let bytes_max = if role == Role::Crl { limits::CRL_BYTES_MAX } else { limits::PEM_BYTES_MAX };
    let bytes = read(file, bytes_max).map_err(|error| unreadable(role, file, &error))?;
    let found = if role == Role::Crl { crls(&bytes, file) } else { certificates(role, &bytes, file) };
    found.filter(|found| !found.is_empty()).ok_or_else(|| {
        let what = if role == Role::Crl { "no CRL that can be read" } else { "no certificate that can be read" };
        Fault::config(role.key(), what, "name a PEM or DER file; `countersign check` says more").at(file)
    })
}

fn read(file: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {} MiB", bytes_max >> 20)));
    }
    Ok(bytes)
}

fn unreadable(role: Role, file: &Path, error: &io::Error) -> Fault {
    let fault = |help| Fault::config(role.key(), &format!("cannot be read: {error}"), help).at(file);
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            fault("let this user read it, or run as the server's user").of_kind(FaultKind::Permission)
        }
        io::ErrorKind::NotFound => fault("put the file there, or mend the path in the configuration"),
        _ => fault("look at the file and its file system"),
    }
}

/// `None` where something in the file is no certificate. A server's file holds its intermediates behind the leaf.
fn certificates(role: Role, bytes: &[u8], file: &Path) -> Option<Vec<Entry>> {
    let ders: Vec<CertificateDer<'_>> = if is_der(bytes) {
        vec![bytes.into()]
    } else {
        CertificateDer::pem_slice_iter(bytes).collect::<Result<_, _>>().ok()?
    };
    let roles = std::iter::once(role).chain(std::iter::repeat(match role {
        Role::Server => Role::Intermediate,
        other => other,
    }));
    ders.iter().zip(roles).map(|(der, role)| certificate(role, der, file)).collect()
}

fn certificate(role: Role, der: &[u8], file: &Path) -> Option<Entry> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    Some(Entry {
        role,
        owners: Vec::new(),
        file: file.to_owned(),
        subject: name_text(parsed.subject()),
        issuer: name_text(parsed.issuer()),
        serial: Some(hex::encode(parsed.serial.to_bytes_be())),
        sha256: hex::encode(digest(&SHA256, der)),
        expires: Some(parsed.validity().not_after.timestamp()),
    })
}

/// `None` where something in the file is no CRL.
fn crls(bytes: &[u8], file: &Path) -> Option<Vec<Entry>> {
    let ders: Vec<CertificateRevocationListDer<'_>> = if is_der(bytes) {
        vec![bytes.into()]
    } else {
        CertificateRevocationListDer::pem_slice_iter(bytes).collect::<Result<_, _>>().ok()?
    };
    ders.iter().map(|der| crl(der, file)).collect()
}

fn crl(der: &[u8], file: &Path) -> Option<Entry> {
    let (_, parsed) = CertificateRevocationList::from_der(der).ok()?;
    let issuer = name_text(parsed.issuer());
    Some(Entry {
        role: Role::Crl,
        owners: Vec::new(),
        file: file.to_owned(),
        subject: issuer.clone(),
        issuer,
        serial: None,
        sha256: hex::encode(digest(&SHA256, der)),
        expires: parsed.next_update().map(|time| time.timestamp()),
    })
}

/// RFC 4514 text, most specific RDN first, without control characters.
fn name_text(name: &X509Name<'_>) -> String {
    let rdns: Vec<&RelativeDistinguishedName<'_>> = name.iter_rdn().collect();
    rdns.iter()
        .rev()
        .map(|rdn| rdn.iter().map(attribute_text).collect::<Vec<_>>().join("+"))
        .collect::<Vec<_>>()
        .join(",")
}

fn attribute_text(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type();
    let kind = oid2abbrev(oid, oid_registry()).map_or_else(|_| oid.to_id_string(), str::to_owned);
    let mut text = format!("{kind}=");
    match attribute.as_str() {
        Ok(value) => value.chars().for_each(|c| match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => text.extend(['\\', c]),
            c if c.is_control() || is_invisible(c) => text.extend(c.escape_unicode()),
            c => text.push(c),
        }),
        Err(_) => text.push_str(&format!("#{}", hex::encode(attribute.as_slice()))),
    }
    text
}

/// Separators and turners of direction, which a terminal obeys and nobody sees.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A DER file begins with a sequence, a PEM file with text.
fn is_der(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0x30)
}
