//! Certificates and CRLs that fit together, byte for byte the same in every run: Ed25519 signatures have no randomness,
//! and keys, serial numbers and dates are fixed. The keys protect nothing.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose as Purpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use std::time::Duration;
use time::OffsetDateTime;

/// The moment at which all of it is looked at: 2027-01-15, 08:00.
pub const NOW: u64 = 1_800_000_000;
const DAY: i64 = 86_400;

pub fn unix(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn date(days: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW as i64 + days * DAY).expect("within the calendar")
}

/// The key whose seed is this byte.
pub fn key(seed: u8) -> KeyPair {
    let mut pkcs8 = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    pkcs8.extend([seed; 32]);
    KeyPair::try_from(pkcs8).expect("an Ed25519 key")
}

/// A certificate, its key, and what it signs with.
pub struct Entity {
    pub der: CertificateDer<'static>,
    pub key: KeyPair,
    params: CertificateParams,
}

impl Entity {
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.serialize_der().into())
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    /// Signs for the key of this seed, which is the serial number too.
    pub fn sign(&self, seed: u8, params: CertificateParams) -> Entity {
        let key = key(seed);
        let der = params.signed_by(&key, &self.issuer()).expect("signs").der().clone();
        Entity { der, key, params }
    }

    /// A CRL of this CA that names these serial numbers.
    pub fn crl(&self, number: u64, from_day: i64, to_day: i64, revoked: &[u8]) -> Vec<u8> {
        let entry = |serial: &u8| RevokedCertParams {
            serial_number: SerialNumber::from(vec![*serial]),
            revocation_time: date(-3),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date(from_day),
            next_update: date(to_day),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer()).expect("signs").der().to_vec()
    }
}

pub fn params(name: &str, seed: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from(vec![seed]));
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (date(-30), date(300));
    params
}

fn ca(name: &str, seed: u8) -> CertificateParams {
    let mut params = params(name, seed);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

pub fn client(name: &str, seed: u8) -> CertificateParams {
    let mut params = params(name, seed);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![Purpose::ClientAuth];
    let uri = format!("spiffe://bank.example/{name}");
    params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().expect("ASCII"))];
    params
}

/// All of it.
pub struct Pki {
    pub root: Entity,
    pub intermediate: Entity,
    pub server: Entity,
    /// Under the intermediate, and good.
    pub good: Entity,
    /// Right under the root, and good.
    pub direct: Entity,
    /// Under the intermediate; the CRL names it.
    pub revoked: Entity,
    pub expired: Entity,
    /// Good for servers alone.
    pub wrong_purpose: Entity,
    /// A root of the same name as ours under another key, and a client of it.
    pub false_root: Entity,
    pub stranger: Entity,
}

const REVOKED_SERIAL: u8 = 13;

impl Pki {
    pub fn new() -> Pki {
        let self_signed = |name, seed, key_seed| {
            let (params, key) = (ca(name, seed), key(key_seed));
            let der = params.self_signed(&key).expect("signs").der().clone();
            Entity { der, key, params }
        };
        let root = self_signed("Root", 1, 1);
        let intermediate = root.sign(2, ca("Intermediate", 2));
        let false_root = self_signed("Root", 1, 20);
        let mut server = params("server", 3);
        server.extended_key_usages = vec![Purpose::ServerAuth];
        server.subject_alt_names =
            ["a.test", "b.test", "*.wild.test"].map(|name| SanType::DnsName(name.try_into().expect("ASCII"))).to_vec();
        let mut expired = client("expired", 14);
        expired.not_after = date(-1);
        let mut wrong_purpose = client("server too", 15);
        wrong_purpose.subject_alt_names.clear();
        wrong_purpose.extended_key_usages = vec![Purpose::ServerAuth];
        Pki {
            server: root.sign(3, server),
            good: intermediate.sign(11, client("good", 11)),
            direct: root.sign(12, client("direct", 12)),
            revoked: intermediate.sign(REVOKED_SERIAL, client("revoked", REVOKED_SERIAL)),
            expired: intermediate.sign(14, expired),
            wrong_purpose: intermediate.sign(15, wrong_purpose),
            stranger: false_root.sign(16, client("stranger", 16)),
            root,
            intermediate,
            false_root,
        }
    }

    /// CRLs of the root, of the intermediate, an older one of the same, one of the same that has a higher number and ran
    /// out, and one of the false root. All of the intermediate's name the revoked client.
    pub fn crls(&self) -> Vec<Vec<u8>> {
        vec![
            self.root.crl(1, -1, 7, &[]),
            self.intermediate.crl(2, -1, 7, &[99, REVOKED_SERIAL]),
            self.intermediate.crl(1, -9, 3, &[REVOKED_SERIAL]),
            self.intermediate.crl(3, -9, -2, &[REVOKED_SERIAL]),
            self.false_root.crl(9, -1, 7, &[]),
        ]
    }

    /// Every certificate, for mixing.
    pub fn all(&self) -> [&Entity; 10] {
        [
            &self.good,
            &self.intermediate,
            &self.direct,
            &self.root,
            &self.revoked,
            &self.expired,
            &self.wrong_purpose,
            &self.stranger,
            &self.false_root,
            &self.server,
        ]
    }
}

impl Default for Pki {
    fn default() -> Pki {
        Pki::new()
    }
}

/// One PEM block.
pub fn pem(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----\n");
    for (i, three) in der.chunks(3).enumerate() {
        let bits = three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 63;
            text.push(if digit <= three.len() { char::from(DIGITS[value as usize]) } else { '=' });
        }
        if i % 16 == 15 {
            text.push('\n');
        }
    }
    text + &format!("\n-----END {label}-----\n")
}
