//! A site's certificates with their keys: loaded, checked against each other and against the site's names.

use super::files;
use super::names::signature_algorithm_name;
use super::resolver::NotingKey;
use crate::config::{CertificateFiles, Fault, SiteName};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls::{Error, SignatureAlgorithm};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::path::Path;
use std::sync::Arc;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Version};
use x509_parser::public_key::PublicKey;

/// What PROXY headers, metrics and `certs` tell of one of our own certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerCertificate {
    pub subject: String,
    /// Lower-case hex, at least two digits.
    pub serial: String,
    /// Seconds since the Unix epoch.
    pub not_before: i64,
    pub not_after: i64,
    /// DNS names, lower case.
    pub names: Vec<String>,
    /// OpenSSL's name of the algorithm that signed it, such as `ecdsa-with-SHA256` (TLV 0x24).
    pub signature_algorithm: &'static str,
    /// Its key, such as `RSA2048` or `EC256` (TLV 0x25).
    pub key_algorithm: String,
    /// The file it came from.
    pub file: std::path::PathBuf,
}

/// One certificate with its key, ready for rustls.
#[derive(Debug)]
pub(super) struct Credentials {
    pub certified: CertifiedKey,
    pub facts: ServerCertificate,
}

impl Credentials {
    /// Loads one `certificate` entry. Warnings go to `warnings`.
    pub(super) fn load(
        files: &CertificateFiles,
        names: &[SiteName],
        now: UnixTime,
        provider: &CryptoProvider,
        warnings: &mut Vec<Fault>,
    ) -> Result<Credentials, Vec<Fault>> {
        let chain = files::read_chain(&files.chain, "site.certificate.chain");
        let key = files::read_key(&files.key, "site.certificate.key");
        let ocsp = files.ocsp.as_deref().map(|path| files::read_ocsp(path, "site.certificate.ocsp")).transpose();
        let (chain, key, ocsp) = match (chain, key, ocsp) {
            (Ok(chain), Ok(key), Ok(ocsp)) => (chain, key, ocsp),
            (chain, key, ocsp) => return Err([chain.err(), key.err(), ocsp.err()].into_iter().flatten().collect()),
        };
        let facts = check_chain(&chain, &files.chain).map_err(|fault| vec![fault])?;
        warn_of(&facts, names, now, warnings);
        warn_of_purpose(&chain, &files.chain, warnings);
        let signing = provider.key_provider.load_private_key(key).map_err(|_| vec![unusable_key(&files.key)])?;
        let mut certified = CertifiedKey::new(chain, Arc::new(NotingKey(signing)));
        certified.keys_match().map_err(|error| vec![mismatch(files, &error)])?;
        certified.ocsp = ocsp;
        Ok(Credentials { certified, facts })
    }

    /// Cheap signatures first, RSA last.
    pub(super) fn rank(&self) -> u8 {
        match self.certified.key.algorithm() {
            SignatureAlgorithm::ECDSA => 0,
            SignatureAlgorithm::ED25519 => 1,
            SignatureAlgorithm::RSA => 3,
            _ => 2,
        }
    }
}

fn unusable_key(path: &Path) -> Fault {
    Fault::config(
        "site.certificate.key",
        "no key of a kind that TLS uses here",
        "use RSA of at least 2048 bits, ECDSA on P-256, P-384 or P-521, or Ed25519",
    )
    .at(path)
}

fn mismatch(files: &CertificateFiles, error: &Error) -> Fault {
    let (message, help) = match error {
        Error::InconsistentKeys(_) => (
            format!("the key does not belong to the first certificate of {}", files.chain.display()),
            "give the key that the certificate was issued for; in the chain file the server's certificate comes first",
        ),
        other => (format!("the certificate of this key cannot be used: {other}"), "have it issued again"),
    };
    Fault::config("site.certificate.key", &message, help).at(&files.key)
}

