//! A small PKI for the tests: certificates by rcgen, and raw DER for what rcgen would not make.

use crate::config::{
    self, Advertise, Auth, Authority, Client, Condition, CrlExpired, CrlMissing, CrlScope, Fault, Rule,
};
use crate::trust::{Decision, Loader, Policy, Presented, Reason, evaluate};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber, SigningKey,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use time::OffsetDateTime;

/// Midnight of 2027-01-15 and eight hours.
pub const NOW: i64 = 1_800_000_000;
pub const DAY: i64 = 86_400;

pub fn at(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds as u64))
}

fn moment(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap()
}

/// A CA with its key.
pub struct Ca {
    pub params: CertificateParams,
    pub key: KeyPair,
    pub der: CertificateDer<'static>,
}

/// A client's certificate.
pub type Cert = CertificateDer<'static>;

static SERIALS: AtomicU64 = AtomicU64::new(0x1000);

pub fn params(cn: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, cn);
    params.not_before = moment(NOW - 365 * DAY);
    params.not_after = moment(NOW + 365 * DAY);
    params.serial_number = Some(SerialNumber::from(SERIALS.fetch_add(1, Ordering::Relaxed)));
    params
}

pub fn ca_params(cn: &str) -> CertificateParams {
    let mut params = params(cn);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}

pub fn client_params(cn: &str) -> CertificateParams {
    let mut params = params(cn);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params
}

pub fn dates(params: &mut CertificateParams, from: i64, to: i64) {
    params.not_before = moment(from);
    params.not_after = moment(to);
}

pub fn san(params: &mut CertificateParams, kind: &str, value: &str) {
    params.subject_alt_names.push(match kind {
        "uri" => SanType::URI(value.try_into().unwrap()),
        "dns" => SanType::DnsName(value.try_into().unwrap()),
        "email" => SanType::Rfc822Name(value.try_into().unwrap()),
        "ip" => SanType::IpAddress(value.parse().unwrap()),
        other => panic!("no SAN kind {other}"),
    });
}

pub fn extension(params: &mut CertificateParams, oid: &[u64], critical: bool, content: Vec<u8>) {
    let mut extension = CustomExtension::from_oid_content(oid, content);
    extension.set_criticality(critical);
    params.custom_extensions.push(extension);
}

impl Ca {
    pub fn root(cn: &str) -> Ca {
        Ca::root_with(cn, |_| {})
    }

    pub fn root_with(cn: &str, change: impl FnOnce(&mut CertificateParams)) -> Ca {
        let mut params = ca_params(cn);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        Ca { params, key, der }
    }

    /// A CA under this one.
    pub fn ca(&self, cn: &str) -> Ca {
        self.ca_with(cn, |_| {})
    }

    pub fn ca_with(&self, cn: &str, change: impl FnOnce(&mut CertificateParams)) -> Ca {
        let mut params = ca_params(cn);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let der = self.sign(&params, &key);
        Ca { params, key, der }
    }

    /// The CA `other` certified by this one.
    pub fn cross_sign(&self, other: &Ca) -> Cert {
        self.sign(&other.params, &other.key)
    }

    pub fn sign(&self, params: &CertificateParams, key: &KeyPair) -> Cert {
        let issuer = Issuer::from_params(&self.params, &self.key);
        params.signed_by(key, &issuer).unwrap().der().clone()
    }

    pub fn client(&self, cn: &str) -> Cert {
        self.client_with(cn, |_| {})
    }

    pub fn client_with(&self, cn: &str, change: impl FnOnce(&mut CertificateParams)) -> Cert {
        let mut params = client_params(cn);
        change(&mut params);
        self.sign(&params, &KeyPair::generate().unwrap())
    }

    /// A CRL of this CA that names these certificates.
    pub fn crl(&self, revoked: &[&Cert]) -> Vec<u8> {
        Crl::of(self).revoke(revoked).sign()
    }

    /// Content of the subject's SEQUENCE.
    pub fn name(&self) -> Vec<u8> {
        parse(&self.der).subject.to_vec()
    }
}

pub(in crate::trust) fn parse(der: &Cert) -> crate::trust::certificate::Certificate<'_> {
    crate::trust::certificate::Certificate::parse(der).unwrap()
}

/// A DER value of these parts.
pub fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    match content.len() {
        short @ 0..=127 => out.push(short as u8),
        long => {
            let bytes = long.to_be_bytes();
            let digits = &bytes[bytes.iter().position(|byte| *byte != 0).unwrap()..];
            out.push(0x80 | digits.len() as u8);
            out.extend(digits);
        }
    }
    out.extend(content);
    out
}

pub fn oid(dotted: &str) -> Vec<u8> {
    tlv(0x06, &[&crate::trust::name::encode_oid(dotted).unwrap()])
}

pub fn utc(seconds: i64) -> Vec<u8> {
    let moment = moment(seconds);
    let text = format!(
        "{:02}{:02}{:02}{:02}{:02}{:02}Z",
        moment.year() % 100,
        u8::from(moment.month()),
        moment.day(),
        moment.hour(),
        moment.minute(),
        moment.second()
    );
    tlv(0x17, &[text.as_bytes()])
}

