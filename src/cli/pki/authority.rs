//! The CA itself: a root that signs one intermediate, and the intermediate that signs everything else.

use super::failure::PkiError;
use super::files::{self, Overwrite, Readers, Staged};
use super::keys::{self, KeyType};
use super::registry::{self, Issued, Registry, Signer};
use super::revocation;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Names of a CA's two files.
pub(super) struct Names {
    pub(super) certificate: &'static str,
    pub(super) key: &'static str,
}

pub(super) const ROOT: Names = Names { certificate: "root.pem", key: "root.key" };
pub(super) const INTERMEDIATE: Names = Names { certificate: "intermediate.pem", key: "intermediate.key" };
/// What relying parties trust: the root.
pub(super) const TRUST: &str = "ca.pem";

/// Stems that certificates may not be written under in the CA's own directory, `--force` or not: that would destroy
/// the CA.
pub(super) const RESERVED_STEMS: [&str; 5] = ["root", "intermediate", "ca", "crl", "pki"];

/// Certificates begin a little in the past, for clocks that are behind.
pub(super) const BACKDATED: Duration = Duration::minutes(5);

/// One of the two CAs.
pub(super) struct Ca {
    pub(super) der: CertificateDer<'static>,
    pub(super) key: KeyPair,
    pub(super) not_after: OffsetDateTime,
}

/// The CA of one directory. Holding it keeps other commands out of that directory.
pub(super) struct Authority {
    pub(super) dir: PathBuf,
    pub(super) root: Ca,
    pub(super) intermediate: Ca,
    pub(super) registry: Registry,
    _lock: File,
}

/// What a new CA is made of.
pub(super) struct NewAuthority<'a> {
    pub(super) name: &'a str,
    pub(super) key_type: KeyType,
    /// Of the root; the intermediate has half of it.
    pub(super) validity: Duration,
    pub(super) overwrite: Overwrite,
}

impl Authority {
    /// Makes root and intermediate in `dir`, which is made too where it is missing.
    pub(super) fn init(dir: &Path, new: &NewAuthority<'_>, now: OffsetDateTime) -> Result<Authority, PkiError> {
        fs::create_dir_all(dir).map_err(|error| PkiError::io(dir, &error))?;
        let lock = files::lock(dir)?;
        let taken = [registry::FILE, ROOT.key, INTERMEDIATE.key].iter().any(|name| dir.join(name).exists());
        if new.overwrite == Overwrite::No && taken {
            return Err(PkiError::refused(
                format!("{}: there is a CA already", dir.display()),
                "choose another --dir, or replace it with --force: what it issued is worthless then",
            ));
        }
        let (root, intermediate) = make(new, now)?;
        let mut registry = Registry::new();
        registry.certificates.push(issued(&intermediate.der, Signer::Root, "intermediate")?);
        let mut staged = Staged::default();
        for (names, ca) in [(ROOT, &root), (INTERMEDIATE, &intermediate)] {
            let pem = keys::to_pem(&ca.key);
            staged.put(&dir.join(names.key), pem.as_bytes(), Readers::Owner, new.overwrite)?;
            let pem = certificate_pem(&ca.der);
            staged.put(&dir.join(names.certificate), pem.as_bytes(), Readers::Everybody, new.overwrite)?;
        }
        staged.put(&dir.join(TRUST), certificate_pem(&root.der).as_bytes(), Readers::Everybody, new.overwrite)?;
        registry.stage(dir, &mut staged, new.overwrite)?;
        staged.commit()?;
        if new.overwrite == Overwrite::Yes {
            // A CRL of the CA before, with the same issuer name and another key, would refuse every client of this one.
            let _ = fs::remove_file(dir.join(revocation::FILE));
        }
        Ok(Authority { dir: dir.to_owned(), root, intermediate, registry, _lock: lock })
    }

    /// The CA that is in `dir`.
    pub(super) fn open(dir: &Path) -> Result<Authority, PkiError> {
        let path = dir.join(registry::FILE);
        if !path.exists() {
            let help = format!("make one: countersign pki init --dir {}", super::shown(dir));
            return Err(PkiError::broken_file(&path, "no CA there", help));
        }
        let lock = files::lock(dir)?;
        Ok(Authority {
            dir: dir.to_owned(),
            root: load(dir, &ROOT)?,
            intermediate: load(dir, &INTERMEDIATE)?,
            registry: Registry::load(dir)?,
            _lock: lock,
        })
    }

