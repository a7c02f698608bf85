//! The certificates of the harness: read from a directory, or a throw-away PKI of its own: a root, an intermediate, one
//! server and any number of clients, all P-256, as short-lived as a measurement. Never trust it for anything else.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use time::{Duration, OffsetDateTime};

use crate::load::{Refusal, exit, limits};

/// A certificate chain and its key: one client.
#[derive(Debug)]
pub struct Identity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

/// A directory with a PKI in it.
#[derive(Clone, Debug)]
pub struct Pki {
    directory: PathBuf,
    made_now: bool,
}

impl Pki {
    /// The PKI in `directory`, made there where it holds none; without a directory, the one in the user's cache.
    pub fn open(directory: Option<&Path>) -> Result<Pki, Refusal> {
        let own = directory.is_none();
        let directory = directory.map_or_else(default_directory, Path::to_path_buf);
        let ca = directory.join("ca.pem");
        let usable = ca.exists() && !(own && is_over_soon(&ca, OffsetDateTime::now_utc()));
        if !usable {
            if !own {
                refuse_to_overwrite(&directory)?;
            }
            make(&directory, OffsetDateTime::now_utc())?;
        }
        Ok(Pki { directory, made_now: !usable })
    }

    /// Whether [`Pki::open`] made it: then no server can know it yet.
    pub fn made_now(&self) -> bool {
        self.made_now
    }

    /// How a server is told to trust this PKI, and which certificate of it to serve.
    pub fn instructions(&self) -> String {
        let at = |name: &str| self.directory.join(name).display().to_string();
        let (ca, server, key) = (at("ca.pem"), at("server.pem"), at("server.key"));
        format!(
            "  trust its clients:   {ca}\n  serve this:          {server} with {key}\n  with countersign:    countersign run --listen \
             127.0.0.1:8443 --backend 127.0.0.1:9000 --certificate {server} --key {key} --client-ca {ca}"
        )
    }

    /// The anchors that server certificates are verified against.
    pub fn anchors(&self) -> Result<Vec<CertificateDer<'static>>, Refusal> {
        read_chain(&self.directory.join("ca.pem"))
    }

    /// `count` clients: the first is `client.pem` where there is one, the others are issued now and kept in memory alone.
    pub fn identities(&self, count: usize) -> Result<Vec<Identity>, Refusal> {
        let (certificate, key) = (self.directory.join("client.pem"), self.directory.join("client.key"));
        let mut identities = Vec::with_capacity(count);
        // A PKI that somebody else made may have its clients elsewhere, and a key to issue one with.
        if certificate.exists() || self.issuer().is_err() {
            identities.push(read_identity(&certificate, &key)?);
        }
        if identities.len() < count {
            let issuer = self.issuer()?;
            for n in identities.len()..count {
                identities.push(issuer.client(&format!("load-client-{n}"), OffsetDateTime::now_utc())?);
            }
        }
        Ok(identities)
    }

    fn issuer(&self) -> Result<Authority, Refusal> {
        for (certificate, key) in [("intermediate.pem", "intermediate.key"), ("ca.pem", "ca.key")] {
            let (certificate, key) = (self.directory.join(certificate), self.directory.join(key));
            if certificate.exists() && key.exists() {
                return Authority::read(&certificate, &key);
            }
        }
        Err(Refusal::new(
            exit::CONFIG,
            format!(
                "{} has no CA key to issue --identities with; add intermediate.pem and intermediate.key (or ca.key), or leave \
                 --pki out",
                self.directory.display()
            ),
        ))
    }
}

/// Reads a PEM chain, leaf first.
pub fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Refusal> {
    let bad = |why: String| {
        let message = format!("{}: {why}; it has to hold certificates in PEM form", path.display());
        Refusal::new(exit::CONFIG, message)
    };
    let iterator = CertificateDer::pem_file_iter(path).map_err(|e| unreadable(path, e))?;
    let chain: Vec<_> = iterator.collect::<Result<_, _>>().map_err(|e| bad(e.to_string()))?;
    if chain.is_empty() {
        return Err(bad("no certificate in it".to_owned()));
    }
    Ok(chain)
}

/// Reads a chain and its key.
pub fn read_identity(certificate: &Path, key: &Path) -> Result<Identity, Refusal> {
    let chain = read_chain(certificate)?;
    Ok(Identity { chain, key: PrivateKeyDer::from_pem_file(key).map_err(|e| unreadable(key, e))? })
}

fn unreadable(path: &Path, error: rustls::pki_types::pem::Error) -> Refusal {
    use rustls::pki_types::pem::Error;
    match error {
        Error::Io(e) if e.kind() == std::io::ErrorKind::PermissionDenied => Refusal::new(
            exit::PERMISSION,
            format!("{} may not be read; run as its owner, or make it readable", path.display()),
        ),
        other => Refusal::new(
            exit::CONFIG,
            format!("{}: {other}; `countersign-load pki DIR` makes a set that works", path.display()),
        ),
    }
}