/// An extension of a certificate, a CRL or a CRL entry.
pub fn raw_extension(dotted: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    let flag: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    tlv(0x30, &[&oid(dotted), flag, &tlv(0x04, &[value])])
}

/// `SEQUENCE { tbs, ecdsa-with-SHA256, signature }`.
pub fn signed(tbs: &[u8], key: &KeyPair) -> Vec<u8> {
    let signature = key.sign(tbs).unwrap();
    tlv(0x30, &[tbs, &algorithm(), &tlv(0x03, &[&[0], &signature])])
}

pub fn algorithm() -> Vec<u8> {
    tlv(0x30, &[&oid("1.2.840.10045.4.3.2")])
}

/// A CRL in raw DER, so that every wrong one can be made.
pub struct Crl<'c> {
    ca: &'c Ca,
    pub version: Option<u8>,
    pub this_update: i64,
    pub next_update: Option<i64>,
    pub entries: Vec<Vec<u8>>,
    pub number: Option<u32>,
    pub extensions: Vec<Vec<u8>>,
}

impl<'c> Crl<'c> {
    pub fn of(ca: &'c Ca) -> Crl<'c> {
        Crl {
            ca,
            version: Some(1),
            this_update: NOW - DAY,
            next_update: Some(NOW + 7 * DAY),
            entries: Vec::new(),
            number: Some(1),
            extensions: Vec::new(),
        }
    }

    pub fn revoke(mut self, revoked: &[&Cert]) -> Self {
        for certificate in revoked {
            self.entries.push(entry(parse(certificate).serial, &[]));
        }
        self
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub fn sign(&self) -> Vec<u8> {
        self.sign_with(&self.ca.key)
    }

    pub fn sign_with(&self, key: &KeyPair) -> Vec<u8> {
        let mut extensions = self.extensions.clone();
        if let Some(number) = self.number {
            let bytes = number.to_be_bytes();
            extensions.push(raw_extension("2.5.29.20", false, &tlv(0x02, &[&[0], &bytes])));
        }
        let all = tlv(0xa0, &[&tlv(0x30, &[&extensions.concat()])]);
        let tbs = tlv(
            0x30,
            &[
                &self.version.map(|version| tlv(0x02, &[&[version]])).unwrap_or_default(),
                &algorithm(),
                &tlv(0x30, &[&self.ca.name()]),
                &utc(self.this_update),
                &self.next_update.map(utc).unwrap_or_default(),
                &if self.entries.is_empty() { vec![] } else { tlv(0x30, &[&self.entries.concat()]) },
                if extensions.is_empty() { &[] } else { &all },
            ],
        );
        signed(&tbs, key)
    }
}

/// One entry of a CRL.
pub fn entry(serial: &[u8], extensions: &[Vec<u8>]) -> Vec<u8> {
    let list = if extensions.is_empty() { vec![] } else { tlv(0x30, &[&extensions.concat()]) };
    tlv(0x30, &[&tlv(0x02, &[serial]), &utc(NOW - 10 * DAY), &list])
}

/// A site's `client` table and the files it names.
pub struct Setup {
    dir: TempDir,
    pub client: Client,
    pub chain_bytes_max: usize,
    pub chain_certificates_max: usize,
    pub site_name: &'static str,
    files: usize,
}

impl Setup {
    pub fn new(trust: &[&Ca]) -> Setup {
        let mut setup = Setup::bare();
        setup.client.authorities.push(authority());
        let ders: Vec<&[u8]> = trust.iter().map(|ca| ca.der.as_ref()).collect();
        let file = setup.file("CERTIFICATE", &ders);
        setup.client.authorities[0].trust.push(file);
        setup
    }

    pub fn bare() -> Setup {
        Setup {
            dir: tempfile::tempdir().unwrap(),
            client: Client {
                auth: Auth::Require,
                advertise: Advertise::Trust,
                intermediates: vec![],
                crl_scope: CrlScope::Chain,
                max_depth: 4,
                authorities: vec![],
            },
            chain_bytes_max: 32 << 10,
            chain_certificates_max: 8,
            site_name: "payments",
            files: 0,
        }
    }

    /// Writes a PEM file of these values.
    pub fn file(&mut self, label: &str, values: &[&[u8]]) -> PathBuf {
        let mut text = String::new();
        for der in values {
            use base64::Engine;
            let base64 = base64::engine::general_purpose::STANDARD.encode(der);
            text.push_str(&format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n"));
        }
        self.raw_file(text.as_bytes())
    }

    pub fn raw_file(&mut self, bytes: &[u8]) -> PathBuf {
        self.files += 1;
        let path = self.dir.path().join(format!("{}.pem", self.files));
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub fn with(mut self, change: impl FnOnce(&mut Setup)) -> Setup {
        change(&mut self);
        self
    }

    pub fn crls(self, crls: &[Vec<u8>]) -> Setup {
        self.with(|setup| {
            let ders: Vec<&[u8]> = crls.iter().map(Vec::as_slice).collect();
            let file = setup.file("X509 CRL", &ders);
            setup.client.authorities[0].crls.push(file);
        })
    }

    pub fn helpers(self, helpers: &[&Ca]) -> Setup {
        self.with(|setup| {
            let ders: Vec<&[u8]> = helpers.iter().map(|ca| ca.der.as_ref()).collect();
            let file = setup.file("CERTIFICATE", &ders);
            setup.client.intermediates.push(file);
        })
    }

    /// Another authority with these anchors.
    pub fn authority(self, trust: &[&Ca], change: impl FnOnce(&mut Authority)) -> Setup {
        self.with(|setup| {
            let ders: Vec<&[u8]> = trust.iter().map(|ca| ca.der.as_ref()).collect();
            let mut next = authority();
            next.trust.push(setup.file("CERTIFICATE", &ders));
            change(&mut next);
            setup.client.authorities.push(next);
        })
    }

    pub fn auth(self, auth: Auth) -> Setup {
        self.with(|setup| setup.client.auth = auth)
    }

    pub fn allow(self, rules: Vec<Rule>) -> Setup {
        self.with(|setup| setup.client.authorities[0].allow = Some(rules))
    }

    pub fn deny(self, rules: Vec<Rule>) -> Setup {
        self.with(|setup| setup.client.authorities[0].deny = rules)
    }

    pub fn load(&self) -> Result<(Arc<Policy>, Vec<Fault>), Vec<Fault>> {
        self.load_at(NOW)
    }

    pub fn load_at(&self, now: i64) -> Result<(Arc<Policy>, Vec<Fault>), Vec<Fault>> {
        let (site, listener) = self.config();
        Policy::load(&site, &listener, 1, at(now), &mut Loader::new())
    }

    pub fn config(&self) -> (config::Site, config::Listener) {
        let site = config::Site {
            name: self.site_name.into(),
            listener: 0,
            names: vec![],
            protocol: config::Protocol::Tcp,
            backend: 0,
            alpn: vec![],
            certificates: vec![],
            tls: config::SiteTls { min_version: config::TlsVersion::Tls12, cipher_suites: vec![], groups: vec![] },
            client: self.client.clone(),
            line: Some(7),
        };
        let listener = config::Listener {
            name: "public".into(),
            addresses: vec![],
            accept_proxy_from: vec![],
            tcp_keepalive: Duration::ZERO,
            kernel: config::KernelPath::default(),
            limits: config::Limits {
                connections: None,
                handshakes_in_flight: 1,
                handshake_timeout: Duration::ZERO,
                idle_timeout: Duration::ZERO,
                max_age: Duration::ZERO,
                end_at_expiry: true,
                connections_per_identity: 0,
                full_handshakes_per_second_per_source: 0,
                client_chain_bytes: self.chain_bytes_max,
                client_chain_certificates: self.chain_certificates_max,
            },
        };
        (site, listener)
    }

    pub fn policy(&self) -> Arc<Policy> {
        self.load().unwrap().0
    }

    pub fn warnings(&self) -> Vec<String> {
        self.load().unwrap().1.iter().map(|fault| fault.to_string()).collect()
    }

    pub fn faults(&self) -> Vec<Fault> {
        self.load().unwrap_err()
    }
}

pub fn authority() -> Authority {
    Authority {
        trust: vec![],
        crls: vec![],
        crl_missing: CrlMissing::Refuse,
        crl_expired: CrlExpired::Refuse,
        allow: None,
        deny: vec![],
        line: None,
    }
}

pub fn rule(conditions: &[Condition]) -> Rule {
    Rule { name: None, conditions: conditions.to_vec(), line: None }
}

pub fn named(name: &str, conditions: &[Condition]) -> Rule {
    Rule { name: Some(name.into()), ..rule(conditions) }
}

pub fn judge_at(policy: &Policy, chain: &[&Cert], seconds: i64) -> Decision {
    let rest: Vec<Cert> = chain[1..].iter().map(|certificate| (*certificate).clone()).collect();
    evaluate(&Presented { leaf: chain[0], rest: &rest }, at(seconds), policy)
}

pub fn judge(policy: &Policy, chain: &[&Cert]) -> Decision {
    judge_at(policy, chain, NOW)
}

/// The reason and detail of a refusal; `Ok` if there is none.
pub fn reason(decision: &Decision) -> (Reason, &str) {
    match &decision.verdict {
        Ok(admission) => (admission.reason(), admission.detail()),
        Err(refusal) => (refusal.reason, &refusal.detail),
    }
}

#[track_caller]
pub fn admitted(policy: &Policy, chain: &[&Cert]) {
    let decision = judge(policy, chain);
    assert!(decision.verdict.is_ok(), "{:?}", reason(&decision));
}

#[track_caller]
pub fn refused(policy: &Policy, chain: &[&Cert], expected: Reason) -> String {
    let decision = judge(policy, chain);
    let (found, detail) = reason(&decision);
    assert_eq!(found, expected, "{detail}");
    assert!(decision.verdict.is_err());
    assert!(!detail.is_empty() && !detail.chars().any(char::is_control), "{detail:?}");
    detail.to_owned()
}
