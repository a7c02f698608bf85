//! A throw-away CA, and certificates as tests need them.

use super::support::{DAY, NOW, date};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose as Purpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A CA and a directory for the files of one test.
pub struct Pki {
    pub dir: tempfile::TempDir,
    pub ca: CertificateDer<'static>,
    pub issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key.
pub struct Leaf {
    pub der: CertificateDer<'static>,
    pub pem: String,
    pub key: KeyPair,
}

impl Leaf {
    pub fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.serialize_der().into())
    }
}

impl Pki {
    /// With `ca.pem`, `server.pem` and `server.key` for `a.test`, `b.test` and `*.wild.test`.
    pub fn new() -> Pki {
        let dir = tempfile::tempdir().unwrap();
        let mut params = named("Test Root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        valid(&mut params, NOW - 1000 * DAY, NOW + 1000 * DAY);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let pki = Pki { dir, ca: certificate.der().clone(), issuer };
        pki.write("ca.pem", &certificate.pem());
        pki.write_leaf("server", &pki.server(KeyPair::generate().unwrap()));
        pki
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).unwrap();
    }

    /// `NAME.pem` with the leaf alone, and `NAME.key`.
    pub fn write_leaf(&self, name: &str, leaf: &Leaf) {
        self.write(&format!("{name}.pem"), &leaf.pem);
        self.write(&format!("{name}.key"), &leaf.key.serialize_pem());
    }

    pub fn server(&self, key: KeyPair) -> Leaf {
        let mut params = named("server");
        params.subject_alt_names =
            ["a.test", "b.test", "*.wild.test"].map(|name| rcgen::SanType::DnsName(name.try_into().unwrap())).to_vec();
        params.extended_key_usages = vec![Purpose::ServerAuth];
        valid(&mut params, NOW - DAY, NOW + 365 * DAY);
        self.sign(&params, key)
    }

    /// Parameters of a good client; change them before [`Pki::sign`].
    pub fn client_params(&self, name: &str) -> CertificateParams {
        let mut params = named(name);
        params.extended_key_usages = vec![Purpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        valid(&mut params, NOW - DAY, NOW + 365 * DAY);
        params
    }

    pub fn client(&self, name: &str) -> Leaf {
        self.sign(&self.client_params(name), KeyPair::generate().unwrap())
    }

    pub fn sign(&self, params: &CertificateParams, key: KeyPair) -> Leaf {
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf { der: certificate.der().clone(), pem: certificate.pem(), key }
    }
}

pub fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

pub fn valid(params: &mut CertificateParams, from: u64, until: u64) {
    params.not_before = date(from);
    params.not_after = date(until);
}

pub fn pem_of(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// The same certificate without its version and extensions: X.509 version 1. The signature no longer fits.
pub fn version_1(der: &[u8]) -> Vec<u8> {
    let (_, outer) = tlv(der);
    let (_, to_sign) = tlv(outer);
    let behind = &outer[whole(outer)..];
    let mut fields = to_sign;
    let mut kept = Vec::new();
    while !fields.is_empty() {
        let (field, rest) = fields.split_at(whole(fields));
        // [0] is the version, [3] the extensions.
        if field[0] != 0xa0 && field[0] != 0xa3 {
            kept.extend_from_slice(field);
        }
        fields = rest;
    }
    sequence(&[&sequence(&kept), behind].concat())
}

/// Tag and content of the DER value at the front.
fn tlv(der: &[u8]) -> (u8, &[u8]) {
    let whole = whole(der);
    let head = whole - length(der).1;
    (der[0], &der[head..whole])
}

/// Bytes of the DER value at the front.
fn whole(der: &[u8]) -> usize {
    let (head, content) = length(der);
    head + content
}

fn length(der: &[u8]) -> (usize, usize) {
    match der[1] {
        short @ 0..0x80 => (2, usize::from(short)),
        long => {
            let bytes = usize::from(long & 0x7f);
            (2 + bytes, der[2..2 + bytes].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
        }
    }
}

fn sequence(content: &[u8]) -> Vec<u8> {
    let head = match content.len() {
        short @ 0..0x80 => vec![0x30, short as u8],
        middle @ 0x80..0x100 => vec![0x30, 0x81, middle as u8],
        long => vec![0x30, 0x82, (long >> 8) as u8, long as u8],
    };
    [&head[..], content].concat()
}