/// Where the harness keeps a PKI of its own between runs, so that a server can be told of it once.
fn default_directory() -> PathBuf {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    match (absolute("XDG_CACHE_HOME"), absolute("HOME")) {
        (Some(cache), _) => cache.join("countersign-load"),
        (None, Some(home)) => home.join(".cache/countersign-load"),
        (None, None) => PathBuf::from("countersign-load-pki"),
    }
}

/// Whether the certificate at `path` has less than a day left (or cannot be read, which a fresh one mends).
fn is_over_soon(path: &Path, now: OffsetDateTime) -> bool {
    let Ok(chain) = read_chain(path) else { return true };
    match x509_parser::parse_x509_certificate(&chain[0]) {
        Ok((_, certificate)) => certificate.validity().not_after.to_datetime() < now + Duration::days(1),
        Err(_) => true,
    }
}

/// An issuing certificate with its key and the chain that goes below each leaf.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    below: Vec<CertificateDer<'static>>,
}

impl Authority {
    fn read(certificate: &Path, key: &Path) -> Result<Authority, Refusal> {
        let chain = read_chain(certificate)?;
        let bad =
            |e: rcgen::Error| Refusal::new(exit::CONFIG, format!("{}: {e}; it has to be a PKCS#8 key", key.display()));
        let pem = fs::read_to_string(key).map_err(|e| unreadable(key, rustls::pki_types::pem::Error::Io(e)))?;
        let issuer = Issuer::from_ca_cert_der(&chain[0], KeyPair::from_pem(&pem).map_err(bad)?).map_err(bad)?;
        // An anchor is not sent: the server has it.
        let is_intermediate = certificate.file_name().is_some_and(|n| n == "intermediate.pem");
        Ok(Authority { issuer, below: if is_intermediate { chain } else { Vec::new() } })
    }

    fn client(&self, name: &str, now: OffsetDateTime) -> Result<Identity, Refusal> {
        let mut params = leaf(name, ExtendedKeyUsagePurpose::ClientAuth, now)?;
        let uri = format!("spiffe://load.example/{name}");
        params.subject_alt_names.push(SanType::URI(uri.try_into().map_err(internal)?));
        self.issue(&params)
    }

    fn server(&self, now: OffsetDateTime) -> Result<Identity, Refusal> {
        let mut params = leaf("load-server", ExtendedKeyUsagePurpose::ServerAuth, now)?;
        for name in ["localhost", "load.example"] {
            params.subject_alt_names.push(SanType::DnsName(name.try_into().map_err(internal)?));
        }
        for address in [[127, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()] {
            params.subject_alt_names.push(SanType::IpAddress(address));
        }
        self.issue(&params)
    }

    fn issue(&self, params: &CertificateParams) -> Result<Identity, Refusal> {
        let key = KeyPair::generate().map_err(internal)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(internal)?;
        let chain = std::iter::once(certificate.der().clone()).chain(self.below.iter().cloned()).collect();
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|e| internal(e.to_owned()))?;
        Ok(Identity { chain, key })
    }
}

/// A directory of the user's without ca.pem may still hold a CA's key under one of our names: that is not ours to replace.
fn refuse_to_overwrite(directory: &Path) -> Result<(), Refusal> {
    for stem in ["ca", "root", "intermediate", "server", "client"] {
        for suffix in ["pem", "key"] {
            let path = directory.join(format!("{stem}.{suffix}"));
            if path.symlink_metadata().is_ok() {
                let message = format!(
                    "{} has {stem}.{suffix} but no ca.pem; add the certificate to trust as ca.pem, or name an empty directory",
                    directory.display()
                );
                return Err(Refusal::new(exit::CONFIG, message));
            }
        }
    }
    Ok(())
}

/// Makes the PKI in `directory`: ca.pem, intermediate.{pem,key}, server.{pem,key}, client.{pem,key}. The root's key is not kept.
fn make(directory: &Path, now: OffsetDateTime) -> Result<(), Refusal> {
    let failed = |e: std::io::Error| {
        let code = if e.kind() == std::io::ErrorKind::PermissionDenied { exit::PERMISSION } else { exit::CONFIG };
        Refusal::new(
            code,
            format!("cannot write a PKI to {}: {e}; name another place with --pki DIR", directory.display()),
        )
    };
    let (root, authority, intermediate_key) = authorities(now)?;
    let (server, client) = (authority.server(now)?, authority.client("load-client", now)?);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    let write = |name: &str, pem: &str| write_secret(&directory.join(name), pem).map_err(failed);
    write("intermediate.pem", &pem_chain(&authority.below))?;
    write("intermediate.key", &intermediate_key)?;
    for (name, identity) in [("server", &server), ("client", &client)] {
        write(&format!("{name}.pem"), &pem_chain(&identity.chain))?;
        write(&format!("{name}.key"), &pem("PRIVATE KEY", identity.key.secret_der()))?;
    }
    // Last, because its presence says that the set is whole.
    write("ca.pem", &pem_chain(&[root]))
}

