//! The suite's own certificates, made by rcgen and not by the product, so that a fault of the product's `pki` cannot
//! hide one of its verification.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, RsaKeySize,
    SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::path::{Path, PathBuf};
use time::{Duration, OffsetDateTime};

/// Which key a certificate has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    Ecdsa,
    Rsa,
}

impl KeyKind {
    fn generate(self) -> KeyPair {
        match self {
            KeyKind::Ecdsa => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap(),
            KeyKind::Rsa => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap(),
        }
    }
}

/// A certification authority that signs whatever a test asks of it.
pub struct Ca {
    params: CertificateParams,
    key: KeyPair,
    pub der: CertificateDer<'static>,
    pub pem: String,
}

/// What a leaf says; the fields are the few that tests vary.
#[derive(Debug, Clone)]
pub struct LeafSpec {
    pub cn: Option<String>,
    pub ou: Option<String>,
    pub uris: Vec<String>,
    pub dns: Vec<String>,
    pub emails: Vec<String>,
    pub ips: Vec<std::net::IpAddr>,
    pub purposes: Vec<ExtendedKeyUsagePurpose>,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
    pub serial: u64,
    pub key: KeyKind,
}

impl LeafSpec {
    /// A client leaf that is good for a month.
    pub fn client(cn: &str) -> LeafSpec {
        let now = OffsetDateTime::now_utc();
        LeafSpec {
            cn: Some(cn.to_owned()),
            ou: None,
            uris: Vec::new(),
            dns: Vec::new(),
            emails: Vec::new(),
            ips: Vec::new(),
            purposes: vec![ExtendedKeyUsagePurpose::ClientAuth],
            not_before: now - Duration::hours(1),
            not_after: now + Duration::days(30),
            serial: 0x03a5b1,
            key: KeyKind::Ecdsa,
        }
    }

    /// A server leaf for `names`, and for 127.0.0.1 so that programs may connect by address.
    pub fn server(names: &[&str], key: KeyKind) -> LeafSpec {
        LeafSpec {
            dns: names.iter().map(|name| (*name).to_owned()).collect(),
            ips: vec![std::net::Ipv4Addr::LOCALHOST.into(), std::net::Ipv6Addr::LOCALHOST.into()],
            purposes: vec![ExtendedKeyUsagePurpose::ServerAuth],
            key,
            ..LeafSpec::client(names[0])
        }
    }

    pub fn uri(mut self, uri: &str) -> LeafSpec {
        self.uris.push(uri.to_owned());
        self
    }

    pub fn dns(mut self, name: &str) -> LeafSpec {
        self.dns.push(name.to_owned());
        self
    }

    pub fn valid(mut self, not_before: OffsetDateTime, not_after: OffsetDateTime) -> LeafSpec {
        (self.not_before, self.not_after) = (not_before, not_after);
        self
    }

    pub fn purposes(mut self, purposes: &[ExtendedKeyUsagePurpose]) -> LeafSpec {
        self.purposes = purposes.to_vec();
        self
    }

    pub fn key(mut self, key: KeyKind) -> LeafSpec {
        self.key = key;
        self
    }

    pub fn serial(mut self, serial: u64) -> LeafSpec {
        self.serial = serial;
        self
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in [(DnType::OrganizationalUnitName, &self.ou), (DnType::CommonName, &self.cn)] {
            if let Some(value) = value {
                params.distinguished_name.push(kind, value.as_str());
            }
        }
        let names = self.uris.iter().map(|uri| SanType::URI(uri.as_str().try_into().unwrap()));
        let names = names.chain(self.dns.iter().map(|name| SanType::DnsName(name.as_str().try_into().unwrap())));
        let names = names.chain(self.emails.iter().map(|mail| SanType::Rfc822Name(mail.as_str().try_into().unwrap())));
        params.subject_alt_names = names.chain(self.ips.iter().map(|ip| SanType::IpAddress(*ip))).collect();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = self.purposes.clone();
        params.not_before = self.not_before;
        params.not_after = self.not_after;
        params.serial_number = Some(SerialNumber::from(self.serial));
        params.use_authority_key_identifier_extension = true;
        params
    }
}

/// A chain with the key of its first certificate.
pub struct Credential {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    key_pem: String,
}

impl Clone for Credential {
    fn clone(&self) -> Credential {
        Credential { chain: self.chain.clone(), key: self.key.clone_key(), key_pem: self.key_pem.clone() }
    }
}

/// Where a [`Credential`] lies as two PEM files.
#[derive(Debug, Clone)]
pub struct CredentialFiles {
    pub chain: PathBuf,
    pub key: PathBuf,
}

