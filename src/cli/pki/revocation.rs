//! Revoking, and the CRLs that say so.

use super::authority::{self, Authority, BACKDATED};
use super::failure::PkiError;
use super::files::{self, Overwrite, Readers, Staged};
use super::leaf;
use super::registry::{Issued, Revoked, Signer};
use clap::ValueEnum;
use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevocationReason, RevokedCertParams, SerialNumber};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::path::Path;
use time::{Duration, OffsetDateTime};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::X509Certificate;

/// Its name in the CA's directory.
pub(super) const FILE: &str = "crl.pem";

/// Why a certificate is revoked (RFC 5280 section 5.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Reason {
    Unspecified,
    KeyCompromise,
    CaCompromise,
    AffiliationChanged,
    Superseded,
    CessationOfOperation,
    CertificateHold,
    PrivilegeWithdrawn,
}

impl Reason {
    /// RFC 5280's spelling.
    fn name(self) -> &'static str {
        match self {
            Reason::Unspecified => "unspecified",
            Reason::KeyCompromise => "keyCompromise",
            Reason::CaCompromise => "cACompromise",
            Reason::AffiliationChanged => "affiliationChanged",
            Reason::Superseded => "superseded",
            Reason::CessationOfOperation => "cessationOfOperation",
            Reason::CertificateHold => "certificateHold",
            Reason::PrivilegeWithdrawn => "privilegeWithdrawn",
        }
    }

    fn from_name(name: &str) -> Option<Reason> {
        Reason::value_variants().iter().copied().find(|reason| reason.name() == name)
    }

    fn code(self) -> RevocationReason {
        match self {
            Reason::Unspecified => RevocationReason::Unspecified,
            Reason::KeyCompromise => RevocationReason::KeyCompromise,
            Reason::CaCompromise => RevocationReason::CaCompromise,
            Reason::AffiliationChanged => RevocationReason::AffiliationChanged,
            Reason::Superseded => RevocationReason::Superseded,
            Reason::CessationOfOperation => RevocationReason::CessationOfOperation,
            Reason::CertificateHold => RevocationReason::CertificateHold,
            Reason::PrivilegeWithdrawn => RevocationReason::PrivilegeWithdrawn,
        }
    }
}

/// Which certificate.
#[derive(Debug, Clone, Copy)]
pub(super) enum Which<'a> {
    File(&'a Path),
    Serial(&'a str),
}

/// When the next CRL is due.
#[derive(Debug, Clone, Copy)]
pub(super) enum NextUpdate {
    In(Duration),
    /// It was due yesterday.
    Past,
}

/// Notes a revocation; answers what to tell the operator. A second one of the same certificate changes nothing.
pub(super) fn revoke(
    authority: &mut Authority,
    which: Which<'_>,
    reason: Reason,
    now: OffsetDateTime,
) -> Result<String, PkiError> {
    let at = match which {
        Which::File(path) => find_by_file(authority, path)?,
        Which::Serial(serial) => find_by_serial(authority, serial)?,
    };
    let issued = &mut authority.registry.certificates[at];
    let text = format!("serial {} ({})", issued.serial, issued.subject.escape_debug());
    if issued.revoked.is_some() {
        return Ok(format!("{text} was revoked before; nothing changed"));
    }
    issued.revoked = Some(Revoked { at: now.unix_timestamp(), reason: reason.name().to_owned() });
    let mut staged = Staged::default();
    authority.registry.stage(&authority.dir, &mut staged, Overwrite::Yes)?;
    staged.commit()?;
    Ok(format!("{text} is revoked; servers learn of it from the next CRL"))
}

/// The place in the registry of the certificate in that file. One that the registry lost is put there again.
fn find_by_file(authority: &mut Authority, path: &Path) -> Result<usize, PkiError> {
    let der = CertificateDer::from_pem_slice(&files::read(path)?)
        .map_err(|_| PkiError::broken_file(path, "no certificate", "name a PEM file"))?;
    let parsed = authority::parse(&der)?;
    let signer = [Signer::Intermediate, Signer::Root]
        .into_iter()
        .find(|signer| is_issued_by(&parsed, &authority.ca(*signer).der))
        .ok_or_else(|| {
            let message = format!("{}: not issued by the CA in {}", path.display(), authority.dir.display());
            PkiError::refused(message, "name its CA's directory with --dir")
        })?;
    let line = authority::issued(&der, signer, "unknown")?;
    let known = |issued: &Issued| issued.serial == line.serial && issued.issuer == signer;
    if let Some(at) = authority.registry.certificates.iter().position(known) {
        return Ok(at);
    }
    authority.registry.certificates.push(line);
    Ok(authority.registry.certificates.len() - 1)
}

/// Whether `certificate` names that CA and, where it says so at all, its key.
fn is_issued_by(certificate: &X509Certificate<'_>, ca: &[u8]) -> bool {
    let Ok(ca) = authority::parse(ca) else { return false };
    if certificate.issuer().as_raw() != ca.subject().as_raw()
        || certificate.tbs_certificate.raw_serial() == ca.raw_serial()
    {
        return false;
    }
    let named_key = certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(key) => key.key_identifier.as_ref().map(|key| key.0),
        _ => None,
    });
    let own_key = ca.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(key) => Some(key.0),
        _ => None,
    });
    named_key.is_none() || named_key == own_key
}