/// Every certificate parses, the leaf is one that rustls takes, and each next one issued the one before it.
fn check_chain(chain: &[CertificateDer<'_>], path: &Path) -> Result<ServerCertificate, Fault> {
    let fault = |message: &str, help: &str| Fault::config("site.certificate.chain", message, help).at(path);
    let mut parsed = Vec::new();
    for (i, der) in chain.iter().enumerate() {
        let certificate = X509Certificate::from_der(der).map_err(|_| {
            fault(&format!("certificate {} of the file is not well formed", i + 1), "copy or issue it again")
        })?;
        parsed.push(certificate.1);
    }
    let Some(leaf) = parsed.first() else { return Err(fault("no certificate in the file", "name the right file")) };
    if leaf.version() != X509Version::V3 {
        return Err(fault(
            "the server's certificate is X.509 version 1, which TLS clients refuse",
            "issue a version 3 one: `openssl x509 -req … -extfile san.cnf` with a line `subjectAltName=DNS:your.name` \
             in san.cnf, or `countersign pki server`",
        ));
    }
    if let Err(error) = webpki::EndEntityCert::try_from(&chain[0]) {
        return Err(fault(&format!("the server's certificate cannot be used: {error}"), "have it issued again"));
    }
    for (i, pair) in parsed.windows(2).enumerate() {
        if pair[0].issuer().as_raw() != pair[1].subject().as_raw() {
            return Err(fault(
                &format!(
                    "certificate {} ({}) did not issue certificate {} ({})",
                    i + 2,
                    pair[1].subject(),
                    i + 1,
                    pair[0].subject()
                ),
                "put the server's certificate first, then each one that issued the one before it, and no others",
            ));
        }
    }
    Ok(facts_of(leaf, path))
}

fn facts_of(leaf: &X509Certificate<'_>, path: &Path) -> ServerCertificate {
    let names = match leaf.subject_alternative_name() {
        Ok(Some(san)) => san
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    ServerCertificate {
        subject: leaf.subject().to_string(),
        serial: format!("{:02x}", leaf.serial),
        not_before: leaf.validity().not_before.timestamp(),
        not_after: leaf.validity().not_after.timestamp(),
        names,
        signature_algorithm: signature_algorithm_name(&leaf.signature_algorithm.algorithm.to_id_string()),
        key_algorithm: key_algorithm_name(leaf),
        file: path.to_owned(),
    }
}

fn key_algorithm_name(leaf: &X509Certificate<'_>) -> String {
    match leaf.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => format!("RSA{}", key.key_size()),
        // An uncompressed point is one byte and two coordinates; P-521's have 66 bytes.
        Ok(PublicKey::EC(point)) => match point.data().len() {
            65 => "EC256".to_owned(),
            97 => "EC384".to_owned(),
            133 => "EC521".to_owned(),
            _ => "EC".to_owned(),
        },
        _ => match signature_algorithm_name(&leaf.public_key().algorithm.algorithm.to_id_string()) {
            "UNDEF" => "UNKNOWN".to_owned(),
            name => name.to_owned(),
        },
    }
}

fn warn_of(facts: &ServerCertificate, names: &[SiteName], now: UnixTime, warnings: &mut Vec<Fault>) {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let mut warn = |message: &str, help: &str| {
        warnings.push(Fault::warning("site.certificate.chain", message, help).at(&facts.file));
    };
    if now > facts.not_after {
        warn("the server's certificate has expired", "renew it; clients refuse it");
    } else if now < facts.not_before {
        warn("the server's certificate is not valid yet", "wait, or set the clock; clients refuse it");
    }
    if facts.names.is_empty() {
        warn(
            "the server's certificate has no DNS name in subjectAltName",
            "have it issued with one; most clients look at nothing else",
        );
        return;
    }
    for name in names {
        let (text, covered) = match name {
            SiteName::Exact(name) => (name.clone(), facts.names.iter().any(|san| covers(san, name))),
            SiteName::Wildcard(rest) => {
                let wildcard = format!("*.{rest}");
                let covered = facts.names.contains(&wildcard);
                (wildcard, covered)
            }
        };
        if !covered {
            warn(
                &format!("the server's certificate does not cover {text}"),
                "add the name to the certificate, or take it out of `names`",
            );
        }
    }
}

/// Whether this subjectAltName stands for the name: equal, or `*.` and one label more.
fn covers(san: &str, name: &str) -> bool {
    let name = name.trim_end_matches('.');
    let rest = name.split_once('.').map(|(_, rest)| rest);
    san == name || san.strip_prefix("*.").is_some_and(|suffix| rest == Some(suffix))
}

fn warn_of_purpose(chain: &[CertificateDer<'_>], path: &Path, warnings: &mut Vec<Fault>) {
    let Some(Ok((_, leaf))) = chain.first().map(|der| X509Certificate::from_der(der)) else { return };
    if let Ok(Some(usage)) = leaf.extended_key_usage()
        && !usage.value.server_auth
        && !usage.value.any
    {
        let message = "the server's certificate is not for servers: its extended key usage lacks serverAuth";
        warnings.push(
            Fault::warning("site.certificate.chain", message, "have it issued for serverAuth; most clients refuse it")
                .at(path),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_covers_one_label_and_no_more() {
        assert!(covers("a.example", "a.example"));
        assert!(covers("*.example", "a.example"));
        assert!(!covers("*.example", "b.a.example"));
        assert!(!covers("*.example", "example"));
        assert!(!covers("a.example", "b.example"));
    }
}
