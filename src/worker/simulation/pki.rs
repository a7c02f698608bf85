//! Certificates of the simulated world, made once for a process. All keys are Ed25519: its signatures have one length, so
//! that a seed cuts the same bytes at the same places whenever it runs.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose as Purpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ED25519, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::sync::OnceLock;
use time::OffsetDateTime;

/// When every simulation begins: 2027-01-15.
pub const BEGIN: u64 = 1_800_000_000;
const YEAR: u64 = 365 * 24 * 3600;

/// A certificate with its key.
pub struct Leaf {
    pub der: CertificateDer<'static>,
    pem: String,
    key: KeyPair,
}

/// All of them.
pub struct Pki {
    pub ca: CertificateDer<'static>,
    ca_pem: String,
    /// Of a CA that has issued nothing.
    barren_pem: String,
    server: Leaf,
    pub client: Leaf,
    /// Of a CA that nobody trusts.
    pub stranger: Leaf,
    pub expired: Leaf,
}

impl Leaf {
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.serialize_der().into())
    }
}

impl Pki {
    pub fn of_process() -> &'static Pki {
        static PKI: OnceLock<Pki> = OnceLock::new();
        PKI.get_or_init(Pki::new)
    }

    fn new() -> Pki {
        let (ca_der, ca_pem, ca) = authority("Simulated CA");
        let (_, _, other) = authority("Another CA");
        let (_, barren_pem, _) = authority("Barren CA");
        let valid = (BEGIN - YEAR, BEGIN + 10 * YEAR);
        Pki {
            ca: ca_der,
            ca_pem,
            barren_pem,
            server: leaf("server", 1, valid, Purpose::ServerAuth, &ca),
            client: leaf("client", 2, valid, Purpose::ClientAuth, &ca),
            stranger: leaf("stranger", 3, valid, Purpose::ClientAuth, &other),
            expired: leaf("expired", 4, (BEGIN - YEAR, BEGIN - YEAR / 2), Purpose::ClientAuth, &ca),
        }
    }

    /// Writes the files that the configuration names.
    pub fn write(&self, dir: &Path) {
        let files = [
            ("ca.pem", &self.ca_pem),
            ("barren.pem", &self.barren_pem),
            ("server.pem", &self.server.pem),
            ("server.key", &self.server.key.serialize_pem()),
        ];
        for (name, text) in files {
            std::fs::write(dir.join(name), text).unwrap();
        }
    }
}

fn authority(name: &str) -> (CertificateDer<'static>, String, Issuer<'static, KeyPair>) {
    let mut params = params(name, (BEGIN - 2 * YEAR, BEGIN + 20 * YEAR));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.der().clone(), certificate.pem(), Issuer::new(params, key))
}

fn leaf(name: &str, serial: u64, valid: (u64, u64), purpose: Purpose, issuer: &Issuer<'static, KeyPair>) -> Leaf {
    let mut params = params(name, valid);
    if purpose == Purpose::ServerAuth {
        params.subject_alt_names = vec![SanType::DnsName("*.sim.test".try_into().unwrap())];
    }
    params.serial_number = Some(SerialNumber::from(serial));
    params.extended_key_usages = vec![purpose];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    Leaf { der: certificate.der().clone(), pem: certificate.pem(), key }
}

fn params(name: &str, (from, until): (u64, u64)) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let date = |secs: u64| OffsetDateTime::from_unix_timestamp(secs as i64).unwrap();
    (params.not_before, params.not_after) = (date(from), date(until));
    params
}