fn find_by_serial(authority: &Authority, serial: &str) -> Result<usize, PkiError> {
    let plain: String = serial.chars().filter(|c| *c != ':').map(|c| c.to_ascii_lowercase()).collect();
    let significant = plain.trim_start_matches('0');
    if plain.is_empty() || !plain.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let message = format!("\"{}\" is no serial number", serial.escape_debug());
        return Err(PkiError::usage(message, "write it in hexadecimal, with or without colons"));
    }
    let known = |issued: &Issued| issued.serial.trim_start_matches('0') == significant;
    authority.registry.certificates.iter().position(known).ok_or_else(|| {
        let message = format!("no certificate with serial {plain} was issued here");
        PkiError::refused(message, "look for it in pki.json, or name the certificate's file")
    })
}

/// Writes the CRLs of both CAs into one file; answers how many certificates they hold.
pub(super) fn write_crls(
    authority: &mut Authority,
    out: &Path,
    until: NextUpdate,
    now: OffsetDateTime,
) -> Result<usize, PkiError> {
    authority.registry.crl_number += 1;
    let mut text = String::new();
    let mut count = 0;
    for signer in [Signer::Intermediate, Signer::Root] {
        let revoked = revoked_by(authority, signer)?;
        count += revoked.len();
        let (this_update, next_update) = match until {
            NextUpdate::In(time) => (now - BACKDATED, now + time),
            NextUpdate::Past => (now - Duration::days(31), now - Duration::DAY),
        };
        let params = CertificateRevocationListParams {
            this_update,
            next_update,
            crl_number: SerialNumber::from(authority.registry.crl_number),
            issuing_distribution_point: None,
            revoked_certs: revoked,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let crl = params.signed_by(&authority.ca(signer).issuer()?)?;
        text.push_str(&leaf::pem("X509 CRL", crl.der()));
    }
    let mut staged = Staged::default();
    // The number first: a CRL number that was used is never used again.
    authority.registry.stage(&authority.dir, &mut staged, Overwrite::Yes)?;
    staged.put(out, text.as_bytes(), Readers::Everybody, Overwrite::Yes)?;
    staged.commit()?;
    Ok(count)
}

fn revoked_by(authority: &Authority, signer: Signer) -> Result<Vec<RevokedCertParams>, PkiError> {
    let lines = authority.registry.certificates.iter().filter(|issued| issued.issuer == signer);
    lines.filter_map(|issued| issued.revoked.as_ref().map(|revoked| entry(authority, issued, revoked))).collect()
}

fn entry(authority: &Authority, issued: &Issued, revoked: &Revoked) -> Result<RevokedCertParams, PkiError> {
    let path = authority.dir.join(super::registry::FILE);
    let broken = |what: &str| PkiError::broken_file(&path, what, "mend the line that was edited");
    let serial = hex::decode(&issued.serial).map_err(|_| broken("a serial is not hexadecimal"))?;
    let reason = Reason::from_name(&revoked.reason).ok_or_else(|| broken("a reason is unknown"))?;
    let revocation_time =
        OffsetDateTime::from_unix_timestamp(revoked.at).map_err(|_| broken("a time of revocation is out of range"))?;
    Ok(RevokedCertParams {
        serial_number: SerialNumber::from_slice(&serial),
        revocation_time,
        reason_code: Some(reason.code()),
        invalidity_date: None,
    })
}