/// A client of a CA that was made for it and is known to nobody.
pub fn stranger() -> Result<Identity, Refusal> {
    let now = OffsetDateTime::now_utc();
    authorities(now)?.1.client("load-stranger", now)
}

fn authorities(now: OffsetDateTime) -> Result<(CertificateDer<'static>, Authority, String), Refusal> {
    let root_key = KeyPair::generate().map_err(internal)?;
    // A name of its own for each PKI: two of the same name would fail as bad signatures, not as unknown issuers.
    let mark = hex::encode(&root_key.public_key_raw()[1..5]);
    let root_params = authority_params(&format!("Load harness root {mark}"), now);
    let root = root_params.self_signed(&root_key).map_err(internal)?.der().clone();
    let root_issuer = Issuer::new(root_params, root_key);
    let params = authority_params(&format!("Load harness issuing CA {mark}"), now);
    let key = KeyPair::generate().map_err(internal)?;
    let certificate = params.signed_by(&key, &root_issuer).map_err(internal)?.der().clone();
    let key_pem = pem("PRIVATE KEY", key.serialized_der());
    Ok((root, Authority { issuer: Issuer::new(params, key), below: vec![certificate] }, key_pem))
}

fn authority_params(name: &str, now: OffsetDateTime) -> CertificateParams {
    let mut params = dated(name, now);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf(name: &str, purpose: ExtendedKeyUsagePurpose, now: OffsetDateTime) -> Result<CertificateParams, Refusal> {
    let mut params = dated(name, now);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn dated(name: &str, now: OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.distinguished_name.push(DnType::OrganizationName, "Throw-away PKI");
    // An hour back, for servers whose clock is behind.
    params.not_before = now - Duration::hours(1);
    params.not_after = now + Duration::days(limits::PKI_DAYS);
    params
}

fn pem_chain(chain: &[CertificateDer<'_>]) -> String {
    chain.iter().map(|c| pem("CERTIFICATE", c)).collect()
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    // Base64 is ASCII, so that any index is a character's.
    for start in (0..body.len()).step_by(64) {
        text.push_str(&body[start..body.len().min(start + 64)]);
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// Writes aside and renames: a reader sees the old file or the new one, and a link laid in our way is replaced, not followed.
fn write_secret(path: &Path, text: &str) -> std::io::Result<()> {
    let aside = path.with_extension(format!("new-{}", std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&aside, path)
}

fn internal(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(exit::INTERNAL, format!("making certificates failed: {error}; please report this"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_a_pki_gets_one_and_the_next_run_finds_it() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("pki");
        let made = Pki::open(Some(&place)).unwrap();
        assert!(made.made_now());
        let found = Pki::open(Some(&place)).unwrap();
        assert!(!found.made_now());
        assert_eq!(made.anchors().unwrap(), found.anchors().unwrap());
        assert!(found.instructions().contains("--client-ca"));
    }

    #[test]
    fn each_identity_is_a_client_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let identities = Pki::open(Some(directory.path())).unwrap().identities(3).unwrap();
        let leaves: std::collections::BTreeSet<_> = identities.iter().map(|i| i.chain[0].to_vec()).collect();
        assert_eq!(leaves.len(), 3);
        assert!(identities.iter().all(|i| i.chain.len() == 2));
    }

    #[test]
    fn keys_are_readable_by_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        Pki::open(Some(directory.path())).unwrap();
        let mode = fs::metadata(directory.path().join("client.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_pki_without_its_ca_key_serves_one_identity_and_refuses_more() {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::open(Some(directory.path())).unwrap();
        fs::remove_file(directory.path().join("intermediate.key")).unwrap();
        assert!(pki.identities(1).is_ok());
        assert_eq!(pki.identities(2).unwrap_err().code, exit::CONFIG);
    }

    #[test]
    fn a_pki_with_a_ca_key_and_no_client_gets_its_clients_issued() {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::open(Some(directory.path())).unwrap();
        fs::remove_file(directory.path().join("client.pem")).unwrap();
        assert_eq!(pki.identities(2).unwrap().len(), 2);
        fs::remove_file(directory.path().join("intermediate.key")).unwrap();
        assert_eq!(pki.identities(1).unwrap_err().code, exit::CONFIG);
    }

    #[test]
    fn a_ca_key_that_somebody_keeps_there_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("intermediate.key");
        fs::write(&key, "precious").unwrap();
        assert_eq!(Pki::open(Some(directory.path())).unwrap_err().code, exit::CONFIG);
        assert_eq!(fs::read_to_string(&key).unwrap(), "precious");
    }

    #[test]
    fn a_pki_of_last_month_is_over() {
        let directory = tempfile::tempdir().unwrap();
        Pki::open(Some(directory.path())).unwrap();
        let ca = directory.path().join("ca.pem");
        let now = OffsetDateTime::now_utc();
        assert!(!is_over_soon(&ca, now));
        assert!(is_over_soon(&ca, now + Duration::days(limits::PKI_DAYS)));
    }
}