    /// One of the two.
    pub(super) fn ca(&self, signer: Signer) -> &Ca {
        match signer {
            Signer::Root => &self.root,
            Signer::Intermediate => &self.intermediate,
        }
    }
}

impl Ca {
    /// Signs in this CA's name, with its key.
    pub(super) fn issuer(&self) -> Result<Issuer<'static, &KeyPair>, PkiError> {
        Ok(Issuer::from_ca_cert_der(&self.der, &self.key)?)
    }
}

/// A root and its intermediate.
fn make(new: &NewAuthority<'_>, now: OffsetDateTime) -> Result<(Ca, Ca), PkiError> {
    let root_params = ca_params(new.name, "Root CA", 1, now + new.validity, now)?;
    let root_key = keys::generate(new.key_type)?;
    let root = root_params.self_signed(&root_key)?;
    let issuer = Issuer::from_params(&root_params, &root_key);
    let params = ca_params(new.name, "Issuing CA", 0, now + new.validity / 2, now)?;
    let key = keys::generate(new.key_type)?;
    let intermediate = params.signed_by(&key, &issuer)?;
    let ca = |der: &CertificateDer<'static>, key, not_after| Ca { der: der.clone(), key, not_after };
    let intermediate = ca(intermediate.der(), key, params.not_after);
    let (der, not_after) = (root.der().clone(), root_params.not_after);
    Ok((ca(&der, root_key, not_after), intermediate))
}

/// Parameters of a CA with at most `below` further CAs under it.
pub(super) fn ca_params(
    organization: &str,
    cn: &str,
    below: u8,
    not_after: OffsetDateTime,
    now: OffsetDateTime,
) -> Result<CertificateParams, PkiError> {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, organization);
    name.push(DnType::CommonName, format!("{organization} {cn}"));
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.serial_number = Some(new_serial()?);
    params.not_before = now - BACKDATED;
    params.not_after = not_after;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// 127 random bits with the highest set, so that every serial is positive and 16 bytes long (RFC 5280 section 4.1.2.2).
pub(super) fn new_serial() -> Result<SerialNumber, PkiError> {
    let mut bytes = keys::random::<16>()?;
    bytes[0] = 0x40 | (bytes[0] & 0x3f);
    Ok(SerialNumber::from_slice(&bytes))
}

/// The registry's line for a certificate.
pub(super) fn issued(der: &[u8], issuer: Signer, kind: &str) -> Result<Issued, PkiError> {
    let parsed = parse(der)?;
    Ok(Issued {
        serial: hex::encode(parsed.serial.to_bytes_be()),
        issuer,
        kind: kind.to_owned(),
        subject: parsed.subject().to_string(),
        not_after: rfc3339(parsed.validity().not_after.to_datetime()),
        broken: None,
        revoked: None,
    })
}

pub(super) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, PkiError> {
    let (_, parsed) =
        X509Certificate::from_der(der).map_err(|_| PkiError::from(rcgen::Error::CouldNotParseCertificate))?;
    Ok(parsed)
}

pub(super) fn certificate_pem(der: &[u8]) -> String {
    crate::cli::pki::leaf::pem("CERTIFICATE", der)
}

fn rfc3339(time: OffsetDateTime) -> String {
    time.format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
}

/// Certificate and key of one CA, after a look that they belong together.
fn load(dir: &Path, names: &Names) -> Result<Ca, PkiError> {
    let path = dir.join(names.certificate);
    let help = "restore the file, or make a new CA with pki init";
    let broken = |what: &str| PkiError::broken_file(&path, what, help);
    let der = CertificateDer::from_pem_slice(&files::read(&path)?).map_err(|_| broken("no certificate"))?;
    let key = keys::load(&dir.join(names.key))?;
    let (_, parsed) = X509Certificate::from_der(&der).map_err(|_| broken("not a certificate"))?;
    if parsed.public_key().raw != key.subject_public_key_info() {
        return Err(broken("the key beside it is another's"));
    }
    let not_after = parsed.validity().not_after.to_datetime();
    Ok(Ca { der, key, not_after })
}