impl Credential {
    fn new(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Credential {
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Credential { chain, key: der, key_pem: key.serialize_pem() }
    }

    /// Reads a chain and a key that another program made.
    pub fn from_files(chain: &Path, key: &Path) -> Credential {
        use rustls_pki_types::pem::PemObject;
        let key_pem = std::fs::read_to_string(key).unwrap();
        Credential {
            chain: CertificateDer::pem_file_iter(chain).unwrap().map(Result::unwrap).collect(),
            key: PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap(),
            key_pem,
        }
    }

    /// The same leaf with these certificates after it.
    pub fn with_rest(&self, rest: &[&CertificateDer<'static>]) -> Credential {
        let mut other = self.clone();
        other.chain.truncate(1);
        other.chain.extend(rest.iter().map(|der| (*der).clone()));
        other
    }

    /// Writes `NAME.pem` and `NAME.key` into `dir`.
    pub fn write(&self, dir: &Path, name: &str) -> CredentialFiles {
        let files = CredentialFiles { chain: dir.join(format!("{name}.pem")), key: dir.join(format!("{name}.key")) };
        std::fs::write(&files.chain, chain_pem(&self.chain)).unwrap();
        std::fs::write(&files.key, &self.key_pem).unwrap();
        files
    }

    /// SHA-256 of the leaf's SubjectPublicKeyInfo in lower-case hex.
    pub fn spki_sha256(&self) -> String {
        use x509_parser::prelude::{FromDer, X509Certificate};
        let (_, leaf) = X509Certificate::from_der(&self.chain[0]).unwrap();
        hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, leaf.public_key().raw))
    }

    /// SHA-256 of the leaf in lower-case hex.
    pub fn sha256(&self) -> String {
        hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.chain[0]))
    }
}

/// Certificates as one PEM text.
pub fn chain_pem(chain: &[CertificateDer<'static>]) -> String {
    use base64::Engine;
    let mut text = String::new();
    for der in chain {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in base64::engine::general_purpose::STANDARD.encode(der).as_bytes().chunks(64) {
            text.push_str(std::str::from_utf8(line).unwrap());
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

fn ca_params(cn: &str) -> CertificateParams {
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, cn);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = now - Duration::days(1);
    params.not_after = now + Duration::days(365);
    params
}

impl Ca {
    /// A self-signed root.
    pub fn root(cn: &str) -> Ca {
        Ca::root_with(cn, KeyKind::Ecdsa)
    }

    pub fn root_with(cn: &str, kind: KeyKind) -> Ca {
        let (params, key) = (ca_params(cn), kind.generate());
        let certificate = params.self_signed(&key).unwrap();
        Ca { params, key, der: certificate.der().clone(), pem: certificate.pem() }
    }

    /// An authority below this one.
    pub fn intermediate(&self, cn: &str) -> Ca {
        self.intermediate_with(cn, |_| ())
    }

    /// The same with whatever `change` makes of it.
    pub fn intermediate_with(&self, cn: &str, change: impl FnOnce(&mut CertificateParams)) -> Ca {
        let mut params = ca_params(cn);
        params.use_authority_key_identifier_extension = true;
        change(&mut params);
        let key = KeyKind::Ecdsa.generate();
        let certificate = params.signed_by(&key, &self.issuer()).unwrap();
        Ca { params, key, der: certificate.der().clone(), pem: certificate.pem() }
    }

    /// Signs a leaf; the chain holds the leaf alone.
    pub fn leaf(&self, spec: &LeafSpec) -> Credential {
        self.leaf_with(spec, |_| ())
    }

    /// The same with whatever `change` makes of it.
    pub fn leaf_with(&self, spec: &LeafSpec, change: impl FnOnce(&mut CertificateParams)) -> Credential {
        let (key, mut params) = (spec.key.generate(), spec.params());
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer()).unwrap();
        Credential::new(vec![certificate.der().clone()], &key)
    }

    /// Its own certificate and key, for a client that comes with them.
    pub fn as_client(&self) -> Credential {
        Credential::new(vec![self.der.clone()], &self.key)
    }

    /// A CRL of the `number`-th issue, good for a month, that revokes these serial numbers; PEM.
    pub fn crl(&self, number: u64, revoked: &[u64]) -> String {
        let now = OffsetDateTime::now_utc();
        let entry = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now - Duration::hours(1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: now - Duration::hours(1),
            next_update: now + Duration::days(30),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer()).unwrap().pem().unwrap()
    }

    pub fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }
}

/// A leaf signed by its own key.
pub fn self_signed(spec: &LeafSpec) -> Credential {
    let key = spec.key.generate();
    let certificate = spec.params().self_signed(&key).unwrap();
    Credential::new(vec![certificate.der().clone()], &key)
}

/// What most tests need: an authority for servers, one for clients, and a leaf of each.
pub struct Pki {
    pub server_ca: Ca,
    pub client_ca: Ca,
    pub server: Credential,
    pub client: Credential,
}

/// The URI that names the standard client.
pub const CLIENT_URI: &str = "spiffe://bank.example/payments/acme";
/// The identity that the audit must print for it.
pub const CLIENT_IDENTITY: &str = "uri:spiffe://bank.example/payments/acme";
/// Its common name.
pub const CLIENT_CN: &str = "acme-payments";
/// The name the standard server leaf is for.
pub const SERVER_NAME: &str = "localhost";

impl Pki {
    pub fn new() -> Pki {
        let (server_ca, client_ca) = (Ca::root("Test server CA"), Ca::root("Test client CA"));
        let server = server_ca.leaf(&LeafSpec::server(&[SERVER_NAME], KeyKind::Ecdsa));
        let client = client_ca.leaf(&LeafSpec::client(CLIENT_CN).uri(CLIENT_URI));
        Pki { server_ca, client_ca, server, client }
    }
}
