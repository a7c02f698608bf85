//! Server and client certificates.

use super::authority::{self, Authority, BACKDATED, RESERVED_STEMS};
use super::broken::{self, Broken};
use super::failure::PkiError;
use super::files::{Overwrite, Readers, Staged};
use super::keys::{self, KeyType};
use super::registry::Signer;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use time::{Duration, OffsetDateTime};

/// Which end of a connection a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Server,
    Client,
}

/// What a certificate is to say.
#[derive(Debug, Clone)]
pub(super) struct LeafRequest {
    pub(super) role: Role,
    pub(super) cn: String,
    pub(super) ou: Option<String>,
    pub(super) o: Option<String>,
    pub(super) alternative_names: Vec<SanType>,
    pub(super) key_type: KeyType,
    pub(super) validity: Duration,
    pub(super) broken: Option<Broken>,
}

/// Where a certificate went.
#[derive(Debug, Clone)]
pub(super) struct LeafFiles {
    pub(super) chain: PathBuf,
    pub(super) key: PathBuf,
}

/// Makes a certificate and its key, writes both and the registry.
pub(super) fn issue(
    authority: &mut Authority,
    request: &LeafRequest,
    stem: &Path,
    overwrite: Overwrite,
    now: OffsetDateTime,
) -> Result<LeafFiles, PkiError> {
    refuse_reserved(stem, &authority.dir)?;
    let files = LeafFiles { chain: with_suffix(stem, ".pem"), key: with_suffix(stem, ".key") };
    let key = keys::generate(request.key_type)?;
    let chain = match request.broken {
        Some(broken) => broken::chain(authority, request, broken, &key, now)?,
        None => {
            let leaf = params(request, authority, now)?.signed_by(&key, &authority.intermediate.issuer()?)?;
            vec![leaf.der().to_vec(), authority.intermediate.der.to_vec()]
        }
    };
    let mut staged = Staged::default();
    staged.put(&files.key, keys::to_pem(&key).as_bytes(), Readers::Owner, overwrite)?;
    let text: String = chain.iter().map(|der| authority::certificate_pem(der)).collect();
    staged.put(&files.chain, text.as_bytes(), Readers::Everybody, overwrite)?;
    if request.broken.is_none_or(Broken::is_ours) {
        let kind = match request.role {
            Role::Server => "server",
            Role::Client => "client",
        };
        let mut line = authority::issued(&chain[0], Signer::Intermediate, kind)?;
        line.broken = request.broken.map(|broken| broken.describe().to_owned());
        authority.registry.certificates.push(line);
        authority.registry.stage(&authority.dir, &mut staged, Overwrite::Yes)?;
    }
    staged.commit()?;
    Ok(files)
}

/// Parameters of a certificate without fault.
pub(super) fn params(
    request: &LeafRequest,
    authority: &Authority,
    now: OffsetDateTime,
) -> Result<CertificateParams, PkiError> {
    let mut name = DistinguishedName::new();
    let parts = [(DnType::OrganizationName, &request.o), (DnType::OrganizationalUnitName, &request.ou)];
    for (kind, value) in parts {
        if let Some(value) = value {
            name.push(kind, value);
        }
    }
    name.push(DnType::CommonName, &request.cn);
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.serial_number = Some(authority::new_serial()?);
    params.not_before = now - BACKDATED;
    params.not_after = (now + request.validity).min(authority.intermediate.not_after);
    params.subject_alt_names.clone_from(&request.alternative_names);
    // Says CA:FALSE and writes the subject key identifier.
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose(request.role)];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// The extended key usage that goes with a role.
pub(super) fn purpose(role: Role) -> ExtendedKeyUsagePurpose {
    match role {
        Role::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Role::Client => ExtendedKeyUsagePurpose::ClientAuth,
    }
}

/// The names that a server certificate is for.
pub(super) fn server_names(names: &[String]) -> Result<Vec<SanType>, PkiError> {
    names
        .iter()
        .map(|name| match name.parse::<IpAddr>() {
            Ok(ip) => Ok(SanType::IpAddress(ip)),
            Err(_) => dns_name(name),
        })
        .collect()
}

/// The subject alternative names of a client certificate, URIs first: the first of them becomes the identity.
pub(super) fn client_names(
    uris: &[String],
    dns: &[String],
    emails: &[String],
    ips: &[IpAddr],
) -> Result<Vec<SanType>, PkiError> {
    let uris = uris.iter().map(|uri| {
        let scheme = uri.split_once(':').map_or("", |(scheme, _)| scheme);
        let plausible = !scheme.is_empty() && uri.bytes().all(|byte| byte.is_ascii_graphic());
        named(uri, plausible, "URI", "write it with its scheme, such as spiffe://bank.example/payments")
            .map(SanType::URI)
    });
    let emails = emails.iter().map(|email| {
        let plausible = email.contains('@') && email.bytes().all(|byte| byte.is_ascii_graphic());
        named(email, plausible, "email address", "write it as local@domain, in ASCII").map(SanType::Rfc822Name)
    });
    let ips = ips.iter().map(|ip| Ok(SanType::IpAddress(*ip)));
    uris.chain(dns.iter().map(|name| dns_name(name))).chain(emails).chain(ips).collect()
}

fn dns_name(name: &str) -> Result<SanType, PkiError> {
    let base = name.strip_prefix("*.").unwrap_or(name);
    let plausible = rustls_pki_types::DnsName::try_from(base).is_ok();
    let help = "write letters, digits, hyphens and dots; other scripts in their xn-- form";
    named(name, plausible, "DNS name", help).map(SanType::DnsName)
}

fn named(text: &str, plausible: bool, kind: &str, help: &str) -> Result<Ia5String, PkiError> {
    Some(text)
        .filter(|_| plausible)
        .and_then(|text| Ia5String::try_from(text).ok())
        .ok_or_else(|| PkiError::usage(format!("\"{}\" is no {kind}", text.escape_debug()), help))
}

/// The stem of the files for a client of that name: what could leave the directory or hide the file is replaced.
pub(super) fn stem_of(name: &str) -> String {
    const STEM_CHARS_MAX: usize = 64;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._@-".contains(c);
    let stem: String = name.chars().take(STEM_CHARS_MAX).map(|c| if plain(c) { c } else { '_' }).collect();
    match stem.chars().next() {
        None | Some('.' | '-') => format!("_{stem}"),
        Some(_) => stem,
    }
}

fn refuse_reserved(stem: &Path, dir: &Path) -> Result<(), PkiError> {
    let parent = match stem.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let same_place = match (parent.canonicalize(), dir.canonicalize()) {
        (Ok(parent), Ok(dir)) => parent == dir,
        _ => false,
    };
    let reserved = stem.file_name().is_some_and(|name| RESERVED_STEMS.iter().any(|reserved| name == *reserved));
    if same_place && reserved {
        let message = format!("{}: that name belongs to the CA itself", stem.display());
        return Err(PkiError::usage(message, "choose another with --out"));
    }
    Ok(())
}

/// `stem` with more text: a dot in the name is no extension.
fn with_suffix(stem: &Path, suffix: &str) -> PathBuf {
    let mut path = OsString::from(stem);
    path.push(suffix);
    PathBuf::from(path)
}

/// The PEM form of `der`.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}
